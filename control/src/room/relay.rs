//! Tracks on workers where their publishers' sessions do not live.
//!
//! A track lives where its publisher's session does. Where sessions on another worker are fed from
//! it, that worker imports it and its home exports it, once, as long as there is such a section.
//! The home is told first and the sections last, so that a key frame that is asked for is relayed.

use std::collections::BTreeMap;

use dataplane::command::Command;
use dataplane::id::TrackId;

use super::Rooms;

/// For each track and each worker that imports it, how many sections it feeds there.
#[derive(Debug, Default)]
pub(super) struct Relays(pub(super) BTreeMap<(TrackId, usize), usize>);

impl Relays {
    /// Workers that import a track.
    fn of(&self, track: TrackId) -> Vec<usize> {
        let all = self.0.range((track, 0)..=(track, usize::MAX));
        all.map(|((_, worker), _)| *worker).collect()
    }
}

impl Rooms {
    /// One more section on `worker` is about to be fed from `track`.
    pub(super) fn relay_to(&mut self, track: TrackId, worker: usize) {
        let Some(published) = self.tracks.get(&track) else {
            return;
        };
        let home = published.worker;
        if home == worker {
            return;
        }
        let count = self.relays.0.entry((track, worker)).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
        let spec = Box::new(published.spec.clone());
        // First who is to take it: a home that has a whole group to hand over begins at once.
        self.command(
            worker,
            Command::Import {
                track: spec,
                from: home,
            },
        );
        self.command(home, Command::Export { track, to: worker });
    }

    /// One section fewer on `worker` is fed from `track`.
    pub(super) fn unrelay(&mut self, track: TrackId, worker: usize) {
        let Some(count) = self.relays.0.get_mut(&(track, worker)) else {
            return;
        };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.relays.0.remove(&(track, worker));
        if let Some(published) = self.tracks.get(&track) {
            let home = published.worker;
            self.command(home, Command::EndExport { track, to: worker });
        }
        self.command(worker, Command::Unpublish { track });
    }

    /// A track has other formats or extensions now: whoever imports it is told.
    pub(super) fn relay_again(&mut self, track: TrackId) {
        let Some(published) = self.tracks.get(&track) else {
            return;
        };
        let (home, spec) = (published.worker, published.spec.clone());
        for worker in self.relays.of(track) {
            let track = Box::new(spec.clone());
            self.command(worker, Command::Import { track, from: home });
        }
    }

    /// A track is gone, and with it the exports at its home.
    pub(super) fn end_relays(&mut self, track: TrackId) {
        for worker in self.relays.of(track) {
            self.relays.0.remove(&(track, worker));
            self.command(worker, Command::Unpublish { track });
        }
    }

    /// A worker has forgotten everything: nothing is to be sent there any more.
    pub(super) fn end_relays_to(&mut self, lost: usize) {
        let imported = self.relays.0.keys().filter(|(_, worker)| *worker == lost);
        let imported: Vec<TrackId> = imported.map(|(track, _)| *track).collect();
        for track in imported {
            self.relays.0.remove(&(track, lost));
            if let Some(published) = self.tracks.get(&track) {
                let home = published.worker;
                self.command(home, Command::EndExport { track, to: lost });
            }
        }
    }
}
