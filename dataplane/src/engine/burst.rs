//! How packets that wait for one subscriber become one send.
//!
//! A trip through the UDP stack costs far more than a packet, and one send (GSO) carries packets
//! of one size, of which only the last may be shorter. Encoders cut a frame into packets that
//! differ by a byte or two, so a few bytes of RTP padding (RFC 3550 section 5.1) keep a frame whole.

use crate::limits::{BURST_BYTES_MAX, BURST_PADDING_MAX, BURST_SEGMENTS_MAX};

/// A packet that could join a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its size as a datagram, without padding.
    pub(super) len: usize,
    /// Whether it may be padded.
    pub(super) paddable: bool,
}

/// A burst that grows piece by piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Burst {
    /// Packets in it.
    pub(super) pieces: usize,
    /// The size of each but the last.
    pub(super) segment: usize,
    /// The shortest packet in it.
    shortest: usize,
    /// Whether a packet in it must have exactly the segment's size.
    fixed: bool,
    /// Whether its last packet is shorter than a segment and stays so.
    closed: bool,
}

impl Burst {
    /// Adds a piece, if it fits; once one did not, the burst is done.
    pub(super) fn push(&mut self, piece: Piece) -> bool {
        let segment = self.segment.max(piece.len);
        let fits = !self.closed
            && self.pieces < BURST_SEGMENTS_MAX
            && (self.pieces + 1) * segment <= BURST_BYTES_MAX;
        if !fits {
            return false;
        }
        if self.pieces == 0 {
            *self = Burst {
                pieces: 1,
                segment: piece.len,
                shortest: piece.len,
                fixed: !piece.paddable,
                closed: false,
            };
            return true;
        }
        let within = |long: usize, short: usize| long - short <= BURST_PADDING_MAX;
        if piece.len > self.segment {
            if self.fixed || !within(piece.len, self.shortest) {
                return false;
            }
            self.segment = piece.len;
            self.fixed = !piece.paddable;
        } else if piece.len < self.segment {
            if piece.paddable && within(self.segment, piece.len) {
                self.shortest = self.shortest.min(piece.len);
            } else {
                self.closed = true;
            }
        } else {
            self.fixed |= !piece.paddable;
        }
        self.pieces += 1;
        true
    }

    /// How much padding the piece at `index` gets.
    pub(super) fn padding(&self, index: usize, piece: Piece) -> usize {
        let is_short_end = index + 1 == self.pieces && self.closed;
        if is_short_end || !piece.paddable {
            0
        } else {
            self.segment.saturating_sub(piece.len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pad(len: usize) -> Piece {
        Piece {
            len,
            paddable: true,
        }
    }

    fn exact(len: usize) -> Piece {
        Piece {
            len,
            paddable: false,
        }
    }

    fn plan(pieces: &[Piece]) -> (usize, usize) {
        let mut burst = Burst::default();
        for &piece in pieces {
            if !burst.push(piece) {
                break;
            }
        }
        for (index, &piece) in pieces.iter().take(burst.pieces).enumerate() {
            let len = piece.len + burst.padding(index, piece);
            let is_last = index + 1 == burst.pieces;
            assert!(
                len == burst.segment || (is_last && len < burst.segment),
                "{pieces:?}"
            );
        }
        (burst.pieces, burst.segment)
    }

    #[test]
    fn a_frame_of_nearly_equal_packets_is_one_burst() {
        assert_eq!(plan(&[pad(941), pad(941), pad(942), pad(942)]), (4, 942));
        assert_eq!(plan(&[pad(942), pad(941), pad(942)]), (3, 942));
        assert_eq!(plan(&[pad(942), pad(400), pad(942)]), (2, 942));
        assert_eq!(plan(&[pad(926), pad(942), pad(943)]), (2, 942));
    }

    #[test]
    fn a_packet_that_must_not_be_padded_fixes_the_size() {
        assert_eq!(plan(&[exact(100), exact(100), exact(101)]), (2, 100));
        assert_eq!(plan(&[exact(100), exact(90), exact(90)]), (2, 100));
        assert_eq!(plan(&[pad(99), exact(100), pad(101)]), (2, 100));
        assert_eq!(plan(&[pad(99), exact(100), pad(98), pad(100)]), (4, 100));
        assert_eq!(plan(&[pad(1000), exact(90)]), (2, 1000));
    }

    #[test]
    fn segments_and_bytes_are_bounded() {
        assert_eq!(plan(&[pad(100); 100]).0, BURST_SEGMENTS_MAX);
        assert_eq!(plan(&[pad(1200); 100]).0, BURST_BYTES_MAX / 1200);
    }

    #[test]
    fn any_sizes_make_a_valid_burst() {
        let mut random = super::super::random::Random::new(7);
        for _ in 0..2_000 {
            let pieces: Vec<Piece> = (0..12)
                .map(|_| Piece {
                    len: 1_000 + (random.next() % 24) as usize,
                    paddable: !random.next().is_multiple_of(4),
                })
                .collect();
            assert!(plan(&pieces).0 >= 1);
        }
    }
}
