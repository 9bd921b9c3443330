//! When what waits for a subscriber leaves: at once, or a moment later together with what comes
//! next, because a send costs far more than another packet in it.
//!
//! A worker with little to do holds nothing but the parts of frames that are still arriving. With its
//! load the hold grows, up to what was configured. What cannot gain by waiting never waits: a frame
//! whose last packet is there, a packet that fills a gap, a full burst, a retransmission.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::Engine;
use super::session::{Session, SessionKey};
use super::track::{Track, TrackKey};
use crate::command::MediaKind;
use crate::limits::{
    BURST_BYTES_MAX, BURST_SEGMENTS_MAX, DATAGRAM_BYTES_MAX, FRAME_GATHER,
    FRAME_GATHER_SUBSCRIBERS_MIN, HOLD_LOAD_FROM, HOLD_LOAD_FULL, REST_HOLD_MIN, VIDEO_HOLD_MAX,
};
use crate::load::Load;

/// What is due within this part of the hold leaves with what is due now: fewer wake-ups, for
/// hardly shorter bursts.
const SLACK: u32 = 8;

/// This part of a long hold is spent before a packet is even looked at, at most.
const REST: u32 = 8;

/// Packets of one stream that fill a send whatever their size.
const FULL_BURST: u64 = (BURST_BYTES_MAX / DATAGRAM_BYTES_MAX) as u64;

/// How long one kind of a session's media waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wait {
    /// Set while it is held: by then it leaves.
    until: Option<Instant>,
    /// Whether the hold's queue has an entry for it. The entry of media that left before its time
    /// stays, and serves the next that is held.
    is_queued: bool,
}

/// Until when what is held must have been due to leave now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Soon {
    audio: Instant,
    video: Instant,
}

impl Soon {
    /// For one kind of media.
    pub(super) fn of(self, kind: MediaKind) -> Instant {
        match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
        }
    }
}

impl Wait {
    /// Whether it must leave by `soon`.
    pub(super) fn is_due(&self, soon: Instant) -> bool {
        self.until.is_none_or(|until| until <= soon)
    }

    /// Whether it waits.
    pub(super) fn is_held(&self) -> bool {
        self.until.is_some()
    }

    /// It left, or will at once.
    pub(super) fn end(&mut self) {
        self.until = None;
    }
}

/// What is held, and for how long at most.
#[derive(Debug)]
pub(super) struct Hold {
    /// What was configured.
    most: Duration,
    load: Load,
    /// What is in force at that load.
    span: Duration,
    /// Of each kind, at most one entry for a session: its `Wait` says whether there is one.
    audio: BinaryHeap<Reverse<(Instant, SessionKey)>>,
    video: BinaryHeap<Reverse<(Instant, SessionKey)>>,
    /// Tracks in the middle of a frame, and until when the rest of it is waited for.
    gathering: Vec<(Instant, TrackKey)>,
}

impl Hold {
    /// Nothing is held before a load is known.
    pub(super) fn new(most: Duration, sessions_max: usize) -> Hold {
        let capacity = if most.is_zero() { 0 } else { sessions_max };
        Hold {
            most,
            load: Load::default(),
            span: Duration::ZERO,
            audio: BinaryHeap::with_capacity(capacity),
            video: BinaryHeap::with_capacity(capacity),
            gathering: Vec::with_capacity(capacity),
        }
    }

    /// The worker is this busy.
    pub(super) fn handle_load(&mut self, load: Load) {
        self.load = load;
        let range = HOLD_LOAD_FULL.0 - HOLD_LOAD_FROM.0;
        let above = load.0.saturating_sub(HOLD_LOAD_FROM.0).min(range);
        self.span = self.most * u32::from(above) / u32::from(range);
    }

    /// How busy the worker said that it is.
    pub(super) fn load(&self) -> Load {
        self.load
    }

    /// How long a packet may be held now.
    pub(super) fn span(&self) -> Duration {
        self.span
    }

    /// How long what arrives may lie where it is.
    pub(super) fn rest(&self) -> Duration {
        if self.span < REST_HOLD_MIN {
            Duration::ZERO
        } else {
            self.span / REST
        }
    }

    /// Whether no session's media waits for company.
    fn holds_nothing(&self) -> bool {
        self.audio.is_empty() && self.video.is_empty()
    }

    /// When the first of what is held is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = [&self.audio, &self.video].map(BinaryHeap::peek);
        let held = first.into_iter().flatten();
        let gathered = self.gathering.iter().map(|(due, _)| *due);
        held.map(|Reverse((due, _))| *due).chain(gathered).min()
    }

    /// What leaves now.
    pub(super) fn soon(&self, now: Instant) -> Soon {
        Soon {
            audio: now + self.span_of(MediaKind::Audio) / SLACK,
            video: now + self.span_of(MediaKind::Video) / SLACK,
        }
    }

    /// Until when a packet that came now may wait.
    fn until(&self, now: Instant, kind: MediaKind) -> Option<Instant> {
        // The packet may have lain for as long as a rest takes.
        let span = match kind {
            MediaKind::Audio => self.span - self.rest(),
            MediaKind::Video => self.span_of(kind),
        };
        (!span.is_zero()).then(|| now + span)
    }

    /// Whether a frame that this track is in the middle of waits for its rest.
    fn gathers(&mut self, now: Instant, key: TrackKey, track: &Track) -> bool {
        let place = self.gathering.iter().position(|(_, its)| *its == key);
        let span = FRAME_GATHER.min(self.most);
        // A hold that is as long does it as well.
        let may_gather = track.spec.kind == MediaKind::Video
            && self.span < span
            && track.subscribers.len() >= FRAME_GATHER_SUBSCRIBERS_MIN;
        let gathers = may_gather && is_worth_waiting(track);
        match place {
            Some(place) if gathers => self.gathering.get(place).is_some_and(|(due, _)| *due > now),
            Some(place) => {
                self.gathering.swap_remove(place);
                false
            }
            None if gathers => {
                self.gathering.push((now + span, key));
                true
            }
            None => false,
        }
    }

    /// A track whose frame was waited for long enough.
    fn take_gathered(&mut self, now: Instant) -> Option<TrackKey> {
        let place = self.gathering.iter().position(|(due, _)| *due <= now)?;
        Some(self.gathering.swap_remove(place).1)
    }

    /// What waits, for who looks for what stays behind.
    #[cfg(feature = "sim")]
    pub(super) fn len(&self) -> usize {
        self.audio.len() + self.video.len() + self.gathering.len()
    }

    fn span_of(&self, kind: MediaKind) -> Duration {
        match kind {
            MediaKind::Audio => self.span,
            MediaKind::Video => self.span.min(VIDEO_HOLD_MAX),
        }
    }

    fn queue(&mut self, kind: MediaKind) -> &mut BinaryHeap<Reverse<(Instant, SessionKey)>> {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }

    /// Media of this kind waits until then, unless it has to leave sooner already.
    fn hold(
        &mut self,
        (key, session): (SessionKey, &mut Session),
        kind: MediaKind,
        until: Instant,
    ) {
        let wait = session.wait(kind);
        let until = *wait.until.get_or_insert(until);
        if !wait.is_queued {
            wait.is_queued = true;
            self.queue(kind).push(Reverse((until, key)));
        }
    }

    fn take_due(&mut self, kind: MediaKind, soon: Instant) -> Option<SessionKey> {
        let queue = self.queue(kind);
        let &Reverse((due, key)) = queue.peek()?;
        if due > soon {
            return None;
        }
        queue.pop();
        Some(key)
    }
}

impl Engine {
    /// Tells the subscribers of tracks that got packets, and lets go what was held long enough. Called for
    /// every burst, and most of the time there is neither.
    #[inline]
    pub(super) fn wake_subscribers(&mut self, now: Instant) {
        while let Some(key) = self.dirty.pop() {
            let Some(track) = self.tracks.get_mut(key) else {
                continue;
            };
            track.is_dirty = false;
            if !self.hold.gathers(now, key, track) {
                self.wake_subscribers_of(now, key);
            }
        }
        while let Some(key) = self.hold.take_gathered(now) {
            self.wake_subscribers_of(now, key);
        }
        if self.hold.holds_nothing() {
            return;
        }
        let soon = self.moment(now).soon;
        for kind in [MediaKind::Video, MediaKind::Audio] {
            self.end_holds(soon.of(kind), kind);
        }
    }

    fn wake_subscribers_of(&mut self, now: Instant, key: TrackKey) {
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        let kind = track.spec.kind;
        let until = self
            .hold
            .until(now, kind)
            .filter(|_| is_worth_waiting(track));
        for &(sender_key, session_key) in &track.subscribers {
            let Some(session) = self.sessions.get_mut(session_key) else {
                continue;
            };
            if !session.is_connected {
                continue;
            }
            let Some(sender) = self.senders.get_mut(sender_key) else {
                continue;
            };
            sender.pass_pause(track);
            if !sender.is_pending {
                sender.is_pending = true;
                match kind {
                    MediaKind::Video => session.pending.insert(0, sender_key),
                    MediaKind::Audio => session.pending.push(sender_key),
                }
            }
            let is_full = || {
                session.pending.len() >= BURST_SEGMENTS_MAX
                    || sender.waiting(&track.log) >= FULL_BURST
            };
            if let Some(until) = until
                && !is_full()
            {
                self.hold.hold((session_key, session), kind, until);
                continue;
            }
            session.wait(kind).end();
            if session.becomes_ready(kind) {
                session.is_ready = true;
                self.ready.push_back(session_key);
            }
        }
    }

    /// Lets everything leave that waits for company or for its pace.
    pub(super) fn let_go(&mut self, now: Instant) {
        self.wake_subscribers(now);
        while let Some((_, key)) = self.hold.gathering.pop() {
            self.wake_subscribers_of(now, key);
        }
        let keys: Vec<SessionKey> = self.sessions.keys().collect();
        for key in keys {
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            session.audio_wait.end();
            session.video_wait.end();
            session.is_paced = false;
            if let Some(downlink) = &mut session.downlink {
                downlink.let_go(now);
            }
            if !session.pending.is_empty() && !session.is_ready {
                session.is_ready = true;
                self.ready.push_back(key);
            }
        }
    }

    fn end_holds(&mut self, soon: Instant, kind: MediaKind) {
        while let Some(key) = self.hold.take_due(kind, soon) {
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            let wait = session.wait(kind);
            wait.is_queued = false;
            let until = wait.until;
            match until {
                Some(until) if until > soon => self.hold.hold((key, session), kind, until),
                Some(_) if session.becomes_ready(kind) => {
                    session.is_ready = true;
                    self.ready.push_back(key);
                }
                // It waits for its turn to be sent to, or left with a frame.
                Some(_) | None => {}
            }
        }
    }
}

/// Whether more of the track may come that would share a send with what is there.
fn is_worth_waiting(track: &Track) -> bool {
    let log = &track.log;
    match (track.spec.kind, log.latest()) {
        // Not for a frame that is whole, nor for a gap that is filled.
        (MediaKind::Video, Some(last)) => !last.stamp.marker && last.stamp.sequence == log.newest(),
        // One stream's packets come far apart; others' come in between.
        (MediaKind::Audio, _) => true,
        (MediaKind::Video, None) => false,
    }
}
