//! Meetings in virtual time: the real engine, scripted clients, a seeded network.

use std::time::Duration;

use dataplane::event::{CloseReason, Event};
use dataplane::id::{SenderId, TrackId};
use dataplane::sim::meeting::PublishOptions;
use dataplane::sim::network::LinkSpec;
use dataplane::sim::source::Shape;
use dataplane::sim::world::{SeatId, World, WorldConfig};

const SEED: u64 = 0x6d69_6c6c_7261_6365;

/// People of whom everybody sees and hears everybody else.
struct Meeting {
    world: World,
    people: Vec<Person>,
    senders: Vec<SenderId>,
}

#[derive(Clone, Copy)]
struct Person {
    seat: SeatId,
    audio: TrackId,
    video: TrackId,
}

impl Meeting {
    fn empty() -> Meeting {
        let world = World::new(WorldConfig::new(SEED));
        Meeting {
            world,
            people: Vec::new(),
            senders: Vec::new(),
        }
    }

    fn of(people: usize, network: LinkSpec) -> Meeting {
        let mut meeting = Meeting::empty();
        for _ in 0..people {
            meeting.join(network, PublishOptions::AUDIO, PublishOptions::VIDEO);
        }
        meeting.world.connect_all();
        meeting
    }

    fn join(&mut self, network: LinkSpec, audio: PublishOptions, video: PublishOptions) -> Person {
        let seat = self.world.join(network);
        let audio = self.world.publish(seat, audio);
        let video = self.world.publish(seat, video);
        let person = Person { seat, audio, video };
        for other in self.people.clone() {
            self.see(other.seat, person);
            self.see(seat, other);
        }
        self.people.push(person);
        person
    }

    fn see(&mut self, viewer: SeatId, shown: Person) {
        let audio = self.world.subscribe(viewer, shown.audio);
        let video = self.world.subscribe(viewer, shown.video);
        self.senders.extend([audio, video]);
    }

    /// Everybody was sent about what everybody sent in this time.
    fn assert_flows(&self, time: Duration) {
        for sender in &self.senders {
            let reception = self.world.reception(*sender);
            let per_second = if reception.spec().rtx.is_some() {
                30
            } else {
                50
            };
            let expected = time.as_millis() as u64 * per_second / 1_000;
            let counts = reception.counts();
            assert!(
                counts.frames * 100 >= expected * 95,
                "{expected} expected: {counts:?}"
            );
        }
    }
}

fn closed_for(world: &World, reason: CloseReason) -> bool {
    let is_it =
        |event: &Event| matches!(event, Event::Closed { reason: why, .. } if *why == reason);
    world.events().iter().any(is_it)
}

#[test]
fn two_people_see_and_hear_each_other() {
    let mut meeting = Meeting::of(2, LinkSpec::default());
    meeting.world.run_for(Duration::from_secs(10));
    meeting.assert_flows(Duration::from_secs(10));
    meeting.world.assert_lossless();
    for sender in &meeting.senders {
        let counts = meeting.world.reception(*sender).counts();
        assert_eq!(counts.freezes, 0, "{counts:?}");
        assert!(counts.sender_reports >= 8, "{counts:?}");
        // Twice the network and hardly more: the engine holds nothing back for long.
        assert!(
            counts.latency_max <= Duration::from_millis(25),
            "{counts:?}"
        );
    }
    let connected = |event: &&Event| matches!(event, Event::Connected { .. });
    assert_eq!(meeting.world.events().iter().filter(connected).count(), 2);
}

#[test]
fn who_joins_late_gets_a_key_frame_within_a_moment() {
    let mut meeting = Meeting::of(2, LinkSpec::default());
    meeting.world.run_for(Duration::from_secs(20));
    let first = meeting.people[0];
    let before = meeting.world.publication(first.seat, first.video);
    let late = meeting.join(
        LinkSpec::default(),
        PublishOptions::AUDIO,
        PublishOptions::VIDEO,
    );
    let joined_at = meeting.world.now();
    meeting.world.connect_all();
    meeting.world.run_for(Duration::from_secs(5));
    let received: Vec<_> = meeting.world.peer(late.seat).receptions().collect();
    assert_eq!(received.len(), 4);
    for reception in received {
        let shown_at = reception
            .counts()
            .first_frame_at
            .expect("a frame was shown");
        assert!(
            shown_at - joined_at < Duration::from_millis(400),
            "{:?}",
            shown_at - joined_at
        );
    }
    let after = meeting.world.publication(first.seat, first.video);
    let asked = after.key_requests - before.key_requests;
    assert!(
        (1..=2).contains(&asked),
        "one request is enough: {before:?} {after:?}"
    );
    meeting.world.assert_lossless();
}

#[test]
fn nine_people_for_a_minute_lose_nothing() {
    let mut meeting = Meeting::of(9, LinkSpec::default());
    meeting.world.run_for(Duration::from_secs(60));
    assert_eq!(meeting.senders.len(), 9 * 8 * 2);
    meeting.assert_flows(Duration::from_secs(60));
    meeting.world.assert_lossless();
    for person in &meeting.people {
        let counts = meeting.world.publication(person.seat, person.video);
        assert!(
            counts.key_requests <= 6,
            "requests are gathered: {counts:?}"
        );
    }
}

#[test]
fn retransmission_repairs_loss_on_both_sides() {
    let network = LinkSpec {
        loss: 0.05,
        ..LinkSpec::default()
    };
    let mut meeting = Meeting::of(3, network);
    meeting.world.run_for(Duration::from_secs(60));
    let (mut lost, mut expected, mut recovered, mut freezes) = (0, 0, 0, 0);
    for sender in &meeting.senders {
        let reception = meeting.world.reception(*sender);
        if reception.spec().rtx.is_some() {
            lost += reception.lost();
            expected += reception.expected();
            recovered += reception.counts().recovered;
            freezes += reception.counts().freezes;
        }
    }
    assert!(expected > 50_000, "{expected}");
    assert!(recovered * 100 > expected * 4, "{recovered} of {expected}");
    assert!(
        lost * 1_000 < expected,
        "{lost} of {expected} are lost for good"
    );
    assert!(freezes < 30, "{freezes}");
}

#[test]
fn packets_out_of_order_are_not_lost() {
    let network = LinkSpec {
        jitter: Duration::from_millis(4),
        reorder: 0.02,
        duplicate: 0.01,
        ..LinkSpec::default()
    };
    let mut meeting = Meeting::of(3, network);
    meeting.world.run_for(Duration::from_secs(30));
    meeting.assert_flows(Duration::from_secs(30));
    for sender in &meeting.senders {
        let reception = meeting.world.reception(*sender);
        assert!(
            reception.lost() <= 3,
            "{} lost: {:?}",
            reception.lost(),
            reception.counts()
        );
        assert_eq!(reception.counts().freezes, 0, "{:?}", reception.counts());
    }
}

#[test]
fn numbers_wrap_around_unnoticed() {
    let mut meeting = Meeting::empty();
    let audio = PublishOptions {
        first_sequence: 65_530,
        ..PublishOptions::AUDIO
    };
    let video = PublishOptions {
        first_sequence: 65_400,
        ..PublishOptions::VIDEO
    };
    meeting.join(LinkSpec::default(), audio, video);
    meeting.join(
        LinkSpec {
            loss: 0.02,
            ..LinkSpec::default()
        },
        audio,
        video,
    );
    meeting.world.connect_all();
    meeting.world.run_for(Duration::from_secs(60));
    meeting.assert_flows(Duration::from_secs(56));
    for sender in &meeting.senders {
        let reception = meeting.world.reception(*sender);
        if reception.spec().rtx.is_some() {
            assert!(
                reception.lost() <= 5,
                "{} lost: {:?}",
                reception.lost(),
                reception.counts()
            );
        }
    }
}

#[test]
fn a_peer_that_vanishes_is_gone_when_consent_expires() {
    let mut meeting = Meeting::of(2, LinkSpec::default());
    meeting.world.run_for(Duration::from_secs(5));
    meeting.world.vanish(meeting.people[0].seat);
    meeting.world.run_for(Duration::from_secs(25));
    let closed = |world: &World| closed_for(world, CloseReason::ConsentExpired);
    assert!(!closed(&meeting.world), "consent lasts 30 s");
    assert!(meeting.world.run_until(Duration::from_secs(10), closed));
    meeting.world.run_for(Duration::from_secs(1));
    assert_eq!(meeting.world.associations(), 1);
}

#[test]
fn a_closed_tab_is_gone_at_once() {
    let mut meeting = Meeting::of(2, LinkSpec::default());
    meeting.world.run_for(Duration::from_secs(2));
    meeting.world.hang_up(meeting.people[1].seat);
    let closed = |world: &World| closed_for(world, CloseReason::PeerClosed);
    assert!(meeting.world.run_until(Duration::from_millis(100), closed));
}

#[test]
fn who_never_comes_is_forgotten() {
    let mut world = World::new(WorldConfig::new(SEED));
    let seat = world.join(LinkSpec {
        loss: 1.0,
        ..LinkSpec::default()
    });
    world.vanish(seat);
    world.run_for(Duration::from_secs(40));
    assert!(
        closed_for(&world, CloseReason::NeverConnected),
        "{:?}",
        world.events()
    );
}

#[test]
fn ice_restart_from_a_new_address_keeps_the_media() {
    let mut meeting = Meeting::of(2, LinkSpec::default());
    meeting.world.run_for(Duration::from_secs(10));
    meeting.world.restart_ice(meeting.people[0].seat, true);
    meeting.world.run_for(Duration::from_secs(10));
    let moved = |event: &&Event| matches!(event, Event::PathChanged { .. });
    assert_eq!(meeting.world.events().iter().filter(moved).count(), 1);
    meeting.assert_flows(Duration::from_secs(19));
    for sender in &meeting.senders {
        let counts = meeting.world.reception(*sender).counts();
        assert!(
            counts.silence_max < Duration::from_millis(150),
            "{counts:?}"
        );
    }
}

#[test]
fn t_32_a_rebound_nat_heals_with_the_next_check() {
    let mut meeting = Meeting::of(2, LinkSpec::default());
    meeting.world.run_for(Duration::from_secs(10));
    meeting.world.move_address(meeting.people[0].seat);
    meeting.world.run_for(Duration::from_secs(10));
    for sender in &meeting.senders {
        let counts = meeting.world.reception(*sender).counts();
        // Browsers check every 2.5 s.
        assert!(counts.silence_max < Duration::from_secs(3), "{counts:?}");
        let last_at = counts.last_at.expect("packets came");
        assert!(
            meeting.world.now() - last_at < Duration::from_millis(100),
            "{counts:?}"
        );
    }
}

#[test]
fn a_sender_switches_between_tracks_without_a_seam() {
    let mut meeting = Meeting::of(3, LinkSpec::default());
    let viewer = meeting.world.join(LinkSpec::default());
    meeting.world.connect_all();
    let (first, second) = (meeting.people[0], meeting.people[1]);
    let sender = meeting.world.subscribe(viewer, first.video);
    meeting.world.run_for(Duration::from_secs(5));
    for turn in 0..10 {
        let shown = if turn % 2 == 0 { second } else { first };
        meeting.world.switch(sender, shown.video);
        let before = meeting.world.reception(sender).counts().frames;
        meeting.world.run_for(Duration::from_secs(2));
        let after = meeting.world.reception(sender).counts().frames;
        assert!(
            after - before > 45,
            "turn {turn}: {} frames in 2 s",
            after - before
        );
    }
    meeting.world.assert_lossless();
}

#[test]
fn t_29_joins_and_leaves_leave_nothing_behind() {
    let mut meeting = Meeting::of(2, LinkSpec::default());
    let quiet = PublishOptions {
        shape: Shape::QUIET,
        ..PublishOptions::AUDIO
    };
    for _ in 0..300 {
        let staying = meeting.senders.len();
        let guest = meeting.join(LinkSpec::default(), quiet, PublishOptions::VIDEO);
        meeting.world.run_for(Duration::from_millis(250));
        meeting.world.leave(guest.seat);
        meeting.people.pop();
        meeting.senders.truncate(staying);
        meeting.world.run_for(Duration::from_millis(50));
    }
    meeting.world.run_for(Duration::from_secs(1));
    assert_eq!(meeting.world.associations(), 2);
    meeting.assert_flows(Duration::from_secs(85));
    for person in meeting.people {
        assert_eq!(meeting.world.peer(person.seat).receptions().count(), 2);
    }
}

#[test]
fn an_empty_engine_has_nothing_to_do() {
    let mut meeting = Meeting::of(5, LinkSpec::default());
    meeting.world.run_for(Duration::from_secs(2));
    for person in &meeting.people {
        meeting.world.leave(person.seat);
    }
    meeting.world.run_for(Duration::from_secs(10));
    assert_eq!(meeting.world.associations(), 0);
    let next = meeting
        .world
        .engine_timeout()
        .map(|due| due - meeting.world.now());
    let period = Duration::from_millis(400);
    assert!(
        next.is_none_or(|next| next >= period),
        "only its report: {next:?}"
    );
}

#[test]
fn a_quiet_meeting_runs_thousands_of_times_faster_than_life() {
    let config = WorldConfig {
        report_interval: Duration::from_secs(5),
        ..WorldConfig::new(SEED)
    };
    let mut world = World::new(config);
    let quiet = PublishOptions {
        shape: Shape::QUIET,
        ..PublishOptions::AUDIO
    };
    let seats = [(); 2].map(|()| world.join(LinkSpec::default()));
    let tracks = seats.map(|seat| world.publish(seat, quiet));
    let senders = [
        world.subscribe(seats[0], tracks[1]),
        world.subscribe(seats[1], tracks[0]),
    ];
    world.connect_all();
    #[expect(
        clippy::disallowed_methods,
        reason = "how long it really takes is the question"
    )]
    let began = std::time::Instant::now();
    let virtual_time = Duration::from_secs(7_200);
    world.run_for(virtual_time);
    let took = began.elapsed();
    world.assert_lossless();
    for sender in senders {
        let counts = world.reception(sender).counts();
        assert!(counts.packets >= 17_990, "{counts:?}");
    }
    let factor = virtual_time.as_secs_f64() / took.as_secs_f64();
    println!("{factor:.0} virtual seconds in a real one");
}
