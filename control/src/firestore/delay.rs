//! How long to wait before the database is tried again.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_millis(500);

/// After many: a database that comes back waits for nobody longer. It is well below a lease, so that
/// a node is back before the others take it for dead.
const LONGEST: Duration = Duration::from_secs(10);

/// After a refusal: somebody has to change a permission first, and that takes a person.
pub(super) const DENIED: Duration = Duration::from_secs(30);

/// Grows with each failure, and starts over after a success.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delay {
    failures: u32,
}

impl Delay {
    /// How long to wait after one more failure. `chance` spreads nodes that failed together: of the
    /// full delay, at least half.
    pub(super) fn after_failure(&mut self, chance: u8) -> Duration {
        let full = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        full / 2 + full / 2 * u32::from(chance) / u32::from(u8::MAX)
    }

    /// It worked.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_ten_seconds_and_start_over() {
        let mut delay = Delay::default();
        let ms: Vec<u128> = (0..9)
            .map(|_| delay.after_failure(u8::MAX).as_millis())
            .collect();
        assert_eq!(
            ms,
            [500, 1000, 2000, 4000, 8000, 10000, 10000, 10000, 10000]
        );
        assert_eq!(delay.after_failure(0).as_secs(), 5);
        delay.succeeded();
        assert_eq!(delay.after_failure(0).as_millis(), 250);
    }
}
