//! What is kept of an association once its handshake is done.
//!
//! The crate's endpoint holds on to every handshake message, both flights and its configuration,
//! some twenty kilobytes, for a session that speaks DTLS once more: to say goodbye. So its state is
//! kept as the crate itself writes it down (secrets, randoms and the next record's number, without
//! the peer's certificate, which was checked), beside our last flight, and an endpoint is made of
//! it again for the rare record that wants one. Where data channels were negotiated, whose records
//! come all the time, that endpoint stays ([`Carrying`](super::carrying::Carrying)).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use webrtc_dtls::endpoint::{Endpoint, EndpointEvent};
use webrtc_dtls::state::State;

use bytes::BytesMut;

use super::agreement::configuration;
use super::{PEER, drain};
use crate::command::DtlsRole;
use crate::dtls::certificate::{Certificate, crypto_provider};
use crate::dtls::client_hello::{PROFILES, SUITES};
use crate::dtls::record::{ALERT, HANDSHAKE, records};

/// Our last flight is repeated at most this often: sooner than any peer repeats its own.
const REPEAT_MIN: Duration = Duration::from_millis(25);

/// An association whose keys were released.
pub(super) struct Established {
    /// What [`State::marshal_binary`] wrote.
    state: Box<[u8]>,
    is_client: bool,
    flight: LastFlight,
}

/// What goes on in another process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EstablishedSnapshot {
    #[serde(with = "crate::hexed")]
    state: Vec<u8>,
    is_client: bool,
    flight: Option<Hexed>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hexed(#[serde(with = "crate::hexed")] Vec<u8>);

/// Our last flight, for a peer that did not get it.
#[derive(Clone)]
pub(super) struct LastFlight {
    /// A server's; a client's was answered, or there would be no keys.
    bytes: Option<Box<[u8]>>,
    repeated_at: Option<Instant>,
}

impl Established {
    /// Keeps what is needed of a finished handshake; `flight` is what was sent last.
    pub(super) fn new(state: &State, flight: Vec<Box<[u8]>>) -> Option<Established> {
        let flight = LastFlight {
            bytes: flight.into_iter().last().filter(|_| !state.is_client()),
            repeated_at: None,
        };
        Established::keep(state, flight)
    }

    /// The same with the flight as it was kept before.
    pub(super) fn keep(state: &State, flight: LastFlight) -> Option<Established> {
        let is_client = state.is_client();
        let mut bare = read(&state.marshal_binary().ok()?, is_client)?;
        bare.peer_certificates = Vec::new();
        Some(Established {
            state: bare.marshal_binary().ok()?.into_boxed_slice(),
            is_client,
            flight,
        })
    }

    /// What another process goes on with.
    pub(super) fn snapshot(&self) -> EstablishedSnapshot {
        EstablishedSnapshot {
            state: self.state.to_vec(),
            is_client: self.is_client,
            flight: self
                .flight
                .bytes
                .as_ref()
                .map(|bytes| Hexed(bytes.to_vec())),
        }
    }

    /// Goes on where another process ended; `None` when nothing can be made of it.
    pub(super) fn restore(snapshot: EstablishedSnapshot) -> Option<Established> {
        // Better now than when a record comes.
        read(&snapshot.state, snapshot.is_client)?;
        Some(Established {
            state: snapshot.state.into_boxed_slice(),
            is_client: snapshot.is_client,
            flight: LastFlight {
                bytes: snapshot.flight.map(|Hexed(bytes)| bytes.into_boxed_slice()),
                repeated_at: None,
            },
        })
    }

    /// Takes what may still come: authenticated alerts, and the peer's last flight when it repeats
    /// it. A hello restarts nothing, a plaintext alert ends nothing, and application data has no
    /// reader. Whether the association is over.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        certificate: &Certificate,
        datagram: &[u8],
        transmits: &mut VecDeque<Box<[u8]>>,
    ) -> bool {
        let mut alerts = BytesMut::new();
        for record in records(datagram) {
            match (record.epoch, record.content_type) {
                (1, ALERT) => alerts.extend_from_slice(record.bytes),
                (1, HANDSHAKE) => self.flight.repeat(now, transmits),
                _ => {}
            }
        }
        if alerts.is_empty() {
            return false;
        }
        let Some(mut endpoint) = self.endpoint(now, certificate) else {
            return false;
        };
        let result = endpoint.read(now, PEER, None, alerts);
        drain(&mut endpoint, transmits);
        match result {
            Ok(events) => events
                .iter()
                .any(|event| matches!(event, EndpointEvent::PeerClosed)),
            // Only a fatal alert ends it; only an authenticated record gets here. Its replay window
            // is a new one each time, which matters to no alert: those that count end it.
            Err(error) => matches!(error, Error::ErrAlertFatalOrClose),
        }
    }

    /// Says goodbye: a `close_notify`.
    pub(super) fn handle_close(
        &self,
        now: Instant,
        certificate: &Certificate,
        transmits: &mut VecDeque<Box<[u8]>>,
    ) {
        if let Some(mut endpoint) = self.endpoint(now, certificate) {
            let _ = endpoint.stop(now, PEER);
            drain(&mut endpoint, transmits);
        }
    }

    /// The endpoint that goes on where this ends. Nothing may be made of what is kept here after it:
    /// a record's number would be used twice.
    pub(super) fn into_endpoint(
        self,
        now: Instant,
        certificate: &Certificate,
    ) -> Option<(Endpoint, LastFlight)> {
        let endpoint = self.endpoint(now, certificate)?;
        Some((endpoint, self.flight))
    }

    /// The crate's endpoint with the keys of this association.
    fn endpoint(&self, now: Instant, certificate: &Certificate) -> Option<Endpoint> {
        let state = read(&self.state, self.is_client)?;
        // Whoever takes up a state that is there already is called a client by the crate; the keys
        // are those of the state's own role.
        let configuration = configuration(
            certificate,
            crypto_provider(),
            &SUITES,
            &PROFILES,
            DtlsRole::Client,
        );
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, None);
        endpoint
            .connect(now, PEER, configuration.ok()?, Some(state))
            .ok()?;
        Some(endpoint)
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.state.len() + self.flight.bytes.as_ref().map_or(0, |flight| flight.len())
    }
}

impl LastFlight {
    /// The peer did not get our last flight (RFC 6347 section 4.2.4). The same bytes again: had it
    /// seen their record numbers, it would not ask. That the request may be forged does no harm, for
    /// whoever is answered is the peer, and no more than was asked with.
    pub(super) fn repeat(&mut self, now: Instant, transmits: &mut VecDeque<Box<[u8]>>) {
        let is_late = self
            .repeated_at
            .is_none_or(|at| now.saturating_duration_since(at) >= REPEAT_MIN);
        if let Some(flight) = self.bytes.as_ref().filter(|_| is_late) {
            self.repeated_at = Some(now);
            transmits.push_back(flight.clone());
        }
    }
}

/// A state that was written down.
fn read(bytes: &[u8], is_client: bool) -> Option<State> {
    let mut state = State::new(crypto_provider(), is_client);
    state.unmarshal_binary(bytes).ok()?;
    Some(state)
}
