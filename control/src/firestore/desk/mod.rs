//! The desk: which offers this node answers, when, and what it writes about it.
//!
//! [`Desk`] is a state machine without IO. Call any `handle_*`, then drain [`Desk::poll_effect`]
//! until it returns `None`; call [`Desk::handle_timeout`] at the time of [`Desk::poll_timeout`].
//! Time and randomness are arguments. [`Effect::Serve`] is carried out at once and its result given
//! to [`Desk::handle_served`] before the next effect is taken.

mod counters;
mod effect;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use signaling::name::RoomName;
use signaling::node::Refusal;

use super::message::{Document, Heard, Written};

pub use counters::Counters;
pub use effect::{
    Answered, Effect, Find, Kind, Link, Load, ReadId, RequestId, RoomView, Serve, WriteId,
};

/// What the desk is told at birth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeskConfig {
    /// Our id in the registry: stays the same when the node starts again.
    pub node: String,
    /// Random for each start: tells this process from an earlier or a second one of the same id.
    pub incarnation: String,
    /// Where clients reach us, for people who read the registry.
    pub addresses: String,
    /// Where our HTTP doors are, for people who read the registry.
    pub http: String,
    /// Our version.
    pub version: String,
    /// How long the registry believes in us without a heartbeat.
    pub lease: Duration,
    /// Rooms that we take from the database at most.
    pub broadcasts_max: usize,
    /// Media sessions that the node takes at most, through all doors.
    pub sessions_max: usize,
}

/// The state machine of the Firestore door.
#[derive(Debug)]
pub struct Desk {
    config: DeskConfig,
    effects: VecDeque<Effect>,
    counters: Counters,
}

impl Desk {
    /// A desk that has heard of nothing yet.
    #[must_use]
    pub fn new(config: DeskConfig, _seed: u64) -> Desk {
        Desk {
            config,
            effects: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// The listener heard something.
    pub fn handle_heard(&mut self, _now: Instant, _heard: Heard) {}

    /// A write came to an end.
    pub fn handle_written(&mut self, _now: Instant, _id: WriteId, _written: Written) {}

    /// A read came to an end: the document, or that there is none, or why nobody knows.
    pub fn handle_read(
        &mut self,
        _now: Instant,
        _id: ReadId,
        _read: Result<Option<Document>, String>,
    ) {
    }

    /// A search came to an end.
    pub fn handle_found(
        &mut self,
        _now: Instant,
        _id: ReadId,
        _found: Result<Vec<Document>, String>,
    ) {
    }

    /// The session of [`Effect::Serve`] was made or refused.
    pub fn handle_served(
        &mut self,
        _now: Instant,
        _id: &RequestId,
        _served: Result<Answered, Refusal>,
    ) {
    }

    /// A session ended by itself, for a reason that ends a sentence: `the media connection was lost`.
    /// Not for those that the desk ended.
    pub fn handle_ended(&mut self, _now: Instant, _id: &RequestId, _reason: &str) {}

    /// A room of this node, whatever door made it, looks like this now; `None` when it is gone.
    pub fn handle_room(&mut self, _now: Instant, _room: &RoomName, _view: Option<RoomView>) {}

    /// How busy the node is.
    pub fn handle_load(&mut self, _now: Instant, _load: Load) {}

    /// Whether the database is reached has changed.
    pub fn handle_link(&mut self, _now: Instant, _link: Link) {}

    /// No new rooms from now on; meetings go on. See [`Desk::is_idle`].
    pub fn handle_drain(&mut self, _now: Instant) {}

    /// The node ends: pages are told in their documents and the registry forgets us. See
    /// [`Desk::is_over`].
    pub fn handle_end(&mut self, _now: Instant) {}

    /// The time of [`Desk::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// When [`Desk::handle_timeout`] wants to be called, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether pages that offer now will be served by us, and why not.
    ///
    /// # Errors
    /// A sentence for `/readyz`.
    pub fn ready(&self) -> Result<(), String> {
        Err(format!("{} has not met the database yet", self.config.node))
    }

    /// Whether no document's session is left: what a draining node waits for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Whether everything is written that [`Desk::handle_end`] asked for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        true
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
