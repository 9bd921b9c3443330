//! Why a document cannot be served, as its `error` says it.

use super::description::OFFER_LEN_MAX;
use super::member::{MAP_ENTRIES_MAX, SAY_CHARS_MAX, TRACK_ID_LEN_MAX};
use crate::sdp::OfferError;

/// Why a document cannot be served, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// A field that has to be there is not.
    #[error(
        "the document has no `{0}`: write `requestor`, `kind`, `parent`, `offer`, `answer` and `abort` at once"
    )]
    Missing(&'static str),
    /// A field of another type.
    #[error("`{field}` is {found}: it has to be {wanted}")]
    WrongType {
        /// The field, with its place inside where it is a map: `wants.2`.
        field: String,
        /// What it is: `a number`.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A `kind` that nobody knows.
    #[error("there is no kind `{0}`: write `broadcaster`, `participant`, `member` or `camera`")]
    UnknownKind(String),
    /// A broadcaster's document whose id is no room's name.
    #[error(
        "the document's id, `{0}`, cannot name a room: use an id of 1 to 64 letters, digits, `_` or `-`, as `addDoc` makes them"
    )]
    BadId(String),
    /// A participant or a member without a room.
    #[error(
        "`parent` is empty: a participant names the broadcaster's document there, a member or a camera the room"
    )]
    NoParent,
    /// A parent that is no room's name.
    #[error(
        "`parent`, `{0}`, is not the id of a meeting: those are 1 to 64 letters, digits, `_` or `-`"
    )]
    BadParent(String),
    /// A camera's document that describes none.
    #[error("this is no camera: {0}")]
    Camera(String),
    /// An empty offer.
    #[error("`offer` is empty: write base64 of the JSON {{\"type\":\"offer\",\"sdp\":\"...\"}}")]
    EmptyOffer,
    /// An offer past [`OFFER_LEN_MAX`].
    #[error("`offer` has {0} bytes: at most {max} are read", max = OFFER_LEN_MAX)]
    OfferTooLong(usize),
    /// Not base64.
    #[error(
        "`offer` is not base64 ({0}): write standard base64 of the JSON {{\"type\":\"offer\",\"sdp\":\"...\"}}"
    )]
    NotBase64(String),
    /// Base64 of something that is not JSON.
    #[error(
        "`offer` is base64, but not of JSON ({0}): encode {{\"type\":\"offer\",\"sdp\":\"...\"}}"
    )]
    NotJson(String),
    /// JSON that is no description.
    #[error(
        "the JSON in `offer` is no description ({0}): it has to be {{\"type\":\"offer\",\"sdp\":\"...\"}}, both of them strings"
    )]
    NotDescription(String),
    /// A description of another type.
    #[error("the description in `offer` is of type `{0}`: it has to be `offer`")]
    NotAnOffer(String),
    /// SDP that we refuse.
    #[error(transparent)]
    Sdp(#[from] OfferError),
    /// More entries than a page has sections.
    #[error("`{field}` has {entries} entries: at most {max} are read", max = MAP_ENTRIES_MAX)]
    TooManyEntries {
        /// The field.
        field: &'static str,
        /// How many.
        entries: usize,
    },
    /// A source that nobody knows.
    #[error("`{0}` is not a source: they are `camera`, `microphone`, `screen` and `screen-audio`")]
    UnknownSource(String),
    /// A track's id that is none.
    #[error("`{0}` is not a track's id: copy it from the room's `people`, 1 to {max} bytes", max = TRACK_ID_LEN_MAX)]
    BadTrackId(String),
    /// A `say` without its number.
    #[error("`say.n` has to be a whole number that grows with everything that is said")]
    BadSayNumber,
    /// Too much, or nothing, to say.
    #[error("`say.text` has {0} characters: 1 to {max} can be said", max = SAY_CHARS_MAX)]
    BadSayLength(usize),
}
