//! An association that carries data channels: its endpoint stays, because records come all the time.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;
use rtc_shared::error::Error;
use webrtc_dtls::endpoint::{Endpoint, EndpointEvent};

use super::established::{Established, EstablishedSnapshot, LastFlight};
use super::{PEER, drain};
use crate::command::DtlsRole;
use crate::data::{DataEvent, DataRequest, DataTransport};
use crate::dtls::certificate::Certificate;
use crate::dtls::record::{ALERT, APPLICATION_DATA, HANDSHAKE, records};

/// An association whose keys were released, with its data channels.
pub(super) struct Carrying {
    endpoint: Endpoint,
    flight: LastFlight,
    /// The channels.
    pub(super) transport: DataTransport,
}

impl Carrying {
    /// Goes on with what is kept of the handshake; what there is to send is sent.
    pub(super) fn new(
        now: Instant,
        established: Established,
        certificate: &Certificate,
        role: DtlsRole,
        message_bytes_max: usize,
        transmits: &mut VecDeque<Box<[u8]>>,
    ) -> Option<Carrying> {
        let (endpoint, flight) = established.into_endpoint(now, certificate)?;
        let mut carrying = Carrying {
            endpoint,
            flight,
            transport: DataTransport::new(now, role, message_bytes_max),
        };
        carrying.flush(now, transmits);
        Some(carrying)
    }

    /// Takes authenticated alerts, data, and the peer's last flight when it repeats it. Whether the
    /// association is over.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
        transmits: &mut VecDeque<Box<[u8]>>,
    ) -> bool {
        let mut is_over = false;
        for record in records(datagram) {
            match (record.epoch, record.content_type) {
                (1, ALERT | APPLICATION_DATA) => is_over |= self.on_record(now, record.bytes),
                (1, HANDSHAKE) => self.flight.repeat(now, transmits),
                _ => {}
            }
        }
        self.flush(now, transmits);
        is_over
    }

    /// Does what control asks of a channel.
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        request: DataRequest,
        transmits: &mut VecDeque<Box<[u8]>>,
    ) {
        self.transport.handle_request(now, request);
        self.flush(now, transmits);
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, transmits: &mut VecDeque<Box<[u8]>>) {
        self.transport.handle_timeout(now);
        self.flush(now, transmits);
    }

    /// Says goodbye: a `close_notify`.
    pub(super) fn handle_close(&mut self, now: Instant, transmits: &mut VecDeque<Box<[u8]>>) {
        let _ = self.endpoint.stop(now, PEER);
        drain(&mut self.endpoint, transmits);
    }

    /// What another process goes on with: the association without its channels.
    pub(super) fn snapshot(&self) -> Option<EstablishedSnapshot> {
        let state = self.endpoint.get_connection_state(PEER)?;
        let established = Established::keep(state, self.flight.clone())?;
        Some(established.snapshot())
    }

    /// The next thing that a channel tells.
    pub(super) fn poll_event(&mut self) -> Option<DataEvent> {
        self.transport.poll_event()
    }

    fn on_record(&mut self, now: Instant, record: &[u8]) -> bool {
        match self.endpoint.read(now, PEER, None, BytesMut::from(record)) {
            Ok(events) => {
                let mut is_over = false;
                for event in events {
                    match event {
                        EndpointEvent::ApplicationData(packet) => {
                            self.transport.handle_packet(now, &packet);
                        }
                        EndpointEvent::PeerClosed => is_over = true,
                        // The handshake is long done.
                        _ => {}
                    }
                }
                is_over
            }
            // Only a fatal alert ends it, and only an authenticated record is one.
            Err(error) => matches!(error, Error::ErrAlertFatalOrClose),
        }
    }

    /// Seals what the channels send.
    fn flush(&mut self, now: Instant, transmits: &mut VecDeque<Box<[u8]>>) {
        while let Some(packet) = self.transport.poll_transmit() {
            // It fails only once the association was closed, when nobody listens any more.
            let _ = self.endpoint.write(now, PEER, &packet);
        }
        drain(&mut self.endpoint, transmits);
    }
}
