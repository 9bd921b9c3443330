//! What payloads end with here, so that whoever gets one knows whose it is.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::id::TrackId;

/// Bytes of a tail.
pub(super) const TAIL_LEN: usize = 20;

/// How tails begin.
const MAGIC: [u8; 4] = *b"mill";

/// Who made a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// By place in the world's list.
    pub(super) client: u32,
    /// For which track; `None` where only the engine can know.
    pub(super) track: Option<TrackId>,
    /// Counts the client's packets.
    pub(super) count: u32,
}

impl Tail {
    /// As it is written.
    pub(super) fn bytes(&self) -> [u8; TAIL_LEN] {
        let TrackId(track) = self.track.unwrap_or(TrackId(u64::MAX));
        let mut bytes = [0; TAIL_LEN];
        let parts = MAGIC
            .into_iter()
            .chain(self.client.to_be_bytes())
            .chain(track.to_be_bytes())
            .chain(self.count.to_be_bytes());
        for (place, byte) in bytes.iter_mut().zip(parts) {
            *place = byte;
        }
        bytes
    }

    /// What a payload ends with.
    pub(super) fn read(payload: &[u8]) -> Option<Tail> {
        let bytes: &[u8; TAIL_LEN] = payload.last_chunk()?;
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (client, rest) = rest.split_first_chunk::<4>()?;
        let (track, rest) = rest.split_first_chunk::<8>()?;
        let track = u64::from_be_bytes(*track);
        (*magic == MAGIC).then_some(Tail {
            client: u32::from_be_bytes(*client),
            track: (track != u64::MAX).then_some(TrackId(track)),
            count: u32::from_be_bytes(*rest.first_chunk()?),
        })
    }
}

/// By which two byte strings are told apart.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
