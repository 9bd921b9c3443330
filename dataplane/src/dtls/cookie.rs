//! The cookie exchange (RFC 6347 section 4.2.1), without state until the client has answered.
//!
//! `webrtc-dtls` would bind an association to the first hello that comes, so a forged one would
//! keep the client's own from ever being served. Here every hello gets the same cookie, and only a
//! hello that brings it back, which a forger who sees no answer cannot do, starts a handshake. It
//! is the same for every hello because our answer to a forged one goes to the client too, who takes
//! the first cookie it sees. That crate insists on an exchange of its own, so it is played to it
//! with this cookie.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::{constant_time, rand};
use rtc_crypto::{CryptoError, RTCCrypto, RTCCryptoProvider, RTCRandom};

use super::certificate::crypto_provider;
use super::client_hello::ClientHello;
use super::record::{DTLS_1_2, HELLO_VERIFY_REQUEST, Message};

/// The length that `webrtc-dtls` gives its cookies.
const COOKIE_BYTES: usize = 20;

/// The cookie of one association.
#[derive(Clone, Copy)]
pub(super) struct Cookie {
    bytes: [u8; COOKIE_BYTES],
}

impl Cookie {
    /// A cookie nobody can guess; `None` when the system gives no randomness.
    pub(super) fn new() -> Option<Cookie> {
        let mut bytes = [0; COOKIE_BYTES];
        rand::fill(&mut bytes).ok()?;
        Some(Cookie { bytes })
    }

    /// Whether a hello brings it back.
    pub(super) fn is_returned(&self, hello: &ClientHello<'_>) -> bool {
        constant_time::verify_slices_are_equal(hello.cookie, &self.bytes).is_ok()
    }

    /// The HelloVerifyRequest that asks for it, as a datagram. Its record number is always 0, so
    /// that it never takes one that a later record of ours needs.
    pub(super) fn request(&self) -> Vec<u8> {
        let mut body = DTLS_1_2.to_vec();
        body.push(COOKIE_BYTES as u8);
        body.extend_from_slice(&self.bytes);
        let mut datagram = Vec::new();
        Message {
            kind: HELLO_VERIFY_REQUEST,
            sequence: 0,
            body,
        }
        .write_record(0, &mut datagram);
        datagram
    }
}

/// The crypto provider of one handshake: as usual, but the first 20 random bytes asked of it, which
/// are the handshake's cookie, are the given ones.
pub(super) fn provider_with_cookie(cookie: Cookie) -> Arc<dyn RTCCryptoProvider> {
    let provider = crypto_provider();
    let random = CookieFirst {
        provider: provider.clone(),
        cookie,
        given: AtomicBool::new(false),
    };
    Arc::new(CookieProvider { provider, random })
}

struct CookieProvider {
    provider: Arc<dyn RTCCryptoProvider>,
    random: CookieFirst,
}

struct CookieFirst {
    provider: Arc<dyn RTCCryptoProvider>,
    cookie: Cookie,
    given: AtomicBool,
}

impl RTCCryptoProvider for CookieProvider {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self.provider.crypto()
    }

    fn random(&self) -> &dyn RTCRandom {
        &self.random
    }
}

impl RTCRandom for CookieFirst {
    fn fill(&self, output: &mut [u8]) -> Result<(), CryptoError> {
        if output.len() == COOKIE_BYTES && !self.given.swap(true, Ordering::Relaxed) {
            output.copy_from_slice(&self.cookie.bytes);
            return Ok(());
        }
        self.provider.random().fill(output)
    }
}
