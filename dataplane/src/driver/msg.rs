//! UDP on plain sockets: `recvmmsg` with GRO, `sendmsg` with GSO.

use std::io::{self, IoSliceMut};
use std::time::Duration;

use quinn_udp::{RecvMeta, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::faults::Faults;
use super::link::{Failed, Link, LinkCounts, Offloads, mapped, unmapped};
use super::uring::receive_drops;
use crate::limits::{BURST_BYTES_MAX, RECEIVE_BUFFER_BYTES};
use crate::transmit::{Path, Transmit};

/// Runs taken with one system call.
const BATCH: usize = 8;

/// How often, and how long each time, a full socket is waited for before another process takes over.
const SENT_TRIES: usize = 20;
const SENT_PAUSE: Duration = Duration::from_millis(1);

/// A UDP socket on the runtime's epoll.
pub(super) struct MsgLink {
    socket: UdpSocket,
    state: UdpSocketState,
    is_v6: bool,
    /// Off when the device cannot do it.
    gso: bool,
    buffers: [Box<[u8]>; BATCH],
    slot: Box<[u8]>,
    /// What the full socket did not take, still in the slot: bytes before `sent` are gone.
    blocked: Option<Blocked>,
    /// The last turn may have left datagrams in the socket.
    readable: bool,
    /// The last turn left work: look at other tasks, then go on.
    go_on: bool,
    counts: LinkCounts,
    faults: Faults,
}

#[derive(Clone, Copy, Debug)]
struct Blocked {
    transmit: Transmit,
    sent: usize,
    whole: bool,
}

impl MsgLink {
    /// Must be called on the worker's runtime.
    pub(super) fn new(socket: std::net::UdpSocket, faults: Faults) -> io::Result<MsgLink> {
        let state = UdpSocketState::new((&socket).into())?;
        let is_v6 = socket.local_addr()?.is_ipv6();
        Ok(MsgLink {
            gso: state.max_gso_segments() > 1,
            socket: UdpSocket::from_std(socket)?,
            state,
            is_v6,
            buffers: std::array::from_fn(|_| vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice()),
            slot: vec![0; BURST_BYTES_MAX].into_boxed_slice(),
            blocked: None,
            readable: true,
            go_on: false,
            counts: LinkCounts::default(),
            faults,
        })
    }

    /// Sends from the slot until all of it is gone or the socket is full.
    fn push(&mut self, mut rest: Blocked) {
        let Transmit { path, len, segment } = rest.transmit;
        while rest.sent < len {
            let end = if rest.whole {
                len
            } else {
                len.min(rest.sent + segment.max(1))
            };
            let contents = self.slot.get(rest.sent..end).unwrap_or_default();
            let datagrams = contents.len().div_ceil(segment.max(1));
            let transmit = quinn_udp::Transmit {
                destination: mapped(path.remote, self.is_v6),
                ecn: None,
                contents,
                segment_size: (datagrams > 1).then_some(segment),
                src_ip: None,
            };
            match self.try_send(&transmit, datagrams) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = Some(rest);
                    return;
                }
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(0);
                    if let Failed::Split { for_good } = self.counts.on_send_error(errno, datagrams)
                    {
                        self.gso &= !for_good;
                        rest.whole = false;
                        continue;
                    }
                }
            }
            rest.sent = end;
        }
    }

    fn try_send(&self, transmit: &quinn_udp::Transmit<'_>, datagrams: usize) -> io::Result<()> {
        let (socket, state) = (&self.socket, &self.state);
        socket.try_io(Interest::WRITABLE, || {
            match self.faults.of_send(datagrams) {
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None => state.try_send(socket.into(), transmit),
            }
        })
    }
}

impl MsgLink {
    fn receive_batch(&mut self, metas: &mut [RecvMeta; BATCH]) -> usize {
        let mut slices = self
            .buffers
            .each_mut()
            .map(|buffer| IoSliceMut::new(buffer));
        let (socket, state) = (&self.socket, &self.state);
        let mut received = 0;
        // An error is taken for an empty socket: one left by an earlier send (ICMP) is gone with
        // this call, and what waits behind it makes the socket readable again.
        let more = socket.try_io(Interest::READABLE, || {
            received = state.recv(socket.into(), &mut slices, metas)?;
            // A short batch emptied the socket: that is said now, which saves the call that
            // would find out.
            if received < BATCH {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        self.readable = more.is_ok();
        received
    }
}

impl Link for MsgLink {
    fn receive(&mut self, runs_max: usize, mut take: impl FnMut(Path, &mut [u8], usize)) {
        let mut runs = 0;
        self.readable = true;
        while self.readable && runs < runs_max {
            let mut metas = [RecvMeta::default(); BATCH];
            let received = self.receive_batch(&mut metas);
            for (buffer, meta) in self.buffers.iter_mut().zip(metas).take(received) {
                if meta.addr.port() == 0 {
                    self.counts.port_zero += 1;
                    continue;
                }
                let run = buffer.get_mut(..meta.len).unwrap_or_default();
                take(Path::udp(unmapped(meta.addr)), run, meta.stride);
            }
            runs += received;
        }
    }

    fn slot(&mut self) -> Option<&mut [u8]> {
        if let Some(rest) = self.blocked.take() {
            self.push(rest);
        }
        self.blocked.is_none().then_some(&mut self.slot)
    }

    fn send(&mut self, transmit: Transmit) {
        self.push(Blocked {
            transmit,
            sent: 0,
            whole: self.gso,
        });
    }

    fn flush(&mut self) {}

    fn has_more(&mut self) -> bool {
        self.readable
    }

    fn settle(&mut self, more: bool) {
        self.go_on = more || self.readable;
    }

    async fn ready(&mut self) {
        if std::mem::take(&mut self.go_on) {
            tokio::task::yield_now().await;
            return;
        }
        let interest = match self.blocked {
            Some(_) => Interest::READABLE | Interest::WRITABLE,
            None => Interest::READABLE,
        };
        if self.socket.ready(interest).await.is_err() {
            // The runtime is ending.
            std::future::pending::<()>().await;
        }
    }

    fn stop_receiving(&mut self, _take: impl FnMut(Path, &mut [u8], usize)) -> bool {
        // Nothing is taken from the socket but in `receive`.
        true
    }

    fn wait_sent(&mut self) -> bool {
        for _ in 0..SENT_TRIES {
            if self.slot().is_some() {
                return true;
            }
            std::thread::park_timeout(SENT_PAUSE);
        }
        false
    }

    fn start_receiving(&mut self) {
        self.go_on = true;
    }

    fn counts(&self) -> &LinkCounts {
        &self.counts
    }

    fn offloads(&self) -> Offloads {
        Offloads {
            gso: self.gso,
            gro: self.state.gro_segments() > 1,
        }
    }

    fn receive_drops(&self) -> u64 {
        receive_drops(&self.socket).into()
    }
}
