//! Sweeps: what dead nodes, or an earlier process of our own id, left behind.

use std::collections::BTreeMap;
use std::time::Instant;

use signaling::firestore::{Value, is_camera};
use signaling::name::RoomName;

use super::outbox::{Pending, Purpose};
use super::reads::Question;
use super::{Desk, RequestId, limits, paper};
use crate::firestore::message::{Change, Collection, Document, Path, Precondition, Stamp, Write};
use crate::firestore::registry::{Node, Standing, text};

/// Searches of one sweep and collection: each finds up to a thousand documents.
const ROUNDS_MAX: u32 = 100;

/// Sweeps that go on, by node.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    active: BTreeMap<String, Sweep>,
}

/// One sweep.
#[derive(Debug)]
struct Sweep {
    began: Instant,
    /// The version of the node's document that says that we sweep; none for our own node.
    version: Option<Stamp>,
    /// What is searched.
    collection: Collection,
    /// Searches so far.
    rounds: u32,
    /// Writes that are not back yet.
    pending: usize,
    /// When it searches again for what the node may still have claimed itself.
    again: Option<Instant>,
}

impl Sweep {
    fn new(began: Instant) -> Sweep {
        Sweep {
            began,
            version: None,
            collection: Collection::Requests,
            rounds: 0,
            pending: 0,
            again: None,
        }
    }
}

impl Desk {
    /// Begins to clean up after nodes that are dead, when it is our turn.
    pub(super) fn tick_sweeps(&mut self, now: Instant) {
        self.sweeps
            .active
            .retain(|_, sweep| now < sweep.began + limits::SWEEP_LEASE);
        for (node, sweep) in &mut self.sweeps.active {
            if sweep.again.take_if(|again| *again <= now).is_some() {
                self.reads
                    .push(Question::Owned(node.clone(), sweep.collection));
            }
        }
        let able = self.able_since.is_some() && self.is_settled(now) && !self.is_leaving();
        let (true, Some(at)) = (able, self.clock.at(now)) else {
            return;
        };
        let is_due = |id: &str, node: &Node| {
            id != self.config.node
                && !self.sweeps.active.contains_key(id)
                && self.registry.standing(id, at, true) == Standing::Gone
                && at >= self.sweep_turn(id, node, at)
        };
        let due: Vec<(String, Stamp)> = self
            .registry
            .iter()
            .filter(|(id, node)| is_due(id, node))
            .map(|(id, node)| (id.to_owned(), node.updated))
            .collect();
        for (node, updated) in due {
            self.sweeps.active.insert(node.clone(), Sweep::new(now));
            let fields = [
                (
                    "swept_by".to_owned(),
                    Value::from(self.config.node.as_str()),
                ),
                ("draining".to_owned(), Value::Bool(true)),
            ];
            self.outbox.push(Pending {
                write: Write {
                    path: Path::node(&node),
                    change: Change::Set(fields.into()),
                    precondition: Precondition::Updated(updated),
                },
                purpose: Purpose::SweepBegin(node),
                follows: false,
            });
        }
    }

    /// When we may clean up after a dead node: one node after the other.
    fn sweep_turn(&self, id: &str, node: &Node, at: Stamp) -> Stamp {
        let order = self.registry.by_hash(id, at);
        let rank = order.iter().position(|node| *node == self.config.node);
        let rank = u32::try_from(rank.unwrap_or(order.len())).unwrap_or(u32::MAX);
        let turn = limits::SWEEP_STEP.saturating_mul(rank);
        if node.swept_by.is_empty() {
            node.lease_end().after(turn)
        } else if node.swept_by == self.config.node {
            node.updated.after(limits::FOREIGN_WRITE_GAP)
        } else {
            node.updated.after(limits::SWEEP_LEASE).after(turn)
        }
    }

    pub(super) fn on_sweep_begun(&mut self, node: &str, done: Option<Stamp>) {
        let Some(version) = done else {
            self.sweeps.active.remove(node);
            return;
        };
        if let Some(sweep) = self.sweeps.active.get_mut(node) {
            sweep.version = Some(version);
            let question = Question::Owned(node.to_owned(), Collection::Requests);
            self.reads.push(question);
        }
    }

    /// A search found what a node owns, at least a part of it.
    pub(super) fn on_found(&mut self, now: Instant, question: Question, documents: &[Document]) {
        let Question::Owned(node, collection) = question else {
            return;
        };
        let own = node == self.config.node;
        if own && (self.station.is_replaced() || self.station.is_ending()) {
            return;
        }
        if own && collection == Collection::Rooms {
            self.audit_rooms(documents);
        } else if own && !self.sweeps.active.contains_key(&node) {
            self.sweeps.active.insert(node.clone(), Sweep::new(now));
            self.audit_seats(documents);
        }
        let (young, left): (Vec<&Document>, Vec<&Document>) = documents
            .iter()
            .filter(|document| self.is_left(&node, document))
            .partition(|document| self.is_younger(now, &node, document));
        let until = young
            .iter()
            .map(|document| paper::lease_end(&document.fields));
        let wait = until.max().map(|end| end.since(self.at(now)));
        let count = left.len();
        for document in left {
            self.keep_gap(now, document);
            self.outbox.push(self.mark(now, &node, document));
        }
        if own && collection == Collection::Rooms {
            return;
        }
        let Some(sweep) = self.sweeps.active.get_mut(&node) else {
            return;
        };
        sweep.pending += count;
        sweep.rounds += 1;
        if count > 0 && sweep.rounds < ROUNDS_MAX {
            return;
        }
        if let Some(wait) = wait {
            // Either the node lives, or these are the last words of a dead one that came late.
            sweep.again = Some(now + wait);
            return;
        }
        match (own, collection) {
            (true, _) => {
                self.sweeps.active.remove(&node);
            }
            (false, Collection::Requests) => {
                sweep.collection = Collection::Rooms;
                sweep.rounds = 0;
                self.reads.push(Question::Owned(node, Collection::Rooms));
            }
            (false, Collection::Rooms | Collection::Nodes) => self.end_sweep(node),
        }
    }

    /// Whether a document was left behind by the node and nobody cares for it.
    fn is_left(&self, node: &str, document: &Document) -> bool {
        let fields = &document.fields;
        if text(fields, "owner") != node || self.outbox.is_busy(&document.path) {
            return false;
        }
        match document.path.collection {
            Collection::Requests => {
                let id = document.request_id();
                let kept = self.seats.contains_key(&id) || self.is_awaited(&id);
                !paper::is_work(fields) && !kept
            }
            Collection::Rooms => {
                let name: Result<RoomName, _> = document.path.id.parse();
                name.is_ok_and(|name| !self.rooms.contains_key(&name))
            }
            Collection::Nodes => false,
        }
    }

    /// Whether the node claimed the document after it was taken for dead: it may live, and the
    /// document is its own until the lease runs out.
    fn is_younger(&self, now: Instant, node: &str, document: &Document) -> bool {
        let begun = self.sweeps.active.get(node).and_then(|sweep| sweep.version);
        begun.is_some_and(|begun| document.updated > begun)
            && paper::lease_end(&document.fields) > self.at(now)
    }

    /// The write that tells a page that its node is gone, or deletes a room.
    fn mark(&self, now: Instant, node: &str, document: &Document) -> Pending {
        let fields = &document.fields;
        let error = if paper::is_hung_up(fields) {
            ""
        } else if node == self.config.node {
            "the node that served this meeting started again; offer again"
        } else {
            "the node that served this meeting is gone; offer again"
        };
        let is_room = document.path.collection == Collection::Rooms;
        let id = document.path.id.clone();
        let (change, purpose) = match id.parse() {
            Ok(name) if is_room => (Change::Delete, Purpose::DropRoom(name, node.to_owned())),
            Ok(_) | Err(_) => {
                let left = if is_camera(fields) && !paper::is_hung_up(fields) {
                    paper::given_back(self.at(now))
                } else {
                    paper::done("", error, paper::mark(fields), self.at(now))
                };
                let purpose = Purpose::Mark(RequestId(id), node.to_owned());
                (Change::Set(left), purpose)
            }
        };
        Pending {
            write: Write {
                path: document.path.clone(),
                change,
                precondition: Precondition::Updated(document.updated),
            },
            purpose,
            follows: false,
        }
    }

    /// A document that was left behind is marked, or was changed by somebody else.
    pub(super) fn on_swept(&mut self, node: &str, done: bool) {
        self.counters.swept += u64::from(done);
        let Some(sweep) = self.sweeps.active.get_mut(node) else {
            return;
        };
        sweep.pending = sweep.pending.saturating_sub(1);
        if sweep.pending == 0 {
            let question = Question::Owned(node.to_owned(), sweep.collection);
            self.reads.push(question);
        }
    }

    fn end_sweep(&mut self, node: String) {
        let version = self
            .sweeps
            .active
            .get(&node)
            .and_then(|sweep| sweep.version);
        let Some(version) = version else {
            return;
        };
        self.outbox.push(Pending {
            write: Write {
                path: Path::node(&node),
                change: Change::Delete,
                precondition: Precondition::Updated(version),
            },
            purpose: Purpose::SweepEnd(node),
            follows: false,
        });
    }

    pub(super) fn on_sweep_ended(&mut self, node: &str, done: bool) {
        self.sweeps.active.remove(node);
        self.counters.sweeps += u64::from(done);
    }

    /// Our documents were in others' hands: those that the database does not show as ours are asked
    /// after one by one.
    fn audit_seats(&mut self, found: &[Document]) {
        let found: std::collections::BTreeSet<RequestId> =
            found.iter().map(Document::request_id).collect();
        let missing = self
            .seats
            .iter()
            .filter(|(id, seat)| seat.claimed && !found.contains(id));
        for (id, _) in missing {
            self.reads.push(Question::Request(id.clone()));
        }
    }

    fn audit_rooms(&mut self, found: &[Document]) {
        let is_found = |name: &RoomName| {
            found
                .iter()
                .any(|document| document.path.id == name.as_str())
        };
        let missing: Vec<RoomName> = self
            .shared_rooms()
            .filter(|name| !is_found(name))
            .cloned()
            .collect();
        for name in missing {
            self.reads.push(Question::RoomOwner(name));
        }
    }
}
