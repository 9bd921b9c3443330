//! What one subscriber's network carries, worked out from when its packets arrive and which do not.
//!
//! Congestion control in the spirit of Google's (draft-ietf-rmcat-gcc-02, Carlucci and others 2016,
//! and what libwebrtc has made of it since), for a sender that forwards: most of the time it sends less than
//! there is room for, because layers come in steps.
//!
//! ```text
//!   handle_sent ──► history            poll_probe ◄── probe ◄── handle_wanted
//!                      │                                │
//!   handle_feedback ───┼─► groups ──► trend ──► control ──┤
//!                      ├─► throughput, queue ─────┘      ├──► target_bps
//!                      └─► loss ─────────────────────────┘
//! ```
//!
//! No IO, no clock, no allocation after the first; a packet that is sent is one write into a ring.

mod control;
mod groups;
mod history;
mod limited;
mod loss;
mod pacer;
mod probe;
mod queue;
#[cfg(test)]
mod tests;
mod throughput;
mod trend;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::limits::{
    ESTIMATE_BPS_MAX, ESTIMATE_BPS_MIN, ESTIMATE_START_BPS, FEEDBACK_TIMEOUT, PACING_FACTOR,
};
use crate::wire::FeedbackView;
use crate::wire::transport_feedback::TICKS_PER_REFERENCE;
use control::{RateControl, Reading};
use groups::Groups;
use history::{Fate, History, NO_CLUSTER};
use limited::Limited;
use loss::LossControl;
pub use pacer::Pacer;
pub use probe::Probe;
use probe::{Prober, Situation};
use queue::Queue;
use throughput::Throughput;
use trend::{Trend, Usage};

/// Microseconds of the unit that arrivals are told in.
const TICK_US: i64 = 250;

/// What a round trip is taken to be before one was measured, in microseconds.
const RTT_US: i64 = 100_000;

/// Longest round trip that is believed: what is told later says nothing of now.
const RTT_US_MAX: i64 = 5_000_000;

/// A queue that packets wait in for so long, in seconds, and that loses this share of them is full.
const FULL_S: f64 = 0.15;
const FULL_LOSS: f64 = 0.04;

/// While packets wait for longer than this, in seconds, a probe would only make it worse.
const CALM_S: f64 = 0.06;

/// When nothing was sent for so long, queues are empty.
const IDLE_US: i64 = 1_000_000;

/// A network that loses more than this share of packets, while they wait no longer than so many seconds, is leaky.
const LEAKY_LOSS: f64 = 0.04;
const LEAKY_WAIT_S: f64 = 0.08;

/// Nothing is paced for so long after the first feedback: the probes of the start are on their way.
const START_US: i64 = 2_000_000;

/// Feedback that the estimator did not expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surprises {
    /// Packets that it says arrived, which were never sent or are long forgotten.
    pub unknown: u64,
    /// Packets that it said arrived before.
    pub repeated: u64,
}

/// The estimator of one subscriber.
///
/// Call order: `handle_sent` for each packet as it leaves, `handle_feedback` for what the subscriber
/// says of them, then `poll_probe`; `handle_timeout` when `poll_timeout` says so.
#[derive(Debug)]
pub struct Estimator {
    epoch: Instant,
    /// The time that was last worked out, in both forms.
    now: (Instant, i64),
    history: History,
    /// Bytes sent since the last feedback.
    sent_bytes: u64,
    groups: Groups,
    trend: Trend,
    queue: Queue,
    throughput: Throughput,
    limited: Limited,
    control: RateControl,
    loss: LossControl,
    prober: Prober,
    remb_bps: Option<f64>,
    rtt_us: Option<i64>,
    /// The last reference time, with its wraps.
    reference: Option<i64>,
    told: Option<Told>,
}

/// What another process goes on with: the estimate, and the transport-wide numbers. How it came about is
/// forgotten; what arrives shows soon enough whether it still holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct EstimateSnapshot {
    own_bps: u64,
    next: u64,
    rtt_us: Option<i64>,
    remb_bps: Option<u64>,
    /// Whether feedback had come, and the probes of the start were over.
    was_told: bool,
    was_settled: bool,
}

/// When feedback came.
#[derive(Clone, Copy, Debug)]
struct Told {
    first_us: i64,
    /// The last, or when the estimate was halved because there was none.
    last_us: i64,
    /// Packets sent until the last.
    sent: u64,
}

impl Estimator {
    /// Knows nothing.
    #[must_use]
    pub fn new(now: Instant) -> Estimator {
        Estimator {
            epoch: now,
            now: (now, 0),
            history: History::new(),
            sent_bytes: 0,
            groups: Groups::default(),
            trend: Trend::new(),
            queue: Queue::default(),
            throughput: Throughput::new(),
            limited: Limited::new(0),
            control: RateControl::new(0, ESTIMATE_START_BPS as f64),
            loss: LossControl::new(),
            prober: Prober::new(0),
            remb_bps: None,
            rtt_us: None,
            reference: None,
            told: None,
        }
    }

    /// What another process goes on with.
    #[must_use]
    pub fn snapshot(&self) -> EstimateSnapshot {
        EstimateSnapshot {
            own_bps: self.own_bps() as u64,
            next: self.history.count(),
            rtt_us: self.rtt_us,
            remb_bps: self.remb_bps.map(|bps| bps as u64),
            was_told: self.told.is_some(),
            was_settled: self.is_settled(),
        }
    }

    /// Goes on where another process ended.
    #[must_use]
    pub fn restore(now: Instant, snapshot: &EstimateSnapshot) -> Estimator {
        let own_bps = snapshot.own_bps.clamp(ESTIMATE_BPS_MIN, ESTIMATE_BPS_MAX);
        let mut estimator = Estimator {
            history: History::starting_at(snapshot.next),
            control: RateControl::new(0, own_bps as f64),
            rtt_us: snapshot.rtt_us,
            remb_bps: snapshot.remb_bps.map(|bps| bps as f64),
            told: snapshot.was_told.then_some(Told {
                first_us: 0,
                last_us: 0,
                sent: snapshot.next,
            }),
            ..Estimator::new(now)
        };
        if snapshot.was_settled {
            estimator.prober.skip_start();
        }
        estimator
    }

    /// A packet of `bytes` as a datagram leaves; returns the transport-wide number that it carries.
    #[inline]
    pub fn handle_sent(&mut self, now: Instant, bytes: usize) -> u16 {
        let now_us = self.us(now);
        self.sent_bytes += bytes as u64;
        self.history.note(now_us, bytes as u16, NO_CLUSTER)
    }

    /// The same for a packet of a [`Probe`], media or padding.
    pub fn handle_probe_sent(&mut self, now: Instant, bytes: usize, cluster: u8) -> u16 {
        let now_us = self.us(now);
        self.sent_bytes += bytes as u64;
        self.prober.handle_sent(now_us, cluster, bytes as u16);
        self.history.note(now_us, bytes as u16, cluster)
    }

    /// The subscriber says which packets arrived, and when. What it says of packets that were not sent, or
    /// for the second time, changes nothing and is returned.
    pub fn handle_feedback(&mut self, now: Instant, feedback: &FeedbackView<'_>) -> Surprises {
        let now_us = self.us(now);
        let reference = self.reference(feedback.reference());
        let mut surprises = Surprises::default();
        let mut rtt_us = None;
        let mut is_news = false;
        for (number, tick) in feedback.packets() {
            let Some(sent) = self.history.find(number) else {
                surprises.unknown += u64::from(tick.is_some());
                continue;
            };
            let before = sent.fate;
            let sent_us = sent.at_us(now_us);
            let (bytes, cluster) = (sent.bytes, sent.cluster);
            let Some(tick) = tick else {
                if before == Fate::Flying {
                    sent.fate = Fate::Lost;
                    is_news = true;
                    self.on_fate(sent_us, bytes, true);
                    self.prober.handle_fate(cluster, sent_us, None, bytes);
                }
                continue;
            };
            if before == Fate::Arrived {
                surprises.repeated += 1;
                continue;
            }
            sent.fate = Fate::Arrived;
            is_news = true;
            let arrival_us = (reference * TICKS_PER_REFERENCE + tick) * TICK_US;
            match before {
                Fate::Lost => self.loss.handle_late(),
                Fate::Flying | Fate::Arrived => self.on_fate(sent_us, bytes, false),
            }
            self.prober
                .handle_fate(cluster, sent_us, Some(arrival_us), bytes);
            self.throughput.handle_packet(sent_us, arrival_us, bytes);
            self.queue.handle_packet(sent_us, arrival_us);
            if let Some(delta) = self.groups.handle_packet(now_us, sent_us, arrival_us) {
                self.trend.handle_delta(delta);
            }
            rtt_us = Some(now_us - sent_us);
        }
        if is_news {
            self.on_round(now_us, rtt_us);
        }
        surprises
    }

    /// The subscriber's own estimate, from one that gives no other feedback; for others it is a bound.
    pub fn handle_remb(&mut self, bitrate_bps: u64) {
        self.remb_bps = Some(bitrate_bps as f64);
    }

    /// The round trip by the subscriber's reports, which do not wait for their turn.
    pub fn handle_rtt(&mut self, rtt: Duration) {
        self.rtt_us = Some(rtt.as_micros() as i64).filter(|us| *us < RTT_US_MAX);
    }

    /// Packets take another path from now on: what was known of delay and loss holds no longer, and the estimate
    /// is where the search begins.
    pub fn handle_path_change(&mut self, now: Instant) {
        let now_us = self.us(now);
        self.groups = Groups::default();
        self.trend = Trend::new();
        self.queue = Queue::default();
        self.throughput = Throughput::new();
        self.loss = LossControl::new();
        self.control = RateControl::new(now_us, self.control.bitrate_bps());
    }

    /// The subscriber would be sent this much if there were room, in bits per second: probes seek it.
    pub fn handle_wanted(&mut self, bitrate_bps: u64) {
        self.prober.handle_wanted(bitrate_bps as f64);
    }

    /// Nothing was heard for too long: the estimate falls by half.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now_us = self.us(now);
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        let before = self.control.bitrate_bps();
        self.control.set_bitrate(now_us, before / 2.0);
        self.prober.handle_fall(now_us, before);
        if let Some(told) = &mut self.told {
            told.last_us = now_us;
        }
    }

    /// When `handle_timeout` wants to be called: feedback is overdue then.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let told = self.told?;
        let unanswered = self.history.sent_us(told.sent, self.now.1)?;
        let patience_us = (FEEDBACK_TIMEOUT.as_micros() as i64).max(3 * self.rtt_us.unwrap_or(0));
        let due_us = told.last_us.max(unanswered) + patience_us;
        Some(self.epoch + Duration::from_micros(due_us.max(0) as u64))
    }

    /// The next probe to send, if there is a reason for one. What it lacks in media is padding; the
    /// caller asks for another only when it has sent it, or gave up.
    pub fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        let now_us = self.us(now);
        let situation = self.situation(now_us);
        self.prober.poll(&situation)
    }

    /// What its network carries, in bits per second.
    #[must_use]
    pub fn target_bps(&self) -> u64 {
        let own = match (self.told, self.remb_bps) {
            (None, Some(remb)) => remb,
            (Some(_), Some(remb)) => self.own_bps().min(remb),
            (_, None) => self.own_bps(),
        };
        (own as u64).clamp(ESTIMATE_BPS_MIN, ESTIMATE_BPS_MAX)
    }

    /// How fast media may leave, in bits per second; without bound until the target is settled by feedback.
    #[must_use]
    pub fn pacing_bps(&self) -> u64 {
        if self.told.is_some() && self.is_settled() {
            (PACING_FACTOR * self.target_bps() as f64) as u64
        } else {
            u64::MAX
        }
    }

    /// Whether the target is what its network carries: feedback has come and the probes of the start are over, or
    /// the subscriber said so itself. Until then it is where the search begins.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self.told {
            Some(told) => !self.prober.is_starting() || told.last_us - told.first_us > START_US,
            None => self.remb_bps.is_some(),
        }
    }

    /// The round trip as feedback shows it, which waits for its turn at the receiver.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt_us.map(|us| Duration::from_micros(us as u64))
    }

    /// The share of packets lost of late, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.loss.share()
    }

    /// Whether packets are lost though no queue is to blame: a radio loses them, and will lose what repairs
    /// them too.
    #[must_use]
    pub fn is_leaky(&self) -> bool {
        self.loss.share() > LEAKY_LOSS && !self.is_queued()
    }

    /// Whether packets are lost because the network is full: more of them would only be lost too.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.loss.share() > LEAKY_LOSS && self.is_queued()
    }

    /// Whether less is sent than the estimate allows, so that it cannot grow but by probes.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.limited.is_limited()
    }

    /// Microseconds since the epoch; worked out once for all packets of a burst.
    #[inline]
    fn us(&mut self, now: Instant) -> i64 {
        if self.now.0 != now {
            self.set_now(now);
        }
        self.now.1
    }

    #[inline(never)]
    fn set_now(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.epoch);
        self.now = (now, since.as_micros() as i64);
    }

    fn own_bps(&self) -> f64 {
        let delay = self.control.bitrate_bps();
        self.loss.limit_bps().map_or(delay, |loss| loss.min(delay))
    }

    /// What delay says of the network. A queue that is full does not grow: it loses.
    fn usage(&self) -> Usage {
        match self.trend.usage() {
            Usage::Normal if self.queue.wait_s() > FULL_S && self.loss.share() > FULL_LOSS => {
                Usage::Over
            }
            usage => usage,
        }
    }

    fn situation(&self, now_us: i64) -> Situation {
        Situation {
            now_us,
            estimate_bps: self.own_bps(),
            is_limited: self.limited.is_limited(),
            is_calm: self.is_idle(now_us)
                || (self.usage() == Usage::Normal
                    && self.control.is_increasing()
                    && self.queue.wait_s() < CALM_S
                    && !self.loss.is_filling()),
            inherent_loss: self.loss.inherent(),
        }
    }

    /// Whether nothing is on its way, so that what was known of the network may be out of date.
    fn is_idle(&self, now_us: i64) -> bool {
        self.told.is_some_and(|told| {
            now_us - told.last_us > IDLE_US && self.history.sent_us(told.sent, now_us).is_none()
        })
    }

    /// A feedback's reference time, with the wraps of its 24 bits.
    fn reference(&mut self, reference: u32) -> i64 {
        let known = self.reference.unwrap_or(i64::from(reference));
        let ahead = (reference.wrapping_sub(known as u32) << 8).cast_signed() >> 8;
        let extended = known + i64::from(ahead);
        self.reference = Some(extended);
        extended
    }

    /// Whether packets wait for so long that a queue may be what loses them.
    fn is_queued(&self) -> bool {
        self.queue.wait_s() >= LEAKY_WAIT_S
    }

    fn on_fate(&mut self, sent_us: i64, bytes: u16, is_lost: bool) {
        if self.loss.handle_packet(sent_us, bytes, is_lost) {
            let allowed = self.control.bitrate_bps();
            let is_queued = self.is_queued();
            self.loss
                .update(allowed, self.throughput.bitrate_bps(), is_queued);
        }
    }

    /// A feedback was read to its end.
    fn on_round(&mut self, now_us: i64, rtt_us: Option<i64>) {
        if let Some(sample) = rtt_us.filter(|us| *us < RTT_US_MAX) {
            self.rtt_us = Some(self.rtt_us.map_or(sample, |us| (us * 7 + sample) / 8));
        }
        self.told = Some(Told {
            first_us: self.told.map_or(now_us, |told| told.first_us),
            last_us: now_us,
            sent: self.history.count(),
        });
        let sent_bytes = std::mem::take(&mut self.sent_bytes);
        self.limited.handle_sent(now_us, self.own_bps(), sent_bytes);
        let before = self.control.bitrate_bps();
        let has_fallen = self.control.handle_reading(&Reading {
            now_us,
            usage: self.usage(),
            throughput_bps: self.throughput.bitrate_bps(),
            is_limited: self.limited.is_limited(),
            rtt_us: self.rtt_us.unwrap_or(RTT_US),
            wait_s: self.queue.wait_s(),
            squeezed_bps: self.throughput.squeezed_bps(),
        });
        if has_fallen {
            self.prober.handle_fall(now_us, before);
        }
        let situation = self.situation(now_us);
        if let Some(bps) = self.prober.read(&situation)
            && self.usage() != Usage::Over
        {
            self.control.handle_probe(now_us, bps);
            self.loss.handle_probe(bps);
        }
    }
}
