//! Who speaks, by the audio level that publishers write into their packets (RFC 6464).

use std::time::{Duration, Instant};

/// A level above this is speech: the level is in -dBov, so smaller is louder (RFC 6464 section 3).
const LOUD: u8 = 40;

/// So many loud packets..
const LOUD_PACKETS: usize = 4;

/// ..within this time make a speaker; a door or a cough is shorter.
const ONSET: Duration = Duration::from_millis(200);

/// A speaker who was not loud for this long has stopped; pauses between words are shorter.
const RELEASE: Duration = Duration::from_millis(600);

/// A packet stands for the time since the one before it, but for no more than packets of voice last.
const PACKET_MAX: Duration = Duration::from_millis(60);

/// Decides, with hysteresis, whether a track's person speaks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SpeechDetector {
    /// When the last loud packets arrived, the newest first.
    loud: [Option<Instant>; LOUD_PACKETS],
    speaking: bool,
    /// By how much packets were louder than speech is at least, in decibels times milliseconds, since that
    /// was last taken.
    spoken: u64,
    /// When the last packet came that said how loud it is.
    heard_at: Option<Instant>,
}

impl SpeechDetector {
    /// A packet with this level arrived. What the person does now, if that changed.
    pub(super) fn handle_level(&mut self, now: Instant, level: u8) -> Option<bool> {
        let before = self.heard_at.replace(now).unwrap_or(now);
        let span = now.saturating_duration_since(before).min(PACKET_MAX);
        self.spoken += u64::from(LOUD.saturating_sub(level)) * span.as_millis() as u64;
        if level < LOUD {
            self.loud.rotate_right(1);
            if let Some(newest) = self.loud.first_mut() {
                *newest = Some(now);
            }
            let is_onset = self
                .loud
                .last()
                .copied()
                .flatten()
                .is_some_and(|oldest| now.saturating_duration_since(oldest) <= ONSET);
            if !self.speaking && is_onset {
                self.speaking = true;
                return Some(true);
            }
        }
        self.handle_silence(now)
    }

    /// Time passed. What the person does now, if that changed.
    pub(super) fn handle_silence(&mut self, now: Instant) -> Option<bool> {
        if self.speaking && self.due().is_none_or(|due| now >= due) {
            (self.loud, self.speaking) = ([None; LOUD_PACKETS], false);
            return Some(false);
        }
        None
    }

    /// How loud the person spoke since this was last asked, which was so long ago: in decibels above the
    /// least of speech, on average over that time; 0 for who was silent.
    pub(super) fn take_loudness_db(&mut self, span: Duration) -> u8 {
        let spoken = std::mem::take(&mut self.spoken);
        let mean = spoken / (span.as_millis() as u64).max(1);
        mean.min(u64::from(LOUD)) as u8
    }

    /// When a speaker will have stopped, if nothing more is heard.
    pub(super) fn due(&self) -> Option<Instant> {
        let newest = self.loud.first().copied().flatten()?;
        self.speaking.then_some(newest + RELEASE)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn speech_begins_after_a_few_loud_packets_and_ends_after_a_pause() {
        let (mut detector, start) = (SpeechDetector::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let begun: Vec<u64> = (0..10)
            .map(|n| n * 20)
            .filter(|&ms| detector.handle_level(at(ms), 25) == Some(true))
            .collect();
        assert_eq!(begun, [60]);
        let ended: Vec<u64> = (10..60)
            .map(|n| n * 20)
            .filter(|&ms| detector.handle_level(at(ms), 127) == Some(false))
            .collect();
        assert_eq!(ended, [780]);
    }

    #[test]
    fn loudness_is_a_mean_over_time_whatever_the_length_of_packets() {
        let start = Instant::now();
        for ms in [10, 20, 60] {
            let mut detector = SpeechDetector::default();
            for n in 0..=1_200 / ms {
                let level = if n * ms > 600 { 20 } else { 100 };
                let _ = detector.handle_level(start + Duration::from_millis(n * ms), level);
            }
            let taken =
                [2_400, 1_000].map(|ms| detector.take_loudness_db(Duration::from_millis(ms)));
            assert_eq!(taken, [5, 0]);
        }
    }

    #[test]
    fn a_single_loud_packet_is_not_speech_and_a_muted_speaker_stops() {
        let (mut detector, start) = (SpeechDetector::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for n in 0..20 {
            assert_eq!(detector.handle_level(at(n * 100), 10), None);
        }
        for n in 0..4 {
            let _ = detector.handle_level(at(3_000 + n * 20), 10);
        }
        assert_eq!(detector.due(), Some(at(3_660)));
        assert_eq!(detector.handle_silence(at(3_659)), None);
        assert_eq!(detector.handle_silence(at(3_660)), Some(false));
    }
}
