//! What the listener's stream says, in our words.
//!
//! [`Hearing`] is a state machine without IO: one for each stream. The emulator repeats the whole
//! result set after every commit, between RESET and CURRENT; production sends single changes and
//! says with NO_CHANGE that everything is there up to a moment. Both come out as the same words.

use std::collections::BTreeSet;

use firestore::gcloud_sdk::google::firestore::v1 as proto;
use proto::listen_response::ResponseType;
use proto::target_change::TargetChangeType;

use super::encoding::{self, Names};
use super::message::{Heard, Target};
use super::query;

/// One stream's words, and what they mean so far.
#[derive(Debug)]
pub(super) struct Hearing {
    names: Names,
    /// Targets that are complete.
    current: BTreeSet<Target>,
    /// Targets that are complete as of a moment that the stream has not named yet.
    undated: BTreeSet<Target>,
}

/// The database took a target away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Removed {
    /// The status code of the cause; 0 without one.
    pub(super) code: i32,
    /// The database's sentence.
    pub(super) reason: String,
}

impl Hearing {
    /// A stream that has said nothing yet.
    pub(super) fn new(names: Names) -> Hearing {
        Hearing {
            names,
            current: BTreeSet::new(),
            undated: BTreeSet::new(),
        }
    }

    /// What is to be told before a new stream's first word: nothing known before holds.
    pub(super) fn opening() -> impl Iterator<Item = Heard> {
        Target::ALL.into_iter().map(Heard::Reset)
    }

    /// Whether all targets are complete.
    pub(super) fn is_current(&self) -> bool {
        self.current.len() == Target::ALL.len()
    }

    /// Takes in one message; what it says is added to `heard`.
    ///
    /// # Errors
    /// A target that the database took away: the stream is of no more use.
    pub(super) fn handle(
        &mut self,
        message: proto::ListenResponse,
        heard: &mut Vec<Heard>,
    ) -> Result<(), Removed> {
        match message.response_type {
            Some(ResponseType::TargetChange(change)) => return self.on_target(&change, heard),
            Some(ResponseType::DocumentChange(change)) => self.on_change(change, heard),
            Some(ResponseType::DocumentDelete(gone)) => {
                let at = gone.read_time.map(encoding::read_stamp);
                self.on_gone(&gone.document, &gone.removed_target_ids, at, heard);
            }
            Some(ResponseType::DocumentRemove(gone)) => {
                let at = gone.read_time.map(encoding::read_stamp);
                self.on_gone(&gone.document, &gone.removed_target_ids, at, heard);
            }
            Some(ResponseType::Filter(filter)) => {
                if let Some(target) = query::target(filter.target_id) {
                    let count = usize::try_from(filter.count).unwrap_or(0);
                    heard.push(Heard::Count(target, count));
                }
            }
            None => {}
        }
        Ok(())
    }

    fn on_target(
        &mut self,
        change: &proto::TargetChange,
        heard: &mut Vec<Heard>,
    ) -> Result<(), Removed> {
        let targets = targets(&change.target_ids);
        let at = change.read_time.map(encoding::read_stamp);
        match TargetChangeType::try_from(change.target_change_type) {
            Ok(TargetChangeType::Reset) => {
                for target in targets {
                    self.current.remove(&target);
                    self.undated.remove(&target);
                    heard.push(Heard::Reset(target));
                }
            }
            Ok(TargetChangeType::Current) => {
                for target in targets {
                    self.current.insert(target);
                    match at {
                        Some(at) => heard.push(Heard::Current(target, at)),
                        None => {
                            self.undated.insert(target);
                        }
                    }
                }
            }
            Ok(TargetChangeType::NoChange) => {
                // A moment for all targets also dates those that were complete without one, and
                // tells the time.
                if let Some(at) = at.filter(|_| change.target_ids.is_empty()) {
                    self.undated.clear();
                    heard.extend(
                        self.current
                            .iter()
                            .map(|target| Heard::Current(*target, at)),
                    );
                }
            }
            Ok(TargetChangeType::Remove) => return Err(removed(change, &targets, heard)),
            Ok(TargetChangeType::Add) | Err(_) => {}
        }
        Ok(())
    }

    fn on_change(&self, change: proto::DocumentChange, heard: &mut Vec<Heard>) {
        let Some(document) = change
            .document
            .and_then(|document| encoding::read_document(&self.names, document))
        else {
            return;
        };
        for target in change
            .removed_target_ids
            .iter()
            .copied()
            .filter_map(query::target)
        {
            heard.push(Heard::Gone(target, document.path.clone(), None));
        }
        let mut targets = change.target_ids.iter().copied().filter_map(query::target);
        let last = targets.next_back();
        for target in targets {
            heard.push(Heard::Changed(target, document.clone()));
        }
        if let Some(target) = last {
            heard.push(Heard::Changed(target, document));
        }
    }

    fn on_gone(
        &self,
        name: &str,
        removed: &[i32],
        at: Option<super::message::Stamp>,
        heard: &mut Vec<Heard>,
    ) {
        let Some(path) = self.names.path(name) else {
            return;
        };
        for target in targets(removed) {
            heard.push(Heard::Gone(target, path.clone(), at));
        }
    }
}

/// The targets of these numbers; all of them without any.
fn targets(numbers: &[i32]) -> Vec<Target> {
    if numbers.is_empty() {
        return Target::ALL.into();
    }
    numbers.iter().copied().filter_map(query::target).collect()
}

fn removed(change: &proto::TargetChange, targets: &[Target], heard: &mut Vec<Heard>) -> Removed {
    let (code, reason) = match &change.cause {
        Some(cause) => (cause.code, cause.message.clone()),
        None => (0, "the database ended the listen".to_owned()),
    };
    for target in targets {
        heard.push(Heard::Refused(*target, reason.clone()));
    }
    Removed { code, reason }
}

#[cfg(test)]
mod tests {
    use firestore::gcloud_sdk::google::rpc::Status;
    use firestore::gcloud_sdk::prost_types::Timestamp;

    use super::super::message::{Path, Stamp};
    use super::*;

    const DOCUMENTS: &str = "projects/p/databases/(default)/documents";

    fn hearing() -> Hearing {
        Hearing::new(Names::new(DOCUMENTS, "box"))
    }

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 0 }
    }

    fn target_change(
        kind: TargetChangeType,
        target_ids: &[i32],
        read_time: Option<Timestamp>,
    ) -> proto::ListenResponse {
        let change = proto::TargetChange {
            target_change_type: kind.into(),
            target_ids: target_ids.to_vec(),
            read_time,
            ..proto::TargetChange::default()
        };
        proto::ListenResponse {
            response_type: Some(ResponseType::TargetChange(change)),
        }
    }

    fn change(id: &str, target_ids: &[i32], removed: &[i32]) -> proto::ListenResponse {
        let document = proto::Document {
            name: format!("{DOCUMENTS}/{id}"),
            update_time: Some(seconds(5)),
            ..proto::Document::default()
        };
        let change = proto::DocumentChange {
            document: Some(document),
            target_ids: target_ids.to_vec(),
            removed_target_ids: removed.to_vec(),
        };
        proto::ListenResponse {
            response_type: Some(ResponseType::DocumentChange(change)),
        }
    }

    /// Words, as short as they can be told apart.
    fn hear(hearing: &mut Hearing, message: proto::ListenResponse) -> Vec<String> {
        let mut heard = Vec::new();
        hearing.handle(message, &mut heard).unwrap();
        let word = |heard: Heard| match heard {
            Heard::Reset(target) => format!("reset {target:?}"),
            Heard::Changed(target, document) => {
                format!("{target:?} {} at {}", document.path.id, document.updated.0)
            }
            Heard::Gone(target, path, at) => format!("gone {target:?} {} {at:?}", path.id),
            Heard::Current(target, Stamp(at)) => format!("current {target:?} {at}"),
            Heard::Count(target, count) => format!("count {target:?} {count}"),
            Heard::Refused(target, reason) => format!("refused {target:?} {reason}"),
        };
        heard.into_iter().map(word).collect()
    }

    #[test]
    fn the_emulators_replay_is_a_reset_all_documents_and_current() {
        let mut hearing = hearing();
        let reset = target_change(TargetChangeType::Reset, &[1], None);
        assert_eq!(hear(&mut hearing, reset), ["reset Work"]);
        let heard = hear(&mut hearing, change("box/a", &[1, 3], &[]));
        assert_eq!(heard, ["Work a at 5000000", "Members a at 5000000"]);
        let current = target_change(TargetChangeType::Current, &[1], Some(seconds(7)));
        assert_eq!(hear(&mut hearing, current), ["current Work 7000000"]);
        assert!(!hearing.is_current());
    }

    #[test]
    fn production_dates_what_is_current_later() {
        let mut hearing = hearing();
        let current = target_change(TargetChangeType::Current, &[], None);
        assert!(hear(&mut hearing, current).is_empty());
        assert!(hearing.is_current());
        let one = target_change(TargetChangeType::NoChange, &[2], Some(seconds(8)));
        assert!(hear(&mut hearing, one).is_empty());
        let all = target_change(TargetChangeType::NoChange, &[], Some(seconds(9)));
        let heard = hear(&mut hearing, all);
        assert_eq!(heard.len(), 4);
        assert_eq!(heard[0], "current Work 9000000");
    }

    #[test]
    fn a_document_leaves_in_three_ways() {
        let mut hearing = hearing();
        let heard = hear(&mut hearing, change("box/a", &[3], &[1]));
        assert_eq!(heard, ["gone Work a None", "Members a at 5000000"]);
        let name = format!("{DOCUMENTS}/box/a");
        let delete = ResponseType::DocumentDelete(proto::DocumentDelete {
            document: name.clone(),
            removed_target_ids: vec![1],
            read_time: Some(seconds(6)),
        });
        let remove = ResponseType::DocumentRemove(proto::DocumentRemove {
            document: name,
            removed_target_ids: vec![2],
            read_time: None,
        });
        for (gone, word) in [
            (delete, "gone Work a Some(Stamp(6000000))"),
            (remove, "gone HungUp a None"),
        ] {
            let message = proto::ListenResponse {
                response_type: Some(gone),
            };
            assert_eq!(hear(&mut hearing, message), [word]);
        }
    }

    #[test]
    fn documents_that_are_none_of_ours_are_not_heard() {
        let mut hearing = hearing();
        assert!(hear(&mut hearing, change("box/a/below/b", &[1], &[])).is_empty());
        assert!(hear(&mut hearing, change("box/a", &[99], &[])).is_empty());
        let empty = proto::ListenResponse::default();
        assert!(hear(&mut hearing, empty).is_empty());
        assert_eq!(Path::request("a").id, "a");
    }

    #[test]
    fn a_refused_target_ends_the_stream() {
        let change = proto::TargetChange {
            target_change_type: TargetChangeType::Remove.into(),
            target_ids: vec![4],
            cause: Some(Status {
                code: 7,
                message: "no".to_owned(),
                details: vec![],
            }),
            ..proto::TargetChange::default()
        };
        let message = proto::ListenResponse {
            response_type: Some(ResponseType::TargetChange(change)),
        };
        let mut heard = Vec::new();
        let removed = hearing().handle(message, &mut heard).unwrap_err();
        assert_eq!((removed.code, removed.reason.as_str()), (7, "no"));
        assert_eq!(heard, [Heard::Refused(Target::Nodes, "no".to_owned())]);
    }
}
