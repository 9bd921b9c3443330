//! The VP9 payload descriptor (RFC 9628 section 4.2).

use super::picture::{Picture, PictureId};
use super::{Malformed, u16_at};
use crate::limits::{VP9_REFERENCES_MAX, VP9_SPATIAL_LAYERS_MAX};

/// I, P, L, F, B, E, V and Z of the first byte.
const HAS_PICTURE_ID: u8 = 0x80;
const PREDICTED: u8 = 0x40;
const HAS_LAYER: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const FRAME_START: u8 = 0x08;
const FRAME_END: u8 = 0x04;
const HAS_SCALABILITY: u8 = 0x02;
const UNUSED_ABOVE: u8 = 0x01;

/// U and D of the byte of layer indices.
const SWITCHING_UP: u8 = 0x10;
const INTER_LAYER: u8 = 0x01;

/// N: another P_DIFF follows.
const MORE: u8 = 0x01;

/// Y and G of the scalability structure's first byte.
const HAS_SIZES: u8 = 0x10;
const HAS_GROUP: u8 = 0x08;

/// What stands before a VP9 payload, up to the scalability structure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// P: the layer frame is predicted from earlier pictures.
    pub is_predicted: bool,
    /// F: references are named one by one ([`Descriptor::differences`]) and there is no TL0PICIDX.
    pub is_flexible: bool,
    /// B: the layer frame begins with this payload.
    pub starts_frame: bool,
    /// E: the layer frame ends with this payload.
    pub ends_frame: bool,
    /// V: a scalability structure follows, which [`Scalability::parse`] reads.
    pub has_scalability: bool,
    /// Z: no higher spatial layer is predicted from this layer frame.
    pub unused_above: bool,
    /// Picture id and TL0PICIDX.
    pub picture: Picture,
    /// TID, 0 to 7; 0 where there are no layer indices.
    pub temporal: u8,
    /// SID, 0 to 7; 0 where there are no layer indices.
    pub spatial: u8,
    /// U: as encoders set it, the frame is predicted from lower temporal layers only. RFC 9628 says of
    /// it that later pictures of higher temporal layers do not go back behind this picture.
    pub switching_up: bool,
    /// D: the layer frame is predicted from the next lower spatial layer of its picture.
    pub is_inter_layer: bool,
    /// P_DIFF: how many pictures back each reference is, 1 to 127; 0 for those that there are not.
    pub differences: [u8; VP9_REFERENCES_MAX],
    /// How many of them there are, 0 to 3.
    pub references: u8,
    /// Length in bytes of what was read, without the scalability structure.
    pub len: usize,
}

impl Descriptor {
    /// Reads the descriptor at the start of an RTP payload.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`] where it is cut off, [`Malformed::Field`] where it names more than three
    /// references.
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Descriptor, Malformed> {
        let head = *payload.first().ok_or(Malformed::Truncated)?;
        let mut descriptor = Descriptor {
            is_predicted: head & PREDICTED != 0,
            is_flexible: head & FLEXIBLE != 0,
            starts_frame: head & FRAME_START != 0,
            ends_frame: head & FRAME_END != 0,
            has_scalability: head & HAS_SCALABILITY != 0,
            unused_above: head & UNUSED_ABOVE != 0,
            len: 1,
            ..Descriptor::default()
        };
        if head & HAS_PICTURE_ID != 0 {
            let rest = payload.get(1..).unwrap_or_default();
            let id = PictureId::parse(rest).ok_or(Malformed::Truncated)?;
            descriptor.picture.id = Some(id);
            descriptor.len += id.len();
        }
        if head & HAS_LAYER != 0 {
            let layer = descriptor.take(payload)?;
            descriptor.temporal = layer >> 5;
            descriptor.switching_up = layer & SWITCHING_UP != 0;
            descriptor.spatial = (layer >> 1) & 0x07;
            descriptor.is_inter_layer = layer & INTER_LAYER != 0;
            if !descriptor.is_flexible {
                descriptor.picture.tl0_pic_idx = Some(descriptor.take(payload)?);
            }
        }
        if descriptor.is_flexible && descriptor.is_predicted {
            descriptor.read_differences(payload)?;
        }
        Ok(descriptor)
    }

    fn read_differences(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        for index in 0..VP9_REFERENCES_MAX {
            let byte = self.take(payload)?;
            if let Some(difference) = self.differences.get_mut(index) {
                *difference = byte >> 1;
            }
            self.references += 1;
            if byte & MORE == 0 {
                return Ok(());
            }
        }
        Err(Malformed::Field)
    }

    /// The next byte.
    fn take(&mut self, payload: &[u8]) -> Result<u8, Malformed> {
        let byte = *payload.get(self.len).ok_or(Malformed::Truncated)?;
        self.len += 1;
        Ok(byte)
    }
}

/// Puts a picture id and a TL0PICIDX in the place of those that the payload has, each cut to the width
/// that is there. A field that the descriptor does not have stays away.
///
/// `None`, with nothing changed, where the descriptor is malformed.
pub fn rewrite(payload: &mut [u8], picture_id: u16, tl0_pic_idx: u8) -> Option<()> {
    let descriptor = Descriptor::parse(payload).ok()?;
    let mut at = 1;
    if let Some(id) = descriptor.picture.id {
        PictureId::rewrite(payload.get_mut(at..)?, picture_id);
        at += id.len();
    }
    if descriptor.picture.tl0_pic_idx.is_some() {
        // Behind the byte of layer indices.
        *payload.get_mut(at + 1)? = tl0_pic_idx;
    }
    Some(())
}

/// The scalability structure: which spatial layers there are (RFC 9628 section 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalability {
    /// Spatial layers, 1 to 8.
    pub layers: u8,
    /// Width and height of each in pixels, where they are said.
    pub sizes: Option<[(u16, u16); VP9_SPATIAL_LAYERS_MAX]>,
    /// Pictures in a picture group; 0 where none is described.
    pub pictures: u8,
    /// Length in bytes.
    pub len: usize,
}

impl Scalability {
    /// Reads the structure that follows a descriptor which says so ([`Descriptor::has_scalability`]):
    /// `bytes` are the payload behind [`Descriptor::len`].
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`] where it is cut off.
    pub fn parse(bytes: &[u8]) -> Result<Scalability, Malformed> {
        Scalability::read(bytes).ok_or(Malformed::Truncated)
    }

    fn read(bytes: &[u8]) -> Option<Scalability> {
        let head = *bytes.first()?;
        let layers = (head >> 5) + 1;
        let mut len = 1;
        let mut sizes = None;
        if head & HAS_SIZES != 0 {
            let mut read = [(0, 0); VP9_SPATIAL_LAYERS_MAX];
            for size in read.iter_mut().take(usize::from(layers)) {
                *size = (u16_at(bytes, len)?, u16_at(bytes, len + 2)?);
                len += 4;
            }
            sizes = Some(read);
        }
        let mut pictures = 0;
        if head & HAS_GROUP != 0 {
            pictures = *bytes.get(len)?;
            len += 1;
            for _ in 0..pictures {
                let references = (bytes.get(len)? >> 2) & 0x03;
                len += 1 + usize::from(references);
            }
        }
        (len <= bytes.len()).then_some(Scalability {
            layers,
            sizes,
            pictures,
            len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fuzz;
    use crate::wire::generator::Generator;

    const SEED: u64 = 0x5650_3901;

    /// The first packet of a key picture of two spatial layers in flexible mode: picture 0x1234, layer
    /// indices, and a structure of two sizes and a group of one picture.
    const KEY: [u8; 17] = [
        0xBB, 0x92, 0x34, 0x10, 0x38, 0x01, 0x40, 0x00, 0xB4, 0x02, 0x80, 0x01, 0x68, 0x01, 0x14,
        0x01, 0x49,
    ];

    #[test]
    fn a_key_picture_says_its_layers() {
        let read = Descriptor::parse(&KEY).unwrap();
        let expected = Descriptor {
            is_flexible: true,
            starts_frame: true,
            has_scalability: true,
            unused_above: true,
            picture: Picture {
                id: Some(PictureId {
                    number: 0x1234,
                    is_wide: true,
                }),
                tl0_pic_idx: None,
            },
            switching_up: true,
            len: 4,
            ..Descriptor::default()
        };
        assert_eq!(read, expected);
        let structure = Scalability::parse(&KEY[read.len..]).unwrap();
        let sizes = structure.sizes.unwrap();
        assert_eq!(sizes[..3], [(320, 180), (640, 360), (0, 0)]);
        assert_eq!((structure.layers, structure.pictures), (2, 1));
        assert_eq!(structure.len, KEY.len() - read.len - 1);
    }

    /// Payloads and what they say, from libwebrtc's `video_rtp_depacketizer_vp9_unittest.cc`.
    #[test]
    fn libwebrtc_vectors_are_read() {
        let references = Descriptor::parse(&[0xD8, 0x80, 17, 35, 37, 254, 0]).unwrap();
        assert_eq!(
            (references.differences, references.references),
            ([17, 18, 127], 3)
        );
        assert!(references.starts_frame && references.is_predicted && references.is_flexible);
        assert_eq!(
            (references.picture.id.map(|id| id.number), references.len),
            (Some(17), 6)
        );

        let layer = Descriptor::parse(&[0x38, 0x50, 0]).unwrap();
        assert_eq!((layer.temporal, layer.spatial, layer.len), (2, 0, 2));
        assert!(layer.switching_up && !layer.is_inter_layer && layer.starts_frame);

        let last = Descriptor::parse(&[0x44, 0]).unwrap();
        assert!(last.is_predicted && last.ends_frame && !last.starts_frame);

        let sizes = [
            0x0A, 0x30, 0x02, 0x80, 0x01, 0x68, 0x05, 0x00, 0x02, 0xD0, 0,
        ];
        let structure = Scalability::parse(&sizes[Descriptor::parse(&sizes).unwrap().len..]);
        let structure = structure.unwrap();
        assert_eq!(
            (structure.layers, structure.pictures, structure.len),
            (2, 0, 9)
        );
        assert_eq!(structure.sizes.unwrap()[..2], [(640, 360), (1280, 720)]);
    }

    #[test]
    fn layers_and_references_of_both_modes() {
        let flexible = [0xF4, 0x11, 0x73, 0x03, 0x05, 0x0E, 0xAA];
        let read = Descriptor::parse(&flexible).unwrap();
        assert!(read.is_flexible && read.is_predicted && read.ends_frame && !read.starts_frame);
        assert_eq!((read.temporal, read.spatial), (3, 1));
        assert!(read.switching_up && read.is_inter_layer);
        assert_eq!((read.differences, read.references), ([1, 2, 7], 3));
        assert_eq!((read.picture.tl0_pic_idx, read.len), (None, 6));

        let fixed = [0xE8, 0x11, 0x44, 0xFE, 0xAA];
        let read = Descriptor::parse(&fixed).unwrap();
        assert!(!read.is_flexible && read.is_predicted && read.starts_frame);
        assert_eq!((read.temporal, read.spatial), (2, 2));
        assert!(!read.switching_up && !read.is_inter_layer);
        let id = PictureId {
            number: 0x11,
            is_wide: false,
        };
        assert_eq!(
            (read.picture.id, read.picture.tl0_pic_idx),
            (Some(id), Some(0xFE))
        );
        assert_eq!((read.references, read.len), (0, 4));
    }

    #[test]
    fn t_24_what_ends_early_or_never_is_refused() {
        for len in 0..4 {
            assert_eq!(Descriptor::parse(&KEY[..len]), Err(Malformed::Truncated));
        }
        for len in 4..KEY.len() - 1 {
            assert_eq!(Scalability::parse(&KEY[4..len]), Err(Malformed::Truncated));
        }
        assert_eq!(
            Descriptor::parse(&[0x50, 0x03, 0x05, 0x07, 0x02]),
            Err(Malformed::Field),
            "a fourth reference"
        );
        // The largest structure: eight sizes, and 255 pictures of three references.
        let mut largest = vec![0xF8];
        largest.extend([0xFF; 32]);
        largest.push(255);
        largest.extend([0x0C, 1, 2, 3].repeat(255));
        let structure = Scalability::parse(&largest).unwrap();
        assert_eq!((structure.layers, structure.pictures), (8, 255));
        assert_eq!(structure.len, largest.len());
        for len in 0..largest.len() {
            assert_eq!(
                Scalability::parse(&largest[..len]),
                Err(Malformed::Truncated)
            );
        }
    }

    #[test]
    fn numbers_are_replaced_in_their_widths() {
        let mut wide = KEY;
        assert_eq!(rewrite(&mut wide, 0x7ABC, 9), Some(()));
        assert_eq!(wide[..4], [0xBB, 0xFA, 0xBC, 0x10]);
        assert_eq!(wide[4..], KEY[4..]);

        let mut narrow = [0xE8, 0x11, 0x44, 0xFE, 0xAA];
        assert_eq!(rewrite(&mut narrow, 0x1FF, 9), Some(()));
        assert_eq!(narrow, [0xE8, 0x7F, 0x44, 9, 0xAA]);

        let mut none = [0x08, 0xAA];
        assert_eq!(rewrite(&mut none, 1, 2), Some(()));
        assert_eq!(none, [0x08, 0xAA]);
        assert_eq!(rewrite(&mut [0xE8, 0x11, 0x44], 1, 2), None);
    }

    #[test]
    fn damage_is_survived_and_the_crate_agrees() {
        let mut generator = Generator::new(SEED);
        for payload in [
            &KEY[..],
            &[0xF4, 0x11, 0x73, 0x03, 0x04, 0xAA],
            &[0xE8, 0x91, 0x01, 0x44, 0xFE, 0xAA],
        ] {
            generator.torment(payload, 8_000, fuzz::layers);
        }
    }
}
