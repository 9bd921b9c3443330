//! What does a forwarded packet cost the engine, without sockets? Beside it the floor: the same
//! packets opened and sealed with the same headers, and nothing else.
//!
//! `cargo bench -p benches --bench engine`, with `-- --json` for programs, or `-- --profile` for one
//! scene without its floor, to be run under a profiler.

use benches::allocations::{self, Counting};
use benches::call::Load;
use benches::cpu::{self, median};
use benches::engine::{Bursts, Scene, forward_all, prepare};
use benches::floor::Forwarder;
use benches::table::{Cell, Table};
use dataplane::command::MediaKind;

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

/// The bursts of a round.
fn bursts_of(load: &Load) -> Bursts {
    let count = ROUND_PACKETS / (load.burst * load.subscribers);
    Bursts::new(*load, count.clamp(ROUND_BURSTS_MIN, ROUND_BURSTS_MAX))
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
    let mut ns = [0; 2];
    for (run, other) in ours.runs.iter_mut().zip(&theirs.runs).take(COLD_BURSTS) {
        sweep.sweep();
        let start = cpu::of_this_thread_ns();
        scene.forward(run, ours.segment, load);
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
    let mut bursts = [bursts_of(&load), bursts_of(&load)];
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
    let (mut scene, mut bursts) = (Scene::new(&load), bursts_of(&load));
    let (mut floor, mut floor_bursts) = (Forwarder::new(&load), bursts_of(&load));
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
    let (mut scene, mut bursts) = (Scene::new(&load), bursts_of(&load));
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
