//! A UDP socket that takes and gives runs of datagrams, and where the sockets of a measurement are.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Type};

/// What is asked of the system, each way, in bytes; the dataplane asks for as much.
const BUFFER_BYTES: usize = 8 << 20;

/// Where clients are, as seen from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On loopback: what is sent to them arrives, and the sender pays for that too.
    Loopback,
    /// Behind a device that takes what is sent to them through the whole transmit path and drops it:
    /// the device `ifb9` of `scripts/sink`.
    Sink,
}

impl Place {
    /// The server's address.
    #[must_use]
    pub fn server(self) -> Ipv4Addr {
        match self {
            Place::Loopback => Ipv4Addr::LOCALHOST,
            Place::Sink => Ipv4Addr::new(10, 99, 0, 1),
        }
    }

    /// The address of a client.
    #[must_use]
    pub fn client(self, number: usize) -> Ipv4Addr {
        match self {
            Place::Loopback => Ipv4Addr::LOCALHOST,
            Place::Sink => {
                Ipv4Addr::new(10, 99, 1 + (number / 250) as u8, 1 + (number % 250) as u8)
            }
        }
    }

    /// Whether what is sent to clients reaches them.
    #[must_use]
    pub fn arrives(self) -> bool {
        self == Place::Loopback
    }

    /// The name of the device.
    #[must_use]
    pub fn device(self) -> &'static str {
        match self {
            Place::Loopback => "lo",
            Place::Sink => "ifb",
        }
    }
}

/// A UDP socket with GRO and GSO, which does not wait unless asked to.
#[derive(Debug)]
pub struct Socket {
    udp: UdpSocket,
    state: UdpSocketState,
}

/// A run of datagrams that was received.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Bytes in all.
    pub len: usize,
    /// Bytes of each datagram; the last may be shorter.
    pub segment: usize,
}

impl Socket {
    /// Binds a free port on loopback, with large buffers as far as the system allows.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind() -> io::Result<Socket> {
        Socket::bind_at(Ipv4Addr::LOCALHOST, Place::Loopback)
    }

    /// The same at an address of a place.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind_at(at: Ipv4Addr, place: Place) -> io::Result<Socket> {
        let udp = socket2::Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        if !place.arrives() {
            // It speaks for an address that is the device's to reach, not this machine's.
            udp.set_ip_transparent_v4(true)?;
        }
        udp.bind(&SocketAddr::from((at, 0)).into())?;
        let udp: UdpSocket = udp.into();
        let state = UdpSocketState::new((&udp).into())?;
        // Past `rmem_max` and `wmem_max` only for who may; the others take what they get.
        if set_socket_recv_buffer_size_force(&udp, BUFFER_BYTES).is_err() {
            state.set_recv_buffer_size((&udp).into(), BUFFER_BYTES)?;
        }
        state.set_send_buffer_size((&udp).into(), BUFFER_BYTES)?;
        Ok(Socket { udp, state })
    }

    /// Its own address.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// From now on `receive` waits for at most this long, and `send` until there is room.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait_in_calls(&self, longest: Duration) -> io::Result<()> {
        self.udp.set_nonblocking(false)?;
        self.udp.set_read_timeout(Some(longest))
    }

    /// Sends equal datagrams laid end to end, in one call.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&self, destination: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let transmit = Transmit {
            destination,
            ecn: None,
            contents,
            segment_size: (segment < contents.len()).then_some(segment),
            src_ip: None,
        };
        self.state.try_send((&self.udp).into(), &transmit)
    }

    /// Receives a run of datagrams from one sender.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; what the system says.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Run> {
        let mut meta = [RecvMeta::default()];
        let mut slices = [IoSliceMut::new(buffer)];
        self.state
            .recv((&self.udp).into(), &mut slices, &mut meta)?;
        let [RecvMeta { len, stride, .. }] = meta;
        let segment = stride.max(1);
        Ok(Run { len, segment })
    }

    /// For [`wait_for`].
    #[must_use]
    pub fn readable(&self) -> PollFd<'_> {
        PollFd::new(&self.udp, PollFlags::IN)
    }
}

/// Waits until one of the sockets can be received from, or for the time given.
pub fn wait_for(sockets: &mut [PollFd<'_>], longest: Duration) {
    let timeout = Timespec {
        tv_sec: longest.as_secs() as i64,
        tv_nsec: i64::from(longest.subsec_nanos()),
    };
    poll(sockets, Some(&timeout)).ok();
}

/// Waits for the time given.
pub fn pause(duration: Duration) {
    wait_for(&mut [], duration);
}
