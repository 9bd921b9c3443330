//! Bodies of tests and fuzz targets: any bytes into a view, and the crates as its oracle.
//!
//! A body panics when a view does, or when the crate understands the same bytes otherwise. Where we are
//! stricter or laxer than the crate on purpose, the body says so.

mod layers;

pub use layers::layers;

use std::any::Any;

use ::rtcp::goodbye::Goodbye;
use ::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use ::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use ::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use ::rtcp::receiver_report::ReceiverReport;
use ::rtcp::reception_report::ReceptionReport;
use ::rtcp::sender_report::SenderReport;
use ::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use ::rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use ::stun::attributes::{
    ATTR_FINGERPRINT, ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_MESSAGE_INTEGRITY,
    ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
};
use ::stun::fingerprint::FINGERPRINT;
use ::stun::integrity::MessageIntegrity;
use ::stun::message::{Message, is_stun_message};
use rtc_crypto::providers::AwsLcRsCrypto;
use rtc_shared::marshal::Unmarshal;

use super::demux::{Protocol, classify};
use super::extension::{ONE_BYTE_PROFILE, TWO_BYTE_PROFILE};
use super::rtcp::{ReportBlocks, RtcpPacket, packets};
use super::rtp::{RtpView, padding_len};
use super::stun::{BindingRequest, IntegrityKey};
use super::transport_feedback::FeedbackView;
use super::{red, u16_at};
use crate::id::{PayloadType, Ssrc};
use crate::limits::DATAGRAM_BYTES_MAX;

/// The password of the messages in RFC 5769, so that a corpus of them is authentic here.
pub const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

/// The demultiplexer: STUN as the crate knows it is never taken for anything else.
pub fn demultiplexer(datagram: &[u8]) {
    let protocol = classify(datagram);
    if datagram.first().is_some_and(|&first| first < 4) {
        assert_eq!(protocol, Some(Protocol::Stun));
    } else {
        assert!(protocol != Some(Protocol::Stun) || !is_stun_message(datagram));
    }
}

/// The view of an RTP packet, its padding and its RED payload.
pub fn rtp(packet: &[u8]) {
    // The crate does not look at the version; we do.
    let theirs = ::rtp::Header::unmarshal(&mut &*packet);
    let is_version_2 = packet.first().is_some_and(|first| first >> 6 == 2);
    let Ok(view) = RtpView::parse(packet) else {
        assert!(
            theirs.is_err() || !is_version_2,
            "the crate reads what we refuse"
        );
        return;
    };
    assert_eq!(view.header_len() + view.payload().len(), packet.len());
    let extensions: Vec<(u8, &[u8])> = view.extensions().collect();
    if let Some(padding) = padding_len(view.payload()) {
        assert!(padding <= view.payload().len());
    }
    redundancy(view.payload());

    // The crate refuses the packet where an element of the extension is malformed; we end the elements.
    let Ok(theirs) = theirs else { return };
    assert_eq!(view.marker(), theirs.marker);
    assert_eq!(view.has_padding(), theirs.padding);
    assert_eq!(view.payload_type(), PayloadType(theirs.payload_type));
    assert_eq!(view.sequence(), theirs.sequence_number);
    assert_eq!(view.timestamp(), theirs.timestamp);
    assert_eq!(view.ssrc(), Ssrc(theirs.ssrc));

    // The crate lets an element run past the extension and gives padding with a length as an element.
    let form_known = [ONE_BYTE_PROFILE, TWO_BYTE_PROFILE].contains(&theirs.extension_profile);
    let content_len: usize = theirs.csrc.len() * 4 + 12 + if theirs.extension { 4 } else { 0 };
    let per_element = if theirs.extension_profile == TWO_BYTE_PROFILE {
        2
    } else {
        1
    };
    let elements_len: usize = theirs
        .extensions
        .iter()
        .map(|element| per_element + element.payload.len())
        .sum();
    let is_exact = content_len + elements_len + theirs.extensions_padding == view.header_len();
    if form_known && is_exact && theirs.extensions.iter().all(|element| element.id != 0) {
        let theirs: Vec<(u8, &[u8])> = theirs
            .extensions
            .iter()
            .map(|element| (element.id, &element.payload[..]))
            .collect();
        assert_eq!(extensions, theirs);
    }
}

/// RED: renaming a type to itself changes nothing, and there and back is where it began.
fn redundancy(payload: &[u8]) {
    let mut renamed = payload.to_vec();
    let Some((primary, content)) = red::primary(payload) else {
        assert_eq!(
            red::rewrite(&mut renamed, PayloadType(1), PayloadType(2)),
            None
        );
        return;
    };
    assert!(payload.ends_with(content));
    assert_eq!(red::rewrite(&mut renamed, primary, primary), Some(()));
    assert_eq!(renamed, payload);
}

/// The packets of an RTCP compound, each beside the crate's reading of it.
pub fn rtcp(compound: &[u8]) {
    // The crate's arithmetic is sound for what a datagram can hold.
    let compound = compound.get(..DATAGRAM_BYTES_MAX).unwrap_or(compound);
    let ours: Vec<_> = packets(compound).collect();
    let mut rest = compound;
    for packet in ours {
        let len = u16_at(rest, 2).map_or(usize::MAX, |words| (usize::from(words) + 1) * 4);
        let Some((bytes, after)) = rest.split_at_checked(len) else {
            assert!(packet.is_err(), "a packet that is not all there");
            return;
        };
        rest = after;
        match packet {
            Ok(packet) => agree_on_rtcp(&packet, bytes),
            Err(_) => {
                // The crate does not know padding; nor does it count a version that is not 2 as an error
                // of the packet before.
                let has_padding = bytes.first().is_some_and(|flags| flags & 0x20 != 0);
                assert!(
                    has_padding || crate_reads(bytes).is_none(),
                    "the crate reads what we refuse"
                );
                return;
            }
        }
    }
    assert!(rest.is_empty());
}

/// One packet as the crate reads it. Each is given alone: in a compound, the crate loses its place
/// behind a packet with bytes left over.
fn crate_reads(packet: &[u8]) -> Option<Box<dyn ::rtcp::Packet>> {
    ::rtcp::packet::unmarshal(&mut &*packet)
        .ok()?
        .into_iter()
        .next()
}

fn agree_on_rtcp(ours: &RtcpPacket<'_>, bytes: &[u8]) {
    if let RtcpPacket::TransportFeedback { raw } = ours
        && let Ok(view) = FeedbackView::parse(raw)
    {
        assert_eq!(view.packets().count(), view.count());
    }
    // The crate does not take padding off.
    if bytes.first().is_some_and(|flags| flags & 0x20 != 0) {
        return;
    }
    // The crate refuses some of what we read and do not need: items of SDES, a REMB about a source.
    let Some(theirs) = crate_reads(bytes) else {
        return;
    };
    let theirs = theirs.as_any();
    match ours {
        RtcpPacket::SenderReport {
            ssrc,
            ntp,
            rtp,
            packets,
            octets,
            blocks,
        } => {
            let theirs: &SenderReport = expect(theirs);
            assert_eq!(
                (ssrc.0, *ntp, *rtp),
                (theirs.ssrc, theirs.ntp_time, theirs.rtp_time)
            );
            assert_eq!(
                (*packets, *octets),
                (theirs.packet_count, theirs.octet_count)
            );
            agree_on_blocks(blocks, &theirs.reports);
        }
        RtcpPacket::ReceiverReport { ssrc, blocks } => {
            let theirs: &ReceiverReport = expect(theirs);
            assert_eq!(ssrc.0, theirs.ssrc);
            agree_on_blocks(blocks, &theirs.reports);
        }
        RtcpPacket::Bye { ssrcs } => {
            let theirs: &Goodbye = expect(theirs);
            assert!(
                ssrcs
                    .clone()
                    .map(|ssrc| ssrc.0)
                    .eq(theirs.sources.iter().copied())
            );
        }
        RtcpPacket::Nack { .. }
        | RtcpPacket::Pli { .. }
        | RtcpPacket::Fir { .. }
        | RtcpPacket::Remb { .. }
        | RtcpPacket::TransportFeedback { .. } => agree_on_feedback(ours, theirs, bytes),
        RtcpPacket::Sdes | RtcpPacket::Other => {}
    }
}

fn agree_on_feedback(ours: &RtcpPacket<'_>, theirs: &dyn Any, bytes: &[u8]) {
    match ours {
        RtcpPacket::Nack {
            sender,
            media,
            lost,
        } => {
            let theirs: &TransportLayerNack = expect(theirs);
            assert_eq!((sender.0, media.0), (theirs.sender_ssrc, theirs.media_ssrc));
            let numbers = theirs.nacks.iter().flat_map(NackPair::packet_list);
            assert!(lost.clone().eq(numbers));
        }
        RtcpPacket::Pli { sender, media } => {
            let theirs: &PictureLossIndication = expect(theirs);
            assert_eq!((sender.0, media.0), (theirs.sender_ssrc, theirs.media_ssrc));
        }
        RtcpPacket::Fir { sender, entries } => {
            let theirs: &FullIntraRequest = expect(theirs);
            assert_eq!(sender.0, theirs.sender_ssrc);
            let wanted = theirs
                .fir
                .iter()
                .map(|entry| (Ssrc(entry.ssrc), entry.sequence_number));
            assert!(entries.clone().eq(wanted));
        }
        RtcpPacket::Remb {
            sender,
            bitrate_bps,
            ssrcs,
        } => {
            let theirs: &ReceiverEstimatedMaximumBitrate = expect(theirs);
            assert_eq!(sender.0, theirs.sender_ssrc);
            assert!(
                ssrcs
                    .clone()
                    .map(|ssrc| ssrc.0)
                    .eq(theirs.ssrcs.iter().copied())
            );
            // The crate reads an estimate of 0 as a power of two, and we saturate at 64 bits.
            if *bitrate_bps != 0 && *bitrate_bps != u64::MAX {
                assert!((*bitrate_bps as f32 - theirs.bitrate).abs() <= theirs.bitrate / 1e6);
            }
        }
        RtcpPacket::TransportFeedback { raw } => {
            let _: &TransportLayerCc = expect(theirs);
            assert_eq!(*raw, bytes);
        }
        RtcpPacket::SenderReport { .. }
        | RtcpPacket::ReceiverReport { .. }
        | RtcpPacket::Bye { .. }
        | RtcpPacket::Sdes
        | RtcpPacket::Other => unreachable!("no feedback"),
    }
}

fn agree_on_blocks(ours: &ReportBlocks<'_>, theirs: &[ReceptionReport]) {
    assert_eq!(ours.clone().count(), theirs.len());
    for (ours, theirs) in ours.clone().zip(theirs) {
        assert_eq!(
            (ours.ssrc.0, ours.fraction_lost),
            (theirs.ssrc, theirs.fraction_lost)
        );
        // The crate leaves the sign of the 24 bits to the reader.
        assert_eq!(ours.lost.cast_unsigned() & 0xFF_FFFF, theirs.total_lost);
        assert!((-0x80_0000..=0x7F_FFFF).contains(&ours.lost));
        assert_eq!(
            (ours.highest_sequence, ours.jitter),
            (theirs.last_sequence_number, theirs.jitter)
        );
        assert_eq!(
            (ours.last_sr, ours.delay_since_last_sr),
            (theirs.last_sender_report, theirs.delay)
        );
    }
}

fn expect<T: 'static>(packet: &dyn Any) -> &T {
    packet
        .downcast_ref()
        .expect("the crate finds another kind of packet")
}

/// The view of a connectivity check under the key of [`PASSWORD`].
pub fn stun(datagram: &[u8]) {
    let key = IntegrityKey::new(PASSWORD);
    let mut theirs = Message::new();
    let read = theirs.unmarshal_binary(datagram);
    let Ok(Some(ours)) = BindingRequest::parse(datagram) else {
        return;
    };
    assert!(read.is_ok(), "the crate refuses what we read");
    assert_eq!(ours.transaction(), theirs.transaction_id.0);

    // We do not look behind MESSAGE-INTEGRITY, and the crate finds it where we do.
    let kinds: Vec<AttrType> = theirs
        .attributes
        .0
        .iter()
        .map(|attribute| attribute.typ)
        .collect();
    let is_fingerprinted = kinds.last() == Some(&ATTR_FINGERPRINT);
    if is_fingerprinted {
        assert!(FINGERPRINT.check(&theirs).is_ok());
    } else {
        assert!(!kinds.contains(&ATTR_FINGERPRINT));
    }
    let integrity = kinds
        .iter()
        .position(|&kind| kind == ATTR_MESSAGE_INTEGRITY);
    let before = integrity.expect("a check without MESSAGE-INTEGRITY was read");
    let protected = theirs.attributes.0.get(..before).unwrap_or_default();
    let value = |kind| {
        protected
            .iter()
            .find(|attribute| attribute.typ == kind)
            .map(|found| &found.value[..])
    };

    let (local, remote) = ours.username();
    assert_eq!(
        value(ATTR_USERNAME),
        Some(&[local, b":", remote].concat()[..])
    );
    assert_eq!(
        value(ATTR_PRIORITY),
        Some(&ours.priority().to_be_bytes()[..])
    );
    assert_eq!(value(ATTR_USE_CANDIDATE).is_some(), ours.use_candidate());
    assert_eq!(
        value(ATTR_ICE_CONTROLLED),
        ours.ice_controlled()
            .map(u64::to_be_bytes)
            .as_ref()
            .map(|v| &v[..])
    );
    assert_eq!(
        value(ATTR_ICE_CONTROLLING),
        ours.ice_controlling()
            .map(u64::to_be_bytes)
            .as_ref()
            .map(|v| &v[..])
    );

    // With a second MESSAGE-INTEGRITY the crate counts from the wrong one.
    if kinds
        .iter()
        .filter(|&&kind| kind == ATTR_MESSAGE_INTEGRITY)
        .count()
        == 1
    {
        let check = MessageIntegrity::check(&mut theirs, PASSWORD.as_bytes(), &AwsLcRsCrypto);
        assert_eq!(ours.verify(&key), check.is_ok());
    }
}
