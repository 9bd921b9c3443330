//! How much longer groups of packets take than the ones before them.
//!
//! Packets that leave within 5 ms are one group: what they wait for each other on the way says
//! nothing about the network's queue (draft-ietf-rmcat-gcc-02 section 5.2).

/// Packets that leave within this many microseconds are a group.
const SPAN_US: i64 = 5_000;

/// Packets that arrive this close behind each other came out of one queue at once..
const BURST_GAP_US: i64 = 5_000;

/// ..but for no longer than this in all.
const BURST_SPAN_US: i64 = 100_000;

/// The receiver's clock ran this much ahead of ours between two groups: it was set anew.
const CLOCK_STEP_US: i64 = 3_000_000;

/// So many groups in a row that arrived before the ones before them mean the same.
const BACKWARDS_MAX: u8 = 3;

/// Of two groups that followed each other, how far apart they left and arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) sent_us: i64,
    pub(super) arrived_us: i64,
    /// When the later of them was complete.
    pub(super) at_us: i64,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent_us: i64,
    last_sent_us: i64,
    first_arrival_us: i64,
    last_arrival_us: i64,
    /// When the feedback came that told of its last packet.
    told_us: i64,
}

/// The group in the making and the one before it.
#[derive(Debug, Default)]
pub(super) struct Groups {
    current: Option<Group>,
    previous: Option<Group>,
    backwards: u8,
}

impl Groups {
    /// A packet arrived. Returns the difference between the last two groups when it begins another.
    pub(super) fn handle_packet(
        &mut self,
        now_us: i64,
        sent_us: i64,
        arrival_us: i64,
    ) -> Option<Delta> {
        let fresh = Group {
            first_sent_us: sent_us,
            last_sent_us: sent_us,
            first_arrival_us: arrival_us,
            last_arrival_us: arrival_us,
            told_us: now_us,
        };
        let Some(current) = &mut self.current else {
            self.current = Some(fresh);
            return None;
        };
        // It was overtaken, and its group is over.
        if sent_us < current.first_sent_us {
            return None;
        }
        if !current.is_over(sent_us, arrival_us) {
            current.last_sent_us = current.last_sent_us.max(sent_us);
            current.last_arrival_us = arrival_us;
            current.told_us = now_us;
            return None;
        }
        let current = *current;
        let previous = self.previous.replace(current);
        self.current = Some(fresh);
        self.delta(previous?, current)
    }

    fn delta(&mut self, previous: Group, current: Group) -> Option<Delta> {
        let delta = Delta {
            sent_us: current.last_sent_us - previous.last_sent_us,
            arrived_us: current.last_arrival_us - previous.last_arrival_us,
            at_us: current.last_arrival_us,
        };
        let told_us = current.told_us - previous.told_us;
        if delta.arrived_us - told_us >= CLOCK_STEP_US {
            *self = Groups::default();
            return None;
        }
        if delta.arrived_us < 0 {
            self.backwards += 1;
            if self.backwards >= BACKWARDS_MAX {
                *self = Groups::default();
            }
            return None;
        }
        self.backwards = 0;
        Some(delta)
    }
}

impl Group {
    /// Whether a packet belongs to the next group.
    fn is_over(&self, sent_us: i64, arrival_us: i64) -> bool {
        let sent_delta = sent_us - self.last_sent_us;
        let arrival_delta = arrival_us - self.last_arrival_us;
        let is_burst = arrival_delta < sent_delta
            && arrival_delta <= BURST_GAP_US
            && arrival_us - self.first_arrival_us < BURST_SPAN_US;
        sent_delta != 0 && !is_burst && sent_us - self.first_sent_us > SPAN_US
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deltas(packets: &[(i64, i64)]) -> Vec<(i64, i64)> {
        let mut groups = Groups::default();
        let deltas = packets.iter().filter_map(|&(sent, arrived)| {
            groups.handle_packet(arrived * 1_000, sent * 1_000, arrived * 1_000)
        });
        deltas
            .map(|delta| (delta.sent_us / 1_000, delta.arrived_us / 1_000))
            .collect()
    }

    #[test]
    fn packets_of_a_frame_are_one_group() {
        let frames = [
            (0, 50),
            (1, 52),
            (33, 85),
            (35, 87),
            (66, 121),
            (67, 125),
            (100, 160),
        ];
        assert_eq!(deltas(&frames), [(34, 35), (32, 38)]);
    }

    #[test]
    fn what_a_queue_lets_go_at_once_is_one_group() {
        // Three frames that waited for a radio arrive within 2 ms.
        let frames = [
            (0, 50),
            (33, 150),
            (66, 151),
            (99, 152),
            (132, 190),
            (165, 220),
        ];
        assert_eq!(deltas(&frames), [(99, 102), (33, 38)]);
    }

    #[test]
    fn clocks_that_step_begin_anew_and_late_packets_do_not_count() {
        assert_eq!(deltas(&[(0, 50), (20, 70), (5, 71), (40, 90)]), [(20, 20)]);
        let mut groups = Groups::default();
        let mut seen = 0;
        for index in 0..100 {
            // The receiver's clock falls back by a minute in the middle.
            let skew = if index < 50 { 60_000_000 } else { 0 };
            let at_us = index * 20_000;
            seen += u64::from(groups.handle_packet(at_us, at_us, at_us + skew).is_some());
        }
        assert!((90..100).contains(&seen), "{seen}");
    }
}
