//! RTCP packets: views of what arrives (RFC 3550 section 6, RFC 4585, RFC 5104).

use super::{Malformed, u16_at, u32_at, u64_at};
use crate::id::Ssrc;

/// Bytes of the header that every packet of a compound begins with.
pub(super) const HEADER_LEN: usize = 4;

/// Bytes of a report block (RFC 3550 section 6.4.1).
pub(super) const REPORT_BLOCK_LEN: usize = 24;

/// Packet types.
pub(super) mod packet_type {
    pub(in super::super) const SENDER_REPORT: u8 = 200;
    pub(in super::super) const RECEIVER_REPORT: u8 = 201;
    pub(in super::super) const SDES: u8 = 202;
    pub(in super::super) const BYE: u8 = 203;
    /// Transport layer feedback (RFC 4585 section 6.2).
    pub(in super::super) const TRANSPORT_FEEDBACK: u8 = 205;
    /// Payload-specific feedback (RFC 4585 section 6.3).
    pub(in super::super) const PAYLOAD_FEEDBACK: u8 = 206;
}

/// Feedback message types: what the count field of a feedback packet says.
pub(super) mod format {
    /// Generic NACK (RFC 4585 section 6.2.1).
    pub(in super::super) const NACK: u8 = 1;
    /// Transport-wide congestion control (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    pub(in super::super) const TRANSPORT_CC: u8 = 15;
    /// Picture loss indication (RFC 4585 section 6.3.1).
    pub(in super::super) const PLI: u8 = 1;
    /// Full intra request (RFC 5104 section 4.3.1).
    pub(in super::super) const FIR: u8 = 4;
    /// Application layer feedback (RFC 4585 section 6.4), of which REMB is one.
    pub(in super::super) const APPLICATION: u8 = 15;
}

/// What marks application layer feedback as a receiver's bitrate estimate (draft-alvestrand-rmcat-remb-03).
pub(super) const REMB_NAME: [u8; 4] = *b"REMB";

/// One packet of a compound.
#[derive(Clone, Debug)]
pub enum RtcpPacket<'a> {
    /// What a source sent, and how it receives others (RFC 3550 section 6.4.1).
    SenderReport {
        /// The source.
        ssrc: Ssrc,
        /// NTP time of the report, seconds in the upper half.
        ntp: u64,
        /// The same instant in the source's RTP timestamps.
        rtp: u32,
        /// Packets sent so far.
        packets: u32,
        /// Payload bytes sent so far.
        octets: u32,
        /// How it receives others.
        blocks: ReportBlocks<'a>,
    },
    /// How a receiver that sends nothing receives others (RFC 3550 section 6.4.2).
    ReceiverReport {
        /// The receiver.
        ssrc: Ssrc,
        /// How it receives others.
        blocks: ReportBlocks<'a>,
    },
    /// Packets that did not arrive (RFC 4585 section 6.2.1).
    Nack {
        /// Who says so.
        sender: Ssrc,
        /// The source whose packets they are.
        media: Ssrc,
        /// Their sequence numbers.
        lost: Lost<'a>,
    },
    /// A picture cannot be decoded (RFC 4585 section 6.3.1).
    Pli {
        /// Who says so.
        sender: Ssrc,
        /// The source of the picture.
        media: Ssrc,
    },
    /// A key frame is wanted (RFC 5104 section 4.3.1).
    Fir {
        /// Who wants it.
        sender: Ssrc,
        /// Of which sources.
        entries: FirEntries<'a>,
    },
    /// A receiver's estimate of what it can take (draft-alvestrand-rmcat-remb-03).
    Remb {
        /// The receiver.
        sender: Ssrc,
        /// The estimate, in bits per second.
        bitrate_bps: u64,
        /// The sources that share it.
        ssrcs: Ssrcs<'a>,
    },
    /// Arrival times of packets (draft-holmer-rmcat-transport-wide-cc-extensions-01), not read further here.
    TransportFeedback {
        /// The whole packet with its header and without padding.
        raw: &'a [u8],
    },
    /// Sources that end (RFC 3550 section 6.6).
    Bye {
        /// The sources.
        ssrcs: Ssrcs<'a>,
    },
    /// Descriptions of sources (RFC 3550 section 6.5), not read further: SDP names them.
    Sdes,
    /// Something that we do not read.
    Other,
}

/// How a source is received (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: Ssrc,
    /// Part of the packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost in all, a signed number of 24 bits: duplicates make it negative.
    pub lost: i32,
    /// Highest sequence number received, its wraps counted in the upper half.
    pub highest_sequence: u32,
    /// Interarrival jitter, in timestamp units.
    pub jitter: u32,
    /// Middle of the NTP time of the last sender report, 0 when there was none.
    pub last_sr: u32,
    /// Time since that report, in 65536ths of a second.
    pub delay_since_last_sr: u32,
}

/// The packets of a (decrypted) compound in order. Ends after the first error.
#[must_use]
pub fn packets(compound: &[u8]) -> Packets<'_> {
    Packets { rest: compound }
}

/// Iterator over the packets of a compound; see [`packets`].
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<RtcpPacket<'a>, Malformed>;

    fn next(&mut self) -> Option<Result<RtcpPacket<'a>, Malformed>> {
        if self.rest.is_empty() {
            return None;
        }
        let packet = split_packet(self.rest).and_then(|(packet, rest)| {
            self.rest = rest;
            parse_packet(packet)
        });
        if packet.is_err() {
            self.rest = &[];
        }
        Some(packet)
    }
}

/// The first packet of a compound by its length field, and what follows it.
fn split_packet(compound: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let header = compound
        .first_chunk::<HEADER_LEN>()
        .ok_or(Malformed::Truncated)?;
    if header[0] >> 6 != 2 {
        return Err(Malformed::Version);
    }
    let words = usize::from(u16::from_be_bytes([header[2], header[3]]));
    compound
        .split_at_checked((words + 1) * 4)
        .ok_or(Malformed::Length)
}

fn parse_packet(packet: &[u8]) -> Result<RtcpPacket<'_>, Malformed> {
    let (header, padded) = packet
        .split_first_chunk::<HEADER_LEN>()
        .ok_or(Malformed::Truncated)?;
    let body = if header[0] & 0x20 == 0 {
        padded
    } else {
        strip_padding(padded, has_odd_padding(*header))?
    };
    let count = header[0] & 0x1F;
    match header[1] {
        packet_type::SENDER_REPORT => sender_report(count, body).ok_or(Malformed::Length),
        packet_type::RECEIVER_REPORT => receiver_report(count, body).ok_or(Malformed::Length),
        packet_type::SDES => Ok(RtcpPacket::Sdes),
        packet_type::BYE => bye(count, body).ok_or(Malformed::Length),
        packet_type::TRANSPORT_FEEDBACK if count == format::NACK => {
            nack(body).ok_or(Malformed::Length)
        }
        packet_type::TRANSPORT_FEEDBACK if count == format::TRANSPORT_CC => {
            let raw = packet
                .get(..HEADER_LEN + body.len())
                .ok_or(Malformed::Length)?;
            Ok(RtcpPacket::TransportFeedback { raw })
        }
        packet_type::PAYLOAD_FEEDBACK if count == format::PLI => pli(body).ok_or(Malformed::Length),
        packet_type::PAYLOAD_FEEDBACK if count == format::FIR => fir(body).ok_or(Malformed::Length),
        packet_type::PAYLOAD_FEEDBACK if count == format::APPLICATION => {
            application_feedback(body).ok_or(Malformed::Length)
        }
        _ => Ok(RtcpPacket::Other),
    }
}

/// Whether padding need not be whole words: libwebrtc fills the last word of transport-wide feedback
/// with it (`transport_feedback.cc`), against RFC 3550 section 6.4.1.
fn has_odd_padding([flags, packet_type, ..]: [u8; HEADER_LEN]) -> bool {
    packet_type == packet_type::TRANSPORT_FEEDBACK && flags & 0x1F == format::TRANSPORT_CC
}

/// The body without its padding, whose count is the last byte (RFC 3550 section 6.4.1).
fn strip_padding(body: &[u8], may_be_odd: bool) -> Result<&[u8], Malformed> {
    let count = body.last().map_or(0, |&count| usize::from(count));
    if count == 0 || !(may_be_odd || count.is_multiple_of(4)) {
        return Err(Malformed::Padding);
    }
    let end = body.len().checked_sub(count).ok_or(Malformed::Padding)?;
    body.get(..end).ok_or(Malformed::Padding)
}

fn sender_report(count: u8, body: &[u8]) -> Option<RtcpPacket<'_>> {
    Some(RtcpPacket::SenderReport {
        ssrc: Ssrc(u32_at(body, 0)?),
        ntp: u64_at(body, 4)?,
        rtp: u32_at(body, 12)?,
        packets: u32_at(body, 16)?,
        octets: u32_at(body, 20)?,
        blocks: ReportBlocks::parse(count, body.get(24..)?)?,
    })
}

fn receiver_report(count: u8, body: &[u8]) -> Option<RtcpPacket<'_>> {
    Some(RtcpPacket::ReceiverReport {
        ssrc: Ssrc(u32_at(body, 0)?),
        blocks: ReportBlocks::parse(count, body.get(4..)?)?,
    })
}

fn bye(count: u8, body: &[u8]) -> Option<RtcpPacket<'_>> {
    let (ssrcs, reason) = body.split_at_checked(usize::from(count) * 4)?;
    if let Some((&len, text)) = reason.split_first() {
        // The reason is not read, but one that runs past the end makes the packet malformed.
        text.get(..usize::from(len))?;
    }
    Some(RtcpPacket::Bye {
        ssrcs: Ssrcs { rest: ssrcs },
    })
}

fn nack(body: &[u8]) -> Option<RtcpPacket<'_>> {
    let (sender, media) = feedback_ssrcs(body)?;
    let rest = body.get(8..)?;
    Some(RtcpPacket::Nack {
        sender,
        media,
        lost: Lost {
            first: None,
            following: 0,
            rest,
        },
    })
}

fn pli(body: &[u8]) -> Option<RtcpPacket<'_>> {
    let (sender, media) = feedback_ssrcs(body)?;
    Some(RtcpPacket::Pli { sender, media })
}

fn fir(body: &[u8]) -> Option<RtcpPacket<'_>> {
    let (sender, _) = feedback_ssrcs(body)?;
    Some(RtcpPacket::Fir {
        sender,
        entries: FirEntries {
            rest: body.get(8..)?,
        },
    })
}

fn application_feedback(body: &[u8]) -> Option<RtcpPacket<'_>> {
    let (sender, _) = feedback_ssrcs(body)?;
    let content = body.get(8..)?;
    if content.first_chunk() != Some(&REMB_NAME) {
        return Some(RtcpPacket::Other);
    }
    let word = u32_at(content, 4)?;
    let count = usize::from((word >> 24) as u8);
    let exponent = (word >> 18) & 0x3F;
    let mantissa = u64::from(word & 0x3_FFFF);
    // An estimate past 64 bits is as good as none: saturate.
    let bitrate_bps = if exponent > mantissa.leading_zeros() {
        u64::MAX
    } else {
        mantissa << exponent
    };
    let ssrcs = Ssrcs {
        rest: content.get(8..)?.get(..count * 4)?,
    };
    Some(RtcpPacket::Remb {
        sender,
        bitrate_bps,
        ssrcs,
    })
}

/// Who sends a feedback packet and about whom (RFC 4585 section 6.1).
fn feedback_ssrcs(body: &[u8]) -> Option<(Ssrc, Ssrc)> {
    Some((Ssrc(u32_at(body, 0)?), Ssrc(u32_at(body, 4)?)))
}

/// Iterator over the blocks of a report.
#[derive(Clone, Debug)]
pub struct ReportBlocks<'a> {
    rest: &'a [u8],
}

impl<'a> ReportBlocks<'a> {
    /// The blocks that the count field promises; a profile's extension may follow them.
    fn parse(count: u8, content: &'a [u8]) -> Option<ReportBlocks<'a>> {
        Some(ReportBlocks {
            rest: content.get(..usize::from(count) * REPORT_BLOCK_LEN)?,
        })
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.rest.split_at_checked(REPORT_BLOCK_LEN)?;
        self.rest = rest;
        let loss = u32_at(block, 4)?;
        Some(ReportBlock {
            ssrc: Ssrc(u32_at(block, 0)?),
            fraction_lost: (loss >> 24) as u8,
            // Shifted up and back so that bit 23 becomes the sign.
            lost: (loss << 8).cast_signed() >> 8,
            highest_sequence: u32_at(block, 8)?,
            jitter: u32_at(block, 12)?,
            last_sr: u32_at(block, 16)?,
            delay_since_last_sr: u32_at(block, 20)?,
        })
    }
}

/// Iterator over the sequence numbers of a NACK, in the order they are listed.
#[derive(Clone, Debug)]
pub struct Lost<'a> {
    /// The number that `following` counts from, once its entry has begun.
    first: Option<u16>,
    /// Bit n: the packet `first + n + 1` is lost too.
    following: u16,
    /// Entries not begun.
    rest: &'a [u8],
}

impl Iterator for Lost<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if let Some(first) = self.first
            && self.following != 0
        {
            let bit = self.following.trailing_zeros() as u16;
            self.following &= self.following - 1;
            return Some(first.wrapping_add(bit + 1));
        }
        let first = u16_at(self.rest, 0)?;
        self.following = u16_at(self.rest, 2)?;
        self.rest = self.rest.get(4..)?;
        self.first = Some(first);
        Some(first)
    }
}

/// Iterator over a FIR's sources and the request's number for each, which grows when it is a new one.
#[derive(Clone, Debug)]
pub struct FirEntries<'a> {
    rest: &'a [u8],
}

impl Iterator for FirEntries<'_> {
    type Item = (Ssrc, u8);

    fn next(&mut self) -> Option<(Ssrc, u8)> {
        let (&[s0, s1, s2, s3, number, _, _, _], rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some((Ssrc(u32::from_be_bytes([s0, s1, s2, s3])), number))
    }
}

/// Iterator over listed sources.
#[derive(Clone, Debug)]
pub struct Ssrcs<'a> {
    rest: &'a [u8],
}

impl Iterator for Ssrcs<'_> {
    type Item = Ssrc;

    fn next(&mut self) -> Option<Ssrc> {
        let (ssrc, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(Ssrc(u32::from_be_bytes(*ssrc)))
    }
}
