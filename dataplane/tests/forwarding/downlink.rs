//! What a subscriber's network carries: transport-wide numbers, feedback, probes and pace.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use dataplane::command::{Command, Feed, MediaKind, SenderFormat, SenderSpec};
use dataplane::event::Event;
use dataplane::id::{PayloadType, SenderId};
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, SymbolTypeTcc,
    TransportLayerCc,
};
use rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};

use crate::world::*;

const TRANSPORT_ID: u8 = 3;
const SEND_TIME_ID: u8 = 5;

fn numbered(spec: SenderSpec) -> SenderSpec {
    let mut spec = spec;
    spec.extensions.transport_cc = Some(TRANSPORT_ID);
    spec.extensions.abs_send_time = Some(SEND_TIME_ID);
    spec
}

/// A publisher, and a subscriber that takes video 1 with transport-wide numbers.
fn pair(world: &mut World, rtx: bool) -> (Peer, Peer) {
    let (publisher, subscriber) = video_pair(world, rtx);
    let session = subscriber.session;
    let sender = Box::new(numbered(sender(1, MediaKind::Video, rtx)));
    world.command(Command::AddSender { session, sender });
    (publisher, subscriber)
}

fn number(packet: &rtp::Packet) -> Option<u16> {
    let value = packet.header.get_extension(TRANSPORT_ID)?;
    Some(u16::from_be_bytes(value[..].try_into().unwrap()))
}

fn says_when(packet: &rtp::Packet) -> bool {
    packet.header.get_extension(SEND_TIME_ID).is_some()
}

/// All of these packets arrived, each so many ticks after the one before.
fn arrived(base: u16, ticks: &[u8]) -> Box<dyn rtcp::Packet> {
    let symbol = SymbolTypeTcc::PacketReceivedSmallDelta;
    let delta = |ticks: &u8| RecvDelta {
        type_tcc_packet: symbol,
        delta: i64::from(*ticks) * 250,
    };
    Box::new(TransportLayerCc {
        sender_ssrc: 1,
        media_ssrc: 0x5001,
        base_sequence_number: base,
        packet_status_count: ticks.len() as u16,
        reference_time: 1,
        fb_pkt_count: 0,
        packet_chunks: vec![PacketStatusChunk::RunLengthChunk(RunLengthChunk {
            type_tcc: StatusChunkTypeTcc::RunLengthChunk,
            packet_status_symbol: symbol,
            run_length: ticks.len() as u16,
        })],
        recv_deltas: ticks.iter().map(delta).collect(),
    })
}

fn remb(bitrate_bps: u64, ssrc: u32) -> Box<dyn rtcp::Packet> {
    Box::new(ReceiverEstimatedMaximumBitrate {
        sender_ssrc: 1,
        bitrate: bitrate_bps as f32,
        ssrcs: vec![ssrc],
    })
}

fn estimates(world: &World) -> Vec<u64> {
    let estimate = |event: &Event| match event {
        Event::Downlink { estimate_bps, .. } => Some(*estimate_bps),
        _ => None,
    };
    world.events.iter().filter_map(estimate).collect()
}

#[test]
fn every_packet_to_a_session_has_the_next_number_and_its_repetition_a_new_one() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = pair(&mut world, true);
    let session = publisher.session;
    let track = Box::new(audio_track(2));
    world.command(Command::Publish { session, track });
    let session = subscriber.session;
    let sender = Box::new(numbered(sender(2, MediaKind::Audio, false)));
    world.command(Command::AddSender { session, sender });
    let format = SenderFormat {
        payload_type: PayloadType(109),
        rtx: None,
        red: None,
    };
    world.command(Command::Feed {
        sender: SenderId(2),
        source: Some(Feed {
            track: dataplane::id::TrackId(2),
            payload_types: vec![Some(format), None],
        }),
    });
    let mut sent = Vec::new();
    for sequence in 0..10 {
        publisher.send(&mut world, &video(7, sequence, &[1; 700]).packet());
        let voice = Media {
            payload_type: 111,
            extensions: &[(PUBLISHER_MID_ID, b"a")],
            ..video(8, sequence, &[2; 80])
        };
        publisher.send(&mut world, &voice.packet());
        world.ms(20);
        sent.extend(subscriber.media(&mut world));
    }
    assert_eq!(sent.len(), 20);
    let numbers: Vec<u16> = sent.iter().map(|packet| number(packet).unwrap()).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<u16>>());
    assert!(!sent.iter().any(says_when), "the number says it already");
    let lost = sent.iter().find(|packet| packet.header.ssrc == 0x5001);
    let nack = TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: 0x5001,
        nacks: nack_pairs_from_sequence_numbers(&[lost.unwrap().header.sequence_number]),
    };
    subscriber.send_rtcp(&mut world, &[Box::new(nack)]);
    let again = subscriber.media(&mut world);
    assert_eq!((again.len(), number(&again[0])), (1, Some(20)));
    // A voice without RTX would have to be repeated byte for byte, and cannot.
    let voice = sent.iter().find(|packet| packet.header.ssrc == 0x5002);
    let nack = TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: 0x5002,
        nacks: nack_pairs_from_sequence_numbers(&[voice.unwrap().header.sequence_number]),
    };
    subscriber.send_rtcp(&mut world, &[Box::new(nack)]);
    assert!(subscriber.media(&mut world).is_empty());
}

#[test]
fn a_picture_without_rtx_has_no_number_and_is_repeated_byte_for_byte() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = pair(&mut world, false);
    publisher.send(&mut world, &video(7, 1, &[1; 700]).packet());
    let sent = subscriber.media(&mut world);
    assert_eq!(number(&sent[0]), None);
    assert!(!says_when(&sent[0]));
}

/// Sends a picture each 33 ms, and tells each 100 ms that all of it arrived as it was sent.
fn watch(
    world: &mut World,
    (publisher, subscriber): (&mut Peer, &mut Peer),
    pictures: std::ops::Range<u16>,
) -> Vec<rtp::Packet> {
    let (mut all, mut waiting) = (Vec::new(), Vec::new());
    for sequence in pictures {
        publisher.send(world, &video(7, sequence, &[1; 1_000]).packet());
        for _ in 0..33 {
            world.ms(1);
            let came = subscriber.media(world);
            waiting.extend(
                came.iter()
                    .map(|packet| (number(packet).unwrap(), world.now)),
            );
            all.extend(came);
        }
        if sequence % 3 == 2
            && let Some((base, mut last)) = waiting.first().copied()
        {
            let ticks: Vec<u8> = waiting
                .drain(..)
                .map(|(_, at)| {
                    let since = at - std::mem::replace(&mut last, at);
                    (since.as_millis() * 4) as u8
                })
                .collect();
            subscriber.send_rtcp(world, &[arrived(base, &ticks)]);
        }
    }
    all
}

#[test]
fn what_arrives_is_followed_by_probes_of_padding_that_are_few() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = pair(&mut world, true);
    let all = watch(&mut world, (&mut publisher, &mut subscriber), 0..90);
    let padding: Vec<&rtp::Packet> = all
        .iter()
        .filter(|packet| packet.header.ssrc == 0x9001)
        .collect();
    assert!((20..400).contains(&padding.len()), "{}", padding.len());
    assert!(padding.iter().all(|packet| packet.header.padding
        && packet.header.payload_type == SUBSCRIBER_RTX
        && number(packet).is_some()));
    let sequences: Vec<u16> = padding.iter().map(|p| p.header.sequence_number).collect();
    assert!(
        sequences
            .windows(2)
            .all(|pair| pair[1] == pair[0].wrapping_add(1))
    );
    let estimates = estimates(&world);
    assert!(estimates.iter().any(|bps| *bps > 500_000), "{estimates:?}");
    let counters = world.counters();
    assert!(counters.transport_feedback_received >= 25);
    assert_eq!(
        (counters.feedback_unknown, counters.feedback_repeated),
        (0, 0)
    );
    assert_eq!(counters.padding_sent, padding.len() as u64);
}

#[test]
fn t_27_feedback_that_lies_is_counted_and_changes_nothing() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = pair(&mut world, true);
    publisher.send(&mut world, &video(7, 1, &[1; 700]).packet());
    subscriber.media(&mut world);
    subscriber.send_rtcp(&mut world, &[arrived(40_000, &[0; 100])]);
    subscriber.send_rtcp(&mut world, &[arrived(0, &[0])]);
    subscriber.send_rtcp(&mut world, &[arrived(0, &[0])]);
    let mut counters = world.counters();
    assert_eq!(
        (counters.feedback_unknown, counters.feedback_repeated),
        (100, 1)
    );
    // From somebody whose packets have no numbers.
    publisher.send_rtcp(&mut world, &[arrived(0, &[0])]);
    counters = world.counters();
    assert_eq!(counters.drop_feedback_malformed, 1);
    assert!(estimates(&world).iter().all(|bps| *bps < 400_000));
}

#[test]
fn a_receiver_that_only_knows_remb_says_what_it_can_take() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    publisher.send(&mut world, &video(7, 1, &[1; 700]).packet());
    subscriber.send_rtcp(&mut world, &[remb(700_000, 0x1234)]);
    assert!(estimates(&world).is_empty(), "somebody else's stream");
    subscriber.send_rtcp(&mut world, &[remb(700_000, 0x5001)]);
    let told = estimates(&world)[0];
    assert!(told.abs_diff(700_000) < 3_000, "{told}");
    let sent = subscriber.media(&mut world);
    assert!(sent.iter().all(|packet| number(packet).is_none()));
}

#[test]
fn a_large_picture_leaves_at_its_pace_and_voices_do_not_wait() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = pair(&mut world, true);
    watch(&mut world, (&mut publisher, &mut subscriber), 0..90);
    // 2.5 times this is the pace: 62 bytes in a millisecond.
    subscriber.send_rtcp(&mut world, &[remb(200_000, 0x5001)]);
    watch(&mut world, (&mut publisher, &mut subscriber), 90..93);
    world.ms(500);
    subscriber.media(&mut world);
    for sequence in 93..113 {
        publisher.send(&mut world, &video(7, sequence, &[1; 1_000]).packet());
    }
    let at_once = subscriber.media(&mut world).len();
    assert!((8..=14).contains(&at_once), "{at_once}");
    let mut later = Vec::new();
    for _ in 0..20 {
        world.ms(10);
        later.push(subscriber.media(&mut world).len());
    }
    assert_eq!(at_once + later.iter().sum::<usize>(), 20, "{later:?}");
    assert!(later.iter().all(|count| *count <= 2), "{later:?}");
    assert!(world.counters().paced > 3);
}

#[test]
fn silence_after_feedback_halves_the_estimate() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = pair(&mut world, true);
    watch(&mut world, (&mut publisher, &mut subscriber), 0..90);
    let before = *estimates(&world).last().unwrap();
    for sequence in 90..150 {
        publisher.send(&mut world, &video(7, sequence, &[1; 700]).packet());
        world.advance(Duration::from_millis(100));
    }
    let after = *estimates(&world).last().unwrap();
    assert!(after < before / 4, "{before} {after}");
}
