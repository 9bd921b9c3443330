//! RTCP packets: a compound on its way out (RFC 3550 section 6, RFC 4585, RFC 5104).

use super::rtcp::{HEADER_LEN, REMB_NAME, REPORT_BLOCK_LEN, ReportBlock, format, packet_type};
use super::transport_feedback::Statuses;
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

    /// Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01) number `number` on the
    /// packets from `base` on. `ticks` says when each arrived, in units of 250 us since an arbitrary zero, or
    /// that it did not. Returns how many of them it covers: as many as fit, and as are close enough to each
    /// other; 0 when nothing was written.
    #[must_use]
    pub fn transport_feedback(
        &mut self,
        sender: Ssrc,
        media: Ssrc,
        number: u8,
        base: u16,
        ticks: &[Option<i64>],
    ) -> usize {
        const FIXED_LEN: usize = 16;
        let room = self.out.len().saturating_sub(self.len + HEADER_LEN);
        let Some(room) = room.checked_sub(FIXED_LEN) else {
            return 0;
        };
        let statuses = Statuses::new(ticks, room);
        if statuses.count() == 0 {
            return 0;
        }
        let body_len = FIXED_LEN + statuses.len().next_multiple_of(4);
        let is_written = self.packet(
            format::TRANSPORT_CC,
            packet_type::TRANSPORT_FEEDBACK,
            body_len,
            |body| {
                body.put_u32(sender.0)?;
                body.put_u32(media.0)?;
                body.put(&base.to_be_bytes())?;
                body.put(&(statuses.count() as u16).to_be_bytes())?;
                body.put_u32((statuses.reference << 8) | u32::from(number))?;
                for chunk in statuses.chunks() {
                    body.put(&chunk.to_be_bytes())?;
                }
                statuses.each_delta(|delta| body.put(delta))?;
                body.put_zeros()
            },
        );
        if is_written { statuses.count() } else { 0 }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fuzz;
    use crate::wire::generator::{Generator, short_datagrams};
    use crate::wire::rtcp::{RtcpPacket, packets};

    const SEED: u64 = 0x5254_4350;

    fn block(generator: &mut Generator) -> ReportBlock {
        ReportBlock {
            ssrc: Ssrc(generator.u32()),
            fraction_lost: generator.u8(),
            lost: (generator.u32() << 8).cast_signed() >> 8,
            highest_sequence: generator.u32(),
            jitter: generator.u32(),
            last_sr: generator.u32(),
            delay_since_last_sr: generator.u32(),
        }
    }

    fn only(compound: &[u8]) -> RtcpPacket<'_> {
        fuzz::rtcp(compound);
        let mut packets = packets(compound);
        let packet = packets.next().unwrap().unwrap();
        assert!(packets.next().is_none());
        packet
    }

    /// A compound with one packet of every kind.
    fn full(generator: &mut Generator, out: &mut [u8]) -> usize {
        let blocks: Vec<_> = (0..generator.below(4)).map(|_| block(generator)).collect();
        let ssrc = Ssrc(generator.u32());
        let media = Ssrc(generator.u32());
        let first = generator.u16();
        let lost = (0..60u16)
            .filter(|n| n % 7 < 3)
            .map(|n| first.wrapping_add(n));
        let mut writer = RtcpWriter::new(out);
        assert!(writer.sender_report(ssrc, generator.u64(), 1, 2, 3, &blocks));
        assert!(writer.receiver_report(ssrc, &blocks));
        assert!(writer.sdes_cname(ssrc, "somebody"));
        assert!(writer.nack(ssrc, media, lost));
        assert!(writer.pli(ssrc, media));
        assert!(writer.fir(ssrc, media, generator.u8()));
        assert!(writer.remb(ssrc, generator.u64() >> generator.below(64), &[ssrc, media]));
        assert!(writer.bye(ssrc));
        writer.len()
    }

    #[test]
    fn the_crate_reads_what_we_write_and_every_damage_is_survived() {
        let mut generator = Generator::new(SEED);
        let mut out = [0; 1200];
        for _ in 0..40 {
            let len = full(&mut generator, &mut out);
            assert_eq!(packets(&out[..len]).filter(Result::is_ok).count(), 8);
            let whole = rtcp::packet::unmarshal(&mut &out[..len]).unwrap();
            assert_eq!(whole.len(), 8, "the crate reads the compound in one go");
            generator.torment(&out[..len], 600, fuzz::rtcp);
        }
        short_datagrams(&mut generator, fuzz::rtcp);
    }

    #[test]
    fn packets_survive_without_room_for_the_next() {
        let mut generator = Generator::new(SEED);
        let mut out = [0; 1200];
        for room in 0..200 {
            let mut writer = RtcpWriter::new(&mut out[..room]);
            let wrote_report = writer.receiver_report(Ssrc(1), &[block(&mut generator)]);
            assert_eq!(wrote_report, room >= 32);
            let wrote_name = writer.sdes_cname(Ssrc(1), "name");
            assert_eq!(
                wrote_name,
                room >= writer.len() && writer.len() == if wrote_report { 48 } else { 16 }
            );
            let len = writer.len();
            assert!(packets(&out[..len]).all(|packet| packet.is_ok()));
        }
        let blocks = [block(&mut generator); 32];
        let mut writer = RtcpWriter::new(&mut out);
        assert!(
            !writer.receiver_report(Ssrc(1), &blocks),
            "a count of five bits ends at 31"
        );
        assert!(!writer.sdes_cname(Ssrc(1), &"x".repeat(256)));
        assert!(writer.is_empty());
    }

    #[test]
    fn reports_come_back_as_they_were() {
        let mut generator = Generator::new(SEED);
        let mut out = [0; 1200];
        for count in 0..=REPORT_BLOCKS_MAX {
            let sent: Vec<_> = (0..count).map(|_| block(&mut generator)).collect();
            let mut writer = RtcpWriter::new(&mut out);
            assert!(writer.sender_report(Ssrc(7), u64::MAX - 1, 8, 9, 10, &sent));
            let len = writer.len();
            let RtcpPacket::SenderReport {
                ssrc,
                ntp,
                rtp,
                packets,
                octets,
                blocks,
            } = only(&out[..len])
            else {
                panic!("not a sender report");
            };
            assert_eq!(
                (ssrc, ntp, rtp, packets, octets),
                (Ssrc(7), u64::MAX - 1, 8, 9, 10)
            );
            assert!(blocks.eq(sent.iter().copied()));
        }
    }

    #[test]
    fn a_total_of_lost_packets_is_clamped_to_24_bits() {
        let mut out = [0; 64];
        for (lost, read) in [
            (i32::MIN, -0x80_0000),
            (-1, -1),
            (0, 0),
            (i32::MAX, 0x7F_FFFF),
        ] {
            let sent = ReportBlock {
                lost,
                ..block(&mut Generator::new(SEED))
            };
            let mut writer = RtcpWriter::new(&mut out);
            assert!(writer.receiver_report(Ssrc(1), &[sent]));
            let len = writer.len();
            let RtcpPacket::ReceiverReport { mut blocks, .. } = only(&out[..len]) else {
                panic!()
            };
            assert_eq!(blocks.next().unwrap().lost, read);
        }
    }

    #[test]
    fn lost_packets_come_back_in_as_few_entries_as_can_be() {
        let cases: [(&[u16], usize); 6] = [
            (&[5], 1),
            (&[5, 6, 21], 1),
            (&[5, 22], 2),
            (&[65_530, 65_535, 0, 10], 1),
            (&[65_535, 0, 16, 17, 40], 3),
            (&[1, 1, 2], 1),
        ];
        let mut out = [0; 64];
        for (numbers, entries) in cases {
            let mut writer = RtcpWriter::new(&mut out);
            assert!(writer.nack(Ssrc(1), Ssrc(2), numbers.iter().copied()));
            let len = writer.len();
            assert_eq!(len, 12 + entries * 4, "{numbers:?}");
            let RtcpPacket::Nack {
                sender,
                media,
                lost,
            } = only(&out[..len])
            else {
                panic!()
            };
            assert_eq!((sender, media), (Ssrc(1), Ssrc(2)));
            let mut expected = numbers.to_vec();
            expected.dedup();
            assert_eq!(lost.collect::<Vec<_>>(), expected);
        }
        let mut writer = RtcpWriter::new(&mut out);
        assert!(writer.nack(Ssrc(1), Ssrc(2), std::iter::empty()));
        assert!(writer.is_empty());
        assert!(
            !writer.nack(Ssrc(1), Ssrc(2), (0..60).map(|n| n * 20)),
            "no room, nothing written"
        );
        assert!(writer.is_empty());
    }

    #[test]
    fn an_estimate_keeps_18_significant_bits() {
        let mut out = [0; 64];
        let cases = [
            0,
            1,
            0x3_FFFF,
            0x4_0000,
            0x4_0001,
            1_500_000,
            2_500_000_000,
            u64::MAX,
        ];
        for bitrate in cases {
            let mut writer = RtcpWriter::new(&mut out);
            assert!(writer.remb(Ssrc(1), bitrate, &[Ssrc(2), Ssrc(3)]));
            let len = writer.len();
            let RtcpPacket::Remb {
                sender,
                bitrate_bps,
                ssrcs,
            } = only(&out[..len])
            else {
                panic!()
            };
            assert_eq!(sender, Ssrc(1));
            assert_eq!(ssrcs.collect::<Vec<_>>(), [Ssrc(2), Ssrc(3)]);
            assert!(
                bitrate_bps <= bitrate && bitrate - bitrate_bps <= bitrate >> 17,
                "{bitrate}"
            );
        }
    }

    #[test]
    fn a_canonical_name_ends_with_a_zero_on_a_whole_word() {
        let mut out = [0xAA; 320];
        for len in [0, 1, 2, 3, 4, 5, 255] {
            let cname = "n".repeat(len);
            let mut writer = RtcpWriter::new(&mut out);
            assert!(writer.sdes_cname(Ssrc(9), &cname));
            let total = writer.len();
            assert!(matches!(only(&out[..total]), RtcpPacket::Sdes));
            let theirs = rtcp::packet::unmarshal(&mut &out[..total]).unwrap();
            let theirs = theirs[0]
                .as_any()
                .downcast_ref::<rtcp::source_description::SourceDescription>()
                .unwrap();
            assert_eq!(theirs.chunks.len(), 1);
            assert_eq!(theirs.chunks[0].source, 9);
            assert_eq!(theirs.chunks[0].items.len(), 1);
            assert_eq!(theirs.chunks[0].items[0].text, cname.as_bytes());
            assert_eq!(out[total - 1], 0);
        }
    }
}
