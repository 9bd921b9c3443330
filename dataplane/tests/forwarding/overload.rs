//! More to send than there is room for: what is left out, in which order, and how it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use dataplane::command::{Command, Feed, Format, MediaKind, PayloadKind, SenderFormat, TrackSpec};
use dataplane::id::{PayloadType, SenderId, TrackId};
use dataplane::limits::{AUDIO_LATE, VIDEO_LATE};
use dataplane::wire::VideoCodec;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

use crate::world::*;

const SUBSCRIBERS: u64 = 10;
const STEP: Duration = Duration::from_millis(10);
const PACKETS_PER_FRAME: u16 = 10;
const CAMERA: u64 = 1;
const MICROPHONE: u64 = 2;

/// VP8 that begins a key frame, goes on with a frame, or begins any other.
const KEY: [u8; 2] = [0x10, 0x10];
const MORE: [u8; 2] = [0x00, 0x10];
const DELTA: [u8; 2] = [0x10, 0x11];

/// A publisher with camera and microphone, and everybody who receives both.
struct Scene {
    world: World,
    publisher: Peer,
    subscribers: Vec<Peer>,
    steps: u16,
    frames: u16,
    voices: u16,
    wants_keyframe: bool,
    /// What the engine asks of the publisher is lost.
    is_deaf: bool,
    keyframes: BTreeSet<u32>,
    received: Vec<Received>,
}

/// What one subscriber got.
#[derive(Clone, Debug, Default)]
struct Received {
    voices: Vec<u16>,
    /// RTP timestamps of whole frames, in order.
    frames: Vec<u32>,
    packets_of_frame: u16,
}

impl Scene {
    fn new() -> Scene {
        let mut world = World::new();
        let publisher = Peer::connect(&mut world, 1);
        let camera = TrackSpec {
            formats: vec![Format {
                payload: PayloadKind::Video(VideoCodec::Vp8),
                ..video_format()
            }],
            ..video_track(CAMERA)
        };
        for track in [camera, audio_track(MICROPHONE)] {
            let (session, track) = (publisher.session, Box::new(track));
            world.command(Command::Publish { session, track });
        }
        let subscribers = (0..SUBSCRIBERS).map(|number| {
            let peer = Peer::connect(&mut world, 10 + number);
            let opus = SenderFormat {
                payload_type: PayloadType(111),
                rtx: None,
                red: None,
            };
            let voice = Feed {
                track: TrackId(MICROPHONE),
                payload_types: vec![Some(opus), None],
            };
            for (id, kind, feed) in [
                (100 + number, MediaKind::Video, video_feed(CAMERA)),
                (200 + number, MediaKind::Audio, voice),
            ] {
                let spec = sender(id, kind, kind == MediaKind::Video);
                let session = peer.session;
                world.command(Command::AddSender {
                    session,
                    sender: Box::new(spec),
                });
                world.command(Command::Feed {
                    sender: SenderId(id),
                    source: Some(feed),
                });
            }
            peer
        });
        Scene {
            subscribers: subscribers.collect(),
            publisher,
            world,
            steps: 0,
            frames: 0,
            voices: 0,
            wants_keyframe: true,
            is_deaf: false,
            keyframes: BTreeSet::new(),
            received: vec![Received::default(); SUBSCRIBERS as usize],
        }
    }

    /// Time passes, in which the socket takes so many sends every 10 ms.
    fn run(&mut self, duration: Duration, sends: usize) {
        for _ in 0..duration.as_millis() / STEP.as_millis() {
            if self.steps.is_multiple_of(3) {
                self.publish_frame();
            }
            if self.steps.is_multiple_of(2) {
                self.publish_voice();
            }
            self.steps += 1;
            if self.world.engine.poll_timeout() <= Some(self.world.now) {
                self.world.engine.handle_timeout(self.world.now);
            }
            self.world.drain_sends(sends);
            self.receive();
            self.world.now += STEP;
        }
    }

    fn publish_frame(&mut self) {
        let timestamp = u32::from(self.frames) * 2_700;
        let is_key = std::mem::take(&mut self.wants_keyframe);
        if is_key {
            self.keyframes.insert(timestamp);
        }
        for number in 0..PACKETS_PER_FRAME {
            let mut payload = [1; 1_000];
            let head = match (number, is_key) {
                (0, true) => KEY,
                (0, false) => DELTA,
                (_, _) => MORE,
            };
            payload[..2].copy_from_slice(&head);
            let media = Media {
                timestamp,
                marker: number + 1 == PACKETS_PER_FRAME,
                ..video(7, self.frames * PACKETS_PER_FRAME + number, &payload)
            };
            self.publisher.send(&mut self.world, &media.packet());
        }
        self.frames += 1;
    }

    fn publish_voice(&mut self) {
        let media = Media {
            payload_type: 111,
            extensions: &[(PUBLISHER_MID_ID, b"a")],
            timestamp: u32::from(self.voices) * 960,
            ..video(8, self.voices, &[2; 80])
        };
        self.publisher.send(&mut self.world, &media.packet());
        self.voices += 1;
    }

    fn receive(&mut self) {
        let asked: Vec<PictureLossIndication> = of_kind(&self.publisher.read(&mut self.world).1);
        self.wants_keyframe |= !asked.is_empty() && !self.is_deaf;
        for (peer, received) in self.subscribers.iter_mut().zip(&mut self.received) {
            for packet in peer.read(&mut self.world).0 {
                if packet.header.payload_type == 111 {
                    received.voices.push(packet.header.sequence_number);
                    continue;
                }
                let starts = packet.payload[0] == 0x10;
                received.packets_of_frame = u16::from(!starts) * received.packets_of_frame + 1;
                if packet.header.marker && received.packets_of_frame == PACKETS_PER_FRAME {
                    received.frames.push(packet.header.timestamp);
                }
            }
        }
    }

    /// Whether the subscriber's frames can all be decoded: whatever follows one that is missing is a
    /// key frame.
    fn assert_decodable(&self) {
        for received in &self.received {
            for pair in received.frames.windows(2) {
                // The subscriber's timestamps are the publisher's plus something.
                let first = received.frames.first().map_or(0, |first| *first);
                let is_next = pair[1].wrapping_sub(pair[0]) == 2_700;
                let is_key = self.keyframes.contains(&pair[1].wrapping_sub(first));
                assert!(is_next || is_key, "{pair:?}");
            }
        }
    }

    fn lost_voices(&self) -> usize {
        let heard = self.received.iter().map(|received| received.voices.len());
        heard.map(|heard| usize::from(self.voices) - heard).sum()
    }
}

const PLENTY: usize = 1_000;

#[test]
fn video_is_left_out_first_up_to_a_key_frame_and_no_voice_is_lost() {
    let mut scene = Scene::new();
    scene.run(Duration::from_secs(1), PLENTY);
    let before = scene.received[0].frames.len();
    assert!(before > 30);
    // Each subscriber needs some 50 sends a second, and gets 10.
    scene.run(Duration::from_secs(3), 1);
    scene.run(Duration::from_secs(2), PLENTY);
    assert_eq!(scene.lost_voices(), 0);
    scene.assert_decodable();
    for received in &scene.received {
        assert!(
            received.frames.len() < 200 - 20,
            "{}",
            received.frames.len()
        );
    }
    // All is well again at the end: the last second has every frame.
    let last = scene.received.iter().map(|received| {
        let frames = &received.frames;
        let last = frames[frames.len() - 1];
        frames
            .iter()
            .filter(|at| last.wrapping_sub(**at) < 90_000)
            .count()
    });
    assert!(
        last.clone().all(|frames| frames >= 33),
        "{:?}",
        last.collect::<Vec<_>>()
    );
    let counters = scene.world.counters();
    assert!(counters.drop_late_video > 0, "{counters:?}");
    assert_eq!(
        (counters.drop_late_audio, counters.drop_subscriber_behind),
        (0, 0)
    );
}

#[test]
fn behind_a_socket_that_takes_nothing_only_fresh_voices_and_a_key_frame_remain() {
    let mut scene = Scene::new();
    scene.run(Duration::from_secs(1), PLENTY);
    let frames = scene.received[0].frames.len();
    scene.run(Duration::from_secs(1), 0);
    scene.run(Duration::from_millis(20), PLENTY);
    // What was said in the last half second, and no picture older than a few frames.
    let lost = scene.lost_voices() as u64 / SUBSCRIBERS;
    let late = (Duration::from_secs(1) - AUDIO_LATE).as_millis() as u64 / 20;
    assert!((late - 2..=late + 2).contains(&lost), "{lost} of {late}");
    assert!(
        scene.received[0].frames.len() <= frames + 1,
        "at most the key frame that was asked for"
    );
    scene.run(Duration::from_secs(1), PLENTY);
    scene.assert_decodable();
    assert!(scene.received[0].frames.len() >= frames + 28);
    assert!(VIDEO_LATE < AUDIO_LATE);
    let counters = scene.world.counters();
    assert_eq!(counters.drop_late_audio, lost * SUBSCRIBERS);
}

#[test]
fn a_request_for_a_key_frame_that_was_lost_is_made_again() {
    let mut scene = Scene::new();
    scene.run(Duration::from_secs(1), PLENTY);
    let frames = scene.received[0].frames.len();
    scene.is_deaf = true;
    scene.run(Duration::from_millis(300), 0);
    scene.run(Duration::from_millis(200), PLENTY);
    assert!(scene.received[0].frames.len() <= frames, "it waits");
    scene.is_deaf = false;
    scene.run(Duration::from_secs(3), PLENTY);
    for received in &scene.received {
        let since = received.frames.len() - frames;
        assert!(since > 50, "{since} frames in the three seconds after it");
    }
    scene.assert_decodable();
}
