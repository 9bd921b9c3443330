//! The dependency descriptor: which frame a packet belongs to and what that frame is predicted from
//! (RTP Payload Format For AV1, appendix A; other codecs carry it too).
//!
//! The first packet of a coded video sequence carries a [`Structure`]: templates of the frames to come.
//! The caller keeps it for each stream, and a packet then names a template and what differs:
//!
//! ```text
//! value ──► Descriptor::parse(value, kept) ──► carries_structure? keep Structure::parse(value)
//!                                         └──► active said?      kept.active = active
//! ```
//!
//! A decode target is a set of layers that a receiver may decode, named by its highest spatial and
//! temporal layer. For a receiver of one, [`Indications`] tell which frames it needs and where it may
//! come in. [`References`] tell exactly whether a frame can be decoded after what was sent so far.

mod bits;
mod rewrite;
mod structure;

#[cfg(any(test, feature = "sim"))]
pub mod writer;

pub use rewrite::{rewrite_active, rewrite_frame_number, write_with_active};
pub use structure::Structure;

use self::bits::Bits;
use self::structure::Template;
use super::Malformed;
use crate::limits::DESCRIPTOR_TARGETS_MAX;

/// Bytes of the mandatory fields; a value that is longer has extended fields.
const MANDATORY_LEN: usize = 3;

/// What a packet says of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// First packet of the frame.
    pub starts_frame: bool,
    /// Last packet of the frame.
    pub ends_frame: bool,
    /// Number of the frame, which counts all layers' frames, modulo 65,536.
    pub frame_number: u16,
    /// Spatial layer, 0 to 3.
    pub spatial: u8,
    /// Temporal layer, 0 to 7.
    pub temporal: u8,
    /// What the frame is to each decode target.
    pub indications: Indications,
    /// Frames that this one is predicted from.
    pub references: References,
    /// Whether the packet brings a structure, which replaces the one kept ([`Structure::parse`]).
    pub carries_structure: bool,
    /// Decode targets for which frames are sent from here on, where the packet says.
    pub active: Option<Targets>,
}

impl Descriptor {
    /// Reads the value of the header extension with the structure that the stream's packets carried
    /// last. One that this packet carries is used in its stead, and not kept.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`] where it is cut off; [`Malformed::Field`] where no structure is known
    /// or the packet's template is none of it; [`Malformed::Length`] where the structure has more
    /// templates or layers than there can be.
    pub fn parse(value: &[u8], structure: Option<&Structure>) -> Result<Descriptor, Malformed> {
        let mut bits = Bits::new(value);
        let head = Head::parse(&mut bits, value.len())?;
        if head.has_structure {
            let attached = Structure::read(&mut bits)?;
            return Descriptor::read(head, &mut bits, &attached);
        }
        Descriptor::read(head, &mut bits, structure.ok_or(Malformed::Field)?)
    }

    /// Reads what follows the structure.
    fn read(head: Head, bits: &mut Bits, structure: &Structure) -> Result<Descriptor, Malformed> {
        let active = if head.has_active {
            Some(structure.read_active(bits)?)
        } else {
            None
        };
        let Template {
            spatial,
            temporal,
            mut indications,
            mut references,
        } = structure.template(head.template)?;
        if head.has_indications {
            indications = Indications::read(bits, structure.targets())?;
        }
        if head.has_references {
            references = References::read(bits)?;
        }
        if head.has_chains {
            // What a chain goes back to is of use only to one that repairs it.
            for _ in 0..structure.chains() {
                bits.take(8)?;
            }
        }
        Ok(Descriptor {
            starts_frame: head.starts_frame,
            ends_frame: head.ends_frame,
            frame_number: head.frame_number,
            spatial,
            temporal,
            indications,
            references,
            carries_structure: head.has_structure,
            active,
        })
    }
}

/// The fields up to the structure.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    starts_frame: bool,
    ends_frame: bool,
    template: u8,
    frame_number: u16,
    has_structure: bool,
    has_active: bool,
    has_indications: bool,
    has_references: bool,
    has_chains: bool,
}

impl Head {
    fn parse(bits: &mut Bits, value_len: usize) -> Result<Head, Malformed> {
        let mut head = Head {
            starts_frame: bits.flag()?,
            ends_frame: bits.flag()?,
            template: bits.take(6)? as u8,
            frame_number: bits.take(16)? as u16,
            ..Head::default()
        };
        if value_len > MANDATORY_LEN {
            head.has_structure = bits.flag()?;
            head.has_active = bits.flag()?;
            head.has_indications = bits.flag()?;
            head.has_references = bits.flag()?;
            head.has_chains = bits.flag()?;
        }
        Ok(head)
    }
}

/// The frame number of a value, or `None` where it is cut off.
#[must_use]
pub fn frame_number(value: &[u8]) -> Option<u16> {
    let number = value.get(1..MANDATORY_LEN)?;
    number.try_into().ok().map(u16::from_be_bytes)
}

/// What a frame is to one decode target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Indication {
    /// It is no part of the target.
    #[default]
    NotPresent,
    /// It is part of the target, and no other frame of the target is predicted from it.
    Discardable,
    /// It is part of the target, and whoever can decode it can decode all later frames of the target.
    Switch,
    /// It is part of the target.
    Required,
}

/// What a frame is to each decode target: two bits for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indications(u64);

impl Indications {
    /// What the frame is to one decode target.
    #[must_use]
    pub const fn of(self, target: u8) -> Indication {
        if target >= DESCRIPTOR_TARGETS_MAX as u8 {
            return Indication::NotPresent;
        }
        match (self.0 >> (2 * target)) & 0x03 {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        }
    }

    /// Whether it is part of some target and no other frame of any target is predicted from it.
    #[must_use]
    pub const fn is_discardable(self) -> bool {
        const FIRST_BITS: u64 = 0x5555_5555_5555_5555;
        self.0 & !FIRST_BITS == 0 && self.0 != 0
    }

    fn read(bits: &mut Bits, targets: u8) -> Result<Indications, Malformed> {
        let mut read = 0;
        for target in 0..targets {
            read |= u64::from(bits.take(2)?) << (2 * target);
        }
        Ok(Indications(read))
    }
}

/// A set of decode targets: a bit for each, the lowest for target 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets(pub u32);

impl Targets {
    /// The first `count` targets.
    #[must_use]
    pub const fn first(count: u8) -> Targets {
        match 1_u32.checked_shl(count as u32) {
            Some(end) => Targets(end - 1),
            None => Targets(u32::MAX),
        }
    }

    /// Whether it is one of them.
    #[must_use]
    pub const fn contains(self, target: u8) -> bool {
        target < DESCRIPTOR_TARGETS_MAX as u8 && (self.0 >> target) & 1 == 1
    }
}

/// Frames that a frame is predicted from, by how many frames back they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// A bit for each of the last 64 frames, the lowest for the frame before this one.
    pub near: u64,
    /// Whether there are others further back (up to 4,096).
    pub far: bool,
}

impl References {
    /// Whether none of them is more than `frames` back; so with no references and 0.
    #[must_use]
    pub const fn are_within(self, frames: u8) -> bool {
        !self.far && self.near & !lowest(frames) == 0
    }

    /// Whether some of them are at most `frames` back.
    #[must_use]
    pub const fn have_any_within(self, frames: u8) -> bool {
        self.near & lowest(frames) != 0
    }

    /// Whether all of them are among the frames that were sent: `sent` has a bit for each of the last 64
    /// frames, the lowest for the frame before this one. References further back count as lost.
    #[must_use]
    pub const fn are_among(self, sent: u64) -> bool {
        !self.far && self.near & !sent == 0
    }

    fn add(&mut self, frames_back: u32) {
        match 1_u64.checked_shl(frames_back.wrapping_sub(1)) {
            Some(bit) => self.near |= bit,
            None => self.far = true,
        }
    }

    /// Differences of a frame: 4, 8 or 12 bits each, in a list that a width of 0 ends.
    fn read(bits: &mut Bits) -> Result<References, Malformed> {
        let mut references = References::default();
        loop {
            let nibbles = bits.take(2)?;
            if nibbles == 0 {
                return Ok(references);
            }
            references.add(bits.take(4 * nibbles as u8)? + 1);
        }
    }
}

/// The lowest bits.
const fn lowest(count: u8) -> u64 {
    match 1_u64.checked_shl(count as u32) {
        Some(end) => end - 1,
        None => u64::MAX,
    }
}

#[cfg(test)]
mod tests;
