//! Clocks: ours on both scales, a publisher's against ours, and a track's RTP clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Seconds from 1900, where NTP begins, to 1970 (RFC 5905 section 6).
const NTP_UNIX_SECONDS: u64 = 2_208_988_800;

/// A publisher's clock that jumps by more than this was set, and is followed at once.
const JUMP: i64 = 5 << 32;

/// An NTP timestamp: seconds since 1900 in the upper 32 bits, fractions below (RFC 3550 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ntp(pub(super) u64);

impl Ntp {
    /// The middle 32 bits, which reports carry (RFC 3550 section 6.4.1).
    pub(super) fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// Our clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    epoch: Instant,
    ntp: u64,
}

impl Clock {
    /// A clock that shows `epoch`, one instant on both scales.
    pub(super) fn new((epoch, wall): (Instant, SystemTime)) -> Clock {
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock {
            epoch,
            ntp: units(since).wrapping_add(NTP_UNIX_SECONDS << 32),
        }
    }

    /// What it shows at `now`.
    pub(super) fn ntp(&self, now: Instant) -> Ntp {
        Ntp(self
            .ntp
            .wrapping_add(units(now.saturating_duration_since(self.epoch))))
    }
}

/// A duration in NTP units.
fn units(duration: Duration) -> u64 {
    (duration.as_secs() << 32) | ((u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000)
}

/// A difference in the middle 32 bits of NTP as a duration (RFC 3550 section 6.4.1).
pub(super) fn middle_to_duration(middle: u32) -> Duration {
    Duration::from_nanos((u64::from(middle) * 1_000_000_000) >> 16)
}

/// A duration in units of 1/65536 s, as `DLSR` wants it.
pub(super) fn duration_to_middle(duration: Duration) -> u32 {
    u32::try_from(units(duration) >> 16).unwrap_or(u32::MAX)
}

/// How far our clock is ahead of a publisher's, travel time included. All tracks of a publisher
/// share one, so that what its own reports say about lip sync survives exactly.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct RemoteClock {
    /// Our NTP time minus theirs.
    ahead: Option<i64>,
}

impl RemoteClock {
    /// A sender report with time `theirs` arrived at `ours`.
    pub(super) fn handle_report(&mut self, ours: Ntp, theirs: Ntp) {
        let sample = ours.0.wrapping_sub(theirs.0) as i64;
        let before = self.ahead.unwrap_or(sample);
        // The scale is a circle, and a publisher's clock may show anything.
        let slower = sample.wrapping_sub(before);
        // The report that travelled fastest is the nearest to the truth. A slower one moves the
        // estimate a little, so that it follows a clock that drifts.
        self.ahead = Some(if (1..JUMP).contains(&slower) {
            before.wrapping_add(slower / 64)
        } else {
            sample
        });
    }

    /// How far theirs is ahead of ours, in NTP units; behind by the travel time of a report.
    pub(super) fn offset(&self) -> Option<i64> {
        Some(self.ahead?.wrapping_neg())
    }

    /// A time of ours on their clock.
    pub(super) fn theirs(&self, ours: Ntp) -> Option<Ntp> {
        Some(Ntp(ours.0.wrapping_sub(self.ahead? as u64)))
    }
}

/// What a publisher's last sender report says of one track's RTP clock (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct RtpClock {
    /// The publisher's time..
    pub(super) ntp: Ntp,
    /// ..and its RTP timestamp.
    pub(super) timestamp: u32,
    /// The epoch of the track that it belongs to.
    pub(super) epoch: u32,
}

impl RtpClock {
    /// The RTP timestamp at a time of the publisher's.
    pub(super) fn timestamp_at(&self, theirs: Ntp, clock_rate: u32) -> u32 {
        let elapsed = i128::from(theirs.0.wrapping_sub(self.ntp.0) as i64);
        let elapsed_ticks = (elapsed * i128::from(clock_rate)) >> 32;
        self.timestamp.wrapping_add(elapsed_ticks as u32)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn shows_ntp_time() {
        let start = Instant::now();
        let clock = Clock::new((start, UNIX_EPOCH + Duration::from_millis(1_500)));
        let ntp = clock.ntp(start + Duration::from_millis(750));
        assert_eq!(ntp.0 >> 32, NTP_UNIX_SECONDS + 2);
        assert_eq!(ntp.0 as u32, 1 << 30);
    }

    #[test]
    fn middle_bits_and_durations_are_the_same_thing() {
        let duration = Duration::from_millis(1_250);
        assert_eq!(duration_to_middle(duration), 0x1_4000);
        assert_eq!(middle_to_duration(0x1_4000), duration);
    }

    #[test]
    fn the_fastest_report_counts_and_a_set_clock_is_followed() {
        let mut remote = RemoteClock::default();
        let ms = |ms: u64| Ntp((1 << 40) + ((ms << 32) / 1_000));
        assert_eq!(remote.theirs(ms(0)), None);
        remote.handle_report(ms(1_100), ms(1_000));
        remote.handle_report(ms(2_020), ms(2_000));
        remote.handle_report(ms(3_084), ms(3_000));
        let ahead = ms(5_000).0 - remote.theirs(ms(5_000)).unwrap().0;
        assert!((20..22).contains(&((ahead * 1_000) >> 32)), "{ahead}");
        remote.handle_report(ms(60_000), ms(4_000));
        assert_eq!(remote.theirs(ms(60_000)), Some(ms(4_000)));
    }

    #[test]
    fn a_publisher_may_show_any_time() {
        let (ours, half) = (Ntp(1 << 40), 1 << 63);
        for (first, second) in [(half + 1, half - 1), (half - 1, half + 1), (0, u64::MAX)] {
            let theirs = [first, second].map(|ahead: u64| Ntp(ours.0.wrapping_sub(ahead)));
            let mut remote = RemoteClock::default();
            for theirs in theirs {
                remote.handle_report(ours, theirs);
            }
            let shown = remote.theirs(ours).unwrap().0;
            assert!(theirs[1].0.abs_diff(shown) <= 2, "{shown}");
        }
    }

    #[test]
    fn an_rtp_clock_runs_both_ways() {
        let clock = RtpClock {
            ntp: Ntp(10 << 32),
            timestamp: 100,
            epoch: 0,
        };
        assert_eq!(clock.timestamp_at(Ntp(11 << 32), 90_000), 90_100);
        assert_eq!(
            clock.timestamp_at(Ntp(9 << 32), 48_000),
            100u32.wrapping_sub(48_000)
        );
    }
}
