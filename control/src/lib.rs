//! Control: what the node does about what clients ask for.
//!
//! ```text
//!  signaling's doors ──► node ──► room::Rooms ──► effects ──► node ──► dataplane's workers
//!                                     ▲                        │
//!                                     └──── events ◄───────────┘
//! ```
//!
//! [`room`] decides and does no IO; [`node`] carries out. Nothing here knows packets or SDP's
//! grammar, but for those of cameras ([`camera`]).
//!
//! In reading order:

// What the program is told: flags, environment and file.
pub mod bitrate;
pub mod cli;
pub mod config;
pub mod hold;

// Where clients can reach the node.
pub mod addresses;

// Who is where, what they publish, and what the engine is to do about it.
pub mod room;

// Cameras that are pulled into rooms.
pub mod camera;

// What stands between doors and workers, and what it counts.
pub mod metrics;
pub mod node;

// Pages and nodes that meet in a database.
pub mod firestore;

// One program after another, in the middle of calls.
pub mod take_over;

// A node from start to orderly end.
pub mod banner;
pub mod gate;
pub mod serve;

// What this machine allows, and what to set.
pub mod doctor;
