//! Handshake messages out of fragments (RFC 6347 section 4.2.3), in bounded memory.

use super::record::{Fragment, Message};
use crate::limits::HANDSHAKE_FRAGMENT_BYTES_MAX;

/// Fragments that wait for their neighbours. When the bound is reached everything is forgotten: a
/// genuine peer sends its flight again.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    waiting: Vec<Part>,
    bytes: usize,
}

#[derive(Debug)]
struct Part {
    kind: u8,
    sequence: u16,
    length: usize,
    offset: usize,
    bytes: Vec<u8>,
}

/// What one waiting part costs beyond its bytes: many tiny fragments count as what they take.
const PART_OVERHEAD_BYTES: usize = size_of::<Part>();

impl Reassembly {
    /// Keeps a fragment. One that disagrees with its message's earlier fragments about type or
    /// length replaces them; a repeat adds nothing.
    pub(super) fn insert(&mut self, fragment: &Fragment<'_>) {
        if fragment.length > HANDSHAKE_FRAGMENT_BYTES_MAX {
            return;
        }
        self.retain(|part| {
            part.sequence != fragment.sequence
                || (part.kind == fragment.kind && part.length == fragment.length)
        });
        let known = self.waiting.iter().any(|part| {
            part.sequence == fragment.sequence
                && part.offset <= fragment.offset
                && part.offset + part.bytes.len() >= fragment.offset + fragment.part.len()
        });
        if known {
            return;
        }
        let cost = fragment.part.len() + PART_OVERHEAD_BYTES;
        if self.bytes + cost > HANDSHAKE_FRAGMENT_BYTES_MAX {
            self.retain(|_| false);
        }
        self.bytes += cost;
        self.waiting.push(Part {
            kind: fragment.kind,
            sequence: fragment.sequence,
            length: fragment.length,
            offset: fragment.offset,
            bytes: fragment.part.to_vec(),
        });
    }

    /// The message with this number, if all of it is there; its fragments are forgotten.
    pub(super) fn take(&mut self, sequence: u16) -> Option<Message> {
        let first = self.waiting.iter().find(|part| part.sequence == sequence)?;
        let (kind, length) = (first.kind, first.length);
        let mut body = Vec::with_capacity(length);
        while body.len() < length {
            let at = body.len();
            let next = self.waiting.iter().find_map(|part| {
                let covers = part.sequence == sequence && part.offset <= at;
                let from = at.checked_sub(part.offset).filter(|_| covers)?;
                part.bytes.get(from..).filter(|rest| !rest.is_empty())
            })?;
            body.extend_from_slice(next);
        }
        self.retain(|part| part.sequence != sequence);
        Some(Message {
            kind,
            sequence,
            body,
        })
    }

    /// Bytes that it holds, what they cost included.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }

    fn retain(&mut self, keep: impl Fn(&Part) -> bool) {
        self.waiting.retain(keep);
        self.bytes = self
            .waiting
            .iter()
            .map(|part| part.bytes.len() + PART_OVERHEAD_BYTES)
            .sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(sequence: u16, length: usize, offset: usize, part: &[u8]) -> Fragment<'_> {
        Fragment {
            kind: 1,
            sequence,
            length,
            offset,
            part,
        }
    }

    #[test]
    fn t_18_fragments_in_any_order_with_overlap_make_the_message() {
        let body: Vec<u8> = (0..100).collect();
        let mut reassembly = Reassembly::default();
        reassembly.insert(&fragment(0, 100, 60, &body[60..]));
        assert_eq!(reassembly.take(0), None);
        reassembly.insert(&fragment(0, 100, 0, &body[..40]));
        reassembly.insert(&fragment(0, 100, 0, &body[..40]));
        assert_eq!(reassembly.take(0), None, "a hole is left");
        reassembly.insert(&fragment(0, 100, 30, &body[30..70]));
        assert_eq!(reassembly.take(0).unwrap().body, body);
        assert_eq!(reassembly.bytes, 0);
    }

    #[test]
    fn t_18_memory_is_bounded_whatever_fragments_come() {
        let mut reassembly = Reassembly::default();
        for index in 0..100_000_usize {
            let length = 8_000;
            reassembly.insert(&fragment((index % 8) as u16, length, index % length, &[1]));
            assert!(reassembly.bytes <= HANDSHAKE_FRAGMENT_BYTES_MAX);
            assert!(reassembly.waiting.len() <= HANDSHAKE_FRAGMENT_BYTES_MAX / PART_OVERHEAD_BYTES);
        }
    }
}
