//! Datagrams that wait to be sent besides media: answers to checks, DTLS, RTCP.

use std::collections::VecDeque;

use crate::limits::{CONTROL_QUEUE_LEN, DATAGRAM_BYTES_MAX};
use crate::transmit::{Path, Transmit};

/// Buffers that are there from the start: what a turn of ordinary reports and answers needs.
const RESERVED: usize = 32;

/// A bounded queue whose buffers are used again.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: VecDeque<(Path, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl Outbox {
    /// An empty queue.
    pub(super) fn new() -> Outbox {
        Outbox {
            queue: VecDeque::with_capacity(RESERVED),
            spare: std::iter::repeat_with(|| Vec::with_capacity(DATAGRAM_BYTES_MAX))
                .take(RESERVED)
                .collect(),
        }
    }

    /// Queues what `write` puts at the start of its buffer, which is as large as a datagram may
    /// be, and says how long it is. `false` when there was no room, or `write` said `None`.
    pub(super) fn push_with(
        &mut self,
        path: Path,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        if self.queue.len() >= CONTROL_QUEUE_LEN {
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.resize(DATAGRAM_BYTES_MAX, 0);
        let written = write(&mut buffer);
        buffer.truncate(written.unwrap_or(0));
        if buffer.is_empty() {
            self.spare.push(buffer);
            return written.is_some();
        }
        self.queue.push_back((path, buffer));
        true
    }

    /// Queues a copy of `bytes`.
    pub(super) fn push(&mut self, path: Path, bytes: &[u8]) -> bool {
        self.push_with(path, |buffer| {
            buffer.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(bytes.len())
        })
    }

    /// Datagrams that wait.
    #[cfg(feature = "sim")]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Writes the oldest datagram into `slot`.
    pub(super) fn poll(&mut self, slot: &mut [u8]) -> Option<Transmit> {
        let (path, buffer) = self.queue.pop_front()?;
        let len = buffer.len();
        if let Some(room) = slot.get_mut(..len) {
            room.copy_from_slice(&buffer);
        }
        self.spare.push(buffer);
        Some(Transmit {
            path,
            len,
            segment: len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_first_in_first_out() {
        let path = Path::udp("192.0.2.1:9".parse().unwrap());
        let mut outbox = Outbox::new();
        assert!(outbox.push(path, b"one") && outbox.push(path, b"second"));
        assert!(!outbox.push(path, &[0; DATAGRAM_BYTES_MAX + 1]));
        let mut slot = [0; 100];
        assert_eq!(
            outbox.poll(&mut slot),
            Some(Transmit {
                path,
                len: 3,
                segment: 3
            })
        );
        assert_eq!(&slot[..3], b"one");
        assert_eq!(outbox.poll(&mut slot).map(|t| t.len), Some(6));
        assert_eq!(outbox.poll(&mut slot), None);
        let taken = (0..2 * CONTROL_QUEUE_LEN)
            .filter(|_| outbox.push(path, b"x"))
            .count();
        assert_eq!(taken, CONTROL_QUEUE_LEN);
    }
}
