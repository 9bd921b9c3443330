//! Packet indices of a source that we receive: estimated and replay-checked (RFC 3711 sections 3.3.1, 3.3.2).

use serde::{Deserialize, Serialize};

/// Packets behind the newest that can still be accepted. RFC 3711 section 3.3.2 asks for at least 64;
/// a retransmission may be as late as a whole video log, [`VIDEO_LOG_PACKETS`](crate::limits::VIDEO_LOG_PACKETS).
const WINDOW_PACKETS: u64 = 1024;

const WORDS: usize = (WINDOW_PACKETS / 64) as usize;

const _: () = assert!(
    WINDOW_PACKETS as usize >= 2 * crate::limits::VIDEO_LOG_PACKETS,
    "a late retransmission is no replay"
);

/// What is known of the indices of one source. Call [`estimate`](SequenceWindow::estimate), then
/// [`is_fresh`](SequenceWindow::is_fresh), then authenticate, then [`accept`](SequenceWindow::accept):
/// a packet that is not authentic must leave no trace here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SequenceWindow {
    /// The highest index accepted.
    highest: Option<u64>,
    /// Bit `index % WINDOW_PACKETS`: accepted, for the window up to `highest`.
    seen: [u64; WORDS],
}

impl SequenceWindow {
    /// A source that nothing came from yet.
    #[must_use]
    pub const fn new() -> SequenceWindow {
        SequenceWindow {
            highest: None,
            seen: [0; WORDS],
        }
    }

    /// The 48-bit index that a packet numbered `sequence` has: the one nearest to the highest so far.
    ///
    /// The first packet of a source is taken to be in rollover 0 (RFC 3711 section 3.3.1), and nothing is
    /// before that rollover or after the last.
    #[inline]
    #[must_use]
    pub fn estimate(&self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else {
            return u64::from(sequence);
        };
        let rollover = highest >> 16;
        let distance = i32::from(sequence) - i32::from(highest as u16);
        let rollover = if distance > 0x8000 {
            rollover.saturating_sub(1)
        } else if distance < -0x8000 {
            (rollover + 1).min(u64::from(u32::MAX))
        } else {
            rollover
        };
        (rollover << 16) | u64::from(sequence)
    }

    /// Whether the index is new and not too old to tell.
    #[inline]
    #[must_use]
    pub fn is_fresh(&self, index: u64) -> bool {
        let Some(highest) = self.highest else {
            return true;
        };
        if index > highest {
            return true;
        }
        let (word, bit) = position(index);
        highest - index < WINDOW_PACKETS && self.seen.get(word).is_some_and(|seen| seen & bit == 0)
    }

    /// Remembers the index of an authentic packet that was fresh.
    #[inline]
    pub fn accept(&mut self, index: u64) {
        match self.highest {
            Some(highest) if index <= highest => {
                if highest - index >= WINDOW_PACKETS {
                    return;
                }
            }
            Some(highest) if index - highest < WINDOW_PACKETS => {
                for skipped in highest + 1..index {
                    self.mark(skipped, false);
                }
                self.highest = Some(index);
            }
            _ => {
                self.seen = [0; WORDS];
                self.highest = Some(index);
            }
        }
        self.mark(index, true);
    }

    /// The highest index accepted: sequence number in the low 16 bits, rollovers above.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    fn mark(&mut self, index: u64, seen: bool) {
        let (word, bit) = position(index);
        if let Some(word) = self.seen.get_mut(word) {
            *word = if seen { *word | bit } else { *word & !bit };
        }
    }
}

/// Where the bit of an index is.
fn position(index: u64) -> (usize, u64) {
    ((index / 64) as usize % WORDS, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::generator::Generator;

    const SEED: u64 = 0x5345_5155;

    /// Estimates, checks and accepts a packet; its index, or `None` for one that is not fresh.
    fn receive(window: &mut SequenceWindow, sequence: u16) -> Option<u64> {
        let index = window.estimate(sequence);
        window.is_fresh(index).then(|| {
            window.accept(index);
            index
        })
    }

    #[test]
    fn the_first_packet_is_in_rollover_0_wherever_it_begins() {
        for first in [0, 1, 0x7FFF, 0x8000, 0xFFFF] {
            let mut window = SequenceWindow::new();
            assert_eq!(receive(&mut window, first), Some(u64::from(first)));
            assert_eq!(receive(&mut window, first), None, "a replay");
            assert_eq!(window.highest(), Some(u64::from(first)));
        }
    }

    #[test]
    fn nothing_is_before_rollover_0() {
        let mut window = SequenceWindow::new();
        window.accept(5);
        assert_eq!(window.estimate(65_530), 65_530);
    }

    #[test]
    fn t_21_a_wrap_with_loss_and_late_packets_on_both_sides() {
        let mut window = SequenceWindow::new();
        assert_eq!(receive(&mut window, 65_000), Some(65_000));
        assert_eq!(receive(&mut window, 65_530), Some(65_530));
        // 65531 to 65535 and 0 to 2 are lost or late.
        assert_eq!(receive(&mut window, 3), Some(65_536 + 3));
        assert_eq!(
            receive(&mut window, 65_535),
            Some(65_535),
            "late, from before the wrap"
        );
        assert_eq!(receive(&mut window, 65_535), None);
        assert_eq!(receive(&mut window, 0), Some(65_536));
        assert_eq!(receive(&mut window, 65_530), None, "came before the wrap");
        assert_eq!(receive(&mut window, 2), Some(65_538));
        assert_eq!(receive(&mut window, 65_531), Some(65_531));
        assert_eq!(receive(&mut window, 3), None);
        assert_eq!(window.highest(), Some(65_539));
    }

    #[test]
    fn a_packet_as_late_as_the_whole_window_is_taken_and_an_older_one_is_not() {
        let mut window = SequenceWindow::new();
        window.accept(100_000);
        let oldest = 100_000 - (WINDOW_PACKETS - 1);
        assert!(window.is_fresh(oldest));
        assert!(!window.is_fresh(oldest - 1));
        window.accept(oldest);
        assert!(!window.is_fresh(oldest));
        // What is too old leaves no trace in the bit that it shares with a newer one.
        window.accept(99_990 - WINDOW_PACKETS);
        assert!(window.is_fresh(99_990));
    }

    #[test]
    fn a_jump_past_the_window_forgets_what_was_seen() {
        let mut window = SequenceWindow::new();
        for index in 0..2_000 {
            window.accept(index);
        }
        window.accept(2_000 + WINDOW_PACKETS);
        assert!(!window.is_fresh(2_000));
        assert!((2_001..2_000 + WINDOW_PACKETS).all(|index| window.is_fresh(index)));
    }

    #[test]
    fn the_last_rollover_does_not_begin_again() {
        let mut window = SequenceWindow::new();
        let last = (1u64 << 48) - 10;
        window.accept(last);
        assert_eq!(
            window.estimate(3) >> 16,
            u64::from(u32::MAX),
            "not in rollover 0"
        );
    }

    /// Loss, reordering and duplicates over many wraps, beside a set of everything accepted.
    #[test]
    fn t_21_a_long_and_bad_path_beside_an_oracle() {
        for seed in 0..8 {
            let mut generator = Generator::new(SEED + seed);
            let mut window = SequenceWindow::new();
            let mut accepted = std::collections::HashSet::new();
            let mut next = u64::from(generator.u16());
            let mut highest = next;
            for round in 0..60_000 {
                let late = if round == 0 {
                    0
                } else {
                    generator.below(1_500) as u64
                };
                let index = if generator.below(4) == 0 {
                    highest.saturating_sub(late)
                } else {
                    next
                };
                if index == next {
                    let gap = if generator.below(50) == 0 { 2_000 } else { 4 };
                    next += 1 + generator.below(gap) as u64;
                }
                let estimate = window.estimate(index as u16);
                assert_eq!(estimate, index);
                let fresh = index > highest
                    || (highest - index < WINDOW_PACKETS && !accepted.contains(&index));
                assert_eq!(window.is_fresh(estimate), fresh);
                if fresh {
                    window.accept(index);
                    accepted.insert(index);
                    highest = highest.max(index);
                }
            }
            assert!(highest > 1 << 18, "several wraps");
        }
    }
}
