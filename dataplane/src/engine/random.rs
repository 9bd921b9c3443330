//! The engine's own random numbers: SSRCs, offsets and phases, never keys.

/// SplitMix64: small, seeded, the same in every simulation. What it makes needs to be spread out,
/// not secret: everything secret comes from the handshake.
#[derive(Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// A generator that repeats itself for the same seed.
    pub(super) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// 64 random bits.
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_sequence_for_seed_1234567() {
        // Test vector of the algorithm's page on rosettacode.org.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }
}
