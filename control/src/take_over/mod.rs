//! Replacing the running program without dropping a call: `millrace upgrade`.
//!
//! ```text
//!   the new program                       the running one
//!   Hello, the versions it reads ──────►  the same user? known versions?
//!                        ◄─────────────── Terms, and the sockets (SCM_RIGHTS)
//!   checks all that it can; Begin ─────►  signalling stands still
//!                        ◄─────────────── Rooms
//!   reads them; Freeze ────────────────►  media stands still
//!                        ◄─────────────── State, and an Engine for each worker
//!   makes engines of them; Ready ──────►
//!   runs them            ◄─────────────── Yours; ends
//! ```
//!
//! Until `Yours` the running program may change its mind, and does when the line breaks, the other side fails or takes
//! too long: it goes on, and the new one has sent nothing. From `Yours` on it sends nothing, whatever happens.
//! Secrets pass over the socket and are never in a file. See docs/decisions/0010-take-over.md.

mod giving;
mod line;
mod taking;

use std::net::SocketAddr;

use dataplane::engine::SNAPSHOT_VERSION;
use serde::{Deserialize, Serialize};

use crate::room::ROOMS_VERSION;

pub use giving::{Offer, Request, is_there, listen};
pub use line::Broken;
pub use taking::{TakeOverError, Taken, take_over};

/// The conversation itself; both sides must speak the same.
const CONVERSATION_VERSION: u32 = 1;

/// What the new program says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hello {
    conversation: u32,
    /// The form of engines' state that it reads.
    engine: u32,
    /// The form of rooms that it reads.
    rooms: u32,
    /// Its version, for the log.
    program: String,
}

impl Hello {
    /// Of this program.
    fn ours() -> Hello {
        Hello {
            conversation: CONVERSATION_VERSION,
            engine: SNAPSHOT_VERSION,
            rooms: ROOMS_VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Whether a program that says this reads what this one writes; what is wrong otherwise.
    fn check(&self) -> Result<(), String> {
        let ours = Hello::ours();
        let forms = [
            ("conversation", self.conversation, ours.conversation),
            ("engines", self.engine, ours.engine),
            ("rooms", self.rooms, ours.rooms),
        ];
        for (what, theirs, ours) in forms {
            if theirs != ours {
                return Err(format!(
                    "the running node has version {ours} of {what}, and the new one reads version {theirs}: stop the old one and start the new one"
                ));
            }
        }
        Ok(())
    }
}

/// What the new program has to fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// How many workers run.
    pub workers: usize,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where worker 0 listens.
    pub media: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_form_is_a_sentence() {
        assert_eq!(Hello::ours().check(), Ok(()));
        let other = Hello {
            engine: 999,
            ..Hello::ours()
        };
        let said = other.check().unwrap_err();
        assert!(said.contains("engines") && said.contains("999"), "{said}");
    }
}
