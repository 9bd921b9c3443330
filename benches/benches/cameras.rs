//! What does a camera's packet cost the node, from the thread that hands it over to its viewer, beside one that
//! came as SRTP from a client's socket?
//!
//! `cargo bench -p benches --bench cameras`, with `-- --json` for programs.

use std::io;
use std::time::Duration;

use benches::call::Load;
use benches::cpu::{self, median};
use benches::crowd::{Crowd, Origin, Placement, Round};
use benches::table::{Cell, Table};
use dataplane::counters::Counters;
use mimalloc::MiMalloc;

/// The allocator of the program `millrace`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How often each origin is measured, in turn with the other.
const ROUNDS: usize = 7;

/// How long each time.
const ROUND: Duration = Duration::from_secs(1);

/// What is not measured: caches, the first packets of a stream.
const WARM_UP: Duration = Duration::from_millis(300);

/// A camera of 2 Mbit/s: 25 pictures a second of 9 packets of 1,150 bytes.
const PICTURES_PER_SECOND: u64 = 25;
const PACKETS: usize = 9;

/// Cameras of one kind, and what their rounds found.
struct Cameras {
    crowd: Crowd,
    rounds: Vec<Round>,
    before: Counters,
}

impl Cameras {
    fn start(origin: Origin, load: Load, cameras: usize) -> io::Result<Cameras> {
        let place = Placement::One(cpu::MEASURED_CORE);
        let mut crowd = Crowd::start_from(origin, load, cameras, place)?;
        crowd.round(WARM_UP);
        let before = crowd.counters()?.swap_remove(0);
        Ok(Cameras {
            crowd,
            rounds: Vec::new(),
            before,
        })
    }

    fn ns_per_packet(&self) -> Vec<f64> {
        let rounds = self.rounds.iter();
        rounds.map(|round| round.ns_per_packet(0)).collect()
    }

    fn core_percent(&self) -> f64 {
        let busy = self.rounds.iter().map(|round| round.cpu_ns[0] as f64);
        let mut percent: Vec<f64> = busy
            .map(|ns| 100.0 * ns / ROUND.as_nanos() as f64)
            .collect();
        median(&mut percent)
    }

    fn loss(&self) -> f64 {
        let expected: u64 = self.rounds.iter().map(|round| round.expected).sum();
        let received: u64 = self.rounds.iter().flat_map(|round| &round.received).sum();
        expected.saturating_sub(received) as f64 / expected.max(1) as f64
    }
}

fn measure(table: &Table, cameras: usize) -> io::Result<()> {
    let load = Load::video(1, PACKETS, PICTURES_PER_SECOND);
    let mut both = [Origin::Feeds, Origin::Clients]
        .into_iter()
        .map(|origin| Cameras::start(origin, load, cameras))
        .collect::<io::Result<Vec<_>>>()?;
    for _ in 0..ROUNDS {
        for one in &mut both {
            one.crowd.refresh()?;
            let round = one.crowd.round(ROUND);
            one.rounds.push(round);
        }
    }
    let [feeds, clients] = [&both[0], &both[1]].map(Cameras::ns_per_packet);
    let mut ratios: Vec<f64> = feeds.iter().zip(&clients).map(|(f, c)| f / c).collect();
    let handed = both[0].rounds.iter();
    let mut handing: Vec<f64> = handed
        .map(|round| round.handing_ns as f64 / round.expected.max(1) as f64)
        .collect();
    let after = both[0].crowd.counters()?.swap_remove(0);
    let before = &both[0].before;
    let lost_inside = (after.drop_feed_queue_full - before.drop_feed_queue_full)
        + (after.drop_late_video - before.drop_late_video)
        + (after.drop_over_rate - before.drop_over_rate);
    table.row(&[
        Cell::Count(cameras as u64),
        Cell::Value(median(&mut feeds.clone()), 0),
        Cell::Value(median(&mut clients.clone()), 0),
        Cell::Value(median(&mut ratios), 2),
        Cell::Value(median(&mut handing), 0),
        Cell::Value(both[0].core_percent(), 1),
        Cell::Value(both[1].core_percent(), 1),
        Cell::Count(lost_inside),
        Cell::Value(both[0].loss(), 5),
        Cell::Value(both[1].loss(), 5),
    ]);
    Ok(())
}

fn main() -> io::Result<()> {
    cpu::pin(cpu::LOAD_CORE);
    let table = Table::new(
        "cameras",
        "Cameras of 2 Mbit/s with a viewer each, CPU ns per forwarded packet of the worker's thread",
        &[
            "cameras",
            "ns_per_packet",
            "srtp_ns_per_packet",
            "ratio",
            "handing_ns",
            "core_percent",
            "srtp_core_percent",
            "lost_inside",
            "loss",
            "srtp_loss",
        ],
    );
    for cameras in [1, 100, 600] {
        measure(&table, cameras)?;
    }
    Ok(())
}
