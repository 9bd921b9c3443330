//! What of a track is in its log and goes to nobody: a voice that others are louder than, or silence.
//!
//! Its subscribers are not woken for it, so it costs the same however many they are. When the track is
//! heard again they are, and each passes over what it was not to have: its sequence numbers close
//! over that, and its timestamps show it.

/// The last run of packets that are left out, by arrival numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    /// The first that is left out.
    from: u64,
    /// The first that is not; the largest number there is while the pause lasts.
    until: u64,
    /// Whether somebody speaks with the packet that ended it.
    ends_with_voice: bool,
}

/// What ended a pause, for a reader that has to pass over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resumption {
    /// Arrival number of the first packet after it.
    pub(super) arrival: u64,
    /// Whether somebody speaks with that.
    pub(super) with_voice: bool,
}

impl Pause {
    /// Whether what arrives is left out.
    pub(super) fn lasts(&self) -> bool {
        self.until == u64::MAX
    }

    /// Nobody is sent the packet with this arrival number, nor what follows it.
    pub(super) fn begin(&mut self, arrival: u64) {
        if !self.lasts() {
            (self.from, self.until) = (arrival, u64::MAX);
        }
    }

    /// Everybody is sent the packet with this arrival number, and what follows it.
    pub(super) fn end(&mut self, arrival: u64, with_voice: bool) {
        if self.lasts() {
            (self.until, self.ends_with_voice) = (arrival, with_voice);
        }
    }

    /// Up to which arrival number the log is read.
    pub(super) fn bound(&self) -> u64 {
        if self.lasts() { self.from } else { u64::MAX }
    }

    /// Where a reader goes on whose next packet would have been this one; `None` where it was not left out.
    pub(super) fn resumption(&self, cursor: u64) -> Option<Resumption> {
        let is_in_it = (self.from..self.until).contains(&cursor) && !self.lasts();
        is_in_it.then_some(Resumption {
            arrival: self.until,
            with_voice: self.ends_with_voice,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_stops_where_a_pause_begins_and_goes_on_where_it_ended() {
        let mut pause = Pause::default();
        assert_eq!((pause.bound(), pause.resumption(0)), (u64::MAX, None));
        pause.begin(10);
        pause.begin(12);
        assert_eq!((pause.bound(), pause.resumption(11)), (10, None));
        pause.end(20, true);
        pause.end(22, false);
        assert_eq!(pause.bound(), u64::MAX);
        let resumption = Resumption {
            arrival: 20,
            with_voice: true,
        };
        let at = [9, 10, 19, 20].map(|cursor| pause.resumption(cursor));
        assert_eq!(at, [None, Some(resumption), Some(resumption), None]);
    }
}
