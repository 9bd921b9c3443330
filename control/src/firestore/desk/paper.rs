//! A request document as nodes read and write it: the fields that only they write, and what can be
//! told from them.

use std::time::Duration;

use signaling::firestore::{Fields, Value, camera_mark, field, is_camera};

use super::limits;
use crate::firestore::message::{Change, Stamp};
use crate::firestore::registry::{hash, text};

/// The field that says which offer `error` is about: without it a node that has just started could not
/// tell a refused offer from a new one in the same document.
pub(super) const ERROR_OFFER: &str = "error_offer";

/// What makes an offer another one: its text, and what it is for.
#[must_use]
pub(super) fn mark(fields: &Fields) -> u64 {
    let part = |name: &str| match fields.get(name) {
        Some(Value::Text(text)) => text.as_str(),
        Some(value) => value.what(),
        None => "",
    };
    let camera = is_camera(fields).then(|| camera_mark(fields));
    let common = [field::OFFER, field::KIND, field::PARENT].map(part);
    let parts: Vec<&str> = common.into_iter().chain(camera.as_deref()).collect();
    hash(&parts)
}

/// The node that serves the document; empty if none does.
#[must_use]
pub(super) fn owner(fields: &Fields) -> &str {
    text(fields, field::OWNER)
}

/// Until when its node meant to serve it, as it said when it began to.
#[must_use]
pub(super) fn lease_end(fields: &Fields) -> Stamp {
    match fields.get(field::LEASE_UNTIL) {
        Some(Value::Time(end)) => Stamp(*end),
        _ => Stamp::default(),
    }
}

/// The answer; empty if there is none.
#[must_use]
pub(super) fn answer(fields: &Fields) -> &str {
    text(fields, field::ANSWER)
}

/// Whether the page hung up.
#[must_use]
pub(super) fn is_hung_up(fields: &Fields) -> bool {
    matches!(fields.get(field::ABORT), Some(Value::Bool(true)))
}

/// Whether the page wrote no offer yet. A field of a wrong type is an offer, and a bad one; a camera
/// needs none.
#[must_use]
pub(super) fn is_empty(fields: &Fields) -> bool {
    let empty = matches!(fields.get(field::OFFER), Some(Value::Text(offer)) if offer.is_empty());
    empty && !is_camera(fields)
}

/// Whether this very offer was refused.
#[must_use]
pub(super) fn is_refused(fields: &Fields) -> bool {
    !text(fields, field::ERROR).is_empty() && text(fields, ERROR_OFFER) == mark_text(mark(fields))
}

/// Whether an offer waits in the document for an answer.
#[must_use]
pub(super) fn is_work(fields: &Fields) -> bool {
    let unanswered =
        matches!(fields.get(field::ANSWER), Some(Value::Text(answer)) if answer.is_empty());
    let open = matches!(fields.get(field::ABORT), Some(Value::Bool(false)));
    unanswered && open && !is_empty(fields) && !is_refused(fields)
}

/// Whether the meeting that the document began is over.
#[must_use]
pub(super) fn is_over(fields: &Fields) -> bool {
    is_hung_up(fields) || matches!(fields.get(field::EXPIRE_AT), Some(Value::Time(_)))
}

/// How long ago a node wrote that the document is done with.
#[must_use]
pub(super) fn since_done(fields: &Fields, at: Stamp) -> Option<Duration> {
    let Some(Value::Time(expire_us)) = fields.get(field::EXPIRE_AT) else {
        return None;
    };
    let written = expire_us.saturating_sub(Stamp(0).after(limits::EXPIRE_AFTER).0);
    Some(at.since(Stamp(written)))
}

/// How long ago its owner wrote that it serves the document, if leases of that owner last so long.
#[must_use]
pub(super) fn since_claimed(fields: &Fields, at: Stamp, lease: Duration) -> Option<Duration> {
    let written = Stamp(lease_end(fields).0.saturating_sub(Stamp(0).after(lease).0));
    (written > Stamp::default() && written <= at).then(|| at.since(written))
}

/// What the owner writes who serves the document.
#[must_use]
pub(super) fn served(owner: &str, answer: Option<&str>, lease_end: Stamp) -> Fields {
    let mut fields = server_fields(owner, "", "", None);
    fields.insert(field::LEASE_UNTIL.to_owned(), Value::Time(lease_end.0));
    if let Some(answer) = answer {
        fields.insert(field::ANSWER.to_owned(), answer.into());
    }
    fields
}

/// The part of it that stays while an offer is refused and the session before it goes on.
#[must_use]
pub(super) fn still_served(owner: &str, lease_end: Stamp) -> Fields {
    let mut fields = served(owner, None, lease_end);
    fields.remove(field::ERROR);
    fields.remove(ERROR_OFFER);
    fields
}

/// What a node writes that is done with the document, for this reason; empty if there is none.
#[must_use]
pub(super) fn done(owner: &str, error: &str, mark: u64, at: Stamp) -> Fields {
    let mark = if error.is_empty() {
        String::new()
    } else {
        mark_text(mark)
    };
    server_fields(owner, error, &mark, Some(at.after(limits::EXPIRE_AFTER)))
}

/// What a node writes that gives a camera to whichever node takes it: no page is there to offer again.
#[must_use]
pub(super) fn given_back(at: Stamp) -> Fields {
    let mut fields = server_fields("", "", "", None);
    fields.insert(field::ANSWER.to_owned(), Value::from(""));
    fields.insert(field::LEASE_UNTIL.to_owned(), Value::Time(at.0));
    fields
}

/// How long ago a node gave the camera back.
#[must_use]
pub(super) fn since_given_back(fields: &Fields, at: Stamp) -> Option<Duration> {
    let end = lease_end(fields);
    (owner(fields).is_empty() && end > Stamp::default()).then(|| at.since(end))
}

/// Sets the times of a request's or a room's write to when it leaves, which may be long after it was decided: others tell from
/// them when it was written.
pub(super) fn date(change: &mut Change, at: Stamp, lease: Duration) {
    let Change::Set(fields) = change else {
        return;
    };
    let is_served = !owner(fields).is_empty();
    if let Some(Value::Time(expire_us)) = fields.get_mut(field::EXPIRE_AT) {
        *expire_us = at.after(limits::EXPIRE_AFTER).0;
    }
    if let Some(Value::Time(end_us)) = fields.get_mut(field::LEASE_UNTIL) {
        let lease = if is_served { lease } else { Duration::ZERO };
        *end_us = at.after(lease).0;
    }
}

fn server_fields(owner: &str, error: &str, mark: &str, expire_at: Option<Stamp>) -> Fields {
    let expire_at = expire_at.map_or(Value::Null, |at| Value::Time(at.0));
    [
        (field::OWNER, Value::from(owner)),
        (field::LEASE_UNTIL, Value::Null),
        (field::ERROR, Value::from(error)),
        (ERROR_OFFER, Value::from(mark)),
        (field::EXPIRE_AT, expire_at),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn mark_text(mark: u64) -> String {
    format!("{mark:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_late_says_when_it_left() {
        let (lease, decided) = (Duration::from_secs(30), Stamp(1_700_000_000_000_000));
        let left = decided.after(Duration::from_secs(18));
        let dated = |fields| {
            let mut change = Change::Set(fields);
            date(&mut change, left, lease);
            match change {
                Change::Set(fields) => fields,
                Change::Delete => Fields::new(),
            }
        };
        let claim = dated(served("other", Some("YQ=="), decided.after(lease)));
        assert_eq!(since_claimed(&claim, left, lease), Some(Duration::ZERO));
        let refusal = dated(done("", "no", 1, decided));
        assert_eq!(since_done(&refusal, left), Some(Duration::ZERO));
        let camera = dated(given_back(decided));
        assert_eq!(since_given_back(&camera, left), Some(Duration::ZERO));
    }

    #[test]
    fn a_claim_says_by_its_lease_when_it_was_written() {
        let (lease, at) = (Duration::from_secs(30), Stamp(1_700_000_000_000_000));
        let fields = served("other", Some("YQ=="), at.after(lease));
        let since = |ms, lease| since_claimed(&fields, at.after(Duration::from_millis(ms)), lease);
        assert_eq!(since(200, lease), Some(Duration::from_millis(200)));
        // Its lease is longer than anybody knows: nobody waits for a time that is to come.
        assert_eq!(since(200, lease / 2), None);
        assert_eq!(since_claimed(&Fields::new(), at, lease), None);
    }
}
