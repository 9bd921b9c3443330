//! A publisher's packets, and a subscriber's way to read them.

use dataplane::srtp::{OpenKey, SealKey, SequenceWindow};
use dataplane::wire::{ExtensionBlock, RtpHeader, RtpView};

use crate::call::{Load, PAYLOAD_TYPE, VOICE_MIN, master_key, source_ssrc};

/// Largest header: 12 bytes and some extensions.
const HEADER_ROOM: usize = 64;

/// Makes SRTP, burst after burst.
#[derive(Debug)]
pub struct Publisher {
    key: SealKey,
    load: Load,
    extensions: ExtensionBlock,
    payload: Vec<u8>,
    /// Bursts so far.
    bursts: u64,
}

impl Publisher {
    /// Client 0 of a call, at its beginning.
    ///
    /// # Panics
    /// Never: the key has the profile's length.
    #[must_use]
    pub fn new(load: Load) -> Publisher {
        Publisher {
            key: SealKey::new(load.profile, &master_key(load.profile, 0))
                .expect("a key of the profile's length"),
            load,
            extensions: load.extensions(),
            payload: vec![0x5a; load.payload],
            bursts: 0,
        }
    }

    /// Writes the next burst over `out`, its packets laid end to end, and returns their size.
    /// Each carries `stamp` in its payload.
    ///
    /// # Panics
    /// Never: the room is made first.
    pub fn write_burst(&mut self, stamp: u64, out: &mut Vec<u8>) -> usize {
        let room = HEADER_ROOM + self.load.payload + self.key.overhead();
        out.clear();
        if let Some(first) = self.payload.first_chunk_mut() {
            *first = stamp.to_le_bytes();
        }
        let mut segment = 0;
        let payload = &self.payload[..self.size(self.bursts)];
        for n in 1..=self.load.burst {
            let (header, index) = self.header(n);
            let start = out.len();
            out.resize(start + room, 0);
            let packet = &mut out[start..];
            let header_len = header
                .write(packet, &self.extensions)
                .expect("the room is enough");
            segment = self
                .key
                .seal_rtp(packet, header_len, payload, 0, index)
                .expect("the room is enough");
            out.truncate(start + segment);
        }
        self.bursts += 1;
        segment
    }

    /// Writes the next burst over `out` as a camera's thread hands it over: in the clear, without header extensions.
    /// Returns the packets' size.
    ///
    /// # Panics
    /// Never: the room is made first.
    pub fn write_plain_burst(&mut self, out: &mut Vec<u8>) -> usize {
        out.clear();
        let payload = &self.payload[..self.size(self.bursts)];
        let mut segment = 0;
        for n in 1..=self.load.burst {
            let (header, _) = self.header(n);
            let start = out.len();
            out.resize(start + HEADER_ROOM, 0);
            let header_len = header
                .write(&mut out[start..], &ExtensionBlock::new())
                .expect("the room is enough");
            out.truncate(start + header_len);
            out.extend_from_slice(payload);
            segment = out.len() - start;
        }
        self.bursts += 1;
        segment
    }

    /// The header of packet `n`, from 1, of the next burst, and the packet's index.
    fn header(&self, n: usize) -> (RtpHeader, u64) {
        let streams = self.load.streams as u64;
        let (stream, frame) = (self.bursts % streams, self.bursts / streams);
        let frames_per_second = (self.load.bursts_per_second / streams).max(1);
        let ticks = u64::from(self.load.clock_rate()) / frames_per_second;
        let index = frame * self.load.burst as u64 + n as u64 - 1;
        let header = RtpHeader {
            marker: n == self.load.burst,
            payload_type: PAYLOAD_TYPE,
            sequence: index as u16,
            timestamp: (frame * ticks) as u32,
            ssrc: source_ssrc(stream as usize),
            padding: false,
        };
        (header, index)
    }

    /// Payload bytes of the packets of a burst.
    fn size(&self, burst: u64) -> usize {
        if !self.load.varied {
            return self.load.payload;
        }
        // Any numbers that neither repeat soon nor follow each other.
        let mixed = (burst + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        VOICE_MIN + mixed as usize % (self.load.payload + 1 - VOICE_MIN)
    }
}

/// Reads what a subscriber gets.
#[derive(Debug)]
pub struct Subscriber {
    key: OpenKey,
    window: SequenceWindow,
    plain: Vec<u8>,
}

impl Subscriber {
    /// The client of that number.
    ///
    /// # Panics
    /// Never: the key has the profile's length.
    #[must_use]
    pub fn new(load: &Load, client: usize) -> Subscriber {
        Subscriber {
            key: OpenKey::new(load.profile, &master_key(load.profile, client))
                .expect("a key of the profile's length"),
            window: SequenceWindow::new(),
            plain: vec![0; 2048],
        }
    }

    /// The stamp in a packet; `None` when it does not open.
    pub fn stamp(&mut self, packet: &[u8]) -> Option<u64> {
        let view = RtpView::parse(packet).ok()?;
        let index = self.window.estimate(view.sequence());
        self.key
            .open_rtp(packet, view.header_len(), index, &mut self.plain)
            .ok()?;
        self.window.accept(index);
        self.plain
            .first_chunk()
            .map(|stamp| u64::from_le_bytes(*stamp))
    }
}
