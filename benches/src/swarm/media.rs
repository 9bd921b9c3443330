//! What these clients send: frames of a given shape whose packets say when they left, or recordings.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use dataplane::command::MediaKind;
use dataplane::sim::source::{Frame, MediaSource};

use crate::peers::clip::{Camera, Clip};
use crate::peers::publishers::SentTimes;
use crate::peers::tune::{Microphone, Tune};

/// Where the stamp stands in a payload: behind what a VP8 frame begins with.
const STAMP_AT: usize = 16;

const MAGIC: [u8; 4] = *b"mill";

/// Bytes of the smallest payload that holds a stamp.
const PAYLOAD_MIN: usize = STAMP_AT + MAGIC.len() + 8;

/// Bytes of the largest payload that fits a datagram everywhere.
const PAYLOAD_MAX: usize = 1_200;

/// Frames a second, packets a frame, bytes a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Frames a second.
    pub rate: u32,
    /// Packets in a frame.
    pub packets: u16,
    /// Packets in a key frame.
    pub key_packets: u16,
    /// Bytes of RTP payload in a packet.
    pub bytes: usize,
}

/// A shape that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a shape as FRAMESxPACKETSxBYTES or FRAMESxPACKETS/KEYxBYTES, as 30x10x1150 or 30x4/25x1100, \
     with 1 to 1000 frames a second, 1 to 255 packets and {PAYLOAD_MIN} to {PAYLOAD_MAX} bytes"
)]
pub struct ShapeError;

impl FromStr for Shape {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Shape, ShapeError> {
        let mut parts = text.split('x');
        let (Some(rate), Some(packets), Some(bytes), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ShapeError);
        };
        let (packets, key_packets) = packets.split_once('/').unwrap_or((packets, packets));
        let shape = Shape {
            rate: rate.parse().map_err(|_| ShapeError)?,
            packets: packets.parse().map_err(|_| ShapeError)?,
            key_packets: key_packets.parse().map_err(|_| ShapeError)?,
            bytes: bytes.parse().map_err(|_| ShapeError)?,
        };
        let fits = (1..=1_000).contains(&shape.rate)
            && (1..=255).contains(&shape.packets)
            && (1..=255).contains(&shape.key_packets)
            && (PAYLOAD_MIN..=PAYLOAD_MAX).contains(&shape.bytes);
        fits.then_some(shape).ok_or(ShapeError)
    }
}

/// What a publisher sends on one stream.
#[derive(Clone, Debug)]
pub enum Media {
    /// Stamped frames.
    Shaped(MediaKind, Shape),
    /// A recording of VP8.
    Clip(Arc<Clip>),
    /// A recording of Opus.
    Tune(Arc<Tune>),
}

impl Media {
    pub(super) fn kind(&self) -> MediaKind {
        match self {
            Media::Shaped(kind, _) => *kind,
            Media::Clip(_) => MediaKind::Video,
            Media::Tune(_) => MediaKind::Audio,
        }
    }

    /// A source of it; nobody begins a recording where the one before does.
    pub(super) fn source(&self, number: usize, sent: &Arc<SentTimes>) -> Box<dyn MediaSource> {
        match self {
            Media::Shaped(_, shape) => Box::new(Shaped::new(*shape)),
            Media::Clip(clip) => Box::new(Camera::new(clip.clone(), number, sent.clone())),
            Media::Tune(tune) => Box::new(Microphone::new(tune.clone(), number * 17)),
        }
    }

    /// Between two frames, if that is known beforehand.
    pub(super) fn interval(&self) -> Duration {
        match self {
            Media::Shaped(_, shape) => Duration::from_secs(1) / shape.rate,
            Media::Clip(_) => Duration::from_millis(33),
            Media::Tune(_) => Duration::from_millis(20),
        }
    }
}

/// Stamped frames that a server takes for VP8 (RFC 7741) or, single packets, for Opus.
#[derive(Debug)]
struct Shaped {
    shape: Shape,
    frames: u64,
    picture_id: u16,
}

impl Shaped {
    fn new(shape: Shape) -> Shaped {
        Shaped {
            shape,
            frames: 0,
            picture_id: 0,
        }
    }
}

impl MediaSource for Shaped {
    fn next_frame(&mut self, sent_us: u64, key_wanted: bool) -> Frame {
        let is_key = key_wanted || self.frames == 0;
        self.frames += 1;
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        let [high, low] = self.picture_id.to_be_bytes();
        let count = if is_key {
            self.shape.key_packets
        } else {
            self.shape.packets
        };
        let payloads = (0..count).map(|number| {
            let mut payload = vec![0x5a; self.shape.bytes];
            let start = if number == 0 { 0x10 } else { 0 };
            // Descriptor with a picture id of 15 bits; then the frame's tag, whose bit 0 is clear in
            // a key frame, the start code and a size (RFC 6386 section 9.1).
            let tag = if is_key { 0x10 } else { 0x11 };
            let head = [
                0x80 | start,
                0x80,
                0x80 | high,
                low,
                tag,
                2,
                0,
                0x9d,
                0x01,
                0x2a,
                0,
                5,
                0xd0,
                2,
            ];
            if let Some(room) = payload.get_mut(..head.len()) {
                room.copy_from_slice(&head);
            }
            if let Some(room) = payload.get_mut(STAMP_AT..STAMP_AT + 4) {
                room.copy_from_slice(&MAGIC);
            }
            if let Some(room) = payload.get_mut(STAMP_AT + 4..STAMP_AT + 12) {
                room.copy_from_slice(&sent_us.to_be_bytes());
            }
            payload
        });
        Frame {
            payloads: payloads.collect(),
            duration: Duration::from_secs(1) / self.shape.rate,
            is_key,
        }
    }
}

/// When a stamped payload left, in microseconds of the load's time.
pub(super) fn stamp(payload: &[u8]) -> Option<u64> {
    let stamp = payload.get(STAMP_AT..)?.strip_prefix(&MAGIC)?;
    Some(u64::from_be_bytes(*stamp.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::vp8::Descriptor;

    #[test]
    fn shapes_of_frames() {
        let shape: Shape = "30x10x1150".parse().unwrap();
        assert_eq!(
            (shape.rate, shape.key_packets, shape.bytes),
            (30, 10, 1_150)
        );
        let shape: Shape = "30x4/25x1100".parse().unwrap();
        assert_eq!((shape.packets, shape.key_packets), (4, 25));
        for wrong in [
            "30x10",
            "0x1x100",
            "30x10x9000",
            "30x10x10",
            "axbxc",
            "1x2x300x4",
        ] {
            assert_eq!(wrong.parse::<Shape>(), Err(ShapeError), "{wrong}");
        }
    }

    #[test]
    fn a_frame_says_when_it_left_and_whether_it_is_a_key_frame() {
        let mut source = Shaped::new("30x3x100".parse().unwrap());
        let first = source.next_frame(77, false);
        assert_eq!(first.payloads.len(), 3);
        assert!(first.payloads.iter().all(|p| stamp(p) == Some(77)));
        let key = |frame: &Frame| Descriptor::parse(&frame.payloads[0]).unwrap().is_key;
        assert!(key(&first));
        assert!(!key(&source.next_frame(78, false)));
        assert!(key(&source.next_frame(79, true)));
        assert_eq!(stamp(&[0; 40]), None);
        assert_eq!(stamp(&[0; 4]), None);
    }
}
