//! The database's clock, as far as a node can tell it: stamps that came from there, and the time that
//! has passed here since.

use std::time::{Duration, Instant};

use super::message::Stamp;

/// How long a sight of the clock counts. A stamp is late by the way it took, so the one that was least
/// late is believed, until the two clocks may have drifted apart (100 ppm: 12 ms in two windows).
const WINDOW: Duration = Duration::from_secs(60);

/// What we believe of the database's clock.
#[derive(Clone, Debug, Default)]
pub struct DatabaseClock {
    /// Where our own count begins.
    epoch: Option<Instant>,
    /// When the newer window began.
    began: Option<Instant>,
    /// Microseconds between the stamp and our count at the best sight, in the older and newer window.
    ahead_us: [Option<i64>; 2],
}

impl DatabaseClock {
    /// A stamp arrived that the database made not long ago.
    pub fn handle_stamp(&mut self, now: Instant, stamp: Stamp) {
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= WINDOW {
            self.ahead_us = [self.ahead_us[1], None];
            self.began = Some(now);
        }
        let ahead_us = stamp.0 - self.count_us(now);
        self.ahead_us[1] = self.ahead_us[1].max(Some(ahead_us));
    }

    /// What time it is there; `None` before anything arrived.
    #[must_use]
    pub fn at(&self, now: Instant) -> Option<Stamp> {
        let ahead_us = self.ahead_us[0].max(self.ahead_us[1])?;
        let epoch = self.epoch?;
        Some(Stamp(
            ahead_us + micros(now.saturating_duration_since(epoch)),
        ))
    }

    fn count_us(&mut self, now: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(now);
        micros(now.saturating_duration_since(epoch))
    }
}

impl Stamp {
    /// The moment so much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Stamp {
        Stamp(self.0.saturating_add(micros(wait)))
    }

    /// How long after `earlier`; nothing if before.
    #[must_use]
    pub fn since(self, earlier: Stamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Microseconds of a duration that fits a stamp: 292,000 years.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "tests count from any moment; none of them waits"
    )]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_stamp_that_was_least_late_counts_and_ages() {
        let start = now();
        let mut clock = DatabaseClock::default();
        assert_eq!(clock.at(start), None);
        clock.handle_stamp(start, Stamp(1_000_000));
        clock.handle_stamp(start + Duration::from_secs(1), Stamp(1_500_000));
        assert_eq!(
            clock.at(start + Duration::from_secs(2)),
            Some(Stamp(3_000_000))
        );
        // Two windows later the early sight is forgotten: the clocks may have drifted.
        for s in (10..200).step_by(10) {
            let late = Stamp(1_000_000 + s * 1_000_000 - 300_000);
            clock.handle_stamp(start + Duration::from_secs(s as u64), late);
        }
        let after = clock.at(start + Duration::from_secs(200)).unwrap();
        assert_eq!(after, Stamp(200_700_000));
    }
}
