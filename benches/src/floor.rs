//! The floor: the least that forwarding can cost on this machine with the same seals and sends.
//!
//! One thread receives a run of datagrams, opens each once, seals it for each subscriber into one
//! slot, and sends a burst to each. No RTCP, no statistics, no retransmission, no sessions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dataplane::srtp::{OpenKey, SealKey, SequenceWindow};
use dataplane::wire::rtp::RtpView;

use crate::cpu;
use crate::rig::{PROFILE, RTP_HEADER_BYTES, Socket, master_key, write_header};

/// A floor program that runs until dropped, in a thread named `floor`.
#[derive(Debug)]
pub struct Floor {
    /// Where the publisher sends.
    pub address: SocketAddr,
    /// Packets sent to subscribers.
    pub forwarded: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Floor {
    /// Starts it on `core`; the first subscriber is client 1, the publisher client 0.
    ///
    /// # Errors
    /// What the system says about its socket.
    pub fn start(core: usize, subscribers: Vec<SocketAddr>) -> std::io::Result<Floor> {
        let socket = Socket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = socket.udp.local_addr()?;
        let (forwarded, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, end) = (forwarded.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("floor".into())
            .spawn(move || {
                cpu::pin(core);
                forward(&socket, &subscribers, &count, &end);
            })?;
        Ok(Floor {
            address,
            forwarded,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn forward(socket: &Socket, subscribers: &[SocketAddr], forwarded: &AtomicU64, stop: &AtomicBool) {
    let open = OpenKey::new(PROFILE, &master_key(0)).expect("a key of the right size");
    let key = |n| SealKey::new(PROFILE, &master_key(n + 1)).expect("a key of the right size");
    let keys: Vec<SealKey> = (0..subscribers.len()).map(key).collect();
    let mut window = SequenceWindow::new();
    let mut received = vec![0; 65_536];
    let mut plain = vec![0; 65_536];
    let mut slot = vec![0; 65_536];
    let mut opened = Vec::with_capacity(64);
    while !stop.load(Ordering::Relaxed) {
        let Ok((_, len, size)) = socket.receive(&mut received) else {
            socket.wait(Duration::from_millis(20));
            continue;
        };
        opened.clear();
        for (packet, out) in received[..len].chunks(size).zip(plain.chunks_mut(size)) {
            let Ok(view) = RtpView::parse(packet) else {
                continue;
            };
            let index = window.estimate(view.sequence());
            if open.open_rtp(packet, view.header_len(), index, out).is_ok() {
                window.accept(index);
                opened.push((index, view.timestamp()));
            }
        }
        let payload = size - RTP_HEADER_BYTES - open.overhead();
        for ((destination, key), ssrc) in subscribers.iter().zip(&keys).zip(1..) {
            for (i, (index, timestamp)) in opened.iter().enumerate() {
                let packet = &mut slot[i * size..(i + 1) * size];
                write_header(packet, ssrc, *index as u16, *timestamp, false);
                let source = &plain[i * size..i * size + payload];
                key.seal_rtp(packet, RTP_HEADER_BYTES, source, 0, *index)
                    .expect("the slot fits");
            }
            socket
                .send(*destination, &slot[..opened.len() * size], size)
                .ok();
        }
        forwarded.fetch_add((opened.len() * subscribers.len()) as u64, Ordering::Relaxed);
    }
}
