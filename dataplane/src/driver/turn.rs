//! One turn of a worker: take everything that arrived, within bounds, then send.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::clock;
use super::core::Core;
use super::lane::LaneSender;
use super::link::Link;
use super::outbox::Outbox;
use super::relay::Relay;
use super::tcp::Tcp;
use super::worker::Inputs;
use crate::command::Command;
use crate::event::Event;
use crate::id::SessionId;
use crate::limits::{BURSTS_PER_TURN, COMMANDS_PER_TURN, IDLE_MAX, RUNS_PER_TURN, TCP_QUEUE_LEN};
use crate::transmit::Transport;

/// Turns that may follow each other before the runtime looks at timers, TCP and the end: enough
/// to save most of a busy worker's waits, few enough to be over in some milliseconds.
const TURNS_PER_WAIT: usize = 4;

/// A worker's life: from an empty engine to the end, or to a panic.
pub(super) struct Life<'a, C, L> {
    pub(super) core: C,
    pub(super) link: L,
    pub(super) tcp: Tcp,
    pub(super) inputs: &'a mut Inputs,
    pub(super) outbox: &'a mut Outbox,
    pub(super) lane: &'a mut LaneSender,
    pub(super) relay: &'a mut Relay,
    pub(super) sessions: &'a mut HashSet<SessionId>,
    /// Woken by it, to be carried out in the turn that follows.
    pub(super) command: Option<Command>,
    /// How long it was not waiting.
    pub(super) busy: Duration,
}

impl<C: Core, L: Link> Life<'_, C, L> {
    /// Turns until the worker is stopped.
    pub(super) async fn run(mut self) {
        let mut alarm = clock::now();
        let mut sleep = std::pin::pin!(sleep_until(alarm.into()));
        let (mut turns, mut woke) = (0, None);
        loop {
            let now = clock::now();
            let since = *woke.get_or_insert(now);
            let more = self.turn(now);
            turns += 1;
            if turns < TURNS_PER_WAIT && (more || self.link.has_more()) {
                continue;
            }
            turns = 0;
            self.link.settle(more);
            let idle_until = now + IDLE_MAX;
            let due = self
                .core
                .poll_timeout()
                .map_or(idle_until, |due| due.min(idle_until));
            // Moving a timer costs more than waking early once: it is only moved forward in time
            // when it has rung, and back when something is due before.
            if due < alarm || alarm <= now {
                alarm = due;
                sleep.as_mut().reset(alarm.into());
            }
            self.busy += clock::now().saturating_duration_since(since);
            woke = None;
            tokio::select! {
                biased;
                _ = &mut self.inputs.stop => return,
                () = self.link.ready() => {}
                Some(command) = self.inputs.commands.recv() => self.command = Some(command),
                Some(command) = self.inputs.from_lane.recv() => self.command = Some(command),
                () = self.relay.ready() => {}
                () = self.tcp.ready() => {}
                () = self.outbox.room() => {}
                () = &mut sleep => {}
            }
        }
    }

    /// Returns whether a bound was reached before the work was done.
    fn turn(&mut self, now: Instant) -> bool {
        // Before the packets: a client that was answered may be quicker than this thread.
        let mut more = self.take_commands(now);
        let core = &mut self.core;
        self.link.receive(RUNS_PER_TURN, |path, bytes, segment| {
            core.handle_datagrams(now, path, bytes, segment);
        });
        more |= self.tcp.receive(TCP_QUEUE_LEN, |path, bytes| {
            let segment = bytes.len();
            core.handle_datagrams(now, path, bytes, segment);
        });
        more |= self.relay.receive(|slot| core.handle_relay(now, slot));
        if self.core.poll_timeout().is_some_and(|due| due <= now) {
            self.core.handle_timeout(now);
        }
        // Before this worker's own sends, which take a while: the others may begin with theirs.
        let core = &mut self.core;
        self.relay.send(|to, slot| core.poll_relay(now, to, slot));
        more |= self.transmit(now);
        while let Some(input) = self.core.poll_dtls() {
            self.lane.push(input);
        }
        while let Some(event) = self.core.poll_event() {
            self.tell(event);
        }
        self.outbox.retry();
        more
    }

    fn take_commands(&mut self, now: Instant) -> bool {
        for _ in 0..COMMANDS_PER_TURN {
            let next = self
                .command
                .take()
                // The handshake threads first: a peer is waiting for each of theirs.
                .or_else(|| self.inputs.from_lane.try_recv().ok())
                .or_else(|| self.inputs.commands.try_recv().ok());
            let Some(command) = next else { return false };
            match &command {
                Command::Open(spec) => _ = self.sessions.insert(spec.session),
                Command::Close { session } => _ = self.sessions.remove(session),
                _ => {}
            }
            self.core.handle_command(now, command);
        }
        true
    }

    fn transmit(&mut self, now: Instant) -> bool {
        let mut bursts = 0;
        let more = loop {
            if bursts == BURSTS_PER_TURN {
                break true;
            }
            // Without a slot the engine keeps what it has, and a completion wakes us.
            let Some(slot) = self.link.slot() else {
                break false;
            };
            let Some(transmit) = self.core.poll_transmit(now, slot) else {
                break false;
            };
            match transmit.path.transport {
                Transport::Udp => self.link.send(transmit),
                Transport::Tcp(connection) => {
                    let written = slot.get(..transmit.len).unwrap_or_default();
                    self.tcp.send(connection, written, transmit.segment);
                }
            }
            bursts += 1;
        };
        self.link.flush();
        more
    }

    fn tell(&mut self, mut event: Event) {
        match &mut event {
            Event::Closed { session, .. } => _ = self.sessions.remove(session),
            Event::Report(report) => {
                let counters = &mut report.counters;
                self.link.counts().merge_into(counters);
                self.tcp.counts().merge_into(counters);
                counters.drop_event_queue_full += self.outbox.lost;
                counters.drop_dtls_queue_full += self.lane.lost;
                counters.busy_us += self.busy.as_micros() as u64;
            }
            Event::Connected { .. }
            | Event::PathChanged { .. }
            | Event::TrackStarted { .. }
            | Event::Speaking { .. }
            | Event::WorkerRestarted => {}
        }
        self.outbox.push(event);
    }
}
