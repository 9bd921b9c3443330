//! How often a worker failed of late, and so how long it waits before it starts again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::{WORKER_FAILURES_SPAN, WORKER_PAUSE, WORKER_PAUSE_MAX};

/// Failures that are remembered: after as many the pause is the longest.
const REMEMBERED: usize = 8;

/// The failures of one worker.
#[derive(Debug, Default)]
pub(super) struct Failures {
    at: VecDeque<Instant>,
}

impl Failures {
    /// The worker failed. Says how long it waits: a single failure costs nobody a moment, and one
    /// that comes back each time must not take the core from the other workers.
    pub(super) fn handle_failure(&mut self, now: Instant) -> Duration {
        self.at
            .retain(|at| now.saturating_duration_since(*at) < WORKER_FAILURES_SPAN);
        if self.at.len() == REMEMBERED {
            self.at.pop_front();
        }
        self.at.push_back(now);
        match self.at.len() {
            1 => Duration::ZERO,
            count => (WORKER_PAUSE * (1 << (count - 2))).min(WORKER_PAUSE_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock;
    use super::*;

    #[test]
    fn t_33_the_first_failure_costs_nothing_and_the_next_ones_more_and_more() {
        let mut failures = Failures::default();
        let start = clock::now();
        let pauses: Vec<u128> = (0..9)
            .map(|second| {
                let now = start + Duration::from_secs(second);
                failures.handle_failure(now).as_millis()
            })
            .collect();
        assert_eq!(pauses, [0, 50, 100, 200, 400, 800, 1_000, 1_000, 1_000]);
        let later = start + 2 * WORKER_FAILURES_SPAN;
        assert_eq!(failures.handle_failure(later), Duration::ZERO);
    }
}
