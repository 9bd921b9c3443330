//! What a fuzzer's bytes say, piece by piece.

/// Bytes that choose: of them come numbers, choices and content, and zeros where they are at their end.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// From the first byte on.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Script<'a> {
        Script(bytes)
    }

    /// Whether everything was said.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    /// Two bytes as a number.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Four bytes as a number.
    pub fn long(&mut self) -> u32 {
        u32::from(self.short()) << 16 | u32::from(self.short())
    }

    /// A number below `bound`, which is at most 256; 0 where there is nothing to choose from.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()).checked_rem(bound).unwrap_or(0)
    }

    /// One of them.
    pub fn choose<T: Copy>(&mut self, among: &[T]) -> Option<T> {
        let index = self.below(among.len());
        among.get(index).copied()
    }

    /// As many of the next `len` bytes as there are.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Content with its length in front, a byte.
    pub fn piece(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte());
        self.bytes(len)
    }

    /// The same with a length of two bytes, for what may be a whole datagram.
    pub fn datagram(&mut self) -> &'a [u8] {
        let len = usize::from(self.short());
        self.bytes(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_says_zero() {
        let mut script = Script::new(&[7, 2, 9, 9, 0, 3, 1, 2]);
        assert_eq!(script.below(5), 2);
        assert_eq!(script.piece(), [9, 9]);
        assert_eq!(script.datagram(), [1, 2]);
        assert!(script.is_over());
        assert_eq!((script.long(), script.choose(&[5, 6])), (0, Some(5)));
        assert_eq!(script.choose::<u8>(&[]), None);
    }
}
