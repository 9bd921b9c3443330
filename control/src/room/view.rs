//! What the rooms hold, as others may see it.

use dataplane::id::TrackId;
use signaling::name::RoomName;
use signaling::node::{self, PersonId, RoomDetail, RoomSummary, TrackMedia};

use super::effect::ClientKind;
use super::person::{Person, Room};
use super::{Rooms, track_name, translate};

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rooms.
    pub rooms: usize,
    /// People and encoders.
    pub people: usize,
    /// Media sessions of people at the page.
    pub sessions_page: usize,
    /// Media sessions of WHIP encoders.
    pub sessions_encoder: usize,
    /// Media sessions of WHEP players.
    pub sessions_viewer: usize,
    /// Published tracks.
    pub tracks: usize,
}

impl Rooms {
    /// How much there is of everything.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let sessions = |client: ClientKind| {
            self.sessions
                .values()
                .filter(|session| session.owner.client() == client)
                .count()
        };
        Totals {
            rooms: self.rooms.len(),
            people: self.people.len(),
            sessions_page: sessions(ClientKind::Page),
            sessions_encoder: sessions(ClientKind::Encoder),
            sessions_viewer: sessions(ClientKind::Viewer),
            tracks: self.tracks.len(),
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
