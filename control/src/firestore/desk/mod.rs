//! The desk: which offers this node answers, when, and what it writes about it.
//!
//! [`Desk`] is a state machine without IO. Call any `handle_*`, then drain [`Desk::poll_effect`]
//! until it returns `None`; call [`Desk::handle_timeout`] at the time of [`Desk::poll_timeout`].
//! Time and randomness are arguments. [`Effect::Serve`] is carried out at once and its result given
//! to [`Desk::handle_served`] before the next effect is taken.
//!
//! ```text
//!  work set ─► cases ─► verdict ─┬─► Serve ─► seats ─► answer ──┐
//!  registry ─► whose turn it is ─┘└─► refusal ──────────────────┼─► outbox ─► Write
//!  hung up, members ─► seats ─► rooms ─► their documents ───────┤
//!  station: our own node; sweep: dead ones ─────────────────────┘
//! ```
//!
//! A claim is the answer itself: one write on the condition that the document is the one that was
//! read. Of two nodes that answer, one loses and ends the session that it made.

mod backoff;
mod cases;
mod census;
mod claims;
mod counters;
mod effect;
mod limits;
mod link;
mod outbox;
mod pace;
mod paper;
mod reads;
mod replies;
mod rooms;
mod seats;
mod station;
mod sweep;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use signaling::name::RoomName;
use signaling::node::Refusal;

use super::clock::DatabaseClock;
use super::message::{Collection, Document, Heard, Path, Stamp, Target, Written};
use super::registry::Registry;
use super::worklist::{Delta, Worklist};
use cases::Cases;
use census::Census;
use link::Reach;
use outbox::Outbox;
use pace::Pace;
use reads::{Ask, Question, Reads};
use rooms::{Room, RoomOwners};
use seats::Seat;
use station::Station;
use sweep::Sweeps;

pub use counters::Counters;
pub use effect::{Answered, Effect, Find, Link, Load, ReadId, RequestId, RoomView, Serve, WriteId};
pub use signaling::firestore::Kind;

/// What the desk is told at birth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeskConfig {
    /// Our id in the registry: stays the same when the node starts again.
    pub node: String,
    /// Random for each start: tells this process from an earlier or a second one of the same id.
    pub incarnation: String,
    /// Where clients reach us, for people who read the registry.
    pub addresses: String,
    /// Where our HTTP doors are, for people who read the registry.
    pub http: String,
    /// Our version.
    pub version: String,
    /// How long the registry believes in us without a heartbeat.
    pub lease: Duration,
    /// Rooms that we take from the database at most.
    pub broadcasts_max: usize,
    /// Media sessions that the node takes at most, through all doors.
    pub sessions_max: usize,
}

/// The state machine of the Firestore door.
#[derive(Debug)]
pub struct Desk {
    config: DeskConfig,
    clock: DatabaseClock,
    worklist: Worklist,
    registry: Registry,
    reach: Reach,
    station: Station,
    cases: Cases,
    seats: BTreeMap<RequestId, Seat>,
    rooms: BTreeMap<RoomName, Room>,
    owners: RoomOwners,
    sweeps: Sweeps,
    outbox: Outbox,
    reads: Reads,
    /// Rooms of the node as they look now, whatever door made them.
    views: BTreeMap<RoomName, RoomView>,
    load: Load,
    /// Since when offers could be served without a break.
    able_since: Option<Instant>,
    next_tick: Option<Instant>,
    relisten: Relisten,
    census: Census,
    pace: Pace,
    effects: VecDeque<Effect>,
    counters: Counters,
}

/// Fresh listens, not too often.
#[derive(Debug, Default)]
struct Relisten {
    last: Option<Instant>,
    wanted: bool,
}

impl Desk {
    /// A desk that has heard of nothing yet. `seed` must differ between nodes.
    #[must_use]
    pub fn new(config: DeskConfig, seed: u64) -> Desk {
        Desk {
            clock: DatabaseClock::default(),
            worklist: Worklist::default(),
            registry: Registry::default(),
            reach: Reach::default(),
            station: Station::default(),
            cases: Cases::default(),
            seats: BTreeMap::new(),
            rooms: BTreeMap::new(),
            owners: RoomOwners::default(),
            sweeps: Sweeps::default(),
            outbox: Outbox::new(seed),
            reads: Reads::new(&config.node, seed.rotate_left(32)),
            views: BTreeMap::new(),
            load: Load::default(),
            able_since: None,
            next_tick: None,
            relisten: Relisten::default(),
            census: Census::default(),
            pace: Pace::default(),
            effects: VecDeque::new(),
            counters: Counters::default(),
            config,
        }
    }

    /// Our node's id.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.config.node
    }

    /// The listener heard something.
    pub fn handle_heard(&mut self, now: Instant, heard: Heard) {
        self.worklist.handle_heard(heard);
        while let Some(delta) = self.worklist.poll_delta() {
            self.on_delta(now, delta);
        }
        self.pump(now);
    }

    /// A write came to an end.
    pub fn handle_written(&mut self, now: Instant, id: WriteId, written: &Written) {
        self.on_written(now, id, written);
        self.pump(now);
    }

    /// A read came to an end: the document, or that there is none, or why nobody knows.
    pub fn handle_read(
        &mut self,
        now: Instant,
        id: ReadId,
        read: Result<Option<Document>, String>,
    ) {
        if let Some(question) = self.reads.handle_answer(now, id, read.is_ok())
            && let Ok(document) = read
        {
            self.on_read(now, question, document.as_ref());
        }
        self.pump(now);
    }

    /// A search came to an end.
    pub fn handle_found(&mut self, now: Instant, id: ReadId, found: Result<Vec<Document>, String>) {
        if let Some(question) = self.reads.handle_answer(now, id, found.is_ok())
            && let Ok(documents) = found
        {
            self.on_found(now, question, &documents);
        }
        self.pump(now);
    }

    /// A count came to an end: how many documents the target holds; `None` when nobody knows.
    pub fn handle_counted(&mut self, now: Instant, id: ReadId, counted: Option<usize>) {
        let question = self.reads.handle_answer(now, id, counted.is_some());
        if let (Some(Question::Count(target)), Some(count)) = (question, counted) {
            self.on_counted(now, target, count);
        }
        self.pump(now);
    }

    /// The session of [`Effect::Serve`], or the camera of [`Effect::Pull`], was made or refused.
    pub fn handle_served(
        &mut self,
        now: Instant,
        id: &RequestId,
        served: Result<Answered, Refusal>,
    ) {
        self.on_served(now, id, served);
        self.pump(now);
    }

    /// A session ended by itself, for a reason that ends a sentence: `the media connection was lost`.
    /// Not for those that the desk ended.
    pub fn handle_ended(&mut self, now: Instant, id: &RequestId, reason: &str) {
        self.on_ended(now, id, reason);
        self.pump(now);
    }

    /// A room of this node, whatever door made it, looks like this now; `None` when it is gone.
    pub fn handle_room(&mut self, now: Instant, room: &RoomName, view: Option<RoomView>) {
        match view {
            Some(view) => self.views.insert(room.clone(), view),
            None => {
                self.leave_cameras(now, room);
                self.views.remove(room)
            }
        };
        self.show_room(now, room);
        self.pump(now);
    }

    /// How busy the node is.
    pub fn handle_load(&mut self, _now: Instant, load: Load) {
        self.load = load;
    }

    /// Whether the database is reached has changed.
    pub fn handle_link(&mut self, now: Instant, link: Link) {
        self.on_link(now, link);
        self.pump(now);
    }

    /// No new rooms from now on; meetings go on. See [`Desk::is_idle`].
    pub fn handle_drain(&mut self, now: Instant) {
        self.on_drain(now);
        self.pump(now);
    }

    /// The node ends: pages are told in their documents and the registry forgets us. See
    /// [`Desk::is_over`].
    pub fn handle_end(&mut self, now: Instant) {
        self.on_end(now);
        self.pump(now);
    }

    /// The time of [`Desk::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_tick.is_none_or(|at| at <= now) {
            self.next_tick = Some(now + limits::TICK);
            self.tick(now);
        }
        self.pump(now);
    }

    /// When [`Desk::handle_timeout`] wants to be called, at the latest. Something is always to come.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        // What cannot leave or be decided now waits for an event, not for the clock.
        let judges = self.can_judge() && self.cases.claiming() < limits::CLAIMS_MAX;
        let up = self.reach.is_up();
        let times = [
            self.next_tick,
            self.outbox.poll_timeout().filter(|_| up),
            self.reads.poll_timeout().filter(|_| up),
            self.cases.poll_timeout().filter(|_| judges),
        ];
        times.into_iter().flatten().min()
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether no document's session is left: what a draining node waits for. Cameras wait for nobody.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let is_camera = |seat: &Seat| seat.kind == Kind::Camera;
        self.seats.values().all(is_camera) && self.cases.claiming() == 0
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            work: self.cases.len(),
            left: self.cases.left(),
            undecided: self.cases.undecided(),
            sessions: self.seats.len(),
            rooms: self.rooms.len(),
            writes_in_flight: self.outbox.in_flight(),
            writes_waiting: self.outbox.waiting(),
            ..self.counters
        }
    }

    fn on_delta(&mut self, now: Instant, delta: Delta) {
        match delta {
            Delta::Changed(Target::Work, document) => {
                self.note_version(now, &document);
                self.note_lag(now, &document);
                let is_new = self.cases.insert(now, document);
                self.counters.offers += u64::from(is_new);
            }
            Delta::Changed(Target::HungUp, document) => self.on_hung_up(now, &document),
            Delta::Changed(Target::Members, document) => self.on_member(&document),
            Delta::Changed(Target::Nodes, document) => {
                self.clock.handle_stamp(now, document.updated);
                self.registry.handle_changed(&document);
                self.on_node(now, &document);
            }
            Delta::Gone(Target::Work, path) => {
                self.cases.remove(&RequestId(path.id));
            }
            Delta::Gone(Target::Nodes, path) => self.registry.handle_gone(&path.id),
            Delta::Gone(Target::HungUp | Target::Members, _) => {}
            Delta::Current(_, at) => self.clock.handle_stamp(now, at),
            Delta::Mismatch(_) => self.relisten.wanted = true,
            Delta::Refused(target, reason) => {
                let alarm = format!("the database refuses to tell of {target:?}: {reason}");
                self.effects.push_back(Effect::Alarm(alarm));
            }
        }
    }

    /// Does what can be done now.
    fn pump(&mut self, now: Instant) {
        if self.next_tick.is_none() {
            self.next_tick = Some(now);
        }
        self.update_ability(now);
        while self.can_judge()
            && self.cases.claiming() < limits::CLAIMS_MAX
            && let Some(id) = self.cases.poll_ready(now)
        {
            self.judge(now, &id);
        }
        self.relisten(now);
        if !self.reach.is_up() {
            return;
        }
        while let Some((id, mut write)) = self.outbox.poll_write(now) {
            self.counters.writes += 1;
            if write.path.collection != Collection::Nodes {
                paper::date(&mut write.change, self.at(now), self.config.lease);
            }
            self.effects.push_back(Effect::Write(id, write));
        }
        while let Some((id, ask)) = self.reads.poll_read(now) {
            self.counters.reads += 1;
            self.effects.push_back(match ask {
                Ask::Read(path) => Effect::Read(id, path),
                Ask::Find(find) => Effect::Find(id, find),
                Ask::Count(target) => Effect::Count(id, target),
            });
        }
    }

    /// Looks around: what time alone brings.
    fn tick(&mut self, now: Instant) {
        self.tick_pace(now);
        self.tick_station(now);
        self.tick_rooms(now);
        self.tick_sweeps(now);
        self.tick_census(now);
        if let Some(at) = self.clock.at(now) {
            self.counters.nodes_live = self.registry.live(at);
        }
        if self.is_farewell_due() {
            self.say_farewell();
        }
    }

    fn relisten(&mut self, now: Instant) {
        let rested = self
            .relisten
            .last
            .is_none_or(|last| now >= last + limits::RELISTEN_GAP);
        if self.relisten.wanted && rested {
            self.relisten = Relisten {
                last: Some(now),
                wanted: false,
            };
            self.counters.relistens += 1;
            self.census.on_listen(now);
            self.effects.push_back(Effect::Relisten);
        }
    }

    /// The moment by the database's clock, once we know it.
    fn at(&self, now: Instant) -> Stamp {
        self.clock.at(now).unwrap_or_default()
    }

    fn alarm(&mut self, sentence: String) {
        self.effects.push_back(Effect::Alarm(sentence));
    }
}

impl Document {
    /// The id, as that of a request.
    fn request_id(&self) -> RequestId {
        RequestId(self.path.id.clone())
    }
}

impl RequestId {
    fn path(&self) -> Path {
        Path::request(&self.0)
    }
}
