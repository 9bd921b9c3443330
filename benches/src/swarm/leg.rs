//! One client's connection without IO: ICE, DTLS, SRTP, the streams that it sends and those that come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::command::{DtlsRole, DtlsSpec, SrtpKeys, SrtpProfile};
use dataplane::dtls::{Association, AssociationEvent, Certificate};
use dataplane::event::CloseReason;
use dataplane::id::Ssrc;
use dataplane::sim::checks::Checks;
use dataplane::sim::network::Rng;
use dataplane::sim::peer::PeerIce;
use dataplane::srtp::{OpenKey, RtcpKeys, SealKey};
use dataplane::wire::rtcp_writer::REPORT_BLOCKS_MAX;
use dataplane::wire::{Protocol, RtcpPacket, RtcpWriter, RtpView, classify};

use super::media;
use super::received::{Counts, Received};
use super::sent::{Sent, SentSpec};
use crate::peers::histogram::Histogram;
use crate::peers::publishers::SentTimes;
use crate::peers::vp8::Descriptor;

/// Between the reports of a client, as browsers send them for video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of the largest RTCP compound.
const RTCP_BYTES: usize = 1_500;

/// The one profile that is offered, so that all servers have the same work.
const PROFILES: [SrtpProfile; 1] = [SrtpProfile::AeadAes128Gcm];

/// Datagrams on their way out, laid end to end.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Outbox {
    /// Lets `fill` write a datagram of at most `room` bytes; it says how long it is, or `None`.
    pub(super) fn write(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let start = self.bytes.len();
        self.bytes.resize(start + room, 0);
        let len = fill(self.bytes.get_mut(start..).unwrap_or_default());
        self.bytes.truncate(start + len.unwrap_or(0));
        if len.is_some() {
            self.ends.push(self.bytes.len());
        }
        len.is_some()
    }

    fn push(&mut self, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.ends.push(self.bytes.len());
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// All of them in order.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(self.ends.iter().copied());
        ranges.filter_map(|(start, end)| self.bytes.get(start..end))
    }
}

/// What a leg is told at birth: what offer and answer said.
#[derive(Debug)]
pub(super) struct LegSpec {
    pub(super) ice: PeerIce,
    pub(super) dtls: DtlsSpec,
    pub(super) certificate: Certificate,
    pub(super) candidates: Vec<SocketAddr>,
    pub(super) seed: u64,
    pub(super) cname: String,
    pub(super) sends: Vec<(SentSpec, media::Media)>,
    /// Which of the publishers it is.
    pub(super) number: usize,
    /// When its recorded pictures left.
    pub(super) sent: Arc<SentTimes>,
    /// The same of the one whom it watches.
    pub(super) watches: Option<Arc<SentTimes>>,
    /// Whether it is here to receive.
    pub(super) receives: bool,
}

/// What all legs of a load have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Zero of the load's time.
    pub(super) epoch: Instant,
    /// One packet in this many is decrypted.
    pub(super) decrypt_every: u16,
}

/// What is counted of all legs together.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// From leaving to arrival, of decrypted packets.
    pub(super) latency: Histogram,
    /// Packets that did not decrypt or parse.
    pub(super) unreadable: u64,
    /// Packets that came twice.
    pub(super) repeated: u64,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It said goodbye.
    Goodbye,
    /// The server did, or the handshake came to nothing.
    Dtls(CloseReason),
    /// The keys that it came to cannot be used.
    Keys,
}

struct Keys {
    seal: SealKey,
    open: OpenKey,
    control: RtcpKeys,
}

/// The client's connection.
///
/// Call order: any `handle_*` with the current time, then send what is in the outbox, then wait until
/// `poll_timeout` or the next input. Media changes no timeout.
pub(super) struct Leg {
    checks: Checks,
    dtls: DtlsSpec,
    certificate: Certificate,
    association: Option<Association>,
    keys: Option<Keys>,
    pub(super) connected_at: Option<Instant>,
    pub(super) first_packet_at: Option<Instant>,
    /// Why it is over, and `None` while it is not.
    pub(super) ended: Option<End>,
    pub(super) receives: bool,
    rtcp_ssrc: u32,
    cname: String,
    report_at: Instant,
    phases: Rng,
    received: Vec<Received>,
    pub(super) sent: Vec<Sent>,
    intervals: Vec<Duration>,
    watches: Option<Arc<SentTimes>>,
}

impl Leg {
    pub(super) fn new(now: Instant, spec: LegSpec) -> Leg {
        let mut rng = Rng::new(spec.seed);
        let rtcp_ssrc = rng.next_u32();
        let sends = spec.sends.into_iter();
        let (intervals, sent) = sends
            .map(|(named, media)| {
                let source = media.source(spec.number, &spec.sent);
                (media.interval(), Sent::new(now, named, source))
            })
            .unzip();
        Leg {
            checks: Checks::new(now, spec.ice, rng.clone()),
            dtls: spec.dtls,
            certificate: spec.certificate,
            association: None,
            keys: None,
            connected_at: None,
            first_packet_at: None,
            ended: None,
            receives: spec.receives,
            rtcp_ssrc,
            cname: spec.cname,
            report_at: now,
            phases: rng,
            received: Vec::new(),
            sent,
            intervals,
            watches: spec.watches,
        }
    }

    /// Takes a datagram; says whether timeouts may have changed.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        terms: &Terms,
        from: SocketAddr,
        datagram: &[u8],
        tally: &mut Tally,
        out: &mut Outbox,
    ) -> bool {
        match classify(datagram) {
            Some(Protocol::Rtp) => {
                if self.on_media(now, terms, datagram, tally).is_none() {
                    tally.unreadable += 1;
                }
                return false;
            }
            Some(Protocol::Rtcp) => {
                if self.on_control(now, datagram).is_none() {
                    tally.unreadable += 1;
                }
            }
            Some(Protocol::Stun) => {
                if let Some(answer) = self.checks.handle_message(now, from, datagram) {
                    out.push(&answer);
                }
                if self.checks.answered_at.is_some() {
                    self.associate(now, out);
                }
            }
            Some(Protocol::Dtls) => {
                self.associate(now, out);
                if let Some(association) = &mut self.association {
                    association.handle_datagram(now, datagram);
                    self.drain_association(now, out);
                }
            }
            None => tally.unreadable += 1,
        }
        true
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, terms: &Terms, out: &mut Outbox) {
        if let Some(request) = self.checks.poll_request(now) {
            out.push(&request);
        }
        if let Some(association) = &mut self.association {
            association.handle_timeout(now);
            self.drain_association(now, out);
        }
        let Some(keys) = &mut self.keys else {
            return;
        };
        for sent in &mut self.sent {
            sent.handle_timeout(now, terms.epoch, &keys.seal, out);
        }
        if self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            self.report(now, terms, out);
        }
    }

    /// Says goodbye: a `close_notify` leaves.
    pub(super) fn handle_close(&mut self, now: Instant, out: &mut Outbox) {
        if let Some(association) = &mut self.association {
            association.handle_close(now);
            self.drain_association(now, out);
        }
        self.ended = Some(End::Goodbye);
    }

    /// Counts from here on.
    pub(super) fn handle_measure(&mut self) {
        self.received.iter_mut().for_each(Received::handle_measure);
        self.sent.iter_mut().for_each(Sent::handle_measure);
    }

    /// When `handle_timeout` wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.ended.is_some() {
            return None;
        }
        let handshake = self
            .association
            .as_ref()
            .and_then(Association::poll_timeout);
        let media = self.keys.is_some().then_some(self.report_at);
        let frames = self.sent.iter().map(Sent::poll_timeout);
        let frames = frames.filter(|_| self.keys.is_some());
        let first = frames.chain(handshake).chain(media).min();
        Some(first.map_or(self.checks.poll_timeout(), |at| {
            at.min(self.checks.poll_timeout())
        }))
    }

    /// What came of all that it receives, and of how many streams.
    pub(super) fn counts(&self) -> (Counts, usize) {
        let mut counts = Counts::default();
        self.received
            .iter()
            .for_each(|stream| counts.add(&stream.counts));
        (counts, self.received.len())
    }

    fn associate(&mut self, now: Instant, out: &mut Outbox) {
        if self.association.is_none() && self.ended.is_none() {
            let dtls = self.dtls.clone();
            self.association = Some(match dtls.role {
                DtlsRole::Client => Association::offering(now, &self.certificate, dtls, &PROFILES),
                // It takes the same profile where it is offered.
                DtlsRole::Server => Association::new(now, &self.certificate, dtls),
            });
            self.drain_association(now, out);
        }
    }

    fn drain_association(&mut self, now: Instant, out: &mut Outbox) {
        let Some(association) = &mut self.association else {
            return;
        };
        while let Some(datagram) = association.poll_transmit() {
            out.push(&datagram);
        }
        let mut connected = None;
        while let Some(event) = association.poll_event() {
            match event {
                AssociationEvent::Connected(keys) => connected = Some(keys),
                AssociationEvent::Closed(reason) => self.ended = Some(End::Dtls(reason)),
            }
        }
        if let Some(keys) = connected {
            self.on_connected(now, &keys);
        }
    }

    fn on_connected(&mut self, now: Instant, keys: &SrtpKeys) {
        let (Ok(seal), Ok(open), Ok(control)) = (
            SealKey::new(keys.profile, &keys.send),
            OpenKey::new(keys.profile, &keys.receive),
            RtcpKeys::new(keys),
        ) else {
            self.ended = Some(End::Keys);
            return;
        };
        self.keys = Some(Keys {
            seal,
            open,
            control,
        });
        self.connected_at = Some(now);
        self.checks.slow_down();
        // Nobody's clock ticks with anybody else's.
        let mut phase = |longest: Duration| {
            now + Duration::from_nanos(self.phases.below(longest.as_nanos() as u64))
        };
        self.report_at = phase(REPORT_INTERVAL);
        for (sent, interval) in self.sent.iter_mut().zip(&self.intervals) {
            sent.start(phase(*interval));
        }
    }

    /// `None` for what cannot be read.
    fn on_media(
        &mut self,
        now: Instant,
        terms: &Terms,
        datagram: &[u8],
        tally: &mut Tally,
    ) -> Option<()> {
        // Before the keys are here nothing can be said of it, and it is no fault.
        let Some(keys) = &self.keys else {
            return Some(());
        };
        let packet = RtpView::parse(datagram).ok()?;
        let (ssrc, sequence) = (packet.ssrc().0, packet.sequence());
        let known = self.received.iter().position(|stream| stream.ssrc == ssrc);
        let at = known.unwrap_or_else(|| {
            self.first_packet_at.get_or_insert(now);
            self.received.push(Received::new(ssrc, u64::from(sequence)));
            self.received.len() - 1
        });
        let stream = self.received.get_mut(at)?;
        let index = stream.window.estimate(sequence);
        // The first packet of a stream is always decrypted: it shows that the keys are right.
        if known.is_none() || sequence.is_multiple_of(terms.decrypt_every.max(1)) {
            let mut plain = [0; 1_500];
            let header_len = packet.header_len();
            let opened = keys.open.open_rtp(datagram, header_len, index, &mut plain);
            let payload = plain.get(..opened.ok()?)?;
            let sent_us = media::stamp(payload).or_else(|| {
                let id = Descriptor::parse(payload)?.picture_id?;
                self.watches.as_ref()?.sent_us(id)
            });
            if let Some(sent_us) = sent_us {
                let now_us = now.saturating_duration_since(terms.epoch).as_micros() as u64;
                let latency = Duration::from_micros(now_us.saturating_sub(sent_us));
                tally.latency.add(latency);
            }
        }
        if !stream.handle_packet(now, &packet, datagram.len(), index) {
            tally.repeated += 1;
        }
        Some(())
    }

    /// `None` for what cannot be read.
    fn on_control(&mut self, now: Instant, datagram: &[u8]) -> Option<()> {
        let Some(keys) = &mut self.keys else {
            return Some(());
        };
        let mut plain = [0; RTCP_BYTES];
        let len = keys.control.open(datagram, &mut plain).ok()?;
        for packet in dataplane::wire::rtcp::packets(plain.get(..len)?) {
            match packet.ok()? {
                RtcpPacket::SenderReport { ssrc, ntp, .. } => {
                    let mut streams = self.received.iter_mut();
                    if let Some(stream) = streams.find(|stream| stream.ssrc == ssrc.0) {
                        stream.handle_sender_report(now, ntp);
                    }
                }
                RtcpPacket::Pli { media, .. } => self.on_key_request(media),
                RtcpPacket::Fir { entries, .. } => {
                    for (media, _) in entries {
                        self.on_key_request(media);
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    fn on_key_request(&mut self, media: Ssrc) {
        let mut sent = self.sent.iter_mut();
        if let Some(sent) = sent.find(|sent| sent.ssrc() == media.0) {
            sent.handle_key_request();
        }
    }

    /// Sender reports of what it sends and a receiver report of what comes (RFC 3550 section 6.1).
    fn report(&mut self, now: Instant, terms: &Terms, out: &mut Outbox) {
        let Some(keys) = &mut self.keys else {
            return;
        };
        let mut plain = [0; RTCP_BYTES];
        let mut send = |plain: &[u8]| {
            out.write(RTCP_BYTES, |room| keys.control.seal(plain, room));
        };
        for sent in &self.sent {
            let mut writer = RtcpWriter::new(&mut plain);
            let whole = sent.report(now, terms.epoch, &mut writer)
                && writer.sdes_cname(Ssrc(sent.ssrc()), &self.cname);
            let len = writer.len();
            if whole {
                send(plain.get(..len).unwrap_or_default());
            }
        }
        let mut streams = self.received.iter_mut();
        loop {
            let some = streams.by_ref().take(REPORT_BLOCKS_MAX);
            let blocks: Vec<_> = some.map(|stream| stream.report(now)).collect();
            if blocks.is_empty() && !self.sent.is_empty() {
                return;
            }
            let mut writer = RtcpWriter::new(&mut plain);
            let ssrc = Ssrc(self.rtcp_ssrc);
            let whole =
                writer.receiver_report(ssrc, &blocks) && writer.sdes_cname(ssrc, &self.cname);
            let len = writer.len();
            if whole {
                send(plain.get(..len).unwrap_or_default());
            }
            if blocks.len() < REPORT_BLOCKS_MAX {
                return;
            }
        }
    }
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leg")
            .field("connected_at", &self.connected_at)
            .field("streams", &self.received.len())
            .finish_non_exhaustive()
    }
}
