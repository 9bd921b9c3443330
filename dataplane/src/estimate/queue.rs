//! How long packets wait on the way: their delay beyond the least of the last seconds.
//!
//! A trend says that a queue grows. One that is full no longer does, and one that is very long takes many
//! seconds to drain at a rate that is just below what the network carries: for both its length must be known.

/// The least delay is that of this many microseconds and of as many before them.
const SPAN_US: i64 = 8_000_000;

/// How much of a delay comes from the one before.
const SMOOTHING: f64 = 0.9;

/// The delay of packets.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Least delays of this span of time and of the one before, by two clocks that are not the same.
    least_us: Option<i64>,
    before_us: Option<i64>,
    since_us: i64,
    smoothed_us: f64,
}

impl Queue {
    /// A packet took from one clock's time to the other's.
    pub(super) fn handle_packet(&mut self, sent_us: i64, arrival_us: i64) {
        let delay_us = arrival_us - sent_us;
        if self.least_us.is_none() || sent_us - self.since_us > SPAN_US {
            self.before_us = self.least_us;
            self.least_us = Some(delay_us);
            self.since_us = sent_us;
        }
        self.least_us = self.least_us.min(Some(delay_us));
        let least_us = self.before_us.into_iter().chain(self.least_us).min();
        let waited_us = delay_us - least_us.unwrap_or(delay_us);
        self.smoothed_us = SMOOTHING * self.smoothed_us + (1.0 - SMOOTHING) * waited_us as f64;
    }

    /// How long packets wait of late, in seconds.
    pub(super) fn wait_s(&self) -> f64 {
        self.smoothed_us / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_the_delay_beyond_the_least_of_the_last_seconds() {
        let mut queue = Queue::default();
        let mut run = |from_s: i64, to_s: i64, delay_us: i64| {
            for tick in from_s * 50..to_s * 50 {
                // The receiver's clock is an hour ahead.
                queue.handle_packet(tick * 20_000, tick * 20_000 + 3_600_000_000 + delay_us);
            }
            (queue.wait_s() * 1e3).round() as i64
        };
        assert_eq!(run(0, 10, 50_000), 0);
        assert_eq!(run(10, 15, 350_000), 300);
        assert_eq!(run(15, 18, 70_000), 20);
        // Another route, to which it gets used.
        assert_eq!(run(18, 22, 150_000), 100);
        assert_eq!(run(22, 60, 150_000), 0);
    }
}
