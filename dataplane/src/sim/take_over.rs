//! A world whose engine is replaced while people talk, and what must never be sent twice.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use super::world::World;
use crate::dtls::Associations;
use crate::engine::{Engine, EngineConfig, EngineSnapshot, RestoreError};
use crate::id::SessionId;
use crate::limits::EGRESS_HOLD_MAX;
use crate::wire::{Protocol, classify};

/// Every index that was used of a client's keys.
#[derive(Debug, Default)]
pub(super) struct Indices {
    used: HashSet<(SocketAddr, u32, u32)>,
    /// How often one was used again.
    again: u64,
}

impl Indices {
    /// A datagram leaves for a client. Worlds are too short for numbers to wrap, and their profile is AES-GCM,
    /// where the index of a control packet comes last (RFC 7714 section 9.2).
    pub(super) fn handle_sent(&mut self, to: SocketAddr, datagram: &[u8]) {
        let word = |at: usize| {
            let bytes = datagram.get(at..)?.first_chunk()?;
            Some(u32::from_be_bytes(*bytes))
        };
        let used = match classify(datagram) {
            Some(Protocol::Rtp) => word(8).zip(word(0).map(|word| word & 0xffff)),
            Some(Protocol::Rtcp) => word(datagram.len() - 4).map(|index| (0, index)),
            Some(Protocol::Stun | Protocol::Dtls) | None => None,
        };
        if let Some((ssrc, index)) = used
            && !self.used.insert((to, ssrc, index))
        {
            self.again += 1;
        }
    }
}

impl World {
    /// From now on every index that the engine uses is noted.
    pub fn watch_indices(&mut self) {
        self.indices = Some(Indices::default());
    }

    /// How often the engine used an index of a key again.
    #[must_use]
    pub fn indices_used_again(&self) -> u64 {
        self.indices.as_ref().map_or(0, |indices| indices.again)
    }

    /// The engine lets go of what waits; its snapshot.
    pub fn snapshot(&mut self) -> Vec<u8> {
        self.engine.handle_take_over(self.now);
        self.drive_engine();
        self.engine.snapshot(self.now).encode()
    }

    /// Another engine goes on where this one ended, and other handshake threads.
    ///
    /// # Errors
    /// A snapshot that cannot be taken up: then this engine goes on.
    pub fn take_over(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let snapshot = EngineSnapshot::decode(snapshot)?;
        let carried: HashSet<SessionId> = snapshot.sessions().collect();
        let config = EngineConfig {
            epoch: (self.now, UNIX_EPOCH),
            seed: self.rng.next_u64(),
            sessions_max: 1_000,
            publisher_bitrate_bps_max: 5_000_000,
            hold_max: EGRESS_HOLD_MAX,
            audio_speakers: self.config.audio_speakers,
        };
        let engine = Engine::restore(config, self.now, snapshot)?;
        let mut associations = Associations::new(self.node.clone(), 1_000);
        for (session, association) in self.associations.snapshot() {
            if carried.contains(&session) {
                let is_whole = associations.restore(self.now, session, association);
                assert!(is_whole, "{session:?} was written down a moment ago");
            }
        }
        (self.engine, self.associations) = (engine, associations);
        self.engine.handle_load(self.config.load);
        // What was on its way between the two is lost, and comes again.
        self.handshakes.clear();
        self.drive_engine();
        Ok(())
    }

    /// Time passes and nobody reads what arrives, as between two processes.
    pub fn stand_still(&mut self, time: Duration) {
        let end = self.now + time;
        self.is_still = true;
        while self.step(end) {}
        self.is_still = false;
    }
}
