//! What a ClientHello offers, and what we take of it (RFC 5246 section 7.4.1.2, RFC 5764 section 4.1).

use webrtc_dtls::cipher_suite::CipherSuiteId;

use super::record::DTLS_1_2;
use crate::command::SrtpProfile;

const USE_SRTP: u16 = 14;

/// The cipher suites we take, best first.
///
/// ChaCha20-Poly1305 comes before AES-GCM because `webrtc-dtls` fills the explicit half of the GCM
/// nonce with random bytes, which may repeat under one key (the class of CVE-2026-26014); the
/// ChaCha20 nonce is made of the record number and cannot (RFC 7905 section 2). DTLS carries a
/// handshake and a few alerts here: speed is no argument.
pub(super) const SUITES: [CipherSuiteId; 2] = [
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
];

/// The SRTP protection profiles we take, best first: CM_HMAC_SHA1 costs four times as much a packet.
pub(super) const PROFILES: [SrtpProfile; 3] = [
    SrtpProfile::AeadAes128Gcm,
    SrtpProfile::AeadAes256Gcm,
    SrtpProfile::Aes128CmHmacSha1_80,
];

/// A profile's number in `use_srtp` (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
pub(super) fn profile_number(profile: SrtpProfile) -> u16 {
    match profile {
        SrtpProfile::AeadAes128Gcm => 0x0007,
        SrtpProfile::AeadAes256Gcm => 0x0008,
        SrtpProfile::Aes128CmHmacSha1_80 => 0x0001,
    }
}

/// A checked view of a ClientHello's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// The cookie it returns; empty in its first hello.
    pub cookie: &'a [u8],
    /// Whether it speaks DTLS 1.2.
    pub is_dtls_1_2: bool,
    /// Where the cookie begins in the body, its length byte included.
    cookie_at: usize,
    suites: &'a [u8],
    profiles: &'a [u8],
}

/// The best of what both sides have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Cipher suite of the DTLS records.
    pub suite: CipherSuiteId,
    /// Protection profile of the media.
    pub profile: SrtpProfile,
}

impl<'a> ClientHello<'a> {
    /// Reads a body, without its handshake header. `None` when it is malformed.
    #[must_use]
    pub fn parse(body: &'a [u8]) -> Option<ClientHello<'a>> {
        let mut reader = Reader { rest: body };
        let version = reader.take(2)?;
        let _random = reader.take(32)?;
        let _session = reader.take_u8_prefixed()?;
        let cookie_at = body.len() - reader.rest.len();
        let cookie = reader.take_u8_prefixed()?;
        let suites = reader.take_u16_prefixed()?;
        let _compression = reader.take_u8_prefixed()?;
        let mut profiles: &[u8] = &[];
        if !reader.rest.is_empty() {
            let mut extensions = Reader {
                rest: reader.take_u16_prefixed()?,
            };
            while !extensions.rest.is_empty() {
                let kind = extensions.take_u16()?;
                let body = extensions.take_u16_prefixed()?;
                if kind == USE_SRTP {
                    profiles = Reader { rest: body }.take_u16_prefixed()?;
                }
            }
        }
        let is_dtls_1_2 = version == DTLS_1_2;
        Some(ClientHello {
            cookie,
            is_dtls_1_2,
            cookie_at,
            suites,
            profiles,
        })
    }

    /// The best common suite and profile by our order, or `None` when there is none: then the
    /// handshake fails closed.
    #[must_use]
    pub fn choose(&self) -> Option<Choice> {
        if !self.is_dtls_1_2 {
            return None;
        }
        let suite = SUITES
            .into_iter()
            .find(|suite| offers(self.suites, *suite as u16))?;
        let profile = PROFILES
            .into_iter()
            .find(|profile| offers(self.profiles, profile_number(*profile)))?;
        Some(Choice { suite, profile })
    }

    /// The same hello as it was before the cookie exchange: with an empty cookie.
    pub(super) fn without_cookie(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut first = body.get(..self.cookie_at)?.to_vec();
        first.push(0);
        first.extend_from_slice(body.get(self.cookie_at + 1 + self.cookie.len()..)?);
        Some(first)
    }
}

fn offers(list: &[u8], number: u16) -> bool {
    list.chunks_exact(2)
        .any(|entry| entry == number.to_be_bytes())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn take_u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn take_u8_prefixed(&mut self) -> Option<&'a [u8]> {
        let &[len] = self.take(1)? else {
            return None;
        };
        self.take(usize::from(len))
    }

    fn take_u16_prefixed(&mut self) -> Option<&'a [u8]> {
        let len = self.take_u16()?;
        self.take(usize::from(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version: [u8; 2], suites: &[u16], profiles: Option<&[u16]>) -> Vec<u8> {
        let list = |numbers: &[u16]| -> Vec<u8> {
            let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
            [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
        };
        let mut body = version.to_vec();
        body.extend([9; 32]);
        body.push(0);
        body.extend([3, 7, 7, 7]);
        body.extend(list(suites));
        body.extend([1, 0]);
        if let Some(profiles) = profiles {
            let mut srtp = list(profiles);
            srtp.push(0);
            let mut extension = USE_SRTP.to_be_bytes().to_vec();
            extension.extend((srtp.len() as u16).to_be_bytes());
            extension.extend(srtp);
            body.extend((extension.len() as u16).to_be_bytes());
            body.extend(extension);
        }
        body
    }

    #[test]
    fn t_17_our_order_of_suites_wins_over_the_clients() {
        let body = hello(DTLS_1_2, &[0xc02b, 0xcca9], Some(&[0x0001, 0x0008, 0x0007]));
        let choice = ClientHello::parse(&body).unwrap().choose().unwrap();
        assert_eq!(
            choice.suite,
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256
        );
        assert_eq!(choice.profile, SrtpProfile::AeadAes128Gcm);

        let body = hello(DTLS_1_2, &[0xc02b], Some(&[0x0001, 0x0008]));
        let choice = ClientHello::parse(&body).unwrap().choose().unwrap();
        assert_eq!(
            choice.suite,
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256
        );
        assert_eq!(choice.profile, SrtpProfile::AeadAes256Gcm);
    }

    #[test]
    fn t_19_what_we_do_not_take_is_no_choice() {
        let good = Some(&[0x0007][..]);
        for (why, body) in [
            ("DTLS 1.0", hello([0xfe, 0xff], &[0xcca9], good)),
            ("CBC only", hello(DTLS_1_2, &[0xc00a, 0xc014], good)),
            ("NULL", hello(DTLS_1_2, &[0x0000], good)),
            ("PSK", hello(DTLS_1_2, &[0x00a8, 0xc0a4], good)),
            ("RSA", hello(DTLS_1_2, &[0xc02f, 0xcca8], good)),
            ("no use_srtp", hello(DTLS_1_2, &[0xcca9], None)),
            (
                "CM_HMAC_SHA1_32 only",
                hello(DTLS_1_2, &[0xcca9], Some(&[0x0002])),
            ),
        ] {
            assert_eq!(ClientHello::parse(&body).unwrap().choose(), None, "{why}");
        }
    }

    #[test]
    fn every_truncation_is_malformed() {
        let body = hello(DTLS_1_2, &[0xcca9], Some(&[0x0007]));
        let extensions_at = body.len() - 11;
        for len in (0..body.len()).filter(|len| *len != extensions_at) {
            assert_eq!(
                ClientHello::parse(&body[..len]),
                None,
                "{len} of {}",
                body.len()
            );
        }
    }

    #[test]
    fn the_cookie_can_be_taken_out() {
        let body = hello(DTLS_1_2, &[0xcca9], Some(&[0x0007]));
        let parsed = ClientHello::parse(&body).unwrap();
        assert_eq!(parsed.cookie, [7, 7, 7]);
        let first = parsed.without_cookie(&body).unwrap();
        let again = ClientHello::parse(&first).unwrap();
        assert_eq!(again.cookie, b"");
        assert_eq!(again.choose(), parsed.choose());
        assert_eq!(first.len(), body.len() - 3);
    }
}
