//! A database in memory: update times, preconditions, and who wrote what when.

use std::collections::BTreeMap;
use std::time::Duration;

use signaling::firestore::{Fields, Value};

use crate::firestore::desk::{limits, paper};
use crate::firestore::message::{
    Change, Collection, Document, Path, Precondition, Stamp, Target, Write, Written,
};
use crate::firestore::registry::text;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    Page,
    Node(usize),
}

/// An offer that was answered or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) at: Stamp,
    pub(super) node: usize,
    pub(super) error: String,
}

#[derive(Debug, Default)]
pub(super) struct Database {
    pub(super) documents: BTreeMap<Path, Document>,
    last: Stamp,
    /// When a node last wrote a document.
    written: BTreeMap<Path, Stamp>,
    /// How many writes nodes made of a document.
    pub(super) writes: BTreeMap<Path, usize>,
    /// What became of each offer, by document and the offer's mark.
    pub(super) decisions: BTreeMap<(String, u64), Vec<Decision>>,
    /// What was changed since it was last asked.
    pub(super) changed: Vec<Path>,
    /// When somebody forbids it.
    pub(super) denies: bool,
}

impl Database {
    /// A write takes place, or does not.
    pub(super) fn write(&mut self, now: Stamp, writer: Writer, write: &Write) -> Written {
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
        let stamp = Stamp(now.0.max(self.last.0 + 1));
        self.last = stamp;
        if let Writer::Node(node) = writer {
            self.check_gap(stamp, node, &write.path);
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
                if let (Writer::Node(node), Some(before)) = (writer, before) {
                    self.note_decision(stamp, node, &before, &after);
                }
                self.documents.insert(write.path.clone(), after);
            }
        }
        self.changed.push(write.path.clone());
        Written::Done(stamp)
    }

    fn check_gap(&mut self, stamp: Stamp, node: usize, path: &Path) {
        *self.writes.entry(path.clone()).or_default() += 1;
        if let Some(last) = self.written.insert(path.clone(), stamp) {
            let gap = stamp.since(last);
            assert!(
                gap >= limits::WRITE_GAP,
                "node {node} wrote {path:?} {gap:?} after a node's last write"
            );
        }
    }

    fn note_decision(&mut self, at: Stamp, node: usize, before: &Document, after: &Document) {
        if before.path.collection != Collection::Requests || !paper::is_work(&before.fields) {
            return;
        }
        let answered = !paper::answer(&after.fields).is_empty();
        let error = text(&after.fields, "error").to_owned();
        if answered || !error.is_empty() {
            assert!(
                !answered || error.is_empty(),
                "an answer or an error, not both: {after:?}"
            );
            let key = (before.path.id.clone(), paper::mark(&before.fields));
            let decision = Decision { at, node, error };
            self.decisions.entry(key).or_default().push(decision);
        }
    }

    pub(super) fn document(&self, path: &Path) -> Option<&Document> {
        self.documents.get(path)
    }

    pub(super) fn owned_by(&self, node: &str, collection: Collection) -> Vec<Document> {
        let owned = |document: &&Document| {
            document.path.collection == collection && text(&document.fields, "owner") == node
        };
        // A part of it, as the shell may find.
        self.documents
            .values()
            .filter(owned)
            .take(100)
            .cloned()
            .collect()
    }

    /// How many documents are in a target of this node.
    pub(super) fn count(&self, target: Target, node: &str) -> usize {
        let inside = |document: &&Document| Self::is_in(document, target, node);
        self.documents.values().filter(inside).count()
    }

    /// Whether a document is in a target of this node.
    pub(super) fn is_in(document: &Document, target: Target, node: &str) -> bool {
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

    /// It starts again and has forgotten everything, as the emulator does.
    pub(super) fn forget(&mut self) {
        self.documents.clear();
        self.written.clear();
        self.changed.clear();
    }
}

/// The database's time at the simulation's beginning.
pub(super) const EPOCH: Stamp = Stamp(1_700_000_000_000_000);

/// The database's time so long after the beginning.
pub(super) fn stamp(elapsed: Duration) -> Stamp {
    EPOCH.after(elapsed)
}
