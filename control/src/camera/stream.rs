//! What a camera sends, as its description (RFC 4566) and its parameter sets say.

/// A stream that can be forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// How it is coded.
    pub codec: CameraCodec,
    /// RTP clock rate, Hz: what the packets for the engine count in.
    pub clock_rate: u32,
    /// Width and height in pixels, where that is known.
    pub resolution: Option<(u32, u32)>,
}

/// How a camera's stream is coded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameraCodec {
    /// H.264 (RFC 6184), packetization mode 1.
    H264 {
        /// `profile-level-id` as the parameter sets truthfully say.
        profile_level_id: [u8; 3],
    },
    /// H.265 (RFC 7798).
    H265 {
        /// `profile-id`.
        profile_id: u8,
        /// `tier-flag`.
        tier: bool,
        /// `level-id`.
        level_id: u8,
    },
    /// G.711 mu-law (RFC 3551 section 4.5.14), 8 kHz, one channel.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// Opus (RFC 7587).
    Opus,
}
