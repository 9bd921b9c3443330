//! How packets that wait for one subscriber become one send.
//!
//! A trip through the UDP stack costs far more than a packet, and one send (GSO) carries packets
//! of one size, of which only the last may be shorter. Encoders cut a frame into packets that
//! differ by a byte or two, and voices make packets of 30 to 130 bytes, so RTP padding (RFC 3550
//! section 5.1) joins what would not fit otherwise, where it costs less than the sends that it saves.

use crate::limits::{BURST_BYTES_MAX, BURST_PADDING_MAX, BURST_SEGMENTS_MAX};

/// Most padding that one packet can have: its length is one byte (RFC 3550 section 5.1).
const PADDING_FIELD_MAX: usize = 255;

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
    /// Whether a packet in it must keep its size.
    rigid: bool,
    /// Its last packet: shorter than a segment for as long as none follows.
    last: Option<Piece>,
}

impl Burst {
    /// Adds a piece, if it fits and joining costs less than a send of its own; once one was not
    /// added, the burst is done.
    pub(super) fn push(&mut self, piece: Piece) -> bool {
        // One more of the size that all of them have, as in most frames.
        let is_alike = self.last.is_some_and(|last| last.len == piece.len)
            && piece.len == self.segment
            && piece.paddable != self.rigid;
        if is_alike && self.has_room(piece.len) {
            self.pieces += 1;
            self.last = Some(piece);
            return true;
        }
        let segment = self.segment.max(piece.len);
        if let Some(last) = self.last {
            let fits = self.has_room(segment);
            // All that is in it gets the new size, and the last one is no longer the last.
            let growth = segment - self.segment;
            let shortfall = self.segment - last.len;
            let may = (growth == 0 || !self.rigid) && (shortfall == 0 || last.paddable);
            let padding = growth * self.pieces + shortfall;
            let pays = padding <= BURST_PADDING_MAX && segment - self.shortest <= PADDING_FIELD_MAX;
            if !fits || !may || (padding > 0 && !pays) {
                return false;
            }
        }
        *self = Burst {
            pieces: self.pieces + 1,
            segment,
            shortest: if self.pieces == 0 {
                piece.len
            } else {
                self.shortest.min(piece.len)
            },
            rigid: self.rigid || !piece.paddable,
            last: Some(piece),
        };
        true
    }

    /// Whether one more packet fits, if all of them are of this size.
    fn has_room(&self, segment: usize) -> bool {
        self.pieces < BURST_SEGMENTS_MAX && (self.pieces + 1) * segment <= BURST_BYTES_MAX
    }

    /// How much padding the piece at `index` gets.
    pub(super) fn padding(&self, index: usize, piece: Piece) -> usize {
        if index + 1 == self.pieces {
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
        assert_eq!(plan(&[pad(926), pad(942), pad(943)]), (3, 943));
    }

    #[test]
    fn voices_of_all_sizes_are_one_burst_as_long_as_it_pays() {
        assert_eq!(
            plan(&[pad(71), pad(170), pad(90), pad(130), pad(68)]),
            (5, 170)
        );
        // Longer by more than one packet can be padded, or than all of them may be.
        assert_eq!(plan(&[pad(100), pad(356)]), (1, 100));
        assert_eq!(plan(&[pad(100), pad(355)]), (2, 355));
        assert_eq!(plan(&[pad(100), pad(100), pad(100), pad(300)]), (3, 100));
    }

    #[test]
    fn the_last_packet_is_as_short_as_it_is() {
        assert_eq!(plan(&[pad(942), pad(400), pad(942)]), (2, 942));
        assert_eq!(plan(&[pad(1000), exact(90)]), (2, 1000));
        let mut burst = Burst::default();
        assert!(burst.push(pad(1000)) && burst.push(pad(900)));
        assert_eq!(burst.padding(1, pad(900)), 0);
        assert!(burst.push(pad(950)));
        assert_eq!(burst.padding(1, pad(900)), 100);
    }

    #[test]
    fn a_packet_that_must_not_be_padded_fixes_the_size() {
        assert_eq!(plan(&[exact(100), exact(100), exact(101)]), (2, 100));
        assert_eq!(plan(&[exact(100), exact(90), exact(90)]), (2, 100));
        assert_eq!(plan(&[pad(99), exact(100), pad(101)]), (2, 100));
        assert_eq!(plan(&[pad(99), exact(100), pad(98), pad(100)]), (4, 100));
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
