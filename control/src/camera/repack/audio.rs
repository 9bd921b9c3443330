//! Sound as it comes: G.711 (RFC 3551 section 4.5.14) and Opus (RFC 7587).

use super::out::Writer;
use crate::camera::limits::RTP_PAYLOAD_MAX;

/// Samples of G.711, a byte each, in a packet that had to be cut: 120 ms.
const G711_PIECE: usize = 960;

/// How a sound is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sound {
    /// G.711, of either law.
    G711,
    /// Opus.
    Opus,
}

impl Sound {
    /// A payload. `false` where it cannot be passed on: Opus that fits no packet.
    pub(super) fn handle_payload(self, payload: &[u8], marker: bool, out: &mut Writer<'_>) -> bool {
        if payload.len() <= RTP_PAYLOAD_MAX {
            out.packet(&[payload], marker);
            return true;
        }
        if self == Sound::Opus {
            return false;
        }
        for (n, piece) in payload.chunks(G711_PIECE).enumerate() {
            out.packet(&[piece], marker && n == 0);
            out.timestamp = out.timestamp.wrapping_add(piece.len() as u32);
        }
        true
    }
}
