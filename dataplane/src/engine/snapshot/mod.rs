//! An engine's state as plain data, for the process that takes over from this one.
//!
//! What is carried is what cannot be made anew without a client noticing: credentials and paths, keys with
//! the indices that are used up, replay windows, numbers, clocks, and what feeds what. Not carried is what
//! comes back by itself: packets in the logs, the history of the estimators, speech, and whatever had not connected yet.
//!
//! Times are ages, in microseconds before the time of the snapshot; both processes have the same monotonic clock.

mod session;
mod stream;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use self::session::SessionSnapshot;
use self::stream::StreamSnapshot;
use super::timers::Timers;
use super::{Engine, EngineConfig};
use crate::id::SessionId;

/// The form of a snapshot. Fields that an older reader may do without do not change it.
pub const SNAPSHOT_VERSION: u32 = 1;

/// What an engine hands to the one that takes over.
#[derive(Debug, Serialize, Deserialize)]
pub struct EngineSnapshot {
    /// Of the form of the rest.
    version: u32,
    /// One instant on both clocks: NTP times go on without a jump.
    epoch: (Age, Duration),
    streams: Vec<StreamSnapshot>,
    sessions: Vec<SessionSnapshot>,
}

/// Why a snapshot was not taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Its form is not known here.
    #[error("the snapshot has version {0}, and this program reads version {SNAPSHOT_VERSION}")]
    UnknownVersion(u32),
    /// It is not what it claims to be.
    #[error("the snapshot cannot be read: {0}")]
    Malformed(String),
    /// More sessions than may be.
    #[error(
        "the snapshot has {sessions} sessions on one worker, and this one takes {sessions_max}"
    )]
    TooMany {
        /// So many came.
        sessions: usize,
        /// So many are taken.
        sessions_max: usize,
    },
    /// Parts of it do not fit each other.
    #[error("the snapshot contradicts itself: {0}")]
    Inconsistent(&'static str),
}

/// A time as microseconds before the snapshot's.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Age(u64);

impl Age {
    /// The age of `at`.
    pub(super) fn of(now: Instant, at: Instant) -> Age {
        Age(now.saturating_duration_since(at).as_micros() as u64)
    }

    /// The time that had this age at `now`.
    pub(super) fn before(self, now: Instant) -> Instant {
        // The clock began when the machine did, before both processes.
        now.checked_sub(Duration::from_micros(self.0))
            .unwrap_or(now)
    }
}

impl EngineSnapshot {
    /// As bytes. They hold every key: they go to the process that takes over, and nowhere else.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data with text for keys can always be written")
    }

    /// Reads what [`EngineSnapshot::encode`] wrote.
    ///
    /// # Errors
    /// An unknown version, or bytes that are something else.
    pub fn decode(bytes: &[u8]) -> Result<EngineSnapshot, RestoreError> {
        let malformed = |error: serde_json::Error| RestoreError::Malformed(error.to_string());
        let snapshot: EngineSnapshot = serde_json::from_slice(bytes).map_err(malformed)?;
        match snapshot.version {
            SNAPSHOT_VERSION => Ok(snapshot),
            other => Err(RestoreError::UnknownVersion(other)),
        }
    }

    /// The sessions in it.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.iter().map(SessionSnapshot::id)
    }
}

impl Engine {
    /// Lets go of everything that waits: held packets, paced video, feedback. The caller drains
    /// [`Engine::poll_transmit`] next, and then takes the snapshot.
    pub fn handle_take_over(&mut self, now: Instant) {
        self.send_all_feedback();
        self.let_go(now);
    }

    /// What another engine goes on with. This one must send nothing any more once the other does.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> EngineSnapshot {
        let (epoch, wall) = self.config.epoch;
        let mut sessions: Vec<SessionSnapshot> = self
            .sessions
            .keys()
            .filter_map(|key| self.session_snapshot(now, key))
            .collect();
        sessions.sort_by_key(SessionSnapshot::id);
        let mut streams: Vec<StreamSnapshot> = self
            .names
            .tracks
            .values()
            .filter_map(|encodings| self.stream_snapshot(now, encodings))
            .collect();
        streams.sort_by_key(StreamSnapshot::id);
        EngineSnapshot {
            version: SNAPSHOT_VERSION,
            epoch: (
                Age::of(now, epoch),
                wall.duration_since(UNIX_EPOCH).unwrap_or_default(),
            ),
            streams,
            sessions,
        }
    }

    /// An engine that goes on where another ended, at the same `now`.
    ///
    /// # Errors
    /// A snapshot that does not fit the configuration, or itself.
    pub fn restore(
        mut config: EngineConfig,
        now: Instant,
        snapshot: EngineSnapshot,
    ) -> Result<Engine, RestoreError> {
        let (sessions, sessions_max) = (snapshot.sessions.len(), config.sessions_max);
        if sessions > sessions_max {
            return Err(RestoreError::TooMany {
                sessions,
                sessions_max,
            });
        }
        let (age, wall) = snapshot.epoch;
        config.epoch = (age.before(now), SystemTime::UNIX_EPOCH + wall);
        let mut engine = Engine::new(config);
        engine.timers = Timers::new(now);
        let mut opened = Vec::with_capacity(sessions);
        for session in snapshot.sessions {
            opened.push(engine.restore_session(now, session)?);
        }
        for stream in snapshot.streams {
            engine.restore_stream(now, stream)?;
        }
        for (key, rest) in opened {
            engine.restore_media(now, key, rest)?;
        }
        Ok(engine)
    }
}
