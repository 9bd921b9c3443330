//! A scripted WebRTC client, without IO: full ICE, DTLS, SRTP, streams both ways, and their repair.
//!
//! The simulator drives it in virtual time, the load generator over real sockets. It trusts none
//! of the engine's own code for what it receives: STUN, SRTP, RTP and RTCP are the crates'.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtc_shared::marshal::Unmarshal;
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::receiver_report::ReceiverReport;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtp::packet::Packet;

use super::checks::Checks;
use super::network::Rng;
use super::protection::Protection;
use super::publication::{LeftOff, Publication};
use super::reception::{Arrived, Reception, ReceptionSpec};
use super::source::MediaSource;
use crate::command::DtlsSpec;
use crate::dtls::{Association, AssociationEvent, Certificate};
use crate::event::CloseReason;
use crate::id::{Mid, Rid};

/// ICE credentials as the peer sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIce {
    /// Its own ufrag.
    pub local_ufrag: String,
    /// Its own password.
    pub local_pwd: String,
    /// The server's ufrag.
    pub remote_ufrag: String,
    /// The server's password.
    pub remote_pwd: String,
}

/// What a peer is told at birth.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Credentials.
    pub ice: PeerIce,
    /// Its role in DTLS and the server's fingerprints.
    pub dtls: DtlsSpec,
    /// Its certificate; peers may share one.
    pub certificate: Certificate,
    /// Zero of the stamps; the same for all peers of a simulation.
    pub epoch: Instant,
    /// Seed of everything random in it but keys.
    pub seed: u64,
    /// Its canonical name.
    pub cname: String,
    /// Between its sender and receiver reports.
    pub report_interval: Duration,
}

/// A stream that it sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicationSpec {
    /// Its SSRC.
    pub ssrc: u32,
    /// SSRC and payload type of its retransmissions.
    pub rtx: Option<(u32, u8)>,
    /// Its payload type.
    pub payload_type: u8,
    /// RTP clock rate.
    pub clock_rate: u32,
    /// Header extension id and value of the MID.
    pub mid: Option<(u8, Mid)>,
    /// Header extension id and value of the RTP stream id (RFC 8852 section 3.1), of one encoding
    /// among several. Such a stream has no `rtx`: that would need the repaired stream's id.
    pub rid: Option<(u8, Rid)>,
    /// Header extension id of the audio level.
    pub audio_level: Option<u8>,
    /// Its first sequence number.
    pub first_sequence: u16,
    /// Its first timestamp.
    pub first_timestamp: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicationCounts {
    /// Frames sent.
    pub frames: u64,
    /// Key frames among them.
    pub key_frames: u64,
    /// Packets sent, retransmissions aside.
    pub packets: u64,
    /// Numbers that were asked for again.
    pub nacked: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// PLI and FIR received.
    pub key_requests: u64,
    /// Report blocks received.
    pub reports: u64,
    /// Packets lost by the last of them.
    pub reported_lost: u32,
}

/// What happened to a peer as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Packets that did not decrypt or parse.
    pub unreadable: u64,
    /// Packets of an SSRC that it was never told of.
    pub strangers: u64,
    /// Media before its own handshake was done: the keys were not there yet.
    pub early: u64,
    /// Checks answered.
    pub checks_answered: u64,
    /// Answers to checks that do not verify.
    pub checks_refused: u64,
    /// What it may send, by the last REMB, in bits per second.
    pub bitrate_bps_max: Option<u64>,
}

/// The client.
///
/// Call order: any `handle_*` with the current time, then drain `poll_transmit`, then wait until
/// `poll_timeout` or the next input.
pub struct Peer {
    config: PeerConfig,
    checks: Checks,
    association: Option<Association>,
    /// Its keys come from outside: no handshake is made.
    is_given_keys: bool,
    protection: Option<Protection>,
    connected_at: Option<Instant>,
    closed: Option<CloseReason>,
    rtcp_ssrc: u32,
    publications: BTreeMap<u32, Publication>,
    /// Where streams that it sends no more left off.
    left_off: BTreeMap<u32, LeftOff>,
    receptions: BTreeMap<u32, Reception>,
    /// Of retransmissions: whose they are.
    repairs: HashMap<u32, u32>,
    /// Streams that were forgotten and may still have packets on the way.
    forgotten: Vec<u32>,
    report_at: Instant,
    transmits: VecDeque<Vec<u8>>,
    counts: PeerCounts,
    /// Scratch for plain packets.
    plain: Vec<Vec<u8>>,
    /// What came, if somebody looks.
    arrivals: Option<VecDeque<Arrival>>,
    /// What its transport-wide feedback says next.
    answers: Option<Answers>,
}

impl Peer {
    /// A client that begins to check at once.
    #[must_use]
    pub fn new(now: Instant, config: PeerConfig) -> Peer {
        let mut rng = Rng::new(config.seed);
        let rtcp_ssrc = rng.next_u32();
        Peer {
            checks: Checks::new(now, config.ice.clone(), rng),
            association: None,
            is_given_keys: false,
            protection: None,
            connected_at: None,
            closed: None,
            rtcp_ssrc,
            publications: BTreeMap::new(),
            left_off: BTreeMap::new(),
            receptions: BTreeMap::new(),
            repairs: HashMap::new(),
            forgotten: Vec::new(),
            report_at: now,
            transmits: VecDeque::new(),
            counts: PeerCounts::default(),
            plain: Vec::new(),
            arrivals: None,
            answers: None,
            config,
        }
    }

    /// Sends a stream from now on, or as soon as it is connected.
    /// One that it has sent before goes on with its numbers (RFC 3550 section 5.1), or its packets would be those of
    /// long ago to whoever decrypts them.
    pub fn publish(&mut self, now: Instant, spec: PublicationSpec, source: Box<dyn MediaSource>) {
        let ssrc = spec.ssrc;
        self.unpublish(ssrc);
        let left_off = self.left_off.remove(&ssrc);
        let publication = Publication::new(now, spec, source, left_off);
        self.publications.insert(ssrc, publication);
    }

    /// Stops sending a stream.
    pub fn unpublish(&mut self, ssrc: u32) {
        if let Some(publication) = self.publications.remove(&ssrc) {
            self.left_off.insert(ssrc, publication.left_off());
        }
    }

    /// Expects a stream.
    pub fn receive(&mut self, spec: ReceptionSpec) {
        if let Some((rtx, _)) = spec.rtx {
            self.repairs.insert(rtx, spec.ssrc);
        }
        self.receptions.insert(spec.ssrc, Reception::new(spec));
    }

    /// Expects a stream no more; what of it is on the way is no stranger.
    pub fn forget(&mut self, ssrc: u32) {
        if let Some(reception) = self.receptions.remove(&ssrc) {
            self.forgotten.push(ssrc);
            self.forgotten
                .extend(reception.spec().rtx.map(|(rtx, _)| rtx));
        }
    }

    /// Uses new credentials (RFC 8445 section 9) and checks at once, from whatever address it has.
    pub fn restart_ice(&mut self, now: Instant, ice: PeerIce) {
        self.checks.restart(now, ice);
    }

    /// Says goodbye: a `close_notify` leaves.
    pub fn handle_close(&mut self, now: Instant) {
        if let Some(association) = &mut self.association {
            association.handle_close(now);
            while let Some(datagram) = association.poll_transmit() {
                self.transmits.push_back(datagram.into_vec());
            }
        }
        self.protection = None;
        self.closed = Some(CloseReason::PeerClosed);
    }

    /// Takes a datagram.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.counts.received += 1;
        // RFC 7983 section 7; RTCP by its packet types (RFC 5761 section 4).
        match datagram {
            [0..=3, ..] => {
                if let Some(answer) = self.checks.handle_message(now, from, datagram) {
                    self.transmits.push_back(answer);
                }
                if self.checks.answered_at.is_some() {
                    self.associate(now);
                }
            }
            [20..=63, ..] => {
                self.associate(now);
                if let Some(association) = &mut self.association {
                    association.handle_datagram(now, datagram);
                    self.drain_association(now);
                }
            }
            [128..=191, 192..=223, ..] => self.handle_rtcp(now, datagram),
            [128..=191, ..] => self.handle_rtp(now, datagram),
            _ => self.counts.unreadable += 1,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed.is_some() {
            return;
        }
        if let Some(request) = self.checks.poll_request(now) {
            self.transmits.push_back(request);
        }
        if let Some(association) = &mut self.association {
            association.handle_timeout(now);
            self.drain_association(now);
        }
        if self.protection.is_none() {
            return;
        }
        for publication in self.publications.values_mut() {
            publication.handle_timeout(now, self.config.epoch, &mut self.plain);
        }
        self.seal_plain();
        self.ask(now);
        self.answer(now);
        if self.report_at <= now {
            self.report_at = now + self.config.report_interval;
            self.report(now);
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        let datagram = self.transmits.pop_front()?;
        self.counts.sent += 1;
        Some(datagram)
    }

    /// When `handle_timeout` wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed.is_some() {
            return None;
        }
        let mut due = self.checks.poll_timeout();
        if let Some(handshake) = self
            .association
            .as_ref()
            .and_then(Association::poll_timeout)
        {
            due = due.min(handshake);
        }
        if self.protection.is_some() {
            let frames = self.publications.values().map(Publication::poll_timeout);
            let asks = self.receptions.values().filter_map(Reception::poll_timeout);
            let answer = self.answers.as_ref().and_then(Answers::poll_timeout);
            due = frames
                .chain(asks)
                .chain(answer)
                .chain([self.report_at])
                .fold(due, Instant::min);
        }
        Some(due)
    }

    /// When its handshake was done.
    #[must_use]
    pub fn connected_at(&self) -> Option<Instant> {
        self.connected_at
    }

    /// Why it is over, if it is.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// What happened to it as a whole.
    #[must_use]
    pub fn counts(&self) -> PeerCounts {
        let Checks {
            answered, refused, ..
        } = self.checks;
        PeerCounts {
            checks_answered: answered,
            checks_refused: refused,
            ..self.counts
        }
    }

    /// What came of a stream that it sends.
    #[must_use]
    pub fn publication(&self, ssrc: u32) -> Option<PublicationCounts> {
        self.publications
            .get(&ssrc)
            .map(|publication| publication.counts)
    }

    /// A stream that it receives.
    #[must_use]
    pub fn reception(&self, ssrc: u32) -> Option<&Reception> {
        self.receptions.get(&ssrc)
    }

    /// All streams that it receives.
    pub fn receptions(&self) -> impl Iterator<Item = &Reception> {
        self.receptions.values()
    }

    fn associate(&mut self, now: Instant) {
        if self.association.is_none() && self.closed.is_none() && !self.is_given_keys {
            let dtls = self.config.dtls.clone();
            self.association = Some(Association::new(now, &self.config.certificate, dtls));
            self.drain_association(now);
        }
    }

    fn drain_association(&mut self, now: Instant) {
        let Some(association) = &mut self.association else {
            return;
        };
        while let Some(datagram) = association.poll_transmit() {
            self.transmits.push_back(datagram.into_vec());
        }
        while let Some(event) = self.association.as_mut().and_then(Association::poll_event) {
            match event {
                AssociationEvent::Connected(keys) => self.on_keys(now, &keys),
                AssociationEvent::Closed(reason) => {
                    self.protection = None;
                    self.closed = Some(reason);
                }
            }
        }
    }

    fn handle_rtp(&mut self, now: Instant, datagram: &[u8]) {
        let Some(protection) = &mut self.protection else {
            self.counts.early += 1;
            return;
        };
        let opened = protection.open_rtp(datagram);
        let Some(packet) = opened.and_then(|plain| Packet::unmarshal(&mut plain.freeze()).ok())
        else {
            self.counts.unreadable += 1;
            return;
        };
        let ssrc = packet.header.ssrc;
        self.note_number(now, &packet.header);
        let of = self.repairs.get(&ssrc).copied().unwrap_or(ssrc);
        let Some(reception) = self.receptions.get_mut(&of) else {
            self.counts.strangers += u64::from(!self.forgotten.contains(&ssrc));
            return;
        };
        let mid_id = reception.spec().mid.map_or(0, |(id, _)| id);
        let mid = packet
            .header
            .get_extension(mid_id)
            .and_then(|mid| Mid::new(&mid));
        let mut arrived = Arrived {
            sequence: packet.header.sequence_number,
            timestamp: packet.header.timestamp,
            payload_type: packet.header.payload_type,
            payload: &packet.payload,
            mid,
            is_retransmission: false,
        };
        if of != ssrc {
            // RFC 4588 section 4: the original number comes first. Without one it is padding.
            let Some((&[high, low], payload)) = packet.payload.split_first_chunk::<2>() else {
                return;
            };
            let expected = reception.spec().rtx.map(|(_, payload_type)| payload_type);
            if expected == Some(arrived.payload_type) {
                arrived.payload_type = reception.spec().payload_type;
            }
            arrived.sequence = u16::from_be_bytes([high, low]);
            arrived.payload = payload;
            arrived.is_retransmission = true;
        }
        reception.handle_packet(now, self.config.epoch, &arrived);
        self.on_arrival(of, &arrived, &packet);
    }

    fn handle_rtcp(&mut self, now: Instant, datagram: &[u8]) {
        let Some(protection) = &mut self.protection else {
            self.counts.early += 1;
            return;
        };
        let opened = protection.open_rtcp(datagram);
        let Some(packets) =
            opened.and_then(|plain| rtcp::packet::unmarshal(&mut plain.freeze()).ok())
        else {
            self.counts.unreadable += 1;
            return;
        };
        for packet in packets {
            let packet = packet.as_any();
            if let Some(report) = packet.downcast_ref::<SenderReport>() {
                if let Some(reception) = self.receptions.get_mut(&report.ssrc) {
                    reception.handle_sender_report(now, report.ntp_time);
                }
                self.note_reports(&report.reports);
            } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
                self.note_reports(&report.reports);
            } else if let Some(pli) = packet.downcast_ref::<PictureLossIndication>() {
                self.on_key_request(pli.media_ssrc);
            } else if let Some(fir) = packet.downcast_ref::<FullIntraRequest>() {
                for entry in &fir.fir {
                    self.on_key_request(entry.ssrc);
                }
            } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
                if let Some(publication) = self.publications.get_mut(&nack.media_ssrc) {
                    for number in nack.nacks.iter().copied().flatten() {
                        publication.on_nack(number, &mut self.plain);
                    }
                }
            } else if let Some(remb) = packet.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
                self.counts.bitrate_bps_max = Some(remb.bitrate as u64);
            }
        }
        self.seal_plain();
    }

    fn note_reports(&mut self, reports: &[rtcp::reception_report::ReceptionReport]) {
        for report in reports {
            if let Some(publication) = self.publications.get_mut(&report.ssrc) {
                publication.counts.reports += 1;
                publication.counts.reported_lost = report.total_lost;
            }
        }
    }

    fn on_key_request(&mut self, ssrc: u32) {
        if let Some(publication) = self.publications.get_mut(&ssrc) {
            publication.on_key_request();
        }
    }

    fn seal_plain(&mut self) {
        for plain in self.plain.drain(..) {
            let sealed = self
                .protection
                .as_mut()
                .and_then(|keys| keys.seal_rtp(&plain));
            self.transmits.extend(sealed);
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

mod answering;
mod keys;
mod reporting;
mod watching;
use answering::Answers;
pub use watching::Arrival;

#[cfg(test)]
mod tests;
