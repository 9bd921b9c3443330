//! The data channels of one session, without IO: an SCTP association and who speaks in it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc_shared::TransportProtocol;
use webrtc_sctp::{
    Association, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, ReliabilityType, ServerConfig, StreamEvent, TimerConfig,
    TransportConfig,
};

use super::channel::{
    ChannelSpec, DataDrops, DataEvent, DataRequest, Message, MessageKind, Reliability,
};
use super::dcep;
use super::gate::{Gate, SINK, Verdict};
use super::pace::Pace;
use crate::command::DtlsRole;
use crate::id::ChannelId;
use crate::limits::{
    DATA_CHANNELS_MAX, DATA_MESSAGE_BYTES_MAX, DATA_RECEIVE_BUFFER_BYTES, DATA_SEND_BUFFER_BYTES,
    DATA_STREAMS_MAX,
};

/// The crate keeps its associations by address; each of ours holds exactly one.
pub(super) const PEER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// What an empty message is sent as (RFC 8831 section 6.6).
const EMPTY: &[u8] = &[0];

/// The data channels of one session.
///
/// Call order: any `handle_*`, then drain `poll_transmit` and `poll_event`, then wait until
/// `poll_timeout` or the next input.
pub struct DataTransport {
    state: State,
    pub(super) gate: Gate,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    pace: Pace,
    /// The longest message that the client takes, in bytes.
    message_bytes_max: usize,
    transmits: VecDeque<Bytes>,
    events: VecDeque<DataEvent>,
    drops: DataDrops,
}

enum State {
    /// The client has not asked for an association yet.
    Waiting,
    /// There is one.
    Live(Box<Live>),
    /// There was one.
    Over,
}

struct Live {
    endpoint: Endpoint,
    association: Association,
    /// The tag of the client's INIT and our answer to it, until it is known to have come.
    answer: Option<(u32, Bytes)>,
}

pub(super) enum Channel {
    /// In use.
    Open(Reliability),
    /// We have reset our half and the client has not reset its own.
    Closing,
}

impl DataTransport {
    /// Begins: clients ask for the association as soon as DTLS is up. One that lets others begin with
    /// DTLS may do so here too, and is asked; if it asks as well, its wish is taken.
    #[must_use]
    pub fn new(now: Instant, role: DtlsRole, message_bytes_max: usize) -> DataTransport {
        let mut transport = DataTransport {
            state: State::Waiting,
            gate: Gate::default(),
            channels: BTreeMap::new(),
            pace: Pace::new(now),
            message_bytes_max: message_bytes_max.min(DATA_MESSAGE_BYTES_MAX),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            drops: DataDrops::default(),
        };
        if role == DtlsRole::Client {
            transport.connect(now);
        }
        transport
    }

    /// Takes a packet: the content of a DTLS record.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        if matches!(self.state, State::Over) {
            return;
        }
        let channels = &self.channels;
        let is_closing =
            |stream| matches!(channels.get(&ChannelId(stream)), Some(Channel::Closing));
        let verdict = self.gate.handle_packet(packet, is_closing, &mut self.drops);
        match verdict {
            Verdict::Drop => {}
            Verdict::Abort => self.end(),
            Verdict::Init {
                tag,
                first_tsn,
                forwards,
                packet,
            } => {
                if self.takes_init(tag) {
                    self.close_all();
                    self.gate = Gate::after_init(first_tsn, forwards);
                    self.on_init(now, tag, packet);
                }
            }
            Verdict::Pass(packet) => {
                if let State::Live(live) = &mut self.state
                    && let Some((_, DatagramEvent::AssociationEvent(event))) =
                        live.endpoint.handle(now, PEER, None, packet)
                {
                    live.association.handle_event(event);
                }
                self.settle(now);
            }
        }
    }

    /// Does what control asks; what names a channel that is gone is ignored.
    pub fn handle_request(&mut self, now: Instant, request: DataRequest) {
        match request {
            DataRequest::Send { channel, message } => self.send(now, channel, &message),
            DataRequest::Close { channel } => {
                if matches!(self.channels.get(&channel), Some(Channel::Open(_))) {
                    self.reset(now, channel);
                }
            }
        }
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::Live(live) = &mut self.state {
            live.association.handle_timeout(now);
            self.settle(now);
        }
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.transmits.pop_front()
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<DataEvent> {
        self.events.pop_front()
    }

    /// When something has to be sent again or acknowledged.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Live(live) => live.association.poll_timeout(),
            State::Waiting | State::Over => None,
        }
    }

    /// What was dropped since this was last asked for.
    pub fn take_drops(&mut self) -> DataDrops {
        std::mem::take(&mut self.drops)
    }

    fn connect(&mut self, now: Instant) {
        let config = ClientConfig::new(transport_config());
        let mut endpoint = endpoint(None);
        let Ok((_, association)) = endpoint.connect(now, config, PEER) else {
            return;
        };
        self.state = State::Live(Box::new(Live {
            endpoint,
            association,
            answer: None,
        }));
        self.settle(now);
    }

    /// Whether the client asks for another association than before; a repeated wish is answered again.
    fn takes_init(&mut self, tag: u32) -> bool {
        let State::Live(live) = &self.state else {
            return true;
        };
        match &live.answer {
            Some((asked, answer)) if *asked == tag => {
                self.transmits.push_back(answer.clone());
                false
            }
            _ => live.association.is_handshaking(),
        }
    }

    /// The client asks for the association.
    fn on_init(&mut self, now: Instant, tag: u32, packet: Bytes) {
        let mut endpoint = endpoint(Some(Arc::new(ServerConfig::new(transport_config()))));
        let first = endpoint.handle(now, PEER, None, packet);
        let Some((_, DatagramEvent::NewAssociation(association))) = first else {
            return;
        };
        self.state = State::Live(Box::new(Live {
            endpoint,
            association,
            answer: None,
        }));
        let before = self.transmits.len();
        self.settle(now);
        if let (State::Live(live), Some(answer)) = (&mut self.state, self.transmits.get(before)) {
            live.answer = Some((tag, answer.clone()));
        }
    }

    /// Takes what the association tells, and what it sends.
    fn settle(&mut self, now: Instant) {
        while let State::Live(live) = &mut self.state
            && let Some(event) = live.association.poll()
        {
            match event {
                Event::Connected => live.answer = None,
                Event::Stream(StreamEvent::Readable { id }) => self.read(now, id),
                Event::AssociationLost { id, .. } => self.forget(ChannelId(id)),
                // It asked and nobody answered; the client may still ask.
                Event::HandshakeFailed { .. } => self.state = State::Waiting,
                _ => {}
            }
        }
        self.flush(now);
        if let State::Live(live) = &self.state
            && live.association.is_closed()
            && !live.association.is_handshaking()
        {
            self.end();
        }
    }

    fn flush(&mut self, now: Instant) {
        let State::Live(live) = &mut self.state else {
            return;
        };
        let mut keeps_up = true;
        while let Some(transmit) = live.association.poll_transmit(now) {
            let Payload::RawEncode(packets) = transmit.message else {
                continue;
            };
            for packet in packets {
                keeps_up &= self.gate.observe(&packet);
                self.transmits.push_back(packet);
            }
        }
        if !keeps_up {
            self.drops.over_limit += 1;
            // The last thing that it says.
            let _ = live.association.abort();
            if let Some(transmit) = live.association.poll_transmit(now)
                && let Payload::RawEncode(packets) = transmit.message
            {
                self.transmits.extend(packets);
            }
            self.end();
        }
    }

    /// Reads what a stream has. All of it, before anything is done about it: a stream that was reset
    /// cannot be read any more, and what it holds would keep the client from closing its half.
    fn read(&mut self, now: Instant, stream: u16) {
        let State::Live(live) = &mut self.state else {
            return;
        };
        let mut messages = Vec::new();
        while let Ok(mut reader) = live.association.stream(stream)
            && let Ok(Some(chunks)) = reader.read_sctp()
        {
            self.gate.handle_read(chunks.len(), chunks.chunks.len());
            if stream != SINK {
                messages.push((chunks.ppi, chunks.to_payload(DATA_MESSAGE_BYTES_MAX)));
            }
        }
        let channel = ChannelId(stream);
        for (protocol, payload) in messages {
            match payload {
                Ok(payload) => self.on_message(now, channel, protocol, payload.freeze()),
                // RFC 8841 section 6.1: it was told how long one may be.
                Err(_) => self.refuse(now, channel),
            }
        }
    }

    fn on_message(
        &mut self,
        now: Instant,
        channel: ChannelId,
        protocol: PayloadProtocolIdentifier,
        bytes: Bytes,
    ) {
        let reliability = match self.channels.get(&channel) {
            Some(Channel::Open(reliability)) => *reliability,
            Some(Channel::Closing) => return,
            None if protocol == PayloadProtocolIdentifier::Dcep => {
                return self.on_open(now, channel, &bytes);
            }
            // Nobody has said what it is (RFC 8832 section 6).
            None => return self.refuse(now, channel),
        };
        let (kind, bytes) = match protocol {
            PayloadProtocolIdentifier::String => (MessageKind::Text, bytes),
            PayloadProtocolIdentifier::Binary => (MessageKind::Binary, bytes),
            PayloadProtocolIdentifier::StringEmpty => (MessageKind::Text, Bytes::new()),
            PayloadProtocolIdentifier::BinaryEmpty => (MessageKind::Binary, Bytes::new()),
            // An acknowledgement of what we never opened, or the opening once more.
            PayloadProtocolIdentifier::Dcep => return,
            _ => {
                self.drops.malformed += 1;
                return;
            }
        };
        if self.pace.take(now, bytes.len()) {
            let message = Message { kind, bytes };
            self.events
                .push_back(DataEvent::Received { channel, message });
            return;
        }
        self.drops.over_rate += 1;
        if reliability.is_reliable() {
            // A gap in it would be a lie.
            self.refuse(now, channel);
        }
    }

    fn on_open(&mut self, now: Instant, channel: ChannelId, message: &[u8]) {
        let spec = dcep::parse_open(message).filter(|_| self.open_count() < DATA_CHANNELS_MAX);
        let (Some(spec), State::Live(live)) = (spec, &mut self.state) else {
            return self.refuse(now, channel);
        };
        if let Ok(mut stream) = live.association.stream(channel.0) {
            let (kind, value) = reliability_parameters(&spec);
            let _ = stream.set_reliability_params(!spec.ordered, kind, value);
            let ack = Bytes::from_static(dcep::ACK);
            let _ = stream.write_chunk_with_ppi(now, &ack, PayloadProtocolIdentifier::Dcep);
        }
        self.channels
            .insert(channel, Channel::Open(spec.reliability));
        self.events.push_back(DataEvent::Opened { channel, spec });
    }

    fn open_count(&self) -> usize {
        let open = |channel: &&Channel| matches!(channel, Channel::Open(_));
        self.channels.values().filter(open).count()
    }

    fn send(&mut self, now: Instant, channel: ChannelId, message: &Message) {
        let Some(Channel::Open(reliability)) = self.channels.get(&channel) else {
            return;
        };
        let reliability = *reliability;
        let (protocol, bytes) = match (message.kind, message.bytes.is_empty()) {
            (MessageKind::Text, false) => {
                (PayloadProtocolIdentifier::String, message.bytes.clone())
            }
            (MessageKind::Binary, false) => {
                (PayloadProtocolIdentifier::Binary, message.bytes.clone())
            }
            (MessageKind::Text, true) => (
                PayloadProtocolIdentifier::StringEmpty,
                Bytes::from_static(EMPTY),
            ),
            (MessageKind::Binary, true) => (
                PayloadProtocolIdentifier::BinaryEmpty,
                Bytes::from_static(EMPTY),
            ),
        };
        let has_room = bytes.len() <= self.message_bytes_max
            && self.buffered() + bytes.len() <= DATA_SEND_BUFFER_BYTES;
        if let State::Live(live) = &mut self.state
            && has_room
            && let Ok(mut stream) = live.association.stream(channel.0)
            && stream.write_chunk_with_ppi(now, &bytes, protocol).is_ok()
        {
            return;
        }
        self.drops.buffer_full += 1;
        if reliability.is_reliable() {
            self.refuse(now, channel);
        }
    }

    /// Bytes that wait for the client, on their way or not.
    fn buffered(&mut self) -> usize {
        let State::Live(live) = &mut self.state else {
            return 0;
        };
        let waiting = self.channels.keys().filter_map(|channel| {
            let stream = live.association.stream(channel.0).ok()?;
            stream.buffered_amount().ok()
        });
        waiting.sum()
    }

    /// Closes a channel because a bound was reached or a rule was broken.
    fn refuse(&mut self, now: Instant, channel: ChannelId) {
        match self.channels.get(&channel) {
            Some(Channel::Closing) => return,
            Some(Channel::Open(_)) => self.events.push_back(DataEvent::Closed { channel }),
            None => {}
        }
        self.drops.channels_refused += 1;
        self.reset(now, channel);
    }

    /// Resets our half of a channel; the client then resets its own (RFC 8831 section 6.7).
    fn reset(&mut self, now: Instant, channel: ChannelId) {
        self.channels.insert(channel, Channel::Closing);
        if let State::Live(live) = &mut self.state
            && let Ok(mut stream) = live.association.stream(channel.0)
        {
            // It fails only before the association is up, when there are no channels.
            let _ = stream.close(now);
        }
    }

    /// The client has reset its half, and the crate has reset ours.
    fn forget(&mut self, channel: ChannelId) {
        if let Some(Channel::Open(_)) = self.channels.remove(&channel) {
            self.events.push_back(DataEvent::Closed { channel });
        }
    }

    /// Streams that the crate keeps.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn stream_count(&self) -> usize {
        match &self.state {
            State::Live(live) => live.association.stream_ids().len(),
            State::Waiting | State::Over => 0,
        }
    }

    /// There will be no channels any more; media goes on.
    fn end(&mut self) {
        self.state = State::Over;
        self.close_all();
    }

    fn close_all(&mut self) {
        for (channel, state) in std::mem::take(&mut self.channels) {
            if matches!(state, Channel::Open(_)) {
                self.events.push_back(DataEvent::Closed { channel });
            }
        }
    }
}

impl std::fmt::Debug for DataTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataTransport")
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}

fn endpoint(server: Option<Arc<ServerConfig>>) -> Endpoint {
    let config = Arc::new(EndpointConfig::new());
    Endpoint::new(PEER, TransportProtocol::UDP, config, server)
}

fn transport_config() -> TransportConfig {
    let timers = TimerConfig {
        // Whether the client lives is for ICE to say (RFC 7675).
        max_t3_rtx_retrans: usize::MAX,
        ..TimerConfig::default()
    };
    TransportConfig::default()
        .with_max_receive_buffer_size(DATA_RECEIVE_BUFFER_BYTES as u32)
        .with_max_message_size(DATA_MESSAGE_BYTES_MAX as u32)
        .with_max_num_inbound_streams(DATA_STREAMS_MAX)
        .with_max_num_outbound_streams(DATA_STREAMS_MAX)
        .with_timer_config(timers)
}

/// What a channel's messages are sent by: as the client opened it, it goes for both directions.
fn reliability_parameters(spec: &ChannelSpec) -> (ReliabilityType, u32) {
    match spec.reliability {
        Reliability::Reliable => (ReliabilityType::Reliable, 0),
        Reliability::Retransmits(count) => (ReliabilityType::Rexmit, count),
        Reliability::Lifetime(age) => (ReliabilityType::Timed, age.as_millis() as u32),
    }
}
