//! A UDP socket that sends and receives runs of datagrams (GSO and GRO).

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Bytes that wait in the kernel: a key frame of each of many people.
const BUFFER_BYTES: usize = 4 << 20;

/// The longest run of datagrams.
const RUN_BYTES_MAX: usize = 60_000;

/// A socket and the run that it works on.
#[derive(Debug)]
pub(super) struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    run: Vec<u8>,
    /// Datagrams that the kernel had no room for.
    pub(super) dropped: u64,
}

impl Socket {
    /// A socket of the same family as `remote`.
    pub(super) async fn bind(remote: SocketAddr) -> io::Result<Socket> {
        let local: SocketAddr = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(local).await?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        state.set_recv_buffer_size(UdpSockRef::from(&socket), BUFFER_BYTES)?;
        Ok(Socket {
            socket,
            state,
            run: vec![0; 1 << 16],
            dropped: 0,
        })
    }

    /// Waits until there may be something to receive.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Gives `each` the datagrams of one run that has arrived; `false` when there is none.
    pub(super) fn receive(&mut self, mut each: impl FnMut(SocketAddr, &[u8])) -> io::Result<bool> {
        let mut metas = [RecvMeta::default()];
        let (socket, state) = (&self.socket, &self.state);
        let mut buffers = [IoSliceMut::new(&mut self.run)];
        let received = socket.try_io(Interest::READABLE, || {
            state.recv(UdpSockRef::from(socket), &mut buffers, &mut metas)
        });
        match received {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        let [meta] = metas;
        let run = self.run.get(..meta.len).unwrap_or_default();
        for datagram in run.chunks(meta.stride.max(1)) {
            each(meta.addr, datagram);
        }
        Ok(true)
    }

    /// Sends datagrams to an address, equal ones together.
    pub(super) fn send(&mut self, to: SocketAddr, datagrams: &[Vec<u8>]) {
        let mut rest = datagrams;
        while let Some(first) = rest.first() {
            let segment = first.len();
            self.run.clear();
            let mut count = 0;
            for datagram in rest.iter().take(self.state.max_gso_segments()) {
                let fits = self.run.len() + datagram.len() <= RUN_BYTES_MAX || count == 0;
                if datagram.len() > segment || !fits {
                    break;
                }
                self.run.extend_from_slice(datagram);
                count += 1;
                // A shorter one may only be the last.
                if datagram.len() < segment {
                    break;
                }
            }
            rest = rest.get(count..).unwrap_or_default();
            self.send_run(to, segment, count);
        }
        self.run.resize(1 << 16, 0);
    }

    fn send_run(&mut self, to: SocketAddr, segment: usize, count: usize) {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: &self.run,
            segment_size: (count > 1).then_some(segment),
            src_ip: None,
        };
        let (socket, state) = (&self.socket, &self.state);
        let sent = socket.try_io(Interest::WRITABLE, || {
            state.try_send(UdpSockRef::from(socket), &transmit)
        });
        if sent.is_err() {
            self.dropped += count as u64;
        }
    }
}
