//! The one place of the dataplane that reads the clocks.

use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

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

/// The time since the machine began, which is the same for all processes. [`now`] runs with it.
pub(super) fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.max(0) as u32)
}
