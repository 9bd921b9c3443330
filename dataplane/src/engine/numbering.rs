//! A sender's numbers: how a track's sequence numbers and timestamps become those that one
//! subscriber sees, without a gap when the sender changes from one track to another.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::log::Stamp;
use super::snapshot::Age;

/// How many changes of numbering can be looked back over: enough for most senders..
const ANCHORS: usize = 8;

/// ..and this many more for those that leave layers out, whose numbers change with each frame: two seconds
/// of them may be asked for again.
const ANCHORS_OLDER: usize = 56;

/// Where more packets than this are missing, what follows goes on as if there had been none: a jump of
/// half the number space would make a receiver guess a wrong rollover counter and decrypt nothing ever
/// after (RFC 3711 section 3.3.1), and a smaller one only makes it ask for what is gone.
pub(super) const NUMBERS_SKIPPED_MAX: u64 = 4_096;

/// Translates numbers, always by addition: from each anchor on, the outgoing number is the
/// incoming one plus something.
///
/// An outgoing extended number is also the SRTP packet index, so one number must never stand for
/// two packets: each anchor's numbers end where the next anchor's begin.
#[derive(Debug)]
pub(super) struct Numbering {
    /// Newest first.
    anchors: [Anchor; ANCHORS],
    anchors_len: usize,
    /// Those before them, newest first; its memory is taken when there are any.
    older: VecDeque<Anchor>,
    /// The first number and timestamp ever, random (RFC 3550 section 5.1).
    start: (u64, u32),
    highest: Option<Highest>,
    /// How the next track goes on where the last one ended.
    continuation: Option<Box<Continuation>>,
}

/// How a track goes on where another ended that showed the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Continuation {
    /// Added to its timestamps, if both clocks are known.
    pub(super) timestamp: Option<u32>,
    /// Added to what it counts pictures by.
    pub(super) shift: Shift,
}

/// What is added to the numbers that a codec counts its pictures by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shift {
    /// To VP8's picture id, modulo its width (RFC 7741 section 4.2).
    pub(super) picture: u16,
    /// To the frame number of the dependency descriptor.
    pub(super) frame: u16,
    /// To VP8's index of base layer pictures.
    pub(super) base: u8,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Anchor {
    epoch: u32,
    /// First incoming number that this anchor is for.
    from: u64,
    /// The outgoing number of `from`.
    to: u64,
    /// Added to incoming timestamps.
    timestamp: u32,
    shift: Shift,
}

impl Anchor {
    /// The numbers of a packet that it is for; `None` for one from before it.
    #[inline]
    fn numbers(&self, stamp: &Stamp) -> Option<Numbers> {
        let after = stamp.sequence.checked_sub(self.from)?;
        Some(Numbers {
            sequence: self.to.checked_add(after)?,
            timestamp: stamp.timestamp.wrapping_add(self.timestamp),
            shift: self.shift,
        })
    }
}

/// The packet sent with the highest number.
#[derive(Clone, Copy, Debug)]
struct Highest {
    sequence: u64,
    timestamp: u32,
    arrived: Instant,
}

/// What goes on in another process. Of the anchors the newest: packets from before them are not sent any more.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NumberingSnapshot {
    anchors: Vec<Anchor>,
    start: (u64, u32),
    highest: Option<(u64, u32, Age)>,
    continuation: Option<Continuation>,
}

/// A packet's outgoing numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Extended sequence number, which is also the SRTP packet index (RFC 3711 section 3.3.1).
    pub(super) sequence: u64,
    /// RTP timestamp.
    pub(super) timestamp: u32,
    /// How its pictures are renumbered.
    pub(super) shift: Shift,
}

impl Numbering {
    /// Numbers that begin somewhere random. The first number stays below 2^15, so that a packet
    /// from shortly before it cannot make a receiver guess a wrong rollover counter
    /// (RFC 3711 section 3.3.1). An SSRC that was used before goes on from `used`.
    pub(super) fn new(random: u64, used: Option<u64>) -> Numbering {
        Numbering {
            anchors: [Anchor::default(); ANCHORS],
            anchors_len: 0,
            older: VecDeque::new(),
            start: (used.unwrap_or(random >> 49), random as u32),
            highest: None,
            continuation: None,
        }
    }

    /// What another process goes on with.
    pub(super) fn snapshot(&self, now: Instant) -> NumberingSnapshot {
        let highest = self.highest.map(|highest| {
            let age = Age::of(now, highest.arrived);
            (highest.sequence, highest.timestamp, age)
        });
        NumberingSnapshot {
            anchors: self
                .anchors
                .iter()
                .take(self.anchors_len)
                .copied()
                .collect(),
            start: self.start,
            highest,
            continuation: self.continuation.as_deref().copied(),
        }
    }

    /// Goes on where another process ended.
    pub(super) fn restore(now: Instant, snapshot: NumberingSnapshot) -> Numbering {
        let mut numbering = Numbering::new(0, None);
        for anchor in snapshot.anchors.into_iter().take(ANCHORS).rev() {
            numbering.anchor(anchor);
        }
        numbering.start = snapshot.start;
        numbering.highest = snapshot.highest.map(|(sequence, timestamp, age)| Highest {
            sequence,
            timestamp,
            arrived: age.before(now),
        });
        numbering.continuation = snapshot.continuation.map(Box::new);
        numbering
    }

    /// Forgets the track: whatever comes next is another one, and continues where this one ended.
    pub(super) fn detach(&mut self) {
        self.forget_anchors();
        self.continuation = None;
    }

    /// Like [`Numbering::detach`], but what comes next shows the same and goes on like this.
    pub(super) fn continue_with(&mut self, continuation: Continuation) {
        self.forget_anchors();
        self.continuation = Some(Box::new(continuation));
    }

    /// The numbers under which this packet would leave now; `None` when it is from before this
    /// sender began with the track, its number is taken, or the sender would begin with one that came late.
    #[inline]
    pub(super) fn upcoming(
        &self,
        stamp: &Stamp,
        is_late: bool,
        clock_rate: u32,
    ) -> Option<Numbers> {
        match self.newest() {
            Some(anchor) if anchor.epoch >= stamp.epoch => {
                // The usual case: what the newest anchor is for.
                let newest = anchor.numbers(stamp);
                newest.or_else(|| self.translate(stamp))
            }
            // All that came before it would be missing behind it.
            Some(_) | None if is_late => None,
            Some(_) | None => Some(self.beginning(stamp, clock_rate)),
        }
    }

    /// The numbers under which the first packet of another track or source would leave now.
    fn beginning(&self, stamp: &Stamp, clock_rate: u32) -> Numbers {
        let continuation = self.continuation.as_deref().copied().unwrap_or_default();
        let shift = continuation.shift;
        let Some(highest) = self.highest else {
            return Numbers {
                sequence: self.start.0,
                timestamp: self.start.1,
                shift,
            };
        };
        let elapsed = stamp.arrived.saturating_duration_since(highest.arrived);
        let by_arrival = ticks(elapsed, clock_rate).max(1);
        let step = match continuation
            .timestamp
            .map(|add| stamp.timestamp.wrapping_add(add))
        {
            // Both show the same moment: the one that comes second must not be older.
            Some(exact) => exact.wrapping_sub(highest.timestamp),
            None => by_arrival,
        };
        let is_plausible = step.wrapping_sub(by_arrival).cast_signed().unsigned_abs() < clock_rate;
        let step = if is_plausible && step.cast_signed() > 0 {
            step
        } else if is_plausible {
            1
        } else {
            by_arrival
        };
        Numbers {
            sequence: highest.sequence + 1,
            timestamp: highest.timestamp.wrapping_add(step),
            shift,
        }
    }

    /// The packet leaves with these numbers, which [`Numbering::upcoming`] said just before.
    #[inline]
    pub(super) fn commit(&mut self, stamp: &Stamp, numbers: Numbers) {
        if self
            .newest()
            .is_none_or(|anchor| anchor.epoch < stamp.epoch)
        {
            self.anchor(Anchor {
                epoch: stamp.epoch,
                from: stamp.sequence,
                to: numbers.sequence,
                timestamp: numbers.timestamp.wrapping_sub(stamp.timestamp),
                shift: numbers.shift,
            });
            self.continuation = None;
        }
        if self
            .highest
            .is_none_or(|highest| highest.sequence < numbers.sequence)
        {
            self.highest = Some(Highest {
                sequence: numbers.sequence,
                timestamp: numbers.timestamp,
                arrived: stamp.arrived,
            });
        }
    }

    /// Notes that this packet will not be sent at all, so that the numbers close over it.
    /// A late packet leaves its gap: its neighbours are gone already.
    /// The pictures' own numbers close over it too where it begins one.
    pub(super) fn skip(&mut self, stamp: &Stamp) {
        let Some(anchor) = self.newest().copied() else {
            return;
        };
        let Some(numbers) = self.translate(stamp) else {
            return;
        };
        let is_late = self
            .highest
            .is_some_and(|highest| numbers.sequence <= highest.sequence);
        if anchor.epoch != stamp.epoch || stamp.sequence < anchor.from || is_late {
            return;
        }
        let mut next = Anchor {
            from: stamp.sequence + 1,
            to: numbers.sequence,
            ..anchor
        };
        if stamp.layer.is_counted() && stamp.layer.starts_frame() {
            next.shift.picture = next.shift.picture.wrapping_sub(1);
        }
        if anchor.from == stamp.sequence
            && let Some(newest) = self.anchors.first_mut()
        {
            *newest = next;
        } else {
            self.anchor(next);
        }
    }

    /// Notes that this packet is the next to leave and nothing of what came since the last one will: the
    /// sequence numbers close over that, and the timestamps show it.
    pub(super) fn close_up(&mut self, stamp: &Stamp) {
        let (Some(anchor), Some(highest)) = (self.newest().copied(), self.highest()) else {
            return;
        };
        let is_ahead = self
            .translate(stamp)
            .is_some_and(|numbers| numbers.sequence > highest);
        if anchor.epoch != stamp.epoch || !is_ahead {
            return;
        }
        let next = Anchor {
            from: stamp.sequence,
            to: highest + 1,
            ..anchor
        };
        if anchor.from == stamp.sequence
            && let Some(newest) = self.anchors.first_mut()
        {
            *newest = next;
        } else {
            self.anchor(next);
        }
    }

    /// The numbers of a packet that an anchor covers.
    pub(super) fn translate(&self, stamp: &Stamp) -> Option<Numbers> {
        let mut limit = u64::MAX;
        for anchor in self.anchors() {
            if stamp.sequence >= anchor.from {
                let numbers = anchor.numbers(stamp)?;
                return (numbers.sequence < limit).then_some(numbers);
            }
            limit = anchor.to;
        }
        None
    }

    /// The incoming number of the packet that left, or would have left, with this outgoing one.
    pub(super) fn invert(&self, outgoing: u64) -> Option<u64> {
        let mut limit = u64::MAX;
        for anchor in self.anchors() {
            if let Some(after) = outgoing.checked_sub(anchor.to) {
                let sequence = anchor.from.checked_add(after)?;
                return (sequence < limit).then_some(sequence);
            }
            limit = anchor.from;
        }
        None
    }

    /// The extended number that a receiver means by its low 16 bits; `None` when it was never sent.
    pub(super) fn extend(&self, sequence: u16) -> Option<u64> {
        let highest = self.highest?.sequence;
        let back = u64::from((highest as u16).wrapping_sub(sequence));
        highest.checked_sub(back)
    }

    /// A timestamp of the track, now, in the sender's terms.
    pub(super) fn timestamp(&self, timestamp: u32) -> Option<u32> {
        Some(timestamp.wrapping_add(self.newest()?.timestamp))
    }

    /// The epoch that was anchored last.
    pub(super) fn epoch(&self) -> Option<u32> {
        Some(self.newest()?.epoch)
    }

    /// The highest number sent, if any was.
    pub(super) fn highest(&self) -> Option<u64> {
        Some(self.highest?.sequence)
    }

    /// The timestamp of the packet with that number, or of where it begins.
    pub(super) fn last_timestamp(&self) -> u32 {
        self.highest
            .map_or(self.start.1, |highest| highest.timestamp)
    }

    /// The first number that is free, whatever comes.
    pub(super) fn next(&self) -> u64 {
        self.highest().map_or(self.start.0, |highest| highest + 1)
    }

    fn anchors(&self) -> impl Iterator<Item = &Anchor> {
        let newest = self.anchors.iter().take(self.anchors_len);
        newest.chain(&self.older)
    }

    fn forget_anchors(&mut self) {
        self.anchors_len = 0;
        self.older.clear();
    }

    fn newest(&self) -> Option<&Anchor> {
        self.anchors.first().filter(|_| self.anchors_len > 0)
    }

    fn anchor(&mut self, anchor: Anchor) {
        if self.anchors_len == ANCHORS
            && let Some(&oldest) = self.anchors.last()
        {
            if self.older.is_empty() {
                self.older.reserve_exact(ANCHORS_OLDER);
            }
            self.older.truncate(ANCHORS_OLDER - 1);
            self.older.push_front(oldest);
        }
        self.anchors.rotate_right(1);
        if let Some(newest) = self.anchors.first_mut() {
            *newest = anchor;
        }
        self.anchors_len = (self.anchors_len + 1).min(ANCHORS);
    }
}

/// A duration in units of an RTP clock.
pub(super) fn ticks(duration: Duration, clock_rate: u32) -> u32 {
    (duration.as_micros().wrapping_mul(u128::from(clock_rate)) / 1_000_000) as u32
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::super::layers::LayerStamp;
    use super::*;
    use crate::id::FormatIndex;

    fn stamp(epoch: u32, sequence: u64, at: Instant) -> Stamp {
        let timestamp = (sequence as u32).wrapping_mul(3_000);
        Stamp {
            sequence,
            timestamp,
            arrived: at,
            epoch,
            marker: false,
            keyframe: false,
            format: FormatIndex(0),
            layer: LayerStamp::default(),
        }
    }

    fn numbering() -> Numbering {
        Numbering::new(0xffff_ffff_ffff_ffff, None)
    }

    fn forward(numbering: &mut Numbering, stamp: &Stamp) -> Option<Numbers> {
        let numbers = numbering.upcoming(stamp, false, 90_000)?;
        numbering.commit(stamp, numbers);
        Some(numbers)
    }

    #[test]
    fn late_packets_keep_their_place_and_those_from_before_the_start_are_not_sent() {
        let (mut numbers, now) = (numbering(), Instant::now());
        let first = forward(&mut numbers, &stamp(0, 100, now)).unwrap();
        assert_eq!(first.sequence, (1 << 15) - 1);
        let later = forward(&mut numbers, &stamp(0, 102, now)).unwrap();
        let late = forward(&mut numbers, &stamp(0, 101, now)).unwrap();
        assert_eq!(
            (late.sequence, later.sequence),
            (first.sequence + 1, first.sequence + 2)
        );
        assert_eq!(late.timestamp.wrapping_sub(first.timestamp), 3_000);
        assert_eq!(forward(&mut numbers, &stamp(0, 99, now)), None);
    }

    #[test]
    fn what_was_left_out_for_two_seconds_is_looked_back_over() {
        let (mut numbers, now) = (numbering(), Instant::now());
        let mut sent = Vec::new();
        // Of every two packets the second is of a layer that is not sent.
        for sequence in 0..400 {
            let stamp = stamp(0, sequence, now);
            if sequence % 2 == 0 {
                let numbers = forward(&mut numbers, &stamp).unwrap();
                sent.push((sequence, numbers.sequence));
            } else {
                numbers.skip(&stamp);
            }
        }
        for (incoming, outgoing) in sent.iter().rev().take(60) {
            assert_eq!(numbers.invert(*outgoing), Some(*incoming));
            let again = numbers.translate(&stamp(0, *incoming, now)).unwrap();
            assert_eq!(again.sequence, *outgoing);
        }
        let (_, oldest) = sent[0];
        assert_eq!(numbers.invert(oldest), None, "and no further");
    }

    #[test]
    fn numbers_continue_across_tracks_and_sources() {
        let (mut numbers, now) = (numbering(), Instant::now());
        let old = forward(&mut numbers, &stamp(0, 100, now)).unwrap();
        numbers.detach();
        let later = now + Duration::from_millis(100);
        let new = forward(&mut numbers, &stamp(0, 7_000, later)).unwrap();
        assert_eq!(new.sequence, old.sequence + 1);
        assert_eq!(new.timestamp.wrapping_sub(old.timestamp), 9_000);
        let epoch = forward(&mut numbers, &stamp(1, 90_000, later)).unwrap();
        assert_eq!(epoch.sequence, new.sequence + 1);
        assert_eq!(epoch.timestamp, new.timestamp.wrapping_add(1));
        // A straggler of the epoch before would need a number that is taken.
        assert_eq!(forward(&mut numbers, &stamp(0, 7_001, later)), None);
        assert_eq!(forward(&mut numbers, &stamp(0, 6_999, later)), None);
    }

    #[test]
    fn numbers_close_over_packets_that_are_not_sent() {
        let (mut numbers, now) = (numbering(), Instant::now());
        let mut sent = Vec::new();
        for sequence in [10, 11, 12, 13, 14, 16, 15, 17] {
            let stamp = stamp(0, sequence, now);
            if matches!(sequence, 11 | 12 | 16) {
                numbers.skip(&stamp);
            } else {
                sent.push(forward(&mut numbers, &stamp).unwrap().sequence - sequence);
            }
        }
        // 10 | 13 14 | 15 late, from before 16 was left out | 17
        let start = sent.first().copied().unwrap();
        assert_eq!(sent, [start, start - 2, start - 2, start - 2, start - 3]);
    }

    #[test]
    fn a_nacked_number_leads_back_to_the_packet_that_left_with_it() {
        let (mut numbers, now) = (numbering(), Instant::now());
        let mut sent = Vec::new();
        for sequence in 0..70_000 {
            let stamp = stamp(u32::from(sequence >= 69_990), sequence + 5, now);
            if sequence % 3_000 == 17 {
                numbers.skip(&stamp);
            } else {
                sent.push((
                    sequence + 5,
                    forward(&mut numbers, &stamp).unwrap().sequence,
                ));
            }
        }
        for &(incoming, outgoing) in sent.iter().rev().take(10_000) {
            let extended = numbers.extend(outgoing as u16).unwrap();
            assert_eq!(
                (extended, numbers.invert(extended)),
                (outgoing, Some(incoming))
            );
        }
        let gapless = sent.windows(2).all(|pair| pair[1].1 == pair[0].1 + 1);
        assert!(gapless);
    }
}
