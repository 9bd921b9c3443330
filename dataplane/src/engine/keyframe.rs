//! When a publisher is asked for a key frame.

use std::time::Instant;

use crate::limits::KEYFRAME_INTERVAL_MIN;

/// Lets one request through per interval and remembers that more were wanted, so that the last
/// one who asked gets a picture too: a request in the interval is made when it is over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyframeGate {
    asked_at: Option<Instant>,
    wanted: bool,
}

impl KeyframeGate {
    /// Somebody needs a key frame. Whether to ask now.
    pub(super) fn request(&mut self, now: Instant) -> bool {
        self.wanted = true;
        self.take(now)
    }

    /// Somebody needs a key frame of a publisher that cannot be asked. Whether nobody has since the last one came.
    pub(super) fn handle_unheard(&mut self) -> bool {
        !std::mem::replace(&mut self.wanted, true)
    }

    /// A key frame came that nobody asked for.
    pub(super) fn handle_keyframe(&mut self) {
        self.wanted = false;
    }

    /// When a remembered request is due.
    pub(super) fn due(&self) -> Option<Instant> {
        match (self.wanted, self.asked_at) {
            (true, Some(asked_at)) => Some(asked_at + KEYFRAME_INTERVAL_MIN),
            (true, None) | (false, _) => None,
        }
    }

    /// Whether a remembered request is due now; it is forgotten then.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let is_open = self
            .asked_at
            .is_none_or(|at| now >= at + KEYFRAME_INTERVAL_MIN);
        if !self.wanted || !is_open {
            return false;
        }
        *self = KeyframeGate {
            asked_at: Some(now),
            wanted: false,
        };
        true
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn requests_within_the_interval_become_one_at_its_end() {
        let (mut gate, start) = (KeyframeGate::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(gate.request(at(0)));
        assert_eq!(gate.due(), None);
        assert!(!gate.request(at(100)) && !gate.request(at(400)));
        assert_eq!(gate.due(), Some(at(500)));
        assert!(!gate.take(at(499)));
        assert!(gate.take(at(500)));
        assert!(!gate.take(at(2_000)), "nobody asked since");
        assert!(gate.request(at(2_000)));
    }
}
