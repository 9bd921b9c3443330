//! What the layers of a stream weigh: bits per second of each, as they arrive.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::layers::LayerStamp;
use super::snapshot::Age;

/// Spatial and temporal layers that are told apart; what is above counts as the highest.
const SPATIAL: usize = 3;
const TEMPORAL: usize = 3;

/// How long bits are counted before they become a rate.
const WINDOW: Duration = Duration::from_millis(500);

/// A stream that sent nothing for so long is not there.
const SILENCE: Duration = Duration::from_millis(1_500);

/// Bits, or bits per second, of one layer.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Weight {
    /// What higher spatial layers need too, or nobody knows that they do not.
    shared: u32,
    /// What they do without.
    spared: u32,
}

/// Rates by spatial and temporal layer.
#[derive(Debug, Default)]
pub(super) struct Meter {
    began: Option<Instant>,
    heard: Option<Instant>,
    bits: [[Weight; TEMPORAL]; SPATIAL],
    /// Bits per second in the windows before, the last weighing as much as all others.
    rates: [[Weight; TEMPORAL]; SPATIAL],
    is_known: bool,
}

impl Weight {
    /// What somebody is sent who takes this layer and none above.
    fn whole(self) -> u64 {
        u64::from(self.shared) + u64::from(self.spared)
    }
}

/// What goes on in another process: what is known, without what is being counted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MeterSnapshot {
    heard: Option<Age>,
    rates: [[Weight; TEMPORAL]; SPATIAL],
    is_known: bool,
}

impl Meter {
    /// What another process goes on with.
    pub(super) fn snapshot(&self, now: Instant) -> MeterSnapshot {
        MeterSnapshot {
            heard: self.heard.map(|at| Age::of(now, at)),
            rates: self.rates,
            is_known: self.is_known,
        }
    }

    /// Goes on where another process ended.
    pub(super) fn restore(now: Instant, snapshot: &MeterSnapshot) -> Meter {
        Meter {
            heard: snapshot.heard.map(|age| age.before(now)),
            rates: snapshot.rates,
            is_known: snapshot.is_known,
            ..Meter::default()
        }
    }

    /// A packet of `len` bytes came.
    pub(super) fn handle_packet(&mut self, now: Instant, stamp: LayerStamp, len: usize) {
        let began = *self.began.get_or_insert(now);
        self.heard = Some(now);
        if now.saturating_duration_since(began) >= WINDOW {
            self.roll(now, began);
        }
        let (spatial, temporal) = (usize::from(stamp.spatial()), usize::from(stamp.temporal()));
        let row = self.bits.get_mut(spatial.min(SPATIAL - 1));
        if let Some(bits) = row.and_then(|row| row.get_mut(temporal.min(TEMPORAL - 1))) {
            let bits = if stamp.is_spared() {
                &mut bits.spared
            } else {
                &mut bits.shared
            };
            *bits = bits.saturating_add(len as u32 * 8);
        }
    }

    fn roll(&mut self, now: Instant, began: Instant) {
        let elapsed_us = now.saturating_duration_since(began).as_micros() as u64;
        let is_first = !self.is_known || elapsed_us >= 2 * WINDOW.as_micros() as u64;
        let follow = |rate: &mut u32, bits: u32| {
            let fresh = u64::from(bits) * 1_000_000 / elapsed_us.max(1);
            let fresh = u32::try_from(fresh).unwrap_or(u32::MAX);
            *rate = if is_first {
                fresh
            } else {
                *rate / 2 + fresh / 2
            };
        };
        let all = self.bits.iter_mut().flatten();
        for (bits, rate) in all.zip(self.rates.iter_mut().flatten()) {
            follow(&mut rate.shared, bits.shared);
            follow(&mut rate.spared, bits.spared);
            *bits = Weight::default();
        }
        self.began = Some(now);
        self.is_known = true;
    }

    /// Whether the stream flows.
    pub(super) fn flows(&self, now: Instant) -> bool {
        self.heard
            .is_some_and(|heard| now.saturating_duration_since(heard) < SILENCE)
    }

    /// Bits per second of what somebody is sent who takes the layers up to these; `None` before they are
    /// known.
    pub(super) fn rate_bps(&self, spatial: u8, temporal: u8) -> Option<u64> {
        if !self.is_known {
            return None;
        }
        let top = usize::from(spatial.min(self.spatial_layers() - 1));
        let rows = self.rates.iter().take(top + 1).enumerate();
        let layers = rows.flat_map(|(row, rates)| {
            let rates = rates.iter().take(usize::from(temporal) + 1);
            rates.map(move |rate| match row == top {
                true => rate.whole(),
                false => u64::from(rate.shared),
            })
        });
        Some(layers.sum())
    }

    /// How many spatial layers carry anything, 1 or more.
    pub(super) fn spatial_layers(&self) -> u8 {
        let is_used = |row: &[Weight; TEMPORAL]| row.iter().any(|rate| rate.whole() > 0);
        let used = self.rates.iter().rposition(is_used);
        used.map_or(1, |last| last as u8 + 1)
    }

    /// How many temporal layers carry anything, 1 or more.
    pub(super) fn temporal_layers(&self) -> u8 {
        let carries = |rate: Option<&Weight>| rate.is_some_and(|rate| rate.whole() > 0);
        let is_used = |temporal: &usize| self.rates.iter().any(|row| carries(row.get(*temporal)));
        (0..TEMPORAL)
            .rev()
            .find(is_used)
            .map_or(1, |last| last as u8 + 1)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;
    use crate::wire::Layer;

    #[test]
    fn rates_add_up_by_layer_and_end_with_the_stream() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(meter.rate_bps(7, 7), None);
        for packet in 0..200_u64 {
            let temporal = u8::from(packet % 2 == 1);
            let stamp = LayerStamp::new(
                &Layer {
                    temporal,
                    ..Layer::default()
                },
                true,
            );
            meter.handle_packet(at(packet * 10), stamp, 1_250);
        }
        let near = |rate: Option<u64>, bps: u64| rate.unwrap().abs_diff(bps) < bps / 20;
        assert!(near(meter.rate_bps(7, 7), 1_000_000));
        assert!(near(meter.rate_bps(0, 0), 500_000));
        assert_eq!((meter.spatial_layers(), meter.temporal_layers()), (1, 2));
        assert!(meter.flows(at(2_500)) && !meter.flows(at(4_000)));
    }

    #[test]
    fn what_higher_layers_do_without_weighs_on_nobody_who_takes_them() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        for packet in 0..600_u64 {
            let (layer, is_key) = (packet % 3, packet % 30 < 3);
            let stamp = LayerStamp::new(
                &Layer {
                    spatial: layer as u8,
                    ..Layer::default()
                },
                false,
            );
            let stamp = if is_key || layer == 2 {
                stamp
            } else {
                stamp.spared()
            };
            meter.handle_packet(start + Duration::from_millis(packet * 5), stamp, 1_250);
        }
        // Each layer has two thirds of a Mbit/s, and a tenth of that is in key pictures.
        let near = |rate: Option<u64>, bps: u64| rate.unwrap().abs_diff(bps) < bps / 20;
        assert!(near(meter.rate_bps(0, 7), 667_000));
        assert!(near(meter.rate_bps(1, 7), 733_000));
        assert!(near(meter.rate_bps(2, 7), 800_000));
        assert!(near(meter.rate_bps(7, 7), 800_000));
    }
}
