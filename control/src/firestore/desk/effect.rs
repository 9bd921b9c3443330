//! What the desk is told and what it wants done: values, which the shell brings and carries out.

use std::fmt;

use signaling::camera::CameraRequest;
use signaling::firestore::Kind;
use signaling::name::{PersonName, RoomName};
use signaling::node::SourceKind;
use signaling::sdp::Offer;

use crate::firestore::message::{Collection, Path, Target, Write};

/// A request document's id, which also names the session that serves it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub String);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a write until [`super::Desk::handle_written`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// Names a read, a search or a count until [`super::Desk::handle_read`], [`super::Desk::handle_found`] or
/// [`super::Desk::handle_counted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// Something that the shell is to do, in order.
#[must_use]
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write a document; tell [`super::Desk::handle_written`]. Writes may be gathered into batches,
    /// each with its own precondition and outcome; no two of one batch are of the same document.
    Write(WriteId, Write),
    /// Read a document; tell [`super::Desk::handle_read`].
    Read(ReadId, Path),
    /// Search; tell [`super::Desk::handle_found`]. It may find only a part: the desk asks again until
    /// nothing is left to do.
    Find(ReadId, Find),
    /// Count the documents of a target; tell [`super::Desk::handle_counted`].
    Count(ReadId, Target),
    /// Make the session of this request, or give the one that it has a new offer; tell
    /// [`super::Desk::handle_served`] at once, before anything else.
    Serve(RequestId, Serve),
    /// Put this camera into its room, in place of the one that this request has there if that is another; tell
    /// [`super::Desk::handle_served`] at once, before anything else.
    Pull(RequestId, Box<CameraRequest>),
    /// End the session of this request, if it has one. Nothing is to be told.
    HangUp(RequestId),
    /// End this room and every session in it. Sessions of requests are not to be told.
    CloseRoom(RoomName),
    /// A member muted or unmuted one of their sources.
    Mute(RequestId, SourceKind, bool),
    /// A member says something to the room.
    Say(RequestId, String),
    /// Listen to all targets afresh, without a resume token: what is known may be wrong.
    Relisten,
    /// Something that a person should look at, once each time that it begins.
    Alarm(String),
}

/// What to search for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Find {
    /// Documents of this collection whose `owner` is this node.
    OwnedBy(String, Collection),
}

/// A session to make.
#[derive(Clone, Debug)]
pub struct Serve {
    /// What the page is.
    pub kind: Kind,
    /// The room it is for. It is made when it does not exist.
    pub room: RoomName,
    /// How the person wants to be called.
    pub name: PersonName,
    /// The offer.
    pub offer: Offer,
    /// Members: the `mid` of sections that receive, and the id of the track that is wanted there.
    pub wants: Vec<(String, String)>,
    /// Members: the `mid` of sections that send, and what is sent there.
    pub sources: Vec<(String, SourceKind)>,
}

/// What was done for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// A session was made, or took a new offer.
    Session {
        /// The answer's SDP.
        sdp: String,
    },
    /// A camera is in its room.
    Camera,
}

/// Whether the database is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The listener stands.
    Up,
    /// It does not, for this reason; the shell tries again.
    Down(String),
    /// The database refuses us, with its sentence; the shell tries again at long intervals.
    Denied(String),
}

/// How busy the node is, through all its doors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Rooms.
    pub rooms: usize,
    /// Media sessions.
    pub sessions: usize,
    /// How much of what the node may send is used, 0 to 1.
    pub load: f64,
}

/// What a room looks like to members: texts as they stand in its document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomView {
    /// JSON: an array of people as in `docs/websocket.md`.
    pub people: String,
    /// JSON: an array of the ids of those who speak.
    pub speaking: String,
    /// JSON: an array of what was said last.
    pub chat: String,
    /// People, encoders and players in the room, from all doors.
    pub present: usize,
}
