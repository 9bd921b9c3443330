//! The parameter sets of a stream: from its description, and what came with its pictures since.

use super::coding::Coding;
use super::sps::Sps;
use crate::camera::limits::{SET_BYTES_MAX, SETS_MAX};

/// The sets that are in force, each kind before those that refer to it.
#[derive(Clone, Debug)]
pub(crate) struct Sets {
    coding: Coding,
    /// By kind and id, in that order: video, sequence, picture parameter sets.
    kept: Vec<((u8, u32), Vec<u8>)>,
    sps: Option<Sps>,
}

impl Sets {
    /// None yet.
    pub(crate) fn new(coding: Coding) -> Sets {
        Sets {
            coding,
            kept: Vec::new(),
            sps: None,
        }
    }

    /// Takes a set in, in place of one of the same kind and id. `true` where something is different now. What is too
    /// long, cannot be understood, or is one too many, is left out.
    pub(crate) fn learn(&mut self, unit: &[u8]) -> bool {
        if unit.len() > SET_BYTES_MAX {
            return false;
        }
        let Some(name) = self.coding.set_name(unit) else {
            return false;
        };
        match self.kept.binary_search_by_key(&name, |(name, _)| *name) {
            Ok(at) => {
                let (_, kept) = &mut self.kept[at];
                if kept == unit {
                    return false;
                }
                *kept = unit.to_vec();
            }
            Err(_) if self.kept.len() == SETS_MAX => return false,
            Err(at) => self.kept.insert(at, (name, unit.to_vec())),
        }
        if let Some(sps) = self.coding.sps(unit) {
            self.sps = Some(sps);
        }
        true
    }

    /// What the last sequence parameter set says.
    pub(crate) fn sps(&self) -> Option<&Sps> {
        self.sps.as_ref()
    }

    /// The sets, in the order in which they are to be sent.
    pub(super) fn units(&self) -> impl Iterator<Item = &[u8]> {
        self.kept.iter().map(|(_, unit)| unit.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence parameter set of x264: 1920x1080.
    const SPS: &[u8] = &[
        0x67, 0x64, 0x00, 0x28, 0xAC, 0xD9, 0x40, 0x78, 0x02, 0x27, 0xE5, 0xC0, 0x44, 0x00, 0x00,
        0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xC0, 0x3C, 0x60, 0xC6, 0x58,
    ];

    #[test]
    fn a_set_replaces_the_one_of_its_id() {
        let mut sets = Sets::new(Coding::H264);
        assert!(sets.learn(&[0x68, 0xEB, 0xE3]));
        assert!(sets.learn(SPS));
        assert!(!sets.learn(SPS));
        let order: Vec<_> = sets.units().map(|unit| unit[0]).collect();
        assert_eq!(order, [0x67, 0x68], "the picture's after the sequence's");
        assert!(sets.learn(&[0x68, 0xEB, 0xE4]));
        assert_eq!(sets.units().count(), 2);
        assert!(sets.learn(&[0x68, 0x4B, 0xE4]), "another id");
        assert_eq!(sets.units().count(), 3);
    }

    #[test]
    fn sets_are_bounded() {
        let mut sets = Sets::new(Coding::H264);
        let mut long = SPS.to_vec();
        long.resize(SET_BYTES_MAX + 1, 0x55);
        assert!(!sets.learn(&long));
        assert!(!sets.learn(&[0x67, 0x64]), "cut off");
        for id in 0..200u8 {
            // ue of up to 13 bits.
            sets.learn(&[0x68, 0x01, id, 0x80]);
        }
        assert!(sets.units().count() <= SETS_MAX);
    }
}
