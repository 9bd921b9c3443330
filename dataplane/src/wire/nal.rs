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

/// The units of an aggregate, which are laid end to end behind their lengths. One that runs past the
/// end is none.
pub(super) fn units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        rest = after;
        Some(unit)
    })
}
