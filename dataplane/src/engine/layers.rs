//! The layers of a stream: where a packet stands among them, and which of them one receiver is sent.
//!
//! Temporal layers make a stream's frames fewer, spatial layers make its pictures smaller. A receiver
//! goes down at once, at the next picture, and up where the stream says that one may: at a key frame, or
//! where a frame leans on nothing that the receiver was not sent.
//!
//! Where spatial layers lean on each other in key pictures only (as in L3T3_KEY), a receiver is sent the
//! frames of one layer, with nothing below it, from the key picture to the next. It needs no others, and
//! Chromium stands still at the loss of one that it could have done without: it decodes the rest of the
//! picture, and then nothing that leans on the lost frame, until it asks for a key frame seconds later.
//! From one layer to another such a receiver goes by a key frame, as between encodings.

use serde::{Deserialize, Serialize};

use super::extensions;
use super::spatial::SpatialTop;
use crate::command::PayloadKind;
use crate::wire::dependency_descriptor::{Descriptor, Structure};
use crate::wire::{Layer, VideoCodec};

/// A packet's place among the layers of its stream, as the log keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LayerStamp {
    /// Temporal layer in the lower four bits, spatial layer in the next three, and [`SPARED`].
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
/// Who took only lower spatial layers may take this one from here on.
const OPENS: u8 = 1 << 4;

/// There are higher spatial layers, and they do without this frame.
const SPARED: u8 = 1 << 7;

impl LayerStamp {
    /// From what its descriptor says.
    pub(crate) fn new(layer: &Layer, is_counted: bool) -> LayerStamp {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        LayerStamp {
            place: layer.temporal.min(TEMPORAL_ALL) | (layer.spatial.min(SPATIAL_ALL) << 4),
            flags: flag(layer.starts_frame, STARTS_FRAME)
                | flag(layer.ends_frame, ENDS_FRAME)
                | flag(layer.switches_up, SWITCHES_UP)
                | flag(layer.keyframe, OPENS)
                | flag(is_counted, COUNTED),
        }
    }

    /// The same, of a frame that higher spatial layers do without.
    pub(super) fn spared(self) -> LayerStamp {
        LayerStamp {
            place: self.place | SPARED,
            ..self
        }
    }

    /// Whether there are higher spatial layers, and they do without this frame.
    pub(super) fn is_spared(self) -> bool {
        self.place & SPARED != 0
    }

    /// Its temporal layer; 0 is the base.
    pub(crate) fn temporal(self) -> u8 {
        self.place & 0x0f
    }

    /// Its spatial layer; 0 is the base.
    pub(crate) fn spatial(self) -> u8 {
        (self.place & !SPARED) >> 4
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

    fn opens(self) -> bool {
        self.flags & OPENS != 0
    }
}

/// Where a packet stands among the layers of its stream, and whether a key frame begins with it: by its
/// dependency descriptor where there is one, by its payload otherwise. `structure` is the one that the
/// stream's descriptors brought last, `top` what its pictures had until now.
pub(super) fn describe(
    payload_kind: Option<PayloadKind>,
    payload: &[u8],
    list: &[u8],
    structure: &mut Option<Box<Structure>>,
    top: &mut SpatialTop,
) -> (LayerStamp, bool) {
    let codec = match payload_kind {
        Some(PayloadKind::Video(codec)) => Some(codec),
        Some(PayloadKind::Opaque | PayloadKind::Red(_)) | None => None,
    };
    let is_counted = codec == Some(VideoCodec::Vp8);
    if let Some(layer) = described(list, structure) {
        let keyframe = layer.keyframe && layer.spatial == 0;
        let stamp = LayerStamp::new(&layer, is_counted);
        return (
            top.handle_packet(stamp, layer.unused_above, keyframe),
            keyframe,
        );
    }
    let Some(codec) = codec else {
        return (LayerStamp::default(), false);
    };
    let (layer, keyframe) = (codec.layer(payload), codec.starts_keyframe(payload));
    let stamp = LayerStamp::new(&layer, is_counted);
    (
        top.handle_packet(stamp, layer.unused_above, keyframe),
        keyframe,
    )
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layers {
    /// What is to be sent as soon as the stream lets it.
    target: Most,
    /// What is sent now.
    now: Most,
    /// What holds until the next key frame: [`PAUSED`], [`THINNED`] and [`BARE`].
    flags: u8,
}

/// Nothing is sent.
const PAUSED: u8 = 1;
/// Only the lowest temporal layer is sent.
const THINNED: u8 = 1 << 1;
/// Frames of lower spatial layers were left out.
const BARE: u8 = 1 << 2;

impl Layers {
    /// A receiver that begins with a key frame: all of its target at once.
    pub(super) fn begin(&mut self, target: Most) {
        *self = Layers {
            target,
            now: target,
            ..Layers::default()
        };
    }

    /// Goes there as soon as the stream lets it.
    pub(super) fn aim(&mut self, target: Most) {
        self.target = target;
        self.flags &= !THINNED;
    }

    /// Sends nothing more until a key frame.
    pub(super) fn pause(&mut self) {
        self.flags |= PAUSED;
    }

    /// Sends only what cannot be missed until a key frame.
    pub(super) fn thin(&mut self) {
        self.flags |= THINNED;
    }

    /// Whether nothing is sent before the next key frame.
    pub(super) fn is_paused(self) -> bool {
        self.flags & PAUSED != 0
    }

    fn is_bare(self) -> bool {
        self.flags & BARE != 0
    }

    /// Whether a higher spatial layer is sent than is wanted, and only a key frame leads down.
    pub(super) fn falls_by_keyframe(self) -> bool {
        self.is_bare() && self.target.spatial < self.now.spatial
    }

    /// Whether only a key frame leads to what is wanted.
    pub(super) fn waits_for_keyframe(self) -> bool {
        self.is_paused() || self.now.spatial < self.target.spatial || self.falls_by_keyframe()
    }

    /// Whether the next packet of the stream is left out.
    #[inline]
    pub(super) fn leaves_out(&mut self, stamp: LayerStamp, keyframe: bool) -> bool {
        if keyframe {
            self.begin(self.target);
        }
        // The usual case: of a stream without layers, or the lowest of them.
        if stamp.place == 0 && self.now == self.target && !self.is_paused() {
            return false;
        }
        self.is_paused() || self.leaves_out_layer(stamp, keyframe)
    }

    fn leaves_out_layer(&mut self, stamp: LayerStamp, keyframe: bool) -> bool {
        let (spatial, temporal) = (stamp.spatial(), stamp.temporal());
        if !keyframe && stamp.starts_frame() {
            self.step(stamp, spatial, temporal);
        }
        if stamp.is_spared() && spatial < self.now.spatial {
            self.flags |= BARE;
            return true;
        }
        spatial > self.now.spatial || temporal > self.now.temporal
    }

    /// What the first packet of a frame changes.
    fn step(&mut self, stamp: LayerStamp, spatial: u8, temporal: u8) {
        let (is_thinned, is_bare) = (self.flags & THINNED != 0, self.is_bare());
        let Layers { target, now, .. } = self;
        let temporal_target = if is_thinned { 0 } else { target.temporal };
        // A picture that is half there is finished: its layers follow each other, the base first.
        if spatial == 0 {
            now.temporal = now.temporal.min(temporal_target);
            if !is_bare {
                now.spatial = now.spatial.min(target.spatial);
            }
        }
        // One layer at a time: a frame may lean on the next lower one even where it is a switch.
        let is_next = temporal == now.temporal + 1 && temporal <= temporal_target;
        if is_next && stamp.switches_up() && spatial <= now.spatial {
            now.temporal = temporal;
        }
        let is_above = spatial == now.spatial + 1 && spatial <= target.spatial;
        if is_above && stamp.opens() && temporal <= now.temporal {
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
    use super::super::extensions::DEPENDENCY_DESCRIPTOR;
    use super::*;
    use crate::wire::dependency_descriptor::writer::{L3T3, L3T3_KEY, Packet, Script};
    use crate::wire::generator::Generator;

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
        layers.aim(most(7, 2));
        assert!(!layers.leaves_out(frame(0, 0, false), false));
        assert!(
            layers.leaves_out(frame(0, 2, false), false),
            "it leans on what was left out"
        );
        assert!(!layers.leaves_out(frame(0, 1, true), false));
        assert!(layers.leaves_out(frame(0, 2, false), false));
        assert!(!layers.leaves_out(frame(0, 2, true), false));
        layers.aim(most(7, 1));
        assert!(layers.leaves_out(frame(0, 2, true), false), "at once");
        assert!(!layers.leaves_out(frame(0, 1, false), false));
    }

    #[test]
    fn spatial_layers_come_with_a_key_frame_and_the_picture_ends_with_the_highest_sent() {
        let mut layers = layers(most(0, 7));
        assert!(!layers.leaves_out(frame(0, 0, true), true));
        assert!(layers.ends_picture(frame(0, 0, true)));
        assert!(layers.leaves_out(frame(1, 0, false), false));
        layers.aim(most(2, 7));
        assert!(layers.waits_for_keyframe());
        assert!(!layers.leaves_out(frame(0, 0, false), false));
        assert!(layers.leaves_out(frame(2, 0, false), false));
        assert!(!layers.leaves_out(frame(0, 0, true), true));
        assert!(
            !layers.leaves_out(frame(1, 0, false), false)
                && !layers.leaves_out(frame(2, 0, false), false)
        );
        assert!(!layers.ends_picture(frame(0, 0, true)) && layers.ends_picture(frame(2, 0, false)));
        layers.aim(most(1, 7));
        assert!(
            !layers.leaves_out(frame(2, 0, false), false),
            "the picture is finished"
        );
        assert!(!layers.leaves_out(frame(0, 1, false), false));
        assert!(layers.leaves_out(frame(2, 1, false), false));
    }

    /// A picture's templates, lowest layer first.
    type Picture = [u8; 3];

    /// Key pictures are so many pictures apart.
    const KEY_PICTURES: usize = 24;

    /// A receiver that changes its layers at random follows a stream of libwebrtc's: `key` are the
    /// templates of its key pictures, the others go through `rest`. What it is sent of each picture.
    fn follow(script: &Script, key: Picture, rest: &[Picture], seed: u64) -> Vec<Vec<u8>> {
        let mut generator = Generator::new(seed);
        let (mut structure, mut top) = (None, SpatialTop::default());
        let (mut layers, mut sent, mut pictures) = (Layers::default(), 0_u64, Vec::new());
        let mut frame_number = 0_u16;
        for number in 0..50 * KEY_PICTURES {
            let after_key = number % KEY_PICTURES;
            if after_key > 0 && generator.below(8) == 0 {
                layers.aim(most(generator.below(3) as u8, generator.below(3) as u8));
            }
            let templates = match after_key {
                0 => key,
                _ => rest[(after_key - 1) % rest.len()],
            };
            let mut taken = Vec::new();
            for template in templates {
                let value = script.write(&Packet {
                    starts_frame: true,
                    ends_frame: true,
                    template,
                    frame_number,
                    with_structure: after_key == 0 && template == key[0],
                    ..Packet::default()
                });
                let list = [&[DEPENDENCY_DESCRIPTOR, value.len() as u8], &value[..]].concat();
                let kind = Some(PayloadKind::Opaque);
                let (stamp, keyframe) = describe(kind, &[], &list, &mut structure, &mut top);
                let descriptor = Descriptor::parse(&value, structure.as_deref()).unwrap();
                let is_sent = !layers.leaves_out(stamp, keyframe);
                assert!(
                    !is_sent || descriptor.references.are_among(sent),
                    "frame {frame_number} leans on one that was not sent"
                );
                sent = (sent << 1) | u64::from(is_sent);
                frame_number = frame_number.wrapping_add(1);
                if is_sent {
                    taken.push(stamp.spatial());
                }
            }
            pictures.push(taken);
        }
        pictures
    }

    #[test]
    fn whatever_a_receiver_changes_to_it_is_sent_nothing_that_it_cannot_decode() {
        for seed in 0..20 {
            let rest = [[3, 8, 13], [2, 7, 12], [4, 9, 14], [0, 5, 10]];
            let pictures = follow(&L3T3, [1, 6, 11], &rest, seed);
            assert!(pictures.contains(&vec![0, 1, 2]));
            let rest = [[3, 8, 13], [2, 7, 12], [4, 9, 14], [1, 6, 11]];
            let pictures = follow(&L3T3_KEY, [0, 5, 10], &rest, seed);
            for (number, picture) in pictures.iter().enumerate() {
                let is_key = number % KEY_PICTURES == 0;
                assert!(is_key || picture.len() <= 1, "{number} {picture:?}");
            }
            assert!(pictures.contains(&vec![0]) && pictures.contains(&vec![2]));
        }
    }

    #[test]
    fn a_receiver_of_one_layer_goes_down_by_a_key_frame_and_thins_or_waits_until_then() {
        let spared = |spatial, temporal| frame(spatial, temporal, true).spared();
        let mut layers = layers(Most::default());
        assert!(!layers.leaves_out(frame(0, 0, true), true));
        assert!(layers.leaves_out(spared(0, 0), false));
        assert!(!layers.leaves_out(frame(2, 0, true), false));
        layers.aim(most(0, 7));
        assert!(layers.falls_by_keyframe() && layers.waits_for_keyframe());
        layers.thin();
        assert!(
            layers.leaves_out(spared(0, 0), false),
            "what it leans on was left out"
        );
        assert!(!layers.leaves_out(frame(2, 0, true), false));
        assert!(layers.leaves_out(spared(0, 1), false));
        assert!(layers.leaves_out(frame(2, 1, true), false));
        layers.pause();
        assert!(layers.leaves_out(frame(2, 0, true), false));
        assert!(!layers.leaves_out(frame(0, 0, true), true));
        assert!(layers.leaves_out(frame(2, 0, true), false));
        assert!(!layers.leaves_out(spared(0, 1), false));
        assert!(!layers.waits_for_keyframe());
    }
}
