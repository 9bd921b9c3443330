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

// What is known of the database and of the other nodes.
pub mod clock;
pub mod registry;
pub mod worklist;

/// The decisions.
pub mod desk;

// The database: what is asked of it, what its stream says, and how it is reached.
mod client;
mod delay;
mod encoding;
mod hearing;
mod listener;
mod query;
mod writing;

// What ties them together.
mod outbox;
pub mod share;
pub mod shell;

pub use client::{Database, Place, Trouble};
