//! Loss: what is sent again, what is asked for again, and that no packet index is used twice.

use std::collections::BTreeMap;

use dataplane::command::{Command, Feed, MediaKind, SenderFormat};
use dataplane::id::{PayloadType, SenderId, TrackId};
use rtcp::transport_feedbacks::transport_layer_nack::{
    NackPair, TransportLayerNack, nack_pairs_from_sequence_numbers,
};

use crate::world::*;

fn nack(ssrc: u32, lost: &[u16]) -> Box<dyn rtcp::Packet> {
    Box::new(TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: ssrc,
        nacks: nack_pairs_from_sequence_numbers(lost),
    })
}

#[test]
fn a_lost_packet_is_sent_again_as_a_retransmission() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    for sequence in 0..20 {
        publisher.send(
            &mut world,
            &video(7, sequence, &[sequence as u8; 500]).packet(),
        );
    }
    let sent = subscriber.media(&mut world);
    let lost = [3, 4, 9].map(|at: usize| sent[at].header.sequence_number);
    subscriber.send_rtcp(&mut world, &[nack(0x5001, &lost)]);
    let again = subscriber.media(&mut world);
    assert_eq!(again.len(), 3);
    for (packet, at) in again.iter().zip([3usize, 4, 9]) {
        assert_eq!(
            (packet.header.ssrc, packet.header.payload_type),
            (0x9001, SUBSCRIBER_RTX)
        );
        assert_eq!(
            packet.payload[..2],
            sent[at].header.sequence_number.to_be_bytes()
        );
        assert_eq!(packet.payload[2..], sent[at].payload[..]);
        assert_eq!(packet.header.timestamp, sent[at].header.timestamp);
    }
    // At once again: the first answer is still on its way.
    subscriber.send_rtcp(&mut world, &[nack(0x5001, &lost)]);
    assert!(subscriber.media(&mut world).is_empty());
    // Never sent, and never will be.
    let future = sent[19].header.sequence_number + 5;
    subscriber.send_rtcp(&mut world, &[nack(0x5001, &[future])]);
    assert!(subscriber.media(&mut world).is_empty());
    assert_eq!(world.counters().drop_nack_too_late, 1);
}

#[test]
fn without_rtx_a_lost_packet_is_sent_again_byte_for_byte() {
    let mut world = World::new();
    let (mut publisher, subscriber) = video_pair(&mut world, false);
    for (sequence, len) in [500, 501, 499].into_iter().enumerate() {
        publisher.send(
            &mut world,
            &video(7, sequence as u16, &vec![1; len]).packet(),
        );
    }
    world.drain();
    let first = world.sent_to(subscriber.path);
    let numbers: Vec<u16> = first
        .iter()
        .map(|p| u16::from_be_bytes(p[2..4].try_into().unwrap()))
        .collect();
    let mut subscriber = subscriber;
    subscriber.send_rtcp(&mut world, &[nack(0x5001, &numbers)]);
    assert_eq!(world.sent_to(subscriber.path), first);
    // Under another payload type it would be another packet with the same index: not sent.
    let format = SenderFormat {
        payload_type: PayloadType(99),
        rtx: None,
        red: None,
    };
    let feed = Feed {
        track: TrackId(1),
        payload_types: vec![Some(format)],
    };
    world.command(Command::Feed {
        sender: SenderId(1),
        source: Some(feed),
    });
    world.ms(100);
    world.sent_to(subscriber.path);
    subscriber.send_rtcp(&mut world, &[nack(0x5001, &numbers)]);
    assert!(world.sent_to(subscriber.path).is_empty());
}

#[test]
fn who_falls_behind_the_log_loses_what_is_gone_and_nothing_else() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    for sequence in 0..700 {
        publisher.send(
            &mut world,
            &video(7, sequence, &sequence.to_be_bytes()).packet(),
        );
    }
    let media = subscriber.media(&mut world);
    let got: Vec<u16> = media
        .iter()
        .map(|p| u16::from_be_bytes(p.payload[..2].try_into().unwrap()))
        .collect();
    assert_eq!(got, (700 - 512..700).collect::<Vec<u16>>());
    assert_eq!(world.counters().drop_subscriber_behind, 700 - 512);
}

#[test]
fn who_was_away_for_a_whole_number_space_still_decrypts_what_comes_then() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    publisher.send(&mut world, &video(7, 0, b"x").packet());
    let before = subscriber.media(&mut world)[0].header.sequence_number;
    for sequence in 1..40_000 {
        publisher.send(&mut world, &video(7, sequence, b"x").packet());
    }
    let after = subscriber.media(&mut world);
    assert_eq!(after.len(), 512);
    assert_eq!(after[0].header.sequence_number, before.wrapping_add(1));
}

#[test]
fn t_21_a_track_and_a_sender_that_come_back_go_on_with_their_packet_indices() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    for sequence in 65_000..66_000u32 {
        publisher.send(&mut world, &video(7, sequence as u16, b"x").packet());
    }
    let last = subscriber
        .media(&mut world)
        .last()
        .unwrap()
        .header
        .sequence_number;
    let track = TrackId(1);
    world.command(Command::Unpublish { track });
    world.command(Command::RemoveSender {
        sender: SenderId(1),
    });
    let (session, track) = (publisher.session, Box::new(video_track(1)));
    world.command(Command::Publish { session, track });
    let (session, spec) = (subscriber.session, sender(1, MediaKind::Video, true));
    let sender = Box::new(spec);
    world.command(Command::AddSender { session, sender });
    let source = Some(video_feed(1));
    world.command(Command::Feed {
        sender: SenderId(1),
        source,
    });
    publisher.send(&mut world, &video(7, 464, b"back").packet());
    let back = subscriber.media(&mut world);
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].header.sequence_number, last.wrapping_add(1));
}

#[test]
fn a_packet_that_no_burst_could_hold_is_not_taken() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    publisher.send(&mut world, &video(7, 0, &vec![1; 65_000]).packet());
    publisher.send(&mut world, &video(7, 1, &[1; 1_200]).packet());
    assert_eq!(subscriber.media(&mut world).len(), 1);
    assert_eq!(world.counters().drop_too_large, 1);
}

#[test]
fn t_25_a_flood_of_nacks_costs_no_more_than_the_budget() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    for sequence in 0..400 {
        publisher.send(&mut world, &video(7, sequence, &[1; 1_000]).packet());
        world.drain();
    }
    let numbers: Vec<u16> = subscriber
        .media(&mut world)
        .iter()
        .map(|p| p.header.sequence_number)
        .collect();
    let mut resent = 0;
    for _ in 0..100 {
        subscriber.send_rtcp(&mut world, &[nack(0x5001, &numbers)]);
        resent += subscriber
            .media(&mut world)
            .iter()
            .filter(|p| p.header.ssrc == 0x9001)
            .count();
        world.ms(20);
    }
    assert!((130..300).contains(&resent), "{resent}");
    assert!(world.counters().drop_nack_budget > 50);
}

#[test]
fn t_25_nacks_for_every_number_there_is_cost_no_more_than_the_budget() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    for sequence in 0..400 {
        publisher.send(&mut world, &video(7, sequence, &[1; 1_000]).packet());
        world.drain();
    }
    subscriber.media(&mut world);
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let pairs = nack_pairs_from_sequence_numbers(&all);
    let mut resent = 0;
    // As fast as a client may send control packets at all.
    for _ in 0..100 {
        for nacks in pairs.chunks(250) {
            let nack = TransportLayerNack {
                sender_ssrc: 1,
                media_ssrc: 0x5001,
                nacks: nacks.to_vec(),
            };
            subscriber.send_rtcp(&mut world, &[Box::new(nack)]);
        }
        resent += subscriber.media(&mut world).len();
        world.ms(10);
    }
    // What was saved up, three tenths of what was sent, and the floor of a second.
    assert!((130..300).contains(&resent), "{resent}");
    let counters = world.counters();
    assert!(counters.drop_nack_too_late > 1_000_000, "{counters:?}");
}

#[test]
fn a_hole_on_the_publishers_side_is_asked_for_and_filled_by_its_retransmission() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    for sequence in [100, 101, 104] {
        publisher.send(
            &mut world,
            &video(7, sequence, &[sequence as u8; 50]).packet(),
        );
    }
    let before = subscriber.media(&mut world);
    world.ms(10);
    let nacks: Vec<TransportLayerNack> = publisher.control(&mut world);
    let lost: Vec<u16> = nacks
        .iter()
        .flat_map(|n| &n.nacks)
        .flat_map(NackPair::packet_list)
        .collect();
    assert_eq!(lost, [102, 103]);
    for (index, osn) in [102u16, 103, 101].into_iter().enumerate() {
        let payload = [&osn.to_be_bytes()[..], &[osn as u8; 50]].concat();
        let repair = Media {
            ssrc: 8,
            payload_type: PUBLISHER_RTX,
            timestamp: u32::from(osn) * 3_000,
            ..video(8, 900 + index as u16, &payload)
        };
        publisher.send(&mut world, &repair.packet());
    }
    let late = subscriber.media(&mut world);
    let base = before[0].header.sequence_number;
    let got: Vec<(u16, u8)> = late
        .iter()
        .map(|p| (p.header.sequence_number - base, p.payload[0]))
        .collect();
    assert_eq!(
        got,
        [(2, 102), (3, 103)],
        "and what was there already does not come twice"
    );
    world.ms(2_000);
    let nacks: Vec<TransportLayerNack> = publisher.control(&mut world);
    assert!(nacks.is_empty());
}

#[test]
fn a_retransmission_of_what_was_never_sent_leaves_the_subscribers_numbers_alone() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let mut received = Vec::new();
    for sequence in [10, 11, 12] {
        publisher.send(&mut world, &video(7, sequence, b"x").packet());
        for (number, ahead) in [(0, sequence + 40), (1, 62_000)] {
            let payload = [&ahead.to_be_bytes()[..], b"y"].concat();
            let repair = Media {
                ssrc: 8,
                payload_type: PUBLISHER_RTX,
                ..video(8, 2 * sequence + number, &payload)
            };
            publisher.send(&mut world, &repair.packet());
        }
        received.extend(subscriber.media(&mut world));
        world.ms(20);
    }
    let numbers: Vec<u16> = received.iter().map(|p| p.header.sequence_number).collect();
    let base = numbers[0];
    assert_eq!(numbers, [base, base + 1, base + 2]);
}

#[test]
fn t_21_no_packet_index_is_ever_used_for_two_contents() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, false);
    let mut random = 88_172_645_463_325_252u64;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut seen: BTreeMap<(u32, u16), Vec<u8>> = BTreeMap::new();
    let mut sequence = 0u16;
    for step in 0..4_000u32 {
        match draw(20) {
            0 => world.command(Command::Feed {
                sender: SenderId(1),
                source: None,
            }),
            1 => {
                let rtx = None;
                let payload_type = PayloadType(96 + draw(10) as u8);
                let feed = Feed {
                    track: TrackId(1),
                    payload_types: vec![Some(SenderFormat {
                        payload_type,
                        rtx,
                        red: None,
                    })],
                };
                world.command(Command::Feed {
                    sender: SenderId(1),
                    source: Some(feed),
                });
            }
            2..6 => {
                let last = seen.keys().map(|key| key.1).max().unwrap_or(0);
                let lost: Vec<u16> = (0..4).map(|_| last.wrapping_sub(draw(60) as u16)).collect();
                subscriber.send_rtcp(&mut world, &[nack(0x5001, &lost)]);
            }
            _ => {
                let late = if draw(5) == 0 { draw(9) as u16 } else { 0 };
                sequence = sequence.wrapping_add(1 + u16::from(draw(10) == 0));
                let ssrc = 7 + u32::from(step > 2_000);
                let payload = step.to_be_bytes().repeat(1 + draw(30) as usize);
                let media = video(ssrc, sequence.wrapping_sub(late), &payload);
                publisher.send(&mut world, &media.packet());
            }
        }
        world.ms(5);
        for datagram in world.sent_to(subscriber.path) {
            if dataplane::wire::classify(&datagram) != Some(dataplane::wire::Protocol::Rtp) {
                continue;
            }
            let number = u16::from_be_bytes(datagram[2..4].try_into().unwrap());
            let ssrc = u32::from_be_bytes(datagram[8..12].try_into().unwrap());
            let before = seen
                .entry((ssrc, number))
                .or_insert_with(|| datagram.clone());
            assert_eq!(*before, datagram, "step {step}");
        }
    }
    assert!(seen.len() > 1_000);
}
