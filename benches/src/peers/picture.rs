//! Video as a browser would show it: whole frames in order from a key frame on, and freezes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::vp8::Descriptor;

/// Without a whole frame for this long, while packets come, a key frame is asked for; and as often.
const STUCK: Duration = Duration::from_millis(300);

/// Packets that wait for one that is missing.
const PACKETS_MAX: usize = 2_048;

/// Intervals that libwebrtc averages over (`VideoReceiveStream` statistics, `freezeCount`) ...
const WINDOW_LEN: usize = 30;
/// ... as soon as it has this many of them.
const WINDOW_LEN_MIN: usize = 5;
/// A frame is late by a freeze beyond three times that average, and this much beyond it.
const FREEZE_MIN: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug)]
struct Piece {
    descriptor: Descriptor,
    ends_frame: bool,
}

/// A stream of VP8 that is being watched.
#[derive(Debug, Default)]
pub(super) struct Picture {
    pieces: BTreeMap<u64, Piece>,
    highest: Option<u64>,
    /// The packet that it goes on with; `None` until a key frame came.
    next: Option<u64>,
    ask_at: Option<Instant>,
    shown_at: Option<Instant>,
    intervals: VecDeque<Duration>,
    pub(super) frames: u64,
    pub(super) freezes: u64,
    pub(super) interval_max: Duration,
    pub(super) first_at: Option<Instant>,
}

impl Picture {
    /// Takes a packet's number, marker and payload.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        sequence: u16,
        marker: bool,
        payload: &[u8],
    ) {
        // Padding has no payload, and takes a number all the same.
        let descriptor = Descriptor::parse(payload).unwrap_or_default();
        let number = self.extend(sequence);
        if self.next.is_some_and(|next| number < next) {
            return;
        }
        let piece = Piece {
            descriptor,
            ends_frame: marker,
        };
        self.pieces.insert(number, piece);
        if self.pieces.len() > PACKETS_MAX {
            self.pieces.pop_first();
        }
        self.ask_at.get_or_insert(now + STUCK);
        self.show(now);
    }

    /// Whether a key frame has to be asked for now.
    pub(super) fn poll_key_request(&mut self, now: Instant) -> bool {
        let is_due = self.ask_at.is_some_and(|at| at <= now);
        if is_due {
            self.ask_at = Some(now + STUCK);
        }
        is_due
    }

    /// When one may be due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.ask_at
    }

    /// Counts from here on; what has been learnt of the stream stays.
    pub(super) fn handle_measure(&mut self) {
        self.frames = 0;
        self.freezes = 0;
        self.interval_max = Duration::ZERO;
    }

    /// Freezes, with the one that lasts until now.
    pub(super) fn freezes_until(&self, now: Instant) -> u64 {
        let since = self.shown_at.map(|at| now.saturating_duration_since(at));
        self.freezes + u64::from(since.is_some_and(|since| self.is_freeze(since)))
    }

    /// The number of which this is the end, closest to the highest so far.
    fn extend(&mut self, sequence: u16) -> u64 {
        // Above 0, so that what is late may be below the first.
        let highest = self.highest.unwrap_or((1 << 16) + u64::from(sequence));
        let ahead = sequence.wrapping_sub(highest as u16).cast_signed();
        let number = highest.saturating_add_signed(i64::from(ahead));
        self.highest = Some(highest.max(number));
        number
    }

    /// Shows every frame that is whole.
    fn show(&mut self, now: Instant) {
        loop {
            let whole = self.next.and_then(|next| self.end_of_frame(next));
            let Some(end) = whole.or_else(|| self.end_of_whole_key_frame()) else {
                return;
            };
            self.pieces = self.pieces.split_off(&(end + 1));
            self.next = Some(end + 1);
            self.ask_at = (!self.pieces.is_empty()).then(|| now + STUCK);
            self.on_frame(now);
        }
    }

    /// The last packet of the frame that begins with `start`, if all of it is here.
    fn end_of_frame(&self, start: u64) -> Option<u64> {
        let pieces = (start..).zip(self.pieces.range(start..));
        let mut in_order = pieces.take_while(|(expected, (number, _))| expected == *number);
        in_order.find_map(|(number, (_, piece))| piece.ends_frame.then_some(number))
    }

    /// The same of the newest key frame: from there a decoder can go on, whatever was lost.
    fn end_of_whole_key_frame(&self) -> Option<u64> {
        let mut keys = self
            .pieces
            .iter()
            .rev()
            .filter(|(_, p)| p.descriptor.is_key);
        keys.find_map(|(start, _)| self.end_of_frame(*start))
    }

    fn on_frame(&mut self, now: Instant) {
        self.frames += 1;
        self.first_at.get_or_insert(now);
        let Some(before) = self.shown_at.replace(now) else {
            return;
        };
        let interval = now.saturating_duration_since(before);
        self.interval_max = self.interval_max.max(interval);
        if self.is_freeze(interval) {
            self.freezes += 1;
            return;
        }
        if self.intervals.len() == WINDOW_LEN {
            self.intervals.pop_front();
        }
        self.intervals.push_back(interval);
    }

    fn is_freeze(&self, interval: Duration) -> bool {
        let count = self.intervals.len();
        let sum: Duration = self.intervals.iter().sum();
        let mean = sum / count.max(1) as u32;
        count >= WINDOW_LEN_MIN && interval > (mean * 3).max(mean + FREEZE_MIN)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
mod tests {
    use super::super::vp8;
    use super::*;

    const FRAME: Duration = Duration::from_millis(33);

    struct Sender {
        sequence: u16,
        now: Instant,
    }

    impl Sender {
        fn new() -> Sender {
            Sender {
                sequence: 65_530,
                now: Instant::now(),
            }
        }

        /// The packets of a frame, a frame's time after the last.
        fn frame(&mut self, is_key: bool) -> Vec<(u16, bool, Vec<u8>)> {
            self.now += FRAME;
            let frame = vec![u8::from(!is_key); 2_000];
            let payloads = vp8::packets(&frame, 0);
            let last = payloads.len() - 1;
            let numbered = payloads.into_iter().enumerate().map(|(index, payload)| {
                self.sequence = self.sequence.wrapping_add(1);
                (self.sequence, index == last, payload)
            });
            numbered.collect()
        }
    }

    fn give(picture: &mut Picture, now: Instant, packets: &[(u16, bool, Vec<u8>)]) {
        for (sequence, marker, payload) in packets {
            picture.handle_packet(now, *sequence, *marker, payload);
        }
    }

    #[test]
    fn it_begins_with_a_key_frame_and_waits_for_what_is_missing() {
        let (mut sender, mut picture) = (Sender::new(), Picture::default());
        let packets = sender.frame(false);
        give(&mut picture, sender.now, &packets);
        assert_eq!(picture.frames, 0);
        assert!(!picture.poll_key_request(sender.now));
        assert!(picture.poll_key_request(sender.now + STUCK));
        let packets = sender.frame(true);
        give(&mut picture, sender.now, &packets);
        assert_eq!(picture.frames, 1);
        let late = sender.frame(false);
        let next = sender.frame(false);
        give(&mut picture, sender.now, &next);
        give(&mut picture, sender.now, &late[1..]);
        assert_eq!(picture.frames, 1);
        give(&mut picture, sender.now, &late[..1]);
        assert_eq!(picture.frames, 3);
        assert_eq!(picture.poll_timeout(), None);
    }

    #[test]
    fn a_pause_is_a_freeze_by_the_definition_of_browsers() {
        let (mut sender, mut picture) = (Sender::new(), Picture::default());
        for index in 0..60 {
            let packets = sender.frame(index == 0);
            give(&mut picture, sender.now, &packets);
        }
        assert_eq!((picture.frames, picture.freezes), (60, 0));
        sender.now += Duration::from_millis(140);
        let packets = sender.frame(false);
        give(&mut picture, sender.now, &packets);
        assert_eq!(
            picture.freezes, 0,
            "173 ms: less than 150 ms above the mean"
        );
        sender.now += Duration::from_millis(160);
        let packets = sender.frame(false);
        give(&mut picture, sender.now, &packets);
        assert_eq!(picture.freezes, 1);
        assert_eq!(picture.freezes_until(sender.now), 1);
        assert_eq!(picture.freezes_until(sender.now + STUCK), 2);
    }

    #[test]
    fn a_lost_packet_holds_it_until_the_next_key_frame() {
        let (mut sender, mut picture) = (Sender::new(), Picture::default());
        let packets = sender.frame(true);
        give(&mut picture, sender.now, &packets);
        let broken = sender.frame(false);
        give(&mut picture, sender.now, &broken[1..]);
        for _ in 0..20 {
            let packets = sender.frame(false);
            give(&mut picture, sender.now, &packets);
        }
        assert_eq!(picture.frames, 1);
        assert!(picture.poll_key_request(sender.now));
        let packets = sender.frame(true);
        give(&mut picture, sender.now, &packets);
        assert_eq!(picture.frames, 2);
    }
}
