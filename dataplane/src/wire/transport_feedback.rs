//! Transport-wide feedback: which packets of all streams arrived, and when
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).

/// Packets that one feedback covers at most.
pub const FEEDBACK_PACKETS_MAX: usize = 512;

/// Ticks of 250 us in the unit of the reference time, 64 ms.
const TICKS_PER_REFERENCE: i64 = 256;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
