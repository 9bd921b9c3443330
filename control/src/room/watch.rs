//! WHEP players: each watches one publisher, and goes to the next when that one is gone.

use dataplane::command::{Command, Feed, MediaKind};
use dataplane::id::{SenderId, SessionId, TrackId};
use signaling::name::RoomName;
use signaling::node::{PersonId, SourceKind};
use signaling::sdp::Codec;

use super::person::Person;
use super::session::Owner;
use super::{Rooms, translate};

impl Rooms {
    /// Feeds the room's players from whom they watch now.
    pub(super) fn feed_viewers(&mut self, room: &RoomName) {
        let viewers = self
            .rooms
            .get(room)
            .map(|room| room.viewers.clone())
            .unwrap_or_default();
        for viewer in viewers {
            self.feed_viewer(room, viewer);
        }
    }

    /// Feeds one of them.
    pub(super) fn feed_viewer(&mut self, room: &RoomName, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let Owner::Viewer(_, watched) = &session.owner else {
            return;
        };
        let chosen = session.chosen.clone();
        let watched = chosen.or_else(|| self.watched(room, watched.as_ref()));
        let tracks = [MediaKind::Audio, MediaKind::Video].map(|kind| {
            watched
                .as_ref()
                .and_then(|person| self.main_track(person, kind))
        });
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Owner::Viewer(_, before) = &mut session.owner {
            *before = watched;
        }
        let worker = session.worker;
        let mut changes: Vec<(SenderId, [Option<TrackId>; 2], Vec<Codec>)> = Vec::new();
        for receiver in session.receives.values_mut() {
            let [audio, video] = tracks;
            let track = match receiver.kind() {
                MediaKind::Audio => audio,
                MediaKind::Video => video,
            };
            if receiver.track != track {
                let before = std::mem::replace(&mut receiver.track, track);
                changes.push((receiver.sender(), [before, track], receiver.codecs.clone()));
            }
        }
        if !changes.is_empty() {
            self.note_wants();
        }
        for (sender, [before, track], codecs) in changes {
            if let Some(track) = track {
                self.relay_to(track, worker);
            }
            let source = track.and_then(|track| self.feed(track, &codecs));
            self.command(worker, Command::Feed { sender, source });
            if let Some(before) = before {
                self.unrelay(before, worker);
            }
        }
    }

    /// How `track` is fed to a receiver that answered `codecs`.
    pub(super) fn feed(&self, track: TrackId, codecs: &[Codec]) -> Option<Feed> {
        let published = self.tracks.get(&track)?;
        Some(translate::feed(track, &published.codecs, codecs))
    }

    /// Whom to watch: still the same person while they have something to show, else the first
    /// who has.
    fn watched(&self, room: &RoomName, before: Option<&PersonId>) -> Option<PersonId> {
        let shows = |id: &&PersonId| {
            [MediaKind::Audio, MediaKind::Video]
                .into_iter()
                .any(|kind| self.main_track(id, kind).is_some())
        };
        let people = &self.rooms.get(room)?.people;
        before
            .filter(shows)
            .or_else(|| people.iter().find(shows))
            .cloned()
    }

    /// Somebody's microphone or camera.
    fn main_track(&self, person: &PersonId, kind: MediaKind) -> Option<TrackId> {
        let source = match kind {
            MediaKind::Audio => SourceKind::Microphone,
            MediaKind::Video => SourceKind::Camera,
        };
        let of_source = |id: &TrackId| {
            let track = self.tracks.get(id);
            track.is_some_and(|track| track.source == source)
        };
        let person: &Person = self.people.get(person)?;
        person.tracks.iter().copied().find(of_source)
    }
}
