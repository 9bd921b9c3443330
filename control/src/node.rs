//! The node: what stands between the doors and the workers, and carries out what the rooms decide.
//!
//! All state is behind one lock, held for the time of one decision and never across a wait. Media
//! does not pass here.

mod cameras;
mod doors;
mod requests;
mod take_over;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dataplane::command::Command;
use dataplane::counters::Counters;
use dataplane::data::DataRequest;
use dataplane::driver::{Dataplane, QueueFull, WorkerInfo};
use dataplane::event::Event;
use signaling::node::{PersonId, Refusal, RoomEvent};
use signaling::sdp::Candidate;
use tokio::sync::{Notify, mpsc};
use tracing::{debug, error, info, warn};

use crate::camera::cameras::{CameraLimits, Cameras};
use crate::camera::order::{CameraId, LaneEvent};
use crate::firestore::shell::Standing;
use crate::gate::Gate;
use crate::metrics::{self, Snapshot, Strain, Tally};
use crate::room::{
    ChannelRefusal, Effect, EndReason, Random, RoomLimits, Rooms, RoomsConfig, first_id,
};
use crate::take_over::Request;

pub use cameras::LaneEvents;
use cameras::LaneLine;
pub use requests::Report;
use requests::Untold;
pub use take_over::Ended;

/// Events that wait for one person to read them, beside what a full room can do at one moment.
const PERSON_QUEUE_LEN: usize = 256;

/// Things that everybody in a room may do in the time that one person needs to read: lose the
/// media, and leave.
const MOMENT_EVENTS: usize = 2;

/// Events taken from the workers under one lock, after which people get to read what came of them.
const EVENT_BATCH_LEN: usize = 32;

/// How long sessions get the same certificate: whoever had its key could be in the middle of none that
/// is made later.
const CERTIFICATE_AGE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How often grace times and waiting commands are looked at.
const TICK: Duration = Duration::from_millis(100);

/// A node whose workers run.
#[derive(Debug)]
pub struct Millrace {
    state: Mutex<State>,
    /// Rings when the Firestore door is to be told something.
    bell: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    rooms: Rooms,
    cameras: Cameras,
    /// How the cameras' lane is told.
    lane: LaneLine,
    workers: Workers,
    people: BTreeMap<PersonId, mpsc::Sender<RoomEvent>>,
    /// Length of each of these channels.
    person_queue_len: usize,
    tally: Tally,
    /// What the Firestore door is to be told, if there is one.
    untold: Option<Untold>,
    /// How that door stands.
    database: Option<Standing>,
    /// Who is connected to the other doors.
    gate: Option<Gate>,
}

/// The workers, as far as control has to do with them.
#[derive(Debug)]
struct Workers {
    /// Gone once the node ends.
    dataplane: Option<Dataplane>,
    infos: Vec<WorkerInfo>,
    /// Commands that found their worker's queue full: they go before any later one.
    backlog: Vec<VecDeque<Command>>,
    /// What each last reported.
    counters: Vec<Counters>,
    /// How busy each last was.
    strain: Vec<Strain>,
    /// How often each failed.
    failures: Vec<u64>,
}

impl Millrace {
    /// A node over running workers, where `candidates` says how each of them can be reached.
    #[must_use]
    pub fn new(
        dataplane: Dataplane,
        candidates: Vec<Vec<Candidate>>,
        limits: RoomLimits,
        cameras: CameraLimits,
    ) -> Millrace {
        let make = |config| Rooms::new(config, Box::new(SystemRandom));
        Millrace::with_rooms(dataplane, candidates, limits, cameras, make)
    }

    fn with_rooms(
        dataplane: Dataplane,
        candidates: Vec<Vec<Candidate>>,
        limits: RoomLimits,
        cameras: CameraLimits,
        make: impl FnOnce(RoomsConfig) -> Rooms,
    ) -> Millrace {
        let config = RoomsConfig {
            limits,
            fingerprint: dataplane.fingerprint(),
            candidates,
            first_id: first_id(&mut SystemRandom),
        };
        let infos = dataplane.workers().to_vec();
        let workers = Workers {
            backlog: infos.iter().map(|_| VecDeque::new()).collect(),
            counters: infos.iter().map(|_| Counters::default()).collect(),
            strain: infos.iter().map(|_| Strain::default()).collect(),
            failures: vec![0; infos.len()],
            infos,
            dataplane: Some(dataplane),
        };
        let rooms = make(config);
        let state = State {
            rooms,
            cameras: Cameras::new(cameras),
            lane: LaneLine::default(),
            workers,
            people: BTreeMap::new(),
            person_queue_len: PERSON_QUEUE_LEN + MOMENT_EVENTS * limits.sessions_per_room,
            tally: Tally::default(),
            untold: None,
            database: None,
            gate: None,
        };
        Millrace {
            state: Mutex::new(state),
            bell: Arc::new(Notify::new()),
        }
    }

    /// Takes in what the workers tell and what time brings, for as long as the workers run, or until another program
    /// that asks to has taken over.
    pub async fn run(
        self: Arc<Millrace>,
        mut events: mpsc::Receiver<(usize, Event)>,
        mut requests: Option<mpsc::Receiver<Request>>,
        mut lane: Option<LaneEvents>,
    ) -> Ended {
        let mut batch = Vec::with_capacity(EVENT_BATCH_LEN);
        let mut said = Vec::with_capacity(EVENT_BATCH_LEN);
        let mut ticks = tokio::time::interval(TICK);
        let mut renewals = tokio::time::interval(CERTIFICATE_AGE);
        renewals.reset();
        loop {
            tokio::select! {
                taken = events.recv_many(&mut batch, EVENT_BATCH_LEN) => {
                    if taken == 0 {
                        return Ended::Workers;
                    }
                    let mut events = batch.drain(..);
                    while !survived(|| self.decide(|state, now| {
                        for (worker, event) in events.by_ref() {
                            state.take_in(now, worker, &event);
                        }
                    })) {}
                    drop(events);
                    tokio::task::yield_now().await;
                }
                _ = next_of_lane(&mut lane, &mut said) => {
                    let mut said = said.drain(..);
                    while !survived(|| self.decide(|state, now| {
                        for (camera, event) in said.by_ref() {
                            state.cameras.handle_lane_event(now, camera, event);
                        }
                    })) {}
                }
                _ = ticks.tick() => {
                    survived(|| self.decide(|state, now| {
                        state.rooms.handle_timeout(now);
                        state.watch_cameras(now);
                    }));
                }
                _ = renewals.tick() => {
                    survived(|| self.decide(|state, _| state.renew_certificate()));
                }
                Some(request) = next(&mut requests) => {
                    if self.hand_over(request, &mut events) {
                        return Ended::TakenOver;
                    }
                }
            }
        }
    }

    /// Takes nobody in any more, tells everybody, and closes their sessions.
    pub fn close(&self) {
        self.decide(|state, _| state.rooms.handle_shutdown());
    }

    /// Ends the workers; blocks until they ended.
    pub fn stop(&self) {
        let (dataplane, lane) = {
            let mut state = self.lock();
            (
                state.workers.dataplane.take(),
                std::mem::take(&mut state.lane),
            )
        };
        if let Some(dataplane) = dataplane {
            dataplane.shutdown();
        }
        // It waits until its cameras have been hung up on.
        drop(lane);
    }

    /// Lets `what` happen to the state, and carries out what comes of it.
    fn decide<T>(&self, what: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.lock();
        let result = what(&mut state, now());
        state.carry_out();
        if state
            .untold
            .as_ref()
            .is_some_and(|untold| !untold.is_empty())
        {
            self.bell.notify_one();
        }
        result
    }

    /// Decides about a request that may be refused.
    fn answer<T>(
        &self,
        what: impl FnOnce(&mut State, Instant) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.decide(|state, now| {
            let answer = what(state, now);
            if let Err(refusal) = &answer {
                state.tally.refused(refusal);
            }
            answer
        })
    }

    /// A panic while the lock was held is a bug in one decision; the others' rooms live on.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_in(&mut self, now: Instant, worker: usize, event: &Event) {
        match event {
            Event::Connected {
                session,
                remote,
                transport,
            } => {
                debug!(session = session.0, %remote, ?transport, "connected");
            }
            Event::PathChanged {
                session,
                remote,
                transport,
            } => {
                debug!(session = session.0, %remote, ?transport, "path changed");
            }
            Event::Report(report) => {
                if let Some(counters) = self.workers.counters.get_mut(worker) {
                    counters.clone_from(&report.counters);
                }
                if let Some(strain) = self.workers.strain.get_mut(worker) {
                    *strain = (&**report).into();
                }
            }
            Event::WorkerRestarted => self.workers.on_restarted(worker),
            Event::Chosen {
                session,
                sender,
                sent,
            } => debug!(session = session.0, sender = sender.0, ?sent, "chosen"),
            Event::Downlink {
                session,
                estimate_bps,
                loss_permille,
                rtt_us,
            } => {
                debug!(
                    session = session.0,
                    estimate_bps,
                    loss_permille,
                    ?rtt_us,
                    "downlink"
                );
            }
            Event::Closed { .. }
            | Event::TrackStarted { .. }
            | Event::Speaking { .. }
            | Event::Data { .. } => {}
        }
        self.rooms.handle_event(now, worker, event);
    }

    /// Gives sessions that are made from now on another DTLS certificate.
    fn renew_certificate(&mut self) {
        let Some(dataplane) = &self.workers.dataplane else {
            return;
        };
        match dataplane.renew_certificate(self.rooms.next_session()) {
            Ok(fingerprint) => self.rooms.handle_certificate(fingerprint),
            Err(error) => warn!(%error, "the DTLS certificate stays as it was"),
        }
    }

    /// Does what the rooms decided. People who do not read are removed, which decides more.
    fn carry_out(&mut self) {
        self.workers.flush();
        loop {
            let mut slow = Vec::new();
            while let Some(effect) = self.rooms.poll_effect() {
                if let Err(person) = self.perform(effect) {
                    slow.push(person);
                }
            }
            let (all_read, now) = (slow.is_empty(), now());
            for person in slow {
                self.rooms.handle_leave(&person, EndReason::TooSlow);
            }
            self.perform_cameras(now);
            if all_read && !self.rooms.has_effects() {
                break;
            }
        }
        let changed = self.rooms.take_changed();
        if let Some(untold) = &mut self.untold {
            untold.changed(changed);
        }
    }

    /// Does one thing; gives back a person who is too slow to be told.
    fn perform(&mut self, effect: Effect) -> Result<(), PersonId> {
        match effect {
            Effect::Command { worker, command } => {
                if !self.workers.send(worker, command) {
                    self.tally.channel_refused(ChannelRefusal::WorkerBehind);
                }
            }
            Effect::Notify { person, event } => return self.notify(person, event),
            Effect::Dismissed { person } => {
                self.cameras.handle_gone(&person);
                self.people.remove(&person);
            }
            Effect::SessionOpened {
                session,
                room,
                client,
            } => {
                info!(session = session.0, %room, client = %client.label(), "session opened");
                self.tally.opened(client);
            }
            Effect::SessionEnded {
                session,
                room,
                reason,
            } => {
                info!(session = session.0, %room, %reason, "session ended");
                self.tally.ended(reason);
            }
            Effect::CameraLost { person } => self.cameras.handle_session_lost(now(), &person),
            Effect::ChannelRefused { reason } => self.tally.channel_refused(reason),
            Effect::RequestEnded { request, reason } => {
                if let Some(untold) = &mut self.untold {
                    untold.ended(request, reason.to_string());
                }
            }
        }
        Ok(())
    }

    fn notify(&mut self, person: PersonId, event: RoomEvent) -> Result<(), PersonId> {
        let Some(channel) = self.people.get(&person) else {
            return Ok(());
        };
        match channel.try_send(event) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.people.remove(&person);
                Err(person)
            }
            // Their WebSocket broke: when they come back they are told how things stand.
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.people.remove(&person);
                Ok(())
            }
        }
    }

    /// A new channel to a person, in place of one that they had before.
    fn channel(&mut self, person: &PersonId) -> mpsc::Receiver<RoomEvent> {
        let (sender, receiver) = mpsc::channel(self.person_queue_len);
        self.people.insert(person.clone(), sender);
        receiver
    }

    fn metrics(&self) -> String {
        metrics::render(&Snapshot {
            totals: self.rooms.totals(),
            cameras: self.cameras.totals(),
            tally: &self.tally,
            workers: &self.workers.infos,
            counters: &self.workers.counters,
            strain: &self.workers.strain,
            failures: &self.workers.failures,
            backlog: self.workers.waiting(),
            database: self.database.as_ref(),
            gate: self.gate.as_ref(),
        })
    }
}

impl Workers {
    /// Sends a command, after those that wait already. `false` for a message that would have to wait:
    /// it is dropped, because there is no end of messages.
    fn send(&mut self, worker: usize, command: Command) -> bool {
        let Some(backlog) = self.backlog.get_mut(worker) else {
            return true;
        };
        let is_message = is_message(&command);
        if is_message && !backlog.is_empty() {
            return false;
        }
        backlog.push_back(command);
        self.flush_one(worker);
        let waits = is_message
            && self
                .backlog
                .get_mut(worker)
                .is_some_and(|backlog| backlog.pop_back().is_some());
        !waits
    }

    fn flush(&mut self) {
        for worker in 0..self.backlog.len() {
            self.flush_one(worker);
        }
    }

    fn flush_one(&mut self, worker: usize) {
        let Some(backlog) = self.backlog.get_mut(worker) else {
            return;
        };
        let Some(dataplane) = &self.dataplane else {
            backlog.clear();
            return;
        };
        while let Some(command) = backlog.pop_front() {
            if let Err(QueueFull(command)) = dataplane.try_command(worker, command) {
                backlog.push_front(*command);
                return;
            }
        }
    }

    /// What waits was for an engine that is gone.
    fn on_restarted(&mut self, worker: usize) {
        if let Some(failures) = self.failures.get_mut(worker) {
            *failures += 1;
        }
        if let Some(backlog) = self.backlog.get_mut(worker) {
            backlog.retain(|command| matches!(command, Command::AfterRestart));
        }
    }

    fn waiting(&self) -> usize {
        self.backlog.iter().map(VecDeque::len).sum()
    }

    /// Whether the workers keep up. Nothing new is begun while they do not, so that what waits for
    /// them stays bounded by what there is.
    fn check(&self) -> Result<(), Refusal> {
        match self.waiting() {
            0 => Ok(()),
            _ => Err(Refusal::Broken(
                "its workers are behind; try again in a moment".to_owned(),
            )),
        }
    }
}

/// Whether the command hands a message to a data channel.
fn is_message(command: &Command) -> bool {
    match command {
        Command::Data { request, .. } => matches!(**request, DataRequest::Send { .. }),
        _ => false,
    }
}

/// Lets something be decided; `false` when that panicked. One decision is lost then, and said, and not
/// the node with everybody's rooms.
fn survived(decide: impl FnOnce()) -> bool {
    let survived = catch_unwind(AssertUnwindSafe(decide)).is_ok();
    if !survived {
        error!("a decision about a room failed; the node goes on");
    }
    survived
}

/// The next program that wants to take over; never where none may.
async fn next(requests: &mut Option<mpsc::Receiver<Request>>) -> Option<Request> {
    match requests {
        Some(requests) => requests.recv().await,
        None => std::future::pending().await,
    }
}

/// The next things that the lane says; never where there is none.
async fn next_of_lane(lane: &mut Option<LaneEvents>, said: &mut Vec<(CameraId, LaneEvent)>) {
    let taken = match lane {
        Some(events) => events.recv_many(said, EVENT_BATCH_LEN).await,
        None => std::future::pending().await,
    };
    if taken == 0 {
        *lane = None;
    }
}

/// The system's generator.
struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the certificate was made with the same generator");
    }
}

/// The time, for the rooms.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the shell: it reads the clock for the rooms"
)]
fn now() -> Instant {
    Instant::now()
}
