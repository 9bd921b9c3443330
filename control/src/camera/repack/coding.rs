//! What NAL units are: H.264 (RFC 6184 section 5) and H.265 (RFC 7798 section 4), in the same words.

use super::sps::{self, Sps};
use crate::camera::stream::CameraCodec;

/// One of the two codings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// H.264.
    H264,
    /// H.265.
    H265,
}

/// What is done with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A slice of a picture that can be joined at: an IDR, or an intra random access point.
    KeySlice,
    /// Any other slice.
    Slice,
    /// A parameter set: kept, and inserted before key slices.
    Set,
    /// Delimiters, filler, supplemental information, other layers: nothing that browsers need.
    Other,
}

/// How a payload is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout<'a> {
    /// One unit.
    Single(&'a [u8]),
    /// Several, behind their lengths: STAP-A, AP.
    Aggregate(&'a [u8]),
    /// A part of one: FU-A, FU.
    Fragment {
        /// The unit's header, of which the second byte is H.265's only.
        header: [u8; 2],
        /// Whether it is the first part.
        start: bool,
        /// Whether it is the last.
        end: bool,
        /// The part, without the unit's header.
        part: &'a [u8],
    },
}

impl Coding {
    /// Bytes of a unit's header.
    pub(super) fn header_len(self) -> usize {
        match self {
            Coding::H264 => 1,
            Coding::H265 => 2,
        }
    }

    /// Bytes that a fragment has before its part.
    pub(super) fn fragment_len(self) -> usize {
        self.header_len() + 1
    }

    /// Takes a payload apart; `None` where it is cut off, or laid out as browsers and we do not take it
    /// (interleaved, multi-time, nested).
    pub(super) fn layout(self, payload: &[u8]) -> Option<Layout<'_>> {
        let (&first, rest) = payload.split_first()?;
        match self {
            Coding::H264 => match first & 0x1F {
                1..=23 => Some(Layout::Single(payload)),
                24 => Some(Layout::Aggregate(rest)),
                28 => {
                    let (&fragment, part) = rest.split_first()?;
                    Some(Layout::Fragment {
                        header: [first & 0xE0 | fragment & 0x1F, 0],
                        start: fragment & 0x80 != 0,
                        end: fragment & 0x40 != 0,
                        part,
                    })
                }
                _ => None,
            },
            Coding::H265 => {
                let (&second, rest) = rest.split_first()?;
                match (first >> 1) & 0x3F {
                    48 => Some(Layout::Aggregate(rest)),
                    49 => {
                        let (&fragment, part) = rest.split_first()?;
                        Some(Layout::Fragment {
                            header: [first & 0x81 | (fragment & 0x3F) << 1, second],
                            start: fragment & 0x80 != 0,
                            end: fragment & 0x40 != 0,
                            part,
                        })
                    }
                    0..48 => Some(Layout::Single(payload)),
                    _ => None,
                }
            }
        }
    }

    /// What a unit is, by its header.
    pub(super) fn kind(self, header: &[u8]) -> Kind {
        let first = header.first().copied().unwrap_or_default();
        match self {
            Coding::H264 => match first & 0x1F {
                5 => Kind::KeySlice,
                1..=4 => Kind::Slice,
                7 | 8 => Kind::Set,
                _ => Kind::Other,
            },
            Coding::H265 => {
                let layer = (first & 1) << 5 | header.get(1).copied().unwrap_or_default() >> 3;
                match (first >> 1) & 0x3F {
                    _ if layer != 0 => Kind::Other,
                    16..=21 => Kind::KeySlice,
                    0..=9 => Kind::Slice,
                    32..=34 => Kind::Set,
                    _ => Kind::Other,
                }
            }
        }
    }

    /// Kind and id of a parameter set; `None` where it has none.
    pub(super) fn set_name(self, unit: &[u8]) -> Option<(u8, u32)> {
        let first = *unit.first()?;
        match self {
            Coding::H264 => {
                let kind = first & 0x1F;
                let id = match kind {
                    7 => Sps::h264(unit)?.id,
                    _ => sps::h264_pps_id(unit)?,
                };
                Some((kind, id))
            }
            Coding::H265 => {
                let kind = (first >> 1) & 0x3F;
                let id = match kind {
                    32 => sps::h265_vps_id(unit)?,
                    33 => Sps::h265(unit)?.id,
                    _ => sps::h265_pps_id(unit)?,
                };
                Some((kind, id))
            }
        }
    }

    /// What a sequence parameter set says; `None` where it is another set.
    pub(super) fn sps(self, unit: &[u8]) -> Option<Sps> {
        let first = *unit.first()?;
        match self {
            Coding::H264 if first & 0x1F == 7 => Sps::h264(unit),
            Coding::H265 if (first >> 1) & 0x3F == 33 => Sps::h265(unit),
            Coding::H264 | Coding::H265 => None,
        }
    }

    /// Whether a slice says that pictures are not sent in the order in which they are shown. Of H.265 slices it cannot
    /// be told: encoders without reordering send B slices too.
    pub(super) fn is_b_slice(self, beginning: &[u8]) -> bool {
        self == Coding::H264 && sps::is_b_slice(beginning)
    }

    /// Whether it is the first slice of its picture, as far as can be seen.
    pub(super) fn is_first_slice(self, beginning: &[u8]) -> bool {
        beginning
            .get(self.header_len())
            .is_some_and(|byte| byte & 0x80 != 0)
    }

    /// A unit without content that may stand behind a picture's slices: filler data.
    pub(super) fn filler(self) -> &'static [u8] {
        match self {
            Coding::H264 => &[0x0C, 0x80],
            Coding::H265 => &[0x4C, 0x01, 0x80],
        }
    }

    /// The header of an aggregate, of whatever importance and layer.
    pub(super) fn aggregate_header(self) -> &'static [u8] {
        match self {
            Coding::H264 => &[0x78],
            Coding::H265 => &[0x60, 0x01],
        }
    }

    /// What stands before a part of a unit with this header: two bytes for H.264, three for H.265.
    pub(super) fn fragment_header(self, header: [u8; 2], start: bool, end: bool) -> [u8; 3] {
        let ends = u8::from(start) << 7 | u8::from(end) << 6;
        match self {
            Coding::H264 => [header[0] & 0xE0 | 28, ends | header[0] & 0x1F, 0],
            Coding::H265 => [
                header[0] & 0x81 | 49 << 1,
                header[1],
                ends | (header[0] >> 1) & 0x3F,
            ],
        }
    }

    /// The codec of a stream whose sequence parameter set was not seen.
    pub(crate) fn is(self, codec: &CameraCodec) -> bool {
        matches!(
            (self, codec),
            (Coding::H264, CameraCodec::H264 { .. }) | (Coding::H265, CameraCodec::H265 { .. })
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_read_as_it_is_written() {
        for (coding, header) in [
            (Coding::H264, [0x65, 0]),
            (Coding::H264, [0x01, 0]),
            (Coding::H265, [0x26, 0x01]),
            (Coding::H265, [0x02, 0x03]),
        ] {
            for (start, end) in [(true, false), (false, false), (false, true)] {
                let written = coding.fragment_header(header, start, end);
                let mut payload = written[..coding.fragment_len()].to_vec();
                payload.extend([1, 2, 3]);
                let expected = Layout::Fragment {
                    header,
                    start,
                    end,
                    part: &[1, 2, 3],
                };
                assert_eq!(coding.layout(&payload), Some(expected));
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_interleaved_is_none() {
        for payload in [&[][..], &[0x7C], &[0x79, 0], &[0x1D, 0x81, 0], &[0x60]] {
            assert_eq!(Coding::H264.layout(payload), None, "{payload:x?}");
        }
        for payload in [&[][..], &[0x26], &[0x62, 0x01], &[0x64, 0x01, 0]] {
            assert_eq!(Coding::H265.layout(payload), None, "{payload:x?}");
        }
    }

    #[test]
    fn other_layers_and_what_nobody_shows_are_left_out() {
        assert_eq!(Coding::H265.kind(&[0x26, 0x09]), Kind::Other);
        assert_eq!(Coding::H265.kind(&[0x27, 0x01]), Kind::Other);
        assert_eq!(Coding::H265.kind(&[0x26, 0x01]), Kind::KeySlice);
        assert_eq!(Coding::H264.kind(&[0x06]), Kind::Other);
        assert_eq!(Coding::H264.kind(&[0x74]), Kind::Other);
    }
}
