//! Feeds: publishers without a transport, whose packets come from this process in the clear.
//!
//! A feed is a session with tracks like a browser's, and its packets take the same way from their source on
//! ([`super::ingest`]). What it has not is a path and keys, and without them nothing can be sent to it.

use std::time::Instant;

use super::Engine;
use super::intake::Intake;
use super::session::{Session, SessionKey};
use crate::command::FeedSpec;
use crate::id::SessionId;
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::wire::{Protocol, classify};

impl Engine {
    /// Expects the packets of a feed. There is no regular round for it: it is told nothing, and its silence ends
    /// nothing.
    pub(super) fn open_feed(&mut self, now: Instant, spec: &FeedSpec) {
        if self.names.sessions.contains_key(&spec.session) {
            self.counters.command_refused += 1;
            return;
        }
        if !self.has_room_for(spec.session) {
            return;
        }
        let intake = Intake::new(now, self.intake_max);
        let session = Session::feed(now, spec.session, intake);
        let key = self.sessions.insert(session);
        self.names.sessions.insert(spec.session, key);
    }

    /// See [`Engine::handle_feed`].
    pub(super) fn take_fed(
        &mut self,
        now: Instant,
        session: SessionId,
        arrived: Instant,
        packet: &[u8],
    ) {
        let key = self.names.sessions.get(&session).copied();
        let is_feed = |key: &SessionKey| self.sessions.get(*key).is_some_and(|its| its.is_feed);
        let Some(key) = key.filter(is_feed) else {
            self.counters.drop_feed_unknown += 1;
            return;
        };
        if packet.len() > DATAGRAM_BYTES_MAX {
            self.counters.drop_too_large += 1;
            return;
        }
        let arrived = arrived.min(now);
        match classify(packet) {
            Some(Protocol::Rtp) => self.handle_rtp(arrived, key, packet),
            Some(Protocol::Rtcp) => self.handle_fed_rtcp(arrived, key, packet),
            Some(Protocol::Stun | Protocol::Dtls) | None => {
                self.counters.drop_unknown_protocol += 1;
            }
        }
    }

    fn handle_fed_rtcp(&mut self, arrived: Instant, key: SessionKey, packet: &[u8]) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.intake.take(arrived, packet.len(), self.intake_max) {
            self.read_compound(arrived, key, packet);
        } else {
            self.counters.drop_over_rate += 1;
        }
    }
}
