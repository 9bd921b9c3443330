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

/// Decides, with hysteresis, whether a track's person speaks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SpeechDetector {
    /// When the last loud packets arrived, the newest first.
    loud: [Option<Instant>; LOUD_PACKETS],
    speaking: bool,
}

impl SpeechDetector {
    /// A packet with this level arrived. What the person does now, if that changed.
    pub(super) fn handle_level(&mut self, now: Instant, level: u8) -> Option<bool> {
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
            *self = SpeechDetector::default();
            return Some(false);
        }
        None
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
