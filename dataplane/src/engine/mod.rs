//! The forwarding engine: a state machine without IO.

use std::time::{Instant, SystemTime};

use crate::command::Command;
use crate::event::{DtlsInput, Event};
use crate::transmit::{Path, Transmit};

/// What an engine is told at birth.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// One instant on both clocks, for NTP timestamps in sender reports.
    pub epoch: (Instant, SystemTime),
    /// Seed of everything random in it: SSRC-independent numbers, hash keys. From the system's
    /// generator in production, a constant in simulations.
    pub seed: u64,
    /// Most sessions at once.
    pub sessions_max: usize,
    /// Bits per second that publishers are told they may send (REMB), each.
    pub publisher_bitrate_bps_max: u64,
}

/// The forwarding engine of one worker.
///
/// Call order: any `handle_*` with the current time, then drain `poll_transmit`, `poll_dtls` and
/// `poll_event` until each returns `None`, then wait until `poll_timeout` or the next input.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// An engine with no sessions.
    #[must_use]
    pub fn new(_config: EngineConfig) -> Engine {
        Engine {}
    }

    /// Takes a run of datagrams from one path, laid end to end, each `segment` bytes long but
    /// the last, which may be shorter (what GRO delivers). Packets are decrypted out of `bytes`,
    /// whose content is unspecified afterwards.
    pub fn handle_datagrams(
        &mut self,
        _now: Instant,
        _path: Path,
        _bytes: &mut [u8],
        _segment: usize,
    ) {
    }

    /// Carries out a request.
    pub fn handle_command(&mut self, _now: Instant, _command: Command) {}

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Writes the next burst into `slot`, which must hold at least
    /// [`BURST_BYTES_MAX`](crate::limits::BURST_BYTES_MAX) bytes.
    pub fn poll_transmit(&mut self, _now: Instant, _slot: &mut [u8]) -> Option<Transmit> {
        None
    }

    /// The next input for the handshake threads.
    pub fn poll_dtls(&mut self) -> Option<DtlsInput> {
        None
    }

    /// The next thing to tell control.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// When `handle_timeout` wants to be called, if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
