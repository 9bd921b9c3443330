//! The layers of a stream: where a packet stands among them, and which of them one receiver is sent.
//!
//! Temporal layers make a stream's frames fewer, spatial layers make its pictures smaller. A receiver
//! goes down at once, at the next picture, and up where the stream says that one may: at a key frame, or
//! where a frame leans on nothing that the receiver was not sent.

use super::extensions;
use crate::command::PayloadKind;
use crate::wire::dependency_descriptor::{Descriptor, Structure};
use crate::wire::{Layer, VideoCodec};

/// A packet's place among the layers of its stream, as the log keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LayerStamp {
    /// Temporal layer in the lower four bits, spatial layer above.
    place: u8,
    flags: u8,
}

/// It is the first of its frame.
const STARTS_FRAME: u8 = 1;
/// It is the last of its frame.
const ENDS_FRAME: u8 = 1 << 1;
/// Who took fewer layers may take this one from here on.
const SWITCHES_UP: u8 = 1 << 2;
/// Its pictures are counted, so that a receiver notices when one is left out.
const COUNTED: u8 = 1 << 3;

impl LayerStamp {
    /// From what its descriptor says.
    pub(crate) fn new(layer: &Layer, is_counted: bool) -> LayerStamp {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        LayerStamp {
            place: layer.temporal.min(TEMPORAL_ALL) | (layer.spatial.min(SPATIAL_ALL) << 4),
            flags: flag(layer.starts_frame, STARTS_FRAME)
                | flag(layer.ends_frame, ENDS_FRAME)
                | flag(layer.switches_up, SWITCHES_UP)
                | flag(is_counted, COUNTED),
        }
    }

    /// Its temporal layer; 0 is the base.
    pub(crate) fn temporal(self) -> u8 {
        self.place & 0x0f
    }

    /// Its spatial layer; 0 is the base.
    pub(crate) fn spatial(self) -> u8 {
        self.place >> 4
    }

    /// Whether it is the first of its frame.
    pub(crate) fn starts_frame(self) -> bool {
        self.flags & STARTS_FRAME != 0
    }

    /// Whether a receiver notices by its pictures' numbers when one is left out.
    pub(crate) fn is_counted(self) -> bool {
        self.flags & COUNTED != 0
    }

    /// Whether it is the last of its frame.
    pub(crate) fn ends_frame(self) -> bool {
        self.flags & ENDS_FRAME != 0
    }

    fn switches_up(self) -> bool {
        self.flags & SWITCHES_UP != 0
    }
}

/// Where a packet stands among the layers of its stream, and whether a key frame begins with it: by its
/// dependency descriptor where there is one, by its payload otherwise. `structure` is the one that the
/// stream's descriptors brought last.
pub(super) fn describe(
    payload_kind: Option<PayloadKind>,
    payload: &[u8],
    list: &[u8],
    structure: &mut Option<Box<Structure>>,
) -> (LayerStamp, bool) {
    let codec = match payload_kind {
        Some(PayloadKind::Video(codec)) => Some(codec),
        Some(PayloadKind::Opaque | PayloadKind::Red(_)) | None => None,
    };
    let is_counted = codec == Some(VideoCodec::Vp8);
    if let Some(layer) = described(list, structure) {
        let keyframe = layer.keyframe && layer.spatial == 0;
        return (LayerStamp::new(&layer, is_counted), keyframe);
    }
    let Some(codec) = codec else {
        return (LayerStamp::default(), false);
    };
    let layer = LayerStamp::new(&codec.layer(payload), is_counted);
    (layer, codec.starts_keyframe(payload))
}

/// What a dependency descriptor says. One that does not fit its stream says nothing.
fn described(list: &[u8], structure: &mut Option<Box<Structure>>) -> Option<Layer> {
    let value = extensions::dependency_descriptor(list)?;
    let descriptor = Descriptor::parse(value, structure.as_deref()).ok()?;
    if descriptor.carries_structure {
        *structure = Some(Box::new(Structure::parse(value).ok()?));
    }
    Some(Layer::from_descriptor(&descriptor, structure.as_deref()?))
}

/// More temporal layers than any stream has.
pub(super) const TEMPORAL_ALL: u8 = 7;
/// More spatial layers than any stream has.
pub(super) const SPATIAL_ALL: u8 = 7;

/// The highest layers that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Most {
    pub(super) spatial: u8,
    pub(super) temporal: u8,
}

impl Default for Most {
    fn default() -> Most {
        Most {
            spatial: SPATIAL_ALL,
            temporal: TEMPORAL_ALL,
        }
    }
}

/// Which layers of a stream one receiver is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layers {
    /// What is to be sent as soon as the stream lets it.
    pub(super) target: Most,
    /// What is sent now.
    now: Most,
    /// Nothing is sent before the next key frame.
    is_paused: bool,
}

impl Layers {
    /// A receiver that begins with a key frame: all of its target at once.
    pub(super) fn begin(&mut self, target: Most) {
        *self = Layers {
            target,
            now: target,
            is_paused: false,
        };
    }

    /// Sends nothing more until a key frame.
    pub(super) fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Whether nothing is sent before the next key frame.
    pub(super) fn is_paused(self) -> bool {
        self.is_paused
    }

    /// Whether a spatial layer that is wanted is not sent yet.
    pub(super) fn waits_for_spatial(self) -> bool {
        self.now.spatial < self.target.spatial
    }

    /// Whether the next packet of the stream is left out.
    pub(super) fn leaves_out(&mut self, stamp: LayerStamp, keyframe: bool) -> bool {
        if self.is_paused && !keyframe {
            return true;
        }
        if self.now == self.target && stamp.place == 0 {
            self.is_paused = false;
            return false;
        }
        let (spatial, temporal) = (stamp.spatial(), stamp.temporal());
        if keyframe {
            self.begin(self.target);
        } else if stamp.starts_frame() {
            self.step(stamp, spatial, temporal);
        }
        spatial > self.now.spatial || temporal > self.now.temporal
    }

    /// What the first packet of a frame changes.
    fn step(&mut self, stamp: LayerStamp, spatial: u8, temporal: u8) {
        let Layers { target, now, .. } = self;
        // A picture that is half there is finished: its layers follow each other, the base first.
        if spatial == 0 {
            now.spatial = now.spatial.min(target.spatial);
            now.temporal = now.temporal.min(target.temporal);
        }
        if !stamp.switches_up() {
            return;
        }
        if temporal > now.temporal && temporal <= target.temporal && spatial <= now.spatial {
            now.temporal = temporal;
        }
        if spatial > now.spatial && spatial <= target.spatial && temporal <= now.temporal {
            now.spatial = spatial;
        }
    }

    /// Whether the picture ends with this packet for a receiver that is sent no higher layer of it:
    /// RTP's marker bit is on the last packet of the picture.
    pub(super) fn ends_picture(self, stamp: LayerStamp) -> bool {
        stamp.ends_frame() && stamp.spatial() == self.now.spatial
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(spatial: u8, temporal: u8, switches_up: bool) -> LayerStamp {
        let layer = Layer {
            spatial,
            temporal,
            starts_frame: true,
            ends_frame: true,
            switches_up,
            ..Layer::default()
        };
        LayerStamp::new(&layer, true)
    }

    fn layers(target: Most) -> Layers {
        Layers {
            target,
            ..Layers::default()
        }
    }

    fn most(spatial: u8, temporal: u8) -> Most {
        Most { spatial, temporal }
    }

    #[test]
    fn a_receiver_goes_down_at_the_next_picture_and_up_where_it_may() {
        let mut layers = layers(most(7, 0));
        assert!(!layers.leaves_out(frame(0, 0, true), true));
        assert!(layers.leaves_out(frame(0, 2, true), false));
        assert!(layers.leaves_out(frame(0, 1, true), false));
        layers.target = most(7, 2);
        assert!(!layers.leaves_out(frame(0, 0, false), false));
        assert!(
            layers.leaves_out(frame(0, 2, false), false),
            "it leans on what was left out"
        );
        assert!(!layers.leaves_out(frame(0, 1, true), false));
        assert!(layers.leaves_out(frame(0, 2, false), false));
        assert!(!layers.leaves_out(frame(0, 2, true), false));
        layers.target = most(7, 1);
        assert!(layers.leaves_out(frame(0, 2, true), false), "at once");
        assert!(!layers.leaves_out(frame(0, 1, false), false));
    }

    #[test]
    fn spatial_layers_come_with_a_key_frame_and_the_picture_ends_with_the_highest_sent() {
        let mut layers = layers(most(0, 7));
        assert!(!layers.leaves_out(frame(0, 0, true), true));
        assert!(layers.ends_picture(frame(0, 0, true)));
        assert!(layers.leaves_out(frame(1, 0, false), false));
        layers.target = most(2, 7);
        assert!(layers.waits_for_spatial());
        assert!(!layers.leaves_out(frame(0, 0, false), false));
        assert!(layers.leaves_out(frame(2, 0, false), false));
        assert!(!layers.leaves_out(frame(0, 0, true), true));
        assert!(
            !layers.leaves_out(frame(1, 0, false), false)
                && !layers.leaves_out(frame(2, 0, false), false)
        );
        assert!(!layers.ends_picture(frame(0, 0, true)) && layers.ends_picture(frame(2, 0, false)));
        layers.target = most(1, 7);
        assert!(
            !layers.leaves_out(frame(2, 0, false), false),
            "the picture is finished"
        );
        assert!(!layers.leaves_out(frame(0, 1, false), false));
        assert!(layers.leaves_out(frame(2, 1, false), false));
    }
}
