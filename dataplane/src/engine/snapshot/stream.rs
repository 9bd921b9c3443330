//! Published streams in a snapshot.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::RestoreError;
use crate::command::TrackSpec;
use crate::engine::Engine;
use crate::engine::clock::RemoteClock;
use crate::engine::track::{EncodingSnapshot, Home, TrackKey};
use crate::id::{SessionId, TrackId};

/// A stream with its encodings.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StreamSnapshot {
    spec: TrackSpec,
    home: HomeSnapshot,
    encodings: Vec<EncodingSnapshot>,
    exports: Vec<usize>,
}

/// Where it is published.
#[derive(Debug, Serialize, Deserialize)]
enum HomeSnapshot {
    Session(SessionId),
    Worker(usize, RemoteClock),
}

impl StreamSnapshot {
    /// Its id.
    pub(super) fn id(&self) -> TrackId {
        self.spec.track
    }
}

impl Engine {
    /// `None` for a stream whose session is not carried, or which a feed publishes, here or elsewhere: its source
    /// begins anew with the process.
    pub(super) fn stream_snapshot(
        &self,
        now: Instant,
        encodings: &[TrackKey],
    ) -> Option<StreamSnapshot> {
        let tracks = || encodings.iter().filter_map(|key| self.tracks.get(*key));
        if tracks().any(|track| track.is_fed) {
            return None;
        }
        let first = tracks().next()?;
        let home = match first.home {
            Home::Session(key) => {
                let session = self.sessions.get(key).filter(|its| its.is_carried())?;
                HomeSnapshot::Session(session.id)
            }
            Home::Worker(worker, clock) => HomeSnapshot::Worker(worker, clock),
        };
        let spec = TrackSpec {
            // Each encoding knows its own only.
            sources: tracks()
                .flat_map(|track| track.spec.sources.clone())
                .collect(),
            ..first.spec.clone()
        };
        Some(StreamSnapshot {
            spec,
            home,
            encodings: tracks().map(|track| track.snapshot(now)).collect(),
            exports: first.exports.iter().map(|export| export.to).collect(),
        })
    }

    /// Publishes or imports it as it was. A publisher whose descriptors refer to what was lost with the other
    /// process is asked for a key frame.
    pub(super) fn restore_stream(
        &mut self,
        now: Instant,
        snapshot: StreamSnapshot,
    ) -> Result<(), RestoreError> {
        let id = snapshot.spec.track;
        let home = match snapshot.home {
            HomeSnapshot::Session(session) => {
                let key = self.names.sessions.get(&session);
                let unknown = RestoreError::Inconsistent("a stream's session is missing");
                Home::Session(*key.ok_or(unknown)?)
            }
            HomeSnapshot::Worker(worker, clock) => Home::Worker(worker, clock),
        };
        if self.names.tracks.contains_key(&id) {
            return Err(RestoreError::Inconsistent("a stream is there twice"));
        }
        self.add_stream(home, &snapshot.spec);
        for (encoding, carried) in snapshot.encodings.iter().enumerate() {
            let key = self.names.encoding(id, encoding as u8);
            let (Some(key), Some(track)) = (key, key.and_then(|key| self.tracks.get_mut(key)))
            else {
                return Err(RestoreError::Inconsistent(
                    "a stream has too many encodings",
                ));
            };
            track.restore(now, carried);
            if carried.has_structure {
                self.request_keyframe(now, key);
            }
        }
        for to in snapshot.exports {
            let _ = self.export(now, id, to);
        }
        Ok(())
    }
}
