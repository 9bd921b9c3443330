//! The one place of the dataplane that reads the clocks.

use std::time::{Instant, SystemTime};

/// The time of a turn.
#[expect(
    clippy::disallowed_methods,
    reason = "the driver is the shell that gives the engine its time"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// One instant on both clocks.
#[expect(
    clippy::disallowed_methods,
    reason = "the driver is the shell that gives the engine its time"
)]
pub(super) fn epoch() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}
