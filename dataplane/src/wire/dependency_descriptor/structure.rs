//! The template dependency structure (RTP Payload Format For AV1, appendix A.8).

use super::bits::Bits;
use super::{Head, Indication, Indications, References, Targets};
use crate::limits::{
    DESCRIPTOR_SPATIAL_LAYERS_MAX, DESCRIPTOR_TARGETS_MAX, DESCRIPTOR_TEMPLATES_MAX,
    DESCRIPTOR_TEMPORAL_LAYERS_MAX,
};
use crate::wire::Malformed;

/// `next_layer_idc` of a template: how its layer goes on from that of the one before.
const NEXT_TEMPORAL: u32 = 1;
const NEXT_SPATIAL: u32 = 2;
const NO_MORE: u32 = 3;

/// What the frames of a stream may look like, as its last key frame said. 2 kB, without allocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Decode targets for which frames are sent: all at first, then as packets say
    /// ([`super::Descriptor::active`]).
    pub active: Targets,
    /// Number of the first template, modulo 64: those of one structure are not those of the last.
    offset: u8,
    templates: [Template; DESCRIPTOR_TEMPLATES_MAX],
    template_count: usize,
    target_count: u8,
    /// Highest spatial and temporal layer of each target.
    target_layers: [(u8, u8); DESCRIPTOR_TARGETS_MAX],
    /// Targets that one who follows the next lower temporal layers may join with any frame.
    open: Targets,
    chain_count: u8,
    /// The chain whose frames a target cannot do without, for each target.
    protected_by: [u8; DESCRIPTOR_TARGETS_MAX],
    sizes: Option<[(u32, u32); DESCRIPTOR_SPATIAL_LAYERS_MAX]>,
}

/// What a frame of a template is, unless its packet says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) spatial: u8,
    pub(super) temporal: u8,
    pub(super) indications: Indications,
    pub(super) references: References,
}

impl Structure {
    /// The structure that a packet carries, and the active targets that it says.
    ///
    /// # Errors
    ///
    /// [`Malformed::Field`] where it carries none; otherwise as [`super::Descriptor::parse`].
    pub fn parse(value: &[u8]) -> Result<Structure, Malformed> {
        let mut bits = Bits::new(value);
        let head = Head::parse(&mut bits, value.len())?;
        if !head.has_structure {
            return Err(Malformed::Field);
        }
        let mut structure = Structure::read(&mut bits)?;
        if head.has_active {
            structure.active = structure.read_active(&mut bits)?;
        }
        Ok(structure)
    }

    /// Decode targets, 1 to 32.
    #[must_use]
    pub fn targets(&self) -> u8 {
        self.target_count
    }

    /// The highest spatial and temporal layer of a decode target.
    #[must_use]
    pub fn target_layer(&self, target: u8) -> Option<(u8, u8)> {
        let known = self.target_layers.get(..usize::from(self.target_count))?;
        known.get(usize::from(target)).copied()
    }

    /// The decode target whose highest layers are these.
    #[must_use]
    pub fn target(&self, spatial: u8, temporal: u8) -> Option<u8> {
        (0..self.target_count)
            .find(|&target| self.target_layer(target) == Some((spatial, temporal)))
    }

    /// Whether one who took only lower temporal layers of a target's spatial layer may take its highest
    /// too from any frame on: every frame of those lower layers is a switch to it.
    #[must_use]
    pub fn is_open_from_below(&self, target: u8) -> bool {
        self.open.contains(target)
    }

    /// Whether a frame of this spatial layer, which is this to each target, is part of no target that has
    /// a higher one.
    #[must_use]
    pub fn has_no_part_above(&self, spatial: u8, indications: Indications) -> bool {
        (0..self.target_count).all(|target| {
            let highest = self.target_layer(target).map_or(0, |(highest, _)| highest);
            highest <= spatial || indications.of(target) == Indication::NotPresent
        })
    }

    /// How many spatial layers below this one have frames now.
    #[must_use]
    pub fn active_layers_below(&self, spatial: u8) -> u8 {
        let mut layers = 0_u8;
        for target in 0..self.target_count {
            if let (true, Some((layer, _))) =
                (self.active.contains(target), self.target_layer(target))
                && layer < spatial
            {
                layers |= 1 << layer;
            }
        }
        layers.count_ones() as u8
    }

    /// Chains: up to one for each decode target.
    #[must_use]
    pub fn chains(&self) -> u8 {
        self.chain_count
    }

    /// The chain that protects a decode target: one who got all of its frames can decode the target.
    #[must_use]
    pub fn protecting_chain(&self, target: u8) -> Option<u8> {
        self.target_layer(target)?;
        let chain = *self.protected_by.get(usize::from(target))?;
        (chain < self.chain_count).then_some(chain)
    }

    /// Width and height in pixels of a spatial layer's frames, 1 to 65,536, where they are said.
    #[must_use]
    pub fn size(&self, spatial: u8) -> Option<(u32, u32)> {
        let size = *self.sizes?.get(usize::from(spatial))?;
        (size != (0, 0)).then_some(size)
    }

    /// The template of a number. One that is none of the structure's belongs to another structure.
    pub(super) fn template(&self, number: u8) -> Result<Template, Malformed> {
        let index = usize::from(number + DESCRIPTOR_TEMPLATES_MAX as u8 - self.offset)
            % DESCRIPTOR_TEMPLATES_MAX;
        let known = self.templates.get(..self.template_count);
        known
            .and_then(|known| known.get(index))
            .copied()
            .ok_or(Malformed::Field)
    }

    pub(super) fn read_active(&self, bits: &mut Bits) -> Result<Targets, Malformed> {
        Ok(Targets(bits.take(self.target_count)?))
    }

    pub(super) fn read(bits: &mut Bits) -> Result<Structure, Malformed> {
        let offset = bits.take(6)? as u8;
        let target_count = bits.take(5)? as u8 + 1;
        let mut structure = Structure {
            active: Targets::first(target_count),
            offset,
            templates: [Template::default(); DESCRIPTOR_TEMPLATES_MAX],
            template_count: 0,
            target_count,
            target_layers: [(0, 0); DESCRIPTOR_TARGETS_MAX],
            open: Targets::default(),
            chain_count: 0,
            protected_by: [0; DESCRIPTOR_TARGETS_MAX],
            sizes: None,
        };
        structure.read_layers(bits)?;
        for template in structure.known_mut() {
            template.indications = Indications::read(bits, target_count)?;
        }
        for template in structure.known_mut() {
            while bits.flag()? {
                template.references.add(bits.take(4)? + 1);
            }
        }
        structure.read_chains(bits)?;
        structure.find_target_layers();
        if bits.flag()? {
            structure.read_sizes(bits)?;
        }
        Ok(structure)
    }

    fn known_mut(&mut self) -> &mut [Template] {
        self.templates
            .get_mut(..self.template_count)
            .unwrap_or_default()
    }

    /// Templates are sorted by layer, and each says how the next one's differs.
    fn read_layers(&mut self, bits: &mut Bits) -> Result<(), Malformed> {
        let (mut spatial, mut temporal) = (0, 0);
        for template in &mut self.templates {
            (template.spatial, template.temporal) = (spatial, temporal);
            self.template_count += 1;
            match bits.take(2)? {
                NO_MORE => return Ok(()),
                NEXT_TEMPORAL => temporal += 1,
                NEXT_SPATIAL => (spatial, temporal) = (spatial + 1, 0),
                _ => {}
            }
            if usize::from(spatial) >= DESCRIPTOR_SPATIAL_LAYERS_MAX
                || usize::from(temporal) >= DESCRIPTOR_TEMPORAL_LAYERS_MAX
            {
                return Err(Malformed::Length);
            }
        }
        Err(Malformed::Length)
    }

    fn read_chains(&mut self, bits: &mut Bits) -> Result<(), Malformed> {
        self.chain_count = bits.below(u32::from(self.target_count) + 1)? as u8;
        if self.chain_count == 0 {
            return Ok(());
        }
        let targets = usize::from(self.target_count);
        for chain in self.protected_by.iter_mut().take(targets) {
            *chain = bits.below(u32::from(self.chain_count))? as u8;
        }
        for _ in 0..self.template_count * usize::from(self.chain_count) {
            bits.take(4)?;
        }
        Ok(())
    }

    /// A target's layer is the highest of its frames'.
    fn find_target_layers(&mut self) {
        let known = self
            .templates
            .get(..self.template_count)
            .unwrap_or_default();
        for target in 0..self.target_count {
            let part_of =
                |template: &&Template| template.indications.of(target) != Indication::NotPresent;
            let parts = || known.iter().filter(part_of);
            let spatial = parts().map(|part| part.spatial).max().unwrap_or_default();
            let temporal = parts().map(|part| part.temporal).max().unwrap_or_default();
            if let Some(layer) = self.target_layers.get_mut(usize::from(target)) {
                *layer = (spatial, temporal);
            }
            let is_open = parts()
                .filter(|part| part.spatial == spatial && part.temporal < temporal)
                .all(|part| part.indications.of(target) == Indication::Switch);
            self.open.0 |= u32::from(is_open) << target;
        }
    }

    fn read_sizes(&mut self, bits: &mut Bits) -> Result<(), Malformed> {
        let known = self.templates.get(..self.template_count);
        let highest = known
            .and_then(|known| known.last())
            .map_or(0, |last| last.spatial);
        let mut sizes = [(0, 0); DESCRIPTOR_SPATIAL_LAYERS_MAX];
        for size in sizes.iter_mut().take(usize::from(highest) + 1) {
            *size = (bits.take(16)? + 1, bits.take(16)? + 1);
        }
        self.sizes = Some(sizes);
        Ok(())
    }
}
