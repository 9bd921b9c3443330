//! A competitor in the manner of TCP Reno: additive increase, multiplicative decrease (RFC 5681).

use std::time::{Duration, Instant};

/// Bytes of its packets.
pub(crate) const SEGMENT_BYTES: usize = 1_500;

/// It.
#[derive(Debug)]
pub(crate) struct Tcp {
    window: f64,
    threshold: f64,
    next: u64,
    /// Packets below this are acknowledged or given up.
    done: u64,
    /// Losses of packets below this were answered already.
    answered: u64,
    /// Acknowledgements on their way back.
    acks: std::collections::VecDeque<(Instant, u64)>,
    back: Duration,
    last_ack: Option<Instant>,
    /// Packets that it has to send, and when it begins to.
    left: u64,
    starts: Instant,
    pub(crate) received: u64,
}

impl Tcp {
    /// A flow that sends so many packets from then on.
    pub(crate) fn new(starts: Instant, back: Duration, packets: u64) -> Tcp {
        Tcp {
            window: 10.0,
            threshold: f64::INFINITY,
            next: 0,
            done: 0,
            answered: 0,
            acks: std::collections::VecDeque::new(),
            back,
            last_ack: None,
            left: packets,
            starts,
            received: 0,
        }
    }

    pub(crate) fn step(&mut self, now: Instant, mut send: impl FnMut(u64)) {
        if now < self.starts {
            return;
        }
        while let Some((at, number)) = self.acks.front().copied() {
            if at > now {
                break;
            }
            self.acks.pop_front();
            self.on_ack(now, number);
        }
        let is_stuck = self
            .last_ack
            .is_some_and(|at| now - at > Duration::from_secs(1));
        if is_stuck && self.done < self.next {
            self.threshold = (self.window / 2.0).max(2.0);
            self.window = 2.0;
            self.done = self.next;
            self.last_ack = Some(now);
        }
        while self.left > 0 && ((self.next - self.done) as f64) < self.window {
            send(self.next);
            self.next += 1;
            self.left -= 1;
            self.last_ack.get_or_insert(now);
        }
    }

    pub(crate) fn handle_arrival(&mut self, now: Instant, number: u64) {
        self.received += SEGMENT_BYTES as u64;
        self.acks.push_back((now + self.back, number));
    }

    fn on_ack(&mut self, now: Instant, number: u64) {
        self.last_ack = Some(now);
        if number < self.done {
            return;
        }
        // The link keeps order, so that what is not acknowledged before is lost.
        let is_lost = number > self.done;
        if is_lost && number >= self.answered {
            self.window = (self.window / 2.0).max(2.0);
            self.threshold = self.window;
            self.answered = self.next;
        } else if self.window < self.threshold {
            self.window += 1.0;
        } else {
            self.window += 1.0 / self.window;
        }
        self.left += number - self.done;
        self.done = number + 1;
    }
}
