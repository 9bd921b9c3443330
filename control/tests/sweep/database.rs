//! A Firestore database in memory: update times, preconditions, and what became of each offer.

use std::collections::BTreeMap;
use std::time::Duration;

use control::firestore::message::{
    Change, Collection, Document, Path, Precondition, Stamp, Target, Write, Written,
};
use signaling::firestore::{Fields, Value, field};

use crate::cloud::Way;

/// The database's time at a world's beginning.
const EPOCH: Stamp = Stamp(1_700_000_000_000_000);

/// The database takes about one sustained write a second of a document.
const WRITE_GAP: Duration = Duration::from_secs(1);

/// Nodes have heard of a clock that was put forward by then. Before, one that has reads dates of one that has not.
const CLOCK_HEARD_WITHIN: Duration = Duration::from_secs(60);

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    Page,
    Node(Way),
}

/// The database.
#[derive(Default)]
pub(crate) struct Database {
    pub(crate) documents: BTreeMap<Path, Document>,
    /// Since the beginning, by its own clock, which can be put forward.
    now: Duration,
    ahead: Duration,
    /// When it was put forward last.
    stepped_at: Option<Duration>,
    last: Stamp,
    /// When a node last wrote a document, by which connection, and whether it deleted it.
    written: BTreeMap<Path, (Stamp, Way, bool)>,
    /// Which node answered each offer, by document and offer.
    answers: BTreeMap<(String, String), usize>,
    /// What was changed since it was last asked.
    pub(crate) changed: Vec<Path>,
    /// It refuses nodes.
    pub(crate) denies: bool,
    /// Answers and refusals.
    pub(crate) answered: u64,
    pub(crate) refused: u64,
}

impl Database {
    /// Time has come to this.
    pub(crate) fn advance(&mut self, elapsed: Duration) {
        self.now = elapsed;
    }

    /// Somebody puts its clock forward.
    pub(crate) fn step_clock(&mut self, by: Duration) {
        self.ahead += by;
        self.stepped_at = Some(self.now);
    }

    /// What time it is there.
    pub(crate) fn stamp(&self) -> Stamp {
        EPOCH.after(self.now + self.ahead)
    }

    /// A write takes place, or does not.
    pub(crate) fn write(&mut self, writer: Writer, write: &Write) -> Written {
        if self.denies && writer != Writer::Page {
            return Written::Denied("missing permissions".to_owned());
        }
        let before = self.documents.get(&write.path).cloned();
        let holds = match write.precondition {
            Precondition::None => true,
            Precondition::Absent => before.is_none(),
            Precondition::Updated(stamp) => before
                .as_ref()
                .is_some_and(|before| before.updated == stamp),
        };
        if !holds {
            return Written::Lost;
        }
        let stamp = Stamp(self.stamp().0.max(self.last.0 + 1));
        self.last = stamp;
        if let Writer::Node(way) = writer {
            self.check_gap(stamp, way, write);
        }
        match &write.change {
            Change::Delete => {
                self.documents.remove(&write.path);
            }
            Change::Set(fields) => {
                let mut after = before.clone().unwrap_or(Document {
                    path: write.path.clone(),
                    fields: Fields::new(),
                    created: stamp,
                    updated: stamp,
                });
                after.fields.extend(fields.clone());
                after.updated = stamp;
                if let (Writer::Node(way), Some(before)) = (writer, before) {
                    self.note_decision(way.node, &before, &after);
                }
                self.documents.insert(write.path.clone(), after);
            }
        }
        self.changed.push(write.path.clone());
        Written::Done(stamp)
    }

    /// A node cannot know what it wrote before it lost its connection or its life, nor when another deleted
    /// what it finds gone, nor what time it is when the clock has just been put forward.
    fn check_gap(&mut self, stamp: Stamp, way: Way, write: &Write) {
        let path = &write.path;
        let is_over = matches!(write.change, Change::Delete);
        let last = self.written.insert(path.clone(), (stamp, way, is_over));
        let is_known =
            |last: Way, is_over: bool| last == way || (last.node != way.node && !is_over);
        let last = last.filter(|(_, last, is_over)| is_known(*last, *is_over));
        let stepped_at = self.stepped_at;
        let knows_time = stepped_at.is_none_or(|at| self.now >= at + CLOCK_HEARD_WITHIN);
        if let Some((last, ..)) = last.filter(|_| knows_time) {
            let gap = stamp.since(last);
            assert!(
                gap >= WRITE_GAP,
                "{way:?} wrote {path:?} {gap:?} after its last write"
            );
        }
    }

    /// An offer is answered once, and by one node.
    fn note_decision(&mut self, node: usize, before: &Document, after: &Document) {
        let was_open = before.path.collection == Collection::Requests
            && text(&before.fields, field::ANSWER).is_empty();
        if !was_open {
            return;
        }
        let is_answered = !text(&after.fields, field::ANSWER).is_empty();
        let is_refused = !text(&after.fields, field::ERROR).is_empty();
        assert!(
            !(is_answered && is_refused),
            "an answer and an error: {after:?}"
        );
        self.refused += u64::from(is_refused);
        if is_answered {
            self.answered += 1;
            let offer = text(&before.fields, field::OFFER).to_owned();
            let key = (before.path.id.clone(), offer);
            let other = self.answers.insert(key, node);
            assert_eq!(other, None, "{} was answered twice", before.path.id);
        }
    }

    /// Documents whose owner is this node, or a part of them.
    pub(crate) fn owned_by(&self, node: &str, collection: Collection) -> Vec<Document> {
        let owned = |document: &&Document| {
            document.path.collection == collection && text(&document.fields, "owner") == node
        };
        self.documents
            .values()
            .filter(owned)
            .take(100)
            .cloned()
            .collect()
    }

    /// How many documents are in a target of this node.
    pub(crate) fn count(&self, target: Target, node: &str) -> usize {
        let inside = |document: &&Document| Database::is_in(document, target, node);
        self.documents.values().filter(inside).count()
    }

    /// Whether a document is in a target of this node.
    pub(crate) fn is_in(document: &Document, target: Target, node: &str) -> bool {
        let fields = &document.fields;
        let requests = document.path.collection == Collection::Requests;
        let ours = text(fields, "owner") == node;
        let abort = fields.get("abort");
        match target {
            Target::Work => {
                requests
                    && fields.get("answer") == Some(&Value::from(""))
                    && abort == Some(&Value::from(false))
            }
            Target::HungUp => requests && ours && abort == Some(&Value::from(true)),
            Target::Members => requests && ours && text(fields, "kind") == "member",
            Target::Nodes => document.path.collection == Collection::Nodes,
        }
    }

    /// A page's document is of no more use: it is deleted, as the TTL policy does.
    pub(crate) fn expire(&mut self, path: &Path) {
        if self.documents.remove(path).is_some() {
            self.changed.push(path.clone());
            self.written.remove(path);
            let id = path.id.as_str();
            self.answers.retain(|(of, _), _| of != id);
        }
    }
}

/// A text field; empty where there is none.
pub(crate) fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields
        .get(name)
        .and_then(Value::as_text)
        .unwrap_or_default()
}
