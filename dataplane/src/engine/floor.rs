//! Who has the floor: of the voices of a group, which the engine's caller makes of a room, only the
//! loudest are forwarded.
//!
//! A group has so many seats. They fill up first come, first served; after that a voice takes a seat
//! from the quietest who has one, once it is clearly louder. A voice counts as loud as it was within the
//! last second ([`super::voice`]), so that nobody loses a seat between two words; and since who took a
//! seat was louder by a margin, and stays that loud for a second, nobody takes it back at once.

use std::collections::HashMap;
use std::time::Instant;

use ahash::RandomState;

use super::Engine;
use super::log::Entry;
use super::track::{Track, TrackKey};
use super::voice::{DIGITAL_SILENCE, Standing};
use crate::command::{MediaKind, PayloadKind};
use crate::id::GroupId;
use crate::limits::{AUDIO_SPEAKERS_MAX, SILENCE_BYTES_MAX};

/// A voice takes another's seat when it is louder by more than so many decibels.
const MARGIN_DB: u8 = 6;

/// Who is forwarded, by group.
#[derive(Debug)]
pub(super) struct Floor {
    /// How many of each; 0 for all.
    seats: usize,
    /// Of groups without anybody there is no entry.
    heard: HashMap<GroupId, Vec<TrackKey>, RandomState>,
}

impl Floor {
    /// Nobody speaks yet. `seats` voices of each group are forwarded, all with 0.
    pub(super) fn new(seats: usize, hasher: RandomState) -> Floor {
        Floor {
            seats: seats.min(AUDIO_SPEAKERS_MAX),
            heard: HashMap::with_hasher(hasher),
        }
    }

    /// Groups in which somebody has a seat.
    #[cfg(feature = "sim")]
    pub(super) fn len(&self) -> usize {
        self.heard.len()
    }

    /// Those of a group who have a seat.
    fn heard(&mut self, group: GroupId) -> &mut Vec<TrackKey> {
        let seats = self.seats;
        self.heard
            .entry(group)
            .or_insert_with(|| Vec::with_capacity(seats))
    }

    /// A track is gone from its group: its seat is free.
    pub(super) fn leave(&mut self, key: TrackKey, track: &mut Track) {
        track.voice.standing = Standing::Unmeasured;
        let Some(group) = track.spec.group else {
            return;
        };
        if let Some(heard) = self.heard.get_mut(&group) {
            heard.retain(|its| *its != key);
            if heard.is_empty() {
                self.heard.remove(&group);
            }
        }
    }
}

impl Engine {
    /// A packet of a track entered its log, with this audio level if it has one: whether subscribers
    /// are sent it follows from what was heard so far.
    pub(super) fn hear(&mut self, now: Instant, key: TrackKey, level: Option<u8>) {
        let is_audio =
            |track: &&mut Track| track.spec.kind == MediaKind::Audio && track.log.head() > 0;
        let Some(track) = self.tracks.get_mut(key).filter(is_audio) else {
            return;
        };
        if let Some(level) = level {
            track.voice.handle_level(now, level);
            if let Some(group) = track.spec.group.filter(|_| self.floor.seats > 0)
                && track.voice.standing != Standing::Heard
            {
                self.contend(now, key, group);
            }
        }
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        let arrival = track.log.head() - 1;
        let is_silence = is_digital_silence(track, level);
        let is_unheard = track.voice.standing == Standing::Unheard;
        if track.voice.handle_silence(now, is_silence) {
            self.counters.silence_not_sent += 1;
            track.pause.begin(arrival);
        } else if is_unheard {
            self.counters.voice_not_heard += 1;
            track.pause.begin(arrival);
        } else {
            track.pause.end(arrival, !is_silence);
        }
    }

    /// A voice without a seat takes one, if one is free or it is louder than who has one.
    fn contend(&mut self, now: Instant, key: TrackKey, group: GroupId) {
        let seats = self.floor.seats;
        let heard = self.floor.heard(group);
        let loudness = |key: &TrackKey| {
            let track = self.tracks.get(*key);
            track.map_or(0, |track| track.voice.loudness_db(now))
        };
        let mut standing = Standing::Heard;
        if heard.len() < seats {
            heard.push(key);
        } else {
            let mine = loudness(&key);
            let quietest = heard.iter_mut().min_by_key(|its| loudness(its));
            let beaten = quietest.filter(|its| mine > loudness(its).saturating_add(MARGIN_DB));
            if let Some(seat) = beaten {
                let before = std::mem::replace(seat, key);
                if let Some(before) = self.tracks.get_mut(before) {
                    before.voice.standing = Standing::Unheard;
                    before.pause.begin(before.log.head());
                }
                self.counters.speaker_changes += 1;
            } else {
                standing = Standing::Unheard;
            }
        }
        if let Some(track) = self.tracks.get_mut(key) {
            track.voice.standing = standing;
        }
    }

    /// The track's subscribers are to be told of a packet, unless they are not to have it.
    pub(super) fn mark_dirty(&mut self, key: TrackKey) {
        if let Some(track) = self.tracks.get_mut(key)
            && !track.is_dirty
            && !track.pause.lasts()
        {
            track.is_dirty = true;
            self.dirty.push(key);
        }
    }
}

/// Whether the packet that came last is nothing but silence, and so small that it cannot be of a codec
/// that fills its packets whatever it hears. Never where a packet repeats others (RFC 2198).
fn is_digital_silence(track: &Track, level: Option<u8>) -> bool {
    let is_plain = |entry: &&Entry| {
        let format = track.format(entry.stamp.format);
        format.is_some_and(|format| format.payload == PayloadKind::Opaque)
    };
    let latest = track.log.latest().filter(is_plain);
    level == Some(DIGITAL_SILENCE)
        && latest.is_some_and(|entry| entry.payload_len() <= SILENCE_BYTES_MAX)
}
