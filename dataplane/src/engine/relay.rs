//! Tracks that are heard on several workers.
//!
//! A track lives on the worker of its publisher's session: there it is received, repaired, measured
//! and reported. An engine that *imports* it keeps a log of its own, filled with the packets of the
//! home's log, and serves its subscribers from that as from any other. To the home, another worker
//! is one more reader of the log: an [`Export`] with a cursor. Nothing is queued for it here; who
//! falls behind the log loses what is no longer in it, and that is counted.
//!
//! ```text
//!   home                                            every other worker
//!   log ── Export ── poll_relay ── packets, clock ──► handle_relay ── log ── subscribers
//!   publisher ◄── handle_relay ◄── key frame wanted ── poll_relay
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use super::Engine;
use super::clock::{Clock, Ntp, RemoteClock, RtpClock};
use super::extensions::audio_level;
use super::log::{Entry, Stamp};
use super::session::Session;
use super::slab::Slab;
use super::track::{Home, Track, TrackKey, Use};
use crate::command::TrackSpec;
use crate::id::TrackId;
use crate::limits::FORMATS_MAX;
use crate::relay::{RelaySlot, RelayedClock, RelayedPacket, Word};

/// Another worker that reads a track's log.
#[derive(Debug)]
pub(super) struct Export {
    pub(super) to: usize,
    /// Arrival number of the next packet to hand over.
    cursor: u64,
    /// Whether the publisher's clock was heard since it was last handed over.
    has_clock: bool,
    /// Whether the track waits in that worker's list.
    is_ready: bool,
}

/// What other workers are to be told, by their index.
#[derive(Debug, Default)]
pub(super) struct Relay {
    others: Vec<Other>,
}

#[derive(Debug, Default)]
struct Other {
    /// Tracks with something to hand over, each once.
    ready: VecDeque<TrackKey>,
    /// Tracks that live there and are to be asked for a key frame, each once.
    keyframes: Vec<(TrackId, u8)>,
}

impl Relay {
    /// A packet entered the log of a track.
    pub(super) fn note_packet(&mut self, key: TrackKey, track: &mut Track) {
        for export in &mut track.exports {
            self.mark(key, export);
        }
    }

    /// A track's publisher said how its clock stands.
    pub(super) fn note_clock(&mut self, key: TrackKey, track: &mut Track) {
        for export in &mut track.exports {
            export.has_clock = true;
            self.mark(key, export);
        }
    }

    /// Somebody here needs a key frame of a track that lives on worker `home`.
    pub(super) fn want_keyframe(&mut self, home: usize, track: &Track) {
        let wanted = &mut self.other(home).keyframes;
        let named = (track.spec.track, track.encoding);
        if !wanted.contains(&named) {
            wanted.push(named);
        }
    }

    /// Hands a track's packets to worker `to` from now on.
    /// Where newcomers begin with the last key frame, it does too.
    fn begin(&mut self, now: Instant, key: TrackKey, track: &mut Track, to: usize) {
        let group = track.log.group(now);
        let mut export = Export {
            to,
            cursor: group.unwrap_or(track.log.head()),
            has_clock: track.clock.is_some(),
            is_ready: false,
        };
        if export.has_clock || group.is_some() {
            self.mark(key, &mut export);
        }
        track.exports.push(export);
    }

    fn mark(&mut self, key: TrackKey, export: &mut Export) {
        if !export.is_ready {
            export.is_ready = true;
            self.other(export.to).ready.push_back(key);
        }
    }

    fn other(&mut self, index: usize) -> &mut Other {
        if index >= self.others.len() {
            self.others.resize_with(index + 1, Other::default);
        }
        self.others
            .get_mut(index)
            .expect("the list was made long enough just now")
    }
}

/// The clock of a track's publisher against ours.
pub(super) fn remote_clock<'a>(
    sessions: &'a Slab<Session>,
    track: &'a Track,
) -> Option<&'a RemoteClock> {
    match &track.home {
        Home::Session(session) => Some(&sessions.get(*session)?.remote_clock),
        Home::Worker(_, clock) => Some(clock),
    }
}

impl Engine {
    /// Begins to hand a track's packets to another worker; `None` when the track is gone.
    pub(super) fn export(&mut self, now: Instant, track: TrackId, to: usize) -> Option<()> {
        for &key in self.names.tracks.get(&track)? {
            let track = self.tracks.get_mut(key)?;
            let is_known = track.exports.iter().any(|export| export.to == to);
            // Packets go one way only, from the home: a round trip would never end.
            if is_known || track.session().is_none() {
                self.counters.command_refused += 1;
                return Some(());
            }
            self.relay.begin(now, key, track, to);
        }
        Some(())
    }

    /// Ends what `export` began; `None` when it is over already.
    pub(super) fn end_export(&mut self, track: TrackId, to: usize) -> Option<()> {
        for &key in self.names.tracks.get(&track)? {
            let exports = &mut self.tracks.get_mut(key)?.exports;
            exports.retain(|export| export.to != to);
        }
        Some(())
    }

    /// Expects a track's packets from the worker that it lives on, or changes what is known of it.
    pub(super) fn import(&mut self, spec: &TrackSpec, from: usize) {
        let known = self.names.encoding(spec.track, 0);
        let is_published_here = known
            .and_then(|key| self.tracks.get(key))
            .is_some_and(|track| track.session().is_some());
        if spec.formats.len() > FORMATS_MAX || is_published_here {
            self.counters.command_refused += 1;
            return;
        }
        let home = Home::Worker(from, RemoteClock::default());
        if known.is_some() {
            self.replace_stream(home, spec);
        } else {
            self.add_stream(home, spec);
        }
    }

    /// See [`Engine::poll_relay`].
    pub(super) fn write_relayed(&mut self, now: Instant, to: usize, slot: &mut RelaySlot) -> bool {
        let Some(other) = self.relay.others.get_mut(to) else {
            return false;
        };
        if let Some((track, encoding)) = other.keyframes.pop() {
            (slot.track, slot.encoding) = (track, encoding);
            slot.word = Word::KeyframeWanted;
            return true;
        }
        while let Some(&key) = other.ready.front() {
            if let Some(track) = self.tracks.get_mut(key)
                && let Some(index) = track.exports.iter().position(|export| export.to == to)
            {
                if let Some(clock) = take_clock(now, &self.clock, &self.sessions, track, index) {
                    (slot.track, slot.encoding) = (track.spec.track, track.encoding);
                    slot.word = Word::Clock(clock);
                    return true;
                }
                let behind = catch_up(track, index);
                self.counters.drop_relay_behind += behind;
                if take_packet(track, index, slot) {
                    self.counters.relay_sent += 1;
                    return true;
                }
            }
            other.ready.pop_front();
        }
        false
    }

    /// See [`Engine::handle_relay`].
    pub(super) fn take_relayed(&mut self, now: Instant, slot: &RelaySlot) {
        let key = self.names.encoding(slot.track, slot.encoding);
        match slot.word {
            Word::KeyframeWanted => {
                if let Some(key) = key {
                    self.request_keyframe(now, key);
                }
            }
            Word::Clock(clock) => self.on_relayed_clock(key, &clock),
            Word::Packet(packet) => {
                let is_logged = key.and_then(|key| self.log_relayed(key, &packet, slot));
                if is_logged.is_none() {
                    self.counters.drop_relay_unknown += 1;
                }
            }
        }
    }

    fn on_relayed_clock(&mut self, key: Option<TrackKey>, clock: &RelayedClock) {
        let Some(track) = key.and_then(|key| self.tracks.get_mut(key)) else {
            return;
        };
        let Home::Worker(_, remote) = &mut track.home else {
            return;
        };
        // Each word is exact, so none is to be smoothed.
        *remote = RemoteClock::default();
        remote.handle_report(self.clock.ntp(clock.at), Ntp(clock.theirs));
        track.clock = Some(RtpClock {
            ntp: Ntp(clock.ntp),
            timestamp: clock.timestamp,
            epoch: clock.epoch,
        });
    }

    /// Keeps a packet from the track's home; `None` when the track does not take it.
    fn log_relayed(
        &mut self,
        key: TrackKey,
        packet: &RelayedPacket,
        slot: &RelaySlot,
    ) -> Option<()> {
        let track = self.tracks.get_mut(key)?;
        let (Home::Worker(..), Some(Use::Media(format))) =
            (track.home, track.usage(packet.payload_type))
        else {
            return None;
        };
        // All that came before it would be missing behind it.
        let begins_late = packet.is_late && track.log.head() == 0;
        if begins_late || track.log.refuses(packet.sequence) {
            return None;
        }
        let is_continued = track.epoch() == Some(packet.epoch);
        if is_continued && track.is_far_ahead(packet.sequence) {
            track.log.forget();
            for &(sender, _) in &track.subscribers {
                if let Some(sender) = self.senders.get_mut(sender) {
                    sender.numbering.detach();
                }
            }
        }
        if packet.keyframe {
            track.log.begin_keyframe(packet.timestamp);
        }
        let bytes = slot.bytes(packet);
        track.log.reserve(bytes.len())?.copy_from_slice(bytes);
        let stamp = Stamp {
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            arrived: packet.arrived,
            epoch: packet.epoch,
            marker: packet.marker,
            keyframe: packet.keyframe,
            format,
            layer: packet.layer,
        };
        let extensions_len = usize::from(packet.extensions_len);
        track
            .log
            .commit(stamp, extensions_len, extensions_len..bytes.len());
        track.handle_relayed(packet.ssrc, packet.epoch, format, packet.arrived);
        track.is_fed = packet.is_fed;
        let payload_len = usize::from(packet.payload_len);
        track
            .meter
            .handle_packet(packet.arrived, packet.layer, payload_len);
        let level = audio_level(bytes.get(..extensions_len).unwrap_or_default());
        self.counters.relay_received += 1;
        self.hear(packet.arrived, key, level);
        self.mark_dirty(key);
        if packet.keyframe {
            self.on_keyframe(key);
        }
        Some(())
    }
}

/// The publisher's clock, if that reader of the track has not been told yet.
fn take_clock(
    now: Instant,
    ours: &Clock,
    sessions: &Slab<Session>,
    track: &mut Track,
    index: usize,
) -> Option<RelayedClock> {
    let is_due = std::mem::take(&mut track.exports.get_mut(index)?.has_clock);
    let clock = track.clock.filter(|_| is_due)?;
    let theirs = remote_clock(sessions, track)?.theirs(ours.ntp(now))?;
    Some(RelayedClock {
        at: now,
        theirs: theirs.0,
        ntp: clock.ntp.0,
        timestamp: clock.timestamp,
        epoch: clock.epoch,
    })
}

/// Moves a reader on to what is still in the log, and returns how many packets it missed.
fn catch_up(track: &mut Track, index: usize) -> u64 {
    let tail = track.log.tail();
    let Some(export) = track.exports.get_mut(index) else {
        return 0;
    };
    let missed = tail.saturating_sub(export.cursor);
    export.cursor += missed;
    missed
}

/// Writes the next packet for a reader; `false` when it has them all, which ends its turn.
fn take_packet(track: &mut Track, index: usize, slot: &mut RelaySlot) -> bool {
    loop {
        let Some(cursor) = track.exports.get(index).map(|export| export.cursor) else {
            return false;
        };
        let entry = track.log.entry(cursor).copied();
        if let Some(export) = track.exports.get_mut(index) {
            export.is_ready = entry.is_some();
            export.cursor += u64::from(entry.is_some());
        }
        let Some(entry) = entry else { return false };
        if write_packet(track, &entry, slot) {
            return true;
        }
    }
}

fn write_packet(track: &Track, entry: &Entry, slot: &mut RelaySlot) -> bool {
    let (Some(ssrc), Some(format)) = (track.ssrc(), track.format(entry.stamp.format)) else {
        return false;
    };
    let extensions = track.log.extensions(entry);
    let payload = track.log.payload(entry);
    let packet = RelayedPacket {
        ssrc,
        sequence: entry.stamp.sequence,
        timestamp: entry.stamp.timestamp,
        arrived: entry.stamp.arrived,
        epoch: entry.stamp.epoch,
        marker: entry.stamp.marker,
        keyframe: entry.stamp.keyframe,
        is_late: entry.is_late(),
        is_fed: track.is_fed,
        layer: entry.stamp.layer,
        payload_type: format.payload_type,
        extensions_len: extensions.len() as u16,
        payload_len: payload.len() as u16,
    };
    slot.encoding = track.encoding;
    slot.write_packet(track.spec.track, packet, extensions, payload)
}
