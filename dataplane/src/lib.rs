//! Packets: the forwarding engine, which never does IO, and the drivers that do it.
//!
//! ```text
//!            datagrams            commands (control)          time
//!                │                      │                      │
//!   driver ──► Engine::handle_datagrams  handle_command   handle_timeout
//!                │
//!                │ address → session → unprotect → track's log (plaintext, once)
//!                ▼
//!   driver ◄── Engine::poll_transmit   one burst to one address, sealed into the caller's slot
//!   lane   ◄── Engine::poll_dtls       DTLS datagrams and data channels, for the handshake threads
//!   control◄── Engine::poll_event      sessions opening and closing, who speaks
//!   others ◄─► Engine::poll_relay, handle_relay   packets for the engines of other workers
//!   feeders ─► Engine::handle_feed     packets of publishers without a transport, such as cameras
//! ```
//!
//! What a subscriber's network carries is worked out by [`estimate`], which knows packets by number and size only.
//!
//! Nothing here knows rooms, SDP, HTTP or databases. Outside [`driver`] there is no socket, clock,
//! thread, lock or log line, and nothing on the packet path allocates.
//!
//! In reading order:

mod hexed;

pub mod id;
pub mod limits;
pub mod load;

pub mod wire;

pub mod srtp;

pub mod command;
pub mod counters;
pub mod event;
pub mod relay;
pub mod transmit;

pub mod estimate;

pub mod engine;

pub mod data;
pub mod dtls;

pub mod driver;

#[cfg(feature = "sim")]
pub mod sim;
