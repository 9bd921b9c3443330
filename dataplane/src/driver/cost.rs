//! What a datagram costs a worker, by driver: a measurement, not a test.
//!
//! `cargo test --release -p dataplane --lib driver::cost -- --ignored --nocapture`

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::core::Core;
use super::*;
use crate::command::Command;
use crate::engine::EngineConfig;
use crate::event::{DtlsInput, Event};
use crate::load::Load;
use crate::transmit::{Path, Transmit};

const DATAGRAM: usize = 1200;
const SPAN: Duration = Duration::from_millis(500);
const ROUNDS: usize = 5;

static DATAGRAMS: AtomicU64 = AtomicU64::new(0);
static TURNS: AtomicU64 = AtomicU64::new(0);
static ECHO: AtomicBool = AtomicBool::new(false);

/// Counts what comes, and sends as much back when asked to, without copying it.
#[derive(Debug, Default)]
struct Counter {
    owed: Vec<(Path, usize)>,
}

impl Core for Counter {
    fn handle_datagrams(&mut self, _: Instant, path: Path, bytes: &mut [u8], segment: usize) {
        let datagrams = bytes.len().div_ceil(segment) as u64;
        DATAGRAMS.fetch_add(datagrams, Ordering::Relaxed);
        if ECHO.load(Ordering::Relaxed) {
            self.owed.push((path, bytes.len()));
        }
    }

    fn handle_command(&mut self, _: Instant, _: Command) {}

    fn handle_load(&mut self, _: Load) {}
    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_transmit(&mut self, _: Instant, _: &mut [u8]) -> Option<Transmit> {
        let (path, len) = self.owed.pop()?;
        Some(Transmit {
            path,
            len,
            segment: DATAGRAM,
        })
    }

    fn poll_dtls(&mut self) -> Option<DtlsInput> {
        TURNS.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn poll_event(&mut self) -> Option<Event> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// CPU nanoseconds that the worker's thread has used.
fn worker_cpu_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |file: &str, task: &std::path::Path| std::fs::read_to_string(task.join(file));
    tasks
        .map(|task| task.unwrap().path())
        .filter(|task| of("comm", task).is_ok_and(|name| name.trim() == "worker-0"))
        .filter_map(|task| of("schedstat", &task).ok())
        .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Sends bursts of `burst` datagrams, resting `rest` after each, until told to stop.
fn blast(server: SocketAddr, burst: usize, rest: Duration, stop: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let state = quinn_udp::UdpSocketState::new((&socket).into()).unwrap();
    let bytes = vec![0; burst * DATAGRAM];
    let transmit = quinn_udp::Transmit {
        destination: server,
        ecn: None,
        contents: &bytes,
        segment_size: Some(DATAGRAM),
        src_ip: None,
    };
    while !stop.load(Ordering::Relaxed) {
        let _ = state.try_send((&socket).into(), &transmit);
        if !rest.is_zero() {
            std::thread::park_timeout(rest);
        }
    }
}

fn measure(driver: DriverChoice, burst: usize, rest: Duration) {
    let config = DataplaneConfig {
        media: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        workers: 1,
        driver,
        sessions_max: 1,
        publisher_bitrate_bps_max: 1,
        egress_hold: Duration::ZERO,
        audio_speakers: 0,
        dtls_threads: 1,
        pin: true,
    };
    let make = |_: EngineConfig| Counter::default();
    let (dataplane, _events) = Dataplane::start_with(&config, make).unwrap();
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, dataplane.workers()[0].port));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| blast(server, burst, rest, &stop));
        let mut best = (f64::MAX, 0.0, 0.0);
        for _ in 0..ROUNDS {
            let before = (
                worker_cpu_ns(),
                DATAGRAMS.load(Ordering::Relaxed),
                TURNS.load(Ordering::Relaxed),
            );
            std::thread::park_timeout(SPAN);
            let datagrams = (DATAGRAMS.load(Ordering::Relaxed) - before.1) as f64;
            let turns = (TURNS.load(Ordering::Relaxed) - before.2) as f64;
            let ns = (worker_cpu_ns() - before.0) as f64 / datagrams;
            if ns < best.0 {
                best = (ns, datagrams / turns, datagrams / SPAN.as_secs_f64());
            }
        }
        stop.store(true, Ordering::Relaxed);
        let what = if ECHO.load(Ordering::Relaxed) {
            "and echo"
        } else {
            "only"
        };
        println!(
            "| {driver:5} | receive {what:8} | {burst:2} | {rest:?} | {:7.0} | {:6.1} | {:9.0} |",
            best.0, best.1, best.2
        );
    });
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_datagram() {
    println!(
        "| driver | what | datagrams a burst | rest | CPU ns a datagram | datagrams a turn | datagrams/s |"
    );
    for echo in [false, true] {
        ECHO.store(echo, Ordering::Relaxed);
        for (burst, rest) in [(1, 0), (10, 0), (32, 0), (10, 1000), (1, 1000)] {
            for driver in [DriverChoice::Msg, DriverChoice::Uring] {
                measure(driver, burst, Duration::from_micros(rest));
            }
        }
    }
}
