//! Packet indices of a source that we receive: estimated and replay-checked (RFC 3711 sections 3.3.1, 3.3.2).

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
#[derive(Clone, Debug, Default)]
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
