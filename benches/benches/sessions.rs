//! What does a session cost in memory, idle and receiving? And what does a storm of ten thousand of
//! them do to the media that is already running?
//!
//! `cargo bench -p benches --bench sessions`, with `-- --json` for programs. The dataplane is a process
//! of its own; clients do real checks and handshakes.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use benches::cpu;
use benches::node::{self, Node, Order};
use benches::socket::pause;
use benches::swarm::crowd::{Crowd, CrowdReport};
use benches::table::{Cell, Table};
use dataplane::dtls::Certificate;
use mimalloc::MiMalloc;

/// The allocator of the program `millrace`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Sessions whose memory is measured, after as many that are not: those fill what is there once.
const SESSIONS: usize = 2_000;
const BEFORE: usize = 500;

/// Subscribers that share one publisher's streams.
const ROOM: usize = 50;

/// Sessions of the storm.
const STORM: usize = 10_000;

/// Handshakes a second, in the storm and before it.
const PER_SECOND: usize = 500;

/// What the names of the node's handshake threads begin with.
const DTLS_NAME: &str = "dtls-";

/// How often some are begun.
const TICK: Duration = Duration::from_millis(20);

/// What memory and queues get to come to rest.
const REST: Duration = Duration::from_secs(3);

/// Frames a second of the media that runs in a storm.
const FRAMES_RUNNING: u64 = 30;

/// Frames a second while memory is measured, for few seconds' worth of packets are the same memory at
/// any rate; and how long it takes them to go once round each log.
const FRAMES_FILLING: u64 = 4;
const FILLING: Duration = Duration::from_secs(15);

/// How long media is measured without a storm.
const QUIET: Duration = Duration::from_secs(8);

/// How long the last sessions may take to connect, in ticks.
const CONNECT_TICKS: usize = 1_500;

fn main() -> ExitCode {
    if let Some(served) = node::serve_if_asked() {
        return served;
    }
    match memory().and_then(|()| storm()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("sessions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn certificate() -> io::Result<Certificate> {
    Certificate::generate().map_err(io::Error::other)
}

/// Clients connect at [`PER_SECOND`], and all of them do.
fn connect(node: &mut Node, crowd: &Crowd, first: usize, count: usize) -> io::Result<()> {
    let before = crowd.report().connected;
    let each = PER_SECOND * TICK.as_millis() as usize / 1_000;
    let start = cpu::wall_ns();
    for (tick, at) in (first..first + count).step_by(each).enumerate() {
        let count = each.min(first + count - at);
        node.order(Order::Open { first: at, count })?;
        (at..at + count).try_for_each(|client| crowd.join(node, client))?;
        let due = start + (tick as u64 + 1) * TICK.as_nanos() as u64;
        pause(Duration::from_nanos(due.saturating_sub(cpu::wall_ns())));
    }
    for _ in 0..CONNECT_TICKS {
        let report = crowd.report();
        if report.connected >= before + count {
            return Ok(());
        }
        if !report.ends.is_empty() {
            let (clients, sessions) = (report.ends, node.ends()?);
            let message = format!("clients ended: {clients:?}; the node's sessions: {sessions:?}");
            return Err(io::Error::other(message));
        }
        pause(TICK);
    }
    let connected = crowd.report().connected - before;
    Err(io::Error::other(format!(
        "{connected} of {count} connected"
    )))
}

/// A publisher, and rooms of subscribers which receive what it sends.
fn publish(node: &mut Node, crowd: &Crowd, publisher: usize, frames: u64) -> io::Result<()> {
    let (first, count) = (publisher, 1);
    node.order(Order::Open { first, count })?;
    node.order(Order::Publish { client: publisher })?;
    crowd.publish(node, publisher, frames)
}

fn memory() -> io::Result<()> {
    let table = Table::new(
        "sessions",
        "Resident memory of a session",
        &["sessions", "state", "rss_kib_per_session"],
    );
    let certificate = certificate()?;
    let mut node = Node::start(certificate.fingerprint())?;
    let crowd = Crowd::start(certificate)?;
    connect(&mut node, &crowd, 0, BEFORE)?;
    pause(REST);
    let start = node.usage().rss_bytes;
    connect(&mut node, &crowd, BEFORE, SESSIONS)?;
    pause(REST);
    let idle = node.usage().rss_bytes;
    let row = |state: &str, rss: u64| {
        table.row(&[
            Cell::Count(SESSIONS as u64),
            Cell::text(state),
            Cell::Value((rss - start) as f64 / 1_024.0 / SESSIONS as f64, 1),
        ]);
    };
    row("idle", idle);
    let receivers = BEFORE + SESSIONS;
    for (room, first) in (BEFORE..receivers).step_by(ROOM).enumerate() {
        let publisher = receivers + room;
        publish(&mut node, &crowd, publisher, FRAMES_FILLING)?;
        node.order(Order::Receive {
            publisher,
            first,
            count: ROOM,
        })?;
    }
    let rooms = SESSIONS / ROOM;
    if !(0..CONNECT_TICKS).any(|_| {
        pause(TICK);
        crowd.report().publishers == rooms
    }) {
        return Err(io::Error::other("not every publisher connected"));
    }
    crowd.measure();
    pause(FILLING);
    if crowd.report().packets == 0 {
        return Err(io::Error::other("nothing was received"));
    }
    row("receiving", node.usage().rss_bytes);
    Ok(())
}

fn storm() -> io::Result<()> {
    let certificate = certificate()?;
    let mut node = Node::start(certificate.fingerprint())?;
    let room = Crowd::start(certificate.clone())?;
    connect(&mut node, &room, 0, ROOM)?;
    publish(&mut node, &room, ROOM, FRAMES_RUNNING)?;
    node.order(Order::Receive {
        publisher: ROOM,
        first: 0,
        count: ROOM,
    })?;
    pause(REST);
    let beginning = Beginning::now(&node, &room);
    pause(QUIET);
    let quiet = beginning.end(&node, &room);
    let crowd = Crowd::start(certificate)?;
    let beginning = Beginning::now(&node, &room);
    connect(&mut node, &crowd, ROOM + 1, STORM)?;
    let stormy = beginning.end(&node, &room);
    let came = crowd.report();
    let table = Table::new(
        "storm",
        "Media of 50 subscribers while sessions connect",
        &[
            "sessions",
            "per_second",
            "connect_p50_ms",
            "connect_p99_ms",
            "p50_us",
            "p99_us",
            "loss",
            "quiet_p50_us",
            "quiet_p99_us",
            "quiet_loss",
            "dtls_cpu_percent",
            "rss_mib",
        ],
    );
    let ms = |duration: Option<Duration>| {
        Cell::Value(duration.unwrap_or_default().as_secs_f64() * 1e3, 1)
    };
    let us = |duration: Option<Duration>| {
        Cell::Value(duration.unwrap_or_default().as_secs_f64() * 1e6, 0)
    };
    let loss = |report: &CrowdReport| {
        let all = (report.packets + report.missing).max(1);
        Cell::Value(report.missing as f64 / all as f64, 5)
    };
    table.row(&[
        Cell::Count(STORM as u64),
        Cell::Count(PER_SECOND as u64),
        ms(came.connect_p50),
        ms(came.connect_p99),
        us(stormy.report.p50),
        us(stormy.report.p99),
        loss(&stormy.report),
        us(quiet.report.p50),
        us(quiet.report.p99),
        loss(&quiet.report),
        Cell::Value(stormy.dtls_percent, 0),
        Cell::Value(node.usage().rss_bytes as f64 / f64::from(1 << 20), 1),
    ]);
    Ok(())
}

/// What came to a room while something was done.
struct Measured {
    report: CrowdReport,
    dtls_percent: f64,
}

/// A measurement in the making.
struct Beginning {
    dtls: Duration,
    wall_ns: u64,
}

impl Beginning {
    fn now(node: &Node, room: &Crowd) -> Beginning {
        room.measure();
        Beginning {
            dtls: node.threads_cpu(DTLS_NAME),
            wall_ns: cpu::wall_ns(),
        }
    }

    fn end(self, node: &Node, room: &Crowd) -> Measured {
        let wall_ns = cpu::wall_ns() - self.wall_ns;
        let dtls = node.threads_cpu(DTLS_NAME).saturating_sub(self.dtls);
        Measured {
            report: room.report(),
            dtls_percent: 100.0 * dtls.as_nanos() as f64 / wall_ns as f64,
        }
    }
}
