//! VP8 in RTP (RFC 7741): frames into payloads, and what a payload says of its frame.

/// Bytes of a frame in one packet: with RTP, extensions, SRTP and IPv6 it stays below 1,200.
const FRAGMENT_BYTES: usize = 1_100;

/// Picture ids have 15 bits (RFC 7741 section 4.2).
pub(crate) const PICTURE_ID_MAX: u16 = 0x7fff;

/// Whether a frame is a key frame: the inverse of bit 0 (RFC 6386 section 9.1).
pub(crate) fn is_key(frame: &[u8]) -> bool {
    frame.first().is_some_and(|byte| byte & 1 == 0)
}

/// The payloads of a frame, as equal in size as they can be: a burst of them is one send.
pub(crate) fn packets(frame: &[u8], picture_id: u16) -> Vec<Vec<u8>> {
    let count = frame.len().div_ceil(FRAGMENT_BYTES).max(1);
    let len = frame.len().div_ceil(count).max(1);
    let [high, low] = (picture_id & PICTURE_ID_MAX).to_be_bytes();
    let fragments = frame.chunks(len).enumerate();
    fragments
        .map(|(index, fragment)| {
            // X; S on the first packet; I; a picture id of 15 bits (RFC 7741 section 4.2).
            let start = if index == 0 { 0x10 } else { 0 };
            let mut payload = vec![0x80 | start, 0x80, 0x80 | high, low];
            payload.extend_from_slice(fragment);
            payload
        })
        .collect()
}

/// What a payload says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Whether a frame starts with it.
    pub(crate) starts_frame: bool,
    /// Whether that frame is a key frame.
    pub(crate) is_key: bool,
    /// The frame's picture id.
    pub(crate) picture_id: Option<u16>,
}

impl Descriptor {
    /// Reads the descriptor and the first byte of the frame (RFC 7741 sections 4.2 and 4.3).
    pub(crate) fn parse(payload: &[u8]) -> Option<Descriptor> {
        let (&first, mut rest) = payload.split_first()?;
        let mut next = || {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            Some(byte)
        };
        let mut picture_id = None;
        if first & 0x80 != 0 {
            let extension = next()?;
            if extension & 0x80 != 0 {
                let high = next()?;
                picture_id = Some(if high & 0x80 != 0 {
                    u16::from(high & 0x7f) << 8 | u16::from(next()?)
                } else {
                    u16::from(high)
                });
            }
            if extension & 0x40 != 0 {
                next()?;
            }
            if extension & 0x30 != 0 {
                next()?;
            }
        }
        let frame = next()?;
        let starts_frame = first & 0x10 != 0 && first & 0x07 == 0;
        Some(Descriptor {
            starts_frame,
            is_key: starts_frame && frame & 1 == 0,
            picture_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_in_packets_and_back() {
        let frame: Vec<u8> = (0..3_000_u32).map(|byte| (byte * 2) as u8).collect();
        let payloads = packets(&frame, 0x1234);
        assert_eq!(payloads.len(), 3);
        let read: Vec<Descriptor> = payloads
            .iter()
            .map(|p| Descriptor::parse(p).unwrap())
            .collect();
        assert_eq!(
            read[0],
            Descriptor {
                starts_frame: true,
                is_key: true,
                picture_id: Some(0x1234)
            }
        );
        assert!(read[1..].iter().all(|d| !d.starts_frame && !d.is_key));
        let joined: Vec<u8> = payloads.iter().flat_map(|p| p[4..].to_vec()).collect();
        assert_eq!(joined, frame);
    }

    #[test]
    fn descriptors_of_any_length() {
        let plain = Descriptor::parse(&[0x10, 0x01]).unwrap();
        assert_eq!((plain.is_key, plain.picture_id), (false, None));
        // X, S; I, L, T; 7-bit id, TL0PICIDX, TID; frame.
        let short_id = Descriptor::parse(&[0x90, 0xe0, 0x11, 7, 0x40, 0x00]).unwrap();
        assert_eq!((short_id.is_key, short_id.picture_id), (true, Some(0x11)));
        assert_eq!(Descriptor::parse(&[0x90, 0x80, 0x81]), None);
        assert_eq!(Descriptor::parse(&[]), None);
    }
}
