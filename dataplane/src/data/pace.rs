//! How fast one session may send messages.

use std::time::{Duration, Instant};

use crate::limits::{DATA_BYTES_PER_SECOND_MAX, DATA_MESSAGES_PER_SECOND_MAX};

/// How long the session may have been silent and still make up for it.
const SAVED: Duration = Duration::from_secs(2);

/// Two allowances, of messages and of bytes, that fill up with time.
#[derive(Debug)]
pub(super) struct Pace {
    /// Messages that may come now, and bytes.
    messages: f64,
    bytes: f64,
    filled_at: Instant,
}

impl Pace {
    /// A full one.
    pub(super) fn new(now: Instant) -> Pace {
        Pace {
            messages: most(DATA_MESSAGES_PER_SECOND_MAX),
            bytes: most(DATA_BYTES_PER_SECOND_MAX),
            filled_at: now,
        }
    }

    /// Whether a message of so many bytes may come now; takes it off if so.
    pub(super) fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now;
        let fill = |have: f64, rate: u32| (have + passed * f64::from(rate)).min(most(rate));
        self.messages = fill(self.messages, DATA_MESSAGES_PER_SECOND_MAX);
        self.bytes = fill(self.bytes, DATA_BYTES_PER_SECOND_MAX);
        let is_allowed = self.messages >= 1.0 && self.bytes >= bytes as f64;
        if is_allowed {
            self.messages -= 1.0;
            self.bytes -= bytes as f64;
        }
        is_allowed
    }
}

fn most(rate: u32) -> f64 {
    f64::from(rate) * SAVED.as_secs_f64()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_is_held_to_the_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut passed = 0;
        // A thousand a second for ten seconds.
        for ms in 0..10_000 {
            passed += u32::from(pace.take(start + Duration::from_millis(ms), 1));
        }
        let allowed = DATA_MESSAGES_PER_SECOND_MAX * 12;
        assert!(passed.abs_diff(allowed) < 3, "{passed} of {allowed}");
        // Large ones are held by their bytes.
        let later = start + Duration::from_secs(60);
        let large = DATA_BYTES_PER_SECOND_MAX as usize / 4;
        let passed = (0..100).filter(|_| pace.take(later, large)).count();
        assert_eq!(passed, 8);
    }
}
