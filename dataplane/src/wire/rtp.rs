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
    #[inline]
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
    #[inline]
    #[must_use]
    pub fn marker(&self) -> bool {
        self.fixed[field::MARKER_AND_TYPE] & 0x80 != 0
    }

    /// Whether the (decrypted) payload ends with padding; see [`padding_len`].
    #[inline]
    #[must_use]
    pub fn has_padding(&self) -> bool {
        self.fixed[field::FLAGS] & 0x20 != 0
    }

    /// The payload type.
    #[inline]
    #[must_use]
    pub fn payload_type(&self) -> PayloadType {
        PayloadType(self.fixed[field::MARKER_AND_TYPE] & 0x7F)
    }

    /// The sequence number.
    #[inline]
    #[must_use]
    pub fn sequence(&self) -> u16 {
        u16_at(self.fixed, field::SEQUENCE).unwrap_or_default()
    }

    /// The timestamp, in units of the payload format's clock.
    #[inline]
    #[must_use]
    pub fn timestamp(&self) -> u32 {
        u32_at(self.fixed, field::TIMESTAMP).unwrap_or_default()
    }

    /// The synchronisation source.
    #[inline]
    #[must_use]
    pub fn ssrc(&self) -> Ssrc {
        Ssrc(u32_at(self.fixed, field::SSRC).unwrap_or_default())
    }

    /// Bytes before the payload: fixed header, contributing sources and extension.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Everything behind the header: of an SRTP packet the ciphertext and its tag.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header extension's elements (RFC 8285), in order; none when it has another profile.
    #[inline]
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
    #[inline]
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

    #[inline]
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
    #[inline]
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

#[cfg(test)]
mod tests {
    use rtc_shared::marshal::{Marshal, MarshalSize, Unmarshal};

    use super::*;
    use crate::wire::fuzz;
    use crate::wire::generator::{Generator, short_datagrams};

    const SEED: u64 = 0x5254_5001;

    /// A packet of the crate with contributing sources and an extension of either form.
    fn crate_packet(generator: &mut Generator) -> Vec<u8> {
        let mut header = rtp::Header {
            version: 2,
            padding: generator.bool(),
            marker: generator.bool(),
            payload_type: generator.u8() & 0x7F,
            sequence_number: generator.u16(),
            timestamp: generator.u32(),
            ssrc: generator.u32(),
            csrc: (0..generator.below(16)).map(|_| generator.u32()).collect(),
            ..Default::default()
        };
        let two_byte = generator.bool();
        if two_byte {
            header.extension = true;
            header.extension_profile = TWO_BYTE_PROFILE;
        }
        for _ in 0..generator.below(5) {
            let id = 1 + generator.below(14) as u8;
            let len = 1 + generator.below(if two_byte { 40 } else { 16 });
            let value = generator.bytes(len);
            header.set_extension(id, value.into()).unwrap();
        }
        let mut packet = vec![0; header.marshal_size()];
        header.marshal_to(&mut packet).unwrap();
        let payload_len = generator.below(60);
        packet.extend(generator.bytes(payload_len));
        packet
    }

    #[test]
    fn the_view_reads_what_the_crate_writes() {
        let mut generator = Generator::new(SEED);
        for _ in 0..400 {
            let packet = crate_packet(&mut generator);
            let view = RtpView::parse(&packet).unwrap();
            let header = rtp::Header::unmarshal(&mut &packet[..]).unwrap();
            assert_eq!(view.header_len(), header.marshal_size());
            assert_eq!(view.extensions().count(), header.extensions.len());
            generator.torment(&packet, 200, fuzz::rtp);
        }
    }

    #[test]
    fn t_08_short_packets_never_panic() {
        short_datagrams(&mut Generator::new(SEED), fuzz::rtp);
        short_datagrams(&mut Generator::new(SEED), fuzz::demultiplexer);
    }

    #[test]
    fn the_crate_reads_what_we_write() {
        let mut generator = Generator::new(SEED);
        for _ in 0..2_000 {
            let mut block = ExtensionBlock::new();
            let mut elements = Vec::new();
            let wide = generator.below(4) == 0;
            for id in 1..=generator.below(6) as u8 {
                let len = 1 + generator.below(if wide { 40 } else { 16 });
                let value = generator.bytes(len);
                assert!(block.push(id, &value));
                elements.push((id, value));
            }
            let header = RtpHeader {
                marker: generator.bool(),
                payload_type: PayloadType(generator.u8() & 0x7F),
                sequence: generator.u16(),
                timestamp: generator.u32(),
                ssrc: Ssrc(generator.u32()),
                padding: generator.bool(),
            };
            let mut out = [0xAA; 400];
            let len = header.write(&mut out, &block).unwrap();
            assert_eq!(len, FIXED_LEN + block.len());
            assert!(header.write(&mut out[..len - 1], &block).is_none());

            let theirs = rtp::Header::unmarshal(&mut &out[..len]).unwrap();
            assert_eq!(theirs.version, 2);
            assert_eq!(
                (theirs.marker, theirs.padding),
                (header.marker, header.padding)
            );
            assert_eq!(theirs.payload_type, header.payload_type.0);
            assert_eq!(theirs.sequence_number, header.sequence);
            assert_eq!(
                (theirs.timestamp, theirs.ssrc),
                (header.timestamp, header.ssrc.0)
            );
            let theirs: Vec<_> = theirs
                .extensions
                .iter()
                .map(|e| (e.id, e.payload.to_vec()))
                .collect();
            assert_eq!(theirs, elements);
            fuzz::rtp(&out[..len]);
        }
    }

    /// A packet with an extension of the given profile and content.
    fn extended(profile: u16, content: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend(profile.to_be_bytes());
        packet.extend((content.len() as u16 / 4).to_be_bytes());
        packet.extend(content);
        packet
    }

    fn elements(packet: &[u8]) -> Vec<(u8, &[u8])> {
        RtpView::parse(packet).unwrap().extensions().collect()
    }

    #[test]
    fn t_08_odd_extensions_end_where_rfc_8285_says() {
        // Id 15 ends the one-byte form, though elements follow.
        assert_eq!(
            elements(&extended(0xBEDE, &[0x10, 7, 0xF0, 1, 0x20, 8, 0, 0])),
            [(1, &[7][..])]
        );
        // So does padding with a length.
        assert_eq!(
            elements(&extended(0xBEDE, &[0x10, 7, 0x01, 1, 0x20, 8, 0, 0])),
            [(1, &[7][..])]
        );
        // Padding between elements does not.
        assert_eq!(
            elements(&extended(0xBEDE, &[0x10, 7, 0, 0, 0, 0x20, 8, 0])),
            [(1, &[7][..]), (2, &[8])]
        );
        // An element that runs past the end is none.
        assert_eq!(
            elements(&extended(0xBEDE, &[0x10, 7, 0x2F, 1])),
            [(1, &[7][..])]
        );
        // The two-byte form has ids above 14, empty elements, and application bits in its profile.
        let two_byte = [15, 0, 0, 200, 2, 5, 6, 9];
        assert_eq!(
            elements(&extended(0x100F, &two_byte)),
            [(15, &[][..]), (200, &[5, 6])]
        );
        // Another profile holds no elements.
        assert_eq!(elements(&extended(0xABCD, &[0x10, 7, 0, 0])), []);
    }

    #[test]
    fn t_08_headers_that_run_past_the_end_are_refused() {
        let packet = extended(0xBEDE, &[0x10, 7, 0, 0]);
        assert_eq!(
            RtpView::parse(&packet[..11]).unwrap_err(),
            Malformed::Truncated
        );
        for len in 12..packet.len() {
            assert_eq!(
                RtpView::parse(&packet[..len]).unwrap_err(),
                Malformed::Length,
                "{len}"
            );
        }
        let mut sources = packet.clone();
        sources[0] = 0x8F;
        assert_eq!(RtpView::parse(&sources).unwrap_err(), Malformed::Length);
        let mut version = packet;
        version[0] = 0x50;
        assert_eq!(RtpView::parse(&version).unwrap_err(), Malformed::Version);
    }

    #[test]
    fn t_08_padding_counts_at_least_itself_and_at_most_everything() {
        assert_eq!(padding_len(&[]), None);
        assert_eq!(padding_len(&[1, 2, 0]), None);
        assert_eq!(padding_len(&[1, 2, 1]), Some(1));
        assert_eq!(padding_len(&[1, 2, 3]), Some(3));
        assert_eq!(padding_len(&[1, 2, 4]), None);
        assert_eq!(padding_len(&[255; 255]), Some(255));
        assert_eq!(padding_len(&[255; 254]), None);
    }
}
