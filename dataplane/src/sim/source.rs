//! What peers send: synthetic streams whose packets say who they are, or anything else by a trait.

use std::time::Duration;

/// One frame of media, ready for RTP: all its packets leave together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The payloads.
    pub payloads: Vec<Vec<u8>>,
    /// Time until the next frame; the RTP timestamp advances by as much.
    pub duration: Duration,
    /// Whether a receiver can start with it.
    pub is_key: bool,
}

/// Where a peer's frames come from.
pub trait MediaSource: Send {
    /// The next frame. `sent_us` is the time since the simulation's epoch, for stamps; a key frame
    /// should follow when the receiver wants one.
    fn next_frame(&mut self, sent_us: u64, key_wanted: bool) -> Frame;

    /// How loud the frame was that was taken last, in -dBov (RFC 6464).
    fn audio_level(&self) -> u8 {
        20
    }
}

/// The shape of a synthetic stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Time between frames.
    pub interval: Duration,
    /// Packets in an ordinary frame.
    pub packets: u16,
    /// Packets in a key frame.
    pub key_packets: u16,
    /// Bytes of each payload; at least [`Stamp::BYTES`].
    pub payload_bytes: usize,
}

impl Shape {
    /// Opus at 20 ms and about 32 kbit/s; every packet stands for itself.
    pub const AUDIO: Shape = Shape {
        interval: Duration::from_millis(20),
        packets: 1,
        key_packets: 1,
        payload_bytes: 80,
    };

    /// 720p at 30 frames and about 1.2 Mbit/s.
    pub const VIDEO: Shape = Shape {
        interval: Duration::from_nanos(33_333_333),
        packets: 5,
        key_packets: 25,
        payload_bytes: 1_000,
    };

    /// What somebody who is muted sends: DTX, a packet every 400 ms.
    pub const QUIET: Shape = Shape {
        interval: Duration::from_millis(400),
        packets: 1,
        key_packets: 1,
        payload_bytes: 40,
    };
}

/// What a synthetic payload begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The stream, unique in the simulation.
    pub stream: u32,
    /// The frame, from 0.
    pub frame: u32,
    /// The packet within the frame, from 0.
    pub packet: u16,
    /// Packets in the frame.
    pub packets: u16,
    /// Whether it is a key frame.
    pub is_key: bool,
    /// When it was sent, in microseconds since the simulation's epoch.
    pub sent_us: u64,
}

const MAGIC: [u8; 4] = *b"stmp";

/// What stands in front of a stamp in a packet that a decoder of VP8 would take for one of its own: a payload
/// descriptor of one byte (RFC 7741 section 4.2), and as many bytes as a key frame's header has (RFC 6386 section 9.1).
const VP8_BYTES: usize = 11;

impl Stamp {
    /// Size in bytes.
    pub const BYTES: usize = 25;

    /// A payload of `len` bytes (at least [`Stamp::BYTES`]) with this stamp and a filling that
    /// follows from it.
    #[must_use]
    pub fn payload(&self, len: usize) -> Vec<u8> {
        let mut payload = Vec::with_capacity(len.max(Stamp::BYTES));
        payload.extend_from_slice(&MAGIC);
        payload.extend_from_slice(&self.stream.to_be_bytes());
        payload.extend_from_slice(&self.frame.to_be_bytes());
        payload.extend_from_slice(&self.packet.to_be_bytes());
        payload.extend_from_slice(&self.packets.to_be_bytes());
        payload.push(u8::from(self.is_key));
        payload.extend_from_slice(&self.sent_us.to_be_bytes());
        payload.resize(len.max(Stamp::BYTES), self.filling());
        payload
    }

    /// The stamp of a payload. `Ok(None)` when it is not synthetic.
    ///
    /// # Errors
    ///
    /// Fails when it is, and its filling is not the one that was sent.
    pub fn read(payload: &[u8]) -> Result<Option<Stamp>, Damaged> {
        let is_vp8 = |inner: &&[u8]| inner.starts_with(&MAGIC);
        let payload = payload.get(VP8_BYTES..).filter(is_vp8).unwrap_or(payload);
        let Some((head, filling)) = payload.split_at_checked(Stamp::BYTES) else {
            return Ok(None);
        };
        let Some(rest) = head.strip_prefix(&MAGIC) else {
            return Ok(None);
        };
        let number = |from: usize, len: usize| {
            let bytes = rest.get(from..from + len).unwrap_or_default();
            bytes
                .iter()
                .fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let stamp = Stamp {
            stream: number(0, 4) as u32,
            frame: number(4, 4) as u32,
            packet: number(8, 2) as u16,
            packets: number(10, 2) as u16,
            is_key: number(12, 1) == 1,
            sent_us: number(13, 8),
        };
        if filling.iter().any(|byte| *byte != stamp.filling()) {
            return Err(Damaged);
        }
        Ok(Some(stamp))
    }

    fn filling(&self) -> u8 {
        (self.stream ^ self.frame ^ u32::from(self.packet)) as u8
    }
}

/// A synthetic payload did not arrive as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload is not the one that was sent")]
pub struct Damaged;

/// A stream of stamped frames; key frames come first and when wanted.
#[derive(Debug)]
pub struct Synthetic {
    stream: u32,
    shape: Shape,
    next_frame: u32,
}

impl Synthetic {
    /// A stream with this id and shape.
    #[must_use]
    pub fn new(stream: u32, shape: Shape) -> Synthetic {
        Synthetic {
            stream,
            shape,
            next_frame: 0,
        }
    }
}

impl MediaSource for Synthetic {
    fn next_frame(&mut self, sent_us: u64, key_wanted: bool) -> Frame {
        let every_frame_is_key = self.shape.key_packets == 1;
        let is_key = key_wanted || self.next_frame == 0 || every_frame_is_key;
        let packets = if is_key {
            self.shape.key_packets
        } else {
            self.shape.packets
        };
        let (stream, frame) = (self.stream, self.next_frame);
        let payloads = (0..packets)
            .map(|packet| Stamp {
                stream,
                frame,
                packet,
                packets,
                is_key,
                sent_us,
            })
            .map(|stamp| stamp.payload(self.shape.payload_bytes))
            .collect();
        self.next_frame += 1;
        Frame {
            payloads,
            duration: self.shape.interval,
            is_key,
        }
    }
}

/// A synthetic stream in the clothes of VP8: the engine finds its key frames.
#[derive(Debug)]
pub struct Vp8(pub Synthetic);

impl MediaSource for Vp8 {
    fn next_frame(&mut self, sent_us: u64, key_wanted: bool) -> Frame {
        let mut frame = self.0.next_frame(sent_us, key_wanted);
        for (index, payload) in frame.payloads.iter_mut().enumerate() {
            let mut dressed = vec![0; VP8_BYTES];
            // The first packet of a frame begins a partition; a key frame's tag has its lowest bit clear, and the
            // bytes that every key frame has, and a size.
            let head: [u8; VP8_BYTES] = match (index, frame.is_key) {
                (0, true) => [0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 64, 1, 240, 0],
                (0, false) => [0x10, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                (_, _) => [0; VP8_BYTES],
            };
            dressed.copy_from_slice(&head);
            dressed.append(payload);
            *payload = dressed;
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_survive_and_damage_shows() {
        let stamp = Stamp {
            stream: 7,
            frame: 70_000,
            packet: 3,
            packets: 9,
            is_key: true,
            sent_us: 1 << 40,
        };
        let mut payload = stamp.payload(100);
        assert_eq!(payload.len(), 100);
        assert_eq!(Stamp::read(&payload), Ok(Some(stamp)));
        payload[99] ^= 1;
        assert_eq!(Stamp::read(&payload), Err(Damaged));
        assert_eq!(Stamp::read(&[0x90; 200]), Ok(None));
        assert_eq!(Stamp::read(b"st"), Ok(None));
    }

    #[test]
    fn a_stamp_is_found_behind_the_headers_of_vp8() {
        let mut source = Vp8(Synthetic::new(3, Shape::VIDEO));
        let frame = source.next_frame(5, false);
        let first = frame.payloads.first().unwrap();
        assert!(crate::wire::VideoCodec::Vp8.starts_keyframe(first));
        let stamp = Stamp::read(first).unwrap().unwrap();
        assert_eq!((stamp.stream, stamp.is_key, stamp.sent_us), (3, true, 5));
        let next = source.next_frame(6, false);
        assert!(!crate::wire::VideoCodec::Vp8.starts_keyframe(next.payloads.first().unwrap()));
    }
}
