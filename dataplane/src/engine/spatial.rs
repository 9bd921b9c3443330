//! Up to which spatial layer the pictures of a stream go now.
//!
//! Where higher layers do without a lower one's frames, whoever is sent the highest is sent nothing else.
//! When an encoder then stops its highest layer, which it may do in any picture, it takes a key picture to
//! lead its viewers down: one is asked for, and from it on the layers that are left are all there are.

use serde::{Deserialize, Serialize};

use super::layers::LayerStamp;

/// So many pictures one after the other without the highest layer, and it is gone.
const PICTURES_MISSED_MAX: u8 = 5;

/// The highest spatial layer of a stream, by the packets that come.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct SpatialTop {
    /// The highest layer.
    top: u8,
    /// The highest of the picture that is coming in, and of those since the highest layer was there.
    seen: u8,
    /// Whether the picture has frames that higher layers do without.
    has_spared: bool,
    /// Pictures since the highest layer was there.
    missed: u8,
}

impl SpatialTop {
    /// A packet came, of a frame that higher layers do without if `unused_above`; its stamp says so from
    /// here on, if there are any.
    pub(super) fn handle_packet(
        &mut self,
        stamp: LayerStamp,
        unused_above: bool,
        keyframe: bool,
    ) -> LayerStamp {
        let spatial = stamp.spatial();
        if spatial == 0 && stamp.starts_frame() {
            self.end_picture(keyframe);
        }
        self.seen = self.seen.max(spatial);
        if spatial >= self.top {
            (self.top, self.missed) = (spatial, 0);
            return stamp;
        }
        if !unused_above {
            return stamp;
        }
        self.has_spared = true;
        stamp.spared()
    }

    fn end_picture(&mut self, keyframe: bool) {
        if self.is_gone() && keyframe {
            (self.top, self.missed) = (self.seen, 0);
        } else if self.has_spared && self.seen < self.top {
            self.missed = self.missed.saturating_add(1);
        }
        if self.missed == 0 {
            self.seen = 0;
        }
        self.has_spared = false;
    }

    /// Whether the highest layer has gone, and those who were sent it alone need a key picture.
    pub(super) fn is_gone(&self) -> bool {
        self.missed >= PICTURES_MISSED_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Layer;

    /// A picture of these spatial layers, one packet each; what is spared of it.
    fn picture(top: &mut SpatialTop, layers: &[u8], keyframe: bool) -> Vec<u8> {
        let mut spared = Vec::new();
        for &spatial in layers {
            let layer = Layer {
                spatial,
                starts_frame: true,
                keyframe,
                ..Layer::default()
            };
            let stamp = LayerStamp::new(&layer, false);
            let starts = keyframe && spatial == 0;
            let stamp = top.handle_packet(stamp, !keyframe || spatial == 2, starts);
            if stamp.is_spared() {
                spared.push(spatial);
            }
        }
        spared
    }

    #[test]
    fn what_higher_layers_do_without_is_told_from_the_highest() {
        let mut top = SpatialTop::default();
        assert_eq!(picture(&mut top, &[0, 1, 2], true), [0_u8; 0]);
        assert_eq!(picture(&mut top, &[0, 1, 2], false), [0, 1]);
        let mut alone = SpatialTop::default();
        assert_eq!(picture(&mut alone, &[0], true), [0_u8; 0]);
        assert_eq!(picture(&mut alone, &[0], false), [0_u8; 0]);
    }

    #[test]
    fn a_highest_layer_that_stays_away_is_given_up_at_the_next_key_picture() {
        let mut top = SpatialTop::default();
        picture(&mut top, &[0, 1, 2], true);
        for _ in 0..20 {
            picture(&mut top, &[0, 1, 2], false);
            picture(&mut top, &[0, 1], false);
            assert!(!top.is_gone(), "one frame may be lost");
        }
        for _ in 0..PICTURES_MISSED_MAX {
            assert_eq!(picture(&mut top, &[0, 1], false), [0, 1]);
        }
        picture(&mut top, &[0, 1], false);
        assert!(top.is_gone());
        picture(&mut top, &[0, 1], true);
        assert!(!top.is_gone());
        assert_eq!(picture(&mut top, &[0, 1], false), [0]);
        assert_eq!(picture(&mut top, &[0, 1, 2], true), [0_u8; 0], "it is back");
        assert_eq!(picture(&mut top, &[0, 1, 2], false), [0, 1]);
    }
}
