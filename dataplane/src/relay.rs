//! What one worker's engine hands to another's, so that a track is heard on both.

use std::time::Instant;

use crate::engine::LayerStamp;
use crate::id::{PayloadType, Ssrc, TrackId};
use crate::limits::RELAY_BYTES_MAX;

/// A slot of the queue from one worker to another: one packet, or a word about a track.
///
/// [`Engine::poll_relay`] writes it, [`Engine::handle_relay`] of the other engine reads it, and
/// its memory is used again for the next. Who carries it need not know what it says.
///
/// [`Engine::poll_relay`]: crate::engine::Engine::poll_relay
/// [`Engine::handle_relay`]: crate::engine::Engine::handle_relay
#[derive(Debug)]
pub struct RelaySlot {
    /// Whom it is about. Ids are never used twice, so what is late finds nothing.
    pub(crate) track: TrackId,
    /// Which of its encodings, counted from the smallest.
    pub(crate) encoding: u8,
    pub(crate) word: Word,
    bytes: [u8; RELAY_BYTES_MAX],
}

/// What a slot says of its track.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    /// From the track's home: a packet, whose bytes are in the slot.
    Packet(RelayedPacket),
    /// From the track's home: how its RTP clock relates to time, by its publisher's last report.
    Clock(RelayedClock),
    /// To the track's home: somebody over here needs a key frame.
    KeyframeWanted,
}

/// A packet of a track's log. Payload types are the publisher's: the other engine knows them by
/// the same description, and a number that was given away anew means the same on both sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayedPacket {
    /// The source that it came from.
    pub(crate) ssrc: Ssrc,
    /// Its number in the log of its home.
    pub(crate) sequence: u64,
    /// RTP timestamp as the publisher wrote it.
    pub(crate) timestamp: u32,
    /// When it arrived at its home.
    pub(crate) arrived: Instant,
    /// Counts the publisher's changes of SSRC.
    pub(crate) epoch: u32,
    /// RTP marker bit.
    pub(crate) marker: bool,
    /// Whether a key frame starts with it.
    pub(crate) keyframe: bool,
    /// Whether a later number had come before.
    pub(crate) is_late: bool,
    /// Whether a feed publishes it.
    pub(crate) is_fed: bool,
    /// Its place among the layers of its encoding.
    pub(crate) layer: LayerStamp,
    /// The publisher's number for its format.
    pub(crate) payload_type: PayloadType,
    /// Bytes of listed header extensions at the start of the slot's bytes.
    pub(crate) extensions_len: u16,
    /// Bytes of payload behind them.
    pub(crate) payload_len: u16,
}

/// A publisher's clock. Engines have clocks of their own, so times are instants or the publisher's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayedClock {
    /// A time..
    pub(crate) at: Instant,
    /// ..and the same on the publisher's clock, as NTP, travel time included.
    pub(crate) theirs: u64,
    /// The publisher's time in its last report, as NTP..
    pub(crate) ntp: u64,
    /// ..and the RTP timestamp in it.
    pub(crate) timestamp: u32,
    /// The epoch that the report was of.
    pub(crate) epoch: u32,
}

impl RelaySlot {
    /// A slot that says nothing yet.
    #[must_use]
    pub fn new() -> Box<RelaySlot> {
        Box::new(RelaySlot {
            track: TrackId(0),
            encoding: 0,
            word: Word::KeyframeWanted,
            bytes: [0; RELAY_BYTES_MAX],
        })
    }

    /// Makes it a packet of `track` with these extensions and this payload; `false` when they do
    /// not fit, which no packet of a log comes to.
    pub(crate) fn write_packet(
        &mut self,
        track: TrackId,
        packet: RelayedPacket,
        extensions: &[u8],
        payload: &[u8],
    ) -> bool {
        let Some((list, rest)) = self.bytes.split_at_mut_checked(extensions.len()) else {
            return false;
        };
        let Some(body) = rest.get_mut(..payload.len()) else {
            return false;
        };
        list.copy_from_slice(extensions);
        body.copy_from_slice(payload);
        self.track = track;
        self.word = Word::Packet(packet);
        true
    }

    /// A packet's extensions and, behind them, its payload.
    pub(crate) fn bytes(&self, packet: &RelayedPacket) -> &[u8] {
        let len = usize::from(packet.extensions_len) + usize::from(packet.payload_len);
        self.bytes.get(..len).unwrap_or_default()
    }
}
