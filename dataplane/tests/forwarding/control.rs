//! Reports: who is told what about time, loss and bandwidth, and who speaks.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::command::{Command, Feed, MediaKind, SenderFormat};
use dataplane::event::Event;
use dataplane::id::{PayloadType, SenderId, TrackId};
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::receiver_report::ReceiverReport;
use rtcp::sender_report::SenderReport;
use rtcp::source_description::SourceDescription;
use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};

use crate::world::*;

/// NTP units of a millisecond.
const NTP_MS: u64 = (1 << 32) / 1_000;

/// A publisher of picture and sound, 50 packets a second of each, whose first sender reports come
/// after 20 and 24 of them.
fn send_both(world: &mut World, publisher: &mut Peer, n: u32) {
    let (picture_at, sound_at) = (90_000 + n * 1_800, 1_000_000 + n * 960);
    let picture = Media {
        timestamp: picture_at,
        ..video(7, n as u16, b"picture")
    };
    let sound = Media {
        payload_type: 111,
        timestamp: sound_at,
        extensions: &[(PUBLISHER_MID_ID, b"a")],
        ..video(8, n as u16, b"sound")
    };
    publisher.send(world, &picture.packet());
    publisher.send(world, &sound.packet());
    let ntp_time = (77 << 32) + u64::from(n) * 20 * NTP_MS;
    let report = |ssrc, rtp_time| -> Box<dyn rtcp::Packet> {
        Box::new(SenderReport {
            ssrc,
            ntp_time,
            rtp_time,
            ..SenderReport::default()
        })
    };
    match n {
        20 => publisher.send_rtcp(world, &[report(7, picture_at)]),
        24 => publisher.send_rtcp(world, &[report(8, sound_at)]),
        _ => {}
    }
}

#[test]
fn sender_reports_say_when_a_packet_was_captured_and_keep_lips_in_sync() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let (session, track) = (publisher.session, Box::new(audio_track(2)));
    world.command(Command::Publish { session, track });
    let (session, spec) = (subscriber.session, sender(2, MediaKind::Audio, false));
    world.command(Command::AddSender {
        session,
        sender: Box::new(spec),
    });
    let take = SenderFormat {
        payload_type: PayloadType(100),
        rtx: None,
        red: None,
    };
    let feed = Feed {
        track: TrackId(2),
        payload_types: vec![Some(take), None],
    };
    world.command(Command::Feed {
        sender: SenderId(2),
        source: Some(feed),
    });

    let mut first = BTreeMap::new();
    let mut reports: Vec<SenderReport> = Vec::new();
    for n in 0..100 {
        send_both(&mut world, &mut publisher, n);
        let (media, control) = subscriber.receive(&mut world);
        for packet in media {
            first
                .entry(packet.header.ssrc)
                .or_insert(packet.header.timestamp);
        }
        reports.extend(of_kind::<SenderReport>(&control));
        assert!(
            n > 20 || reports.is_empty(),
            "the publisher's clock is not known yet"
        );
        world.ms(20);
    }
    // Both streams began together: what a report says of the time since must agree.
    let age = |report: &SenderReport| {
        let rate = if report.ssrc == 0x5001 {
            90_000.0
        } else {
            48_000.0
        };
        let media_s = f64::from(report.rtp_time.wrapping_sub(first[&report.ssrc])) / rate;
        let wall_s = report.ntp_time as f64 / 2f64.powi(32) - 2_208_988_800.0 - 1_000_000.0;
        media_s - wall_s
    };
    for report in &reports {
        assert!(
            (age(report) - age(&reports[0])).abs() < 0.000_1,
            "{report:?}"
        );
        assert!(
            age(report).abs() < 0.005,
            "captured when it arrived, here: {report:?}"
        );
    }
    let ssrcs: BTreeSet<u32> = reports.iter().map(|report| report.ssrc).collect();
    assert_eq!(ssrcs, BTreeSet::from([0x5001, 0x5002]));
    let last = reports.last().unwrap();
    assert!(last.packet_count > 50 && last.octet_count > 250);
}

#[test]
fn a_subscriber_gets_the_senders_name_with_each_report() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    let report = SenderReport {
        ssrc: 7,
        ntp_time: 5 << 32,
        ..SenderReport::default()
    };
    publisher.send_rtcp(&mut world, &[Box::new(report)]);
    world.ms(1_000);
    let (_, control) = subscriber.receive(&mut world);
    let names: Vec<SourceDescription> = of_kind(&control);
    let chunk = &names[0].chunks[0];
    assert_eq!(
        (chunk.source, &chunk.items[0].text[..]),
        (0x5001, &b"room-1"[..])
    );
    world.ms(3_000);
    let reports: Vec<SenderReport> = subscriber.control(&mut world);
    assert!(reports.is_empty(), "a stream that pauses is not reported");
}

#[test]
fn publishers_learn_of_loss_and_of_what_they_may_send() {
    let mut world = World::new();
    let (mut publisher, _) = video_pair(&mut world, true);
    publisher.send(&mut world, &video(7, 0, b"x").packet());
    let (_, control) = publisher.receive(&mut world);
    let estimates: Vec<ReceiverEstimatedMaximumBitrate> = of_kind(&control);
    assert_eq!(estimates.len(), 1, "with the first packet");
    assert!((estimates[0].bitrate - 2_500_000.0).abs() < 20.0);
    assert_eq!(estimates[0].ssrcs, [7]);
    let report = SenderReport {
        ssrc: 7,
        ntp_time: 0x1234_5678_9abc_def0,
        ..SenderReport::default()
    };
    publisher.send_rtcp(&mut world, &[Box::new(report)]);
    for sequence in (1..700).filter(|n| n % 4 != 0) {
        publisher.send(&mut world, &video(7, sequence, b"x").packet());
        world.ms(5);
    }
    let (_, control) = publisher.receive(&mut world);
    let blocks: Vec<_> = of_kind::<ReceiverReport>(&control)
        .iter()
        .flat_map(|r| r.reports.clone())
        .collect();
    assert!(blocks.len() >= 2);
    let last = blocks.last().unwrap();
    assert_eq!((last.ssrc, last.last_sender_report), (7, 0x5678_9abc));
    assert!(
        (60..70).contains(&last.fraction_lost),
        "a quarter, in 1/256: {last:?}"
    );
    assert!(last.delay > 65_536 / 2);
}

#[test]
fn who_speaks_is_told_once_and_who_stops_too() {
    let mut world = World::new();
    let mut publisher = Peer::connect(&mut world, 1);
    let (session, track) = (publisher.session, Box::new(audio_track(1)));
    world.command(Command::Publish { session, track });
    for n in 0..100u16 {
        let level: &[u8] = if (20..60).contains(&n) {
            &[0x80 | 20]
        } else {
            &[127]
        };
        let media = Media {
            payload_type: 111,
            extensions: &[(PUBLISHER_MID_ID, b"a"), (1, level)],
            ..video(7, n, b"x")
        };
        publisher.send(&mut world, &media.packet());
        world.ms(20);
    }
    let told: Vec<&Event> = world
        .events
        .iter()
        .filter(|e| matches!(e, Event::Speaking { .. }))
        .collect();
    let event = |speaking| Event::Speaking {
        track: TrackId(1),
        speaking,
    };
    assert_eq!(told, [&event(true), &event(false)]);
}

/// Sends packet `n` of a publisher that numbers what it sends from just below the end of the numbers.
fn send_numbered(world: &mut World, publisher: &mut Peer, n: u16) {
    let number = 65_534_u16.wrapping_add(n).to_be_bytes();
    let media = Media {
        extensions: &[(PUBLISHER_MID_ID, b"v"), (TRANSPORT_ID, &number)],
        ..video(7, n, b"picture")
    };
    publisher.send(world, &media.packet());
}

const TRANSPORT_ID: u8 = 9;

/// The one feedback that came: its base and its own number, its packets' statuses, and the milliseconds
/// between those that arrived.
fn told(world: &mut World, publisher: &mut Peer) -> ((u16, u8), Vec<bool>, Vec<i64>) {
    let [feedback] = &publisher.control::<TransportLayerCc>(world)[..] else {
        panic!("one feedback");
    };
    let symbols = feedback.packet_chunks.iter().flat_map(|chunk| match chunk {
        PacketStatusChunk::RunLengthChunk(run) => {
            vec![run.packet_status_symbol; usize::from(run.run_length)]
        }
        PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
    });
    let came = symbols
        .take(usize::from(feedback.packet_status_count))
        .map(|symbol| symbol != SymbolTypeTcc::PacketNotReceived);
    let steps = feedback.recv_deltas.iter().skip(1);
    (
        (feedback.base_sequence_number, feedback.fb_pkt_count),
        came.collect(),
        steps.map(|delta| delta.delta / 1_000).collect(),
    )
}

#[test]
fn a_publisher_that_numbers_its_packets_is_told_when_each_arrived() {
    let mut world = World::new();
    let mut publisher = Peer::connect(&mut world, 1);
    let mut track = video_track(1);
    track.extensions.transport_cc = Some(TRANSPORT_ID);
    let session = publisher.session;
    world.command(Command::Publish {
        session,
        track: Box::new(track),
    });
    for n in [0, 1, 3] {
        send_numbered(&mut world, &mut publisher, n);
        world.ms(10);
    }
    // Somebody else's, which is not authentic.
    let forged = vec![
        0x80, 96, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7,
        8,
    ];
    let path = publisher.path;
    world
        .engine
        .handle_datagrams(world.now, path, &mut forged.clone(), forged.len());
    assert!(
        publisher.control::<TransportLayerCc>(&mut world).is_empty(),
        "not for each packet"
    );
    world.ms(80);
    let (numbers, came, steps) = told(&mut world, &mut publisher);
    assert_eq!(numbers, (65_534, 0));
    assert_eq!((came, steps), (vec![true, true, false, true], vec![10, 10]));
    world.ms(500);
    assert!(
        publisher.control::<TransportLayerCc>(&mut world).is_empty(),
        "nothing new"
    );
    // The lost one comes late, and those that came since are told with it.
    send_numbered(&mut world, &mut publisher, 2);
    world.ms(10);
    send_numbered(&mut world, &mut publisher, 4);
    world.ms(90);
    let (numbers, came, _) = told(&mut world, &mut publisher);
    assert_eq!(numbers, (0, 1));
    assert_eq!(came, [true, true, true]);
    assert_eq!(world.counters().transport_feedback_sent, 2);
}
