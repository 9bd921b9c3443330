//! Every bound of the packet engine, with its reason and unit. Nothing on the packet path grows past these.

use std::time::Duration;

/// Sessions on one worker. A session is about a socket's worth of state; the pool is made at start.
pub const SESSIONS_MAX: usize = 10_000;

/// Published tracks of one session: camera, microphone, screen and its sound, and room to spare.
pub const TRACKS_PER_SESSION_MAX: usize = 16;

/// Outgoing streams of one session: both kinds of a hundred people.
pub const SENDERS_PER_SESSION_MAX: usize = 256;

/// Payload types of one track: Chromium offers at most 20 video formats beside their RTX.
pub const FORMATS_MAX: usize = 32;

/// SSRCs that one track may learn from its packets: media, its RTX, and changes over its life.
pub const SSRCS_PER_TRACK_MAX: usize = 8;

/// Sources of authentic control packets of one session: every stream that it sends or receives.
pub const RTCP_SOURCES_MAX: usize =
    SENDERS_PER_SESSION_MAX + TRACKS_PER_SESSION_MAX * SSRCS_PER_TRACK_MAX;

/// Paths of one session that answered checks may come from: interfaces of a laptop, IPv4 and IPv6, TCP.
pub const PATHS_PER_SESSION_MAX: usize = 16;

/// Largest datagram taken or made, in bytes: an Ethernet frame without its headers.
pub const DATAGRAM_BYTES_MAX: usize = 1500;

/// Largest burst in one send, in bytes: what a UDP length field allows with GSO.
pub const BURST_BYTES_MAX: usize = 65_000;

/// Segments in one send: `UDP_MAX_SEGMENTS` of Linux before 6.9.
pub const BURST_SEGMENTS_MAX: usize = 64;

/// Packets kept of a video track for retransmission: about 1 s at 4 Mbit/s.
pub const VIDEO_LOG_PACKETS: usize = 512;

/// Packets kept of an audio track: 1.28 s of 20 ms frames.
pub const AUDIO_LOG_PACKETS: usize = 64;

/// A peer without a valid check for this long is gone (RFC 7675 section 5.1).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A session that no check ever reached ends after this long.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Key frames are asked of one source at most this often.
pub const KEYFRAME_INTERVAL_MIN: Duration = Duration::from_millis(500);

/// Between sender and receiver reports of one session.
pub const RTCP_INTERVAL: Duration = Duration::from_secs(1);

/// Between two reports of a worker to control.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Datagrams that wait for the handshake threads, in all.
pub const DTLS_QUEUE_LEN: usize = 4_096;

const _: () = assert!(
    DATAGRAM_BYTES_MAX <= BURST_BYTES_MAX,
    "one datagram must fit a burst"
);
const _: () = assert!(
    VIDEO_LOG_PACKETS.is_power_of_two() && AUDIO_LOG_PACKETS.is_power_of_two(),
    "logs are indexed by masks"
);
