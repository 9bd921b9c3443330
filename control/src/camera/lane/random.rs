//! Randomness for the shell, from the system's generator.

use aws_lc_rs::rand;

use super::super::repack::Start;

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system has a generator");
    bytes
}

/// Between 0 and 1.
pub(super) fn share() -> f64 {
    f64::from(u32::from_le_bytes(bytes())) / f64::from(u32::MAX)
}

/// What nobody guesses: 128 bits, hexadecimal.
pub(super) fn token() -> String {
    format!("{:032x}", u128::from_le_bytes(bytes()))
}

/// What a stream begins with (RFC 3550 section 5.1).
pub(super) fn start() -> Start {
    let [a, b, timestamp @ ..] = bytes::<6>();
    Start {
        sequence: u16::from_le_bytes([a, b]),
        timestamp: u32::from_le_bytes(timestamp),
    }
}
