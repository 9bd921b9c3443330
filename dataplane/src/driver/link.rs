//! The small interface between a worker's turn and the way its UDP packets travel.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::counters::Counters;
use crate::transmit::{Path, Transmit};

/// A worker's UDP socket, received from in runs and sent to in bursts.
///
/// Call order in a turn: `receive`, then for each burst `slot`, write into it, `send`; then
/// `flush`. After a few turns at most `settle`, then wait on `ready`. Between turns for which nothing
/// that arrives needs to wake the worker there is neither.
pub(super) trait Link {
    /// Hands over at most `runs_max` runs of datagrams from one path each, laid end to end with
    /// the given segment size.
    fn receive(&mut self, runs_max: usize, take: impl FnMut(Path, &mut [u8], usize));

    /// A slot of [`BURST_BYTES_MAX`](crate::limits::BURST_BYTES_MAX) bytes to write the next burst
    /// into; the same one until `send`. `None` while the kernel has them all.
    fn slot(&mut self) -> Option<&mut [u8]>;

    /// Sends what was written into the slot.
    fn send(&mut self, transmit: Transmit);

    /// Gives everything sent so far to the kernel.
    fn flush(&mut self);

    /// Whether there are arrivals that the turn did not take, as far as can be said for free.
    fn has_more(&mut self) -> bool;

    /// Ends the turns before a wait. With `more` work at hand, or arrivals that were not taken,
    /// `ready` will be ready at once, after the runtime has had a chance to look at its other tasks.
    fn settle(&mut self, more: bool);

    /// Waits until there is something to receive or a slot is free again.
    async fn ready(&mut self);

    /// Receives no more, so that what comes waits in the socket; hands over what the link holds of it already.
    /// Whether the kernel let go of it.
    fn stop_receiving(&mut self, take: impl FnMut(Path, &mut [u8], usize)) -> bool;

    /// Waits, for a moment, until everything sent has left; whether it did.
    fn wait_sent(&mut self) -> bool;

    /// Receives again.
    fn start_receiving(&mut self);

    /// What was counted since the start.
    fn counts(&self) -> &LinkCounts;

    /// What the kernel does for us at this socket.
    fn offloads(&self) -> Offloads;

    /// Datagrams that the kernel dropped because they found the receive buffer full.
    fn receive_drops(&self) -> u64;
}

/// What the kernel does in one piece at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offloads {
    /// Sends a burst (UDP_SEGMENT).
    pub(super) gso: bool,
    /// Delivers a run of datagrams (UDP_GRO).
    pub(super) gro: bool,
}

/// What a link counts; merged into the engine's [`Counters`].
#[derive(Clone, Debug, Default)]
pub(super) struct LinkCounts {
    /// Datagrams that the kernel had no room for.
    pub(super) full: u64,
    /// Datagrams that the kernel refused.
    pub(super) refused: u64,
    /// Datagrams from port 0.
    pub(super) port_zero: u64,
    /// Bursts sent datagram by datagram because GSO was refused.
    pub(super) bursts_split: u64,
    /// Whether it was refused for good.
    pub(super) offload_lost: bool,
    /// Times the receive buffers ran out.
    pub(super) buffers_exhausted: u64,
}

impl LinkCounts {
    /// Adds these counts to a report.
    pub(super) fn merge_into(&self, counters: &mut Counters) {
        counters.drop_socket_full += self.full;
        counters.drop_socket_refused += self.refused;
        counters.drop_port_zero += self.port_zero;
        counters.bursts_split += self.bursts_split;
        counters.send_offload_lost += u64::from(self.offload_lost);
        counters.receive_buffers_exhausted += self.buffers_exhausted;
    }

    /// Counts a send that failed, and says what becomes of it.
    pub(super) fn on_send_error(&mut self, errno: i32, datagrams: usize) -> Failed {
        let failed = Failed::new(errno, datagrams);
        match failed {
            Failed::Split { for_good } => {
                self.bursts_split += 1;
                if for_good && !self.offload_lost {
                    self.offload_lost = true;
                    tracing::warn!(
                        "the network device refuses segmentation offload; datagrams are sent one by one, which costs more"
                    );
                }
            }
            Failed::NoRoom => self.full += datagrams as u64,
            Failed::Refused => self.refused += datagrams as u64,
        }
        failed
    }
}

/// The address as the engine knows it: IPv4-mapped IPv6 becomes IPv4, scopes and flow labels stay
/// where they matter (link-local), which is in the address itself.
pub(super) fn unmapped(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            // The flow label differs between packets of one peer and is no part of its address.
            None => SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id())),
        },
        SocketAddr::V4(_) => remote,
    }
}

/// The address as a socket of the given family takes it.
pub(super) fn mapped(remote: SocketAddr, socket_is_v6: bool) -> SocketAddr {
    match remote {
        SocketAddr::V4(v4) if socket_is_v6 => {
            SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port())
        }
        _ => remote,
    }
}

/// What becomes of a send that the kernel did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// It was refused for being a GSO send, not for its destination: it is sent again datagram by datagram,
    /// and so are all later ones where the device said that it cannot do it.
    Split {
        /// Whether the device said so.
        for_good: bool,
    },
    /// There was no room for it: it is lost, and later ones may fit.
    NoRoom,
    /// It may not or cannot go there: it is lost.
    Refused,
}

impl Failed {
    /// By the kernel's error number. Without checksum offload in the device it says EIO to a burst, for segments
    /// longer than the path's MTU EINVAL or EMSGSIZE.
    pub(super) fn new(errno: i32, datagrams: usize) -> Failed {
        match errno {
            libc::EIO | libc::EOPNOTSUPP if datagrams > 1 => Failed::Split { for_good: true },
            libc::EINVAL | libc::EMSGSIZE if datagrams > 1 => Failed::Split { for_good: false },
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => Failed::NoRoom,
            _ => Failed::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_31_each_error_of_a_send_has_its_consequence() {
        let split = |for_good| Failed::Split { for_good };
        let cases = [
            (libc::EIO, split(true), Failed::Refused),
            (libc::EOPNOTSUPP, split(true), Failed::Refused),
            (libc::EINVAL, split(false), Failed::Refused),
            (libc::EMSGSIZE, split(false), Failed::Refused),
            (libc::EAGAIN, Failed::NoRoom, Failed::NoRoom),
            (libc::ENOBUFS, Failed::NoRoom, Failed::NoRoom),
            (libc::ENOMEM, Failed::NoRoom, Failed::NoRoom),
            (libc::EPERM, Failed::Refused, Failed::Refused),
            (libc::EACCES, Failed::Refused, Failed::Refused),
            (libc::ENETUNREACH, Failed::Refused, Failed::Refused),
            (libc::EHOSTUNREACH, Failed::Refused, Failed::Refused),
            (libc::ENETDOWN, Failed::Refused, Failed::Refused),
        ];
        for (errno, burst, single) in cases {
            assert_eq!(Failed::new(errno, 7), burst, "a burst and {errno}");
            assert_eq!(Failed::new(errno, 1), single, "a datagram and {errno}");
        }
    }

    #[test]
    fn t_31_whatever_the_error_nothing_is_lost_uncounted() {
        let mut counts = LinkCounts::default();
        for errno in 1..=133 {
            let before = counts.full + counts.refused + counts.bursts_split;
            let datagrams = match counts.on_send_error(errno, 5) {
                Failed::Split { .. } => 1,
                Failed::NoRoom | Failed::Refused => 5,
            };
            let after = counts.full + counts.refused + counts.bursts_split;
            assert_eq!(after - before, datagrams, "{errno}");
        }
        let mut counters = Counters::default();
        counts.merge_into(&mut counters);
        assert_eq!(counters.send_offload_lost, 1, "said once");
    }

    #[test]
    fn mapped_addresses_are_the_same_peer() {
        let v4: SocketAddr = "192.0.2.7:5000".parse().unwrap();
        let on_the_socket = mapped(v4, true);
        assert_eq!(
            on_the_socket,
            "[::ffff:192.0.2.7]:5000".parse::<SocketAddr>().unwrap()
        );
        assert_eq!(unmapped(on_the_socket), v4);
        assert_eq!(mapped(v4, false), v4);
        let v6: SocketAddr = "[2001:db8::7]:5000".parse().unwrap();
        assert_eq!(unmapped(mapped(v6, true)), v6);
    }
}
