//! One DTLS-SRTP association (RFC 5764), without IO.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use webrtc_dtls::endpoint::{Endpoint, EndpointEvent};

use self::agreement::{configuration, export_keys};
use self::carrying::Carrying;
use self::established::{Established, EstablishedSnapshot};
use self::handshake::Handshake;
use super::certificate::{Certificate, crypto_provider, matches_fingerprints};
use super::client_hello::{ClientHello, PROFILES, SUITES};
use super::cookie::{Cookie, provider_with_cookie};
use super::reassembly::Reassembly;
use super::record::{
    self, ALERT, CLIENT_HELLO, Fragment, HANDSHAKE, Message, Record, fragments, records,
};
use crate::command::{DtlsRole, DtlsSpec, Fingerprint, SrtpKeys, SrtpProfile};
use crate::data::{DataDrops, DataEvent, DataRequest};
use crate::event::CloseReason;
use crate::limits::HANDSHAKE_TIMEOUT;

/// The crate keeps its associations by address; each of ours holds exactly one.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// What an association tells.
#[must_use]
#[derive(Clone, Debug)]
pub enum AssociationEvent {
    /// The handshake is done and the peer's certificate is the announced one.
    Connected(Box<SrtpKeys>),
    /// It is over.
    Closed(CloseReason),
}

/// What goes on in another process of an association whose keys were released. It holds its secrets.
#[derive(Debug, Serialize, Deserialize)]
pub struct AssociationSnapshot {
    role: DtlsRole,
    established: EstablishedSnapshot,
}

/// One association.
///
/// Call order: [`Association::new`], then any `handle_*`, then drain `poll_transmit`, `poll_event` and
/// `poll_data`, then wait until `poll_timeout` or the next input.
pub struct Association {
    certificate: Certificate,
    /// Of the handshake; those of the peer that were announced, until it is done.
    role: DtlsRole,
    fingerprints: Vec<Fingerprint>,
    state: State,
    /// The longest message that the peer takes on data channels, in bytes; 0 without channels.
    data_bytes_max: u32,
    deadline: Instant,
    transmits: VecDeque<Box<[u8]>>,
    events: VecDeque<AssociationEvent>,
}

enum State {
    /// Server only: hellos are answered with the cookie, nothing is kept but fragments of hellos.
    Greeting {
        cookie: Cookie,
        reassembly: Reassembly,
    },
    /// The crate runs the handshake.
    Handshaking(Box<Handshake>),
    /// Keys were released; only authenticated records matter.
    Connected(Box<Established>),
    /// The same with data channels.
    Carrying(Box<Carrying>),
    /// Over.
    Closed,
}

impl Association {
    /// Begins an association: a server waits for a hello, a client sends one.
    #[must_use]
    pub fn new(now: Instant, certificate: &Certificate, spec: DtlsSpec) -> Association {
        let mut association = Association {
            certificate: certificate.clone(),
            role: spec.role,
            fingerprints: spec.fingerprints,
            state: State::Closed,
            data_bytes_max: 0,
            deadline: now + HANDSHAKE_TIMEOUT,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        match association.role {
            DtlsRole::Server => match Cookie::new() {
                Some(cookie) => {
                    association.state = State::Greeting {
                        cookie,
                        reassembly: Reassembly::default(),
                    };
                }
                None => association.close(CloseReason::HandshakeFailed),
            },
            DtlsRole::Client => association.connect(now, &PROFILES),
        }
        association
    }

    /// Begins an association as a client that offers these SRTP profiles only, whatever role `spec`
    /// names: who compares servers wants the same of each.
    #[must_use]
    pub fn offering(
        now: Instant,
        certificate: &Certificate,
        spec: DtlsSpec,
        profiles: &[SrtpProfile],
    ) -> Association {
        let mut association = Association {
            certificate: certificate.clone(),
            role: spec.role,
            fingerprints: spec.fingerprints,
            state: State::Closed,
            data_bytes_max: 0,
            deadline: now + HANDSHAKE_TIMEOUT,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        association.connect(now, profiles);
        association
    }

    /// What another process goes on with; `None` for a handshake that is not done.
    #[must_use]
    pub fn snapshot(&self) -> Option<AssociationSnapshot> {
        let established = match &self.state {
            State::Connected(established) => established.snapshot(),
            State::Carrying(carrying) => carrying.snapshot()?,
            State::Greeting { .. } | State::Handshaking(_) | State::Closed => return None,
        };
        Some(AssociationSnapshot {
            role: self.role,
            established,
        })
    }

    /// Goes on where another process ended, without data channels; `None` when nothing can be made of it.
    #[must_use]
    pub fn restore(
        now: Instant,
        certificate: &Certificate,
        snapshot: AssociationSnapshot,
    ) -> Option<Association> {
        let established = Established::restore(snapshot.established)?;
        Some(Association {
            certificate: certificate.clone(),
            role: snapshot.role,
            fingerprints: Vec::new(),
            state: State::Connected(Box::new(established)),
            data_bytes_max: 0,
            deadline: now,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    /// Takes a datagram from an address that ICE has validated.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        match &mut self.state {
            State::Greeting { .. } => self.greet(now, datagram),
            State::Handshaking(handshake) => {
                let input = handshake.filter(datagram, &mut self.transmits);
                if !input.is_empty() {
                    let result = handshake.endpoint.read(now, PEER, None, input);
                    self.on_progress(now, result);
                }
            }
            State::Connected(established) => {
                let transmits = &mut self.transmits;
                if established.handle_datagram(now, &self.certificate, datagram, transmits) {
                    self.close(CloseReason::PeerClosed);
                }
            }
            State::Carrying(carrying) => {
                if carrying.handle_datagram(now, datagram, &mut self.transmits) {
                    self.close(CloseReason::PeerClosed);
                }
            }
            State::Closed => {}
        }
    }

    /// From now on the association carries data channels too (RFC 8831), with messages of at most so
    /// many bytes to the peer. It never goes back, and asking again changes nothing.
    pub fn handle_open_data(&mut self, now: Instant, message_bytes_max: u32) {
        if self.data_bytes_max == 0 {
            self.data_bytes_max = message_bytes_max;
            self.carry(now);
        }
    }

    /// Does what control asks of a channel; ignored without one.
    pub fn handle_data(&mut self, now: Instant, request: DataRequest) {
        if let State::Carrying(carrying) = &mut self.state {
            carrying.handle_request(now, request, &mut self.transmits);
        }
    }

    /// Does what is due: sends a flight again, or gives the handshake up.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Greeting { .. } | State::Handshaking(_) if now >= self.deadline => {
                self.close(CloseReason::HandshakeFailed);
            }
            State::Handshaking(handshake) => {
                let result = handshake
                    .endpoint
                    .handle_timeout(PEER, now)
                    .map(|()| Vec::new());
                self.on_progress(now, result);
            }
            State::Carrying(carrying) => carrying.handle_timeout(now, &mut self.transmits),
            State::Greeting { .. } | State::Connected(_) | State::Closed => {}
        }
    }

    /// Ends the association from our side: an established peer gets a `close_notify`. No event
    /// follows.
    pub fn handle_close(&mut self, now: Instant) {
        match &mut self.state {
            State::Connected(established) => {
                established.handle_close(now, &self.certificate, &mut self.transmits);
            }
            State::Carrying(carrying) => carrying.handle_close(now, &mut self.transmits),
            State::Greeting { .. } | State::Handshaking(_) | State::Closed => {}
        }
        self.state = State::Closed;
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Box<[u8]>> {
        if self.transmits.is_empty() {
            // What is established hardly ever speaks again: its memory goes back.
            self.transmits = VecDeque::new();
        }
        self.transmits.pop_front()
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<AssociationEvent> {
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        self.events.pop_front()
    }

    /// The next thing that a data channel tells.
    pub fn poll_data(&mut self) -> Option<DataEvent> {
        match &mut self.state {
            State::Carrying(carrying) => carrying.poll_event(),
            State::Greeting { .. }
            | State::Handshaking(_)
            | State::Connected(_)
            | State::Closed => None,
        }
    }

    /// What the data channels dropped since this was last asked for.
    pub fn take_drops(&mut self) -> DataDrops {
        match &mut self.state {
            State::Carrying(carrying) => carrying.transport.take_drops(),
            State::Greeting { .. }
            | State::Handshaking(_)
            | State::Connected(_)
            | State::Closed => DataDrops::default(),
        }
    }

    /// When a flight has to be sent again or the handshake is given up, or a data channel has
    /// something due; never once the handshake is done without channels.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Greeting { .. } => Some(self.deadline),
            State::Handshaking(handshake) => {
                let resend = handshake.endpoint.poll_timeout(&PEER);
                Some(resend.map_or(self.deadline, |resend| resend.min(self.deadline)))
            }
            State::Carrying(carrying) => carrying.transport.poll_timeout(),
            State::Connected(_) | State::Closed => None,
        }
    }

    /// Whether nothing more can come of it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn close(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.events.push_back(AssociationEvent::Closed(reason));
    }

    fn connect(&mut self, now: Instant, profiles: &[SrtpProfile]) {
        let offer = configuration(
            &self.certificate,
            crypto_provider(),
            &SUITES,
            profiles,
            DtlsRole::Client,
        );
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, None);
        let Ok(()) = offer.and_then(|offer| endpoint.connect(now, PEER, offer, None)) else {
            return self.close(CloseReason::HandshakeFailed);
        };
        let mut handshake = Handshake::new(endpoint, 0, 0);
        handshake.send(&mut self.transmits);
        self.state = State::Handshaking(Box::new(handshake));
    }

    /// Answers hellos with the cookie until one brings it back.
    fn greet(&mut self, now: Instant, datagram: &[u8]) {
        let State::Greeting { cookie, reassembly } = &mut self.state else {
            return;
        };
        let mut returned = None;
        for fragment in plaintext_fragments(datagram) {
            if fragment.kind != CLIENT_HELLO || fragment.sequence > 1 {
                continue;
            }
            // A hello in one piece never meets the fragments of another: a flood of forged ones
            // leaves the client's reassembly alone.
            let whole = if fragment.is_whole() {
                let (kind, sequence) = (fragment.kind, fragment.sequence);
                Some(Message {
                    kind,
                    sequence,
                    body: fragment.part.to_vec(),
                })
            } else {
                reassembly.insert(&fragment);
                reassembly.take(fragment.sequence)
            };
            let Some(message) = whole else {
                continue;
            };
            let Some(hello) = ClientHello::parse(&message.body) else {
                continue;
            };
            if message.sequence == 1 && cookie.is_returned(&hello) {
                returned = Some(message);
                break;
            }
            if hello.cookie.is_empty() && message.sequence == 0 {
                self.transmits
                    .push_back(cookie.request().into_boxed_slice());
            }
        }
        if let Some(message) = returned {
            self.accept(now, &message);
        }
    }

    /// Starts the handshake with a hello that brought the cookie back.
    fn accept(&mut self, now: Instant, message: &Message) {
        let Some(hello) = ClientHello::parse(&message.body) else {
            return;
        };
        let Some(choice) = hello.choose() else {
            // The cookie shows that this is the client and not a forger, so it may end things.
            let mut alert = Vec::new();
            record::write_record(ALERT, 1, &HANDSHAKE_FAILURE, &mut alert);
            self.transmits.push_back(alert.into_boxed_slice());
            return self.close(CloseReason::HandshakeFailed);
        };
        let State::Greeting { cookie, .. } = &self.state else {
            return;
        };
        let provider = provider_with_cookie(*cookie);
        let first = hello.without_cookie(&message.body);
        let (Ok(configuration), Some(first)) = (
            configuration(
                &self.certificate,
                provider,
                &[choice.suite],
                &[choice.profile],
                DtlsRole::Server,
            ),
            first,
        ) else {
            return self.close(CloseReason::HandshakeFailed);
        };
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, Some(configuration));
        let first = Message {
            kind: CLIENT_HELLO,
            sequence: 0,
            body: first,
        };
        let mut datagram = Vec::new();
        first.write_record(0, &mut datagram);
        let greeted = endpoint.read(now, PEER, None, BytesMut::from(&datagram[..]));
        // The crate's own HelloVerifyRequest, which went out long ago.
        while endpoint.poll_transmit().is_some() {}
        datagram.clear();
        message.write_record(1, &mut datagram);
        let result =
            greeted.and_then(|_| endpoint.read(now, PEER, None, BytesMut::from(&datagram[..])));
        self.state = State::Handshaking(Box::new(Handshake::new(endpoint, 2, 2)));
        self.on_progress(now, result);
    }

    /// The crate took handshake records or a timeout.
    fn on_progress(&mut self, now: Instant, result: Result<Vec<EndpointEvent>, Error>) {
        let State::Handshaking(handshake) = &mut self.state else {
            return;
        };
        let Ok(events) = result else {
            handshake.send(&mut self.transmits);
            return self.close(CloseReason::HandshakeFailed);
        };
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => return self.on_complete(now),
                EndpointEvent::PeerClosed => {
                    handshake.send(&mut self.transmits);
                    return self.close(CloseReason::PeerClosed);
                }
                _ => {}
            }
        }
        handshake.send(&mut self.transmits);
    }

    /// The handshake is done: checks who the peer is before a key or our last flight leaves.
    fn on_complete(&mut self, now: Instant) {
        let State::Handshaking(mut handshake) = std::mem::replace(&mut self.state, State::Closed)
        else {
            return;
        };
        let state = handshake.endpoint.get_connection_state(PEER);
        let Some(state) = state else {
            return self.close(CloseReason::HandshakeFailed);
        };
        let trusted = state
            .peer_certificates
            .first()
            .is_some_and(|der| matches_fingerprints(der, &self.fingerprints));
        if !trusted {
            while handshake.endpoint.poll_transmit().is_some() {}
            let _ = handshake.endpoint.stop(now, PEER);
            drain(&mut handshake.endpoint, &mut self.transmits);
            return self.close(CloseReason::FingerprintMismatch);
        }
        let Some(keys) = export_keys(state) else {
            return self.close(CloseReason::HandshakeFailed);
        };
        handshake.send(&mut self.transmits);
        let Handshake {
            endpoint, flight, ..
        } = *handshake;
        let state = endpoint.get_connection_state(PEER);
        let Some(established) = state.and_then(|state| Established::new(state, flight)) else {
            return self.close(CloseReason::HandshakeFailed);
        };
        self.fingerprints = Vec::new();
        self.events
            .push_back(AssociationEvent::Connected(Box::new(keys)));
        self.state = State::Connected(Box::new(established));
        self.carry(now);
    }

    /// Begins with data channels, if they were asked for and the handshake is done.
    fn carry(&mut self, now: Instant) {
        if self.data_bytes_max == 0 || !matches!(self.state, State::Connected(_)) {
            return;
        }
        let State::Connected(established) = std::mem::replace(&mut self.state, State::Closed)
        else {
            return;
        };
        let carrying = Carrying::new(
            now,
            *established,
            &self.certificate,
            self.role,
            self.data_bytes_max as usize,
            &mut self.transmits,
        );
        match carrying {
            Some(carrying) => self.state = State::Carrying(Box::new(carrying)),
            // What was written down a moment ago is not read again: there is nothing to go on with.
            None => self.close(CloseReason::HandshakeFailed),
        }
    }
}

/// A fatal `handshake_failure` (RFC 5246 section 7.2).
const HANDSHAKE_FAILURE: [u8; 2] = [2, 40];

fn plaintext_fragments(datagram: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    let is_plaintext = |record: &Record<'_>| record.epoch == 0 && record.content_type == HANDSHAKE;
    records(datagram)
        .filter(is_plaintext)
        .flat_map(|record| fragments(record.body))
}

fn drain(endpoint: &mut Endpoint, transmits: &mut VecDeque<Box<[u8]>>) {
    while let Some(transmit) = endpoint.poll_transmit() {
        transmits.push_back(Box::from(&transmit.message[..]));
    }
}

mod agreement;
mod carrying;
mod established;
mod handshake;

#[cfg(feature = "sim")]
pub mod fuzz;

#[cfg(test)]
mod tests;
