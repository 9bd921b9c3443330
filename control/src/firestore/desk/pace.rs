//! How slow the database is at the moment: everything that waits for another node waits so much longer.
//!
//! A second choice that takes an offer while the first one's answer is on its way, or a refusal that
//! meets an answer, makes a slow database slower: the loser's work was for nothing, and a request that
//! holds one lost write is split and sent again.

use std::time::{Duration, Instant};

use super::{Desk, limits, outbox};
use crate::firestore::message::Document;

/// What took how long lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The longest in the older and the newer window.
    longest: [Duration; 2],
    /// When the newer window began.
    began: Option<Instant>,
}

impl Pace {
    /// Something of the database took so long, or has lasted so long.
    pub(super) fn handle_took(&mut self, now: Instant, took: Duration) {
        self.age(now);
        self.longest[1] = self.longest[1].max(took);
    }

    /// How much longer than usual others may take now.
    pub(super) fn slack(&self) -> Duration {
        let longest = self.longest[0].max(self.longest[1]);
        // There and back: our news of it is late, and so is theirs.
        let late = longest.saturating_sub(limits::PACE_USUAL) * 2;
        late.min(limits::PACE_SLACK_MAX)
    }

    /// Forgets what was long ago.
    pub(super) fn age(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began);
        if passed >= limits::PACE_WINDOW {
            let recent = passed < limits::PACE_WINDOW * 2;
            let before = self.longest[1];
            self.longest = [if recent { before } else { Duration::ZERO }, Duration::ZERO];
            self.began = Some(now);
        }
    }
}

impl Desk {
    /// Takes note of how late the news of a page's write is.
    pub(super) fn note_lag(&mut self, now: Instant, document: &Document) {
        let (Some(at), Some(able)) = (self.clock.at(now), self.able_since) else {
            return;
        };
        let lag = at.since(document.updated);
        // What was written while nobody listened is old, not late.
        if lag <= now.saturating_duration_since(able) {
            self.pace.handle_took(now, lag);
        }
    }

    /// Nothing of ours is written to a document sooner than a second after somebody else wrote it.
    pub(super) fn keep_gap(&mut self, now: Instant, document: &Document) {
        let rest = outbox::rest_of_gap(self.at(now).since(document.updated));
        if !rest.is_zero() {
            self.outbox.hold(&document.path, now + rest);
        }
    }

    /// Takes note of writes that are not back yet.
    pub(super) fn tick_pace(&mut self, now: Instant) {
        let lasts = self.outbox.longest_flight(now);
        self.pace.handle_took(now, lasts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowness_is_granted_twice_for_a_while_and_never_without_end() {
        #[expect(clippy::disallowed_methods, reason = "only differences to it matter")]
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.handle_took(start, limits::PACE_USUAL);
        assert_eq!(pace.slack(), Duration::ZERO);
        let late = Duration::from_secs(3);
        pace.handle_took(start, limits::PACE_USUAL + late);
        assert_eq!(pace.slack(), late * 2);
        let next = start + limits::PACE_WINDOW;
        pace.handle_took(next, Duration::ZERO);
        assert_eq!(pace.slack(), late * 2, "it was not long ago");
        pace.age(next + limits::PACE_WINDOW);
        assert_eq!(pace.slack(), Duration::ZERO);
        pace.handle_took(next, Duration::from_secs(3600));
        assert_eq!(pace.slack(), limits::PACE_SLACK_MAX);
    }
}
