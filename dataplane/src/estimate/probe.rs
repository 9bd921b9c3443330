//! Probes: clusters of packets that are sent faster than the estimate, to see whether they arrive
//! as fast. When one is made is libwebrtc's `probe_controller.cc` in short; what it shows is its
//! `probe_bitrate_estimator.cc`.

use super::LEAKY_LOSS;
use super::history::NO_CLUSTER;
use crate::limits::{
    ESTIMATE_BPS_MAX, PROBE_DURATION, PROBE_INTERVAL, PROBE_INTERVAL_MAX, PROBE_PACKETS_MIN,
};

/// Multiples of the first estimate that are probed at the start.
const START_FACTORS: [f64; 2] = [3.0, 6.0];

/// Where nobody says how much is wanted, the start goes no further than this, in bits per second.
const START_BPS_MAX: f64 = 5e6;

/// A probe that showed this part of what it was sent at is followed by one that is twice as fast.
const FURTHER: f64 = 0.7;
const FURTHER_FACTOR: f64 = 2.0;

/// Multiples of the estimate that are probed later: while less is sent than it allows, and else.
const LIMITED_FACTOR: f64 = 2.0;
const BUSY_FACTOR: f64 = 1.5;

/// What is probed beyond what is wanted.
const HEADROOM: f64 = 1.2;

/// Whether a large fall was a mistake is probed at this part of what was, within this time.
const RECOVERY: f64 = 0.85;
const RECOVERY_US: i64 = 15_000_000;

/// What that must be of the estimate where all of it is used: to take back what others got is not fair.
const BUSY_FALL: f64 = 1.7;

/// Between two probes that somebody asked for, at least.
const GAP_US: i64 = 1_000_000;

/// A probe of which nothing is heard for so long is over.
const PATIENCE_US: i64 = 1_000_000;

/// What a probe shows counts as evidence for the next for so long.
const EVIDENCE_US: i64 = 2_000_000;

/// Without other evidence a probe raises the estimate to this multiple at most.
const RAISE_MAX: f64 = 2.0;

/// This share must have arrived of those packets and bytes of it that are not lost at any rate.
const ARRIVED_MIN: f64 = 0.8;

/// A cluster that arrives faster than it was sent by more than this says nothing.
const FASTER_MAX: f64 = 2.0;

/// One that arrives at less than this share of its rate filled the link..
const FILLED: f64 = 0.9;

/// ..of which this share is then used.
const USED: f64 = 0.95;

/// Clusters of which something may still be heard.
const CLUSTERS: usize = 4;

/// A cluster of packets to send at a rate.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Its name, for [`Estimator::handle_probe_sent`](super::Estimator::handle_probe_sent).
    pub cluster: u8,
    /// The rate, in bits per second.
    pub bitrate_bps: u64,
    /// Bytes of datagrams to send at that rate; it takes five packets at least.
    pub bytes: usize,
}

/// What is known when a probe is considered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub(super) now_us: i64,
    pub(super) estimate_bps: f64,
    /// Whether less is sent than the estimate allows.
    pub(super) is_limited: bool,
    /// Whether neither delay nor loss speak against more.
    pub(super) is_calm: bool,
    /// The share of packets that is lost at any rate.
    pub(super) inherent_loss: f64,
}

/// How far the probes of the start are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Waiting,
    Probing,
    Done,
}

/// Makes probes and reads what they show.
#[derive(Debug)]
pub(super) struct Prober {
    clusters: [Cluster; CLUSTERS],
    made: u8,
    start: Start,
    /// Rates that are to be probed next.
    queue: [Option<f64>; 2],
    /// What the subscriber would be sent if there were room.
    wanted_bps: Option<f64>,
    /// More is wanted than was.
    is_asked: bool,
    last_us: i64,
    interval_us: i64,
    /// When a probe last showed something, and what.
    shown: Option<(i64, f64)>,
    /// When the estimate last fell far, and from what.
    fallen: Option<(i64, f64)>,
}

impl Prober {
    /// Nothing was probed.
    pub(super) fn new(now_us: i64) -> Prober {
        Prober {
            clusters: [Cluster::default(); CLUSTERS],
            made: 0,
            start: Start::Waiting,
            queue: [None; 2],
            wanted_bps: None,
            is_asked: false,
            last_us: now_us,
            interval_us: PROBE_INTERVAL.as_micros() as i64,
            shown: None,
            fallen: None,
        }
    }

    /// The probes of the start are over: another process made them.
    pub(super) fn skip_start(&mut self) {
        self.start = Start::Done;
    }

    /// Whether the probes of the start are not over.
    pub(super) fn is_starting(&self) -> bool {
        self.start != Start::Done
    }

    /// The subscriber would be sent this much if there were room.
    pub(super) fn handle_wanted(&mut self, bps: f64) {
        let before = self.wanted_bps.replace(bps).unwrap_or(0.0);
        self.is_asked |= bps > before * HEADROOM;
    }

    /// The estimate fell.
    pub(super) fn handle_fall(&mut self, now_us: i64, before_bps: f64) {
        let before_bps = match self.fallen {
            // One fall in several steps.
            Some((at_us, bps)) if now_us - at_us < RECOVERY_US => bps.max(before_bps),
            _ => before_bps,
        };
        self.fallen = Some((now_us, before_bps));
        self.queue = [None; 2];
        self.start = match self.start {
            Start::Waiting => Start::Waiting,
            Start::Probing | Start::Done => Start::Done,
        };
    }

    /// The next probe, if there is to be one.
    pub(super) fn poll(&mut self, situation: &Situation) -> Option<Probe> {
        if self.start == Start::Waiting {
            self.start = Start::Probing;
            let top = self.top();
            self.queue = START_FACTORS.map(|factor| {
                let rate = (factor * situation.estimate_bps).min(top);
                (rate > situation.estimate_bps).then_some(rate)
            });
        }
        let rate = match self.queue.iter_mut().find_map(Option::take) {
            Some(rate) => rate,
            None => {
                self.end_start();
                self.occasion(situation)?
            }
        };
        let now_us = situation.now_us;
        self.last_us = now_us;
        // Zero means that a packet belongs to none.
        self.made = self.made.checked_add(1).unwrap_or(1);
        let duration_bytes = (rate * PROBE_DURATION.as_secs_f64() / 8.0) as usize;
        let probe = Probe {
            cluster: self.made,
            bitrate_bps: rate as u64,
            bytes: duration_bytes.max(PROBE_PACKETS_MIN * 1_000),
        };
        if let Some(place) = self.clusters.get_mut(usize::from(self.made) % CLUSTERS) {
            *place = Cluster::new(now_us, &probe);
        }
        Some(probe)
    }

    /// The rate that there is a reason to probe now.
    fn occasion(&mut self, situation: &Situation) -> Option<f64> {
        let Situation {
            now_us,
            estimate_bps,
            ..
        } = *situation;
        let since_us = now_us - self.last_us;
        let is_busy = self.clusters.iter().any(|cluster| cluster.is_open);
        if is_busy || !situation.is_calm || since_us < GAP_US {
            return None;
        }
        if let Some((at_us, bps)) = self.fallen {
            self.fallen = None;
            let rate = (RECOVERY * bps).min(self.top());
            let least = if situation.is_limited {
                HEADROOM
            } else {
                BUSY_FALL
            };
            if now_us - at_us < RECOVERY_US && rate > least * estimate_bps {
                return Some(rate);
            }
        }
        let is_wanted = self.wanted_bps.is_some_and(|bps| bps > estimate_bps);
        if !is_wanted {
            return None;
        }
        let is_asked = std::mem::take(&mut self.is_asked);
        if is_asked {
            self.interval_us = PROBE_INTERVAL.as_micros() as i64;
        }
        if !is_asked && since_us < self.interval_us {
            return None;
        }
        let factor = if situation.is_limited {
            LIMITED_FACTOR
        } else {
            BUSY_FACTOR
        };
        Some((factor * estimate_bps).min(self.top()))
    }

    /// The highest rate that is worth a probe.
    fn top(&self) -> f64 {
        self.wanted_bps
            .map_or(START_BPS_MAX, |bps| HEADROOM * bps)
            .min(ESTIMATE_BPS_MAX as f64)
    }

    /// A packet of a cluster leaves.
    pub(super) fn handle_sent(&mut self, now_us: i64, cluster: u8, bytes: u16) {
        if let Some(cluster) = self.cluster(cluster) {
            cluster.sent_bytes += usize::from(bytes);
            cluster.sent += 1;
            cluster.last_us = now_us;
        }
    }

    /// A packet of a cluster arrived then, or is lost.
    pub(super) fn handle_fate(
        &mut self,
        cluster: u8,
        sent_us: i64,
        arrival_us: Option<i64>,
        bytes: u16,
    ) {
        let Some(cluster) = self.cluster(cluster) else {
            return;
        };
        cluster.told += 1;
        if let Some(arrival_us) = arrival_us {
            cluster.on_arrival(sent_us, arrival_us, usize::from(bytes));
        }
    }

    /// Feedback was read, or time passed: what the clusters that are over showed, as a rate that
    /// the estimate may be raised to.
    pub(super) fn read(&mut self, situation: &Situation) -> Option<f64> {
        let now_us = situation.now_us;
        let mut best: Option<f64> = None;
        for index in 0..CLUSTERS {
            let Some(cluster) = self.clusters.get_mut(index) else {
                continue;
            };
            if !cluster.is_over(now_us) {
                continue;
            }
            cluster.is_open = false;
            let rate = cluster.rate_bps;
            let shown = cluster.shown(situation.inherent_loss);
            let evidence = self.shown.filter(|(at_us, _)| now_us - at_us < EVIDENCE_US);
            let known = evidence.map_or(0.0, |(_, bps)| bps);
            let most = RAISE_MAX * known.max(situation.estimate_bps);
            self.on_shown(situation, rate, shown);
            let raised = shown.map(|bps| bps.min(most));
            best = [best, raised].into_iter().flatten().reduce(f64::max);
        }
        best
    }

    fn on_shown(&mut self, situation: &Situation, rate: f64, shown: Option<f64>) {
        if let Some(bps) = shown {
            self.shown = Some((situation.now_us, bps));
        }
        let top = self.top();
        let is_wanted = self.wanted_bps.is_some() || self.start == Start::Probing;
        match shown {
            Some(bps) if bps >= FURTHER * rate && bps > situation.estimate_bps => {
                self.interval_us = PROBE_INTERVAL.as_micros() as i64;
                let next = (FURTHER_FACTOR * bps).min(top);
                if is_wanted && next > HEADROOM * bps {
                    self.queue = [Some(next), None];
                    return;
                }
            }
            // A network that is leaky loses probes too, and that says nothing.
            None if situation.inherent_loss > LEAKY_LOSS => {}
            Some(_) | None => {
                let most = PROBE_INTERVAL_MAX.as_micros() as i64;
                self.interval_us = (2 * self.interval_us).min(most);
            }
        }
        self.end_start();
    }

    /// The start is over when there is nothing left of it.
    fn end_start(&mut self) {
        let is_last = !self.clusters.iter().any(|cluster| cluster.is_open)
            && self.queue.iter().all(Option::is_none);
        if self.start == Start::Probing && is_last {
            self.start = Start::Done;
        }
    }

    fn cluster(&mut self, cluster: u8) -> Option<&mut Cluster> {
        let place = self.clusters.get_mut(usize::from(cluster) % CLUSTERS)?;
        (place.is_open && cluster != NO_CLUSTER && place.cluster == cluster).then_some(place)
    }
}

/// What is known of a cluster.
#[derive(Clone, Copy, Debug, Default)]
struct Cluster {
    cluster: u8,
    is_open: bool,
    rate_bps: f64,
    /// Bytes that it was to have.
    bytes: usize,
    /// When it last was heard of, on this side.
    last_us: i64,
    sent: usize,
    sent_bytes: usize,
    /// Packets of which the fate is known.
    told: usize,
    arrived: usize,
    arrived_bytes: usize,
    /// Of those that arrived: the first and the last to leave and to arrive, with sizes.
    first_sent: (i64, usize),
    last_sent: (i64, usize),
    first_arrival: (i64, usize),
    last_arrival: (i64, usize),
}

impl Cluster {
    fn new(now_us: i64, probe: &Probe) -> Cluster {
        Cluster {
            cluster: probe.cluster,
            is_open: true,
            rate_bps: probe.bitrate_bps as f64,
            bytes: probe.bytes,
            last_us: now_us,
            ..Cluster::default()
        }
    }

    fn on_arrival(&mut self, sent_us: i64, arrival_us: i64, bytes: usize) {
        let (sent, arrival) = ((sent_us, bytes), (arrival_us, bytes));
        if self.arrived == 0 {
            (self.first_sent, self.last_sent) = (sent, sent);
            (self.first_arrival, self.last_arrival) = (arrival, arrival);
        }
        if sent_us < self.first_sent.0 {
            self.first_sent = sent;
        }
        if sent_us >= self.last_sent.0 {
            self.last_sent = sent;
        }
        if arrival_us < self.first_arrival.0 {
            self.first_arrival = arrival;
        }
        if arrival_us >= self.last_arrival.0 {
            self.last_arrival = arrival;
        }
        self.arrived += 1;
        self.arrived_bytes += bytes;
    }

    fn is_over(&self, now_us: i64) -> bool {
        let is_told = self.sent_bytes >= self.bytes && self.told >= self.sent;
        self.is_open && (is_told || now_us - self.last_us > PATIENCE_US)
    }

    /// The rate that the network showed, in bits per second, where this share of packets is lost at any rate.
    fn shown(&self, inherent_loss: f64) -> Option<f64> {
        let least = ARRIVED_MIN * (1.0 - inherent_loss);
        let is_enough = |part: usize, whole: usize| part as f64 >= least * whole as f64;
        if self.arrived + 1 < PROBE_PACKETS_MIN
            || !is_enough(self.arrived, self.sent)
            || !is_enough(self.arrived_bytes, self.sent_bytes.max(self.bytes))
        {
            return None;
        }
        // The last to leave was not on the way yet while the others left, nor the first to arrive
        // while the others did.
        let rate =
            |bytes: usize, span_us: i64| (span_us > 0).then(|| bytes as f64 * 8e6 / span_us as f64);
        let sent = rate(
            self.arrived_bytes - self.last_sent.1,
            self.last_sent.0 - self.first_sent.0,
        )?;
        let arrived = rate(
            self.arrived_bytes - self.first_arrival.1,
            self.last_arrival.0 - self.first_arrival.0,
        );
        let arrived = arrived?;
        if arrived > FASTER_MAX * sent {
            return None;
        }
        Some(if arrived < FILLED * sent {
            USED * arrived
        } else {
            arrived.min(sent)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm(now_us: i64, estimate_bps: f64) -> Situation {
        Situation {
            now_us,
            estimate_bps,
            is_limited: true,
            is_calm: true,
            inherent_loss: 0.0,
        }
    }

    /// Sends a probe over a link of this rate and returns what it shows.
    fn send(
        prober: &mut Prober,
        situation: &Situation,
        probe: Probe,
        link_bps: f64,
    ) -> Option<f64> {
        let gap_us = (8e9 / probe.bitrate_bps as f64) as i64;
        let link_us = (8e9 / link_bps) as i64;
        let mut arrival_us = 0;
        let packets = probe.bytes.div_ceil(1_000) as i64;
        for index in 0..packets {
            prober.handle_sent(situation.now_us + index * gap_us, probe.cluster, 1_000);
        }
        for index in 0..packets {
            let sent_us = situation.now_us + index * gap_us;
            arrival_us = (sent_us + 20_000).max(arrival_us + link_us);
            prober.handle_fate(probe.cluster, sent_us, Some(arrival_us), 1_000);
        }
        prober.read(situation)
    }

    /// Lets it probe from the start until it has enough, or for so many probes; the estimates.
    fn start(wanted: Option<f64>, link_bps: f64) -> Vec<u64> {
        let mut prober = Prober::new(0);
        if let Some(wanted) = wanted {
            prober.handle_wanted(wanted);
        }
        let mut estimate = 300_000.0;
        let mut estimates = Vec::new();
        for step in 0..8 {
            let situation = calm(step * 200_000, estimate);
            let Some(probe) = prober.poll(&situation) else {
                break;
            };
            if let Some(shown) = send(&mut prober, &situation, probe, link_bps) {
                estimate = estimate.max(shown);
            }
            estimates.push(estimate as u64 / 1_000);
        }
        assert!(!prober.is_starting());
        estimates
    }

    #[test]
    fn the_start_finds_what_there_is_within_a_few_probes() {
        let wide = start(Some(4e6), 100e6);
        assert!(
            wide.len() <= 5 && *wide.last().unwrap() >= 4_000,
            "{wide:?}"
        );
        let narrow = start(Some(4e6), 1e6);
        let last = *narrow.last().unwrap();
        assert!((850..=1_000).contains(&last), "{narrow:?}");
        let unasked = start(None, 100e6);
        assert!(
            (4_000..=5_100).contains(unasked.last().unwrap()),
            "{unasked:?}"
        );
    }

    #[test]
    fn what_is_not_wanted_is_not_probed_and_what_failed_is_probed_seldom() {
        let mut prober = Prober::new(0);
        prober.handle_wanted(2e6);
        prober.start = Start::Done;
        let mut probes = Vec::new();
        for second in 2..200 {
            let situation = calm(second * 1_000_000, 1e6);
            if let Some(probe) = prober.poll(&situation) {
                probes.push(second);
                assert_eq!(probe.bitrate_bps, 2_000_000);
                assert!(send(&mut prober, &situation, probe, 9e5).is_some());
            }
        }
        assert!(probes.len() < 20, "{probes:?}");
        prober.handle_wanted(3e6);
        assert!(prober.poll(&calm(300_000_000, 1e6)).is_some());
        prober.handle_wanted(8e5);
        assert!(prober.poll(&calm(400_000_000, 1e6)).is_none());
    }

    #[test]
    fn a_probe_that_lies_or_is_lost_shows_nothing() {
        let mut prober = Prober::new(0);
        let situation = calm(0, 300_000.0);
        let probe = prober.poll(&situation).unwrap();
        for index in 0..5 {
            prober.handle_sent(index * 9_000, probe.cluster, 1_200);
        }
        for index in 0..5 {
            // All of it in 100 us: 400 Mbit/s.
            prober.handle_fate(probe.cluster, index * 9_000, Some(index * 25), 1_200);
        }
        assert_eq!(prober.read(&situation), None);
        let probe = prober.poll(&situation).unwrap();
        for index in 0..5 {
            prober.handle_sent(index * 4_000, probe.cluster, 1_200);
            let arrival_us = (index < 3).then_some(index * 4_000);
            prober.handle_fate(probe.cluster, index * 4_000, arrival_us, 1_200);
        }
        assert_eq!(prober.read(&situation), None);
        assert!(!prober.is_starting());
    }

    #[test]
    fn a_large_fall_is_checked_once() {
        let mut prober = Prober::new(0);
        prober.start = Start::Done;
        prober.handle_fall(10_000_000, 2e6);
        prober.handle_fall(10_200_000, 1.4e6);
        let probe = prober.poll(&calm(11_000_000, 9.8e5)).unwrap();
        assert_eq!(probe.bitrate_bps, 1_700_000);
        assert!(send(&mut prober, &calm(11_000_000, 9.8e5), probe, 5e5).is_some());
        assert!(prober.poll(&calm(13_000_000, 9.8e5)).is_none());
        // A small one is not.
        prober.handle_fall(20_000_000, 1e6);
        assert!(prober.poll(&calm(21_000_000, 8.5e5)).is_none());
    }
}
