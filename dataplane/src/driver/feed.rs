//! The way of a feed's packets to the workers: from each thread that has a [`Feeder`] to each worker a bounded
//! queue of its own.
//!
//! ```text
//!   a camera's thread ── Feeder ──► slots, full ──► Feeds ── Engine::handle_feed
//!                          ▲                          │
//!                          └──────── slots, empty ◄───┘
//! ```
//!
//! A worker's doorbell rings once for all that was handed over before a flush. A packet that finds no slot is lost
//! and counted: by the feeder, whose next slot carries the number along.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use tokio::sync::Notify;

use super::clock;
use super::dataplane::Dataplane;
use super::queue::{Incoming, Outgoing, queue};
use crate::id::SessionId;
use crate::limits::{FED_PER_TURN, FEED_BYTES_MAX, FEED_SLOTS};

/// One thread's way to all workers with the packets of feed sessions
/// ([`Command::OpenFeed`](crate::command::Command::OpenFeed)).
///
/// Call order: `send` for each packet of a batch, then `flush`. Neither waits, and neither allocates once the
/// queues have their slots.
#[derive(Debug)]
pub struct Feeder {
    /// By worker.
    ways: Vec<Way>,
}

#[derive(Debug)]
struct Way {
    outgoing: Outgoing<FeedSlot>,
    bell: Arc<Notify>,
    /// Packets that found no slot since the last that did.
    lost: u64,
    /// Whether something was handed over since the bell rang.
    is_news: bool,
}

/// A packet on its way to a worker.
#[derive(Debug)]
pub(super) struct FeedSlot {
    pub(super) session: SessionId,
    pub(super) arrived: Instant,
    /// Packets to this worker that were lost before it.
    lost: u64,
    len: usize,
    bytes: [u8; FEED_BYTES_MAX],
}

/// Where new queues to a worker are handed in.
#[derive(Debug)]
pub(super) struct FeedDoor {
    queues: Sender<Incoming<FeedSlot>>,
    bell: Arc<Notify>,
}

/// A worker's ends of the queues from all feeders. They outlive its failures.
#[derive(Debug)]
pub(super) struct Feeds {
    queues: Receiver<Incoming<FeedSlot>>,
    incoming: Vec<Incoming<FeedSlot>>,
    bell: Arc<Notify>,
    /// Packets that found no slot.
    pub(super) lost: u64,
}

/// What a worker took in one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fed {
    /// Whether there was anything.
    pub(super) any: bool,
    /// Whether the bound was reached, so that there may be more.
    pub(super) more: bool,
}

/// The ends of a worker, and the door that leads to them.
pub(super) fn feeds() -> (FeedDoor, Feeds) {
    let (to_queues, queues) = channel();
    let bell = Arc::<Notify>::default();
    let door = FeedDoor {
        queues: to_queues,
        bell: Arc::clone(&bell),
    };
    let feeds = Feeds {
        queues,
        incoming: Vec::new(),
        bell,
        lost: 0,
    };
    (door, feeds)
}

impl Dataplane {
    /// A way to all workers for one thread that has packets of feeds. Each has queues of its own, which end with it.
    #[must_use]
    pub fn feeder(&self) -> Feeder {
        let ways = self.workers.iter().map(|worker| worker.feeds.open());
        Feeder {
            ways: ways.collect(),
        }
    }
}

impl FeedDoor {
    fn open(&self) -> Way {
        let (outgoing, incoming) = queue(FEED_SLOTS, FeedSlot::new);
        // A worker that has ended takes nothing more, and every packet to it is lost.
        let _ = self.queues.send(incoming);
        Way {
            outgoing,
            bell: Arc::clone(&self.bell),
            lost: 0,
            is_news: false,
        }
    }
}

impl Feeder {
    /// Hands over one plain RTP or RTCP packet (RFC 3550) of a feed session that lives on `worker`, of at most
    /// [`FEED_BYTES_MAX`] bytes; `arrived` is when this process got it. `false` when it is lost, because the queue
    /// to that worker is full, it has ended, or the packet is too long: the worker's counters tell.
    pub fn send(
        &mut self,
        worker: usize,
        session: SessionId,
        arrived: Instant,
        packet: &[u8],
    ) -> bool {
        let Some(way) = self.ways.get_mut(worker) else {
            return false;
        };
        let is_sent = way.send(session, arrived, packet);
        if !is_sent {
            way.lost += 1;
            // Whoever is to make room must know.
            way.ring();
        }
        is_sent
    }

    /// How many packets [`Feeder::send`] takes for this worker now. Whoever can wait, as for a camera that sends over
    /// TCP, waits while this is little; there is none for a worker that is not there.
    pub fn room(&mut self, worker: usize) -> usize {
        self.ways
            .get_mut(worker)
            .map_or(0, |way| way.outgoing.room())
    }

    /// Rings the workers to whom something was handed over since the last flush, once each.
    pub fn flush(&mut self) {
        for way in &mut self.ways {
            way.ring();
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Way {
    fn send(&mut self, session: SessionId, arrived: Instant, packet: &[u8]) -> bool {
        if packet.len() > FEED_BYTES_MAX {
            return false;
        }
        let Some(slot) = self.outgoing.slot() else {
            return false;
        };
        slot.write(session, arrived, packet);
        slot.lost = self.lost;
        let is_sent = self.outgoing.send();
        if is_sent {
            self.lost = 0;
            self.is_news = true;
        }
        is_sent
    }

    fn ring(&mut self) {
        if std::mem::take(&mut self.is_news) {
            self.bell.notify_one();
        }
    }
}

impl FeedSlot {
    fn new() -> Box<FeedSlot> {
        Box::new(FeedSlot {
            session: SessionId(0),
            arrived: clock::now(),
            lost: 0,
            len: 0,
            bytes: [0; FEED_BYTES_MAX],
        })
    }

    /// Makes it this packet, which is no longer than a slot.
    fn write(&mut self, session: SessionId, arrived: Instant, packet: &[u8]) {
        (self.session, self.arrived, self.len) = (session, arrived, packet.len());
        if let Some(room) = self.bytes.get_mut(..packet.len()) {
            room.copy_from_slice(packet);
        }
    }

    /// The packet.
    pub(super) fn packet(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Feeds {
    /// Gives what the feeders handed over to `take`, within the bound of a turn for each of them.
    pub(super) fn receive(&mut self, mut take: impl FnMut(&FeedSlot)) -> Fed {
        self.incoming.extend(self.queues.try_iter());
        let (mut fed, mut lost) = (Fed::default(), 0);
        for incoming in &mut self.incoming {
            let mut taken = 0;
            let mut take = |slot: &FeedSlot| {
                // Before the packet: one that makes the engine fail has been counted.
                lost += slot.lost;
                take(slot);
            };
            while taken < FED_PER_TURN && incoming.receive(&mut take) {
                taken += 1;
            }
            fed.any |= taken > 0;
            fed.more |= taken == FED_PER_TURN;
        }
        self.lost += lost;
        self.incoming.retain(|incoming| !incoming.is_over());
        fed
    }

    /// Waits until a feeder rings.
    pub(super) async fn ready(&self) {
        self.bell.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Feeder, Feeds) {
        let (door, feeds) = feeds();
        let feeder = Feeder {
            ways: vec![door.open()],
        };
        (feeder, feeds)
    }

    fn drain(feeds: &mut Feeds) -> Vec<(u64, Vec<u8>)> {
        let mut taken = Vec::new();
        while feeds
            .receive(|slot| taken.push((slot.session.0, slot.packet().to_vec())))
            .any
        {}
        taken
    }

    #[test]
    fn packets_come_in_order_and_each_batch_rings_once() {
        let (mut feeder, mut feeds) = pair();
        for n in 0..3_u8 {
            assert!(feeder.send(0, SessionId(7), clock::now(), &[n; 3]));
        }
        feeder.flush();
        let bell = Arc::clone(&feeds.bell);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            bell.notified().await;
            tokio::select! {
                biased;
                () = bell.notified() => panic!("it rang twice"),
                () = std::future::ready(()) => {}
            }
        });
        let packets = drain(&mut feeds);
        assert_eq!(packets, [(7, vec![0; 3]), (7, vec![1; 3]), (7, vec![2; 3])]);
    }

    #[test]
    fn what_finds_no_slot_is_lost_and_counted_and_the_rest_goes_on() {
        let (mut feeder, mut feeds) = pair();
        let mut send = |n: usize| feeder.send(0, SessionId(1), clock::now(), &[n as u8]);
        assert!((0..FEED_SLOTS).all(&mut send));
        assert!(!(0..5).any(&mut send));
        assert_eq!((drain(&mut feeds).len(), feeds.lost), (FEED_SLOTS, 0));
        assert!(send(9));
        assert_eq!(drain(&mut feeds), [(1, vec![9])]);
        assert_eq!(feeds.lost, 5);
    }

    #[test]
    fn there_is_room_for_as_many_as_are_taken() {
        let (mut feeder, mut feeds) = pair();
        assert_eq!((feeder.room(0), feeder.room(1)), (FEED_SLOTS, 0));
        for _ in 0..2 {
            let room = feeder.room(0);
            for left in (0..room).rev() {
                assert!(feeder.send(0, SessionId(1), clock::now(), b"x"));
                assert_eq!(feeder.room(0), left);
            }
            assert_eq!(drain(&mut feeds).len(), room);
            assert_eq!((feeder.room(0), feeds.lost), (FEED_SLOTS, 0));
        }
    }

    #[test]
    fn a_packet_that_is_too_long_is_refused_and_counted() {
        let (mut feeder, mut feeds) = pair();
        let now = clock::now();
        assert!(!feeder.send(0, SessionId(1), now, &[0; FEED_BYTES_MAX + 1]));
        assert!(feeder.send(0, SessionId(1), now, &[0; FEED_BYTES_MAX]));
        assert!(!feeder.send(1, SessionId(1), now, &[0]), "no such worker");
        assert_eq!((drain(&mut feeds).len(), feeds.lost), (1, 1));
    }

    #[test]
    fn a_turn_takes_no_more_than_its_bound_of_each_feeder() {
        let (door, mut feeds) = feeds();
        let mut feeder = Feeder {
            ways: vec![door.open(), door.open()],
        };
        for way in 0..2 {
            for _ in 0..=FED_PER_TURN {
                assert!(feeder.send(way, SessionId(way as u64), clock::now(), b"x"));
            }
        }
        let mut taken = [0; 2];
        let fed = feeds.receive(|slot| taken[slot.session.0 as usize] += 1);
        assert_eq!((fed.more, taken), (true, [FED_PER_TURN; 2]));
        assert!(!feeds.receive(|_| {}).more);
    }

    #[test]
    fn a_feeder_that_is_gone_leaves_what_it_sent_and_no_queue() {
        let (mut feeder, mut feeds) = pair();
        assert!(feeder.send(0, SessionId(1), clock::now(), b"last"));
        drop(feeder);
        assert_eq!(drain(&mut feeds), [(1, b"last".to_vec())]);
        assert!(feeds.incoming.is_empty());
    }
}
