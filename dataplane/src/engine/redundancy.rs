//! Redundant audio for receivers that lose packets (RFC 2198): each packet repeats the one or two
//! before it, which are in the track's log anyway.
//!
//! Whether a receiver needs it, its own reports say. It costs as many bytes again as it repeats, so it
//! ends when the network has been good for a while.

use std::time::{Duration, Instant};

use super::log::Entry;
use super::sender::{Route, Treatment};
use super::track::Track;
use crate::id::PayloadType;
use crate::limits::REDUNDANT_PAYLOAD_BYTES_MAX;
use crate::wire::red::{self, Block};

/// Packets that one repeats at most.
const DISTANCE_MAX: u8 = 2;

/// More loss than this, in 1/256 as reports say it (RFC 3550 section 6.4.1), asks for two repetitions: 10 %..
const LOSS_FOR_TWO: u8 = 25;

/// ..than this for one: 2 %..
const LOSS_FOR_ONE: u8 = 5;

/// ..and no more than this for none: 1 %.
const LOSS_FOR_NONE: u8 = 2;

/// Less is repeated only after the loss was lower for this long.
const CALM: Duration = Duration::from_secs(10);

/// How much a receiver has repeated.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Redundancy {
    /// How many packets each repeats.
    distance: u8,
    /// When a report last showed that it is needed.
    needed_at: Option<Instant>,
}

impl Redundancy {
    /// A report says that so much was lost, in 1/256.
    pub(super) fn handle_loss(&mut self, now: Instant, fraction_lost: u8) {
        let needed = if fraction_lost > LOSS_FOR_TWO {
            DISTANCE_MAX
        } else if fraction_lost > LOSS_FOR_ONE {
            1
        } else if fraction_lost > LOSS_FOR_NONE {
            self.distance.min(1)
        } else {
            0
        };
        let is_calm = self
            .needed_at
            .is_none_or(|at| now.saturating_duration_since(at) >= CALM);
        if needed >= self.distance || is_calm {
            self.distance = needed;
            self.needed_at = Some(now);
        }
    }

    /// What is lost is lost because the network is full: repetitions would keep it so.
    pub(super) fn handle_congestion(&mut self) {
        self.distance = 0;
    }

    /// How a packet leaves with its repetitions, and the length of its payload then; `None` where it leaves
    /// without, because the receiver needs none or takes none, or there is nothing to repeat that fits.
    pub(super) fn wrap(
        &self,
        track: &Track,
        entry: &Entry,
        route: Route,
    ) -> Option<(Route, usize)> {
        let red = route.red.filter(|_| self.distance > 0)?;
        let sized = |distance| {
            let blocks = blocks(track, entry, distance);
            (blocks.clone().count() > 0).then(|| red::len(blocks, entry.payload_len()))
        };
        let fits =
            |distance: &u8| sized(*distance).is_some_and(|len| len <= REDUNDANT_PAYLOAD_BYTES_MAX);
        let distance = (1..=self.distance).rev().find(fits)?;
        let wrapped = Route {
            payload_type: red,
            treatment: Treatment::Wrap(route.payload_type, distance),
            ..route
        };
        Some((wrapped, sized(distance)?))
    }
}

/// Writes a packet with its repetitions to the start of `out`, and returns their length.
pub(super) fn write(
    out: &mut [u8],
    (track, entry): (&Track, &Entry),
    (payload_type, distance): (PayloadType, u8),
) -> Option<usize> {
    let primary = track.log.payload(entry);
    red::write(out, payload_type, blocks(track, entry, distance), primary)
}

/// The packets up to so many numbers before this one, the oldest first, as far as they are there and a
/// block can say where they belong.
fn blocks<'a>(
    track: &'a Track,
    entry: &Entry,
    distance: u8,
) -> impl Iterator<Item = Block<'a>> + Clone {
    let stamp = entry.stamp;
    (1..=u64::from(distance)).rev().filter_map(move |back| {
        let before = track.log.find(stamp.sequence.checked_sub(back)?)?;
        let is_alike = before.stamp.epoch == stamp.epoch && before.stamp.format == stamp.format;
        let offset = stamp.timestamp.wrapping_sub(before.stamp.timestamp);
        Block::new(offset, track.log.payload(before)).filter(|_| is_alike)
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn redundancy_begins_with_a_bad_report_and_ends_after_ten_good_seconds() {
        let (mut redundancy, start) = (Redundancy::default(), Instant::now());
        let mut at = |seconds, percent: u32| {
            let fraction = (percent * 256 / 100) as u8;
            redundancy.handle_loss(start + Duration::from_secs(seconds), fraction);
            redundancy.distance
        };
        assert_eq!([at(0, 0), at(1, 2), at(2, 3), at(3, 15)], [0, 0, 1, 2]);
        // Not as bad for ten seconds, then hardly any loss for ten more.
        assert_eq!([at(4, 5), at(12, 5), at(13, 5)], [2, 2, 1]);
        assert_eq!([at(14, 0), at(22, 0), at(23, 0)], [1, 1, 0]);
        // In between it stays as it is.
        assert_eq!([at(24, 3), at(30, 2), at(39, 2), at(45, 0)], [1, 1, 1, 1]);
        // A network that is full has no room for it.
        redundancy.handle_congestion();
        assert_eq!(redundancy.distance, 0);
    }
}
