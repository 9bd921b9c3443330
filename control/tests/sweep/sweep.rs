//! Which seeds are lived through: a few with every test run, and as many as there is time for.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::plan::{Plan, Weight};
use crate::world::{Tally, World};

/// Worlds of every test run.
const PACKETS: [u64; 4] = [1, 3, 5, 7];
const SIGNALLING: [u64; 2] = [2, 4];

/// Seconds of processor time between two lines of a sweep.
const LINE_EVERY: f64 = 20.0;

impl Weight {
    /// Odd seeds are worlds of packets, even ones of signalling.
    fn of(seed: u64) -> Weight {
        match seed % 2 {
            0 => Weight::Signalling,
            _ => Weight::Packets,
        }
    }

    fn span(self) -> Duration {
        match self {
            Weight::Packets => Duration::from_secs(600),
            Weight::Signalling => Duration::from_secs(3 * 3_600),
        }
    }
}

/// Lives through one world; says how to do so again if that fails.
fn live(seed: u64, span: Duration) -> Tally {
    let mut world = World::new(Plan::new(Weight::of(seed), seed, span));
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    if let Err(panic) = lived {
        let (elapsed, span) = (world.elapsed(), span.as_secs());
        println!("after {elapsed:?}: SEED={seed} SPAN={span} make sweep");
        resume_unwind(panic);
    }
    world.tally
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Worlds in which people meet.
fn live_all(seeds: &[u64], span: Duration) {
    for seed in seeds {
        let tally = live(*seed, span);
        assert!(tally.meeting_seconds > 300.0, "nobody met: {tally:?}");
    }
}

#[test]
fn nodes_with_media_stay_true_to_everybody() {
    live_all(&PACKETS, Duration::from_secs(240));
}

#[test]
fn nodes_with_many_rooms_stay_true_to_everybody() {
    live_all(&SIGNALLING, Duration::from_secs(600));
}

#[test]
fn a_seed_repeats() {
    for seed in [9, 11] {
        let [once, again] = [(); 2].map(|()| live(seed, Duration::from_secs(60)));
        assert_eq!(once, again, "of seed {seed}");
    }
}

/// The long one, or one seed again: `make sweep`.
#[test]
#[ignore = "as long as it is asked to be"]
fn sweep() {
    if let Some(seed) = variable("MILLRACE_SEED") {
        let span = variable("MILLRACE_SPAN").map_or(Weight::of(seed).span(), Duration::from_secs);
        println!("{:?}", live(seed, span));
        return;
    }
    let wanted_s = variable("MILLRACE_HOURS").unwrap_or(1_000) as f64 * 3_600.0;
    let from = variable("MILLRACE_FROM").unwrap_or(1_000);
    let step = variable("MILLRACE_STEP").map_or(1, |step| step.max(1) as usize);
    let mut all = Tally::default();
    let mut failed = Vec::new();
    let mut said_at = 0.0;
    for seed in (from..).step_by(step) {
        match catch_unwind(|| live(seed, Weight::of(seed).span())) {
            Ok(tally) => all.add(&tally),
            Err(_) => failed.push(seed),
        }
        let is_over = all.meeting_seconds >= wanted_s;
        let took = processor_seconds();
        if is_over || took >= said_at + LINE_EVERY {
            said_at = took;
            let hours = all.meeting_seconds / 3_600.0;
            println!(
                "seeds {from}..={seed}: {hours:.0} meeting-hours in {took:.0} s of one core, failed {failed:?}, {all:?}"
            );
        }
        if is_over {
            break;
        }
    }
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}

fn processor_seconds() -> f64 {
    let taken = clock_gettime(ClockId::ProcessCPUTime);
    taken.tv_sec as f64 + taken.tv_nsec as f64 / 1e9
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.meeting_seconds += other.meeting_seconds;
        self.events += other.events;
        self.joins += other.joins;
        self.offers += other.offers;
        self.packets += other.packets;
        self.faults += other.faults;
        self.resumed += other.resumed;
        self.refused += other.refused;
        self.relayed += other.relayed;
        self.taken_over += other.taken_over;
    }
}
