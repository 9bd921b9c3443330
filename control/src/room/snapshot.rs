//! The rooms as plain data, for the process that takes over from this one.
//!
//! Carried are rooms, people, sessions and tracks, with the tokens and resources that name them. WebSockets end with
//! the process: whoever had one is taken to have lost it, and comes back within the grace time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use dataplane::event::CloseReason;
use dataplane::id::{SessionId, TrackId};
use serde::{Deserialize, Serialize};
use signaling::name::RoomName;
use signaling::node::{PersonId, ResourceId};

use super::effect::EndReason;
use super::people::GRACE;
use super::person::{Person, Presence, Room};
use super::proof::Proof;
use super::random::Random;
use super::relay::Relays;
use super::session::{Owner, PublishedTrack, Session};
use super::{Rooms, RoomsConfig};
use crate::camera::carried::Carried;

/// The form of a snapshot. Fields that an older reader may do without do not change it.
pub const ROOMS_VERSION: u32 = 1;

/// What rooms hand to those of another process.
#[derive(Debug, Deserialize)]
pub struct RoomsSnapshot {
    version: u32,
    next_id: u64,
    groups: u64,
    rooms: BTreeMap<RoomName, Room>,
    people: BTreeMap<PersonId, Person>,
    sessions: BTreeMap<SessionId, Session>,
    tracks: BTreeMap<TrackId, PublishedTrack>,
    relays: Vec<((TrackId, usize), usize)>,
    #[serde(default)]
    cameras: Vec<Carried>,
}

/// The same before it is written.
#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    next_id: u64,
    groups: u64,
    rooms: &'a BTreeMap<RoomName, Room>,
    people: &'a BTreeMap<PersonId, Person>,
    sessions: &'a BTreeMap<SessionId, Session>,
    tracks: &'a BTreeMap<TrackId, PublishedTrack>,
    relays: Vec<(&'a (TrackId, usize), &'a usize)>,
    cameras: &'a [Carried],
}

/// Why a snapshot was not taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableRooms {
    /// Its form is not known here.
    #[error("the rooms have version {0}, and this program reads version {ROOMS_VERSION}")]
    UnknownVersion(u32),
    /// It is not what it claims to be.
    #[error("the rooms cannot be read: {0}")]
    Malformed(String),
}

impl RoomsSnapshot {
    /// Reads what [`Rooms::snapshot`] wrote.
    ///
    /// # Errors
    /// An unknown version, or bytes that are something else.
    pub fn decode(bytes: &[u8]) -> Result<RoomsSnapshot, UnreadableRooms> {
        let malformed = |error: serde_json::Error| UnreadableRooms::Malformed(error.to_string());
        let snapshot: RoomsSnapshot = serde_json::from_slice(bytes).map_err(malformed)?;
        match snapshot.version {
            ROOMS_VERSION => Ok(snapshot),
            other => Err(UnreadableRooms::UnknownVersion(other)),
        }
    }

    /// How many sessions there are in them.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The cameras that come with the rooms.
    #[must_use]
    pub fn take_cameras(&mut self) -> Vec<Carried> {
        std::mem::take(&mut self.cameras)
    }
}

impl Rooms {
    /// What the rooms of another process go on with, and the cameras in them. It holds every token and password.
    ///
    /// # Panics
    /// Never: plain data with text for keys can always be written.
    #[must_use]
    pub fn snapshot(&self, cameras: &[Carried]) -> Vec<u8> {
        let written = Written {
            version: ROOMS_VERSION,
            next_id: self.next_id,
            groups: self.groups,
            rooms: &self.rooms,
            people: &self.people,
            sessions: &self.sessions,
            tracks: &self.tracks,
            relays: self.relays.0.iter().collect(),
            cameras,
        };
        serde_json::to_vec(&written).expect("plain data with text for keys can always be written")
    }

    /// Goes on where the rooms of another process ended.
    #[must_use]
    pub fn restore(
        now: Instant,
        config: RoomsConfig,
        random: Box<dyn Random>,
        snapshot: RoomsSnapshot,
    ) -> Rooms {
        let mut rooms = Rooms::new(config, random);
        (rooms.next_id, rooms.groups) = (snapshot.next_id, snapshot.groups);
        rooms.people = snapshot.people;
        for (id, person) in &mut rooms.people {
            if let Presence::Page { token, .. } = &mut person.presence {
                let token = std::mem::take(token);
                rooms.tokens.insert(Proof::of(&token), id.clone());
                let until = now + GRACE;
                person.presence = Presence::Suspended { token, until };
            }
        }
        for (id, session) in &snapshot.sessions {
            if let Owner::Encoder(_, ResourceId(resource))
            | Owner::Viewer(ResourceId(resource), _) = &session.owner
            {
                rooms.resources.insert(Proof::of(resource), *id);
            }
            if let Some(request) = &session.origin.request {
                rooms.requests.insert(request.clone(), *id);
            }
            if let Some(duty) = rooms.workers.get_mut(session.worker) {
                duty.handle_begin();
            }
        }
        rooms.sessions = snapshot.sessions;
        rooms.tracks = snapshot.tracks;
        rooms.relays = Relays(snapshot.relays.into_iter().collect());
        rooms.rooms = snapshot.rooms;
        rooms.changed = rooms.rooms.keys().cloned().collect();
        rooms.note_wants();
        rooms
    }

    /// Ends the sessions that the workers did not take over: those whose handshake was not done.
    pub fn handle_carried(&mut self, now: Instant, carried: &BTreeSet<SessionId>) {
        let reason = |id, session: &Session| {
            let is_lost = !carried.contains(&id);
            is_lost.then_some(match session.owner {
                // A camera is connected to anew, and gets a new one.
                Owner::Camera(_) => EndReason::Replaced,
                Owner::Page(_) | Owner::Encoder(..) | Owner::Viewer(..) => {
                    CloseReason::HandshakeFailed.into()
                }
            })
        };
        self.end_lost(now, reason);
    }
}
