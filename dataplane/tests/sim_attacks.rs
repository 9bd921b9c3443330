//! What strangers and spoofers try on the real engine, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use dataplane::command::{DtlsRole, DtlsSpec};
use dataplane::dtls::{Association, Certificate};
use dataplane::event::{CloseReason, Event};
use dataplane::id::{SenderId, TrackId};
use dataplane::sim::meeting::PublishOptions;
use dataplane::sim::network::{LinkSpec, Rng};
use dataplane::sim::source::Shape;
use dataplane::sim::world::{SeatId, World, WorldConfig};

const SEED: u64 = 0x6174_7461_636b;

const ATTACKER: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 66)),
    666,
);

/// A ClientHello that offers TLS_NULL_WITH_NULL_NULL and no `use_srtp`.
fn null_hello() -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([0x5a; 32]);
    body.extend([0, 0]);
    body.extend([0, 2, 0, 0, 1, 0]);
    let len = body.len() as u8;
    let mut hello = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, len + 12];
    hello.extend([1, 0, 0, len, 0, 0, 0, 0, 0, 0, 0, len]);
    hello.extend(body);
    hello
}

/// An alert in plaintext, with a record number far ahead.
fn plaintext_alert([level, description]: [u8; 2]) -> Vec<u8> {
    let header = [21, 0xfe, 0xfd, 0, 0, 0x7f, 0, 0, 0, 0, 0, 0, 2];
    [&header[..], &[level, description]].concat()
}

fn couple() -> (World, [SeatId; 2], Vec<SenderId>) {
    let (world, seats, _, senders) = couple_with_tracks();
    (world, seats, senders)
}

fn couple_with_tracks() -> (World, [SeatId; 2], [TrackId; 2], Vec<SenderId>) {
    let mut world = World::new(WorldConfig::new(SEED));
    let seats = [(); 2].map(|()| world.join(LinkSpec::default()));
    let tracks = seats.map(|seat| world.publish(seat, PublishOptions::VIDEO));
    let senders = vec![
        world.subscribe(seats[0], tracks[1]),
        world.subscribe(seats[1], tracks[0]),
    ];
    (world, seats, tracks, senders)
}

/// Injects one datagram each millisecond for the given time.
fn spray(world: &mut World, time: Duration, from: impl Fn(&World) -> SocketAddr, what: &[u8]) {
    for _ in 0..time.as_millis() {
        let from = from(world);
        world.inject(from, what);
        world.run_for(Duration::from_millis(1));
    }
}

fn assert_unharmed(world: &World, seats: [SeatId; 2], senders: &[SenderId]) {
    for seat in seats {
        assert!(world.peer(seat).connected_at().is_some() && world.peer(seat).closed().is_none());
    }
    for sender in senders {
        let counts = world.reception(*sender).counts();
        assert!(counts.frames > 50, "{counts:?}");
        assert!(
            counts.silence_max < Duration::from_millis(200),
            "{counts:?}"
        );
    }
    assert!(
        !world
            .events()
            .iter()
            .any(|event| matches!(event, Event::Closed { .. }))
    );
    world.assert_lossless();
}

/// How far the two of a couple are from each other's media: where the attack falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No check has come yet.
    Before,
    /// ICE has validated their addresses, DTLS is not done.
    Handshake,
}

/// A couple whose set-up takes seconds, in the midst of it.
fn couple_at(stage: Stage) -> (World, [SeatId; 2], Vec<SenderId>) {
    let (mut world, seats, senders) = couple();
    let far = LinkSpec {
        latency: Duration::from_millis(400),
        ..LinkSpec::default()
    };
    for seat in seats {
        world.set_network(seat, far);
    }
    if stage == Stage::Handshake {
        let is_there = |world: &World| world.associations() == 2;
        assert!(world.run_until(Duration::from_secs(5), is_there));
    }
    assert!(
        seats
            .iter()
            .all(|seat| world.peer(*seat).connected_at().is_none())
    );
    (world, seats, senders)
}

/// Everybody connects in spite of all, and the network becomes what it is in other tests.
fn settle(world: &mut World, seats: [SeatId; 2]) {
    world.connect_all();
    for seat in seats {
        world.set_network(seat, LinkSpec::default());
    }
    world.run_for(Duration::from_secs(3));
}

#[test]
fn t_01_null_hellos_from_elsewhere_before_the_first_check_get_no_byte() {
    let (mut world, seats, senders) = couple_at(Stage::Before);
    let until_ice = |world: &World| world.associations() == 2;
    while !until_ice(&world) {
        spray(
            &mut world,
            Duration::from_millis(1),
            |_| ATTACKER,
            &null_hello(),
        );
    }
    settle(&mut world, seats);
    assert_eq!(world.strays(ATTACKER), 0);
    assert_unharmed(&world, seats, &senders);
}

#[test]
fn t_02_null_hellos_from_elsewhere_during_the_handshake_get_no_byte() {
    let (mut world, seats, senders) = couple_at(Stage::Handshake);
    while seats
        .iter()
        .any(|seat| world.peer(*seat).connected_at().is_none())
    {
        spray(
            &mut world,
            Duration::from_millis(1),
            |_| ATTACKER,
            &null_hello(),
        );
    }
    settle(&mut world, seats);
    assert_eq!(world.strays(ATTACKER), 0);
    assert_unharmed(&world, seats, &senders);
}

#[test]
fn t_03_null_hellos_in_mid_call_restart_no_handshake() {
    let (mut world, seats, senders) = couple();
    world.connect_all();
    let connected = seats.map(|seat| world.peer(seat).connected_at());
    for elsewhere in [true, false] {
        spray(
            &mut world,
            Duration::from_secs(2),
            |world| {
                if elsewhere {
                    ATTACKER
                } else {
                    world.address(seats[0])
                }
            },
            &null_hello(),
        );
    }
    assert_eq!(world.strays(ATTACKER), 0);
    assert_eq!(connected, seats.map(|seat| world.peer(seat).connected_at()));
    assert_unharmed(&world, seats, &senders);
}

#[test]
fn t_04_null_hellos_from_the_clients_own_address_hinder_nobody() {
    for stage in [Stage::Before, Stage::Handshake] {
        let (mut world, seats, senders) = couple_at(stage);
        for _ in 0..4_000 {
            for seat in seats {
                let from = world.address(seat);
                world.inject(from, &null_hello());
            }
            world.run_for(Duration::from_millis(1));
        }
        settle(&mut world, seats);
        assert_unharmed(&world, seats, &senders);
    }
}

#[test]
fn t_05_plaintext_alerts_from_the_clients_own_address_end_nothing() {
    let (mut world, seats, senders) = couple();
    // A fatal alert, a close_notify that only warns, and a fatal one.
    for alert in [[2, 40], [1, 0], [2, 0]] {
        spray(
            &mut world,
            Duration::from_millis(1_500),
            |world| world.address(seats[1]),
            &plaintext_alert(alert),
        );
    }
    assert_unharmed(&world, seats, &senders);
}

#[test]
fn t_06_forged_media_reaches_nobody() {
    let (mut world, seats, senders) = couple();
    world.connect_all();
    let mut rng = Rng::new(SEED);
    let mut packet = vec![0x80, 96, 0, 1, 0, 0, 0, 0, 0x10, 0, 0, 0x0a];
    packet.extend((0..200).map(|_| rng.next_u32() as u8));
    spray(&mut world, Duration::from_secs(2), |_| ATTACKER, &packet);
    spray(
        &mut world,
        Duration::from_secs(2),
        |world| world.address(seats[0]),
        &packet,
    );
    assert_eq!(world.strays(ATTACKER), 0);
    assert_unharmed(&world, seats, &senders);
}

#[test]
fn t_08_noise_of_every_length_and_kind_is_survived() {
    let (mut world, seats, senders) = couple();
    world.connect_all();
    let mut rng = Rng::new(SEED);
    for _ in 0..4_000 {
        let len = rng.below(120) as usize;
        let mut datagram: Vec<u8> = (0..len).map(|_| rng.next_u32() as u8).collect();
        if let Some(first) = datagram.first_mut() {
            let kinds = [0, 1, 20, 21, 22, 23, 128, 144, 176, 191];
            *first = kinds[rng.below(kinds.len() as u64) as usize];
        }
        let from = if rng.chance(0.5) {
            ATTACKER
        } else {
            world.address(seats[0])
        };
        world.inject(from, &datagram);
        world.run_for(Duration::from_millis(1));
    }
    assert_eq!(world.strays(ATTACKER), 0);
    assert_unharmed(&world, seats, &senders);
}

#[test]
fn t_09_a_publisher_of_a_hundred_times_its_bitrate_spoils_no_other_room() {
    let (mut world, seats, senders) = couple();
    let flood = PublishOptions {
        shape: Shape {
            interval: Shape::VIDEO.interval / 2,
            packets: 250,
            key_packets: 250,
            ..Shape::VIDEO
        },
        ..PublishOptions::VIDEO
    };
    let [flooder, viewer] = [(); 2].map(|()| world.join(LinkSpec::default()));
    let track = world.publish(flooder, flood);
    let watched = world.subscribe(viewer, track);
    world.connect_all();
    world.run_for(Duration::from_secs(5));
    let sent = world.publication(flooder, track).packets;
    let received = world.reception(watched).counts().packets;
    assert!(received < sent / 2, "{received} of {sent} packets");
    world.run_for(Duration::from_secs(1));
    assert!(world.counters().drop_over_rate > 5_000);
    // Those who share the worker see every picture when it is due.
    for sender in senders {
        let (reception, counts) = (world.reception(sender), world.reception(sender).counts());
        assert_eq!((reception.lost(), counts.duplicates), (0, 0), "{counts:?}");
        assert!(counts.frames > 150, "{counts:?}");
        assert!(counts.silence_max < Duration::from_millis(60), "{counts:?}");
    }
    assert!(world.peer(seats[0]).closed().is_none());
}

#[test]
fn t_11_an_impostor_gets_and_gives_no_media_and_is_closed_with_a_reason() {
    let (mut world, seats, tracks, senders) = couple_with_tracks();
    world.connect_all();
    let impostor = world.join_as(LinkSpec::default(), [7; 32]);
    let track = world.publish(impostor, PublishOptions::VIDEO);
    let from_impostor = world.subscribe(seats[0], track);
    let to_impostor = world.subscribe(impostor, tracks[0]);
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.peer(impostor).connected_at(), None);
    for sender in [from_impostor, to_impostor] {
        assert_eq!(world.reception(sender).counts().packets, 0);
    }
    let closed = Event::Closed {
        session: world.session(impostor),
        reason: CloseReason::FingerprintMismatch,
    };
    assert_eq!(
        world
            .events()
            .iter()
            .filter(|event| **event == closed)
            .count(),
        1
    );
    for sender in senders {
        assert!(world.reception(sender).counts().frames > 100);
    }
}

/// The first hello of a client that is none of ours, whole.
fn genuine_hello(world: &World) -> Vec<u8> {
    let own = Certificate::generate().expect("a test's system has randomness");
    let spec = DtlsSpec {
        role: DtlsRole::Client,
        fingerprints: Vec::new(),
    };
    let mut client = Association::new(world.now(), &own, spec);
    client.poll_transmit().expect("a client begins").into_vec()
}

#[test]
fn t_20_five_thousand_hellos_a_second_move_no_packet() {
    let (mut world, seats, senders) = couple();
    world.connect_all();
    let hello = genuine_hello(&world);
    // From the addresses of members: what comes from elsewhere is not even looked at.
    let mut late = None;
    for ms in 0..4_000 {
        for hello_from in [seats[0], seats[1], seats[0], seats[1], seats[0]] {
            let from = world.address(hello_from);
            world.inject(from, &hello);
        }
        if ms == 1_000 {
            late = Some(world.join(LinkSpec::default()));
        }
        world.run_for(Duration::from_millis(1));
    }
    let late = late.expect("it came after a second");
    let connected = world.peer(late).connected_at().expect("in time, too");
    assert!(world.now() - connected > Duration::from_secs(2));
    for sender in &senders {
        let counts = world.reception(*sender).counts();
        assert!(counts.silence_max < Duration::from_millis(60), "{counts:?}");
    }
    assert_unharmed(&world, seats, &senders);
}

#[test]
fn t_32_a_machine_that_slept_for_an_hour_serves_again() {
    let (mut world, seats, _) = couple();
    world.connect_all();
    world.run_for(Duration::from_secs(2));
    world.sleep(Duration::from_secs(3_600));
    world.run_for(Duration::from_secs(1));
    let ended = |event: &&Event| {
        let reason = CloseReason::ConsentExpired;
        matches!(event, Event::Closed { reason: its, .. } if *its == reason)
    };
    assert_eq!(world.events().iter().filter(ended).count(), 2);
    for seat in seats {
        world.leave(seat);
    }
    let again = [(); 2].map(|()| world.join(LinkSpec::default()));
    let track = world.publish(again[0], PublishOptions::VIDEO);
    let sender = world.subscribe(again[1], track);
    world.connect_all();
    world.run_for(Duration::from_secs(3));
    assert!(world.reception(sender).counts().frames > 80);
    assert_eq!(world.reception(sender).lost(), 0);
}

#[test]
fn t_32_what_fits_a_path_of_1280_bytes_fits_it_forwarded() {
    // RFC 8200 section 5: an IPv6 path carries 1,280 bytes, of which 48 are headers of IPv6 and UDP.
    let narrow = LinkSpec {
        datagram_bytes_max: 1_280 - 48,
        ..LinkSpec::default()
    };
    let mut world = World::new(WorldConfig::new(SEED));
    let seats = [(); 2].map(|()| world.join(narrow));
    // Browsers make packets of 1,200 bytes at most, header and tag included.
    let large = PublishOptions {
        shape: Shape {
            payload_bytes: 1_200 - 16 - 20,
            ..Shape::VIDEO
        },
        ..PublishOptions::VIDEO
    };
    let tracks = seats.map(|seat| world.publish(seat, large));
    let senders = [
        world.subscribe(seats[0], tracks[1]),
        world.subscribe(seats[1], tracks[0]),
    ];
    world.connect_all();
    world.run_for(Duration::from_secs(4));
    assert_unharmed(&world, seats, &senders);
}
