//! What does a DTLS handshake cost the server, and how many a second does a core do?

use std::collections::VecDeque;
use std::process::ExitCode;

use benches::cpu;
use benches::table::{Cell, Table};
use dataplane::command::{DtlsRole, DtlsSpec, Fingerprint};
use dataplane::dtls::{Association, AssociationEvent, Certificate};

/// Handshakes of a round.
const HANDSHAKES: u64 = 100;

/// Rounds of which the median counts.
const ROUNDS: usize = 7;

/// Datagrams that a handshake takes, and more.
const TURNS_MAX: usize = 32;

fn main() -> ExitCode {
    let (Ok(ours), Ok(theirs)) = (Certificate::generate(), Certificate::generate()) else {
        println!("handshakes: no certificate can be made");
        return ExitCode::FAILURE;
    };
    cpu::pin(cpu::MEASURED_CORE);
    // The first round fills caches.
    let rounds: Option<Vec<f64>> = (0..=ROUNDS).map(|_| round(&ours, &theirs)).collect();
    let Some(mut rounds) = rounds else {
        println!("handshakes: one did not come to keys");
        return ExitCode::FAILURE;
    };
    rounds.remove(0);
    let ns = cpu::median(&mut rounds);
    let columns = [
        "microseconds_per_handshake",
        "handshakes_per_second_and_core",
    ];
    let table = Table::new(
        "handshakes",
        "DTLS-SRTP handshakes, the server's half",
        &columns,
    );
    table.row(&[Cell::Value(ns / 1e3, 0), Cell::Value(1e9 / ns, 0)]);
    ExitCode::SUCCESS
}

/// Nanoseconds of the server's CPU for a handshake; `None` when one fails.
fn round(ours: &Certificate, theirs: &Certificate) -> Option<f64> {
    let mut spent = 0;
    for _ in 0..HANDSHAKES {
        spent += handshake(ours, theirs)?;
    }
    Some(spent as f64 / HANDSHAKES as f64)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn handshake(ours: &Certificate, theirs: &Certificate) -> Option<u64> {
    let now = std::time::Instant::now();
    let spec = |role, of: &Certificate| DtlsSpec {
        role,
        fingerprints: vec![Fingerprint::Sha256(of.fingerprint())],
    };
    let mut client = Association::new(now, theirs, spec(DtlsRole::Client, ours));
    let mut spent = 0;
    let mut on_server = |work: &mut dyn FnMut()| {
        let start = cpu::of_this_thread_ns();
        work();
        spent += cpu::of_this_thread_ns() - start;
    };
    let mut server = None;
    on_server(&mut || server = Some(Association::new(now, ours, spec(DtlsRole::Server, theirs))));
    let mut server = server?;
    let mut connected = (false, false);
    for _ in 0..TURNS_MAX {
        let mut there: VecDeque<Box<[u8]>> = VecDeque::new();
        while let Some(datagram) = client.poll_transmit() {
            there.push_back(datagram);
        }
        let mut back: Vec<Box<[u8]>> = Vec::new();
        on_server(&mut || {
            for datagram in &there {
                server.handle_datagram(now, datagram);
            }
            while let Some(datagram) = server.poll_transmit() {
                back.push(datagram);
            }
            while let Some(event) = server.poll_event() {
                connected.0 |= matches!(event, AssociationEvent::Connected(_));
            }
        });
        for datagram in &back {
            client.handle_datagram(now, datagram);
        }
        while let Some(event) = client.poll_event() {
            connected.1 |= matches!(event, AssociationEvent::Connected(_));
        }
        if connected == (true, true) {
            return Some(spent);
        }
    }
    None
}
