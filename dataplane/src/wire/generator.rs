//! A seeded generator of test input: tiny, the same everywhere, good for nothing else.

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug)]
pub(crate) struct Generator(u64);

impl Generator {
    pub(crate) fn new(seed: u64) -> Generator {
        Generator(seed)
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.u64() as u32
    }

    pub(crate) fn u16(&mut self) -> u16 {
        self.u64() as u16
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.u64() as u8
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.u64() & 1 == 1
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.u64() % bound as u64) as usize
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.u8()).collect()
    }

    /// A copy with a few bytes changed, mostly near the start where headers are.
    pub(crate) fn mutated(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut changed = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let reach = if self.bool() {
                changed.len().min(24)
            } else {
                changed.len()
            };
            if reach == 0 {
                break;
            }
            let at = self.below(reach);
            changed[at] = match self.below(4) {
                0 => 0,
                1 => 0xFF,
                2 => changed[at] ^ (1 << self.below(8)),
                _ => self.u8(),
            };
        }
        changed
    }

    /// Runs `body` over every truncation of `bytes` and `rounds` mutations of it.
    pub(crate) fn torment(&mut self, bytes: &[u8], rounds: usize, body: fn(&[u8])) {
        for len in 0..=bytes.len() {
            body(&bytes[..len]);
        }
        for _ in 0..rounds {
            body(&self.mutated(bytes));
        }
    }
}

/// Every length that can hold a header and a little more, with bytes that a header could begin with.
pub(crate) fn short_datagrams(generator: &mut Generator, body: fn(&[u8])) {
    for len in 0..=40 {
        for first in 0..=255 {
            for _ in 0..8 {
                let mut bytes = generator.bytes(len);
                if let Some(byte) = bytes.first_mut() {
                    *byte = first;
                }
                body(&bytes);
            }
        }
        body(&vec![0; len]);
        body(&vec![0xFF; len]);
    }
}
