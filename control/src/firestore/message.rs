//! What passes between the desk and the database: documents, what the listener hears of them, and
//! writes. Nothing here knows the client that carries it.

use signaling::firestore::Fields;

/// One of the three collections of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Collection {
    /// Where pages write their offers, `broadcast_requests` unless configured otherwise.
    Requests,
    /// Beside it with `_rooms` at the end: rooms that members made, by name.
    Rooms,
    /// Beside it with `_nodes` at the end: the registry, one document for each node.
    Nodes,
}

/// Where a document is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// Its collection.
    pub collection: Collection,
    /// Its id there.
    pub id: String,
}

impl Path {
    /// The path of a page's request.
    #[must_use]
    pub fn request(id: &str) -> Path {
        Path {
            collection: Collection::Requests,
            id: id.to_owned(),
        }
    }

    /// The path of a members' room.
    #[must_use]
    pub fn room(name: &str) -> Path {
        Path {
            collection: Collection::Rooms,
            id: name.to_owned(),
        }
    }

    /// The path of a node in the registry.
    #[must_use]
    pub fn node(id: &str) -> Path {
        Path {
            collection: Collection::Nodes,
            id: id.to_owned(),
        }
    }
}

/// A moment by the database's clock, microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp(pub i64);

/// A document as it was at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it is.
    pub path: Path,
    /// What it holds.
    pub fields: Fields,
    /// When it was made.
    pub created: Stamp,
    /// When it was last changed: names this version of it.
    pub updated: Stamp,
}

/// One of the queries that the listener watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// Requests with `answer == ""` and `abort == false`.
    Work,
    /// Requests with our node as `owner` and `abort == true`.
    HungUp,
    /// Requests with our node as `owner` and `kind == "member"`.
    Members,
    /// The whole registry.
    Nodes,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 4] = [Target::Work, Target::HungUp, Target::Members, Target::Nodes];
}

/// Something that the listener heard.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// What was known of the target is void; its documents follow, then [`Heard::Current`].
    Reset(Target),
    /// The document is in the target, like this.
    Changed(Target, Document),
    /// The document was deleted or left the target, as of the moment if the event named one
    /// (`read_time` of delete and remove events; none for `removed_target_ids`).
    Gone(Target, Path, Option<Stamp>),
    /// The target is complete as of this moment.
    Current(Target, Stamp),
    /// The target holds this many documents (an existence filter).
    Count(Target, usize),
    /// The database refuses the target, with its sentence.
    Refused(Target, String),
}

/// What must hold of a document for a write to take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// There is none.
    Absent,
    /// It was last changed at this moment.
    Updated(Stamp),
    /// Nothing.
    None,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Sets the named fields and leaves the others.
    Set(Fields),
    /// Deletes the document.
    Delete,
}

/// A write of one document.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Which.
    pub path: Path,
    /// What.
    pub change: Change,
    /// Under which condition.
    pub precondition: Precondition,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Done; the document's new update time. For a deletion, when it was.
    Done(Stamp),
    /// The precondition did not hold: not found, exists already, aborted, another update time.
    Lost,
    /// We may not, says the database with its sentence.
    Denied(String),
    /// Nobody knows: the database was not reached or did not answer. Try again later.
    Failed(String),
}
