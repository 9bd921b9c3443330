//! Whether a queue grows somewhere on the way: the trend of one-way delay, and what it says.
//!
//! Delays of groups are summed and smoothed, a line is fitted to the last of them, and its slope
//! compared with a threshold that follows what is usual, so that other traffic which fills queues
//! does not starve ours (Carlucci and others 2016; the constants are libwebrtc's, `trendline_estimator.cc`).

use super::groups::Delta;

/// Groups that the line is fitted to.
const WINDOW: usize = 20;

/// How much of a smoothed delay comes from the one before.
const SMOOTHING: f64 = 0.9;

/// What a slope is multiplied with before it is compared.
const GAIN: f64 = 4.0;

/// Slopes of fewer groups count for less.
const GROUPS_FULL: u32 = 60;

/// The threshold at first and its bounds, in milliseconds.
const THRESHOLD: f64 = 12.5;
const THRESHOLD_MIN: f64 = 6.0;
const THRESHOLD_MAX: f64 = 600.0;

/// How fast it follows a trend that is above it, and one that is below, per millisecond.
const RISE: f64 = 0.0087;
const FALL: f64 = 0.039;

/// A trend that is further off does not move it: a delay that jumps is no competitor.
const OUTLIER: f64 = 15.0;

/// The longest step of time that moves it, in milliseconds.
const STEP_MAX_MS: f64 = 100.0;

/// A trend must be above it for longer than this, in milliseconds.
const OVERUSE_MS: f64 = 10.0;

/// What the trend says of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Usage {
    /// Its queue is as long as it was.
    #[default]
    Normal,
    /// Its queue grows: more is sent than it carries.
    Over,
    /// Its queue gets shorter.
    Under,
}

/// The trend of delays.
#[derive(Debug)]
pub(super) struct Trend {
    /// Times and smoothed delays in milliseconds; a ring.
    points: [(f64, f64); WINDOW],
    count: u32,
    /// Zero of the times.
    first_us: i64,
    delay_ms: f64,
    smoothed_ms: f64,
    slope: f64,
    threshold: f64,
    moved_us: Option<i64>,
    /// For how long the trend was above the threshold, in milliseconds, and how often in a row.
    over_ms: Option<f64>,
    over_count: u32,
    usage: Usage,
}

impl Trend {
    /// Nothing is known.
    pub(super) fn new() -> Trend {
        Trend {
            points: [(0.0, 0.0); WINDOW],
            count: 0,
            first_us: 0,
            delay_ms: 0.0,
            smoothed_ms: 0.0,
            slope: 0.0,
            threshold: THRESHOLD,
            moved_us: None,
            over_ms: None,
            over_count: 0,
            usage: Usage::Normal,
        }
    }

    /// What it says now.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Another group arrived.
    pub(super) fn handle_delta(&mut self, delta: Delta) {
        if self.count == 0 {
            self.first_us = delta.at_us;
        }
        let sent_ms = delta.sent_us as f64 / 1e3;
        self.delay_ms += delta.arrived_us as f64 / 1e3 - sent_ms;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.delay_ms;
        let point = ((delta.at_us - self.first_us) as f64 / 1e3, self.smoothed_ms);
        if let Some(place) = self.points.get_mut(self.count as usize % WINDOW) {
            *place = point;
        }
        self.count = self.count.saturating_add(1);
        let previous = self.slope;
        if self.count as usize >= WINDOW {
            self.slope = slope(&self.points).unwrap_or(self.slope);
        }
        if self.count >= 2 {
            self.judge(sent_ms, previous, delta.at_us);
        }
    }

    fn judge(&mut self, sent_ms: f64, previous: f64, at_us: i64) {
        let trend = f64::from(self.count.min(GROUPS_FULL)) * self.slope * GAIN;
        if trend > self.threshold {
            let over_ms = self.over_ms.map_or(sent_ms / 2.0, |over| over + sent_ms);
            self.over_ms = Some(over_ms);
            self.over_count += 1;
            // A queue that is long already but getting shorter is none of our making any more.
            if over_ms > OVERUSE_MS && self.over_count > 1 && self.slope >= previous {
                self.over_ms = Some(0.0);
                self.over_count = 0;
                self.usage = Usage::Over;
            }
        } else {
            self.over_ms = None;
            self.over_count = 0;
            self.usage = if trend < -self.threshold {
                Usage::Under
            } else {
                Usage::Normal
            };
        }
        self.move_threshold(trend.abs(), at_us);
    }

    fn move_threshold(&mut self, trend: f64, at_us: i64) {
        let since_us = at_us - self.moved_us.replace(at_us).unwrap_or(at_us);
        if trend > self.threshold + OUTLIER {
            return;
        }
        let speed = if trend < self.threshold { FALL } else { RISE };
        let since_ms = (since_us as f64 / 1e3).clamp(0.0, STEP_MAX_MS);
        let threshold = self.threshold + speed * (trend - self.threshold) * since_ms;
        self.threshold = threshold.clamp(THRESHOLD_MIN, THRESHOLD_MAX);
    }
}

/// Slope of the line with the least squares through the points, or none where they have no extent.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let sum = points
        .iter()
        .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    let mean = (sum.0 / count, sum.1 / count);
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in points {
        above += (x - mean.0) * (y - mean.1);
        below += (x - mean.0) * (x - mean.0);
    }
    (below > 0.0).then(|| above / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups each 20 ms whose one-way delay grows by `grows_us(index)`; what is said of each.
    fn said(groups: i64, grows_us: impl Fn(i64) -> i64) -> Vec<Usage> {
        let mut trend = Trend::new();
        let mut at_us = 0;
        (0..groups)
            .map(|index| {
                let arrived_us = 20_000 + grows_us(index);
                at_us += arrived_us;
                trend.handle_delta(Delta {
                    sent_us: 20_000,
                    arrived_us,
                    at_us,
                });
                trend.usage()
            })
            .collect()
    }

    #[test]
    fn a_queue_that_grows_is_noticed_within_half_a_second_and_one_that_shrinks_too() {
        let said = said(150, |index| match index {
            50..75 => 2_000,
            90..115 => -2_000,
            _ => 0,
        });
        assert!(said[..50].iter().all(|usage| *usage == Usage::Normal));
        assert!(said[50..75].contains(&Usage::Over));
        assert!(said[90..125].contains(&Usage::Under));
        assert_eq!(said.last(), Some(&Usage::Normal));
    }

    #[test]
    fn jitter_without_a_trend_says_nothing() {
        let mut random = crate::wire::generator::Generator::new(4);
        let mut last = 0;
        let jitters: Vec<i64> = (0..2_000)
            .map(|_| {
                let jitter = random.below(10_000) as i64;
                let grows = jitter - last;
                last = jitter;
                grows
            })
            .collect();
        let said = said(2_000, |index| jitters[index as usize]);
        let over = said.iter().filter(|usage| **usage == Usage::Over).count();
        assert!(over < 20, "{over} of 2000");
    }
}
