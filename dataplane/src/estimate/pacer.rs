//! When what waits for a subscriber may leave, so that a frame does not fill its network's queue.

use std::time::{Duration, Instant};

use super::Probe;
use crate::limits::{PACING_BURST, PACING_BURST_BYTES, PACING_DEBT_MAX, PROBE_PACKETS_MIN};

/// What is due within this time leaves with what is due now.
const SLACK: Duration = Duration::from_micros(500);

/// What of a probe leaves at once: packets closer together than this say more of timers than of the network.
const PROBE_BURST: Duration = Duration::from_millis(2);

/// A rate that bounds nothing.
const UNBOUNDED: u64 = u64::MAX;

/// A bucket that empties at the media's rate, and one for the padding of a probe.
///
/// What media there is counts for a probe, but does not wait for it: a probe is not slower than media are.
#[derive(Debug)]
pub struct Pacer {
    media: Bucket,
    probe: Option<Sending>,
}

/// A bucket, kept as the time at which it is empty.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When all that was sent has left at the rate that it was sent at, or as much of it as is remembered.
    empty_at: Instant,
    rate_bps: u64,
    /// What it holds.
    holds: Duration,
}

/// A probe on its way out.
#[derive(Debug)]
struct Sending {
    probe: Probe,
    sent_bytes: usize,
    sent: usize,
    bucket: Bucket,
}

impl Pacer {
    /// An empty bucket that bounds nothing.
    #[must_use]
    pub fn new(now: Instant) -> Pacer {
        Pacer {
            media: Bucket {
                empty_at: now,
                rate_bps: UNBOUNDED,
                holds: PACING_BURST,
            },
            probe: None,
        }
    }

    /// Media may leave at so many bits per second from now on, or, with `u64::MAX`, as it comes.
    pub fn set_rate(&mut self, now: Instant, rate_bps: u64) {
        self.media.rate_bps = rate_bps.max(1);
        self.media.holds = PACING_BURST.max(self.media.time_for(PACING_BURST_BYTES));
        self.media.forget_much(now);
    }

    /// Bytes of media that may leave now; what leaves may be longer by a packet.
    #[must_use]
    #[inline]
    pub fn allowance(&self, now: Instant) -> usize {
        self.media.allowance(now)
    }

    /// When media may leave, where none may now.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.media.due(now)
    }

    /// Bytes that a probe lacks now; what leaves may be longer by a packet.
    #[must_use]
    pub fn probe_allowance(&self, now: Instant) -> usize {
        let probe = self.probe.as_ref();
        probe.map_or(0, |sending| sending.bucket.allowance(now))
    }

    /// When a probe goes on.
    #[must_use]
    pub fn probe_due(&self, now: Instant) -> Option<Instant> {
        let sending = self.probe.as_ref()?;
        Some(sending.bucket.due(now).unwrap_or(now + SLACK))
    }

    /// So many bytes in so many packets left.
    #[inline]
    pub fn handle_sent(&mut self, now: Instant, (bytes, packets): (usize, usize)) {
        self.media.handle_sent(now, bytes);
        if let Some(sending) = &mut self.probe {
            sending.bucket.handle_sent(now, bytes);
            sending.sent_bytes += bytes;
            sending.sent += packets;
            if sending.sent_bytes >= sending.probe.bytes && sending.sent >= PROBE_PACKETS_MIN {
                self.probe = None;
            }
        }
    }

    /// A probe is to be sent from now on.
    pub fn begin_probe(&mut self, now: Instant, probe: Probe) {
        self.probe = Some(Sending {
            sent_bytes: 0,
            sent: 0,
            bucket: Bucket {
                empty_at: now,
                rate_bps: probe.bitrate_bps.max(1),
                holds: PROBE_BURST,
            },
            probe,
        });
    }

    /// The probe is given up, because there is nothing to send.
    pub fn end_probe(&mut self) {
        self.probe = None;
    }

    /// The cluster that what leaves now belongs to.
    #[must_use]
    #[inline]
    pub fn cluster(&self) -> Option<u8> {
        self.probe.as_ref().map(|sending| sending.probe.cluster)
    }
}

impl Bucket {
    #[inline]
    fn allowance(&self, now: Instant) -> usize {
        if self.rate_bps == UNBOUNDED {
            return usize::MAX;
        }
        let waits = self.empty_at.saturating_duration_since(now);
        let room = self.holds.saturating_sub(waits);
        let least = usize::from(!room.is_zero());
        let bytes = room.as_micros() as u64 * (self.rate_bps / 1_000) / 8_000;
        (bytes as usize).max(least)
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        let due = self.empty_at.checked_sub(self.holds)?;
        (self.rate_bps != UNBOUNDED && due >= now).then_some(due + SLACK)
    }

    #[inline]
    fn handle_sent(&mut self, now: Instant, bytes: usize) {
        if self.rate_bps != UNBOUNDED {
            self.empty_at = self.empty_at.max(now) + self.time_for(bytes);
            self.forget_much(now);
        }
    }

    /// What leaves without waiting is not held against the rest for ever.
    fn forget_much(&mut self, now: Instant) {
        let debt_max = self.holds.max(PACING_DEBT_MAX);
        self.empty_at = self.empty_at.min(now + self.holds + debt_max);
    }

    /// How long so many bytes take.
    fn time_for(&self, bytes: usize) -> Duration {
        let bits = bytes as u64 * 8_000_000_000;
        Duration::from_nanos(bits.checked_div(self.rate_bps).unwrap_or(0))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_at_its_rate() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.set_rate(start, 2_400_000);
        let mut sent = 0;
        let mut now = start;
        while now < start + Duration::from_secs(1) {
            while pacer.allowance(now) > 0 {
                pacer.handle_sent(now, (1_200, 1));
                sent += 1_200;
            }
            let due = pacer.due(now).unwrap();
            assert!(due > now && due < now + Duration::from_millis(10));
            now = due;
        }
        // A second of the rate, and the burst.
        assert!((310_000..318_000).contains(&sent), "{sent}");
    }

    #[test]
    fn what_does_not_wait_delays_the_rest_by_half_a_second_at_most() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.set_rate(start, 400_000);
        // Voices of eight times the rate, for a minute.
        let mut now = start;
        for _ in 0..60 * 50 {
            now += Duration::from_millis(20);
            pacer.handle_sent(now, (8_000, 40));
        }
        let waits = pacer.due(now).unwrap() - now;
        assert!(waits <= Duration::from_millis(501), "{waits:?}");
        assert_eq!(pacer.allowance(now), 0);
        // At a very low rate a burst takes longer than that; it is not held against a higher one.
        pacer.set_rate(now, 10_000);
        pacer.handle_sent(now, (1_000_000, 1_000));
        assert!(pacer.due(now).unwrap() - now > Duration::from_secs(9));
        pacer.set_rate(now, 10_000_000);
        assert!(pacer.due(now).unwrap() - now <= Duration::from_millis(501));
    }

    #[test]
    fn without_a_bound_nothing_waits() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        for _ in 0..1_000 {
            pacer.handle_sent(now, (60_000, 50));
            assert_eq!(pacer.allowance(now), usize::MAX);
            assert_eq!(pacer.due(now), None);
        }
    }

    #[test]
    fn a_probe_is_filled_at_its_rate_and_media_do_not_wait_for_it() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        assert_eq!(pacer.probe_allowance(start), 0);
        let probe = Probe {
            cluster: 3,
            bitrate_bps: 960_000,
            bytes: 6_000,
        };
        pacer.begin_probe(start, probe);
        let mut now = start;
        let mut left = Vec::new();
        while let Some(due) = pacer.probe_due(now) {
            now = due;
            assert!(pacer.probe_allowance(now) > 0);
            assert_eq!(pacer.allowance(now), usize::MAX);
            assert_eq!(pacer.cluster(), Some(3));
            pacer.handle_sent(now, (1_200, 1));
            left.push((now - start).as_millis());
        }
        assert_eq!(left, [0, 9, 19, 29, 39]);
        pacer.begin_probe(now, probe);
        pacer.end_probe();
        assert_eq!(pacer.cluster(), None);
    }
}
