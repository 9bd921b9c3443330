//! When a publisher's packets arrived, by their transport-wide numbers, until its feedback says so
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01). Its bandwidth estimator lives on that.

use std::collections::VecDeque;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::session::SessionKey;
use super::snapshot::Age;
use super::{Engine, reports};
use crate::id::Ssrc;
use crate::limits::{
    TRANSPORT_FEEDBACK_EARLY, TRANSPORT_FEEDBACK_INTERVAL, TRANSPORT_FEEDBACK_PACKETS_MAX,
};
use crate::wire::RtcpWriter;
use crate::wire::transport_feedback::FEEDBACK_PACKETS_MAX;

/// Told packets that are remembered, in case one that is between them comes late.
const TOLD_KEPT: u64 = 128;

/// Microseconds of the unit that arrivals are told in.
const TICK_US: u128 = 250;

/// Arrivals of one session's packets.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// What ticks are counted from.
    epoch: Instant,
    /// Extended number of the first in `ticks`.
    first: u64,
    ticks: VecDeque<Option<i64>>,
    /// The first that is to be told of.
    next: u64,
    /// Feedback packets sent, modulo 256.
    sent: u8,
    /// When the next is due, if there is anything to tell.
    due: Option<Instant>,
    /// Whose packet came last.
    media: Ssrc,
}

/// What goes on in another process: the clock and the numbers of feedback, so that a publisher sees no jump in
/// either. What was not told yet is not told any more.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ArrivalsSnapshot {
    epoch: Age,
    sent: u8,
    media: Ssrc,
}

impl Arrivals {
    /// What another process goes on with.
    pub(super) fn snapshot(&self, now: Instant) -> ArrivalsSnapshot {
        ArrivalsSnapshot {
            epoch: Age::of(now, self.epoch),
            sent: self.sent,
            media: self.media,
        }
    }

    /// Goes on where another process ended.
    pub(super) fn restore(now: Instant, snapshot: &ArrivalsSnapshot) -> Arrivals {
        Arrivals {
            sent: snapshot.sent,
            media: snapshot.media,
            ..Arrivals::new(snapshot.epoch.before(now))
        }
    }

    /// Nothing arrived yet.
    pub(super) fn new(now: Instant) -> Arrivals {
        Arrivals {
            epoch: now,
            first: 0,
            ticks: VecDeque::with_capacity(TRANSPORT_FEEDBACK_PACKETS_MAX),
            next: 0,
            sent: 0,
            due: None,
            media: Ssrc(0),
        }
    }

    /// A packet with this number arrived, and was authentic. Whether feedback is due now that was not before.
    pub(super) fn handle_packet(&mut self, now: Instant, number: u16, media: Ssrc) -> bool {
        let since = now.saturating_duration_since(self.epoch);
        let tick = (since.as_micros() / TICK_US) as i64;
        if !self.note(number, tick) {
            return false;
        }
        self.media = media;
        let is_new = self.due.is_none();
        self.due.get_or_insert(now + TRANSPORT_FEEDBACK_INTERVAL);
        is_new
    }

    fn note(&mut self, number: u16, tick: i64) -> bool {
        let newest = (self.first + self.ticks.len() as u64).wrapping_sub(1);
        let ahead = number.wrapping_sub(newest as u16).cast_signed();
        let is_far = usize::from(ahead.unsigned_abs()) > TRANSPORT_FEEDBACK_PACKETS_MAX;
        let extended = if self.ticks.is_empty() || is_far {
            // Above zero, so that what came before it has numbers too.
            let first = u64::from(number) + (1 << 16);
            self.ticks.clear();
            (self.first, self.next) = (first, first);
            first
        } else {
            newest.wrapping_add_signed(i64::from(ahead))
        };
        if extended < self.first {
            return false;
        }
        let place = (extended - self.first) as usize;
        while self.ticks.len() <= place {
            self.ticks.push_back(None);
        }
        let Some(known) = self.ticks.get_mut(place) else {
            return false;
        };
        if known.is_some() {
            return false;
        }
        *known = Some(tick);
        self.next = self.next.min(extended);
        while self.ticks.len() > TRANSPORT_FEEDBACK_PACKETS_MAX {
            self.forget_first();
        }
        true
    }

    fn forget_first(&mut self) {
        self.ticks.pop_front();
        self.first += 1;
        self.next = self.next.max(self.first);
    }

    /// Writes feedback of what was not told yet, as much of it as fits. `false` when there is nothing, or
    /// no room.
    pub(super) fn write(&mut self, local: Ssrc, writer: &mut RtcpWriter<'_>) -> bool {
        let mut ticks = [None; FEEDBACK_PACKETS_MAX];
        let untold = self.ticks.iter().skip((self.next - self.first) as usize);
        let mut count = 0;
        for (place, tick) in ticks.iter_mut().zip(untold) {
            *place = *tick;
            count += 1;
        }
        let ticks = ticks.get(..count).unwrap_or_default();
        let told = writer.transport_feedback(local, self.media, self.sent, self.next as u16, ticks);
        if told == 0 {
            return false;
        }
        self.next += told as u64;
        self.sent = self.sent.wrapping_add(1);
        while self.next - self.first > TOLD_KEPT {
            self.forget_first();
        }
        true
    }
}

impl Engine {
    /// An authentic packet of the session had this transport-wide number.
    pub(super) fn note_arrival(
        &mut self,
        now: Instant,
        key: SessionKey,
        (number, media): (u16, Ssrc),
    ) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let arrivals = session
            .arrivals
            .get_or_insert_with(|| Box::new(Arrivals::new(now)));
        if arrivals.handle_packet(now, number, media) {
            self.timers
                .watch_feedback(key, now + TRANSPORT_FEEDBACK_INTERVAL);
        }
    }

    /// Sends all feedback, whether or not it is due.
    pub(super) fn send_all_feedback(&mut self) {
        for _ in 0..self.timers.begin_feedback() {
            let key = self.timers.take_feedback();
            let session = self.sessions.get_mut(key);
            if let Some(session) = session
                && let Some(arrivals) = &mut session.arrivals
            {
                arrivals.due = None;
                reports::send_feedback(session, &mut self.outbox, &mut self.counters);
            }
        }
    }

    /// Sends the feedback that is due, or nearly.
    pub(super) fn fire_feedback(&mut self, now: Instant) {
        let soon = now + TRANSPORT_FEEDBACK_EARLY;
        for _ in 0..self.timers.begin_feedback() {
            let key = self.timers.take_feedback();
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            let Some(arrivals) = &mut session.arrivals else {
                continue;
            };
            match arrivals.due {
                Some(due) if due > soon => self.timers.watch_feedback(key, due),
                Some(_) => {
                    arrivals.due = None;
                    reports::send_feedback(session, &mut self.outbox, &mut self.counters);
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::RtcpPacket;
    use crate::wire::rtcp::packets;
    use rtc_shared::marshal::Unmarshal;
    use rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
    };

    fn arrivals() -> Arrivals {
        #[expect(clippy::disallowed_methods, reason = "only differences to it matter")]
        Arrivals::new(Instant::now())
    }

    /// What a feedback says: its base, its number, and for each packet its time in ticks.
    fn read(arrivals: &mut Arrivals) -> Option<(u16, u8, Vec<Option<i64>>)> {
        let mut buffer = [0; 1_160];
        let mut writer = RtcpWriter::new(&mut buffer);
        if !arrivals.write(Ssrc(1), &mut writer) {
            return None;
        }
        let len = writer.len();
        let mut compound = packets(&buffer[..len]);
        let Some(Ok(RtcpPacket::TransportFeedback { raw })) = compound.next() else {
            panic!("a feedback");
        };
        let mut raw = raw;
        let feedback = TransportLayerCc::unmarshal(&mut raw).unwrap();
        let symbols = feedback.packet_chunks.iter().flat_map(|chunk| match chunk {
            PacketStatusChunk::RunLengthChunk(run) => {
                vec![run.packet_status_symbol; usize::from(run.run_length)]
            }
            PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
        });
        let mut tick = i64::from(feedback.reference_time) * 256;
        let mut deltas = feedback.recv_deltas.iter();
        let times = symbols
            .take(usize::from(feedback.packet_status_count))
            .map(|symbol| {
                (symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
                    tick += deltas.next().unwrap().delta / 250;
                    tick
                })
            })
            .collect();
        Some((feedback.base_sequence_number, feedback.fb_pkt_count, times))
    }

    #[test]
    fn feedback_says_what_arrived_and_when() {
        let mut arrivals = arrivals();
        assert_eq!(read(&mut arrivals), None);
        for (number, tick) in [(65_534, 1_000), (65_535, 1_003), (1, 1_900), (2, 1_899)] {
            assert!(arrivals.note(number, tick));
        }
        let said = vec![Some(1_000), Some(1_003), None, Some(1_900), Some(1_899)];
        assert_eq!(read(&mut arrivals), Some((65_534, 0, said)));
        assert_eq!(read(&mut arrivals), None);
        assert!(arrivals.note(3, 2_000));
        assert!(!arrivals.note(3, 2_001), "once is enough");
        assert_eq!(read(&mut arrivals), Some((3, 1, vec![Some(2_000)])));
        // One that was told to be lost comes late: it is told, and those after it again.
        assert!(arrivals.note(0, 2_100));
        let said = vec![Some(2_100), Some(1_900), Some(1_899), Some(2_000)];
        assert_eq!(read(&mut arrivals), Some((0, 2, said)));
    }

    #[test]
    fn numbers_that_jump_begin_anew_and_memory_is_bounded() {
        let mut arrivals = arrivals();
        assert!(arrivals.note(10, 0));
        assert!(arrivals.note(20_000, 1));
        assert_eq!(read(&mut arrivals), Some((20_000, 0, vec![Some(1)])));
        assert!(!arrivals.note(19_990, 2), "before what is remembered");
        for number in 0..5_000_u16 {
            arrivals.note(20_001 + number, i64::from(number));
        }
        assert!(arrivals.ticks.len() <= TRANSPORT_FEEDBACK_PACKETS_MAX);
        let told: usize = std::iter::from_fn(|| read(&mut arrivals))
            .map(|(_, _, times)| times.len())
            .sum();
        assert_eq!(told, TRANSPORT_FEEDBACK_PACKETS_MAX);
        assert!(arrivals.ticks.len() as u64 <= TOLD_KEPT + 1);
    }

    #[test]
    fn any_arrivals_are_read_as_they_were_written() {
        let mut random = super::super::random::Random::new(11);
        for _ in 0..300 {
            let mut arrivals = arrivals();
            let (mut tick, mut expected) = (0, Vec::new());
            for number in 0..(random.next() % 700) as u16 {
                let step = match random.next() % 10 {
                    0 => (random.next() % 3_000) as i64,
                    1 => -((random.next() % 40) as i64),
                    _ => (random.next() % 60) as i64,
                };
                tick = (tick + step).max(0);
                let came = number == 0 || !random.next().is_multiple_of(4);
                expected.push(came.then_some(tick));
                if came {
                    arrivals.note(number, tick);
                }
            }
            while expected.last() == Some(&None) {
                expected.pop();
            }
            let said: Vec<Option<i64>> = std::iter::from_fn(|| read(&mut arrivals))
                .flat_map(|(_, _, times)| times)
                .collect();
            assert_eq!(said, expected);
        }
    }
}
