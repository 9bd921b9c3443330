//! Redundant audio that the engine makes for receivers that lose packets.

use dataplane::command::{Command, Feed, MediaKind, SenderFormat, TrackSpec};
use dataplane::id::{PayloadType, SenderId, TrackId};
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;

use crate::world::*;

const OPUS: u8 = 100;
const RED: u8 = 101;

/// A publisher of plain Opus, and a receiver that takes redundancy as well.
struct Call {
    world: World,
    publisher: Peer,
    receiver: Peer,
    sent: u16,
}

impl Call {
    fn new(red: Option<u8>) -> Call {
        let mut world = World::new();
        let publisher = Peer::connect(&mut world, 1);
        let receiver = Peer::connect(&mut world, 2);
        let mut track: TrackSpec = audio_track(1);
        track.formats.truncate(1);
        let (session, track) = (publisher.session, Box::new(track));
        world.command(Command::Publish { session, track });
        let (session, sender) = (
            receiver.session,
            Box::new(sender(1, MediaKind::Audio, false)),
        );
        world.command(Command::AddSender { session, sender });
        let take = SenderFormat {
            payload_type: PayloadType(OPUS),
            rtx: None,
            red: red.map(PayloadType),
        };
        world.command(Command::Feed {
            sender: SenderId(1),
            source: Some(Feed {
                track: TrackId(1),
                payload_types: vec![Some(take)],
            }),
        });
        Call {
            world,
            publisher,
            receiver,
            sent: 0,
        }
    }

    /// The publisher says something, and the receiver takes it.
    fn say(&mut self, payload: &[u8]) -> rtp::Packet {
        let media = Media {
            payload_type: 111,
            timestamp: u32::from(self.sent) * 960,
            extensions: &[(PUBLISHER_MID_ID, b"a"), (1, &[0x80 | 30])],
            ..video(7, self.sent, payload)
        };
        self.publisher.send(&mut self.world, &media.packet());
        self.sent += 1;
        self.world.ms(20);
        let [packet] = &self.receiver.media(&mut self.world)[..] else {
            panic!("one packet for each");
        };
        packet.clone()
    }

    /// The receiver reports that so many percent were lost.
    fn report(&mut self, percent: u32) {
        let report = ReceptionReport {
            ssrc: 0x5001,
            fraction_lost: (percent * 256 / 100) as u8,
            ..ReceptionReport::default()
        };
        let report = ReceiverReport {
            ssrc: 1,
            reports: vec![report],
            ..ReceiverReport::default()
        };
        self.receiver
            .send_rtcp(&mut self.world, &[Box::new(report)]);
    }
}

/// What a redundant packet repeats (its offset and content), and its own content, by RFC 2198 section 3.
fn read(payload: &[u8]) -> (Vec<(u32, Vec<u8>)>, Vec<u8>) {
    let (mut heads, mut at) = (Vec::new(), 0);
    while payload[at] & 0x80 != 0 {
        let [a, b, c, d] = payload[at..at + 4] else {
            panic!("a block's header has four bytes");
        };
        let word = u32::from_be_bytes([a, b, c, d]);
        assert_eq!(payload[at] & 0x7f, OPUS);
        heads.push(((word >> 10) & 0x3fff, (word & 0x3ff) as usize));
        at += 4;
    }
    assert_eq!(payload[at], OPUS);
    at += 1;
    let mut blocks = Vec::new();
    for (offset, len) in heads {
        blocks.push((offset, payload[at..at + len].to_vec()));
        at += len;
    }
    (blocks, payload[at..].to_vec())
}

#[test]
fn who_loses_packets_has_them_repeated_until_the_network_is_good_again() {
    let mut call = Call::new(Some(RED));
    let plain = [call.say(b"one"), call.say(b"two")];
    assert!(
        plain
            .iter()
            .all(|packet| packet.header.payload_type == OPUS)
    );
    call.report(5);
    let packet = call.say(b"three");
    assert_eq!(packet.header.payload_type, RED);
    let once = (vec![(960, b"two".to_vec())], b"three".to_vec());
    assert_eq!(read(&packet.payload), once);
    call.report(20);
    let blocks = vec![(1_920, b"two".to_vec()), (960, b"three".to_vec())];
    let packet = call.say(b"four");
    assert_eq!(read(&packet.payload), (blocks, b"four".to_vec()));
    let number = |packet: &rtp::Packet| packet.header.sequence_number;
    assert_eq!(number(&packet), number(&plain[0]) + 3, "numbers go on");
    // Ten good seconds.
    for _ in 0..10 {
        call.report(0);
        for _ in 0..50 {
            call.say(b"more");
        }
    }
    call.report(0);
    assert_eq!(call.say(b"last").header.payload_type, OPUS);
    let counters = call.world.counters();
    assert_eq!(counters.rtp_with_redundancy, 2 + 10 * 50);
}

#[test]
fn who_takes_no_redundancy_gets_none() {
    let mut call = Call::new(None);
    call.report(30);
    call.say(b"one");
    assert_eq!(call.say(b"two").header.payload_type, OPUS);
}

#[test]
fn what_would_be_too_long_is_not_repeated_and_no_packet_is_cut() {
    let mut call = Call::new(Some(RED));
    call.report(20);
    let long = |byte: u8, len| vec![byte; len];
    assert_eq!(
        call.say(&long(1, 600)).payload.len(),
        600,
        "nothing before it"
    );
    assert_eq!(
        call.say(&long(2, 600)).payload.len(),
        600,
        "too long together"
    );
    let packet = call.say(&long(3, 100));
    let nearest = vec![(960, long(2, 600))];
    assert_eq!(read(&packet.payload), (nearest, long(3, 100)));
    let packet = call.say(&long(4, 100));
    let both = vec![(1_920, long(2, 600)), (960, long(3, 100))];
    assert_eq!(read(&packet.payload), (both, long(4, 100)));
    assert_eq!(call.say(&long(5, 1_200)).payload.len(), 1_200);
    // A block has 1,023 bytes at most: what came before that one is repeated.
    let packet = call.say(&long(6, 100));
    let farther = vec![(1_920, long(4, 100))];
    assert_eq!(read(&packet.payload), (farther, long(6, 100)));
}

#[test]
fn a_packet_with_repetitions_is_not_sent_again_under_its_number() {
    let mut call = Call::new(Some(RED));
    call.report(5);
    call.say(b"one");
    let packet = call.say(b"two");
    let nack = rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: 0x5001,
        nacks: vec![rtcp::transport_feedbacks::transport_layer_nack::NackPair {
            packet_id: packet.header.sequence_number,
            lost_packets: 0,
        }],
    };
    call.receiver.send_rtcp(&mut call.world, &[Box::new(nack)]);
    assert!(call.receiver.media(&mut call.world).is_empty());
    assert_eq!(call.world.counters().drop_nack_too_late, 1);
}
