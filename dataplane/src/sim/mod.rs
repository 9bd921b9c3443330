//! A whole world in one process and virtual time: the engine, scripted peers, and a seeded network
//! between them. The engine is the real one, and so are DTLS, SRTP, STUN and RTP; only sockets,
//! clocks and threads are missing.
//!
//! In reading order:

pub mod network;
