//! How much a client may send: a bucket of bytes that fills at a steady rate and holds a second's worth.
//!
//! Browsers keep to what they are told (REMB) and never empty it. Whoever does not is cut off there, before a
//! packet is decrypted: subscribers, and the rooms that share a worker with them, are spared the rest.

use std::time::Instant;

use crate::limits::{INTAKE_BYTES_PER_SECOND_MIN, INTAKE_FACTOR};

/// Bytes per second that a client may send which is told that it may send so many bits.
pub(super) fn bytes_per_second_max(told_bps: u64) -> u64 {
    (told_bps / 8)
        .saturating_mul(INTAKE_FACTOR)
        .max(INTAKE_BYTES_PER_SECOND_MIN)
}

/// What one client may still send.
#[derive(Debug)]
pub(super) struct Intake {
    left: u64,
    filled_at: Instant,
}

impl Intake {
    /// A full bucket.
    pub(super) fn new(now: Instant, bytes_per_second: u64) -> Intake {
        Intake {
            left: bytes_per_second,
            filled_at: now,
        }
    }

    /// Takes a packet's bytes; `false` when there are none left. Time is looked at only when the bucket seems
    /// empty.
    #[inline]
    pub(super) fn take(&mut self, now: Instant, bytes: usize, bytes_per_second: u64) -> bool {
        let bytes = bytes as u64;
        if self.left < bytes {
            self.fill(now, bytes_per_second);
        }
        let fits = self.left >= bytes;
        if fits {
            self.left -= bytes;
        }
        fits
    }

    fn fill(&mut self, now: Instant, bytes_per_second: u64) {
        let elapsed = now.saturating_duration_since(self.filled_at);
        let elapsed_us = elapsed.as_micros().min(1_000_000) as u64;
        let earned = elapsed_us.saturating_mul(bytes_per_second) / 1_000_000;
        if earned > 0 {
            self.filled_at = now;
            self.left = (self.left + earned).min(bytes_per_second);
        }
    }
}
