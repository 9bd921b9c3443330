//! What a subscriber asked for again, and how much of it it gets.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::sender::SenderKey;
use crate::limits::{RESEND_BYTES_FLOOR_PER_SECOND, RESEND_BYTES_SAVED_MAX, RESENDS_PENDING_MAX};

/// The same packet is not sent again sooner than this: a second request within it was made before
/// the first answer could arrive.
const REPEAT_MIN: Duration = Duration::from_millis(15);

/// How many recent resends are remembered for that.
const RECENT: usize = 64;

/// One session's queue of packets to send again, and its budget: a share of what it was sent
/// before, so that a subscriber which loses everything does not double our traffic.
#[derive(Debug)]
pub(super) struct ResendQueue {
    queue: VecDeque<Resend>,
    recent: Box<[Option<(Resend, Instant)>]>,
    budget_bytes: u64,
    refilled_at: Instant,
}

/// A packet to send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resend {
    /// By whom it was sent.
    pub(super) sender: SenderKey,
    /// Its outgoing extended number.
    pub(super) sequence: u64,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotResent {
    /// It was sent again a moment ago, or waits to be.
    Repeated,
    /// The budget is used up, or the queue full.
    Budget,
}

impl ResendQueue {
    /// An empty queue. Its memory is taken at once when the subscriber first loses something:
    /// most never do.
    pub(super) fn new(now: Instant) -> ResendQueue {
        ResendQueue {
            queue: VecDeque::new(),
            recent: Box::default(),
            budget_bytes: RESEND_BYTES_SAVED_MAX,
            refilled_at: now,
        }
    }

    /// Media of this size was sent: three tenths of it may be sent again.
    pub(super) fn handle_sent(&mut self, bytes: usize) {
        let earned = bytes as u64 * 3 / 10;
        self.budget_bytes = (self.budget_bytes + earned).min(RESEND_BYTES_SAVED_MAX);
    }

    /// A subscriber lost a packet of `bytes`; it is sent again in so many copies.
    ///
    /// # Errors
    /// Why it will not be sent again.
    pub(super) fn request(
        &mut self,
        now: Instant,
        resend: Resend,
        bytes: usize,
        copies: usize,
    ) -> Result<(), NotResent> {
        self.refill(now);
        if self.recent.is_empty() {
            self.recent = vec![None; RECENT].into_boxed_slice();
            self.queue.reserve_exact(RESENDS_PENDING_MAX);
        }
        let place = (resend.sequence % RECENT as u64) as usize;
        let Some(recent) = self.recent.get_mut(place) else {
            return Err(NotResent::Budget);
        };
        let is_recent = recent.is_some_and(|(last, at)| {
            last == resend && now.saturating_duration_since(at) < REPEAT_MIN
        });
        if is_recent {
            return Err(NotResent::Repeated);
        }
        let cost = bytes as u64;
        if self.queue.len() >= RESENDS_PENDING_MAX || self.budget_bytes < cost {
            return Err(NotResent::Budget);
        }
        *recent = Some((resend, now));
        for _ in 0..copies {
            if self.queue.len() < RESENDS_PENDING_MAX && self.budget_bytes >= cost {
                self.budget_bytes -= cost;
                self.queue.push_back(resend);
            }
        }
        Ok(())
    }

    /// What waits at this place in the queue.
    pub(super) fn peek(&self, index: usize) -> Option<Resend> {
        self.queue.get(index).copied()
    }

    /// Removes the first `count`.
    pub(super) fn pop(&mut self, count: usize) {
        self.queue.drain(..count.min(self.queue.len()));
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The floor of the budget, for a subscriber that was sent little and lost that.
    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let earned = elapsed.as_micros() as u64 * RESEND_BYTES_FLOOR_PER_SECOND / 1_000_000;
        if earned > 0 {
            self.refilled_at = now;
            self.budget_bytes = (self.budget_bytes + earned).min(RESEND_BYTES_SAVED_MAX);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;
    use crate::engine::slab::Key;

    #[test]
    fn a_request_is_repeated_only_after_a_while_and_within_the_budget() {
        let start = Instant::now();
        let sender: SenderKey = Key::of_nothing();
        let at = |ms| start + Duration::from_millis(ms);
        let mut queue = ResendQueue::new(start);
        let resend = |sequence| Resend { sender, sequence };
        assert_eq!(queue.request(at(0), resend(5), 1_000, 1), Ok(()));
        assert_eq!(
            queue.request(at(14), resend(5), 1_000, 1),
            Err(NotResent::Repeated)
        );
        assert_eq!(queue.request(at(15), resend(5), 1_000, 1), Ok(()));
        assert_eq!(queue.peek(0), Some(resend(5)));
        queue.pop(2);
        assert!(queue.is_empty());

        let taken = (100..100_000)
            .take_while(|&n| {
                let taken = queue.request(at(15), resend(n), 1_000, 1) == Ok(());
                queue.pop(1);
                taken
            })
            .count() as u64;
        assert_eq!(taken, RESEND_BYTES_SAVED_MAX / 1_000 - 2);
        queue.handle_sent(10_000);
        assert_eq!(queue.request(at(15), resend(7), 3_000, 1), Ok(()));
        // As many copies as the budget has room for.
        let before = queue.queue.len();
        assert_eq!(queue.request(at(600), resend(9), 3_000, 2), Ok(()));
        assert_eq!(queue.queue.len(), before + 2);
    }
}
