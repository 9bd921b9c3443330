//! Redundant audio: packets that repeat earlier ones (RFC 2198 section 3).

use crate::id::PayloadType;

/// Header of a redundant block: flag and type, 14 bits of timestamp offset, 10 bits of length.
const BLOCK_HEADER_LEN: usize = 4;

/// Says that another block header follows; clear in the primary block's one-byte header.
const MORE: u8 = 0x80;

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
