//! A track's log: its last packets as plaintext, in the order in which they arrived. Every
//! subscriber reads from it at its own pace, and lost packets are sent again from it.

use std::ops::Range;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::layers::LayerStamp;
use crate::command::MediaKind;
use crate::id::FormatIndex;
use crate::limits::{
    AUDIO_LOG_BYTES, AUDIO_LOG_PACKETS, GROUP_AGE_MAX, GROUP_BYTES_MAX, GROUP_LOG_BYTES,
    GROUP_LOG_PACKETS, GROUP_TURN_BYTES, VIDEO_LOG_BYTES, VIDEO_LOG_PACKETS,
};

/// One ring of bytes, written in order and overwritten when it comes round, and one of entries.
///
/// Packets are numbered twice: by *arrival*, 0, 1, 2.., which is what a reader's cursor counts,
/// and by their sender's *extended sequence number*, which is what a NACK names.
#[derive(Debug)]
pub(super) struct Log {
    /// As much of the ring as was ever written: what the allocator has used before would be cleared as a whole, and
    /// take memory that a track of few packets never needs.
    bytes: Vec<u8>,
    /// Bytes of the ring.
    ring: usize,
    /// Bytes ever written: the next packet begins at this modulo the ring's length.
    written: u64,
    entries: Box<[Option<Entry>]>,
    /// The next packet's arrival number.
    head: u64,
    /// The oldest arrival whose bytes are still there.
    tail: u64,
    /// Sequence number and arrival number plus one, by the sequence number's low bits.
    by_sequence: Box<[(u64, u64)]>,
    newest: u64,
    /// Where the last key frame is, in a log that keeps what follows it.
    group: Option<Group>,
}

/// What is known of a packet besides its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// Extended sequence number, unique in the log.
    pub(super) sequence: u64,
    /// RTP timestamp as the publisher wrote it.
    pub(super) timestamp: u32,
    /// When it arrived.
    pub(super) arrived: Instant,
    /// Counts the publisher's changes of SSRC: numbers and timestamps do not continue across one.
    pub(super) epoch: u32,
    /// RTP marker bit.
    pub(super) marker: bool,
    /// Whether a key frame begins with it.
    pub(super) keyframe: bool,
    /// Its payload type.
    pub(super) format: FormatIndex,
    /// Its place among the layers of its stream.
    pub(super) layer: LayerStamp,
}

/// A packet in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// What is known of it.
    pub(super) stamp: Stamp,
    /// Where its reservation begins, in bytes ever written.
    at: u64,
    /// The same in the ring, kept because every subscriber asks for it.
    place: usize,
    extensions_len: u16,
    payload_at: u16,
    payload_len: u16,
    /// Whether a later number had come before.
    is_late: bool,
}

/// What another process must know of a log: none of its packets, but which there were, so that none of them
/// enters a second time and leaves under the number that it had.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LogSnapshot {
    head: u64,
    newest: u64,
    /// Bit n of them: a packet with the number `newest` - n was there.
    #[serde(with = "crate::hexed")]
    known: Vec<u8>,
}

/// Where a log's last key frame is.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// The first packet of the frame that came last, by arrival, and the frame's timestamp.
    frame: Option<(u64, u32)>,
    /// The first packet of the last key frame: its parameter sets, where these come before it.
    begin: Option<u64>,
}

impl Group {
    fn handle_packet(&mut self, arrival: u64, stamp: &Stamp) {
        let frame = match self.frame {
            Some(frame) if frame.1 == stamp.timestamp => frame,
            Some(_) | None => (arrival, stamp.timestamp),
        };
        self.frame = Some(frame);
        if stamp.keyframe {
            self.begin = Some(frame.0);
        }
    }
}

impl Entry {
    /// Where it begins in all that was ever written: no other packet of the track has that.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// It without payload and extensions.
    pub(super) fn bare(self) -> Entry {
        Entry {
            extensions_len: 0,
            payload_len: 0,
            ..self
        }
    }

    /// Whether a packet with a later number had come before it.
    pub(super) fn is_late(&self) -> bool {
        self.is_late
    }

    /// Bytes of payload.
    pub(super) fn payload_len(&self) -> usize {
        usize::from(self.payload_len)
    }
}

impl Log {
    /// An empty log of the size for `kind`.
    pub(super) fn new(kind: MediaKind) -> Log {
        match kind {
            MediaKind::Audio => Log::sized(AUDIO_LOG_PACKETS, AUDIO_LOG_BYTES),
            MediaKind::Video => Log::sized(VIDEO_LOG_PACKETS, VIDEO_LOG_BYTES),
        }
    }

    /// An empty log for a video whose receivers begin with its last key frame.
    pub(super) fn keeping_group() -> Log {
        Log {
            group: Some(Group::default()),
            ..Log::sized(GROUP_LOG_PACKETS, GROUP_LOG_BYTES)
        }
    }

    fn sized(packets: usize, ring: usize) -> Log {
        Log {
            bytes: Vec::with_capacity(ring),
            ring,
            written: 0,
            entries: vec![None; packets].into_boxed_slice(),
            head: 0,
            tail: 0,
            by_sequence: vec![(0, 0); packets].into_boxed_slice(),
            newest: 0,
            group: None,
        }
    }

    /// What another process goes on with.
    pub(super) fn snapshot(&self) -> LogSnapshot {
        let mut known = vec![0; self.by_sequence.len() / 8];
        for back in 0..self.by_sequence.len() as u64 {
            let sequence = self.newest.checked_sub(back);
            let is_there = self.head > 0 && sequence.is_some_and(|sequence| self.refuses(sequence));
            if let Some(byte) = known.get_mut(back as usize / 8) {
                *byte |= u8::from(is_there) << (back % 8);
            }
        }
        LogSnapshot {
            head: self.head,
            newest: self.newest,
            known,
        }
    }

    /// This empty log, with the numbers of another process's.
    pub(super) fn restored(self, snapshot: &LogSnapshot) -> Log {
        let mut log = self;
        (log.head, log.tail, log.newest) = (snapshot.head, snapshot.head, snapshot.newest);
        let packets = log.by_sequence.len() as u64;
        let bits = snapshot
            .known
            .iter()
            .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
        for (back, bit) in (0..packets).zip(bits) {
            let Some(sequence) = snapshot.newest.checked_sub(back).filter(|_| bit == 1) else {
                continue;
            };
            if let Some(place) = log.by_sequence.get_mut((sequence % packets) as usize) {
                // Any arrival number before the tail: the packet was there and cannot be read.
                *place = (sequence, 1);
            }
        }
        log
    }

    /// The arrival number that the next packet will get.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// The oldest arrival number that can still be read.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    /// The highest sequence number so far; 0 before the first.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether a packet with this number must not enter: it is there already, or so old that
    /// nobody can tell whether it was.
    pub(super) fn refuses(&self, sequence: u64) -> bool {
        let window = self.by_sequence.len() as u64;
        if self.head > 0 && sequence.saturating_add(window) <= self.newest {
            return true;
        }
        matches!(self.slot(sequence), Some(&(there, arrival)) if arrival > 0 && there == sequence)
    }

    /// Room for a packet of `len` bytes in all; the oldest packets make way. What is written there
    /// counts once [`Log::commit`] is called, and is forgotten otherwise.
    pub(super) fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let ring = self.ring;
        if len > ring {
            return None;
        }
        let mut at = (self.written % ring as u64) as usize;
        if at + len > ring {
            // A packet is never split: the rest of the ring stays unused this time round.
            self.written += (ring - at) as u64;
            at = 0;
        }
        let oldest = (self.written + len as u64).saturating_sub(ring as u64);
        while self.tail < self.head
            && self
                .stored(self.tail)
                .is_some_and(|entry| entry.at < oldest)
        {
            self.tail += 1;
        }
        let end = at + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(at..end)
    }

    /// What was written into the last reservation, which is not kept yet.
    pub(super) fn reserved(&self, range: Range<usize>) -> &[u8] {
        let at = (self.written % self.ring as u64) as usize;
        self.bytes
            .get(at + range.start..at + range.end)
            .unwrap_or_default()
    }

    /// Keeps what was written into the last reservation: the extensions at its start, and the
    /// payload at `payload`.
    pub(super) fn commit(&mut self, stamp: Stamp, extensions_len: usize, payload: Range<usize>) {
        let entry = Entry {
            stamp,
            at: self.written,
            place: (self.written % self.ring as u64) as usize,
            extensions_len: extensions_len as u16,
            payload_at: payload.start as u16,
            payload_len: payload.len() as u16,
            is_late: self.head > 0 && stamp.sequence < self.newest,
        };
        let arrival = self.head;
        let packets = self.entries.len() as u64;
        if let Some(place) = self.entries.get_mut((arrival % packets) as usize) {
            *place = Some(entry);
        }
        if let Some(place) = self
            .by_sequence
            .get_mut((stamp.sequence % packets) as usize)
        {
            *place = (stamp.sequence, arrival + 1);
        }
        if let Some(group) = &mut self.group {
            group.handle_packet(arrival, &stamp);
        }
        self.head += 1;
        self.tail = self.tail.max(self.head.saturating_sub(packets));
        self.written += payload.end as u64;
        self.newest = self.newest.max(stamp.sequence);
    }

    /// Makes every packet unreadable; numbers go on.
    pub(super) fn forget(&mut self) {
        self.tail = self.head;
    }

    /// Whether it keeps its last key frame and what follows.
    pub(super) fn keeps_group(&self) -> bool {
        self.group.is_some()
    }

    /// Where a reader begins that is to have the last key frame and all that followed: while every packet of it is
    /// there, and it is no older and no longer than the limits say.
    pub(super) fn group(&self, now: Instant) -> Option<u64> {
        let begin = self.group.as_ref()?.begin?;
        let first = self.entry(begin)?;
        let age = now.saturating_duration_since(first.stamp.arrived);
        let is_short = self.written - first.at <= GROUP_BYTES_MAX;
        (is_short && age <= GROUP_AGE_MAX).then_some(begin)
    }

    /// A key frame begins with the packet that is reserved next. In a log that keeps groups it is written to the
    /// beginning of the ring if the group before it lies far enough from there, so that the ring takes no more memory
    /// than its groups need.
    pub(super) fn begin_keyframe(&mut self, timestamp: u32) {
        let Some(group) = &self.group else {
            return;
        };
        let ring = self.ring as u64;
        let begins_frame = group.frame.is_none_or(|(_, before)| before != timestamp);
        let last = group.begin.and_then(|begin| self.entry(begin));
        let is_far = last.is_some_and(|first| first.at % ring >= GROUP_TURN_BYTES);
        if begins_frame && is_far {
            self.written = self.written.next_multiple_of(ring);
        }
    }

    /// The packet that arrived last, while its bytes are there.
    pub(super) fn latest(&self) -> Option<&Entry> {
        self.entry(self.head.checked_sub(1)?)
    }

    /// The packet with this arrival number, while its bytes are there.
    pub(super) fn entry(&self, arrival: u64) -> Option<&Entry> {
        if arrival < self.tail || arrival >= self.head {
            return None;
        }
        self.stored(arrival)
    }

    /// The packet with this sequence number, while its bytes are there.
    pub(super) fn find(&self, sequence: u64) -> Option<&Entry> {
        let &(there, arrival) = self.slot(sequence)?;
        if there != sequence {
            return None;
        }
        self.entry(arrival.checked_sub(1)?)
    }

    /// A packet's payload.
    pub(super) fn payload(&self, entry: &Entry) -> &[u8] {
        let start = entry.place + usize::from(entry.payload_at);
        self.bytes
            .get(start..start + usize::from(entry.payload_len))
            .unwrap_or_default()
    }

    /// A packet's header extensions, as [`super::extensions`] lists them.
    pub(super) fn extensions(&self, entry: &Entry) -> &[u8] {
        let start = entry.place;
        self.bytes
            .get(start..start + usize::from(entry.extensions_len))
            .unwrap_or_default()
    }

    fn stored(&self, arrival: u64) -> Option<&Entry> {
        // A power of two of them (limits.rs asserts it): a mask, where a division would be the
        // dearest instruction of a forwarded packet's bookkeeping.
        self.entries
            .get(arrival as usize & (self.entries.len() - 1))?
            .as_ref()
    }

    fn slot(&self, sequence: u64) -> Option<&(u64, u64)> {
        self.by_sequence
            .get((sequence % self.by_sequence.len() as u64) as usize)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;
    use std::time::Duration;

    fn push(log: &mut Log, sequence: u64, payload: &[u8]) {
        let slot = log.reserve(3 + payload.len()).unwrap();
        slot[..3].copy_from_slice(b"ext");
        slot[3..].copy_from_slice(payload);
        let stamp = Stamp {
            sequence,
            timestamp: 0,
            arrived: Instant::now(),
            epoch: 0,
            marker: false,
            keyframe: false,
            format: FormatIndex(0),
            layer: LayerStamp::default(),
        };
        log.commit(stamp, 3, 3..3 + payload.len());
    }

    fn body(sequence: u64) -> Vec<u8> {
        vec![sequence as u8; 40 + (sequence as usize * 7) % 900]
    }

    #[test]
    fn reads_in_arrival_order_and_by_number() {
        let mut log = Log::new(MediaKind::Audio);
        for sequence in [10, 12, 11] {
            push(&mut log, sequence, &body(sequence));
        }
        let order: Vec<u64> = (0..log.head())
            .map(|n| log.entry(n).unwrap().stamp.sequence)
            .collect();
        assert_eq!(order, [10, 12, 11]);
        let entry = *log.find(11).unwrap();
        assert_eq!(
            (log.payload(&entry), log.extensions(&entry)),
            (&body(11)[..], &b"ext"[..])
        );
        assert!(log.find(13).is_none() && log.find(11 + 64).is_none());
        assert!(log.refuses(11) && !log.refuses(13));
    }

    #[test]
    fn whatever_can_be_read_is_what_was_written_however_often_the_ring_goes_round() {
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let mut log = Log::new(kind);
            for sequence in 0..5_000 {
                push(&mut log, sequence, &body(sequence));
                assert!(log.tail() < log.head());
                for arrival in [log.tail(), (log.tail() + log.head()) / 2, log.head() - 1] {
                    let entry = *log.entry(arrival).unwrap();
                    assert_eq!(log.payload(&entry), body(arrival), "{kind:?} {arrival}");
                }
                assert!(log.entry(log.head()).is_none());
                assert!(log.tail() == 0 || log.entry(log.tail() - 1).is_none());
            }
        }
    }

    /// A packet of a picture with this timestamp.
    fn push_picture(log: &mut Log, now: Instant, timestamp: u32, keyframe: bool) {
        if keyframe {
            log.begin_keyframe(timestamp);
        }
        let sequence = log.newest() + 1;
        let payload = vec![sequence as u8; 1_000];
        log.reserve(1_000).unwrap().copy_from_slice(&payload);
        let stamp = Stamp {
            sequence,
            timestamp,
            arrived: now,
            epoch: 0,
            marker: false,
            keyframe,
            format: FormatIndex(0),
            layer: LayerStamp::default(),
        };
        log.commit(stamp, 0, 0..1_000);
    }

    #[test]
    fn a_group_begins_with_the_parameter_sets_before_its_key_frame() {
        let (mut log, now) = (Log::keeping_group(), Instant::now());
        assert_eq!(log.group(now), None);
        for (timestamp, keyframe) in [(1, false), (2, false), (2, true), (2, false), (3, false)] {
            push_picture(&mut log, now, timestamp, keyframe);
        }
        assert_eq!(log.group(now), Some(1));
        assert_eq!(log.group(now + GROUP_AGE_MAX), Some(1));
        let too_late = now + GROUP_AGE_MAX + Duration::from_millis(1);
        assert_eq!(log.group(too_late), None);
        log.forget();
        assert_eq!(log.group(now), None);
        push_picture(&mut log, now, 4, true);
        assert_eq!(log.group(now), Some(5));
    }

    #[test]
    fn a_group_is_begun_with_whole_or_not_at_all() {
        let (mut log, now) = (Log::keeping_group(), Instant::now());
        push_picture(&mut log, now, 0, true);
        for packet in 1..2 * GROUP_LOG_PACKETS as u32 {
            push_picture(&mut log, now, packet, false);
            let is_short = u64::from(packet) < GROUP_BYTES_MAX / 1_000;
            assert_eq!(log.group(now), is_short.then_some(0), "{packet}");
        }
        push_picture(&mut log, now, u32::MAX, true);
        assert_eq!(log.group(now), Some(log.head() - 1));
    }

    #[test]
    fn a_log_of_groups_touches_little_more_memory_than_two_and_keeps_the_last_readable() {
        for packets_in_group in [10_u64, 100, 500, 1_500] {
            let (mut log, now) = (Log::keeping_group(), Instant::now());
            let mut touched = 0;
            for packet in 0..40_000_u64 {
                let keyframe = packet % packets_in_group == 0;
                push_picture(&mut log, now, packet as u32, keyframe);
                let last = *log.latest().unwrap();
                touched = touched.max(last.place + last.payload_len());
                let begin = log.group(now).unwrap();
                assert_eq!(begin, packet - packet % packets_in_group);
                for arrival in [begin, (begin + packet) / 2, packet] {
                    let entry = *log.entry(arrival).unwrap();
                    assert!(
                        log.payload(&entry)
                            .iter()
                            .all(|byte| *byte == (arrival + 1) as u8)
                    );
                }
                // Who reads the group that has just ended has time for it.
                let since = packet - begin;
                let before = begin.checked_sub(packets_in_group);
                if let Some(before) = before.filter(|_| since * 1_000 < GROUP_TURN_BYTES) {
                    assert!(log.entry(before).is_some(), "{packets_in_group} {packet}");
                }
            }
            let group = packets_in_group as usize * 1_000;
            assert!(
                touched <= GROUP_TURN_BYTES as usize + 2 * group,
                "{touched}"
            );
        }
    }

    #[test]
    fn a_reservation_that_is_not_kept_leaves_nothing() {
        let mut log = Log::new(MediaKind::Audio);
        push(&mut log, 1, &body(1));
        log.reserve(500).unwrap().fill(0xff);
        push(&mut log, 2, &body(2));
        let entry = *log.entry(0).unwrap();
        assert_eq!((log.payload(&entry), log.head()), (&body(1)[..], 2));
        assert!(log.reserve(1 << 20).is_none());
    }

    #[test]
    fn a_number_from_before_the_window_is_refused() {
        let mut log = Log::new(MediaKind::Audio);
        push(&mut log, 1_000, b"x");
        assert!(!log.refuses(1_000 - 63));
        assert!(log.refuses(1_000 - 64));
        assert!(!log.refuses(5_000));
    }
}
