//! The way to a subscriber: what its network carries, how fast its video leaves, and probes for more.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Engine;
use super::sender::{Sender, SenderKey};
use super::session::SessionKey;
use crate::command::MediaKind;
use crate::estimate::{EstimateSnapshot, Estimator, Pacer, Surprises};
use crate::event::Event;
use crate::id::Ssrc;
use crate::limits::GROUP_PACING_BPS;
use crate::wire::FeedbackView;

/// Control is told of a change by one part in so many at once.
const CHANGE: u64 = 10;

/// Video that had to wait may be as late as the wait makes it for so long after.
const PACED_LATELY: Duration = Duration::from_secs(1);

/// What a network carries is known this long after the first media, or never.
const SEARCH_MAX: Duration = Duration::from_secs(3);

/// A leaky network is sent one more copy of each repair for so much of what it loses, and no more than this.
const LOSS_PER_COPY: f64 = 0.04;
const COPIES_MAX: usize = 3;

/// No more of it is taken to be sent again than this leaves: a network that loses more carries no picture.
const ARRIVES_MIN: f64 = 0.3;

/// Half of the moment whose least estimate a picture must fit to rise.
const MOMENT: Duration = Duration::from_millis(300);

/// What is known of the way to one subscriber.
#[derive(Debug)]
pub(super) struct Downlink {
    estimator: Estimator,
    pacer: Pacer,
    /// What control was told last.
    told_bps: u64,
    /// When video last had to wait.
    paced_at: Option<Instant>,
    /// When it goes on that waits for its pace, or its probe: the session has an entry among the timers.
    goes_on_at: Option<Instant>,
    floor: Floor,
    /// When the first media left.
    began_at: Option<Instant>,
    /// Until when something may be on its way that waited in a log: it does not leave all at once, even where
    /// nothing is known of the network.
    backlog_until: Option<Instant>,
}

/// What goes on in another process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DownlinkSnapshot {
    estimate: EstimateSnapshot,
    told_bps: u64,
    has_begun: bool,
}

/// What a network carries, in bits per second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// By the estimate as it is.
    pub(super) now_bps: u64,
    /// By the least that it was in the last moment: what a probe has just shown may not last.
    pub(super) steady_bps: u64,
}

/// The least estimate of the last moment.
#[derive(Debug)]
struct Floor {
    since: Instant,
    /// Of this half of the moment, and of the one before.
    least_bps: [u64; 2],
}

impl Floor {
    fn note(&mut self, now: Instant, bps: u64) {
        let [this, before] = &mut self.least_bps;
        if now.saturating_duration_since(self.since) >= MOMENT {
            (*before, *this) = (*this, bps);
            self.since = now;
        }
        *this = (*this).min(bps);
    }

    fn least_bps(&self) -> u64 {
        let [this, before] = self.least_bps;
        this.min(before)
    }
}

impl Downlink {
    /// Nothing is known yet.
    pub(super) fn new(now: Instant) -> Downlink {
        let estimator = Estimator::new(now);
        Downlink {
            told_bps: estimator.target_bps(),
            estimator,
            pacer: Pacer::new(now),
            paced_at: None,
            goes_on_at: None,
            began_at: None,
            backlog_until: None,
            floor: Floor {
                since: now,
                least_bps: [u64::MAX; 2],
            },
        }
    }

    /// What another process goes on with.
    pub(super) fn snapshot(&self) -> DownlinkSnapshot {
        DownlinkSnapshot {
            estimate: self.estimator.snapshot(),
            told_bps: self.told_bps,
            has_begun: self.began_at.is_some(),
        }
    }

    /// Goes on where another process ended.
    pub(super) fn restore(now: Instant, snapshot: &DownlinkSnapshot) -> Downlink {
        let mut downlink = Downlink::new(now);
        downlink.estimator = Estimator::restore(now, &snapshot.estimate);
        downlink.told_bps = snapshot.told_bps;
        downlink.began_at = snapshot.has_begun.then_some(now);
        downlink.set_pace(now);
        downlink
    }

    /// Much is to leave that waited in a log, until then at the latest.
    pub(super) fn begin_backlog(&mut self, now: Instant, until: Instant) {
        self.backlog_until = Some(until);
        self.set_pace(now);
    }

    /// Sets the pace by the estimate; where there is none, only a backlog has one.
    fn set_pace(&mut self, now: Instant) {
        self.backlog_until = self.backlog_until.filter(|until| now < *until);
        let rate_bps = self.estimator.pacing_bps();
        let is_bounded = rate_bps < u64::MAX || self.backlog_until.is_none();
        let rate_bps = if is_bounded {
            rate_bps
        } else {
            GROUP_PACING_BPS
        };
        self.pacer.set_rate(now, rate_bps);
    }

    /// Lets everything leave that waits for its pace, until the next feedback.
    pub(super) fn let_go(&mut self, now: Instant) {
        self.pacer.set_rate(now, u64::MAX);
    }

    /// What its network carries, once that is known.
    pub(super) fn budget(&self) -> Option<Budget> {
        if !self.estimator.is_settled() {
            return None;
        }
        let now_bps = (self.estimator.target_bps() as f64 * self.arrives()) as u64;
        Some(Budget {
            now_bps,
            steady_bps: now_bps.min(self.floor.least_bps()),
        })
    }

    /// The share of what is sent that is media: what is lost is sent again.
    fn arrives(&self) -> f64 {
        (1.0 - self.estimator.loss()).max(ARRIVES_MIN)
    }

    /// The subscriber would be sent this much if there were room.
    pub(super) fn handle_wanted(&mut self, bitrate_bps: u64) {
        if bitrate_bps > 0 {
            let sent_bps = bitrate_bps as f64 / self.arrives();
            self.estimator.handle_wanted(sent_bps as u64);
        }
    }

    /// Whether it will soon be known what its network carries: until then the smallest picture has to do. A
    /// subscriber that says nothing for too long will never say anything.
    pub(super) fn is_searching(&self, now: Instant) -> bool {
        let is_early = |at| now.saturating_duration_since(at) < SEARCH_MAX;
        !self.estimator.is_settled() && self.began_at.is_none_or(is_early)
    }

    /// Whether packets are lost because the network is full.
    pub(super) fn is_congested(&self) -> bool {
        self.estimator.is_congested()
    }

    /// How often a packet is sent again that was asked for: where every tenth is lost, so is every tenth
    /// repair, and a picture that waits for two in a row stands still.
    pub(super) fn repair_copies(&self) -> usize {
        let copies = if self.estimator.is_leaky() {
            1.0 + self.estimator.loss() / LOSS_PER_COPY
        } else {
            1.0
        };
        (copies as usize).min(COPIES_MAX)
    }

    /// The round trip by the subscriber's reports.
    pub(super) fn handle_rtt(&mut self, rtt: Duration) {
        self.estimator.handle_rtt(rtt);
    }

    /// Its packets take another path from now on.
    pub(super) fn handle_path_change(&mut self, now: Instant) {
        self.estimator.handle_path_change(now);
    }

    /// Bytes of video that may leave now.
    #[inline]
    pub(super) fn allowance(&self, now: Instant) -> usize {
        self.pacer.allowance(now)
    }

    /// A packet of so many bytes leaves: its transport-wide number.
    #[inline]
    pub(super) fn handle_packet(&mut self, now: Instant, bytes: usize) -> u16 {
        match self.pacer.cluster() {
            None => self.estimator.handle_sent(now, bytes),
            Some(cluster) => self.estimator.handle_probe_sent(now, bytes, cluster),
        }
    }

    /// A burst of so many bytes and packets has left.
    #[inline]
    pub(super) fn handle_burst(&mut self, now: Instant, sent: (usize, usize)) {
        self.began_at.get_or_insert(now);
        self.pacer.handle_sent(now, sent);
    }

    /// Bytes that a probe lacks now, while there is one.
    #[inline]
    pub(super) fn probe_allowance(&self, now: Instant) -> Option<usize> {
        self.pacer.cluster()?;
        Some(self.pacer.probe_allowance(now))
    }

    /// Whether video had to wait for its pace a moment ago.
    #[inline]
    pub(super) fn was_paced(&self, now: Instant) -> bool {
        self.paced_at
            .is_some_and(|at| now.saturating_duration_since(at) < PACED_LATELY)
    }

    /// What may leave now has left: when more may.
    fn hold(&mut self, now: Instant, is_spent: bool) -> Option<Instant> {
        let due = self.pacer.due(now).filter(|_| is_spent);
        if due.is_some() {
            self.paced_at = Some(now);
        }
        [due, self.pacer.probe_due(now)].into_iter().flatten().min()
    }

    fn handle_feedback(&mut self, now: Instant, feedback: &FeedbackView<'_>) -> Surprises {
        let surprises = self.estimator.handle_feedback(now, feedback);
        self.floor.note(now, self.estimator.target_bps());
        self.set_pace(now);
        surprises
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.estimator.handle_timeout(now);
        self.set_pace(now);
    }

    /// Begins a probe if there is a reason for one; whether there was.
    fn begin_probe(&mut self, now: Instant) -> bool {
        if self.pacer.cluster().is_some() {
            return false;
        }
        let probe = self.estimator.poll_probe(now);
        if let Some(probe) = probe {
            self.pacer.begin_probe(now, probe);
        }
        probe.is_some()
    }

    /// Whether the estimate differs from what was told by one part in `part`.
    fn has_changed(&self, part: u64) -> bool {
        let estimate = self.estimator.target_bps();
        estimate.abs_diff(self.told_bps) > self.told_bps / part
    }
}

impl Engine {
    /// Prepares for what a session's senders have negotiated, once it is connected: most of what a session takes.
    pub(super) fn open_downlink(&mut self, now: Instant, key: SessionKey) {
        let session = self.sessions.get_mut(key);
        let Some(session) = session.filter(|session| session.is_connected) else {
            return;
        };
        let mut senders = session.senders.iter();
        let is_numbered = |(key, _): &(SenderKey, Ssrc)| {
            let sender = self.senders.get(*key);
            sender.is_some_and(|sender| sender.is_numbered)
        };
        if session.downlink.is_none() && senders.any(is_numbered) {
            session.downlink = Some(Box::new(Downlink::new(now)));
        }
    }

    /// A subscriber says which packets arrived, and when.
    pub(super) fn on_transport_feedback(&mut self, now: Instant, key: SessionKey, raw: &[u8]) {
        let session = self.sessions.get_mut(key);
        let downlink = session.and_then(|session| session.downlink.as_mut());
        let (Some(downlink), Ok(view)) = (downlink, FeedbackView::parse(raw)) else {
            self.counters.drop_feedback_malformed += 1;
            return;
        };
        let surprises = downlink.handle_feedback(now, &view);
        self.counters.transport_feedback_received += 1;
        self.counters.feedback_unknown += surprises.unknown;
        self.counters.feedback_repeated += surprises.repeated;
        if downlink.has_changed(CHANGE) {
            self.tell_estimate(key);
            self.allocate(now, key);
        }
        self.consider_probe(now, key);
    }

    /// A subscriber says what it can take, about streams that it is sent.
    pub(super) fn on_remb(
        &mut self,
        now: Instant,
        key: SessionKey,
        bitrate_bps: u64,
        mut ssrcs: impl Iterator<Item = Ssrc>,
    ) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if !ssrcs.any(|ssrc| session.sender(ssrc).is_some()) {
            return;
        }
        let downlink = session
            .downlink
            .get_or_insert_with(|| Box::new(Downlink::new(now)));
        downlink.estimator.handle_remb(bitrate_bps);
        if downlink.has_changed(CHANGE) {
            self.tell_estimate(key);
            self.allocate(now, key);
        }
    }

    /// A session's regular round.
    pub(super) fn tick_downlink(&mut self, now: Instant, key: SessionKey) {
        let session = self.sessions.get_mut(key);
        let Some(downlink) = session.and_then(|session| session.downlink.as_mut()) else {
            return;
        };
        downlink.handle_timeout(now);
        if downlink.has_changed(u64::MAX) {
            self.tell_estimate(key);
        }
        self.consider_probe(now, key);
    }

    /// Probes for more, if there is a reason, and a stream that padding can go with.
    fn consider_probe(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let mut senders = session.senders.iter();
        let may_pad = senders.any(|(key, _)| self.senders.get(*key).is_some_and(pads));
        let Some(downlink) = session.downlink.as_mut().filter(|_| may_pad) else {
            return;
        };
        if downlink.begin_probe(now) && !session.is_ready {
            session.is_ready = true;
            self.ready.push_back(key);
        }
    }

    /// What may leave now has left: the session goes on when its pace lets it, which `is_spent` says, or the probe,
    /// which is given up when there was nothing to send for it.
    pub(super) fn begin_pace(
        &mut self,
        now: Instant,
        key: SessionKey,
        is_spent: bool,
        is_in_vain: bool,
    ) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(downlink) = &mut session.downlink else {
            return;
        };
        if is_in_vain {
            downlink.pacer.end_probe();
        }
        let Some(due) = downlink.hold(now, is_spent) else {
            return;
        };
        if is_spent && !session.is_paced {
            session.is_paced = true;
            self.counters.paced += 1;
        }
        if downlink.goes_on_at.is_some_and(|sooner| sooner <= due) {
            return;
        }
        downlink.goes_on_at = Some(due);
        self.timers.watch_pace(key, due);
    }

    /// It is time for a session's video to go on, if it was not to do so sooner.
    pub(super) fn end_pace(&mut self, key: SessionKey, due: Instant) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let goes_on = session.downlink.as_mut().map(|its| &mut its.goes_on_at);
        if goes_on.is_none_or(|at| at.take_if(|at| *at == due).is_none()) {
            return;
        }
        session.is_paced = false;
        if !session.is_ready {
            session.is_ready = true;
            self.ready.push_back(key);
        }
    }

    fn tell_estimate(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(downlink) = &mut session.downlink else {
            return;
        };
        let estimator = &downlink.estimator;
        downlink.told_bps = estimator.target_bps();
        self.events.push_back(Event::Downlink {
            session: session.id,
            estimate_bps: downlink.told_bps,
            loss_permille: (estimator.loss() * 1e3) as u16,
            rtt_us: estimator.rtt().map(|rtt| rtt.as_micros() as u64),
        });
    }
}

/// Whether padding can be sent with a stream's retransmissions.
pub(super) fn pads(sender: &Sender) -> bool {
    sender.spec.kind == MediaKind::Video
        && sender.is_numbered
        && sender.spec.rtx.is_some()
        && sender.source.is_some()
}
