//! Setting up a ring, and saying why there is none.

use std::io;

use io_uring::{IoUring, Probe, opcode};

use crate::limits::{RECEIVE_BUFFERS, SEND_SLOTS};

/// Completion entries: every receive buffer and every slot, twice over, so that it never overflows.
pub(super) const COMPLETIONS: u32 = (2 * (RECEIVE_BUFFERS + SEND_SLOTS)).next_power_of_two() as u32;

/// Submission entries: every slot, and a re-armed receive.
pub(super) const ENTRIES: u32 = (2 * SEND_SLOTS) as u32;

/// How a ring is set up, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// Completions are processed only when we ask (kernel 6.1).
    Deferred,
    /// Completions do not interrupt us (kernel 5.19).
    Cooperative,
    /// As it always was.
    Plain,
}

/// A ring of this kind, with so many completion entries.
pub(super) fn build(setup: Setup, completions: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(completions);
    match setup {
        Setup::Deferred => {
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_taskrun_flag();
        }
        Setup::Cooperative => {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        Setup::Plain => {}
    }
    builder.build(ENTRIES)
}

/// Asks the kernel whether sends and receives are there and allowed.
pub(super) fn require_operations(ring: &IoUring) -> io::Result<()> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| explain("asking for its operations", &error))?;
    for (name, code) in [
        ("RECVMSG", opcode::RecvMsg::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
    ] {
        if !probe.is_supported(code) {
            return Err(io::Error::other(format!(
                "the kernel's io_uring has no {name}"
            )));
        }
    }
    Ok(())
}

/// Says what was refused, and where to look.
pub(super) fn explain(what: &str, error: &io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => {
            ": see the sysctl kernel.io_uring_disabled, or the container's seccomp profile"
        }
        Some(libc::ENOSYS) => ": the kernel or the container's seccomp profile has no io_uring",
        Some(libc::ENOMEM) => ": see the limit of locked memory (ulimit -l)",
        Some(libc::EINVAL) => ": the kernel is too old, 6.0 is needed",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{what}: {error}{hint}"))
}
