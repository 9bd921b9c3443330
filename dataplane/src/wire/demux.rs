//! Which protocol a datagram on the shared port speaks (RFC 7983, RFC 5761).

/// A protocol of the media port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Connectivity checks (RFC 8489).
    Stun,
    /// The handshake (RFC 6347).
    Dtls,
    /// Media, encrypted (RFC 3711).
    Rtp,
    /// Media's control, encrypted (RFC 3711).
    Rtcp,
}

/// What the first two bytes say; `None` for what we do not speak (ZRTP, TURN channels, QUIC) and for
/// datagrams that end before they say it. Nothing else is checked.
#[must_use]
pub fn classify(datagram: &[u8]) -> Option<Protocol> {
    // The ranges of the first byte: RFC 7983 section 7.
    match *datagram.first()? {
        0..=3 => Some(Protocol::Stun),
        20..=63 => Some(Protocol::Dtls),
        128..=191 => match *datagram.get(1)? {
            // RTCP packet types lie where an RTP marker bit is with payload types 64 to 95, which
            // nobody may use with RTCP multiplexed in (RFC 5761 section 4).
            192..=223 => Some(Protocol::Rtcp),
            _ => Some(Protocol::Rtp),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_first_bytes_has_its_protocol() {
        assert_eq!(classify(&[]), None);
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let expected = match first {
                    0..=3 => Some(Protocol::Stun),
                    20..=63 => Some(Protocol::Dtls),
                    128..=191 if (192..=223).contains(&second) => Some(Protocol::Rtcp),
                    128..=191 => Some(Protocol::Rtp),
                    _ => None,
                };
                assert_eq!(
                    classify(&[first, second, 0, 0]),
                    expected,
                    "{first} {second}"
                );
            }
        }
    }

    #[test]
    fn one_byte_of_media_is_nothing() {
        assert_eq!(classify(&[0x80]), None);
        assert_eq!(classify(&[0x16]), Some(Protocol::Dtls));
    }
}
