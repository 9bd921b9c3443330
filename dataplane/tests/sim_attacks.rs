//! What strangers and spoofers try on the real engine, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use dataplane::event::Event;
use dataplane::id::SenderId;
use dataplane::sim::meeting::PublishOptions;
use dataplane::sim::network::{LinkSpec, Rng};
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

/// A fatal handshake_failure in plaintext, with a record number far ahead.
fn plaintext_alert() -> Vec<u8> {
    vec![21, 0xfe, 0xfd, 0, 0, 0x7f, 0, 0, 0, 0, 0, 0, 2, 2, 40]
}

fn couple() -> (World, [SeatId; 2], Vec<SenderId>) {
    let mut world = World::new(WorldConfig::new(SEED));
    let seats = [(); 2].map(|()| world.join(LinkSpec::default()));
    let tracks = seats.map(|seat| world.publish(seat, PublishOptions::VIDEO));
    let senders = vec![
        world.subscribe(seats[0], tracks[1]),
        world.subscribe(seats[1], tracks[0]),
    ];
    (world, seats, senders)
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

#[test]
fn hellos_from_elsewhere_get_no_byte_and_hinder_nobody() {
    // T-01 to T-03: before the client's first check, between ICE and DTLS, and ever after.
    let (mut world, seats, senders) = couple();
    spray(
        &mut world,
        Duration::from_secs(4),
        |_| ATTACKER,
        &null_hello(),
    );
    assert_eq!(world.strays(ATTACKER), 0);
    assert_unharmed(&world, seats, &senders);
}

#[test]
fn hellos_from_the_clients_own_address_hinder_nobody() {
    // T-03 and T-04.
    let (mut world, seats, senders) = couple();
    spray(
        &mut world,
        Duration::from_secs(4),
        |world| world.address(seats[0]),
        &null_hello(),
    );
    assert_unharmed(&world, seats, &senders);
}

#[test]
fn plaintext_alerts_from_the_clients_own_address_end_nothing() {
    // T-05.
    let (mut world, seats, senders) = couple();
    spray(
        &mut world,
        Duration::from_secs(4),
        |world| world.address(seats[1]),
        &plaintext_alert(),
    );
    assert_unharmed(&world, seats, &senders);
}

#[test]
fn forged_media_reaches_nobody() {
    // T-06 and T-07: RTP under no key at all, from elsewhere and from the client's own address.
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
fn noise_of_every_length_and_kind_is_survived() {
    // T-08 and T-14, without keys.
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
