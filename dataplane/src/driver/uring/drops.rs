//! What the kernel dropped at a socket because nobody took it in time.

use std::os::fd::{AsFd, AsRawFd};

/// Words of `SO_MEMINFO` (sock_diag(7)): up to the one that counts drops, and no more.
const WORDS: usize = libc::SK_MEMINFO_DROPS as usize + 1;

/// Datagrams that found the socket's receive buffer full, since the socket was made.
pub(in super::super) fn receive_drops(udp: &impl AsFd) -> u32 {
    let mut words = [0_u32; WORDS];
    let mut len = size_of_val(&words) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel writes at most the `len` bytes that `words` has.
    let result = unsafe {
        libc::getsockopt(
            udp.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    // A kernel before 4.12 does not say.
    let drops = words.last().copied().filter(|_| result == 0);
    drops.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn counts_what_did_not_fit() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(receive_drops(&udp), 0);
        socket2::SockRef::from(&udp)
            .set_recv_buffer_size(4_096)
            .unwrap();
        for _ in 0..100 {
            peer.send_to(&[0; 1_000], udp.local_addr().unwrap())
                .unwrap();
        }
        assert!(receive_drops(&udp) > 50);
    }
}
