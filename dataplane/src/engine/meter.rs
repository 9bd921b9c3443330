//! What the layers of a stream weigh: bits per second of each, as they arrive.

use std::time::{Duration, Instant};

use super::layers::LayerStamp;

/// Spatial and temporal layers that are told apart; what is above counts as the highest.
const SPATIAL: usize = 3;
const TEMPORAL: usize = 3;

/// How long bits are counted before they become a rate.
const WINDOW: Duration = Duration::from_millis(500);

/// A stream that sent nothing for so long is not there.
const SILENCE: Duration = Duration::from_millis(1_500);

/// Rates by spatial and temporal layer.
#[derive(Debug, Default)]
pub(super) struct Meter {
    began: Option<Instant>,
    heard: Option<Instant>,
    bits: [[u32; TEMPORAL]; SPATIAL],
    /// Bits per second in the windows before, the last weighing as much as all others.
    rates: [[u32; TEMPORAL]; SPATIAL],
    is_known: bool,
}

impl Meter {
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
            *bits = bits.saturating_add(len as u32 * 8);
        }
    }

    fn roll(&mut self, now: Instant, began: Instant) {
        let elapsed_us = now.saturating_duration_since(began).as_micros() as u64;
        let all = self.bits.iter_mut().flatten();
        for (bits, rate) in all.zip(self.rates.iter_mut().flatten()) {
            let fresh = u64::from(*bits) * 1_000_000 / elapsed_us.max(1);
            let fresh = u32::try_from(fresh).unwrap_or(u32::MAX);
            *rate = if self.is_known && elapsed_us < 2 * WINDOW.as_micros() as u64 {
                *rate / 2 + fresh / 2
            } else {
                fresh
            };
            *bits = 0;
        }
        self.began = Some(now);
        self.is_known = true;
    }

    /// Whether the stream flows.
    pub(super) fn flows(&self, now: Instant) -> bool {
        self.heard
            .is_some_and(|heard| now.saturating_duration_since(heard) < SILENCE)
    }

    /// Bits per second of all layers up to these; `None` before they are known.
    pub(super) fn rate_bps(&self, spatial: u8, temporal: u8) -> Option<u64> {
        if !self.is_known {
            return None;
        }
        let rows = self.rates.iter().take(usize::from(spatial) + 1);
        let layers = rows.flat_map(|row| row.iter().take(usize::from(temporal) + 1));
        Some(layers.map(|rate| u64::from(*rate)).sum())
    }

    /// How many spatial layers carry anything.
    pub(super) fn spatial_layers(&self) -> u8 {
        let used = self
            .rates
            .iter()
            .rposition(|row| row.iter().any(|rate| *rate > 0));
        used.map_or(1, |last| last as u8 + 1)
    }

    /// How many temporal layers carry anything.
    pub(super) fn temporal_layers(&self) -> u8 {
        let is_used = |temporal: &usize| self.rates.iter().any(|row| row.get(*temporal) > Some(&0));
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
}
