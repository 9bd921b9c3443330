//! Packets of a camera as datagrams: a pair of sockets for each stream.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use dataplane::id::Ssrc;
use dataplane::wire::RtcpWriter;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::super::limits::{DATAGRAM_BUFFER, DATAGRAM_BYTES_MAX};
use super::failure::{Failure, of_io};
use super::talk::Sockets;

/// Tries for a pair of ports that are neighbours, the lower one even (RFC 3550 section 11).
const TRIES: usize = 64;

/// The sockets of one connection.
pub(super) struct Datagrams {
    local: IpAddr,
    /// The only address from which packets are taken.
    peer: IpAddr,
    pairs: Vec<Pair>,
    buffer: Vec<u8>,
}

struct Pair {
    media: usize,
    sockets: [UdpSocket; 2],
}

impl Datagrams {
    /// None yet: for a camera at `peer`, that sees us at `local`.
    pub(super) fn new(local: IpAddr, peer: IpAddr) -> Datagrams {
        Datagrams {
            local,
            peer,
            pairs: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Waits until something can be received.
    pub(super) async fn readable(&self) {
        std::future::poll_fn(|context| {
            // All are asked, so that each wakes us.
            let mut ready = false;
            for socket in self.pairs.iter().flat_map(|pair| &pair.sockets) {
                ready |= socket.poll_recv_ready(context).is_ready();
            }
            if ready {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// The next datagram of the camera: the stream, whether it is RTCP, and its bytes. `None` where none waits. At most
    /// `budget` are looked at.
    pub(super) fn poll_datagram(&mut self, budget: &mut usize) -> Option<(usize, bool, &[u8])> {
        self.buffer.resize(DATAGRAM_BYTES_MAX, 0);
        let mut found = None;
        'all: for pair in &self.pairs {
            // Reports first: packets of the same time are mapped by them.
            for (is_rtcp, socket) in [(true, &pair.sockets[1]), (false, &pair.sockets[0])] {
                while *budget > 0 {
                    let Ok((len, from)) = socket.try_recv_from(&mut self.buffer) else {
                        break;
                    };
                    *budget -= 1;
                    if from.ip().to_canonical() == self.peer.to_canonical() {
                        found = Some((pair.media, is_rtcp, len));
                        break 'all;
                    }
                }
            }
        }
        let (media, is_rtcp, len) = found?;
        Some((media, is_rtcp, self.buffer.get(..len)?))
    }

    fn bind(&self) -> io::Result<[UdpSocket; 2]> {
        let open = |port: u16| -> io::Result<UdpSocket> {
            let domain = Domain::for_address(SocketAddr::new(self.local, port));
            let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
            socket.bind(&SocketAddr::new(self.local, port).into())?;
            socket.set_nonblocking(true)?;
            // What the system gives is enough for most cameras.
            let _ = socket.set_recv_buffer_size(DATAGRAM_BUFFER);
            UdpSocket::from_std(socket.into())
        };
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..TRIES {
            let lower = open(0)?;
            let port = lower.local_addr()?.port();
            if !port.is_multiple_of(2) {
                continue;
            }
            match open(port + 1) {
                Ok(higher) => return Ok([lower, higher]),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Sockets for Datagrams {
    fn open(&mut self, media: usize) -> Result<u16, Failure> {
        let ours = |error: io::Error| Failure::Ours(of_io(&error));
        let sockets = self.bind().map_err(ours)?;
        let port = sockets[0].local_addr().map_err(ours)?.port();
        self.pairs.push(Pair { media, sockets });
        Ok(port)
    }

    fn aim(&mut self, media: usize, rtp: u16, rtcp: u16) {
        let Some(pair) = self.pairs.iter().find(|pair| pair.media == media) else {
            return;
        };
        // A first packet each way, so that firewalls on the way let the camera's through. Both say nothing.
        let mut report = [0; 8];
        let mut writer = RtcpWriter::new(&mut report);
        if !writer.receiver_report(Ssrc(0), &[]) {
            return;
        }
        let [on_rtp, on_rtcp] = &pair.sockets;
        let empty = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (socket, port, packet) in [(on_rtp, rtp, &empty[..]), (on_rtcp, rtcp, &report[..])] {
            if port != 0 {
                // Whether it arrives is not known anyway.
                let _ = socket.try_send_to(packet, SocketAddr::new(self.peer, port));
            }
        }
    }

    fn close(&mut self, media: usize) {
        self.pairs.retain(|pair| pair.media != media);
    }
}
