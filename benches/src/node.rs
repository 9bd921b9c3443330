//! A dataplane in a process of its own, so that its memory can be told from its clients'.
//!
//! The benchmark starts its own executable again with [`FLAG`]; the child serves what lines on its
//! standard input order, as control would, and answers each when it is carried out.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataplane::command::{Command, Fingerprint};
use dataplane::driver::{Dataplane, DataplaneConfig, DriverChoice};
use dataplane::event::Event;
use dataplane::id::{Ssrc, TrackId};
use dataplane::limits::EGRESS_HOLD_DEFAULT;
use serde::{Deserialize, Serialize};

use crate::call::{self, Load};
use crate::cpu;
use crate::peers::process::Usage;
use crate::socket::pause;

/// What the child's command line begins with.
pub const FLAG: &str = "--node";

/// Sessions that the child holds at most.
const SESSIONS_MAX: usize = 20_000;

/// Threads of the child that do handshakes: what the program has by default on two cores.
const DTLS_THREADS: usize = 2;

/// The node is not told how many frames come.
const FRAMES: u64 = 30;

/// A worker that is that far behind gets this long.
const STEP: Duration = Duration::from_millis(1);

/// What the child is told to do; the numbers are clients'.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Expect `count` clients from `first` on.
    Open {
        /// The first of them.
        first: usize,
        /// How many.
        count: usize,
    },
    /// A client sends video and audio.
    Publish {
        /// Who.
        client: usize,
    },
    /// `count` clients from `first` on receive what a publisher sends.
    Receive {
        /// Whose streams.
        publisher: usize,
        /// The first of them.
        first: usize,
        /// How many.
        count: usize,
    },
    /// Say which sessions ended.
    Ends,
}

/// The SSRC of a publisher's stream.
#[must_use]
pub fn ssrc(client: usize, stream: usize) -> Ssrc {
    Ssrc((client * 2 + stream + 1) as u32)
}

/// What the child says at its start.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Hello {
    port: u16,
    fingerprint: [u8; 32],
}

/// The streams that a publisher sends: so many frames of ten packets a second, and as many packets
/// of audio.
#[must_use]
pub fn streams(frames_per_second: u64) -> [Load; 2] {
    [
        Load::video(1, 10, frames_per_second),
        Load::audio(1, frames_per_second),
    ]
}

/// The running child. Dropping it ends it.
#[derive(Debug)]
pub struct Node {
    /// Where clients send.
    pub address: SocketAddr,
    /// SHA-256 of its DTLS certificate.
    pub fingerprint: [u8; 32],
    child: Child,
    orders: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Node {
    /// Starts it, to serve clients with the certificate of this fingerprint.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(clients: [u8; 32]) -> io::Result<Node> {
        let hex: String = clients.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut child = Program::new(std::env::current_exe()?)
            .args([FLAG, &hex])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(orders), Some(replies)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the node has no pipes"));
        };
        let mut replies = BufReader::new(replies);
        let mut line = String::new();
        replies.read_line(&mut line)?;
        let hello: Hello = serde_json::from_str(&line)
            .map_err(|_| io::Error::other(format!("the node did not start: {line}")))?;
        Ok(Node {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, hello.port)),
            fingerprint: hello.fingerprint,
            child,
            orders,
            replies,
        })
    }

    /// Has something done, and waits until it was handed to the worker.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn order(&mut self, order: Order) -> io::Result<()> {
        self.ask(order).map(|_| ())
    }

    /// The sessions that ended, by reason.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn ends(&mut self) -> io::Result<BTreeMap<String, u64>> {
        self.ask(Order::Ends)
    }

    fn ask(&mut self, order: Order) -> io::Result<BTreeMap<String, u64>> {
        writeln!(self.orders, "{}", serde_json::to_string(&order)?)?;
        let mut line = String::new();
        self.replies.read_line(&mut line)?;
        serde_json::from_str(&line)
            .map_err(|_| io::Error::other(format!("the node says {:?}", line.trim_end())))
    }

    /// What it has used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage::of(self.child.id()).unwrap_or_default()
    }

    /// CPU time of its threads with this name.
    #[must_use]
    pub fn threads_cpu(&self, name: &str) -> Duration {
        Duration::from_nanos(cpu::of_threads_ns(self.child.id(), name))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The child's program, if that is what this process is.
#[must_use]
pub fn serve_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip_while(|argument| argument != FLAG);
    arguments.next()?;
    let served = serve(&arguments.next().unwrap_or_default());
    if let Err(error) = &served {
        println!("{error}");
    }
    Some(if served.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn serve(clients: &str) -> io::Result<()> {
    let mut fingerprint = [0; 32];
    for (at, byte) in fingerprint.iter_mut().enumerate() {
        let digits = clients.get(2 * at..2 * at + 2).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).map_err(io::Error::other)?;
    }
    let (dataplane, mut events) = Dataplane::start(DataplaneConfig {
        media: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        workers: 1,
        driver: DriverChoice::Auto,
        sessions_max: SESSIONS_MAX,
        publisher_bitrate_bps_max: 1_000_000_000_000,
        egress_hold: EGRESS_HOLD_DEFAULT,
        audio_speakers: 0,
        dtls_threads: DTLS_THREADS,
        pin: false,
    })
    .map_err(io::Error::other)?;
    let ends = Arc::new(Mutex::new(BTreeMap::new()));
    let noted = ends.clone();
    std::thread::spawn(move || {
        while let Some((_, event)) = events.blocking_recv() {
            if let Event::Closed { reason, .. } = event
                && let Ok(mut ends) = noted.lock()
            {
                *ends.entry(format!("{reason:?}")).or_insert(0_u64) += 1;
            }
        }
    });
    let hello = Hello {
        port: dataplane.workers().first().map_or(0, |worker| worker.port),
        fingerprint: dataplane.fingerprint(),
    };
    println!("{}", serde_json::to_string(&hello)?);
    for line in io::stdin().lock().lines() {
        for command in carry_out(serde_json::from_str(&line?)?, fingerprint) {
            hand_over(&dataplane, command);
        }
        let ends = ends.lock().map_err(|_| io::Error::other("poisoned"))?;
        println!("{}", serde_json::to_string(&*ends)?);
    }
    Ok(())
}

fn carry_out(order: Order, fingerprint: [u8; 32]) -> Vec<Command> {
    let track = |publisher: usize, at: usize| TrackId((publisher * 2 + at) as u64);
    match order {
        Order::Open { first, count } => (first..first + count)
            .map(|client| call::expect(client, vec![Fingerprint::Sha256(fingerprint)]))
            .collect(),
        Order::Publish { client } => streams(FRAMES)
            .iter()
            .enumerate()
            .map(|(at, load)| call::publish(load, client, track(client, at), ssrc(client, at)))
            .collect(),
        Order::Receive {
            publisher,
            first,
            count,
        } => (first..first + count)
            .flat_map(|client| {
                streams(FRAMES)
                    .into_iter()
                    .enumerate()
                    .flat_map(move |(at, load)| {
                        let number = (client * 2 + at) as u32;
                        call::receive(&load, client, number, track(publisher, at))
                    })
            })
            .collect(),
        Order::Ends => Vec::new(),
    }
}

fn hand_over(dataplane: &Dataplane, mut command: Command) {
    while let Err(refused) = dataplane.try_command(0, command) {
        command = *refused.0;
        pause(STEP);
    }
}
