//! Two workers, the time they are told, and everybody who is or was there.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::Seen;
use super::client::Client;
use super::stream::Stream;
use super::track::{Delivered, Track};
use crate::command::Command;
use crate::counters::Counters;
use crate::engine::{Engine, EngineConfig};
use crate::event::Event;
use crate::id::{SessionId, TrackId};
use crate::limits::{BURST_BYTES_MAX, EGRESS_HOLD_MAX};
use crate::relay::RelaySlot;
use crate::sim::script::Script;
use crate::transmit::Path;

/// Workers, and clients who are there at once.
pub(super) const WORKERS: usize = 2;
pub(super) const SEATS: usize = 6;

/// Sessions that an engine takes: fewer than there are seats.
pub(super) const SESSIONS_MAX: usize = 5;

/// Steps at one instant that can only be a loop.
const STEPS_MAX: usize = 20_000;

/// How often a driver whose socket is full asks at one instant, and how long it waits then.
const STUCK_MAX: usize = 20;
const STUCK: Duration = Duration::from_millis(20);

/// Everything.
pub(super) struct World {
    pub(super) engines: [Engine; WORKERS],
    pub(super) now: Instant,
    pub(super) clients: Vec<Client>,
    /// Who of them is there.
    pub(super) seats: [Option<usize>; SEATS],
    pub(super) tracks: BTreeMap<TrackId, Track>,
    /// What the engines were given of each source.
    pub(super) delivered: Delivered,
    /// How many packets came late to streams that were sent nothing then.
    pub(super) unsent: u64,
    /// Packets that were held back: whose, of which source and index, and what.
    pub(super) late: Vec<(usize, u32, u64, Vec<u8>)>,
    /// Everybody who ever sent a connectivity check from an address, right or wrong.
    pub(super) greeted: HashSet<Path>,
    pub(super) counters: [Counters; WORKERS],
    pub(super) seen: Seen,
    /// Whether nobody sends what the model cannot follow, so that all numbers can be looked at.
    pub(super) is_strict: bool,
    /// Sends that are taken in one go.
    pub(super) sends_max: usize,
    /// Whether workers do not hear each other.
    pub(super) is_relay_stuck: bool,
    /// The next id or SSRC that nothing has.
    pub(super) next: u32,
    slot: Box<[u8]>,
    relay_slot: Box<RelaySlot>,
}

impl World {
    /// Nobody is there. The byte says how many voices are forwarded, and whether the model can follow.
    #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
    pub(super) fn new(choices: u8) -> World {
        let now = Instant::now();
        let config = EngineConfig {
            epoch: (now, UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
            seed: 42,
            sessions_max: SESSIONS_MAX,
            publisher_bitrate_bps_max: 2_500_000,
            hold_max: EGRESS_HOLD_MAX,
            audio_speakers: usize::from(choices % 3),
        };
        World {
            engines: [Engine::new(config.clone()), Engine::new(config)],
            now,
            clients: Vec::new(),
            seats: [None; SEATS],
            tracks: BTreeMap::new(),
            delivered: Delivered::default(),
            unsent: 0,
            late: Vec::new(),
            greeted: HashSet::new(),
            counters: [Counters::default(), Counters::default()],
            seen: Seen::default(),
            is_strict: choices & 0x80 != 0,
            sends_max: usize::MAX,
            is_relay_stuck: false,
            next: 1,
            slot: vec![0; BURST_BYTES_MAX].into_boxed_slice(),
            relay_slot: RelaySlot::new(),
        }
    }

    /// A number that nothing has.
    pub(super) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Somebody who is there.
    pub(super) fn somebody(&self, script: &mut Script<'_>) -> Option<usize> {
        let here: Vec<usize> = self.seats.iter().flatten().copied().collect();
        script.choose(&here)
    }

    /// A track that is there.
    pub(super) fn some_track(&self, script: &mut Script<'_>) -> Option<TrackId> {
        let here = self.tracks.values().filter(|track| track.is_here);
        let here: Vec<TrackId> = here.map(|track| track.id).collect();
        script.choose(&here)
    }

    /// A stream that somebody is sent: the client, and its SSRC.
    pub(super) fn some_stream(&self, script: &mut Script<'_>) -> Option<(usize, u32)> {
        let here = self.seats.iter().flatten().copied();
        let streams: Vec<(usize, u32)> = here
            .flat_map(|client| self.streams_of(client).map(move |ssrc| (client, ssrc)))
            .collect();
        script.choose(&streams)
    }

    /// The client in that place of the list.
    pub(super) fn client(&mut self, index: usize) -> &mut Client {
        &mut self.clients[index]
    }

    /// A client's stream.
    pub(super) fn stream(&mut self, (client, ssrc): (usize, u32)) -> Option<&mut Stream> {
        self.clients.get_mut(client)?.streams.get_mut(&ssrc)
    }

    fn streams_of(&self, client: usize) -> impl Iterator<Item = u32> {
        let streams = self.clients.get(client).map(|client| &client.streams);
        let here = streams
            .into_iter()
            .flatten()
            .filter(|(_, stream)| stream.is_here);
        here.map(|(ssrc, _)| *ssrc)
    }

    /// Tells a worker to do something.
    pub(super) fn command(&mut self, worker: usize, command: Command) {
        self.engines[worker].handle_command(self.now, command);
    }

    /// A datagram arrives.
    pub(super) fn arrive(&mut self, worker: usize, from: Path, datagram: &[u8]) {
        let mut bytes = datagram.to_vec();
        let len = bytes.len();
        self.engines[worker].handle_datagrams(self.now, from, &mut bytes, len);
    }

    /// Time passes, in so many microseconds for each of a byte.
    pub(super) fn pass_time(&mut self, script: &mut Script<'_>, unit_us: u64) {
        let time = Duration::from_micros(u64::from(script.byte()) * unit_us);
        self.advance(time);
    }

    /// Time passes, and what is due is done when it is.
    pub(super) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        self.settle();
        while let Some(due) = self.due().filter(|due| *due <= end) {
            if due > self.now {
                (self.now, steps) = (due, 0);
            }
            steps += 1;
            assert!(steps < STEPS_MAX, "time stands still");
            if self.sends_max < usize::MAX && steps >= STUCK_MAX {
                // What is due cannot leave: a driver waits for its socket, and time goes on.
                (self.now, steps) = (self.now + STUCK, 0);
                if self.now >= end {
                    break;
                }
            }
            for engine in &mut self.engines {
                if engine.poll_timeout().is_some_and(|due| due <= self.now) {
                    engine.handle_timeout(self.now);
                }
            }
            self.settle();
        }
        self.now = end;
    }

    fn due(&self) -> Option<Instant> {
        let due = self.engines.iter().filter_map(Engine::poll_timeout);
        due.min()
    }

    /// Takes out of the engines what there is, and puts it where it goes.
    pub(super) fn settle(&mut self) {
        let mut slot = std::mem::take(&mut self.slot);
        for _ in 0..STEPS_MAX {
            let mut is_quiet = true;
            for worker in 0..WORKERS {
                is_quiet &= !self.relay(worker);
                self.drain(worker, &mut slot);
            }
            if is_quiet {
                self.slot = slot;
                return;
            }
        }
        panic!("the workers turn in circles");
    }

    /// Hands the other worker what this one has for it. Whether there was anything.
    fn relay(&mut self, worker: usize) -> bool {
        let [first, second] = &mut self.engines;
        let (from, to) = if worker == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let mut moved = false;
        while !self.is_relay_stuck && from.poll_relay(self.now, 1 - worker, &mut self.relay_slot) {
            to.handle_relay(self.now, &self.relay_slot);
            moved = true;
        }
        moved
    }

    fn drain(&mut self, worker: usize, slot: &mut [u8]) {
        for _ in 0..self.sends_max.min(STEPS_MAX) {
            let Some(transmit) = self.engines[worker].poll_transmit(self.now, slot) else {
                break;
            };
            let bytes = slot.get(..transmit.len).expect("a burst fits its slot");
            for datagram in bytes.chunks(transmit.segment.max(1)) {
                self.receive(worker, transmit.path, datagram);
            }
        }
        while self.engines[worker].poll_dtls().is_some() {}
        while let Some(event) = self.engines[worker].poll_event() {
            match event {
                Event::Report(report) => self.counters[worker] = report.counters,
                Event::Closed { session, .. } => self.forget(worker, session),
                Event::Connected { .. }
                | Event::PathChanged { .. }
                | Event::TrackStarted { .. }
                | Event::Speaking { .. }
                | Event::Chosen { .. }
                | Event::Downlink { .. }
                | Event::Data { .. }
                | Event::WorkerRestarted => {}
            }
        }
    }

    /// A session ended by itself: what hung on it did too.
    fn forget(&mut self, worker: usize, session: SessionId) {
        let of = |client: &Client| client.session == session && client.worker == worker;
        if let Some(index) = self.clients.iter().position(of) {
            self.part(index);
        }
    }
}
