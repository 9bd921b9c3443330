//! A page's request: what kind of page it is, and which room it wants.

use super::member::Member;
use super::refusal::BadRequest;
use super::value::{Fields, Value};
use crate::name::{PersonName, RoomName};
use crate::sdp::quote;

/// The fields of a request document.
pub mod field {
    /// String, by the page: its display name.
    pub const REQUESTOR: &str = "requestor";
    /// String, by the page: what kind of page it is.
    pub const KIND: &str = "kind";
    /// String, by the page: the meeting that it wants.
    pub const PARENT: &str = "parent";
    /// String, by the page: its offer, encoded.
    pub const OFFER: &str = "offer";
    /// String, by the node: its answer, encoded; empty until then.
    pub const ANSWER: &str = "answer";
    /// Boolean, by the page: whether it hung up.
    pub const ABORT: &str = "abort";
    /// String, by the node: who serves the document.
    pub const OWNER: &str = "owner";
    /// Timestamp, by the node: until when the owner is believed in.
    pub const LEASE_UNTIL: &str = "lease_until";
    /// String, by the node: why the offer is not served.
    pub const ERROR: &str = "error";
    /// Timestamp, by the node: when the database may delete the document.
    pub const EXPIRE_AT: &str = "expire_at";
    /// Map, by a member: what each section that sends carries.
    pub const SOURCES: &str = "sources";
    /// Map, by a member: which track each section that receives is for.
    pub const WANTS: &str = "wants";
    /// Map, by a member: which of its sources are muted.
    pub const MUTED: &str = "muted";
    /// Map, by a member: what it says to the room.
    pub const SAY: &str = "say";
    /// String, for a camera: where it is.
    pub const URL: &str = "url";
    /// List, for a camera: where several streams of it are, and what they are called.
    pub const LAYERS: &str = "layers";
    /// String, for a camera: how its packets travel.
    pub const TRANSPORT: &str = "transport";
    /// String, for a camera: when it is pulled.
    pub const MODE: &str = "mode";
    /// Boolean, for a camera: whether its certificate is looked at.
    pub const VERIFY: &str = "verify";
}

/// What a page is in its meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Publishes into a room named by its document.
    Broadcaster,
    /// Watches the broadcaster's room.
    Participant,
    /// Publishes and watches in a room named by `parent`.
    Member,
    /// No page: a camera that the node pulls into the room named by `parent`.
    Camera,
}

impl Kind {
    /// The kind as it stands in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Broadcaster => "broadcaster",
            Kind::Participant => "participant",
            Kind::Member => "member",
            Kind::Camera => "camera",
        }
    }

    fn parse(text: &str) -> Option<Kind> {
        let all = [
            Kind::Broadcaster,
            Kind::Participant,
            Kind::Member,
            Kind::Camera,
        ];
        all.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What a document asks for, its offer aside ([`super::read_offer`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What kind of page it is.
    pub kind: Kind,
    /// The room: named by the document's id for a broadcaster, by `parent` for everybody else.
    pub room: RoomName,
    /// How the person wants to be called; empty when they did not say.
    pub name: PersonName,
    /// What a member says about its sections; empty for the other kinds.
    pub member: Member,
}

impl Request {
    /// Reads the document with this id.
    ///
    /// A `requestor` that is missing is an empty one, and white space around `parent`, which people
    /// paste to each other, does not count.
    ///
    /// # Errors
    /// A sentence that says which field is wrong and what would be right.
    pub fn read(id: &str, fields: &Fields) -> Result<Request, BadRequest> {
        let kind = text(fields, field::KIND)?.ok_or(BadRequest::Missing(field::KIND))?;
        let kind = Kind::parse(kind).ok_or_else(|| BadRequest::UnknownKind(quote(kind)))?;
        let name = PersonName::new(text(fields, field::REQUESTOR)?.unwrap_or_default());
        let (room, member) = match kind {
            Kind::Broadcaster => (own_room(id)?, Member::default()),
            Kind::Participant | Kind::Camera => (parent(fields)?, Member::default()),
            Kind::Member => (parent(fields)?, Member::read(fields)?),
        };
        Ok(Request {
            kind,
            room,
            name,
            member,
        })
    }
}

fn own_room(id: &str) -> Result<RoomName, BadRequest> {
    id.parse().map_err(|_| BadRequest::BadId(quote(id)))
}

fn parent(fields: &Fields) -> Result<RoomName, BadRequest> {
    let written = text(fields, field::PARENT)?.ok_or(BadRequest::Missing(field::PARENT))?;
    match written.trim() {
        "" => Err(BadRequest::NoParent),
        parent => parent
            .parse()
            .map_err(|_| BadRequest::BadParent(quote(parent))),
    }
}

/// A field's text; `None` when it is not there.
pub(super) fn text<'a>(
    fields: &'a Fields,
    name: &'static str,
) -> Result<Option<&'a str>, BadRequest> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => text_of(value, name).map(Some),
    }
}

/// A value as text, or the sentence that says that it is none.
pub(super) fn text_of<'a>(value: &'a Value, field: &str) -> Result<&'a str, BadRequest> {
    value
        .as_text()
        .ok_or_else(|| wrong_type(value, field, "a string"))
}

/// The sentence for a value of another type than `wanted`.
pub(super) fn wrong_type(value: &Value, field: &str, wanted: &'static str) -> BadRequest {
    BadRequest::WrongType {
        field: field.to_owned(),
        found: value.what(),
        wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(kind: impl Into<Value>, parent: impl Into<Value>) -> Fields {
        [
            (field::REQUESTOR, Value::from("Ada")),
            (field::KIND, kind.into()),
            (field::PARENT, parent.into()),
            (field::OFFER, Value::from("")),
            (field::ANSWER, Value::from("")),
            (field::ABORT, Value::from(false)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn refusal(id: &str, fields: &Fields) -> String {
        Request::read(id, fields)
            .expect_err("the document is bad")
            .to_string()
    }

    #[test]
    fn a_broadcaster_has_a_room_named_by_its_document() {
        let request = Request::read("Zk3bQ9", &fields("broadcaster", "")).unwrap();
        assert_eq!(request.kind, Kind::Broadcaster);
        assert_eq!(request.room.as_str(), "Zk3bQ9");
        assert_eq!(request.name.as_str(), "Ada");
    }

    #[test]
    fn participants_and_members_are_in_their_parents_room() {
        for kind in [Kind::Participant, Kind::Member, Kind::Camera] {
            let fields = fields(kind.as_str(), " Zk3bQ9\n");
            let request = Request::read("me", &fields).unwrap();
            assert_eq!((request.kind, request.room.as_str()), (kind, "Zk3bQ9"));
        }
    }

    #[test]
    fn a_name_may_be_missing_and_is_cut() {
        let mut document = fields("broadcaster", "");
        document.remove(field::REQUESTOR);
        document.remove(field::PARENT);
        let request = Request::read("Zk3bQ9", &document).unwrap();
        assert_eq!(request.name.as_str(), "");
        document.insert(field::REQUESTOR.to_owned(), "n".repeat(1 << 20).into());
        let request = Request::read("Zk3bQ9", &document).unwrap();
        assert_eq!(request.name.as_str().len(), PersonName::CHARS_MAX);
    }

    #[test]
    fn unknown_kinds_are_refused() {
        assert_eq!(
            refusal("a", &fields("viewer", "")),
            "there is no kind `viewer`: write `broadcaster`, `participant`, `member` or `camera`"
        );
        assert!(refusal("a", &fields("k".repeat(1 << 20), "")).len() < 200);
        let mut document = fields("", "");
        document.remove(field::KIND);
        assert!(refusal("a", &document).starts_with("the document has no `kind`: write "));
    }

    #[test]
    fn wrong_types_are_refused() {
        assert_eq!(
            refusal("a", &fields(7, "")),
            "`kind` is a number: it has to be a string"
        );
        assert_eq!(
            refusal("a", &fields("participant", true)),
            "`parent` is a boolean: it has to be a string"
        );
        let mut document = fields("broadcaster", "");
        document.insert(field::REQUESTOR.to_owned(), Value::Double(0.5));
        assert_eq!(
            refusal("a", &document),
            "`requestor` is a number: it has to be a string"
        );
    }

    #[test]
    fn rooms_that_cannot_be_are_refused() {
        assert!(
            refusal("a b", &fields("broadcaster", "")).starts_with("the document's id, `a b`,")
        );
        assert!(refusal("a", &fields("participant", " ")).starts_with("`parent` is empty: "));
        assert!(refusal("a", &fields("member", "a/b")).starts_with("`parent`, `a/b`, is not"));
        assert!(refusal("a", &fields("member", "x".repeat(1 << 20))).len() < 200);
        let mut document = fields("participant", "");
        document.remove(field::PARENT);
        assert!(refusal("a", &document).starts_with("the document has no `parent`: write "));
    }
}
