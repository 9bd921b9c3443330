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
    /// Longest datagram that it carries; longer ones are lost.
    pub datagram_bytes_max: usize,
    /// Loss in bursts, besides that at random.
    pub bursts: Option<LossBursts>,
}

/// Loss that comes in bursts: a channel that is good or bad, and loses only while it is bad (Gilbert 1960).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossBursts {
    /// Share of datagrams after which a good channel turns bad.
    pub begins: f64,
    /// Share of datagrams after which a bad one turns good.
    pub ends: f64,
    /// Share of datagrams lost while it is bad.
    pub loss: f64,
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
            datagram_bytes_max: usize::MAX,
            bursts: None,
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
    flying: BTreeMap<(Instant, u64), Flying<T>>,
    sent: u64,
    is_bad: bool,
    counts: LinkCounts,
}

/// A datagram on its way.
#[derive(Clone, Debug)]
struct Flying<T> {
    /// When its last bit leaves the queue.
    leaves: Instant,
    datagram: T,
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
            is_bad: false,
            counts: LinkCounts::default(),
        }
    }

    /// Changes what it does from now on.
    pub fn set_spec(&mut self, spec: LinkSpec) {
        self.spec = spec;
    }

    /// Changes its rate now, for what waits in its queue too.
    pub fn set_rate(&mut self, now: Instant, rate_bps: u64) {
        let before = self.spec.rate_bps.replace(rate_bps).unwrap_or(rate_bps);
        let stretched = |at: Instant| {
            let left = at.saturating_duration_since(now);
            now + left.mul_f64(before as f64 / rate_bps as f64)
        };
        self.idle_at = self.idle_at.map(stretched);
        self.last_arrival = None;
        let flying = std::mem::take(&mut self.flying);
        for ((arrives, number), mut datagram) in flying {
            let leaves = stretched(datagram.leaves.max(now));
            let arrives = if datagram.leaves > now {
                leaves + (arrives - datagram.leaves)
            } else {
                arrives
            };
            datagram.leaves = leaves;
            self.last_arrival = self.last_arrival.max(Some(arrives));
            self.flying.insert((arrives, number), datagram);
        }
    }

    /// How long what is sent now waits for the link.
    #[must_use]
    pub fn queueing(&self, now: Instant) -> Duration {
        self.idle_at
            .map_or(Duration::ZERO, |idle| idle.saturating_duration_since(now))
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
        let is_lost = self.rng.chance(self.spec.loss) | self.is_lost_in_burst();
        let is_lost = is_lost || len > self.spec.datagram_bytes_max;
        if is_lost {
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
            self.fly(arrives + self.spec.jitter, leaves, datagram.clone());
        }
        self.fly(arrives, leaves, datagram);
    }

    /// The next datagram that has arrived.
    pub fn poll_datagram(&mut self, now: Instant) -> Option<T> {
        let entry = self
            .flying
            .first_entry()
            .filter(|entry| entry.key().0 <= now)?;
        self.counts.delivered += 1;
        Some(entry.remove().datagram)
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

    fn is_lost_in_burst(&mut self) -> bool {
        let Some(bursts) = self.spec.bursts else {
            return false;
        };
        let turns = if self.is_bad {
            bursts.ends
        } else {
            bursts.begins
        };
        self.is_bad ^= self.rng.chance(turns);
        self.is_bad && self.rng.chance(bursts.loss)
    }

    fn fly(&mut self, arrives: Instant, leaves: Instant, datagram: T) {
        let flying = Flying { leaves, datagram };
        self.flying.insert((arrives, self.sent), flying);
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

    #[test]
    fn a_new_rate_is_that_of_what_waits_too() {
        let start = Instant::now();
        let mut link = Link::new(
            LinkSpec {
                latency: Duration::ZERO,
                rate_bps: Some(8_000_000),
                ..LinkSpec::default()
            },
            SEED,
        );
        for index in 0..10 {
            link.handle_datagram(start, 1_000, index);
        }
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(link.queueing(start), Duration::from_millis(10));
        for index in 0..5 {
            assert_eq!(link.poll_datagram(at(5)), Some(index));
        }
        link.set_rate(at(5), 800_000);
        assert_eq!(link.queueing(at(5)), Duration::from_millis(50));
        assert_eq!(link.poll_datagram(at(14)), None);
        assert_eq!(link.poll_datagram(at(15)), Some(5));
        assert_eq!(link.poll_datagram(at(54)), Some(6));
        link.handle_datagram(at(54), 1_000, 10);
        let last = std::iter::from_fn(|| link.poll_datagram(at(65))).last();
        assert_eq!(last, Some(10));
    }

    #[test]
    fn bursts_of_loss_are_as_long_as_they_should_be() {
        let spec = LinkSpec {
            bursts: Some(LossBursts {
                begins: 0.02,
                ends: 0.2,
                loss: 1.0,
            }),
            ..LinkSpec::default()
        };
        let (arrived, counts) = run(spec, SEED);
        // One in eleven, five at a time.
        assert!((100..280).contains(&counts.lost), "{counts:?}");
        let gaps = arrived.windows(2).filter(|pair| pair[1].1 > pair[0].1 + 1);
        let mean = counts.lost as f64 / gaps.count() as f64;
        assert!((3.0..8.0).contains(&mean), "{mean}");
    }
}
