//! Packets for the engine: bytes in one buffer that is used again, and the numbers of a stream.

use dataplane::wire::{ExtensionBlock, RtcpWriter, RtpHeader};

use crate::camera::limits::RTP_PAYLOAD_MAX;
use crate::camera::order::Outlet;

/// Bytes of a packet's header: fixed, since there are neither contributing sources nor extensions.
pub(crate) const HEADER_LEN: usize = 12;

/// Packets that came of one packet of a camera.
#[derive(Debug, Default)]
pub struct Packets {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Packets {
    /// Forgets them, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The packets, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .filter_map(|(start, &end)| self.bytes.get(start..end))
    }

    fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// Sets the marker of the last packet.
    fn mark_last(&mut self) {
        let start = match self.ends.as_slice() {
            [.., before, _] => *before,
            _ => 0,
        };
        if let Some(byte) = self.bytes.get_mut(start + 1) {
            *byte |= 0x80;
        }
    }
}

/// A stream's numbers: its own, consecutive but for real gaps.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    pub(super) outlet: Outlet,
    next: u16,
    /// Packets and payload bytes so far, for sender reports (RFC 3550 section 6.4.1).
    packets: u32,
    octets: u32,
}

impl Numbers {
    pub(super) fn new(outlet: Outlet, first: u16) -> Numbers {
        Numbers {
            outlet,
            next: first,
            packets: 0,
            octets: 0,
        }
    }

    /// Leaves numbers out, for packets that never came.
    pub(super) fn skip(&mut self, lost: u16) {
        self.next = self.next.wrapping_add(lost);
    }
}

/// Writes packets of one timestamp.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut Packets,
    pub(super) numbers: &'a mut Numbers,
    pub(super) timestamp: u32,
}

impl Writer<'_> {
    /// A packet whose payload is these parts, one after the other. The caller sees to it that they are no more than
    /// [`RTP_PAYLOAD_MAX`].
    pub(super) fn packet(&mut self, parts: &[&[u8]], marker: bool) {
        let header = RtpHeader {
            marker,
            payload_type: self.numbers.outlet.payload_type,
            sequence: self.numbers.next,
            timestamp: self.timestamp,
            ssrc: self.numbers.outlet.ssrc,
            padding: false,
        };
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        assert!(payload <= RTP_PAYLOAD_MAX, "callers cut payloads");
        let mut fixed = [0; HEADER_LEN];
        if header.write(&mut fixed, &ExtensionBlock::new()).is_none() {
            return;
        }
        self.out.bytes.extend_from_slice(&fixed);
        for part in parts {
            self.out.bytes.extend_from_slice(part);
        }
        self.out.end();
        self.numbers.next = self.numbers.next.wrapping_add(1);
        self.numbers.packets = self.numbers.packets.wrapping_add(1);
        self.numbers.octets = self.numbers.octets.wrapping_add(payload as u32);
    }

    /// The last packet is the last of its picture.
    pub(super) fn mark_last(&mut self) {
        self.out.mark_last();
    }

    /// A sender report for this timestamp.
    pub(super) fn report(&mut self, ntp: u64) {
        let mut bytes = [0; 28];
        let mut writer = RtcpWriter::new(&mut bytes);
        let Numbers {
            outlet,
            packets,
            octets,
            ..
        } = *self.numbers;
        if writer.sender_report(outlet.ssrc, ntp, self.timestamp, packets, octets, &[]) {
            let len = writer.len();
            self.out.bytes.extend_from_slice(&bytes[..len]);
            self.out.end();
        }
    }
}
