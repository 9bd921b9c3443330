//! What a peer says by RTCP: what it misses, how it receives, what it sends.

use std::time::Instant;

use bytes::Bytes;
use rtcp::packet::Packet as RtcpPacket;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::receiver_report::ReceiverReport;
use rtcp::source_description::{
    SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
};
use rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};

use super::Peer;

/// Most report blocks of one report (RFC 3550 section 6.4.2).
const REPORT_BLOCKS_MAX: usize = 31;

impl Peer {
    /// Asks for what is missing.
    pub(super) fn ask(&mut self, now: Instant) {
        let mut packets: Vec<Box<dyn RtcpPacket>> = Vec::new();
        for (ssrc, reception) in &mut self.receptions {
            let (sender_ssrc, media_ssrc) = (self.rtcp_ssrc, *ssrc);
            let numbers = reception.poll_nacks(now);
            if !numbers.is_empty() {
                let nacks = nack_pairs_from_sequence_numbers(&numbers);
                packets.push(Box::new(TransportLayerNack {
                    sender_ssrc,
                    media_ssrc,
                    nacks,
                }));
            }
            if reception.poll_key_request(now) {
                packets.push(Box::new(PictureLossIndication {
                    sender_ssrc,
                    media_ssrc,
                }));
            }
        }
        for packet in packets {
            // Reduced-size (RFC 5506), as browsers send feedback.
            self.send_rtcp(&[packet]);
        }
    }

    /// Sender and receiver reports with our name (RFC 3550 section 6.1).
    pub(super) fn report(&mut self, now: Instant) {
        let mut blocks: Vec<_> = self
            .receptions
            .values_mut()
            .filter(|reception| reception.expected() > 0)
            .map(|reception| reception.report(now))
            .collect();
        let mut ssrc = self.rtcp_ssrc;
        let mut compounds: Vec<Vec<Box<dyn RtcpPacket>>> = Vec::new();
        for publication in self.publications.values() {
            let mut report = publication.report(now, self.config.epoch);
            report.reports = blocks.split_off(blocks.len().saturating_sub(REPORT_BLOCKS_MAX));
            ssrc = report.ssrc;
            let name = self.name(ssrc);
            compounds.push(vec![Box::new(report), name]);
        }
        while !blocks.is_empty() || compounds.is_empty() {
            let reports = blocks.split_off(blocks.len().saturating_sub(REPORT_BLOCKS_MAX));
            let report = ReceiverReport {
                ssrc,
                reports,
                ..ReceiverReport::default()
            };
            let name = self.name(ssrc);
            compounds.push(vec![Box::new(report), name]);
        }
        for compound in compounds {
            self.send_rtcp(&compound);
        }
    }

    fn name(&self, source: u32) -> Box<dyn RtcpPacket> {
        let text = Bytes::copy_from_slice(self.config.cname.as_bytes());
        let items = vec![SourceDescriptionItem {
            sdes_type: SdesType::SdesCname,
            text,
        }];
        let chunks = vec![SourceDescriptionChunk { source, items }];
        Box::new(SourceDescription { chunks })
    }

    pub(super) fn send_rtcp(&mut self, packets: &[Box<dyn RtcpPacket>]) {
        let sealed = rtcp::packet::marshal(packets)
            .ok()
            .and_then(|plain| self.protection.as_mut()?.seal_rtcp(&plain));
        self.transmits.extend(sealed);
    }
}
