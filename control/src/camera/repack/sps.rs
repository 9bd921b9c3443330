//! What a sequence parameter set says (H.264 section 7.3.2.1.1, H.265 section 7.3.2.2.1).

use super::super::stream::CameraCodec;
use super::bits::Bits;

/// Pixels of the widest and highest picture that is believed.
const SIDE_MAX: u32 = 16_384;

/// What a sequence parameter set says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sps {
    /// Its id.
    pub(crate) id: u32,
    /// Codec, profile and level.
    pub(crate) codec: CameraCodec,
    /// Width and height that are shown, in pixels.
    pub(crate) resolution: (u32, u32),
    /// Pictures that may precede one in decoding order and follow it in output order, where that is said.
    pub(crate) reorder: Option<u32>,
}

impl Sps {
    /// Reads an H.264 unit, header included. `None` where it cannot be understood.
    pub(crate) fn h264(unit: &[u8]) -> Option<Sps> {
        let profile_level_id: [u8; 3] = *unit.get(1..)?.first_chunk()?;
        let [profile, _, _] = profile_level_id;
        let mut bits = Bits::new(unit.get(4..)?);
        let id = bits.ue()?;
        let chroma = if has_chroma_format(profile) {
            h264_chroma(&mut bits)?
        } else {
            1
        };
        bits.ue()?; // log2_max_frame_num_minus4
        match bits.ue()? {
            0 => {
                bits.ue()?;
            }
            1 => {
                bits.skip(1)?;
                bits.se()?;
                bits.se()?;
                for _ in 0..bits.ue()?.min(255) {
                    bits.se()?;
                }
            }
            _ => {}
        }
        bits.ue()?; // max_num_ref_frames
        bits.skip(1)?;
        let columns = bits.ue()?.checked_add(1)?;
        let rows = bits.ue()?.checked_add(1)?;
        let frames_only = bits.bit()?;
        if !frames_only {
            bits.skip(1)?;
        }
        bits.skip(1)?; // direct_8x8_inference_flag
        let fields = if frames_only { 1 } else { 2 };
        let coded = (columns.checked_mul(16)?, rows.checked_mul(16 * fields)?);
        let unit = match chroma {
            1 => (2, 2 * fields),
            2 => (2, fields),
            _ => (1, fields),
        };
        let resolution = cropped(&mut bits, coded, unit)?;
        // Only what may be missing without harm is behind this.
        let reorder = bits
            .bit()
            .and_then(|has_usability| has_usability.then(|| h264_usability(&mut bits)).flatten());
        Some(Sps {
            id,
            codec: CameraCodec::H264 { profile_level_id },
            resolution,
            reorder,
        })
    }

    /// Reads an H.265 unit, header included. `None` where it cannot be understood.
    pub(crate) fn h265(unit: &[u8]) -> Option<Sps> {
        let mut bits = Bits::new(unit.get(2..)?);
        bits.skip(4)?;
        let sub_layers = bits.bits(3)?;
        bits.skip(1)?;
        bits.skip(2)?;
        let tier = bits.bit()?;
        let profile_id = bits.bits(5)? as u8;
        bits.skip(32 + 48)?;
        let level_id = bits.bits(8)? as u8;
        h265_sub_layers(&mut bits, sub_layers)?;
        let id = bits.ue()?;
        let chroma = bits.ue()?;
        if chroma == 3 {
            bits.skip(1)?;
        }
        let coded = (bits.ue()?, bits.ue()?);
        let unit = match chroma {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let resolution = cropped(&mut bits, coded, unit)?;
        Some(Sps {
            id,
            codec: CameraCodec::H265 {
                profile_id,
                tier,
                level_id,
            },
            resolution,
            reorder: h265_reorder(&mut bits, sub_layers),
        })
    }
}

/// Whether an H.264 slice is of type B: its pictures may refer to later ones. `unit` is its beginning, header included.
pub(super) fn is_b_slice(unit: &[u8]) -> bool {
    let slice_type = || {
        let mut bits = Bits::new(unit.get(1..)?);
        bits.ue()?;
        bits.ue()
    };
    slice_type().is_some_and(|kind| kind % 5 == 1)
}

/// The id of an H.264 picture parameter set.
pub(super) fn h264_pps_id(unit: &[u8]) -> Option<u32> {
    Bits::new(unit.get(1..)?).ue()
}

/// The id of an H.265 picture parameter set.
pub(super) fn h265_pps_id(unit: &[u8]) -> Option<u32> {
    Bits::new(unit.get(2..)?).ue()
}

/// The id of an H.265 video parameter set.
pub(super) fn h265_vps_id(unit: &[u8]) -> Option<u32> {
    Bits::new(unit.get(2..)?).bits(4)
}

fn has_chroma_format(profile: u8) -> bool {
    matches!(
        profile,
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
    )
}

/// chroma_format_idc, and past the scaling lists.
fn h264_chroma(bits: &mut Bits<'_>) -> Option<u32> {
    let chroma = bits.ue()?;
    if chroma == 3 {
        bits.skip(1)?;
    }
    bits.ue()?;
    bits.ue()?;
    bits.skip(1)?;
    if bits.bit()? {
        let lists = if chroma == 3 { 12 } else { 8 };
        for list in 0..lists {
            if bits.bit()? {
                scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(chroma)
}

fn scaling_list(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..size {
        if next != 0 {
            next = bits.se()?.wrapping_add(last).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// What the cropping rectangle leaves of a picture, where there is one; `unit` are its steps.
fn cropped(bits: &mut Bits<'_>, coded: (u32, u32), unit: (u32, u32)) -> Option<(u32, u32)> {
    let (mut width, mut height) = coded;
    if bits.bit()? {
        let [left, right, top, bottom] = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?];
        let across = left.checked_add(right)?.checked_mul(unit.0)?;
        let down = top.checked_add(bottom)?.checked_mul(unit.1)?;
        width = width.checked_sub(across)?;
        height = height.checked_sub(down)?;
    }
    let believable = 1..=SIDE_MAX;
    (believable.contains(&width) && believable.contains(&height)).then_some((width, height))
}

/// max_num_reorder_frames at the end of the usability information (H.264 annex E.1.1).
fn h264_usability(bits: &mut Bits<'_>) -> Option<u32> {
    if bits.bit()? && bits.bits(8)? == 255 {
        bits.skip(32)?;
    }
    if bits.bit()? {
        bits.skip(1)?;
    }
    if bits.bit()? {
        bits.skip(4)?;
        if bits.bit()? {
            bits.skip(24)?;
        }
    }
    if bits.bit()? {
        bits.ue()?;
        bits.ue()?;
    }
    if bits.bit()? {
        bits.skip(65)?;
    }
    let network = bits.bit()?;
    if network {
        h264_buffering(bits)?;
    }
    let video = bits.bit()?;
    if video {
        h264_buffering(bits)?;
    }
    if network || video {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    if !bits.bit()? {
        return None;
    }
    bits.skip(1)?;
    for _ in 0..4 {
        bits.ue()?;
    }
    bits.ue()
}

fn h264_buffering(bits: &mut Bits<'_>) -> Option<()> {
    let count = bits.ue()?.min(31);
    bits.skip(8)?;
    for _ in 0..=count {
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
    }
    bits.skip(20)
}

/// Past profiles and levels of the sub-layers (H.265 section 7.3.3).
fn h265_sub_layers(bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
    let mut present = Vec::with_capacity(7);
    for _ in 0..sub_layers {
        present.push((bits.bit()?, bits.bit()?));
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 })?;
        bits.skip(if level { 8 } else { 0 })?;
    }
    Some(())
}

/// sps_max_num_reorder_pics of the highest sub-layer.
fn h265_reorder(bits: &mut Bits<'_>, sub_layers: u32) -> Option<u32> {
    bits.ue()?;
    bits.ue()?;
    bits.ue()?;
    let times = if bits.bit()? { sub_layers + 1 } else { 1 };
    let mut reorder = None;
    for _ in 0..times {
        bits.ue()?;
        reorder = Some(bits.ue()?);
        bits.ue()?;
    }
    reorder
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    fn unit(text: &str) -> Vec<u8> {
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap()
    }

    #[test]
    fn sets_of_real_cameras_and_encoders() {
        // Dahua, 1920x1080 of 1088 coded rows; from the documents of retina.
        let sps = Sps::h264(&unit("Z01AHppkBYHv/lAGwAAAAwBAAAAPI8WLZYA=")).unwrap();
        assert_eq!(sps.resolution, (704, 480));
        assert_eq!(
            sps.codec,
            CameraCodec::H264 {
                profile_level_id: [0x4D, 0x40, 0x1E]
            }
        );
        // x264, 1920x1080, high.
        let sps = Sps::h264(&unit("Z2QAKKzZQHgCJ+XARAAAAwAEAAADAMA8YMZY")).unwrap();
        assert_eq!(sps.resolution, (1920, 1080));
        // x265, 1280x720.
        let sps = Sps::h265(&unit(
            "QgEBAWAAAAMAkAAAAwAAAwBdoAKAgC0WWVmkkyuAQAAA+gAAF3AC",
        ));
        let sps = sps.unwrap();
        assert_eq!(sps.resolution, (1280, 720));
        assert_eq!(
            sps.codec,
            CameraCodec::H265 {
                profile_id: 1,
                tier: false,
                level_id: 93
            }
        );
    }

    #[test]
    fn what_ends_early_is_none_and_nothing_panics() {
        for whole in [
            unit("Z2QAKKzZQHgCJ+XARAAAAwAEAAADAMA8YMZY"),
            unit("QgEBAWAAAAMAkAAAAwAAAwBdoAKAgC0WWVmkkyuAQAAA+gAAF3AC"),
        ] {
            for len in 0..whole.len() {
                let _ = Sps::h264(&whole[..len]);
                let _ = Sps::h265(&whole[..len]);
            }
            assert_eq!(Sps::h264(&whole[..6]), None);
            assert_eq!(Sps::h265(&whole[..6]), None);
        }
        for fill in [0x00, 0xFF, 0x55] {
            let _ = Sps::h264(&[fill; 300]);
            let _ = Sps::h265(&[fill; 300]);
        }
    }

    #[test]
    fn slices_say_whether_they_are_b() {
        // first_mb 0 (1), slice type 1 (010), 6 (00111), 0 (1), 7 (0001000).
        assert!(is_b_slice(&[0x01, 0b1010_0000]));
        assert!(is_b_slice(&[0x01, 0b1001_1100]));
        assert!(!is_b_slice(&[0x41, 0b1100_0000]));
        assert!(!is_b_slice(&[0x65, 0b1000_1000, 0x80]));
        assert!(!is_b_slice(&[0x41]));
    }
}
