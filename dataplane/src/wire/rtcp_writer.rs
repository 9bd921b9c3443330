//! RTCP packets: a compound on its way out (RFC 3550 section 6, RFC 4585, RFC 5104).

use super::rtcp::{HEADER_LEN, REMB_NAME, REPORT_BLOCK_LEN, ReportBlock, format, packet_type};
use crate::id::Ssrc;

/// Report blocks that one report can count (RFC 3550 section 6.4.1).
pub const REPORT_BLOCKS_MAX: usize = 31;

/// Lost packets that one NACK entry can name beside its first (RFC 4585 section 6.2.1).
const NACK_FOLLOWING_MAX: u16 = 16;

/// Builds a compound packet in the caller's buffer, one packet behind the other.
///
/// Every method answers whether its packet was written; without room, and where a list is longer
/// than its count field can say, nothing of it is.
#[derive(Debug)]
pub struct RtcpWriter<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> RtcpWriter<'a> {
    /// An empty compound at the start of `out`.
    #[must_use]
    pub fn new(out: &'a mut [u8]) -> RtcpWriter<'a> {
        RtcpWriter { out, len: 0 }
    }

    /// Bytes written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A sender report (RFC 3550 section 6.4.1) with at most [`REPORT_BLOCKS_MAX`] blocks.
    #[must_use]
    pub fn sender_report(
        &mut self,
        ssrc: Ssrc,
        ntp: u64,
        rtp: u32,
        packets: u32,
        octets: u32,
        blocks: &[ReportBlock],
    ) -> bool {
        let body_len = 24 + blocks.len() * REPORT_BLOCK_LEN;
        self.report(packet_type::SENDER_REPORT, body_len, blocks, |body| {
            body.put_u32(ssrc.0)?;
            body.put(&ntp.to_be_bytes())?;
            body.put_u32(rtp)?;
            body.put_u32(packets)?;
            body.put_u32(octets)
        })
    }

    /// A receiver report (RFC 3550 section 6.4.2) with at most [`REPORT_BLOCKS_MAX`] blocks.
    #[must_use]
    pub fn receiver_report(&mut self, ssrc: Ssrc, blocks: &[ReportBlock]) -> bool {
        let body_len = 4 + blocks.len() * REPORT_BLOCK_LEN;
        self.report(packet_type::RECEIVER_REPORT, body_len, blocks, |body| {
            body.put_u32(ssrc.0)
        })
    }

    /// A source description that holds the canonical name (RFC 3550 section 6.5.1), at most 255 bytes.
    #[must_use]
    pub fn sdes_cname(&mut self, ssrc: Ssrc, cname: &str) -> bool {
        const CNAME: u8 = 1;
        let Ok(name_len) = u8::try_from(cname.len()) else {
            return false;
        };
        // At least one zero ends the items, and zeros fill the chunk up to a whole word.
        let chunk_len = (4 + 2 + cname.len() + 1).next_multiple_of(4);
        self.packet(1, packet_type::SDES, chunk_len, |body| {
            body.put_u32(ssrc.0)?;
            body.put(&[CNAME, name_len])?;
            body.put(cname.as_bytes())?;
            body.put_zeros()
        })
    }

    /// A generic NACK (RFC 4585 section 6.2.1) of the packets `lost`, in sending order; nothing is
    /// written for none.
    #[must_use]
    pub fn nack(
        &mut self,
        sender: Ssrc,
        media: Ssrc,
        lost: impl Iterator<Item = u16> + Clone,
    ) -> bool {
        let entries = NackEntries { lost };
        let body_len = 8 + entries.clone().count() * 4;
        if body_len == 8 {
            return true;
        }
        self.packet(
            format::NACK,
            packet_type::TRANSPORT_FEEDBACK,
            body_len,
            |body| {
                body.put_u32(sender.0)?;
                body.put_u32(media.0)?;
                for (first, following) in entries {
                    body.put(&first.to_be_bytes())?;
                    body.put(&following.to_be_bytes())?;
                }
                Some(())
            },
        )
    }

    /// A picture loss indication (RFC 4585 section 6.3.1).
    #[must_use]
    pub fn pli(&mut self, sender: Ssrc, media: Ssrc) -> bool {
        self.packet(format::PLI, packet_type::PAYLOAD_FEEDBACK, 8, |body| {
            body.put_u32(sender.0)?;
            body.put_u32(media.0)
        })
    }

    /// A full intra request (RFC 5104 section 4.3.1); `number` grows with every new request.
    #[must_use]
    pub fn fir(&mut self, sender: Ssrc, media: Ssrc, number: u8) -> bool {
        self.packet(format::FIR, packet_type::PAYLOAD_FEEDBACK, 16, |body| {
            body.put_u32(sender.0)?;
            // The source is named in the entry; this field "is not used and SHALL be set to 0".
            body.put_u32(0)?;
            body.put_u32(media.0)?;
            body.put(&[number, 0, 0, 0])
        })
    }

    /// A receiver's bitrate estimate (draft-alvestrand-rmcat-remb-03) for at most 255 sources,
    /// rounded down to 18 significant bits.
    #[must_use]
    pub fn remb(&mut self, sender: Ssrc, bitrate_bps: u64, ssrcs: &[Ssrc]) -> bool {
        let Ok(count) = u8::try_from(ssrcs.len()) else {
            return false;
        };
        let exponent = (u64::BITS - bitrate_bps.leading_zeros()).saturating_sub(18);
        let mantissa = (bitrate_bps >> exponent) as u32;
        self.packet(
            format::APPLICATION,
            packet_type::PAYLOAD_FEEDBACK,
            16 + ssrcs.len() * 4,
            |body| {
                body.put_u32(sender.0)?;
                body.put_u32(0)?;
                body.put(&REMB_NAME)?;
                body.put_u32((u32::from(count) << 24) | (exponent << 18) | mantissa)?;
                ssrcs.iter().try_for_each(|ssrc| body.put_u32(ssrc.0))
            },
        )
    }

    /// The end of a source (RFC 3550 section 6.6).
    #[must_use]
    pub fn bye(&mut self, ssrc: Ssrc) -> bool {
        self.packet(1, packet_type::BYE, 4, |body| body.put_u32(ssrc.0))
    }

    fn report(
        &mut self,
        packet_type: u8,
        body_len: usize,
        blocks: &[ReportBlock],
        head: impl FnOnce(&mut Body<'_>) -> Option<()>,
    ) -> bool {
        if blocks.len() > REPORT_BLOCKS_MAX {
            return false;
        }
        self.packet(blocks.len() as u8, packet_type, body_len, |body| {
            head(body)?;
            blocks.iter().try_for_each(|block| body.put_block(block))
        })
    }

    /// Appends a packet with a body of `body_len` bytes, a multiple of 4.
    fn packet(
        &mut self,
        count: u8,
        packet_type: u8,
        body_len: usize,
        fill: impl FnOnce(&mut Body<'_>) -> Option<()>,
    ) -> bool {
        let end = self.len + HEADER_LEN + body_len;
        let Ok(words) = u16::try_from(body_len / 4) else {
            return false;
        };
        let Some(packet) = self.out.get_mut(self.len..end) else {
            return false;
        };
        let [high, low] = words.to_be_bytes();
        let mut body = Body { rest: packet };
        let filled = body
            .put(&[0x80 | count, packet_type, high, low])
            .and_then(|()| fill(&mut body));
        if filled.is_none() {
            return false;
        }
        assert!(
            body.rest.is_empty(),
            "a packet is as long as its length field says"
        );
        self.len = end;
        true
    }
}

/// What is left to fill of a packet.
struct Body<'a> {
    rest: &'a mut [u8],
}

impl Body<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let (room, rest) = std::mem::take(&mut self.rest).split_at_mut_checked(bytes.len())?;
        room.copy_from_slice(bytes);
        self.rest = rest;
        Some(())
    }

    fn put_u32(&mut self, number: u32) -> Option<()> {
        self.put(&number.to_be_bytes())
    }

    fn put_zeros(&mut self) -> Option<()> {
        std::mem::take(&mut self.rest).fill(0);
        Some(())
    }

    fn put_block(&mut self, block: &ReportBlock) -> Option<()> {
        // The total is clamped to what 24 bits can say (RFC 3550 appendix A.3).
        let lost = block.lost.clamp(-0x80_0000, 0x7F_FFFF).cast_unsigned() & 0xFF_FFFF;
        self.put_u32(block.ssrc.0)?;
        self.put_u32((u32::from(block.fraction_lost) << 24) | lost)?;
        self.put_u32(block.highest_sequence)?;
        self.put_u32(block.jitter)?;
        self.put_u32(block.last_sr)?;
        self.put_u32(block.delay_since_last_sr)
    }
}

/// Folds sequence numbers into NACK entries: a number, and which of the 16 behind it are lost too.
#[derive(Clone)]
struct NackEntries<I> {
    lost: I,
}

impl<I: Iterator<Item = u16> + Clone> Iterator for NackEntries<I> {
    type Item = (u16, u16);

    fn next(&mut self) -> Option<(u16, u16)> {
        let first = self.lost.next()?;
        let mut following = 0;
        loop {
            let mut ahead = self.lost.clone();
            let Some(number) = ahead.next() else { break };
            let distance = number.wrapping_sub(first);
            if distance > NACK_FOLLOWING_MAX {
                break;
            }
            // A number listed twice is named once.
            if distance > 0 {
                following |= 1 << (distance - 1);
            }
            self.lost = ahead;
        }
        Some((first, following))
    }
}
