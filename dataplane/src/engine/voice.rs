//! How loud a voice is: the levels that its publisher writes into its packets (RFC 6464), smoothed so
//! that voices can be compared, and the runs of digital silence among them.

use std::time::{Duration, Instant};

use crate::limits::{SILENCE_AFTER, SILENCE_INTERVAL};

/// The level of digital silence in -dBov (RFC 6464 section 3).
pub(super) const DIGITAL_SILENCE: u8 = 127;

/// So long a voice counts as loud as it was at its loudest: pauses within a sentence are shorter..
const RELEASE: Duration = Duration::from_secs(1);

/// ..and then it falls by so many decibels each second, so that it gives way within the next.
const FALL_DB_PER_SECOND: u128 = 60;

/// Whether a voice is forwarded, where only the loudest are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its packets never said how loud it is: it is forwarded.
    #[default]
    Unmeasured,
    /// It is among the loudest.
    Heard,
    /// Others are louder.
    Unheard,
}

/// What is known of one voice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Voice {
    pub(super) standing: Standing,
    /// Loudness in decibels above digital silence, over the last few packets.
    recent_db: u8,
    /// The loudest that it was..
    peak_db: u8,
    /// ..and when.
    peak_at: Option<Instant>,
    /// Since when it is nothing but digital silence.
    silent_since: Option<Instant>,
    /// When a packet of that silence was let through.
    silence_sent: Option<Instant>,
}

impl Voice {
    /// A packet with this level arrived.
    pub(super) fn handle_level(&mut self, now: Instant, level: u8) {
        let loudness = DIGITAL_SILENCE.saturating_sub(level);
        // Half of the way with each packet: a second one makes a voice, and a click is only half as loud.
        self.recent_db = (self.recent_db + loudness).div_ceil(2);
        if self.recent_db >= self.loudness_db(now) {
            self.peak_db = self.recent_db;
            self.peak_at = Some(now);
        }
    }

    /// How loud it counts now, in decibels above digital silence.
    pub(super) fn loudness_db(&self, now: Instant) -> u8 {
        let Some(at) = self.peak_at else { return 0 };
        let quiet_for = now
            .saturating_duration_since(at)
            .checked_sub(RELEASE)
            .unwrap_or_default();
        let fall = quiet_for.as_millis() * FALL_DB_PER_SECOND / 1_000;
        self.peak_db
            .saturating_sub(u8::try_from(fall).unwrap_or(u8::MAX))
    }

    /// A packet arrived that is digital silence, or is not. Whether it is left out: one of many.
    pub(super) fn handle_silence(&mut self, now: Instant, is_silence: bool) -> bool {
        if !is_silence {
            self.silent_since = None;
            return false;
        }
        let since = *self.silent_since.get_or_insert(now);
        let is_over = |from: Instant, span| now.saturating_duration_since(from) >= span;
        let is_due = self
            .silence_sent
            .is_none_or(|sent| is_over(sent, SILENCE_INTERVAL));
        if is_over(since, SILENCE_AFTER) && !is_due {
            return true;
        }
        self.silence_sent = Some(now);
        false
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn a_voice_is_loud_after_a_few_packets_and_stays_so_for_a_second() {
        let (mut voice, start) = (Voice::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let rise = (0..4).map(|n| {
            voice.handle_level(at(n * 20), 30);
            voice.loudness_db(at(n * 20))
        });
        assert_eq!(rise.collect::<Vec<_>>(), [49, 73, 85, 91]);
        for n in 4..50 {
            voice.handle_level(at(n * 20), DIGITAL_SILENCE);
        }
        let fall = [1_060, 1_160, 1_560, 9_000].map(|ms| voice.loudness_db(at(ms)));
        assert_eq!(fall, [91, 85, 61, 0]);
    }

    #[test]
    fn of_long_silence_a_packet_goes_through_now_and_then_and_all_of_what_follows() {
        let (mut voice, start) = (Voice::default(), Instant::now());
        let at = |n: u64| start + Duration::from_millis(n * 20);
        let sent: Vec<u64> = (0..100)
            .filter(|&n| !voice.handle_silence(at(n), true))
            .collect();
        let every_eighteenth = (37..100).step_by(18);
        let expected: Vec<u64> = (0..20).chain(every_eighteenth).collect();
        assert_eq!(sent, expected);
        assert!(!voice.handle_silence(at(100), false));
        assert!(!voice.handle_silence(at(101), true));
    }
}
