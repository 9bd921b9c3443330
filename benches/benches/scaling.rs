//! What do two workers do that one does not, and what does a packet cost as there is more of everything?
//!
//! `cargo bench -p benches --bench scaling`, with `-- --json` for programs.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, UNIX_EPOCH};

use benches::call::{self, Load};
use benches::cpu::{self, median};
use benches::crowd::{Crowd, Placement, Round};
use benches::publisher::Publisher;
use benches::table::{Cell, Table};
use dataplane::counters::Counters;
use dataplane::engine::{Engine, EngineConfig};
use dataplane::limits::BURST_BYTES_MAX;
use dataplane::transmit::Path;
use mimalloc::MiMalloc;

/// The allocator of the program `millrace`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How often each set of workers is measured, in turn with the others.
const ROUNDS: usize = 7;

/// How long each time.
const ROUND: Duration = Duration::from_millis(600);

/// What is not measured: caches, the first packets of a stream.
const WARM_UP: Duration = Duration::from_millis(300);

/// Subscribers of the largest room.
const LARGEST_ROOM: usize = 10_000;

/// How long a round of it takes: five frames.
const ROUND_OF_MANY: Duration = Duration::from_secs(1);

/// Rounds of the engine alone, and packets that leave in each, about.
const ENGINE_ROUNDS: usize = 9;
const ENGINE_ROUND_PACKETS: usize = 40_000;

/// One way to serve a scene, and what its rounds found.
struct Served {
    crowd: Crowd,
    rounds: Vec<Round>,
}

impl Served {
    fn start(load: Load, rooms: usize, placement: Placement) -> io::Result<Served> {
        let mut crowd = Crowd::start(load, rooms, placement)?;
        crowd.round(WARM_UP);
        Ok(Served {
            crowd,
            rounds: Vec::new(),
        })
    }

    fn ns_per_packet(&self, worker: usize) -> Vec<f64> {
        let rounds = self.rounds.iter();
        rounds.map(|round| round.ns_per_packet(worker)).collect()
    }

    fn loss(&self) -> f64 {
        let expected: u64 = self.rounds.iter().map(|round| round.expected).sum();
        let received: u64 = self.rounds.iter().flat_map(|round| &round.received).sum();
        expected.saturating_sub(received) as f64 / expected.max(1) as f64
    }
}

/// Two workers beside one worker on each of the same cores, which has half of what those two have.
fn measure(table: &Table, load: Load, rooms: usize, spread: Placement) -> io::Result<()> {
    let mut alone = [cpu::LOAD_CORE, cpu::MEASURED_CORE]
        .into_iter()
        .map(|core| Served::start(load, rooms, Placement::One(core)))
        .collect::<io::Result<Vec<_>>>()?;
    let (scene, twice_load, twice_rooms) = match spread {
        Placement::Subscribers => {
            let subscribers = 2 * load.subscribers;
            (
                "one room",
                Load {
                    subscribers,
                    ..load
                },
                rooms,
            )
        }
        Placement::Rooms | Placement::One(_) => ("rooms", load, 2 * rooms),
    };
    let mut both = Served::start(twice_load, twice_rooms, spread)?;
    let before = both.crowd.counters()?;
    for _ in 0..ROUNDS {
        for served in alone.iter_mut().chain([&mut both]) {
            served.crowd.refresh()?;
            let round = served.crowd.round(ROUND);
            served.rounds.push(round);
        }
    }
    let after = both.crowd.counters()?;
    let counted = |of: fn(&Counters) -> u64| -> u64 {
        let pairs = after.iter().zip(&before);
        pairs.map(|(after, before)| of(after) - of(before)).sum()
    };
    let ones = [0, 1].map(|core| alone[core].ns_per_packet(0));
    let twos = [0, 1].map(|worker| both.ns_per_packet(worker));
    // Packets that a core can forward in a nanosecond, together, as a share of what two workers
    // with nothing to do with each other could.
    let mut shares: Vec<f64> = (0..ROUNDS)
        .map(|n| (1.0 / twos[0][n] + 1.0 / twos[1][n]) / (1.0 / ones[0][n] + 1.0 / ones[1][n]))
        .collect();
    let cell = |values: &[f64]| Cell::Value(median(&mut values.to_vec()), 0);
    table.row(&[
        Cell::text(scene),
        Cell::Count(twice_rooms as u64),
        Cell::Count(twice_load.subscribers as u64),
        cell(&ones[0]),
        cell(&ones[1]),
        cell(&twos[0]),
        cell(&twos[1]),
        Cell::Value(median(&mut shares), 2),
        Cell::Count(counted(|counters| counters.relay_sent)),
        Cell::Count(counted(|counters| {
            counters.drop_relay_behind + counters.drop_relay_unknown
        })),
        Cell::Value(alone.iter().map(Served::loss).fold(0.0, f64::max), 5),
        Cell::Value(both.loss(), 5),
    ]);
    Ok(())
}

/// An engine with rooms, without sockets.
struct Rooms {
    engine: Engine,
    now: Instant,
    slot: Vec<u8>,
    publishers: Vec<Publisher>,
    load: Load,
    packets: u64,
}

impl Rooms {
    #[expect(clippy::disallowed_methods, reason = "a beginning for simulated time")]
    fn new(rooms: usize, load: Load) -> Rooms {
        let now = Instant::now();
        let engine = Engine::new(EngineConfig {
            epoch: (now, UNIX_EPOCH + Duration::from_secs(1_000_000)),
            seed: 42,
            sessions_max: rooms * (load.subscribers + 1),
            publisher_bitrate_bps_max: 1_000_000_000_000,
            hold_max: Duration::ZERO,
            audio_speakers: 0,
        });
        let mut scene = Rooms {
            engine,
            now,
            slot: vec![0; BURST_BYTES_MAX],
            publishers: (0..rooms).map(|_| Publisher::new(load)).collect(),
            load,
            packets: 0,
        };
        for client in 0..rooms * (load.subscribers + 1) {
            scene.engine.handle_command(now, call::open(client));
            scene.check(client);
            let connect = benches::crowd::connect(client);
            scene.engine.handle_command(now, connect);
        }
        for room in 0..rooms {
            for command in call::streams(&load) {
                let base = room * (load.subscribers + 1);
                let command = benches::crowd::moved(command, room, base);
                scene.engine.handle_command(now, command);
            }
        }
        scene.drain();
        scene
    }

    fn check(&mut self, client: usize) {
        let mut check = call::check(client);
        let len = check.len();
        self.engine
            .handle_datagrams(self.now, path(client), &mut check, len);
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.engine.poll_transmit(self.now, &mut self.slot) {
            if dataplane::wire::classify(&self.slot) == Some(dataplane::wire::Protocol::Rtp) {
                self.packets += transmit.segments() as u64;
            }
        }
        while self.engine.poll_dtls().is_some() {}
        while self.engine.poll_event().is_some() {}
    }

    /// CPU nanoseconds for each packet of `bursts` bursts in every room.
    fn round(&mut self, bursts: usize) -> f64 {
        let size = self.load.subscribers + 1;
        for client in 0..self.publishers.len() * size {
            self.check(client);
        }
        self.drain();
        self.packets = 0;
        let between = Duration::from_nanos(1_000_000_000 / self.load.bursts_per_second);
        let (mut run, mut ns) = (Vec::new(), 0);
        for _ in 0..bursts {
            for room in 0..self.publishers.len() {
                let segment = self.publishers[room].write_burst(0, &mut run);
                self.now += between / self.publishers.len() as u32;
                let start = cpu::of_this_thread_ns();
                self.engine
                    .handle_datagrams(self.now, path(room * size), &mut run, segment);
                if self
                    .engine
                    .poll_timeout()
                    .is_some_and(|due| due <= self.now)
                {
                    self.engine.handle_timeout(self.now);
                }
                self.drain();
                ns += cpu::of_this_thread_ns() - start;
            }
        }
        ns as f64 / self.packets.max(1) as f64
    }
}

fn path(client: usize) -> Path {
    let [a, b, c, d] = (0x0a00_0000 + client as u32).to_be_bytes();
    Path::udp(SocketAddr::from(([a, b, c, d], 5_000)))
}

fn growth(table: &Table, rooms: usize, subscribers: usize) {
    let load = Load::video(subscribers, 10, 30);
    let mut scene = Rooms::new(rooms, load);
    let bursts = ENGINE_ROUND_PACKETS / (rooms * subscribers * load.burst);
    let bursts = bursts.clamp(1, 200);
    scene.round(bursts);
    let mut times: Vec<f64> = (0..ENGINE_ROUNDS).map(|_| scene.round(bursts)).collect();
    table.row(&[
        Cell::Count(rooms as u64),
        Cell::Count(subscribers as u64),
        Cell::Count((rooms * subscribers) as u64),
        Cell::Value(median(&mut times), 0),
    ]);
}

/// One publisher and as many subscribers as a node takes, on both workers.
fn largest_room() -> io::Result<()> {
    let table = Table::new(
        "largest room",
        "The largest room, on two workers, CPU ns per forwarded packet of each worker's thread",
        &[
            "subscribers",
            "packets_per_second",
            "worker_0",
            "worker_1",
            "left_out_as_late",
            "loss",
        ],
    );
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if open_files.is_some_and(|most| most < LARGEST_ROOM as u64 + 100) {
        println!(
            "left out: it needs more open files (ulimit -n {})",
            LARGEST_ROOM + 100
        );
        return Ok(());
    }
    let load = Load::video(LARGEST_ROOM, 4, 5);
    let mut served = Served::start(load, 1, Placement::Subscribers)?;
    let before = served.crowd.counters()?;
    for _ in 0..ROUNDS {
        served.crowd.refresh()?;
        let round = served.crowd.round(ROUND_OF_MANY);
        served.rounds.push(round);
    }
    let after = served.crowd.counters()?;
    let late = |all: &[Counters]| all.iter().map(|one| one.drop_late_video).sum::<u64>();
    let expected: u64 = served.rounds.iter().map(|round| round.expected).sum();
    let left_out = (late(&after) - late(&before)) as f64 / expected.max(1) as f64;
    let packets_per_second = load.bursts_per_second * (load.burst * load.subscribers) as u64;
    let ns = |worker| Cell::Value(median(&mut served.ns_per_packet(worker)), 0);
    table.row(&[
        Cell::Count(load.subscribers as u64),
        Cell::Count(packets_per_second),
        ns(0),
        ns(1),
        Cell::Value(left_out, 5),
        Cell::Value(served.loss(), 5),
    ]);
    Ok(())
}

fn main() -> io::Result<()> {
    cpu::pin(cpu::LOAD_CORE);
    let table = Table::new(
        "scaling",
        "Two workers beside one, CPU ns per forwarded packet of each worker's thread",
        &[
            "scene",
            "rooms",
            "subscribers_per_room",
            "one_on_core_0",
            "one_on_core_1",
            "worker_0_of_two",
            "worker_1_of_two",
            "share_of_linear",
            "relayed",
            "relay_drops",
            "loss_of_one",
            "loss_of_two",
        ],
    );
    let rooms = Load::video(25, 10, 100);
    measure(&table, rooms, 4, Placement::Rooms)?;
    for subscribers in [10, 50, 200] {
        let room = Load::video(subscribers, 10, 100);
        measure(&table, room, 1, Placement::Subscribers)?;
    }
    largest_room()?;
    cpu::pin(cpu::MEASURED_CORE);
    let table = Table::new(
        "growth",
        "As there is more of everything: the engine without sockets, CPU ns per forwarded packet",
        &[
            "rooms",
            "subscribers_per_room",
            "subscribers",
            "ns_per_packet",
        ],
    );
    for (rooms, subscribers) in [
        (1, 10),
        (1, 100),
        (1, 1_000),
        (1, 10_000),
        (10, 10),
        (100, 10),
        (1_000, 10),
        (10, 100),
        (100, 100),
    ] {
        growth(&table, rooms, subscribers);
    }
    Ok(())
}
