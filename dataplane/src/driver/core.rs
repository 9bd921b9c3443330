//! What a worker drives: the engine, or in tests something smaller.

use std::time::{Duration, Instant};

use crate::command::Command;
use crate::engine::Engine;
use crate::event::{DtlsInput, Event};
use crate::id::SessionId;
use crate::load::Load;
use crate::relay::RelaySlot;
use crate::transmit::{Path, Transmit};

/// The engine's inputs and outputs, as [`Engine`] documents them.
pub(super) trait Core {
    fn handle_datagrams(&mut self, now: Instant, path: Path, bytes: &mut [u8], segment: usize);
    /// What echoes has no feeds.
    fn handle_feed(&mut self, _now: Instant, _session: SessionId, _arrived: Instant, _: &[u8]) {}
    fn handle_command(&mut self, now: Instant, command: Command);
    fn handle_load(&mut self, load: Load);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_transmit(&mut self, now: Instant, slot: &mut [u8]) -> Option<Transmit>;
    /// What echoes has nothing to say to others.
    fn handle_relay(&mut self, _now: Instant, _slot: &RelaySlot) {}
    fn poll_relay(&mut self, _now: Instant, _to: usize, _slot: &mut RelaySlot) -> bool {
        false
    }
    /// What echoes waits for nothing, and has nothing to hand on.
    fn handle_take_over(&mut self, _now: Instant) {}
    fn snapshot(&self, _now: Instant) -> Vec<u8> {
        Vec::new()
    }
    fn poll_dtls(&mut self) -> Option<DtlsInput>;
    fn poll_event(&mut self) -> Option<Event>;
    fn poll_timeout(&self) -> Option<Instant>;
    /// What echoes is awake for all that arrives.
    fn rest(&self) -> Duration {
        Duration::ZERO
    }
}

impl Core for Engine {
    fn handle_datagrams(&mut self, now: Instant, path: Path, bytes: &mut [u8], segment: usize) {
        Engine::handle_datagrams(self, now, path, bytes, segment);
    }

    fn handle_feed(&mut self, now: Instant, session: SessionId, arrived: Instant, packet: &[u8]) {
        Engine::handle_feed(self, now, session, arrived, packet);
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        Engine::handle_command(self, now, command);
    }

    fn handle_load(&mut self, load: Load) {
        Engine::handle_load(self, load);
    }

    fn handle_timeout(&mut self, now: Instant) {
        Engine::handle_timeout(self, now);
    }

    fn poll_transmit(&mut self, now: Instant, slot: &mut [u8]) -> Option<Transmit> {
        Engine::poll_transmit(self, now, slot)
    }

    fn handle_relay(&mut self, now: Instant, slot: &RelaySlot) {
        Engine::handle_relay(self, now, slot);
    }

    fn poll_relay(&mut self, now: Instant, to: usize, slot: &mut RelaySlot) -> bool {
        Engine::poll_relay(self, now, to, slot)
    }

    fn handle_take_over(&mut self, now: Instant) {
        Engine::handle_take_over(self, now);
    }

    fn snapshot(&self, now: Instant) -> Vec<u8> {
        Engine::snapshot(self, now).encode()
    }

    fn poll_dtls(&mut self) -> Option<DtlsInput> {
        Engine::poll_dtls(self)
    }

    fn poll_event(&mut self) -> Option<Event> {
        Engine::poll_event(self)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Engine::poll_timeout(self)
    }

    fn rest(&self) -> Duration {
        Engine::rest(self)
    }
}
