//! Where a datagram comes from and goes to.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// How bytes travel between a client and this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    /// The worker's UDP port.
    Udp,
    /// An accepted ICE-TCP connection (RFC 6544); the driver numbers them and never reuses a number.
    Tcp(u32),
}

/// One way to reach a client: a transport and the client's address on it. IPv4-mapped IPv6
/// addresses are unmapped by the driver before the engine sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Path {
    /// The transport.
    pub transport: Transport,
    /// The client's address.
    pub remote: SocketAddr,
}

impl Path {
    /// The path to `remote` over the worker's UDP port.
    #[must_use]
    pub fn udp(remote: SocketAddr) -> Path {
        Path {
            transport: Transport::Udp,
            remote,
        }
    }
}

/// What [`Engine::poll_transmit`] wrote into the caller's slot: one or more datagrams to one path,
/// laid end to end.
///
/// [`Engine::poll_transmit`]: crate::engine::Engine::poll_transmit
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where they go.
    pub path: Path,
    /// Bytes written at the start of the slot.
    pub len: usize,
    /// Size of each datagram; the last may be shorter. Equal to `len` for a single datagram.
    pub segment: usize,
}

impl Transmit {
    /// How many datagrams this is.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.len.div_ceil(self.segment.max(1))
    }
}
