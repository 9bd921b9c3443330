//! What follows from the time alone: made once for all that is sent at that time.

use std::time::Instant;

use super::Engine;
use super::clock::{Clock, Ntp};
use super::hold::{Hold, Soon};
use super::thinning::Late;

/// A time, and what is compared with it for each packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    now: Instant,
    /// It on the NTP scale.
    pub(super) ntp: Ntp,
    /// What leaves now.
    pub(super) soon: Soon,
    /// What is too late to leave now.
    pub(super) late: Late,
}

impl Moment {
    /// Makes it for `now`.
    pub(super) fn new(now: Instant, clock: &Clock, hold: &Hold) -> Moment {
        Moment {
            now,
            ntp: clock.ntp(now),
            soon: hold.soon(now),
            late: Late::new(now),
        }
    }

    /// Makes it again, because the hold is another.
    pub(super) fn refresh(&mut self, clock: &Clock, hold: &Hold) {
        *self = Moment::new(self.now, clock, hold);
    }
}

impl Engine {
    /// What follows from the time.
    pub(super) fn moment(&mut self, now: Instant) -> &Moment {
        if self.moment.now != now {
            self.moment = Moment::new(now, &self.clock, &self.hold);
        }
        &self.moment
    }
}
