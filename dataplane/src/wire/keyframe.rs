//! Which packets of a video begin a key frame.
//!
//! Only the first bytes of a payload are looked at. What is not understood begins none.

use serde::{Deserialize, Serialize};

use super::nal::units;
use super::vp8;

/// How a video is coded, as far as its key frames can be told from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VideoCodec {
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// RFC 7798.
    H265,
    /// The RTP payload format for AV1 of the Alliance for Open Media.
    Av1,
}

impl VideoCodec {
    /// Whether a key frame begins with this payload, or with what follows it at once (parameter sets).
    #[must_use]
    pub fn starts_keyframe(self, payload: &[u8]) -> bool {
        let starts = match self {
            VideoCodec::Vp8 => vp8::Descriptor::parse(payload).ok().map(|vp8| vp8.keyframe),
            VideoCodec::Vp9 => vp9(payload),
            VideoCodec::H264 => h264(payload),
            VideoCodec::H265 => h265(payload),
            VideoCodec::Av1 => payload.first().map(|head| head & 0x88 == 0x08),
        };
        starts == Some(true)
    }
}

/// RFC 9628 section 4.2: not predicted from other pictures, at the beginning of a frame, of the
/// lowest spatial layer.
fn vp9(payload: &[u8]) -> Option<bool> {
    let head = *payload.first()?;
    if head & 0x48 != 0x08 {
        return Some(false);
    }
    if head & 0x20 == 0 {
        return Some(true);
    }
    let picture_id_len = match (head & 0x80, payload.get(1)? & 0x80) {
        (0, _) => 0,
        (_, 0) => 1,
        _ => 2,
    };
    Some(payload.get(1 + picture_id_len)? & 0x0e == 0)
}

/// RFC 6184 section 5.4: an IDR slice or the sequence parameter set before it, by itself, in an
/// aggregate (STAP-A), or at the start of fragments (FU-A).
fn h264(payload: &[u8]) -> Option<bool> {
    const IDR: u8 = 5;
    const PARAMETERS: u8 = 7;
    let begins = |kind: u8| kind == IDR || kind == PARAMETERS;
    match payload.first()? & 0x1f {
        24 => Some(heads(payload.get(1..)?).any(|head| begins(head & 0x1f))),
        28 => {
            let fragment = *payload.get(1)?;
            Some(fragment & 0x80 != 0 && begins(fragment & 0x1f))
        }
        kind => Some(begins(kind)),
    }
}

/// RFC 7798 section 4.4: a slice of a random access point or the parameter sets before it, by itself,
/// in an aggregate (AP), or at the start of fragments (FU).
fn h265(payload: &[u8]) -> Option<bool> {
    let begins = |kind: u8| matches!(kind, 16..=21 | 32 | 33);
    match (payload.first()? >> 1) & 0x3f {
        48 => Some(heads(payload.get(2..)?).any(|head| begins((head >> 1) & 0x3f))),
        49 => {
            let fragment = *payload.get(2)?;
            Some(fragment & 0x80 != 0 && begins(fragment & 0x3f))
        }
        kind => Some(begins(kind)),
    }
}

/// The first byte of each unit of an aggregate.
fn heads(aggregated: &[u8]) -> impl Iterator<Item = u8> {
    units(aggregated).filter_map(|unit| unit.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(codec: VideoCodec, starts: &[&[u8]], others: &[&[u8]]) {
        for payload in starts {
            assert!(codec.starts_keyframe(payload), "{codec:?} {payload:x?}");
        }
        for payload in others {
            assert!(!codec.starts_keyframe(payload), "{codec:?} {payload:x?}");
        }
    }

    #[test]
    fn vp8_by_its_inverse_key_frame_flag() {
        let starts: [&[u8]; 4] = [
            &[0x10, 0x10],
            &[0x90, 0x80, 0x11, 0x10],
            &[0x90, 0xf0, 0x91, 0x22, 0x05, 0x20, 0x50],
            &[0x90, 0x20, 0x20, 0x50],
        ];
        let others: [&[u8]; 6] = [
            &[],
            &[0x10],
            &[0x10, 0x11],
            // Not the first partition, not its start, cut off.
            &[0x11, 0x10],
            &[0x00, 0x10],
            &[0x90, 0xf0, 0x91, 0x22],
        ];
        check(VideoCodec::Vp8, &starts, &others);
    }

    #[test]
    fn vp9_by_what_it_is_predicted_from() {
        let starts: [&[u8]; 3] = [&[0x08], &[0x88, 0x11], &[0xa8, 0x91, 0x22, 0x00, 0x00]];
        let others: [&[u8]; 5] = [
            &[],
            &[0x48],
            &[0x00],
            // A higher spatial layer, and one that is predicted from a lower.
            &[0xa8, 0x11, 0x02],
            &[0xa8, 0x11],
        ];
        check(VideoCodec::Vp9, &starts, &others);
    }

    #[test]
    fn h264_by_its_units() {
        let starts: [&[u8]; 5] = [
            &[0x67, 0x42],
            &[0x65, 0x88],
            &[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68],
            &[0x78, 0, 1, 0x09, 0, 2, 0x65, 0x88],
            &[0x7c, 0x85, 0x88],
        ];
        let others: [&[u8]; 6] = [
            &[],
            &[0x41, 0x9a],
            &[0x7c, 0x05, 0x88],
            &[0x7c, 0x81],
            &[0x78, 0, 200, 0x41],
            &[0x7c],
        ];
        check(VideoCodec::H264, &starts, &others);
    }

    #[test]
    fn h265_by_its_units() {
        let starts: [&[u8]; 4] = [
            &[0x26, 0x01],
            &[0x40, 0x01],
            &[0x60, 0x01, 0, 2, 0x42, 0x01],
            &[0x62, 0x01, 0x93],
        ];
        let others: [&[u8]; 4] = [&[], &[0x02, 0x01], &[0x62, 0x01, 0x13], &[0x62, 0x01]];
        check(VideoCodec::H265, &starts, &others);
    }

    #[test]
    fn av1_by_its_new_sequence() {
        check(
            VideoCodec::Av1,
            &[&[0x18, 0x0a], &[0x08]],
            &[&[], &[0x10], &[0x98]],
        );
    }

    #[test]
    fn nothing_is_read_past_the_end() {
        for codec in [
            VideoCodec::Vp8,
            VideoCodec::Vp9,
            VideoCodec::H264,
            VideoCodec::H265,
            VideoCodec::Av1,
        ] {
            for first in 0..=255 {
                for second in 0..=255 {
                    for len in 0..4 {
                        let _ = codec.starts_keyframe(&[first, second, 0xff, 0xff][..len]);
                    }
                }
            }
        }
    }
}
