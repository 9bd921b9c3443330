//! The census: what the database counts, against what we heard of it.
//!
//! A listener is told of every change, says the protocol. Google's emulator misses a write that meets
//! the beginning of a listen, and now and then does not say that a target is complete again. An offer
//! that nobody hears of is an offer that nobody answers, so the database is asked how many there are.

use std::collections::BTreeMap;
use std::time::Instant;

use super::reads::Question;
use super::{Desk, limits};
use crate::firestore::message::Target;

/// Targets that are counted after a listen began. The registry is heard of every ten seconds anyway.
const COUNTED: [Target; 3] = [Target::Work, Target::HungUp, Target::Members];

/// When to count what, and what did not fit.
#[derive(Debug, Default)]
pub(super) struct Census {
    due: BTreeMap<Target, Instant>,
    doubts: BTreeMap<Target, Doubt>,
}

/// A count that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doubt {
    count: usize,
    /// What we had heard by then.
    changes: u64,
    /// How often in a row it was the same.
    times: u32,
}

impl Census {
    /// A listen began.
    pub(super) fn on_listen(&mut self, now: Instant) {
        self.doubts.clear();
        for target in COUNTED {
            self.due.insert(target, now + limits::CENSUS_FIRST);
        }
    }

    /// Takes note of a count. Whether it has been wrong for so long that it is our fault.
    fn on_count(&mut self, target: Target, count: usize, changes: u64, fits: bool) -> bool {
        let before = self.doubts.remove(&target);
        if fits {
            return false;
        }
        let same = before.filter(|doubt| (doubt.count, doubt.changes) == (count, changes));
        let times = same.map_or(1, |doubt| doubt.times + 1);
        let wrong = times >= limits::CENSUS_DOUBTS;
        if !wrong {
            let doubt = Doubt {
                count,
                changes,
                times,
            };
            self.doubts.insert(target, doubt);
        }
        wrong
    }
}

impl Desk {
    /// Asks for the counts that are due.
    pub(super) fn tick_census(&mut self, now: Instant) {
        if !self.reach.is_up() {
            return;
        }
        for target in COUNTED {
            if self.census.due.get(&target).is_some_and(|due| *due <= now) {
                self.census.due.remove(&target);
                self.reads.push(Question::Count(target));
            }
        }
    }

    /// The database counted a target.
    pub(super) fn on_counted(&mut self, now: Instant, target: Target, count: usize) {
        let fits = count == self.worklist.len(target) && self.worklist.is_current(target);
        let changes = self.worklist.changes(target);
        if self.census.on_count(target, count, changes, fits) {
            self.relisten.wanted = true;
        }
        if self.census.doubts.contains_key(&target) {
            self.census.due.insert(target, now + limits::CENSUS_AGAIN);
        } else if target == Target::Work {
            self.census.due.insert(target, now + limits::CENSUS_SPAN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_count_that_stays_wrong_while_nothing_is_heard_is_our_fault() {
        let mut census = Census::default();
        let mut count = |count, changes, fits| census.on_count(Target::Work, count, changes, fits);
        // Something came, or went, between the counts: it was on its way.
        assert!(!count(5, 1, false));
        assert!(!count(5, 2, false));
        assert!(!count(6, 2, false));
        assert!(!count(6, 2, true));
        // It was right in between.
        assert!(!count(6, 2, false));
        assert!(!count(6, 2, false));
        assert!(count(6, 2, false));
        assert!(!count(6, 2, false), "it begins anew");
    }
}
