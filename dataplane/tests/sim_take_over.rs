//! The engine is replaced while people talk: a snapshot, another engine, and nobody notices.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::time::Duration;

use dataplane::engine::{EngineSnapshot, RestoreError, SNAPSHOT_VERSION};
use dataplane::event::Event;
use dataplane::id::{SenderId, TrackId};
use dataplane::sim::meeting::PublishOptions;
use dataplane::sim::network::LinkSpec;
use dataplane::sim::world::{SeatId, World, WorldConfig};

const SEED: u64 = 0x7461_6b65_6f76_6572;

/// What a take-over may take.
const GAP: Duration = Duration::from_millis(40);

/// People of whom everybody sees and hears everybody else.
struct Meeting {
    world: World,
    seats: Vec<SeatId>,
    tracks: Vec<TrackId>,
    senders: Vec<SenderId>,
}

impl Meeting {
    fn of(people: usize, network: LinkSpec, config: WorldConfig) -> Meeting {
        let mut world = World::new(config);
        world.watch_indices();
        let seats: Vec<SeatId> = (0..people).map(|_| world.join(network)).collect();
        let mut published = Vec::new();
        for (number, seat) in seats.iter().enumerate() {
            // The first numbers are such that some wrap while the test runs.
            let first_sequence = 65_000 + 40 * number as u16;
            for options in [PublishOptions::AUDIO, PublishOptions::VIDEO] {
                let options = PublishOptions {
                    first_sequence,
                    ..options
                };
                published.push((*seat, world.publish(*seat, options)));
            }
        }
        let mut senders = Vec::new();
        for seat in &seats {
            let others = published.iter().filter(|(owner, _)| owner != seat);
            for (_, track) in others {
                senders.push(world.subscribe(*seat, *track));
            }
        }
        world.connect_all();
        Meeting {
            world,
            seats,
            tracks: published.into_iter().map(|(_, track)| track).collect(),
            senders,
        }
    }

    fn frames(&self) -> Vec<u64> {
        let receptions = self.senders.iter().map(|its| self.world.reception(*its));
        receptions
            .map(|reception| reception.counts().frames)
            .collect()
    }

    fn take_over(&mut self) {
        let snapshot = self.world.snapshot();
        self.world.stand_still(GAP);
        self.world.take_over(&snapshot).unwrap();
    }
}

fn ended(world: &World) -> usize {
    let is_end = |event: &&Event| matches!(event, Event::Closed { .. });
    world.events().iter().filter(is_end).count()
}

#[test]
fn a_meeting_goes_on_in_another_engine_and_no_index_is_used_again() {
    let mut meeting = Meeting::of(4, LinkSpec::default(), WorldConfig::new(SEED));
    meeting.world.run_for(Duration::from_secs(5));
    for _ in 0..4 {
        let before = meeting.frames();
        meeting.take_over();
        meeting.world.run_for(Duration::from_secs(5));
        for (before, after) in before.into_iter().zip(meeting.frames()) {
            // Every frame of five seconds, at 30 or 50 a second.
            assert!(after - before >= 5 * 30 - 3, "{before} {after}");
        }
    }
    meeting.world.assert_lossless();
    assert_eq!(meeting.world.indices_used_again(), 0);
    for sender in &meeting.senders {
        let counts = meeting.world.reception(*sender).counts();
        assert_eq!(counts.freezes, 0, "{counts:?}");
        let late = GAP + Duration::from_millis(30);
        assert!(counts.latency_max <= late, "{counts:?}");
    }
    // Nobody had to be asked for a key frame: nothing was missing.
    for (index, track) in meeting.tracks.iter().enumerate() {
        let seat = meeting.seats[index / 2];
        let counts = meeting.world.publication(seat, *track);
        assert!(counts.key_requests <= 3, "{counts:?}");
    }
    assert_eq!(ended(&meeting.world), 0);
}

#[test]
fn a_bad_network_is_no_obstacle() {
    let network = LinkSpec {
        loss: 0.02,
        jitter: Duration::from_millis(15),
        reorder: 0.02,
        duplicate: 0.01,
        ..LinkSpec::default()
    };
    let mut meeting = Meeting::of(3, network, WorldConfig::new(SEED));
    for _ in 0..10 {
        meeting.world.run_for(Duration::from_millis(1_700));
        meeting.take_over();
    }
    meeting.world.run_for(Duration::from_secs(5));
    assert_eq!(meeting.world.indices_used_again(), 0);
    assert_eq!(ended(&meeting.world), 0);
    for sender in &meeting.senders {
        let counts = meeting.world.reception(*sender).counts();
        assert!(counts.frames > 15 * 30, "{counts:?}");
    }
}

#[test]
fn who_speaks_is_found_out_again_and_pauses_go_on() {
    let config = WorldConfig {
        audio_speakers: 2,
        ..WorldConfig::new(SEED)
    };
    let mut meeting = Meeting::of(5, LinkSpec::default(), config);
    for _ in 0..3 {
        meeting.world.run_for(Duration::from_secs(2));
        meeting.take_over();
    }
    meeting.world.run_for(Duration::from_secs(2));
    // Numbers close over what was left out, also where the pause began in another process.
    meeting.world.assert_lossless();
    assert_eq!(meeting.world.indices_used_again(), 0);
}

#[test]
fn a_goodbye_is_heard_by_the_one_that_took_over_and_said_by_it() {
    let mut meeting = Meeting::of(2, LinkSpec::default(), WorldConfig::new(SEED));
    meeting.world.run_for(Duration::from_secs(1));
    meeting.take_over();
    assert_eq!(meeting.world.associations(), 2);
    meeting.world.hang_up(meeting.seats[0]);
    meeting.world.run_for(Duration::from_secs(1));
    assert_eq!(
        (ended(&meeting.world), meeting.world.associations()),
        (1, 1)
    );
    meeting.world.leave(meeting.seats[1]);
    meeting.world.run_for(Duration::from_secs(1));
    assert_eq!(meeting.world.associations(), 0);
}

#[test]
fn a_handshake_that_is_not_done_is_not_carried() {
    let mut world = World::new(WorldConfig::new(SEED));
    world.join(LinkSpec::default());
    world.run_for(Duration::from_millis(41));
    let snapshot = world.snapshot();
    assert_eq!(
        EngineSnapshot::decode(&snapshot)
            .unwrap()
            .sessions()
            .count(),
        0
    );
}

#[test]
fn what_cannot_be_read_is_refused_and_the_old_engine_goes_on() {
    let mut meeting = Meeting::of(2, LinkSpec::default(), WorldConfig::new(SEED));
    meeting.world.run_for(Duration::from_secs(2));
    let snapshot = String::from_utf8(meeting.world.snapshot()).unwrap();
    let version = format!("\"version\":{SNAPSHOT_VERSION}");
    assert!(snapshot.contains(&version));
    let newer = snapshot.replace(&version, "\"version\":999");
    let refused = meeting.world.take_over(newer.as_bytes());
    assert_eq!(refused, Err(RestoreError::UnknownVersion(999)));
    let torn = meeting
        .world
        .take_over(&snapshot.as_bytes()[..snapshot.len() - 9]);
    assert!(matches!(torn, Err(RestoreError::Malformed(_))), "{torn:?}");
    let contradicting = snapshot.replace("\"home\":{\"Session\":", "\"home\":{\"Session\":9");
    let refused = meeting.world.take_over(contradicting.as_bytes());
    assert!(
        matches!(refused, Err(RestoreError::Inconsistent(_))),
        "{refused:?}"
    );
    meeting.world.run_for(Duration::from_secs(2));
    meeting.world.assert_lossless();
    assert_eq!(meeting.world.indices_used_again(), 0);
}
