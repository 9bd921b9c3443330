//! A stream that a client receives, followed by its headers alone: what came, what is missing, and
//! frames and freezes as far as headers tell.

use std::time::{Duration, Instant};

use dataplane::srtp::SequenceWindow;
use dataplane::wire::{ReportBlock, RtpView};

/// A frame is late by a freeze beyond three times the mean interval, and this much beyond it
/// (libwebrtc's `freezeCount`).
const FREEZE_MIN: Duration = Duration::from_millis(150);

/// Frames after which there is a mean.
const FRAMES_MIN: u32 = 5;

/// How much a new interval moves the mean: as much as in a window of this many.
const WINDOW: u32 = 30;

/// What came of a stream, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Packets that are no repetition.
    pub(super) packets: u64,
    /// Bytes of them as UDP carries them.
    pub(super) bytes: u64,
    /// Numbers that were passed over, and did not come since.
    pub(super) missing: u64,
    /// Frames of which every packet came, in order.
    pub(super) frames: u64,
    /// Freezes.
    pub(super) freezes: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Counts) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.missing += other.missing;
        self.frames += other.frames;
        self.freezes += other.freezes;
    }
}

/// A stream on its way in.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) ssrc: u32,
    pub(super) window: SequenceWindow,
    pub(super) counts: Counts,
    first: u64,
    highest: u64,
    all: u64,
    /// The number that continues the frame being received; `None` while a packet of it is missing.
    next_of_frame: Option<u64>,
    shown_at: Option<Instant>,
    intervals: u32,
    mean: Duration,
    /// Middle of the last sender report's NTP time, and when it came.
    last_report: Option<(u32, Instant)>,
    /// Expected and received at our last report.
    reported: (u64, u64),
}

impl Received {
    pub(super) fn new(ssrc: u32, index: u64) -> Received {
        Received {
            ssrc,
            window: SequenceWindow::new(),
            counts: Counts::default(),
            first: index,
            highest: index,
            all: 0,
            next_of_frame: None,
            shown_at: None,
            intervals: 0,
            mean: Duration::ZERO,
            last_report: None,
            reported: (0, 0),
        }
    }

    /// Takes a packet of `len` bytes with this extended number; `false` when it came before.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        packet: &RtpView<'_>,
        len: usize,
        index: u64,
    ) -> bool {
        if !self.window.is_fresh(index) {
            return false;
        }
        self.window.accept(index);
        self.all += 1;
        self.counts.packets += 1;
        self.counts.bytes += len as u64;
        if index > self.highest {
            self.counts.missing += index - self.highest - 1;
            self.highest = index;
        } else if index < self.highest && index > self.first {
            self.counts.missing = self.counts.missing.saturating_sub(1);
        }
        // Without a decoder every frame stands for itself: what is missing costs its own frame.
        let is_next = self.next_of_frame.is_none_or(|next| next == index);
        if packet.marker() {
            if is_next && self.next_of_frame.is_some() {
                self.on_frame(now);
            }
            self.next_of_frame = Some(index + 1);
        } else if self.next_of_frame.is_some() {
            self.next_of_frame = is_next.then_some(index + 1);
        }
        true
    }

    fn on_frame(&mut self, now: Instant) {
        self.counts.frames += 1;
        let Some(before) = self.shown_at.replace(now) else {
            return;
        };
        let interval = now.saturating_duration_since(before);
        if self.intervals >= FRAMES_MIN && interval > (self.mean * 3).max(self.mean + FREEZE_MIN) {
            self.counts.freezes += 1;
            return;
        }
        self.intervals = (self.intervals + 1).min(WINDOW);
        let others = self.mean * (self.intervals - 1);
        self.mean = (others + interval) / self.intervals;
    }

    /// Counts from here on.
    pub(super) fn handle_measure(&mut self) {
        self.counts = Counts::default();
    }

    pub(super) fn handle_sender_report(&mut self, now: Instant, ntp: u64) {
        self.last_report = Some(((ntp >> 16) as u32, now));
    }

    /// How it is received, for the sender (RFC 3550 section 6.4.1).
    pub(super) fn report(&mut self, now: Instant) -> ReportBlock {
        let expected = self.highest - self.first + 1;
        let (expected_before, received_before) = self.reported;
        self.reported = (expected, self.all);
        let due = expected - expected_before;
        let lost = due.saturating_sub(self.all - received_before);
        let fraction = (lost * 256).checked_div(due).unwrap_or(0).min(255);
        let (last_sr, delay) = match self.last_report {
            Some((middle, at)) => (middle, now.saturating_duration_since(at)),
            None => (0, Duration::ZERO),
        };
        ReportBlock {
            ssrc: dataplane::id::Ssrc(self.ssrc),
            fraction_lost: fraction as u8,
            lost: expected.saturating_sub(self.all).min(0x7f_ffff) as i32,
            highest_sequence: self.highest as u32,
            jitter: 0,
            last_sr,
            delay_since_last_sr: (delay.as_micros() as u64 * 65_536 / 1_000_000) as u32,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
mod tests {
    use super::*;

    fn give(stream: &mut Received, now: Instant, index: u64, marker: bool) -> bool {
        let [high, low] = (index as u16).to_be_bytes();
        let second = if marker { 0x80 | 96 } else { 96 };
        let packet = [0x80, second, high, low, 0, 0, 0, 0, 0, 0, 0, 7, 1];
        let view = RtpView::parse(&packet).unwrap();
        stream.handle_packet(now, &view, packet.len(), index)
    }

    #[test]
    fn losses_late_packets_and_repetitions() {
        let now = Instant::now();
        let mut stream = Received::new(7, 10);
        for index in [10, 11, 13, 14, 13] {
            give(&mut stream, now, index, false);
        }
        assert_eq!((stream.counts.packets, stream.counts.missing), (4, 1));
        assert!(give(&mut stream, now, 12, false), "late");
        assert_eq!((stream.counts.packets, stream.counts.missing), (5, 0));
        give(&mut stream, now, 16, false);
        let report = stream.report(now);
        assert_eq!((report.lost, report.highest_sequence), (1, 16));
        assert_eq!(report.fraction_lost, (256 / 7) as u8);
    }

    #[test]
    fn frames_and_freezes() {
        let mut now = Instant::now();
        let mut stream = Received::new(7, 0);
        for frame in 0..20_u64 {
            now += Duration::from_millis(33);
            for packet in 0..3 {
                give(&mut stream, now, frame * 3 + packet, packet == 2);
            }
        }
        // The first may have begun before we came.
        assert_eq!((stream.counts.frames, stream.counts.freezes), (19, 0));
        now += Duration::from_millis(200);
        for index in [60, 62] {
            give(&mut stream, now, index, index == 62);
        }
        assert_eq!(stream.counts.frames, 19, "a packet of it is missing");
        for index in [63, 64, 65] {
            give(&mut stream, now, index, index == 65);
        }
        assert_eq!((stream.counts.frames, stream.counts.freezes), (20, 1));
    }
}
