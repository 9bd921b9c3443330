//! Whether the database is reached, and what is said about it.

use std::time::Instant;

use super::{Desk, Link, limits};
use crate::firestore::message::Target;

/// Whether the database is reached.
#[derive(Debug, Default)]
pub(super) struct Reach {
    state: State,
    /// The sentence of a denial that stands.
    denied: Option<String>,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing was heard of it yet.
    #[default]
    Unmet,
    /// It is reached, since then.
    Up(Instant),
    /// It is not, for this reason.
    Down(String),
}

impl Reach {
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }
}

impl Desk {
    pub(super) fn on_link(&mut self, now: Instant, link: Link) {
        match link {
            Link::Up => {
                if !self.reach.is_up() {
                    self.reach.state = State::Up(now);
                    self.outbox.handle_up();
                    self.reads.handle_up();
                    self.station.on_up();
                    self.census.on_listen(now);
                    self.next_tick = Some(now);
                    self.tick_station(now);
                }
                self.reach.denied = None;
            }
            Link::Down(reason) => self.reach.state = State::Down(reason),
            Link::Denied(reason) => {
                self.on_denied(&reason);
                self.reach.state = State::Down(reason);
            }
        }
    }

    /// The database refuses us: one alarm until it does no longer.
    pub(super) fn on_denied(&mut self, reason: &str) {
        if self.reach.denied.is_none() {
            self.alarm(format!(
                "the database refuses this node: {reason}; check its credentials and roles"
            ));
        }
        self.reach.denied = Some(reason.to_owned());
    }

    /// The database did what we asked.
    pub(super) fn on_allowed(&mut self, now: Instant) {
        if self.reach.denied.take().is_some() && self.reach.is_up() {
            // The others were refused too, and are as late as we are.
            self.reach.state = State::Up(now);
        }
    }

    /// Whether we have been connected for so long that a lapsed lease counts.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        match self.reach.state {
            State::Up(since) => now >= since + limits::SETTLE,
            State::Unmet | State::Down(_) => false,
        }
    }

    /// Whether offers can be looked at.
    pub(super) fn can_judge(&self) -> bool {
        self.able_since.is_some()
            && !self.station.is_ending()
            && self.worklist.is_current(Target::Work)
    }

    /// Takes note of when offers can be served and when not.
    pub(super) fn update_ability(&mut self, now: Instant) {
        let able = self.reach.is_up()
            && self.reach.denied.is_none()
            && self.station.is_registered()
            && self.registry.node(&self.config.node).is_some()
            && self.worklist.has_been_current(Target::Nodes)
            && self.worklist.has_been_current(Target::Work);
        match (able, self.able_since) {
            (true, None) => {
                self.able_since = Some(now);
                self.cases.restart(now);
            }
            (false, Some(_)) => self.able_since = None,
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Whether pages that offer now will be served by us, and why not.
    ///
    /// # Errors
    /// A sentence for `/readyz`.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(reason) = &self.reach.denied {
            return Err(format!("the database refuses this node: {reason}"));
        }
        match &self.reach.state {
            State::Unmet => return Err("the database was not reached yet".to_owned()),
            State::Down(reason) => return Err(format!("the database is not reached: {reason}")),
            State::Up(_) => {}
        }
        self.station.check()?;
        if self.able_since.is_none() {
            return Err("the node is not in the registry yet".to_owned());
        }
        Ok(())
    }
}
