//! Which worker a newcomer goes to, by what each has to do.
//!
//! A room begins on the worker with the least to do, its home, and its sessions go there as long as
//! the home has time for them. Past that they go to other workers, and what is published is relayed
//! between them (see [`super::relay`]). A session stays where it began: its answer named the port.

use std::collections::VecDeque;
use std::time::Instant;

use dataplane::event::Report;
use dataplane::limits::{SESSIONS_MAX, WORKER_FAILURES_MAX, WORKER_FAILURES_SPAN};
use dataplane::load::Load;
use signaling::name::RoomName;

use super::Rooms;
use super::overload::{LOAD_MAX, Overload};
use super::person::Room;

/// What a session is taken to need before reports tell: a five-hundredth of a core, which a viewer
/// of a camera takes where each datagram has its own send. A wrong guess is forgotten after
/// [`REPORTS_UNTIL_FELT`] reports.
const SESSION_PERMILLE: u64 = 2;

/// Reports, one a second, until a session shows in what is measured: it connects in the first, and
/// the second is the first that is all its own.
const REPORTS_UNTIL_FELT: usize = 3;

/// A worker that is busier says by what it has to do what its next sessions will need; what is measured of
/// one with less to do is mostly chance.
const TELLING_PERMILLE: u64 = 300;

/// A session is never taken to need more than a twentieth of a core: another program may have had the core
/// while it was measured.
const SESSION_PERMILLE_MAX: u64 = 50;

/// Loads that differ by less are taken for equal, and then places count: what is measured of a node
/// with little to do is mostly chance.
const ALIKE_PERMILLE: u64 = 50;

/// What one worker has to do.
#[derive(Clone, Debug, Default)]
pub(super) struct Duty {
    /// The share of its time that it was at work as last reported.
    busy: Load,
    /// Sessions that began since the last reports, the newest first.
    begun: [u64; REPORTS_UNTIL_FELT],
    /// Those that connected since then.
    connected: [u64; REPORTS_UNTIL_FELT],
    /// Sessions that live there.
    sessions: usize,
    /// Whether that is more than it can do.
    overload: Overload,
    /// When it failed of late.
    failures: VecDeque<Instant>,
    /// Said to whom it does not take while it fails again and again.
    failing: Option<String>,
}

impl Duty {
    /// The worker reports, once a second.
    pub(super) fn handle_report(&mut self, now: Instant, report: &Report) {
        self.forget_failures(now);
        self.busy = report.load;
        self.overload.handle_report(report);
        for counts in [&mut self.begun, &mut self.connected] {
            counts.rotate_right(1);
            if let Some(newest) = counts.first_mut() {
                *newest = 0;
            }
        }
    }

    /// It failed, and starts again.
    pub(super) fn handle_failure(&mut self, now: Instant) {
        self.forget_failures(now);
        if self.failures.len() == WORKER_FAILURES_MAX {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        if self.failures.len() == WORKER_FAILURES_MAX {
            self.failing = Some(format!(
                "it failed {WORKER_FAILURES_MAX} times within {} s",
                WORKER_FAILURES_SPAN.as_secs()
            ));
        }
    }

    /// A failure counts for a while. A worker that took nobody until now is tried again only when none counts.
    fn forget_failures(&mut self, now: Instant) {
        self.failures
            .retain(|at| now.saturating_duration_since(*at) < WORKER_FAILURES_SPAN);
        if self.failures.is_empty() {
            self.failing = None;
        }
    }

    /// A session begins there.
    pub(super) fn handle_begin(&mut self) {
        self.sessions += 1;
        if let Some(newest) = self.begun.first_mut() {
            *newest += 1;
        }
    }

    /// A session there connected.
    pub(super) fn handle_connected(&mut self) {
        if let Some(newest) = self.connected.first_mut() {
            *newest += 1;
        }
    }

    /// A session that lived there is over.
    pub(super) fn handle_end(&mut self) {
        self.sessions = self.sessions.saturating_sub(1);
    }

    /// Why it takes nobody new; `None` while it keeps up.
    pub(super) fn overload(&self) -> Option<String> {
        let known = self.failing.as_deref().or_else(|| self.overload.reason());
        known.map(str::to_owned).or_else(|| self.fills_up())
    }

    /// A crowd that comes within a second or two is more than it can do before a report says so: newcomers
    /// are taken to need what those need who are there. One who has not connected needs nothing yet, and tells
    /// nothing.
    fn fills_up(&self) -> Option<String> {
        let busy = u64::from(self.busy.0);
        let sessions = self.sessions as u64;
        let newcomers = self.connected.iter().sum::<u64>().min(sessions);
        let felt = (sessions - newcomers).max(1);
        let each = (busy / felt).min(SESSION_PERMILLE_MAX);
        let expected = busy + newcomers * each;
        let is_full = busy >= TELLING_PERMILLE && expected >= u64::from(LOAD_MAX.0);
        (is_full && newcomers > 0)
            .then(|| format!("{newcomers} came within seconds, and may be all that it can take"))
    }

    /// What it has to do, in thousandths of its time: as measured, and what is to be expected of
    /// who has just come.
    fn permille(&self) -> u64 {
        u64::from(self.busy.0) + SESSION_PERMILLE * self.begun.iter().sum::<u64>()
    }

    /// Whether nobody more can go there.
    fn is_full(&self) -> bool {
        self.sessions >= SESSIONS_MAX || self.overload().is_some()
    }
}

impl Rooms {
    /// The worker with the least to do, where a new room begins.
    pub(super) fn idlest_worker(&self) -> usize {
        let mut places = vec![0; self.config.candidates.len()];
        for room in self.rooms.values() {
            if let Some(count) = places.get_mut(room.worker) {
                // An empty room counts too: it is about to be filled.
                *count += room.places().max(1);
            }
        }
        let least = |(worker, count): &(usize, usize)| {
            let duty = self.workers.get(*worker);
            let alike = duty.map(|duty| (duty.is_full(), duty.permille() / ALIKE_PERMILLE));
            (alike, *count)
        };
        let idlest = places.into_iter().enumerate().min_by_key(least);
        idlest.map_or(0, |(worker, _)| worker)
    }

    /// The worker for the next session in a room: its home while that has time for it, then one that
    /// has sessions of the room already, so that what is published is relayed to few.
    pub(super) fn worker_for(&self, room: &Room) -> usize {
        let limit_permille = u64::from(self.config.limits.spread_percent) * 10;
        let has_time = |duty: &Duty| !duty.is_full() && duty.permille() < limit_permille;
        let idlest = |fits: &dyn Fn(usize, &Duty) -> bool| {
            let workers = self.workers.iter().enumerate();
            workers
                .filter(|(worker, duty)| fits(*worker, duty))
                .min_by_key(|(_, duty)| (duty.is_full(), duty.permille()))
                .map(|(worker, _)| worker)
        };
        idlest(&|worker, duty| worker == room.worker && has_time(duty))
            .or_else(|| {
                idlest(&|worker, duty| room.sessions.contains_key(&worker) && has_time(duty))
            })
            .or_else(|| idlest(&|_, _| true))
            .unwrap_or(room.worker)
    }

    /// A session of the room begins on `worker`.
    pub(super) fn note_begin(&mut self, name: &RoomName, worker: usize) {
        *self.room_or_new(name).sessions.entry(worker).or_default() += 1;
        if let Some(duty) = self.workers.get_mut(worker) {
            duty.handle_begin();
        }
    }

    /// A session of the room that lived on `worker` is over.
    pub(super) fn note_end(&mut self, name: &RoomName, worker: usize) {
        if let Some(duty) = self.workers.get_mut(worker) {
            duty.handle_end();
        }
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        if let Some(count) = room.sessions.get_mut(&worker) {
            *count -= 1;
            if *count == 0 {
                room.sessions.remove(&worker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::disallowed_methods,
        reason = "a start of time for the tests to count from"
    )]

    use super::*;

    fn report(duty: &mut Duty, now: Instant, permille: u16) {
        let load = Load(permille);
        duty.handle_report(
            now,
            &Report {
                load,
                ..Report::default()
            },
        );
    }

    /// Lets people come until the worker takes nobody; how many that were.
    fn fill(duty: &mut Duty) -> usize {
        let mut came = 0;
        while duty.overload().is_none() && came < 1_000 {
            duty.handle_begin();
            duty.handle_connected();
            came += 1;
        }
        came
    }

    #[test]
    fn x_13_a_crowd_is_let_in_as_far_as_those_who_are_there_show_that_there_is_room() {
        let now = Instant::now();
        let mut duty = Duty::default();
        assert_eq!(fill(&mut duty), 1_000, "nothing is known yet");
        for _ in 0..1_000 {
            duty.handle_end();
        }
        for _ in 0..20 {
            duty.handle_begin();
            duty.handle_connected();
        }
        for _ in 0..REPORTS_UNTIL_FELT {
            report(&mut duty, now, 400);
        }
        // Twenty need 400, one of them 20.
        assert_eq!(fill(&mut duty), 23);
        let reason = duty.overload().unwrap();
        assert!(reason.starts_with("23 came within seconds"), "{reason}");
        // They need as much as was thought, or half.
        for _ in 0..REPORTS_UNTIL_FELT {
            report(&mut duty, now, 840);
        }
        assert_eq!(fill(&mut duty), 1);
        for _ in 0..REPORTS_UNTIL_FELT {
            report(&mut duty, now, 620);
        }
        assert_eq!(fill(&mut duty), 17);
    }

    #[test]
    fn x_13_who_has_only_offered_counts_for_nothing() {
        let now = Instant::now();
        let mut duty = Duty::default();
        for _ in 0..2_000 {
            duty.handle_begin();
        }
        report(&mut duty, now, 890);
        assert_eq!(duty.overload(), None);
    }

    #[test]
    fn x_13_a_few_who_come_are_let_in_however_little_is_known() {
        let now = Instant::now();
        let mut duty = Duty::default();
        // Somebody else's program takes the core.
        duty.handle_begin();
        duty.handle_connected();
        for _ in 0..REPORTS_UNTIL_FELT {
            report(&mut duty, now, 500);
        }
        assert_eq!(fill(&mut duty), 7);
        // A worker with little to do is known by chance.
        for _ in 0..REPORTS_UNTIL_FELT {
            report(&mut duty, now, TELLING_PERMILLE as u16 - 1);
        }
        assert_eq!(fill(&mut duty), 1_000);
    }
}
