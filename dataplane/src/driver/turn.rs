//! One turn of a worker: take everything that arrived, within bounds, then send.

use std::collections::HashSet;
use std::io;
use std::time::Instant;

use super::alarm::Alarm;
use super::clock;
use super::core::Core;
use super::faults::Faults;
use super::feed::Feeds;
use super::lane::LaneSender;
use super::link::Link;
use super::meter::Meter;
use super::outbox::Outbox;
use super::relay::Relay;
use super::take_over::{Order, Reply, Step};
use super::tcp::Tcp;
use super::worker::Inputs;
use crate::command::Command;
use crate::event::Event;
use crate::id::SessionId;
use crate::limits::{
    BURSTS_PER_TURN, COMMANDS_PER_TURN, FREEZE_TURNS, IDLE_MAX, RUNS_PER_TURN, TCP_QUEUE_LEN,
};
use crate::transmit::Transport;

/// Turns that may follow each other before the runtime looks at timers, TCP and the end: enough
/// to save most of a busy worker's waits, few enough to be over in some milliseconds.
const TURNS_PER_WAIT: usize = 4;

/// A worker's life: from an empty engine to the end, or to a panic.
pub(super) struct Life<'a, C, L> {
    pub(super) index: usize,
    pub(super) core: C,
    pub(super) link: L,
    pub(super) alarm: Alarm,
    pub(super) meter: Meter,
    pub(super) tcp: Tcp,
    pub(super) inputs: &'a mut Inputs,
    pub(super) outbox: &'a mut Outbox,
    pub(super) lane: &'a mut LaneSender,
    pub(super) relay: &'a mut Relay,
    pub(super) feeds: &'a mut Feeds,
    pub(super) sessions: &'a mut HashSet<SessionId>,
    pub(super) faults: &'a Faults,
    /// Whether the last turn found something at the link, or from a feed.
    pub(super) received: bool,
    /// Woken by it, to be carried out in the turn that follows.
    pub(super) command: Option<Command>,
}

impl<C: Core, L: Link> Life<'_, C, L> {
    /// Turns until the worker is stopped, or the system refuses the alarm.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let mut now = clock::now();
        loop {
            now = self.turns(now);
            let idle_until = now + IDLE_MAX;
            let due = self.core.poll_timeout();
            let mut due = due.map_or(idle_until, |due| due.min(idle_until));
            let rests = self.rests();
            if rests {
                due = due.min(now + self.core.rest());
            }
            self.alarm.set(now, due)?;
            tokio::select! {
                biased;
                _ = &mut self.inputs.stop => return Ok(()),
                Some(order) = self.inputs.freeze.recv() => {
                    if !self.freeze(&order) {
                        return Ok(());
                    }
                }
                () = self.link.ready(), if !rests => {}
                Some(command) = self.inputs.commands.recv() => self.command = self.inputs.admit(command),
                Some(command) = self.inputs.from_lane.recv() => self.command = Some(command),
                () = self.relay.ready() => {}
                () = self.feeds.ready(), if !rests => {}
                () = self.tcp.ready() => {}
                () = self.outbox.room() => {}
                () = self.alarm.rings() => {}
            }
            now = clock::now();
        }
    }

    /// Whether what arrives is not to wake the worker for a while. Only after something arrived: the first
    /// packet after a silence is not kept waiting.
    fn rests(&self) -> bool {
        self.received && !self.core.rest().is_zero()
    }

    /// Some turns, until there is nothing to do, the worker may rest, or the runtime must look at its other
    /// tasks. Returns when they ended.
    fn turns(&mut self, mut now: Instant) -> Instant {
        for turn in 1.. {
            let more = self.turn(now);
            // With work at hand the link must say so, or nobody would come back to it.
            self.received &= !more;
            let rests = self.rests();
            let goes_on = !rests && turn < TURNS_PER_WAIT && (more || self.link.has_more());
            if !goes_on && !rests {
                self.link.settle(more);
            }
            let ended = clock::now();
            self.meter.handle_turn(now, ended);
            now = ended;
            if !goes_on {
                break;
            }
        }
        if let Some(load) = self.meter.poll_load(now) {
            self.core.handle_load(load);
        }
        now
    }

    /// Returns whether a bound was reached before the work was done.
    fn turn(&mut self, now: Instant) -> bool {
        self.faults.strike();
        // Before the packets: a client that was answered may be quicker than this thread.
        let mut more = self.take_commands(now);
        let core = &mut self.core;
        let mut received = false;
        self.link.receive(RUNS_PER_TURN, |path, bytes, segment| {
            received = true;
            core.handle_datagrams(now, path, bytes, segment);
        });
        let fed = self.feeds.receive(|slot| {
            core.handle_feed(now, slot.session, slot.arrived, slot.packet());
        });
        self.received = received || fed.any;
        more |= fed.more;
        more |= self.tcp.receive(TCP_QUEUE_LEN, |path, bytes| {
            let segment = bytes.len();
            core.handle_datagrams(now, path, bytes, segment);
        });
        more |= self.relay.receive(|slot| core.handle_relay(now, slot));
        // Whether or not anything is due: now that the worker is awake, what is nearly due is cheaper.
        self.core.handle_timeout(now);
        // Before this worker's own sends, which take a while: the others may begin with theirs.
        let core = &mut self.core;
        self.relay.send(|to, slot| core.poll_relay(now, to, slot));
        more |= self.transmit(now) == BURSTS_PER_TURN;
        while let Some(input) = self.core.poll_dtls() {
            self.lane.push(input);
        }
        while let Some(event) = self.core.poll_event() {
            self.tell(event);
        }
        self.outbox.retry();
        more
    }

    /// Stands still so that another process can take over; whether the worker goes on after all.
    fn freeze(&mut self, order: &Order) -> bool {
        let index = self.index;
        let say = |reply| _ = order.replies.send((index, reply));
        let stopped = self.stop_receiving();
        say(if stopped {
            Reply::Stopped
        } else {
            Reply::Failed
        });
        let mut step = order.steps.recv();
        if let Ok(Step::Snapshot(at)) = step {
            let reply = if self.send_out(at) {
                Reply::Snapshot(self.core.snapshot(at))
            } else {
                Reply::Failed
            };
            say(reply);
            step = order.steps.recv();
        }
        let goes_on = matches!(step, Ok(Step::Resume));
        if goes_on {
            self.link.start_receiving();
        }
        goes_on
    }

    /// Takes what control and the kernel have for it already, and nothing after that.
    fn stop_receiving(&mut self) -> bool {
        let now = clock::now();
        while self.take_commands(now) {}
        let core = &mut self.core;
        let is_over = self.link.stop_receiving(|path, bytes, segment| {
            core.handle_datagrams(now, path, bytes, segment);
        });
        let core = &mut self.core;
        self.relay.send(|to, slot| core.poll_relay(now, to, slot));
        is_over
    }

    /// Sends what waits, and what other workers handed over before they stopped; whether all of it left.
    fn send_out(&mut self, now: Instant) -> bool {
        let core = &mut self.core;
        while self.relay.receive(|slot| core.handle_relay(now, slot)) {}
        self.core.handle_take_over(now);
        for _ in 0..FREEZE_TURNS {
            let bursts = self.transmit(now);
            // Slots that are on their way come back for what is left.
            if !self.link.wait_sent() {
                return false;
            }
            if bursts == 0 {
                break;
            }
        }
        while let Some(input) = self.core.poll_dtls() {
            self.lane.push(input);
        }
        while let Some(event) = self.core.poll_event() {
            self.tell(event);
        }
        self.outbox.retry();
        true
    }

    fn take_commands(&mut self, now: Instant) -> bool {
        for _ in 0..COMMANDS_PER_TURN {
            let woken_by = self.command.take();
            let Some(command) = woken_by.or_else(|| self.inputs.next_command()) else {
                return false;
            };
            match &command {
                Command::Open(spec) => _ = self.sessions.insert(spec.session),
                Command::Close { session } => _ = self.sessions.remove(session),
                _ => {}
            }
            self.core.handle_command(now, command);
        }
        true
    }

    /// Sends bursts, at most as many as a turn may; how many.
    fn transmit(&mut self, now: Instant) -> usize {
        let mut bursts = 0;
        while bursts < BURSTS_PER_TURN {
            // Without a slot the engine keeps what it has, and a completion wakes us.
            let Some(slot) = self.link.slot() else {
                break;
            };
            let Some(transmit) = self.core.poll_transmit(now, slot) else {
                break;
            };
            match transmit.path.transport {
                Transport::Udp => self.link.send(transmit),
                Transport::Tcp(connection) => {
                    let written = slot.get(..transmit.len).unwrap_or_default();
                    self.tcp.send(connection, written, transmit.segment);
                }
            }
            bursts += 1;
        }
        self.link.flush();
        bursts
    }

    fn tell(&mut self, mut event: Event) {
        match &mut event {
            Event::Closed { session, .. } => _ = self.sessions.remove(session),
            Event::Report(report) => {
                let counters = &mut report.counters;
                self.link.counts().merge_into(counters);
                self.tcp.counts().merge_into(counters);
                counters.command_stale += self.inputs.stale;
                counters.drop_event_queue_full += self.outbox.lost;
                counters.drop_feed_queue_full += self.feeds.lost;
                counters.drop_dtls_queue_full += self.lane.lost;
                counters.drop_receive_buffer_full += self.link.receive_drops();
                report.slowest_turn_us = self.meter.take_slowest_turn_us();
            }
            Event::Connected { .. }
            | Event::PathChanged { .. }
            | Event::TrackStarted { .. }
            | Event::Data { .. }
            | Event::Speaking { .. }
            | Event::Chosen { .. }
            | Event::Downlink { .. }
            | Event::WorkerRestarted => {}
        }
        self.outbox.push(event);
    }
}
