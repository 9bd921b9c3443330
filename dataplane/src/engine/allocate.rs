//! What each receiver is sent of its streams, so that all of it fits its network.
//!
//! Every stream has a ladder: its encodings and layers, from the lightest on. Audio comes first and is
//! never left out. Then every picture gets its lowest rung, those of higher priority before others, and
//! what remains raises them, higher priorities to the top before others move, equals step by step.
//! A picture falls at once when it must and rises when there is room to spare and it has stood still for a
//! while, so that nothing flaps.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Engine;
use super::downlink::Budget;
use super::layers::{Most, SPATIAL_ALL, TEMPORAL_ALL};
use super::sender::{FeedState, Sender, SenderKey};
use super::session::SessionKey;
use super::snapshot::Age;
use super::switching::{Choice, UntilThen};
use super::track::{Track, TrackKey};
use crate::command::{MediaKind, Preference, Quality};
use crate::event::{Event, Sent};
use crate::limits::ENCODINGS_MAX;

/// Rungs that one ladder has at most.
const RUNGS_MAX: usize = 12;

/// A picture that fell or rose waits this long before it rises.
const RISE_AFTER: Duration = Duration::from_millis(2_500);

/// Per cent of its weight that must be free for a picture to rise to a rung..
const ROOM_TO_RISE: u64 = 115;

/// ..and to begin at all..
const ROOM_TO_BEGIN: u64 = 105;

/// ..and to stay on the lowest: a picture that is a little too heavy is better than none.
const ROOM_TO_STAY: u64 = 75;

/// One way to send a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rung {
    track: TrackKey,
    encoding: u8,
    /// The encoding's place among those that flow, by weight.
    rank: u8,
    most: Most,
    rate_bps: u64,
}

impl Rung {
    /// Whether it is that encoding and has no more layers of it.
    fn is_within(&self, (encoding, most): (u8, Most)) -> bool {
        self.encoding == encoding && self.most <= most
    }
}

/// What one sender could be sent.
#[derive(Debug)]
pub(super) struct Demand {
    sender: SenderKey,
    priority: u8,
    /// From the lightest on.
    rungs: [Option<Rung>; RUNGS_MAX],
    len: usize,
    /// The rung that it stands on.
    before: Option<usize>,
    /// Whether it has stood there for long enough to rise.
    may_rise: bool,
    /// The rung that it gets.
    chosen: Option<usize>,
}

impl Demand {
    fn rate_bps(&self, rung: usize) -> Option<u64> {
        let rung = self.rungs.get(rung).copied().flatten()?;
        Some(rung.rate_bps)
    }

    /// What must be free for it to have this rung.
    fn needed_bps(&self, rung: usize, room: &Room) -> Option<u64> {
        let rate = self.rate_bps(rung)?;
        match self.before {
            None => Some(rate * ROOM_TO_BEGIN / 100),
            Some(before) if rung > before => {
                let needed = rate * ROOM_TO_RISE / 100 + room.passing_bps;
                self.may_rise.then_some(needed)
            }
            Some(_) if rung == 0 => Some(rate * ROOM_TO_STAY / 100),
            Some(_) => Some(rate),
        }
    }

    fn push(&mut self, rung: Rung) {
        let below = self.len.checked_sub(1).and_then(|last| self.rate_bps(last));
        // A rung that is no heavier than the one below takes its place: it is the better picture.
        if below.is_some_and(|below| rung.rate_bps <= below) {
            self.len -= 1;
        }
        if let Some(place) = self.rungs.get_mut(self.len) {
            *place = Some(rung);
            self.len += 1;
        }
    }
}

/// What is not given away yet, in bits per second.
struct Room {
    left_bps: u64,
    /// This much of it may not last: nobody rises by it.
    passing_bps: u64,
}

/// Gives each of the demands, which are sorted by priority, a rung. Without a budget, the best.
fn share(budget: Option<Budget>, demands: &mut [Demand]) {
    let Some(budget) = budget else {
        for demand in demands {
            demand.chosen = demand.len.checked_sub(1);
        }
        return;
    };
    let mut room = Room {
        left_bps: budget.now_bps,
        passing_bps: budget.now_bps - budget.steady_bps.min(budget.now_bps),
    };
    for demand in demands.iter_mut() {
        let needed = demand.needed_bps(0, &room);
        let fits = needed.is_some_and(|needed| needed <= room.left_bps);
        demand.chosen = fits.then_some(0);
        if fits {
            let rate = demand.rate_bps(0).unwrap_or(0);
            room.left_bps = room.left_bps.saturating_sub(rate);
        }
    }
    let mut start = 0;
    while let Some(first) = demands.get(start) {
        let priority = first.priority;
        let equals = demands
            .iter()
            .skip(start)
            .take_while(|d| d.priority == priority)
            .count();
        let class = demands.get_mut(start..start + equals).unwrap_or_default();
        loop {
            let raised = class
                .iter_mut()
                .filter_map(|demand| raise(demand, &mut room));
            if raised.count() == 0 {
                break;
            }
        }
        start += equals.max(1);
    }
}

/// Raises a demand by one rung, if there is one, and room for it.
fn raise(demand: &mut Demand, room: &mut Room) -> Option<()> {
    let now = demand.chosen?;
    let free = room.left_bps + demand.rate_bps(now)?;
    if demand.needed_bps(now + 1, room)? > free {
        return None;
    }
    room.left_bps = free.saturating_sub(demand.rate_bps(now + 1)?);
    demand.chosen = Some(now + 1);
    Some(())
}

/// Where a sender stands on its ladder.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// How far its receiver wants it to climb.
    pub(super) preference: Preference,
    /// Encoding and layers; `None` before the first choice, or when it is off.
    rung: Option<(u8, Most)>,
    /// When that was chosen.
    since: Option<Instant>,
    /// Nothing that it sends is late before this: it began with packets that had come long before.
    pub(super) excused_until: Option<Instant>,
}

/// What goes on in another process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StandingSnapshot {
    preference: Preference,
    rung: Option<(u8, Most)>,
    since: Option<Age>,
}

impl Standing {
    /// What another process goes on with.
    pub(super) fn snapshot(&self, now: Instant) -> StandingSnapshot {
        StandingSnapshot {
            preference: self.preference,
            rung: self.rung,
            since: self.since.map(|at| Age::of(now, at)),
        }
    }

    /// Goes on where another process ended.
    pub(super) fn restore(now: Instant, snapshot: &StandingSnapshot) -> Standing {
        Standing {
            preference: snapshot.preference,
            rung: snapshot.rung,
            since: snapshot.since.map(|age| age.before(now)),
            excused_until: None,
        }
    }

    /// Another stream: nothing was chosen yet.
    pub(super) fn begin_anew(&mut self) {
        (self.rung, self.since) = (None, None);
    }
}

impl Engine {
    /// Works out anew what the session of this sender is sent.
    pub(super) fn allocate_for(&mut self, now: Instant, key: SenderKey) {
        if let Some(sender) = self.senders.get(key) {
            let session = sender.session;
            self.allocate(now, session);
        }
    }

    /// Works out what a session is sent of its pictures.
    pub(super) fn allocate(&mut self, now: Instant, key: SessionKey) {
        let mut demands = std::mem::take(&mut self.demands);
        demands.clear();
        let (mut audio_bps, mut wanted_bps) = (0, 0);
        // Before it is connected nothing is sent, and its network is not known to be known.
        let session = self.sessions.get(key);
        let Some(session) = session.filter(|session| session.is_connected) else {
            self.demands = demands;
            return;
        };
        for &(key, _) in &session.senders {
            let Some(sender) = self.senders.get(key) else {
                continue;
            };
            if sender.spec.kind == MediaKind::Audio {
                audio_bps += self.audio_bps(now, sender).unwrap_or(0);
            } else if let Some(demand) = self.demand(now, key) {
                let top = demand.len.checked_sub(1);
                wanted_bps += top.and_then(|top| demand.rate_bps(top)).unwrap_or(0);
                demands.push(demand);
            }
        }
        let budget = session.budget().map(|budget| Budget {
            now_bps: budget.now_bps.saturating_sub(audio_bps),
            steady_bps: budget.steady_bps.saturating_sub(audio_bps),
        });
        let downlink = session.downlink.as_ref();
        let is_searching = downlink.is_some_and(|downlink| downlink.is_searching(now));
        demands.sort_by_key(|demand| std::cmp::Reverse(demand.priority));
        if is_searching {
            for demand in &mut demands {
                let smallest = (demand.len > 0).then_some(0);
                demand.chosen = demand.before.or(smallest);
            }
        } else {
            share(budget, &mut demands);
        }
        for demand in &demands {
            self.ask_again(now, demand.sender);
            self.carry_out_choice(now, demand, is_searching);
        }
        self.demands = demands;
        let wanted_bps = (audio_bps + wanted_bps) * ROOM_TO_RISE / 100;
        let session = self.sessions.get_mut(key);
        if let Some(downlink) = session.and_then(|session| session.downlink.as_mut()) {
            downlink.handle_wanted(wanted_bps);
        }
    }

    /// What a sender of audio weighs.
    fn audio_bps(&self, now: Instant, sender: &Sender) -> Option<u64> {
        let track = self.tracks.get(sender.source.as_ref()?.track)?;
        let rate = track.meter.rate_bps(SPATIAL_ALL, TEMPORAL_ALL);
        rate.filter(|_| track.meter.flows(now))
    }

    /// What a sender of video could be sent.
    fn demand(&self, now: Instant, key: SenderKey) -> Option<Demand> {
        let sender = self.senders.get(key)?;
        let source = sender.source.as_ref()?;
        let encodings = self.names.tracks.get(&source.stream)?;
        let mut demand = Demand {
            sender: key,
            priority: sender.standing.preference.priority,
            rungs: [None; RUNGS_MAX],
            len: 0,
            before: None,
            may_rise: sender
                .standing
                .since
                .is_none_or(|since| now.saturating_duration_since(since) >= RISE_AFTER),
            chosen: None,
        };
        for (rank, (key, track)) in self.by_weight(now, encodings).iter().flatten().enumerate() {
            let encoding = Encoding {
                key: *key,
                track,
                rank: rank as u8,
                is_only: encodings.len() == 1,
                is_flat: track.needs_descriptor()
                    && sender.spec.extensions.dependency_descriptor.is_none(),
            };
            encoding.climb(&mut demand, sender.standing.preference.most);
        }
        let rungs = demand.rungs.iter().take(demand.len);
        demand.before = sender.standing.rung.and_then(|standing| {
            rungs
                .rev()
                .position(|rung| rung.is_some_and(|rung| rung.is_within(standing)))
        });
        demand.before = demand.before.map(|from_top| demand.len - 1 - from_top);
        Some(demand)
    }

    /// The encodings that flow, the lightest first: some clients name the largest first. Those that weigh
    /// nearly the same stay in the client's order.
    fn by_weight(
        &self,
        now: Instant,
        encodings: &[TrackKey],
    ) -> [Option<(TrackKey, &Track)>; ENCODINGS_MAX] {
        let mut sorted = [None; ENCODINGS_MAX];
        let known = encodings
            .iter()
            .filter_map(|key| Some((*key, self.tracks.get(*key)?)));
        let flowing = known.filter(|(_, track)| track.meter.flows(now));
        for (place, encoding) in sorted.iter_mut().zip(flowing) {
            *place = Some(encoding);
        }
        let weight = |encoding: &Option<(TrackKey, &Track)>| {
            let (_, track) = encoding.as_ref()?;
            track.meter.rate_bps(SPATIAL_ALL, TEMPORAL_ALL)
        };
        for unsorted in (1..ENCODINGS_MAX).rev() {
            for at in 0..unsorted {
                let pair = sorted.get(at).zip(sorted.get(at + 1));
                let weights = pair.and_then(|(one, next)| weight(one).zip(weight(next)));
                if weights.is_some_and(|(one, next)| one > next + next / 4) {
                    sorted.swap(at, at + 1);
                }
            }
        }
        sorted
    }

    /// Asks once more for the key frame that a sender waits for, after it left something out: its publisher may
    /// not have heard.
    fn ask_again(&mut self, now: Instant, key: SenderKey) {
        let sender = self.senders.get(key);
        let waiting = sender.filter(|sender| sender.thinning.awaits_keyframe());
        let source = waiting.and_then(|sender| sender.source.as_ref());
        if let Some(track) = source.map(|source| source.track) {
            self.request_keyframe(now, track);
        }
    }

    fn carry_out_choice(&mut self, now: Instant, demand: &Demand, is_searching: bool) {
        let Some(sender) = self.senders.get_mut(demand.sender) else {
            return;
        };
        let is_wanted = sender.standing.preference.most != Quality::Off;
        // Nothing flows of it: what was chosen stays, for when it does again.
        if demand.len == 0 && is_wanted {
            return;
        }
        let rung = demand
            .chosen
            .and_then(|chosen| demand.rungs.get(chosen).copied().flatten());
        let standing = rung.map(|rung| (rung.encoding, rung.most));
        if sender.standing.since.is_some() && sender.standing.rung == standing {
            // A browser does not heed a request for a key frame that follows another closely.
            let source = sender.source.as_ref();
            if let Some(track) = source.and_then(FeedState::awaits) {
                self.request_keyframe(now, track);
            }
            return;
        }
        let sent = match rung {
            Some(rung) => Sent::Layers {
                encoding: rung.rank,
                spatial: rung.most.spatial,
                temporal: rung.most.temporal,
            },
            None if is_wanted => Sent::NoRoom,
            None => Sent::Unwanted,
        };
        let loses_layers = match (sender.standing.rung, standing) {
            (Some((encoding, before)), Some((same, after))) => {
                encoding == same && after.spatial < before.spatial && demand.chosen < demand.before
            }
            (_, None) | (None, _) => false,
        };
        // What was chosen before anything was known is not to be kept for a while.
        let since = if is_searching {
            now.checked_sub(RISE_AFTER)
        } else {
            Some(now)
        };
        (sender.standing.rung, sender.standing.since) = (standing, since);
        let (id, session) = (sender.spec.sender, sender.session);
        let read = sender
            .source
            .as_ref()
            .and_then(|source| self.tracks.get(source.track));
        let thinned_bps = read.and_then(|track| track.meter.rate_bps(SPATIAL_ALL, 0));
        let until_then = match (demand.chosen < demand.before, rung) {
            (true, Some(rung)) if thinned_bps.is_none_or(|bps| bps > rung.rate_bps) => {
                UntilThen::Nothing
            }
            (true, _) => UntilThen::Thinned,
            (false, _) => UntilThen::Same,
        };
        let choice = rung.map_or(Choice::Off, |rung| Choice::Encoding {
            track: rung.track,
            most: rung.most,
            until_then,
        });
        if let Some(session) = self.sessions.get(session) {
            self.events.push_back(Event::Chosen {
                session: session.id,
                sender: id,
                sent,
            });
        }
        self.choose(now, demand.sender, choice);
        if let Some(rung) = rung.filter(|_| loses_layers) {
            // What has filled the way has lost parts of pictures whose layers will not come any more, and
            // Chromium waits for them for three seconds before it asks.
            self.request_keyframe(now, rung.track);
        }
    }
}

/// An encoding on its way onto a ladder.
struct Encoding<'a> {
    key: TrackKey,
    track: &'a Track,
    /// Its place among those that flow, by weight.
    rank: u8,
    /// Whether the stream has no other.
    is_only: bool,
    /// Whether the receiver can do nothing with its higher spatial layers.
    is_flat: bool,
}

impl Encoding<'_> {
    /// Adds its rungs to a ladder, as far as the receiver wants them.
    fn climb(&self, demand: &mut Demand, most: Quality) {
        let layer_most = match most {
            Quality::Off => return,
            Quality::Layer(layer) => layer,
            Quality::Best => u8::MAX,
        };
        if !self.is_only && self.rank > layer_most {
            return;
        }
        let meter = &self.track.meter;
        let temporal_layers = meter.temporal_layers();
        for spatial in 0..meter.spatial_layers() {
            if (self.is_only && spatial > layer_most) || (self.is_flat && spatial > 0) {
                return;
            }
            // The smallest picture may be slow; a larger one is no better than it while it stutters.
            let is_smallest = self.rank == 0 && spatial == 0;
            let least = if is_smallest { 0 } else { temporal_layers - 1 };
            for temporal in least..temporal_layers {
                match meter.rate_bps(spatial, temporal) {
                    Some(rate_bps) => demand.push(self.rung(spatial, temporal, rate_bps)),
                    // It has just begun: it is taken for light until it has been weighed.
                    None if demand.len == 0 => demand.push(self.rung(spatial, temporal, 0)),
                    None => {}
                }
            }
        }
    }

    fn rung(&self, spatial: u8, temporal: u8, rate_bps: u64) -> Rung {
        let meter = &self.track.meter;
        // The highest layer stands for all that may come.
        let all_or = |most: u8, layers: u8, all: u8| if most + 1 >= layers { all } else { most };
        let spatial_all = if self.is_flat { 0 } else { SPATIAL_ALL };
        Rung {
            track: self.key,
            encoding: self.track.encoding,
            rank: self.rank,
            most: Most {
                spatial: all_or(spatial, meter.spatial_layers(), spatial_all),
                temporal: all_or(temporal, meter.temporal_layers(), TEMPORAL_ALL),
            },
            rate_bps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::slab::Key;

    /// A picture with rungs of these weights, in kbit/s, that stands on one of them.
    fn demand(priority: u8, rates: &[u64], before: Option<usize>, may_rise: bool) -> Demand {
        let mut demand = Demand {
            sender: Key::of_nothing(),
            priority,
            rungs: [None; RUNGS_MAX],
            len: 0,
            before,
            may_rise,
            chosen: None,
        };
        for (encoding, rate) in rates.iter().enumerate() {
            demand.push(Rung {
                track: Key::of_nothing(),
                encoding: encoding as u8,
                rank: encoding as u8,
                most: Most::default(),
                rate_bps: rate * 1_000,
            });
        }
        demand
    }

    fn shares(budget_kbps: u64, mut demands: Vec<Demand>) -> Vec<Option<usize>> {
        let now_bps = budget_kbps * 1_000;
        let budget = Budget {
            now_bps,
            steady_bps: now_bps,
        };
        share(Some(budget), &mut demands);
        demands.iter().map(|demand| demand.chosen).collect()
    }

    const CAMERA: [u64; 3] = [150, 500, 1_500];

    #[test]
    fn everybody_gets_a_picture_first_and_priority_gets_the_rest() {
        let camera = |priority| demand(priority, &CAMERA, None, true);
        let room = || vec![camera(2), camera(1), camera(1)];
        assert_eq!(shares(10_000, room()), [Some(2), Some(2), Some(2)]);
        assert_eq!(shares(2_000, room()), [Some(2), Some(0), Some(0)]);
        assert_eq!(shares(2_700, room()), [Some(2), Some(1), Some(1)]);
        assert_eq!(shares(1_000, room()), [Some(1), Some(0), Some(0)]);
        assert_eq!(shares(340, room()), [Some(0), Some(0), None]);
        assert_eq!(shares(100, room()), [None, None, None]);
        let mut without_estimate = room();
        share(None, &mut without_estimate);
        assert!(
            without_estimate
                .iter()
                .all(|demand| demand.chosen == Some(2))
        );
    }

    #[test]
    fn a_picture_rises_with_room_to_spare_and_after_a_while_and_falls_at_once() {
        let at = |before, may_rise| vec![demand(0, &CAMERA, Some(before), may_rise)];
        assert_eq!(shares(520, at(0, true)), [Some(0)], "too little to spare");
        assert_eq!(shares(520, at(1, true)), [Some(1)], "enough to stay");
        assert_eq!(shares(600, at(0, true)), [Some(1)]);
        let mut passing = at(0, true);
        let budget = Budget {
            now_bps: 600_000,
            steady_bps: 500_000,
        };
        share(Some(budget), &mut passing);
        assert_eq!(
            passing[0].chosen,
            Some(0),
            "what a probe showed may not last"
        );
        assert_eq!(shares(600, at(0, false)), [Some(0)], "too soon");
        assert_eq!(shares(490, at(1, false)), [Some(0)]);
        assert_eq!(shares(120, at(0, false)), [Some(0)], "a little too heavy");
        assert_eq!(shares(100, at(0, false)), [None]);
    }

    #[test]
    fn a_rung_that_weighs_no_more_than_the_one_below_takes_its_place() {
        let screen = demand(0, &[40, 40, 900], None, true);
        assert_eq!(screen.len, 2);
        assert_eq!(screen.rungs[0].map(|rung| rung.encoding), Some(1));
    }
}
