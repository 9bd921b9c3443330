//! Subscribers whose network carries less than others', in virtual time: what is found out about it, and
//! what it means for them and for everybody else.

use std::time::Duration;

use dataplane::event::Event;
use dataplane::id::SenderId;
use dataplane::sim::meeting::PublishOptions;
use dataplane::sim::network::LinkSpec;
use dataplane::sim::source::Shape;
use dataplane::sim::world::{SeatId, World, WorldConfig};

const SEED: u64 = 0x6d69_6c6c_7261_6365;

fn behind(bps: u64) -> LinkSpec {
    LinkSpec {
        latency: Duration::from_millis(20),
        rate_bps: Some(bps),
        queue_bytes_max: (bps * 3 / 80) as usize,
        ..LinkSpec::default()
    }
}

/// A camera of about so many bits per second.
fn camera(packets: u16) -> PublishOptions {
    PublishOptions {
        shape: Shape {
            packets,
            key_packets: 3 * packets,
            payload_bytes: 1_000,
            ..Shape::VIDEO
        },
        ..PublishOptions::VIDEO
    }
}

/// One who publishes, and somebody behind each of these networks who watches.
fn audience(options: PublishOptions, networks: &[LinkSpec]) -> (World, Vec<(SeatId, SenderId)>) {
    let mut world = World::new(WorldConfig::new(SEED));
    let publisher = world.join(LinkSpec::default());
    let track = world.publish(publisher, options);
    let viewers = networks.iter().map(|network| {
        let seat = world.join(*network);
        let sender = world.subscribe(seat, track);
        (seat, sender)
    });
    let viewers = viewers.collect();
    world.connect_all();
    (world, viewers)
}

/// The last estimate of what a client's network carries, in bits per second.
fn estimate(world: &World, seat: SeatId) -> u64 {
    let session = world.session(seat);
    let newest_first = world.events().iter().rev();
    let mut estimates = newest_first.filter_map(|event| match event {
        Event::Downlink {
            session: its,
            estimate_bps,
            ..
        } if *its == session => Some(*estimate_bps),
        _ => None,
    });
    estimates.next().expect("an estimate was told")
}

#[test]
fn a_narrow_network_is_known_for_what_it_is_and_nobody_else_loses_anything() {
    // 2 Mbit/s.
    let networks = [behind(1_000_000), LinkSpec::default(), behind(20_000_000)];
    let (mut world, viewers) = audience(camera(8), &networks);
    world.run_for(Duration::from_secs(30));
    let narrow = estimate(&world, viewers[0].0);
    assert!((850_000..=1_150_000).contains(&narrow), "{narrow}");
    for (seat, sender) in &viewers[1..] {
        assert!(estimate(&world, *seat) > 1_900_000);
        let reception = world.reception(*sender);
        let counts = reception.counts();
        assert_eq!((reception.lost(), counts.freezes), (0, 0), "{counts:?}");
        assert!(counts.frames > 880, "{counts:?}");
    }
}

#[test]
fn what_fits_a_narrow_network_is_shown_without_a_freeze() {
    // 500 kbit/s.
    let (mut world, viewers) = audience(camera(2), &[behind(1_000_000)]);
    world.run_for(Duration::from_secs(30));
    let (seat, sender) = viewers[0];
    let counts = world.reception(sender).counts();
    assert_eq!(counts.freezes, 0, "{counts:?}");
    assert!(counts.frames > 880, "{counts:?}");
    let narrow = estimate(&world, seat);
    assert!((500_000..=1_200_000).contains(&narrow), "{narrow}");
}

#[test]
fn a_radio_that_loses_a_tenth_still_shows_the_picture() {
    let network = LinkSpec {
        latency: Duration::from_millis(20),
        loss: 0.1,
        ..LinkSpec::default()
    };
    let (mut world, viewers) = audience(camera(4), &[network]);
    world.run_for(Duration::from_secs(60));
    let (_, sender) = viewers[0];
    let counts = world.reception(sender).counts();
    assert!(counts.frames > 1_700, "{counts:?}");
}

#[test]
fn a_network_that_narrows_and_widens_is_followed() {
    let (mut world, viewers) = audience(camera(4), &[behind(4_000_000)]);
    world.run_for(Duration::from_secs(10));
    let (seat, _) = viewers[0];
    let before = estimate(&world, seat);
    assert!(before > 1_000_000, "{before}");
    world.set_network(seat, behind(600_000));
    world.run_for(Duration::from_secs(20));
    let narrow = estimate(&world, seat);
    assert!(narrow < 750_000, "{narrow}");
    world.set_network(seat, behind(4_000_000));
    world.run_for(Duration::from_secs(30));
    let wide = estimate(&world, seat);
    assert!(wide > 1_000_000, "{wide}");
}
