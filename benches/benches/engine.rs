//! What does a forwarded packet cost the engine, without sockets? Beside it the floor: the same
//! packets opened and sealed with the same headers, and nothing else.
//!
//! `cargo bench -p benches --bench engine`, with `-- --json` for programs, or `-- --profile` for one
//! scene without its floor, to be run under a profiler.

use std::net::SocketAddr;
use std::time::{Duration, Instant, UNIX_EPOCH};

use benches::allocations::{self, Counting};
use benches::call::{self, Load};
use benches::cpu::{self, median};
use benches::floor::Forwarder;
use benches::publisher::Publisher;
use benches::table::{Cell, Table};
use dataplane::command::MediaKind;
use dataplane::engine::{Engine, EngineConfig};
use dataplane::limits::BURST_BYTES_MAX;
use dataplane::transmit::Path;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 41;

/// Packets that leave in a round, about.
const ROUND_PACKETS: usize = 5_000;

/// Bursts in a round: long enough for the clock, short enough for the sessions' consent.
const ROUND_BURSTS_MIN: usize = 20;
const ROUND_BURSTS_MAX: usize = 500;

/// Rounds, and bursts in each, that find the caches cold: making them so takes far longer.
const COLD_ROUNDS: usize = 11;
const COLD_BURSTS: usize = 20;

/// What is written between two of them: more than a core has of caches.
const SWEEP_BYTES: usize = 32 << 20;
const LINE_BYTES: usize = 64;

/// Rounds under a profiler, where everything takes fifty times as long.
const PROFILE_ROUNDS: usize = 4;

/// An engine with a call, and what came of it.
struct Scene {
    engine: Engine,
    now: Instant,
    slot: Vec<u8>,
    packets: u64,
    sends: u64,
}

impl Scene {
    #[expect(clippy::disallowed_methods, reason = "a beginning for simulated time")]
    fn new(load: &Load) -> Scene {
        let now = Instant::now();
        let engine = Engine::new(EngineConfig {
            epoch: (now, UNIX_EPOCH + Duration::from_secs(1_000_000)),
            seed: 42,
            sessions_max: 1_000,
            publisher_bitrate_bps_max: 2_500_000,
            hold_max: Duration::ZERO,
        });
        let mut scene = Scene {
            engine,
            now,
            slot: vec![0; BURST_BYTES_MAX],
            packets: 0,
            sends: 0,
        };
        for client in 0..=load.subscribers {
            scene.engine.handle_command(now, call::open(client));
            scene.check(client);
            scene.engine.handle_command(now, call::connect(client));
        }
        for command in call::streams(load) {
            scene.engine.handle_command(now, command);
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

    /// A burst arrives, as the driver hands it over; what follows from it leaves.
    fn forward(&mut self, run: &mut [u8], segment: usize) {
        self.engine
            .handle_datagrams(self.now, path(0), run, segment);
        if self
            .engine
            .poll_timeout()
            .is_some_and(|due| due <= self.now)
        {
            self.engine.handle_timeout(self.now);
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.engine.poll_transmit(self.now, &mut self.slot) {
            if transmit.len > transmit.segment || is_media(&self.slot) {
                self.packets += transmit.segments() as u64;
                self.sends += 1;
            }
        }
        while self.engine.poll_dtls().is_some() {}
        while self.engine.poll_event().is_some() {}
    }
}

fn path(client: usize) -> Path {
    let [a, b, c, d] = (0x0a00_0000 + client as u32).to_be_bytes();
    Path::udp(SocketAddr::from(([a, b, c, d], 5_000)))
}

fn is_media(slot: &[u8]) -> bool {
    dataplane::wire::classify(slot) == Some(dataplane::wire::Protocol::Rtp)
}

/// Bursts that were made before they are needed.
struct Bursts {
    publisher: Publisher,
    runs: Vec<Vec<u8>>,
    segment: usize,
}

impl Bursts {
    fn new(load: Load) -> Bursts {
        let count = ROUND_PACKETS / (load.burst * load.subscribers);
        Bursts {
            publisher: Publisher::new(load),
            runs: vec![Vec::new(); count.clamp(ROUND_BURSTS_MIN, ROUND_BURSTS_MAX)],
            segment: 0,
        }
    }

    fn make(&mut self) {
        for run in &mut self.runs {
            self.segment = self.publisher.write_burst(0, run);
        }
    }
}

/// Makes the next bursts, and renews every client's consent.
fn prepare(scene: &mut Scene, bursts: &mut Bursts, load: &Load) {
    bursts.make();
    for client in 0..=load.subscribers {
        scene.check(client);
    }
    scene.drain();
    (scene.packets, scene.sends) = (0, 0);
}

/// What is measured. Never inlined, so that a profiler can be told to look at nothing else.
#[inline(never)]
fn forward_all(scene: &mut Scene, bursts: &mut Bursts, load: &Load) {
    let between = Duration::from_nanos(1_000_000_000 / load.bursts_per_second);
    for run in &mut bursts.runs {
        scene.now += between;
        scene.forward(run, bursts.segment);
    }
}

/// What other programs do to the caches while a worker sleeps between two frames.
struct Sweep {
    bytes: Vec<u64>,
}

impl Sweep {
    fn new() -> Sweep {
        Sweep {
            bytes: vec![0; SWEEP_BYTES / size_of::<u64>()],
        }
    }

    fn sweep(&mut self) {
        for word in self.bytes.iter_mut().step_by(LINE_BYTES / size_of::<u64>()) {
            *word = word.wrapping_add(1);
        }
        std::hint::black_box(&mut self.bytes);
    }
}

/// One round of the engine, and one of the floor, each burst of which finds the caches cold: CPU
/// nanoseconds.
fn cold_rounds(
    scene: &mut Scene,
    floor: &mut Forwarder,
    bursts: &mut [Bursts; 2],
    load: &Load,
    sweep: &mut Sweep,
) -> [u64; 2] {
    let [ours, theirs] = bursts;
    prepare(scene, ours, load);
    theirs.make();
    let between = Duration::from_nanos(1_000_000_000 / load.bursts_per_second);
    let mut ns = [0; 2];
    for (run, other) in ours.runs.iter_mut().zip(&theirs.runs).take(COLD_BURSTS) {
        sweep.sweep();
        scene.now += between;
        let start = cpu::of_this_thread_ns();
        scene.forward(run, ours.segment);
        ns[0] += cpu::of_this_thread_ns() - start;
        sweep.sweep();
        let start = cpu::of_this_thread_ns();
        floor.forward(other, theirs.segment, |_, burst, _| {
            std::hint::black_box(burst);
        });
        ns[1] += cpu::of_this_thread_ns() - start;
    }
    ns
}

fn measure_cold(table: &Table, load: Load) {
    let (mut scene, mut floor) = (Scene::new(&load), Forwarder::new(&load));
    let mut bursts = [Bursts::new(load), Bursts::new(load)];
    let mut sweep = Sweep::new();
    let (mut ours, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..COLD_ROUNDS {
        let ns = cold_rounds(&mut scene, &mut floor, &mut bursts, &load, &mut sweep);
        let [ns, floor_ns] = ns.map(|ns| ns as f64 / scene.packets as f64);
        ours.push(ns);
        floors.push(floor_ns);
        ratios.push(ns / floor_ns);
    }
    table.row(&[
        Cell::text(kind(&load)),
        Cell::Count(load.subscribers as u64),
        Cell::Count(load.burst as u64),
        Cell::Count(load.payload as u64),
        Cell::Value(median(&mut ours), 0),
        Cell::Value(median(&mut floors), 0),
        Cell::Value(median(&mut ratios), 2),
    ]);
}

/// One round of the engine: CPU nanoseconds, and allocations.
fn engine_round(scene: &mut Scene, bursts: &mut Bursts, load: &Load) -> (u64, u64) {
    prepare(scene, bursts, load);
    let (start, allocated) = (cpu::of_this_thread_ns(), allocations::count());
    forward_all(scene, bursts, load);
    let ns = cpu::of_this_thread_ns() - start;
    (ns, allocations::count() - allocated)
}

fn floor_round(floor: &mut Forwarder, bursts: &mut Bursts) -> u64 {
    bursts.make();
    let start = cpu::of_this_thread_ns();
    for run in &bursts.runs {
        floor.forward(run, bursts.segment, |_, burst, _| {
            std::hint::black_box(burst);
        });
    }
    cpu::of_this_thread_ns() - start
}

fn measure(table: &Table, load: Load) {
    let (mut scene, mut bursts) = (Scene::new(&load), Bursts::new(load));
    let (mut floor, mut floor_bursts) = (Forwarder::new(&load), Bursts::new(load));
    let packets = (bursts.runs.len() * load.burst * load.subscribers) as u64;
    engine_round(&mut scene, &mut bursts, &load);
    floor_round(&mut floor, &mut floor_bursts);
    let (mut ours, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut allocated = 0;
    for _ in 0..ROUNDS {
        let floor_ns = floor_round(&mut floor, &mut floor_bursts) as f64 / packets as f64;
        let (ns, allocations) = engine_round(&mut scene, &mut bursts, &load);
        assert_eq!(scene.packets, packets, "every packet is forwarded");
        let ns = ns as f64 / packets as f64;
        allocated += allocations;
        ours.push(ns);
        floors.push(floor_ns);
        ratios.push(ns / floor_ns);
    }
    table.row(&[
        Cell::text(kind(&load)),
        Cell::Count(load.subscribers as u64),
        Cell::Count(load.burst as u64),
        Cell::Count(load.payload as u64),
        Cell::Value(median(&mut ours), 0),
        Cell::Value(median(&mut floors), 0),
        Cell::Value(median(&mut ratios), 2),
        Cell::Value(scene.packets as f64 / scene.sends as f64, 2),
        Cell::Value(allocated as f64 / (packets as f64 * ROUNDS as f64), 4),
    ]);
}

fn kind(load: &Load) -> &'static str {
    match load.kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}

fn profile() {
    let load = Load::video(50, 10, 30);
    let (mut scene, mut bursts) = (Scene::new(&load), Bursts::new(load));
    let mut packets = 0;
    for _ in 0..PROFILE_ROUNDS {
        prepare(&mut scene, &mut bursts, &load);
        forward_all(&mut scene, &mut bursts, &load);
        packets += scene.packets;
    }
    println!("{packets} packets forwarded");
}

fn main() {
    if std::env::args().any(|argument| argument == "--profile") {
        return profile();
    }
    cpu::pin(cpu::MEASURED_CORE);
    let table = Table::new(
        "engine",
        "The engine without sockets, CPU ns per forwarded packet",
        &[
            "kind",
            "subscribers",
            "burst",
            "payload",
            "ns_per_packet",
            "floor_ns_per_packet",
            "ratio",
            "segments_per_send",
            "allocations_per_packet",
        ],
    );
    for subscribers in [1, 10, 50, 500] {
        for burst in [1, 10] {
            measure(
                &table,
                Load {
                    burst,
                    ..Load::audio(subscribers, 50)
                },
            );
            measure(&table, Load::video(subscribers, burst, 30));
        }
    }
    let table = Table::new(
        "engine_cold",
        "The same with cold caches, as a worker finds them that slept between two frames",
        &[
            "kind",
            "subscribers",
            "burst",
            "payload",
            "ns_per_packet",
            "floor_ns_per_packet",
            "ratio",
        ],
    );
    for subscribers in [10, 50, 500] {
        measure_cold(&table, Load::video(subscribers, 10, 30));
    }
}
