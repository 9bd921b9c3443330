//! The rate that delay allows: up while queues are as they were, down when one grows (additive and
//! multiplicative increase, multiplicative decrease; draft-ietf-rmcat-gcc-02 section 5.5).

use super::trend::Usage;
use crate::limits::{ESTIMATE_BPS_MAX, ESTIMATE_BPS_MIN};

/// What is left of the acknowledged rate after overuse.
const BETA: f64 = 0.85;

/// While packets wait for longer than this, in seconds, a queue stands somewhere, and the rate does not grow..
const WAIT_S: f64 = 0.1;

/// ..and after so many microseconds it falls once, as if the queue grew: it may be ours..
const YIELD_US: i64 = 2_000_000;

/// ..and if it stands all the same after as many more it is others', and not to be left to them..
const FOREIGN_US: i64 = 4_000_000;

/// ..until it is time to find out again.
const AGAIN_US: i64 = 15_000_000;

/// A queue longer than this, in seconds, is drained faster..
const LONG_S: f64 = 0.15;

/// ..what is left falls by this for each second that it is longer..
const DRAIN: f64 = 1.5;

/// ..down to this.
const BETA_MIN: f64 = 0.5;

/// What is left of the estimate, at least, while less is sent than it allows: the acknowledged rate
/// says nothing of how much there is room for, and what fills the queue may be somebody else's. Unless our
/// own packets arrive slower than they were sent: then the way carries what arrives.
const BETA_LIMITED: f64 = 0.7;

/// Growth per second while it is not known how much there is.
const GROWTH_PER_SECOND: f64 = 1.08;

/// Least growth near what is known to be there, in bits per second and second.
const GROWTH_BPS_MIN: f64 = 4_000.0;

/// Size of a packet, in bits, that the growth near there is made of.
const PACKET_BITS: f64 = 8.0 * 1_200.0;

/// What a response to a change takes besides the round trip, in seconds.
const RESPONSE_S: f64 = 0.1;

/// An estimate grows to this multiple of what arrives, and this much more, and no further.
const AHEAD: f64 = 1.5;
const AHEAD_BPS: f64 = 10_000.0;

/// More than this multiple of what arrives without a queue was room that there is.
const PROVEN: f64 = 0.85;

/// What is known when feedback was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) now_us: i64,
    pub(super) usage: Usage,
    /// What arrives, in bits per second.
    pub(super) throughput_bps: Option<f64>,
    /// Whether less is sent than the estimate allows.
    pub(super) is_limited: bool,
    pub(super) rtt_us: i64,
    /// How long packets wait on the way, in seconds.
    pub(super) wait_s: f64,
    /// What arrives, in bits per second, where it is clearly slower than it was sent.
    pub(super) squeezed_bps: Option<f64>,
}

/// Whether the rate may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It waits for the queue to get as short as it was.
    Hold,
    Increase,
}

/// The rate that delay allows.
#[derive(Debug)]
pub(super) struct RateControl {
    bps: f64,
    state: State,
    changed_us: i64,
    capacity: Capacity,
    standing: Option<Standing>,
}

/// A queue that stands.
#[derive(Clone, Copy, Debug)]
struct Standing {
    since_us: i64,
    has_yielded: bool,
}

impl RateControl {
    /// Begins at a rate.
    pub(super) fn new(now_us: i64, bps: f64) -> RateControl {
        RateControl {
            bps,
            state: State::Increase,
            changed_us: now_us,
            capacity: Capacity::default(),
            standing: None,
        }
    }

    /// Bits per second.
    pub(super) fn bitrate_bps(&self) -> f64 {
        self.bps
    }

    /// Whether it grows, for all that delay says.
    pub(super) fn is_increasing(&self) -> bool {
        self.state == State::Increase
    }

    /// A probe found that there is room for more.
    pub(super) fn handle_probe(&mut self, now_us: i64, bps: f64) {
        if bps > self.bps {
            self.set_bitrate(now_us, bps);
        }
        if bps > self.capacity.upper() {
            self.capacity = Capacity::default();
        }
    }

    /// Another source knows better.
    pub(super) fn set_bitrate(&mut self, now_us: i64, bps: f64) {
        self.bps = bps.clamp(ESTIMATE_BPS_MIN as f64, ESTIMATE_BPS_MAX as f64);
        self.changed_us = now_us;
    }

    /// Feedback was read. Whether the rate fell.
    pub(super) fn handle_reading(&mut self, reading: &Reading) -> bool {
        let before = self.bps;
        match reading.usage {
            Usage::Over if self.may_fall(reading) => self.fall(reading),
            Usage::Over => {}
            Usage::Under => self.state = State::Hold,
            Usage::Normal if self.state == State::Hold => {
                self.state = State::Increase;
                self.changed_us = reading.now_us;
            }
            Usage::Normal => self.grow(reading),
        }
        self.bps < before
    }

    /// Whether a fall before had time to show.
    fn may_fall(&self, reading: &Reading) -> bool {
        let wait_us = reading.rtt_us.clamp(10_000, 200_000);
        let is_far = |arrives| arrives < self.bps / 2.0;
        self.state == State::Increase
            || reading.now_us - self.changed_us >= wait_us
            || (!reading.is_limited && reading.throughput_bps.is_some_and(is_far))
    }

    fn fall(&mut self, reading: &Reading) {
        let squeezed = reading.squeezed_bps.filter(|_| reading.is_limited);
        let arrives = squeezed.or(reading.throughput_bps).unwrap_or(self.bps);
        let beta = (BETA - DRAIN * (reading.wait_s - LONG_S).max(0.0)).max(BETA_MIN);
        let mut lower = beta * arrives;
        if reading.is_limited && squeezed.is_none() {
            lower = lower.max(BETA_LIMITED * self.bps);
        } else {
            if lower > self.bps
                && let Some(capacity) = self.capacity.bps
            {
                lower = BETA * capacity;
            }
            self.capacity.handle_overuse(arrives);
        }
        let lower = self.bps.min(lower);
        self.set_bitrate(reading.now_us, lower);
        self.state = State::Hold;
    }

    fn grow(&mut self, reading: &Reading) {
        let elapsed_s = (reading.now_us - self.changed_us).clamp(0, 1_000_000) as f64 / 1e6;
        self.changed_us = reading.now_us;
        let arrives = reading.throughput_bps;
        if arrives.is_some_and(|arrives| arrives > self.capacity.upper()) {
            self.capacity = Capacity::default();
        }
        if let Some(proven) = arrives.map(|arrives| PROVEN * arrives)
            && proven > self.bps
        {
            self.set_bitrate(reading.now_us, proven);
            return;
        }
        let limit = arrives.map_or(f64::INFINITY, |arrives| AHEAD * arrives + AHEAD_BPS);
        if !self.may_grow(reading) || self.bps >= limit {
            return;
        }
        let step = if self.capacity.bps.is_some() {
            self.near_growth(reading.rtt_us) * elapsed_s
        } else {
            self.bps * (GROWTH_PER_SECOND.powf(elapsed_s) - 1.0)
        };
        let higher = (self.bps + step).min(limit);
        self.set_bitrate(reading.now_us, higher);
    }

    /// Whether nothing speaks against more: enough of it is used, and no queue stands that may be ours.
    fn may_grow(&mut self, reading: &Reading) -> bool {
        if reading.is_limited {
            return false;
        }
        if reading.wait_s <= WAIT_S {
            self.standing = None;
            return true;
        }
        let standing = self.standing.get_or_insert(Standing {
            since_us: reading.now_us,
            has_yielded: false,
        });
        let stands_us = reading.now_us - standing.since_us;
        if stands_us > AGAIN_US {
            self.standing = None;
        } else if stands_us > YIELD_US && !standing.has_yielded {
            standing.has_yielded = true;
            self.fall(reading);
        }
        stands_us > FOREIGN_US
    }

    /// Growth near the capacity, in bits per second and second: half a packet for each response.
    fn near_growth(&self, rtt_us: i64) -> f64 {
        let frame_bits = self.bps / 30.0;
        let packet_bits = frame_bits / (frame_bits / PACKET_BITS).ceil().max(1.0);
        let response_s = 2.0 * (rtt_us as f64 / 1e6 + RESPONSE_S);
        (packet_bits / response_s).max(GROWTH_BPS_MIN)
    }
}

/// How much of an overuse's acknowledged rate enters the capacity.
const CAPACITY_SHARE: f64 = 0.05;

/// Bounds of its variance relative to its mean, in kbit/s.
const VARIANCE_MIN: f64 = 0.4;
const VARIANCE_MAX: f64 = 2.5;

/// What arrived when there was too much: what the narrowest link carries of ours.
#[derive(Clone, Copy, Debug)]
struct Capacity {
    bps: Option<f64>,
    /// In kbit/s.
    variance: f64,
}

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity {
            bps: None,
            variance: VARIANCE_MIN,
        }
    }
}

impl Capacity {
    fn handle_overuse(&mut self, arrives_bps: f64) {
        if arrives_bps < self.lower() {
            *self = Capacity::default();
        }
        let mean = self.bps.map_or(arrives_bps, |bps| {
            bps + CAPACITY_SHARE * (arrives_bps - bps)
        });
        let off = (mean - arrives_bps) / 1e3;
        let relative = off * off / (mean / 1e3).max(1.0);
        let variance = self.variance + CAPACITY_SHARE * (relative - self.variance);
        self.variance = variance.clamp(VARIANCE_MIN, VARIANCE_MAX);
        self.bps = Some(mean);
    }

    /// Above this it is another link.
    fn upper(&self) -> f64 {
        self.bps
            .map_or(f64::INFINITY, |bps| bps + self.deviation(bps))
    }

    /// Below this it is another link.
    fn lower(&self) -> f64 {
        self.bps.map_or(0.0, |bps| bps - self.deviation(bps))
    }

    /// Three standard deviations, in bits per second.
    fn deviation(&self, bps: f64) -> f64 {
        3e3 * (self.variance * bps / 1e3).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(now_us: i64, usage: Usage, arrives: f64, is_limited: bool) -> Reading {
        Reading {
            now_us,
            usage,
            throughput_bps: Some(arrives),
            is_limited,
            rtt_us: 50_000,
            wait_s: 0.0,
            squeezed_bps: None,
        }
    }

    #[test]
    fn it_grows_by_eight_percent_a_second_and_slowly_near_what_overflowed() {
        let mut control = RateControl::new(0, 1e6);
        let mut now_us = 0;
        let mut run = |control: &mut RateControl, seconds: i64| {
            for _ in 0..seconds * 10 {
                now_us += 100_000;
                let sent = control.bitrate_bps();
                control.handle_reading(&reading(now_us, Usage::Normal, sent, false));
            }
            now_us
        };
        run(&mut control, 3);
        let grown = control.bitrate_bps() / 1e6;
        assert!((1.24..1.28).contains(&grown), "{grown}");
        let now_us = run(&mut control, 0);
        assert!(control.handle_reading(&reading(now_us, Usage::Over, 1.2e6, false)));
        let fallen = control.bitrate_bps() / 1e6;
        assert!((1.01..1.03).contains(&fallen), "{fallen}");
        run(&mut control, 3);
        let near = control.bitrate_bps() / 1e6;
        assert!((1.05..1.16).contains(&near), "{near}");
    }

    #[test]
    fn it_stays_within_what_arrives_and_grows_to_what_did() {
        let mut control = RateControl::new(0, 1e6);
        for tick in 1..600 {
            let now_us = tick * 100_000;
            control.handle_reading(&reading(now_us, Usage::Normal, 8e5, false));
        }
        assert!((control.bitrate_bps() - 1.21e6).abs() < 1.0);
        control.handle_reading(&reading(61_000_000, Usage::Normal, 4e6, false));
        assert!((control.bitrate_bps() - 3.4e6).abs() < 1.0);
    }

    #[test]
    fn with_little_to_send_it_neither_runs_away_nor_collapses() {
        let mut control = RateControl::new(0, 2e6);
        for tick in 1..600 {
            let now_us = tick * 100_000;
            control.handle_reading(&reading(now_us, Usage::Normal, 2e5, true));
        }
        assert!((control.bitrate_bps() - 2e6).abs() < 1.0);
        control.handle_reading(&reading(60_000_000, Usage::Over, 2e5, true));
        assert!((control.bitrate_bps() - 1.4e6).abs() < 1.0);
        // A network that really has no room for even that is noticed all the same.
        for tick in 1..30 {
            let now_us = 60_000_000 + tick * 100_000;
            control.handle_reading(&reading(now_us, Usage::Over, 1e5, true));
        }
        assert!(control.bitrate_bps() < 2e5);
    }
}
