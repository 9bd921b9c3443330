//! Thousands of cheap clients: real ICE, DTLS and SRTP, one thread, and no more work per packet than
//! counting needs. They come by WHIP and WHEP to any server, by our room protocol, or by Janus's.
//!
//! ```text
//!   scene ──► door: HTTP, WebSocket          one offer and answer each          (tokio)
//!     │         │ LegSpec
//!     │         ▼
//!     └──► Flock ──► Leg ──► Received, Sent  epoll, one socket a client         (its own thread)
//! ```
//!
//! [`crate::peers`] are fewer, dearer clients that ask for repairs and show pictures; these here count.
//! A leg is a state machine without IO; only `flock` and the doors touch sockets and clocks.
//!
//! In reading order:

pub mod row;
pub mod scene;
pub mod soak;

pub mod door;
mod janus;
mod room;
mod whip;

mod description;

pub mod crowd;
mod flock;
mod leg;
mod received;
mod sent;

pub mod media;
