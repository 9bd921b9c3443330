//! The Firestore door: pages and nodes meet in one database.
//!
//! ```text
//!  listener ─► Heard ──┐                      ┌──► Write, Read, Find ─► client ─► database
//!  client ─► Written ──┼─► desk::Desk ─► Effect
//!  node ─► ended, load ┘                      └──► Serve, HangUp ─► node
//! ```
//!
//! [`desk`] decides and does no IO. In reading order:

/// Documents, what is heard of them, and writes.
pub mod message;

/// The decisions.
pub mod desk;
