//! A stream to one subscriber: its numbers, and what its packets look like.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::allocate::{Standing, StandingSnapshot};
use super::extensions::ForwardedIds;
use super::layers::{Layers, Most};
use super::log::Log;
use super::numbering::{Continuation, Numbering, NumberingSnapshot, Shift};
use super::redundancy::Redundancy;
use super::session::SessionKey;
use super::slab::Key;
use super::switching::Next;
use super::thinning::Thinning;
use super::track::{Track, TrackKey};
use crate::command::{Feed, Format, MediaKind, PayloadKind, SenderFormat, SenderSpec};
use crate::id::{FormatIndex, PayloadType, Ssrc, TrackId};
use crate::limits::EXTENSIONS_BYTES_MAX;
use crate::wire::{ExtensionBlock, VideoCodec, dependency_descriptor, red};

/// Names a sender within the engine.
pub(super) type SenderKey = Key<Sender>;

/// An outgoing stream.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) session: SessionKey,
    pub(super) spec: SenderSpec,
    pub(super) source: Option<FeedState>,
    pub(super) numbering: Numbering,
    /// The next number of its retransmissions' own stream (RFC 4588 section 4).
    pub(super) rtx_next: u64,
    /// Packets before this number may have looked different: without RTX they must not be sent
    /// again, because the same SRTP index would seal another content.
    resend_from: u64,
    /// Whether it is in its session's list of senders with packets to send.
    pub(super) is_pending: bool,
    /// Whether its packets carry transport-wide numbers.
    pub(super) is_numbered: bool,
    /// What the receiver wants of it, and what was chosen for it.
    pub(super) standing: Box<Standing>,
    /// What it leaves out because it could not be sent in time.
    pub(super) thinning: Thinning,
    /// How much of its audio is repeated.
    pub(super) redundancy: Redundancy,
    /// For sender reports.
    pub(super) packets: u32,
    /// For sender reports: payload bytes.
    pub(super) octets: u32,
    /// Packets as of the last sender report.
    pub(super) reported: u32,
    ids: ForwardedIds,
}

/// What feeds a sender now.
#[derive(Debug)]
pub(super) struct FeedState {
    /// The stream..
    pub(super) stream: TrackId,
    /// ..and the encoding of it that is sent.
    pub(super) track: TrackKey,
    /// Arrival number of the next packet to send from the track's log.
    pub(super) cursor: u64,
    /// Which of the track's layers are sent.
    pub(super) layers: Layers,
    /// The encoding that is to be sent from its next key frame on, instead of this one.
    pub(super) joining: Option<(TrackKey, Most)>,
    /// That key frame has come.
    pub(super) next: Option<Box<Next>>,
    /// Nothing is sent until it joins an encoding.
    pub(super) is_off: bool,
    /// What is sent next is the first that somebody says after a pause.
    pub(super) begins_talk: bool,
    payload_types: Vec<Option<SenderFormat>>,
    routes: Vec<Option<Route>>,
}

/// What goes on in another process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SenderSnapshot {
    spec: SenderSpec,
    numbering: NumberingSnapshot,
    rtx_next: u64,
    standing: StandingSnapshot,
    packets: u32,
    octets: u32,
    reported: u32,
    pub(super) feed: Option<FeedSnapshot>,
}

/// What feeds it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FeedSnapshot {
    pub(super) stream: TrackId,
    pub(super) encoding: u8,
    layers: Layers,
    pub(super) is_off: bool,
    /// Whether something was left behind, so that only a key frame makes the picture whole.
    pub(super) is_broken: bool,
    payload_types: Vec<Option<SenderFormat>>,
}

/// How packets of one format leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) payload_type: PayloadType,
    /// Payload type of retransmissions, if the receiver knows them.
    pub(super) rtx: Option<PayloadType>,
    /// Payload type of redundancy around it, if the receiver takes that.
    pub(super) red: Option<PayloadType>,
    pub(super) treatment: Treatment,
}

/// What happens to a payload on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Nothing.
    Copy,
    /// VP8's pictures are renumbered where one was left out, or another encoding sent.
    Renumber,
    /// RFC 2198 redundancy: the inner payload type is renamed.
    Rename(PayloadType, PayloadType),
    /// RFC 2198 redundancy: only the newest block is sent, as what it is.
    Unwrap,
    /// RFC 2198 redundancy is put around it: the receiver's payload type of the format, and how many packets
    /// it repeats at most.
    Wrap(PayloadType, u8),
}

impl Sender {
    /// A silent sender. `random` starts its numbers and those of its retransmissions, unless its
    /// SSRCs were used before: then they go on from `used`.
    pub(super) fn new(
        session: SessionKey,
        spec: SenderSpec,
        random: [u64; 2],
        used: [Option<u64>; 2],
    ) -> Sender {
        let [media, rtx] = random;
        let [media_used, rtx_used] = used;
        Sender {
            session,
            ids: ForwardedIds::new(&spec.extensions),
            is_numbered: is_numbered(&spec),
            spec,
            source: None,
            numbering: Numbering::new(media, media_used),
            rtx_next: rtx_used.unwrap_or(rtx >> 49),
            resend_from: 0,
            is_pending: false,
            standing: Box::default(),
            thinning: Thinning::default(),
            redundancy: Redundancy::default(),
            packets: 0,
            octets: 0,
            reported: 0,
        }
    }

    /// What another process goes on with, where `track` feeds the sender.
    pub(super) fn snapshot(&self, now: Instant, track: Option<&Track>) -> SenderSnapshot {
        let feed = self.source.as_ref().zip(track).map(|(source, track)| {
            let is_behind = self.waiting(&track.log) > 0 && !track.pause.lasts();
            FeedSnapshot {
                stream: source.stream,
                encoding: track.encoding,
                layers: source.layers,
                is_off: source.is_off,
                is_broken: is_behind || self.thinning.waits() || source.next.is_some(),
                payload_types: source.payload_types.clone(),
            }
        });
        SenderSnapshot {
            spec: self.spec.clone(),
            numbering: self.numbering.snapshot(now),
            rtx_next: self.rtx_next,
            standing: self.standing.snapshot(now),
            packets: self.packets,
            octets: self.octets,
            reported: self.reported,
            feed,
        }
    }

    /// Goes on where another process ended, silent until it is fed.
    pub(super) fn restore(
        now: Instant,
        session: SessionKey,
        snapshot: SenderSnapshot,
    ) -> (Sender, Option<FeedSnapshot>) {
        let mut sender = Sender::new(session, snapshot.spec, [0; 2], [None; 2]);
        sender.numbering = Numbering::restore(now, snapshot.numbering);
        sender.rtx_next = snapshot.rtx_next;
        *sender.standing = Standing::restore(now, &snapshot.standing);
        (sender.packets, sender.octets) = (snapshot.packets, snapshot.octets);
        sender.reported = snapshot.reported;
        sender.protect_indices();
        (sender, snapshot.feed)
    }

    /// Is fed again as it was in another process, from the end of the track's log on.
    pub(super) fn resume(&mut self, key: TrackKey, track: &Track, feed: FeedSnapshot) {
        if feed.is_broken && self.spec.kind == MediaKind::Video {
            self.thinning = Thinning::waiting();
        }
        self.source = Some(FeedState {
            stream: feed.stream,
            track: key,
            cursor: track.log.head(),
            layers: feed.layers,
            joining: None,
            next: None,
            is_off: feed.is_off,
            begins_talk: false,
            routes: routes(&track.spec.formats, &feed.payload_types),
            payload_types: feed.payload_types,
        });
    }

    /// Renegotiation: the numbers stay.
    pub(super) fn replace_spec(&mut self, spec: SenderSpec) {
        self.ids = ForwardedIds::new(&spec.extensions);
        self.is_numbered = is_numbered(&spec);
        self.spec = spec;
        self.protect_indices();
    }

    /// Sends the track from `cursor` on; whether that is another track than before.
    pub(super) fn feed(&mut self, key: TrackKey, track: &Track, feed: Feed) -> bool {
        let routes = routes(&track.spec.formats, &feed.payload_types);
        let payload_types = feed.payload_types;
        self.protect_indices();
        if let Some(source) = self.source.as_mut().filter(|source| source.track == key) {
            source.payload_types = payload_types;
            source.routes = routes;
            return false;
        }
        self.numbering.detach();
        self.standing.begin_anew();
        let cursor = track.log.head();
        self.source = Some(FeedState {
            stream: track.spec.track,
            track: key,
            cursor,
            layers: Layers::default(),
            joining: None,
            next: None,
            is_off: false,
            begins_talk: false,
            payload_types,
            routes,
        });
        true
    }

    /// The track's formats changed.
    pub(super) fn reroute(&mut self, formats: &[Format]) {
        self.protect_indices();
        if let Some(source) = &mut self.source {
            source.routes = routes(formats, &source.payload_types);
        }
    }

    /// Reads a little of everything that a packet of it needs. The value means nothing.
    pub(super) fn touch(&self) -> u64 {
        let source = self
            .source
            .as_ref()
            .map_or(0, |source| source.cursor ^ source.routes.len() as u64);
        let route = self
            .source
            .as_ref()
            .and_then(|source| source.routes.first());
        let payload_type = route
            .copied()
            .flatten()
            .map_or(0, |route| route.payload_type.0);
        let Ssrc(ssrc) = self.spec.ssrc;
        let ids = self.spec.extensions;
        let numbers = self.numbering.next() ^ u64::from(self.numbering.epoch().unwrap_or(0));
        source
            ^ numbers
            ^ self.rtx_next
            ^ self.resend_from
            ^ u64::from(ssrc ^ self.packets ^ self.octets)
            ^ u64::from(payload_type ^ ids.mid.unwrap_or(0) ^ ids.playout_delay.unwrap_or(0))
            ^ self.spec.mid.as_bytes().len() as u64
    }

    /// Packets in its track's log that it has not sent.
    pub(super) fn waiting(&self, log: &Log) -> u64 {
        let cursor = self.source.as_ref().map(|source| source.cursor);
        cursor.map_or(0, |cursor| log.head().saturating_sub(cursor))
    }

    /// What it sends from now on shows the same in another encoding.
    pub(super) fn change_track(&mut self, continuation: Continuation) {
        self.numbering.continue_with(continuation);
        self.thinning = Thinning::default();
        self.protect_indices();
    }

    /// Falls silent.
    pub(super) fn stop(&mut self) {
        self.source = None;
        self.numbering.detach();
        self.protect_indices();
    }

    /// Starts again with whatever arrives next.
    pub(super) fn skip_to_head(&mut self, log: &Log) {
        if let Some(source) = &mut self.source {
            source.cursor = log.head();
        }
    }

    /// Passes over what its track's last pause left out, and begins with the packet that ended it.
    pub(super) fn pass_pause(&mut self, track: &Track) {
        let Some(source) = &mut self.source else {
            return;
        };
        let Some(resumption) = track.pause.resumption(source.cursor) else {
            return;
        };
        source.cursor = resumption.arrival;
        source.begins_talk = resumption.with_voice && self.numbering.highest().is_some();
        if let Some(entry) = track.log.entry(resumption.arrival) {
            self.numbering.close_up(&entry.stamp);
        }
    }

    /// The packet with this number leaves: if somebody begins to speak with it, it is marked.
    pub(super) fn begin_talk(&mut self, sequence: u64) {
        if let Some(source) = &mut self.source
            && std::mem::take(&mut source.begins_talk)
        {
            self.handle_altered(sequence);
        }
    }

    /// The packet with this number leaves with something that nobody remembers: padding, or a marker.
    pub(super) fn handle_altered(&mut self, sequence: u64) {
        self.resend_from = self.resend_from.max(sequence + 1);
    }

    /// Whether the packet that left with this number would leave byte for byte the same again.
    pub(super) fn is_repeatable(&self, sequence: u64) -> bool {
        sequence >= self.resend_from && !self.is_numbered && !self.says_when()
    }

    /// Whether its packets say when they leave: transport-wide numbers make that needless, and without
    /// RTX a packet may have to leave a second time exactly as it was.
    fn says_when(&self) -> bool {
        let is_wanted = self.spec.extensions.abs_send_time.is_some();
        is_wanted && !self.is_numbered && self.spec.rtx.is_some()
    }

    /// Writes the extensions of a packet: our MID, and what the publisher said.
    pub(super) fn extensions(
        &self,
        list: &[u8],
        shift: Shift,
        send_time: [u8; 3],
        block: &mut ExtensionBlock,
    ) {
        block.clear();
        let ids = &self.spec.extensions;
        // The number comes first, where it is written over for each packet.
        if let Some(id) = ids.transport_cc.filter(|_| self.is_numbered) {
            let _ = block.push(id, &[0; 2]);
        }
        // An element that does not fit is left out; the block says so and stays valid.
        if let Some(id) = ids.mid {
            let _ = block.push(id, self.spec.mid.as_bytes());
        }
        if let Some(id) = ids.abs_send_time.filter(|_| self.says_when()) {
            let _ = block.push(id, &send_time);
        }
        let described = ids.dependency_descriptor.filter(|_| shift.frame != 0);
        self.ids.each(list, |id, value| {
            if described == Some(id) {
                push_shifted(id, value, shift.frame, block);
            } else {
                let _ = block.push(id, value);
            }
        });
    }

    fn protect_indices(&mut self) {
        self.resend_from = self.numbering.highest().map_or(0, |highest| highest + 1);
    }
}

impl FeedState {
    /// Forgets what it was about to send, and returns the encodings that know of it.
    pub(super) fn leave(&mut self) -> Vec<TrackKey> {
        let tracks = self.tracks().collect();
        (self.joining, self.next) = (None, None);
        tracks
    }

    /// The track whose key frame is waited for, if one is.
    pub(super) fn awaits(&self) -> Option<TrackKey> {
        let joined = self.joining.map(|(track, _)| track);
        let waits = self.layers.waits_for_keyframe();
        joined.or(waits.then_some(self.track))
    }

    /// The arrival number from which on the track's packets are not sent any more.
    pub(super) fn until(&self) -> u64 {
        self.next.as_ref().map_or(u64::MAX, |next| next.until())
    }

    /// The encodings that know of it.
    pub(super) fn tracks(&self) -> impl Iterator<Item = TrackKey> {
        let next = self.next.as_ref().map(|next| next.track);
        let joining = self.joining.map(|(track, _)| track);
        [Some(self.track), joining, next].into_iter().flatten()
    }

    /// How packets of this format leave, if the receiver takes it.
    pub(super) fn route(&self, format: FormatIndex) -> Option<Route> {
        *self.routes.get(usize::from(format.0))?
    }
}

impl Route {
    /// The part of a payload that leaves; `None` when it cannot be unwrapped.
    pub(super) fn body<'a>(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        match self.treatment {
            Treatment::Copy | Treatment::Renumber | Treatment::Rename(..) | Treatment::Wrap(..) => {
                Some(payload)
            }
            Treatment::Unwrap => red::primary(payload).map(|(_, body)| body),
        }
    }
}

/// Whether packets carry transport-wide numbers. Those of a picture without RTX may have to leave a second time
/// exactly as they did, with the same number; a voice is not asked for again.
fn is_numbered(spec: &SenderSpec) -> bool {
    let may_differ = spec.rtx.is_some() || spec.kind == MediaKind::Audio;
    spec.extensions.transport_cc.is_some_and(|id| id > 0) && may_differ
}

/// A dependency descriptor whose frame is renumbered.
fn push_shifted(id: u8, value: &[u8], shift: u16, block: &mut ExtensionBlock) {
    let mut copy = [0; EXTENSIONS_BYTES_MAX];
    let number = dependency_descriptor::frame_number(value);
    if let (Some(room), Some(number)) = (copy.get_mut(..value.len()), number) {
        room.copy_from_slice(value);
        dependency_descriptor::rewrite_frame_number(room, number.wrapping_add(shift));
        let _ = block.push(id, room);
    }
}

fn routes(formats: &[Format], accepted: &[Option<SenderFormat>]) -> Vec<Option<Route>> {
    let taken = |index: usize| accepted.get(index).copied().flatten();
    let route = |(index, format): (usize, &Format)| match format.payload {
        PayloadKind::Opaque | PayloadKind::Video(_) => {
            let mine = taken(index)?;
            let treatment = match format.payload {
                PayloadKind::Video(VideoCodec::Vp8) => Treatment::Renumber,
                PayloadKind::Opaque | PayloadKind::Video(_) | PayloadKind::Red(_) => {
                    Treatment::Copy
                }
            };
            Some(Route {
                payload_type: mine.payload_type,
                rtx: mine.rtx,
                red: mine.red,
                treatment,
            })
        }
        PayloadKind::Red(FormatIndex(inner)) => {
            let inner_format = taken(usize::from(inner))?;
            let theirs = formats.get(usize::from(inner))?.payload_type;
            let (mine, treatment) = match taken(index) {
                Some(red) if theirs == inner_format.payload_type => (red, Treatment::Copy),
                Some(red) => (red, Treatment::Rename(theirs, inner_format.payload_type)),
                None => (inner_format, Treatment::Unwrap),
            };
            Some(Route {
                payload_type: mine.payload_type,
                rtx: mine.rtx,
                red: None,
                treatment,
            })
        }
    };
    formats.iter().enumerate().map(route).collect()
}
