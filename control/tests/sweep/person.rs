//! Somebody at a door of a node: their network, their media connection, and what they are at the door as.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use dataplane::command::MediaKind;
use dataplane::sim::network::{Link, LinkSpec};
use dataplane::sim::source::Stamp;
use serde_json::Value;
use signaling::firestore::Kind;
use signaling::name::RoomName;
use signaling::node::ResourceId;

use crate::call::Call;
use crate::chaos::Act;
use crate::description::NUMBERS;
use crate::lane::{self, HELLO_INTERVAL, Hello, Word};
use crate::queue::Owner;
use crate::world::{Event, Stream, World};

/// A connection without an answered check for this long has failed.
const FAILED_AFTER: Duration = Duration::from_secs(35);

/// A connection that does not come up within this time is given up.
const CONNECT_WITHIN: Duration = Duration::from_secs(40);

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// Somebody.
pub(crate) struct Person {
    pub(crate) room: RoomName,
    pub(crate) node: usize,
    pub(crate) door: Door,
    pub(crate) up: Link<Packet>,
    pub(crate) down: Link<Packet>,
    pub(crate) call: Option<Call>,
    /// Whether microphone and camera are on.
    pub(crate) sends: [bool; 2],
    numbers: usize,
    /// Since when nothing was done to them or their network.
    pub(crate) undisturbed_since: Instant,
    /// Reports that were sent to them.
    reports: u64,
    /// Counts what they decided: an older plan is void.
    pub(crate) turn: u32,
    /// Whether something is planned.
    pub(crate) has_plan: bool,
}

impl Person {
    /// Whether they take this report, which is one of many.
    pub(crate) fn takes_report(&mut self, apart: u64) -> bool {
        self.reports += 1;
        self.reports.is_multiple_of(apart)
    }

    /// Whether they are shown whoever the node chooses.
    pub(crate) fn watches_one(&self) -> bool {
        match &self.door {
            Door::Player(_) => true,
            Door::Paper(paper) => paper.kind == Kind::Participant,
            Door::Page(_) | Door::Encoder(_) => false,
        }
    }
}

/// Which door they are at, and what came of it.
pub(crate) enum Door {
    Page(Page),
    Encoder(Option<Resource>),
    Player(Option<Resource>),
    Paper(Paper),
}

/// A page with a WebSocket.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) socket: Option<usize>,
    pub(crate) is_joined: bool,
    pub(crate) token: Option<String>,
    pub(crate) you: Option<String>,
    /// Everybody, as told.
    pub(crate) roster: BTreeMap<String, Value>,
    pub(crate) is_dirty: bool,
}

/// A WHIP or WHEP resource.
pub(crate) struct Resource {
    pub(crate) id: ResourceId,
    pub(crate) etag: String,
    /// The life of the node that made it.
    pub(crate) life: u32,
}

/// A page with a document.
pub(crate) struct Paper {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    /// The offer that was written last.
    pub(crate) offer: String,
    /// Since when an offer waits for an answer or an error.
    pub(crate) offered_at: Option<Instant>,
    /// The answer that was read last.
    pub(crate) answered: String,
    pub(crate) error: String,
    /// The refusal that was read last, with when it was said.
    pub(crate) refusal: Option<String>,
    pub(crate) roster: BTreeMap<String, Value>,
    pub(crate) is_dirty: bool,
    pub(crate) says: i64,
}

/// The tracks of everybody but `you`, as told.
pub(crate) fn tracks_of(roster: &BTreeMap<String, Value>, you: &str) -> Vec<(String, MediaKind)> {
    let others = roster.iter().filter(|(id, _)| *id != you);
    let tracks = others.filter_map(|(_, person)| person.get("tracks")?.as_array());
    let track = |track: &Value| {
        let kind = match track.get("kind")?.as_str()? {
            "audio" => MediaKind::Audio,
            _ => MediaKind::Video,
        };
        Some((track.get("id")?.as_str()?.to_owned(), kind))
    };
    tracks.flatten().filter_map(track).collect()
}

impl World {
    /// Somebody comes to a door.
    pub(crate) fn arrive_at(&mut self, node: usize, room: RoomName, door: Door) -> usize {
        let id = self.next_number() as usize;
        let network = self.plan.good_network(&mut self.rng);
        let (up, down) = (self.rng.next_u64(), self.rng.next_u64());
        let numbers = self.rng.below(NUMBERS.len() as u64) as usize;
        let sends = [self.rng.chance(0.95), self.rng.chance(0.7)];
        let person = Person {
            room,
            node,
            door,
            up: Link::new(network, up),
            down: Link::new(network, down),
            call: None,
            sends,
            numbers,
            undisturbed_since: self.now,
            reports: 0,
            turn: 0,
            has_plan: false,
        };
        self.people.insert(id, person);
        self.tally.joins += 1;
        self.plan_act(id, Duration::ZERO, Act::Enter);
        id
    }

    /// A person means to do something in a while, and nothing else before.
    pub(crate) fn plan_act(&mut self, person: usize, after: Duration, act: Act) {
        let at = self.now + after;
        if let Some(state) = self.people.get_mut(&person) {
            state.turn += 1;
            state.has_plan = true;
            let turn = state.turn;
            self.queue.push(at, Event::Act(person, turn, act));
        }
    }

    /// A random while.
    pub(crate) fn soon(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(least_ms + self.rng.below(most_ms - least_ms))
    }

    /// Somebody is forgotten by the world; what becomes of them at the node is the node's business.
    pub(crate) fn forget_person(&mut self, person: usize) {
        let Some(state) = self.people.remove(&person) else {
            return;
        };
        if let Some(call) = &state.call {
            self.addresses.remove(&call.address);
        }
        for owner in [Owner::Peer(person), Owner::Up(person), Owner::Down(person)] {
            self.queue.wake(owner, None);
        }
    }

    /// A new media connection in place of the old one.
    pub(crate) fn renew_call(&mut self, person: usize) {
        let address = self.next_address();
        let streams = [(); 2].map(|()| self.next_number() as u32);
        let certificate = if self.plan.real_handshakes {
            let made = dataplane::dtls::Certificate::generate();
            (made.expect("a simulation's system has randomness"), true)
        } else {
            (self.certificate.clone(), false)
        };
        let (now, pace) = (self.now, self.plan.pace);
        let Some(state) = self.people.get_mut(&person) else {
            return;
        };
        let mut numbers = NUMBERS[state.numbers];
        if !pace.feedback {
            numbers.transport = None;
        }
        let call = Call::new(now, &mut self.rng, numbers, certificate, address, streams);
        if let Some(before) = state.call.replace(call) {
            self.addresses.remove(&before.address);
        }
        for stream in streams {
            let room = state.room.clone();
            self.streams.insert(stream, Stream { person, room });
        }
        self.addresses.insert(address, person);
        self.queue.wake(Owner::Peer(person), None);
    }

    fn next_address(&mut self) -> SocketAddr {
        let number = self.next_number() as u32;
        SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + number), 40_000))
    }

    /// A person's address changes under them (a NAT rebinds); they notice nothing.
    pub(crate) fn move_address(&mut self, person: usize) {
        let address = self.next_address();
        if let Some(call) = self
            .people
            .get_mut(&person)
            .and_then(|its| its.call.as_mut())
        {
            let before = std::mem::replace(&mut call.address, address);
            self.addresses.remove(&before);
            self.addresses.insert(address, person);
        }
    }

    pub(crate) fn set_network(&mut self, person: usize, network: LinkSpec) {
        if let Some(state) = self.people.get_mut(&person) {
            state.up.set_spec(network);
            state.down.set_spec(network);
        }
    }

    /// A person's media connection wants something.
    pub(crate) fn wake_peer(&mut self, person: usize) {
        let now = self.now;
        let Some(call) = self
            .people
            .get_mut(&person)
            .and_then(|its| its.call.as_mut())
        else {
            return;
        };
        if let Some(peer) = &mut call.peer
            && peer.poll_timeout().is_some_and(|due| due <= now)
        {
            peer.handle_timeout(now);
        }
        self.drain_peer(person);
        self.watch_call(person);
    }

    /// A connection that has failed is noticed by its client.
    fn watch_call(&mut self, person: usize) {
        let now = self.now;
        let Some(state) = self.people.get_mut(&person) else {
            return;
        };
        let Some(call) = state.call.as_mut().filter(|call| !call.is_over) else {
            return;
        };
        let Some(peer) = &call.peer else { return };
        let heard_at = peer.answered_at();
        let has_failed = match (peer.connected_at(), heard_at) {
            _ if peer.closed().is_some() => true,
            (Some(_), Some(heard_at)) => now > heard_at + FAILED_AFTER,
            _ => now > call.answered_at + CONNECT_WITHIN,
        };
        if has_failed {
            self.on_failed(person);
        }
    }

    /// Lets a person's media connection send what it has to send, and looks at what came.
    pub(crate) fn drain_peer(&mut self, person: usize) {
        let now = self.now;
        let Some(state) = self.people.get_mut(&person) else {
            return;
        };
        let room = state.room.clone();
        let Some(call) = &mut state.call else { return };
        let (from, Some(to)) = (call.address, call.server) else {
            return;
        };
        let Some(peer) = &mut call.peer else { return };
        while let Some(arrival) = peer.poll_arrival() {
            let stamp = Stamp::read(&arrival.payload).expect("what was sent arrives");
            if let Some(stamp) = stamp {
                let stream = self.streams.get(&stamp.stream);
                let from = stream.expect("somebody sends the stream");
                assert_eq!(from.room, room, "a packet of another room: {stamp:?}");
                assert_ne!(from.person, person, "somebody hears themselves");
            }
        }
        let mut send = |bytes: Vec<u8>| {
            let len = bytes.len();
            let packet = Packet { from, to, bytes };
            state.up.handle_datagram(now, len, packet);
        };
        while let Some(bytes) = peer.poll_transmit() {
            send(bytes);
        }
        let mut due = peer.poll_timeout();
        if let Hello::Saying(at) = &mut call.hello
            && peer.answered_at().is_some()
        {
            if *at <= now {
                *at = now + HELLO_INTERVAL;
                send(lane::client_hello(&call.transport.fingerprint));
            }
            due = due.map(|due| due.min(*at));
        }
        call.assert_sound(now);
        self.queue.wake(Owner::Peer(person), due);
        let due = state.up.poll_timeout();
        self.queue.wake(Owner::Up(person), due);
    }

    /// What a person sent arrives at a node.
    pub(crate) fn deliver_up(&mut self, person: usize) {
        let now = self.now;
        let Some(state) = self.people.get_mut(&person) else {
            return;
        };
        let server = state.call.as_ref().and_then(|call| call.server);
        let node = server
            .and_then(|server| self.servers.get(&server))
            .map(|(node, _)| *node);
        let stalled = node.and_then(|node| self.nodes[node].stalled_until);
        if let Some(until) = stalled.filter(|until| *until > now) {
            // It waits in the socket's buffer.
            self.queue.wake(Owner::Up(person), Some(until));
            return;
        }
        let mut arrived = Vec::new();
        while let Some(packet) = state.up.poll_datagram(now) {
            arrived.push(packet);
        }
        let due = state.up.poll_timeout();
        self.queue.wake(Owner::Up(person), due);
        for packet in arrived {
            self.arrive(packet);
        }
        if let Some(node) = node {
            self.drive(node);
        }
    }

    /// What a node sent arrives at a person.
    pub(crate) fn deliver_down(&mut self, person: usize) {
        let now = self.now;
        let Some(state) = self.people.get_mut(&person) else {
            return;
        };
        let mut said = Vec::new();
        while let Some(packet) = state.down.poll_datagram(now) {
            let Some(call) = state.call.as_mut() else {
                continue;
            };
            let is_ours = packet.to == call.address && Some(packet.from) == call.server;
            let Some(peer) = call.peer.as_mut().filter(|_| is_ours) else {
                continue;
            };
            let is_stand_in = !matches!(call.hello, Hello::Real);
            if is_stand_in && matches!(packet.bytes.first(), Some(20..=63)) {
                said.extend(lane::read(&packet.bytes));
            } else {
                peer.handle_datagram(now, packet.from, &packet.bytes);
            }
        }
        let due = state.down.poll_timeout();
        self.queue.wake(Owner::Down(person), due);
        for word in said {
            self.on_word(person, &word);
        }
        self.drain_peer(person);
        let is_closed = self.people.get(&person).is_some_and(|state| {
            let call = state.call.as_ref().filter(|call| !call.is_over);
            call.and_then(|call| call.peer.as_ref()?.closed()).is_some()
        });
        if is_closed {
            self.on_failed(person);
        }
    }

    /// A client closes its media connection, and says so where it can (RFC 8446 section 6.1).
    pub(crate) fn close_call(&mut self, person: usize) {
        let call = self
            .people
            .get(&person)
            .and_then(|state| state.call.as_ref());
        let Some(call) = call.filter(|call| matches!(call.hello, Hello::Done)) else {
            return;
        };
        let (from, Some(to)) = (call.address, call.server) else {
            return;
        };
        let Some((node, _)) = self.servers.get(&to).copied() else {
            return;
        };
        if self.nodes[node].stalled_until.is_none() {
            let bytes = lane::goodbye();
            self.arrive(Packet { from, to, bytes });
            self.drive(node);
        }
    }

    /// The stand-in for DTLS says something.
    fn on_word(&mut self, person: usize, word: &Word) {
        let now = self.now;
        let Some(call) = self
            .people
            .get_mut(&person)
            .and_then(|its| its.call.as_mut())
        else {
            return;
        };
        match word {
            Word::Keys(keys) => {
                if let (Hello::Saying(_), Some(peer)) = (&call.hello, &mut call.peer) {
                    peer.handle_keys(now, keys);
                    call.hello = Hello::Done;
                }
            }
            Word::Goodbye if call.is_over => {}
            Word::Goodbye => self.on_failed(person),
        }
    }
}
