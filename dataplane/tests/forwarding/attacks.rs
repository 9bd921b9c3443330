//! What strangers, and clients that hold keys and keep no rule, do to the engine; the cases of docs/security.md.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;

use dataplane::command::{Command, MediaKind, SrtpKeys, SrtpProfile};
use dataplane::id::SenderId;
use dataplane::limits::{INTAKE_BYTES_PER_SECOND_MIN, PATH_HELD, SSRCS_PER_TRACK_MAX};
use dataplane::srtp::{RtcpKeys, SealKey};
use dataplane::transmit::Path;
use dataplane::wire::{Protocol, classify};
use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use stun::attributes::{ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, AttrType};

use crate::world::*;

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

fn elsewhere() -> Path {
    Path::udp(SocketAddr::from(([203, 0, 113, 9], 9_999)))
}

/// Two in another room, who must not notice anything.
struct Bystanders {
    publisher: Peer,
    subscriber: Peer,
    sent: u16,
    received: usize,
}

impl Bystanders {
    fn new(world: &mut World) -> Bystanders {
        let publisher = Peer::connect(world, 3);
        let subscriber = Peer::connect(world, 4);
        let (session, track) = (publisher.session, Box::new(video_track(2)));
        world.command(Command::Publish { session, track });
        let (session, sender) = (
            subscriber.session,
            Box::new(sender(2, MediaKind::Video, true)),
        );
        world.command(Command::AddSender { session, sender });
        world.command(Command::Feed {
            sender: SenderId(2),
            source: Some(video_feed(2)),
        });
        Bystanders {
            publisher,
            subscriber,
            sent: 0,
            received: 0,
        }
    }

    /// One packet more goes from one to the other.
    fn go_on(&mut self, world: &mut World) {
        self.publisher
            .send(world, &video(77, self.sent, b"undisturbed").packet());
        self.sent += 1;
        self.received += self.subscriber.media(world).len();
    }

    fn assert_undisturbed(&self) {
        assert!(self.sent > 0 && self.received == usize::from(self.sent));
    }
}

/// A client that seals whatever it likes.
struct Liar {
    path: Path,
    seal: SealKey,
    control: RtcpKeys,
    next: u16,
}

impl Liar {
    fn new(peer: &Peer) -> Liar {
        let number = peer.session.0 as u8;
        let keys = SrtpKeys {
            profile: PROFILE,
            receive: master(100 + number, PROFILE),
            send: master(number, PROFILE),
        };
        Liar {
            path: peer.path,
            seal: SealKey::new(PROFILE, &keys.send).unwrap(),
            control: RtcpKeys::new(&keys).unwrap(),
            next: 0,
        }
    }

    /// Sends a packet with this header, whose number is set, as it is and then sealed.
    fn say(&mut self, world: &mut World, header: &[u8], payload: &[u8]) {
        let plain = [header, payload].concat();
        world.arrive(self.path, &plain);
        if header.len() < 12 {
            return;
        }
        self.next += 1;
        let mut packet = plain.clone();
        packet[2..4].copy_from_slice(&self.next.to_be_bytes());
        packet.resize(plain.len() + self.seal.overhead(), 0);
        let index = u64::from(self.next);
        let sealed = self
            .seal
            .seal_rtp_in_place(&mut packet, header.len(), payload.len(), index);
        world.arrive(self.path, &packet[..sealed.unwrap()]);
    }

    /// Sends a compound of control packets, as it is and then sealed.
    fn tell(&mut self, world: &mut World, compound: &[u8]) {
        world.arrive(self.path, compound);
        let mut packet = vec![0; compound.len() + 64];
        if let Some(len) = self.control.seal(compound, &mut packet) {
            world.arrive(self.path, &packet[..len]);
        }
    }
}

/// Headers that break a rule, and some that only come near it.
fn strange_headers() -> Vec<Vec<u8>> {
    let base = |flags: u8| vec![flags, PUBLISHER_PT, 0, 0, 0, 0, 0, 1, 0, 0, 0, 7];
    let with = |flags: u8, rest: &[u8]| [base(flags), rest.to_vec()].concat();
    let mut headers = vec![
        base(0x80),
        // CC=15: cut short, and all there.
        with(0x8f, &[1; 20]),
        with(0x8f, &[1; 60]),
        // An extension past the end, by one word and by all that a length can say.
        with(0x90, &[0xbe, 0xde, 0, 2, 0x40, b'v', 0, 0]),
        with(0x90, &[0xbe, 0xde, 0xff, 0xff]),
        with(0x90, &[0xbe]),
        // Ids 0 and 15, and elements longer than their block, in both forms (RFC 8285 section 4).
        with(0x90, &[0xbe, 0xde, 0, 1, 0, 0, 0, 0]),
        with(0x90, &[0xbe, 0xde, 0, 1, 0xf3, 1, 2, 3]),
        with(0x90, &[0xbe, 0xde, 0, 1, 0x4f, b'v', 0, 0]),
        with(0x90, &[0x10, 0, 0, 1, 4, 0xff, b'v', 0]),
        with(0x90, &[0x10, 0, 0, 1, 0, 0, 0, 4]),
        with(0x90, &[0x10, 0, 0, 0]),
        with(0x90, &[0, 0, 0, 1, 1, 2, 3, 4]),
    ];
    headers.extend((0..40).map(|len| with(0x80, &[0x5a; 40])[..len].to_vec()));
    headers.extend((0..40).map(|len| with(0xbf, &[0xff; 40])[..len].to_vec()));
    headers
}

#[test]
fn t_08_headers_and_padding_that_lie_harm_nobody() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let mut others = Bystanders::new(&mut world);
    let mut liar = Liar::new(&publisher);
    for header in strange_headers() {
        for payload in [&[][..], &[0], &[1], &[255], &[7; 40], &[0; 1_200]] {
            liar.say(&mut world, &header, payload);
        }
        // Padding of nothing, of more than there is, and of all of it (GHSA-f26w-gh5m-qq77).
        let mut padded = header.clone();
        if let Some(flags) = padded.first_mut() {
            *flags |= 0x20;
        }
        for payload in [
            &[][..],
            &[0],
            &[1],
            &[9, 9, 0],
            &[9, 9, 3],
            &[9, 9, 4],
            &[255],
        ] {
            liar.say(&mut world, &padded, payload);
        }
        others.go_on(&mut world);
    }
    // Retransmissions without the number of what they repair (RFC 4588 section 4).
    for len in 0..4 {
        let header = [0x80, PUBLISHER_RTX, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8];
        liar.say(&mut world, &header, &vec![0; len]);
    }
    others.assert_undisturbed();
    let counters = world.counters();
    assert!(counters.drop_rtp_malformed > 100, "{counters:?}");
    assert!(counters.drop_unauthenticated > 100, "{counters:?}");
    // And the one who said all that may still say something sensible.
    subscriber.media(&mut world);
    publisher.send(&mut world, &video(9, 1, b"sense").packet());
    let media = subscriber.media(&mut world);
    assert!(
        media
            .iter()
            .any(|packet| packet.payload[..] == b"sense"[..])
    );
}

#[test]
fn t_08_control_packets_whose_lengths_and_counts_lie_harm_nobody() {
    let mut world = World::new();
    let (mut publisher, _) = video_pair(&mut world, true);
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    let mut others = Bystanders::new(&mut world);
    let mut liar = Liar::new(&publisher);
    for kind in 200..=207_u8 {
        for count in 0..32_u8 {
            for words in [0_u16, 1, 2, 7, 63, 0xffff] {
                for len in [8_usize, 12, 20, 32] {
                    let mut compound = vec![0x80 | count, kind];
                    compound.extend(words.to_be_bytes());
                    compound.extend([0, 0, 0, 7]);
                    compound.resize(len, 0xff);
                    liar.tell(&mut world, &compound);
                }
            }
        }
        others.go_on(&mut world);
    }
    // A BYE whose reason ends past the packet (RFC 3550 section 6.6), and padding past the compound.
    for reason in [0_u8, 3, 4, 200, 255] {
        let bye = [0x81, 203, 0, 2, 0, 0, 0, 7, reason, b'b', b'y', b'e'];
        liar.tell(&mut world, &bye);
        let mut padded = bye;
        (padded[0], padded[11]) = (0xa1, reason);
        liar.tell(&mut world, &padded);
    }
    others.go_on(&mut world);
    others.assert_undisturbed();
    let counters = world.counters();
    assert!(counters.drop_rtcp_malformed > 1_000, "{counters:?}");
    assert!(counters.drop_unauthenticated > 1_000, "{counters:?}");
}

#[test]
fn t_06_media_without_the_key_is_counted_and_goes_nowhere() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    assert_eq!(subscriber.media(&mut world).len(), 1);
    let mut foreign = context(99);
    let loss = PictureLossIndication {
        sender_ssrc: 1,
        media_ssrc: 0x5001,
    };
    let control = rtcp::packet::marshal(&[Box::new(loss) as Box<dyn rtcp::Packet>]).unwrap();
    publisher.receive(&mut world);
    for sequence in 2..502 {
        let packet = video(7, sequence, &[0; 100]).packet();
        // In plaintext, and under another key, with the SSRC that is expected.
        world.arrive(publisher.path, &packet);
        world.arrive(publisher.path, &foreign.encrypt_rtp(&packet).unwrap());
        world.arrive(subscriber.path, &control);
        world.arrive(subscriber.path, &foreign.encrypt_rtcp(&control).unwrap());
    }
    world.ms(500);
    assert!(subscriber.media(&mut world).is_empty());
    let asked = publisher.control::<PictureLossIndication>(&mut world);
    assert!(asked.is_empty(), "nobody who may asked for a key frame");
    assert_eq!(world.counters().drop_unauthenticated, 4 * 500);
    // The forged numbers moved no window.
    publisher.send(&mut world, &video(7, 2, b"x").packet());
    assert_eq!(subscriber.media(&mut world).len(), 1);
}

#[test]
fn t_07_media_from_elsewhere_during_set_up_and_after_moves_nothing() {
    let mut world = World::new();
    let (mut publisher, _) = video_pair(&mut world, true);
    let mut late = Peer::open(&mut world, 5);
    let (session, spec) = (late.session, sender(5, MediaKind::Video, true));
    let sender = Box::new(spec);
    world.command(Command::AddSender { session, sender });
    world.command(Command::Feed {
        sender: SenderId(5),
        source: Some(video_feed(1)),
    });
    let genuine = |peer: &mut Peer, sequence| {
        let packet = video(7, sequence, b"spray").packet();
        peer.seal.encrypt_rtp(&packet).unwrap()
    };
    for sequence in 0..30 {
        // Even what is sealed with the right keys: an address is none before ICE has validated it.
        for peer in [&mut late, &mut publisher] {
            let packet = genuine(peer, 1_000 + sequence);
            world.arrive(elsewhere(), &packet);
        }
        match sequence {
            10 => late.check(&mut world, true),
            20 => late.handshake(&mut world),
            _ => {}
        }
        publisher.send(&mut world, &video(7, sequence, b"x").packet());
        world.ms(10);
    }
    assert!(world.sent_to(elsewhere()).is_empty());
    assert_eq!(world.counters().drop_unknown_address, 60);
    assert!(late.media(&mut world).len() >= 9);
}

#[test]
fn t_14_what_is_not_authentic_is_answered_with_no_byte() {
    let mut world = World::new();
    let (_, subscriber) = video_pair(&mut world, true);
    let good = check(&subscriber.ice, 77, true);
    let edit = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    // Without the type of the fingerprint it is a good check that has none.
    let fingerprint_at = good.len() - 8;
    let edits = (0..good.len()).filter(|at| !(fingerprint_at..fingerprint_at + 2).contains(at));
    let mut attempts: Vec<Vec<u8>> = edits.map(edit).collect();
    attempts.extend((0..good.len()).map(|len| good[..len].to_vec()));
    // An indication and both answers (RFC 8489 section 5): nothing is said to what asks nothing.
    for class in [0x0011_u16, 0x0101, 0x0111] {
        let mut bytes = good.clone();
        bytes[..2].copy_from_slice(&class.to_be_bytes());
        attempts.push(bytes);
    }
    for first in 0..=255_u8 {
        attempts.push([&[first][..], &[0x5a; 60]].concat());
    }
    for attempt in &attempts {
        world.arrive(elsewhere(), attempt);
    }
    world.drain();
    assert!(world.sent_to(elsewhere()).is_empty());
    assert_eq!(
        world.counters().stun_answered,
        2,
        "those of the two who are in"
    );
}

#[test]
fn t_14_no_answer_is_longer_than_what_it_answers_whoever_repeats_it() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let by_v6 = Path::udp("[2001:db8::9]:9999".parse().unwrap());
    // A check like any other, one with an attribute that nobody knows, one of the other role.
    let attributes: [&[(AttrType, &[u8])]; 3] = [
        &[(ATTR_ICE_CONTROLLING, &[7; 8])],
        &[(ATTR_ICE_CONTROLLING, &[7; 8]), (AttrType(0x7ffe), &[1; 4])],
        &[(ATTR_ICE_CONTROLLED, &[7; 8])],
    ];
    for (number, attributes) in (1..).zip(attributes) {
        let ice = &subscriber.ice;
        let recorded = check_with_attributes(ice, &ice.local_pwd, 200 + number, attributes);
        for path in [subscriber.path, elsewhere(), by_v6] {
            world.arrive(path, &recorded);
            world.drain();
            let answers = world.sent_to(path);
            assert_eq!(answers.len(), 1, "{path:?}");
            assert!(answers[0].len() <= recorded.len(), "{path:?}: {answers:?}");
            assert_eq!(is_success(&answers[0]), number == 1);
        }
    }
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    assert_eq!(subscriber.media(&mut world).len(), 1, "media did not move");
    assert!(world.sent_to(elsewhere()).is_empty() && world.sent_to(by_v6).is_empty());
}

#[test]
fn t_28_a_thousand_sources_of_one_session_are_a_few_and_a_counter() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let mut others = Bystanders::new(&mut world);
    for ssrc in 1_000..2_000 {
        publisher.send(&mut world, &video(ssrc, 5, b"x").packet());
        others.go_on(&mut world);
    }
    let mut heard: Vec<u32> = (subscriber.media(&mut world).iter())
        .map(|packet| packet.header.timestamp)
        .collect();
    heard.dedup();
    assert!(heard.len() <= SSRCS_PER_TRACK_MAX, "{heard:?}");
    let refused = world.counters().drop_unknown_ssrc;
    assert_eq!(refused, 1_000 - SSRCS_PER_TRACK_MAX as u64);
    others.assert_undisturbed();
}

#[test]
fn t_26_three_thousand_subscribers_that_want_key_frames_ask_for_few() {
    const SUBSCRIBERS: u64 = 3_000;
    let mut world = World::with_sessions_max(SUBSCRIBERS as usize + 1);
    let mut publisher = Peer::connect(&mut world, 1);
    let (session, track) = (publisher.session, Box::new(video_track(1)));
    world.command(Command::Publish { session, track });
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    let mut subscribers: Vec<Peer> = (2..2 + SUBSCRIBERS)
        .map(|number| {
            let peer = Peer::connect(&mut world, number);
            let (session, spec) = (peer.session, sender(number, MediaKind::Video, true));
            let (id, sender) = (spec.sender, Box::new(spec));
            world.command(Command::AddSender { session, sender });
            world.command(Command::Feed {
                sender: id,
                source: Some(video_feed(1)),
            });
            peer
        })
        .collect();
    world.ms(1_000);
    publisher.receive(&mut world);
    let mut asked = 0;
    // Two seconds, in which everybody asks once each way.
    for few in subscribers.chunks_mut(15) {
        for peer in few {
            let media_ssrc = 0x5000 + peer.session.0 as u32;
            let loss = PictureLossIndication {
                sender_ssrc: 1,
                media_ssrc,
            };
            let intra = FullIntraRequest {
                sender_ssrc: 1,
                media_ssrc: 0,
                fir: vec![FirEntry {
                    ssrc: media_ssrc,
                    sequence_number: 1,
                }],
            };
            peer.send_rtcp(&mut world, &[Box::new(loss)]);
            peer.send_rtcp(&mut world, &[Box::new(intra)]);
        }
        world.ms(10);
        asked += publisher.control::<PictureLossIndication>(&mut world).len();
        world.sent.clear();
    }
    assert!((3..=5).contains(&asked), "{asked} requests in two seconds");
    let counters = world.counters();
    assert_eq!(counters.drop_unauthenticated, 0, "{counters:?}");
    assert_eq!(counters.rtcp_received, 2 * SUBSCRIBERS, "{counters:?}");
}

#[test]
fn x_01_a_member_cannot_take_the_address_of_another() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let mut thief = Peer::connect(&mut world, 5);
    for sequence in 0..100 {
        // Good credentials of its own, from a forged address.
        thief.path = subscriber.path;
        thief.check(&mut world, true);
        publisher.send(&mut world, &video(7, sequence, b"x").packet());
        let media = subscriber.media(&mut world);
        assert_eq!(media.len(), 1, "packet {sequence}");
        world.ms(50);
        if sequence % 40 == 39 {
            subscriber.check(&mut world, true);
            world.sent_to(subscriber.path);
        }
    }
    assert_eq!(world.counters().drop_stun_path_held, 100);
    // Who is gone without a word leaves the address to whoever comes next from there.
    world.advance(PATH_HELD);
    thief.check(&mut world, true);
    assert!(is_success(&world.sent_to(subscriber.path)[0]));
}

#[test]
fn t_09_what_a_client_sends_beyond_all_measure_is_cut_off() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let mut others = Bystanders::new(&mut world);
    // 80 MB/s where some 5 are allowed; a browser that is told 2.5 Mbit/s sends 0.3.
    const SECONDS: u64 = 3;
    let (mut sequence, mut received) = (0_u16, 0);
    for _ in 0..SECONDS * 200 {
        for _ in 0..400 {
            let packet = video(7, sequence, &[1; 1_000]).packet();
            publisher.send(&mut world, &packet);
            sequence = sequence.wrapping_add(1);
        }
        received += subscriber.media(&mut world).len() as u64 * 1_000;
        others.go_on(&mut world);
        world.ms(5);
    }
    others.assert_undisturbed();
    // One second's worth may be saved up.
    let most = (SECONDS + 1) * INTAKE_BYTES_PER_SECOND_MIN;
    assert!((most / 2..=most).contains(&received), "{received}");
    let counters = world.counters();
    assert!(counters.drop_over_rate > 200_000, "{counters:?}");
    // A measure later it may speak again.
    publisher.send(&mut world, &video(7, sequence, b"x").packet());
    assert_eq!(subscriber.media(&mut world).len(), 1);
}

#[test]
fn t_15_a_whole_conversation_repeated_from_elsewhere_moves_nothing() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let mut recorded = Vec::new();
    for number in 100..140 {
        let check = check(&subscriber.ice, number, true);
        world.arrive(subscriber.path, &check);
        recorded.push(check);
        world.ms(100);
    }
    world.sent_to(subscriber.path);
    for check in &recorded {
        world.arrive(elsewhere(), check);
    }
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    world.drain();
    assert!(world.sent_to(elsewhere()).is_empty());
    assert_eq!(subscriber.media(&mut world).len(), 1);
    assert_eq!(world.counters().drop_stun_replayed, 40);
    assert!(classify(&recorded[0]) == Some(Protocol::Stun));
}
