//! The life of one source of a camera, without IO: when it is connected to, and what is said of it.

use std::time::{Duration, Instant};

use super::super::limits::{RETRY_FORGIVEN, RETRY_MAX, RETRY_MIN};
use super::super::order::LaneState;
use super::failure::Failure;

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Connect, find out what it sends, and go on pulling if it is wanted.
    Connect,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nobody wants packets: it was hung up.
    Released,
    /// It went wrong.
    Failed(Failure),
}

/// How it is with a source.
///
/// The caller asks [`Life::poll_deed`] until there is none, does it, and tells how it went by the `handle_*` of the
/// same name: [`Life::handle_described`], [`Life::handle_playing`], and in the end [`Life::handle_end`]. When
/// [`Life::poll_timeout`] has passed, it asks again.
#[derive(Debug)]
pub(super) struct Life {
    state: State,
    is_wanted: bool,
    is_described: bool,
    /// How often it failed in a row.
    failures: u32,
}

#[derive(Debug)]
enum State {
    /// Nothing to do.
    Resting,
    /// To be connected to.
    Due,
    /// Being connected to.
    Connecting,
    /// Packets come, since then.
    Playing(Instant),
    /// It failed, and is tried again then.
    Away {
        failure: Failure,
        at: Instant,
        delay: Duration,
    },
    /// It failed for good.
    Refused(Failure),
}

impl Life {
    /// A source of which nothing is known: it is to be connected to.
    pub(super) fn new() -> Life {
        Life {
            state: State::Due,
            is_wanted: false,
            is_described: false,
            failures: 0,
        }
    }

    /// Whether somebody wants its packets.
    pub(super) fn handle_wanted(&mut self, is_wanted: bool) {
        self.is_wanted = is_wanted;
        match (&self.state, is_wanted) {
            (State::Resting, true) => self.state = State::Due,
            // Its description is known, and nobody is interested in more.
            (State::Due | State::Away { .. }, false) if self.is_described => {
                self.state = State::Resting;
            }
            _ => {}
        }
    }

    /// What it sends is known.
    pub(super) fn handle_described(&mut self) {
        self.is_described = true;
    }

    /// Packets come.
    pub(super) fn handle_playing(&mut self, now: Instant) {
        if !matches!(self.state, State::Playing(_)) {
            self.state = State::Playing(now);
        }
    }

    /// The connection ended. `random` is between 0 and 1: cameras that fail together are not tried again together.
    pub(super) fn handle_end(&mut self, now: Instant, end: End, random: f64) {
        let played = match self.state {
            State::Playing(since) => now.saturating_duration_since(since),
            _ => Duration::ZERO,
        };
        self.state = match end {
            End::Released => {
                self.failures = 0;
                if self.is_wanted || !self.is_described {
                    State::Due
                } else {
                    State::Resting
                }
            }
            End::Failed(failure) if failure.is_final() => State::Refused(failure),
            End::Failed(_) if self.is_described && !self.is_wanted => {
                self.failures = 0;
                State::Resting
            }
            End::Failed(failure) => {
                if played >= RETRY_FORGIVEN {
                    self.failures = 0;
                }
                let doubled = RETRY_MIN * 2u32.pow(self.failures.min(6));
                let longest = if failure.is_lasting() {
                    RETRY_MAX
                } else {
                    doubled
                };
                // Between a half and the whole of it, but never sooner than the shortest.
                let share = 0.5 + random.clamp(0.0, 1.0) / 2.0;
                let delay = longest.min(RETRY_MAX).mul_f64(share).max(RETRY_MIN);
                self.failures += 1;
                State::Away {
                    failure,
                    at: now + delay,
                    delay,
                }
            }
        };
    }

    /// What is to be done `now`.
    pub(super) fn poll_deed(&mut self, now: Instant) -> Option<Deed> {
        let is_due = match self.state {
            State::Due => true,
            State::Away { at, .. } => now >= at,
            State::Resting | State::Connecting | State::Playing(_) | State::Refused(_) => false,
        };
        is_due.then(|| {
            self.state = State::Connecting;
            Deed::Connect
        })
    }

    /// When to ask again: it is away, and is tried again then.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Away { at, .. } => Some(at),
            _ => None,
        }
    }

    /// How it is with it.
    pub(super) fn said(&self) -> LaneState {
        match &self.state {
            State::Resting => LaneState::Idle,
            State::Due | State::Connecting => LaneState::Connecting,
            State::Playing(_) => LaneState::Playing,
            State::Away { failure, delay, .. } => LaneState::Away {
                reason: failure.to_string(),
                retry_ms: delay.as_millis() as u64,
            },
            State::Refused(failure) => LaneState::Refused {
                reason: failure.to_string(),
            },
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "any instant is as good as another"
)]
mod tests {
    use super::*;

    fn fail(life: &mut Life, now: Instant, random: f64) -> Duration {
        life.handle_end(now, End::Failed(Failure::Closed), random);
        life.poll_timeout().unwrap() - now
    }

    #[test]
    fn a_camera_is_described_at_once_and_rests_until_it_is_wanted() {
        let now = Instant::now();
        let mut life = Life::new();
        assert_eq!(life.poll_deed(now), Some(Deed::Connect));
        assert_eq!(life.poll_deed(now), None, "once");
        assert_eq!(life.said(), LaneState::Connecting);
        life.handle_described();
        life.handle_end(now, End::Released, 0.5);
        assert_eq!((life.said(), life.poll_timeout()), (LaneState::Idle, None));
        assert_eq!(life.poll_deed(now), None);
        life.handle_wanted(true);
        assert_eq!(life.poll_deed(now), Some(Deed::Connect));
        life.handle_playing(now);
        assert_eq!(life.said(), LaneState::Playing);
        life.handle_wanted(false);
        life.handle_end(now, End::Released, 0.5);
        assert_eq!(life.said(), LaneState::Idle);
    }

    #[test]
    fn delays_grow_from_a_second_to_a_minute_and_are_not_the_same_for_all() {
        let mut now = Instant::now();
        let mut life = Life::new();
        life.handle_wanted(true);
        let mut delays = Vec::new();
        for _ in 0..9 {
            assert_eq!(life.poll_deed(now), Some(Deed::Connect));
            let delay = fail(&mut life, now, 1.0);
            assert_eq!(life.poll_deed(now), None);
            now += delay;
            delays.push(delay.as_secs());
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        life.poll_deed(now);
        assert_eq!(fail(&mut life, now, 0.0), RETRY_MAX / 2);
    }

    #[test]
    fn a_camera_that_played_is_tried_again_soon() {
        let now = Instant::now();
        let mut life = Life::new();
        life.handle_wanted(true);
        for _ in 0..6 {
            life.state = State::Due;
            life.poll_deed(now);
            fail(&mut life, now, 1.0);
        }
        life.state = State::Due;
        life.poll_deed(now);
        life.handle_playing(now);
        assert_eq!(fail(&mut life, now + RETRY_FORGIVEN, 1.0), RETRY_MIN);
        // One that plays a moment only is not.
        life.state = State::Due;
        life.poll_deed(now);
        life.handle_playing(now);
        assert_eq!(fail(&mut life, now, 1.0), 2 * RETRY_MIN);
    }

    #[test]
    fn what_is_in_vain_is_not_tried_again_and_wrong_passwords_are_not_tried_soon() {
        let now = Instant::now();
        let mut life = Life::new();
        life.poll_deed(now);
        let end = End::Failed(Failure::NoFormat("no format".to_owned()));
        life.handle_end(now, end, 0.5);
        life.handle_wanted(true);
        assert_eq!(life.poll_deed(now + Duration::from_secs(9_999)), None);
        let reason = "no format".to_owned();
        assert_eq!(life.said(), LaneState::Refused { reason });

        let mut life = Life::new();
        life.poll_deed(now);
        life.handle_end(now, End::Failed(Failure::Credentials), 0.0);
        assert!(life.poll_timeout().unwrap() - now >= RETRY_MAX / 2);
    }

    #[test]
    fn a_camera_that_is_away_and_not_wanted_any_more_rests() {
        let now = Instant::now();
        let mut life = Life::new();
        life.handle_wanted(true);
        life.poll_deed(now);
        life.handle_described();
        fail(&mut life, now, 0.5);
        life.handle_wanted(false);
        assert_eq!((life.said(), life.poll_timeout()), (LaneState::Idle, None));
        // One that was never described is asked on.
        let mut life = Life::new();
        life.poll_deed(now);
        fail(&mut life, now, 0.5);
        life.handle_wanted(false);
        assert!(life.poll_timeout().is_some());
    }
}
