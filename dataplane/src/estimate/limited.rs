//! Whether less is sent than the estimate allows, so that what arrives says little about how much
//! would. The usual case: a layer is smaller than what there is room for.

/// The share of the estimate that is expected to be used.
const EXPECTED: f64 = 0.65;

/// What was left unused is remembered for so long, in seconds.
const WINDOW_S: f64 = 0.5;

/// It is limited when this share of the window was left unused, until it is this.
const BEGINS: f64 = 0.8;
const ENDS: f64 = 0.5;

/// How much of what was expected was not sent.
#[derive(Debug)]
pub(super) struct Limited {
    checked_us: i64,
    /// In bits.
    unused: f64,
    is_limited: bool,
}

impl Limited {
    /// As if all were used.
    pub(super) fn new(now_us: i64) -> Limited {
        Limited {
            checked_us: now_us,
            unused: 0.0,
            is_limited: false,
        }
    }

    /// Since the last time, `bytes` were sent.
    pub(super) fn handle_sent(&mut self, now_us: i64, estimate_bps: f64, bytes: u64) {
        let elapsed_s = (now_us - self.checked_us).max(0) as f64 / 1e6;
        self.checked_us = now_us;
        let expected_bps = EXPECTED * estimate_bps;
        let window = expected_bps * WINDOW_S;
        let unused = self.unused + expected_bps * elapsed_s - bytes as f64 * 8.0;
        self.unused = unused.clamp(-window, window);
        let share = self.unused / window.max(1.0);
        self.is_limited = share > if self.is_limited { ENDS } else { BEGINS };
    }

    /// Whether less is sent than the estimate allows.
    pub(super) fn is_limited(&self) -> bool {
        self.is_limited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_layer_is_limited_and_a_full_one_is_not() {
        let mut limited = Limited::new(0);
        let mut run = |from: i64, bytes: u64| {
            for tick in from..from + 20 {
                limited.handle_sent(tick * 100_000, 1e6, bytes);
            }
            limited.is_limited()
        };
        assert!(run(1, 100_000 / 8 / 5));
        assert!(!run(21, 100_000 / 8));
        assert!(run(41, 0));
    }
}
