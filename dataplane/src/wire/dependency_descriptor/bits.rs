//! Numbers of any width, the highest bit first.

use crate::wire::Malformed;

/// A reader of bits.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits read so far.
    position: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits::from(bytes, 0)
    }

    /// Begins at a position, in bits.
    pub(super) fn from(bytes: &'a [u8], position: usize) -> Bits<'a> {
        Bits { bytes, position }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        Ok(self.take(1)? == 1)
    }

    /// The next `count` bits, 32 at most.
    pub(super) fn take(&mut self, count: u8) -> Result<u32, Malformed> {
        let mut value = 0;
        let mut left = usize::from(count);
        while left > 0 {
            let byte = *self
                .bytes
                .get(self.position / 8)
                .ok_or(Malformed::Truncated)?;
            let unread = 8 - self.position % 8;
            let taken = unread.min(left);
            let chunk = (u32::from(byte) >> (unread - taken)) & ((1 << taken) - 1);
            value = (value << taken) | chunk;
            self.position += taken;
            left -= taken;
        }
        Ok(value)
    }

    /// A number below `values`, of which the lowest take a bit less (`ns(n)` of the AV1 specification,
    /// section 4.10.7).
    pub(super) fn below(&mut self, values: u32) -> Result<u32, Malformed> {
        let width = (u32::BITS - values.leading_zeros()) as u8;
        let Some(short) = width.checked_sub(1) else {
            return Ok(0);
        };
        let spared = (1_u32 << width) - values;
        let value = self.take(short)?;
        if value < spared {
            return Ok(value);
        }
        Ok((value << 1) + self.take(1)? - spared)
    }
}

/// Puts the lowest `count` bits of `value` at a position. `None`, with nothing changed, where they
/// would run past the end.
pub(super) fn put(bytes: &mut [u8], position: usize, count: u8, value: u32) -> Option<()> {
    if position + usize::from(count) > bytes.len() * 8 {
        return None;
    }
    for index in 0..count {
        let at = position + usize::from(index);
        let bit = (value >> (count - 1 - index)) & 1;
        let byte = bytes.get_mut(at / 8)?;
        let mask = 0x80 >> (at % 8);
        *byte = if bit == 1 {
            *byte | mask
        } else {
            *byte & !mask
        };
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_below_five_are_those_of_the_specification() {
        let table = [
            (0, 0b0000_0000),
            (1, 0b0100_0000),
            (2, 0b1000_0000),
            (3, 0b1100_0000),
            (4, 0b1110_0000),
        ];
        for (value, byte) in table {
            let bytes = [byte];
            let mut bits = Bits::new(&bytes);
            assert_eq!(bits.below(5), Ok(value));
            assert_eq!(bits.position(), if value < 3 { 2 } else { 3 });
        }
        assert_eq!(Bits::new(&[]).below(1), Ok(0));
        assert_eq!(Bits::new(&[]).below(0), Ok(0));
    }

    #[test]
    fn bits_cross_bytes_and_end_with_them() {
        let bytes = [0b1010_1100, 0b0101_0011, 0xFF, 0x00, 0xAA];
        let mut bits = Bits::new(&bytes);
        assert_eq!(bits.take(3), Ok(0b101));
        assert_eq!(bits.take(10), Ok(0b01_1000_1010));
        assert_eq!(bits.take(0), Ok(0));
        assert_eq!(bits.take(27), Ok(0x3FF_00AA));
        assert_eq!(bits.take(1), Err(Malformed::Truncated));
    }

    #[test]
    fn what_is_put_is_taken_and_the_rest_stays() {
        let mut bytes = [0xFF; 3];
        assert_eq!(put(&mut bytes, 5, 9, 0b0_1001_0110), Some(()));
        assert_eq!(bytes, [0b1111_1010, 0b0101_1011, 0xFF]);
        assert_eq!(put(&mut bytes, 16, 9, 0), None);
        assert_eq!(bytes[2], 0xFF);
    }
}
