//! Reads, searches and counts: a few at a time, tried again until the database answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use signaling::name::RoomName;

use super::backoff::Backoff;
use super::effect::{Find, ReadId, RequestId};
use super::limits;
use crate::firestore::message::{Collection, Path, Target};

/// What is wanted to be known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    /// What our own node's document says.
    Station,
    /// Why nobody answers this offer: what its parent says.
    Parent(RequestId, RoomName),
    /// Who owns this room.
    RoomOwner(RoomName),
    /// Whether this room is a broadcaster's.
    RoomParent(RoomName),
    /// What became of our document.
    Request(RequestId),
    /// What documents of a collection a node owns.
    Owned(String, Collection),
    /// How many documents are in this target.
    Count(Target),
}

/// How a question is asked.
#[derive(Debug)]
pub(super) enum Ask {
    /// A read of one document.
    Read(Path),
    /// A search.
    Find(Find),
    /// A count of a target's documents.
    Count(Target),
}

/// The reads.
#[derive(Debug)]
pub(super) struct Reads {
    next_id: u64,
    waiting: VecDeque<Question>,
    /// The same, to be looked up.
    queued: BTreeSet<Question>,
    in_flight: BTreeMap<ReadId, Question>,
    backoff: Backoff,
    node: String,
}

impl Reads {
    pub(super) fn new(node: &str, seed: u64) -> Reads {
        Reads {
            next_id: 1,
            waiting: VecDeque::new(),
            queued: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            backoff: Backoff::new(seed),
            node: node.to_owned(),
        }
    }

    /// Asks, unless the same waits to be asked.
    pub(super) fn push(&mut self, question: Question) {
        if self.queued.insert(question.clone()) {
            self.waiting.push_back(question);
        }
    }

    /// The next to hand out, if one may leave now.
    pub(super) fn poll_read(&mut self, now: Instant) -> Option<(ReadId, Ask)> {
        if self.backoff.holds(now) || self.in_flight.len() >= limits::READS_MAX {
            return None;
        }
        let question = self.waiting.pop_front()?;
        self.queued.remove(&question);
        let ask = match &question {
            Question::Station => Ask::Read(Path::node(&self.node)),
            Question::Parent(_, room) | Question::RoomParent(room) => {
                Ask::Read(Path::request(room.as_str()))
            }
            Question::RoomOwner(room) => Ask::Read(Path::room(room.as_str())),
            Question::Request(id) => Ask::Read(Path::request(&id.0)),
            Question::Owned(node, collection) => {
                Ask::Find(Find::OwnedBy(node.clone(), *collection))
            }
            Question::Count(target) => Ask::Count(*target),
        };
        let id = ReadId(self.next_id);
        self.next_id += 1;
        self.in_flight.insert(id, question);
        Some((id, ask))
    }

    /// An answer came: what was asked. `None` when it will be asked again, because nobody knew.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        id: ReadId,
        known: bool,
    ) -> Option<Question> {
        let question = self.in_flight.remove(&id)?;
        if known {
            self.backoff.on_success();
            return Some(question);
        }
        self.backoff.on_failure(now);
        self.push(question);
        None
    }

    /// The database is reached again.
    pub(super) fn handle_up(&mut self) {
        self.backoff.on_success();
    }

    /// Whether this is being asked.
    pub(super) fn is_asking(&self, question: &Question) -> bool {
        self.queued.contains(question) || self.in_flight.values().any(|asked| asked == question)
    }

    /// When [`Reads::poll_read`] may have something that it has not now.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let may_leave = !self.waiting.is_empty() && self.in_flight.len() < limits::READS_MAX;
        self.backoff.until().filter(|_| may_leave)
    }
}
