//! Recorded VP8 that goes round and round: an IVF file, and the source that plays it.

use std::sync::Arc;
use std::time::Duration;

use dataplane::sim::source::{Frame, MediaSource};

use super::publishers::SentTimes;
use super::vp8;

/// The recording in `benches/media/`.
const PEOPLE: &[u8] = include_bytes!("../../media/people.ivf");

/// Bytes of an IVF file's header and of a frame's.
const FILE_HEADER: usize = 32;
const FRAME_HEADER: usize = 12;

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// It is something else.
    #[error("this is no IVF file: it begins with `DKIF` and has a header of 32 bytes")]
    NotIvf,
    /// Another codec.
    #[error("the IVF file holds `{0}`: VP8 is needed (ffmpeg -c:v libvpx)")]
    Codec(String),
    /// A time base of nothing.
    #[error("the IVF file says that it has no frames in a second")]
    Rate,
    /// Nothing to begin with.
    #[error("the IVF file does not begin with a key frame")]
    NoKeyFrame,
}

/// Frames of VP8 at a constant rate, the first of them a key frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clip {
    frames: Vec<Vec<u8>>,
    interval: Duration,
}

impl Clip {
    /// The recording that comes with the program.
    ///
    /// # Panics
    ///
    /// Never: a test reads it.
    #[must_use]
    pub fn people() -> Clip {
        Clip::parse(PEOPLE).expect("the recording that is compiled in is read by a test")
    }

    /// Reads an IVF file. What is cut off at its end is left out.
    ///
    /// # Errors
    ///
    /// A sentence that says why it cannot be played.
    pub fn parse(file: &[u8]) -> Result<Clip, ClipError> {
        let (header, mut rest) = file
            .split_at_checked(FILE_HEADER)
            .filter(|(header, _)| header.starts_with(b"DKIF"))
            .ok_or(ClipError::NotIvf)?;
        let codec = header.get(8..12).unwrap_or_default();
        if codec != b"VP80" {
            return Err(ClipError::Codec(codec.escape_ascii().to_string()));
        }
        let (rate, scale) = (u32_le(header, 16), u32_le(header, 20));
        if rate == 0 || scale == 0 {
            return Err(ClipError::Rate);
        }
        let mut frames = Vec::new();
        while let Some((header, body)) = rest.split_at_checked(FRAME_HEADER) {
            let Some((frame, next)) = body.split_at_checked(u32_le(header, 0) as usize) else {
                break;
            };
            frames.push(frame.to_vec());
            rest = next;
        }
        if !frames.first().is_some_and(|frame| vp8::is_key(frame)) {
            return Err(ClipError::NoKeyFrame);
        }
        let interval = Duration::from_secs(1) * scale / rate;
        Ok(Clip { frames, interval })
    }
}

fn u32_le(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

/// A clip that is played again and again, from a key frame on when one is wanted.
///
/// Picture ids go on over the turns, so that a receiver sees one endless stream.
#[derive(Debug)]
pub(crate) struct Camera {
    clip: Arc<Clip>,
    next: usize,
    picture_id: u16,
    sent: Arc<SentTimes>,
}

impl Camera {
    /// Begins at the `start`th key frame of the clip, so that not everybody looks alike.
    pub(crate) fn new(clip: Arc<Clip>, start: usize, sent: Arc<SentTimes>) -> Camera {
        let keys: Vec<usize> = (0..clip.frames.len())
            .filter(|at| clip.frames.get(*at).is_some_and(|f| vp8::is_key(f)))
            .collect();
        let next = keys.get(start % keys.len().max(1)).copied().unwrap_or(0);
        Camera {
            clip,
            next,
            picture_id: 0,
            sent,
        }
    }

    /// The next frame from here on that is a key frame; the first one is, so there is one.
    fn skip_to_key(&mut self) {
        let frames = &self.clip.frames;
        self.next = (self.next..frames.len())
            .find(|at| frames.get(*at).is_some_and(|f| vp8::is_key(f)))
            .unwrap_or(0);
    }
}

impl MediaSource for Camera {
    fn next_frame(&mut self, sent_us: u64, key_wanted: bool) -> Frame {
        if key_wanted {
            self.skip_to_key();
        }
        let Some(frame) = self.clip.frames.get(self.next) else {
            return Frame::default();
        };
        self.next = (self.next + 1) % self.clip.frames.len();
        let picture_id = self.picture_id;
        self.picture_id = (picture_id + 1) & vp8::PICTURE_ID_MAX;
        self.sent.note(picture_id, sent_us);
        Frame {
            payloads: vp8::packets(frame, picture_id),
            duration: self.clip.interval,
            is_key: vp8::is_key(frame),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_goes_round_and_starts_anew_when_asked() {
        let clip = Arc::new(Clip::people());
        assert_eq!(clip.frames.len(), 90);
        let mut camera = Camera::new(clip.clone(), 0, Arc::default());
        let keys: Vec<bool> = (0..180)
            .map(|_| camera.next_frame(0, false).is_key)
            .collect();
        for (index, is_key) in keys.iter().enumerate() {
            assert_eq!(*is_key, index % 30 == 0, "frame {index}");
        }
        let shown: Duration = (0..90).map(|_| camera.next_frame(0, false).duration).sum();
        assert_eq!(shown.as_millis(), 2_999, "three seconds, but for rounding");

        let mut camera = Camera::new(clip, 1, Arc::default());
        assert!(camera.next_frame(0, false).is_key, "it begins with one");
        assert!(!camera.next_frame(0, false).is_key);
        assert!(camera.next_frame(0, true).is_key, "asked for");
    }

    #[test]
    fn what_is_no_recording_is_refused_with_a_reason() {
        let mut other = PEOPLE.to_vec();
        assert!(matches!(Clip::parse(b"GIF89a"), Err(ClipError::NotIvf)));
        other[11] = b'9';
        assert!(matches!(Clip::parse(&other), Err(ClipError::Codec(_))));
        let cut = Clip::parse(&PEOPLE[..PEOPLE.len() - 1]).unwrap();
        assert_eq!(cut.frames.len(), 89);
        assert!(matches!(
            Clip::parse(&PEOPLE[..40]),
            Err(ClipError::NoKeyFrame)
        ));
    }
}
