//! Offers that wait for a decision, and when each is to be looked at: the newest first, since its page
//! is the likeliest to be there still, but now and then the oldest, or it would wait for as long as
//! more are written than can be decided.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use signaling::firestore::{Fields, Request, Value, field};
use signaling::name::RoomName;

use super::effect::RequestId;
use super::limits::{OLDEST_EACH, UNDECIDED_BYTES_MAX};
use super::paper;
use crate::firestore::message::{Document, Stamp};
use crate::firestore::registry::text;

/// A document of the work set.
#[derive(Debug)]
pub(super) struct Case {
    /// What it holds; dropped when there is nothing left to decide.
    pub(super) document: Option<Document>,
    /// Bytes that this takes.
    bytes: usize,
    /// The version of it.
    pub(super) updated: Stamp,
    /// Which offer is in it.
    pub(super) mark: u64,
    /// When we first saw this offer.
    pub(super) first_seen: Instant,
    /// Why our own node would not take it.
    pub(super) declined: Option<String>,
    /// Where the decision stands.
    pub(super) step: Step,
    /// The room that it names as its parent, if it does.
    parent: Option<RoomName>,
}

/// Where a decision stands.
#[derive(Debug)]
pub(super) enum Step {
    /// To be looked at, then or when something changes.
    Due(Instant),
    /// The node makes the session.
    Serving(Request),
    /// The parent is being read.
    Asking,
    /// The room is being made ours.
    Parked,
    /// A decision about a version of it is being written.
    Writing,
    /// Nothing to do for this version.
    Settled,
}

/// All documents of the work set.
#[derive(Debug, Default)]
pub(super) struct Cases {
    cases: BTreeMap<RequestId, Case>,
    timers: BTreeSet<(Instant, RequestId)>,
    ready: BTreeSet<(Reverse<Stamp>, RequestId)>,
    /// Counts those that were looked at.
    polled: u32,
    by_parent: BTreeMap<RoomName, BTreeSet<RequestId>>,
    /// Sessions that are made and not written yet.
    claiming: BTreeSet<RequestId>,
    /// How many are settled.
    settled: usize,
    /// Bytes that documents take.
    bytes: usize,
    /// Documents that were not kept, since the others took all bytes.
    left: u64,
}

impl Cases {
    /// A document is in the set like this. Whether its offer is a new one.
    pub(super) fn insert(&mut self, now: Instant, document: Document) -> bool {
        let id = RequestId(document.path.id.clone());
        let mark = paper::mark(&document.fields);
        let parent: Option<RoomName> = match text(&document.fields, field::KIND) {
            "participant" | "member" | "camera" => {
                text(&document.fields, field::PARENT).trim().parse().ok()
            }
            _ => None,
        };
        let known = self.cases.get(&id);
        let same = known.filter(|case| case.mark == mark);
        let (first_seen, declined) = match same {
            Some(case) => (case.first_seen, case.declined.clone()),
            None => (now, None),
        };
        let is_new = same.is_none();
        let step = match self.remove(&id).map(|case| case.step) {
            Some(step @ (Step::Serving(_) | Step::Writing)) => step,
            Some(Step::Asking | Step::Parked | Step::Due(_) | Step::Settled) | None => {
                Step::Due(now)
            }
        };
        if let Some(parent) = &parent {
            let waiting = self.by_parent.entry(parent.clone()).or_default();
            waiting.insert(id.clone());
        }
        let bytes = bytes_of(&document.fields);
        let fits = self.bytes + bytes <= UNDECIDED_BYTES_MAX;
        self.left += u64::from(!fits);
        let (bytes, step) = match step {
            Step::Due(_) if !fits => (0, Step::Settled),
            step => (bytes, step),
        };
        self.bytes += bytes;
        let case = Case {
            updated: document.updated,
            document: Some(document),
            bytes,
            mark,
            first_seen,
            declined,
            step: Step::Settled,
            parent,
        };
        self.cases.insert(id.clone(), case);
        self.settled += 1;
        self.set_step(&id, step);
        is_new
    }

    /// The document left the set.
    pub(super) fn remove(&mut self, id: &RequestId) -> Option<Case> {
        self.unschedule(id);
        let case = self.cases.remove(id)?;
        self.bytes -= case.bytes;
        self.settled -= usize::from(matches!(case.step, Step::Settled));
        if let Some(parent) = &case.parent
            && let Some(waiting) = self.by_parent.get_mut(parent)
        {
            waiting.remove(id);
            if waiting.is_empty() {
                self.by_parent.remove(parent);
            }
        }
        Some(case)
    }

    /// The case of this document.
    pub(super) fn case(&self, id: &RequestId) -> Option<&Case> {
        self.cases.get(id)
    }

    /// The case of this document, to be changed in anything but its step.
    pub(super) fn case_mut(&mut self, id: &RequestId) -> Option<&mut Case> {
        self.cases.get_mut(id)
    }

    /// The decision stands here now.
    pub(super) fn set_step(&mut self, id: &RequestId, step: Step) {
        self.unschedule(id);
        let Some(case) = self.cases.get_mut(id) else {
            return;
        };
        self.settled -= usize::from(matches!(case.step, Step::Settled));
        self.settled += usize::from(matches!(step, Step::Settled));
        match &step {
            Step::Due(at) => {
                self.timers.insert((*at, id.clone()));
            }
            Step::Settled => {
                case.document = None;
                self.bytes -= std::mem::take(&mut case.bytes);
            }
            Step::Serving(_) | Step::Asking | Step::Parked | Step::Writing => {}
        }
        case.step = step;
    }

    /// A decision about `version` came to its end. If the document has changed since, it is looked
    /// at again.
    pub(super) fn settle(&mut self, now: Instant, id: &RequestId, version: Option<Stamp>) {
        let newer = self
            .cases
            .get(id)
            .is_some_and(|case| case.document.is_some() && Some(case.updated) != version);
        let step = if newer { Step::Due(now) } else { Step::Settled };
        self.set_step(id, step);
    }

    /// Looks at this one now, unless its decision is being carried out.
    pub(super) fn look(&mut self, now: Instant, id: &RequestId) {
        let waits = self
            .cases
            .get(id)
            .is_some_and(|case| matches!(case.step, Step::Due(_) | Step::Asking | Step::Parked));
        if waits {
            self.set_step(id, Step::Due(now));
        }
    }

    /// Looks at everybody who waits for this room.
    pub(super) fn look_at_room(&mut self, now: Instant, room: &RoomName) {
        let waiting = self.by_parent.get(room).cloned().unwrap_or_default();
        for id in waiting {
            self.look(now, &id);
        }
    }

    /// Time begins anew for everybody who waits: the database, or we, were away.
    pub(super) fn restart(&mut self, now: Instant) {
        let waiting: Vec<RequestId> = self.cases.keys().cloned().collect();
        for id in waiting {
            if let Some(case) = self.cases.get_mut(&id) {
                case.first_seen = now;
                case.declined = None;
            }
            self.look(now, &id);
        }
    }

    /// The next to be looked at, if it is time.
    pub(super) fn poll_ready(&mut self, now: Instant) -> Option<RequestId> {
        while let Some((at, id)) = self.timers.first().cloned()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(case) = self.cases.get(&id) {
                self.ready.insert((Reverse(case.updated), id));
            }
        }
        self.polled = self.polled.wrapping_add(1);
        let next = if self.polled.is_multiple_of(OLDEST_EACH) {
            self.ready.pop_last()
        } else {
            self.ready.pop_first()
        };
        next.map(|(_, id)| id)
    }

    /// When somebody is to be looked at.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// A session is being made for this document, or no longer.
    pub(super) fn set_claiming(&mut self, id: &RequestId, claiming: bool) {
        if claiming {
            self.claiming.insert(id.clone());
        } else {
            self.claiming.remove(id);
        }
    }

    /// Sessions that are made and not written yet.
    pub(super) fn claiming(&self) -> usize {
        self.claiming.len()
    }

    /// Documents in the set.
    pub(super) fn len(&self) -> usize {
        self.cases.len()
    }

    /// Documents that something is still to be decided of.
    pub(super) fn undecided(&self) -> usize {
        self.cases.len() - self.settled
    }

    /// Documents that were not kept.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    fn unschedule(&mut self, id: &RequestId) {
        let Some(case) = self.cases.get(id) else {
            return;
        };
        if let Step::Due(at) = case.step {
            self.timers.remove(&(at, id.clone()));
            self.ready.remove(&(Reverse(case.updated), id.clone()));
        }
    }
}

/// What fields take, names and some overhead included.
fn bytes_of(fields: &Fields) -> usize {
    const EACH: usize = 64;
    fn of(value: &Value) -> usize {
        match value {
            Value::Text(text) => text.len(),
            Value::Map(fields) => bytes_of(fields),
            Value::List(values) => values.iter().map(|value| EACH + of(value)).sum(),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Double(_)
            | Value::Time(_)
            | Value::Other(_) => 0,
        }
    }
    let sizes = fields
        .iter()
        .map(|(name, value)| EACH + name.len() + of(value));
    sizes.sum()
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::disallowed_methods,
        reason = "a start of time for the test to count from"
    )]

    use super::*;
    use crate::firestore::message::Path;

    /// One with an offer of a mebibyte, which is as long as a document can be.
    fn document(number: i64) -> Document {
        let offer = Value::Text("a".repeat(1 << 20));
        Document {
            path: Path::request(&format!("d{number}")),
            fields: Fields::from([("offer".to_owned(), offer)]),
            created: Stamp(number),
            updated: Stamp(number),
        }
    }

    #[test]
    fn the_newest_offers_come_first_and_the_oldest_in_the_end_although_more_are_written() {
        let (mut cases, now) = (Cases::default(), Instant::now());
        let small = |number| Document {
            fields: Fields::new(),
            ..document(number)
        };
        for number in 0..3 {
            cases.insert(now, small(number));
        }
        let mut order = Vec::new();
        for number in 3..20 {
            cases.insert(now, small(number));
            order.extend(cases.poll_ready(now).map(|id| id.0));
        }
        assert_eq!(order[..5], ["d3", "d4", "d5", "d0", "d7"]);
        assert!(order.contains(&"d2".to_owned()), "{order:?}");
    }

    #[test]
    fn t_12_a_flood_of_documents_takes_bounded_memory_and_ends() {
        const FLOOD: i64 = 150;
        let (mut cases, now) = (Cases::default(), Instant::now());
        for number in 0..FLOOD {
            cases.insert(now, document(number));
            assert!(cases.bytes <= UNDECIDED_BYTES_MAX);
        }
        let kept = cases.undecided();
        assert!((100..128).contains(&kept), "{kept}");
        assert_eq!(cases.left(), FLOOD as u64 - kept as u64);
        // Those that are kept are decided, and there is room for others.
        while let Some(id) = cases.poll_ready(now) {
            cases.set_step(&id, Step::Settled);
        }
        assert_eq!((cases.undecided(), cases.bytes), (0, 0));
        cases.insert(now, document(FLOOD));
        assert_eq!(cases.undecided(), 1);
        for number in 0..=FLOOD {
            assert!(cases.remove(&RequestId(format!("d{number}"))).is_some());
        }
        assert_eq!((cases.len(), cases.bytes), (0, 0));
    }
}
