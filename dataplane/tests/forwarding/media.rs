//! Media: numbers, formats, sources.

use dataplane::command::{Command, Feed, MediaKind, SenderFormat};
use dataplane::event::Event;
use dataplane::id::{PayloadType, SenderId, TrackId};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

use crate::world::*;

#[test]
fn packets_arrive_with_the_subscribers_numbers_across_a_wrap_and_out_of_order() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let mut order: Vec<u32> = (65_400..65_700).collect();
    for at in (10..290).step_by(7) {
        order.swap(at, at + 1);
    }
    let mut received = Vec::new();
    for sequence in order {
        let payload = sequence.to_be_bytes().repeat(20);
        let timestamp = 0xffff_0000u32.wrapping_add(sequence * 10);
        let media = Media {
            timestamp,
            ..video(7, sequence as u16, &payload)
        };
        publisher.send(&mut world, &media.packet());
        received.extend(subscriber.media(&mut world));
        world.ms(1);
    }
    assert_eq!(received.len(), 300);
    let offset = |p: &rtp::Packet| {
        let incoming = u32::from_be_bytes(p.payload[..4].try_into().unwrap());
        let timestamp = 0xffff_0000u32.wrapping_add(incoming * 10);
        let number = p.header.sequence_number.wrapping_sub(incoming as u16);
        (number, p.header.timestamp.wrapping_sub(timestamp))
    };
    let first = offset(&received[0]);
    for packet in &received {
        assert_eq!(offset(packet), first, "every number differs by the same");
        assert_eq!(
            (packet.header.ssrc, packet.header.payload_type),
            (0x5001, SUBSCRIBER_PT)
        );
        assert_eq!(
            packet.header.get_extension(SUBSCRIBER_MID_ID).as_deref(),
            Some(&b"7"[..])
        );
        assert_eq!(packet.payload.len(), 80);
    }
    assert!(
        world
            .events
            .contains(&Event::TrackStarted { track: TrackId(1) })
    );
}

#[test]
fn packets_from_before_the_subscription_are_not_sent_late() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    world.command(Command::Feed {
        sender: SenderId(1),
        source: None,
    });
    for sequence in [10, 11, 13] {
        publisher.send(&mut world, &video(7, sequence, b"early").packet());
    }
    world.command(Command::Feed {
        sender: SenderId(1),
        source: Some(video_feed(1)),
    });
    for sequence in [14, 12, 15] {
        publisher.send(&mut world, &video(7, sequence, b"later").packet());
    }
    let numbers: Vec<u16> = subscriber
        .media(&mut world)
        .iter()
        .map(|p| p.header.sequence_number)
        .collect();
    assert_eq!(numbers, [numbers[0], numbers[0] + 1]);
}

#[test]
fn nobody_begins_with_a_packet_that_came_late() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let feed = |source| Command::Feed {
        sender: SenderId(1),
        source,
    };
    world.command(feed(None));
    for sequence in (0..20).filter(|sequence| *sequence != 5) {
        publisher.send(&mut world, &video(7, sequence, &[1; 100]).packet());
    }
    world.command(feed(Some(video_feed(1))));
    for sequence in [5, 20, 21] {
        publisher.send(&mut world, &video(7, sequence, &[2; 100]).packet());
    }
    let sent = subscriber.media(&mut world);
    let numbers: Vec<u16> = sent.iter().map(|its| its.header.sequence_number).collect();
    // What is between would be asked for, and is not there to be sent.
    assert_eq!(numbers, [numbers[0], numbers[0].wrapping_add(1)]);
}

#[test]
fn a_frame_leaves_as_one_burst() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    for frame in 0..3u16 {
        world.bursts.clear();
        for (index, len) in [941, 941, 942, 942].into_iter().enumerate() {
            let payload = vec![frame as u8; len];
            publisher.send(
                &mut world,
                &video(7, frame * 4 + index as u16, &payload).packet(),
            );
        }
        world.drain();
        assert_eq!(world.bursts, [4]);
    }
    let lens: Vec<usize> = subscriber
        .media(&mut world)
        .iter()
        .map(|p| p.payload.len())
        .collect();
    assert_eq!(
        lens,
        [941, 941, 942, 942].repeat(3),
        "padding is not payload"
    );
}

#[test]
fn numbers_continue_when_another_track_feeds_the_sender() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let mut other = Peer::connect(&mut world, 3);
    let (session, track) = (other.session, Box::new(video_track(2)));
    world.command(Command::Publish { session, track });
    let mut received = Vec::new();
    for round in 0..10u16 {
        let (peer, ssrc, base) = if round % 2 == 0 {
            (&mut publisher, 7, 5_000)
        } else {
            (&mut other, 70, 60_000)
        };
        let track = 1 + u64::from(round % 2);
        world.command(Command::Feed {
            sender: SenderId(1),
            source: Some(video_feed(track)),
        });
        for n in 0..5 {
            let media = video(ssrc, base + round * 5 + n, b"x");
            peer.send(&mut world, &media.packet());
            received.extend(subscriber.media(&mut world));
            world.ms(33);
        }
    }
    assert_eq!(received.len(), 50);
    for pair in received.windows(2) {
        let [a, b] = [&pair[0].header, &pair[1].header];
        assert_eq!(b.sequence_number, a.sequence_number.wrapping_add(1));
        let step = b.timestamp.wrapping_sub(a.timestamp);
        assert!(
            (2_900..=3_100).contains(&step),
            "33 ms at 90 kHz, not {step}"
        );
    }
}

#[test]
fn t_21_a_publisher_that_changes_its_ssrc_goes_on_without_a_gap_and_stragglers_stay_out() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let mut received = Vec::new();
    for (ssrc, sequence) in [(7, 10), (7, 11), (8, 60_000), (7, 12), (8, 60_001)] {
        publisher.send(&mut world, &video(ssrc, sequence, b"x").packet());
        received.extend(subscriber.media(&mut world));
        world.ms(20);
    }
    let numbers: Vec<u16> = received.iter().map(|p| p.header.sequence_number).collect();
    let base = numbers[0];
    assert_eq!(numbers, [base, base + 1, base + 2, base + 3]);
    // After a silence, the old one may come back.
    world.ms(500);
    publisher.send(&mut world, &video(7, 13, b"x").packet());
    let back = subscriber.media(&mut world);
    assert_eq!(
        back.iter()
            .map(|p| p.header.sequence_number)
            .collect::<Vec<_>>(),
        [base + 4]
    );
}

#[test]
fn a_publisher_whose_numbers_jump_goes_on_for_its_subscribers_as_if_they_had_not() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let mut received = Vec::new();
    // A receiver would take the jump for one back, and its rollover counter for another.
    for sequence in [10, 11, 62_000, 62_001] {
        publisher.send(&mut world, &video(7, sequence, b"x").packet());
        received.extend(subscriber.media(&mut world));
        world.ms(20);
    }
    let numbers: Vec<u16> = received.iter().map(|p| p.header.sequence_number).collect();
    let base = numbers[0];
    assert_eq!(numbers, [base, base + 1, base + 2, base + 3]);
}

#[test]
fn redundant_audio_is_renamed_or_unwrapped_by_what_the_receiver_takes() {
    let mut world = World::new();
    let mut publisher = Peer::connect(&mut world, 1);
    let (session, track) = (publisher.session, Box::new(audio_track(1)));
    world.command(Command::Publish { session, track });
    let take = |pt| {
        Some(SenderFormat {
            payload_type: PayloadType(pt),
            rtx: None,
            red: None,
        })
    };
    // Both; only Opus; RED and Opus under the publisher's numbers; only RED, which says nothing.
    let wanted = [
        [take(100), take(101)],
        [take(100), None],
        [take(111), take(63)],
        [None, take(9)],
    ];
    let mut peers = Vec::new();
    for (number, payload_types) in (2..).zip(wanted) {
        let peer = Peer::connect(&mut world, number);
        let spec = sender(number, MediaKind::Audio, false);
        let (session, id) = (peer.session, spec.sender);
        world.command(Command::AddSender {
            session,
            sender: Box::new(spec),
        });
        let feed = Feed {
            track: TrackId(1),
            payload_types: payload_types.to_vec(),
        };
        world.command(Command::Feed {
            sender: id,
            source: Some(feed),
        });
        peers.push(peer);
    }
    let red = [0x80 | 111, 0x0f, 0x00, 3, 111, 1, 2, 3, 4, 5];
    let media = Media {
        payload_type: 63,
        extensions: &[(PUBLISHER_MID_ID, b"a"), (1, &[0x85])],
        ..video(7, 1, &red)
    };
    publisher.send(&mut world, &media.packet());
    world.drain();
    let mut renamed = red;
    (renamed[0], renamed[4]) = (0x80 | 100, 100);
    let expected: [Option<(u8, &[u8])>; 4] = [
        Some((101, &renamed)),
        Some((100, &[4, 5])),
        Some((63, &red)),
        None,
    ];
    for (peer, expected) in peers.iter_mut().zip(expected) {
        let got = peer.media(&mut world);
        let got = got.first().map(|p| {
            assert_eq!(
                p.header.get_extension(2).as_deref(),
                Some(&[0x85][..]),
                "audio level"
            );
            (p.header.payload_type, p.payload.to_vec())
        });
        assert_eq!(got, expected.map(|(pt, payload)| (pt, payload.to_vec())));
    }
}

#[test]
fn key_frames_are_asked_for_when_needed_and_at_most_twice_a_second() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    publisher.receive(&mut world);
    let mut asked = 0;
    for _ in 0..200 {
        let loss = PictureLossIndication {
            sender_ssrc: 1,
            media_ssrc: 0x5001,
        };
        subscriber.send_rtcp(&mut world, &[Box::new(loss)]);
        world.ms(10);
        let requests: Vec<PictureLossIndication> = publisher.control(&mut world);
        assert!(requests.iter().all(|pli| pli.media_ssrc == 7));
        asked += requests.len();
    }
    assert!((4..=5).contains(&asked), "{asked} in 2 s");
    // A last request falls into the interval: it is not lost.
    let loss = PictureLossIndication {
        sender_ssrc: 1,
        media_ssrc: 0x5001,
    };
    subscriber.send_rtcp(&mut world, &[Box::new(loss)]);
    let requests: Vec<PictureLossIndication> = publisher.control(&mut world);
    assert!(requests.is_empty());
    world.ms(600);
    let requests: Vec<PictureLossIndication> = publisher.control(&mut world);
    assert_eq!(requests.len(), 1);
    world.ms(5_000);
    let requests: Vec<PictureLossIndication> = publisher.control(&mut world);
    assert!(requests.is_empty());
    world.command(Command::Feed {
        sender: SenderId(1),
        source: None,
    });
    world.command(Command::Feed {
        sender: SenderId(1),
        source: Some(video_feed(1)),
    });
    let requests: Vec<PictureLossIndication> = publisher.control(&mut world);
    assert_eq!(requests.len(), 1, "a new subscriber sees a picture at once");
}

#[test]
fn who_connects_a_while_after_being_fed_gets_a_key_frame_at_once() {
    let mut world = World::new();
    let (mut publisher, _) = video_pair(&mut world, true);
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    world.ms(1_000);
    publisher.receive(&mut world);
    let mut late = Peer::open(&mut world, 3);
    let (session, spec) = (late.session, sender(3, MediaKind::Video, true));
    world.command(Command::AddSender {
        session,
        sender: Box::new(spec),
    });
    world.command(Command::Feed {
        sender: SenderId(3),
        source: Some(video_feed(1)),
    });
    world.ms(100);
    late.check(&mut world, true);
    let requests: Vec<PictureLossIndication> = publisher.control(&mut world);
    assert!(requests.is_empty(), "nobody could see it yet");
    late.handshake(&mut world);
    let requests: Vec<PictureLossIndication> = publisher.control(&mut world);
    assert_eq!(requests.len(), 1);
    publisher.send(&mut world, &video(7, 2, b"key").packet());
    assert_eq!(late.media(&mut world).len(), 1);
}

#[test]
fn replayed_forged_and_unknown_packets_go_nowhere() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let packet = video(7, 1, b"x").packet();
    let sealed = publisher.seal.encrypt_rtp(&packet).unwrap();
    world.arrive(publisher.path, &sealed);
    world.arrive(publisher.path, &sealed);
    assert_eq!(subscriber.media(&mut world).len(), 1);
    // Plaintext; a changed bit; an unknown payload type; an unknown MID.
    world.arrive(publisher.path, &video(7, 2, &[0; 100]).packet());
    let mut changed = publisher
        .seal
        .encrypt_rtp(&video(7, 3, b"x").packet())
        .unwrap()
        .to_vec();
    *changed.last_mut().unwrap() ^= 1;
    world.arrive(publisher.path, &changed);
    publisher.send(
        &mut world,
        &Media {
            payload_type: 50,
            ..video(7, 4, b"x")
        }
        .packet(),
    );
    let strange = Media {
        extensions: &[(PUBLISHER_MID_ID, b"z")],
        ..video(99, 5, b"x")
    };
    publisher.send(&mut world, &strange.packet());
    for ssrc in 1_000..2_000 {
        publisher.send(&mut world, &video(ssrc, 5, b"x").packet());
    }
    let media = subscriber.media(&mut world);
    assert!(
        media.len() <= 8,
        "a track has at most 8 sources, not {}",
        media.len()
    );
    let counters = world.counters();
    assert_eq!(
        (counters.drop_replayed, counters.drop_unauthenticated),
        (1, 2)
    );
    assert_eq!(counters.drop_unknown_format, 1);
    assert!(counters.drop_unknown_ssrc > 990);
}
