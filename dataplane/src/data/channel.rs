//! Channels and messages as the engine and control speak of them.

use std::time::Duration;

use bytes::Bytes;

use crate::id::ChannelId;

/// A channel, as the client opened it (RFC 8832 section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSpec {
    /// The name that the client gave it; at most
    /// [`DATA_LABEL_BYTES_MAX`](crate::limits::DATA_LABEL_BYTES_MAX) bytes.
    pub label: String,
    /// The registered name of what is spoken in it, mostly empty.
    pub protocol: String,
    /// Whether messages arrive in the order in which they were sent.
    pub ordered: bool,
    /// What is done about a message that was lost.
    pub reliability: Reliability,
}

/// What is done about a lost message (RFC 3758, RFC 7496).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reliability {
    /// It is sent again until it arrives.
    Reliable,
    /// It is sent again so many times at most.
    Retransmits(u32),
    /// It is sent again until it is this old, in whole milliseconds.
    Lifetime(Duration),
}

impl Reliability {
    /// Whether every message arrives, or the channel closes.
    #[must_use]
    pub fn is_reliable(self) -> bool {
        self == Reliability::Reliable
    }
}

/// A message of a channel, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Text or bytes.
    pub kind: MessageKind,
    /// At most [`DATA_MESSAGE_BYTES_MAX`](crate::limits::DATA_MESSAGE_BYTES_MAX) bytes, possibly none.
    /// Text is UTF-8 by the client's word only. Shared, not copied, when it goes to several.
    pub bytes: Bytes,
}

/// How a page gets a message: as a string or as bytes (RFC 8831 section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// A string.
    Text,
    /// Bytes.
    Binary,
}

/// What control asks of a session's channels.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataRequest {
    /// Send a message. When the client takes no more for now, it is dropped if its channel is
    /// unreliable, and the channel is closed if it is reliable.
    Send {
        /// The channel.
        channel: ChannelId,
        /// The message.
        message: Message,
    },
    /// Close a channel (RFC 8831 section 6.7). No event follows.
    Close {
        /// The channel.
        channel: ChannelId,
    },
}

/// What a session's channels tell control.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataEvent {
    /// The client opened a channel.
    Opened {
        /// Names it until it is closed.
        channel: ChannelId,
        /// What it is.
        spec: ChannelSpec,
    },
    /// A channel is closed, by the client or because a bound was reached.
    Closed {
        /// The channel.
        channel: ChannelId,
    },
    /// A message arrived.
    Received {
        /// On this channel.
        channel: ChannelId,
        /// The message.
        message: Message,
    },
}

/// What was not taken, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataDrops {
    /// Packets and chunks that are not SCTP as RFC 9260 has it, or not for this association.
    pub malformed: u64,
    /// Chunks past a bound: numbers too far ahead, more than there is room for, too many resets.
    pub over_limit: u64,
    /// Messages that came faster than a session may send them.
    pub over_rate: u64,
    /// Messages to a client that takes no more for now.
    pub buffer_full: u64,
    /// Channels that were closed by us because a bound was reached or a rule broken.
    pub channels_refused: u64,
}

impl DataDrops {
    /// Whether nothing was dropped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == DataDrops::default()
    }

    /// Adds what another session dropped.
    pub fn add(&mut self, other: DataDrops) {
        self.malformed += other.malformed;
        self.over_limit += other.over_limit;
        self.over_rate += other.over_rate;
        self.buffer_full += other.buffer_full;
        self.channels_refused += other.channels_refused;
    }
}
