//! A publisher's packets, and a subscriber's way to read them.

use dataplane::srtp::{OpenKey, SealKey, SequenceWindow};
use dataplane::wire::{ExtensionBlock, RtpHeader, RtpView};

use crate::call::{Load, PAYLOAD_TYPE, PROFILE, SSRC, master_key};

/// Largest header: 12 bytes and some extensions.
const HEADER_ROOM: usize = 64;

/// Makes SRTP, burst after burst.
#[derive(Debug)]
pub struct Publisher {
    key: SealKey,
    load: Load,
    extensions: ExtensionBlock,
    payload: Vec<u8>,
    index: u64,
    timestamp: u32,
}

impl Publisher {
    /// Client 0 of a call, at its beginning.
    ///
    /// # Panics
    /// Never: the key has the profile's length.
    #[must_use]
    pub fn new(load: Load) -> Publisher {
        Publisher {
            key: SealKey::new(PROFILE, &master_key(0)).expect("a key of the profile's length"),
            load,
            extensions: load.extensions(),
            payload: vec![0x5a; load.payload],
            index: 0,
            timestamp: 0,
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
        for n in 1..=self.load.burst {
            let header = RtpHeader {
                marker: n == self.load.burst,
                payload_type: PAYLOAD_TYPE,
                sequence: self.index as u16,
                timestamp: self.timestamp,
                ssrc: SSRC,
                padding: false,
            };
            let start = out.len();
            out.resize(start + room, 0);
            let packet = &mut out[start..];
            let header_len = header
                .write(packet, &self.extensions)
                .expect("the room is enough");
            segment = self
                .key
                .seal_rtp(packet, header_len, &self.payload, 0, self.index)
                .expect("the room is enough");
            out.truncate(start + segment);
            self.index += 1;
        }
        let step = u64::from(self.load.clock_rate()) / self.load.bursts_per_second;
        self.timestamp = self.timestamp.wrapping_add(step as u32);
        segment
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
    pub fn new(client: usize) -> Subscriber {
        Subscriber {
            key: OpenKey::new(PROFILE, &master_key(client)).expect("a key of the profile's length"),
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
