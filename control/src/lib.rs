//! Control: what the node does about what clients ask for.
//!
//! ```text
//!  signaling's doors ──► node ──► room::Rooms ──► effects ──► node ──► dataplane's workers
//!                                     ▲                        │
//!                                     └──── events ◄───────────┘
//! ```
//!
//! [`room`] decides and does no IO; [`node`] carries out. Nothing here knows packets or SDP's
//! grammar.
//!
//! In reading order:

pub mod bitrate;
pub mod cli;
pub mod config;

pub mod addresses;

pub mod room;

pub mod metrics;

pub mod node;

pub mod banner;
pub mod serve;

pub mod doctor;
