//! Randomness as an argument: the system's generator in production, a counter in tests.

/// A source of random bytes. What it gives names people and guards sessions, so outside tests it
/// must be the system's generator.
pub trait Random: Send {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// Characters of ICE credentials (RFC 8839 section 5.4: `ice-char`).
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Characters of ids that appear in URLs and JSON.
const URL_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters in a ufrag: 72 bits keep it unique in the process without a look-up.
const UFRAG_CHARS: usize = 12;

/// Characters in an ICE password: 180 bits, past the 128 that RFC 8445 section 5.3 asks for.
const PWD_CHARS: usize = 30;

/// Characters in ids that must not be guessed: 132 bits.
const ID_CHARS: usize = 22;

/// Characters in tokens that prove who somebody is: 192 bits.
const TOKEN_CHARS: usize = 32;

/// A new pair of ICE credentials.
pub(super) fn ice_credentials(random: &mut dyn Random) -> signaling::sdp::IceCredentials {
    signaling::sdp::IceCredentials {
        ufrag: text(random, ICE_CHARS, UFRAG_CHARS),
        pwd: text(random, ICE_CHARS, PWD_CHARS),
    }
}

/// A new id for a person or a resource.
pub(super) fn id(random: &mut dyn Random) -> String {
    text(random, URL_CHARS, ID_CHARS)
}

/// A new secret.
pub(super) fn token(random: &mut dyn Random) -> String {
    text(random, URL_CHARS, TOKEN_CHARS)
}

/// A new SSRC that is none of `taken` (RFC 3550 section 8.1), nor 0, which some stacks take for none.
pub(super) fn ssrc(random: &mut dyn Random, taken: &std::collections::BTreeSet<u32>) -> u32 {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    let mut ssrc = u32::from_be_bytes(bytes).max(1);
    while taken.contains(&ssrc) {
        ssrc = ssrc.checked_add(1).unwrap_or(1);
    }
    ssrc
}

/// The first number of a session or track in a node's life, for [`RoomsConfig`](super::RoomsConfig).
pub fn first_id(random: &mut dyn Random) -> u64 {
    let mut bytes = [0; 4];
    random.fill(&mut bytes);
    u64::from(u32::from_be_bytes(bytes)) + 1
}

/// A new `o=` session id: 62 bits, so that it is positive in every reader (RFC 9429 section 5.2.1).
pub(super) fn sdp_session_id(random: &mut dyn Random) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_be_bytes(bytes) >> 2
}

fn text(random: &mut dyn Random, alphabet: &[u8; 64], len: usize) -> String {
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
        .iter()
        .map(|byte| char::from(alphabet[usize::from(byte & 63)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    struct Constant(u8);

    impl Random for Constant {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn credentials_are_long_enough_and_of_ice_characters() {
        let ice = ice_credentials(&mut Constant(255));
        assert_eq!(ice.ufrag, "/".repeat(12));
        assert_eq!(ice.pwd.len(), 30);
    }

    #[test]
    fn an_ssrc_is_never_zero_nor_taken() {
        assert_eq!(ssrc(&mut Constant(0), &BTreeSet::new()), 1);
        assert_eq!(ssrc(&mut Constant(0), &BTreeSet::from([1, 2])), 3);
        assert_eq!(ssrc(&mut Constant(255), &BTreeSet::from([u32::MAX])), 1);
    }
}
