//! A room and the people in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use dataplane::id::{GroupId, SessionId, TrackId};
use serde::{Deserialize, Serialize};
use signaling::camera::CameraState;
use signaling::name::{PersonName, RoomName};
use signaling::node::{PersonId, RoomEvent, SourceKind, Visit};

use super::data::Quota;

/// A room; it exists while somebody is in it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Room {
    /// Index of the worker that it began on, its home.
    pub(super) worker: usize,
    /// Its voices compete with each other, and with no others.
    pub(super) group: GroupId,
    /// How many of its sessions live on each worker.
    pub(super) sessions: BTreeMap<usize, usize>,
    /// People and encoders, in order of entry.
    pub(super) people: Vec<PersonId>,
    /// WHEP players' sessions.
    pub(super) viewers: Vec<SessionId>,
    /// Who speaks, as people were last told.
    #[serde(skip)]
    pub(super) speaking: BTreeSet<PersonId>,
    /// Messages that were handed on by data channels.
    #[serde(skip)]
    pub(super) deliveries: Quota,
    /// Who dominates, as people were last told.
    pub(super) dominant: Option<PersonId>,
    /// What was said last, for members: they read it in the room's document.
    pub(super) chat: VecDeque<Said>,
}

/// Something that was said in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its number in the room; grows.
    pub n: u64,
    /// Who.
    pub from: PersonId,
    /// Their name then.
    pub name: PersonName,
    /// What.
    pub text: String,
}

impl Room {
    /// A room with nobody in it.
    pub(super) fn new(worker: usize, group: GroupId) -> Room {
        Room {
            worker,
            group,
            sessions: BTreeMap::new(),
            people: Vec::new(),
            viewers: Vec::new(),
            speaking: BTreeSet::new(),
            deliveries: Quota::default(),
            dominant: None,
            chat: VecDeque::new(),
        }
    }

    /// Who speaks and who dominates, as people are told.
    pub(super) fn speaking_event(&self) -> RoomEvent {
        RoomEvent::Speaking {
            people: self.speaking.iter().cloned().collect(),
            dominant: self.dominant.clone(),
        }
    }

    /// Places taken: a person has one from entry on, with media or without.
    pub(super) fn places(&self) -> usize {
        self.people.len() + self.viewers.len()
    }
}

/// Somebody in a room: at a page, behind an encoder, or a camera.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Person {
    /// What they are called.
    pub(super) name: PersonName,
    /// Where they are.
    pub(super) room: RoomName,
    /// How they are connected to the room.
    pub(super) presence: Presence,
    /// Their media, once they offered.
    pub(super) session: Option<SessionId>,
    /// What they publish, in order of publishing.
    pub(super) tracks: Vec<TrackId>,
    /// Sources that they muted, which may come before the tracks do.
    pub(super) muted: BTreeSet<SourceKind>,
    /// Their canonical name (RFC 3550 section 6.5.1): random, so that it tells nobody anything.
    pub(super) cname: String,
    /// Why their media ended while their WebSocket was broken, until they are told.
    #[serde(skip)]
    pub(super) untold_loss: Option<String>,
}

impl Presence {
    /// How it is with the camera that they are; `None` where they are none.
    pub(super) fn camera(&self) -> Option<CameraState> {
        match self {
            Presence::Camera { state } => Some(*state),
            Presence::Page { .. }
            | Presence::Suspended { .. }
            | Presence::Encoder
            | Presence::Document { .. } => None,
        }
    }

    /// When they are removed, if they do not come back before.
    pub(super) fn until(&self) -> Option<Instant> {
        match self {
            Presence::Suspended { until, .. } => Some(*until),
            Presence::Document { until } => *until,
            Presence::Page { .. } | Presence::Encoder | Presence::Camera { .. } => None,
        }
    }
}

/// How somebody is connected to the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Carried", into = "Carried")]
pub(super) enum Presence {
    /// By a WebSocket; this token proves, after it broke, that it is the same person.
    Page { token: String, visit: Visit },
    /// The WebSocket broke; at `until` they are removed.
    Suspended { token: String, until: Instant },
    /// By a WHIP session, and as long as it lasts.
    Encoder,
    /// By nothing: it is a camera that the node pulls, and stays until it is removed.
    Camera { state: CameraState },
    /// By a document that bears their id. Their media was lost if there is an `until`: then they
    /// are removed, unless they offer again.
    Document { until: Option<Instant> },
}

/// The same in another process: sockets end with this one, and who had one comes back with the token.
#[derive(Serialize, Deserialize)]
enum Carried {
    Page { token: String },
    Encoder,
    Camera,
    Document,
}

impl From<Presence> for Carried {
    fn from(presence: Presence) -> Carried {
        match presence {
            Presence::Page { token, .. } | Presence::Suspended { token, .. } => {
                Carried::Page { token }
            }
            Presence::Encoder => Carried::Encoder,
            Presence::Camera { .. } => Carried::Camera,
            Presence::Document { .. } => Carried::Document,
        }
    }
}

impl From<Carried> for Presence {
    fn from(carried: Carried) -> Presence {
        match carried {
            // Whoever restores it suspends them: no visit goes on in another process.
            Carried::Page { token } => Presence::Page {
                token,
                visit: Visit(0),
            },
            Carried::Encoder => Presence::Encoder,
            // Who takes over connects to it anew.
            Carried::Camera => Presence::Camera {
                state: CameraState::Connecting,
            },
            Carried::Document => Presence::Document { until: None },
        }
    }
}
