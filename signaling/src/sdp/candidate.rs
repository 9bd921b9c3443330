//! ICE candidates (RFC 8839 section 5.1, RFC 6544): ours to write, the client's to validate.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// A host candidate of ours (RFC 8839, RFC 6544).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Address and port.
    pub address: SocketAddr,
    /// Passive TCP instead of UDP.
    pub tcp: bool,
}

/// Type preference of a UDP host candidate (RFC 8445 section 5.1.2.2).
const PREFERENCE_UDP: u32 = 126;
/// Type preference of a TCP host candidate: below every kind of UDP (RFC 6544 section 4.2).
const PREFERENCE_TCP: u32 = 90;
/// Local preference of passive TCP: direction preference 4 (RFC 6544 section 4.2).
const PASSIVE: u32 = 4 << 13;

/// Writes `a=candidate` lines, UDP first, and `a=end-of-candidates`: an ICE-lite agent's list is
/// complete from the start.
pub(super) fn write_candidates(text: &mut String, candidates: &[Candidate]) {
    let (tcp, udp): (Vec<&Candidate>, Vec<&Candidate>) = candidates.iter().partition(|c| c.tcp);
    for (index, candidate) in udp.into_iter().chain(tcp).enumerate() {
        let (ip, port) = (candidate.address.ip(), candidate.address.port());
        // Of a few candidates the earlier is the better one; the last byte is the component.
        let rank = u32::try_from(index).unwrap_or(u32::MAX).min(8191);
        let (transport, preference, local, suffix) = if candidate.tcp {
            (
                "tcp",
                PREFERENCE_TCP,
                PASSIVE + 8191 - rank,
                " tcptype passive",
            )
        } else {
            ("udp", PREFERENCE_UDP, 65_535 - rank, "")
        };
        let priority = (preference << 24) | (local << 8) | 255;
        let foundation = index + 1;
        let _ = write!(
            text,
            "a=candidate:{foundation} 1 {transport} {priority} {ip} {port} typ host{suffix}\r\n"
        );
    }
    text.push_str("a=end-of-candidates\r\n");
}

/// Whether `value`, what follows `a=candidate:`, is a candidate by RFC 8839's grammar.
pub(super) fn is_candidate(value: &str) -> bool {
    let mut words = value.split_ascii_whitespace();
    let mut next = || words.next().unwrap_or_default();
    let foundation = next();
    let ice_char = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    (1..=32).contains(&foundation.len())
        // Some libraries put a `-` or `_` into a foundation; we only compare, never use it.
        && foundation.bytes().all(|b| ice_char(b) || b == b'-' || b == b'_')
        && next().parse::<u16>().is_ok_and(|component| (1..=256).contains(&component))
        && super::is_token(next())
        && next().parse::<u32>().is_ok()
        // An address or a name, such as those ending in `.local`: it is not looked at.
        && !next().is_empty()
        && next().parse::<u16>().is_ok()
        && next() == "typ"
        && super::is_token(next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_comes_first_and_outranks_tcp() {
        let udp = Candidate {
            address: "192.0.2.7:3478".parse().unwrap(),
            tcp: false,
        };
        let tcp = Candidate { tcp: true, ..udp };
        let mut text = String::new();
        write_candidates(&mut text, &[tcp, udp]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "a=candidate:1 1 udp 2130706431 192.0.2.7 3478 typ host"
        );
        assert_eq!(
            lines[1],
            "a=candidate:2 1 tcp 1520434943 192.0.2.7 3478 typ host tcptype passive"
        );
        assert_eq!(lines[2], "a=end-of-candidates");
    }

    #[test]
    fn candidates_are_told_from_what_is_none() {
        let browser = "1467250027 1 udp 2122260223 ab12.local 46243 typ host generation 0";
        assert!(is_candidate(browser));
        assert!(is_candidate(
            "1 1 TCP 10 2001:db8::1 9 typ host tcptype active"
        ));
        for bad in [
            "",
            "1 1 udp",
            "1 0 udp 1 ::1 1 typ host",
            "1 1 udp 1 ::1 65536 typ host",
        ] {
            assert!(!is_candidate(bad), "{bad}");
        }
        assert!(!is_candidate("1 1 udp 1 ::1 1 type host"));
    }
}
