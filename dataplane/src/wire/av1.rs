//! The beginning of an AV1 payload: the aggregation header and the first unit's header (RTP Payload
//! Format For AV1 sections 4.4 and 4.5; AV1 specification section 5.3).
//!
//! Layers of AV1 are told in full by the dependency descriptor alone: a packet in the middle of a unit
//! says nothing of them.

use super::Malformed;

/// Z, Y and N of the aggregation header.
const CONTINUES: u8 = 0x80;
const IS_CONTINUED: u8 = 0x40;
const NEW_SEQUENCE: u8 = 0x08;

/// The bit of a unit's header that says that its second byte names layers.
const HAS_EXTENSION: u8 = 0x04;

/// Bytes of a length in leb128 at most (AV1 specification section 4.10.5).
const LEB128_LEN_MAX: usize = 8;

/// What an AV1 payload says before its coded video.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aggregation {
    /// Z: the first element goes on with a unit of the packet before.
    pub continues: bool,
    /// Y: the last element goes on in the next packet.
    pub is_continued: bool,
    /// W: elements of the packet, 1 to 3; 0 where they are not counted and each has a length.
    pub elements: u8,
    /// N: the packet is the first of a coded video sequence.
    pub new_sequence: bool,
    /// Header of the first unit, where the payload begins with one.
    pub unit: Option<Unit>,
}

/// The header of an open bitstream unit (OBU).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// `obu_type`, 4 bits.
    pub kind: u8,
    /// Temporal and spatial layer, 0 to 7 and 0 to 3, where the header has its extension.
    pub layer: Option<(u8, u8)>,
}

impl Unit {
    /// Whether the unit can be a frame's first: a sequence header, frame header, metadata or frame.
    #[must_use]
    pub const fn starts_frame(self) -> bool {
        matches!(self.kind, 1 | 3 | 5 | 6)
    }
}

impl Aggregation {
    /// Reads the beginning of an RTP payload.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`] where it ends within a header; [`Malformed::Length`] where the first
    /// element is longer than the payload; [`Malformed::Field`] where the packet begins a sequence with
    /// the rest of a unit.
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Aggregation, Malformed> {
        let (&head, rest) = payload.split_first().ok_or(Malformed::Truncated)?;
        let mut aggregation = Aggregation {
            continues: head & CONTINUES != 0,
            is_continued: head & IS_CONTINUED != 0,
            elements: (head >> 4) & 0x03,
            new_sequence: head & NEW_SEQUENCE != 0,
            unit: None,
        };
        if aggregation.continues && aggregation.new_sequence {
            return Err(Malformed::Field);
        }
        let element = if aggregation.elements == 1 {
            rest
        } else {
            let (len, content) = leb128(rest)?;
            content.get(..len).ok_or(Malformed::Length)?
        };
        if !aggregation.continues {
            aggregation.unit = Some(unit(element)?);
        }
        Ok(aggregation)
    }
}

fn unit(element: &[u8]) -> Result<Unit, Malformed> {
    let (&head, rest) = element.split_first().ok_or(Malformed::Truncated)?;
    let mut unit = Unit {
        kind: (head >> 3) & 0x0F,
        layer: None,
    };
    if head & HAS_EXTENSION != 0 {
        let extension = *rest.first().ok_or(Malformed::Truncated)?;
        unit.layer = Some((extension >> 5, (extension >> 3) & 0x03));
    }
    Ok(unit)
}

/// A length of seven bits a byte, the lowest first, and what follows it.
fn leb128(bytes: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    let mut value = 0;
    for index in 0..LEB128_LEN_MAX {
        let byte = *bytes.get(index).ok_or(Malformed::Truncated)?;
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let len = usize::try_from(value).map_err(|_| Malformed::Length)?;
            return Ok((len, bytes.get(index + 1..).unwrap_or_default()));
        }
    }
    Err(Malformed::Length)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtp::codec::av1::Av1Payloader;
    use rtp::packetizer::Payloader;

    use super::*;

    #[test]
    fn a_sequence_begins_with_its_header() {
        // A sequence header of ten bytes and a frame, as libaom's units are sent.
        let mut payload = vec![0x28, 0x0A, 0x08];
        payload.extend([0; 9]);
        payload.extend([0x34, 0x00, 1, 2, 3]);
        let read = Aggregation::parse(&payload).unwrap();
        assert!(read.new_sequence && !read.continues && !read.is_continued);
        assert_eq!(read.elements, 2);
        let unit = read.unit.unwrap();
        assert_eq!((unit.kind, unit.layer), (1, None));
        assert!(unit.starts_frame());
    }

    #[test]
    fn a_frame_names_its_layers() {
        let read = Aggregation::parse(&[0x50, 0x34, 0x48, 9]).unwrap();
        assert!(read.is_continued);
        let unit = read.unit.unwrap();
        assert_eq!((unit.kind, unit.layer), (6, Some((2, 1))));
        let rest = Aggregation::parse(&[0x90, 0x34, 0x48, 9]).unwrap();
        assert_eq!((rest.continues, rest.unit), (true, None));
    }

    #[test]
    fn t_24_sizes_are_held_to_the_payload() {
        assert_eq!(Aggregation::parse(&[]), Err(Malformed::Truncated));
        assert_eq!(Aggregation::parse(&[0x10]), Err(Malformed::Truncated));
        assert_eq!(Aggregation::parse(&[0x10, 0x34]), Err(Malformed::Truncated));
        assert_eq!(Aggregation::parse(&[0x20, 0x00]), Err(Malformed::Truncated));
        assert_eq!(
            Aggregation::parse(&[0x20, 0x03, 0x30, 0]),
            Err(Malformed::Length)
        );
        assert_eq!(
            Aggregation::parse(&[0x00, 0x80, 0x80]),
            Err(Malformed::Truncated)
        );
        assert_eq!(Aggregation::parse(&[0x98, 0x30]), Err(Malformed::Field));
        let endless = [&[0x00][..], &[0x80; 8], &[0x00]].concat();
        assert_eq!(Aggregation::parse(&endless), Err(Malformed::Length));
        let huge = [&[0x00][..], &[0xFF; 7], &[0x7F, 0x30]].concat();
        assert_eq!(Aggregation::parse(&huge), Err(Malformed::Length));
        let padded = [0x00, 0x81, 0x80, 0x00, 0x30];
        assert_eq!(Aggregation::parse(&padded).unwrap().unit.unwrap().kind, 6);
    }

    #[test]
    fn what_the_crate_packs_is_read() {
        // A temporal unit: sequence header, and a frame of temporal layer 1 in several packets.
        let mut stream = vec![0x0A, 3, 1, 2, 3, 0x36, 0x20, 120];
        stream.extend([7; 120]);
        let packets = Av1Payloader::default()
            .payload(50, &Bytes::from(stream))
            .unwrap();
        let read: Vec<_> = packets
            .iter()
            .map(|packet| Aggregation::parse(packet).unwrap())
            .collect();
        assert!(read.len() > 2);
        assert!(read[0].new_sequence && read[1..].iter().all(|later| !later.new_sequence));
        assert_eq!(read[0].unit.unwrap().kind, 1);
        assert!(
            read[1..]
                .iter()
                .all(|later| later.continues && later.unit.is_none())
        );
        assert_eq!(read.iter().filter(|read| !read.is_continued).count(), 1);
    }
}
