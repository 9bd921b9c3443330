//! What happens to people, nodes and the database, at random.

use std::time::Duration;

use control::firestore::desk::Desk;
use serde_json::json;
use signaling::firestore::{Fields, Kind, Value, field};
use signaling::name::RoomName;

use crate::node::{Node, SESSIONS_PER_ROOM};
use crate::person::{Door, Page, Paper};
use crate::plan::Plan;
use crate::socket::Frame;
use crate::world::{Event, World};
use dataplane::event::Event as Told;
use dataplane::load::Load;

/// What a person decided to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Come in, or back in.
    Enter,
    /// Offer, on a new connection where the old one is over.
    Offer,
}

/// A trouble that ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mend {
    Network(usize),
    Worker(usize, u32, usize),
    Load(usize, u32, usize),
    Stall(usize),
    Database(usize, u32),
    Denial,
    Mute,
}

impl World {
    /// A person does what they decided.
    pub(crate) fn on_act(&mut self, person: usize, turn: u32, act: Act) {
        let Some(state) = self.people.get_mut(&person).filter(|its| its.turn == turn) else {
            return;
        };
        state.has_plan = false;
        let is_over = state.call.as_ref().is_none_or(|call| call.is_over);
        match (&mut state.door, act) {
            (Door::Page(page), Act::Enter) if page.socket.is_none() => self.enter_page(person),
            (Door::Page(page), Act::Offer) if page.is_joined => {
                page.is_dirty = true;
                if is_over {
                    self.renew_call(person);
                }
                self.negotiate(person);
            }
            // Coming back does the rest.
            (Door::Page(_), _) => {}
            (Door::Encoder(_) | Door::Player(_), _) => self.post(person),
            (Door::Paper(_), Act::Enter) => self.write_offer(person, true),
            (Door::Paper(_), Act::Offer) => self.write_offer(person, is_over),
        }
    }

    /// A person's media connection is over, as they see it.
    pub(crate) fn on_failed(&mut self, person: usize) {
        let Some(state) = self.people.get_mut(&person) else {
            return;
        };
        if let Some(call) = &mut state.call {
            call.is_over = true;
        }
        let (is_page, is_joined) = match &state.door {
            Door::Page(page) => (true, page.is_joined),
            Door::Encoder(_) | Door::Player(_) | Door::Paper(_) => (false, false),
        };
        let wait = self.soon(300, 2_500);
        match (is_page, is_joined) {
            (true, true) => self.plan_act(person, wait, Act::Offer),
            // Coming back does the rest.
            (true, false) => {}
            (false, _) => self.plan_act(person, wait, Act::Enter),
        }
    }

    /// One thing happens.
    pub(crate) fn operate(&mut self) {
        let wanted = self.plan.people;
        if self.people.len() * 10 < wanted * 7 || self.rng.chance(0.1) {
            if self.people.len() < wanted * 5 / 4 {
                self.newcomer();
            }
            return;
        }
        let everybody: Vec<usize> = self.people.keys().copied().collect();
        let index = self.rng.below(everybody.len() as u64) as usize;
        let Some(person) = everybody.get(index).copied() else {
            return;
        };
        self.tally.faults += 1;
        if self.rng.chance(0.06) {
            self.trouble_node();
            return;
        }
        self.trouble_person(person);
    }

    fn newcomer(&mut self) {
        let number = self.rng.below(self.plan.rooms as u64);
        let name = format!("room{number}");
        let room: RoomName = name.parse().expect("a short name");
        let node = (number as usize) % self.nodes.len();
        let paper = |id: String, kind: Kind| {
            Door::Paper(Paper {
                id,
                kind,
                offer: String::new(),
                offered_at: None,
                answered: String::new(),
                error: String::new(),
                refusal: None,
                roster: std::collections::BTreeMap::new(),
                is_dirty: false,
                says: 0,
            })
        };
        let door = match self.rng.below(if self.plan.has_database { 14 } else { 10 }) {
            0 => Door::Encoder(None),
            1 | 2 => Door::Player(None),
            3..=9 => Door::Page(Page::default()),
            10 => {
                let id = format!("cast{}", self.next_number());
                let room = id.parse().expect("a short name");
                self.arrive_at(node, room, paper(id, Kind::Broadcaster));
                return;
            }
            11 => {
                let casts = self
                    .people
                    .values()
                    .filter_map(|person| match &person.door {
                        Door::Paper(paper) if paper.kind == Kind::Broadcaster => Some(&person.room),
                        _ => None,
                    });
                let casts: Vec<RoomName> = casts.cloned().collect();
                let index = self.rng.below(casts.len() as u64) as usize;
                let Some(cast) = casts.get(index).cloned() else {
                    return;
                };
                let id = format!("guest{}", self.next_number());
                self.arrive_at(node, cast, paper(id, Kind::Participant));
                return;
            }
            _ => paper(format!("member{}", self.next_number()), Kind::Member),
        };
        let there = self.people.values().filter(|person| person.room == room);
        if there.count() + 2 < SESSIONS_PER_ROOM {
            self.arrive_at(node, room, door);
        }
    }

    /// Somebody leaves as people do who mean to.
    pub(crate) fn leave(&mut self, person: usize) {
        if self.rng.chance(0.5) {
            self.close_call(person);
        }
        match self.people.get(&person).map(|state| &state.door) {
            Some(Door::Page(_)) => {
                let frame = match self.rng.below(3) {
                    0 => Frame::Close(Some(1001)),
                    1 => Frame::Close(Some(1000)),
                    _ => Frame::Text(json!({"type": "leave"}).to_string()),
                };
                self.leave_page(person, Some(frame));
            }
            Some(Door::Encoder(_) | Door::Player(_)) => self.delete(person),
            Some(Door::Paper(_)) => self.hang_up(person),
            None => {}
        }
    }

    /// Somebody's machine loses power.
    pub(crate) fn vanish(&mut self, person: usize) {
        let document = self.paper(person).map(|paper| paper.id.clone());
        if let Some(id) = document {
            self.expire_document(&id);
        }
        self.forget_person(person);
    }

    fn trouble_person(&mut self, person: usize) {
        if let Some(state) = self.people.get_mut(&person) {
            state.undisturbed_since = self.now;
        }
        match self.rng.below(20) {
            0..=2 => self.leave(person),
            3 => self.vanish(person),
            4 => self.reload(person),
            5 | 6 => self.restart_ice(person),
            7 => self.move_address(person),
            8 | 9 => {
                let network = self.plan.bad_network(&mut self.rng);
                self.set_network(person, network);
                let time = self.soon(5_000, 60_000);
                self.mend_after(time, Mend::Network(person));
            }
            10 | 11 => {
                self.set_network(person, Plan::no_network());
                let time = self.soon(2_000, 80_000);
                self.stick_socket(person, time);
                self.mend_after(time, Mend::Network(person));
            }
            12 | 13 => self.break_socket(person),
            14 => {
                let time = self.soon(1_000, 30_000);
                self.stick_socket(person, time);
            }
            15 | 16 => self.mute_or_prefer(person),
            17 => self.say(person),
            _ => self.toggle(person),
        }
    }

    /// A page is loaded anew: nobody said goodbye, and somebody like them comes.
    fn reload(&mut self, person: usize) {
        let Some(state) = self.people.get(&person) else {
            return;
        };
        let (node, room) = (state.node, state.room.clone());
        if matches!(state.door, Door::Page(_)) {
            let frame = self.rng.chance(0.5).then_some(Frame::Broken);
            self.leave_page(person, frame);
            self.arrive_at(node, room, Door::Page(Page::default()));
        }
    }

    fn restart_ice(&mut self, person: usize) {
        if self.rng.chance(0.5) {
            self.move_address(person);
        }
        let Some(state) = self.people.get_mut(&person) else {
            return;
        };
        let Some(call) = state.call.as_mut().filter(|call| call.is_connected()) else {
            return;
        };
        match &mut state.door {
            Door::Encoder(_) | Door::Player(_) => self.patch(person),
            Door::Page(page) => {
                if page.is_joined && call.pending.is_none() {
                    call.restart_ice(&mut self.rng);
                    page.is_dirty = true;
                    self.negotiate(person);
                }
            }
            Door::Paper(paper) => {
                if paper.offered_at.is_none() && !state.has_plan {
                    call.restart_ice(&mut self.rng);
                    self.write_offer(person, false);
                }
            }
        }
    }

    fn mute_or_prefer(&mut self, person: usize) {
        let (muted, low) = (self.rng.chance(0.5), self.rng.below(3));
        let source = ["microphone", "camera", "screen"][self.rng.below(3) as usize];
        let Some(state) = self.people.get(&person) else {
            return;
        };
        let wanted = state.call.as_ref().and_then(|call| {
            let wants = call.receivers.iter().rev();
            wants.filter_map(|known| known.want.clone()).next()
        });
        if let Door::Paper(paper) = &state.door {
            let id = paper.id.clone();
            let muted = [(source.to_owned(), muted.into())];
            let fields: Fields = [(field::MUTED.to_owned(), Value::Map(muted.into()))].into();
            self.write_fields(&id, fields);
            return;
        }
        let message = match wanted {
            Some(track) if low > 0 => {
                json!({"type": "prefer", "track": track, "most": low - 1, "priority": low})
            }
            _ => json!({"type": "mute", "source": source, "muted": muted}),
        };
        self.say_to_server(person, &message);
    }

    fn say(&mut self, person: usize) {
        let times = 1 + self.rng.below(20);
        if let Some(paper) = self.paper(person) {
            paper.says += 1;
            let say: Fields = [
                ("n".to_owned(), Value::Integer(paper.says)),
                ("text".to_owned(), "hello".into()),
            ]
            .into();
            let id = paper.id.clone();
            self.write_fields(&id, [(field::SAY.to_owned(), Value::Map(say))].into());
            return;
        }
        for _ in 0..times {
            self.say_to_server(person, &json!({"type": "chat", "text": "hello"}));
        }
    }

    /// Somebody's camera or microphone is switched on or off.
    fn toggle(&mut self, person: usize) {
        let which = self.rng.below(2) as usize;
        let Some(state) = self.people.get_mut(&person) else {
            return;
        };
        if let Door::Page(page) = &mut state.door {
            if let Some(sends) = state.sends.get_mut(which) {
                *sends = !*sends;
            }
            page.is_dirty = true;
            self.negotiate(person);
        }
    }

    fn trouble_node(&mut self) {
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        let worker = self.rng.below(self.nodes[node].workers.len() as u64) as usize;
        let process = self.nodes[node].process;
        self.disturbed_at = self.now;
        match self.rng.below(20) {
            0 => self.crash(node),
            1 => self.close_node(node),
            2 | 3 => self.restart_worker(node, worker),
            4..=6 => {
                self.nodes[node].workers[worker].is_blocked = true;
                let time = self.soon(50, 4_000);
                self.mend_after(time, Mend::Worker(node, process, worker));
            }
            7..=9 => {
                let load = Load(200 + self.rng.below(800) as u16);
                self.nodes[node].workers[worker].engine.handle_load(load);
                let time = self.soon(5_000, 60_000);
                self.mend_after(time, Mend::Load(node, process, worker));
            }
            10 | 11 => {
                let time = self.soon(100, 4_000);
                self.nodes[node].stalled_until = Some(self.now + time);
                self.mend_after(time, Mend::Stall(node));
            }
            12 => {
                let rooms = self.nodes[node].rooms.summaries();
                let index = self.rng.below(rooms.len() as u64) as usize;
                if let Some(room) = rooms.get(index).map(|room| room.room.clone()) {
                    self.decide(node, |rooms, _| rooms.handle_close_room(&room));
                }
            }
            _ if self.plan.has_database => self.trouble_database(node),
            _ => self.take_over(node),
        }
    }

    fn trouble_database(&mut self, node: usize) {
        match self.rng.below(8) {
            0..=3 if self.nodes[node].link.is_up => {
                self.disconnect_database(node);
                let epoch = self.nodes[node].link.epoch;
                let time = self.soon(200, 60_000);
                self.mend_after(time, Mend::Database(node, epoch));
            }
            4 | 5 => {
                self.is_mute = true;
                let time = self.soon(1, 2_000);
                self.mend_after(time, Mend::Mute);
            }
            6 => {
                let by = self.soon(100, 5_000);
                self.database.step_clock(by);
            }
            7 => {
                self.database.denies = true;
                let time = self.soon(500, 20_000);
                self.mend_after(time, Mend::Denial);
            }
            _ => {}
        }
    }

    fn restart_worker(&mut self, node: usize, worker: usize) {
        let seed = self.rng.next_u64();
        let (now, process) = (self.now, self.nodes[node].process);
        self.nodes[node].restart_worker(now, worker, seed);
        let told = Event::Told(node, process, worker, Told::WorkerRestarted);
        self.queue.push(now + Duration::from_millis(1), told);
        self.drive(node);
    }

    /// A node loses power, and starts again after a while.
    fn crash(&mut self, node: usize) {
        self.break_sockets(node);
        let before = &self.nodes[node];
        let (config, life) = (before.config.clone(), before.life);
        let (process, epoch) = (before.process, before.link.epoch);
        self.nodes[node] = Node::new(self.now, config, life + 1, &mut self.rng);
        self.nodes[node].process = process + 1;
        self.nodes[node].link.epoch = epoch;
        // It takes a moment to start.
        let time = self.soon(300, 5_000);
        self.nodes[node].stalled_until = Some(self.now + time);
        self.mend_after(time, Mend::Stall(node));
        self.begin_node(node);
    }

    /// All WebSockets of a node end with its process.
    pub(crate) fn break_sockets(&mut self, node: usize) {
        let sockets = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.node == node);
        let sockets: Vec<usize> = sockets.map(|(id, _)| *id).collect();
        for id in sockets {
            self.sockets.remove(&id);
            let wait = self.soon(10, 500);
            let broken = Event::ToClient(id, Frame::Broken);
            self.queue.push(self.now + wait, broken);
        }
    }

    /// A node ends as it should, and starts again.
    fn close_node(&mut self, node: usize) {
        self.decide(node, |rooms, _| rooms.handle_shutdown());
        self.with_desk(node, Desk::handle_end);
        self.run(Duration::from_secs(3));
        self.disturbed_at = self.now;
        self.crash(node);
    }

    pub(crate) fn mend_after(&mut self, time: Duration, mend: Mend) {
        self.queue.push(self.now + time, Event::Mend(mend));
    }

    /// A trouble is over.
    pub(crate) fn on_mend(&mut self, mend: Mend) {
        let now = self.now;
        if !matches!(mend, Mend::Network(_)) {
            self.disturbed_at = now;
        }
        match mend {
            Mend::Network(person) => {
                let network = self.plan.good_network(&mut self.rng);
                self.set_network(person, network);
                if let Some(state) = self.people.get_mut(&person) {
                    state.undisturbed_since = now;
                }
            }
            Mend::Worker(node, process, worker) if self.nodes[node].process == process => {
                self.nodes[node].workers[worker].is_blocked = false;
                self.drive(node);
            }
            Mend::Load(node, process, worker) if self.nodes[node].process == process => {
                let load = Load::default();
                self.nodes[node].workers[worker].engine.handle_load(load);
                self.drive(node);
            }
            Mend::Worker(..) | Mend::Load(..) => {}
            Mend::Stall(node) => {
                let stalled = self.nodes[node].stalled_until;
                if stalled.is_some_and(|until| until <= now) {
                    self.nodes[node].stalled_until = None;
                    self.drive(node);
                }
            }
            Mend::Database(node, epoch) => {
                if self.nodes[node].link.epoch == epoch {
                    self.connect_database(node);
                }
            }
            Mend::Denial => self.database.denies = false,
            Mend::Mute => self.is_mute = false,
        }
    }
}
