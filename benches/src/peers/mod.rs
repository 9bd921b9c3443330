//! Real clients against a real node: people who meet over the room protocol, with ICE, DTLS and
//! SRTP over UDP sockets, who send recorded media that a browser can show and hear.
//!
//! ```text
//!   meeting ──► drive: WebSocket, UDP socket, timer        one task a person
//!                 │ handle_*            ▲ poll_*
//!                 ▼                     │
//!               Person ──► Roster, Sections ──► offer; Answer ──► dataplane::sim::peer::Peer
//!                 │
//!                 └─► Picture: frames as a browser would show them, freezes
//! ```
//!
//! A person is a state machine without IO; only `drive` and `meeting` touch sockets and clocks.
//!
//! In reading order:

pub mod meeting;
pub mod report;

mod drive;
pub mod process;
mod socket;

mod person;
pub(crate) mod reception;

pub(crate) mod answer;
pub(crate) mod offer;
pub(crate) mod roster;
mod sections;

pub(crate) mod histogram;
mod picture;
pub(crate) mod publishers;

pub mod clip;
pub mod encodings;
pub mod tune;
pub(crate) mod vp8;
