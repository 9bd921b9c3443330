//! The nouns that name things: ids that control chooses, and numbers that RTP carries.

use serde::{Deserialize, Serialize};

/// A session: one ICE and DTLS association with one client. Chosen by control, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// A published stream (one `m=` section that the client sends on). Chosen by control, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TrackId(pub u64);

/// An outgoing stream of a session (one `m=` section that the client receives on), which may be
/// fed by one track after another. Chosen by control, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SenderId(pub u64);

/// A data channel of a session: its SCTP stream (RFC 8831 section 6.2). Chosen by the client, and
/// used again after it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u16);

/// Tracks whose voices compete: those of a room. Chosen by control, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupId(pub u64);

/// A synchronisation source (RFC 3550 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ssrc(pub u32);

/// An RTP payload type, 0 to 127 (RFC 3550 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PayloadType(pub u8);

/// What a track's packets are made of: an index into the track's [`TrackSpec::formats`].
///
/// [`TrackSpec::formats`]: crate::command::TrackSpec::formats
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FormatIndex(pub u8);

/// A media description's identification tag (RFC 9143), as carried in the MID header extension:
/// at most 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Mid {
    bytes: [u8; Mid::LEN_MAX],
    len: u8,
}

impl Mid {
    /// The longest tag accepted: what a one-byte extension header can carry (RFC 8285 section 4.2).
    pub const LEN_MAX: usize = 16;

    /// The tag, or `None` when it is empty or longer than [`Mid::LEN_MAX`].
    #[must_use]
    pub fn new(tag: &[u8]) -> Option<Mid> {
        let mut bytes = [0; Mid::LEN_MAX];
        if tag.is_empty() {
            return None;
        }
        bytes.get_mut(..tag.len())?.copy_from_slice(tag);
        Some(Mid {
            bytes,
            len: tag.len() as u8,
        })
    }

    /// The tag's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl From<Mid> for Vec<u8> {
    fn from(mid: Mid) -> Vec<u8> {
        mid.as_bytes().to_vec()
    }
}

impl TryFrom<Vec<u8>> for Mid {
    type Error = &'static str;

    fn try_from(tag: Vec<u8>) -> Result<Mid, &'static str> {
        Mid::new(&tag).ok_or("a tag is empty or too long")
    }
}

/// Names one encoding of a stream that is sent in several (RFC 8851), as carried in the RTP stream id
/// header extension (RFC 8852): at most 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rid(Mid);

impl Rid {
    /// The id, or `None` when it is empty or longer than [`Mid::LEN_MAX`].
    #[must_use]
    pub fn new(id: &[u8]) -> Option<Rid> {
        Mid::new(id).map(Rid)
    }

    /// The id's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Rid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rid({})", self.as_bytes().escape_ascii())
    }
}

impl std::fmt::Debug for Mid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mid({})", self.as_bytes().escape_ascii())
    }
}
