//! Whether a worker keeps up: while it does not, nobody new comes in, so that those who are in a
//! meeting do not suffer for those who are not yet.

use dataplane::counters::Counters;
use dataplane::event::Report;
use dataplane::load::Load;

/// A worker that is busier has no room for what its meetings may still turn on.
pub(super) const LOAD_MAX: Load = Load(850);

/// An overloaded worker takes people in again once it is less busy than this.
const LOAD_RELIEVED: Load = Load(700);

/// A turn that takes longer is heard: an answer to speech is late by as much.
const TURN_US_MAX: u64 = 50_000;

/// Long turns of a worker that is less busy are not of its making: another program had its core.
const TURNS_COUNT_FROM: Load = Load(500);

/// Datagrams lost for want of time or room between two reports that are no accident.
const DROPS_MAX: u64 = 100;

/// Reports, one a second, that must say the same before it counts.
const REPORTS: u32 = 2;

/// One worker's state, by its reports.
#[derive(Clone, Debug, Default)]
pub(super) struct Overload {
    /// What was lost as of the last report.
    drops: Option<u64>,
    /// Reports in a row that say otherwise than `reason`.
    otherwise: u32,
    /// Why nobody new is taken.
    reason: Option<String>,
}

impl Overload {
    /// A worker reports.
    pub(super) fn handle_report(&mut self, report: &Report) {
        let drops = drops(&report.counters);
        // A worker that started again counts from zero.
        let lost = drops.saturating_sub(self.drops.unwrap_or(drops));
        self.drops = Some(drops);
        let load_max = match self.reason {
            Some(_) => LOAD_RELIEVED,
            None => LOAD_MAX,
        };
        let strained = if lost >= DROPS_MAX {
            Some(format!("it lost {lost} packets within a second"))
        } else if report.load >= load_max {
            Some(format!("it is busy {} % of its time", report.load.0 / 10))
        } else if report.slowest_turn_us >= TURN_US_MAX && report.load >= TURNS_COUNT_FROM {
            let turn_ms = report.slowest_turn_us / 1_000;
            Some(format!("it was {turn_ms} ms late for a packet"))
        } else {
            None
        };
        if strained.is_some() == self.reason.is_some() {
            self.otherwise = 0;
            return;
        }
        self.otherwise += 1;
        if self.otherwise >= REPORTS {
            self.otherwise = 0;
            self.reason = strained;
        }
    }

    /// Why nobody new is taken; `None` while the worker keeps up.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Everything that was lost because the worker, or its socket, had too much to do.
fn drops(counters: &Counters) -> u64 {
    counters.drop_receive_buffer_full
        + counters.drop_feed_queue_full
        + counters.drop_socket_full
        + counters.drop_subscriber_behind
        + counters.drop_late_video
        + counters.drop_late_audio
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(overload: &mut Overload, count: usize, load: u16, lost: u64, turn_us: u64) {
        for _ in 0..count {
            let mut report = Report {
                load: Load(load),
                slowest_turn_us: turn_us,
                ..Report::default()
            };
            report.counters.drop_receive_buffer_full = overload.drops.unwrap_or(0) + lost;
            overload.handle_report(&report);
        }
    }

    #[test]
    fn one_bad_second_is_no_overload_and_two_are() {
        let mut overload = Overload::default();
        reports(&mut overload, 5, 500, 0, 2_000);
        reports(&mut overload, 1, 990, 0, 2_000);
        reports(&mut overload, 1, 500, 0, 2_000);
        reports(&mut overload, 1, 990, 0, 2_000);
        assert_eq!(overload.reason(), None);
        reports(&mut overload, 1, 990, 0, 2_000);
        assert_eq!(overload.reason(), Some("it is busy 99 % of its time"));
    }

    #[test]
    fn it_ends_only_with_clear_relief() {
        let mut overload = Overload::default();
        reports(&mut overload, 2, 900, 0, 0);
        reports(&mut overload, 9, 800, 0, 0);
        assert!(overload.reason().is_some());
        reports(&mut overload, 2, 600, 0, 0);
        assert_eq!(overload.reason(), None);
    }

    #[test]
    fn packets_lost_are_overload_at_any_load_and_long_turns_of_a_busy_worker() {
        let mut overload = Overload::default();
        reports(&mut overload, 1, 100, 0, 0);
        reports(&mut overload, 2, 100, 5_000, 0);
        assert_eq!(
            overload.reason(),
            Some("it lost 5000 packets within a second")
        );
        reports(&mut overload, 2, 100, 3, 0);
        assert_eq!(overload.reason(), None);
        reports(&mut overload, 5, 100, 0, 70_000);
        assert_eq!(overload.reason(), None, "another program had its core");
        reports(&mut overload, 2, 600, 0, 70_000);
        assert_eq!(overload.reason(), Some("it was 70 ms late for a packet"));
    }
}
