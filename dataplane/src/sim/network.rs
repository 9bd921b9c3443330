//! A network of one-way links with seeded faults, in virtual time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A generator of repeatable randomness (SplitMix64, Steele and others 2014).
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A generator whose whole output follows from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// Below `bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 <= probability
    }
}

/// What one direction of a path does to datagrams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSpec {
    /// Time on the way.
    pub latency: Duration,
    /// At most this much more, evenly spread; order is kept.
    pub jitter: Duration,
    /// Share of datagrams lost, 0 to 1.
    pub loss: f64,
    /// Share of datagrams that others overtake.
    pub reorder: f64,
    /// How much later such a datagram arrives.
    pub reorder_delay: Duration,
    /// Share of datagrams that arrive twice.
    pub duplicate: f64,
    /// Bits per second, or no bound.
    pub rate_bps: Option<u64>,
    /// Bytes that wait for a link with a rate; more is lost.
    pub queue_bytes_max: usize,
}

impl Default for LinkSpec {
    fn default() -> LinkSpec {
        LinkSpec {
            latency: Duration::from_millis(10),
            jitter: Duration::ZERO,
            loss: 0.0,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(15),
            duplicate: 0.0,
            rate_bps: None,
            queue_bytes_max: 256 * 1024,
        }
    }
}

/// What happened on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Datagrams offered to it.
    pub offered: u64,
    /// Lost at random.
    pub lost: u64,
    /// Lost because the queue was full.
    pub overflowed: u64,
    /// Delivered, duplicates included.
    pub delivered: u64,
}

/// One direction of a path, carrying datagrams with whatever `T` names their ends.
#[derive(Debug)]
pub struct Link<T> {
    spec: LinkSpec,
    rng: Rng,
    /// When the sender's last bit leaves.
    idle_at: Option<Instant>,
    /// When the last datagram in order arrives.
    last_arrival: Option<Instant>,
    /// By arrival, then by order of sending.
    flying: BTreeMap<(Instant, u64), T>,
    sent: u64,
    counts: LinkCounts,
}

impl<T: Clone> Link<T> {
    /// An empty link.
    #[must_use]
    pub fn new(spec: LinkSpec, seed: u64) -> Link<T> {
        Link {
            spec,
            rng: Rng::new(seed),
            idle_at: None,
            last_arrival: None,
            flying: BTreeMap::new(),
            sent: 0,
            counts: LinkCounts::default(),
        }
    }

    /// Changes what it does from now on.
    pub fn set_spec(&mut self, spec: LinkSpec) {
        self.spec = spec;
    }

    /// What happened on it.
    #[must_use]
    pub fn counts(&self) -> LinkCounts {
        self.counts
    }

    /// Takes a datagram of `len` bytes.
    pub fn handle_datagram(&mut self, now: Instant, len: usize, datagram: T) {
        self.counts.offered += 1;
        let Some(leaves) = self.pass_queue(now, len) else {
            self.counts.overflowed += 1;
            return;
        };
        if self.rng.chance(self.spec.loss) {
            self.counts.lost += 1;
            return;
        }
        let jitter = Duration::from_nanos(self.rng.below(self.spec.jitter.as_nanos() as u64 + 1));
        let mut arrives = leaves + self.spec.latency + jitter;
        if self.rng.chance(self.spec.reorder) {
            arrives += self.spec.reorder_delay;
        } else {
            arrives = self.last_arrival.map_or(arrives, |last| last.max(arrives));
            self.last_arrival = Some(arrives);
        }
        if self.rng.chance(self.spec.duplicate) {
            self.fly(arrives + self.spec.jitter, datagram.clone());
        }
        self.fly(arrives, datagram);
    }

    /// The next datagram that has arrived.
    pub fn poll_datagram(&mut self, now: Instant) -> Option<T> {
        let entry = self
            .flying
            .first_entry()
            .filter(|entry| entry.key().0 <= now)?;
        self.counts.delivered += 1;
        Some(entry.remove())
    }

    /// When the next datagram arrives.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.flying
            .first_key_value()
            .map(|((arrives, _), _)| *arrives)
    }

    /// When the last bit of a datagram leaves, or `None` when the queue has no room.
    fn pass_queue(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let Some(rate_bps) = self.spec.rate_bps else {
            return Some(now);
        };
        let begins = self.idle_at.map_or(now, |idle_at| idle_at.max(now));
        let waiting = begins - now;
        let waiting_bytes = waiting.as_nanos() as u64 * (rate_bps / 8) / 1_000_000_000;
        if waiting_bytes as usize + len > self.spec.queue_bytes_max {
            return None;
        }
        let takes = Duration::from_nanos(len as u64 * 8 * 1_000_000_000 / rate_bps.max(1));
        self.idle_at = Some(begins + takes);
        self.idle_at
    }

    fn fly(&mut self, arrives: Instant, datagram: T) {
        self.flying.insert((arrives, self.sent), datagram);
        self.sent += 1;
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
mod tests {
    use super::*;

    const SEED: u64 = 0x6d69_6c6c_7261_6365;

    fn run(spec: LinkSpec, seed: u64) -> (Vec<(Duration, u32)>, LinkCounts) {
        let start = Instant::now();
        let mut link = Link::new(spec, seed);
        let mut arrived = Vec::new();
        for index in 0..2_000_u32 {
            let now = start + Duration::from_millis(u64::from(index));
            link.handle_datagram(now, 1_000, index);
            while let Some(index) = link.poll_datagram(now) {
                arrived.push((now - start, index));
            }
        }
        while let Some(now) = link.poll_timeout() {
            while let Some(index) = link.poll_datagram(now) {
                arrived.push((now - start, index));
            }
        }
        (arrived, link.counts())
    }

    #[test]
    fn the_same_seed_is_the_same_network() {
        let spec = LinkSpec {
            jitter: Duration::from_millis(7),
            loss: 0.1,
            reorder: 0.1,
            duplicate: 0.1,
            rate_bps: Some(9_000_000),
            ..LinkSpec::default()
        };
        assert_eq!(run(spec, SEED), run(spec, SEED));
        assert_ne!(run(spec, SEED), run(spec, SEED + 1));
    }

    #[test]
    fn a_clean_link_delivers_everything_in_order_after_its_latency() {
        let spec = LinkSpec {
            jitter: Duration::from_millis(30),
            ..LinkSpec::default()
        };
        let (arrived, counts) = run(spec, SEED);
        assert_eq!(
            counts,
            LinkCounts {
                offered: 2_000,
                delivered: 2_000,
                ..counts
            }
        );
        assert!(arrived.windows(2).all(|pair| pair[0].1 < pair[1].1));
        let late = arrived
            .iter()
            .all(|(at, index)| *at >= Duration::from_millis(u64::from(*index)) + spec.latency);
        assert!(late);
    }

    #[test]
    fn faults_come_at_their_rates() {
        let spec = LinkSpec {
            loss: 0.05,
            duplicate: 0.02,
            reorder: 0.03,
            ..LinkSpec::default()
        };
        let (arrived, counts) = run(spec, SEED);
        assert!((60..140).contains(&counts.lost), "{counts:?}");
        let twice = arrived.len() as u64 - (2_000 - counts.lost);
        assert!((15..70).contains(&twice), "{twice}");
        let overtaken = arrived
            .windows(2)
            .filter(|pair| pair[0].1 > pair[1].1)
            .count();
        assert!((20..120).contains(&overtaken), "{overtaken}");
    }

    #[test]
    fn a_rate_spreads_and_then_drops() {
        let spec = LinkSpec {
            rate_bps: Some(4_000_000),
            queue_bytes_max: 20_000,
            ..LinkSpec::default()
        };
        // 8 Mbit/s into 4: half is lost, the rest arrives 2 ms apart.
        let (arrived, counts) = run(spec, SEED);
        assert!((900..1_050).contains(&counts.overflowed), "{counts:?}");
        let spaced = arrived
            .windows(2)
            .skip(20)
            .all(|pair| pair[1].0 - pair[0].0 >= Duration::from_millis(1));
        assert!(spaced);
    }
}
