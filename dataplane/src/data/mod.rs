//! Data channels (RFC 8831) of a session that negotiated them: SCTP without IO, in the slow lane
//! beside DTLS.
//!
//! ```text
//!   DTLS application data ──► Gate ──► the crate's association ──► DataTransport ──► DataEvent
//!   DTLS application data ◄── Gate::observe ◄── the crate ◄── DataTransport ◄── DataRequest
//! ```
//!
//! The `webrtc-sctp` crate speaks SCTP. It takes streams, jumps of its numbers, requests to reset
//! streams and error causes as they come, so the [`gate`] stands in front of it and writes each
//! packet anew: bounded, well formed, and without what the crate could neither read nor forget.
//! What opens a channel (RFC 8832) is read and written here.
//!
//! In reading order:

mod channel;
mod dcep;
mod gate;
mod pace;
mod packet;
mod transport;

#[cfg(any(test, feature = "sim"))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
pub(crate) mod tests;

pub use channel::{
    ChannelSpec, DataDrops, DataEvent, DataRequest, Message, MessageKind, Reliability,
};
pub use transport::DataTransport;
