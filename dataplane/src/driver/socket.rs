//! The sockets of a worker: UDP and TCP on one port number.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::SOCKET_BUFFER_BYTES;

/// Connections that wait to be accepted.
const TCP_BACKLOG: i32 = 256;

/// Tries to find a number that is free for UDP and TCP, when any will do.
const FREE_PORT_TRIES: usize = 16;

/// A media address that could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error(
        "{protocol} {address} is in use by another program: stop it, or choose another media address"
    )]
    InUse {
        /// "UDP" or "TCP".
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// Not allowed.
    #[error(
        "no permission to bind {protocol} {address}: choose a port above 1023, or grant CAP_NET_BIND_SERVICE"
    )]
    NoPermission {
        /// "UDP" or "TCP".
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// Not an address of this machine.
    #[error(
        "{address} is no address of this machine: bind 0.0.0.0 or [::], and announce the public address separately"
    )]
    NotLocal {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot bind {protocol} {address}: {source}")]
    Other {
        /// "UDP" or "TCP".
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    fn new(protocol: &'static str, address: SocketAddr, source: io::Error) -> BindError {
        match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { protocol, address },
            io::ErrorKind::PermissionDenied => BindError::NoPermission { protocol, address },
            io::ErrorKind::AddrNotAvailable => BindError::NotLocal { address },
            _ => BindError::Other {
                protocol,
                address,
                source,
            },
        }
    }
}

/// The bound sockets of one worker, and what the kernel granted them.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    pub(super) port: u16,
    pub(super) receive_buffer_bytes: usize,
    pub(super) send_buffer_bytes: usize,
}

impl Sockets {
    /// Binds UDP and TCP; with port 0, any number that is free for both.
    pub(super) fn bind(address: SocketAddr) -> Result<Sockets, BindError> {
        let mut tries = if address.port() == 0 {
            FREE_PORT_TRIES
        } else {
            1
        };
        loop {
            tries -= 1;
            match Sockets::bind_once(address) {
                Err(BindError::InUse { .. }) if tries > 0 => {}
                result => return result,
            }
        }
    }

    /// Sockets that another process bound, with what it set on them.
    pub(super) fn inherited(udp: UdpSocket, tcp: TcpListener) -> Sockets {
        let (receive_buffer_bytes, send_buffer_bytes) = granted_buffers(&udp);
        Sockets {
            port: udp.local_addr().map_or(0, |local| local.port()),
            udp,
            tcp,
            receive_buffer_bytes,
            send_buffer_bytes,
        }
    }

    fn bind_once(address: SocketAddr) -> Result<Sockets, BindError> {
        let udp: UdpSocket = bind_udp(address)
            .map_err(|source| BindError::new("UDP", address, source))?
            .into();
        let port = udp
            .local_addr()
            .map_or(address.port(), |local| local.port());
        let address = SocketAddr::new(address.ip(), port);
        let tcp = bind_tcp(address).map_err(|source| BindError::new("TCP", address, source))?;
        let (receive_buffer_bytes, send_buffer_bytes) = enlarge_buffers(&udp);
        Ok(Sockets {
            udp,
            tcp: tcp.into(),
            port,
            receive_buffer_bytes,
            send_buffer_bytes,
        })
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    // No SO_REUSEADDR: a second server on the port would take packets without either noticing.
    bind(&socket, address)?;
    Ok(socket)
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // For TCP it only lets a restarted server listen while old connections are in TIME_WAIT;
    // two listeners at once stay impossible.
    socket.set_reuse_address(true)?;
    bind(&socket, address)?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket)
}

fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        // `[::]` serves IPv4 too; its clients then have IPv4-mapped addresses.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())
}

/// Asks for large buffers: past the system's limit where we may, up to it otherwise. Returns what
/// was granted, in the kernel's accounting without its doubling for overhead.
fn enlarge_buffers(udp: &UdpSocket) -> (usize, usize) {
    let socket = socket2::SockRef::from(udp);
    if set_socket_recv_buffer_size_force(udp, SOCKET_BUFFER_BYTES).is_err() {
        // The kernel cuts it down to net.core.rmem_max; the size that is read back says so.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    }
    if set_socket_send_buffer_size_force(udp, SOCKET_BUFFER_BYTES).is_err() {
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    }
    granted_buffers(udp)
}

fn granted_buffers(udp: &UdpSocket) -> (usize, usize) {
    let socket = socket2::SockRef::from(udp);
    let receive = socket.recv_buffer_size().unwrap_or(0) / 2;
    let send = socket.send_buffer_size().unwrap_or(0) / 2;
    (receive, send)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_a_sentence() {
        let first = Sockets::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], first.port));
        let error = Sockets::bind(address).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "UDP {address} is in use by another program: stop it, or choose another media address"
            )
        );
    }

    #[test]
    fn a_foreign_address_is_a_sentence() {
        let error = Sockets::bind("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("192.0.2.1:0 is no address of this machine"),
            "{error}"
        );
    }

    #[test]
    fn udp_and_tcp_share_the_number_and_the_buffers_are_recorded() {
        let sockets = Sockets::bind("[::]:0".parse().unwrap()).unwrap();
        assert_eq!(sockets.tcp.local_addr().unwrap().port(), sockets.port);
        assert!(sockets.receive_buffer_bytes > 0 && sockets.send_buffer_bytes > 0);
    }
}
