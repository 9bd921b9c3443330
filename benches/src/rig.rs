//! Real sockets around a forwarder, on loopback or before a device that drops what is sent: one publisher that sends paced bursts of SRTP, and
//! subscribers that take what comes, all on the load's core.
//!
//! Each packet carries the nanosecond at which its burst was made; a subscriber decrypts the first
//! packet of each run that it receives, and so knows how long it took.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dataplane::wire::{Protocol, classify};

use crate::call::Load;
use crate::cpu;
use crate::publisher::{Publisher, Subscriber};
use crate::socket::{Place, Socket, pause, wait_for};

/// After the last packet that is expected did not come for this long, it is lost.
const LOST_AFTER: Duration = Duration::from_millis(100);

/// A publisher and its subscribers, with their sockets.
#[derive(Debug)]
pub struct Rig {
    load: Load,
    place: Place,
    publisher: Publisher,
    publishes_on: Socket,
    subscribers: Vec<(Socket, Subscriber)>,
    burst: Vec<u8>,
}

/// What a round found.
#[derive(Debug, Default)]
pub struct Round {
    /// Packets that the subscribers should have got.
    pub expected: u64,
    /// Packets that they got.
    pub received: u64,
    /// CPU time of the forwarder's thread.
    pub cpu_ns: u64,
    /// Of the first packet of each run.
    pub latencies_ns: Vec<f64>,
}

impl Rig {
    /// Binds a socket for each client.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(load: Load, place: Place) -> io::Result<Rig> {
        let socket = |client| Socket::bind_at(place.client(client), place);
        let subscriber = |client| Ok((socket(client)?, Subscriber::new(&load, client)));
        Ok(Rig {
            load,
            place,
            publisher: Publisher::new(load),
            publishes_on: socket(0)?,
            subscribers: (1..=load.subscribers)
                .map(subscriber)
                .collect::<io::Result<_>>()?,
            burst: Vec::new(),
        })
    }

    /// From now on so many bursts are published in a second.
    pub fn set_rate(&mut self, bursts_per_second: u64) {
        self.load.bursts_per_second = bursts_per_second;
    }

    /// The sockets of clients 0 to n.
    #[must_use]
    pub fn sockets(&self) -> Vec<&Socket> {
        let subscribers = self.subscribers.iter().map(|(socket, _)| socket);
        std::iter::once(&self.publishes_on)
            .chain(subscribers)
            .collect()
    }

    /// The addresses of the subscribers.
    ///
    /// # Errors
    /// What the system says.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let sockets = self.subscribers.iter().map(|(socket, _)| socket);
        sockets.map(Socket::address).collect()
    }

    /// Publishes for `duration` to a forwarder, whose work is done on `thread`, and returns when
    /// every packet has come or is lost.
    pub fn round(&mut self, to: SocketAddr, thread: &cpu::Thread, duration: Duration) -> Round {
        let Rig {
            load,
            place,
            publisher,
            publishes_on,
            subscribers,
            burst,
        } = self;
        let (received, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let before = thread.cpu_ns();
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| receive_all(subscribers, &received, &stop));
            let bursts = publish(load, publisher, publishes_on, to, duration, burst);
            let expected = bursts * (load.burst * load.subscribers) as u64;
            if place.arrives() {
                settle(expected, &received);
            } else {
                pause(LOST_AFTER);
            }
            let cpu_ns = thread.cpu_ns() - before;
            stop.store(true, Ordering::Relaxed);
            Round {
                expected,
                received: received.load(Ordering::Relaxed),
                cpu_ns,
                latencies_ns: receiving.join().unwrap_or_default(),
            }
        })
    }
}

/// Sends bursts at their times, and returns how many.
fn publish(
    load: &Load,
    publisher: &mut Publisher,
    socket: &Socket,
    to: SocketAddr,
    duration: Duration,
    burst: &mut Vec<u8>,
) -> u64 {
    cpu::pin(cpu::LOAD_CORE);
    let start = cpu::wall_ns();
    let bursts = duration.as_nanos() as u64 * load.bursts_per_second / 1_000_000_000;
    for number in 0..bursts {
        let due = start + number * 1_000_000_000 / load.bursts_per_second;
        let now = cpu::wall_ns();
        if due > now {
            pause(Duration::from_nanos(due - now));
        }
        let segment = publisher.write_burst(cpu::wall_ns(), burst);
        // A burst that is not sent shows as loss.
        socket.send(to, burst, segment).ok();
    }
    bursts
}

/// Waits until all has come, or nothing comes any more.
fn settle(expected: u64, received: &AtomicU64) {
    let (mut last, mut since) = (0, cpu::wall_ns());
    loop {
        let now = received.load(Ordering::Relaxed);
        if now >= expected {
            return;
        }
        if now != last {
            (last, since) = (now, cpu::wall_ns());
        } else if u128::from(cpu::wall_ns() - since) > LOST_AFTER.as_nanos() {
            return;
        }
        pause(Duration::from_millis(1));
    }
}

/// Receives at all sockets until told to stop, and returns the latencies.
fn receive_all(
    subscribers: &mut [(Socket, Subscriber)],
    received: &AtomicU64,
    stop: &AtomicBool,
) -> Vec<f64> {
    cpu::pin(cpu::LOAD_CORE);
    let mut buffer = vec![0; 1 << 16];
    let mut latencies = Vec::new();
    let (sockets, mut readers): (Vec<&Socket>, Vec<&mut Subscriber>) =
        subscribers.iter_mut().map(|(s, r)| (&*s, r)).unzip();
    let mut waiting: Vec<_> = sockets.iter().map(|socket| socket.readable()).collect();
    while !stop.load(Ordering::Relaxed) {
        wait_for(&mut waiting, Duration::from_millis(20));
        let readable = waiting.iter().map(|fd| !fd.revents().is_empty());
        let here = readable.zip(&sockets).zip(&mut readers);
        for ((_, socket), reader) in here.filter(|((readable, _), _)| *readable) {
            while let Ok(run) = socket.receive(&mut buffer) {
                let now = cpu::wall_ns();
                let datagrams = buffer[..run.len].chunks(run.segment);
                let mut media = datagrams.filter(|packet| classify(packet) == Some(Protocol::Rtp));
                let Some(first) = media.next() else {
                    continue;
                };
                let packets = 1 + media.count() as u64;
                received.fetch_add(packets, Ordering::Relaxed);
                if let Some(stamp) = reader.stamp(first) {
                    latencies.push(now.saturating_sub(stamp) as f64);
                }
            }
        }
    }
    latencies
}
