//! Lets cameras through one after the other: a hundred that reconnect at once are no stampede.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep_until;

use super::super::limits::{CONNECT_SPACING, CONNECTS_AT_ONCE};
use super::gate::now;

/// The turnstile of a thread.
pub(super) struct Turnstile {
    places: std::sync::Arc<Semaphore>,
    next: Cell<Option<Instant>>,
}

/// A place among those that connect; given back when it is dropped.
pub(super) struct Pass(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);

impl Turnstile {
    pub(super) fn new() -> Rc<Turnstile> {
        Rc::new(Turnstile {
            places: std::sync::Arc::new(Semaphore::new(CONNECTS_AT_ONCE)),
            next: Cell::new(None),
        })
    }

    /// Waits for a place, and for a moment after the one before.
    pub(super) async fn enter(&self) -> Pass {
        let permit = self.places.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let now = now();
        let at = self.next.get().map_or(now, |next| next.max(now));
        self.next.set(Some(at + CONNECT_SPACING));
        sleep_until(at.into()).await;
        Pass(permit)
    }
}
