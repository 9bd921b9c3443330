//! Desks, a database and the network between them, in virtual time and by seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use signaling::firestore::{Fields, Value};
use signaling::name::RoomName;
use signaling::node::Refusal;

use super::database::{Database, Writer, stamp};
use crate::firestore::desk::{
    Answered, Desk, DeskConfig, Effect, Find, Link, Load, ReadId, RequestId, RoomView, WriteId,
};
use crate::firestore::message::{
    Change, Document, Heard, Path, Precondition, Stamp, Target, Write, Written,
};

/// A node, its sessions and its way to the database.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) desk: Desk,
    pub(super) alive: bool,
    /// The way to the database is open.
    pub(super) linked: bool,
    /// Counts connections: what an older one carried is lost.
    epoch: u32,
    /// What the listener told of each target.
    told: BTreeMap<Target, BTreeMap<Path, Stamp>>,
    /// Nothing is told before what was told before.
    told_until: Duration,
    pub(super) sessions: BTreeMap<RequestId, RoomName>,
    pub(super) sessions_max: usize,
    pub(super) said: Vec<(RequestId, String)>,
    pub(super) muted: Vec<(RequestId, bool)>,
    pub(super) alarms: Vec<String>,
    timer: Option<Duration>,
    rooms: BTreeMap<RoomName, BTreeSet<RequestId>>,
}

enum Event {
    Hear(usize, u32, Vec<Heard>),
    WriteArrives(usize, u32, WriteId, Write),
    Written(usize, u32, WriteId, Written),
    ReadArrives(usize, u32, ReadId, Path),
    Read(usize, u32, ReadId, Result<Option<Document>, String>),
    FindArrives(usize, u32, ReadId, Find),
    Found(usize, u32, ReadId, Result<Vec<Document>, String>),
    CountArrives(usize, u32, ReadId, Target),
    Counted(usize, u32, ReadId, Option<usize>),
    Timer(usize, Duration),
    Up(usize, u32),
    Page(Path, Fields),
}

pub(super) struct World {
    start: Instant,
    pub(super) now: Duration,
    pub(super) database: Database,
    pub(super) nodes: Vec<Node>,
    events: BTreeMap<(Duration, u64), Event>,
    next: u64,
    random: u64,
    /// Of 100 tellings, how many are a full replay.
    pub(super) replays: u64,
    /// Listeners are told of nothing, as by the emulator while they begin to listen.
    pub(super) mute: bool,
    /// How long a session may have two nodes.
    doubled: BTreeMap<RequestId, Duration>,
    checked: Duration,
}

#[expect(clippy::disallowed_methods, reason = "only differences to it matter")]
fn any_instant() -> Instant {
    Instant::now()
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        World {
            start: any_instant(),
            now: Duration::ZERO,
            database: Database::default(),
            nodes: Vec::new(),
            events: BTreeMap::new(),
            next: 0,
            random: seed,
            replays: 10,
            mute: false,
            doubled: BTreeMap::new(),
            checked: Duration::ZERO,
        }
    }

    /// A node starts, and is connected a moment later.
    pub(super) fn start(&mut self, name: &str, broadcasts_max: usize) -> usize {
        let seed = self.random();
        let config = DeskConfig {
            node: name.to_owned(),
            incarnation: format!("{seed:x}"),
            addresses: "192.0.2.1".to_owned(),
            http: "http://192.0.2.1:8080".to_owned(),
            version: "1".to_owned(),
            lease: Duration::from_secs(30),
            broadcasts_max,
            sessions_max: 5000,
        };
        self.nodes.push(Node {
            name: name.to_owned(),
            desk: Desk::new(config, seed),
            alive: true,
            linked: false,
            epoch: 0,
            told: BTreeMap::new(),
            told_until: Duration::ZERO,
            sessions: BTreeMap::new(),
            sessions_max: usize::MAX,
            said: Vec::new(),
            muted: Vec::new(),
            alarms: Vec::new(),
            timer: None,
            rooms: BTreeMap::new(),
        });
        let node = self.nodes.len() - 1;
        self.connect(node);
        node
    }

    pub(super) fn random(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(2_000 + self.random() % 8_000)
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.next += 1;
        self.events.insert((at.max(self.now), self.next), event);
    }

    /// The way to the database opens.
    pub(super) fn connect(&mut self, node: usize) {
        self.nodes[node].epoch += 1;
        self.nodes[node].linked = true;
        self.nodes[node].told.clear();
        let epoch = self.nodes[node].epoch;
        let at = self.now + self.delay();
        self.push(at, Event::Up(node, epoch));
    }

    /// The way to the database is lost, and everything that is on it.
    pub(super) fn disconnect(&mut self, node: usize) {
        self.nodes[node].linked = false;
        self.nodes[node].epoch += 1;
        let now = self.instant();
        self.nodes[node]
            .desk
            .handle_link(now, Link::Down("no route".to_owned()));
        self.drain(node);
    }

    pub(super) fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
        self.nodes[node].linked = false;
        self.nodes[node].epoch += 1;
        self.nodes[node].sessions.clear();
    }

    /// A page writes fields of its document.
    pub(super) fn page(&mut self, at: Duration, path: Path, fields: Fields) {
        self.push(at, Event::Page(path, fields));
    }

    /// Lets the shell's part of a node call its desk.
    pub(super) fn with(&mut self, node: usize, call: impl FnOnce(&mut Desk, Instant)) {
        let now = self.instant();
        call(&mut self.nodes[node].desk, now);
        self.drain(node);
    }

    /// A session ends by itself.
    pub(super) fn lose_media(&mut self, node: usize, id: &str) {
        let id = RequestId(id.to_owned());
        let now = self.instant();
        self.nodes[node].end(now, &id);
        let reason = "the media connection was lost";
        self.nodes[node].desk.handle_ended(now, &id, reason);
        self.drain(node);
    }

    /// Time passes.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(((at, _), _)) = self.events.first_key_value()
            && *at <= end
        {
            let ((at, _), event) = self.events.pop_first().expect("there is a first event");
            self.now = at;
            self.on_event(event);
            if self.now >= self.checked + Duration::from_millis(500) {
                self.checked = self.now;
                self.check_doubles();
            }
        }
        self.now = end;
        self.check_doubles();
    }

    fn is_open(&self, node: usize, epoch: u32) -> bool {
        self.nodes[node].linked && self.nodes[node].epoch == epoch
    }

    fn on_event(&mut self, event: Event) {
        let now = self.instant();
        match event {
            Event::Page(path, fields) => {
                let write = Write {
                    path,
                    change: Change::Set(fields),
                    precondition: Precondition::None,
                };
                let at = stamp(self.now);
                let _ = self.database.write(at, Writer::Page, &write);
                self.tell();
            }
            Event::Up(node, epoch) if self.is_open(node, epoch) => {
                self.nodes[node].desk.handle_link(now, Link::Up);
                self.tell_all(node);
                self.drain(node);
            }
            Event::Hear(node, epoch, heard) if self.is_open(node, epoch) => {
                for heard in heard {
                    self.nodes[node].desk.handle_heard(now, heard);
                    self.drain(node);
                }
            }
            Event::WriteArrives(node, epoch, id, write) => {
                self.on_write(node, epoch, id, &write);
            }
            Event::ReadArrives(node, epoch, id, path) => {
                let read = Ok(self.database.document(&path).cloned());
                let back = self.now + self.delay();
                self.push(back, Event::Read(node, epoch, id, read));
            }
            Event::FindArrives(node, epoch, id, Find::OwnedBy(owner, collection)) => {
                let found = Ok(self.database.owned_by(&owner, collection));
                let back = self.now + self.delay();
                self.push(back, Event::Found(node, epoch, id, found));
            }
            Event::CountArrives(node, epoch, id, target) => {
                let counted = Some(self.database.count(target, &self.nodes[node].name));
                let back = self.now + self.delay();
                self.push(back, Event::Counted(node, epoch, id, counted));
            }
            Event::Timer(node, at) if self.nodes[node].timer == Some(at) => {
                self.nodes[node].on_timer(now);
                self.drain(node);
            }
            Event::Up(..) | Event::Hear(..) | Event::Timer(..) => {}
            Event::Written(node, ..)
            | Event::Read(node, ..)
            | Event::Found(node, ..)
            | Event::Counted(node, ..) => self.on_reply(node, event),
        }
    }

    fn on_write(&mut self, node: usize, epoch: u32, id: WriteId, write: &Write) {
        let open = self.is_open(node, epoch);
        // What was on its way when it was cut may have come through.
        if open || self.random().is_multiple_of(2) {
            let at = stamp(self.now);
            let written = self.database.write(at, Writer::Node(node), write);
            self.tell();
            let back = self.now + self.delay();
            self.push(back, Event::Written(node, epoch, id, written));
        } else {
            self.push(self.now, Event::Written(node, epoch, id, Written::Lost));
        }
    }

    /// An answer of the database arrives, if the way that it was to take is still there.
    fn on_reply(&mut self, node: usize, event: Event) {
        const CUT: &str = "no route";
        let now = self.instant();
        let is_open = |world: &World, epoch| world.is_open(node, epoch);
        match event {
            Event::Written(_, epoch, id, mut written) => {
                if !is_open(self, epoch) {
                    written = Written::Failed(CUT.to_owned());
                }
                self.nodes[node].desk.handle_written(now, id, &written);
            }
            Event::Read(_, epoch, id, mut read) => {
                if !is_open(self, epoch) {
                    read = Err(CUT.to_owned());
                }
                self.nodes[node].desk.handle_read(now, id, read);
            }
            Event::Found(_, epoch, id, mut found) => {
                if !is_open(self, epoch) {
                    found = Err(CUT.to_owned());
                }
                self.nodes[node].desk.handle_found(now, id, found);
            }
            Event::Counted(_, epoch, id, mut counted) => {
                if !is_open(self, epoch) {
                    counted = None;
                }
                self.nodes[node].desk.handle_counted(now, id, counted);
            }
            _ => unreachable!("only replies are given"),
        }
        self.drain(node);
    }

    /// Does what a desk wants, as its shell would.
    fn drain(&mut self, node: usize) {
        if !self.nodes[node].alive {
            return;
        }
        let now = self.instant();
        let epoch = self.nodes[node].epoch;
        while let Some(effect) = self.nodes[node].desk.poll_effect() {
            let at = self.now + self.delay();
            match effect {
                Effect::Write(id, write) => {
                    self.push(at, Event::WriteArrives(node, epoch, id, write));
                }
                Effect::Read(id, path) => self.push(at, Event::ReadArrives(node, epoch, id, path)),
                Effect::Find(id, find) => self.push(at, Event::FindArrives(node, epoch, id, find)),
                Effect::Count(id, target) => {
                    self.push(at, Event::CountArrives(node, epoch, id, target));
                }
                Effect::Relisten => self.tell_all(node),
                effect => self.nodes[node].carry_out(now, effect),
            }
        }
        let due = self.nodes[node].desk.poll_timeout();
        let due = due.map(|due| due.saturating_duration_since(self.start).max(self.now));
        if let Some(due) = due
            && self.nodes[node].timer.is_none_or(|timer| due < timer)
        {
            self.nodes[node].timer = Some(due);
            self.push(due, Event::Timer(node, due));
        }
    }

    /// Tells listeners what was changed: single changes, or now and then a replay.
    fn tell(&mut self) {
        let changed = std::mem::take(&mut self.database.changed);
        for node in 0..self.nodes.len() {
            if !self.nodes[node].linked || changed.is_empty() || self.mute {
                continue;
            }
            if self.random() % 100 < self.replays {
                self.tell_all(node);
                continue;
            }
            let mut heard = Vec::new();
            for path in &changed {
                for target in Target::ALL {
                    self.tell_one(node, target, path, &mut heard);
                }
            }
            self.push_heard(node, heard);
        }
    }

    fn tell_one(&mut self, node: usize, target: Target, path: &Path, heard: &mut Vec<Heard>) {
        let at = stamp(self.now);
        let document = self.database.document(path);
        let Node { name, told, .. } = &mut self.nodes[node];
        let told = told.entry(target).or_default();
        let inside = document.filter(|document| Database::is_in(document, target, name));
        match inside {
            Some(document) => {
                told.insert(path.clone(), document.updated);
                heard.push(Heard::Changed(target, document.clone()));
            }
            None if told.remove(path).is_some() => {
                heard.push(Heard::Gone(target, path.clone(), Some(at)));
            }
            None => {}
        }
    }

    fn tell_all(&mut self, node: usize) {
        let mut heard = Vec::new();
        for target in Target::ALL {
            heard.push(Heard::Reset(target));
            self.nodes[node].told.remove(&target);
            let paths: Vec<Path> = self.database.documents.keys().cloned().collect();
            for path in &paths {
                self.tell_one(node, target, path, &mut heard);
            }
            heard.push(Heard::Current(target, stamp(self.now)));
        }
        self.push_heard(node, heard);
    }

    fn push_heard(&mut self, node: usize, heard: Vec<Heard>) {
        if heard.is_empty() {
            return;
        }
        let at = (self.now + self.delay()).max(self.nodes[node].told_until);
        self.nodes[node].told_until = at;
        let epoch = self.nodes[node].epoch;
        self.push(at, Event::Hear(node, epoch, heard));
    }

    /// No two nodes serve a document for longer than a lost claim takes.
    fn check_doubles(&mut self) {
        let mut seen: BTreeMap<&RequestId, usize> = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.linked) {
            for id in node.sessions.keys() {
                *seen.entry(id).or_default() += 1;
            }
        }
        let doubles: BTreeSet<RequestId> = seen
            .into_iter()
            .filter(|(_, nodes)| *nodes > 1)
            .map(|(id, _)| id.clone())
            .collect();
        self.doubled.retain(|id, _| doubles.contains(id));
        for id in doubles {
            let since = *self.doubled.entry(id.clone()).or_insert(self.now);
            assert!(
                self.now < since + Duration::from_secs(2),
                "two nodes serve {id} since {since:?}, it is {:?}",
                self.now
            );
        }
    }
}

impl Node {
    fn on_timer(&mut self, now: Instant) {
        self.timer = None;
        let load = Load {
            rooms: self.rooms.len(),
            sessions: self.sessions.len(),
            load: 0.0,
        };
        self.desk.handle_load(now, load);
        self.desk.handle_timeout(now);
    }

    fn carry_out(&mut self, now: Instant, effect: Effect) {
        match effect {
            Effect::Serve(id, serve) => {
                let known = self.sessions.contains_key(&id);
                if !known && self.sessions.len() >= self.sessions_max {
                    let full = Refusal::NodeFull("it holds enough".to_owned());
                    self.desk.handle_served(now, &id, Err(full));
                    return;
                }
                self.sessions.insert(id.clone(), serve.room.clone());
                let people = self.rooms.entry(serve.room.clone()).or_default();
                people.insert(id.clone());
                let sdp = format!("{} answers {id}", self.name);
                self.desk
                    .handle_served(now, &id, Ok(Answered::Session { sdp }));
                self.show(now, &serve.room);
            }
            Effect::Pull(id, camera) => {
                self.sessions.insert(id.clone(), camera.room.clone());
                let people = self.rooms.entry(camera.room.clone()).or_default();
                people.insert(id.clone());
                self.desk.handle_served(now, &id, Ok(Answered::Camera));
                self.show(now, &camera.room);
            }
            Effect::HangUp(id) => self.end(now, &id),
            Effect::CloseRoom(room) => {
                for id in self.rooms.get(&room).cloned().unwrap_or_default() {
                    self.end(now, &id);
                }
            }
            Effect::Mute(id, _, muted) => self.muted.push((id, muted)),
            Effect::Say(id, text) => self.said.push((id, text)),
            Effect::Alarm(sentence) => self.alarms.push(sentence),
            Effect::Write(..)
            | Effect::Read(..)
            | Effect::Find(..)
            | Effect::Count(..)
            | Effect::Relisten => {
                unreachable!("the world does these")
            }
        }
    }

    /// A session is over.
    fn end(&mut self, now: Instant, id: &RequestId) {
        let Some(room) = self.sessions.remove(id) else {
            return;
        };
        if let Some(people) = self.rooms.get_mut(&room) {
            people.remove(id);
        }
        self.show(now, &room);
    }

    /// The desk hears what a room looks like.
    fn show(&mut self, now: Instant, room: &RoomName) {
        let people = self.rooms.get(room).filter(|people| !people.is_empty());
        let view = people.map(|people| RoomView {
            people: format!("{:?}", people.iter().map(|id| &id.0).collect::<Vec<_>>()),
            present: people.len(),
            ..RoomView::default()
        });
        if view.is_none() {
            self.rooms.remove(room);
        }
        self.desk.handle_room(now, room, view);
    }
}

/// A field for a page's document.
pub(super) fn field(name: &str, value: impl Into<Value>) -> (String, Value) {
    (name.to_owned(), value.into())
}
