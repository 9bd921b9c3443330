//! What a packet says of layers, whatever its codec: what simulcast, spatial and temporal layers are
//! chosen by.

use super::dependency_descriptor::{Descriptor, Indication, Structure};
use super::keyframe::VideoCodec;
use super::nal::Units;
use super::picture::Picture;
use super::{av1, vp8, vp9};

/// What a packet says of its frame's place among the layers of its stream.
///
/// A frame is a layer frame: one picture has one of each spatial layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Spatial layer; 0 where the codec has none.
    pub spatial: u8,
    /// Temporal layer; 0 where unknown.
    pub temporal: u8,
    /// First packet of its (layer) frame. Of H.264's and H.265's parameter sets and first slice in
    /// packets of their own, each says so.
    pub starts_frame: bool,
    /// Last packet of its (layer) frame, where the descriptor says; else false.
    pub ends_frame: bool,
    /// A receiver may begin here: the first packet of a frame that is predicted from nothing, or from
    /// lower spatial layers of its own picture alone.
    pub keyframe: bool,
    /// A receiver that took only lower temporal layers may take this one from here on. Always so for
    /// temporal layer 0, which has none below.
    pub switches_up: bool,
    /// Does not depend on a lower spatial layer's frame of the same picture.
    pub independent: bool,
    /// Who takes a higher spatial layer can do without this frame: none above is predicted from it.
    /// Always so for the highest layer, which has none above.
    pub unused_above: bool,
    /// No other frame is predicted from this one, as far as the packet says.
    pub discardable: bool,
    /// The numbers by which the payload names its picture.
    pub picture: Picture,
}

impl Layer {
    /// What a dependency descriptor says, read with its structure.
    ///
    /// For temporal layers by decode target there is [`Descriptor::indications`], and for exact
    /// decodability [`Descriptor::references`].
    #[must_use]
    pub fn from_descriptor(descriptor: &Descriptor, structure: &Structure) -> Layer {
        let Descriptor {
            spatial, temporal, ..
        } = *descriptor;
        // The frames right before this one are its picture's lower layers, one each: what goes back no
        // further stays within the picture. Where the encoder left one of them out, a reference to the
        // picture before may look like one of these.
        let below = structure.active_layers_below(spatial);
        let references = descriptor.references;
        let target = structure.target(spatial, temporal);
        let indication = target.map_or(Indication::NotPresent, |target| {
            descriptor.indications.of(target)
        });
        let keyframe = descriptor.starts_frame && references.are_within(below);
        let opens = target.is_some_and(|target| structure.is_open_from_below(target));
        Layer {
            spatial,
            temporal,
            starts_frame: descriptor.starts_frame,
            ends_frame: descriptor.ends_frame,
            keyframe,
            switches_up: temporal == 0 || indication == Indication::Switch || opens,
            independent: !references.have_any_within(below),
            unused_above: structure.has_no_part_above(spatial, descriptor.indications),
            discardable: descriptor.indications.is_discardable(),
            picture: Picture::default(),
        }
    }
}

impl VideoCodec {
    /// What a payload says; nothing ([`Layer::default`]) where it is not understood.
    #[must_use]
    pub fn layer(self, payload: &[u8]) -> Layer {
        let layer = match self {
            VideoCodec::Vp8 => vp8::Descriptor::parse(payload).ok().map(of_vp8),
            VideoCodec::Vp9 => vp9::Descriptor::parse(payload).ok().map(of_vp9),
            VideoCodec::H264 => Units::h264(payload).map(of_units),
            VideoCodec::H265 => Units::h265(payload).map(of_units),
            VideoCodec::Av1 => av1::Aggregation::parse(payload).ok().map(of_av1),
        };
        let Some(mut layer) = layer else {
            return Layer::default();
        };
        if matches!(self, VideoCodec::H264 | VideoCodec::H265) {
            layer.keyframe = layer.starts_frame && self.starts_keyframe(payload);
        }
        layer.switches_up |= layer.temporal == 0 || layer.keyframe;
        layer
    }
}

fn of_vp8(descriptor: vp8::Descriptor) -> Layer {
    Layer {
        spatial: 0,
        temporal: descriptor.temporal,
        starts_frame: descriptor.starts_frame,
        ends_frame: false,
        keyframe: descriptor.keyframe,
        switches_up: descriptor.layer_sync,
        independent: true,
        unused_above: true,
        discardable: descriptor.non_reference,
        picture: descriptor.picture,
    }
}

fn of_vp9(descriptor: vp9::Descriptor) -> Layer {
    Layer {
        spatial: descriptor.spatial,
        temporal: descriptor.temporal,
        starts_frame: descriptor.starts_frame,
        ends_frame: descriptor.ends_frame,
        keyframe: descriptor.starts_frame && !descriptor.is_predicted,
        switches_up: descriptor.switching_up || !descriptor.is_predicted,
        independent: !descriptor.is_inter_layer,
        unused_above: descriptor.unused_above,
        discardable: false,
        picture: descriptor.picture,
    }
}

fn of_av1(aggregation: av1::Aggregation) -> Layer {
    let (temporal, spatial) = aggregation
        .unit
        .and_then(|unit| unit.layer)
        .unwrap_or_default();
    Layer {
        spatial,
        temporal,
        starts_frame: aggregation.unit.is_some_and(av1::Unit::starts_frame),
        ends_frame: false,
        keyframe: aggregation.new_sequence,
        switches_up: false,
        // Higher spatial layers are predicted from lower ones unless the dependency descriptor tells otherwise.
        independent: spatial == 0,
        unused_above: false,
        discardable: false,
        picture: Picture::default(),
    }
}

fn of_units(units: Units) -> Layer {
    Layer {
        spatial: 0,
        temporal: units.temporal,
        starts_frame: units.starts_frame,
        ends_frame: false,
        keyframe: false,
        switches_up: units.switches_up,
        independent: true,
        unused_above: true,
        discardable: units.non_reference,
        picture: Picture::default(),
    }
}

#[cfg(test)]
mod tests;
