//! The engine, its handshakes, its clients and the network between them, under one virtual clock.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::network::{Link, Rng};
use super::peer::{Peer, PublicationCounts};
use super::reception::Reception;
use super::take_over::Indices;
use crate::command::MediaKind;
use crate::counters::Counters;
use crate::dtls::{Associations, Certificate};
use crate::engine::{Engine, EngineConfig};
use crate::event::{DtlsInput, Event};
use crate::id::{SenderId, SessionId, TrackId};
use crate::limits::{BURST_BYTES_MAX, EGRESS_HOLD_MAX};
use crate::load::Load;
use crate::transmit::Path;

/// The engine's address.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), 3478);

/// Steps without time passing that can only be a loop between the parts.
const STEPS_AT_ONE_INSTANT_MAX: u32 = 100_000;

/// What a world is made with.
#[derive(Clone, Copy, Debug)]
pub struct WorldConfig {
    /// Seed of everything random but keys.
    pub seed: u64,
    /// How long the handshake threads take for an input.
    pub handshake_delay: Duration,
    /// Between the reports of a peer.
    pub report_interval: Duration,
    /// How busy the engine is told that it is: a busy one holds packets.
    pub load: Load,
    /// How many voices of the meeting are forwarded; 0 for all.
    pub audio_speakers: usize,
}

impl WorldConfig {
    /// The usual world.
    #[must_use]
    pub fn new(seed: u64) -> WorldConfig {
        WorldConfig {
            seed,
            handshake_delay: Duration::from_micros(600),
            report_interval: Duration::from_secs(1),
            load: Load::default(),
            audio_speakers: 0,
        }
    }
}

/// A peer in the world; never used again after it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeatId(pub(super) usize);

pub(super) struct Seat {
    pub(super) peer: Peer,
    pub(super) session: SessionId,
    pub(super) address: SocketAddr,
    pub(super) up: Link<(SocketAddr, Vec<u8>)>,
    pub(super) down: Link<(SocketAddr, Vec<u8>)>,
    /// What `peer.poll_timeout` said last.
    pub(super) due: Option<Instant>,
    /// A peer that vanished neither sends nor hears.
    pub(super) vanished: bool,
    pub(super) publications: BTreeMap<TrackId, u32>,
    pub(super) receptions: BTreeMap<SenderId, u32>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct TrackInfo {
    pub(super) kind: MediaKind,
}

/// The world.
pub struct World {
    pub(super) config: WorldConfig,
    pub(super) rng: Rng,
    pub(super) epoch: Instant,
    pub(super) now: Instant,
    pub(super) engine: Engine,
    pub(super) associations: Associations,
    /// Inputs that the handshake threads work on.
    pub(super) handshakes: BTreeMap<(Instant, u64), DtlsInput>,
    pub(super) node: Certificate,
    /// One certificate for all peers: making one costs as much as a handshake.
    pub(super) certificate: Certificate,
    pub(super) seats: BTreeMap<SeatId, Seat>,
    pub(super) addresses: HashMap<SocketAddr, SeatId>,
    pub(super) tracks: BTreeMap<TrackId, TrackInfo>,
    pub(super) feeds: BTreeMap<SenderId, (SeatId, TrackId)>,
    pub(super) events: Vec<Event>,
    pub(super) counters: Counters,
    /// Datagrams that the engine sent to where nobody is.
    pub(super) strays: HashMap<SocketAddr, u64>,
    pub(super) numbers: u64,
    pub(super) slot: Box<[u8]>,
    /// Indices of keys that were used, where a test wants to know.
    pub(super) indices: Option<Indices>,
    /// The engine neither reads nor is driven: nobody is there.
    pub(super) is_still: bool,
}

impl World {
    /// A world with an engine and nobody in it.
    ///
    /// # Panics
    ///
    /// When the system gives no randomness for certificates.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
    pub fn new(config: WorldConfig) -> World {
        let epoch = Instant::now();
        let node = Certificate::generate().expect("a simulation's system has randomness");
        let mut engine = Engine::new(EngineConfig {
            epoch: (epoch, UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
            seed: config.seed,
            sessions_max: 1_000,
            publisher_bitrate_bps_max: 5_000_000,
            hold_max: EGRESS_HOLD_MAX,
            audio_speakers: config.audio_speakers,
        });
        engine.handle_load(config.load);
        World {
            rng: Rng::new(config.seed),
            epoch,
            now: epoch,
            engine,
            associations: Associations::new(node.clone(), 1_000),
            handshakes: BTreeMap::new(),
            node,
            certificate: Certificate::generate().expect("a simulation's system has randomness"),
            seats: BTreeMap::new(),
            addresses: HashMap::new(),
            tracks: BTreeMap::new(),
            feeds: BTreeMap::new(),
            events: Vec::new(),
            counters: Counters::default(),
            strays: HashMap::new(),
            numbers: 0,
            slot: vec![0; BURST_BYTES_MAX].into_boxed_slice(),
            indices: None,
            is_still: false,
            config,
        }
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Virtual time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.epoch
    }

    /// Everything the engine told but its reports.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The engine's counters as of its last report.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// DTLS associations that exist.
    #[must_use]
    pub fn associations(&self) -> usize {
        self.associations.len()
    }

    /// When the engine wants to be woken, for those who look for timers left behind.
    #[must_use]
    pub fn engine_timeout(&self) -> Option<Instant> {
        self.engine.poll_timeout()
    }

    /// Somebody sends the engine a datagram, from any address that they like to forge.
    pub fn inject(&mut self, from: SocketAddr, datagram: &[u8]) {
        let mut bytes = datagram.to_vec();
        let len = bytes.len();
        self.engine
            .handle_datagrams(self.now, Path::udp(from), &mut bytes, len);
        self.drive_engine();
    }

    /// Datagrams that the engine sent to an address where nobody is.
    #[must_use]
    pub fn strays(&self, to: SocketAddr) -> u64 {
        self.strays.get(&to).copied().unwrap_or(0)
    }

    /// Where a client is.
    ///
    /// # Panics
    ///
    /// When it left.
    #[must_use]
    pub fn address(&self, seat: SeatId) -> SocketAddr {
        self.seat(seat).address
    }

    /// The session of a client.
    ///
    /// # Panics
    ///
    /// When there is no such client.
    #[must_use]
    pub fn session(&self, seat: SeatId) -> SessionId {
        self.seat(seat).session
    }

    /// The client.
    ///
    /// # Panics
    ///
    /// When it left.
    #[must_use]
    pub fn peer(&self, seat: SeatId) -> &Peer {
        &self.seat(seat).peer
    }

    /// What a client received of a stream.
    ///
    /// # Panics
    ///
    /// When it does not receive it.
    #[must_use]
    pub fn reception(&self, sender: SenderId) -> &Reception {
        let (seat, _) = self.feeds.get(&sender).expect("the sender is fed");
        let state = self.seat(*seat);
        let ssrc = state
            .receptions
            .get(&sender)
            .expect("a fed sender is received");
        state
            .peer
            .reception(*ssrc)
            .expect("a received stream is expected")
    }

    /// What became of a stream that a client sends.
    ///
    /// # Panics
    ///
    /// When the client does not send it.
    #[must_use]
    pub fn publication(&self, seat: SeatId, track: TrackId) -> PublicationCounts {
        let state = self.seat(seat);
        let ssrc = state
            .publications
            .get(&track)
            .expect("the track is the client's");
        state
            .peer
            .publication(*ssrc)
            .expect("a published stream is sent")
    }

    /// Lets virtual time pass, then checks what must always hold.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.assert_sound();
    }

    /// Lets virtual time pass until the condition holds, at most `limit`; whether it held.
    pub fn run_until(&mut self, limit: Duration, held: impl Fn(&World) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if held(self) {
                self.assert_sound();
                return true;
            }
            if !self.step(end) {
                self.assert_sound();
                return held(self);
            }
        }
    }

    /// Time passes and nobody notices: the machine that all of it runs on was asleep.
    pub fn sleep(&mut self, time: Duration) {
        self.now += time;
    }

    /// Lets everybody connect.
    ///
    /// # Panics
    ///
    /// When somebody does not within 10 s.
    pub fn connect_all(&mut self) {
        let all = |world: &World| {
            world
                .seats
                .values()
                .all(|seat| seat.vanished || seat.peer.connected_at().is_some())
        };
        assert!(
            self.run_until(Duration::from_secs(10), all),
            "somebody does not connect"
        );
    }

    /// What must hold in any world: nothing unreadable, nothing that was for somebody else,
    /// nothing damaged, and numbers and timestamps that follow the publisher's.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn assert_sound(&self) {
        for (id, seat) in &self.seats {
            let counts = seat.peer.counts();
            assert_eq!(
                counts.unreadable, 0,
                "{id:?} got what does not decrypt: {counts:?}"
            );
            assert_eq!(
                counts.strangers, 0,
                "{id:?} got a stream it never asked for: {counts:?}"
            );
            for reception in seat.peer.receptions() {
                let (ssrc, counts) = (reception.spec().ssrc, reception.counts());
                let faults = (
                    counts.format_errors,
                    counts.damaged,
                    counts.timestamp_errors,
                );
                assert_eq!(faults, (0, 0, 0), "{id:?} {ssrc:x}: {counts:?}");
            }
        }
    }

    /// What must hold where the network loses, repeats and reorders nothing: every number once.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn assert_lossless(&self) {
        for (id, seat) in &self.seats {
            for reception in seat.peer.receptions() {
                let faults = (reception.lost(), reception.counts().duplicates);
                let ssrc = reception.spec().ssrc;
                assert_eq!(faults, (0, 0), "{id:?} {ssrc:x}: {:?}", reception.counts());
            }
        }
    }

    /// Moves time to whatever is next, at most to `end`; `false` when the end is reached.
    pub(super) fn step(&mut self, end: Instant) -> bool {
        let seats = self.seats.values();
        let own = [
            self.engine.poll_timeout(),
            self.associations.poll_timeout(),
            self.handshakes.first_key_value().map(|((at, _), _)| *at),
        ];
        let is_awake = !self.is_still;
        let due = seats
            .flat_map(|s| {
                [
                    s.due,
                    s.up.poll_timeout().filter(|_| is_awake),
                    s.down.poll_timeout(),
                ]
            })
            .chain(own.map(|due| due.filter(|_| is_awake)))
            .flatten()
            .min();
        let next = due.unwrap_or(end).max(self.now);
        if next >= end {
            self.now = end;
            return false;
        }
        self.now = next;
        for _ in 0..STEPS_AT_ONE_INSTANT_MAX {
            if !self.settle() {
                return true;
            }
        }
        panic!("the world turns in circles at {:?}", self.elapsed());
    }

    /// Does everything that is due now; `false` when there was nothing.
    fn settle(&mut self) -> bool {
        let mut moved = !self.is_still && self.settle_engine();
        let seats: Vec<SeatId> = self.seats.keys().copied().collect();
        for seat in seats {
            moved |= self.drive_peer(seat);
        }
        moved
    }

    fn settle_engine(&mut self) -> bool {
        let now = self.now;
        let mut moved = self.deliver_up();
        while let Some(entry) = self
            .handshakes
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            self.associations.handle_input(now, entry.remove());
            moved = true;
        }
        if self
            .associations
            .poll_timeout()
            .is_some_and(|due| due <= now)
        {
            self.associations.handle_timeout(now);
            moved = true;
        }
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.engine.handle_timeout(now);
            moved = true;
        }
        self.drive_engine();
        moved
    }

    /// Hands the engine what has arrived: equal datagrams of a client as one run, as GRO does.
    fn deliver_up(&mut self) -> bool {
        let (now, engine) = (self.now, &mut self.engine);
        let mut moved = false;
        for seat in self.seats.values_mut() {
            let mut run: Option<(SocketAddr, usize, Vec<u8>)> = None;
            while let Some((from, datagram)) = seat.up.poll_datagram(now) {
                moved = true;
                match &mut run {
                    Some((address, segment, bytes))
                        if *address == from
                            && *segment == datagram.len()
                            && bytes.len() + datagram.len() <= BURST_BYTES_MAX =>
                    {
                        bytes.extend_from_slice(&datagram);
                    }
                    _ => {
                        let next = (from, datagram.len(), datagram);
                        if let Some((from, segment, mut bytes)) = run.replace(next) {
                            engine.handle_datagrams(now, Path::udp(from), &mut bytes, segment);
                        }
                    }
                }
            }
            if let Some((from, segment, mut bytes)) = run {
                engine.handle_datagrams(now, Path::udp(from), &mut bytes, segment);
            }
        }
        moved
    }

    /// Takes everything out of the engine and the handshakes and puts it where it goes.
    pub(super) fn drive_engine(&mut self) {
        let now = self.now;
        loop {
            while let Some(transmit) = self.engine.poll_transmit(now, &mut self.slot) {
                let to = transmit.path.remote;
                let seat = self
                    .addresses
                    .get(&to)
                    .and_then(|seat| self.seats.get_mut(seat));
                let bytes = self
                    .slot
                    .get(..transmit.len)
                    .expect("a burst fits its slot");
                let Some(seat) = seat else {
                    *self.strays.entry(to).or_default() += transmit.segments() as u64;
                    continue;
                };
                if !seat.vanished {
                    for datagram in bytes.chunks(transmit.segment.max(1)) {
                        if let Some(indices) = &mut self.indices {
                            indices.handle_sent(to, datagram);
                        }
                        seat.down
                            .handle_datagram(now, datagram.len(), (to, datagram.to_vec()));
                    }
                }
            }
            while let Some(input) = self.engine.poll_dtls() {
                self.numbers += 1;
                let done_at = now + self.config.handshake_delay;
                self.handshakes.insert((done_at, self.numbers), input);
            }
            while let Some(event) = self.engine.poll_event() {
                match event {
                    Event::Report(report) => self.counters = report.counters,
                    event => self.events.push(event),
                }
            }
            let mut quiet = true;
            while let Some(command) = self.associations.poll_command() {
                self.engine.handle_command(now, command);
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    fn drive_peer(&mut self, seat: SeatId) -> bool {
        let now = self.now;
        let state = self.seat_mut(seat);
        let mut moved = false;
        while let Some((to, datagram)) = state.down.poll_datagram(now) {
            moved = true;
            if !state.vanished && to == state.address {
                state.peer.handle_datagram(now, SERVER, &datagram);
            }
        }
        if state.due.is_some_and(|due| due <= now) {
            state.peer.handle_timeout(now);
            moved = true;
        }
        if moved {
            self.drain_peer(seat);
        }
        moved
    }

    pub(super) fn drain_peer(&mut self, seat: SeatId) {
        let now = self.now;
        let state = self.seat_mut(seat);
        if state.vanished {
            return;
        }
        while let Some(datagram) = state.peer.poll_transmit() {
            state
                .up
                .handle_datagram(now, datagram.len(), (state.address, datagram));
        }
        state.due = state.peer.poll_timeout();
    }

    pub(super) fn seat(&self, seat: SeatId) -> &Seat {
        self.seats.get(&seat).expect("the client is here")
    }

    pub(super) fn seat_mut(&mut self, seat: SeatId) -> &mut Seat {
        self.seats.get_mut(&seat).expect("the client is here")
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("seats", &self.seats.len())
            .finish_non_exhaustive()
    }
}
