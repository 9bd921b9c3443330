//! A stream that a client is sent: which numbers came, what sealed them, and what they carried.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::packet::{Tail, digest};
use crate::command::MediaKind;
use crate::id::{SenderId, TrackId};
use crate::srtp::SequenceWindow;

/// A stream, which may be over: its SSRC stays in use for its numbers.
pub(super) struct Stream {
    pub(super) sender: SenderId,
    pub(super) kind: MediaKind,
    pub(super) rtx: Option<u32>,
    /// Whether the engine has the sender.
    pub(super) is_here: bool,
    /// What it is fed with.
    pub(super) feed: Option<TrackId>,
    /// Everything that it was fed with.
    pub(super) fed: BTreeSet<TrackId>,
    /// Indices of its media, and of its retransmissions by their SSRC.
    pub(super) media: Indices,
    pub(super) repairs: BTreeMap<u32, Indices>,
    /// What came, by index.
    pub(super) got: BTreeMap<u64, Tail>,
    /// Media in the order in which they came, cut where the source changed.
    pub(super) runs: Vec<Run>,
    /// Whether something was in it that the model cannot follow.
    pub(super) is_loose: bool,
}

/// Packets of one source, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) track: TrackId,
    /// Which of its sources.
    pub(super) source: u32,
    /// The first of the source's indices, the lowest, and the highest.
    pub(super) first: u64,
    pub(super) lowest: u64,
    pub(super) highest: u64,
    /// Whether the stream was fed otherwise since, or went on with another source.
    pub(super) is_over: bool,
}

impl Stream {
    /// A stream that nothing came of.
    pub(super) fn new(sender: SenderId, kind: MediaKind, rtx: Option<u32>) -> Stream {
        Stream {
            sender,
            kind,
            rtx,
            is_here: true,
            feed: None,
            fed: BTreeSet::new(),
            media: Indices::default(),
            repairs: BTreeMap::new(),
            got: BTreeMap::new(),
            runs: Vec::new(),
            is_loose: false,
        }
    }

    /// It sends this from now on.
    pub(super) fn feed(&mut self, track: Option<TrackId>) {
        if let Some(run) = self.runs.last_mut()
            && self.feed != track
        {
            run.is_over = true;
        }
        self.feed = track;
        self.fed.extend(track);
    }

    /// The next packet came of this source's number.
    pub(super) fn note(&mut self, track: TrackId, source: u32, number: u64) {
        if let Some(run) = self.runs.last_mut() {
            if (run.track, run.source, run.is_over) == (track, source, false) {
                run.lowest = run.lowest.min(number);
                run.highest = run.highest.max(number);
                return;
            }
            run.is_over = true;
        }
        self.runs.push(Run {
            track,
            source,
            first: number,
            lowest: number,
            highest: number,
            is_over: false,
        });
    }

    /// Numbers between the first and the last that never came.
    pub(super) fn missing(&self) -> u64 {
        let (first, last) = (self.got.first_key_value(), self.got.last_key_value());
        let (Some((first, _)), Some((last, _))) = (first, last) else {
            return 0;
        };
        last - first + 1 - self.got.len() as u64
    }

    /// The index that a receiver means by its low 16 bits.
    pub(super) fn index_of(&self, number: u16) -> Option<u64> {
        let highest = self.media.window.highest()?;
        highest.checked_sub(u64::from((highest as u16).wrapping_sub(number)))
    }
}

/// The indices of one SSRC under one key, and what each sealed.
#[derive(Default)]
pub(super) struct Indices {
    pub(super) window: SequenceWindow,
    sealed: HashMap<u64, u64>,
}

impl Indices {
    /// This datagram came with the index. Whether it came before.
    ///
    /// # Panics
    /// When another datagram did: that gives the key away (RFC 7714 section 14.1).
    pub(super) fn note(&mut self, index: u64, datagram: &[u8]) -> bool {
        self.window.accept(index);
        let seals = digest(datagram);
        match self.sealed.insert(index, seals) {
            Some(before) => {
                assert_eq!(before, seals, "index {index} seals two packets");
                true
            }
            None => false,
        }
    }
}
