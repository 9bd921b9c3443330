//! What control asks of an engine. Every command names things by ids that control chose.
//!
//! A command that names something unknown is counted and ignored: a session may have ended while
//! the command was on its way.
//!
//! What is serialised here is so for one reader: the process that takes over from this one.

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::data::{DataDrops, DataEvent, DataRequest};
use crate::event::CloseReason;
use crate::id::{FormatIndex, GroupId, Mid, PayloadType, Rid, SenderId, SessionId, Ssrc, TrackId};
use crate::wire::VideoCodec;

/// A request to an engine. The caller sends `Open` first, and after `Close` nothing for that session.
#[must_use]
#[derive(Debug)]
pub enum Command {
    /// Expect a client: its checks are answered from now on.
    Open(Box<SessionSpec>),
    /// Expect the packets of a feed: a publisher without a transport, such as a camera. Nothing is ever sent to it,
    /// it counts as connected, and it is closed by [`Command::Close`]. What makes it heard are
    /// [`Command::Publish`] and [`Engine::handle_feed`](crate::engine::Engine::handle_feed).
    OpenFeed(Box<FeedSpec>),
    /// End a session: its tracks and senders go with it, the peer gets a DTLS `close_notify`.
    Close {
        /// The session.
        session: SessionId,
    },
    /// ICE restart (RFC 8445 section 9), make before break: the old credentials are good until the
    /// new ones are nominated.
    RestartIce {
        /// The session.
        session: SessionId,
        /// The new pair of credentials.
        ice: IceSpec,
    },
    /// Receive a stream from a session.
    Publish {
        /// The session it comes from.
        session: SessionId,
        /// The stream. An id that exists already is replaced in place: its formats, sources and
        /// extensions change, its cache and subscribers stay (renegotiation).
        track: Box<TrackSpec>,
    },
    /// Stop receiving a stream, from a session or from another worker; senders that it fed fall silent.
    Unpublish {
        /// The stream.
        track: TrackId,
    },
    /// Hand the packets of a stream that a session here publishes to another worker too.
    Export {
        /// The stream.
        track: TrackId,
        /// The other worker, which is told to [`Import`](Command::Import) it.
        to: usize,
    },
    /// Stop doing so.
    EndExport {
        /// The stream.
        track: TrackId,
        /// The other worker.
        to: usize,
    },
    /// Take a stream from the worker that its publisher's session lives on.
    Import {
        /// The stream, as it was published there. An id that was imported already is replaced in place.
        track: Box<TrackSpec>,
        /// That worker, which is told to [`Export`](Command::Export) it.
        from: usize,
    },
    /// Prepare a stream to a session; silent until it is fed.
    AddSender {
        /// The session it goes to.
        session: SessionId,
        /// The stream. An id that exists already has its numbers kept and the rest replaced.
        sender: Box<SenderSpec>,
    },
    /// Stop and forget a stream to a session.
    RemoveSender {
        /// The stream.
        sender: SenderId,
    },
    /// Choose what a sender sends: a track that is published or imported here, or nothing. A video track is asked
    /// for a key frame. Numbers and timestamps continue across a change.
    Feed {
        /// The outgoing stream.
        sender: SenderId,
        /// The track, and how its formats are numbered for this receiver.
        source: Option<Feed>,
    },
    /// Say what a receiver wants of a picture that comes in several qualities.
    Prefer {
        /// The outgoing stream.
        sender: SenderId,
        /// What it wants, from now on.
        preference: Preference,
    },
    /// Control has heard that the worker started again ([`Event::WorkerRestarted`](crate::event::Event::WorkerRestarted)).
    /// What it sent before this was for the engine that is gone, and the driver drops it; an engine ignores this.
    AfterRestart,
    /// Let a session have data channels (RFC 8831), now or as soon as its DTLS is up. It keeps them to
    /// its end; asking again changes nothing.
    OpenData {
        /// The session.
        session: SessionId,
        /// The longest message that the client takes, in bytes, at least 1.
        message_bytes_max: u32,
    },
    /// Do something with a session's data channels.
    Data {
        /// The session.
        session: SessionId,
        /// What.
        request: Box<DataRequest>,
    },
    /// From the handshake threads: something happened on a session's data channels.
    DataEvent {
        /// The session.
        session: SessionId,
        /// What.
        event: Box<DataEvent>,
    },
    /// From the handshake threads: what the data channels of all sessions dropped since last time.
    DataDropped {
        /// How much of what.
        drops: Box<DataDrops>,
    },
    /// From the handshake threads: datagrams for the session's nominated path.
    DtlsTransmit {
        /// The session.
        session: SessionId,
        /// One DTLS datagram.
        bytes: Box<[u8]>,
    },
    /// From the handshake threads: the handshake is done and the peer's certificate checked.
    DtlsConnected {
        /// The session.
        session: SessionId,
        /// The keys.
        keys: Box<SrtpKeys>,
    },
    /// From the handshake threads: the association failed or was closed by the peer.
    DtlsClosed {
        /// The session.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
}

/// A client to expect.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    /// Its id.
    pub session: SessionId,
    /// ICE credentials of both sides.
    pub ice: IceSpec,
    /// DTLS role and fingerprints.
    pub dtls: DtlsSpec,
    /// The canonical name that our SDES chunks carry for streams to this session's subscribers
    /// of its tracks (RFC 3550 section 6.5.1); at most 255 bytes.
    pub cname: String,
}

/// A feed to expect: a session whose packets come from this process.
#[derive(Clone, Debug)]
pub struct FeedSpec {
    /// Its id.
    pub session: SessionId,
    /// The canonical name of its streams (RFC 3550 section 6.5.1), as in [`SessionSpec::cname`].
    pub cname: String,
}

/// ICE credentials (RFC 8445 section 5.3). We are ICE-lite, so the remote password is never used.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceSpec {
    /// Our ufrag: 4 to 32 characters, unique in the process.
    pub local_ufrag: String,
    /// Our password: 22 to 256 characters, at least 128 bits of randomness.
    pub local_pwd: String,
    /// The peer's ufrag, checked in USERNAME.
    pub remote_ufrag: String,
}

impl std::fmt::Debug for IceSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceSpec")
            .field("local_ufrag", &self.local_ufrag)
            .finish_non_exhaustive()
    }
}

/// How DTLS is spoken with a peer (RFC 5763).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DtlsSpec {
    /// Who sends the ClientHello.
    pub role: DtlsRole,
    /// The fingerprints in the peer's SDP; its certificate must match one of the strongest hash
    /// (RFC 8122 section 5).
    pub fingerprints: Vec<Fingerprint>,
}

/// Who sends the ClientHello (`a=setup`, RFC 4145).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DtlsRole {
    /// We wait for the peer's ClientHello: our answer says `passive`.
    Server,
    /// We send it: our answer says `active`.
    Client,
}

/// A certificate's digest (RFC 8122).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fingerprint {
    /// `sha-256`.
    Sha256(#[serde(with = "crate::hexed")] [u8; 32]),
    /// `sha-384`.
    Sha384(#[serde(with = "crate::hexed")] [u8; 48]),
    /// `sha-512`.
    Sha512(#[serde(with = "crate::hexed")] [u8; 64]),
}

/// Kind of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// A stream that a client publishes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrackSpec {
    /// Its id.
    pub track: TrackId,
    /// Audio or video.
    pub kind: MediaKind,
    /// The `a=mid` of its section: how packets find it when no SSRC was signalled (RFC 9143).
    pub mid: Mid,
    /// SSRCs signalled in the SDP with, for each, the SSRC that repairs it (RFC 5576 `FID`); often empty.
    pub sources: Vec<Source>,
    /// The payload types it may use. At most [`FORMATS_MAX`](crate::limits::FORMATS_MAX).
    pub formats: Vec<Format>,
    /// The header extension ids that the client uses.
    pub extensions: ExtensionIds,
    /// Whether lost packets are asked for by generic NACK (RFC 4585).
    pub nack: bool,
    /// Whether it comes in several encodings, and how these are told apart.
    pub simulcast: Simulcast,
    /// Whose voices it competes with, where only the loudest are forwarded. Without one it always is.
    pub group: Option<GroupId>,
    /// Whether receivers begin with its last key frame and all that followed, where its log still has them, instead
    /// of with what comes next. For video whose publisher gives no key frame when asked; its log is larger for it.
    #[serde(default)]
    pub keeps_group: bool,
}

/// How the encodings of one picture are told apart. At most
/// [`ENCODINGS_MAX`](crate::limits::ENCODINGS_MAX), the smallest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Simulcast {
    /// There is one.
    #[default]
    None,
    /// By the RTP stream id in the header of their packets (RFC 8853).
    Rids(Vec<Rid>),
    /// By SSRC: one for each of the signalled sources (`a=ssrc-group:SIM`).
    Sources,
}

/// A source signalled in SDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Media.
    pub ssrc: Ssrc,
    /// Retransmissions of it (RFC 4588), if signalled.
    pub rtx: Option<Ssrc>,
}

/// One payload type of a published stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// The publisher's number for it.
    pub payload_type: PayloadType,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// The publisher's number for retransmissions of it (RFC 4588 `apt`), if any.
    pub rtx: Option<PayloadType>,
    /// How the payload is treated beyond being copied.
    pub payload: PayloadKind,
}

/// What the engine must know of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadKind {
    /// Copied untouched.
    Opaque,
    /// Copied untouched, and its key frames are known: they are the last of a video to be dropped.
    Video(VideoCodec),
    /// RFC 2198 redundancy around the format with this index: its block headers carry payload
    /// types, which are rewritten, or it is unwrapped for a receiver that does not take it.
    Red(FormatIndex),
}

/// Header extension ids of one side (RFC 8285), 1 to 14 for the one-byte form, up to 255 else;
/// `None` where not negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    pub repaired_rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464)
    pub audio_level: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`
    pub abs_send_time: Option<u8>,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`
    pub transport_cc: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`
    pub abs_capture_time: Option<u8>,
    /// `urn:3gpp:video-orientation`
    pub video_orientation: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`
    pub playout_delay: Option<u8>,
    /// `https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension`
    pub dependency_descriptor: Option<u8>,
}

/// A stream to a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SenderSpec {
    /// Its id.
    pub sender: SenderId,
    /// Audio or video.
    pub kind: MediaKind,
    /// The `a=mid` of its section, written into every packet when `extensions.mid` is there.
    pub mid: Mid,
    /// The SSRC that it uses, unique in the session.
    pub ssrc: Ssrc,
    /// The SSRC of its retransmissions, unique in the session; without one, lost packets are sent again as they were.
    pub rtx: Option<Ssrc>,
    /// The receiver's header extension ids.
    pub extensions: ExtensionIds,
    /// The canonical name in our SDES for this stream: streams to be played in sync share it.
    pub cname: String,
}

/// What a receiver wants of a stream. The default is the best that its network carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preference {
    /// No more than this quality, or none at all.
    pub most: Quality,
    /// Streams of a higher priority get their share of the network first.
    pub priority: u8,
}

/// How good a picture is to be at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quality {
    /// Nothing is sent.
    Off,
    /// This encoding or spatial layer, counted from the smallest, 0, and what is below.
    Layer(u8),
    /// Whatever there is.
    #[default]
    Best,
}

/// What feeds a sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// The track; published by a session of the same engine, or imported there.
    pub track: TrackId,
    /// For each of the track's formats, by index: the receiver's payload types, `None` where it
    /// takes no such format (its packets are not sent; RED is unwrapped when only its inner format is taken).
    pub payload_types: Vec<Option<SenderFormat>>,
}

/// A receiver's numbers for one format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderFormat {
    /// Payload type of the media.
    pub payload_type: PayloadType,
    /// Payload type of its retransmissions, if negotiated.
    pub rtx: Option<PayloadType>,
    /// Payload type of redundancy around it (RFC 2198), if negotiated: what is lost on the way to the
    /// receiver is repeated under it.
    pub red: Option<PayloadType>,
}

/// SRTP keys of both directions (RFC 5764 section 4.2).
#[derive(Clone, Serialize, Deserialize)]
pub struct SrtpKeys {
    /// The protection profile.
    pub profile: SrtpProfile,
    /// Master key and salt of what we receive.
    pub receive: MasterKey,
    /// Master key and salt of what we send.
    pub send: MasterKey,
}

impl std::fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpKeys")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// A master key and its salt (RFC 3711 section 3.2.1). The key is cleared when it is dropped.
#[derive(Clone, Serialize, Deserialize)]
pub struct MasterKey {
    /// 16 or 32 bytes.
    #[serde(with = "crate::hexed")]
    pub key: Vec<u8>,
    /// 12 bytes for AEAD profiles, 14 otherwise.
    #[serde(with = "crate::hexed")]
    pub salt: Vec<u8>,
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// SRTP protection profiles, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SrtpProfile {
    /// 0x0007 (RFC 7714).
    AeadAes128Gcm,
    /// 0x0008 (RFC 7714).
    AeadAes256Gcm,
    /// 0x0001 (RFC 5764).
    Aes128CmHmacSha1_80,
}
