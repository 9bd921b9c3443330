//! The queues between workers: one from each to each other, bounded, with one producer and one consumer.
//!
//! What travels is a slot's box; the consumer sends it back empty. So nothing is allocated once a
//! pair has as many slots as it needs, and nobody ever waits: without a slot the engine keeps what
//! it has in its tracks' logs. The doorbell of a worker rings once for everything that one turn of
//! another handed over.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::Notify;

use crate::limits::{RELAY_SLOTS, RELAYED_PER_TURN};
use crate::relay::RelaySlot;

/// One worker's ends of the queues to and from all others.
#[derive(Debug)]
pub(super) struct Relay {
    /// By worker; no queue leads to oneself.
    others: Vec<Option<Other>>,
    /// Rings when another worker handed something over, or made room.
    bell: Arc<Notify>,
}

/// The way to another worker and back.
#[derive(Debug)]
struct Other {
    outgoing: Outgoing,
    incoming: Incoming,
    bell: Arc<Notify>,
}

#[derive(Debug)]
struct Outgoing {
    full: SyncSender<Box<RelaySlot>>,
    empty: Receiver<Box<RelaySlot>>,
    /// The slot that is written next. Not a local variable, so that a panic does not lose it.
    spare: Option<Box<RelaySlot>>,
    /// How many slots were made.
    made: usize,
}

#[derive(Debug)]
struct Incoming {
    full: Receiver<Box<RelaySlot>>,
    empty: SyncSender<Box<RelaySlot>>,
    /// The slot that is being read. One that made its reader panic is not read again.
    taken: Option<Box<RelaySlot>>,
}

/// The ends of each worker, by index.
pub(super) fn mesh(workers: usize) -> Vec<Relay> {
    let bells: Vec<Arc<Notify>> = (0..workers).map(|_| Arc::default()).collect();
    let mut relays: Vec<Relay> = bells
        .iter()
        .map(|bell| Relay {
            others: (0..workers).map(|_| None).collect(),
            bell: Arc::clone(bell),
        })
        .collect();
    for one in 0..workers {
        for other in one + 1..workers {
            let (there, here) = (queue(), queue());
            relays[one].others[other] = Some(Other {
                outgoing: there.0,
                incoming: here.1,
                bell: Arc::clone(&bells[other]),
            });
            relays[other].others[one] = Some(Other {
                outgoing: here.0,
                incoming: there.1,
                bell: Arc::clone(&bells[one]),
            });
        }
    }
    relays
}

fn queue() -> (Outgoing, Incoming) {
    let (to_full, full) = sync_channel(RELAY_SLOTS);
    let (to_empty, empty) = sync_channel(RELAY_SLOTS);
    let outgoing = Outgoing {
        full: to_full,
        empty,
        spare: None,
        made: 0,
    };
    let incoming = Incoming {
        full,
        empty: to_empty,
        taken: None,
    };
    (outgoing, incoming)
}

impl Relay {
    /// Gives what arrived from the others to `take`, within the bound of a turn; whether the bound
    /// was reached.
    pub(super) fn receive(&mut self, mut take: impl FnMut(&RelaySlot)) -> bool {
        let mut more = false;
        for other in self.others.iter_mut().flatten() {
            let mut taken = 0;
            while taken < RELAYED_PER_TURN && other.incoming.receive(&mut take) {
                taken += 1;
            }
            if taken == RELAYED_PER_TURN {
                more = true;
                // A queue that is at least half full may have had no slot for more. There is room now.
                other.bell.notify_one();
            }
        }
        more
    }

    /// Hands over what `write` writes for each worker, until it has nothing more or no slot is free.
    pub(super) fn send(&mut self, mut write: impl FnMut(usize, &mut RelaySlot) -> bool) {
        for (to, other) in self.others.iter_mut().enumerate() {
            let Some(other) = other else { continue };
            let mut is_news = false;
            while let Some(slot) = other.outgoing.slot() {
                if !write(to, slot) || !other.outgoing.send() {
                    break;
                }
                is_news = true;
            }
            if is_news {
                other.bell.notify_one();
            }
        }
    }

    /// Waits until another worker rings.
    pub(super) async fn ready(&self) {
        if self.others.len() < 2 {
            std::future::pending::<()>().await;
        }
        self.bell.notified().await;
    }
}

impl Outgoing {
    /// A slot to write into, the same one until `send`; `None` while the other worker has them all.
    fn slot(&mut self) -> Option<&mut RelaySlot> {
        if self.spare.is_none() {
            self.spare = self.empty.try_recv().ok();
        }
        if self.spare.is_none() && self.made < RELAY_SLOTS {
            self.made += 1;
            self.spare = Some(RelaySlot::new());
        }
        self.spare.as_deref_mut()
    }

    /// Hands over what was written into the slot; `false` when the other worker is gone.
    fn send(&mut self) -> bool {
        let Some(slot) = self.spare.take() else {
            return false;
        };
        // There is room for as many slots as are made.
        self.full.try_send(slot).is_ok()
    }
}

impl Incoming {
    fn receive(&mut self, take: &mut impl FnMut(&RelaySlot)) -> bool {
        self.give_back();
        self.taken = self.full.try_recv().ok();
        let Some(slot) = &self.taken else {
            return false;
        };
        take(slot);
        self.give_back();
        true
    }

    fn give_back(&mut self) {
        if let Some(slot) = self.taken.take() {
            // Refused only when the other worker is gone, who then needs it no more.
            let _ = self.empty.try_send(slot);
        }
    }
}
