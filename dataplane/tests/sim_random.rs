//! Random meetings: people come, go, publish, subscribe, switch, move and lose packets, by seed.

use std::time::Duration;

use dataplane::id::{SenderId, TrackId};
use dataplane::load::Load;
use dataplane::sim::meeting::PublishOptions;
use dataplane::sim::network::{LinkSpec, Rng};
use dataplane::sim::source::Shape;
use dataplane::sim::world::{SeatId, World, WorldConfig};

const SEEDS: std::ops::Range<u64> = 100..120;
const OPERATIONS: usize = 150;
const PEOPLE_MAX: usize = 6;

/// What a run knows of its world.
struct Day {
    world: World,
    rng: Rng,
    people: Vec<SeatId>,
    tracks: Vec<(SeatId, TrackId, PublishOptions)>,
    senders: Vec<(SeatId, SenderId, TrackId)>,
}

impl Day {
    fn new(seed: u64) -> Day {
        // Every other day is a busy one, on which packets wait for each other.
        let load = Load(1_000 * (seed % 2) as u16);
        let world = World::new(WorldConfig {
            load,
            ..WorldConfig::new(seed)
        });
        let rng = Rng::new(seed);
        Day {
            world,
            rng,
            people: Vec::new(),
            tracks: Vec::new(),
            senders: Vec::new(),
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.rng.below(from.len() as u64) as usize)
            .copied()
    }

    fn network(&mut self) -> LinkSpec {
        let clean = LinkSpec::default();
        let bad = LinkSpec {
            jitter: Duration::from_millis(8),
            loss: 0.03,
            reorder: 0.02,
            duplicate: 0.02,
            ..clean
        };
        let slow = LinkSpec {
            rate_bps: Some(4_000_000),
            queue_bytes_max: 60_000,
            ..clean
        };
        self.pick(&[clean, bad, slow]).unwrap_or(clean)
    }

    fn publish(&mut self, seat: SeatId) {
        let shape = Shape {
            packets: 2,
            key_packets: 6,
            ..Shape::VIDEO
        };
        let video = PublishOptions {
            shape,
            ..PublishOptions::VIDEO
        };
        let signalled = self.rng.chance(0.5);
        let first_sequence = self.rng.next_u32() as u16;
        let base = if self.rng.chance(0.5) {
            PublishOptions::AUDIO
        } else {
            video
        };
        let options = PublishOptions {
            signalled,
            first_sequence,
            ..base
        };
        let track = self.world.publish(seat, options);
        self.tracks.push((seat, track, options));
    }

    fn forget_track(&mut self, track: TrackId) {
        self.tracks.retain(|(_, its, _)| *its != track);
        self.senders.retain(|(_, _, its)| *its != track);
    }

    fn operate(&mut self) {
        let (people, tracks) = (self.people.clone(), self.tracks.clone());
        let (somebody, track) = (self.pick(&people), self.pick(&tracks));
        match (self.rng.below(10), somebody, track) {
            (0 | 1, _, _) if people.len() < PEOPLE_MAX => {
                let network = self.network();
                let seat = self.world.join(network);
                self.people.push(seat);
                self.publish(seat);
            }
            (2, Some(seat), _) => {
                self.world.leave(seat);
                self.people.retain(|its| *its != seat);
                self.senders.retain(|(its, _, _)| *its != seat);
                for (owner, track, _) in tracks {
                    if owner == seat {
                        self.forget_track(track);
                    }
                }
            }
            (3, Some(seat), _) => self.publish(seat),
            (4, _, Some((seat, track, _))) if tracks.len() > 2 => {
                self.world.unpublish(seat, track);
                self.forget_track(track);
            }
            (5 | 6, Some(seat), Some((owner, track, _))) if owner != seat => {
                let sender = self.world.subscribe(seat, track);
                self.senders.push((seat, sender, track));
            }
            (7, _, Some((_, track, options))) => {
                let same_kind = self.senders.iter().position(|(_, _, fed)| {
                    tracks
                        .iter()
                        .any(|(_, its, o)| its == fed && o.kind == options.kind)
                });
                if let Some(entry) = same_kind.and_then(|index| self.senders.get_mut(index)) {
                    entry.2 = track;
                    let sender = entry.1;
                    self.world.switch(sender, track);
                }
            }
            (8, Some(seat), _) => {
                let new_address = self.rng.chance(0.5);
                self.world.restart_ice(seat, new_address);
            }
            (9, Some(seat), _) => {
                let network = self.network();
                self.world.set_network(seat, network);
                if self.rng.chance(0.3) {
                    self.world.move_address(seat);
                }
            }
            _ => {
                let senders = self.senders.clone();
                if let Some((_, sender, _)) = self.pick(&senders) {
                    self.world.unsubscribe(sender);
                    self.senders.retain(|(_, its, _)| *its != sender);
                }
            }
        }
    }
}

#[test]
fn whatever_people_do_the_invariants_hold() {
    for seed in SEEDS {
        println!("seed {seed}");
        let mut day = Day::new(seed);
        for _ in 0..OPERATIONS {
            day.operate();
            let pause = day.rng.below(400);
            day.world.run_for(Duration::from_millis(pause));
        }
        // The weather clears, and once that was found out everybody gets everything.
        for seat in day.people.clone() {
            day.world.set_network(seat, LinkSpec::default());
        }
        day.world.run_for(Duration::from_secs(15));
        let before: Vec<u64> = frames(&day);
        day.world.run_for(Duration::from_secs(2));
        for (((seat, sender, track), before), after) in
            day.senders.iter().zip(before).zip(frames(&day))
        {
            let gained = after - before;
            let reception = day.world.reception(*sender);
            assert!(
                gained >= 50,
                "seed {seed}: {seat:?} {sender:?} of {track:?} got {gained} frames in 2 s: {:?}",
                reception.counts()
            );
        }
        for seat in day.people.clone() {
            day.world.leave(seat);
        }
        day.world.run_for(Duration::from_secs(1));
        assert_eq!(day.world.associations(), 0, "seed {seed}");
    }
}

fn frames(day: &Day) -> Vec<u64> {
    let counts = day
        .senders
        .iter()
        .map(|(_, sender, _)| day.world.reception(*sender).counts());
    counts.map(|counts| counts.frames).collect()
}
