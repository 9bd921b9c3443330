//! Where a camera may be, when a stranger chose its address: a node must not be made to connect within its network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::order::Trust;

/// A range of addresses: `192.168.7.0/24`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why something is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCidr {
    /// It is neither an address nor one with a prefix.
    #[error("{0:?} is no range of addresses; one looks like 192.168.7.0/24, fd00::/8 or 10.0.0.5")]
    Malformed(String),
    /// The prefix has bits behind it.
    #[error("{0} has bits behind its prefix; {1} would be the range")]
    HostBits(Cidr, Cidr),
}

impl Cidr {
    /// Whether the address is in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.prefix))
                    .unwrap_or(0);
                (u32::from(range) ^ u32::from(address)) & mask == 0
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.prefix))
                    .unwrap_or(0);
                (u128::from(range) ^ u128::from(address)) & mask == 0
            }
            _ => false,
        }
    }

    /// The range without bits behind its prefix.
    fn network(self) -> Cidr {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.prefix))
                    .unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(address) & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.prefix))
                    .unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(address) & mask))
            }
        };
        Cidr { address, ..self }
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Cidr, BadCidr> {
        let bad = || BadCidr::Malformed(text.chars().take(60).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| bad())?,
            None => longest,
        };
        if prefix > longest {
            return Err(bad());
        }
        let range = Cidr { address, prefix };
        if range.network() != range {
            return Err(BadCidr::HostBits(range, range.network()));
        }
        Ok(range)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// What the operator allows beside public addresses: `--camera-allow`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed(Vec<Cidr>);

/// Why a camera may not be where it is said to be. Addresses are not in it: whoever asked may not know what a name
/// within the node's network stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The address is of this kind.
    #[error(
        "the camera's address is {0}, which requests may not name unless --camera-allow has its range"
    )]
    Kind(&'static str),
    /// The name stands for no address.
    #[error("the camera's name has no address")]
    NoAddress,
}

impl Allowed {
    /// These ranges.
    #[must_use]
    pub fn new(ranges: Vec<Cidr>) -> Allowed {
        Allowed(ranges)
    }

    /// Whether a camera may be at this address.
    ///
    /// # Errors
    /// Says what is special about it, and which setting would allow it.
    pub fn check(&self, trust: Trust, address: IpAddr) -> Result<(), NotAllowed> {
        let is_named = |address| self.0.iter().any(|range| range.contains(address));
        if trust == Trust::Operator || is_named(address) || is_named(address.to_canonical()) {
            return Ok(());
        }
        match special(address) {
            Some(kind) => Err(NotAllowed::Kind(kind)),
            None => Ok(()),
        }
    }

    /// The first address at which a camera may be. It is the one to connect to: asking for the name's addresses again
    /// may give others.
    ///
    /// # Errors
    /// As [`Allowed::check`], of the first that may not.
    pub fn choose(
        &self,
        trust: Trust,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<SocketAddr, NotAllowed> {
        let mut refusal = NotAllowed::NoAddress;
        for address in addresses {
            match self.check(trust, address.ip()) {
                Ok(()) => return Ok(address),
                Err(reason) if refusal == NotAllowed::NoAddress => refusal = reason,
                Err(_) => {}
            }
        }
        Err(refusal)
    }
}

/// What an address is, that is not one of the public internet (RFC 6890 and the registries that it began).
fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("unspecified"),
        [127, ..] => Some("loopback"),
        [169, 254, ..] => Some("link-local"),
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] => Some("private"),
        [100, 64..=127, ..] => Some("of a carrier's network (RFC 6598)"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("for documents (RFC 5737)"),
        [192, 0, 0, _] | [198, 18 | 19, ..] => Some("reserved"),
        [192, 88, 99, _] => Some("a 6to4 relay's"),
        [224..=239, ..] => Some("multicast"),
        [240..=255, ..] => Some("reserved or broadcast"),
        _ => None,
    }
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [0, 0, 0, 0, 0, 0xFFFF | 0, ..] | [0, 0, 0, 0, 0xFFFF, 0, ..] => {
            Some("IPv4 within IPv6 (RFC 4291)")
        }
        [0x0064, 0xFF9B, ..] => Some("IPv4 within IPv6 (RFC 6052)"),
        [0x2002, ..] => Some("6to4 (RFC 3056)"),
        [0xFC00..=0xFDFF, ..] => Some("unique local"),
        [0xFE80..=0xFEBF, ..] => Some("link-local"),
        [0xFF00..=0xFFFF, ..] => Some("multicast"),
        [0x2001, 0x0DB8, ..] | [0x3FFF, 0..=0x0FFF, ..] => Some("for documents (RFC 3849)"),
        // Teredo, benchmarks, ORCHID and their like.
        [0x2001, 0..=0x01FF, ..] => Some("reserved"),
        [0x2000..=0x3FFF, ..] => None,
        _ => Some("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &Allowed, address: &str) -> Result<(), NotAllowed> {
        allowed.check(Trust::Request, address.parse().unwrap())
    }

    #[test]
    fn t_34_what_is_not_public_is_refused_to_strangers() {
        let nothing = Allowed::default();
        for address in [
            "127.0.0.1",
            "127.255.0.3",
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "192.88.99.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "100::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            let refused = check(&nothing, address).unwrap_err();
            assert!(refused.to_string().contains("--camera-allow"), "{address}");
            assert!(!refused.to_string().contains(address));
            let address = address.parse().unwrap();
            assert_eq!(nothing.check(Trust::Operator, address), Ok(()));
        }
        for address in [
            "8.8.8.8",
            "100.63.0.1",
            "172.32.0.1",
            "2a00:1450::1",
            "2600::1",
        ] {
            assert_eq!(check(&nothing, address), Ok(()), "{address}");
        }
    }

    #[test]
    fn t_34_a_range_allows_what_is_in_it_and_nothing_beside() {
        let ranges = ["192.168.7.0/24", "10.0.0.5", "fd00:7::/32"];
        let allowed = Allowed::new(ranges.iter().map(|range| range.parse().unwrap()).collect());
        for address in ["192.168.7.1", "::ffff:192.168.7.1", "10.0.0.5", "fd00:7::9"] {
            assert_eq!(check(&allowed, address), Ok(()), "{address}");
        }
        for address in ["192.168.8.1", "10.0.0.6", "fd00:8::9", "::ffff:10.0.0.6"] {
            assert!(check(&allowed, address).is_err(), "{address}");
        }
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("10.0.0.1".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
    }

    #[test]
    fn t_34_the_address_that_was_checked_is_the_one_that_is_connected_to() {
        let addresses = ["127.0.0.1:554", "8.8.8.8:554", "10.0.0.1:554"];
        let addresses = addresses.map(|address| address.parse().unwrap());
        let allowed = Allowed::default();
        let chosen = allowed.choose(Trust::Request, addresses);
        assert_eq!(chosen, Ok("8.8.8.8:554".parse().unwrap()));
        let chosen = allowed.choose(Trust::Operator, addresses);
        assert_eq!(chosen, Ok("127.0.0.1:554".parse().unwrap()));
        let chosen = allowed.choose(Trust::Request, [addresses[2]]);
        assert_eq!(chosen, Err(NotAllowed::Kind("private")));
        assert_eq!(
            allowed.choose(Trust::Request, []),
            Err(NotAllowed::NoAddress)
        );
    }

    #[test]
    fn what_is_no_range_is_told_how_one_looks() {
        for text in [
            "",
            "ten",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "fd00::/129",
            "10.0.0.0/8/8",
        ] {
            let error = text.parse::<Cidr>().unwrap_err().to_string();
            assert!(error.contains("192.168.7.0/24"), "{error}");
        }
        let error = "10.1.2.3/8".parse::<Cidr>().unwrap_err().to_string();
        assert_eq!(
            error,
            "10.1.2.3/8 has bits behind its prefix; 10.0.0.0/8 would be the range"
        );
    }
}
