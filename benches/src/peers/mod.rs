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
mod reception;

mod answer;
mod offer;
mod roster;
mod sections;

mod histogram;
mod picture;
mod publishers;

pub mod clip;
pub mod tune;
mod vp8;
