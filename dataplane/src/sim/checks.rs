//! The full-ICE side of connectivity checks (RFC 8445 section 7), by the `stun` crate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{
    BINDING_REQUEST, BINDING_SUCCESS, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Message, Setter,
    TransactionId,
};
use stun::xoraddr::XorMappedAddress;

use super::network::Rng;
use super::peer::PeerIce;

/// Checks until the connection stands.
const PACE: Duration = Duration::from_millis(500);

/// Checks that keep consent (RFC 7675 asks for one in about 5 s; browsers send one in 2.5 s).
const PACE_CONNECTED: Duration = Duration::from_millis(2_500);

/// Requests that may still be answered.
const OUTSTANDING_MAX: usize = 16;

/// Both directions of a client's checks.
pub struct Checks {
    ice: PeerIce,
    crypto: AwsLcRsProvider,
    rng: Rng,
    tie_breaker: u64,
    outstanding: Vec<[u8; 12]>,
    next_at: Instant,
    /// Between checks that keep consent.
    pace_connected: Duration,
    connected: bool,
    /// When the last valid answer came.
    pub answered_at: Option<Instant>,
    /// Requests sent.
    pub sent: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Messages that do not verify, or answer nothing.
    pub refused: u64,
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checks")
            .field("sent", &self.sent)
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}

impl Checks {
    /// Checks that begin at once.
    #[must_use]
    pub fn new(now: Instant, ice: PeerIce, mut rng: Rng) -> Checks {
        Checks {
            ice,
            crypto: AwsLcRsProvider::new(),
            tie_breaker: rng.next_u64(),
            rng,
            outstanding: Vec::new(),
            next_at: now,
            pace_connected: PACE_CONNECTED,
            connected: false,
            answered_at: None,
            sent: 0,
            answered: 0,
            refused: 0,
        }
    }

    /// New credentials, or a new address: checks at once.
    pub(super) fn restart(&mut self, now: Instant, ice: PeerIce) {
        self.ice = ice;
        self.outstanding.clear();
        self.next_at = now;
    }

    /// It is connected: from now on checks only keep consent.
    pub fn slow_down(&mut self) {
        self.connected = true;
    }

    /// Keeps consent by fewer checks or more than browsers send.
    pub(super) fn keep_consent_every(&mut self, pace: Duration) {
        self.pace_connected = pace;
    }

    /// When the next check is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.next_at
    }

    /// The next check, if it is due. Both nominates and keeps consent.
    pub fn poll_request(&mut self, now: Instant) -> Option<Vec<u8>> {
        if now < self.next_at {
            return None;
        }
        self.next_at = now
            + if self.connected {
                self.pace_connected
            } else {
                PACE
            };
        let mut transaction = [0; 12];
        for byte in &mut transaction {
            *byte = self.rng.next_u32() as u8;
        }
        if self.outstanding.len() == OUTSTANDING_MAX {
            self.outstanding.remove(0);
        }
        self.outstanding.push(transaction);
        self.sent += 1;
        let username = format!("{}:{}", self.ice.remote_ufrag, self.ice.local_ufrag);
        let mut request = Message::new();
        request.set_type(BINDING_REQUEST);
        request.transaction_id = TransactionId(transaction);
        request.write_header();
        request.add(ATTR_USERNAME, username.as_bytes());
        request.add(ATTR_PRIORITY, &0x6eff_ffff_u32.to_be_bytes());
        request.add(ATTR_ICE_CONTROLLING, &self.tie_breaker.to_be_bytes());
        request.add(ATTR_USE_CANDIDATE, &[]);
        Some(self.sign(request, &self.ice.remote_pwd))
    }

    /// Takes a STUN message; what comes back is an answer to it.
    pub fn handle_message(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<Vec<u8>> {
        let mut message = Message::new();
        message.unmarshal_binary(datagram).ok()?;
        let class = message.typ.class;
        let pwd = if class == CLASS_REQUEST {
            &self.ice.local_pwd
        } else {
            &self.ice.remote_pwd
        };
        let is_genuine = FINGERPRINT.check(&message).is_ok()
            && MessageIntegrity::check(&mut message, pwd.as_bytes(), self.crypto.crypto()).is_ok();
        match class {
            CLASS_SUCCESS_RESPONSE => {
                let id = message.transaction_id.0;
                let known = self.outstanding.iter().position(|sent| *sent == id);
                match known {
                    Some(index) if is_genuine => {
                        self.outstanding.swap_remove(index);
                        self.answered_at = Some(now);
                        self.answered += 1;
                    }
                    _ => self.refused += 1,
                }
                None
            }
            CLASS_REQUEST if is_genuine => {
                let mut answer = Message::new();
                answer.set_type(BINDING_SUCCESS);
                answer.transaction_id = message.transaction_id;
                answer.write_header();
                XorMappedAddress {
                    ip: from.ip(),
                    port: from.port(),
                }
                .add_to(&mut answer)
                .ok()?;
                Some(self.sign(answer, &self.ice.local_pwd))
            }
            _ => {
                self.refused += 1;
                None
            }
        }
    }

    fn sign(&self, mut message: Message, pwd: &str) -> Vec<u8> {
        let integrity =
            MessageIntegrity::new_raw_integrity_with_provider(pwd, self.crypto.crypto());
        integrity
            .add_to(&mut message)
            .expect("integrity comes before the fingerprint");
        FINGERPRINT
            .add_to(&mut message)
            .expect("a fingerprint fits every message");
        message.raw
    }
}
