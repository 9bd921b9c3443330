//! Many durations in little memory: buckets of at most 3 % width.

use std::time::Duration;

/// Buckets for each power of two.
const STEPS: u64 = 32;

/// Counts of durations, to 3 %.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(crate) fn add(&mut self, duration: Duration) {
        let index = bucket(duration.as_micros() as u64);
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        self.total += 1;
    }

    pub(crate) fn merge(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// The duration that a share `q` (0 to 1) of them does not exceed.
    pub(crate) fn quantile(&self, q: f64) -> Option<Duration> {
        let wanted = (self.total as f64 * q).ceil().max(1.0) as u64;
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(Duration::from_micros(upper_bound(index)))
    }
}

/// Small values have a bucket each, larger ones share: 32 to each doubling.
fn bucket(us: u64) -> usize {
    let shift = u64::from(us.max(STEPS).ilog2()) - u64::from(STEPS.ilog2());
    (shift * STEPS + (us >> shift)) as usize
}

fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    ((bucket - shift * STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_belongs_to_them() {
        for us in (0..5_000).chain([65_535, 65_536, 1_000_000, 987_654_321]) {
            let upper = upper_bound(bucket(us));
            assert!(upper >= us && upper - us <= us / 32, "{us} in {upper}");
        }
    }

    #[test]
    fn quantiles_of_a_thousand() {
        let (mut first, mut second) = (Histogram::default(), Histogram::default());
        assert_eq!(first.quantile(0.5), None);
        for us in 1..=500 {
            first.add(Duration::from_micros(us));
            second.add(Duration::from_micros(us + 500));
        }
        first.merge(&second);
        let at = |q| first.quantile(q).unwrap().as_micros();
        assert!((500..=515).contains(&at(0.5)), "{}", at(0.5));
        assert!((990..=1_023).contains(&at(0.99)), "{}", at(0.99));
        assert_eq!(at(0.0), 1);
    }
}
