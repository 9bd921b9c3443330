//! Rooms on the real dataplane with one worker or two, and their clients on real sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dataplane::command::{Command, FeedSpec, SrtpKeys};
use dataplane::counters::Counters;
use dataplane::driver::{Dataplane, DataplaneConfig, DriverChoice, Feeder};
use dataplane::event::Event;
use dataplane::id::{SenderId, SessionId, TrackId};
use dataplane::limits::EGRESS_HOLD_DEFAULT;
use dataplane::wire::{Protocol, classify};
use tokio::sync::mpsc::Receiver;

use crate::call::{self, Load, PROFILE, master_key};
use crate::cpu;
use crate::publisher::Publisher;
use crate::socket::{Socket, pause, wait_for};

/// Ids of a room's streams are so far from those of the next room.
const STRIDE: u64 = 1 << 20;

/// How often something is looked for, and how often at most.
const STEP: Duration = Duration::from_millis(1);
const STEPS: usize = 10_000;

/// Clients whose checks are on their way at once.
const CHECKS: usize = 100;

/// After the last packet that is expected did not come for this long, it is lost.
const LOST_AFTER: Duration = Duration::from_millis(100);

/// Who is where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// One worker, on this core.
    One(usize),
    /// Two workers on cores 0 and 1; rooms in turn.
    Rooms,
    /// Two workers on cores 0 and 1; the subscribers of each room in turn.
    Subscribers,
}

impl Placement {
    fn cores(self) -> Vec<usize> {
        match self {
            Placement::One(core) => vec![core],
            Placement::Rooms | Placement::Subscribers => vec![cpu::LOAD_CORE, cpu::MEASURED_CORE],
        }
    }

    fn publisher(self, room: usize) -> usize {
        match self {
            Placement::One(_) => 0,
            Placement::Rooms | Placement::Subscribers => room % 2,
        }
    }

    fn subscriber(self, room: usize, number: usize) -> usize {
        match self {
            Placement::One(_) => 0,
            Placement::Rooms => room % 2,
            Placement::Subscribers => (room + number) % 2,
        }
    }
}

/// Rooms with a publisher and subscribers each, and the workers that serve them.
#[derive(Debug)]
pub struct Crowd {
    load: Load,
    placement: Placement,
    publishers: Vec<(Publisher, Socket)>,
    /// Room by room, with the worker of each.
    subscribers: Vec<(Socket, usize)>,
    addresses: Vec<SocketAddr>,
    threads: Vec<cpu::Thread>,
    dataplane: Dataplane,
    events: Receiver<(usize, Event)>,
    /// Where the publishers are no clients but feeds: the way to the workers.
    feeder: Option<Feeder>,
}

/// Where publishers' packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From clients, as SRTP by their sockets.
    Clients,
    /// From a thread of the process, in the clear, as cameras' do.
    Feeds,
}

/// What a round found, by worker.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// CPU time of the worker's thread.
    pub cpu_ns: Vec<u64>,
    /// Packets that its subscribers got.
    pub received: Vec<u64>,
    /// Packets that all subscribers should have got.
    pub expected: u64,
    /// CPU time of the thread that hands feeds' packets over, for that only.
    pub handing_ns: u64,
}

impl Round {
    /// CPU time of a worker for each packet that its subscribers got.
    #[must_use]
    pub fn ns_per_packet(&self, worker: usize) -> f64 {
        let of = |values: &[u64]| values.get(worker).copied().unwrap_or(0);
        of(&self.cpu_ns) as f64 / of(&self.received).max(1) as f64
    }
}

impl Crowd {
    /// Starts the workers and connects everybody.
    ///
    /// # Errors
    /// What the system or the dataplane says; a client that is not answered.
    pub fn start(load: Load, rooms: usize, placement: Placement) -> io::Result<Crowd> {
        Crowd::start_from(Origin::Clients, load, rooms, placement)
    }

    /// The same with publishers of this kind.
    ///
    /// # Errors
    /// As [`Crowd::start`].
    pub fn start_from(
        origin: Origin,
        load: Load,
        rooms: usize,
        placement: Placement,
    ) -> io::Result<Crowd> {
        let cores = placement.cores();
        let names: Vec<String> = (0..cores.len()).map(|n| format!("worker-{n}")).collect();
        let before: Vec<_> = names.iter().map(|name| cpu::Thread::named(name)).collect();
        // Workers are pinned to the cores that their starter may use, in order.
        cpu::pin_to(&cores);
        let started = Dataplane::start(DataplaneConfig {
            media: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            workers: cores.len(),
            driver: DriverChoice::Auto,
            sessions_max: 10_000,
            publisher_bitrate_bps_max: 1_000_000_000_000,
            egress_hold: EGRESS_HOLD_DEFAULT,
            audio_speakers: 0,
            dtls_threads: 1,
            pin: true,
        });
        cpu::pin(cpu::LOAD_CORE);
        let (dataplane, events) = started.map_err(io::Error::other)?;
        let threads = names.iter().zip(&before);
        let threads: Option<Vec<_>> = threads
            .map(|(name, before)| cpu::Thread::new_since(name, before))
            .collect();
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let addresses = dataplane.workers().iter().map(|info| address(info.port));
        let publisher = |_| Ok((Publisher::new(load), Socket::bind()?));
        let subscriber = |n: usize| {
            let worker = placement.subscriber(n / load.subscribers, n % load.subscribers);
            Ok((Socket::bind()?, worker))
        };
        let mut crowd = Crowd {
            load,
            placement,
            publishers: (0..rooms).map(publisher).collect::<io::Result<_>>()?,
            subscribers: (0..rooms * load.subscribers)
                .map(subscriber)
                .collect::<io::Result<_>>()?,
            addresses: addresses.collect(),
            threads: threads.ok_or_else(|| io::Error::other("a worker has no thread"))?,
            feeder: (origin == Origin::Feeds).then(|| dataplane.feeder()),
            dataplane,
            events,
        };
        crowd.set_up()?;
        Ok(crowd)
    }

    /// Every client's number, worker and socket.
    fn clients(&self) -> impl Iterator<Item = (usize, usize, &Socket)> {
        let size = self.load.subscribers;
        let publishers = self.publishers.iter().enumerate();
        let publishers = publishers.filter(|_| self.feeder.is_none());
        let publishers = publishers.map(move |(room, (_, socket))| {
            (room * (size + 1), self.placement.publisher(room), socket)
        });
        let subscribers = self.subscribers.iter().enumerate();
        let subscribers = subscribers.map(move |(n, (socket, worker))| {
            (n / size * (size + 1) + 1 + n % size, *worker, socket)
        });
        publishers.chain(subscribers)
    }

    fn set_up(&mut self) -> io::Result<()> {
        for (client, worker, _) in self.clients() {
            self.command(worker, call::open(client))?;
        }
        self.refresh()?;
        for (client, worker, _) in self.clients() {
            self.command(worker, connect(client))?;
        }
        for room in 0..self.publishers.len() {
            if self.feeder.is_some() {
                let spec = FeedSpec {
                    session: publisher_session(&self.load, room),
                    cname: "camera".to_owned(),
                };
                let home = self.placement.publisher(room);
                self.command(home, Command::OpenFeed(Box::new(spec)))?;
            }
            self.set_up_room(room)?;
        }
        let everybody = self.clients().count();
        let mut connected = 0;
        for _ in 0..STEPS {
            while let Ok((_, event)) = self.events.try_recv() {
                connected += usize::from(matches!(event, Event::Connected { .. }));
            }
            if connected == everybody {
                return Ok(());
            }
            pause(STEP);
        }
        Err(io::Error::other("not every session connected"))
    }

    /// What control would send for a room, tracks that are heard on both workers included.
    fn set_up_room(&self, room: usize) -> io::Result<()> {
        let home = self.placement.publisher(room);
        let base = room * (self.load.subscribers + 1);
        for command in call::streams(&self.load) {
            match moved(command, room, base) {
                Command::Publish { session, track } => {
                    let (id, copy) = (track.track, track.clone());
                    self.command(home, Command::Publish { session, track })?;
                    if self.placement == Placement::Subscribers {
                        let to = 1 - home;
                        self.command(home, Command::Export { track: id, to })?;
                        let (track, from) = (copy, home);
                        self.command(to, Command::Import { track, from })?;
                    }
                }
                Command::AddSender { session, sender } => {
                    let worker = self.worker_of(room, session);
                    self.command(worker, Command::AddSender { session, sender })?;
                }
                Command::Feed { sender, source } => {
                    // The session has no place in it; who does not have the sender ignores it.
                    for worker in 0..self.addresses.len() {
                        let source = source.clone();
                        self.command(worker, Command::Feed { sender, source })?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn worker_of(&self, room: usize, session: SessionId) -> usize {
        let client = session.0 as usize % (self.load.subscribers + 1);
        self.placement.subscriber(room, client.saturating_sub(1))
    }

    fn command(&self, worker: usize, mut command: Command) -> io::Result<()> {
        for _ in 0..STEPS {
            let Err(refused) = self.dataplane.try_command(worker, command) else {
                return Ok(());
            };
            command = *refused.0;
            pause(STEP);
        }
        Err(io::Error::other("the worker takes no commands"))
    }

    /// Renews everybody's consent (RFC 7675), and empties the sockets on the way.
    ///
    /// # Errors
    /// When a client is not answered.
    pub fn refresh(&self) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        let clients: Vec<_> = self.clients().collect();
        for some in clients.chunks(CHECKS) {
            let mut waiting: Vec<_> = some.to_vec();
            for step in 0..STEPS {
                if step % CHECKS == 0 {
                    for (client, worker, socket) in &waiting {
                        let check = call::check(*client);
                        socket
                            .send(self.addresses[*worker], &check, check.len())
                            .ok();
                    }
                }
                pause(STEP);
                waiting.retain(|(_, _, socket)| !is_answered(socket, &mut buffer));
                if waiting.is_empty() {
                    break;
                }
            }
            if !waiting.is_empty() {
                return Err(io::Error::other("a client's check was not answered"));
            }
        }
        Ok(())
    }

    /// What each worker counted since its start, as it next reports.
    ///
    /// # Errors
    /// When one does not report within seconds.
    pub fn counters(&mut self) -> io::Result<Vec<Counters>> {
        while self.events.try_recv().is_ok() {}
        let mut found: Vec<Option<Counters>> = vec![None; self.threads.len()];
        for _ in 0..STEPS {
            while let Ok((worker, event)) = self.events.try_recv() {
                if let (Event::Report(report), Some(place)) = (event, found.get_mut(worker)) {
                    *place = Some(report.counters);
                }
            }
            if found.iter().all(Option::is_some) {
                return Ok(found.into_iter().flatten().collect());
            }
            pause(STEP);
        }
        Err(io::Error::other("a worker sent no report"))
    }

    /// Publishes in every room for `duration`, and returns when every packet has come or is lost.
    pub fn round(&mut self, duration: Duration) -> Round {
        let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
        let before: Vec<u64> = self.threads.iter().map(cpu::Thread::cpu_ns).collect();
        let subscribers = &self.subscribers;
        let rooms = &mut self.publishers;
        let to: Vec<SocketAddr> = (0..rooms.len())
            .filter_map(|room| self.addresses.get(self.placement.publisher(room)).copied())
            .collect();
        let workers = self.addresses.len();
        let (load, placement) = (self.load, self.placement);
        let mut handing_ns = 0;
        let feeder = &mut self.feeder;
        let (expected, by_worker) = std::thread::scope(|scope| {
            let receiving = scope.spawn(|| receive_all(subscribers, workers, &received, &stop));
            let mut burst = Vec::new();
            let bursts = publish(&load, rooms.len(), duration, |room| {
                let (publisher, socket) = &mut rooms[room];
                let Some(feeder) = feeder else {
                    let segment = publisher.write_burst(0, &mut burst);
                    // A burst that is not sent shows as loss.
                    socket.send(to[room], &burst, segment).ok();
                    return;
                };
                let segment = publisher.write_plain_burst(&mut burst);
                let begun = cpu::of_this_thread_ns();
                let session = publisher_session(&load, room);
                hand_over(
                    feeder,
                    (placement.publisher(room), session),
                    burst.chunks(segment),
                );
                handing_ns += cpu::of_this_thread_ns() - begun;
            });
            let expected = bursts * (load.burst * load.subscribers) as u64;
            settle(expected, &received);
            stop.store(true, Ordering::Relaxed);
            (expected, receiving.join().unwrap_or_default())
        });
        let after = self.threads.iter().map(cpu::Thread::cpu_ns);
        Round {
            cpu_ns: after
                .zip(before)
                .map(|(after, before)| after - before)
                .collect(),
            received: by_worker,
            expected,
            handing_ns,
        }
    }
}

/// The handshake of a client is done. All send under the key of client 0, which is a publisher's.
pub fn connect(client: usize) -> Command {
    Command::DtlsConnected {
        session: SessionId(client as u64),
        keys: Box::new(SrtpKeys {
            profile: PROFILE,
            receive: master_key(PROFILE, 0),
            send: master_key(PROFILE, client),
        }),
    }
}

/// A command of the first room's call, for another room whose first client has the number `base`.
pub fn moved(command: Command, room: usize, base: usize) -> Command {
    let session = |SessionId(id)| SessionId(id + base as u64);
    let track = |TrackId(id)| TrackId(id + STRIDE * room as u64);
    let sender = |SenderId(id)| SenderId(id + STRIDE * room as u64);
    match command {
        Command::Publish {
            session: id,
            track: mut spec,
        } => {
            spec.track = track(spec.track);
            Command::Publish {
                session: session(id),
                track: spec,
            }
        }
        Command::AddSender {
            session: id,
            sender: mut spec,
        } => {
            spec.sender = sender(spec.sender);
            Command::AddSender {
                session: session(id),
                sender: spec,
            }
        }
        Command::Feed {
            sender: id,
            mut source,
        } => {
            if let Some(feed) = &mut source {
                feed.track = track(feed.track);
            }
            Command::Feed {
                sender: sender(id),
                source,
            }
        }
        other => other,
    }
}

/// The session of a room's publisher: its first client's.
fn publisher_session(load: &Load, room: usize) -> SessionId {
    SessionId((room * (load.subscribers + 1)) as u64)
}

/// Hands a feed's packets to its worker.
#[expect(clippy::disallowed_methods, reason = "they arrive now")]
fn hand_over<'a>(
    feeder: &mut Feeder,
    (worker, session): (usize, SessionId),
    packets: impl Iterator<Item = &'a [u8]>,
) {
    let now = Instant::now();
    for packet in packets {
        // A packet that finds no room shows as loss.
        let _ = feeder.send(worker, session, now, packet);
    }
    feeder.flush();
}

/// Has bursts sent, each room's at its own times, and returns how many.
fn publish(load: &Load, rooms: usize, duration: Duration, mut send: impl FnMut(usize)) -> u64 {
    let start = cpu::wall_ns();
    let per_second = load.bursts_per_second * rooms as u64;
    let bursts = duration.as_nanos() as u64 * per_second / 1_000_000_000;
    for number in 0..bursts {
        let due = start + number * 1_000_000_000 / per_second;
        let now = cpu::wall_ns();
        if due > now {
            pause(Duration::from_nanos(due - now));
        }
        send(number as usize % rooms);
    }
    bursts
}

/// Waits until all has come, or nothing comes any more.
fn settle(expected: u64, received: &AtomicU64) {
    let (mut last, mut since) = (0, cpu::wall_ns());
    loop {
        let now = received.load(Ordering::Relaxed);
        if now >= expected {
            return;
        }
        if now != last {
            (last, since) = (now, cpu::wall_ns());
        } else if u128::from(cpu::wall_ns() - since) > LOST_AFTER.as_nanos() {
            return;
        }
        pause(STEP);
    }
}

/// Receives at all sockets until told to stop, and returns the packets of media by worker.
fn receive_all(
    subscribers: &[(Socket, usize)],
    workers: usize,
    received: &AtomicU64,
    stop: &AtomicBool,
) -> Vec<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut by_worker = vec![0; workers];
    let mut waiting: Vec<_> = subscribers
        .iter()
        .map(|(socket, _)| socket.readable())
        .collect();
    while !stop.load(Ordering::Relaxed) {
        wait_for(&mut waiting, Duration::from_millis(20));
        let readable = waiting.iter().map(|fd| !fd.revents().is_empty());
        let here = readable.zip(subscribers);
        for (_, (socket, worker)) in here.filter(|(readable, _)| *readable) {
            while let Ok(run) = socket.receive(&mut buffer) {
                let packets = buffer[..run.len].chunks(run.segment);
                let media = packets.filter(|packet| classify(packet) == Some(Protocol::Rtp));
                let count = media.count() as u64;
                by_worker[*worker] += count;
                received.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
    by_worker
}

/// Whether the answer to a check is among what waits at the socket.
fn is_answered(socket: &Socket, buffer: &mut [u8]) -> bool {
    let mut found = false;
    while let Ok(run) = socket.receive(buffer) {
        let mut datagrams = buffer[..run.len].chunks(run.segment).map(classify);
        found |= datagrams.any(|protocol| protocol == Some(Protocol::Stun));
    }
    found
}
