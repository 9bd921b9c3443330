//! What the rooms hold, as others may see it.

use dataplane::id::TrackId;
use signaling::name::RoomName;
use signaling::node::{self, PersonId, RoomDetail, RoomSummary, TrackMedia};

use super::effect::ClientKind;
use super::person::{Person, Room, Said};
use super::{Rooms, track_name, translate};

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rooms.
    pub rooms: usize,
    /// People, encoders and cameras.
    pub people: usize,
    /// Media sessions of each kind of client, in the order of [`ClientKind::ALL`].
    pub sessions: [usize; ClientKind::ALL.len()],
    /// Published tracks.
    pub tracks: usize,
}

/// How much of what the node has is used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Rooms.
    pub rooms: usize,
    /// Places taken by people, encoders and players.
    pub places: usize,
    /// The fullest of places and, where it is limited, what may be sent: 0 to 1.
    pub load: f64,
}

/// A room, as its document shows it.
#[derive(Debug)]
pub struct Sight {
    /// People, encoders and players in it, from all doors.
    pub present: usize,
    /// What members see, if there are any.
    pub members: Option<MembersSight>,
}

/// What members see of their room.
#[derive(Debug)]
pub struct MembersSight {
    /// Who is there, and what they publish.
    pub people: Vec<node::Person>,
    /// Who speaks.
    pub speaking: Vec<PersonId>,
    /// What was said last.
    pub chat: Vec<Said>,
}

impl Rooms {
    /// A room, as its document is to show it; `None` when it is gone.
    #[must_use]
    pub fn sight(&self, name: &RoomName) -> Option<Sight> {
        let room = self.rooms.get(name)?;
        let members = self.has_members(name).then(|| MembersSight {
            people: self.people_views(name),
            speaking: room.speaking.iter().cloned().collect(),
            chat: room.chat.iter().cloned().collect(),
        });
        Some(Sight {
            present: room.places(),
            members,
        })
    }

    /// How much there is of everything.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let sessions = |client: ClientKind| {
            self.sessions
                .values()
                .filter(|session| session.origin.client == client)
                .count()
        };
        Totals {
            rooms: self.rooms.len(),
            people: self.people.len(),
            sessions: ClientKind::ALL.map(sessions),
            tracks: self.tracks.len(),
        }
    }

    /// Whether nothing is kept of anybody: so it has to be once everybody has left.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.rooms.is_empty()
            && self.people.is_empty()
            && self.tokens.is_empty()
            && self.sessions.is_empty()
            && self.resources.is_empty()
            && self.requests.is_empty()
            && self.tracks.is_empty()
            && self.relays.0.is_empty()
    }

    /// How much of what the node has is used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let limits = self.config.limits;
        let places: usize = self.rooms.values().map(Room::places).sum();
        let sent: u64 = self.egress.iter().map(|worker| worker.bps).sum();
        let used = |now: f64, most: f64| (now / most.max(1.0)).clamp(0.0, 1.0);
        let egress = limits
            .egress_bps
            .map_or(0.0, |most| used(sent as f64, most as f64));
        Usage {
            rooms: self.rooms.len(),
            places,
            load: egress.max(used(places as f64, limits.sessions as f64)),
        }
    }

    /// Rooms that exist now, by name.
    #[must_use]
    pub fn summaries(&self) -> Vec<RoomSummary> {
        let summary = |(name, room): (&RoomName, &Room)| RoomSummary {
            room: name.clone(),
            people: room.people.len(),
            viewers: room.viewers.len(),
            tracks: self.room_tracks(room).count(),
        };
        self.rooms.iter().map(summary).collect()
    }

    /// Who and what is in a room.
    #[must_use]
    pub fn detail(&self, name: &RoomName) -> Option<RoomDetail> {
        let room = self.rooms.get(name)?;
        let media = self
            .room_tracks(room)
            .filter_map(|track| self.tracks.get(&track));
        let media: Vec<TrackMedia> = media.map(|track| track.media.clone()).collect();
        Some(RoomDetail {
            room: name.clone(),
            people: self.people_views(name),
            viewers: room.viewers.len(),
            media,
        })
    }

    /// Everybody in a room, in order of entry.
    pub(super) fn people_views(&self, room: &RoomName) -> Vec<node::Person> {
        let people = self
            .rooms
            .get(room)
            .map(|room| room.people.as_slice())
            .unwrap_or_default();
        people
            .iter()
            .filter_map(|id| self.person_view(id))
            .collect()
    }

    /// Somebody, as others see them.
    pub(super) fn person_view(&self, id: &PersonId) -> Option<node::Person> {
        let person = self.people.get(id)?;
        let tracks = self.track_views(person);
        Some(node::Person {
            id: id.clone(),
            name: person.name.clone(),
            tracks,
            camera: person.presence.camera(),
        })
    }

    /// Somebody's tracks, as others see them.
    pub(super) fn track_views(&self, person: &Person) -> Vec<node::Track> {
        let view = |id: &TrackId| {
            let track = self.tracks.get(id)?;
            Some(node::Track {
                id: track_name(*id),
                source: track.source,
                kind: translate::track_kind(track.spec.kind),
                muted: track.muted,
            })
        };
        person.tracks.iter().filter_map(view).collect()
    }

    fn room_tracks(&self, room: &Room) -> impl Iterator<Item = TrackId> {
        let people = room.people.iter().filter_map(|id| self.people.get(id));
        people.flat_map(|person| person.tracks.iter().copied())
    }
}
