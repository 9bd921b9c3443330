//! What does a forwarded packet cost with sockets? The real dataplane on loopback, by driver, beside
//! the floor program in the same run.
//!
//! `cargo bench -p benches --bench wire`, with `-- --json` for programs.

use std::io;
use std::time::Duration;

use benches::call::Load;
use benches::cpu::{self, median, quantile};
use benches::floor::Floor;
use benches::rig::{Rig, Round};
use benches::server::Server;
use benches::socket::Place;
use benches::table::{Cell, Table};
use dataplane::counters::Counters;
use dataplane::driver::DriverChoice;
use dataplane::limits::{EGRESS_HOLD_DEFAULT, EGRESS_HOLD_MAX};
use mimalloc::MiMalloc;

/// The allocator of the program `millrace`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How often each forwarder is measured, in turn with the others.
const ROUNDS: usize = 7;

/// How long each time.
const ROUND: Duration = Duration::from_millis(600);

/// What is not measured: caches, the first packets of a stream.
const WARM_UP: Duration = Duration::from_millis(200);

const COLUMNS: [&str; 19] = [
    "subscribers",
    "streams",
    "burst",
    "payload",
    "bursts_per_second",
    "hold_us",
    "device",
    "driver",
    "ns_per_packet",
    "floor_ns_per_packet",
    "ratio",
    "segments_per_send",
    "p50_us",
    "p99_us",
    "p999_us",
    "floor_p50_us",
    "floor_p99_us",
    "loss",
    "floor_loss",
];

/// What is measured.
#[derive(Clone, Copy)]
struct Scene {
    load: Load,
    /// `--egress-hold`.
    hold: Duration,
    place: Place,
}

/// A dataplane with its clients.
struct Measured {
    driver: DriverChoice,
    scene: Scene,
    server: Server,
    rig: Rig,
    rounds: Rounds,
}

/// What was found in all rounds.
#[derive(Default)]
struct Rounds {
    ns_per_packet: Vec<f64>,
    latencies_ns: Vec<f64>,
    expected: u64,
    received: u64,
}

impl Rounds {
    fn add(&mut self, round: Round, place: Place) {
        // Where nothing arrives, what was lost is counted at the end.
        let packets = if place.arrives() {
            round.received
        } else {
            round.expected
        };
        let ns = round.cpu_ns as f64 / packets.max(1) as f64;
        self.ns_per_packet.push(ns);
        self.latencies_ns.extend(round.latencies_ns);
        self.expected += round.expected;
        self.received += round.received;
    }

    fn quantile_us(&mut self, q: f64) -> Cell {
        Cell::Value(quantile(&mut self.latencies_ns, q) / 1e3, 0)
    }

    fn loss(&self) -> Cell {
        let lost = self.expected.saturating_sub(self.received);
        Cell::Value(lost as f64 / self.expected.max(1) as f64, 5)
    }
}

impl Measured {
    fn start(driver: DriverChoice, scene: Scene) -> io::Result<Measured> {
        let Scene { load, hold, place } = scene;
        let rig = Rig::new(load, place)?;
        let mut server = Server::start(driver, hold, place)?;
        server.set_up(&load, &rig.sockets())?;
        Ok(Measured {
            driver,
            scene,
            server,
            rig,
            rounds: Rounds::default(),
        })
    }

    fn round(&mut self, duration: Duration) -> io::Result<Round> {
        self.server.refresh(&self.rig.sockets())?;
        let Server {
            address, thread, ..
        } = &self.server;
        Ok(self.rig.round(*address, thread, duration))
    }
}

/// Packets in each burst of media: everything else leaves as single datagrams.
fn segments_per_send(before: &Counters, after: &Counters) -> f64 {
    let media = after.rtp_forwarded - before.rtp_forwarded;
    let others = (after.datagrams_sent - before.datagrams_sent) - media;
    let sends = (after.bursts_sent - before.bursts_sent) - others;
    media as f64 / sends.max(1) as f64
}

fn measure(table: &Table, scene: Scene) -> io::Result<()> {
    let Scene { load, place, .. } = scene;
    let mut floor_rig = Rig::new(load, place)?;
    let floor = Floor::start(&load, place, floor_rig.addresses()?)?;
    let mut measured = [DriverChoice::Uring, DriverChoice::Msg]
        .into_iter()
        .map(|driver| Measured::start(driver, scene))
        .collect::<io::Result<Vec<_>>>()?;
    floor_rig.round(floor.address, &floor.thread, WARM_UP);
    let mut before = Vec::new();
    for one in &mut measured {
        one.round(WARM_UP)?;
        before.push(one.server.counters()?);
    }
    let sent_before = floor.sent();
    let mut floor_rounds = Rounds::default();
    for _ in 0..ROUNDS {
        floor_rounds.add(floor_rig.round(floor.address, &floor.thread, ROUND), place);
        for one in &mut measured {
            let round = one.round(ROUND)?;
            one.rounds.add(round, place);
        }
    }
    if !place.arrives() {
        floor_rounds.received = floor.sent() - sent_before;
    }
    for (one, before) in measured.iter_mut().zip(&before) {
        let after = one.server.counters()?;
        if !place.arrives() {
            one.rounds.received = after.rtp_forwarded - before.rtp_forwarded;
        }
        let segments = segments_per_send(before, &after);
        row(table, one, segments, &mut floor_rounds);
    }
    Ok(())
}

fn row(table: &Table, one: &mut Measured, segments: f64, floor: &mut Rounds) {
    let Scene { load, hold, place } = one.scene;
    let pairs = one.rounds.ns_per_packet.iter().zip(&floor.ns_per_packet);
    let mut ratios: Vec<f64> = pairs.map(|(ours, floor)| ours / floor).collect();
    table.row(&[
        Cell::Count(load.subscribers as u64),
        Cell::Count(load.streams as u64),
        Cell::Count(load.burst as u64),
        Cell::Count(load.payload as u64),
        Cell::Count(load.bursts_per_second),
        Cell::Count(hold.as_micros() as u64),
        Cell::text(place.device()),
        Cell::text(one.driver.to_string()),
        // Copies, because a median sorts and the rounds are pairs.
        Cell::Value(median(&mut one.rounds.ns_per_packet.clone()), 0),
        Cell::Value(median(&mut floor.ns_per_packet.clone()), 0),
        Cell::Value(median(&mut ratios), 2),
        Cell::Value(segments, 2),
        one.rounds.quantile_us(0.5),
        one.rounds.quantile_us(0.99),
        one.rounds.quantile_us(0.999),
        floor.quantile_us(0.5),
        floor.quantile_us(0.99),
        one.rounds.loss(),
        floor.loss(),
    ]);
}

/// The question's rows: `sink` among the program's arguments asks for those in the namespace of
/// `scripts/sink`, whose device drops what is sent.
fn scenes(place: Place) -> Vec<Scene> {
    let scene = |load, hold| Scene { load, hold, place };
    let mut scenes = Vec::new();
    for subscribers in [1, 10, 50] {
        let video = Load::video(subscribers, 10, 300);
        scenes.push(scene(video, EGRESS_HOLD_DEFAULT));
        scenes.push(scene(Load::audio(subscribers, 1000), Duration::ZERO));
    }
    // As one camera sends.
    scenes.push(scene(Load::video(50, 10, 30), EGRESS_HOLD_DEFAULT));
    // A large room, of which nine speak.
    for hold in [Duration::ZERO, EGRESS_HOLD_DEFAULT, EGRESS_HOLD_MAX] {
        scenes.push(scene(Load::voices(100, 9), hold));
    }
    if !place.arrives() {
        scenes.retain(|scene| scene.load.subscribers >= 50);
    }
    scenes
}

fn main() -> io::Result<()> {
    cpu::pin(cpu::LOAD_CORE);
    let place = if std::env::args().any(|argument| argument == "sink") {
        Place::Sink
    } else {
        Place::Loopback
    };
    let table = Table::new(
        "wire",
        "Forwarding through sockets, CPU ns per forwarded packet of the worker's thread",
        &COLUMNS,
    );
    // Numbers among the arguments, from 0, choose scenes.
    let chosen: Vec<usize> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    for (number, scene) in scenes(place).into_iter().enumerate() {
        if chosen.is_empty() || chosen.contains(&number) {
            measure(&table, scene)?;
        }
    }
    Ok(())
}
