//! Real sockets around a forwarder on loopback: one publisher that sends paced bursts of SRTP, and
//! subscribers that take what comes.
//!
//! Each packet carries the nanosecond at which its burst was sent; the first subscriber decrypts
//! its packets and so knows how long they took.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dataplane::command::{MasterKey, SrtpProfile};
use dataplane::srtp::{OpenKey, SealKey, SequenceWindow};
use dataplane::wire::rtp::RtpView;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, poll};

use crate::cpu;

/// Bytes of a datagram without its authentication tag's 16: an RTP header of 12, and the payload.
pub const RTP_HEADER_BYTES: usize = 12;

/// The profile that everything here speaks.
pub const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

/// What is sent, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Receivers.
    pub subscribers: usize,
    /// Packets sent at once.
    pub burst: usize,
    /// Payload bytes of a packet.
    pub payload: usize,
    /// Bursts a second.
    pub bursts_per_second: u64,
}

/// Counts that threads share.
#[derive(Debug, Default)]
pub struct Tally {
    /// Packets that the publisher sent.
    pub sent: AtomicU64,
    /// Datagrams that all subscribers received.
    pub received: AtomicU64,
    stop: AtomicBool,
    latencies_ns: std::sync::Mutex<Vec<f64>>,
}

impl Tally {
    /// Latencies seen since the last call, in nanoseconds.
    #[must_use]
    pub fn take_latencies(&self) -> Vec<f64> {
        self.latencies_ns
            .lock()
            .map(|mut held| std::mem::take(&mut *held))
            .unwrap_or_default()
    }
}

/// The key of the `index`th client.
#[must_use]
pub fn master_key(index: usize) -> MasterKey {
    let mut key = vec![7; 16];
    key[..8].copy_from_slice(&(index as u64).to_le_bytes());
    MasterKey {
        key,
        salt: vec![9; 12],
    }
}

/// A UDP socket with GRO and GSO.
#[derive(Debug)]
pub struct Socket {
    /// The socket.
    pub udp: UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    /// Binds `address` with 8 MiB buffers, as far as the system allows.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: SocketAddr) -> io::Result<Socket> {
        let udp = UdpSocket::bind(address)?;
        let state = UdpSocketState::new((&udp).into())?;
        state.set_recv_buffer_size((&udp).into(), 8 << 20)?;
        state.set_send_buffer_size((&udp).into(), 8 << 20)?;
        Ok(Socket { udp, state })
    }

    /// Sends equal datagrams laid end to end, in one call.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&self, destination: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let segment_size = (segment < contents.len()).then_some(segment);
        let transmit = Transmit {
            destination,
            ecn: None,
            contents,
            segment_size,
            src_ip: None,
        };
        self.state.try_send((&self.udp).into(), &transmit)
    }

    /// Receives a run of datagrams: where from, how many bytes in all, and bytes each.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; what the system says.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(SocketAddr, usize, usize)> {
        let mut meta = [RecvMeta::default()];
        self.state.recv(
            (&self.udp).into(),
            &mut [IoSliceMut::new(buffer)],
            &mut meta,
        )?;
        let [meta] = meta;
        Ok((meta.addr, meta.len, meta.stride.max(1)))
    }

    /// Waits until something can be received, or for the time given.
    pub fn wait(&self, longest: Duration) {
        wait_for(&mut [PollFd::new(&self.udp, PollFlags::IN)], longest);
    }
}

fn wait_for(sockets: &mut [PollFd<'_>], longest: Duration) {
    let timeout = rustix::event::Timespec {
        tv_sec: longest.as_secs() as i64,
        tv_nsec: i64::from(longest.subsec_nanos()),
    };
    poll(sockets, Some(&timeout)).ok();
}

/// Threads that send and receive until dropped; on core 0, away from what is measured.
#[derive(Debug)]
pub struct Rig {
    /// What they count.
    pub tally: Arc<Tally>,
    threads: Vec<JoinHandle<()>>,
}

impl Rig {
    /// Starts the publisher towards `forwarder`, and the subscribers on their sockets.
    #[must_use]
    pub fn start(
        load: Load,
        forwarder: SocketAddr,
        publisher: Socket,
        subscribers: Vec<Socket>,
    ) -> Rig {
        let tally = Arc::new(Tally::default());
        let counts = tally.clone();
        let receive = std::thread::spawn(move || receive_all(&subscribers, &counts));
        let counts = tally.clone();
        let send = std::thread::spawn(move || publish(load, forwarder, &publisher, &counts));
        Rig {
            tally,
            threads: vec![receive, send],
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tally.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

fn publish(load: Load, forwarder: SocketAddr, socket: &Socket, tally: &Tally) {
    cpu::pin(0);
    let key = SealKey::new(PROFILE, &master_key(0)).expect("a key of the right size");
    let size = RTP_HEADER_BYTES + load.payload + key.overhead();
    let mut burst = vec![0; size * load.burst];
    let mut payload = vec![0x5a; load.payload];
    let (start, mut index, mut frame) = (cpu::wall_ns(), 0, 0);
    while !tally.stop.load(Ordering::Relaxed) {
        let due = start + frame * 1_000_000_000 / load.bursts_per_second;
        let now = cpu::wall_ns();
        if due > now {
            socket_pause(Duration::from_nanos(due - now));
        }
        payload[..8].copy_from_slice(&cpu::wall_ns().to_le_bytes());
        for (n, packet) in burst.chunks_mut(size).enumerate() {
            write_header(
                packet,
                1,
                index as u16,
                (frame * 3000) as u32,
                n + 1 == load.burst,
            );
            key.seal_rtp(packet, RTP_HEADER_BYTES, &payload, 0, index)
                .expect("the slot fits");
            index += 1;
        }
        if socket.send(forwarder, &burst, size).is_ok() {
            tally.sent.fetch_add(load.burst as u64, Ordering::Relaxed);
        }
        frame += 1;
    }
}

fn socket_pause(duration: Duration) {
    wait_for(&mut [], duration);
}

/// Writes a bare RTP header.
pub fn write_header(packet: &mut [u8], ssrc: u32, sequence: u16, timestamp: u32, marker: bool) {
    packet[0] = 0x80;
    packet[1] = 96 | if marker { 0x80 } else { 0 };
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
}

fn receive_all(sockets: &[Socket], tally: &Tally) {
    cpu::pin(0);
    let key = OpenKey::new(PROFILE, &master_key(1)).expect("a key of the right size");
    let mut buffer = vec![0; 65_536];
    let mut window = SequenceWindow::new();
    let mut plain = vec![0; 2048];
    let mut waiting: Vec<_> = sockets
        .iter()
        .map(|s| PollFd::new(&s.udp, PollFlags::IN))
        .collect();
    while !tally.stop.load(Ordering::Relaxed) {
        wait_for(&mut waiting, Duration::from_millis(20));
        for (n, socket) in sockets.iter().enumerate() {
            while let Ok((_, len, size)) = socket.receive(&mut buffer) {
                let packets = buffer[..len].chunks(size);
                tally
                    .received
                    .fetch_add(packets.len() as u64, Ordering::Relaxed);
                if n == 0 {
                    packets.for_each(|packet| {
                        note_latency(packet, &key, &mut window, &mut plain, tally)
                    });
                }
            }
        }
    }
}

fn note_latency(
    packet: &[u8],
    key: &OpenKey,
    window: &mut SequenceWindow,
    plain: &mut [u8],
    tally: &Tally,
) {
    let Ok(view) = RtpView::parse(packet) else {
        return;
    };
    let index = window.estimate(view.sequence());
    if key
        .open_rtp(packet, view.header_len(), index, plain)
        .is_err()
    {
        return;
    }
    window.accept(index);
    let Some(stamp) = plain.first_chunk() else {
        return;
    };
    let latency = cpu::wall_ns().saturating_sub(u64::from_le_bytes(*stamp));
    if let Ok(mut held) = tally.latencies_ns.lock() {
        held.push(latency as f64);
    }
}
