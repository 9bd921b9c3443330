//! How busy a worker is, and how long its turns take.

use std::time::{Duration, Instant};

use crate::limits::LOAD_SPAN;
use crate::load::Load;

/// Measures a worker's load.
#[derive(Debug)]
pub(super) struct Meter {
    since: Instant,
    busy: Duration,
    load: Load,
    slowest_turn: Duration,
}

impl Meter {
    /// Idle so far.
    pub(super) fn new(now: Instant) -> Meter {
        Meter {
            since: now,
            busy: Duration::ZERO,
            load: Load::default(),
            slowest_turn: Duration::ZERO,
        }
    }

    /// A turn took this long.
    pub(super) fn handle_turn(&mut self, begun: Instant, ended: Instant) {
        let turn = ended.saturating_duration_since(begun);
        self.slowest_turn = self.slowest_turn.max(turn);
        self.busy += turn;
    }

    /// The load, when enough time was measured to say a new one.
    pub(super) fn poll_load(&mut self, now: Instant) -> Option<Load> {
        let span = now.saturating_duration_since(self.since);
        if span < LOAD_SPAN {
            return None;
        }
        let share = self.busy.as_micros() * u128::from(Load::FULL.0) / span.as_micros().max(1);
        let share = (share as u16).min(Load::FULL.0);
        // Half of what it was before, so that one busy moment is not a load.
        self.load = Load((self.load.0 + share).div_ceil(2));
        (self.since, self.busy) = (now, Duration::ZERO);
        Some(self.load)
    }

    /// The longest turn since this was last asked, in microseconds.
    pub(super) fn take_slowest_turn_us(&mut self) -> u64 {
        std::mem::take(&mut self.slowest_turn).as_micros() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock;
    use super::*;

    #[test]
    fn a_load_is_the_share_of_time_in_turns_and_follows_within_some_spans() {
        let mut now = clock::now();
        let mut meter = Meter::new(now);
        let mut loads = Vec::new();
        let step = LOAD_SPAN / 10;
        for busy_in_ten in [3, 0] {
            for _ in 0..120 {
                meter.handle_turn(now, now + step * busy_in_ten / 10);
                now += step;
                loads.extend(meter.poll_load(now));
            }
        }
        assert_eq!(loads.len(), 24);
        assert_eq!(loads.first(), Some(&Load(150)), "{loads:?}");
        assert!(
            loads[5..12]
                .iter()
                .all(|load| (290..=300).contains(&load.0)),
            "{loads:?}"
        );
        assert!(loads.last() < Some(&Load(10)), "{loads:?}");
        assert_eq!(meter.take_slowest_turn_us(), 3_000);
        assert_eq!(meter.take_slowest_turn_us(), 0);
    }
}
