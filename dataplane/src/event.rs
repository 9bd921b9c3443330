//! What the engine tells control, and what it hands to the handshake threads.

use std::net::SocketAddr;

use crate::command::DtlsSpec;
use crate::counters::Counters;
use crate::data::{DataEvent, DataRequest};
use crate::id::{SenderId, SessionId, TrackId};
use crate::load::Load;
use crate::transmit::Transport;

/// Something control wants to know. Never one per packet; one per message of a data channel, of which
/// a session has [so many](crate::limits::DATA_MESSAGES_PER_SECOND_MAX) a second.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// DTLS is done and keys are in place: media can flow.
    Connected {
        /// The session.
        session: SessionId,
        /// The nominated remote address.
        remote: SocketAddr,
        /// The nominated transport.
        transport: Transport,
    },
    /// A nomination moved the session's media to another path (RFC 8445 section 8.1.1).
    PathChanged {
        /// The session.
        session: SessionId,
        /// The new remote address.
        remote: SocketAddr,
        /// The new transport.
        transport: Transport,
    },
    /// The session ended by itself; its tracks and senders are gone from the engine.
    /// Not sent for a session that [`Command::Close`](crate::command::Command::Close) closed.
    Closed {
        /// The session.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
    /// The track's first packet arrived.
    TrackStarted {
        /// The track.
        track: TrackId,
    },
    /// A person began or stopped speaking, by the smoothed audio level of RFC 6464.
    Speaking {
        /// The audio track.
        track: TrackId,
        /// Whether they speak now.
        speaking: bool,
    },
    /// What a receiver is sent of a stream changed.
    Chosen {
        /// The session.
        session: SessionId,
        /// The outgoing stream.
        sender: SenderId,
        /// What is sent from now on, or as soon as a key frame lets it.
        sent: Sent,
    },
    /// What a session's network carries, by what it says of the packets that it is sent; when that has
    /// changed by a tenth, and within a second when it has changed at all.
    Downlink {
        /// The session.
        session: SessionId,
        /// Bits per second.
        estimate_bps: u64,
        /// Packets lost of late, of a thousand.
        loss_permille: u16,
        /// The round trip, in microseconds, once it is known.
        rtt_us: Option<u64>,
    },
    /// Something happened on a session's data channels.
    Data {
        /// The session.
        session: SessionId,
        /// What.
        event: Box<DataEvent>,
    },
    /// What was counted so far, and how each track fares; sent about once a second by each worker.
    Report(Box<Report>),
    /// The worker failed and starts again with an empty engine: every session, track and sender
    /// that lived on it is gone. Until [`Command::AfterRestart`](crate::command::Command::AfterRestart) it takes no
    /// command. From the driver, never from an engine.
    WorkerRestarted,
}

/// What a receiver is sent of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// An encoding, and its layers up to these; the highest that there are count as more than any.
    Layers {
        /// Counted from the smallest.
        encoding: u8,
        /// The highest spatial layer.
        spatial: u8,
        /// The highest temporal layer.
        temporal: u8,
    },
    /// Nothing, because the receiver's network does not carry even the smallest.
    NoRoom,
    /// Nothing, because the receiver wants nothing.
    Unwanted,
}

/// A worker's periodic report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Totals since the worker started.
    pub counters: Counters,
    /// One row per track that lives on this worker.
    pub tracks: Vec<TrackReport>,
    /// Sessions, tracks, senders and addresses that the worker's engine holds.
    pub objects: u64,
    /// Times at which it wants to do something, one for each reason.
    pub timers: u64,
    /// How busy the worker is.
    pub load: Load,
    /// How long a packet may wait for company at that load, in microseconds.
    pub hold_us: u64,
    /// The longest turn since the last report, in microseconds. From the driver.
    pub slowest_turn_us: u64,
}

/// What a published track did since the last report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackReport {
    /// The track.
    pub track: TrackId,
    /// Received payload bits per second over the last report interval.
    pub bitrate_bps: u64,
    /// Packets received since the track began.
    pub packets: u64,
    /// Packets lost since the track began, retransmissions that arrived not counted as lost.
    pub lost: u64,
    /// How loud its person spoke over the interval, in decibels above the least of speech, on average; 0
    /// for who was silent.
    pub loudness_db: u8,
}

/// Why a session ended without being asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CloseReason {
    /// No connectivity check arrived in time after the answer.
    #[error("no connectivity check arrived in time: is the media port reachable over UDP or TCP?")]
    NeverConnected,
    /// The peer's consent expired: no valid check for 30 s (RFC 7675).
    #[error("the peer went silent: no connectivity check for 30 s")]
    ConsentExpired,
    /// The peer closed DTLS with an authenticated `close_notify`.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The peer's certificate does not match the fingerprint in its SDP (RFC 8122).
    #[error("the peer's certificate does not match the fingerprint in its SDP")]
    FingerprintMismatch,
    /// The DTLS handshake failed or took too long.
    #[error("the DTLS handshake failed")]
    HandshakeFailed,
    /// What the peer sent made a handshake thread fail; the others' sessions go on.
    #[error("a part of the node failed on what the peer sent")]
    NodeFault,
    /// The engine had no room for the session's state.
    #[error("the node is at its limit of sessions")]
    AtLimit,
}

/// Input for the handshake threads, from [`Engine::poll_dtls`](crate::engine::Engine::poll_dtls).
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub enum DtlsInput {
    /// A session's ICE is up: make its endpoint (and send the ClientHello, where we are the client).
    Open {
        /// The session.
        session: SessionId,
        /// Role and the fingerprints to check.
        spec: DtlsSpec,
    },
    /// A DTLS datagram from an address that ICE has validated.
    Datagram {
        /// The session.
        session: SessionId,
        /// The datagram.
        bytes: Box<[u8]>,
    },
    /// The session may have data channels, with messages of at most so many bytes to the peer.
    OpenData {
        /// The session.
        session: SessionId,
        /// The longest message that the peer takes, in bytes.
        message_bytes_max: u32,
    },
    /// Control asks something of the session's data channels.
    Data {
        /// The session.
        session: SessionId,
        /// What.
        request: Box<DataRequest>,
    },
    /// The session is over: send `close_notify` if it was up, forget it.
    Close {
        /// The session.
        session: SessionId,
    },
}
