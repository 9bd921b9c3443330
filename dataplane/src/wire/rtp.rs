//! RTP packets: a view of what arrives, and the header of what leaves (RFC 3550 section 5.1).

use super::extension::{ExtensionBlock, ONE_BYTE_PROFILE, TWO_BYTE_PROFILE};
use super::{Malformed, u16_at, u32_at};
use crate::id::{PayloadType, Ssrc};

/// Bytes of the header before contributing sources and extension.
const FIXED_LEN: usize = 12;

/// Offsets of the fixed header's fields.
mod field {
    pub(super) const FLAGS: usize = 0;
    pub(super) const MARKER_AND_TYPE: usize = 1;
    pub(super) const SEQUENCE: usize = 2;
    pub(super) const TIMESTAMP: usize = 4;
    pub(super) const SSRC: usize = 8;
}

/// A received RTP packet, encrypted or not: SRTP leaves the header readable, and what it hides, the
/// padding's count among it, is not looked at here.
#[derive(Clone, Copy, Debug)]
pub struct RtpView<'a> {
    fixed: &'a [u8; FIXED_LEN],
    /// Profile and content of the header extension; 0 and empty without one.
    extension: (u16, &'a [u8]),
    header_len: usize,
    payload: &'a [u8],
}

impl<'a> RtpView<'a> {
    /// Checks version, contributing sources and the extension's length.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the header; the payload may be empty.
    pub fn parse(packet: &'a [u8]) -> Result<RtpView<'a>, Malformed> {
        let (fixed, rest) = packet
            .split_first_chunk::<FIXED_LEN>()
            .ok_or(Malformed::Truncated)?;
        let flags = fixed[field::FLAGS];
        if flags >> 6 != 2 {
            return Err(Malformed::Version);
        }
        let csrc_len = usize::from(flags & 0x0F) * 4;
        let mut payload = rest.get(csrc_len..).ok_or(Malformed::Length)?;
        let mut extension = (0, &[][..]);
        if flags & 0x10 != 0 {
            let profile = u16_at(payload, 0).ok_or(Malformed::Length)?;
            let words = u16_at(payload, 2).ok_or(Malformed::Length)?;
            let end = 4 + usize::from(words) * 4;
            extension = (profile, payload.get(4..end).ok_or(Malformed::Length)?);
            payload = payload.get(end..).ok_or(Malformed::Length)?;
        }
        Ok(RtpView {
            fixed,
            extension,
            header_len: packet.len() - payload.len(),
            payload,
        })
    }

    /// The marker bit, whose meaning is the payload format's.
    #[must_use]
    pub fn marker(&self) -> bool {
        self.fixed[field::MARKER_AND_TYPE] & 0x80 != 0
    }

    /// Whether the (decrypted) payload ends with padding; see [`padding_len`].
    #[must_use]
    pub fn has_padding(&self) -> bool {
        self.fixed[field::FLAGS] & 0x20 != 0
    }

    /// The payload type.
    #[must_use]
    pub fn payload_type(&self) -> PayloadType {
        PayloadType(self.fixed[field::MARKER_AND_TYPE] & 0x7F)
    }

    /// The sequence number.
    #[must_use]
    pub fn sequence(&self) -> u16 {
        u16_at(self.fixed, field::SEQUENCE).unwrap_or_default()
    }

    /// The timestamp, in units of the payload format's clock.
    #[must_use]
    pub fn timestamp(&self) -> u32 {
        u32_at(self.fixed, field::TIMESTAMP).unwrap_or_default()
    }

    /// The synchronisation source.
    #[must_use]
    pub fn ssrc(&self) -> Ssrc {
        Ssrc(u32_at(self.fixed, field::SSRC).unwrap_or_default())
    }

    /// Bytes before the payload: fixed header, contributing sources and extension.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Everything behind the header: of an SRTP packet the ciphertext and its tag.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header extension's elements (RFC 8285), in order; none when it has another profile.
    #[must_use]
    pub fn extensions(&self) -> Extensions<'a> {
        let (profile, content) = self.extension;
        match profile {
            ONE_BYTE_PROFILE => Extensions {
                rest: content,
                two_byte: false,
            },
            _ if profile & 0xFFF0 == TWO_BYTE_PROFILE => Extensions {
                rest: content,
                two_byte: true,
            },
            _ => Extensions {
                rest: &[],
                two_byte: false,
            },
        }
    }
}

/// Elements of a header extension: their ids and values. Ends at the first element that runs past
/// the end.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    two_byte: bool,
}

impl<'a> Extensions<'a> {
    /// Splits the next element off, `None` where it is none.
    fn split_element(&self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (&header, after) = self.rest.split_first()?;
        let (id, len, after) = if self.two_byte {
            let (&len, after) = after.split_first()?;
            (header, usize::from(len), after)
        } else {
            // Padding with a length, and id 15, end the elements (RFC 8285 section 4.2).
            let id = header >> 4;
            if id == 0 || id == 15 {
                return None;
            }
            (id, usize::from(header & 0x0F) + 1, after)
        };
        let (value, after) = after.split_at_checked(len)?;
        Some((id, value, after))
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        // Padding is a zero byte in both forms (RFC 8285 section 4.1); in the two-byte form, id 0
        // has no length byte.
        while let Some((0, rest)) = self.rest.split_first() {
            self.rest = rest;
        }
        let Some((id, value, after)) = self.split_element() else {
            self.rest = &[];
            return None;
        };
        self.rest = after;
        Some((id, value))
    }
}

/// How many bytes at the end of a plaintext payload are padding, the count among them; `None` when
/// the count is 0 or more than the payload holds (RFC 3550 section 5.1). Ask it only of packets with
/// the padding bit.
#[must_use]
pub fn padding_len(payload: &[u8]) -> Option<usize> {
    let count = usize::from(*payload.last()?);
    (1..=payload.len()).contains(&count).then_some(count)
}

/// The header of a packet that we send. It has no contributing sources: we mix nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// The marker bit.
    pub marker: bool,
    /// The payload type, below 128.
    pub payload_type: PayloadType,
    /// The sequence number.
    pub sequence: u16,
    /// The timestamp.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: Ssrc,
    /// Whether the payload ends with padding.
    pub padding: bool,
}

impl RtpHeader {
    /// Writes header and extension to the start of `out` and returns their length; `None` without room.
    #[must_use]
    pub fn write(&self, out: &mut [u8], extensions: &ExtensionBlock) -> Option<usize> {
        let (fixed, rest) = out.split_first_chunk_mut::<FIXED_LEN>()?;
        let flags = 0x80 | (u8::from(self.padding) << 5) | (u8::from(!extensions.is_empty()) << 4);
        let marker_and_type = (u8::from(self.marker) << 7) | (self.payload_type.0 & 0x7F);
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.0.to_be_bytes();
        *fixed = [
            flags,
            marker_and_type,
            s0,
            s1,
            t0,
            t1,
            t2,
            t3,
            c0,
            c1,
            c2,
            c3,
        ];
        Some(FIXED_LEN + extensions.write(rest)?)
    }
}
