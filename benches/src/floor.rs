//! The floor: the least that forwarding can cost on this machine with the same seals and sends.
//!
//! It opens each packet once, seals it for each subscriber into one slot, and sends a burst to each.
//! No RTCP, no statistics, no retransmission, no sessions, no choice of what to send.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dataplane::id::Ssrc;
use dataplane::limits::BURST_BYTES_MAX;
use dataplane::srtp::{OpenKey, SealKey, SequenceWindow};
use dataplane::wire::{ExtensionBlock, RtpHeader, RtpView};

use crate::call::{Load, SSRC, STREAMS_MAX, master_key};
use crate::cpu;
use crate::socket::{Place, Socket};

/// The name of the floor program's thread.
const NAME: &str = "floor";

/// How often the floor program looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(50);

/// The forwarding loop without its sockets.
#[derive(Debug)]
pub struct Forwarder {
    open: OpenKey,
    seals: Vec<SealKey>,
    /// Of each stream.
    windows: Vec<SequenceWindow>,
    extensions: ExtensionBlock,
    plain: Vec<u8>,
    opened: Vec<(RtpHeader, usize, u64)>,
    slot: Vec<u8>,
}

impl Forwarder {
    /// For the call of [`crate::call`], with the same keys.
    ///
    /// # Panics
    /// Never: the keys have the profile's length.
    #[must_use]
    pub fn new(load: &Load) -> Forwarder {
        let profile = load.profile;
        let seal = |client| SealKey::new(profile, &master_key(profile, client));
        Forwarder {
            open: OpenKey::new(profile, &master_key(profile, 0))
                .expect("a key of the profile's length"),
            seals: (1..=load.subscribers)
                .map(|client| seal(client).expect("a key of the profile's length"))
                .collect(),
            windows: (0..load.streams).map(|_| SequenceWindow::new()).collect(),
            extensions: load.extensions(),
            plain: vec![0; BURST_BYTES_MAX],
            opened: Vec::with_capacity(64),
            slot: vec![0; BURST_BYTES_MAX],
        }
    }

    /// Takes a run of packets, and gives each subscriber's burst to `send` with the subscriber's
    /// number, from 0, and the size of its packets.
    pub fn forward(
        &mut self,
        run: &[u8],
        segment: usize,
        mut send: impl FnMut(usize, &[u8], usize),
    ) {
        self.opened.clear();
        for (packet, out) in run.chunks(segment).zip(self.plain.chunks_mut(segment)) {
            let Ok(view) = RtpView::parse(packet) else {
                continue;
            };
            let stream = (view.ssrc().0 - SSRC.0) as usize;
            let Some(window) = self.windows.get_mut(stream) else {
                continue;
            };
            let index = window.estimate(view.sequence());
            let opened = self.open.open_rtp(packet, view.header_len(), index, out);
            if let Ok(len) = opened
                && window.is_fresh(index)
            {
                window.accept(index);
                let header = RtpHeader {
                    marker: view.marker(),
                    payload_type: view.payload_type(),
                    sequence: view.sequence(),
                    timestamp: view.timestamp(),
                    ssrc: Ssrc(stream as u32),
                    padding: false,
                };
                self.opened.push((header, len, index));
            }
        }
        for (number, seal) in self.seals.iter().enumerate() {
            let mut written = 0;
            for ((header, len, index), plain) in self.opened.iter().zip(self.plain.chunks(segment))
            {
                let header = RtpHeader {
                    ssrc: Ssrc(((number + 1) * STREAMS_MAX) as u32 + header.ssrc.0),
                    ..*header
                };
                let packet = &mut self.slot[written..];
                let sealed = header
                    .write(packet, &self.extensions)
                    .and_then(|at| seal.seal_rtp(packet, at, &plain[..*len], 0, *index));
                written += sealed.unwrap_or(0);
            }
            if written > 0 {
                let size = written / self.opened.len();
                send(number, &self.slot[..written], size);
            }
        }
    }
}

/// A floor program that runs until dropped, on a thread of its own.
#[derive(Debug)]
pub struct Floor {
    /// Where the publisher sends.
    pub address: SocketAddr,
    /// Its thread.
    pub thread: cpu::Thread,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

impl Floor {
    /// Starts it on the measured core.
    ///
    /// # Errors
    /// What the system says about its socket or its thread.
    pub fn start(load: &Load, place: Place, subscribers: Vec<SocketAddr>) -> io::Result<Floor> {
        let socket = Socket::bind_at(place.server(), Place::Loopback)?;
        socket.wait_in_calls(PATIENCE)?;
        let address = socket.address()?;
        let before = cpu::Thread::named(NAME);
        let stop = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stop);
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let mut forwarder = Forwarder::new(load);
        let handle = std::thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || {
                cpu::pin(cpu::MEASURED_CORE);
                serve(&socket, &mut forwarder, &subscribers, (&end, &count));
            })?;
        let thread = started(&before)?;
        Ok(Floor {
            address,
            thread,
            sent,
            stop,
            handle: Some(handle),
        })
    }
}

impl Floor {
    /// Packets that the kernel took from it since its start.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// A thread names itself once it runs, which may be a moment later.
fn started(before: &BTreeSet<String>) -> io::Result<cpu::Thread> {
    for _ in 0..1000 {
        if let Some(thread) = cpu::Thread::new_since(NAME, before) {
            return Ok(thread);
        }
        crate::socket::pause(Duration::from_millis(1));
    }
    Err(io::ErrorKind::TimedOut.into())
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(handle) = self.handle.take() {
            handle.join().ok();
        }
    }
}

fn serve(
    socket: &Socket,
    forwarder: &mut Forwarder,
    to: &[SocketAddr],
    (stop, sent): (&AtomicBool, &AtomicU64),
) {
    let mut received = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let Ok(run) = socket.receive(&mut received) else {
            continue;
        };
        forwarder.forward(&received[..run.len], run.segment, |number, burst, size| {
            if let Some(destination) = to.get(number) {
                // What the kernel does not take shows as loss.
                if socket.send(*destination, burst, size).is_ok() {
                    let packets = burst.len().div_ceil(size.max(1));
                    sent.fetch_add(packets as u64, Ordering::Relaxed);
                }
            }
        });
    }
}
