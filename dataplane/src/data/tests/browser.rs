//! A browser's end of the channels: the crate's association, driven as it wants to be.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc_shared::TransportProtocol;
use webrtc_sctp::{
    Association, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, ReliabilityType, ServerConfig, StreamEvent, TransportConfig,
};

use crate::data::dcep;
use crate::data::transport::PEER;
use crate::data::{ChannelSpec, Message, MessageKind, Reliability};

/// A browser's end.
pub(crate) struct Browser {
    endpoint: Endpoint,
    association: Option<Association>,
    connected: bool,
    outbox: VecDeque<Bytes>,
    /// Messages, with their streams.
    pub(crate) received: Vec<(u16, Message)>,
    /// Streams whose opening was acknowledged.
    pub(crate) acknowledged: Vec<u16>,
    /// Streams that are closed.
    pub(crate) lost: Vec<u16>,
}

impl Browser {
    /// One that asks for the association.
    pub(crate) fn new(now: Instant) -> Browser {
        let mut browser = Browser::waiting();
        let transport = TransportConfig::default().with_max_message_size(1 << 20);
        let config = ClientConfig::new(transport);
        let (_, association) = browser.endpoint.connect(now, config, PEER).unwrap();
        browser.association = Some(association);
        browser
    }

    /// One that waits to be asked.
    pub(crate) fn waiting() -> Browser {
        let config = Arc::new(EndpointConfig::new());
        let server = Some(Arc::new(ServerConfig::default()));
        Browser {
            endpoint: Endpoint::new(PEER, TransportProtocol::UDP, config, server),
            association: None,
            connected: false,
            outbox: VecDeque::new(),
            received: Vec::new(),
            acknowledged: Vec::new(),
            lost: Vec::new(),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(crate) fn handle_packet(&mut self, now: Instant, packet: Bytes) {
        match self.endpoint.handle(now, PEER, None, packet) {
            Some((_, DatagramEvent::NewAssociation(association)))
                // Whoever asked already goes on with what it asked for.
                if self.association.is_none() =>
            {
                self.association = Some(association);
            }
            Some((_, DatagramEvent::AssociationEvent(event))) => {
                if let Some(association) = &mut self.association {
                    association.handle_event(event);
                }
            }
            _ => {}
        }
        self.settle();
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some(association) = &mut self.association
            && association.poll_timeout().is_some_and(|due| due <= now)
        {
            association.handle_timeout(now);
        }
        self.settle();
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        if self.outbox.is_empty()
            && let Some(transmit) = self.association.as_mut()?.poll_transmit(now)
            && let Payload::RawEncode(packets) = transmit.message
        {
            self.outbox.extend(packets);
        }
        self.outbox.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.association.as_ref()?.poll_timeout()
    }

    pub(crate) fn open(&mut self, now: Instant, stream: u16, spec: &ChannelSpec) {
        let open = Bytes::from(dcep::write_open(spec));
        let association = self.association.as_mut().unwrap();
        let protocol = PayloadProtocolIdentifier::Dcep;
        let mut stream = association.open_stream(stream, protocol).unwrap();
        let (kind, value) = match spec.reliability {
            Reliability::Reliable => (ReliabilityType::Reliable, 0),
            Reliability::Retransmits(count) => (ReliabilityType::Rexmit, count),
            Reliability::Lifetime(age) => (ReliabilityType::Timed, age.as_millis() as u32),
        };
        stream
            .set_reliability_params(!spec.ordered, kind, value)
            .unwrap();
        stream.write_chunk_with_ppi(now, &open, protocol).unwrap();
    }

    pub(crate) fn send(&mut self, now: Instant, stream: u16, message: &Message) {
        let (protocol, bytes) = match (message.kind, message.bytes.is_empty()) {
            (MessageKind::Text, false) => (PayloadProtocolIdentifier::String, &message.bytes[..]),
            (MessageKind::Binary, false) => (PayloadProtocolIdentifier::Binary, &message.bytes[..]),
            (MessageKind::Text, true) => (PayloadProtocolIdentifier::StringEmpty, &[0][..]),
            (MessageKind::Binary, true) => (PayloadProtocolIdentifier::BinaryEmpty, &[0][..]),
        };
        let association = self.association.as_mut().unwrap();
        // It may be closed meanwhile, as in life.
        if let Ok(mut stream) = association.stream(stream) {
            let _ = stream.write_with_ppi(now, bytes, protocol);
        }
    }

    pub(crate) fn close(&mut self, now: Instant, stream: u16) {
        let association = self.association.as_mut().unwrap();
        association.stream(stream).unwrap().close(now).unwrap();
    }

    fn settle(&mut self) {
        let Some(association) = &mut self.association else {
            return;
        };
        while let Some(event) = association.poll() {
            match event {
                Event::Connected => self.connected = true,
                Event::AssociationLost { id, .. } => self.lost.push(id),
                Event::Stream(StreamEvent::Readable { id }) => {
                    while let Ok(mut stream) = association.stream(id)
                        && let Ok(Some(chunks)) = stream.read_sctp()
                    {
                        let bytes = chunks.to_payload(1 << 20).unwrap().freeze();
                        let (kind, bytes) = match chunks.ppi {
                            PayloadProtocolIdentifier::String => (MessageKind::Text, bytes),
                            PayloadProtocolIdentifier::Binary => (MessageKind::Binary, bytes),
                            PayloadProtocolIdentifier::StringEmpty => {
                                (MessageKind::Text, Bytes::new())
                            }
                            PayloadProtocolIdentifier::BinaryEmpty => {
                                (MessageKind::Binary, Bytes::new())
                            }
                            _ => {
                                assert_eq!(&bytes[..], dcep::ACK);
                                self.acknowledged.push(id);
                                continue;
                            }
                        };
                        self.received.push((id, Message { kind, bytes }));
                    }
                }
                _ => {}
            }
        }
    }
}
