//! What happens because time passes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::Engine;
use super::session::SessionKey;
use super::track::{TrackKey, has_keyframes};
use crate::event::{CloseReason, Event, Report, TrackReport};
use crate::limits::{
    REPORT_INTERVAL, RTCP_EARLY, RTCP_EARLY_MAX, RTCP_INTERVAL, TRANSPORT_FEEDBACK_EARLY,
};

/// What is due when. What most sessions never need (missing packets, key frames held back,
/// speakers who fall silent) is in short lists, so that no timer moves because a packet came.
#[derive(Debug)]
pub(super) struct Timers {
    /// One entry for each session: its next round of reports and checks.
    ticks: BinaryHeap<Reverse<(Instant, SessionKey)>>,
    /// Sessions that miss packets, and when the first of those is due.
    missing: Vec<SessionKey>,
    missing_due: Option<Instant>,
    /// Sessions that are to be told when their packets arrived, and when the first of those is due.
    feedback: Vec<SessionKey>,
    feedback_due: Option<Instant>,
    /// Sessions whose video waits for its pace, or whose probe for its next packets, and until when.
    paced: BinaryHeap<Reverse<(Instant, SessionKey)>>,
    /// Tracks whose key frame was asked for too soon.
    keyframes: Vec<TrackKey>,
    /// Tracks whose person speaks.
    speakers: Vec<TrackKey>,
    report_at: Instant,
    reported_at: Instant,
}

impl Timers {
    /// No session yet.
    pub(super) fn new(start: Instant) -> Timers {
        Timers {
            ticks: BinaryHeap::new(),
            missing: Vec::new(),
            missing_due: None,
            feedback: Vec::new(),
            feedback_due: None,
            paced: BinaryHeap::new(),
            keyframes: Vec::new(),
            speakers: Vec::new(),
            report_at: start + REPORT_INTERVAL,
            reported_at: start,
        }
    }
}

impl Timers {
    /// A session is to be told by then when its packets arrived.
    pub(super) fn watch_feedback(&mut self, key: SessionKey, due: Instant) {
        let first = self.feedback_due.map_or(due, |other| other.min(due));
        self.feedback_due = Some(first);
        self.feedback.push(key);
    }

    /// How many sessions are to be told. Each is taken once; those that still are to be enter the list again.
    pub(super) fn begin_feedback(&mut self) -> usize {
        self.feedback_due = None;
        self.feedback.len()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let heaps = self.ticks.len() + self.paced.len();
        let lists = self.missing.len() + self.feedback.len();
        heaps + lists + self.keyframes.len() + self.speakers.len()
    }

    /// A session's video or its probe may go on then.
    pub(super) fn watch_pace(&mut self, key: SessionKey, due: Instant) {
        self.paced.push(Reverse((due, key)));
    }

    fn take_paced(&mut self, now: Instant) -> Option<(Instant, SessionKey)> {
        let Reverse((due, key)) = *self.paced.peek()?;
        if due > now {
            return None;
        }
        self.paced.pop();
        Some((due, key))
    }

    /// The session that waits longest.
    pub(super) fn take_feedback(&mut self) -> SessionKey {
        self.feedback.remove(0)
    }
}

impl Engine {
    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let timers = &self.timers;
        let tick = timers.ticks.peek().map(|Reverse((at, _))| *at);
        let keyframe = timers
            .keyframes
            .iter()
            .filter_map(|key| self.tracks.get(*key)?.keyframe.due());
        let speaker = timers
            .speakers
            .iter()
            .filter_map(|key| self.tracks.get(*key)?.speech.due());
        let held = self.hold.due();
        let paced = timers.paced.peek().map(|Reverse((at, _))| *at);
        let once = [
            Some(timers.report_at),
            timers.missing_due,
            timers.feedback_due,
        ];
        once.into_iter()
            .chain([tick, held, paced])
            .flatten()
            .chain(keyframe)
            .chain(speaker)
            .min()
    }

    /// Does everything that is due, and some of what is nearly.
    pub(super) fn fire(&mut self, now: Instant) {
        let mut early = 0;
        while let Some(&Reverse((at, key))) = self.timers.ticks.peek() {
            if at > now {
                if early == RTCP_EARLY_MAX || at > now + RTCP_EARLY {
                    break;
                }
                early += 1;
            }
            self.timers.ticks.pop();
            self.tick(now, at, key);
        }
        if self.timers.missing_due.is_some_and(|due| due <= now) {
            self.fire_missing(now);
        }
        let feedback_due = self.timers.feedback_due;
        if feedback_due.is_some_and(|due| due <= now + TRANSPORT_FEEDBACK_EARLY) {
            self.fire_feedback(now);
        }
        while let Some((due, key)) = self.timers.take_paced(now) {
            self.end_pace(key, due);
        }
        // Where nothing can be sent, nobody asks for bursts, and what was held would be due for ever.
        if self.hold.due().is_some_and(|due| due <= now) {
            self.wake_subscribers(now);
        }
        self.fire_keyframes(now);
        self.fire_speakers(now);
        if self.timers.report_at <= now {
            self.report(now);
        }
    }

    /// Sets a session's next round.
    pub(super) fn schedule_tick(&mut self, at: Instant, key: SessionKey) {
        self.timers.ticks.push(Reverse((at, key)));
    }

    /// A session's regular round, planned for `at`: whether it is still there, and its reports.
    fn tick(&mut self, now: Instant, at: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let deadline = session.deadline();
        if now >= deadline {
            let was_heard = session.ice.heard_at().is_some();
            let reason = if was_heard {
                CloseReason::ConsentExpired
            } else {
                CloseReason::NeverConnected
            };
            self.close(now, key, reason);
            return;
        }
        if session.is_connected {
            self.send_reports(now, key);
            self.tick_downlink(now, key);
            self.allocate(now, key);
        }
        // From the plan, so that sessions whose rounds came early together do not stay together; and
        // after the deadline by as much as it may come early.
        let next = now.max(at) + RTCP_INTERVAL;
        self.schedule_tick(next.min(deadline + RTCP_EARLY), key);
    }

    /// A session misses packets.
    pub(super) fn watch_missing(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let due = session
            .sources
            .iter()
            .filter_map(|source| source.missing.as_ref()?.due())
            .min();
        if let Some(due) = due {
            let timers = &mut self.timers;
            timers.missing_due = Some(timers.missing_due.map_or(due, |other| other.min(due)));
            if !timers.missing.contains(&key) {
                timers.missing.push(key);
            }
        }
    }

    fn fire_missing(&mut self, now: Instant) {
        self.timers.missing_due = None;
        // A session that still misses something enters the list again.
        for _ in 0..self.timers.missing.len() {
            let key = self.timers.missing.remove(0);
            self.send_nacks(now, key);
            self.watch_missing(key);
        }
    }

    /// Somebody needs a key frame of a track.
    pub(super) fn request_keyframe(&mut self, now: Instant, key: TrackKey) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        // A track that has not begun will begin with one; of one that lives elsewhere nobody here
        // knows whether it has, unless its home begins with one when it hands it over.
        let may_have_begun = track.session().is_none() && !track.log.keeps_group();
        let has_begun = may_have_begun || track.ssrc().is_some();
        if !has_keyframes(track.spec.kind) || !has_begun {
            return;
        }
        if track.is_fed {
            self.counters.keyframes_not_asked += u64::from(track.keyframe.handle_unheard());
            return;
        }
        if track.keyframe.request(now) {
            self.send_picture_loss(key);
        } else if !self.timers.keyframes.contains(&key) {
            self.timers.keyframes.push(key);
        }
    }

    fn fire_keyframes(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(&key) = self.timers.keyframes.get(index) {
            let gate = self.tracks.get_mut(key).map(|track| &mut track.keyframe);
            let is_due = gate
                .as_ref()
                .and_then(|gate| gate.due())
                .is_none_or(|due| due <= now);
            if !is_due {
                index += 1;
                continue;
            }
            self.timers.keyframes.swap_remove(index);
            // Another request may have been let through since, or the track be gone.
            if gate.is_some_and(|gate| gate.take(now)) {
                self.send_picture_loss(key);
            }
        }
    }

    /// A person began or stopped speaking.
    pub(super) fn on_speaking(&mut self, key: TrackKey, speaking: bool) {
        let Some(track) = self.track_id(key) else {
            return;
        };
        self.events.push_back(Event::Speaking { track, speaking });
        self.timers.speakers.retain(|its| *its != key);
        if speaking {
            self.timers.speakers.push(key);
        }
    }

    fn fire_speakers(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(&key) = self.timers.speakers.get(index) {
            let Some(track) = self.tracks.get_mut(key) else {
                self.timers.speakers.swap_remove(index);
                continue;
            };
            if track.speech.handle_silence(now) == Some(false) {
                self.on_speaking(key, false);
            } else {
                index += 1;
            }
        }
    }

    fn report(&mut self, now: Instant) {
        let interval = now.saturating_duration_since(self.timers.reported_at);
        let interval_us = (interval.as_micros() as u64).max(1);
        self.timers.reported_at = now;
        self.timers.report_at = now + REPORT_INTERVAL;
        let mut tracks = Vec::with_capacity(self.names.tracks.len());
        for (id, encodings) in &self.names.tracks {
            let mut report = TrackReport {
                track: *id,
                bitrate_bps: 0,
                packets: 0,
                lost: 0,
                loudness_db: 0,
            };
            let mut is_home = false;
            for key in encodings {
                let Some(track) = self.tracks.get_mut(*key) else {
                    continue;
                };
                // Its home reports of a track that lives elsewhere.
                let Some(session) = track.session() else {
                    continue;
                };
                is_home = true;
                let loudness_db = track.speech.take_loudness_db(interval);
                report.loudness_db = report.loudness_db.max(loudness_db);
                let bits = std::mem::take(&mut track.bits);
                report.bitrate_bps += bits.saturating_mul(1_000_000) / interval_us;
                let sources = self.sessions.get(session).map(|s| s.sources.as_slice());
                let own = sources.unwrap_or_default().iter();
                for source in own.filter(|source| source.track == *key && !source.is_repair) {
                    let (packets, lost) = source.reception.totals();
                    report.packets += packets;
                    report.lost += lost;
                }
            }
            if is_home {
                tracks.push(report);
            }
        }
        let counters = self.counters.clone();
        self.events.push_back(Event::Report(Box::new(Report {
            counters,
            tracks,
            objects: self.objects(),
            timers: self.timers.len() as u64,
            load: self.hold.load(),
            hold_us: self.hold.span().as_micros() as u64,
            ..Report::default()
        })));
    }
}
