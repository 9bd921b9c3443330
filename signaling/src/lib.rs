//! How clients ask for a meeting: SDP, WHIP, WHEP, WebSocket, and the web page.
//!
//! ```text
//!  page ── WebSocket ─┐
//!  encoder ── WHIP ───┤ doors ──► sdp::Offer ──► Node (a trait: control implements it)
//!  player ── WHEP ────┘   ◄── answer (SDP) ◄──────┘
//!  document (control brings it) ──► firestore::Request ──► sdp::Offer
//! ```
//!
//! The server answers; it never offers. Nothing here knows packets, rooms' state or databases.
//!
//! In reading order:

/// Cameras, as they are asked for and shown.
pub mod camera;
/// WHIP, WHEP, REST, probes and the page, over HTTP.
pub mod doors;
/// Documents of a Firestore database: requests in, answers out.
pub mod firestore;
/// Rooms' and people's names.
pub mod name;
/// The trait that the doors call.
pub mod node;
/// How good a picture somebody wants.
pub mod quality;
/// Offers in, answers out.
pub mod sdp;
/// The page's protocol, over a WebSocket.
pub mod ws;
#[cfg(feature = "fuzz")]
pub use ws::conversation;

/// The part of it that is spoken on a data channel.
pub mod channel;
