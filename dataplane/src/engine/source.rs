//! One SSRC that a session sends: its replay window and how it is received.

use super::nack::NackList;
use super::statistics::Reception;
use super::track::TrackKey;
use crate::id::Ssrc;
use crate::srtp::SequenceWindow;

/// A source that was heard, authentically.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) ssrc: Ssrc,
    pub(super) track: TrackKey,
    pub(super) window: SequenceWindow,
    pub(super) reception: Reception,
    /// What is missing; only for media whose loss is asked for.
    pub(super) missing: Option<NackList>,
    /// Whether it carries retransmissions (RFC 4588).
    pub(super) is_repair: bool,
}

impl Source {
    /// A source that nothing came from yet.
    pub(super) fn new(ssrc: Ssrc, track: TrackKey, is_repair: bool, nack: bool) -> Source {
        Source {
            ssrc,
            track,
            window: SequenceWindow::new(),
            reception: Reception::default(),
            missing: (nack && !is_repair).then(NackList::default),
            is_repair,
        }
    }
}
