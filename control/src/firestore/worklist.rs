//! What each of the listener's targets holds, rebuilt from what it heard.
//!
//! Level-triggered: production tells single changes, the emulator replays a whole target after every
//! write, a reconnect may do either. Whatever comes, in whatever order, twice or late, what is known
//! afterwards is what the target held, and each version of a document is told once. Only names and
//! update times are kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::message::{Document, Heard, Path, Stamp, Target};

/// Removed documents that are remembered, so that a late word of an older version does not bring them
/// back. A removal that is forgotten costs one lost write.
const REMOVED_MAX: usize = 4096;

/// Something that is different now.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// A document is new in the target, or has a newer version.
    Changed(Target, Document),
    /// A document is no longer in the target.
    Gone(Target, Path),
    /// The target is complete as of this moment.
    Current(Target, Stamp),
    /// The database counts other documents than we do: listen afresh.
    Mismatch(Target),
    /// The database refuses the target, with its sentence.
    Refused(Target, String),
}

/// All targets.
#[derive(Debug, Default)]
pub struct Worklist {
    sets: BTreeMap<Target, Set>,
    deltas: VecDeque<Delta>,
}

/// One target.
#[derive(Debug, Default)]
struct Set {
    /// The newest version that we know of each document in it.
    known: BTreeMap<Path, Stamp>,
    /// Between reset and current: which documents came so far.
    replayed: Option<BTreeSet<Path>>,
    /// Whether it has been complete since the last reset.
    current: bool,
    /// Counts the differences told so far.
    changes: u64,
    /// Removed documents, and as of when. Empty during a replay, which is always right.
    removed: BTreeMap<Path, Stamp>,
}

impl Worklist {
    /// The listener heard something. Take the deltas with [`Worklist::poll_delta`].
    pub fn handle_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Reset(target) => self.set(target).on_reset(),
            Heard::Changed(target, document) => {
                let set = self.set(target);
                if set.on_changed(&document.path, document.updated) {
                    set.changes += 1;
                    self.deltas.push_back(Delta::Changed(target, document));
                }
            }
            Heard::Gone(target, path, at) => {
                let set = self.set(target);
                if set.on_gone(&path, at) {
                    set.changes += 1;
                    self.deltas.push_back(Delta::Gone(target, path));
                }
            }
            Heard::Current(target, at) => {
                let set = self.set(target);
                let missing = set.on_current();
                set.changes += missing.len() as u64;
                for path in missing {
                    self.deltas.push_back(Delta::Gone(target, path));
                }
                self.deltas.push_back(Delta::Current(target, at));
            }
            Heard::Count(target, count) => {
                let set = self.set(target);
                // In the middle of a replay no count can fit.
                if set.replayed.is_none() && set.known.len() != count {
                    self.deltas.push_back(Delta::Mismatch(target));
                }
            }
            Heard::Refused(target, reason) => {
                self.deltas.push_back(Delta::Refused(target, reason));
            }
        }
    }

    /// The next difference, in order.
    pub fn poll_delta(&mut self) -> Option<Delta> {
        self.deltas.pop_front()
    }

    /// Whether the target is complete, and not being replayed.
    #[must_use]
    pub fn is_current(&self, target: Target) -> bool {
        let set = self.sets.get(&target);
        set.is_some_and(|set| set.current && set.replayed.is_none())
    }

    /// Whether the target has been complete once.
    #[must_use]
    pub fn has_been_current(&self, target: Target) -> bool {
        self.sets.get(&target).is_some_and(|set| set.current)
    }

    /// How many documents the target holds.
    #[must_use]
    pub fn len(&self, target: Target) -> usize {
        self.sets.get(&target).map_or(0, |set| set.known.len())
    }

    /// Whether the target holds nothing.
    #[must_use]
    pub fn is_empty(&self, target: Target) -> bool {
        self.len(target) == 0
    }

    /// The version that we know of a document in the target.
    #[must_use]
    pub fn version(&self, target: Target, path: &Path) -> Option<Stamp> {
        self.sets.get(&target)?.known.get(path).copied()
    }

    /// How many documents came, changed or went so far.
    #[must_use]
    pub fn changes(&self, target: Target) -> u64 {
        self.sets.get(&target).map_or(0, |set| set.changes)
    }

    fn set(&mut self, target: Target) -> &mut Set {
        self.sets.entry(target).or_default()
    }
}

impl Set {
    fn on_reset(&mut self) {
        self.replayed = Some(BTreeSet::new());
        self.removed.clear();
    }

    /// Whether this version is news.
    fn on_changed(&mut self, path: &Path, updated: Stamp) -> bool {
        if let Some(replayed) = &mut self.replayed {
            replayed.insert(path.clone());
        } else if self.removed.get(path).is_some_and(|at| updated <= *at) {
            return false;
        }
        self.removed.remove(path);
        match self.known.get_mut(path) {
            Some(known) if *known >= updated => false,
            Some(known) => {
                *known = updated;
                true
            }
            None => {
                self.known.insert(path.clone(), updated);
                true
            }
        }
    }

    /// Whether the document was there.
    fn on_gone(&mut self, path: &Path, at: Option<Stamp>) -> bool {
        let known = self.known.get(path).copied();
        if let (Some(known), Some(at)) = (known, at)
            && known > at
        {
            return false;
        }
        if let Some(replayed) = &mut self.replayed {
            replayed.remove(path);
        }
        self.known.remove(path);
        if let Some(at) = at.max(known) {
            if self.removed.len() >= REMOVED_MAX {
                self.removed.clear();
            }
            self.removed.insert(path.clone(), at);
        }
        known.is_some()
    }

    /// What the replay did not bring.
    fn on_current(&mut self) -> Vec<Path> {
        self.current = true;
        let Some(replayed) = self.replayed.take() else {
            return Vec::new();
        };
        let missing: Vec<Path> = self
            .known
            .keys()
            .filter(|path| !replayed.contains(*path))
            .cloned()
            .collect();
        for path in &missing {
            self.known.remove(path);
        }
        missing
    }
}

#[cfg(test)]
mod tests;
