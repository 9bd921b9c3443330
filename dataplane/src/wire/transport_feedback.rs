//! Transport-wide feedback: which packets of all streams arrived, and when
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).

use super::rtcp::HEADER_LEN;
use super::{Malformed, u16_at, u32_at};
use crate::limits::TRANSPORT_FEEDBACK_READ_MAX;

/// Packets that one feedback covers at most.
pub const FEEDBACK_PACKETS_MAX: usize = 512;

/// Ticks of 250 us in the unit of the reference time, 64 ms.
pub const TICKS_PER_REFERENCE: i64 = 256;

/// Bytes from the packet's start to its first chunk.
const FIXED_LEN: usize = HEADER_LEN + 16;

/// Symbols in a status vector chunk with two bits each, and with one.
const TWO_BIT_SYMBOLS: usize = 7;
const ONE_BIT_SYMBOLS: usize = 14;

const _: () = assert!(
    FEEDBACK_PACKETS_MAX <= 0x1FFF,
    "a run length chunk can say any run"
);

/// What is said of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Symbol {
    #[default]
    NotReceived = 0,
    /// Its time after the one before it is a byte.
    SmallDelta = 1,
    /// It is a signed number of two bytes.
    LargeDelta = 2,
}

/// The body of a feedback from its base number on, made before its length is known.
#[derive(Debug)]
pub(super) struct Statuses {
    /// In units of 64 ms, modulo 2^24.
    pub(super) reference: u32,
    symbols: [Symbol; FEEDBACK_PACKETS_MAX],
    deltas: [i16; FEEDBACK_PACKETS_MAX],
    count: usize,
    deltas_len: usize,
}

impl Statuses {
    /// Of as many of the packets as fit into `room` bytes behind the fixed fields. `ticks` says when each
    /// arrived, in units of 250 us since an arbitrary zero, or that it did not.
    pub(super) fn new(ticks: &[Option<i64>], room: usize) -> Statuses {
        let first = ticks.iter().flatten().next().copied().unwrap_or(0);
        let reference = first.div_euclid(TICKS_PER_REFERENCE);
        let mut statuses = Statuses {
            reference: (reference & 0xFF_FFFF) as u32,
            symbols: [Symbol::NotReceived; FEEDBACK_PACKETS_MAX],
            deltas: [0; FEEDBACK_PACKETS_MAX],
            count: 0,
            deltas_len: 0,
        };
        let mut last = reference * TICKS_PER_REFERENCE;
        for tick in ticks.iter().take(FEEDBACK_PACKETS_MAX) {
            let symbol = match tick {
                None => Symbol::NotReceived,
                Some(tick) if (0..=255).contains(&(tick - last)) => Symbol::SmallDelta,
                Some(_) => Symbol::LargeDelta,
            };
            let Ok(delta) = i16::try_from(tick.map_or(0, |tick| tick - last)) else {
                // Further apart than a delta can say: another feedback's.
                break;
            };
            let deltas_len = statuses.deltas_len + symbol as usize;
            let chunks_len = 2 * (statuses.count + 1).div_ceil(TWO_BIT_SYMBOLS);
            if (chunks_len + deltas_len).next_multiple_of(4) > room {
                break;
            }
            if let (Some(its_symbol), Some(its_delta)) = (
                statuses.symbols.get_mut(statuses.count),
                statuses.deltas.get_mut(statuses.count),
            ) {
                (*its_symbol, *its_delta) = (symbol, delta);
            }
            statuses.deltas_len = deltas_len;
            statuses.count += 1;
            last = tick.unwrap_or(last);
        }
        statuses
    }

    /// Packets that it covers.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Bytes of chunks and deltas, without the zeros that fill the last word.
    pub(super) fn len(&self) -> usize {
        2 * self.chunks().count() + self.deltas_len
    }

    /// The packet status chunks (section 3.1.3 and 3.1.4).
    pub(super) fn chunks(&self) -> impl Iterator<Item = u16> {
        let mut rest = self.symbols.get(..self.count).unwrap_or_default();
        std::iter::from_fn(move || {
            let (chunk, len) = chunk(rest)?;
            rest = rest.get(len..).unwrap_or_default();
            Some(chunk)
        })
    }

    /// Each received packet's delta as it is written: a byte, or two.
    pub(super) fn each_delta(&self, mut write: impl FnMut(&[u8]) -> Option<()>) -> Option<()> {
        let symbols = self.symbols.iter().take(self.count);
        symbols
            .zip(self.deltas)
            .try_for_each(|(symbol, delta)| match symbol {
                Symbol::NotReceived => Some(()),
                Symbol::SmallDelta => write(&[delta as u8]),
                Symbol::LargeDelta => write(&delta.to_be_bytes()),
            })
    }
}

/// The chunk that says most of what begins `symbols`, and how many it covers.
fn chunk(symbols: &[Symbol]) -> Option<(u16, usize)> {
    let first = *symbols.first()?;
    let run = symbols.iter().take_while(|symbol| **symbol == first);
    let run = run.count();
    let is_one_bit = symbols
        .iter()
        .take(ONE_BIT_SYMBOLS)
        .all(|symbol| *symbol != Symbol::LargeDelta);
    let vector_len = if is_one_bit {
        ONE_BIT_SYMBOLS
    } else {
        TWO_BIT_SYMBOLS
    };
    if run >= vector_len || run == symbols.len() {
        return Some(((first as u16) << 13 | run as u16, run));
    }
    let (kind, bits) = if is_one_bit { (0x8000, 1) } else { (0xC000, 2) };
    let taken = symbols.iter().take(vector_len);
    let chunk = taken.enumerate().fold(kind, |chunk, (at, symbol)| {
        chunk | (*symbol as u16) << (bits * (vector_len - 1 - at))
    });
    Some((chunk, vector_len.min(symbols.len())))
}

/// What one feedback says: of a run of transport-wide numbers, which arrived and when.
#[derive(Clone, Debug)]
pub struct FeedbackView<'a> {
    base: u16,
    count: usize,
    reference: u32,
    /// Chunks, then deltas, then what fills the last word.
    body: &'a [u8],
    /// Where the deltas begin in it.
    deltas_at: usize,
}

impl<'a> FeedbackView<'a> {
    /// Reads a whole packet with its header and without padding, as
    /// [`RtcpPacket::TransportFeedback`](super::RtcpPacket::TransportFeedback) has it.
    ///
    /// # Errors
    /// Chunks or deltas that end past the packet, a symbol that is reserved, or more numbers than
    /// [`TRANSPORT_FEEDBACK_READ_MAX`].
    pub fn parse(raw: &'a [u8]) -> Result<FeedbackView<'a>, Malformed> {
        let base = u16_at(raw, 12).ok_or(Malformed::Truncated)?;
        let count = usize::from(u16_at(raw, 14).ok_or(Malformed::Truncated)?);
        let reference = u32_at(raw, 16).ok_or(Malformed::Truncated)? >> 8;
        let body = raw.get(FIXED_LEN..).ok_or(Malformed::Truncated)?;
        if count == 0 || count > TRANSPORT_FEEDBACK_READ_MAX {
            return Err(Malformed::Length);
        }
        let mut symbols = Symbols::new(body, count);
        let mut deltas_len = 0;
        for symbol in &mut symbols {
            match symbol {
                0..=2 => deltas_len += usize::from(symbol),
                _ => return Err(Malformed::Field),
            }
        }
        let deltas_at = symbols.read_len;
        if symbols.left > 0 || deltas_at + deltas_len > body.len() {
            return Err(Malformed::Length);
        }
        Ok(FeedbackView {
            base,
            count,
            reference,
            body,
            deltas_at,
        })
    }

    /// The first number that it covers.
    #[must_use]
    pub fn base(&self) -> u16 {
        self.base
    }

    /// How many numbers it covers.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// What its times are counted from: units of 64 ms of the receiver's clock, modulo 2^24.
    #[must_use]
    pub fn reference(&self) -> u32 {
        self.reference
    }

    /// The numbers in order, each with its arrival in ticks of 250 us after the reference time, or
    /// `None` where it did not arrive.
    #[must_use]
    pub fn packets(&self) -> FeedbackPackets<'a> {
        FeedbackPackets {
            number: self.base,
            symbols: Symbols::new(self.body, self.count),
            deltas: self.body.get(self.deltas_at..).unwrap_or_default(),
            tick: 0,
        }
    }
}

/// Iterator over a feedback's packets; see [`FeedbackView::packets`].
#[derive(Clone, Debug)]
pub struct FeedbackPackets<'a> {
    number: u16,
    symbols: Symbols<'a>,
    deltas: &'a [u8],
    tick: i64,
}

impl Iterator for FeedbackPackets<'_> {
    type Item = (u16, Option<i64>);

    fn next(&mut self) -> Option<(u16, Option<i64>)> {
        let symbol = self.symbols.next()?;
        let number = self.number;
        self.number = number.wrapping_add(1);
        // Lengths were checked, so that a delta that is announced is there.
        let (delta, rest) = match symbol {
            1 => {
                let (delta, rest) = self.deltas.split_first()?;
                (i64::from(*delta), rest)
            }
            2 => {
                let (delta, rest) = self.deltas.split_first_chunk()?;
                (i64::from(i16::from_be_bytes(*delta)), rest)
            }
            _ => return Some((number, None)),
        };
        self.deltas = rest;
        self.tick += delta;
        Some((number, Some(self.tick)))
    }
}

/// The status symbols of the chunks, two bits each whatever the chunk's form.
#[derive(Clone, Debug)]
struct Symbols<'a> {
    body: &'a [u8],
    /// Bytes of it that were read.
    read_len: usize,
    /// Symbols that are still to come in all.
    left: usize,
    chunk: u16,
    /// Symbols of the chunk that are still to come.
    chunk_left: u16,
}

impl<'a> Symbols<'a> {
    fn new(body: &'a [u8], count: usize) -> Symbols<'a> {
        Symbols {
            body,
            read_len: 0,
            left: count,
            chunk: 0,
            chunk_left: 0,
        }
    }
}

impl Iterator for Symbols<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.left == 0 {
            return None;
        }
        // A run of none says nothing; as many chunks as there are bytes bound the loop.
        while self.chunk_left == 0 {
            self.chunk = u16_at(self.body, self.read_len)?;
            self.read_len += 2;
            self.chunk_left = match self.chunk >> 14 {
                0b10 => 14,
                0b11 => 7,
                _ => self.chunk & 0x1FFF,
            };
        }
        self.chunk_left -= 1;
        self.left -= 1;
        let symbol = match self.chunk >> 14 {
            0b10 => self.chunk >> self.chunk_left & 1,
            0b11 => self.chunk >> (2 * self.chunk_left) & 3,
            _ => self.chunk >> 13 & 3,
        };
        Some(symbol as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Ssrc;
    use crate::wire::generator::Generator;
    use crate::wire::rtcp::packets;
    use crate::wire::{RtcpPacket, RtcpWriter};

    fn chunks(symbols: &[Symbol]) -> Vec<u16> {
        let mut statuses = Statuses::new(&[], 0);
        statuses.symbols[..symbols.len()].copy_from_slice(symbols);
        statuses.count = symbols.len();
        statuses.chunks().collect()
    }

    #[test]
    fn chunks_are_those_of_the_draft() {
        use Symbol::{LargeDelta as L, NotReceived as N, SmallDelta as S};
        // Its own examples, sections 3.1.3 and 3.1.4: 221 lost, then a one-bit and a two-bit vector.
        assert_eq!(chunks(&[N; 221]), [221]);
        assert_eq!(chunks(&[S; 24]), [0x2000 | 24]);
        assert_eq!(
            chunks(&[N, S, S, S, S, S, N, N, N, S, S, S, N, N]),
            [0b1001_1111_0001_1100]
        );
        // (The draft's example of two bits ends in a reserved symbol.)
        assert_eq!(chunks(&[N, L, S, S, S, N, N]), [0b1100_1001_0101_0000]);
        // A vector that is not full ends in zeros, and a run takes the rest.
        assert_eq!(chunks(&[S, N]), [0b1010_0000_0000_0000]);
        assert_eq!(chunks(&[L]), [0x4000 | 1]);
    }

    fn written(base: u16, ticks: &[Option<i64>]) -> (Vec<u8>, usize) {
        let mut buffer = vec![0; 1_160];
        let mut writer = RtcpWriter::new(&mut buffer);
        let told = writer.transport_feedback(Ssrc(1), Ssrc(2), 7, base, ticks);
        let len = writer.len();
        buffer.truncate(len);
        (buffer, told)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut random = Generator::new(3);
        for _ in 0..2_000 {
            let mut tick = (random.u64() % (1 << 20)) as i64;
            let ticks: Vec<Option<i64>> = (0..1 + random.u64() % 300)
                .map(|_| {
                    tick += (random.u64() % 400) as i64 - 30;
                    (!random.u64().is_multiple_of(5)).then_some(tick)
                })
                .collect();
            let base = random.u16();
            let (bytes, told) = written(base, &ticks);
            let view = FeedbackView::parse(&bytes).unwrap();
            assert_eq!((view.base(), view.count()), (base, told));
            let zero = i64::from(view.reference()) * TICKS_PER_REFERENCE;
            let read: Vec<(u16, Option<i64>)> = view
                .packets()
                .map(|(number, tick)| (number, tick.map(|tick| zero + tick)))
                .collect();
            let expected: Vec<(u16, Option<i64>)> = (0..told)
                .map(|at| (base.wrapping_add(at as u16), ticks[at]))
                .collect();
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn what_ends_too_soon_or_claims_too_much_is_refused() {
        let ticks: Vec<Option<i64>> = (0..40).map(|at| Some(at * 90)).collect();
        let (bytes, _) = written(9, &ticks);
        // A chunk and forty bytes; what follows only fills the last word.
        for len in 0..FIXED_LEN + 2 + 40 {
            assert!(FeedbackView::parse(&bytes[..len]).is_err(), "{len}");
        }
        let mut none = bytes.clone();
        none[14..16].fill(0);
        assert!(FeedbackView::parse(&none).is_err());
        let mut all = bytes.clone();
        all[14..16].fill(0xFF);
        assert!(FeedbackView::parse(&all).is_err());
        // The reserved symbol, and runs of none to the end.
        for chunk in [[0x60, 1], [0, 0]] {
            let mut odd = bytes[..FIXED_LEN].to_vec();
            odd[14..16].copy_from_slice(&[0, 1]);
            odd.extend(chunk.repeat(20));
            assert!(FeedbackView::parse(&odd).is_err());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let mut random = Generator::new(5);
        for _ in 0..20_000 {
            let len = (random.u64() % 80) as usize;
            let mut bytes: Vec<u8> = (0..len).map(|_| random.u8()).collect();
            if let Some(high) = bytes.get_mut(14) {
                *high &= 1;
            }
            if let Ok(view) = FeedbackView::parse(&bytes) {
                assert_eq!(view.packets().count(), view.count());
            }
        }
    }

    #[test]
    fn padding_that_fills_the_last_word_is_taken_off_as_libwebrtc_writes_it() {
        // One packet: a chunk and a delta leave one byte of the word.
        let head = [
            0xAF, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0, 1, 0, 0, 3, 0,
        ];
        let packet: Vec<u8> = head.into_iter().chain([0x20, 1, 45, 1]).collect();
        let Some(Ok(RtcpPacket::TransportFeedback { raw })) = packets(&packet).next() else {
            panic!("a feedback");
        };
        let view = FeedbackView::parse(raw).unwrap();
        assert_eq!(view.packets().collect::<Vec<_>>(), [(7, Some(45))]);
        assert_eq!(view.reference(), 3);
    }
}
