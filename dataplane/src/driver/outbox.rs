//! Events on their way to control.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::data::DataEvent;
use crate::event::Event;
use crate::limits::EVENT_BACKLOG_LEN;

/// One worker's end of the event queue, with a backlog for events that must not be lost.
#[derive(Debug)]
pub(super) struct Outbox {
    worker: usize,
    to: mpsc::Sender<(usize, Event)>,
    /// Sent first, so that events keep their order.
    kept: VecDeque<Event>,
    /// Events that found no room.
    pub(super) lost: u64,
}

impl Outbox {
    pub(super) fn new(worker: usize, to: mpsc::Sender<(usize, Event)>) -> Outbox {
        Outbox {
            worker,
            to,
            kept: VecDeque::new(),
            lost: 0,
        }
    }

    /// Sends an event, or keeps it while there is no room.
    pub(super) fn push(&mut self, event: Event) {
        self.retry();
        if self.kept.is_empty() {
            match self.to.try_send((self.worker, event)) {
                Ok(()) | Err(TrySendError::Closed(_)) => {}
                Err(TrySendError::Full((_, event))) => self.keep(event),
            }
        } else {
            self.keep(event);
        }
    }

    /// Tells that the worker failed, in place of all that its engine had to say: nothing of that is
    /// true any more.
    pub(super) fn push_restarted(&mut self) {
        self.kept
            .retain(|event| matches!(event, Event::WorkerRestarted));
        self.push(Event::WorkerRestarted);
    }

    /// Sends what was kept, as far as there is room.
    pub(super) fn retry(&mut self) {
        while let Some(event) = self.kept.pop_front() {
            match self.to.try_send((self.worker, event)) {
                Ok(()) => {}
                Err(TrySendError::Full((_, event))) => {
                    self.kept.push_front(event);
                    return;
                }
                // Control is gone: nobody misses these.
                Err(TrySendError::Closed(_)) => self.kept.clear(),
            }
        }
    }

    /// Waits until something kept can be sent; for ever while nothing is kept.
    pub(super) async fn room(&self) {
        if self.kept.is_empty() {
            std::future::pending::<()>().await;
        }
        // The place itself is not held: `retry` takes it, or another worker was quicker.
        drop(self.to.reserve().await);
    }

    fn keep(&mut self, event: Event) {
        // The next report and the next change of speaker make up for a lost one; nothing makes up
        // for a session whose end control never hears of. Messages are what a flood is made of.
        let replaceable = match &event {
            Event::Report(_) | Event::Speaking { .. } => true,
            Event::Data { event, .. } => matches!(**event, DataEvent::Received { .. }),
            _ => false,
        };
        if replaceable || self.kept.len() >= EVENT_BACKLOG_LEN {
            self.lost += 1;
        } else {
            self.kept.push_back(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::CloseReason;
    use crate::id::{SessionId, TrackId};

    fn closed(session: u64) -> Event {
        Event::Closed {
            session: SessionId(session),
            reason: CloseReason::PeerClosed,
        }
    }

    #[test]
    fn a_full_queue_loses_speakers_but_no_session() {
        let (to, mut from) = mpsc::channel(1);
        let mut outbox = Outbox::new(3, to);
        outbox.push(closed(1));
        outbox.push(Event::Speaking {
            track: TrackId(9),
            speaking: true,
        });
        outbox.push(closed(2));
        outbox.push(closed(3));
        assert_eq!(outbox.lost, 1);
        for session in 1..=3 {
            assert_eq!(from.try_recv().unwrap(), (3, closed(session)));
            outbox.retry();
        }
    }

    #[test]
    fn t_33_a_failure_is_told_however_much_waits_and_in_place_of_it() {
        let (to, mut from) = mpsc::channel(1);
        let mut outbox = Outbox::new(3, to);
        for session in 0..=EVENT_BACKLOG_LEN as u64 {
            outbox.push(closed(session));
        }
        outbox.push_restarted();
        outbox.push_restarted();
        assert_eq!(from.try_recv().unwrap(), (3, closed(0)));
        for _ in 0..2 {
            outbox.retry();
            assert_eq!(from.try_recv().unwrap(), (3, Event::WorkerRestarted));
        }
        outbox.retry();
        assert!(from.try_recv().is_err());
    }

    #[test]
    fn nothing_is_kept_for_a_control_that_is_gone() {
        let (to, from) = mpsc::channel(1);
        let mut outbox = Outbox::new(0, to);
        outbox.push(closed(1));
        outbox.push(closed(2));
        drop(from);
        outbox.push(closed(3));
        assert!(outbox.kept.is_empty());
    }
}
