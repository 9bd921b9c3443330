//! A stream that a person receives, and what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::command::MediaKind;
use dataplane::sim::peer::{Arrival, Peer};
use dataplane::sim::reception::Reception;
use serde::Serialize;

use super::histogram::Histogram;
use super::picture::Picture;
use super::publishers::SentTimes;
use super::roster::RemoteTrack;
use super::vp8::Descriptor;

/// What came of a stream.
#[derive(Clone, Debug, Serialize)]
pub struct StreamReport {
    /// Who receives it.
    pub to: String,
    /// Whose it is.
    pub from: String,
    /// `audio` or `video`.
    pub kind: &'static str,
    /// Packets that were to come.
    pub expected: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came when they were asked for again.
    pub recovered: u64,
    /// Frames that could be shown.
    pub frames: u64,
    /// Freezes, by the definition of browsers.
    pub freezes: u64,
    /// The longest time between two frames, in milliseconds.
    pub interval_max_ms: f64,
    /// From the offer that asked for it (or the connection, if that came later) to its first
    /// frame or, of audio, its first packet.
    pub first_ms: Option<f64>,
    /// Whether packets came from another payload type or MID than agreed, or did not decrypt.
    pub format_errors: u64,
}

/// A stream that a person receives.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) track: RemoteTrack,
    pub(super) ssrc: u32,
    asked_at: Instant,
    picture: Picture,
    sent: Option<Arc<SentTimes>>,
    latency: Histogram,
    /// What had been counted when the measurement began.
    before: Counted,
}

/// What the peer counts of a stream since its beginning.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    expected: u64,
    lost: u64,
    recovered: u64,
    format_errors: u64,
}

impl Counted {
    fn of(reception: &Reception) -> Counted {
        Counted {
            expected: reception.expected(),
            lost: reception.lost(),
            recovered: reception.counts().recovered,
            format_errors: reception.counts().format_errors,
        }
    }
}

impl Watched {
    pub(super) fn new(
        track: RemoteTrack,
        ssrc: u32,
        asked_at: Instant,
        sent: Option<Arc<SentTimes>>,
    ) -> Watched {
        Watched {
            track,
            ssrc,
            asked_at,
            picture: Picture::default(),
            sent,
            latency: Histogram::default(),
            before: Counted::default(),
        }
    }

    /// Counts from here on.
    pub(super) fn handle_measure(&mut self, peer: &Peer) {
        self.picture.handle_measure();
        self.latency = Histogram::default();
        let reception = peer.reception(self.ssrc);
        self.before = reception.map(Counted::of).unwrap_or_default();
    }

    /// Takes a packet of it, `now` being `now_us` into the meeting.
    pub(super) fn handle_arrival(&mut self, now: Instant, now_us: u64, arrival: &Arrival) {
        if self.track.kind == MediaKind::Audio {
            return;
        }
        let picture_id = Descriptor::parse(&arrival.payload).and_then(|d| d.picture_id);
        let sent_us = self
            .sent
            .as_ref()
            .zip(picture_id)
            .and_then(|(sent, picture_id)| sent.sent_us(picture_id));
        // What came on a second request says how long the repair took, not the way.
        if let Some(sent_us) = sent_us.filter(|_| !arrival.is_retransmission) {
            let latency = Duration::from_micros(now_us.saturating_sub(sent_us));
            self.latency.add(latency);
        }
        let Arrival {
            sequence,
            marker,
            ref payload,
            ..
        } = *arrival;
        self.picture.handle_packet(now, sequence, marker, payload);
    }

    pub(super) fn poll_key_request(&mut self, now: Instant) -> bool {
        self.picture.poll_key_request(now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.picture.poll_timeout()
    }

    pub(super) fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// What came of it so far.
    pub(super) fn report(&self, now: Instant, to: &str, peer: &Peer) -> StreamReport {
        let connected_at = peer.connected_at().unwrap_or(now);
        let reception = peer.reception(self.ssrc);
        let (before, after) = (self.before, reception.map(Counted::of).unwrap_or_default());
        let first_at = match self.track.kind {
            MediaKind::Audio => reception.and_then(|reception| reception.counts().first_at),
            MediaKind::Video => self.picture.first_at,
        };
        let since = self.asked_at.max(connected_at);
        let first = first_at.map(|first_at| first_at.saturating_duration_since(since));
        StreamReport {
            to: to.to_owned(),
            from: self.track.name.clone(),
            kind: match self.track.kind {
                MediaKind::Audio => "audio",
                MediaKind::Video => "video",
            },
            expected: after.expected - before.expected,
            // What was missing then may have come since.
            lost: after.lost.saturating_sub(before.lost),
            recovered: after.recovered - before.recovered,
            frames: self.picture.frames,
            freezes: self.picture.freezes_until(now),
            interval_max_ms: milliseconds(self.picture.interval_max),
            first_ms: first.map(milliseconds),
            format_errors: after.format_errors - before.format_errors,
        }
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}
