//! How clients ask for a meeting: SDP, WHIP, WHEP, WebSocket, and the web page.
//!
//! ```text
//!  page ── WebSocket ─┐
//!  encoder ── WHIP ───┤ doors ──► sdp::Offer ──► Node (a trait: control implements it)
//!  player ── WHEP ────┘   ◄── answer (SDP) ◄──────┘
//! ```
//!
//! The server answers; it never offers. Nothing here knows packets, rooms' state or databases.
//!
//! In reading order:

pub mod name;
pub mod node;
pub mod sdp;
