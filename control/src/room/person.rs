//! A room and the people in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use dataplane::id::{GroupId, SessionId, TrackId};
use serde::Serialize;
use signaling::name::{PersonName, RoomName};
use signaling::node::{PersonId, RoomEvent, SourceKind};

use super::data::Quota;

/// A room; it exists while somebody is in it.
#[derive(Debug)]
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
    pub(super) speaking: BTreeSet<PersonId>,
    /// Messages that were handed on by data channels.
    pub(super) deliveries: Quota,
    /// Who dominates, as people were last told.
    pub(super) dominant: Option<PersonId>,
    /// What was said last, for members: they read it in the room's document.
    pub(super) chat: VecDeque<Said>,
}

/// Something that was said in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// Somebody in a room: at a page, or behind an encoder.
#[derive(Debug)]
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
}

impl Presence {
    /// When they are removed, if they do not come back before.
    pub(super) fn until(&self) -> Option<Instant> {
        match self {
            Presence::Suspended { until, .. } => Some(*until),
            Presence::Document { until } => *until,
            Presence::Page { .. } | Presence::Encoder => None,
        }
    }
}

/// How somebody is connected to the room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// By a WebSocket; this token proves, after it broke, that it is the same person.
    Page { token: String },
    /// The WebSocket broke; at `until` they are removed.
    Suspended { token: String, until: Instant },
    /// By a WHIP session, and as long as it lasts.
    Encoder,
    /// By a document that bears their id. Their media was lost if there is an `until`: then they
    /// are removed, unless they offer again.
    Document { until: Option<Instant> },
}
