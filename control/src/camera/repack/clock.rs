//! The time of a stream: a camera's timestamps, with jumps made continuations.

use std::time::{Duration, Instant};

use crate::camera::limits::{TIMESTAMP_BACK_MS, TIMESTAMP_JUMP_MS};

/// How slowly what is taken for a camera's own pace follows it: its clock is off ours by some 100 parts in a million,
/// which is a jump within hours where it is not followed. Within a minute most of a step is.
const FOLLOW: Duration = Duration::from_secs(60);

/// How long timestamps may lag behind before that is taken for the way it is: what a network held back catches up.
const LAG: Duration = Duration::from_secs(3);

/// Maps timestamps. What is added to them changes where they jump: forwards by [`TIMESTAMP_JUMP_MS`] more than the time
/// that passed, backwards by [`TIMESTAMP_BACK_MS`], or where they lag behind for [`LAG`]. Then the next one is what the
/// last was and the time that passed since, and by what they lag.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    rate: u32,
    /// What is added.
    offset: u32,
    state: Option<State>,
    /// Whether the next packet is of another beginning.
    anew: bool,
}

#[derive(Clone, Debug)]
struct State {
    /// The highest timestamp of the camera so far, and when it came.
    highest: u32,
    arrived: Instant,
    /// By how much time is ahead of the timestamps, in units of the clock, as it usually is.
    usual: f64,
    /// The same now.
    ahead: f64,
    /// Since when it is much more than usual.
    lagging: Option<Instant>,
}

impl Clock {
    /// One that begins with any number.
    pub(super) fn new(rate: u32, first: u32) -> Clock {
        Clock {
            rate: rate.max(1),
            offset: first,
            state: None,
            anew: true,
        }
    }

    /// The camera begins anew: its next timestamp has nothing to do with its last.
    pub(super) fn restart(&mut self) {
        self.anew = true;
    }

    /// The timestamp of a packet that came `now`.
    pub(super) fn map(&mut self, now: Instant, timestamp: u32) -> u32 {
        let Some(state) = &mut self.state else {
            self.offset = self.offset.wrapping_sub(timestamp);
            self.begin(now, timestamp);
            return timestamp.wrapping_add(self.offset);
        };
        let rate = f64::from(self.rate);
        let passed_time = now.saturating_duration_since(state.arrived);
        let passed = passed_time.as_secs_f64() * rate;
        let step = timestamp.wrapping_sub(state.highest) as i32;
        let jump = TIMESTAMP_JUMP_MS as f64 / 1_000.0 * rate;
        let back = TIMESTAMP_BACK_MS as f64 / 1_000.0 * rate;
        let ahead = state.ahead + passed - f64::from(step);
        let off = ahead - state.usual;
        let lags = off > jump
            && state
                .lagging
                .is_some_and(|since| now.saturating_duration_since(since) >= LAG);
        if self.anew || f64::from(step) < -back || off < -jump || lags {
            // No earlier than what was sent; one unit at least, so that it is another picture.
            let last = state.highest.wrapping_add(self.offset);
            let is_known = !self.anew && f64::from(step) >= -back;
            let behind = if lags && is_known { off } else { 0.0 };
            let continued = last.wrapping_add(((passed + behind) as u64).max(1) as u32);
            self.offset = continued.wrapping_sub(timestamp);
            self.begin(now, timestamp);
            return continued;
        }
        if step > 0 {
            state.highest = timestamp;
            state.arrived = now;
            state.ahead = ahead;
            // A pause is no pace.
            let share = passed_time.as_secs_f64().min(1.0) / FOLLOW.as_secs_f64();
            state.usual += (ahead - state.usual) * share;
            state.lagging = match state.lagging {
                since @ Some(_) if off > jump => since,
                _ => (off > jump).then_some(now),
            };
        }
        timestamp.wrapping_add(self.offset)
    }

    /// The timestamp of a sender report; `None` where it is far from those of packets.
    pub(super) fn map_report(&self, timestamp: u32) -> Option<u32> {
        let state = self.state.as_ref().filter(|_| !self.anew)?;
        let step = timestamp.wrapping_sub(state.highest) as i32;
        let near = i64::from(self.rate) * (TIMESTAMP_JUMP_MS as i64) / 1_000;
        (i64::from(step).abs() <= near).then(|| timestamp.wrapping_add(self.offset))
    }

    fn begin(&mut self, now: Instant, timestamp: u32) {
        self.anew = false;
        self.state = Some(State {
            highest: timestamp,
            arrived: now,
            usual: 0.0,
            ahead: 0.0,
            lagging: None,
        });
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "any instant is as good as another"
)]
mod tests {
    use super::*;

    const PICTURE: u32 = 3_600;

    /// Pictures each 40 ms: the camera's timestamps in, ours out.
    struct Pictures {
        clock: Clock,
        now: Instant,
        timestamp: u32,
    }

    impl Pictures {
        fn new(first: u32) -> Pictures {
            Pictures {
                clock: Clock::new(90_000, 1_000),
                now: Instant::now(),
                timestamp: first,
            }
        }

        fn next(&mut self) -> u32 {
            self.now += Duration::from_millis(40);
            self.timestamp = self.timestamp.wrapping_add(PICTURE);
            self.clock.map(self.now, self.timestamp)
        }
    }

    #[test]
    fn timestamps_wrap_without_a_step() {
        let mut pictures = Pictures::new(u32::MAX - 5 * PICTURE);
        let first = pictures.next();
        for n in 1..20 {
            assert_eq!(pictures.next(), first + n * PICTURE);
        }
    }

    #[test]
    fn a_jump_goes_on_from_the_last_one() {
        let mut pictures = Pictures::new(77);
        let mut last = pictures.next();
        for jump in [
            1_000 * 90_000,
            0u32.wrapping_sub(500 * 90_000),
            0u32.wrapping_sub(2 * 90_000),
            u32::MAX / 2,
        ] {
            pictures.timestamp = pictures.timestamp.wrapping_add(jump);
            for _ in 0..50 {
                let next = pictures.next();
                let step = next.wrapping_sub(last) as i32;
                assert!((step - PICTURE as i32).abs() <= 1, "{step} after {jump}");
                last = next;
            }
        }
    }

    #[test]
    fn pictures_in_decoding_order_keep_their_times() {
        let mut clock = Clock::new(90_000, 0);
        let now = Instant::now();
        let mapped: Vec<u32> = [0, 4, 2, 1, 3, 8, 6, 5, 7]
            .iter()
            .map(|n| clock.map(now, 90_000 + n * PICTURE) / PICTURE)
            .collect();
        assert_eq!(mapped, [0, 4, 2, 1, 3, 8, 6, 5, 7]);
    }

    #[test]
    fn what_a_network_held_back_for_a_while_is_no_jump() {
        let mut pictures = Pictures::new(77);
        let first = pictures.next();
        for _ in 0..20 {
            pictures.next();
        }
        pictures.now += Duration::from_secs(5);
        for _ in 0..125 {
            pictures.now -= Duration::from_millis(40);
            pictures.next();
        }
        assert_eq!(pictures.next(), first + 146 * PICTURE);
    }

    #[test]
    fn a_camera_that_paused_is_with_the_time_again_after_some_seconds() {
        let mut pictures = Pictures::new(77);
        let first = pictures.next();
        pictures.next();
        pictures.now += Duration::from_secs(10);
        let mut last = first;
        for _ in 0..150 {
            last = pictures.next();
        }
        let expected = first + 151 * PICTURE + 10 * 90_000;
        assert!(expected.abs_diff(last) < 90_000, "{last} for {expected}");
    }

    #[test]
    fn a_clock_that_is_slow_or_fast_is_followed() {
        for ppm in [-500i64, 500] {
            let mut clock = Clock::new(90_000, 0);
            let start = Instant::now();
            let mut offset = None;
            for n in 0..200_000u64 {
                let now = start + Duration::from_millis(n * 40);
                let timestamp = (n as i64 * 3_600 * (1_000_000 + ppm) / 1_000_000) as u32;
                let added = clock.map(now, timestamp).wrapping_sub(timestamp);
                assert_eq!(*offset.get_or_insert(added), added, "a jump after {n}");
            }
        }
    }

    #[test]
    fn a_report_is_mapped_like_the_packets_around_it() {
        let mut pictures = Pictures::new(77);
        assert_eq!(pictures.clock.map_report(77), None);
        let mapped = pictures.next();
        let report = pictures.clock.map_report(pictures.timestamp + 90);
        assert_eq!(report, Some(mapped + 90));
        assert_eq!(
            pictures.clock.map_report(pictures.timestamp + 90_000_000),
            None
        );
        pictures.clock.restart();
        assert_eq!(pictures.clock.map_report(pictures.timestamp), None);
    }
}
