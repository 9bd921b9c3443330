//! What happens when: events by time, and timers that are set anew without being taken out.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::time::Instant;

use crate::world::Event;

/// Something with a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// A worker's engine, of a node.
    Engine(usize, usize),
    /// A worker's handshakes, of a node.
    Lane(usize, usize),
    /// A node's rooms.
    Rooms(usize),
    /// A node's desk.
    Desk(usize),
    /// A person's media connection.
    Peer(usize),
    /// What a person sent and what is sent to them.
    Up(usize),
    Down(usize),
    /// The server's side of a WebSocket.
    Socket(usize),
}

/// All that is to come.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    pushed: u64,
    /// When each owner will be woken; an entry for any other time is void.
    armed: HashMap<Owner, Instant>,
}

struct Entry {
    at: Instant,
    number: u64,
    event: Event,
}

impl Queue {
    /// Something is to happen then.
    pub(crate) fn push(&mut self, at: Instant, event: Event) {
        let number = self.pushed;
        self.pushed += 1;
        self.heap.push(Entry { at, number, event });
    }

    /// The owner is to be woken then, or not at all. It may be woken earlier.
    pub(crate) fn wake(&mut self, owner: Owner, due: Option<Instant>) {
        let Some(due) = due else {
            self.armed.remove(&owner);
            return;
        };
        if self.armed.get(&owner).is_some_and(|armed| *armed <= due) {
            return;
        }
        self.armed.insert(owner, due);
        self.push(due, Event::Wake(owner));
    }

    /// The next event until `end`.
    pub(crate) fn pop(&mut self, end: Instant) -> Option<(Instant, Event)> {
        while self.heap.peek().is_some_and(|entry| entry.at <= end) {
            let Entry { at, event, .. } = self.heap.pop()?;
            if let Event::Wake(owner) = &event {
                if self.armed.get(owner) != Some(&at) {
                    continue;
                }
                self.armed.remove(owner);
            }
            return Some((at, event));
        }
        None
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The heap gives the greatest: what comes first.
    fn cmp(&self, other: &Entry) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}
