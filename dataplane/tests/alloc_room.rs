//! Nothing on the packet path allocates: audio and video to many subscribers, control packets both
//! ways, retransmissions, whatever the SRTP profile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use std::time::Duration;

use dataplane::command::{Command, Feed, MediaKind, SenderFormat, SrtpProfile};
use dataplane::event::Event;
use dataplane::id::{GroupId, Mid, PayloadType, TrackId};
use dataplane::transmit::Path;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};

#[path = "forwarding/world.rs"]
mod world;

use world::{Media, Peer, World, audio_track, sender, video, video_feed, video_track};

/// The system's allocator, which counts how often it is asked.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its interface; it only counts"
)]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SUBSCRIBERS: u64 = 20;

/// Between two frames of video, each with a packet of audio.
const TURN: Duration = Duration::from_millis(33);

/// Turns before anything is counted: queues grow to their size.
const WARM_UP: u16 = 120;

/// Turns that are counted.
const TURNS: u16 = 120;

/// Packets in a frame.
const FRAME: u16 = 10;

/// What arrives in a turn: runs of datagrams, each with its path and segment.
type Turn = Vec<(Path, Vec<u8>, usize)>;

struct Room {
    world: World,
    publisher: Peer,
    subscribers: Vec<Peer>,
    /// The number of each subscriber's first packet of video.
    first: Vec<u16>,
    slot: Vec<u8>,
}

impl Room {
    fn new(profile: SrtpProfile) -> Room {
        let mut world = World::with_speakers(1);
        let publisher = Peer::connect_with(&mut world, 1, profile);
        let session = publisher.session;
        // Of two voices the second is not heard.
        let mut murmur = audio_track(3);
        murmur.mid = Mid::new(b"b").unwrap();
        for mut track in [video_track(1), audio_track(2), murmur] {
            track.group = Some(GroupId(1));
            let track = Box::new(track);
            world.command(Command::Publish { session, track });
        }
        let opus = SenderFormat {
            payload_type: PayloadType(100),
            rtx: None,
            red: None,
        };
        let audio_feed = Feed {
            track: TrackId(2),
            payload_types: vec![Some(opus), None],
        };
        let mut subscribers = Vec::new();
        for number in 2..2 + SUBSCRIBERS {
            let peer = Peer::connect_with(&mut world, number, profile);
            let session = peer.session;
            let streams = [
                (sender(number, MediaKind::Video, true), video_feed(1)),
                (
                    sender(100 + number, MediaKind::Audio, false),
                    audio_feed.clone(),
                ),
            ];
            for (spec, feed) in streams {
                let (sender, spec) = (spec.sender, Box::new(spec));
                world.command(Command::AddSender {
                    session,
                    sender: spec,
                });
                let source = Some(feed);
                world.command(Command::Feed { sender, source });
            }
            subscribers.push(peer);
        }
        Room {
            world,
            publisher,
            subscribers,
            first: Vec::new(),
            slot: vec![0; dataplane::limits::BURST_BYTES_MAX],
        }
    }

    /// What arrives in turn `number`: a frame, a packet of audio, and from each subscriber, after a
    /// while, a report or a request for a packet of the turn before; one frame in ten lost a packet.
    fn turn(&mut self, number: u16) -> Turn {
        let first = number * FRAME;
        let mut run = Vec::new();
        let mut segment = 0;
        for sequence in first..first + FRAME {
            // Before anything is counted in each, so that it is asked for while reports are due, too.
            let is_lost = number % 10 == 3 || number < WARM_UP;
            if is_lost && sequence == first {
                continue;
            }
            let payload = [sequence as u8; 1_150];
            let packet = Media {
                marker: sequence == first + FRAME - 1,
                ..video(7, sequence, &payload)
            };
            let packet = packet.packet();
            let sealed = self.publisher.seal.encrypt_rtp(&packet).unwrap();
            segment = sealed.len();
            run.extend_from_slice(&sealed);
        }
        let audio = Media {
            ssrc: 8,
            payload_type: 111,
            timestamp: u32::from(number) * 960,
            extensions: &[(world::PUBLISHER_MID_ID, b"a"), (1, &[0x80 | 30])],
            ..video(8, number, &[5; 100])
        };
        let murmur = Media {
            ssrc: 9,
            extensions: &[(world::PUBLISHER_MID_ID, b"b"), (1, &[60])],
            ..audio
        };
        let path = self.publisher.path;
        let mut turn = vec![(path, run, segment)];
        for voice in [audio, murmur] {
            let sealed = self.publisher.seal.encrypt_rtp(&voice.packet()).unwrap();
            turn.push((path, sealed.to_vec(), sealed.len()));
        }
        if number.is_multiple_of(30) {
            let report = SenderReport {
                ssrc: 7,
                ntp_time: u64::from(number) << 32,
                rtp_time: u32::from(first) * 3_000,
                ..SenderReport::default()
            };
            turn.push(control(&mut self.publisher, Box::new(report)));
        }
        let before = first.wrapping_sub(3);
        for (peer, start) in self.subscribers.iter_mut().zip(&self.first) {
            let ssrc = 0x5000 + peer.session.0 as u32;
            turn.push(control(
                peer,
                feedback(number, ssrc, start.wrapping_add(before)),
            ));
        }
        turn
    }

    /// Packets that left, and allocations; a turn that told control how it stands counts none.
    fn run(&mut self, turn: &mut Turn) -> (usize, u64) {
        self.world.now += TURN;
        let (engine, now) = (&mut self.world.engine, self.world.now);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        if engine.poll_timeout().is_some_and(|due| due <= now) {
            engine.handle_timeout(now);
        }
        for (path, run, segment) in turn {
            engine.handle_datagrams(now, *path, run, *segment);
        }
        let mut packets = 0;
        while let Some(transmit) = engine.poll_transmit(now, &mut self.slot) {
            packets += transmit.segments();
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        let events = std::iter::from_fn(|| engine.poll_event());
        let reports = events
            .filter(|event| matches!(event, Event::Report(_)))
            .count();
        (packets, if reports > 0 { 0 } else { allocations })
    }
}

/// Every third turn a request for a packet, otherwise a report.
fn feedback(turn: u16, ssrc: u32, sequence: u16) -> Box<dyn rtcp::Packet> {
    if turn.is_multiple_of(3) {
        return Box::new(TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc: ssrc,
            nacks: nack_pairs_from_sequence_numbers(&[sequence]),
        });
    }
    Box::new(ReceiverReport {
        ssrc: 1,
        reports: vec![ReceptionReport {
            ssrc,
            last_sequence_number: u32::from(sequence),
            ..ReceptionReport::default()
        }],
        ..ReceiverReport::default()
    })
}

fn control(peer: &mut Peer, packet: Box<dyn rtcp::Packet>) -> (Path, Vec<u8>, usize) {
    let plain = rtcp::packet::marshal(&[packet]).unwrap();
    let sealed = peer.seal.encrypt_rtcp(&plain).unwrap().to_vec();
    let len = sealed.len();
    (peer.path, sealed, len)
}

#[test]
fn forwarding_allocates_nothing() {
    for profile in [
        SrtpProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm,
        SrtpProfile::Aes128CmHmacSha1_80,
    ] {
        let mut room = Room::new(profile);
        // The first packet of each sender says where its numbers begin.
        for (path, run, segment) in room.turn(0) {
            let (engine, now) = (&mut room.world.engine, room.world.now);
            engine.handle_datagrams(now, path, &mut run.clone(), segment);
        }
        room.world.drain();
        for peer in &room.subscribers {
            let ssrc = (0x5000 + peer.session.0 as u32).to_be_bytes();
            let sent = room.world.sent.iter().map(|(_, bytes)| bytes);
            let second = sent.clone().find(|bytes| bytes[8..12] == ssrc).unwrap();
            let number = u16::from_be_bytes([second[2], second[3]]);
            room.first.push(number.wrapping_sub(1));
        }
        for number in 1..WARM_UP {
            let mut turn = room.turn(number);
            room.run(&mut turn);
        }
        let mut turns: Vec<Turn> = (WARM_UP..WARM_UP + TURNS).map(|n| room.turn(n)).collect();
        let before = room.world.counters();
        let (mut packets, mut allocations) = (0, 0);
        for turn in &mut turns {
            let (sent, allocated) = room.run(turn);
            packets += sent;
            allocations += allocated;
        }
        let after = room.world.counters();
        let lost = TURNS / 10;
        let media = u64::from(TURNS * (FRAME + 1) - lost) * SUBSCRIBERS;
        let again = u64::from(TURNS / 3) * SUBSCRIBERS;
        assert_eq!(after.rtp_retransmitted - before.rtp_retransmitted, again);
        assert_eq!(after.rtp_forwarded - before.rtp_forwarded, media + again);
        assert!(after.rtcp_received - before.rtcp_received >= u64::from(TURNS) * SUBSCRIBERS);
        let unheard = after.voice_not_heard - before.voice_not_heard;
        assert_eq!(unheard, u64::from(TURNS));
        assert!(
            after.nacks_sent > before.nacks_sent,
            "our own control packets too"
        );
        assert!(packets as u64 > media + again);
        assert_eq!(allocations, 0, "{profile:?}");
    }
}
