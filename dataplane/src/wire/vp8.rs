//! The VP8 payload descriptor (RFC 7741 section 4.2).

use super::Malformed;
use super::picture::{Picture, PictureId};

/// X: the byte that says which fields follow is there.
const EXTENDED: u8 = 0x80;
/// N: no other frame is predicted from this one.
const NON_REFERENCE: u8 = 0x20;
/// S and PID, which together say where in the frame the payload begins.
const PLACE: u8 = 0x17;
/// S set and PID 0: the first bytes of the first partition, which begin the frame.
const FRAME_START: u8 = 0x10;

/// I, L, T and K: which of the optional fields are there.
const HAS_PICTURE_ID: u8 = 0x80;
const HAS_TL0_PIC_IDX: u8 = 0x40;
const HAS_TID: u8 = 0x20;
const HAS_KEY_IDX: u8 = 0x10;

/// Y in the byte of TID and KEYIDX.
const LAYER_SYNC: u8 = 0x20;

/// P in the first byte of the frame (RFC 7741 section 4.3): set in all but key frames.
const INTER_FRAME: u8 = 0x01;

/// What stands before a VP8 payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Whether the frame begins with this payload: the start of partition 0.
    pub starts_frame: bool,
    /// Whether that frame is a key frame. Only its first payload says so.
    pub keyframe: bool,
    /// N: no other frame is predicted from this one.
    pub non_reference: bool,
    /// PictureID and TL0PICIDX.
    pub picture: Picture,
    /// TID, 0 to 3; 0 where there is none.
    pub temporal: u8,
    /// Y: the frame is predicted from frames of temporal layer 0 only. Clear where there is no TID.
    pub layer_sync: bool,
    /// KEYIDX, 5 bits: which key frame this frame goes back to.
    pub key_idx: Option<u8>,
    /// Length of the descriptor in bytes; what follows is coded video.
    pub len: usize,
}

impl Descriptor {
    /// Reads the descriptor at the start of an RTP payload.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`] where it is cut off.
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Descriptor, Malformed> {
        Descriptor::read(payload).ok_or(Malformed::Truncated)
    }

    fn read(payload: &[u8]) -> Option<Descriptor> {
        let head = *payload.first()?;
        let fields = Fields::parse(payload)?;
        let id = match fields.picture_id {
            Some(at) => Some(PictureId::parse(payload.get(at..)?)?),
            None => None,
        };
        let byte_at = |at: Option<usize>| payload.get(at?).copied();
        let layer = byte_at(fields.tid).unwrap_or_default();
        let starts_frame = head & PLACE == FRAME_START;
        let is_inter = payload.get(fields.len).map(|coded| coded & INTER_FRAME);
        Some(Descriptor {
            starts_frame,
            keyframe: starts_frame && is_inter == Some(0),
            non_reference: head & NON_REFERENCE != 0,
            picture: Picture {
                id,
                tl0_pic_idx: byte_at(fields.tl0_pic_idx),
            },
            temporal: layer >> 6,
            layer_sync: layer & LAYER_SYNC != 0,
            key_idx: byte_at(fields.key_idx).map(|byte| byte & 0x1F),
            len: fields.len,
        })
    }
}

/// Where the optional fields stand, as offsets into the payload.
#[derive(Clone, Copy, Debug, Default)]
struct Fields {
    picture_id: Option<usize>,
    tl0_pic_idx: Option<usize>,
    tid: Option<usize>,
    key_idx: Option<usize>,
    /// Length of the whole descriptor.
    len: usize,
}

impl Fields {
    /// `None` where the descriptor is cut off.
    fn parse(payload: &[u8]) -> Option<Fields> {
        let head = *payload.first()?;
        if head & EXTENDED == 0 {
            return Some(Fields {
                len: 1,
                ..Fields::default()
            });
        }
        let present = *payload.get(1)?;
        let mut len = 2;
        let mut take = |flags: u8, field_len: usize| {
            let at = (present & flags != 0).then_some(len)?;
            len += field_len;
            Some(at)
        };
        let id_len = PictureId::parse(payload.get(2..)?).map_or(1, PictureId::len);
        let picture_id = take(HAS_PICTURE_ID, id_len);
        let tl0_pic_idx = take(HAS_TL0_PIC_IDX, 1);
        let layer = take(HAS_TID | HAS_KEY_IDX, 1);
        if payload.len() < len {
            return None;
        }
        Some(Fields {
            picture_id,
            tl0_pic_idx,
            tid: layer.filter(|_| present & HAS_TID != 0),
            key_idx: layer.filter(|_| present & HAS_KEY_IDX != 0),
            len,
        })
    }
}

/// Puts a picture id and a TL0PICIDX in the place of those that the payload has, each cut to the width
/// that is there. A field that the descriptor does not have stays away.
///
/// `None`, with nothing changed, where the descriptor is cut off.
pub fn rewrite(payload: &mut [u8], picture_id: u16, tl0_pic_idx: u8) -> Option<()> {
    Descriptor::read(payload)?;
    let fields = Fields::parse(payload)?;
    if let Some(at) = fields.picture_id {
        PictureId::rewrite(payload.get_mut(at..)?, picture_id);
    }
    if let Some(at) = fields.tl0_pic_idx {
        *payload.get_mut(at)? = tl0_pic_idx;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fuzz;
    use crate::wire::generator::Generator;

    const SEED: u64 = 0x5650_3801;

    /// The first packet of a key frame: picture 0x1122, TL0PICIDX 5, TID 0, KEYIDX 3.
    const KEY: [u8; 7] = [0x90, 0xF0, 0x91, 0x22, 0x05, 0x03, 0x50];

    #[test]
    fn every_field_is_read() {
        let id = |number, is_wide| Some(PictureId { number, is_wide });
        let read = Descriptor::parse(&KEY).unwrap();
        let expected = Descriptor {
            starts_frame: true,
            keyframe: true,
            non_reference: false,
            picture: Picture {
                id: id(0x1122, true),
                tl0_pic_idx: Some(5),
            },
            temporal: 0,
            layer_sync: false,
            key_idx: Some(3),
            len: 6,
        };
        assert_eq!(read, expected);

        // A droppable frame of temporal layer 2 that goes back to layer 0 only.
        let upper = [0xB0, 0xE0, 0x7F, 0xFF, 0xA0, 0x11];
        let read = Descriptor::parse(&upper).unwrap();
        assert_eq!(
            (read.temporal, read.layer_sync, read.non_reference),
            (2, true, true)
        );
        assert_eq!(
            (read.picture.id, read.picture.tl0_pic_idx),
            (id(0x7F, false), Some(0xFF))
        );
        assert!(read.starts_frame && !read.keyframe);
        assert_eq!((read.key_idx, read.len), (None, 5));
    }

    /// Payloads and what they say, from libwebrtc's `video_rtp_depacketizer_vp8_unittest.cc`.
    #[test]
    fn libwebrtc_vectors_are_read() {
        let read = |start: &[u8]| Descriptor::parse(&[start, &[0; 6]].concat()).unwrap();
        let basic = read(&[0b0001_0100, 0x01]);
        assert_eq!((basic.starts_frame, basic.len), (false, 1), "partition 4");
        let one_byte = read(&[0b1010_0000, 0b1000_0000, 17]);
        assert_eq!(
            (one_byte.picture.id.map(|id| id.number), one_byte.len),
            (Some(17), 3)
        );
        assert!(one_byte.non_reference);
        let two_bytes = read(&[0b1010_0000, 0b1000_0000, 0x80 | 0x12, 0x34]);
        assert_eq!(
            (two_bytes.picture.id.map(|id| id.number), two_bytes.len),
            (Some(0x1234), 4)
        );
        let tl0_pic_idx = read(&[0b1000_0000, 0b0100_0000, 17]);
        assert_eq!(
            (tl0_pic_idx.picture.tl0_pic_idx, tl0_pic_idx.len),
            (Some(17), 3)
        );
        let tid = read(&[0b1000_0000, 0b0010_0000, 0b1000_0000]);
        assert_eq!((tid.temporal, tid.layer_sync, tid.len), (2, false, 3));
        let key_idx = read(&[0b1000_0000, 0b0001_0000, 17]);
        assert_eq!((key_idx.key_idx, key_idx.len), (Some(17), 3));
    }

    #[test]
    fn what_is_not_said_is_not_made_up() {
        let plain = Descriptor::parse(&[0x10, 0x50]).unwrap();
        assert_eq!(plain.picture, Picture::default());
        assert_eq!(
            (plain.temporal, plain.layer_sync, plain.key_idx),
            (0, false, None)
        );
        assert_eq!(
            (plain.starts_frame, plain.keyframe, plain.len),
            (true, true, 1)
        );

        // TID and Y stand in the byte of KEYIDX, and count for nothing without T.
        let key_idx_only = Descriptor::parse(&[0x80, 0x10, 0xFF]).unwrap();
        assert_eq!((key_idx_only.temporal, key_idx_only.layer_sync), (0, false));
        assert_eq!(key_idx_only.key_idx, Some(31));

        // Another partition, or its middle, begins no frame.
        for head in [0x00, 0x11, 0x17] {
            let later = Descriptor::parse(&[head, 0x50]).unwrap();
            assert_eq!((later.starts_frame, later.keyframe), (false, false));
        }
        // The reserved bits say nothing.
        assert!(Descriptor::parse(&[0x58, 0x50]).unwrap().keyframe);
    }

    #[test]
    fn t_24_a_descriptor_that_ends_early_is_refused() {
        assert_eq!(
            Descriptor::parse(&[0x81, 0x81, 0x94]),
            Err(Malformed::Truncated)
        );
        for len in 0..6 {
            assert_eq!(Descriptor::parse(&KEY[..len]), Err(Malformed::Truncated));
            let mut cut = KEY[..len].to_vec();
            assert_eq!(rewrite(&mut cut, 1, 2), None);
            assert_eq!(cut, KEY[..len]);
        }
        assert!(!Descriptor::parse(&KEY[..6]).unwrap().keyframe);
    }

    #[test]
    fn numbers_are_replaced_in_their_widths() {
        let mut wide = KEY;
        assert_eq!(rewrite(&mut wide, 0x8003, 0xFE), Some(()));
        assert_eq!(wide, [0x90, 0xF0, 0x80, 0x03, 0xFE, 0x03, 0x50]);

        let mut narrow = [0x90, 0x80, 0x11, 0x50];
        assert_eq!(rewrite(&mut narrow, 0x0181, 0xFE), Some(()));
        assert_eq!(narrow, [0x90, 0x80, 0x01, 0x50]);

        let mut tl0_only = [0x90, 0x40, 0x11, 0x50];
        assert_eq!(rewrite(&mut tl0_only, 0x0181, 0xFE), Some(()));
        assert_eq!(tl0_only, [0x90, 0x40, 0xFE, 0x50]);

        let mut none = [0x10, 0x50, 0x50];
        assert_eq!(rewrite(&mut none, 1, 2), Some(()));
        assert_eq!(none, [0x10, 0x50, 0x50]);
    }

    #[test]
    fn damage_is_survived_and_the_crate_agrees() {
        let mut generator = Generator::new(SEED);
        for payload in [
            &KEY[..],
            &[0xB0, 0xE0, 0x7F, 0xFF, 0xA0, 0x11],
            &[0x10, 0x50, 0, 0],
        ] {
            generator.torment(payload, 8_000, fuzz::layers);
        }
    }
}
