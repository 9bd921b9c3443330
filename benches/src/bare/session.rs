//! One client of the bare forwarder, without IO: checks, handshake, keys.

use std::net::SocketAddr;
use std::time::Instant;

use dataplane::command::{DtlsRole, DtlsSpec, Fingerprint};
use dataplane::dtls::{Association, AssociationEvent, Certificate};
use dataplane::sim::checks::Checks;
use dataplane::sim::network::Rng;
use dataplane::sim::peer::PeerIce;
use dataplane::srtp::{OpenKey, SealKey, SequenceWindow};
use dataplane::wire::{Protocol, classify};

/// Who comes, and to do what.
#[derive(Debug)]
pub(super) struct SessionSpec {
    pub(super) ice: PeerIce,
    pub(super) fingerprints: Vec<Fingerprint>,
    pub(super) room: String,
    pub(super) name: String,
    /// Whether it sends; else it receives.
    pub(super) publishes: bool,
}

/// A client.
pub(super) struct Session {
    pub(super) spec: SessionSpec,
    checks: Checks,
    association: Option<Association>,
    pub(super) keys: Option<(OpenKey, SealKey)>,
    /// By SSRC: what this client sends.
    pub(super) windows: Vec<(u32, SequenceWindow)>,
    /// Where its last genuine check came from.
    pub(super) address: Option<SocketAddr>,
}

impl Session {
    pub(super) fn new(now: Instant, spec: SessionSpec) -> Session {
        Session {
            checks: Checks::new(now, spec.ice.clone(), Rng::new(1)),
            association: None,
            keys: None,
            windows: Vec::new(),
            address: None,
            spec,
        }
    }

    /// Takes what is neither media nor its control; what it wants to say goes to `out`.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        certificate: &Certificate,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut Vec<Vec<u8>>,
    ) {
        match classify(datagram) {
            Some(Protocol::Stun) => {
                let answer = self.checks.handle_message(now, from, datagram);
                if answer.is_some() {
                    self.address = Some(from);
                }
                out.extend(answer);
            }
            Some(Protocol::Dtls) => {
                let fingerprints = &self.spec.fingerprints;
                let association = self.association.get_or_insert_with(|| {
                    let spec = DtlsSpec {
                        role: DtlsRole::Server,
                        fingerprints: fingerprints.clone(),
                    };
                    Association::new(now, certificate, spec)
                });
                association.handle_datagram(now, datagram);
                self.drain(out);
            }
            _ => {}
        }
    }

    /// Repeats what of a handshake was lost.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        if let Some(association) = &mut self.association {
            association.handle_timeout(now);
            self.drain(out);
        }
    }

    fn drain(&mut self, out: &mut Vec<Vec<u8>>) {
        let Some(association) = &mut self.association else {
            return;
        };
        while let Some(datagram) = association.poll_transmit() {
            out.push(datagram.into_vec());
        }
        while let Some(event) = association.poll_event() {
            self.keys = match event {
                AssociationEvent::Connected(keys) => OpenKey::new(keys.profile, &keys.receive)
                    .ok()
                    .zip(SealKey::new(keys.profile, &keys.send).ok()),
                AssociationEvent::Closed(_) => None,
            };
        }
    }
}
