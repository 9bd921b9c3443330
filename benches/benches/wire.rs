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

/// A dataplane with its clients.
struct Measured {
    driver: DriverChoice,
    hold: Duration,
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
    fn add(&mut self, round: Round) {
        self.ns_per_packet.push(round.ns_per_packet());
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
    fn start(driver: DriverChoice, load: Load, hold: Duration) -> io::Result<Measured> {
        let rig = Rig::new(load)?;
        let mut server = Server::start(driver, hold)?;
        server.set_up(&load, &rig.sockets())?;
        Ok(Measured {
            driver,
            hold,
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

fn measure(table: &Table, load: Load, hold: Duration) -> io::Result<()> {
    let mut floor_rig = Rig::new(load)?;
    let floor = Floor::start(&load, floor_rig.addresses()?)?;
    let mut measured = [DriverChoice::Uring, DriverChoice::Msg]
        .into_iter()
        .map(|driver| Measured::start(driver, load, hold))
        .collect::<io::Result<Vec<_>>>()?;
    floor_rig.round(floor.address, &floor.thread, WARM_UP);
    let mut before = Vec::new();
    for one in &mut measured {
        one.round(WARM_UP)?;
        before.push(one.server.counters()?);
    }
    let mut floor_rounds = Rounds::default();
    for _ in 0..ROUNDS {
        floor_rounds.add(floor_rig.round(floor.address, &floor.thread, ROUND));
        for one in &mut measured {
            let round = one.round(ROUND)?;
            one.rounds.add(round);
        }
    }
    for (one, before) in measured.iter_mut().zip(&before) {
        let after = one.server.counters()?;
        let segments = segments_per_send(before, &after);
        row(table, &load, one, segments, &mut floor_rounds);
    }
    Ok(())
}

fn row(table: &Table, load: &Load, one: &mut Measured, segments: f64, floor: &mut Rounds) {
    let pairs = one.rounds.ns_per_packet.iter().zip(&floor.ns_per_packet);
    let mut ratios: Vec<f64> = pairs.map(|(ours, floor)| ours / floor).collect();
    table.row(&[
        Cell::Count(load.subscribers as u64),
        Cell::Count(load.streams as u64),
        Cell::Count(load.burst as u64),
        Cell::Count(load.payload as u64),
        Cell::Count(load.bursts_per_second),
        Cell::Count(one.hold.as_micros() as u64),
        Cell::text("lo"),
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

fn main() -> io::Result<()> {
    cpu::pin(cpu::LOAD_CORE);
    let table = Table::new(
        "wire",
        "Forwarding over loopback, CPU ns per forwarded packet of the worker's thread",
        &COLUMNS,
    );
    for subscribers in [1, 10, 50] {
        measure(
            &table,
            Load::video(subscribers, 10, 300),
            EGRESS_HOLD_DEFAULT,
        )?;
        measure(&table, Load::audio(subscribers, 1000), Duration::ZERO)?;
    }
    // As one camera sends.
    measure(&table, Load::video(50, 10, 30), EGRESS_HOLD_DEFAULT)?;
    // A large room, of which nine speak.
    for hold in [Duration::ZERO, EGRESS_HOLD_DEFAULT, EGRESS_HOLD_MAX] {
        measure(&table, Load::voices(100, 9), hold)?;
    }
    Ok(())
}
