//! Receivers that begin with the last key frame and all that followed, of publishers that give none when asked.
//!
//! The track's log keeps that group ([`super::log`]). What a newcomer reads of it came some time ago: it is not late for
//! a while ([`super::thinning`]), and leaves at a pace until the receiver's network is known ([`super::downlink`]).

use std::time::Instant;

use super::Engine;
use super::sender::SenderKey;
use super::thinning::Thinning;
use super::track::TrackKey;
use crate::limits::GROUP_CATCH_UP;

impl Engine {
    /// Has a sender that begins with a track begin with its group, if it is there; whether it is. A group that another
    /// worker is about to hand over is hurried along like one that is here.
    pub(super) fn begin_with_group(&mut self, now: Instant, key: SenderKey) -> bool {
        let Some(sender) = self.senders.get_mut(key) else {
            return false;
        };
        let Some(source) = sender.source.as_mut().filter(|source| !source.is_off) else {
            return false;
        };
        let track_key = source.track;
        let log = self.tracks.get(track_key).map(|track| &track.log);
        let Some(log) = log.filter(|log| log.keeps_group()) else {
            return false;
        };
        let group = log.group(now);
        source.cursor = group.unwrap_or(source.cursor);
        self.hurry(now, key, track_key);
        group.is_some()
    }

    /// What a sender reads of a track came before, and is to reach its receiver fast and whole.
    pub(super) fn hurry(&mut self, now: Instant, key: SenderKey, track: TrackKey) {
        let until = now + GROUP_CATCH_UP;
        let Some(sender) = self.senders.get_mut(key) else {
            return;
        };
        sender.thinning = Thinning::default();
        sender.standing.excused_until = Some(until);
        let session = self.sessions.get_mut(sender.session);
        if let Some(downlink) = session.and_then(|session| session.downlink.as_mut()) {
            downlink.begin_backlog(now, until);
        }
        // It does not wait for the next packet.
        self.mark_dirty(track);
    }
}
