//! A stream that a client sends: numbers, timestamps, encryption and reports.

use std::time::{Duration, Instant};

use dataplane::id::{PayloadType, Ssrc};
use dataplane::sim::source::MediaSource;
use dataplane::srtp::SealKey;
use dataplane::wire::{ExtensionBlock, RtcpWriter, RtpHeader};

use super::leg::Outbox;

/// Frames that are sent at once when the thread was late.
const CATCH_UP: Duration = Duration::from_millis(200);

/// Bytes of the largest packet.
const PACKET_BYTES: usize = 1_500;

/// Seconds from NTP's zero to an arbitrary day: only differences of it are used.
const NTP_ZERO: u64 = 3_900_000_000;

/// How a stream is named on the wire.
#[derive(Clone, Debug)]
pub(super) struct SentSpec {
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
    pub(super) clock_rate: u32,
    /// Header extension id and value of the MID.
    pub(super) mid: Option<(u8, String)>,
    /// Header extension id of the audio level.
    pub(super) audio_level: Option<u8>,
}

/// A stream on its way out.
pub(super) struct Sent {
    spec: SentSpec,
    source: Box<dyn MediaSource>,
    extensions: ExtensionBlock,
    /// Sequence number with its rollovers: the index of SRTP.
    index: u64,
    timestamp: u32,
    /// What of the clock was lost to rounding, in nanosecond-ticks.
    rest: u64,
    next_at: Instant,
    key_wanted: bool,
    octets: u32,
    pub(super) packets: u64,
    /// The most packets of one frame.
    pub(super) frame_max: u64,
    pub(super) key_requests: u64,
}

impl Sent {
    pub(super) fn new(start_at: Instant, spec: SentSpec, source: Box<dyn MediaSource>) -> Sent {
        let mut extensions = ExtensionBlock::new();
        if let Some((id, mid)) = &spec.mid {
            extensions.push(*id, mid.as_bytes());
        }
        if let Some(id) = spec.audio_level {
            // Voice activity, -20 dBov (RFC 6464 section 3).
            extensions.push(id, &[0x80 | 20]);
        }
        Sent {
            source,
            extensions,
            index: u64::from(spec.ssrc & 0x3fff),
            timestamp: spec.ssrc.rotate_left(16),
            rest: 0,
            next_at: start_at,
            key_wanted: false,
            octets: 0,
            packets: 0,
            frame_max: 0,
            key_requests: 0,
            spec,
        }
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.spec.ssrc
    }

    /// The connection stands, and the first frame is due at this time.
    pub(super) fn start(&mut self, at: Instant) {
        self.next_at = at;
    }

    pub(super) fn handle_measure(&mut self) {
        self.packets = 0;
    }

    pub(super) fn handle_key_request(&mut self) {
        self.key_requests += 1;
        self.key_wanted = true;
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.next_at
    }

    /// Puts the frames that are due into `out`, the packets of each close together as Chromium's
    /// leave.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        epoch: Instant,
        seal: &SealKey,
        out: &mut Outbox,
    ) {
        if now.saturating_duration_since(self.next_at) > CATCH_UP {
            self.next_at = now;
        }
        while self.next_at <= now {
            let sent_us = now.saturating_duration_since(epoch).as_micros() as u64;
            let frame = self
                .source
                .next_frame(sent_us, std::mem::take(&mut self.key_wanted));
            self.frame_max = self.frame_max.max(frame.payloads.len() as u64);
            let last = frame.payloads.len().saturating_sub(1);
            for (number, payload) in frame.payloads.iter().enumerate() {
                self.send(payload, number == last, seal, out);
            }
            self.next_at += frame.duration.max(Duration::from_micros(100));
            let ticks =
                frame.duration.as_nanos() as u64 * u64::from(self.spec.clock_rate) + self.rest;
            self.timestamp = self.timestamp.wrapping_add((ticks / 1_000_000_000) as u32);
            self.rest = ticks % 1_000_000_000;
        }
    }

    fn send(&mut self, payload: &[u8], is_last: bool, seal: &SealKey, out: &mut Outbox) {
        let header = RtpHeader {
            marker: is_last && self.spec.clock_rate == 90_000,
            payload_type: PayloadType(self.spec.payload_type),
            sequence: self.index as u16,
            timestamp: self.timestamp,
            ssrc: Ssrc(self.spec.ssrc),
            padding: false,
        };
        let index = self.index;
        let sealed = out.write(PACKET_BYTES, |room| {
            let header_len = header.write(room, &self.extensions)?;
            seal.seal_rtp(room, header_len, payload, 0, index)
        });
        if sealed {
            self.index += 1;
            self.packets += 1;
            self.octets = self.octets.wrapping_add(payload.len() as u32);
        }
    }

    /// Writes a sender report (RFC 3550 section 6.4.1).
    pub(super) fn report(&self, now: Instant, epoch: Instant, writer: &mut RtcpWriter<'_>) -> bool {
        let since = now.saturating_duration_since(epoch);
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        let ntp = (NTP_ZERO + since.as_secs()) << 32 | fraction;
        // `timestamp` is that of the frame at `next_at`.
        let ahead = self.next_at.saturating_duration_since(now);
        let ticks = ahead.as_nanos() as u64 * u64::from(self.spec.clock_rate) / 1_000_000_000;
        let rtp = self.timestamp.wrapping_sub(ticks as u32);
        writer.sender_report(
            Ssrc(self.spec.ssrc),
            ntp,
            rtp,
            self.index as u32,
            self.octets,
            &[],
        )
    }
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sent")
            .field("spec", &self.spec)
            .field("packets", &self.packets)
            .finish_non_exhaustive()
    }
}
