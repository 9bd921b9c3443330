//! What the rooms want done: values that the shell carries out.

use dataplane::command::Command;
use dataplane::event::CloseReason;
use dataplane::id::SessionId;
use serde::{Deserialize, Serialize};
use signaling::name::RoomName;
use signaling::node::{PersonId, RoomEvent};

/// Something that the shell is to do, in order.
#[must_use]
#[derive(Debug)]
pub enum Effect {
    /// Tell a worker.
    Command {
        /// Index of the worker.
        worker: usize,
        /// What.
        command: Command,
    },
    /// Tell a person in a room.
    Notify {
        /// Whom.
        person: PersonId,
        /// What.
        event: RoomEvent,
    },
    /// A person is no longer in: their channel closes.
    Dismissed {
        /// Who.
        person: PersonId,
    },
    /// A media session was made.
    SessionOpened {
        /// It.
        session: SessionId,
        /// Its room.
        room: RoomName,
        /// Who asked for it.
        client: ClientKind,
    },
    /// A media session is over.
    SessionEnded {
        /// It.
        session: SessionId,
        /// Its room.
        room: RoomName,
        /// Why.
        reason: EndReason,
    },
    /// A camera is still there, and its session is not.
    CameraLost {
        /// The person that it is.
        person: PersonId,
    },
    /// A data channel was closed by us.
    ChannelRefused {
        /// Why.
        reason: ChannelRefusal,
    },
    /// The session of a document's request ended by itself: whoever asked for it is to be told.
    RequestEnded {
        /// The document's id.
        request: String,
        /// Why.
        reason: EndReason,
    },
}

/// What kind of client a session belongs to. Those that only watch come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ClientKind {
    /// A person in the page.
    Page,
    /// A person who came by a document.
    Member,
    /// A WHIP encoder.
    Encoder,
    /// A document's broadcaster.
    Broadcaster,
    /// A camera that the node pulls.
    Camera,
    /// A WHEP player.
    Viewer,
    /// A document's participant.
    Participant,
}

impl ClientKind {
    /// All of them.
    pub const ALL: [ClientKind; 7] = [
        ClientKind::Page,
        ClientKind::Member,
        ClientKind::Encoder,
        ClientKind::Broadcaster,
        ClientKind::Camera,
        ClientKind::Viewer,
        ClientKind::Participant,
    ];

    /// Its name in logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            ClientKind::Page => "page",
            ClientKind::Member => "member",
            ClientKind::Encoder => "whip",
            ClientKind::Broadcaster => "broadcaster",
            ClientKind::Camera => "camera",
            ClientKind::Viewer => "whep",
            ClientKind::Participant => "participant",
        }
    }
}

/// Why a data channel was closed, or a message of one not handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelRefusal {
    /// Its label says nothing to us.
    UnknownLabel,
    /// Too many messages on the control channel.
    TooFast,
    /// Too many messages in the room; only the message is gone.
    RoomBusy,
    /// The worker is behind; only the message is gone.
    WorkerBehind,
}

impl ChannelRefusal {
    /// Every reason's label, for metrics that show zeros too.
    pub const LABELS: [&'static str; 4] =
        ["unknown_label", "too_fast", "room_busy", "worker_behind"];

    /// Its name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            ChannelRefusal::UnknownLabel => "unknown_label",
            ChannelRefusal::TooFast => "too_fast",
            ChannelRefusal::RoomBusy => "room_busy",
            ChannelRefusal::WorkerBehind => "worker_behind",
        }
    }
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum EndReason {
    /// The client said goodbye.
    #[error("the client left")]
    Left,
    /// The client's WebSocket broke and it did not come back in time.
    #[error("the client did not come back in time")]
    GraceOver,
    /// The client did not read what the room told it.
    #[error("the client read too slowly")]
    TooSlow,
    /// The client made a new one in its place.
    #[error("the client made a new session in its place")]
    Replaced,
    /// Somebody closed the room.
    #[error("the room was closed")]
    RoomClosed,
    /// The room's broadcaster hung up.
    #[error("the broadcast is over")]
    BroadcastOver,
    /// Somebody removed the camera.
    #[error("the camera was removed")]
    Removed,
    /// The node is shutting down.
    #[error("the node is shutting down")]
    NodeEnding,
    /// The worker it lived on failed.
    #[error("a part of the node failed and started again")]
    WorkerFailed,
    /// The engine ended it.
    #[error(transparent)]
    Engine(#[from] CloseReason),
}

impl EndReason {
    /// Every reason's label, for metrics that show zeros too.
    pub const LABELS: [&'static str; 16] = [
        "left",
        "grace_over",
        "too_slow",
        "replaced",
        "room_closed",
        "broadcast_over",
        "removed",
        "node_ending",
        "worker_failed",
        "never_connected",
        "consent_expired",
        "peer_closed",
        "fingerprint_mismatch",
        "handshake_failed",
        "node_fault",
        "at_limit",
    ];

    /// Whether the engine has forgotten the session already.
    pub(super) fn is_known_to_engine(self) -> bool {
        matches!(self, EndReason::Engine(_) | EndReason::WorkerFailed)
    }

    /// Whether the database's desk made the end itself, or has been told that all ends.
    pub(super) fn is_known_to_desk(self) -> bool {
        matches!(
            self,
            EndReason::Left
                | EndReason::Replaced
                | EndReason::BroadcastOver
                | EndReason::NodeEnding
        )
    }

    /// Its name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            EndReason::Left => "left",
            EndReason::GraceOver => "grace_over",
            EndReason::TooSlow => "too_slow",
            EndReason::Replaced => "replaced",
            EndReason::RoomClosed => "room_closed",
            EndReason::BroadcastOver => "broadcast_over",
            EndReason::Removed => "removed",
            EndReason::NodeEnding => "node_ending",
            EndReason::WorkerFailed => "worker_failed",
            EndReason::Engine(CloseReason::NeverConnected) => "never_connected",
            EndReason::Engine(CloseReason::ConsentExpired) => "consent_expired",
            EndReason::Engine(CloseReason::PeerClosed) => "peer_closed",
            EndReason::Engine(CloseReason::FingerprintMismatch) => "fingerprint_mismatch",
            EndReason::Engine(CloseReason::HandshakeFailed) => "handshake_failed",
            EndReason::Engine(CloseReason::NodeFault) => "node_fault",
            EndReason::Engine(CloseReason::AtLimit) => "at_limit",
        }
    }
}
