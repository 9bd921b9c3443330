//! A stream that a peer sends: numbering, repair and reports.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use rtc_shared::marshal::Marshal;
use rtcp::sender_report::SenderReport;
use rtp::header::Header;
use rtp::packet::Packet;

use super::peer::{PublicationCounts, PublicationSpec};
use super::source::MediaSource;

/// Packets kept for retransmission.
const HISTORY_LEN: usize = 512;

pub(super) struct Publication {
    pub(super) spec: PublicationSpec,
    pub(super) counts: PublicationCounts,
    source: Box<dyn MediaSource>,
    next_sequence: u16,
    next_rtx_sequence: u16,
    timestamp: u32,
    /// What of the clock was lost to rounding, in nanosecond-ticks.
    timestamp_rest: u64,
    next_at: Instant,
    /// When the last frame left, for sender reports.
    last_at: Instant,
    key_wanted: bool,
    history: VecDeque<Packet>,
    octets: u32,
}

/// The next numbers of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeftOff {
    sequence: u16,
    rtx_sequence: u16,
}

impl Publication {
    pub(super) fn new(
        now: Instant,
        spec: PublicationSpec,
        source: Box<dyn MediaSource>,
        left_off: Option<LeftOff>,
    ) -> Publication {
        let next = left_off.unwrap_or(LeftOff {
            sequence: spec.first_sequence,
            rtx_sequence: spec.first_sequence.wrapping_mul(3),
        });
        Publication {
            counts: PublicationCounts::default(),
            source,
            next_sequence: next.sequence,
            next_rtx_sequence: next.rtx_sequence,
            timestamp: spec.first_timestamp,
            timestamp_rest: 0,
            next_at: now,
            last_at: now,
            key_wanted: false,
            history: VecDeque::new(),
            octets: 0,
            spec,
        }
    }

    /// Where the stream would go on.
    pub(super) fn left_off(&self) -> LeftOff {
        LeftOff {
            sequence: self.next_sequence,
            rtx_sequence: self.next_rtx_sequence,
        }
    }

    /// The connection stands: the first frame is due.
    pub(super) fn start(&mut self, now: Instant) {
        self.next_at = now;
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.next_at
    }

    /// Puts the frames that are due into `out`, as plain RTP.
    pub(super) fn handle_timeout(&mut self, now: Instant, epoch: Instant, out: &mut Vec<Vec<u8>>) {
        // A real clock may be late; a second of frames at most is caught up.
        if now.saturating_duration_since(self.next_at) > Duration::from_secs(1) {
            self.next_at = now;
        }
        while self.next_at <= now {
            self.last_at = self.next_at;
            let sent_us = now.saturating_duration_since(epoch).as_micros() as u64;
            let key_wanted = std::mem::take(&mut self.key_wanted);
            let frame = self.source.next_frame(sent_us, key_wanted);
            self.counts.frames += 1;
            self.counts.key_frames += u64::from(frame.is_key);
            let last = frame.payloads.len().saturating_sub(1);
            for (index, payload) in frame.payloads.into_iter().enumerate() {
                self.send(Bytes::from(payload), index == last, out);
            }
            self.next_at += frame.duration.max(Duration::from_micros(100));
            let ticks = frame.duration.as_nanos() as u64 * u64::from(self.spec.clock_rate)
                + self.timestamp_rest;
            self.timestamp = self.timestamp.wrapping_add((ticks / 1_000_000_000) as u32);
            self.timestamp_rest = ticks % 1_000_000_000;
        }
    }

    fn send(&mut self, payload: Bytes, is_last: bool, out: &mut Vec<Vec<u8>>) {
        let mut header = Header {
            version: 2,
            marker: is_last && self.spec.clock_rate == 90_000,
            payload_type: self.spec.payload_type,
            sequence_number: self.next_sequence,
            timestamp: self.timestamp,
            ssrc: self.spec.ssrc,
            ..Header::default()
        };
        if let Some((id, mid)) = &self.spec.mid {
            let _ = header.set_extension(*id, Bytes::copy_from_slice(mid.as_bytes()));
        }
        if let Some((id, rid)) = &self.spec.rid {
            let _ = header.set_extension(*id, Bytes::copy_from_slice(rid.as_bytes()));
        }
        if let Some(id) = self.spec.audio_level {
            // Voice activity, and how loud it is (RFC 6464 section 3).
            let level = 0x80 | self.source.audio_level();
            let _ = header.set_extension(id, Bytes::copy_from_slice(&[level]));
        }
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        self.counts.packets += 1;
        let packet = Packet { header, payload };
        if let Ok(plain) = packet.marshal() {
            out.push(plain.to_vec());
        }
        if self.history.len() == HISTORY_LEN {
            self.history.pop_front();
        }
        self.history.push_back(packet);
    }

    /// A receiver wants a key frame: the next one is.
    pub(super) fn on_key_request(&mut self) {
        self.counts.key_requests += 1;
        self.key_wanted = true;
    }

    /// Sends a packet again, as RTX where there is one (RFC 4588 section 4).
    pub(super) fn on_nack(&mut self, sequence: u16, out: &mut Vec<Vec<u8>>) {
        self.counts.nacked += 1;
        let found = self
            .history
            .iter()
            .find(|packet| packet.header.sequence_number == sequence)
            .cloned();
        let Some(mut packet) = found else {
            return;
        };
        if let Some((ssrc, payload_type)) = self.spec.rtx {
            let mut payload = BytesMut::with_capacity(packet.payload.len() + 2);
            payload.put_u16(sequence);
            payload.extend_from_slice(&packet.payload);
            packet.payload = payload.freeze();
            packet.header.ssrc = ssrc;
            packet.header.payload_type = payload_type;
            packet.header.sequence_number = self.next_rtx_sequence;
            self.next_rtx_sequence = self.next_rtx_sequence.wrapping_add(1);
        }
        self.counts.retransmitted += 1;
        if let Ok(plain) = packet.marshal() {
            out.push(plain.to_vec());
        }
    }

    /// A sender report (RFC 3550 section 6.4.1); NTP time is the simulation's.
    pub(super) fn report(&self, now: Instant, epoch: Instant) -> SenderReport {
        let since = now.saturating_duration_since(self.last_at);
        let ticks = since.as_nanos() as u64 * u64::from(self.spec.clock_rate) / 1_000_000_000;
        // The frame at `last_at` had the timestamp before the one that comes next.
        let ahead = self.next_at.saturating_duration_since(self.last_at);
        let step = ahead.as_nanos() as u64 * u64::from(self.spec.clock_rate) / 1_000_000_000;
        let last = self.timestamp.wrapping_sub(step as u32);
        SenderReport {
            ssrc: self.spec.ssrc,
            ntp_time: ntp(now.saturating_duration_since(epoch)),
            rtp_time: last.wrapping_add(ticks as u32),
            packet_count: self.counts.packets as u32,
            octet_count: self.octets,
            ..SenderReport::default()
        }
    }
}

/// A time since the epoch in NTP's format of 32.32 bits; its zero is arbitrary.
pub(super) fn ntp(since: Duration) -> u64 {
    const ZERO: u64 = 3_900_000_000;
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    ((ZERO + since.as_secs()) << 32) | fraction
}
