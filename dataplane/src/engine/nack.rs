//! Which packets a publisher is asked for again (RFC 4585 section 6.2.1).

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::limits::NACKS_PENDING_MAX;

/// How long a missing packet may still come by itself: packets overtake each other by little.
const REORDER_GRACE: Duration = Duration::from_millis(8);

/// The shortest time between two requests for one packet.
const REPEAT_MIN: Duration = Duration::from_millis(40);

/// Requests for one packet.
const TRIES_MAX: u8 = 10;

/// After this long a packet is of no use to a decoder any more.
const AGE_MAX: Duration = Duration::from_secs(1);

/// The packets of one source that are missing.
#[derive(Debug, Default)]
pub(super) struct NackList {
    /// In order of sequence numbers.
    missing: Vec<Missing>,
    highest: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    sequence: u64,
    since: Instant,
    due: Instant,
    tries: u8,
}

/// What goes on in another process, which asks for everything that is missing as if it had just noticed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NackSnapshot {
    missing: Vec<u64>,
    highest: Option<u64>,
}

/// What an arrival means for the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Nothing is missing that was not before.
    Expected,
    /// Packets before it are missing now.
    Gap,
    /// So much is missing that asking again for each would be worse than a key frame.
    Hopeless,
}

impl NackList {
    /// What another process goes on with.
    pub(super) fn snapshot(&self) -> NackSnapshot {
        NackSnapshot {
            missing: self
                .missing
                .iter()
                .map(|missing| missing.sequence)
                .collect(),
            highest: self.highest,
        }
    }

    /// Goes on where another process ended.
    pub(super) fn restore(now: Instant, snapshot: &NackSnapshot) -> NackList {
        let due = now + REORDER_GRACE;
        let missing = snapshot.missing.iter().take(NACKS_PENDING_MAX);
        let missing = missing.map(|sequence| Missing {
            sequence: *sequence,
            since: now,
            due,
            tries: 0,
        });
        NackList {
            missing: missing.collect(),
            highest: snapshot.highest,
        }
    }

    /// A packet arrived, by whatever way.
    pub(super) fn handle_packet(&mut self, now: Instant, sequence: u64) -> Arrival {
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return Arrival::Expected;
        };
        if sequence <= highest {
            if let Ok(index) = self.missing.binary_search_by_key(&sequence, |m| m.sequence) {
                self.missing.remove(index);
            }
            return Arrival::Expected;
        }
        self.highest = Some(sequence);
        let gap = sequence - highest - 1;
        if gap == 0 {
            return Arrival::Expected;
        }
        if gap as usize + self.missing.len() > NACKS_PENDING_MAX {
            self.missing.clear();
            return Arrival::Hopeless;
        }
        if self.missing.capacity() == 0 {
            self.missing.reserve_exact(NACKS_PENDING_MAX);
        }
        let due = now + REORDER_GRACE;
        self.missing
            .extend((highest + 1..sequence).map(|sequence| Missing {
                sequence,
                since: now,
                due,
                tries: 0,
            }));
        Arrival::Gap
    }

    /// Writes the low 16 bits of the numbers to ask for now, in order; returns how many there
    /// are. Those that do not fit stay due.
    pub(super) fn take_due(&mut self, now: Instant, rtt: Duration, out: &mut [u16]) -> usize {
        self.missing
            .retain(|m| m.tries < TRIES_MAX && now.saturating_duration_since(m.since) < AGE_MAX);
        let mut count = 0;
        let due = self.missing.iter_mut().filter(|missing| missing.due <= now);
        for (missing, place) in due.zip(out) {
            *place = missing.sequence as u16;
            missing.tries += 1;
            missing.due = now + rtt.max(REPEAT_MIN);
            count += 1;
        }
        count
    }

    /// When the next request is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.missing.iter().map(|missing| missing.due).min()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    fn due(list: &mut NackList, now: Instant) -> Vec<u16> {
        let mut out = [0; 64];
        let count = list.take_due(now, Duration::from_millis(60), &mut out);
        out[..count].to_vec()
    }

    #[test]
    fn asks_after_a_grace_repeats_and_gives_up() {
        let (mut list, start) = (NackList::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(list.handle_packet(at(0), 65_534), Arrival::Expected);
        assert_eq!(list.handle_packet(at(0), 65_538), Arrival::Gap);
        assert_eq!(list.handle_packet(at(1), 65_536), Arrival::Expected);
        assert!(due(&mut list, at(7)).is_empty());
        assert_eq!(due(&mut list, at(8)), [65_535, 1]);
        assert_eq!(list.due(), Some(at(68)));
        assert_eq!(list.handle_packet(at(30), 65_537), Arrival::Expected);
        assert!(due(&mut list, at(67)).is_empty());
        let asked: Vec<u64> = (68..3_000)
            .filter(|&ms| !due(&mut list, at(ms)).is_empty())
            .collect();
        assert_eq!(asked, [68, 128, 188, 248, 308, 368, 428, 488, 548]);
        assert_eq!(list.due(), None);
    }

    #[test]
    fn a_hole_too_large_is_not_asked_for() {
        let (mut list, now) = (NackList::default(), Instant::now());
        let _ = list.handle_packet(now, 1);
        let far = 3 + NACKS_PENDING_MAX as u64;
        assert_eq!(list.handle_packet(now, far), Arrival::Hopeless);
        assert_eq!(list.due(), None);
    }
}
