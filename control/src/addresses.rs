//! Where clients can reach this node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use signaling::sdp::Candidate;

/// What decides which addresses clients are told of.
#[derive(Clone, Debug)]
pub struct Reach<'a> {
    /// Addresses that were configured; empty: those of the machine.
    pub configured: &'a [IpAddr],
    /// Addresses of the machine's interfaces.
    pub interfaces: &'a [IpAddr],
    /// Where media listens.
    pub media: SocketAddr,
    /// Where HTTP listens: a page served on the loopback interface is used from this machine.
    pub http: SocketAddr,
}

impl Reach<'_> {
    /// Addresses for candidates, best first: public ones before private ones, IPv4 before IPv6.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        if !self.configured.is_empty() {
            return self.configured.to_vec();
        }
        let bound = self.media.ip();
        if !bound.is_unspecified() {
            return vec![bound];
        }
        let mut found: Vec<IpAddr> = self
            .interfaces
            .iter()
            .copied()
            .filter(|ip| self.is_reachable(*ip))
            .collect();
        if self.http.ip().is_loopback() || found.is_empty() {
            found.push(Ipv4Addr::LOCALHOST.into());
            if bound.is_ipv6() {
                found.push(Ipv6Addr::LOCALHOST.into());
            }
        }
        found.sort_by_key(|ip| (ip.is_loopback(), is_private(*ip), ip.is_ipv6()));
        found.dedup();
        found
    }

    fn is_reachable(&self, ip: IpAddr) -> bool {
        let spoken = ip.is_ipv4() || self.media.is_ipv6();
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        spoken && !link_local && !ip.is_loopback() && !ip.is_unspecified()
    }
}

/// The candidates of a worker: UDP and passive TCP on its port, at every address.
#[must_use]
pub fn candidates(addresses: &[IpAddr], port: u16) -> Vec<Candidate> {
    let at = |tcp: bool| {
        addresses.iter().map(move |ip| Candidate {
            address: SocketAddr::new(*ip, port),
            tcp,
        })
    };
    at(false).chain(at(true)).collect()
}

/// Addresses of this machine's interfaces; none where the system does not say.
#[must_use]
pub fn interfaces() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().map(if_addrs::Interface::ip).collect()
}

/// Whether an address means something only in its own network (RFC 1918, RFC 4193, RFC 6598).
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_loopback() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(configured: &[&str], media: &str, http: &str) -> Vec<String> {
        let ip = |text: &&str| text.parse::<IpAddr>().unwrap();
        let configured: Vec<IpAddr> = configured.iter().map(ip).collect();
        let interfaces: Vec<IpAddr> = [
            "127.0.0.1",
            "fe80::1",
            "2001:db8::5",
            "172.17.0.1",
            "169.254.1.1",
            "192.0.2.7",
        ]
        .iter()
        .map(ip)
        .collect();
        let reach = Reach {
            configured: &configured,
            interfaces: &interfaces,
            media: media.parse().unwrap(),
            http: http.parse().unwrap(),
        };
        reach.addresses().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn interfaces_are_found_and_loopback_is_there_for_a_local_page() {
        let local = addresses(&[], "0.0.0.0:3478", "127.0.0.1:8080");
        assert_eq!(local, ["192.0.2.7", "172.17.0.1", "127.0.0.1"]);
        let open = addresses(&[], "0.0.0.0:3478", "0.0.0.0:8080");
        assert_eq!(open, ["192.0.2.7", "172.17.0.1"]);
    }

    #[test]
    fn a_dual_stack_socket_has_addresses_of_both_families() {
        let local = addresses(&[], "[::]:3478", "127.0.0.1:8080");
        assert_eq!(
            local,
            ["192.0.2.7", "2001:db8::5", "172.17.0.1", "127.0.0.1", "::1"]
        );
    }

    #[test]
    fn what_was_configured_or_bound_is_all_there_is() {
        assert_eq!(
            addresses(&["198.51.100.9"], "0.0.0.0:1", "127.0.0.1:1"),
            ["198.51.100.9"]
        );
        assert_eq!(addresses(&[], "192.0.2.7:1", "127.0.0.1:1"), ["192.0.2.7"]);
    }

    #[test]
    fn a_worker_has_udp_and_tcp_at_every_address() {
        let found = candidates(
            &["192.0.2.7".parse().unwrap(), "::1".parse().unwrap()],
            3479,
        );
        let tcp: Vec<bool> = found.iter().map(|candidate| candidate.tcp).collect();
        assert_eq!(tcp, [false, false, true, true]);
        assert!(
            found
                .iter()
                .all(|candidate| candidate.address.port() == 3479)
        );
    }
}
