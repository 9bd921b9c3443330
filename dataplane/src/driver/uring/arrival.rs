//! What a multishot receive leaves in a buffer: a header, the sender's address, control data, and
//! the datagrams.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use io_uring::types::RecvMsgOut;

use super::receive_template;

/// Room for an address: a `sockaddr_in6`.
pub(super) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Room for control data: a `cmsghdr` with an integer, and as much again for what a later kernel adds.
pub(super) const CONTROL_BYTES: usize = 64;

/// `struct io_uring_recvmsg_out`: four 32-bit fields.
const HEADER_BYTES: usize = 16;

/// `struct cmsghdr` on 64-bit machines: a length, a level and a type.
const CMSG_HEADER_BYTES: usize = size_of::<libc::cmsghdr>();

/// Datagrams from one address, laid end to end.
#[derive(Debug)]
pub(super) struct Run<'buffer> {
    pub(super) remote: SocketAddr,
    pub(super) bytes: &'buffer mut [u8],
    /// Length of each; the last may be shorter.
    pub(super) segment: usize,
}

/// Reads a received buffer; `None` when it holds nothing usable.
pub(super) fn parse(buffer: &mut [u8]) -> Option<Run<'_>> {
    let out = RecvMsgOut::parse(buffer, &receive_template()).ok()?;
    if out.is_payload_truncated() {
        return None;
    }
    let remote = address(out.name_data())?;
    let gro = gro_segment(out.control_data());
    let len = out.payload_data().len();
    let start = HEADER_BYTES + NAME_BYTES + CONTROL_BYTES;
    let bytes = buffer
        .get_mut(start..start + len)
        .filter(|bytes| !bytes.is_empty())?;
    Some(Run {
        remote,
        bytes,
        segment: gro.unwrap_or(len),
    })
}

/// A `sockaddr_in` or `sockaddr_in6`: family in our byte order, the rest in the network's.
fn address(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = *name.get(4..)?.first_chunk()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into())
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = *name.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope).into())
        }
        _ => None,
    }
}

/// The size that GRO says, among the control messages.
fn gro_segment(mut control: &[u8]) -> Option<usize> {
    while control.len() >= CMSG_HEADER_BYTES {
        let len = usize::from_ne_bytes(*control.first_chunk()?);
        let level = i32::from_ne_bytes(*control.get(8..)?.first_chunk()?);
        let kind = i32::from_ne_bytes(*control.get(12..)?.first_chunk()?);
        let data = control.get(CMSG_HEADER_BYTES..len)?;
        if (level, kind) == (libc::SOL_UDP, libc::UDP_GRO) {
            let segment = i32::from_ne_bytes(*data.first_chunk()?);
            return usize::try_from(segment).ok().filter(|&segment| segment > 0);
        }
        control = control.get(len.next_multiple_of(size_of::<usize>())..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cmsg(level: i32, kind: i32, value: i32) -> Vec<u8> {
        let mut bytes = (CMSG_HEADER_BYTES + 4).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn the_gro_size_is_found_among_other_messages() {
        let mut control = cmsg(libc::SOL_SOCKET, libc::SCM_TIMESTAMP, 1);
        control.extend(cmsg(libc::SOL_UDP, libc::UDP_GRO, 1200));
        assert_eq!(gro_segment(&control), Some(1200));
        assert_eq!(gro_segment(&control[..24]), None);
        assert_eq!(gro_segment(&cmsg(libc::SOL_UDP, libc::UDP_GRO, 0)), None);
        for len in 0..control.len() {
            gro_segment(&control[..len]);
        }
        assert_eq!(gro_segment(&[0; 64]), None, "a length of 0 ends the search");
    }

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        for text in ["192.0.2.7:5000", "[2001:db8::7]:5000", "[fe80::1%3]:9"] {
            let expected: SocketAddr = text.parse().unwrap();
            let native = socket2::SockAddr::from(expected);
            let mut name = (native.family()).to_ne_bytes().to_vec();
            name.extend(expected.port().to_be_bytes());
            match expected {
                SocketAddr::V4(v4) => name.extend(v4.ip().octets()),
                SocketAddr::V6(v6) => {
                    name.extend([0; 4]);
                    name.extend(v6.ip().octets());
                    name.extend(v6.scope_id().to_ne_bytes());
                }
            }
            assert_eq!(address(&name), Some(expected));
        }
        assert_eq!(address(&[0; NAME_BYTES]), None);
        assert_eq!(address(&[]), None);
    }
}
