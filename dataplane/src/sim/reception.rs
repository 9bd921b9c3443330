//! A stream that a peer receives: what came, what is missing, whether it could be shown.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::source::{Damaged, Stamp};
use crate::id::Mid;

/// A missing packet is asked for after this long: it may just be late.
const NACK_DELAY: Duration = Duration::from_millis(10);

/// And again after this long.
const NACK_INTERVAL: Duration = Duration::from_millis(80);

/// As often as this.
const NACKS_MAX: u32 = 10;

/// A decoder that cannot go on asks for a key frame after this long, and as often.
const STUCK: Duration = Duration::from_millis(300);

/// Numbers looked back for packets that come twice.
const WINDOW: usize = 2_048;

/// Frames that wait to become complete.
const FRAMES_MAX: usize = 512;

/// What a peer expects of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceptionSpec {
    /// Its SSRC.
    pub ssrc: u32,
    /// Its payload type.
    pub payload_type: u8,
    /// SSRC and payload type of its retransmissions.
    pub rtx: Option<(u32, u8)>,
    /// RTP clock rate.
    pub clock_rate: u32,
    /// Header extension id and value of the MID that each packet must carry.
    pub mid: Option<(u8, Mid)>,
    /// Whether lost packets are asked for.
    pub nack: bool,
    /// Whether key frames are asked for.
    pub pli: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReceptionCounts {
    /// Distinct packets, recovered ones included.
    pub packets: u64,
    /// Payload bytes of them.
    pub bytes: u64,
    /// Packets recovered by retransmission.
    pub recovered: u64,
    /// Packets that had come before.
    pub duplicates: u64,
    /// Numbers asked for, each time counted.
    pub nacked: u64,
    /// Key frames asked for.
    pub key_requests: u64,
    /// Frames with all packets and everything before them since a key frame.
    pub frames: u64,
    /// Key frames among them.
    pub key_frames: u64,
    /// Times that the picture stood still for 300 ms for want of a packet.
    pub freezes: u64,
    /// Packets whose RTP timestamp does not follow the sender's clock.
    pub timestamp_errors: u64,
    /// Packets with another payload type or MID than was expected.
    pub format_errors: u64,
    /// Payloads that are not what was sent.
    pub damaged: u64,
    /// Sender reports.
    pub sender_reports: u64,
    /// Shortest way through the network and the engine.
    pub latency_min: Option<Duration>,
    /// Longest.
    pub latency_max: Duration,
    /// Sum over stamped packets, retransmissions aside.
    pub latency_sum: Duration,
    /// Packets in that sum.
    pub latency_count: u64,
    /// Longest time without a packet.
    pub silence_max: Duration,
    /// When the first packet came.
    pub first_at: Option<Instant>,
    /// When the first frame could be shown.
    pub first_frame_at: Option<Instant>,
    /// When the last packet came.
    pub last_at: Option<Instant>,
    /// The source of the last stamped packet.
    pub stream: Option<u32>,
}

/// A stream on its way in.
#[derive(Debug)]
pub struct Reception {
    spec: ReceptionSpec,
    counts: ReceptionCounts,
    /// First and highest extended sequence number.
    range: Option<(u64, u64)>,
    /// By extended number: when noticed, when to ask, how often asked.
    missing: BTreeMap<u64, Missing>,
    given_up: u64,
    seen: Box<[u64]>,
    clock: Option<Clock>,
    decoder: Decoder,
    /// Expected and received at the last report (RFC 3550 appendix A.3).
    reported: (u64, u64),
    last_sender_report: Option<(u32, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    ask_at: Instant,
    asked: u32,
}

/// What timestamps are held against: one packet of the stream they should follow.
#[derive(Clone, Copy, Debug)]
struct Clock {
    stream: u32,
    sent_us: u64,
    timestamp: u32,
}

/// A decoder that shows frames in order and starts with a key frame.
#[derive(Debug, Default)]
struct Decoder {
    stream: u32,
    frames: BTreeMap<u32, Assembly>,
    /// The frame it wants; `None` until a key frame came.
    next: Option<u32>,
    /// Since when it cannot go on.
    stuck_since: Option<Instant>,
    ask_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Assembly {
    packets: u16,
    of: u16,
    is_key: bool,
}

impl Reception {
    pub(super) fn new(spec: ReceptionSpec) -> Reception {
        Reception {
            spec,
            counts: ReceptionCounts::default(),
            range: None,
            missing: BTreeMap::new(),
            given_up: 0,
            seen: vec![0; WINDOW].into_boxed_slice(),
            clock: None,
            decoder: Decoder::default(),
            reported: (0, 0),
            last_sender_report: None,
        }
    }

    /// What is expected.
    #[must_use]
    pub fn spec(&self) -> &ReceptionSpec {
        &self.spec
    }

    /// What came.
    #[must_use]
    pub fn counts(&self) -> &ReceptionCounts {
        &self.counts
    }

    /// Numbers between the first and the highest that never came.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.given_up + self.missing.len() as u64
    }

    /// Numbers between the first and the highest.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.range.map_or(0, |(first, highest)| highest - first + 1)
    }

    /// Mean way through the network and the engine.
    #[must_use]
    pub fn latency_mean(&self) -> Duration {
        self.counts
            .latency_sum
            .checked_div(self.counts.latency_count as u32)
            .unwrap_or_default()
    }

    /// Takes a decrypted packet, or what was inside a retransmission.
    pub(super) fn handle_packet(&mut self, now: Instant, epoch: Instant, packet: &Arrived<'_>) {
        let mid = packet.mid.or(self
            .spec
            .mid
            .map(|(_, mid)| mid)
            .filter(|_| packet.is_retransmission));
        if packet.payload_type != self.spec.payload_type || mid != self.spec.mid.map(|(_, mid)| mid)
        {
            self.counts.format_errors += 1;
            return;
        }
        if !self.note_number(now, packet) {
            return;
        }
        self.counts.packets += 1;
        self.counts.bytes += packet.payload.len() as u64;
        self.counts.first_at.get_or_insert(now);
        if let Some(last_at) = self.counts.last_at {
            self.counts.silence_max = self.counts.silence_max.max(now - last_at);
        }
        self.counts.last_at = Some(now);
        match Stamp::read(packet.payload) {
            Ok(Some(stamp)) => self.note_stamp(now, epoch, packet, &stamp),
            Ok(None) => {}
            Err(Damaged) => self.counts.damaged += 1,
        }
    }

    /// Follows the numbers; `false` for a packet that came before.
    fn note_number(&mut self, now: Instant, packet: &Arrived<'_>) -> bool {
        let (first, highest) = *self.range.get_or_insert_with(|| {
            // Above 0 so that what is late may be below the first.
            let start = (1 << 16) + u64::from(packet.sequence);
            (start, start - 1)
        });
        let number = extend(highest, packet.sequence);
        let Some(slot) = self.seen.get_mut(number as usize % WINDOW) else {
            return false;
        };
        if *slot == number || number + WINDOW as u64 <= highest {
            self.counts.duplicates += 1;
            return false;
        }
        *slot = number;
        if number > highest {
            for skipped in highest + 1..number {
                self.missing.insert(
                    skipped,
                    Missing {
                        ask_at: now + NACK_DELAY,
                        asked: 0,
                    },
                );
            }
            self.range = Some((first, number));
        } else if number < first {
            self.range = Some((number, highest));
        }
        if self.missing.remove(&number).is_some() && packet.is_retransmission {
            self.counts.recovered += 1;
        }
        while self.missing.len() > WINDOW {
            self.missing.pop_first();
            self.given_up += 1;
        }
        true
    }

    fn note_stamp(&mut self, now: Instant, epoch: Instant, packet: &Arrived<'_>, stamp: &Stamp) {
        self.counts.stream = Some(stamp.stream);
        if !packet.is_retransmission {
            let sent_at = epoch + Duration::from_micros(stamp.sent_us);
            let latency = now.saturating_duration_since(sent_at);
            let min = self.counts.latency_min.get_or_insert(latency);
            *min = (*min).min(latency);
            self.counts.latency_max = self.counts.latency_max.max(latency);
            self.counts.latency_sum += latency;
            self.counts.latency_count += 1;
        }
        let clock = *self.clock.get_or_insert(Clock {
            stream: stamp.stream,
            sent_us: stamp.sent_us,
            timestamp: packet.timestamp,
        });
        let elapsed_us = stamp.sent_us.wrapping_sub(clock.sent_us).cast_signed();
        let expected = elapsed_us.wrapping_mul(i64::from(self.spec.clock_rate)) / 1_000_000;
        let off = packet
            .timestamp
            .wrapping_sub(clock.timestamp)
            .wrapping_sub(expected as u32);
        // 20 ms within a stream: a sender on a real clock is not exact. A second from one stream to
        // the next: the engine knows when packets came, not when they were sent.
        let same_stream = clock.stream == stamp.stream;
        let tolerance = self.spec.clock_rate / if same_stream { 50 } else { 1 };
        if off.cast_signed().unsigned_abs() > tolerance {
            self.counts.timestamp_errors += 1;
        }
        if !same_stream {
            self.clock = Some(Clock {
                stream: stamp.stream,
                sent_us: stamp.sent_us,
                timestamp: packet.timestamp,
            });
        }
        let shown = self.decoder.handle_packet(now, stamp);
        self.counts.frames += shown.frames;
        self.counts.key_frames += shown.key_frames;
        if shown.frames > 0 {
            self.counts.first_frame_at.get_or_insert(now);
        }
    }

    /// A sender report came for it.
    pub(super) fn handle_sender_report(&mut self, now: Instant, ntp: u64) {
        self.counts.sender_reports += 1;
        self.last_sender_report = Some(((ntp >> 16) as u32, now));
    }

    /// The numbers to ask for now.
    pub(super) fn poll_nacks(&mut self, now: Instant) -> Vec<u16> {
        let mut numbers = Vec::new();
        if !self.spec.nack {
            return numbers;
        }
        for (number, missing) in &mut self.missing {
            if missing.ask_at <= now && missing.asked < NACKS_MAX {
                missing.asked += 1;
                missing.ask_at = now + NACK_INTERVAL;
                numbers.push(*number as u16);
            }
        }
        self.counts.nacked += numbers.len() as u64;
        numbers
    }

    /// Whether a key frame has to be asked for now.
    pub(super) fn poll_key_request(&mut self, now: Instant) -> bool {
        if !self.spec.pli || self.decoder.ask_at.is_none_or(|ask_at| ask_at > now) {
            return false;
        }
        if self.decoder.next.is_some() {
            self.counts.freezes += 1;
        }
        self.decoder.ask_at = Some(now + STUCK);
        self.counts.key_requests += 1;
        true
    }

    /// When one of the two is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let nacks = self
            .missing
            .values()
            .filter(|missing| missing.asked < NACKS_MAX);
        let nack = nacks
            .map(|missing| missing.ask_at)
            .min()
            .filter(|_| self.spec.nack);
        let pli = self.decoder.ask_at.filter(|_| self.spec.pli);
        [nack, pli].into_iter().flatten().min()
    }

    /// What a receiver report says of it (RFC 3550 section 6.4.1).
    pub(super) fn report(&mut self, now: Instant) -> rtcp::reception_report::ReceptionReport {
        let (expected, received) = (self.expected(), self.expected() - self.lost());
        let interval_expected = expected - self.reported.0.min(expected);
        let interval_received = received.saturating_sub(self.reported.1);
        self.reported = (expected, received);
        let interval_lost = interval_expected.saturating_sub(interval_received);
        let fraction = (interval_lost * 256)
            .checked_div(interval_expected)
            .unwrap_or(0)
            .min(255);
        let (last_sender_report, delay) = self.last_sender_report.map_or((0, 0), |(ntp, at)| {
            (
                ntp,
                ((now - at).as_nanos() as u64 * 65_536 / 1_000_000_000) as u32,
            )
        });
        let highest = self.range.map_or(0, |(_, highest)| highest - (1 << 16));
        rtcp::reception_report::ReceptionReport {
            ssrc: self.spec.ssrc,
            fraction_lost: fraction as u8,
            total_lost: self.lost() as u32,
            last_sequence_number: highest as u32,
            jitter: 0,
            last_sender_report,
            delay,
        }
    }
}

/// A packet out of the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived<'a> {
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) payload_type: u8,
    pub(super) payload: &'a [u8],
    pub(super) mid: Option<Mid>,
    pub(super) is_retransmission: bool,
}

/// The extended number closest to the highest so far (RFC 3711 section 3.3.1).
fn extend(highest: u64, sequence: u16) -> u64 {
    let ahead = sequence.wrapping_sub(highest as u16).cast_signed();
    highest.saturating_add_signed(i64::from(ahead))
}

#[derive(Default)]
struct Shown {
    frames: u64,
    key_frames: u64,
}

impl Decoder {
    fn handle_packet(&mut self, now: Instant, stamp: &Stamp) -> Shown {
        if stamp.stream != self.stream {
            *self = Decoder {
                stream: stamp.stream,
                ..Decoder::default()
            };
        }
        let mut shown = Shown::default();
        if self.next.is_some_and(|next| stamp.frame < next) {
            return shown;
        }
        let assembly = self.frames.entry(stamp.frame).or_default();
        assembly.packets += 1;
        assembly.of = stamp.packets;
        assembly.is_key = stamp.is_key;
        if self.frames.len() > FRAMES_MAX {
            self.frames.pop_first();
        }
        self.skip_to_key();
        while let Some(next) = self.next
            && let Some(assembly) = self.frames.get(&next).copied()
            && assembly.packets >= assembly.of
        {
            self.frames.remove(&next);
            self.next = Some(next.wrapping_add(1));
            self.stuck_since = None;
            shown.frames += 1;
            shown.key_frames += u64::from(assembly.is_key);
        }
        let waits_for = self
            .next
            .is_none_or(|next| self.frames.keys().any(|frame| *frame > next));
        if waits_for {
            let since = *self.stuck_since.get_or_insert(now);
            self.ask_at.get_or_insert(since + STUCK);
        } else {
            self.stuck_since = None;
            self.ask_at = None;
        }
        shown
    }

    /// A whole key frame further on is where to continue, if it cannot go on by itself.
    fn skip_to_key(&mut self) {
        let can_go_on = self
            .next
            .and_then(|next| self.frames.get(&next))
            .is_some_and(|frame| frame.packets >= frame.of);
        if can_go_on {
            return;
        }
        let whole_key = self
            .frames
            .iter()
            .rev()
            .find(|(_, a)| a.is_key && a.packets >= a.of);
        if let Some((frame, _)) = whole_key {
            let frame = *frame;
            self.next = Some(frame);
            self.frames.retain(|number, _| *number >= frame);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
mod tests {
    use super::*;

    const SPEC: ReceptionSpec = ReceptionSpec {
        ssrc: 1,
        payload_type: 96,
        rtx: None,
        clock_rate: 90_000,
        mid: None,
        nack: true,
        pli: true,
    };

    fn packet(sequence: u16, payload: &[u8]) -> Arrived<'_> {
        Arrived {
            sequence,
            timestamp: 0,
            payload_type: 96,
            payload,
            mid: None,
            is_retransmission: false,
        }
    }

    #[test]
    fn numbers_across_the_wrap_with_one_late_and_one_lost() {
        let now = Instant::now();
        let mut reception = Reception::new(SPEC);
        for sequence in [65_533, 65_535, 0, 65_534, 2, 2, 3] {
            reception.handle_packet(now, now, &packet(sequence, &[0; 40]));
        }
        assert_eq!((reception.expected(), reception.lost()), (7, 1));
        assert_eq!(
            (reception.counts().packets, reception.counts().duplicates),
            (6, 1)
        );
        assert!(reception.poll_nacks(now).is_empty(), "it may just be late");
        assert_eq!(reception.poll_nacks(now + NACK_DELAY), [1]);
    }

    #[test]
    fn a_decoder_waits_for_a_key_frame_and_for_what_is_missing() {
        let start = Instant::now();
        let mut reception = Reception::new(SPEC);
        let mut sequence = 0_u16;
        let mut send = |reception: &mut Reception, frame: u32, is_key: bool, at: Duration| {
            let stamp = Stamp {
                stream: 1,
                frame,
                packet: 0,
                packets: 1,
                is_key,
                sent_us: 0,
            };
            sequence = sequence.wrapping_add(1);
            reception.handle_packet(start + at, start, &packet(sequence, &stamp.payload(40)));
        };
        send(&mut reception, 5, false, Duration::ZERO);
        assert_eq!(reception.counts().frames, 0);
        assert!(!reception.poll_key_request(start));
        assert!(
            reception.poll_key_request(start + STUCK),
            "nothing to start with"
        );
        send(&mut reception, 6, true, STUCK);
        send(&mut reception, 8, false, STUCK);
        assert_eq!(reception.counts().frames, 1);
        send(&mut reception, 7, false, STUCK);
        assert_eq!(
            (reception.counts().frames, reception.counts().freezes),
            (3, 0)
        );
    }
}
