//! SRTP (RFC 3711, 7714) over aws-lc-rs: no allocation, one pass from one buffer into another.
//!
//! A key is stateless: the caller keeps each source's packet index, estimated for what arrives by
//! [`SequenceWindow`] and counted for what leaves. **A sealing key must never see an SSRC and index
//! twice**: for AES-GCM that gives away plaintext and authentication key both (RFC 7714 section 14.1).

mod cipher;
mod control;
mod derivation;
mod key;
mod sequence;
#[cfg(target_arch = "x86_64")]
mod wide;
#[cfg(not(target_arch = "x86_64"))]
#[path = "narrow.rs"]
mod wide;

#[cfg(feature = "sim")]
pub mod fuzz;

#[cfg(test)]
mod vectors;

pub use control::{RtcpKeys, RtcpProgress, RtcpRefused};
pub use key::{KeyError, OpenKey, SealKey, Unauthenticated};
pub use sequence::SequenceWindow;
