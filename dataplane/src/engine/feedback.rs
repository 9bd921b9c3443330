//! RTCP on its way in: what publishers say of their clocks, and what subscribers miss.

use std::time::Instant;

use super::Engine;
use super::clock::{Ntp, RtpClock, middle_to_duration};
use super::resend::{NotResent, Resend};
use super::session::SessionKey;
use super::track::TrackKey;
use crate::id::Ssrc;
use crate::limits::ROUND_TRIP_MAX;
use crate::srtp::RtcpRefused;
use crate::wire::rtcp::{self, ReportBlock, RtcpPacket};

impl Engine {
    /// Takes one SRTCP compound of a session.
    pub(super) fn handle_rtcp(&mut self, now: Instant, key: SessionKey, packet: &[u8]) {
        // Taken out while it is read, so that what it says can change everything else.
        let mut plain = std::mem::take(&mut self.rtcp_plain);
        if let Some(len) = self.open_rtcp(now, key, packet, &mut plain) {
            self.read_compound(now, key, plain.get(..len).unwrap_or_default());
        }
        self.rtcp_plain = plain;
    }

    /// Reads one compound in the clear, of a session that may send it.
    pub(super) fn read_compound(&mut self, now: Instant, key: SessionKey, compound: &[u8]) {
        self.counters.rtcp_received += 1;
        for packet in rtcp::packets(compound) {
            match packet {
                Ok(packet) => self.on_rtcp(now, key, packet),
                Err(_) => self.counters.drop_rtcp_malformed += 1,
            }
        }
    }

    fn open_rtcp(
        &mut self,
        now: Instant,
        key: SessionKey,
        packet: &[u8],
        plain: &mut [u8],
    ) -> Option<usize> {
        let session = self.sessions.get_mut(key)?;
        let Some(keys) = &mut session.keys else {
            self.counters.drop_no_keys += 1;
            return None;
        };
        if !session.intake.take(now, packet.len(), self.intake_max) {
            self.counters.drop_over_rate += 1;
            return None;
        }
        match keys.rtcp.open(packet, plain) {
            Ok(len) => return Some(len),
            Err(RtcpRefused::Unauthenticated) => self.counters.drop_unauthenticated += 1,
            Err(RtcpRefused::Replayed) => self.counters.drop_replayed += 1,
            Err(RtcpRefused::SourcesExceeded) => self.counters.drop_unknown_ssrc += 1,
        }
        None
    }

    fn on_rtcp(&mut self, now: Instant, key: SessionKey, packet: RtcpPacket<'_>) {
        match packet {
            RtcpPacket::SenderReport {
                ssrc,
                ntp,
                rtp,
                blocks,
                ..
            } => {
                self.on_sender_report(now, key, ssrc, Ntp(ntp), rtp);
                blocks.for_each(|block| self.on_report_block(now, key, &block));
            }
            RtcpPacket::ReceiverReport { blocks, .. } => {
                blocks.for_each(|block| self.on_report_block(now, key, &block));
            }
            RtcpPacket::Nack { media, lost, .. } => self.on_nack(now, key, media, lost),
            RtcpPacket::Pli { media, .. } => self.on_picture_loss(now, key, media),
            RtcpPacket::Fir { entries, .. } => {
                entries.for_each(|(media, _)| self.on_picture_loss(now, key, media));
            }
            RtcpPacket::Remb {
                bitrate_bps, ssrcs, ..
            } => self.on_remb(now, key, bitrate_bps, ssrcs),
            RtcpPacket::TransportFeedback { raw } => self.on_transport_feedback(now, key, raw),
            // A source that says goodbye falls silent by itself, and its successor announces itself
            // by its first packet.
            RtcpPacket::Bye { .. } | RtcpPacket::Sdes | RtcpPacket::Other => {}
        }
    }

    fn on_sender_report(
        &mut self,
        now: Instant,
        key: SessionKey,
        ssrc: Ssrc,
        ntp: Ntp,
        timestamp: u32,
    ) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        // A sender without a wall clock says 0 (RFC 3550 section 6.4.1).
        let source = session
            .sources
            .iter_mut()
            .find(|source| source.ssrc == ssrc);
        let Some(source) = source.filter(|source| !source.is_repair && ntp.0 != 0) else {
            return;
        };
        source.reception.handle_sender_report(now, ntp);
        let Some(track) = self.tracks.get_mut(source.track) else {
            return;
        };
        if track.ssrc() == Some(ssrc)
            && let Some(epoch) = track.epoch()
        {
            session.remote_clock.handle_report(self.clock.ntp(now), ntp);
            track.clock = Some(RtpClock {
                ntp,
                timestamp,
                epoch,
            });
            self.relay.note_clock(source.track, track);
        }
    }

    /// How much a receiver lost, and the round trip by what it says of our last sender report
    /// (RFC 3550 section 6.4.1).
    fn on_report_block(&mut self, now: Instant, key: SessionKey, block: &ReportBlock) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let sender = session.sender(block.ssrc);
        let Some(sender) = sender.and_then(|key| self.senders.get_mut(key)) else {
            return;
        };
        let downlink = session.downlink.as_ref();
        if downlink.is_some_and(|downlink| downlink.is_congested()) {
            sender.redundancy.handle_congestion();
        } else {
            sender.redundancy.handle_loss(now, block.fraction_lost);
        }
        if block.last_sr == 0 {
            return;
        }
        let away = self.clock.ntp(now).middle().wrapping_sub(block.last_sr);
        let Some(travelled) = away.checked_sub(block.delay_since_last_sr) else {
            return;
        };
        let sample = middle_to_duration(travelled);
        if sample > ROUND_TRIP_MAX {
            return;
        }
        let rtt = session.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8);
        session.rtt = Some(rtt);
        if let Some(downlink) = &mut session.downlink {
            downlink.handle_rtt(rtt);
        }
    }

    fn on_nack(
        &mut self,
        now: Instant,
        key: SessionKey,
        media: Ssrc,
        lost: impl Iterator<Item = u16>,
    ) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(sender_key) = session.sender(media) else {
            return;
        };
        let Some(sender) = self.senders.get(sender_key) else {
            return;
        };
        let Some(source) = &sender.source else { return };
        let Some(track) = self.tracks.get(source.track) else {
            return;
        };
        let copies = match &session.downlink {
            Some(downlink) if sender.spec.rtx.is_some() => downlink.repair_copies(),
            Some(_) | None => 1,
        };
        for number in lost {
            self.counters.nacks_received += 1;
            let outgoing = sender.numbering.extend(number);
            let incoming = outgoing.and_then(|outgoing| sender.numbering.invert(outgoing));
            let entry = incoming.and_then(|incoming| track.log.find(incoming));
            let (Some(sequence), Some(entry)) = (outgoing, entry) else {
                self.counters.drop_nack_too_late += 1;
                continue;
            };
            let resend = Resend {
                sender: sender_key,
                sequence,
            };
            let bytes = entry.payload_len();
            match session.resends.request(now, resend, bytes, copies) {
                Ok(()) | Err(NotResent::Repeated) => {}
                Err(NotResent::Budget) => {
                    // The rest of this request will fare no better.
                    self.counters.drop_nack_budget += 1;
                    break;
                }
            }
        }
        if !session.resends.is_empty() && !session.is_ready {
            session.is_ready = true;
            self.ready.push_back(key);
        }
    }

    fn on_picture_loss(&mut self, now: Instant, key: SessionKey, media: Ssrc) {
        if let Some(track) = self.fed_track(key, media) {
            self.request_keyframe(now, track);
        }
    }

    /// The track that feeds the sender with this SSRC.
    fn fed_track(&self, key: SessionKey, media: Ssrc) -> Option<TrackKey> {
        let sender = self.sessions.get(key)?.sender(media)?;
        Some(self.senders.get(sender)?.source.as_ref()?.track)
    }
}
