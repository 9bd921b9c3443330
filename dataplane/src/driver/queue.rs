//! A bounded queue between two threads, with one producer and one consumer.
//!
//! What travels is a slot's box; the consumer sends it back empty. So nothing is allocated once there are as many
//! slots as are needed, and nobody ever waits.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// The end that writes.
#[derive(Debug)]
pub(super) struct Outgoing<T> {
    full: SyncSender<Box<T>>,
    empty: Receiver<Box<T>>,
    /// The slot that is written next. Not a local variable, so that a panic does not lose it.
    spare: Option<Box<T>>,
    /// Slots that came back, after they were counted.
    spares: Vec<Box<T>>,
    make: fn() -> Box<T>,
    /// How many slots were made..
    made: usize,
    /// ..and may be.
    most: usize,
}

/// The end that reads.
#[derive(Debug)]
pub(super) struct Incoming<T> {
    full: Receiver<Box<T>>,
    empty: SyncSender<Box<T>>,
    /// The slot that is being read. One that made its reader panic is not read again.
    taken: Option<Box<T>>,
    /// Whether the other end is gone, and all that it wrote was read.
    is_over: bool,
}

/// A queue of at most so many slots, each made when it is first needed.
pub(super) fn queue<T>(slots: usize, make: fn() -> Box<T>) -> (Outgoing<T>, Incoming<T>) {
    let (to_full, full) = sync_channel(slots);
    let (to_empty, empty) = sync_channel(slots);
    let outgoing = Outgoing {
        full: to_full,
        empty,
        spare: None,
        spares: Vec::new(),
        make,
        made: 0,
        most: slots,
    };
    let incoming = Incoming {
        full,
        empty: to_empty,
        taken: None,
        is_over: false,
    };
    (outgoing, incoming)
}

impl<T> Outgoing<T> {
    /// A slot to write into, the same one until `send`; `None` while the other end has them all.
    pub(super) fn slot(&mut self) -> Option<&mut T> {
        if self.spare.is_none() {
            self.spare = self.spares.pop().or_else(|| self.empty.try_recv().ok());
        }
        if self.spare.is_none() && self.made < self.most {
            self.made += 1;
            self.spare = Some((self.make)());
        }
        self.spare.as_deref_mut()
    }

    /// How many slots there are to write into, before the other end gives any back.
    pub(super) fn room(&mut self) -> usize {
        self.spares.extend(self.empty.try_iter());
        self.spares.len() + usize::from(self.spare.is_some()) + (self.most - self.made)
    }

    /// Hands over what was written into the slot; `false` when the other end is gone.
    pub(super) fn send(&mut self) -> bool {
        let Some(slot) = self.spare.take() else {
            return false;
        };
        // There is room for as many slots as are made.
        self.full.try_send(slot).is_ok()
    }
}

impl<T> Incoming<T> {
    /// Gives the next slot to `take`; `false` when there is none.
    pub(super) fn receive(&mut self, take: &mut impl FnMut(&T)) -> bool {
        self.give_back();
        self.taken = match self.full.try_recv() {
            Ok(slot) => Some(slot),
            Err(error) => {
                self.is_over = error == TryRecvError::Disconnected;
                None
            }
        };
        let Some(slot) = &self.taken else {
            return false;
        };
        take(slot);
        self.give_back();
        true
    }

    /// Whether nothing will come any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    fn give_back(&mut self) {
        if let Some(slot) = self.taken.take() {
            // Refused only when the other end is gone, which then needs it no more.
            let _ = self.empty.try_send(slot);
        }
    }
}
