//! What reception of one source looks like (RFC 3550 sections 6.4.1, A.3 and A.8).

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::clock::Ntp;

/// Counts packets of one source for receiver reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reception {
    first: Option<u64>,
    highest: u64,
    received: u64,
    /// Packets that came late by retransmission: lost to the reports, not to the subscribers.
    recovered: u64,
    expected_before: u64,
    received_before: u64,
    jitter: f64,
    transit: Option<f64>,
    /// The first packet's time, which arrival times are counted from.
    began: Option<Instant>,
    last_report: Option<(Ntp, Instant)>,
}

/// What goes on in another process: the counts. Jitter is measured anew.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReceptionSnapshot {
    first: Option<u64>,
    highest: u64,
    received: u64,
    recovered: u64,
    expected_before: u64,
    received_before: u64,
}

/// The numbers of a report block that come from counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// Share lost since the last report, in 1/256.
    pub(super) fraction_lost: u8,
    /// Packets lost in all, within 24 signed bits.
    pub(super) cumulative_lost: i32,
    /// The highest extended sequence number.
    pub(super) highest: u32,
    /// Interarrival jitter in timestamp units.
    pub(super) jitter: u32,
}

impl Reception {
    /// What another process goes on with.
    pub(super) fn snapshot(&self) -> ReceptionSnapshot {
        ReceptionSnapshot {
            first: self.first,
            highest: self.highest,
            received: self.received,
            recovered: self.recovered,
            expected_before: self.expected_before,
            received_before: self.received_before,
        }
    }

    /// Goes on where another process ended.
    pub(super) fn restore(snapshot: &ReceptionSnapshot) -> Reception {
        Reception {
            first: snapshot.first,
            highest: snapshot.highest,
            received: snapshot.received,
            recovered: snapshot.recovered,
            expected_before: snapshot.expected_before,
            received_before: snapshot.received_before,
            ..Reception::default()
        }
    }

    /// A packet arrived.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        sequence: u64,
        timestamp: u32,
        clock_rate: u32,
    ) {
        self.received += 1;
        self.first = Some(self.first.map_or(sequence, |first| first.min(sequence)));
        let began = *self.began.get_or_insert(now);
        if sequence < self.highest {
            return;
        }
        self.highest = sequence;
        // RFC 3550 section A.8, in timestamp units; the wrap of the timestamp is undone by
        // looking only at differences.
        let arrival = now.saturating_duration_since(began).as_secs_f64() * f64::from(clock_rate);
        let transit = arrival - f64::from(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let wrap = f64::from(u32::MAX) + 1.0;
            let distance = (transit - before).rem_euclid(wrap);
            let distance = distance.min(wrap - distance);
            self.jitter += (distance - self.jitter) / 16.0;
        }
    }

    /// A lost packet came by retransmission.
    pub(super) fn handle_recovered(&mut self) {
        self.recovered += 1;
    }

    /// A sender report of the source arrived.
    pub(super) fn handle_sender_report(&mut self, now: Instant, ntp: Ntp) {
        self.last_report = Some((ntp, now));
    }

    /// The last sender report, and when it arrived.
    pub(super) fn last_report(&self) -> Option<(Ntp, Instant)> {
        self.last_report
    }

    /// Whether anything arrived since the last report block.
    pub(super) fn is_active(&self) -> bool {
        self.received > self.received_before
    }

    /// Packets received, and packets lost for good.
    pub(super) fn totals(&self) -> (u64, u64) {
        let lost = self
            .expected()
            .saturating_sub(self.received + self.recovered);
        (self.received + self.recovered, lost)
    }

    /// The numbers for the next report block (RFC 3550 section A.3).
    pub(super) fn report(&mut self) -> Counted {
        let expected = self.expected();
        let expected_now = expected - self.expected_before;
        let received_now = self.received - self.received_before;
        self.expected_before = expected;
        self.received_before = self.received;
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction = (lost_now << 8).checked_div(expected_now).unwrap_or(0);
        let lost = expected as i64 - self.received as i64;
        Counted {
            fraction_lost: fraction.min(255) as u8,
            cumulative_lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest: self.highest as u32,
            jitter: self.jitter as u32,
        }
    }

    fn expected(&self) -> u64 {
        self.first.map_or(0, |first| self.highest - first + 1)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn counts_loss_over_the_interval_and_in_all() {
        let (mut reception, now) = (Reception::default(), Instant::now());
        for sequence in (65_530..65_630).filter(|n| n % 4 != 0) {
            reception.handle_packet(now, sequence, 0, 90_000);
        }
        let counted = reception.report();
        assert_eq!((counted.fraction_lost, counted.cumulative_lost), (64, 25));
        assert_eq!(counted.highest, 65_629);
        reception.handle_packet(now, 65_630, 0, 90_000);
        let counted = reception.report();
        assert_eq!((counted.fraction_lost, counted.cumulative_lost), (0, 25));
        reception.handle_recovered();
        assert_eq!(reception.totals(), (77, 24));
    }

    #[test]
    fn jitter_is_zero_for_an_even_stream_and_follows_an_uneven_one_across_the_wrap() {
        let start = Instant::now();
        let (mut even, mut uneven) = (Reception::default(), Reception::default());
        for n in 0..200u32 {
            let timestamp = (u32::MAX - 90_000).wrapping_add(n * 1_800);
            let at = start + Duration::from_millis(u64::from(n) * 20);
            even.handle_packet(at, u64::from(n), timestamp, 90_000);
            let late = at + Duration::from_millis(u64::from(n % 2) * 4);
            uneven.handle_packet(late, u64::from(n), timestamp, 90_000);
        }
        assert!(even.report().jitter <= 1);
        assert!((350..=360).contains(&uneven.report().jitter));
    }
}
