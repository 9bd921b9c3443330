//! What the lane is asked to do, and what it says.

use dataplane::id::{PayloadType, SessionId, Ssrc};

use super::stream::Stream;
use super::url::CameraUrl;

/// A camera, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CameraId(pub u64);

/// A camera as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraSpec {
    /// Where its picture is, the smallest first; one, or up to three that show the same.
    pub sources: Vec<CameraSource>,
    /// How packets travel.
    pub transport: Transport,
    /// Who chose the addresses.
    pub trust: Trust,
    /// Whose certificate is taken for `rtsps`.
    pub identity: Identity,
    /// When it is pulled.
    pub mode: Mode,
}

/// One stream of a camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraSource {
    /// Where.
    pub url: CameraUrl,
    /// What it is called among the layers (RFC 8851), where there are several.
    pub rid: Option<String>,
}

/// How packets travel (RFC 2326 section 12.39).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// In the RTSP connection; over UDP where the camera refuses that.
    #[default]
    Auto,
    /// In the RTSP connection.
    Tcp,
    /// As datagrams.
    Udp,
}

/// Who chose a camera's address: a stranger must not make the node connect wherever they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The operator: it may be anywhere.
    Operator,
    /// A request or a document: only public addresses, and what `--camera-allow` names.
    Request,
}

/// Whose certificate is taken for `rtsps`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// One that a public authority signed for the URL's host.
    #[default]
    Verified,
    /// Any: most cameras sign their own.
    Any,
}

/// When a camera is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// While somebody watches.
    #[default]
    OnDemand,
    /// All the time.
    Always,
}

/// What the lane is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// There is a camera: find out what it sends.
    Add {
        /// Its id from now on.
        camera: CameraId,
        /// The camera.
        spec: CameraSpec,
    },
    /// Pull it, to here. Again: go on to another place.
    Want {
        /// Which.
        camera: CameraId,
        /// Where its packets go.
        target: Target,
    },
    /// Nobody wants its packets any more.
    Release {
        /// Which.
        camera: CameraId,
    },
    /// There is no such camera any more.
    Remove {
        /// Which.
        camera: CameraId,
    },
}

/// Where a camera's packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The worker.
    pub worker: usize,
    /// The session there.
    pub session: SessionId,
    /// For each source, by index: the outlet of its picture.
    pub video: Vec<Outlet>,
    /// The outlet of its sound, which comes from one source only: the last, the largest, that has any.
    pub audio: Option<Outlet>,
}

/// How packets of one stream are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlet {
    /// Their SSRC.
    pub ssrc: Ssrc,
    /// Their payload type.
    pub payload_type: PayloadType,
}

/// What the lane says of a camera.
#[derive(Clone, Debug, PartialEq)]
pub enum LaneEvent {
    /// What it sends, as far as browsers can take it; said again when it is not what was said before.
    Described {
        /// For each source, by index: its picture; `None` where there is none that can be forwarded.
        video: Vec<Option<Stream>>,
        /// Its sound.
        audio: Option<Stream>,
        /// Sentences about what is not forwarded, and why.
        remarks: Vec<String>,
    },
    /// How it is with it now.
    State(LaneState),
    /// What came within the last second, while it is pulled: by source, the sound with the last.
    Figures(Vec<Figures>),
}

/// How it is with a camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// It is known, and nobody wants it.
    Idle,
    /// The connection is being made.
    Connecting,
    /// Packets come.
    Playing,
    /// It does not answer, or not as it should; it is tried again.
    Away {
        /// Why, without credentials.
        reason: String,
        /// Milliseconds until it is tried again.
        retry_ms: u64,
    },
    /// It will not be tried again before it is added anew: the address is not allowed, no format fits.
    Refused {
        /// Why, without credentials.
        reason: String,
    },
}

/// What came from one source within a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Bits per second, RTP payload.
    pub bitrate_bps: u64,
    /// Pictures per second.
    pub frame_rate: f32,
    /// Packets so far.
    pub packets: u64,
    /// Packets that did not come so far.
    pub lost: u64,
    /// Width and height of the picture in pixels, once known.
    pub resolution: Option<(u32, u32)>,
    /// Whether pictures refer to later ones, which browsers show badly.
    pub has_b_frames: bool,
}
