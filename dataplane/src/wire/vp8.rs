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
