//! The queues between workers: one from each to each other.
//!
//! Nobody ever waits: without a slot the engine keeps what it has in its tracks' logs. The doorbell of a
//! worker rings once for everything that one turn of another handed over.

use std::sync::Arc;

use tokio::sync::Notify;

use super::queue::{Incoming, Outgoing, queue};
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
    outgoing: Outgoing<RelaySlot>,
    incoming: Incoming<RelaySlot>,
    bell: Arc<Notify>,
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
            let queue = || queue(RELAY_SLOTS, RelaySlot::new);
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
