//! Every limit of what cameras may send and how they are asked, with unit and reason.

use std::time::Duration;

/// Bytes of payload in a packet for the engine: with header, extensions, a retransmission's number and the tag it
/// stays under the 1,280 bytes of the smallest path of IPv6.
pub const RTP_PAYLOAD_MAX: usize = 1_180;

/// Bytes of a parameter set. Those of real cameras have 10 to 120; scaling lists make some hundred.
pub const SET_BYTES_MAX: usize = 1_024;

/// Parameter sets that are kept for a stream: one of each kind is common, a handful of picture parameter sets not rare.
pub const SETS_MAX: usize = 16;

/// Pictures that are left out at the start, or after the camera came back, while there was no key frame. After them the
/// rest is let through: some cameras refresh by stripes and never send one. 300 are ten seconds and more.
pub const PICTURES_BEFORE_KEY_MAX: u32 = 300;

/// Milliseconds by which a timestamp may be off the time that passed, or lag behind it, before it counts as a jump.
pub const TIMESTAMP_JUMP_MS: u64 = 3_000;

/// Milliseconds by which a timestamp may be below an earlier one: pictures in decoding order go back by less.
pub const TIMESTAMP_BACK_MS: u64 = 1_000;

/// Missing numbers that are passed on as a gap; more are a camera that began anew, and a gap of one.
pub const GAP_MAX: u16 = 1_000;

/// Numbers by which a packet may be late; one that is later is of a camera that began anew.
pub const LATE_MAX: u16 = 100;

/// Bytes of an answer's head. Real ones have less than 1,000.
pub const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// Bytes of an answer's body. Descriptions have some 500 to 2,000.
pub const BODY_BYTES_MAX: usize = 64 * 1_024;

/// Streams in a description that are looked at: picture, sound, metadata, and their like for a second sensor.
pub const MEDIA_MAX: usize = 16;

/// Bytes that are read from a camera at once: an interleaved packet is at most as long (RFC 2326 section 10.12).
pub const READ_BYTES: usize = 64 * 1_024;

/// Packets for the engine that a read brings, of pictures with some sound among them: each of the camera's may become
/// two. So much room the worker's queue has to have before they are handed over.
pub const READ_PACKETS_MAX: usize = 256;

/// How long a camera waits for that room; then packets are lost. A worker that fails is back by then or slow to be.
pub const ROOM_TIME: Duration = Duration::from_millis(200);

/// How often it looks whether there is room: key frames of a hundred cameras at once are taken in a few of these.
pub const ROOM_LOOK: Duration = Duration::from_millis(1);

/// Bytes of a datagram from a camera: as the loopback interface's.
pub const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Datagrams that are taken from one socket before others have their turn.
pub const DATAGRAMS_PER_TURN: usize = 64;

/// Bytes of socket buffer for datagrams of one stream: a key frame of 4K in one burst.
pub const DATAGRAM_BUFFER: usize = 2 * 1_024 * 1_024;

/// Bits per second from one camera's connection: four times what 4K at 30 pictures takes. What sends more for
/// [`FLOOD_TIME`] is hung up on.
pub const BITRATE_BPS_MAX: u64 = 100_000_000;

/// How long a camera may send more than [`BITRATE_BPS_MAX`]: a key frame after a stall comes at the speed of the network.
pub const FLOOD_TIME: Duration = Duration::from_secs(2);

/// For connecting, TLS included.
pub const CONNECT_TIME: Duration = Duration::from_secs(5);

/// For all of the conversation until packets may come; names are resolved within it.
pub const SET_UP_TIME: Duration = Duration::from_secs(10);

/// Without a packet for this long a camera is away.
pub const SILENCE_TIME: Duration = Duration::from_secs(10);

/// How long a camera that is not wanted is listened to for what its description does not say.
pub const LEARN_TIME: Duration = Duration::from_secs(5);

/// The first wait before a camera that is away is tried again.
pub const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest wait.
pub const RETRY_MAX: Duration = Duration::from_secs(60);

/// A camera that played for this long is tried again after [`RETRY_MIN`].
pub const RETRY_FORGIVEN: Duration = Duration::from_secs(30);

/// Cameras that one thread connects to at a time.
pub const CONNECTS_AT_ONCE: usize = 8;

/// Between two connects of one thread.
pub const CONNECT_SPACING: Duration = Duration::from_millis(10);

/// Redirects that are followed for one connect.
pub const REDIRECTS_MAX: usize = 3;

/// Sources of a camera: what simulcast has at most.
pub const SOURCES_MAX: usize = 3;

/// Sentences about what is not forwarded, for one camera.
pub const REMARKS_MAX: usize = 8;

/// Orders that wait for one thread, and events that wait for control.
pub const QUEUE: usize = 4_096;

/// Between two reports of figures.
pub const FIGURES_EVERY: Duration = Duration::from_secs(1);

const _: () = assert!(RTP_PAYLOAD_MAX + 12 <= dataplane::limits::DATAGRAM_BYTES_MAX);
const _: () = assert!(SET_BYTES_MAX + 3 <= RTP_PAYLOAD_MAX);
const _: () = assert!(LATE_MAX < GAP_MAX);
