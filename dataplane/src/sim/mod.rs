//! A whole world in one process and virtual time: the engine, scripted peers, and a seeded network
//! between them. The engine is the real one, and so are DTLS, SRTP, STUN and RTP; only sockets,
//! clocks and threads are missing.
//!
//! ```text
//!   Peer ──► Link ──► Engine ──► Link ──► Peer        World: who is next, and what must hold
//!                       │ ▲
//!                       ▼ │ DtlsInput, Command
//!                   Associations
//! ```
//!
//! A peer is also good over real sockets: the load generator drives the same code.
//! What makes a simulation differ from its repetition is the handshakes alone, whose keys are the
//! system's randomness: sizes of signatures and all ciphertext, but no decision of the engine.
//!
//! In reading order:

pub mod network;

pub mod script;

pub mod source;

pub mod checks;
mod protection;
mod publication;
pub mod reception;

pub mod meeting;
pub mod peer;
pub mod take_over;
pub mod world;
