//! The server's side of a WebSocket: the real protocol, and what `ws/connection.rs` does around it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::room::Entry;
use signaling::node::{Enter, PersonId, Refusal, RoomEvent};
use signaling::ws::{Action, Joined, Protocol};

use crate::queue::Owner;
use crate::world::{Event, World};

/// A frame that nobody takes within this time breaks the connection.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// Ends of a connection.
const SERVER: usize = 0;
const CLIENT: usize = 1;

/// A connection as the server sees it.
pub(crate) struct Socket {
    pub(crate) node: usize,
    protocol: Protocol,
    /// What happens in the room, once the person is in.
    channel: Option<Channel>,
    latency: Duration,
    /// Nothing passes until then.
    pub(crate) stuck_until: Option<Instant>,
    /// Since when a frame waits to leave.
    waits_since: Option<Instant>,
    /// When the last frame arrives, at the server and at the client: none overtakes another.
    arrivals: [Instant; 2],
}

/// What happened and was not read yet.
#[derive(Default)]
struct Channel {
    unread: VecDeque<RoomEvent>,
    is_closed: bool,
}

/// What passes over a connection.
#[derive(Debug)]
pub(crate) enum Frame {
    Text(String),
    Ping,
    Pong,
    Close(Option<u16>),
    /// The connection ended without a word.
    Broken,
}

impl Socket {
    pub(crate) fn new(now: Instant, node: usize, latency: Duration) -> Socket {
        Socket {
            node,
            protocol: Protocol::new(now, Arc::new([])),
            channel: None,
            latency,
            stuck_until: None,
            waits_since: None,
            arrivals: [now; 2],
        }
    }

    /// The person is to be told; `false` when they have too much to read already.
    pub(crate) fn notify(&mut self, event: RoomEvent, most: usize) -> bool {
        let Some(channel) = self.channel.as_mut().filter(|channel| !channel.is_closed) else {
            return true;
        };
        if channel.unread.len() >= most {
            return false;
        }
        channel.unread.push_back(event);
        true
    }

    /// The node has nothing more to tell the person here.
    pub(crate) fn close_channel(&mut self) {
        if let Some(channel) = &mut self.channel {
            channel.is_closed = true;
        }
    }

    /// Whether everything was read.
    pub(crate) fn is_idle(&self) -> bool {
        self.channel
            .as_ref()
            .is_none_or(|channel| channel.unread.is_empty())
    }

    /// When a frame arrives that leaves then.
    fn arrival(&mut self, end: usize, leaves: Instant) -> Instant {
        let at = self.arrivals[end].max(leaves + self.latency);
        self.arrivals[end] = at;
        at
    }

    fn is_stuck(&self, now: Instant) -> bool {
        self.stuck_until.is_some_and(|until| now < until)
    }
}

impl World {
    /// A person opens a connection; its number.
    pub(crate) fn open_socket(&mut self, person: usize, node: usize) -> usize {
        let id = self.next_number() as usize;
        let latency = Duration::from_millis(5 + self.rng.below(80));
        let socket = Socket::new(self.now, node, latency);
        self.sockets.insert(id, socket);
        self.clients.insert(id, person);
        self.queue.wake(Owner::Socket(id), Some(self.now));
        id
    }

    /// The client sends something.
    pub(crate) fn send_frame(&mut self, socket: usize, frame: Frame) {
        let Some(state) = self.sockets.get_mut(&socket) else {
            return;
        };
        let leaves = state.stuck_until.unwrap_or(self.now).max(self.now);
        let at = state.arrival(SERVER, leaves);
        self.queue.push(at, Event::ToServer(socket, frame));
    }

    /// A client's frame arrives.
    pub(crate) fn on_frame(&mut self, id: usize, frame: Frame) {
        let now = self.now;
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        match frame {
            Frame::Text(text) => socket.protocol.handle_text(now, &text),
            Frame::Ping | Frame::Pong => {
                socket.protocol.handle_frame(now);
            }
            Frame::Close(code) => socket.protocol.handle_close(code),
            Frame::Broken => socket.protocol.handle_broken(),
        }
        self.pump(id);
    }

    /// Lets a connection do what it can.
    pub(crate) fn pump(&mut self, id: usize) {
        let now = self.now;
        loop {
            let Some(socket) = self.sockets.get_mut(&id) else {
                return;
            };
            if socket.protocol.poll_timeout().is_some_and(|due| due <= now) {
                socket.protocol.handle_timeout(now);
            }
            let is_stuck = socket.is_stuck(now);
            let waits = socket.waits_since;
            if !is_stuck {
                socket.waits_since = None;
            } else if waits.is_some_and(|since| now >= since + SEND_WITHIN) {
                socket.waits_since = None;
                socket.protocol.handle_broken();
            }
            if let Some(channel) = socket.channel.as_mut().filter(|_| !is_stuck) {
                while let Some(event) = channel.unread.pop_front() {
                    socket.protocol.handle_event(&event);
                }
                if channel.is_closed {
                    socket.channel = None;
                    socket.protocol.handle_events_ended();
                }
            }
            let Some(action) = socket.protocol.poll_action() else {
                break;
            };
            self.perform(id, action);
        }
        self.settle_socket(id);
    }

    /// When a connection wants to be looked at again, or that it is over.
    fn settle_socket(&mut self, id: usize) {
        let Some(socket) = self.sockets.get(&id) else {
            return;
        };
        if socket.protocol.is_over() {
            let at = self.now + socket.latency;
            self.sockets.remove(&id);
            self.queue.wake(Owner::Socket(id), None);
            self.queue.push(at, Event::ToClient(id, Frame::Broken));
            return;
        }
        let waits = socket.waits_since.map(|since| since + SEND_WITHIN);
        let stuck = socket.stuck_until.filter(|until| *until > self.now);
        let due = [socket.protocol.poll_timeout(), waits, stuck];
        self.queue
            .wake(Owner::Socket(id), due.into_iter().flatten().min());
    }

    /// Does what the protocol wants.
    fn perform(&mut self, id: usize, action: Action) {
        let node = self.sockets.get(&id).map_or(0, |socket| socket.node);
        match action {
            Action::Send(text) => self.send_to_client(id, Frame::Text(text)),
            Action::Ping => self.send_to_client(id, Frame::Ping),
            Action::Close(code, _) => self.send_to_client(id, Frame::Close(Some(code as u16))),
            Action::Drop => {}
            Action::Enter { room, name } => {
                let from = std::net::Ipv4Addr::LOCALHOST.into();
                let request = Enter { room, name, from };
                let entered = self.nodes[node].rooms.handle_enter(&request);
                self.on_entered(id, node, entered);
            }
            Action::Resume { token } => {
                let entered = self.nodes[node].rooms.handle_resume(&token);
                self.on_entered(id, node, entered);
            }
            Action::Offer { person, offer } => {
                let answered = self.decide(node, |rooms, _| rooms.handle_offer(&person, &offer));
                if let Some(socket) = self.sockets.get_mut(&id) {
                    socket.protocol.handle_answered(&answered);
                }
            }
            Action::Mute {
                person,
                source,
                muted,
            } => self.decide(node, |rooms, _| rooms.handle_mute(&person, source, muted)),
            Action::Prefer {
                person,
                track,
                preference,
            } => self.decide(node, |rooms, _| {
                rooms.handle_prefer(&person, &track, preference);
            }),
            Action::Say { person, text } => {
                self.decide(node, |rooms, _| rooms.handle_say(&person, &text));
            }
            Action::Suspend(person, visit) => {
                let is_last =
                    self.decide(node, |rooms, now| rooms.handle_suspend(&person, visit, now));
                if is_last {
                    self.nodes[node].people.remove(&person);
                }
            }
            Action::Leave(person, visit) => {
                self.decide(node, |rooms, _| rooms.handle_goodbye(&person, visit));
            }
        }
    }

    fn on_entered(&mut self, id: usize, node: usize, entered: Result<Entry, Refusal>) {
        let joined = entered.map(|entry| {
            self.open_channel(id, node, &entry.person);
            Joined {
                person: entry.person,
                visit: entry.visit,
                room: entry.room,
                resume_token: entry.resume_token,
                people: entry.people,
            }
        });
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.protocol.handle_entered(joined);
        }
        // Only now: some of it is for this person.
        self.carry_out(node);
    }

    /// A new channel to a person, in place of one that they had before.
    fn open_channel(&mut self, id: usize, node: usize, person: &PersonId) {
        let before = self.nodes[node].people.insert(person.clone(), id);
        if let Some(before) = before.filter(|before| *before != id)
            && let Some(socket) = self.sockets.get_mut(&before)
        {
            socket.close_channel();
            self.queue.wake(Owner::Socket(before), Some(self.now));
        }
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.channel = Some(Channel::default());
        }
    }

    fn send_to_client(&mut self, id: usize, frame: Frame) {
        let now = self.now;
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        let mut leaves = now;
        if socket.is_stuck(now) {
            // It arrives when the connection moves again, in order, if it is still there by then.
            socket.waits_since.get_or_insert(now);
            leaves = socket.stuck_until.unwrap_or(now);
        }
        let at = socket.arrival(CLIENT, leaves);
        self.queue.push(at, Event::ToClient(id, frame));
    }
}
