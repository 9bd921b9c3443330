//! The rate that loss allows.
//!
//! A packet is lost because a queue is full, which sending less cures, or because a radio fails,
//! which it does not. Two numbers explain what was seen at the rates of the last seconds: the
//! share that is lost at any rate, and the rate above which everything more is lost. The most
//! likely pair is sought among a few (in the spirit of libwebrtc's `loss_based_bwe_v2.cc`; its
//! older rule, to fall by half the loss whenever that is above 10 %, starves a viewer on a bad radio).

/// Observations that are remembered.
const OBSERVATIONS: usize = 20;

/// Each covers at least this much time, in microseconds, and this many packets.
const SPAN_US: i64 = 250_000;
const PACKETS_MIN: u16 = 10;

/// Observations that it takes to say anything.
const OBSERVATIONS_MIN: usize = 3;

/// What an observation counts for, compared with the one after it.
const AGEING: f64 = 0.9;

/// Loss below this share is nobody's fault.
const SHARE_MIN: f64 = 0.02;

/// The share that is lost at any rate is at least this..
const INHERENT_MIN: f64 = 1e-3;

/// ..and at most this, and at low rates more: who loses much is asked to send less until it is little.
const INHERENT_MAX: f64 = 0.05;
const INHERENT_BALANCE_BPS: f64 = 100_000.0;

/// Steps by which the rate changes, for each observation. The first is tried first, and must be beaten.
const STEPS: [f64; 4] = [1.02, 1.0, 0.95, 0.85];

/// Loss above this multiple of what is lost at any rate is that of a queue that is full.
const FILLING: f64 = 1.3;

/// How much more likely a lower rate must be.
const PREFERENCE: f64 = 0.2;

/// A rate that loss bounds grows to this multiple of what arrives and no further.
const AHEAD: f64 = 1.5;

/// Newton's method comes close enough in so many steps.
const NEWTON_STEPS: usize = 3;

/// What was seen at one rate.
#[derive(Clone, Copy, Debug, Default)]
struct Observation {
    rate_bps: f64,
    packets: u16,
    lost: u16,
}

/// The observation in the making.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    since_us: Option<i64>,
    bytes: u32,
    packets: u16,
    lost: u16,
}

/// The rate that loss allows.
#[derive(Debug)]
pub(super) struct LossControl {
    observations: [Observation; OBSERVATIONS],
    /// Observations so far.
    count: usize,
    open: Open,
    /// The share that is lost at any rate.
    inherent: f64,
    /// Bits per second, while loss allows less than delay.
    limit_bps: Option<f64>,
    /// The share lost of late.
    share: f64,
}

impl LossControl {
    /// Nothing was lost.
    pub(super) fn new() -> LossControl {
        LossControl {
            observations: [Observation::default(); OBSERVATIONS],
            count: 0,
            open: Open::default(),
            inherent: INHERENT_MIN,
            limit_bps: None,
            share: 0.0,
        }
    }

    /// Bits per second, where loss allows less than delay.
    pub(super) fn limit_bps(&self) -> Option<f64> {
        self.limit_bps
    }

    /// The share that is lost at any rate, 0 to 1.
    pub(super) fn inherent(&self) -> f64 {
        self.inherent
    }

    /// The share lost of late, 0 to 1.
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// Whether more is lost than would be at any rate: a queue is full.
    pub(super) fn is_filling(&self) -> bool {
        self.share > FILLING * self.inherent + SHARE_MIN / 2.0
    }

    /// A probe found that there is room for this much.
    pub(super) fn handle_probe(&mut self, bps: f64) {
        self.limit_bps = self.limit_bps.map(|limit| limit.max(bps));
    }

    /// A packet that was sent then has arrived or is lost. Whether that completes an observation.
    pub(super) fn handle_packet(&mut self, sent_us: i64, bytes: u16, is_lost: bool) -> bool {
        let since_us = *self.open.since_us.get_or_insert(sent_us);
        let span_us = sent_us - since_us;
        let is_complete = span_us >= SPAN_US && self.open.packets >= PACKETS_MIN;
        if is_complete {
            let observation = Observation {
                rate_bps: f64::from(self.open.bytes) * 8e6 / span_us as f64,
                packets: self.open.packets,
                lost: self.open.lost,
            };
            if let Some(place) = self.observations.get_mut(self.count % OBSERVATIONS) {
                *place = observation;
            }
            self.count += 1;
            self.open = Open {
                since_us: Some(sent_us),
                ..Open::default()
            };
        }
        self.open.bytes += u32::from(bytes);
        self.open.packets += 1;
        self.open.lost += u16::from(is_lost);
        is_complete
    }

    /// A packet that was told to be lost has arrived.
    pub(super) fn handle_late(&mut self) {
        self.open.lost = self.open.lost.saturating_sub(1);
    }

    /// An observation is complete: seeks the rate again. `allowed_bps` is what delay allows; `is_queued` says
    /// whether packets wait somewhere.
    pub(super) fn update(
        &mut self,
        allowed_bps: f64,
        throughput_bps: Option<f64>,
        is_queued: bool,
    ) {
        self.share = self.weighted_share();
        if self.count < OBSERVATIONS_MIN {
            return;
        }
        if self.share < SHARE_MIN && self.limit_bps.is_none() {
            self.inherent = self.share.max(INHERENT_MIN);
            return;
        }
        let current = self
            .limit_bps
            .map_or(allowed_bps, |bps| bps.min(allowed_bps));
        let ahead = throughput_bps.map_or(f64::INFINITY, |bps| AHEAD * bps);
        let top = allowed_bps.min(ahead.max(current));
        let mut best: Option<(f64, f64, f64)> = None;
        let steps = STEPS.map(|step| (step * current).min(top));
        // What arrives is what there is room for, where a queue overflows. Where there is none, that is as good an
        // explanation of any loss as that a radio fails, and would starve the viewer.
        let arrives = throughput_bps.filter(|bps| is_queued && *bps < current);
        for (index, rate) in steps.into_iter().chain(arrives).enumerate() {
            let inherent = self.likely_inherent(rate);
            let likelihood = self.likelihood(rate, inherent);
            let hurdle = if index == 0 { 0.0 } else { PREFERENCE };
            if best.is_none_or(|(other, ..)| likelihood > other + hurdle) {
                best = Some((likelihood, rate, inherent));
            }
        }
        let Some((_, rate, inherent)) = best else {
            return;
        };
        self.inherent = inherent;
        // More is lost than would be at any rate: not the time to try for more.
        let rate = if self.is_filling() {
            rate.min(current)
        } else {
            rate
        };
        self.limit_bps = (rate < allowed_bps).then_some(rate);
    }

    /// Observations with what each counts for.
    fn weighted(&self) -> impl Iterator<Item = (f64, &Observation)> {
        let count = self.count.min(OBSERVATIONS);
        (0..count).filter_map(move |back| {
            let place = (self.count - 1 - back) % OBSERVATIONS;
            Some((AGEING.powi(back as i32), self.observations.get(place)?))
        })
    }

    fn weighted_share(&self) -> f64 {
        let (lost, packets) = self.weighted().fold((0.0, 0.0), |sum, (weight, seen)| {
            (
                sum.0 + weight * f64::from(seen.lost),
                sum.1 + weight * f64::from(seen.packets),
            )
        });
        if packets > 0.0 { lost / packets } else { 0.0 }
    }

    /// The share lost at any rate that explains best what was seen, if what is more than `rate` is lost.
    fn likely_inherent(&self, rate: f64) -> f64 {
        let most = (INHERENT_MAX + INHERENT_BALANCE_BPS / rate).min(0.9);
        // From below it comes closer with each step, and from more than twice as much it does not.
        let mut inherent = self
            .inherent
            .max(self.share / 2.0)
            .clamp(INHERENT_MIN, most);
        for _ in 0..NEWTON_STEPS {
            let (mut first, mut second) = (0.0, 0.0);
            for (weight, seen) in self.weighted() {
                let lost = f64::from(seen.lost);
                let arrived = f64::from(seen.packets) - lost;
                let probability = probability(inherent, rate, seen.rate_bps);
                let rest = 1.0 - probability;
                first += weight * (lost / probability - arrived / rest);
                second -= weight * (lost / (probability * probability) + arrived / (rest * rest));
            }
            if second >= 0.0 {
                break;
            }
            inherent = (inherent - first / second).clamp(INHERENT_MIN, most);
        }
        inherent
    }

    fn likelihood(&self, rate: f64, inherent: f64) -> f64 {
        self.weighted()
            .map(|(weight, seen)| {
                let lost = f64::from(seen.lost);
                let arrived = f64::from(seen.packets) - lost;
                let probability = probability(inherent, rate, seen.rate_bps);
                weight * (lost * probability.ln() + arrived * (1.0 - probability).ln())
            })
            .sum()
    }
}

/// The probability that a packet sent at `sent` is lost where `rate` is carried.
fn probability(inherent: f64, rate: f64, sent: f64) -> f64 {
    let excess = ((sent - rate) / sent).max(0.0);
    (inherent + (1.0 - inherent) * excess).clamp(1e-6, 1.0 - 1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::generator::Generator;

    /// A sender that sends at `rate(limit)`; of it, `random` of 1,000 packets are lost, and what is
    /// more than `capacity`. Returns the limit at the end, and the share lost.
    fn run(
        seconds: i64,
        rate: impl Fn(Option<f64>) -> f64,
        random: usize,
        capacity: f64,
    ) -> (Option<f64>, f64) {
        let mut control = LossControl::new();
        let mut generator = Generator::new(17);
        let mut now_us = 0;
        while now_us < seconds * 1_000_000 {
            let rate = rate(control.limit_bps());
            now_us += (8e9 / rate) as i64;
            let excess = ((rate - capacity) / rate).max(0.0);
            let is_lost = generator.below(1_000) < random
                || generator.below(1_000) < (excess * 1_000.0) as usize;
            if control.handle_packet(now_us, 1_000, is_lost) {
                let arrives = rate.min(capacity) * (1.0 - random as f64 / 1_000.0);
                control.update(4e6, Some(arrives), capacity < rate);
            }
        }
        (control.limit_bps(), control.share())
    }

    #[test]
    fn a_radio_that_loses_a_tenth_does_not_starve_the_viewer() {
        let (limit, share) = run(60, |limit| limit.unwrap_or(1.5e6).min(1.5e6), 100, 1e9);
        assert!(limit.is_none_or(|limit| limit > 1.2e6), "{limit:?}");
        assert!((0.07..0.13).contains(&share), "{share}");
    }

    #[test]
    fn a_queue_that_overflows_is_respected() {
        let (limit, _) = run(20, |limit| limit.unwrap_or(3e6), 0, 1e6);
        let limit = limit.unwrap();
        assert!((0.8e6..1.15e6).contains(&limit), "{limit}");
        // Even if the sender does not send less.
        let (limit, share) = run(20, |_| 2e6, 0, 1e6);
        let limit = limit.unwrap();
        assert!((0.85e6..1.15e6).contains(&limit), "{limit}");
        assert!((0.45..0.55).contains(&share), "{share}");
    }

    #[test]
    fn a_few_lost_packets_change_nothing() {
        let (limit, _) = run(60, |limit| limit.unwrap_or(3e6), 10, 1e9);
        assert_eq!(limit, None);
    }
}
