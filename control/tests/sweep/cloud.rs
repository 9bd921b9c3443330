//! The way between nodes and the database, as listener, client and shell make it.

use std::time::{Duration, Instant};

use control::firestore::desk::{
    Answered, Desk, Effect, Find, Kind, Link, Load, ReadId, RequestId, Serve, WriteId,
};
use control::firestore::message::{Document, Heard, Path, Target, Write, Written};
use control::room::{Request, RequestKind};
use signaling::node::{PageOffer, PersonId};

use crate::database::{Database, Writer};
use crate::queue::Owner;
use crate::world::{Event, World};

const CUT: &str = "no route";

/// Something on its way between a node, or a page, and the database.
#[derive(Debug)]
pub(crate) enum Reply {
    Up(Way),
    Hear(Way, Vec<Heard>),
    WriteArrives(Way, WriteId, Write),
    Written(Way, WriteId, Written),
    ReadArrives(Way, ReadId, Path),
    Read(Way, ReadId, Result<Option<Document>, String>),
    FindArrives(Way, ReadId, Find),
    Found(Way, ReadId, Result<Vec<Document>, String>),
    CountArrives(Way, ReadId, Target),
    Counted(Way, ReadId, Option<usize>),
    Page(Write),
    Expire(Path),
}

/// A connection of a node in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) node: usize,
    life: u32,
    epoch: u32,
}

impl Reply {
    /// The node that hears it.
    pub(crate) fn heard_by(&self) -> Option<usize> {
        match self {
            Reply::Up(way)
            | Reply::Hear(way, _)
            | Reply::Written(way, ..)
            | Reply::Read(way, ..)
            | Reply::Found(way, ..)
            | Reply::Counted(way, ..) => Some(way.node),
            Reply::WriteArrives(..)
            | Reply::ReadArrives(..)
            | Reply::FindArrives(..)
            | Reply::CountArrives(..)
            | Reply::Page(_)
            | Reply::Expire(_) => None,
        }
    }
}

impl World {
    /// The way to the database opens.
    pub(crate) fn connect_database(&mut self, node: usize) {
        let link = &mut self.nodes[node].link;
        link.epoch += 1;
        link.is_up = true;
        link.told.clear();
        let way = self.way(node);
        self.push_cloud(Reply::Up(way));
    }

    /// The way to the database is lost, and everything that is on it.
    pub(crate) fn disconnect_database(&mut self, node: usize) {
        let link = &mut self.nodes[node].link;
        link.is_up = false;
        link.epoch += 1;
        let down = Link::Down(CUT.to_owned());
        self.with_desk(node, |desk, now| desk.handle_link(now, down));
    }

    /// Lets something happen to a node's desk, and carries out what comes of it.
    pub(crate) fn with_desk(&mut self, node: usize, call: impl FnOnce(&mut Desk, Instant)) {
        if let Some(desk) = &mut self.nodes[node].desk {
            call(desk, self.now);
        }
        self.drain_desk(node);
    }

    pub(crate) fn wake_desk(&mut self, node: usize) {
        let usage = self.nodes[node].rooms.usage();
        let load = Load {
            rooms: usage.rooms,
            sessions: usage.places,
            load: usage.load,
        };
        self.with_desk(node, |desk, now| {
            desk.handle_load(now, load);
            if desk.poll_timeout().is_some_and(|due| due <= now) {
                desk.handle_timeout(now);
            }
        });
    }

    /// The desk hears what its node has to report.
    pub(crate) fn on_reports(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        state.reports_at = None;
        let ended = std::mem::take(&mut state.ended);
        let changed = std::mem::take(&mut state.changed);
        for (id, reason) in ended {
            self.with_desk(node, |desk, now| desk.handle_ended(now, &id, &reason));
        }
        for room in changed {
            let view = self.nodes[node].view(&room);
            self.with_desk(node, |desk, now| desk.handle_room(now, &room, view));
        }
    }

    /// A page writes.
    pub(crate) fn page_writes(&mut self, write: Write) {
        self.push_cloud(Reply::Page(write));
    }

    /// A document is deleted in a while, as the TTL policy does.
    pub(crate) fn expire_document(&mut self, id: &str) {
        let at = self.now + Duration::from_secs(120);
        let reply = Reply::Expire(Path::request(id));
        self.queue.push(at, Event::Cloud(reply));
    }

    pub(crate) fn on_cloud(&mut self, reply: Reply) {
        let elapsed = self.elapsed();
        self.database.advance(elapsed);
        let now = self.now;
        match reply {
            Reply::Page(write) => {
                let _ = self.database.write(Writer::Page, &write);
                self.tell();
            }
            Reply::Expire(path) => {
                self.database.expire(&path);
                self.tell();
            }
            Reply::Up(way) if self.is_open(way) => {
                self.with_desk(way.node, |desk, now| desk.handle_link(now, Link::Up));
                self.tell_all(way.node);
            }
            Reply::Hear(way, heard) if self.is_open(way) => {
                for heard in heard {
                    self.with_desk(way.node, |desk, now| desk.handle_heard(now, heard));
                }
            }
            Reply::WriteArrives(way, id, write) => self.on_write(way, id, &write),
            Reply::ReadArrives(way, id, path) => {
                let read = Ok(self.database.documents.get(&path).cloned());
                self.push_cloud(Reply::Read(way, id, read));
            }
            Reply::FindArrives(way, id, Find::OwnedBy(owner, collection)) => {
                let found = Ok(self.database.owned_by(&owner, collection));
                self.push_cloud(Reply::Found(way, id, found));
            }
            Reply::CountArrives(way, id, target) => {
                let name = &self.nodes[way.node].name;
                let counted = Some(self.database.count(target, name));
                self.push_cloud(Reply::Counted(way, id, counted));
            }
            Reply::Written(way, id, mut written) if self.lives(way) => {
                if !self.is_open(way) {
                    written = Written::Failed(CUT.to_owned());
                }
                self.with_desk(way.node, |desk, _| desk.handle_written(now, id, &written));
            }
            Reply::Read(way, id, mut read) if self.lives(way) => {
                if !self.is_open(way) {
                    read = Err(CUT.to_owned());
                }
                self.with_desk(way.node, |desk, _| desk.handle_read(now, id, read));
            }
            Reply::Found(way, id, mut found) if self.lives(way) => {
                if !self.is_open(way) {
                    found = Err(CUT.to_owned());
                }
                self.with_desk(way.node, |desk, _| desk.handle_found(now, id, found));
            }
            Reply::Counted(way, id, counted) if self.lives(way) => {
                let counted = counted.filter(|_| self.is_open(way));
                self.with_desk(way.node, |desk, _| desk.handle_counted(now, id, counted));
            }
            // Nobody is there to hear it.
            Reply::Up(_)
            | Reply::Hear(..)
            | Reply::Written(..)
            | Reply::Read(..)
            | Reply::Found(..)
            | Reply::Counted(..) => {}
        }
    }

    fn on_write(&mut self, way: Way, id: WriteId, write: &Write) {
        // What was on its way when it was cut may have come through.
        let comes_through = self.is_open(way) || self.rng.chance(0.5);
        let written = if comes_through {
            let written = self.database.write(Writer::Node(way), write);
            self.tell();
            written
        } else {
            Written::Failed(CUT.to_owned())
        };
        self.push_cloud(Reply::Written(way, id, written));
    }

    fn way(&self, node: usize) -> Way {
        let state = &self.nodes[node];
        Way {
            node,
            life: state.life,
            epoch: state.link.epoch,
        }
    }

    fn lives(&self, way: Way) -> bool {
        self.nodes[way.node].life == way.life
    }

    fn is_open(&self, way: Way) -> bool {
        self.nodes[way.node].link.is_up && self.way(way.node) == way
    }

    fn push_cloud(&mut self, reply: Reply) {
        let delay = Duration::from_micros(2_000 + self.rng.below(8_000));
        let at = self.now + delay;
        self.queue.push(at, Event::Cloud(reply));
    }

    /// Does what a desk wants, as its shell would.
    fn drain_desk(&mut self, node: usize) {
        let way = self.way(node);
        loop {
            let desk = self.nodes[node].desk.as_mut();
            let Some(effect) = desk.and_then(Desk::poll_effect) else {
                break;
            };
            match effect {
                Effect::Write(id, write) => self.push_cloud(Reply::WriteArrives(way, id, write)),
                Effect::Read(id, path) => self.push_cloud(Reply::ReadArrives(way, id, path)),
                Effect::Find(id, find) => self.push_cloud(Reply::FindArrives(way, id, find)),
                Effect::Count(id, target) => self.push_cloud(Reply::CountArrives(way, id, target)),
                Effect::Relisten => self.tell_all(node),
                Effect::Serve(id, serve) => self.serve(node, &id, serve),
                Effect::HangUp(RequestId(id)) => {
                    self.decide(node, |rooms, _| rooms.handle_request_over(&id));
                }
                Effect::Pull(..) => unreachable!("nobody here writes documents of cameras"),
                Effect::CloseRoom(room) => {
                    self.decide(node, |rooms, _| rooms.handle_broadcast_over(&room));
                }
                Effect::Mute(RequestId(id), source, muted) => self.decide(node, |rooms, _| {
                    rooms.handle_mute(&PersonId(id), source, muted);
                }),
                Effect::Say(RequestId(id), text) => {
                    self.decide(node, |rooms, _| rooms.handle_say(&PersonId(id), &text));
                }
                Effect::Alarm(_) => {}
            }
        }
        let desk = self.nodes[node].desk.as_ref();
        let due = desk
            .and_then(Desk::poll_timeout)
            .map(|due| due.max(self.now));
        self.queue.wake(Owner::Desk(node), due);
    }

    fn serve(&mut self, node: usize, id: &RequestId, serve: Serve) {
        let request = Request {
            id: id.0.clone(),
            kind: match serve.kind {
                Kind::Broadcaster => RequestKind::Broadcaster,
                Kind::Participant => RequestKind::Participant,
                Kind::Member | Kind::Camera => RequestKind::Member,
            },
            room: serve.room,
            name: serve.name,
            page: PageOffer {
                offer: serve.offer,
                wants: serve.wants,
                sources: serve.sources,
            },
        };
        let served = self.decide(node, |rooms, _| rooms.handle_request(&request));
        let served = served.map(|sdp| Answered::Session { sdp });
        let now = self.now;
        if let Some(desk) = &mut self.nodes[node].desk {
            desk.handle_served(now, id, served);
        }
    }

    /// Tells listeners and pages what was changed.
    fn tell(&mut self) {
        let changed = std::mem::take(&mut self.database.changed);
        if changed.is_empty() {
            return;
        }
        self.tell_pages(&changed);
        for node in 0..self.nodes.len() {
            if !self.nodes[node].link.is_up || self.is_mute {
                continue;
            }
            // Now and then a listener is told everything anew.
            if self.rng.chance(0.02) {
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
        let at = self.database.stamp();
        let document = self.database.documents.get(path);
        let state = &mut self.nodes[node];
        let told = state.link.told.entry(target).or_default();
        let inside = document.filter(|document| Database::is_in(document, target, &state.name));
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
        let elapsed = self.elapsed();
        self.database.advance(elapsed);
        let mut heard = Vec::new();
        let paths: Vec<Path> = self.database.documents.keys().cloned().collect();
        for target in Target::ALL {
            heard.push(Heard::Reset(target));
            self.nodes[node].link.told.remove(&target);
            for path in &paths {
                self.tell_one(node, target, path, &mut heard);
            }
            heard.push(Heard::Current(target, self.database.stamp()));
        }
        self.push_heard(node, heard);
    }

    fn push_heard(&mut self, node: usize, heard: Vec<Heard>) {
        if heard.is_empty() {
            return;
        }
        let delay = Duration::from_micros(2_000 + self.rng.below(8_000));
        let until = self.nodes[node].link.told_until.unwrap_or(self.now);
        let at = (self.now + delay).max(until);
        self.nodes[node].link.told_until = Some(at);
        let reply = Reply::Hear(self.way(node), heard);
        self.queue.push(at, Event::Cloud(reply));
    }
}
