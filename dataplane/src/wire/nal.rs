//! NAL units in H.264 and H.265 payloads (RFC 6184 section 5, RFC 7798 section 4).

/// What the NAL units of a payload say of their frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Whether the frame may begin with this payload: its first unit is a frame's first slice, or one
    /// that stands before it. Of parameter sets and slice in packets of their own, each says so.
    pub starts_frame: bool,
    /// Whether no other frame is predicted from this one (H.264's `nal_ref_idc`).
    pub non_reference: bool,
    /// H.265's temporal sub-layer, 0 to 6. H.264 without extensions has none.
    pub temporal: u8,
    /// Whether this frame and all later ones of its temporal sub-layer can be decoded by one that had
    /// only lower ones: H.265's TSA and STSA pictures.
    pub switches_up: bool,
}

impl Units {
    /// Units of an H.264 payload: one, several (STAP-A) or part of one (FU-A). `None` where it is cut off.
    #[inline]
    #[must_use]
    pub fn h264(payload: &[u8]) -> Option<Units> {
        let (&head, rest) = payload.split_first()?;
        // An aggregate's own header has the highest of its units' `nal_ref_idc`.
        let unreferenced = head & 0x60 == 0;
        let (starts_frame, has_slice) = match head & 0x1F {
            24 => {
                let first = *units(rest).next()?.first_chunk::<2>()?;
                let mut kinds = units(rest).filter_map(|unit| Some(unit.first()? & 0x1F));
                (starts_h264(first), kinds.any(is_h264_slice))
            }
            28 => {
                let [fragment, after @ ..] = rest else {
                    return None;
                };
                let kind = fragment & 0x1F;
                let is_start = fragment & 0x80 != 0;
                let first = after.first().copied().unwrap_or_default();
                (is_start && starts_h264([kind, first]), is_h264_slice(kind))
            }
            kind => (
                starts_h264([kind, rest.first().copied().unwrap_or_default()]),
                is_h264_slice(kind),
            ),
        };
        Some(Units {
            starts_frame,
            non_reference: unreferenced && has_slice,
            temporal: 0,
            switches_up: false,
        })
    }

    /// Units of an H.265 payload: one, several (AP) or part of one (FU). `None` where it is cut off.
    #[inline]
    #[must_use]
    pub fn h265(payload: &[u8]) -> Option<Units> {
        let (&[high, low], rest) = payload.split_first_chunk::<2>()?;
        let (kind, starts_frame) = match h265_kind(high) {
            48 => {
                let [first, _, slice] = *units(rest).next()?.first_chunk::<3>()?;
                let kind = h265_kind(first);
                (kind, starts_h265(kind, slice))
            }
            49 => {
                let &[fragment, slice] = rest.first_chunk::<2>()?;
                let kind = fragment & 0x3F;
                (kind, fragment & 0x80 != 0 && starts_h265(kind, slice))
            }
            kind => (
                kind,
                starts_h265(kind, rest.first().copied().unwrap_or_default()),
            ),
        };
        Some(Units {
            starts_frame,
            non_reference: false,
            temporal: (low & 0x07).saturating_sub(1),
            switches_up: matches!(kind, 2..=5),
        })
    }
}

/// A unit's type and its next byte: parameters and the like, or a slice with `first_mb_in_slice` 0.
fn starts_h264([head, next]: [u8; 2]) -> bool {
    match head & 0x1F {
        1 | 2 | 5 => next & 0x80 != 0,
        kind => matches!(kind, 6..=9),
    }
}

/// Slices that may be predicted from others; an IDR slice is always a reference.
fn is_h264_slice(kind: u8) -> bool {
    matches!(kind, 1..=4)
}

fn h265_kind(head: u8) -> u8 {
    (head >> 1) & 0x3F
}

/// Parameters and the like, or a slice with `first_slice_segment_in_pic_flag`.
fn starts_h265(kind: u8, slice: u8) -> bool {
    match kind {
        0..=31 => slice & 0x80 != 0,
        _ => matches!(kind, 32..=35 | 39),
    }
}

/// The units of an aggregate (RFC 6184 section 5.7.1, RFC 7798 section 4.4.2), which are laid end to end behind
/// their lengths of two bytes. One that runs past the end is none, and the last that is looked at.
pub fn units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        rest = after;
        Some(unit)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtp::codec::h264::{H264Packet, H264Payloader};
    use rtp::codec::h265::H265NALUHeader;
    use rtp::packetizer::{Depacketizer, Payloader};

    use super::*;

    fn h264(payload: &[u8]) -> (bool, bool) {
        let read = Units::h264(payload).unwrap();
        assert_eq!((read.temporal, read.switches_up), (0, false));
        (read.starts_frame, read.non_reference)
    }

    #[test]
    fn an_h264_frame_begins_with_its_first_slice_or_what_stands_before() {
        for payload in [
            &[0x67, 0x42][..],
            &[0x06, 0x05],
            &[0x09, 0x10],
            &[0x65, 0x88],
            &[0x41, 0x9A],
            &[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0],
            &[0x7C, 0x85, 0x88],
        ] {
            assert_eq!(h264(payload), (true, false), "{payload:x?}");
        }
        for payload in [
            &[0x41, 0x10][..],
            &[0x65, 0x10],
            &[0x7C, 0x05, 0x88],
            &[0x7C, 0x85, 0x10],
            &[0x78, 0, 2, 0x41, 0x10],
        ] {
            assert_eq!(h264(payload), (false, false), "{payload:x?}");
        }
    }

    #[test]
    fn an_h264_frame_that_nothing_refers_to_says_so_in_every_packet() {
        for payload in [
            &[0x01, 0x9A][..],
            &[0x1C, 0x81, 0x9A],
            &[0x1C, 0x01, 0x9A],
            &[0x1C, 0x41, 0x9A],
            &[0x18, 0, 2, 0x06, 0x05, 0, 2, 0x01, 0x9A],
        ] {
            assert!(h264(payload).1, "{payload:x?}");
        }
        // Delimiters and the like are not referred to either, and stand before any frame.
        assert!(!h264(&[0x09, 0x10]).1 && !h264(&[0x18, 0, 2, 0x06, 0x05]).1);
    }

    #[test]
    fn t_24_lengths_of_aggregates_and_fragments_are_held_to_the_payload() {
        for payload in [
            &[][..],
            &[0x78],
            &[0x78, 0],
            &[0x78, 0, 9, 0x67],
            &[0x78, 0, 1, 0x67],
            &[0x7C],
        ] {
            assert_eq!(Units::h264(payload), None, "{payload:x?}");
        }
        for payload in [
            &[][..],
            &[0x02],
            &[0x60, 0x01],
            &[0x60, 0x01, 0, 9, 0x42, 0x01, 0x80],
            &[0x60, 0x01, 0, 2, 0x42, 0x01],
            &[0x62, 0x01],
            &[0x62, 0x01, 0x93],
        ] {
            assert_eq!(Units::h265(payload), None, "{payload:x?}");
        }
    }

    #[test]
    fn the_crate_unpacks_what_we_say_begins_a_frame() {
        // A delimiter, a picture of two slices, the first in several packets, and one that is droppable.
        let mut stream = vec![0, 0, 0, 1, 0x41, 0x9A];
        stream.extend([7; 120]);
        stream.extend([0, 0, 0, 1, 0x41, 0x12, 7, 7, 0, 0, 0, 1, 0x01, 0x9A, 7, 7]);
        let packets = H264Payloader::default()
            .payload(50, &Bytes::from(stream))
            .unwrap();
        let mut unpacker = H264Packet::default();
        let mut starts = Vec::new();
        for packet in &packets {
            let read = Units::h264(packet).unwrap();
            starts.push((read.starts_frame, read.non_reference));
            let unit = unpacker.depacketize(packet).unwrap();
            if let Some(head) = unit.get(4) {
                assert_eq!(head & 0x60 == 0, read.non_reference);
            }
        }
        let middle = vec![(false, false); packets.len() - 3];
        let expected = [
            &[(true, false)],
            &middle[..],
            &[(false, false), (true, true)],
        ]
        .concat();
        assert_eq!(starts, expected);
    }

    #[test]
    fn h265_says_its_temporal_sub_layer_and_where_it_may_be_joined() {
        let read = |payload: &[u8]| {
            let read = Units::h265(payload).unwrap();
            let tid = H265NALUHeader::new(payload[0], payload[1]).tid();
            assert_eq!(read.temporal, tid.saturating_sub(1));
            (read.starts_frame, read.temporal, read.switches_up)
        };
        assert_eq!(read(&[0x26, 0x01, 0x80]), (true, 0, false));
        assert_eq!(read(&[0x02, 0x01, 0x40]), (false, 0, false));
        assert_eq!(read(&[0x40, 0x01, 0x0C]), (true, 0, false));
        // TSA and STSA pictures of sub-layer 2.
        assert_eq!(read(&[0x04, 0x03, 0x80]), (true, 2, true));
        assert_eq!(read(&[0x0A, 0x03, 0x80]), (true, 2, true));
        assert_eq!(read(&[0x02, 0x03, 0x80]), (true, 2, false));
        // The same in fragments and in an aggregate.
        assert_eq!(read(&[0x62, 0x03, 0x82, 0x80]), (true, 2, true));
        assert_eq!(read(&[0x62, 0x03, 0x02, 0x80]), (false, 2, true));
        assert_eq!(read(&[0x60, 0x03, 0, 3, 0x04, 0x03, 0x80]), (true, 2, true));
        // A header without a sub-layer is none of the format's.
        assert_eq!(read(&[0x02, 0x00, 0x80]), (true, 0, false));
    }
}
