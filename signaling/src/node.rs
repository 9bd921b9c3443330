//! What the doors ask of the node behind them. Control implements it; tests of the doors have a double.

use std::future::Future;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::camera::{CameraRequest, CameraState, CameraView};
use crate::name::{PersonName, RoomName};
use crate::quality::{Pause, Preference, Quality};
use crate::sdp::{IceCredentials, Offer};

/// The node behind the doors.
pub trait Node: Send + Sync + 'static {
    /// A person enters a room, without media yet. What happens there from now on arrives on the
    /// returned channel, which is bounded: a person who does not read is removed.
    ///
    /// # Errors
    /// A full room or node, a node that is shutting down.
    fn enter(&self, request: Enter) -> impl Future<Output = Result<Entered, Refusal>> + Send;

    /// A person who lost its WebSocket comes back within the grace time. The channel of the old
    /// connection closes, if it is still there, and that visit's end is nobody's any more.
    ///
    /// # Errors
    /// [`Refusal::UnknownSession`] when the token is unknown or too old.
    fn resume(&self, token: &str) -> impl Future<Output = Result<Entered, Refusal>> + Send;

    /// The person's WebSocket broke without a goodbye: keep their media for the grace time. Does
    /// nothing when they are back already, on another visit.
    fn suspend(&self, person: &PersonId, visit: Visit);

    /// The person leaves: session, tracks and all. Does nothing when they are on another visit.
    fn leave(&self, person: &PersonId, visit: Visit);

    /// Answers a person's offer: the first makes their session, later ones renegotiate it.
    ///
    /// # Errors
    /// An offer that cannot be served; limits.
    fn offer(
        &self,
        person: &PersonId,
        offer: PageOffer,
    ) -> impl Future<Output = Result<String, Refusal>> + Send;

    /// A person muted or unmuted one of their sources.
    fn mute(&self, person: &PersonId, source: SourceKind, muted: bool);

    /// A person says what they want of a track that they receive.
    fn prefer(&self, person: &PersonId, track: &str, preference: Preference);

    /// A person says something to the room.
    fn say(&self, person: &PersonId, text: &str);

    /// WHIP: an encoder publishes into a room. WHEP: a player watches a room.
    ///
    /// # Errors
    /// An offer that cannot be served; limits.
    fn connect(&self, request: Connect) -> impl Future<Output = Result<Connected, Refusal>> + Send;

    /// WHIP and WHEP `PATCH`: trickled candidates or an ICE restart (RFC 9725 section 4.3).
    ///
    /// # Errors
    /// [`Refusal::UnknownSession`], [`Refusal::StaleEtag`].
    fn patch(
        &self,
        resource: &ResourceId,
        patch: Patch,
    ) -> impl Future<Output = Result<Patched, Refusal>> + Send;

    /// A WHEP player says how good its picture is to be at most.
    ///
    /// # Errors
    /// [`Refusal::UnknownSession`].
    fn layer(
        &self,
        resource: &ResourceId,
        most: Quality,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// WHIP and WHEP `DELETE`.
    ///
    /// # Errors
    /// [`Refusal::UnknownSession`].
    fn disconnect(&self, resource: &ResourceId)
    -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Rooms that exist now, by name.
    fn rooms(&self) -> Vec<RoomSummary>;

    /// Who and what is in a room; `None` when there is no such room.
    fn room(&self, room: &RoomName) -> Option<RoomDetail>;

    /// Ends a room and every session in it; `false` when there is no such room.
    fn close_room(&self, room: &RoomName) -> bool;

    /// A camera comes into a room, and stays until it is removed.
    ///
    /// # Errors
    /// A description that makes no sense; limits.
    fn add_camera(
        &self,
        request: CameraRequest,
    ) -> impl Future<Output = Result<CameraView, Refusal>> + Send;

    /// Cameras that there are now, in the order in which they came.
    fn cameras(&self) -> Vec<CameraView>;

    /// One of them; `None` when there is no such camera.
    fn camera(&self, id: &PersonId) -> Option<CameraView>;

    /// Takes a camera out of its room; `false` when there is no such camera.
    fn remove_camera(&self, id: &PersonId) -> bool;

    /// Whether new sessions are taken, and why not.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    fn ready(&self) -> Result<(), String>;

    /// The metrics page, in Prometheus text format.
    fn metrics(&self) -> String;
}

/// A person in a room, unguessable: it is also what their resume token names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PersonId(pub String);

/// One connection's time in a room, from when a person enters or comes back: it speaks for them until
/// the next begins, which may be before its own end is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit(pub u64);

/// The last segment of a WHIP or WHEP resource's URL: random and unguessable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResourceId(pub String);

/// A request to enter a room.
#[derive(Clone, Debug)]
pub struct Enter {
    /// The room; made when it does not exist.
    pub room: RoomName,
    /// How the person wants to be called.
    pub name: PersonName,
    /// Where the request came from, for limits per caller.
    pub from: IpAddr,
}

/// A person who is in.
#[derive(Debug)]
pub struct Entered {
    /// Their id, public in the room.
    pub person: PersonId,
    /// What this connection ends when it ends.
    pub visit: Visit,
    /// The room.
    pub room: RoomName,
    /// Proves, after a broken connection, that this is the same person. Secret.
    pub resume_token: String,
    /// Everybody who is there, the person themselves included.
    pub people: Vec<Person>,
    /// What happens from now on.
    pub events: mpsc::Receiver<RoomEvent>,
}

/// Somebody in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Their id.
    pub id: PersonId,
    /// Their name.
    pub name: PersonName,
    /// What they publish.
    pub tracks: Vec<Track>,
    /// How it is with the camera that this is; none where it is somebody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera: Option<CameraState>,
}

/// Something that a person publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Track {
    /// Its id, which offers ask for.
    pub id: String,
    /// Where it comes from.
    pub source: SourceKind,
    /// Audio or video.
    pub kind: TrackKind,
    /// Whether its owner muted it.
    pub muted: bool,
}

/// Where a person's track comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// Camera, or an encoder's picture.
    Camera,
    /// Microphone, or an encoder's sound.
    Microphone,
    /// A shared screen.
    Screen,
    /// The sound of a shared screen.
    ScreenAudio,
}

/// Kind of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TrackKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// What happens in a room, as people in it are told.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum RoomEvent {
    /// Somebody came in.
    PersonJoined {
        /// Who.
        person: Person,
    },
    /// Somebody left.
    PersonLeft {
        /// Who.
        id: PersonId,
    },
    /// Somebody's tracks changed, or were muted or unmuted: the whole new list.
    Tracks {
        /// Whose.
        id: PersonId,
        /// Their tracks.
        tracks: Vec<Track>,
    },
    /// It is otherwise with a camera now.
    Camera {
        /// Which: the id of the person that it is.
        id: PersonId,
        /// How it is with it.
        state: CameraState,
    },
    /// Who speaks now: the whole list.
    Speaking {
        /// Who.
        people: Vec<PersonId>,
        /// Who has spoken loudest over the last seconds, or spoke last; none before anybody did.
        dominant: Option<PersonId>,
    },
    /// Somebody said something.
    Chat {
        /// Who.
        from: PersonId,
        /// Their name then.
        name: PersonName,
        /// What.
        text: String,
    },
    /// What the person is sent of a picture changed.
    Layer {
        /// The track's id.
        track: String,
        /// Which of its qualities, counted from the smallest; none while it is paused.
        layer: Option<u8>,
        /// Why it is paused.
        #[serde(skip_serializing_if = "Option::is_none")]
        pause: Option<Pause>,
    },
    /// What the person's network carries, as far as the node can tell by what arrives.
    Estimate {
        /// Bits per second.
        bps: u64,
    },
    /// How good a picture of the person's anybody wants: the encodings above need not be sent.
    Wanted {
        /// Which of their pictures.
        source: SourceKind,
        /// The best that is wanted.
        most: Quality,
    },
    /// The person's media connected.
    Connected,
    /// The person's media was lost for this reason; they may offer again, which makes a new session.
    MediaLost {
        /// A sentence.
        reason: String,
    },
    /// It is over for this person: the room was closed, or the node ends. The channel closes after it.
    Closed {
        /// A sentence.
        reason: String,
    },
}

/// A person's offer over the page's WebSocket.
#[derive(Clone, Debug)]
pub struct PageOffer {
    /// The offer.
    pub offer: Offer,
    /// For sections that the client receives on: the `mid`, and the id of the track it wants there.
    /// A receiving section without one is answered `inactive`.
    pub wants: Vec<(String, String)>,
    /// For sections that the client sends on: the `mid`, and what is sent there.
    pub sources: Vec<(String, SourceKind)>,
}

/// Which of the two HTTP doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// RFC 9725: the client publishes.
    Whip,
    /// Its draft counterpart: the client watches the room's first publisher.
    Whep,
}

/// A WHIP or WHEP `POST`.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Which door.
    pub door: Door,
    /// The room; made when it does not exist.
    pub room: RoomName,
    /// How the publisher is called in the room: `?name=` or empty.
    pub name: PersonName,
    /// The offer.
    pub offer: Offer,
    /// Whom a player watches, by id or name: `?watch=`; without it the room's first publisher.
    pub watch: Option<String>,
    /// How good the player's picture is to be at most: `?layer=`.
    pub most: Quality,
    /// Where the request came from, for limits per caller.
    pub from: IpAddr,
}

/// A WHIP or WHEP session that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Names it in its URL.
    pub resource: ResourceId,
    /// The answer's SDP.
    pub answer: String,
    /// Names the ICE session: the value of the `ETag` header without quotes.
    pub etag: String,
}

/// A trickle-ICE fragment (RFC 8840), parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The client's credentials in it: new ones ask for an ICE restart.
    pub ice: Option<IceCredentials>,
    /// `If-Match` without quotes; `None` when the header is missing, `*` as it is.
    pub if_match: Option<String>,
}

/// What a `PATCH` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patched {
    /// Candidates were taken note of: 204.
    Trickled,
    /// ICE was restarted: 200 with this fragment and a new `ETag`.
    Restarted {
        /// `application/trickle-ice-sdpfrag` with our new credentials and candidates.
        fragment: String,
        /// The new `ETag` without quotes.
        etag: String,
    },
}

/// A room in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomSummary {
    /// Its name.
    pub room: RoomName,
    /// People and encoders in it.
    pub people: usize,
    /// WHEP players.
    pub viewers: usize,
    /// Published tracks.
    pub tracks: usize,
}

/// A room in full.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoomDetail {
    /// Its name.
    pub room: RoomName,
    /// People and encoders in it, with their tracks.
    pub people: Vec<Person>,
    /// WHEP players.
    pub viewers: usize,
    /// What each track carries now.
    pub media: Vec<TrackMedia>,
}

/// What a published track carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackMedia {
    /// The track's id.
    pub id: String,
    /// Received bits per second over the last second.
    pub bitrate_bps: u64,
    /// Packets received.
    pub packets: u64,
    /// Packets lost between the publisher and us.
    pub lost: u64,
}

/// Why the node said no. Each says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 422: the offer is well formed and cannot be served.
    #[error("this offer cannot be served: {0}")]
    Unservable(String),
    /// 422: a camera that cannot be, for a reason that is a sentence.
    #[error("this camera cannot be added: {0}")]
    BadCamera(String),
    /// 503: the room holds as many as it may.
    #[error("the room is full: it holds at most {0} sessions")]
    RoomFull(usize),
    /// 503: the node holds as many as it may.
    #[error("the node is full: {0}; try again later or on another node")]
    NodeFull(String),
    /// 503: the node is shutting down.
    #[error("the node is shutting down; use another one")]
    ShuttingDown,
    /// 409: nobody publishes in the room that a player wants to watch (WHEP draft section 4.2).
    #[error("nobody publishes in this room yet; try again in a moment")]
    NothingToWatch,
    /// 404: no such session, or it ended.
    #[error("no such session; it may have ended")]
    UnknownSession,
    /// 412: `If-Match` names an older ICE session (RFC 9725 section 4.3.1).
    #[error("the entity tag is not the current one: restart ICE with the newest")]
    StaleEtag,
    /// 500: a part of the node did not answer.
    #[error("the node could not do it: {0}")]
    Broken(String),
}
