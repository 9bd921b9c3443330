//! What was sent a moment ago, by its transport-wide number.

use crate::limits::SENT_REMEMBERED_MAX;

/// The cluster of a packet that belongs to no probe.
pub(super) const NO_CLUSTER: u8 = 0;

/// A packet that was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// When it left, in microseconds modulo 2^32.
    at_us: u32,
    /// Its size as a datagram.
    pub(super) bytes: u16,
    /// The probe that it belongs to, or [`NO_CLUSTER`].
    pub(super) cluster: u8,
    pub(super) fate: Fate,
}

/// What is known of a packet that was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing yet.
    #[default]
    Flying,
    /// The receiver said that it did not come; it may still.
    Lost,
    /// It arrived.
    Arrived,
}

/// The last packets that were sent.
#[derive(Debug)]
pub(super) struct History {
    ring: [Sent; SENT_REMEMBERED_MAX],
    /// Extended number of the next packet, and of the first that was sent.
    next: u64,
    first: u64,
}

impl History {
    /// Nothing was sent.
    pub(super) fn new() -> History {
        History {
            ring: [Sent::default(); SENT_REMEMBERED_MAX],
            next: 0,
            first: 0,
        }
    }

    /// Nothing that is remembered was sent, and this is the extended number of the next packet.
    pub(super) fn starting_at(next: u64) -> History {
        History {
            next,
            first: next,
            ..History::new()
        }
    }

    /// A packet leaves; returns its number.
    #[inline]
    pub(super) fn note(&mut self, now_us: i64, bytes: u16, cluster: u8) -> u16 {
        let number = self.next as u16;
        let sent = Sent {
            at_us: now_us as u32,
            bytes,
            cluster,
            fate: Fate::Flying,
        };
        if let Some(place) = self.ring.get_mut(place(number)) {
            *place = sent;
        }
        self.next += 1;
        number
    }

    /// The packet with this number, if it was sent and is remembered.
    pub(super) fn find(&mut self, number: u16) -> Option<&mut Sent> {
        let back = u64::from((self.next as u16).wrapping_sub(number));
        let remembered = (self.next - self.first).min(SENT_REMEMBERED_MAX as u64);
        if back == 0 || back > remembered {
            return None;
        }
        self.ring.get_mut(place(number))
    }

    /// When the packet that was sent after `count` others left, if it was sent; the oldest that is
    /// remembered instead of one that is not.
    pub(super) fn sent_us(&self, count: u64, now_us: i64) -> Option<i64> {
        let oldest = self.next.saturating_sub(SENT_REMEMBERED_MAX as u64);
        let index = count.max(oldest);
        let sent = self.ring.get(place(index as u16))?;
        (index < self.next).then(|| sent.at_us(now_us))
    }

    /// How many packets were sent.
    pub(super) fn count(&self) -> u64 {
        self.next
    }
}

impl Sent {
    /// When it left, in microseconds since the same zero as `now_us`.
    pub(super) fn at_us(&self, now_us: i64) -> i64 {
        now_us - i64::from((now_us as u32).wrapping_sub(self.at_us))
    }
}

#[inline]
fn place(number: u16) -> usize {
    usize::from(number) % SENT_REMEMBERED_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_found_until_its_place_is_taken() {
        let mut history = History::new();
        assert!(history.find(0).is_none() && history.find(65_535).is_none());
        // Past the wrap of numbers and, at 40 ms each, of microseconds in 32 bits.
        for index in 0..200_000_i64 {
            let number = history.note(index * 40_000, 1_000, NO_CLUSTER);
            assert_eq!(number, index as u16);
        }
        let now_us = 200_000 * 40_000;
        for back in 1..=SENT_REMEMBERED_MAX as i64 {
            let index = 200_000 - back;
            let sent = history.find(index as u16).unwrap();
            assert_eq!(sent.at_us(now_us), index * 40_000);
        }
        let index = 200_000 - SENT_REMEMBERED_MAX as i64 - 1;
        assert!(history.find(index as u16).is_none());
        assert!(history.find(200_000_u64 as u16).is_none());
    }
}
