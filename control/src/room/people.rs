//! People coming, going, muting and talking.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use signaling::name::{PersonName, RoomName};
use signaling::node::{Enter, PersonId, Refusal, ResourceId, RoomEvent, SourceKind, Visit};

use super::effect::{Effect, EndReason};
use super::person::{Person, Presence};
use super::proof::Proof;
use super::session::Owner;
use super::{Rooms, random};

/// How long the place and media of a person are kept whose WebSocket broke: a laptop changes its
/// network in less, and an empty picture is a nuisance for longer.
pub(crate) const GRACE: Duration = Duration::from_secs(15);

/// A person who is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Their id.
    pub person: PersonId,
    /// What ends with their connection.
    pub visit: Visit,
    /// The room.
    pub room: RoomName,
    /// Proves who they are when they come back.
    pub resume_token: String,
    /// Everybody who is there.
    pub people: Vec<signaling::node::Person>,
}

impl Rooms {
    /// A person enters a room by the page.
    ///
    /// # Errors
    /// A full room or node, a node that is shutting down.
    pub fn handle_enter(&mut self, request: &Enter) -> Result<Entry, Refusal> {
        self.check_place(&request.room)?;
        let token = random::token(&mut *self.random);
        let visit = self.begin_visit();
        let presence = Presence::Page {
            token: token.clone(),
            visit,
        };
        let person = self.add_person(&request.room, request.name.clone(), presence);
        self.tokens.insert(Proof::of(&token), person.clone());
        Ok(self.admit(person, visit, request.room.clone(), token))
    }

    /// A person whose WebSocket broke, or whose broken WebSocket nobody has noticed yet, is back.
    ///
    /// # Errors
    /// [`Refusal::UnknownSession`] when the token is unknown or too old.
    pub fn handle_resume(&mut self, token: &str) -> Result<Entry, Refusal> {
        let person = self
            .tokens
            .get(&Proof::of(token))
            .cloned()
            .ok_or(Refusal::UnknownSession)?;
        let visit = self.begin_visit();
        let known = self
            .people
            .get_mut(&person)
            .ok_or(Refusal::UnknownSession)?;
        known.presence = Presence::Page {
            token: token.to_owned(),
            visit,
        };
        let (room, lost) = (known.room.clone(), known.untold_loss.take());
        if let Some(reason) = lost {
            let (person, event) = (person.clone(), RoomEvent::MediaLost { reason });
            self.effects.push_back(Effect::Notify { person, event });
        }
        self.tell_quality(&person);
        Ok(self.admit(person, visit, room, token.to_owned()))
    }

    fn begin_visit(&mut self) -> Visit {
        self.visits += 1;
        Visit(self.visits)
    }

    /// A person's WebSocket broke without a goodbye; `false` when they are here by another already, or not at all.
    pub fn handle_suspend(&mut self, person: &PersonId, visit: Visit, now: Instant) -> bool {
        let Some(person) = self.people.get_mut(person) else {
            return false;
        };
        let Presence::Page { token, visit: last } = &mut person.presence else {
            return false;
        };
        if *last != visit {
            return false;
        }
        let token = std::mem::take(token);
        let until = now + GRACE;
        person.presence = Presence::Suspended { token, until };
        true
    }

    /// A person says goodbye by their WebSocket, unless they are here by another already.
    pub fn handle_goodbye(&mut self, id: &PersonId, visit: Visit) {
        let is_last = self.people.get(id).is_some_and(
            |person| matches!(person.presence, Presence::Page { visit: last, .. } if last == visit),
        );
        if is_last {
            self.handle_leave(id, EndReason::Left);
        }
    }

    /// A person leaves, for this reason: session, tracks and all.
    pub fn handle_leave(&mut self, id: &PersonId, reason: EndReason) {
        let Some(person) = self.people.get(id) else {
            return;
        };
        let name = person.room.clone();
        if let Some(session) = person.session {
            self.end_session(session, reason);
        }
        let Some(person) = self.people.remove(id) else {
            return;
        };
        match &person.presence {
            Presence::Page { token, .. } | Presence::Suspended { token, .. } => {
                self.tokens.remove(&Proof::of(token));
            }
            Presence::Camera { .. } if !reason.is_known_to_desk() => {
                // Whether it is that of a document, the desk knows.
                let request = id.0.clone();
                self.effects
                    .push_back(Effect::RequestEnded { request, reason });
            }
            Presence::Encoder | Presence::Camera { .. } | Presence::Document { .. } => {}
        }
        if let Some(room) = self.rooms.get_mut(&name) {
            room.people.retain(|other| other != id);
        }
        self.effects
            .push_back(Effect::Dismissed { person: id.clone() });
        self.notify_others(&name, None, &RoomEvent::PersonLeft { id: id.clone() });
        self.drop_room_if_empty(&name);
    }

    /// A WHIP or WHEP client hangs up.
    ///
    /// # Errors
    /// [`Refusal::UnknownSession`].
    pub fn handle_disconnect(&mut self, ResourceId(resource): &ResourceId) -> Result<(), Refusal> {
        let id = *self
            .resources
            .get(&Proof::of(resource))
            .ok_or(Refusal::UnknownSession)?;
        let owner = self.sessions.get(&id).map(|session| session.owner.clone());
        match owner.ok_or(Refusal::UnknownSession)? {
            Owner::Page(person) | Owner::Encoder(person, _) | Owner::Camera(person) => {
                self.handle_leave(&person, EndReason::Left);
            }
            Owner::Viewer(..) => self.end_session(id, EndReason::Left),
        }
        Ok(())
    }

    /// Ends a room and every session in it; `false` when there is no such room.
    pub fn handle_close_room(&mut self, name: &RoomName) -> bool {
        self.empty_room(name, EndReason::RoomClosed)
    }

    /// The room of a broadcaster who hung up ends, and every session in it.
    pub fn handle_broadcast_over(&mut self, name: &RoomName) {
        self.empty_room(name, EndReason::BroadcastOver);
    }

    /// No room is made from now on; those that are there live on.
    pub fn handle_drain(&mut self) {
        self.draining = true;
    }

    /// The node ends: nobody new comes in, everybody in it is told.
    pub fn handle_shutdown(&mut self) {
        self.ending = true;
        let names: Vec<RoomName> = self.rooms.keys().cloned().collect();
        for name in names {
            self.empty_room(&name, EndReason::NodeEnding);
        }
    }

    /// Removes people whose grace time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        let over = |person: &Person| person.presence.until().is_some_and(|until| until <= now);
        let gone = self.people.iter().filter(|(_, person)| over(person));
        let gone: Vec<PersonId> = gone.map(|(id, _)| id.clone()).collect();
        for person in gone {
            self.handle_leave(&person, EndReason::GraceOver);
        }
        if self.draining {
            self.close_rooms_of_cameras();
        }
    }

    /// When the next grace time is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waits = self.people.values();
        waits.filter_map(|person| person.presence.until()).min()
    }

    /// A person muted or unmuted one of their sources; others are told if it is published.
    pub fn handle_mute(&mut self, id: &PersonId, source: SourceKind, muted: bool) {
        let Some(person) = self.people.get_mut(id) else {
            return;
        };
        let changed = if muted {
            person.muted.insert(source)
        } else {
            person.muted.remove(&source)
        };
        if !changed {
            return;
        }
        let mut published = false;
        for track in &person.tracks {
            if let Some(track) = self
                .tracks
                .get_mut(track)
                .filter(|track| track.source == source)
            {
                track.muted = muted;
                published = true;
            }
        }
        if published {
            self.notify_tracks(id);
        }
    }

    /// A person says something to everybody in the room, themselves included.
    pub fn handle_say(&mut self, id: &PersonId, text: &str) {
        let Some(person) = self.people.get(id) else {
            return;
        };
        let (from, name, text) = (id.clone(), person.name.clone(), text.to_owned());
        let room = person.room.clone();
        self.remember_said(&room, &from, &name, &text);
        let event = RoomEvent::Chat { from, name, text };
        self.notify_others(&room, None, &event);
        self.tell_channels(&room, &event);
    }

    /// Puts a person into a room and tells those who are there.
    pub(super) fn add_person(
        &mut self,
        room: &RoomName,
        name: PersonName,
        presence: Presence,
    ) -> PersonId {
        let id = PersonId(random::id(&mut *self.random));
        self.add_person_as(&id, room, name, presence);
        id
    }

    /// The same for a person whose id is known already.
    pub(super) fn add_person_as(
        &mut self,
        id: &PersonId,
        room: &RoomName,
        name: PersonName,
        presence: Presence,
    ) {
        let person = Person {
            name,
            room: room.clone(),
            presence,
            session: None,
            tracks: Vec::new(),
            muted: BTreeSet::new(),
            cname: random::id(&mut *self.random),
            untold_loss: None,
        };
        self.people.insert(id.clone(), person);
        self.room_or_new(room).people.push(id.clone());
        if let Some(person) = self.person_view(id) {
            self.notify_others(room, Some(id), &RoomEvent::PersonJoined { person });
        }
    }

    /// Tells the others what somebody publishes now.
    pub(super) fn notify_tracks(&mut self, id: &PersonId) {
        let Some(person) = self.people.get(id) else {
            return;
        };
        let (room, tracks) = (person.room.clone(), self.track_views(person));
        let event = RoomEvent::Tracks {
            id: id.clone(),
            tracks,
        };
        self.notify_others(&room, Some(id), &event);
    }

    /// Tells a person how things stand: who is there, and who speaks.
    fn admit(
        &mut self,
        person: PersonId,
        visit: Visit,
        room: RoomName,
        resume_token: String,
    ) -> Entry {
        let known = self.rooms.get(&room);
        if let Some(room) = known.filter(|room| room.dominant.is_some()) {
            let (person, event) = (person.clone(), room.speaking_event());
            self.effects.push_back(Effect::Notify { person, event });
        }
        let people = self.people_views(&room);
        Entry {
            person,
            visit,
            room,
            resume_token,
            people,
        }
    }

    /// A node that waits for its last meeting does not wait for cameras.
    fn close_rooms_of_cameras(&mut self) {
        let names: Vec<RoomName> = self.rooms.keys().cloned().collect();
        for name in names {
            if self.has_only_cameras(&name) {
                self.empty_room(&name, EndReason::NodeEnding);
            }
        }
    }

    fn empty_room(&mut self, name: &RoomName, reason: EndReason) -> bool {
        let Some(room) = self.rooms.get(name) else {
            return false;
        };
        let (people, viewers) = (room.people.clone(), room.viewers.clone());
        // First all are told, then they go: nobody is told of the others' going.
        let event = RoomEvent::Closed {
            reason: reason.to_string(),
        };
        self.notify_others(name, None, &event);
        for person in &people {
            self.effects.push_back(Effect::Dismissed {
                person: person.clone(),
            });
        }
        if let Some(room) = self.rooms.get_mut(name) {
            room.people.clear();
        }
        for id in people {
            let Some(person) = self.people.get(&id) else {
                continue;
            };
            if let Some(session) = person.session {
                self.end_session(session, reason);
            }
            let Some(person) = self.people.remove(&id) else {
                continue;
            };
            if let Presence::Page { token, .. } | Presence::Suspended { token, .. } =
                person.presence
            {
                self.tokens.remove(&Proof::of(&token));
            }
        }
        for viewer in viewers {
            self.end_session(viewer, reason);
        }
        self.drop_room_if_empty(name);
        true
    }
}
