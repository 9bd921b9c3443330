//! Between the workers and the handshake threads.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::command::Command;
use crate::dtls::lane::{Carried, LaneError};
use crate::dtls::{Certificates, Lane};
use crate::event::DtlsInput;

/// Starts the handshake threads, which answer into the given queue of each worker, with associations that began in
/// another process.
pub(super) fn start(
    threads: usize,
    certificates: &Certificates,
    carried: Carried,
    workers: Vec<mpsc::Sender<Command>>,
) -> Result<Arc<Lane>, LaneError> {
    let deliver = move |worker: usize, command: Command| {
        let Some(worker) = workers.get(worker) else {
            return;
        };
        match worker.try_send(command) {
            // A worker that is gone needs nothing more, and DTLS sends a lost flight again.
            Ok(())
            | Err(TrySendError::Closed(_))
            | Err(TrySendError::Full(Command::DtlsTransmit { .. })) => {}
            // Keys and ends come once; the worker never waits for this thread, so this thread
            // may wait for the worker.
            Err(TrySendError::Full(command)) => _ = worker.blocking_send(command),
        }
    };
    Ok(Arc::new(Lane::resume(
        threads,
        certificates,
        carried,
        deliver,
    )?))
}

/// One worker's way to the handshake threads; never waits.
#[derive(Debug)]
pub(super) struct LaneSender {
    worker: usize,
    lane: Arc<Lane>,
    /// Datagrams that found no room; the peer sends them again.
    pub(super) lost: u64,
}

impl LaneSender {
    pub(super) fn new(worker: usize, lane: Arc<Lane>) -> LaneSender {
        LaneSender {
            worker,
            lane,
            lost: 0,
        }
    }

    /// Hands an input over; ends and beginnings of sessions are never lost.
    pub(super) fn push(&mut self, input: DtlsInput) {
        if !self.lane.try_send(self.worker, input) {
            self.lost += 1;
        }
    }
}
