//! How long to wait before the database is asked again.

use std::time::{Duration, Instant};

use super::limits;

/// Growing waits with jitter, so that nodes do not come back all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    until: Option<Instant>,
    wait: Duration,
    seed: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Backoff {
        Backoff {
            until: None,
            wait: limits::RETRY_FIRST,
            seed,
        }
    }

    /// Whether nothing shall be tried now. A wait that is over is forgotten.
    pub(super) fn holds(&mut self, now: Instant) -> bool {
        self.until = self.until.filter(|until| now < *until);
        self.until.is_some()
    }

    /// Until when.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(super) fn on_success(&mut self) {
        self.until = None;
        self.wait = limits::RETRY_FIRST;
    }

    /// Many fail together; only the first of them lengthens the wait.
    pub(super) fn on_failure(&mut self, now: Instant) {
        if self.holds(now) {
            return;
        }
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Between half of the wait and all of it.
        let share = 500 + u32::try_from(self.seed >> 33).unwrap_or(0) % 501;
        self.until = Some(now + self.wait * share / 1000);
        self.wait = (self.wait * 2).min(limits::RETRY_MAX);
    }

    pub(super) fn on_denied(&mut self, now: Instant) {
        self.until = Some(now + limits::DENIED_RETRY);
    }
}
