//! Checked views over what peers send, and writers of what we send (RFC 3550, 8285, 4585, 8489, 2198),
//! and what packets say of layers (RFC 7741, 9628, 6184, 7798, AV1's payload format).
//!
//! A view is made by a `parse` that checks every length once; its accessors then cannot fail, and
//! nothing here panics or allocates whatever the bytes. The crates `rtp`, `rtcp` and `stun` read the
//! same bytes in the tests and must agree.

pub mod av1;
pub mod demux;
pub mod dependency_descriptor;
pub mod extension;
pub mod keyframe;
pub mod layer;
pub mod nal;
pub mod picture;
pub mod red;
pub mod rtcp;
pub mod rtcp_writer;
pub mod rtp;
pub mod stun;
pub mod stun_writer;
pub mod transport_feedback;
pub mod vp8;
pub mod vp9;

mod crc32;

#[cfg(any(test, feature = "sim"))]
pub mod fuzz;

#[cfg(test)]
pub(crate) mod generator;

pub use demux::{Protocol, classify};
pub use extension::ExtensionBlock;
pub use keyframe::VideoCodec;
pub use layer::Layer;
pub use picture::{Picture, PictureId};
pub use rtcp::{ReportBlock, RtcpPacket};
pub use rtcp_writer::RtcpWriter;
pub use rtp::{RtpHeader, RtpView, padding_len};
pub use stun::{BindingRequest, IntegrityKey};
pub use stun_writer::{write_binding_error, write_binding_success, write_unknown_attribute};
pub use transport_feedback::FeedbackView;

/// Why bytes from the network were not understood. Counted, never logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// The bytes end before the fixed part does.
    #[error("shorter than its fixed part")]
    Truncated,
    /// A version number or magic cookie that is not this protocol's.
    #[error("not the version that we speak")]
    Version,
    /// A length or count field that points past the end.
    #[error("a length or count points past the end")]
    Length,
    /// Trailing padding whose count is zero or more than there is (RFC 3550 sections 5.1 and 6.4.1).
    #[error("padding that counts more than there is")]
    Padding,
    /// Something that must be there is missing or has no allowed value.
    #[error("a required part is missing or has no allowed value")]
    Field,
    /// The FINGERPRINT of a STUN message does not match (RFC 8489 section 14.7).
    #[error("the fingerprint does not match")]
    Fingerprint,
}

/// The big-endian number at `offset`, or `None` where it ends past the bytes.
fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let (number, _) = bytes.get(offset..)?.split_first_chunk()?;
    Some(u16::from_be_bytes(*number))
}

/// The big-endian number at `offset`, or `None` where it ends past the bytes.
fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let (number, _) = bytes.get(offset..)?.split_first_chunk()?;
    Some(u32::from_be_bytes(*number))
}

/// The big-endian number at `offset`, or `None` where it ends past the bytes.
fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let (number, _) = bytes.get(offset..)?.split_first_chunk()?;
    Some(u64::from_be_bytes(*number))
}
