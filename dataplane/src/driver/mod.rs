//! Sockets, threads and clocks: the only module that does IO.
//!
//! ```text
//!   control ── Command ──►┌──────────────── worker n, one thread ───────────────┐
//!                         │ turn: commands → receive → timeout → transmit       │
//!   UDP port + n ◄───────►│ Link (uring or msg)      Engine                     │── Event ──► control
//!   TCP port + n ◄───────►│ Tcp (ICE-TCP, RFC 6544)                             │
//!   other workers ◄──────►│ Relay: packets of tracks that are heard on several  │
//!   Feeders ─────────────►│ Feeds: packets of publishers without a transport    │
//!                         └───────────▲──────────────────────┬──────────────────┘
//!                                     └─ Command ── lane ◄───┘ DtlsInput
//! ```
//!
//! A worker shares nothing with another; values cross threads over bounded queues only. What differs
//! between io_uring and plain sockets is behind `Link`; the turn is the same code for both.

mod alarm;
mod clock;
mod config;
mod core;
mod dataplane;
mod failures;
mod faults;
mod feed;
mod framing;
mod lane;
mod link;
mod meter;
mod msg;
mod outbox;
mod queue;
mod relay;
mod socket;
mod take_over;
mod tcp;
mod turn;
mod uring;
mod worker;

#[cfg(test)]
mod cost;
#[cfg(test)]
mod tests;

pub use config::{DataplaneConfig, DriverChoice, DriverKind, UnknownDriver};
pub use dataplane::{Dataplane, QueueFull, StartError, WorkerInfo};
#[cfg(feature = "sim")]
pub use faults::Faults;
pub use feed::Feeder;
pub use socket::BindError;
pub use take_over::{FreezeError, Frozen, Handover, Heir};
