//! Receivers that begin with the last key frame of a publisher that gives none when asked.

use std::time::Duration;

use dataplane::command::{Command, MediaKind, Preference, Quality, Simulcast, Source, TrackSpec};
use dataplane::engine::{Engine, EngineConfig, EngineSnapshot};
use dataplane::id::{Rid, SenderId, Ssrc, TrackId};
use dataplane::limits::{GROUP_AGE_MAX, GROUP_BYTES_MAX};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};

use crate::camera::*;
use crate::relay::{AWAY, HOME, Two};
use crate::world::*;

#[test]
fn a_newcomer_has_the_picture_from_the_last_key_frame_on_at_once() {
    let (mut world, mut camera) = with_camera();
    let early = camera.play(&mut world, 0..37);
    let mut viewer = viewer(&mut world, 2);
    // No time passes.
    let mut media = viewer.media(&mut world);
    let group: Vec<Vec<u8>> = early[early.len() - (5 + 6 * 3)..].to_vec();
    assert_eq!(
        group[0][12], 0x67,
        "that is where the third key frame begins"
    );
    assert_whole(&media, &group);
    let live = camera.play(&mut world, 37..80);
    media.extend(viewer.media(&mut world));
    let all: Vec<Vec<u8>> = group.into_iter().chain(live).collect();
    assert_whole(&media, &all);
    let counters = world.counters();
    assert_eq!(
        (counters.drop_late_video, counters.keyframes_not_asked),
        (0, 0)
    );
}

#[test]
fn who_connects_after_it_was_fed_begins_with_the_key_frame_too() {
    let (mut world, mut camera) = with_camera();
    let mut viewer = Peer::open(&mut world, 2);
    watch(&mut world, &viewer);
    let early = camera.play(&mut world, 0..15);
    viewer.check(&mut world, true);
    viewer.handshake(&mut world);
    let media = viewer.media(&mut world);
    assert_whole(&media, &early[early.len() - (5 + 4 * 3)..]);
}

#[test]
fn a_packet_of_the_group_is_sent_again_when_it_was_lost() {
    let (mut world, mut camera) = with_camera();
    camera.play(&mut world, 0..18);
    let mut viewer = viewer(&mut world, 2);
    let media = viewer.media(&mut world);
    let lost = &media[1];
    let nack = TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: 0x5002,
        nacks: nack_pairs_from_sequence_numbers(&[lost.header.sequence_number]),
    };
    viewer.send_rtcp(&mut world, &[Box::new(nack)]);
    let again = viewer.media(&mut world);
    assert_eq!(again.len(), 1);
    assert_eq!(
        again[0].payload[..2],
        lost.header.sequence_number.to_be_bytes()
    );
    assert_eq!(again[0].payload[2..], lost.payload);
}

#[test]
fn a_group_leaves_at_a_pace_and_whole_where_the_network_is_not_known() {
    let (mut world, mut camera) = with_camera();
    camera.bytes = 1_180;
    // Ten pictures of 30 packets and their key frame: 350 kB.
    let mut early = Vec::new();
    for picture in 0..10 {
        for part in 0..10 {
            let packets = camera.picture(picture == 0 && part == 0);
            // All parts are one picture.
            camera.timestamp = camera.timestamp.wrapping_sub(PICTURE_TICKS);
            camera.hand(&mut world, &packets);
            early.extend(packets);
        }
        camera.timestamp = camera.timestamp.wrapping_add(PICTURE_TICKS);
        world.ms(PICTURE_MS);
    }
    let mut viewer = Peer::connect(&mut world, 2);
    let mut spec = sender(2, MediaKind::Video, true);
    spec.extensions.audio_level = None;
    spec.extensions.transport_cc = Some(5);
    world.command(Command::AddSender {
        session: viewer.session,
        sender: Box::new(spec),
    });
    world.command(Command::Feed {
        sender: SenderId(2),
        source: Some(video_feed(1)),
    });
    let mut media = viewer.media(&mut world);
    assert!(
        !media.is_empty() && media.len() < early.len() / 2,
        "{}",
        media.len()
    );
    let mut took_ms = 0;
    while media.len() < early.len() {
        world.ms(5);
        took_ms += 5;
        media.extend(viewer.media(&mut world));
        assert!(took_ms <= 300, "{} of {}", media.len(), early.len());
    }
    assert_whole(&media, &early);
}

#[test]
fn a_group_that_is_too_old_or_too_long_is_not_begun_with() {
    let (mut world, mut camera) = with_camera();
    camera.play(&mut world, 0..1);
    world.advance(GROUP_AGE_MAX);
    let mut late = viewer(&mut world, 2);
    assert!(late.media(&mut world).is_empty());
    let next = camera.play(&mut world, 10..12);
    assert_whole(&late.media(&mut world), &next);

    camera.bytes = 1_180;
    let pictures = GROUP_BYTES_MAX / (3 * 1_180) + 1;
    let mut packets = camera.picture(true);
    for _ in 0..pictures {
        packets.extend(camera.picture(false));
    }
    for some in packets.chunks(30) {
        camera.hand(&mut world, some);
        world.ms(2);
        late.media(&mut world);
    }
    let mut after = viewer(&mut world, 3);
    assert!(after.media(&mut world).is_empty());
    // Nobody can be asked for a key frame, and that somebody needs one is counted once.
    let pli = PictureLossIndication {
        sender_ssrc: 1,
        media_ssrc: 0x5003,
    };
    for _ in 0..5 {
        after.send_rtcp(&mut world, &[Box::new(pli.clone())]);
        world.ms(1_000);
    }
    let counters = world.counters();
    assert_eq!(counters.keyframe_requests, 0);
    assert_eq!(
        counters.keyframes_not_asked, 2,
        "one for each viewer that had to wait"
    );
}

#[test]
fn who_wants_the_picture_again_begins_with_the_last_key_frame() {
    let (mut world, mut camera) = with_camera();
    camera.play(&mut world, 0..30);
    let mut viewer = viewer(&mut world, 2);
    viewer.media(&mut world);
    let prefer = |world: &mut World, most| {
        world.command(Command::Prefer {
            sender: SenderId(2),
            preference: Preference { most, priority: 0 },
        });
    };
    prefer(&mut world, Quality::Off);
    let unseen = camera.play(&mut world, 30..46);
    assert!(viewer.media(&mut world).is_empty());
    prefer(&mut world, Quality::Best);
    let media = viewer.media(&mut world);
    assert_whole(&media, &unseen[unseen.len() - (5 + 5 * 3)..]);
    let live = camera.play(&mut world, 46..48);
    assert_whole(&viewer.media(&mut world), &live);
}

#[test]
fn layers_of_a_feed_are_told_apart_by_their_sources() {
    let mut world = World::new();
    let rids = ["l", "h"].map(|rid| Rid::new(rid.as_bytes()).unwrap());
    let source = |ssrc| Source {
        ssrc: Ssrc(ssrc),
        rtx: None,
    };
    open(
        &mut world,
        TrackSpec {
            sources: vec![source(7), source(8)],
            simulcast: Simulcast::Rids(rids.to_vec()),
            ..camera_track(1)
        },
    );
    let (mut small, mut large) = (Camera::new(7), Camera::new(8));
    large.bytes = 1_000;
    for picture in 0..35 {
        for camera in [&mut small, &mut large] {
            let packets = camera.picture(picture % 10 == 0);
            camera.hand(&mut world, &packets);
        }
        world.ms(PICTURE_MS);
    }
    let mut viewer = viewer(&mut world, 2);
    let sizes = |media: &[rtp::Packet]| -> Vec<usize> {
        let longest = media.iter().map(|packet| packet.payload.len());
        longest.filter(|len| *len > 3).collect()
    };
    // The small one at once, and the large one from its next key frame on.
    let begun = viewer.media(&mut world);
    assert_eq!(begun[0].payload[0], 0x67);
    assert!(sizes(&begun).iter().all(|len| *len == 200));
    for picture in 35..45 {
        for camera in [&mut small, &mut large] {
            let packets = camera.picture(picture % 10 == 0);
            camera.hand(&mut world, &packets);
        }
        world.ms(PICTURE_MS);
    }
    let later = viewer.media(&mut world);
    let numbers = begun.iter().chain(&later).map(|p| p.header.sequence_number);
    let numbers: Vec<u16> = numbers.collect();
    assert!(
        numbers
            .windows(2)
            .all(|pair| pair[1] == pair[0].wrapping_add(1))
    );
    assert_eq!(sizes(&later).last(), Some(&1_000));
}

/// Plays a camera at home with its packets handed over.
fn play_both(two: &mut Two, camera: &mut Camera, pictures: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    for picture in pictures {
        let packets = camera.picture(picture % 10 == 0);
        camera.hand(&mut two.home, &packets);
        two.ms(PICTURE_MS);
        sent.extend(packets);
    }
    sent
}

#[test]
fn a_newcomer_on_another_worker_begins_with_the_key_frame_too() {
    let mut two = Two::new();
    open(&mut two.home, camera_track(1));
    let mut camera = Camera::new(CAMERA_SSRC);
    let early = play_both(&mut two, &mut camera, 0..37);
    let mut first = Peer::connect(&mut two.away, 2);
    two.away.command(Command::Import {
        track: Box::new(camera_track(1)),
        from: HOME,
    });
    two.home.command(Command::Export {
        track: TrackId(1),
        to: AWAY,
    });
    watch(&mut two.away, &first);
    two.ms(1);
    let mut media = first.media(&mut two.away);
    let group = early[early.len() - (5 + 6 * 3)..].to_vec();
    assert_whole(&media, &group);
    let live = play_both(&mut two, &mut camera, 37..55);
    media.extend(first.media(&mut two.away));
    let all: Vec<Vec<u8>> = group.into_iter().chain(live.clone()).collect();
    assert_whole(&media, &all);
    // From the other worker's own log.
    let mut second = viewer(&mut two.away, 3);
    assert_whole(
        &second.media(&mut two.away),
        &live[live.len() - (5 + 4 * 3)..],
    );
    let pli = PictureLossIndication {
        sender_ssrc: 1,
        media_ssrc: 0x5003,
    };
    second.send_rtcp(&mut two.away, &[Box::new(pli)]);
    two.ms(3_000);
    let (home, away) = (two.home.counters(), two.away.counters());
    assert_eq!((away.drop_late_video, away.drop_relay_unknown), (0, 0));
    assert_eq!((away.keyframes_not_asked, away.keyframe_requests), (1, 0));
    assert_eq!((home.keyframes_not_asked, home.keyframe_requests), (0, 0));
}

#[test]
fn a_process_that_takes_over_begins_with_no_feeds_and_feeds_go_on_when_they_are_opened_again() {
    let mut two = Two::new();
    open(&mut two.home, camera_track(1));
    let mut camera = Camera::new(CAMERA_SSRC);
    two.away.command(Command::Import {
        track: Box::new(camera_track(1)),
        from: HOME,
    });
    two.home.command(Command::Export {
        track: TrackId(1),
        to: AWAY,
    });
    let mut near = viewer(&mut two.home, 2);
    let mut far = viewer(&mut two.away, 3);
    play_both(&mut two, &mut camera, 0..12);
    let seen = [near.media(&mut two.home), far.media(&mut two.away)];
    for world in [&mut two.home, &mut two.away] {
        let now = world.now;
        world.engine.handle_take_over(now);
        world.drain();
        let snapshot = world.engine.snapshot(now).encode();
        let snapshot = EngineSnapshot::decode(&snapshot).unwrap();
        assert!(!snapshot.sessions().any(|session| session == CAMERA));
        world.engine = restored(world, snapshot);
    }
    near.read(&mut two.home);
    far.read(&mut two.away);
    // The camera begins anew, with numbers from before those that were known.
    let mut camera = Camera {
        sequence: 5,
        ..Camera::new(CAMERA_SSRC)
    };
    open(&mut two.home, camera_track(1));
    two.away.command(Command::Import {
        track: Box::new(camera_track(1)),
        from: HOME,
    });
    two.home.command(Command::Export {
        track: TrackId(1),
        to: AWAY,
    });
    for (world, sender) in [(&mut two.home, 2), (&mut two.away, 3)] {
        world.command(Command::Feed {
            sender: SenderId(sender),
            source: Some(video_feed(1)),
        });
    }
    let sent = play_both(&mut two, &mut camera, 0..12);
    let after = [near.media(&mut two.home), far.media(&mut two.away)];
    for (before, after) in seen.iter().zip(&after) {
        assert_whole(after, &sent);
        let last = before.last().unwrap().header.sequence_number;
        assert_eq!(after[0].header.sequence_number, last.wrapping_add(1));
    }
}

fn restored(world: &World, snapshot: EngineSnapshot) -> Engine {
    let config = EngineConfig {
        epoch: (world.now, std::time::UNIX_EPOCH),
        seed: 43,
        sessions_max: 100,
        publisher_bitrate_bps_max: 2_500_000,
        hold_max: Duration::ZERO,
        audio_speakers: 0,
    };
    Engine::restore(config, world.now, snapshot).expect("it fits the configuration")
}
