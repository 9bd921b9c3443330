//! How much does one core forward before somebody notices? Packets a second with nothing lost and a
//! p99 under 2 ms, of the dataplane with either driver and of the floor program in the same run.
//!
//! `cargo bench -p benches --bench density`, with `-- --json` for programs.

use std::io;
use std::time::Duration;

use benches::call::Load;
use benches::cpu::{self, quantile};
use benches::floor::Floor;
use benches::rig::{Rig, Round};
use benches::server::Server;
use benches::socket::Place;
use benches::table::{Cell, Table};
use dataplane::driver::DriverChoice;
use dataplane::limits::EGRESS_HOLD_DEFAULT;
use mimalloc::MiMalloc;

/// The allocator of the program `millrace`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How long each rate is held.
const ROUND: Duration = Duration::from_millis(500);

/// A rate that is missed is tried so often: another program may have been in the way.
const TRIES: usize = 3;

/// Rates missed in a row that end the climb.
const MISSES_MAX: u32 = 2;

/// The later of 99 of 100 packets may take this long.
const P99_NS_MAX: f64 = 2e6;

/// Each rate is so much more than the one before, in percent. All of them together must not take
/// [`dataplane::limits::HANDSHAKE_TIMEOUT`]: the sessions' handshakes never come.
const STEP_PERCENT: u64 = 30;

/// Rates are tried until this one, bursts a second.
const RATE_MAX: u64 = 20_000;

const COLUMNS: [&str; 10] = [
    "subscribers",
    "burst",
    "payload",
    "forwarder",
    "bursts_per_second",
    "packets_per_second",
    "of_floor",
    "core_percent",
    "p50_us",
    "p99_us",
];

/// What was held.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    rate: u64,
    packets_per_second: f64,
    core_percent: f64,
    p50_us: f64,
    p99_us: f64,
}

/// The highest rate that `round` holds; it gets the rate and says what came of it.
fn climb(load: &Load, mut round: impl FnMut(u64) -> io::Result<Round>) -> io::Result<Held> {
    let (mut held, mut missed) = (Held::default(), 0);
    let mut rate = load.bursts_per_second;
    while rate <= RATE_MAX && missed < MISSES_MAX {
        missed += 1;
        for _ in 0..TRIES {
            if let Some(next) = is_held(rate, round(rate)?) {
                (held, missed) = (next, 0);
                break;
            }
        }
        rate += rate * STEP_PERCENT / 100;
    }
    Ok(held)
}

fn is_held(rate: u64, mut round: Round) -> Option<Held> {
    let p99_ns = quantile(&mut round.latencies_ns, 0.99);
    let whole = round.received == round.expected && round.expected > 0;
    (whole && p99_ns < P99_NS_MAX).then(|| Held {
        rate,
        packets_per_second: round.received as f64 / ROUND.as_secs_f64(),
        core_percent: round.cpu_ns as f64 * 100.0 / ROUND.as_nanos() as f64,
        p50_us: quantile(&mut round.latencies_ns, 0.5) / 1e3,
        p99_us: p99_ns / 1e3,
    })
}

fn measure(table: &Table, load: Load) -> io::Result<()> {
    let place = Place::Loopback;
    let mut rig = Rig::new(load, place)?;
    let floor = Floor::start(&load, place, rig.addresses()?)?;
    let of_floor = climb(&load, |rate| {
        rig.set_rate(rate);
        Ok(rig.round(floor.address, &floor.thread, ROUND))
    })?;
    row(table, &load, "floor", of_floor, of_floor);
    for driver in [DriverChoice::Uring, DriverChoice::Msg] {
        let mut rig = Rig::new(load, place)?;
        let mut server = Server::start(driver, EGRESS_HOLD_DEFAULT, place)?;
        server.set_up(&load, &rig.sockets())?;
        let held = climb(&load, |rate| {
            rig.set_rate(rate);
            server.refresh(&rig.sockets())?;
            Ok(rig.round(server.address, &server.thread, ROUND))
        })?;
        row(table, &load, &driver.to_string(), held, of_floor);
    }
    Ok(())
}

fn row(table: &Table, load: &Load, forwarder: &str, held: Held, floor: Held) {
    let of_floor = held.packets_per_second / floor.packets_per_second.max(1.0);
    table.row(&[
        Cell::Count(load.subscribers as u64),
        Cell::Count(load.burst as u64),
        Cell::Count(load.payload as u64),
        Cell::text(forwarder.to_owned()),
        Cell::Count(held.rate),
        Cell::Value(held.packets_per_second, 0),
        Cell::Value(of_floor, 2),
        Cell::Value(held.core_percent, 0),
        Cell::Value(held.p50_us, 0),
        Cell::Value(held.p99_us, 0),
    ]);
}

fn main() -> io::Result<()> {
    cpu::pin(cpu::LOAD_CORE);
    let table = Table::new(
        "density",
        "The most that one worker forwards with nothing lost and a p99 under 2 ms",
        &COLUMNS,
    );
    measure(&table, Load::video(50, 10, 400))?;
    measure(&table, Load::video(50, 30, 100))?;
    measure(&table, Load::audio(50, 1_000))
}
