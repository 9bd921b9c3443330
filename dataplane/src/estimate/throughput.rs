//! How much of what is sent arrives, in bits per second: the acknowledged bitrate.
//!
//! Counted between the last arrivals of groups of packets, so that neither frames nor the moments
//! at which feedback is made show in it, and never above what was sent in that time: packets that a
//! queue lets go at once, or a receiver that lies, prove nothing.

/// Groups that are remembered.
const GROUPS: usize = 32;

/// Packets that arrive within this many microseconds are counted together.
const GROUP_US: i64 = 20_000;

/// The span of time that is looked at..
const WINDOW_US: i64 = 600_000;

/// ..and how much of it there must be.
const WINDOW_US_MIN: i64 = 150_000;

/// The span in which packets are compared with how they were sent, and how many times as long they must
/// take to arrive to be held up on the way.
const SQUEEZE_US: i64 = 180_000;
const SQUEEZE: f64 = 1.2;

/// After a gap like this the network may be another.
const GAP_US: i64 = 2_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    first_us: i64,
    /// Its last arrival, and the last time at which one of its packets was sent.
    arrival_us: i64,
    sent_us: i64,
    bytes: u32,
}

/// The arrivals of the last moment.
#[derive(Debug)]
pub(super) struct Throughput {
    groups: [Group; GROUPS],
    /// Groups so far; the last is at this place minus one.
    count: usize,
}

impl Throughput {
    /// Nothing arrived yet.
    pub(super) fn new() -> Throughput {
        Throughput {
            groups: [Group::default(); GROUPS],
            count: 0,
        }
    }

    /// A packet arrived.
    pub(super) fn handle_packet(&mut self, sent_us: i64, arrival_us: i64, bytes: u16) {
        let bytes = u32::from(bytes);
        let last = self.count.checked_sub(1);
        if let Some(last) = last.and_then(|index| self.place(index)) {
            let since_us = arrival_us - last.arrival_us;
            if since_us.abs() > GAP_US {
                self.count = 0;
            } else if arrival_us - last.first_us < GROUP_US {
                last.arrival_us = last.arrival_us.max(arrival_us);
                last.sent_us = last.sent_us.max(sent_us);
                last.bytes += bytes;
                return;
            }
        }
        let fresh = Group {
            first_us: arrival_us,
            arrival_us,
            sent_us,
            bytes,
        };
        if let Some(place) = self.place(self.count) {
            *place = fresh;
        }
        self.count += 1;
    }

    /// Bits per second of the last moment, where they took clearly longer to arrive than to be sent.
    pub(super) fn squeezed_bps(&self) -> Option<f64> {
        let last = self.group(self.count.checked_sub(1)?)?;
        let mut bytes = 0;
        for back in 1..GROUPS.min(self.count) {
            let first = self.group(self.count - 1 - back)?;
            bytes += self.group(self.count - back)?.bytes;
            let arrived_us = (last.arrival_us - first.arrival_us) as f64;
            if arrived_us >= SQUEEZE_US as f64 {
                let sent_us = (last.sent_us - first.sent_us) as f64;
                let is_squeezed = arrived_us > SQUEEZE * sent_us;
                return is_squeezed.then(|| f64::from(bytes) * 8e6 / arrived_us);
            }
        }
        None
    }

    /// Bits per second, once it can be told.
    pub(super) fn bitrate_bps(&self) -> Option<f64> {
        let last = self.group(self.count.checked_sub(1)?)?;
        let (mut bytes, mut span_us) = (0, 0);
        for back in 1..GROUPS.min(self.count) {
            let first = self.group(self.count - 1 - back)?;
            bytes += self.group(self.count - back)?.bytes;
            let arrived_us = last.arrival_us - first.arrival_us;
            span_us = arrived_us.max(last.sent_us - first.sent_us);
            if arrived_us >= WINDOW_US {
                break;
            }
        }
        (span_us >= WINDOW_US_MIN).then(|| f64::from(bytes) * 8e6 / span_us as f64)
    }

    fn group(&self, index: usize) -> Option<&Group> {
        self.groups.get(index % GROUPS)
    }

    fn place(&mut self, index: usize) -> Option<&mut Group> {
        self.groups.get_mut(index % GROUPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of five packets of 1,000 bytes at 25 a second: 1 Mbit/s.
    fn of_frames(frames: i64, arrival_us: impl Fn(i64, i64) -> i64) -> Vec<f64> {
        let mut throughput = Throughput::new();
        let mut rates = Vec::new();
        for frame in 0..frames {
            for packet in 0..5 {
                let sent_us = frame * 40_000 + packet * 1_000;
                throughput.handle_packet(sent_us, arrival_us(frame, sent_us), 1_000);
                rates.extend(throughput.bitrate_bps());
            }
        }
        rates
    }

    #[test]
    fn frames_do_not_show_in_it() {
        let rates = of_frames(100, |_, sent_us| sent_us + 50_000);
        assert!(rates.len() > 450, "{}", rates.len());
        for rate in &rates[100..] {
            assert!((900_000.0..1_100_000.0).contains(rate), "{rate}");
        }
    }

    #[test]
    fn what_arrives_faster_than_it_was_sent_proves_nothing() {
        let lie = of_frames(100, |_, sent_us| 1_000_000 + sent_us / 10_000);
        assert!(lie.iter().all(|rate| *rate < 1_300_000.0));
        let flush = of_frames(100, |frame, sent_us| sent_us.max(50 * 40_000) + frame);
        assert!(flush.iter().all(|rate| *rate < 1_300_000.0));
    }

    #[test]
    fn it_begins_anew_after_a_gap() {
        let mut throughput = Throughput::new();
        for index in 0..100 {
            throughput.handle_packet(index * 10_000, index * 10_000, 1_000);
        }
        assert!(throughput.bitrate_bps().is_some());
        throughput.handle_packet(9_000_000, 9_000_000, 1_000);
        assert_eq!(throughput.bitrate_bps(), None);
    }
}
