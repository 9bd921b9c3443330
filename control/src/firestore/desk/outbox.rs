//! Writes that wait for their turn: one at a time and one a second for each document, tried again
//! until the database says what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use signaling::name::RoomName;

use super::backoff::Backoff;
use super::effect::{RequestId, WriteId};
use super::limits;
use crate::firestore::message::{Change, Path, Precondition, Stamp, Write, Written};

/// What a write is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Our own node's document.
    Heartbeat,
    /// The end of our own node's document.
    Farewell,
    /// An answer, or word that a document is ours again.
    Claim(RequestId),
    /// A refusal.
    Refuse(RequestId),
    /// Word that a document is ours again, whose answer stands.
    Reclaim(RequestId),
    /// The end of a document's session.
    Finish(RequestId),
    /// A document that its node left behind.
    Mark(RequestId, String),
    /// A room's document.
    Room(RoomName),
    /// The end of a room's document.
    CloseRoom(RoomName),
    /// A room's document that its node left behind.
    DropRoom(RoomName, String),
    /// A dead node's document: we clean up.
    SweepBegin(String),
    /// A dead node's document: we have cleaned up.
    SweepEnd(String),
}

impl Purpose {
    /// Somebody waits for these; the rest goes when there is room.
    fn is_urgent(&self) -> bool {
        match self {
            Purpose::Heartbeat
            | Purpose::Claim(_)
            | Purpose::Reclaim(_)
            | Purpose::Room(_)
            | Purpose::SweepBegin(_) => true,
            Purpose::Farewell
            | Purpose::Refuse(_)
            | Purpose::Finish(_)
            | Purpose::Mark(..)
            | Purpose::CloseRoom(_)
            | Purpose::DropRoom(..)
            | Purpose::SweepEnd(_) => false,
        }
    }
}

/// A write that waits.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// The write.
    pub(super) write: Write,
    /// What it is for.
    pub(super) purpose: Purpose,
    /// Whether it is meant for what our write before it makes of the document, and not for the one
    /// version that it names.
    pub(super) follows: bool,
}

/// What became of a write in the end.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What it was for.
    pub(super) purpose: Purpose,
    /// The document's new version; `None` when the precondition did not hold.
    pub(super) done: Option<Stamp>,
    /// The version that it was meant for.
    pub(super) meant: Option<Stamp>,
    /// It was tried before with an unknown outcome: if lost, it may be lost to itself.
    pub(super) doubtful: bool,
    /// The database refused it, and it will not be tried again.
    pub(super) denied: bool,
}

/// The outbox.
#[derive(Debug)]
pub(super) struct Outbox {
    next_id: u64,
    slots: BTreeMap<Path, Slot>,
    /// Slots whose write may leave: urgent first, then in order.
    ready: BTreeSet<(bool, u64, Path)>,
    /// When a slot's second is over.
    held: BTreeSet<(Instant, Path)>,
    /// What is on its way, and since when.
    flights: BTreeMap<WriteId, (Path, Instant)>,
    /// How many slots have a write that waits.
    waiting: usize,
    backoff: Backoff,
}

/// What the outbox knows of one document.
#[derive(Debug, Default)]
struct Slot {
    /// What is on its way.
    flight: Option<Waiting>,
    /// What waits behind it.
    waiting: Option<Waiting>,
    /// When the next may leave.
    free_at: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Waiting {
    order: u64,
    pending: Pending,
    doubtful: bool,
}

impl Outbox {
    pub(super) fn new(seed: u64) -> Outbox {
        Outbox {
            next_id: 1,
            slots: BTreeMap::new(),
            ready: BTreeSet::new(),
            held: BTreeSet::new(),
            flights: BTreeMap::new(),
            waiting: 0,
            backoff: Backoff::new(seed),
        }
    }

    /// One more write. A write of the same document that still waits is merged: the later fields,
    /// condition and purpose hold.
    pub(super) fn push(&mut self, pending: Pending) {
        self.next_id += 1;
        let order = self.next_id;
        let path = pending.write.path.clone();
        let slot = self.slots.entry(path.clone()).or_default();
        let waiting = match slot.waiting.take() {
            Some(before) => {
                self.ready.remove(&before.key(&path));
                before.merged(pending)
            }
            None => {
                self.waiting += 1;
                Waiting {
                    order,
                    pending,
                    doubtful: false,
                }
            }
        };
        slot.waiting = Some(waiting);
        self.requeue(&path);
    }

    /// Takes back what waits for this document and what it was for.
    pub(super) fn cancel(&mut self, path: &Path) -> Option<Purpose> {
        let slot = self.slots.get_mut(path)?;
        let waiting = slot.waiting.take()?;
        self.waiting -= 1;
        self.ready.remove(&waiting.key(path));
        Some(waiting.pending.purpose)
    }

    /// What the write that waits for this document is for.
    pub(super) fn waiting_purpose(&self, path: &Path) -> Option<&Purpose> {
        let waiting = self.slots.get(path)?.waiting.as_ref()?;
        Some(&waiting.pending.purpose)
    }

    /// Whether something of this document waits or is on its way.
    pub(super) fn is_busy(&self, path: &Path) -> bool {
        let slot = self.slots.get(path);
        slot.is_some_and(|slot| slot.flight.is_some() || slot.waiting.is_some())
    }

    /// Nothing of this document leaves before this moment.
    pub(super) fn hold(&mut self, path: &Path, until: Instant) {
        let slot = self.slots.entry(path.clone()).or_default();
        if slot.free_at.is_none_or(|free_at| free_at < until) {
            slot.free_at = Some(until);
            self.held.insert((until, path.clone()));
            if let Some(waiting) = &slot.waiting {
                self.ready.remove(&waiting.key(path));
            }
        }
    }

    /// The next write to hand out, if one may leave now.
    pub(super) fn poll_write(&mut self, now: Instant) -> Option<(WriteId, Write)> {
        if self.backoff.holds(now) || self.flights.len() >= limits::WRITES_MAX {
            return None;
        }
        self.release(now);
        let (_, order, path) = self.ready.pop_first()?;
        let slot = self.slots.get_mut(&path)?;
        let waiting = slot.waiting.take()?;
        self.waiting -= 1;
        let write = waiting.pending.write.clone();
        slot.flight = Some(waiting);
        // The order is the id: each is used once, because a retry takes a new one.
        let id = WriteId(order);
        self.flights.insert(id, (path, now));
        Some((id, write))
    }

    /// A write came back. `None` when it waits again.
    pub(super) fn handle_written(
        &mut self,
        now: Instant,
        id: WriteId,
        written: &Written,
    ) -> Option<Outcome> {
        let (path, _) = self.flights.remove(&id)?;
        let slot = self.slots.get_mut(&path)?;
        let flight = slot.flight.take()?;
        let outcome = match written {
            Written::Done(stamp) => {
                self.backoff.on_success();
                if let Some(waiting) = &mut slot.waiting {
                    waiting.follow(*stamp);
                }
                Some(flight.outcome(Some(*stamp)))
            }
            Written::Lost => {
                self.backoff.on_success();
                Some(flight.outcome(None))
            }
            // No session waits for a permission.
            Written::Denied(_) if matches!(flight.pending.purpose, Purpose::Claim(_)) => {
                self.backoff.on_denied(now);
                let outcome = flight.outcome(None);
                Some(Outcome {
                    denied: true,
                    ..outcome
                })
            }
            Written::Denied(_) | Written::Failed(_) => {
                if matches!(written, Written::Denied(_)) {
                    self.backoff.on_denied(now);
                } else {
                    self.backoff.on_failure(now);
                }
                self.next_id += 1;
                self.waiting += usize::from(slot.waiting.is_none());
                slot.waiting = Some(match slot.waiting.take() {
                    Some(later) => Waiting {
                        order: self.next_id,
                        doubtful: true,
                        ..flight.merged(later.pending)
                    },
                    None => Waiting {
                        order: self.next_id,
                        doubtful: true,
                        ..flight
                    },
                });
                None
            }
        };
        // A write that was lost touched nothing.
        if !matches!(written, Written::Lost) {
            self.hold(&path, now + limits::WRITE_GAP);
        }
        self.requeue(&path);
        outcome
    }

    /// The database is reached again: what waits for a retry may leave.
    pub(super) fn handle_up(&mut self) {
        self.backoff.on_success();
    }

    /// When [`Outbox::poll_write`] may have something that it has not now.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.flights.len() >= limits::WRITES_MAX {
            return None;
        }
        let held = self.held.first().map(|(at, _)| *at);
        match self.backoff.until() {
            // Nothing leaves before, and much may after.
            Some(until) if held.is_some() || !self.ready.is_empty() => Some(until),
            Some(_) | None => held,
        }
    }

    /// Writes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Writes on their way.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// How long the write that has been on its way for longest has been.
    pub(super) fn longest_flight(&self, now: Instant) -> Duration {
        let first = self.flights.values().map(|(_, since)| *since).min();
        first.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Lets go what has waited its second, and forgets documents that nothing is to be known of.
    fn release(&mut self, now: Instant) {
        while let Some((at, path)) = self.held.first().cloned()
            && at <= now
        {
            self.held.pop_first();
            let Some(slot) = self.slots.get_mut(&path) else {
                continue;
            };
            if slot.free_at.is_some_and(|free_at| free_at <= now) {
                slot.free_at = None;
            }
            self.requeue(&path);
        }
    }

    fn requeue(&mut self, path: &Path) {
        let Some(slot) = self.slots.get(path) else {
            return;
        };
        match &slot.waiting {
            Some(waiting) if slot.flight.is_none() && slot.free_at.is_none() => {
                self.ready.insert(waiting.key(path));
            }
            None if slot.flight.is_none() && slot.free_at.is_none() => {
                self.slots.remove(path);
            }
            Some(_) | None => {}
        }
    }
}

impl Waiting {
    fn key(&self, path: &Path) -> (bool, u64, Path) {
        (!self.pending.purpose.is_urgent(), self.order, path.clone())
    }

    /// This write with a later one over it.
    fn merged(self, later: Pending) -> Waiting {
        let mut pending = later;
        if let (Change::Set(before), Change::Set(after)) =
            (&self.pending.write.change, &mut pending.write.change)
        {
            for (name, value) in before {
                after.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        if pending.follows {
            let both = (self.pending.write.precondition, pending.write.precondition);
            pending.write.precondition = match both {
                (Precondition::Updated(before), Precondition::Updated(after)) => {
                    Precondition::Updated(before.max(after))
                }
                (before, Precondition::None) => before,
                (_, after) => after,
            };
        }
        Waiting {
            order: self.order,
            pending,
            doubtful: self.doubtful,
        }
    }

    /// Our write before this one made this version of the document.
    fn follow(&mut self, stamp: Stamp) {
        if self.pending.follows {
            let named = match self.pending.write.precondition {
                Precondition::Updated(named) => named.max(stamp),
                Precondition::Absent | Precondition::None => stamp,
            };
            self.pending.write.precondition = Precondition::Updated(named);
        }
    }

    fn outcome(self, done: Option<Stamp>) -> Outcome {
        Outcome {
            purpose: self.pending.purpose,
            done,
            meant: match self.pending.write.precondition {
                Precondition::Updated(stamp) => Some(stamp),
                Precondition::Absent | Precondition::None => None,
            },
            doubtful: self.doubtful,
            denied: false,
        }
    }
}

/// How long a second lasts for a document that another node wrote this long ago.
pub(super) fn rest_of_gap(ago: Duration) -> Duration {
    limits::FOREIGN_WRITE_GAP.saturating_sub(ago)
}

#[cfg(test)]
mod tests {
    use signaling::firestore::{Fields, Value};

    use super::*;

    fn push(outbox: &mut Outbox, name: &str, version: i64, follows: bool) {
        let fields = Fields::from([(name.to_owned(), Value::Bool(true))]);
        outbox.push(Pending {
            write: Write {
                path: Path::request("d"),
                change: Change::Set(fields),
                precondition: Precondition::Updated(Stamp(version)),
            },
            purpose: Purpose::Finish(RequestId(name.to_owned())),
            follows,
        });
    }

    #[expect(clippy::disallowed_methods, reason = "only differences to it matter")]
    fn any_instant() -> Instant {
        Instant::now()
    }

    const GAP: Duration = limits::WRITE_GAP;

    #[test]
    fn a_second_write_waits_its_second_and_takes_later_fields_along() {
        let start = any_instant();
        let mut outbox = Outbox::new(1);
        push(&mut outbox, "a", 1, false);
        let (id, _) = outbox.poll_write(start).unwrap();
        push(&mut outbox, "b", 1, true);
        push(&mut outbox, "c", 1, true);
        assert!(
            outbox.poll_write(start + GAP * 2).is_none(),
            "one at a time"
        );
        let done = outbox.handle_written(start, id, &Written::Done(Stamp(5)));
        assert_eq!(done.unwrap().done, Some(Stamp(5)));
        assert!(outbox.poll_write(start + GAP / 2).is_none());
        assert_eq!(outbox.poll_timeout(), Some(start + GAP));
        let (_, write) = outbox.poll_write(start + GAP).unwrap();
        assert_eq!(write.precondition, Precondition::Updated(Stamp(5)));
        let Change::Set(fields) = write.change else {
            panic!("fields are set");
        };
        assert_eq!(fields.into_keys().collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn a_write_that_failed_is_tried_again_and_lost_with_doubt() {
        let start = any_instant();
        let mut outbox = Outbox::new(1);
        push(&mut outbox, "a", 1, false);
        let (id, first) = outbox.poll_write(start).unwrap();
        let failed = Written::Failed("no route".to_owned());
        assert!(outbox.handle_written(start, id, &failed).is_none());
        assert!(
            outbox.poll_write(start + GAP / 2).is_none(),
            "it may have happened"
        );
        let (id, again) = outbox.poll_write(start + GAP).unwrap();
        assert_eq!(again, first);
        let lost = outbox
            .handle_written(start + GAP, id, &Written::Lost)
            .unwrap();
        assert!(lost.doubtful && lost.done.is_none());
        assert_eq!((outbox.in_flight(), outbox.waiting()), (0, 0));
    }

    #[test]
    fn waits_grow_while_the_database_is_away() {
        let mut now = any_instant();
        let mut outbox = Outbox::new(7);
        push(&mut outbox, "a", 1, false);
        let mut waits = Vec::new();
        for _ in 0..12 {
            let (id, _) = outbox.poll_write(now).unwrap();
            let failed = Written::Failed("no route".to_owned());
            let _ = outbox.handle_written(now, id, &failed);
            let next = outbox.poll_timeout().unwrap().max(now + GAP);
            waits.push(next - now);
            now = next;
        }
        assert!(waits[11] > Duration::from_secs(15) && waits[11] <= limits::RETRY_MAX);
        assert!(waits[3] < waits[5]);
    }
}
