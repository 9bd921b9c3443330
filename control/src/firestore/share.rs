//! Our own share of the time between an offer and its answer: from when the offer arrived here to
//! when the answer's write was handed over. The database's part is on both sides of it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Upper ends of the histogram's buckets, microseconds; the last bucket has none.
pub const BOUNDS_US: [u64; 10] = [
    100, 200, 500, 1000, 2000, 5000, 10_000, 50_000, 200_000, 1_000_000,
];

/// How many answers took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Answers in each bucket, the last without an upper end.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// Microseconds in all.
    pub sum_us: u64,
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < took_us);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(took_us);
    }
}

/// Measures it. What waits on purpose, for its room or for another node's turn, is not measured:
/// only answers that come of something heard, from when that was heard.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// When what is being worked on began to arrive; none while there is nothing to do.
    busy_since: Option<Instant>,
    /// When each offer arrived since then.
    arrived: HashMap<String, Instant>,
    histogram: Histogram,
}

impl Share {
    /// Something was heard, which arrived `at` that time; an offer, if it names a document.
    pub(super) fn handle_heard(&mut self, at: Instant, offer: Option<&str>) {
        self.busy_since.get_or_insert(at);
        if let Some(id) = offer
            && !self.arrived.contains_key(id)
        {
            self.arrived.insert(id.to_owned(), at);
        }
    }

    /// An answer's write is handed over; gives our share of its time if something heard led to it.
    pub(super) fn handle_answer(&mut self, now: Instant, id: &str) -> Option<Duration> {
        let since = self.arrived.remove(id).or(self.busy_since)?;
        let took = now.saturating_duration_since(since);
        self.histogram.add(took);
        Some(took)
    }

    /// Everything heard is worked on.
    pub(super) fn handle_idle(&mut self) {
        self.busy_since = None;
        self.arrived.clear();
    }

    /// What was measured.
    pub(super) fn histogram(&self) -> Histogram {
        self.histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_measured_from_its_offers_arrival_and_what_waited_from_what_freed_it() {
        #[expect(clippy::disallowed_methods, reason = "only differences to it matter")]
        let start = Instant::now();
        let at = |us: u64| start + Duration::from_micros(us);
        let mut share = Share::default();
        assert_eq!(share.handle_answer(at(0), "of a timer"), None);
        share.handle_heard(at(0), Some("a"));
        share.handle_heard(at(300), Some("b"));
        share.handle_heard(at(400), Some("b"));
        let took = |took: Option<Duration>| took.unwrap().as_micros();
        assert_eq!(took(share.handle_answer(at(500), "b")), 200);
        assert_eq!(took(share.handle_answer(at(700), "waited")), 700);
        share.handle_idle();
        assert_eq!(share.handle_answer(at(900), "a"), None);
        let Histogram { counts, sum_us } = share.histogram();
        assert_eq!((counts[1], counts[3], sum_us), (1, 1, 900));
    }
}
