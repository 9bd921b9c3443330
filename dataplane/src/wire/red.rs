//! Redundant audio: packets that repeat earlier ones (RFC 2198 section 3).

use crate::id::PayloadType;

/// Header of a redundant block: flag and type, 14 bits of timestamp offset, 10 bits of length.
const BLOCK_HEADER_LEN: usize = 4;

/// Says that another block header follows; clear in the primary block's one-byte header.
const MORE: u8 = 0x80;

/// Longest content that a redundant block can have, in bytes: ten bits.
const BLOCK_LEN_MAX: usize = 0x3ff;

/// How far back a redundant block can be, in ticks of the clock: fourteen bits.
const OFFSET_MAX: u32 = 0x3fff;

/// A packet that another one repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    offset: u16,
    content: &'a [u8],
}

impl<'a> Block<'a> {
    /// A block whose timestamp is `offset` ticks before that of the packet; `None` when its header cannot
    /// say that, or its length, or when it is empty.
    #[must_use]
    pub fn new(offset: u32, content: &'a [u8]) -> Option<Block<'a>> {
        let can_say = (1..=OFFSET_MAX).contains(&offset);
        let fits = (1..=BLOCK_LEN_MAX).contains(&content.len());
        (can_say && fits).then_some(Block {
            offset: offset as u16,
            content,
        })
    }
}

/// Bytes of a RED payload with these blocks and a primary one of `primary` bytes.
#[must_use]
pub fn len<'a>(blocks: impl Iterator<Item = Block<'a>>, primary: usize) -> usize {
    let redundant = blocks.map(|block| BLOCK_HEADER_LEN + block.content.len());
    redundant.sum::<usize>() + 1 + primary
}

/// Writes a RED payload of one type to the start of `out`: the blocks, the oldest first, and the primary
/// one. Returns its length; `None` without room.
pub fn write<'a>(
    out: &mut [u8],
    payload_type: PayloadType,
    blocks: impl Iterator<Item = Block<'a>> + Clone,
    primary: &[u8],
) -> Option<usize> {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        let room = out.get_mut(at..at + bytes.len())?;
        room.copy_from_slice(bytes);
        at += bytes.len();
        Some(())
    };
    for block in blocks.clone() {
        let word = u32::from(MORE | payload_type.0) << 24
            | u32::from(block.offset) << 10
            | block.content.len() as u32;
        put(&word.to_be_bytes())?;
    }
    put(&[payload_type.0 & !MORE])?;
    for block in blocks {
        put(block.content)?;
    }
    put(primary)?;
    Some(at)
}

/// The newest block of a RED payload: its type and content. `None` when headers or blocks run past
/// the end.
#[must_use]
pub fn primary(payload: &[u8]) -> Option<(PayloadType, &[u8])> {
    let mut rest = payload;
    let mut redundant_len = 0;
    loop {
        let &first = rest.first()?;
        if first & MORE == 0 {
            let content = rest.get(1..)?.get(redundant_len..)?;
            return Some((PayloadType(first), content));
        }
        let &[_, _, high, low] = rest.first_chunk::<BLOCK_HEADER_LEN>()?;
        redundant_len += usize::from(u16::from_be_bytes([high & 0x03, low]));
        rest = rest.get(BLOCK_HEADER_LEN..)?;
    }
}

/// Renames the type `from` to `to` in every block header. `None`, with nothing changed, when the
/// payload is malformed.
pub fn rewrite(payload: &mut [u8], from: PayloadType, to: PayloadType) -> Option<()> {
    primary(payload)?;
    let mut rest = payload;
    loop {
        let first = rest.first_mut()?;
        let more = *first & MORE;
        if *first & !MORE == from.0 {
            *first = more | (to.0 & !MORE);
        }
        if more == 0 {
            return Some(());
        }
        rest = rest.get_mut(BLOCK_HEADER_LEN..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two redundant blocks of 2 and 3 bytes and a primary of 4, of the types 111, 9 and 111.
    const PAYLOAD: [u8; 18] = [
        0x80 | 111,
        0x1E,
        0x00,
        2, // 1920 ticks earlier
        0x80 | 9,
        0x0F,
        0x00,
        3,   // 960 ticks earlier
        111, // primary
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
    ];

    #[test]
    fn the_primary_block_is_behind_the_redundant_ones() {
        assert_eq!(
            primary(&PAYLOAD),
            Some((PayloadType(111), &[6, 7, 8, 9][..]))
        );
        assert_eq!(primary(&[111, 1]), Some((PayloadType(111), &[1][..])));
        assert_eq!(primary(&[111]), Some((PayloadType(111), &[][..])));
    }

    #[test]
    fn what_is_written_is_what_the_specification_draws() {
        let blocks = [(1_920, &[1, 2][..]), (960, &[3, 4, 5])];
        let blocks = blocks.map(|(offset, content)| Block::new(offset, content).unwrap());
        let mut out = [0; 40];
        let written = write(
            &mut out,
            PayloadType(111),
            blocks.into_iter(),
            &[6, 7, 8, 9],
        );
        let mut expected = PAYLOAD;
        expected[4] = 0x80 | 111;
        assert_eq!(written, Some(PAYLOAD.len()));
        assert_eq!(len(blocks.into_iter(), 4), PAYLOAD.len());
        assert_eq!(out[..PAYLOAD.len()], expected);
        let mut short = [0; 17];
        assert_eq!(
            write(
                &mut short,
                PayloadType(111),
                blocks.into_iter(),
                &[6, 7, 8, 9]
            ),
            None
        );
        assert_eq!(Block::new(0, &[1]), None);
        assert_eq!(Block::new(0x4000, &[1]), None);
        assert_eq!(Block::new(960, &[]), None);
        assert_eq!(Block::new(960, &[0; 1_024]), None);
    }

    #[test]
    fn a_block_length_uses_all_ten_bits() {
        let mut payload = vec![0x80 | 5, 0xFF, 0xFF, 0xFF, 6];
        payload.extend([0; 1023]);
        payload.push(42);
        assert_eq!(primary(&payload), Some((PayloadType(6), &[42][..])));
    }

    #[test]
    fn what_ends_early_is_refused() {
        for len in 0..14 {
            assert_eq!(primary(&PAYLOAD[..len]), None, "{len}");
            let mut cut = PAYLOAD[..len].to_vec();
            assert_eq!(rewrite(&mut cut, PayloadType(111), PayloadType(63)), None);
            assert_eq!(cut, PAYLOAD[..len], "a refused payload stays as it was");
        }
        assert_eq!(primary(&[0xFF; 40]), None);
    }

    #[test]
    fn only_the_named_type_is_renamed() {
        let mut payload = PAYLOAD;
        assert_eq!(
            rewrite(&mut payload, PayloadType(111), PayloadType(63)),
            Some(())
        );
        let mut expected = PAYLOAD;
        expected[0] = 0x80 | 63;
        expected[8] = 63;
        assert_eq!(payload, expected);
    }
}
