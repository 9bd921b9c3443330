//! Rooms: who is where, what they publish, and what the engine is to do about it.
//!
//! [`Rooms`] is a state machine without IO. Call any `handle_*`, then drain [`Rooms::poll_effect`]
//! until it returns `None`, even after a refusal; call [`Rooms::handle_timeout`] at the time of
//! [`Rooms::poll_timeout`], or now and then. Time and randomness are arguments.
//!
//! ```text
//!  doors  ─► handle_enter, handle_offer, handle_connect ..  ─┐
//!  engine ─► handle_event                                    ├─► Rooms ─► poll_effect ─► workers, people, log
//!  clock  ─► handle_timeout                                 ─┘
//! ```
//!
//! A room's sessions live on one worker, its home, until that has no time for more ([`place`]); what
//! is published is brought to every worker where somebody watches it ([`relay`]).

mod camera;
mod data;
mod dominant;
mod effect;
mod events;
mod negotiate;
mod offers;
mod overload;
mod people;
mod person;
mod place;
mod plan;
mod proof;
mod quality;
mod random;
mod relay;
mod requests;
mod session;
mod snapshot;
mod translate;
mod view;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use dataplane::command::Command;
use dataplane::id::{GroupId, SessionId, TrackId};
use signaling::name::RoomName;
use signaling::node::{PersonId, Refusal, ResourceId, RoomEvent};
use signaling::sdp::Candidate;

pub use camera::CameraStreams;
pub use effect::{ChannelRefusal, ClientKind, Effect, EndReason};
pub use people::Entry;
pub use person::Said;
pub use random::{Random, first_id};
pub use requests::{Request, RequestKind};
pub use snapshot::{ROOMS_VERSION, RoomsSnapshot, UnreadableRooms};
pub use view::{MembersSight, Sight, Totals, Usage};

use person::{Person, Room};
use place::Duty;
use proof::Proof;
use relay::Relays;
use session::{Owner, PublishedTrack, Session};

/// What the rooms are told at birth.
#[derive(Clone, Debug)]
pub struct RoomsConfig {
    /// How much they take in.
    pub limits: RoomLimits,
    /// SHA-256 fingerprint of the certificate that new sessions have.
    pub fingerprint: [u8; 32],
    /// For each worker, where it can be reached.
    pub candidates: Vec<Vec<Candidate>>,
    /// The first number of a session or track: another for each node and each of its lives, so that what a page asks for by
    /// a number of a node that ended is nothing else's here.
    pub first_id: u64,
}

/// How much the rooms take in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomLimits {
    /// Rooms at once.
    pub rooms: usize,
    /// People and players at once, in all rooms.
    pub sessions: usize,
    /// People and players at once in one room.
    pub sessions_per_room: usize,
    /// Tracks that one session may publish.
    pub tracks_per_session: usize,
    /// Bits per second that the node may send before new sessions are refused.
    pub egress_bps: Option<u64>,
    /// Share of a worker's time, in percent, past which newcomers to a room that began there go to
    /// other workers.
    pub spread_percent: u8,
}

/// All rooms of a node.
pub struct Rooms {
    config: RoomsConfig,
    random: Box<dyn Random>,
    next_id: u64,
    /// Visits of people that ever began.
    visits: u64,
    /// Rooms that were ever made.
    groups: u64,
    rooms: BTreeMap<RoomName, Room>,
    people: BTreeMap<PersonId, Person>,
    tokens: BTreeMap<Proof, PersonId>,
    sessions: BTreeMap<SessionId, Session>,
    resources: BTreeMap<Proof, SessionId>,
    /// Sessions of broadcasters and participants, by their document's id.
    requests: BTreeMap<String, SessionId>,
    tracks: BTreeMap<TrackId, PublishedTrack>,
    egress: Vec<Egress>,
    /// What each worker has to do.
    workers: Vec<Duty>,
    relays: Relays,
    /// No new rooms are made.
    draining: bool,
    ending: bool,
    effects: VecDeque<Effect>,
    /// Whether somebody wants another quality of something than when publishers were last told.
    wants_changed: bool,
    /// Whether somebody may receive something else than when cameras were last asked for.
    watch_changed: bool,
    /// Rooms that look otherwise than when this was last asked for.
    changed: BTreeSet<RoomName>,
}

/// What one worker sent, as last reported.
#[derive(Clone, Copy, Debug, Default)]
struct Egress {
    /// Total bytes, and when that was.
    last: Option<(u64, Instant)>,
    /// Bits per second between the last two reports.
    bps: u64,
}

impl Rooms {
    /// No rooms yet.
    #[must_use]
    pub fn new(config: RoomsConfig, random: Box<dyn Random>) -> Rooms {
        Rooms {
            egress: vec![Egress::default(); config.candidates.len()],
            workers: vec![Duty::default(); config.candidates.len()],
            relays: Relays::default(),
            next_id: config.first_id,
            visits: 0,
            config,
            random,
            groups: 0,
            rooms: BTreeMap::new(),
            people: BTreeMap::new(),
            tokens: BTreeMap::new(),
            sessions: BTreeMap::new(),
            resources: BTreeMap::new(),
            requests: BTreeMap::new(),
            tracks: BTreeMap::new(),
            draining: false,
            ending: false,
            effects: VecDeque::new(),
            wants_changed: false,
            watch_changed: false,
            changed: BTreeSet::new(),
        }
    }

    /// The id that no session has yet, nor any that is made later a smaller one.
    #[must_use]
    pub fn next_session(&self) -> SessionId {
        SessionId(self.next_id)
    }

    /// Sessions that are made from now on have a certificate of this fingerprint.
    pub fn handle_certificate(&mut self, fingerprint: [u8; 32]) {
        self.config.fingerprint = fingerprint;
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether there is something to do.
    #[must_use]
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Rooms that look otherwise than when this was last asked for, or are gone.
    pub fn take_changed(&mut self) -> BTreeSet<RoomName> {
        std::mem::take(&mut self.changed)
    }

    /// Whether newcomers are taken, and why not.
    ///
    /// # Errors
    /// What is used up.
    pub fn ready(&self) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::ShuttingDown);
        }
        self.check_node()
    }

    /// Whether there is a place on the node for one more.
    fn check_node(&self) -> Result<(), Refusal> {
        if self.ending {
            return Err(Refusal::ShuttingDown);
        }
        let limits = self.config.limits;
        let places: usize = self.rooms.values().map(Room::places).sum();
        if places >= limits.sessions {
            let full = format!("it holds at most {} sessions", limits.sessions);
            return Err(Refusal::NodeFull(full));
        }
        let sent: u64 = self.egress.iter().map(|worker| worker.bps).sum();
        match limits.egress_bps {
            Some(most) if sent >= most => Err(Refusal::NodeFull(format!(
                "it sends {sent} bit/s and may send at most {most}"
            ))),
            _ => self.check_worker(self.idlest_worker()),
        }
    }

    /// Whether the worker keeps up with what it has.
    fn check_worker(&self, worker: usize) -> Result<(), Refusal> {
        match self.workers.get(worker).and_then(Duty::overload) {
            Some(reason) => Err(Refusal::NodeFull(format!(
                "worker {worker} takes nobody new: {reason}; try again in a moment"
            ))),
            None => Ok(()),
        }
    }

    /// Whether there is a place in `room` for one more.
    fn check_place(&self, name: &RoomName) -> Result<(), Refusal> {
        self.check_node()?;
        let limits = self.config.limits;
        match self.rooms.get(name) {
            None if self.draining => Err(Refusal::ShuttingDown),
            Some(room) if room.places() >= limits.sessions_per_room => {
                Err(Refusal::RoomFull(limits.sessions_per_room))
            }
            None if self.rooms.len() >= limits.rooms => Err(Refusal::NodeFull(format!(
                "it holds at most {} rooms",
                limits.rooms
            ))),
            Some(room) => self.check_worker(self.worker_for(room)),
            None => Ok(()),
        }
    }

    /// The room of this name, made on the worker with the least to do when it does not exist.
    fn room_or_new(&mut self, name: &RoomName) -> &mut Room {
        let worker = self.idlest_worker();
        self.changed.insert(name.clone());
        let groups = &mut self.groups;
        self.rooms.entry(name.clone()).or_insert_with(|| {
            *groups += 1;
            Room::new(worker, GroupId(*groups))
        })
    }

    /// Forgets the room if nobody is in it any more.
    fn drop_room_if_empty(&mut self, name: &RoomName) {
        self.changed.insert(name.clone());
        if self.rooms.get(name).is_some_and(|room| room.places() == 0) {
            self.rooms.remove(name);
        }
    }

    /// Ends a session: its tracks are gone from the room, its subscribers' sections are free.
    /// The engine is told unless it was the engine that said so.
    fn end_session(&mut self, id: SessionId, reason: EndReason) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        if !reason.is_known_to_engine() {
            self.command(session.worker, Command::Close { session: id });
        }
        self.note_end(&session.room, session.worker);
        self.note_wants();
        for watched in session.receives.values().filter_map(|known| known.track) {
            self.unrelay(watched, session.worker);
        }
        let gone: Vec<TrackId> = session.publishes.values().copied().collect();
        match &session.owner {
            Owner::Page(person) | Owner::Camera(person) => self.detach(person, &gone),
            Owner::Encoder(person, ResourceId(resource)) => {
                self.resources.remove(&Proof::of(resource));
                self.detach(person, &gone);
            }
            Owner::Viewer(ResourceId(resource), _) => {
                self.resources.remove(&Proof::of(resource));
                if let Some(room) = self.rooms.get_mut(&session.room) {
                    room.viewers.retain(|viewer| *viewer != id);
                }
            }
        }
        self.forget_tracks(&session.room, &gone);
        if let Some(request) = session.origin.request {
            self.requests.remove(&request);
            if !reason.is_known_to_desk() {
                self.effects
                    .push_back(Effect::RequestEnded { request, reason });
            }
        }
        let room = session.room.clone();
        self.effects.push_back(Effect::SessionEnded {
            session: id,
            room: session.room,
            reason,
        });
        self.drop_room_if_empty(&room);
    }

    /// Takes a session and its tracks from its person.
    fn detach(&mut self, person: &PersonId, gone: &[TrackId]) {
        if let Some(person) = self.people.get_mut(person) {
            person.session = None;
            person.tracks.retain(|track| !gone.contains(track));
        }
    }

    /// Forgets tracks that are no longer published. Whatever they fed has fallen silent in the
    /// engine by itself (see [`Command::Unpublish`]).
    fn forget_tracks(&mut self, room: &RoomName, gone: &[TrackId]) {
        if gone.is_empty() {
            return;
        }
        self.drop_tracks(room, gone);
        self.replace_tracks(room);
    }

    /// Tracks are gone, and nobody is fed from another in place of one yet.
    fn drop_tracks(&mut self, room: &RoomName, gone: &[TrackId]) {
        for track in gone {
            self.tracks.remove(track);
            self.end_relays(*track);
        }
        for session in self
            .sessions
            .values_mut()
            .filter(|session| session.room == *room)
        {
            for receiver in session.receives.values_mut() {
                if receiver.track.is_some_and(|track| gone.contains(&track)) {
                    receiver.track = None;
                }
            }
        }
    }

    /// Whoever was fed from a track that is gone is fed from what there is.
    fn replace_tracks(&mut self, room: &RoomName) {
        self.refresh_speaking(room);
        self.feed_viewers(room);
    }

    /// Somebody receives something else, or wants it otherwise.
    fn note_wants(&mut self) {
        (self.wants_changed, self.watch_changed) = (true, true);
    }

    fn command(&mut self, worker: usize, command: Command) {
        self.effects.push_back(Effect::Command { worker, command });
    }

    /// Tells everybody in the room but one.
    fn notify_others(&mut self, room: &RoomName, but: Option<&PersonId>, event: &RoomEvent) {
        self.changed.insert(room.clone());
        let Some(room) = self.rooms.get(room) else {
            return;
        };
        for person in room.people.iter().filter(|person| Some(*person) != but) {
            let event = event.clone();
            self.effects.push_back(Effect::Notify {
                person: person.clone(),
                event,
            });
        }
    }
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms")
            .field("rooms", &self.rooms)
            .finish_non_exhaustive()
    }
}

/// The id of a track as people in the room are told.
fn track_name(track: TrackId) -> String {
    format!("t{}", track.0)
}
