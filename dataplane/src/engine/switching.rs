//! From one encoding of a stream to another: asked for, at a key frame, without a seam.
//!
//! A receiver that is to have another encoding *joins* it: a key frame is asked for, and when that comes
//! the receiver reads what is left of the old log and then the new one from the key frame on. Its numbers,
//! timestamps and picture ids go on as if the stream were one.

use std::time::Instant;

use super::Engine;
use super::continuity::continuation;
use super::layers::Most;
use super::sender::{Sender, SenderKey};
use super::slab::Slab;
use super::track::{Track, TrackKey};

/// The encoding that a sender reads next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub(super) track: TrackKey,
    /// The layers of it that are sent.
    most: Most,
    /// Arrival number of its key frame.
    cursor: u64,
    /// Arrival number of the first packet in the old log that is not sent any more.
    until: u64,
}

/// What a sender is to send of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Nothing.
    Off,
    /// An encoding, and layers of it; what of the old one is still sent until it comes.
    Encoding {
        track: TrackKey,
        most: Most,
        until_then: UntilThen,
    },
}

/// What is sent until the key frame of another encoding comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UntilThen {
    /// What was sent.
    Same,
    /// Of that, only the frames that cannot be missed: it has become too heavy.
    Thinned,
    /// Nothing, because even those are too heavy: the key frame would wait behind them.
    Nothing,
}

impl Engine {
    /// A sender is to send this from now on, or as soon as it can.
    pub(super) fn choose(&mut self, now: Instant, key: SenderKey, choice: Choice) {
        let Some(sender) = self.senders.get_mut(key) else {
            return;
        };
        let session = sender.session;
        let Some(source) = &mut sender.source else {
            return;
        };
        let Choice::Encoding {
            track: wanted,
            most,
            until_then,
        } = choice
        else {
            source.is_off = true;
            for track in source.leave() {
                self.forget_subscriber(key, track);
            }
            return;
        };
        let reads = source.next.as_ref().map_or(source.track, |next| next.track);
        let stays = reads == wanted && !source.is_off;
        let left = source.joining.take().map(|(track, _)| track);
        if stays {
            source.layers.aim(most);
        } else {
            source.joining = Some((wanted, most));
        }
        if !stays || source.layers.falls_by_keyframe() {
            match until_then {
                UntilThen::Same => {}
                UntilThen::Thinned => source.layers.thin(),
                UntilThen::Nothing => source.layers.pause(),
            }
        }
        let is_off = source.is_off;
        let needs_keyframe = !stays || source.layers.waits_for_keyframe();
        if left == Some(wanted) && !stays {
            return;
        }
        if let Some(track) = left.and_then(|left| self.tracks.get_mut(left)) {
            track.joining.retain(|its| *its != key);
        }
        if !needs_keyframe {
            return;
        }
        if !stays && is_off && self.join_group(now, key, wanted) {
            return;
        }
        let Some(track) = self.tracks.get_mut(wanted) else {
            return;
        };
        if !stays {
            let is_blind = track
                .latest_format()
                .is_some_and(|format| !track.knows_keyframes(format));
            track.joining.push(key);
            if is_blind {
                // Its key frames cannot be told: what comes next has to do.
                self.join(wanted, track_head(&self.tracks, wanted));
            }
        }
        if self
            .sessions
            .get(session)
            .is_some_and(|session| session.is_connected)
        {
            self.request_keyframe(now, wanted);
        }
    }

    /// A key frame of a track begins with the packet that came last.
    pub(super) fn on_keyframe(&mut self, key: TrackKey) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if track.is_fed {
            track.keyframe.handle_keyframe();
        }
        let head = track.log.head();
        self.join(key, head.saturating_sub(1));
    }

    /// A sender that sent nothing joins the track at its last key frame, if all that followed is there; whether it did.
    fn join_group(&mut self, now: Instant, key: SenderKey, wanted: TrackKey) -> bool {
        let track = self.tracks.get(wanted);
        let Some(cursor) = track.and_then(|track| track.log.group(now)) else {
            return false;
        };
        self.join_one(key, wanted, cursor);
        self.hurry(now, key, wanted);
        true
    }

    /// Everybody who waits for the track reads it from `cursor` on.
    fn join(&mut self, key: TrackKey, cursor: u64) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        if track.joining.is_empty() {
            return;
        }
        let mut joining = std::mem::take(&mut track.joining);
        for sender_key in joining.drain(..) {
            self.join_one(sender_key, key, cursor);
        }
        if let Some(track) = self.tracks.get_mut(key) {
            // Its memory is used again.
            track.joining = joining;
        }
    }

    fn join_one(&mut self, key: SenderKey, track: TrackKey, cursor: u64) {
        let Some(sender) = self.senders.get_mut(key) else {
            return;
        };
        let session = sender.session;
        let Some(source) = &mut sender.source else {
            return;
        };
        let Some((_, most)) = source.joining.take_if(|(joined, _)| *joined == track) else {
            return;
        };
        let before = source.next.take().map_or(source.track, |next| next.track);
        // One that was off has nothing left to read.
        let until = if std::mem::take(&mut source.is_off) {
            0
        } else {
            track_head(&self.tracks, source.track)
        };
        source.next = Some(Box::new(Next {
            track,
            most,
            cursor,
            until,
        }));
        self.forget_subscriber(key, before);
        if let Some(track) = self.tracks.get_mut(track) {
            track.subscribers.push((key, session));
        }
        self.counters.layer_switches += 1;
    }

    fn forget_subscriber(&mut self, key: SenderKey, track: TrackKey) {
        if let Some(track) = self.tracks.get_mut(track) {
            track.subscribers.retain(|(its, _)| *its != key);
            track.joining.retain(|its| *its != key);
        }
    }
}

fn track_head(tracks: &Slab<Track>, key: TrackKey) -> u64 {
    tracks.get(key).map_or(0, |track| track.log.head())
}

impl Next {
    /// Up to which arrival number the old log is read.
    pub(super) fn until(&self) -> u64 {
        self.until
    }
}

/// Goes over to the encoding that the sender reads next, once it has read what it was to read of the
/// old one; whether it did.
pub(super) fn go_over(sender: &mut Sender, tracks: &Slab<Track>) -> bool {
    let Some(source) = &mut sender.source else {
        return false;
    };
    let Some(next) = source.next.take() else {
        return false;
    };
    let continuation = tracks
        .get(source.track)
        .zip(tracks.get(next.track))
        .map(|(before, after)| continuation(&sender.numbering, before, after, next.cursor));
    source.track = next.track;
    source.cursor = next.cursor;
    source.layers.begin(next.most);
    sender.change_track(continuation.unwrap_or_default());
    true
}
