//! Writes on their way: while some are being carried, others gather and leave together.
//!
//! The emulator tells every listener the whole result set after each commit, and production counts
//! requests, so two thousand answers at once must not be two thousand requests.

use std::collections::{BTreeSet, VecDeque};

use super::desk::WriteId;
use super::encoding;
use super::message::{Path, Write};

/// Requests on their way at once: enough to hide a round trip, few enough that writes gather.
pub(super) const IN_FLIGHT_MAX: usize = 4;

/// Writes in one request; the database takes 500.
const BATCH_LEN_MAX: usize = 200;

/// Bytes in one request, of the 10 MiB that the database takes.
const BATCH_BYTES_MAX: usize = 2 << 20;

/// Writes that wait, and how many requests are on their way.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<(WriteId, Write)>,
    in_flight: usize,
}

impl Outbox {
    /// One more write that waits.
    pub(super) fn push(&mut self, id: WriteId, write: Write) {
        self.waiting.push_back((id, write));
    }

    /// The next request to send, if one may leave now. No two of its writes are of one document.
    pub(super) fn next_batch(&mut self) -> Option<Vec<(WriteId, Write)>> {
        if self.in_flight >= IN_FLIGHT_MAX || self.waiting.is_empty() {
            return None;
        }
        let mut batch = Vec::new();
        let mut paths: BTreeSet<Path> = BTreeSet::new();
        let mut bytes = 0;
        while let Some((id, write)) = self.waiting.pop_front() {
            let size = encoding::size(&write);
            let fits = batch.len() < BATCH_LEN_MAX && bytes + size <= BATCH_BYTES_MAX;
            let first = batch.is_empty();
            if !(first || fits) || !paths.insert(write.path.clone()) {
                self.waiting.push_front((id, write));
                break;
            }
            bytes += size;
            batch.push((id, write));
        }
        self.in_flight += 1;
        Some(batch)
    }

    /// A request came back.
    pub(super) fn handle_done(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use signaling::firestore::{Fields, Value};

    use super::*;
    use crate::firestore::message::{Change, Precondition};

    fn write(id: &str, len: usize) -> Write {
        let fields = [("answer".to_owned(), Value::from("x".repeat(len)))];
        Write {
            path: Path::request(id),
            change: Change::Set(Fields::from(fields)),
            precondition: Precondition::None,
        }
    }

    fn push(outbox: &mut Outbox, count: u64, len: usize) {
        for id in 0..count {
            outbox.push(WriteId(id), write(&id.to_string(), len));
        }
    }

    #[test]
    fn writes_gather_while_requests_are_on_their_way() {
        let mut outbox = Outbox::default();
        for _ in 0..IN_FLIGHT_MAX {
            push(&mut outbox, 1, 10);
            assert_eq!(outbox.next_batch().unwrap().len(), 1);
        }
        push(&mut outbox, 450, 10);
        assert_eq!(outbox.next_batch(), None);
        let mut sizes = Vec::new();
        while sizes.len() < 3 {
            outbox.handle_done();
            sizes.push(outbox.next_batch().unwrap().len());
        }
        assert_eq!(sizes, [200, 200, 50]);
        outbox.handle_done();
        assert_eq!(outbox.next_batch(), None);
    }

    #[test]
    fn a_request_holds_no_document_twice_and_keeps_their_order() {
        let mut outbox = Outbox::default();
        for (id, document) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
            outbox.push(WriteId(id), write(document, 10));
        }
        let ids = |batch: Vec<(WriteId, Write)>| batch.iter().map(|(id, _)| id.0).collect();
        let first: Vec<u64> = ids(outbox.next_batch().unwrap());
        let second: Vec<u64> = ids(outbox.next_batch().unwrap());
        assert_eq!((first, second), (vec![1, 2], vec![3, 4]));
    }

    #[test]
    fn large_writes_travel_in_small_company() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 3, 3 << 20);
        push(&mut outbox, 3, 1 << 19);
        let mut sizes = Vec::new();
        while let Some(batch) = outbox.next_batch() {
            sizes.push(batch.len());
        }
        assert_eq!(sizes, [1, 1, 1, 3]);
    }
}
