//! When what waits for a subscriber may leave, so that a frame does not fill its network's queue.

use std::time::{Duration, Instant};

use super::Probe;
use crate::limits::{PACING_BURST, PACING_BURST_BYTES, PROBE_PACKETS_MIN};

/// What is due within this time leaves with what is due now.
const SLACK: Duration = Duration::from_micros(500);

/// A probe of which nothing could be sent for so long is given up.
const PROBE_PATIENCE: Duration = Duration::from_millis(500);

/// A bucket that empties at a rate, kept as the time at which it is empty.
#[derive(Debug)]
pub struct Pacer {
    /// When all that was sent has left at the rate that it was sent at.
    empty_at: Instant,
    probe: Option<Sending>,
}

/// A probe on its way out.
#[derive(Debug)]
struct Sending {
    probe: Probe,
    sent_bytes: usize,
    sent: usize,
    moved_at: Instant,
}

impl Pacer {
    /// An empty bucket.
    #[must_use]
    pub fn new(now: Instant) -> Pacer {
        Pacer {
            empty_at: now,
            probe: None,
        }
    }

    /// Bytes that may leave now; what leaves may be longer by a packet. While a probe is sent, these
    /// are its bytes: what there is no media for is padding.
    #[must_use]
    pub fn budget(&self, now: Instant, rate_bps: u64) -> usize {
        let (burst, rate_bps) = self.bucket(rate_bps);
        let full_at = now + burst;
        let room = full_at.saturating_duration_since(self.empty_at.max(now));
        let least = usize::from(!room.is_zero());
        bytes_in(room, rate_bps).max(least)
    }

    /// When something may leave, where nothing may now.
    #[must_use]
    pub fn due(&self, now: Instant, rate_bps: u64) -> Option<Instant> {
        let (burst, _) = self.bucket(rate_bps);
        let due = self.empty_at.checked_sub(burst)?;
        (due >= now).then_some(due + SLACK)
    }

    /// So many bytes in so many packets left.
    pub fn handle_sent(&mut self, now: Instant, rate_bps: u64, (bytes, packets): (usize, usize)) {
        let (_, rate_bps) = self.bucket(rate_bps);
        self.empty_at = self.empty_at.max(now) + time_for(bytes, rate_bps);
        let Some(sending) = &mut self.probe else {
            return;
        };
        sending.sent_bytes += bytes;
        sending.sent += packets;
        sending.moved_at = now;
        if sending.sent_bytes >= sending.probe.bytes && sending.sent >= PROBE_PACKETS_MIN {
            self.probe = None;
        }
    }

    /// A probe is to be sent from now on.
    pub fn begin_probe(&mut self, now: Instant, probe: Probe) {
        self.empty_at = self.empty_at.min(now);
        self.probe = Some(Sending {
            probe,
            sent_bytes: 0,
            sent: 0,
            moved_at: now,
        });
    }

    /// The cluster that what leaves now belongs to.
    #[must_use]
    pub fn cluster(&self) -> Option<u8> {
        self.probe.as_ref().map(|sending| sending.probe.cluster)
    }

    /// Gives a probe up of which nothing could be sent for long.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_stuck =
            |sending: &Sending| now.saturating_duration_since(sending.moved_at) > PROBE_PATIENCE;
        if self.probe.as_ref().is_some_and(is_stuck) {
            self.probe = None;
        }
    }

    /// How far ahead of its rate what is sent may be, and the rate.
    fn bucket(&self, rate_bps: u64) -> (Duration, u64) {
        match &self.probe {
            Some(sending) => (SLACK, sending.probe.bitrate_bps),
            None => (
                PACING_BURST.max(time_for(PACING_BURST_BYTES, rate_bps)),
                rate_bps,
            ),
        }
    }
}

/// How long so many bytes take at a rate.
fn time_for(bytes: usize, rate_bps: u64) -> Duration {
    Duration::from_nanos(
        (bytes as u64 * 8_000_000_000)
            .checked_div(rate_bps)
            .unwrap_or(0),
    )
}

/// How many bytes a rate carries in a time.
fn bytes_in(time: Duration, rate_bps: u64) -> usize {
    let bytes = u128::from(rate_bps) * time.as_nanos() / 8_000_000_000;
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_at_its_rate() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        let rate = 2_400_000;
        let mut sent = 0;
        let mut now = start;
        while now < start + Duration::from_secs(1) {
            while pacer.budget(now, rate) > 0 {
                pacer.handle_sent(now, rate, (1_200, 1));
                sent += 1_200;
            }
            let due = pacer.due(now, rate).unwrap();
            assert!(due > now && due < now + Duration::from_millis(10));
            now = due;
        }
        // A second of the rate, and the burst.
        assert!((310_000..318_000).contains(&sent), "{sent}");
    }

    #[test]
    fn without_a_bound_nothing_waits() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        for _ in 0..1_000 {
            pacer.handle_sent(now, u64::MAX, (60_000, 50));
            assert!(pacer.budget(now, u64::MAX) > 1_000_000);
            assert_eq!(pacer.due(now, u64::MAX), None);
        }
    }

    #[test]
    fn a_probe_leaves_at_its_own_rate_or_not_at_all() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        let probe = Probe {
            cluster: 3,
            bitrate_bps: 960_000,
            bytes: 6_000,
        };
        pacer.begin_probe(start, probe);
        let mut now = start;
        let mut left = Vec::new();
        while pacer.cluster() == Some(3) {
            assert!(pacer.budget(now, 300_000) > 0);
            pacer.handle_sent(now, 300_000, (1_200, 1));
            left.push((now - start).as_millis());
            now = pacer.due(now, 300_000).unwrap_or(now);
        }
        assert_eq!(left, [0, 10, 20, 30, 40]);
        pacer.begin_probe(now, probe);
        pacer.handle_timeout(now + Duration::from_secs(1));
        assert_eq!(pacer.cluster(), None);
    }
}
