//! What must hold of an engine's memory, and of the numbers that everybody was sent.

use std::time::Duration;

use super::stream::Stream;
use super::world::World;
use crate::counters::Counters;
use crate::engine::Engine;
use crate::id::{SenderId, Ssrc};
use crate::limits::{
    CLOSING_MAX, CONSENT_TIMEOUT, CONTROL_QUEUE_LEN, ENCODINGS_MAX, PATHS_PER_SESSION_MAX,
    SENDERS_PER_SESSION_MAX, SENDERS_RETIRED_MAX, SOURCES_RETIRED_MAX, SSRCS_PER_TRACK_MAX,
    TRACKS_PER_SESSION_MAX,
};

/// By then what waited has left at the slowest pace, or was left out and counted.
const WAITING: Duration = Duration::from_secs(10);

/// Between two reports of an engine, and a little more.
const REPORT: Duration = Duration::from_millis(1_100);

/// Timers of an engine in one run: a few for each session, those that ended included.
const TIMERS_MAX: usize = 2_000;

impl World {
    /// Nothing has grown past its limit.
    pub(super) fn assert_bounded(&self) {
        for engine in &self.engines {
            engine.assert_bounded();
            // Sessions that are gone leave the queue when something can be sent.
            let in_queue = engine.ready.len() + engine.outbox.len();
            assert!(self.sends_max < usize::MAX || in_queue == 0);
        }
    }

    /// What is waited for comes, and the numbers are looked at; then everybody leaves, and nothing remains.
    pub(super) fn finish(&mut self) {
        (self.sends_max, self.is_relay_stuck) = (usize::MAX, false);
        self.advance(WAITING);
        self.assert_gapless();
        let here: Vec<usize> = self.seats.iter().flatten().copied().collect();
        for client in here {
            self.send_away(client);
        }
        self.advance(CONSENT_TIMEOUT + REPORT);
        for engine in &self.engines {
            engine.assert_empty();
        }
    }

    /// Numbers are missing only where the publisher's are, or something was dropped that is counted.
    fn assert_gapless(&self) {
        let streams = self.clients.iter().flat_map(|client| {
            let streams = client.streams.values();
            streams.map(move |stream| (client, stream))
        });
        let (mut missing, mut excused, mut count) = (0, self.unsent, 0);
        for (client, stream) in streams {
            count += 1;
            if client.is_loose || self.is_loose(stream) {
                continue;
            }
            missing += stream.missing();
            let runs = stream.runs.iter();
            excused += runs.map(|run| self.delivered.missing(run)).sum::<u64>();
        }
        let dropped = self
            .counters
            .iter()
            .map(|counters| dropped(counters, count));
        let dropped = dropped.sum::<u64>();
        assert!(
            missing <= excused + dropped,
            "{missing} numbers are missing, {excused} of publishers, {dropped} dropped"
        );
    }

    /// Whether its publishers sent what the model cannot follow.
    fn is_loose(&self, stream: &Stream) -> bool {
        let owners = stream.fed.iter().map(|id| self.tracks[id].owner);
        stream.is_loose || owners.into_iter().any(|owner| self.clients[owner].is_loose)
    }
}

/// What a worker left out, with its reasons. What nobody was sent is counted once, whoever listens.
fn dropped(counters: &Counters, streams: u64) -> u64 {
    counters.drop_subscriber_behind
        + counters.drop_late_video
        + counters.drop_late_audio
        + counters.drop_relay_behind * streams
        + counters.drop_format_not_accepted
        + counters.layer_not_sent
        + (counters.voice_not_heard + counters.silence_not_sent) * streams
}

impl Engine {
    /// Whether a sender does not send the packet that came last from a source, where that came late: it sends nothing
    /// at the moment, reads another source, or began anew behind it.
    pub(super) fn passes_over_late(&self, sender: SenderId, ssrc: u32) -> bool {
        let key = self.names.senders.get(&sender);
        let Some(sender) = key.and_then(|key| self.senders.get(*key)) else {
            return false;
        };
        let Some(source) = &sender.source else {
            return false;
        };
        let track = self.tracks.get(source.track);
        let came = track
            .filter(|track| track.ssrc() == Some(Ssrc(ssrc)))
            .and_then(|track| track.log.latest());
        let is_sent = came.is_some_and(|came| sender.numbering.translate(&came.stamp).is_some());
        source.is_off || source.next.is_some() || !is_sent
    }

    /// Nothing has grown past its limit.
    fn assert_bounded(&self) {
        let sessions_max = self.config.sessions_max;
        assert!(self.sessions.len() <= sessions_max);
        assert!(self.names.sessions.len() == self.sessions.len());
        assert!(self.names.senders.len() == self.senders.len());
        assert!(self.paths.len() <= sessions_max * PATHS_PER_SESSION_MAX);
        assert!(self.ufrags.len() <= 2 * sessions_max);
        assert!(self.senders.len() <= sessions_max * SENDERS_PER_SESSION_MAX);
        let tracks_max = sessions_max * TRACKS_PER_SESSION_MAX * ENCODINGS_MAX;
        // Once more for what other workers have.
        assert!(self.tracks.len() <= 2 * tracks_max);
        assert!(self.closing.len() <= CLOSING_MAX);
        assert!(self.outbox.len() <= CONTROL_QUEUE_LEN);
        // One for each of its lists, and for those that ended a moment ago.
        assert!(self.timers.len() <= TIMERS_MAX);
        for key in self.names.sessions.values() {
            let session = self.sessions.get(*key).expect("it has a name");
            let sources_max = TRACKS_PER_SESSION_MAX * ENCODINGS_MAX * SSRCS_PER_TRACK_MAX;
            assert!(session.sources.len() <= sources_max);
            assert!(session.pending.len() <= session.senders.len());
            let (sources, senders) = session.retired();
            assert!(sources <= SOURCES_RETIRED_MAX && senders <= SENDERS_RETIRED_MAX);
            assert!(session.ice.paths().count() <= PATHS_PER_SESSION_MAX);
        }
    }

    /// Nothing is left of anybody.
    fn assert_empty(&self) {
        let left = [
            self.sessions.len(),
            self.tracks.len(),
            self.senders.len(),
            self.names.sessions.len(),
            self.names.tracks.len(),
            self.names.senders.len(),
            self.paths.len(),
            self.ufrags.len(),
            self.dirty.len(),
            self.ready.len(),
            self.outbox.len(),
            self.dtls.len(),
            self.events.len(),
            self.timers.len(),
            self.floor.len(),
            self.hold.len(),
        ];
        assert_eq!(left, [0; 16], "something stays behind");
    }
}
