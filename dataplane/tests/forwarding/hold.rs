//! The hold: what waits for company when the worker is busy, how long, and what never waits.

use std::time::Duration;

use dataplane::command::{Command, Feed, MediaKind, SenderFormat};
use dataplane::id::{PayloadType, SenderId, TrackId};
use dataplane::limits::{
    EGRESS_HOLD_MAX, FRAME_GATHER, FRAME_GATHER_SUBSCRIBERS_MIN, HOLD_LOAD_FROM, HOLD_LOAD_FULL,
    VIDEO_HOLD_MAX,
};
use dataplane::load::Load;
use rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};

use crate::world::*;

const SUBSCRIBER: u64 = 90;

/// Voices of `people`, and one who hears all of them.
fn voices(world: &mut World, people: u64) -> (Vec<Peer>, Peer) {
    let listener = Peer::connect(world, SUBSCRIBER);
    let publishers = (1..=people).map(|number| {
        let publisher = Peer::connect(world, number);
        let (session, track) = (publisher.session, Box::new(audio_track(number)));
        world.command(Command::Publish { session, track });
        hears(world, &listener, number);
        publisher
    });
    (publishers.collect(), listener)
}

fn hears(world: &mut World, listener: &Peer, track: u64) {
    let spec = Box::new(sender(track, MediaKind::Audio, false));
    let session = listener.session;
    world.command(Command::AddSender {
        session,
        sender: spec,
    });
    let opus = SenderFormat {
        payload_type: PayloadType(111),
        rtx: None,
        red: None,
    };
    let source = Feed {
        track: TrackId(track),
        payload_types: vec![Some(opus), None],
    };
    world.command(Command::Feed {
        sender: SenderId(track),
        source: Some(source),
    });
}

fn speak(world: &mut World, peer: &mut Peer, sequence: u16, len: usize) {
    let payload = vec![peer.session.0 as u8; len];
    let media = Media {
        payload_type: 111,
        extensions: &[(PUBLISHER_MID_ID, b"a")],
        ..video(7, sequence, &payload)
    };
    peer.send(world, &media.packet());
    world.drain();
}

/// The time until the next burst of media leaves, and its packets.
fn next_burst(world: &mut World) -> (Duration, usize) {
    let begun = world.now;
    for _ in 0..10_000 {
        world.drain();
        if let Some(&segments) = world.bursts.first() {
            world.bursts.clear();
            return (world.now - begun, segments);
        }
        world.advance(Duration::from_micros(10));
    }
    panic!("nothing leaves");
}

#[test]
fn an_idle_worker_holds_nothing() {
    let mut world = World::new();
    let (mut people, mut listener) = voices(&mut world, 2);
    world.engine.handle_load(HOLD_LOAD_FROM);
    for peer in &mut people {
        speak(&mut world, peer, 1, 80);
    }
    assert_eq!(world.bursts, [1, 1]);
    assert_eq!(listener.media(&mut world).len(), 2);
}

/// A camera and so many who see it.
fn audience(world: &mut World, viewers: usize) -> Peer {
    let camera = Peer::connect(world, 1);
    let (session, track) = (camera.session, Box::new(video_track(1)));
    world.command(Command::Publish { session, track });
    for number in (SUBSCRIBER..).take(viewers) {
        let session = Peer::connect(world, number).session;
        let spec = Box::new(sender(number, MediaKind::Video, true));
        let feed = Command::Feed {
            sender: spec.sender,
            source: Some(video_feed(1)),
        };
        world.command(Command::AddSender {
            session,
            sender: spec,
        });
        world.command(feed);
    }
    camera
}

fn show(world: &mut World, camera: &mut Peer, sequence: u16, marker: bool) {
    let media = Media {
        marker,
        ..video(7, sequence, &[3; 900])
    };
    camera.send(world, &media.packet());
    world.drain();
}

#[test]
fn an_idle_worker_gathers_a_frame_that_goes_to_several() {
    let viewers = FRAME_GATHER_SUBSCRIBERS_MIN;
    let mut world = World::new();
    let mut camera = audience(&mut world, viewers);
    for sequence in 0..3 {
        show(&mut world, &mut camera, sequence, false);
    }
    assert!(world.bursts.is_empty(), "{:?}", world.bursts);
    show(&mut world, &mut camera, 3, true);
    assert_eq!(std::mem::take(&mut world.bursts), vec![4; viewers]);
    // The rest of this one does not come.
    show(&mut world, &mut camera, 4, false);
    assert_eq!(next_burst(&mut world), (FRAME_GATHER, 1));
    world.bursts.clear();
    // What fills a gap ends the wait for what comes after it.
    show(&mut world, &mut camera, 7, false);
    assert!(world.bursts.is_empty());
    show(&mut world, &mut camera, 6, false);
    assert_eq!(std::mem::take(&mut world.bursts), vec![2; viewers]);
    world.ms(2);
    assert!(world.bursts.is_empty());
}

#[test]
fn a_frame_that_goes_to_few_leaves_as_it_comes() {
    let mut world = World::new();
    let mut camera = audience(&mut world, FRAME_GATHER_SUBSCRIBERS_MIN - 1);
    show(&mut world, &mut camera, 0, false);
    assert_eq!(world.bursts, [1; FRAME_GATHER_SUBSCRIBERS_MIN - 1]);
}

#[test]
fn a_busy_worker_sends_voices_together_and_none_later_than_the_bound() {
    let mut world = World::new();
    let (mut people, mut listener) = voices(&mut world, 5);
    world.engine.handle_load(HOLD_LOAD_FULL);
    let lens = [31, 130, 64, 99, 40];
    for (peer, len) in people.iter_mut().zip(lens) {
        speak(&mut world, peer, 1, len);
        world.ms(1);
    }
    assert!(world.bursts.is_empty(), "held: {:?}", world.bursts);
    assert!(
        world
            .engine
            .poll_timeout()
            .is_some_and(|due| due > world.now)
    );
    let (waited, packets) = next_burst(&mut world);
    let rest = world.engine.rest();
    assert!(!rest.is_zero(), "what comes next would be held anyway");
    let held = rest + waited + Duration::from_millis(5);
    assert!(
        held <= EGRESS_HOLD_MAX && held >= EGRESS_HOLD_MAX * 3 / 4,
        "{held:?}"
    );
    assert_eq!(packets, 5);
    let mut heard: Vec<usize> = listener
        .media(&mut world)
        .iter()
        .map(|p| p.payload.len())
        .collect();
    heard.sort_unstable();
    assert_eq!(heard, [31, 40, 64, 99, 130], "padding is not payload");
    // The hold begins anew with the next packet.
    world.ms(20);
    assert!(world.bursts.is_empty());
    speak(&mut world, &mut people[0], 2, 50);
    assert!(next_burst(&mut world).0 <= EGRESS_HOLD_MAX);
    let counters = world.counters();
    assert_eq!((counters.media_sends, counters.rtp_sent_in_bursts), (2, 5));
    let held = counters.media_sends_held_us;
    assert!((14_000..=20_000).contains(&held), "{held}");
}

#[test]
fn what_was_held_is_not_due_for_ever_where_nothing_can_be_sent() {
    let mut world = World::new();
    let (mut people, _listener) = voices(&mut world, 1);
    world.engine.handle_load(HOLD_LOAD_FULL);
    speak(&mut world, &mut people[0], 1, 31);
    assert!(world.bursts.is_empty(), "it is held");
    let due = world.engine.poll_timeout().unwrap();
    // The socket is full: nobody asks for what may leave now.
    world.engine.handle_timeout(due);
    assert!(world.engine.poll_timeout().is_some_and(|next| next > due));
}

#[test]
fn the_hold_grows_with_the_load() {
    let mut world = World::new();
    let (mut people, _listener) = voices(&mut world, 1);
    let mut held = Vec::new();
    let (from, full) = (HOLD_LOAD_FROM.0, HOLD_LOAD_FULL.0);
    let loads = [
        (full - 2 * (full - from) / 3),
        full - (full - from) / 3,
        full,
        900,
        0,
    ];
    for (sequence, permille) in (1..).zip(loads) {
        world.engine.handle_load(Load(permille));
        speak(&mut world, &mut people[0], sequence, 50);
        held.push(next_burst(&mut world).0);
        world.ms(20);
    }
    assert!(
        held[0] < held[1] && held[1] < held[2] && held[2] == held[3],
        "{held:?}"
    );
    assert_eq!(held[4], Duration::ZERO);
}

#[test]
fn a_whole_frame_leaves_at_once_and_the_rest_of_one_is_not_waited_for_long() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    world.engine.handle_load(Load::FULL);
    let mut send = |world: &mut World, sequence: u16, marker: bool| {
        let media = Media {
            marker,
            ..video(7, sequence, &[3; 900])
        };
        publisher.send(world, &media.packet());
        world.drain();
    };
    for sequence in 0..3 {
        send(&mut world, sequence, false);
    }
    assert!(world.bursts.is_empty());
    send(&mut world, 3, true);
    assert_eq!(std::mem::take(&mut world.bursts), [4]);
    send(&mut world, 4, false);
    let (waited, packets) = next_burst(&mut world);
    assert!(!waited.is_zero() && waited <= VIDEO_HOLD_MAX, "{waited:?}");
    assert_eq!(packets, 1);
    // A gap, which is held, and what fills it, which is not.
    send(&mut world, 7, false);
    assert!(world.bursts.is_empty());
    send(&mut world, 6, false);
    assert_eq!(std::mem::take(&mut world.bursts), [2]);
    // Nor is a retransmission.
    let sent = subscriber.media(&mut world);
    let lost = TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: 0x5001,
        nacks: nack_pairs_from_sequence_numbers(&[sent[2].header.sequence_number]),
    };
    subscriber.send_rtcp(&mut world, &[Box::new(lost)]);
    assert_eq!(subscriber.media(&mut world).len(), 1);
}

#[test]
fn a_burst_that_is_full_does_not_wait() {
    let mut world = World::new();
    let (mut publisher, _subscriber) = video_pair(&mut world, true);
    world.engine.handle_load(Load::FULL);
    for sequence in 0..60 {
        publisher.send(&mut world, &video(7, sequence, &[3; 1_100]).packet());
        world.drain();
        if !world.bursts.is_empty() {
            break;
        }
    }
    let packets: usize = world.bursts.iter().sum();
    assert!((40..60).contains(&packets), "{packets}");
}

#[test]
fn a_held_voice_leaves_with_a_frame_and_others_stay_until_they_are_due() {
    let mut world = World::new();
    let (mut people, mut listener) = voices(&mut world, 3);
    let mut camera = Peer::connect(&mut world, 50);
    let (session, track) = (camera.session, Box::new(video_track(50)));
    world.command(Command::Publish { session, track });
    let spec = Box::new(sender(50, MediaKind::Video, true));
    let session = listener.session;
    world.command(Command::AddSender {
        session,
        sender: spec,
    });
    world.command(Command::Feed {
        sender: SenderId(50),
        source: Some(video_feed(50)),
    });
    world.engine.handle_load(Load::FULL);
    for peer in &mut people {
        speak(&mut world, peer, 1, 60);
    }
    world.ms(1);
    for (sequence, marker) in [(1, false), (2, true)] {
        let media = Media {
            marker,
            ..video(8, sequence, &[1; 1_000])
        };
        camera.send(&mut world, &media.packet());
    }
    world.drain();
    assert_eq!(
        std::mem::take(&mut world.bursts),
        [3],
        "the frame and one voice"
    );
    assert_eq!(listener.media(&mut world).len(), 3);
    let (waited, packets) = next_burst(&mut world);
    assert_eq!(packets, 2);
    assert!(
        waited + Duration::from_millis(1) <= EGRESS_HOLD_MAX,
        "{waited:?}"
    );
}
