//! The world: nodes, people, what is between them, and a clock.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use control::room::{Effect, EndReason, Rooms};
use dataplane::dtls::Certificate;
use dataplane::event::Event as Told;
use dataplane::limits::BURST_BYTES_MAX;
use dataplane::relay::RelaySlot;
use dataplane::sim::network::Rng;
use dataplane::transmit::Path;
use signaling::name::RoomName;
use signaling::node::PersonId;

use crate::chaos::{Act, Mend};
use crate::cloud::Reply;
use crate::database::Database;
use crate::node::{Node, UNREAD_MAX, Worker};
use crate::person::{Packet, Person};
use crate::plan::Plan;
use crate::queue::{Owner, Queue};
use crate::socket::{Frame, Socket};

/// How long an event of a worker takes to reach the rooms.
const EVENT_DELAY: Duration = Duration::from_millis(1);

/// Rooms' looks reach the desk at most this often.
const REPORT_SPAN: Duration = Duration::from_millis(50);

/// Turns without time passing that can only be a loop between the parts.
const TURNS_MAX: u32 = 10_000;

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A timer fires.
    Wake(Owner),
    /// A worker of a node, in its nth process, tells something.
    Told(usize, u32, usize, Told),
    /// A frame of a WebSocket arrives at the server, or at the client.
    ToServer(usize, Frame),
    ToClient(usize, Frame),
    /// The desk hears what its node has to report.
    Reports(usize, u32),
    /// The database or the way to it.
    Cloud(Reply),
    /// A person hears of a document.
    Document(usize, String),
    /// A person does something that was decided before.
    Act(usize, u32, Act),
    /// A trouble is over.
    Mend(Mend),
}

/// A stream that somebody sends.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) person: usize,
    pub(crate) room: RoomName,
}

/// What happened in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// Seconds of meetings: of a room with at least two in it.
    pub(crate) meeting_seconds: f64,
    pub(crate) events: u64,
    pub(crate) joins: u64,
    pub(crate) offers: u64,
    pub(crate) packets: u64,
    pub(crate) faults: u64,
    pub(crate) resumed: u64,
    pub(crate) refused: u64,
    pub(crate) relayed: u64,
    pub(crate) taken_over: u64,
}

/// The world.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) epoch: Instant,
    pub(crate) now: Instant,
    pub(crate) queue: Queue,
    pub(crate) rng: Rng,
    pub(crate) nodes: Vec<Node>,
    pub(crate) database: Database,
    /// Listeners are told of nothing.
    pub(crate) is_mute: bool,
    pub(crate) people: BTreeMap<usize, Person>,
    pub(crate) sockets: BTreeMap<usize, Socket>,
    /// Whose end of a WebSocket it is.
    pub(crate) clients: HashMap<usize, usize>,
    /// Whose an address is.
    pub(crate) addresses: HashMap<SocketAddr, usize>,
    /// Which worker is where.
    pub(crate) servers: HashMap<SocketAddr, (usize, usize)>,
    pub(crate) streams: HashMap<u32, Stream>,
    /// A certificate for everybody whose handshakes are not real.
    pub(crate) certificate: Certificate,
    numbers: u64,
    slot: Box<[u8]>,
    relay_slot: Box<RelaySlot>,
    /// When something was last done to a node or the database.
    pub(crate) disturbed_at: Instant,
    /// When meetings were last counted.
    pub(crate) counted_at: Instant,
    pub(crate) tally: Tally,
}

/// So many things never happen at one moment.
const AT_ONCE_MAX: u64 = 1_000_000;

impl World {
    #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
    pub(crate) fn new(plan: Plan) -> World {
        let epoch = Instant::now();
        let mut world = World {
            rng: Rng::new(plan.seed),
            epoch,
            now: epoch,
            queue: Queue::default(),
            nodes: Vec::new(),
            database: Database::default(),
            is_mute: false,
            people: BTreeMap::new(),
            sockets: BTreeMap::new(),
            clients: HashMap::new(),
            addresses: HashMap::new(),
            servers: HashMap::new(),
            streams: HashMap::new(),
            certificate: Certificate::generate().expect("a simulation's system has randomness"),
            numbers: 0,
            slot: vec![0; BURST_BYTES_MAX].into_boxed_slice(),
            relay_slot: RelaySlot::new(),
            disturbed_at: epoch,
            counted_at: epoch,
            tally: Tally::default(),
            plan,
        };
        for index in 0..world.plan.nodes {
            let config = world.plan.node(index);
            let node = Node::new(epoch, config, 0, &mut world.rng);
            for (worker, state) in node.workers.iter().enumerate() {
                world.servers.insert(state.address, (index, worker));
            }
            world.nodes.push(node);
            world.begin_node(index);
        }
        world
    }

    /// A node has started: its timers run, and it looks for the database.
    pub(crate) fn begin_node(&mut self, node: usize) {
        self.drive(node);
        if self.nodes[node].desk.is_some() {
            self.connect_database(node);
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.epoch
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Time passes.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut at_once = 0;
        while let Some((at, event)) = self.queue.pop(end) {
            at_once = if at <= self.now { at_once + 1 } else { 0 };
            assert!(at_once < AT_ONCE_MAX, "time stands still at {event:?}");
            // What is overdue happens now.
            self.now = self.now.max(at);
            self.tally.events += 1;
            self.on_event(event);
        }
        self.now = end;
    }

    fn on_event(&mut self, event: Event) {
        if let Some(until) = self.held_back(&event) {
            match event {
                Event::Wake(owner) => self.queue.wake(owner, Some(until)),
                event => self.queue.push(until, event),
            }
            return;
        }
        match event {
            Event::Wake(owner) => self.on_wake(owner),
            Event::Told(node, process, worker, told) if self.nodes[node].process == process => {
                self.on_told(node, worker, &told);
            }
            Event::ToServer(socket, frame) => self.on_frame(socket, frame),
            Event::ToClient(socket, frame) => self.on_client_frame(socket, frame),
            Event::Reports(node, life) if self.nodes[node].life == life => self.on_reports(node),
            Event::Cloud(reply) => self.on_cloud(reply),
            Event::Document(person, id) => self.on_document(person, &id),
            Event::Act(person, turn, act) => self.on_act(person, turn, act),
            Event::Mend(mend) => self.on_mend(mend),
            // It was meant for a node that is no more.
            Event::Told(..) | Event::Reports(..) => {}
        }
    }

    /// Until when a node that stands still leaves this where it is.
    fn held_back(&self, event: &Event) -> Option<Instant> {
        let node = match event {
            Event::Wake(
                Owner::Engine(node, _)
                | Owner::Lane(node, _)
                | Owner::Rooms(node)
                | Owner::Desk(node),
            )
            | Event::Told(node, ..)
            | Event::Reports(node, _) => *node,
            Event::Wake(Owner::Socket(socket)) | Event::ToServer(socket, _) => {
                self.sockets.get(socket)?.node
            }
            Event::Cloud(reply) => reply.heard_by()?,
            Event::Wake(Owner::Peer(_) | Owner::Up(_) | Owner::Down(_))
            | Event::ToClient(..)
            | Event::Document(..)
            | Event::Act(..)
            | Event::Mend(_) => return None,
        };
        let until = self.nodes[node].stalled_until;
        until.filter(|until| *until > self.now)
    }

    fn on_wake(&mut self, owner: Owner) {
        let now = self.now;
        match owner {
            Owner::Engine(node, worker) => {
                let state = &mut self.nodes[node].workers[worker];
                if state.engine.poll_timeout().is_some_and(|due| due <= now) {
                    state.wakes += 1;
                    state.engine.handle_timeout(now);
                }
                self.drive(node);
            }
            Owner::Lane(node, worker) => {
                self.nodes[node].workers[worker].lane.handle_timeout(now);
                self.drive(node);
            }
            Owner::Rooms(node) => self.decide(node, Rooms::handle_timeout),
            Owner::Desk(node) => self.wake_desk(node),
            Owner::Peer(person) => self.wake_peer(person),
            Owner::Up(person) => self.deliver_up(person),
            Owner::Down(person) => self.deliver_down(person),
            Owner::Socket(socket) => self.pump(socket),
        }
    }

    fn on_told(&mut self, node: usize, worker: usize, told: &Told) {
        match told {
            Told::Closed { session, .. } => self.nodes[node].model.forget(*session),
            Told::Report(report) => {
                self.nodes[node].workers[worker].counters = report.counters.clone();
            }
            Told::WorkerRestarted => self.nodes[node].model.restart(worker),
            _ => {}
        }
        self.decide(node, |rooms, now| rooms.handle_event(now, worker, told));
    }

    /// Lets `what` happen to a node's rooms, and carries out what comes of it.
    pub(crate) fn decide<T>(
        &mut self,
        node: usize,
        what: impl FnOnce(&mut Rooms, Instant) -> T,
    ) -> T {
        let result = what(&mut self.nodes[node].rooms, self.now);
        self.carry_out(node);
        result
    }

    /// Does what the rooms decided. People who do not read are removed, which decides more.
    pub(crate) fn carry_out(&mut self, node: usize) {
        let now = self.now;
        loop {
            let mut slow = Vec::new();
            while let Some(effect) = self.nodes[node].rooms.poll_effect() {
                slow.extend(self.perform_effect(node, effect));
            }
            if slow.is_empty() {
                break;
            }
            for person in slow {
                let rooms = &mut self.nodes[node].rooms;
                rooms.handle_leave(&person, EndReason::TooSlow);
            }
        }
        let state = &mut self.nodes[node];
        let changed = state.rooms.take_changed();
        if state.desk.is_some() {
            state.changed.extend(changed);
            let has_news = !state.changed.is_empty() || !state.ended.is_empty();
            if has_news && state.reports_at.is_none() {
                let at = now + REPORT_SPAN;
                state.reports_at = Some(at);
                let life = state.life;
                self.queue.push(at, Event::Reports(node, life));
            }
        }
        let due = self.nodes[node].rooms.poll_timeout();
        self.queue.wake(Owner::Rooms(node), due);
        self.drive(node);
    }

    /// Does one thing; gives back a person who is too slow to be told.
    fn perform_effect(&mut self, node: usize, effect: Effect) -> Option<PersonId> {
        let now = self.now;
        let state = &mut self.nodes[node];
        match effect {
            Effect::Command { worker, command } => {
                state.model.carry_out(worker, &command);
                state.workers[worker].handle_command(now, command);
            }
            Effect::Notify { person, event } => {
                let socket = *state.people.get(&person)?;
                let Some(open) = self.sockets.get_mut(&socket) else {
                    state.people.remove(&person);
                    return None;
                };
                let is_told = open.notify(event, UNREAD_MAX);
                if !is_told {
                    open.close_channel();
                    state.people.remove(&person);
                }
                self.queue.wake(Owner::Socket(socket), Some(now));
                return (!is_told).then_some(person);
            }
            Effect::Dismissed { person } => {
                if let Some(socket) = state.people.remove(&person) {
                    if let Some(open) = self.sockets.get_mut(&socket) {
                        open.close_channel();
                    }
                    self.queue.wake(Owner::Socket(socket), Some(now));
                }
            }
            Effect::RequestEnded { request, reason } => {
                let id = control::firestore::desk::RequestId(request);
                state.ended.push((id, reason.to_string()));
            }
            Effect::SessionOpened { .. }
            | Effect::SessionEnded { .. }
            | Effect::CameraLost { .. }
            | Effect::ChannelRefused { .. } => {}
        }
        None
    }

    /// Takes everything out of a node's engines and handshakes, and puts it where it goes.
    pub(crate) fn drive(&mut self, node: usize) {
        let now = self.now;
        let is_still = self.nodes[node]
            .stalled_until
            .is_some_and(|until| until > now);
        if is_still {
            return;
        }
        let mut turns = 0;
        loop {
            let mut moved = self.relay(node);
            for worker in 0..self.nodes[node].workers.len() {
                self.transmit(node, worker);
                moved |= self.shake_hands(node, worker);
            }
            if !moved {
                break;
            }
            turns += 1;
            assert!(turns < TURNS_MAX, "a node turns in circles");
        }
        for (worker, state) in self.nodes[node].workers.iter().enumerate() {
            let due = state
                .engine
                .poll_timeout()
                .map(|due| self.plan.turn_at(self.epoch, due));
            self.queue.wake(Owner::Engine(node, worker), due);
            let due = state.lane.poll_timeout();
            self.queue.wake(Owner::Lane(node, worker), due);
        }
    }

    /// Hands what engines have for each other from one to the other.
    fn relay(&mut self, node: usize) -> bool {
        let now = self.now;
        let mut moved = false;
        let slot = &mut *self.relay_slot;
        let [one, other] = &mut self.nodes[node].workers[..] else {
            return false;
        };
        // A full queue, too, is what a blocked worker looks like.
        let mut hand_over = |from: &mut Worker, to: &mut Worker, index: usize| {
            while !from.is_blocked && from.engine.poll_relay(now, index, slot) {
                to.engine.handle_relay(now, slot);
                self.tally.relayed += 1;
                moved = true;
            }
        };
        hand_over(one, other, 1);
        hand_over(other, one, 0);
        moved
    }

    /// Sends what an engine has to send.
    fn transmit(&mut self, node: usize, worker: usize) {
        let now = self.now;
        let state = &mut self.nodes[node].workers[worker];
        let from = state.address;
        while !state.is_blocked
            && let Some(transmit) = state.engine.poll_transmit(now, &mut self.slot)
        {
            let to = transmit.path.remote;
            let Some(person) = self.addresses.get(&to).copied() else {
                continue;
            };
            let Some(receiver) = self.people.get_mut(&person) else {
                continue;
            };
            let bytes = self
                .slot
                .get(..transmit.len)
                .expect("a burst fits its slot");
            for datagram in bytes.chunks(transmit.segment.max(1)) {
                if is_report(datagram) && !receiver.takes_report(self.plan.reports_apart) {
                    continue;
                }
                let packet = Packet {
                    from,
                    to,
                    bytes: datagram.to_vec(),
                };
                receiver.down.handle_datagram(now, datagram.len(), packet);
            }
            let due = receiver.down.poll_timeout();
            self.queue.wake(Owner::Down(person), due);
        }
    }

    /// Hands handshakes on, and events.
    fn shake_hands(&mut self, node: usize, worker: usize) -> bool {
        let now = self.now;
        let process = self.nodes[node].process;
        let state = &mut self.nodes[node].workers[worker];
        let mut moved = false;
        while let Some(input) = state.engine.poll_dtls() {
            state.lane.handle_input(now, input);
        }
        while let Some(command) = state.lane.poll_command() {
            state.engine.handle_command(now, command);
            moved = true;
        }
        while let Some(told) = state.engine.poll_event() {
            let event = Event::Told(node, process, worker, told);
            self.queue.push(now + EVENT_DELAY, event);
        }
        moved
    }

    /// A datagram arrives at a worker.
    pub(crate) fn arrive(&mut self, packet: Packet) {
        let Packet {
            from,
            to,
            mut bytes,
        } = packet;
        let Some((node, worker)) = self.servers.get(&to).copied() else {
            return;
        };
        let (now, len) = (self.now, bytes.len());
        self.tally.packets += 1;
        let engine = &mut self.nodes[node].workers[worker].engine;
        engine.handle_datagrams(now, Path::udp(from), &mut bytes, len);
    }
}

/// Whether it is what is told each second, of which nothing depends: longer than a request for a key frame (RFC 3550
/// section 6.4, RFC 4585 section 6.3.1).
fn is_report(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, 200 | 201, ..]) && datagram.len() > 40
}
