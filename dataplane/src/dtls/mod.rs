//! DTLS-SRTP (RFC 5763, 5764) in the slow lane: a handshake costs as much as hundreds of packets,
//! so it runs on threads of its own and meets the engine only through values. Data channels
//! ([`crate::data`]) live here too, inside the associations of the sessions that have them.
//!
//! ```text
//!   Engine::poll_dtls ──► Lane::try_send ──► [thread] Associations::handle_input
//!   Engine::handle_command ◄── deliver ◄──── Associations::poll_command
//! ```
//!
//! The `webrtc-dtls` crate runs the handshake. In front of it stands our own reading of records,
//! because that crate holds up to 2 MB of fragments for each association, lets any plaintext alert
//! end a handshake, and takes its cipher suite and profile by the client's order. What reaches it
//! is: handshake messages that are complete, in order and not seen before; one kind of cookie; and
//! encrypted records.
//!
//! In reading order:

pub mod certificate;
pub mod certificates;
pub mod client_hello;

mod cookie;
mod reassembly;
mod record;

pub mod association;
pub mod associations;
pub mod lane;

pub use association::{Association, AssociationEvent};
pub use associations::Associations;
pub use certificate::Certificate;
pub use certificates::Certificates;
pub use lane::Lane;
