//! What a person's camera is sent as: one stream, or several of different sizes.

use std::sync::Arc;

use super::clip::{Clip, ClipError};

/// Names of the encodings of simulcast, the smallest first, as the page calls its own.
pub(crate) const RIDS: [&str; 3] = ["q", "h", "f"];

/// The smallest and the largest size of the recording in `benches/media/`.
const SMALL: &[u8] = include_bytes!("../../media/people-small.ivf");
const LARGE: &[u8] = include_bytes!("../../media/people-large.ivf");

/// What everybody shows.
#[derive(Clone, Debug)]
pub enum Encodings {
    /// One stream of one recording.
    One(Arc<Clip>),
    /// One recording in three sizes, the smallest first, sent at once as simulcast (RFC 8853); of
    /// others' pictures they want the smallest.
    Simulcast([Arc<Clip>; RIDS.len()]),
}

impl Encodings {
    /// The recording that comes with the program, as one stream.
    #[must_use]
    pub fn people() -> Encodings {
        Encodings::One(Arc::new(Clip::people()))
    }

    /// The recording that comes with the program, in three sizes: 160x90, 320x180 and 640x360.
    ///
    /// # Errors
    ///
    /// Never: a test reads them.
    pub fn people_in_three() -> Result<Encodings, ClipError> {
        let [small, large] = [Clip::parse(SMALL)?, Clip::parse(LARGE)?];
        Ok(Encodings::Simulcast(
            [small, Clip::people(), large].map(Arc::new),
        ))
    }

    /// Whether there are several.
    pub(crate) fn is_simulcast(&self) -> bool {
        matches!(self, Encodings::Simulcast(_))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dataplane::sim::source::MediaSource as _;

    use super::super::clip::Camera;
    use super::*;

    #[test]
    fn three_sizes_go_together_and_weigh_what_they_should() {
        let Encodings::Simulcast(clips) = Encodings::people_in_three().unwrap() else {
            panic!("three of them");
        };
        let kilobits = clips.map(|clip| {
            let mut camera = Camera::new(clip, 0, Arc::default());
            let frames: Vec<_> = (0..90).map(|_| camera.next_frame(0, false)).collect();
            for (index, frame) in frames.iter().enumerate() {
                assert_eq!(frame.is_key, index % 30 == 0, "frame {index}");
            }
            let shown: Duration = frames.iter().map(|frame| frame.duration).sum();
            assert_eq!(shown.as_millis(), 2_999, "three seconds, but for rounding");
            let bytes = frames.iter().flat_map(|f| &f.payloads).map(Vec::len);
            bytes.sum::<usize>() * 8 / 3_000
        });
        assert!(
            matches!(kilobits, [40..60, 330..380, 550..650]),
            "{kilobits:?}"
        );
    }
}
