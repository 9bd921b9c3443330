//! A timer of microseconds. The runtime's own counts in milliseconds, and what is held for less than
//! one would be held for two.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use super::uring::watch;

/// A timer of the kernel's on the runtime's epoll. It is never read: epoll watches it edge-triggered, so
/// each time that it rings is news.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    /// When it rings, or rang.
    at: Instant,
}

impl Alarm {
    /// Not set. Must be called on the worker's runtime.
    pub(super) fn new(now: Instant) -> io::Result<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Alarm {
            timer: watch(timer)?,
            at: now,
        })
    }

    /// Rings at `due`, or before: setting it is a system call, so a time that is further off than
    /// what it is set to is only taken once that is over.
    pub(super) fn set(&mut self, now: Instant, due: Instant) -> io::Result<()> {
        if self.at <= due && now < self.at {
            return Ok(());
        }
        // Zero would switch it off.
        let wait = due
            .saturating_duration_since(now)
            .max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: timespec(wait),
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        self.at = due;
        Ok(())
    }

    /// Waits until it rings.
    pub(super) async fn rings(&self) {
        match self.timer.readable().await {
            Ok(mut guard) => guard.clear_ready(),
            // The runtime is ending.
            Err(_) => pending().await,
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs() as i64,
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock;
    use super::*;

    fn on_a_runtime<T>(test: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(test)
    }

    #[test]
    fn rings_in_time_again_and_again_and_sooner_when_told() {
        on_a_runtime(async {
            let begun = clock::now();
            let mut alarm = Alarm::new(begun).unwrap();
            for round in 1..=20 {
                let due = begun + Duration::from_micros(300) * round;
                alarm.set(clock::now(), due).unwrap();
                alarm.rings().await;
                assert!(clock::now() >= due);
            }
            let now = clock::now();
            alarm.set(now, now + Duration::from_secs(3_600)).unwrap();
            alarm.set(now, now + Duration::from_micros(300)).unwrap();
            alarm.rings().await;
            assert!(clock::now() < now + Duration::from_secs(3_600));
        });
    }

    #[test]
    fn a_time_that_is_over_rings_at_once() {
        on_a_runtime(async {
            let now = clock::now();
            let mut alarm = Alarm::new(now).unwrap();
            alarm.set(now, now).unwrap();
            alarm.rings().await;
        });
    }
}
