//! The page's protocol over a WebSocket, as `docs/websocket.md` has it.
//!
//! ```text
//! socket ◄─► connection (IO, the clock) ─► protocol (no IO) ─► actions ─► Node, socket
//!                  ▲ room events, answers ─────┘
//! ```

/// The shell: one task for each socket.
mod connection;
#[cfg(feature = "fuzz")]
mod fuzz;
/// The messages and how they look as JSON.
mod message;
/// What to do when: a state machine without IO, which the simulator of control drives too.
mod protocol;
#[cfg(test)]
mod tests;

pub(crate) use connection::upgrade;
#[cfg(feature = "fuzz")]
pub use fuzz::conversation;
pub(crate) use message::{CHAT_CHARS_MAX, brief, to_text};
pub use protocol::{Action, CloseCode, Joined, Protocol};
