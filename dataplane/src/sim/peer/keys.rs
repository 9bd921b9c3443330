//! A peer's keys, whoever agreed on them, and how often it shows that it lives.

use std::time::{Duration, Instant};

use super::Peer;
use crate::command::SrtpKeys;
use crate::sim::protection::Protection;

impl Peer {
    /// Makes no handshake: keys will come by [`Peer::handle_keys`]. For worlds with so many
    /// connections that handshakes would be all that they have time for.
    pub fn await_keys(&mut self) {
        self.is_given_keys = true;
    }

    /// Takes keys as if a handshake had just agreed on them.
    pub fn handle_keys(&mut self, now: Instant, keys: &SrtpKeys) {
        self.on_keys(now, keys);
    }

    /// When a check of its was last answered; before the first there can be no handshake.
    #[must_use]
    pub fn answered_at(&self) -> Option<Instant> {
        self.checks.answered_at
    }

    /// Keeps consent (RFC 7675) by a check this often, once it is connected.
    pub fn keep_consent_every(&mut self, pace: Duration) {
        self.checks.keep_consent_every(pace);
    }

    pub(super) fn on_keys(&mut self, now: Instant, keys: &SrtpKeys) {
        self.protection = Protection::new(keys);
        self.connected_at = Some(now);
        self.report_at = now;
        self.checks.slow_down();
        for publication in self.publications.values_mut() {
            publication.start(now);
        }
    }
}
