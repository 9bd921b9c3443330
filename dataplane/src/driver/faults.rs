//! Faults on demand: a shim in the driver through which tests make a worker panic and the kernel refuse.
//! Without the feature `sim` there is nothing in it.

#[cfg(feature = "sim")]
use std::sync::Arc;

/// What is to go wrong in one worker. Clones are about the same worker.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    not(feature = "sim"),
    expect(unreachable_pub, reason = "tests see it, by the feature")
)]
pub struct Faults {
    #[cfg(feature = "sim")]
    plan: Arc<plan::Plan>,
}

impl Faults {
    /// Panics if that was asked for. Called in every turn.
    pub(super) fn strike(&self) {
        #[cfg(feature = "sim")]
        self.plan.strike();
    }

    /// The error that this send is to fail with, instead of reaching the kernel.
    pub(super) fn of_send(&self, datagrams: usize) -> Option<i32> {
        #[cfg(feature = "sim")]
        return self.plan.of_send(datagrams);
        #[cfg(not(feature = "sim"))]
        {
            let _ = datagrams;
            None
        }
    }
}

#[cfg(feature = "sim")]
mod plan {
    use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
    use std::time::Duration;

    use super::Faults;

    #[derive(Debug, Default)]
    pub(super) struct Plan {
        panics: AtomicBool,
        errno: AtomicI32,
        /// Sends that still fail.
        sends: AtomicUsize,
        /// Sends of fewer datagrams succeed.
        datagrams_min: AtomicUsize,
        /// How long each send takes the worker, at least.
        send_us: AtomicU64,
    }

    impl Faults {
        /// The worker's next turn panics.
        pub fn panic_next_turn(&self) {
            self.plan.panics.store(true, Ordering::Release);
        }

        /// The next `sends` sends of at least so many datagrams in one piece fail with this error of the kernel's.
        pub fn refuse_sends(&self, errno: i32, sends: usize, datagrams_min: usize) {
            self.plan.errno.store(errno, Ordering::Relaxed);
            self.plan
                .datagrams_min
                .store(datagrams_min, Ordering::Relaxed);
            self.plan.sends.store(sends, Ordering::Release);
        }

        /// Each send takes the worker this long from now on, so that a few of them are all that it can do,
        /// however fast the machine is.
        pub fn slow_sends(&self, each: Duration) {
            let us = each.as_micros() as u64;
            self.plan.send_us.store(us, Ordering::Relaxed);
        }

        /// Sends that still have to fail.
        #[must_use]
        pub fn sends_left(&self) -> usize {
            self.plan.sends.load(Ordering::Acquire)
        }
    }

    impl Plan {
        pub(super) fn strike(&self) {
            if self.panics.load(Ordering::Acquire) && self.panics.swap(false, Ordering::AcqRel) {
                panic!("a test asked for it");
            }
        }

        pub(super) fn of_send(&self, datagrams: usize) -> Option<i32> {
            self.take_time();
            let left = self.sends.load(Ordering::Acquire);
            if left == 0 || datagrams < self.datagrams_min.load(Ordering::Relaxed) {
                return None;
            }
            // Only the worker takes from it.
            self.sends.store(left - 1, Ordering::Release);
            Some(self.errno.load(Ordering::Relaxed))
        }

        #[expect(
            clippy::disallowed_methods,
            reason = "the worker is to be busy, and the tests' machine is not"
        )]
        fn take_time(&self) {
            let us = self.send_us.load(Ordering::Relaxed);
            if us > 0 {
                std::thread::sleep(Duration::from_micros(us));
            }
        }
    }
}
