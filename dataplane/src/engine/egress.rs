//! Packets on their way out: bursts, each to one subscriber, sealed into the caller's slot.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::burst::{Burst, Piece};
use super::continuity::renumber;
use super::hold::Soon;
use super::log::{Entry, Stamp};
use super::moment::Moment;
use super::numbering::{Numbers, Shift};
use super::resend::Resend;
use super::sender::{Route, Sender, SenderKey, Treatment};
use super::session::{Session, SessionKey};
use super::slab::Slab;
use super::switching;
use super::thinning::Lateness;
use super::track::{Track, TrackKey};
use super::{Engine, clock::Ntp};
use crate::command::MediaKind;
use crate::counters::Counters;
use crate::limits::BURST_SEGMENTS_MAX;
use crate::srtp::SealKey;
use crate::transmit::Transmit;
use crate::wire::{ExtensionBlock, RtpHeader, red};

/// Bytes of an RTP header without extensions.
const HEADER_LEN: usize = 12;

/// Bytes of the original sequence number in a retransmission (RFC 4588 section 4).
const OSN_LEN: usize = 2;

/// A subscriber that missed more packets than this goes on as if there had been none: a jump of
/// half the number space would make it guess a wrong rollover counter and decrypt nothing ever
/// after (RFC 3711 section 3.3.1), and a smaller one only makes it ask for what is gone.
const NUMBERS_SKIPPED_MAX: u64 = 4_096;

/// How many sessions before its turn a session is touched..
const SESSION_AHEAD: usize = 4;

/// ..and, which takes what was touched then, its first sender.
const SENDER_AHEAD: usize = 2;

/// The burst in the making. Its memory is used again for each.
#[derive(Debug)]
pub(super) struct Plan {
    packets: Vec<Planned>,
    burst: Burst,
    /// The packets' SRTP indices, for what is sealed of all together.
    indices: Vec<u64>,
    extensions: Encoded,
    /// When the first of its packets came that leaves for the first time.
    oldest: Option<Instant>,
}

/// The header extensions encoded last. The packets of a frame often have the same, and each is asked
/// for twice: for its size when the burst is planned, and when it is written.
#[derive(Debug)]
struct Encoded {
    block: ExtensionBlock,
    send_time: [u8; 3],
    /// Whose they are, and of which packet if they hold anything of its own.
    of: Option<(SenderKey, Option<u64>)>,
}

impl Encoded {
    fn begin(&mut self, now: Ntp) {
        // abs-send-time: 24 bits of NTP, 6 of seconds and 18 of fractions.
        let time = ((now.0 >> 14) & 0x00ff_ffff) as u32;
        let [_, high, middle, low] = time.to_be_bytes();
        self.send_time = [high, middle, low];
        self.of = None;
    }

    /// The extensions of a packet from this sender, with the elements of its `list`.
    fn block(
        &mut self,
        (key, sender): (SenderKey, &Sender),
        entry: &Entry,
        list: &[u8],
        shift: Shift,
    ) -> &ExtensionBlock {
        let of = (key, (!list.is_empty()).then(|| entry.position()));
        if self.of != Some(of) {
            sender.extensions(list, shift, self.send_time, &mut self.block);
            self.of = Some(of);
        }
        &self.block
    }
}

/// A packet that leaves with the burst.
#[derive(Debug)]
struct Planned {
    sender: SenderKey,
    /// Whose log has it: the sender may read another by the time that the burst is written.
    track: TrackKey,
    entry: Entry,
    route: Route,
    /// The media's numbers.
    numbers: Numbers,
    /// Number in the retransmission stream, when it leaves in that.
    rtx: Option<u64>,
    /// Whether the picture ends with it for this receiver.
    ends_picture: bool,
    piece: Piece,
}

impl Plan {
    /// An empty plan with its memory reserved.
    pub(super) fn new() -> Plan {
        Plan {
            packets: Vec::with_capacity(BURST_SEGMENTS_MAX),
            burst: Burst::default(),
            indices: Vec::with_capacity(BURST_SEGMENTS_MAX),
            extensions: Encoded {
                block: ExtensionBlock::new(),
                send_time: [0; 3],
                of: None,
            },
            oldest: None,
        }
    }

    fn begin(&mut self, now: Ntp) {
        self.packets.clear();
        self.burst = Burst::default();
        self.oldest = None;
        self.extensions.begin(now);
    }

    /// Adds a packet that leaves for the first time.
    fn push_new(&mut self, planned: Planned) {
        let arrived = planned.entry.stamp.arrived;
        self.oldest = Some(self.oldest.map_or(arrived, |oldest| oldest.min(arrived)));
        self.packets.push(planned);
    }

    /// Size of a packet of `body` bytes as a datagram, without padding.
    fn datagram_len(
        &mut self,
        sender: (SenderKey, &Sender),
        (entry, list): (&Entry, &[u8]),
        shift: Shift,
        body: usize,
        seal: &SealKey,
    ) -> usize {
        let extensions = self.extensions.block(sender, entry, list, shift);
        HEADER_LEN + extensions.len() + body + seal.overhead()
    }
}

impl Engine {
    /// The next burst of media, of whichever session is next.
    pub(super) fn poll_media(&mut self, now: Instant, slot: &mut [u8]) -> Option<Transmit> {
        while let Some(&key) = self.ready.front() {
            self.touch_next();
            let transmit = self.poll_session(now, key, slot);
            let soon = self.moment(now).soon;
            let senders = &self.senders;
            let is_done = self.sessions.get_mut(key).is_none_or(|session| {
                session.is_ready = transmit.is_some() && session.has_due(senders, soon);
                !session.is_ready
            });
            if is_done {
                self.ready.pop_front();
            }
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// Has what the next sessions' bursts need brought into the cache while this one's is made. After a
    /// worker's sleep between two frames it is all cold, and the packets' own path, which needs one thing
    /// after the other, would wait for each by itself.
    fn touch_next(&self) {
        let session = |ahead: usize| self.sessions.get(*self.ready.get(ahead)?);
        let sender =
            session(SENDER_AHEAD).and_then(|session| self.senders.get(*session.pending.first()?));
        black_box(session(SESSION_AHEAD).map(Session::touch));
        black_box(sender.map(Sender::touch));
    }

    fn poll_session(&mut self, now: Instant, key: SessionKey, slot: &mut [u8]) -> Option<Transmit> {
        let Moment {
            ntp, soon, late, ..
        } = *self.moment(now);
        let session = self.sessions.get_mut(key)?;
        let path = session.ice.media_path()?;
        self.plan.begin(ntp);
        let mut planner = Planner {
            tracks: &self.tracks,
            senders: &mut self.senders,
            counters: &mut self.counters,
            plan: &mut self.plan,
            lateness: Lateness::new(late),
        };
        planner.plan_resends(session);
        planner.plan_media(session, soon);
        if let Some(track) = planner.lateness.keyframe_wanted() {
            self.request_keyframe(now, track);
        }
        let len = self.write_burst(key, slot)?;
        let segment = self.plan.burst.segment.min(len);
        self.count_send(now);
        Some(Transmit { path, len, segment })
    }

    fn count_send(&mut self, now: Instant) {
        let Plan {
            packets, oldest, ..
        } = &self.plan;
        let held = oldest.map_or(Duration::ZERO, |oldest| {
            now.saturating_duration_since(oldest)
        });
        let counters = &mut self.counters;
        counters.media_sends += 1;
        counters.media_sends_held_us += held.as_micros() as u64;
        counters.rtp_forwarded += packets.len() as u64;
        if packets.len() > 1 {
            counters.rtp_sent_in_bursts += packets.len() as u64;
        }
    }

    /// Writes and seals what was planned, and returns its length; `None` for nothing.
    fn write_burst(&mut self, key: SessionKey, slot: &mut [u8]) -> Option<usize> {
        let session = self.sessions.get_mut(key)?;
        let seal = &session.keys.as_ref()?.seal;
        let Plan {
            packets,
            burst,
            indices,
            extensions,
            ..
        } = &mut self.plan;
        let mut len = 0;
        indices.clear();
        for (index, planned) in packets.iter().enumerate() {
            let sender = self.senders.get_mut(planned.sender)?;
            let padding = burst.padding(index, planned.piece);
            if padding > 0 && planned.rtx.is_none() {
                sender.handle_padded(planned.numbers.sequence);
            }
            let track = self.tracks.get(planned.track)?;
            let list = track.log.extensions(&planned.entry);
            let shift = planned.numbers.shift;
            let block = extensions.block((planned.sender, sender), &planned.entry, list, shift);
            let room = slot.get_mut(len..len + planned.piece.len + padding)?;
            let written = planned.write(room, sender, track, block, seal, padding as u8);
            // A packet that was planned fits: its size was counted with the same extensions.
            debug_assert_eq!(written, Some(room.len()), "a packet is as long as planned");
            len += written?;
            indices.push(planned.index());
        }
        seal.sign_burst(slot.get_mut(..len)?, burst.segment, indices)?;
        (len > 0).then_some(len)
    }
}

impl Planned {
    /// Its SRTP index.
    fn index(&self) -> u64 {
        self.rtx.unwrap_or(self.numbers.sequence)
    }

    /// Whether its picture has another number for this receiver.
    fn is_renumbered(&self) -> bool {
        let shift = self.numbers.shift;
        self.route.treatment == Treatment::Renumber && (shift.picture != 0 || shift.base != 0)
    }

    /// Writes the packet into `room`, which has exactly its size.
    fn write(
        &self,
        room: &mut [u8],
        sender: &Sender,
        track: &Track,
        block: &ExtensionBlock,
        seal: &SealKey,
        padding: u8,
    ) -> Option<usize> {
        let body = self.route.body(track.log.payload(&self.entry))?;
        let mut header = RtpHeader {
            marker: self.entry.stamp.marker || self.ends_picture,
            payload_type: self.route.payload_type,
            sequence: self.numbers.sequence as u16,
            timestamp: self.numbers.timestamp,
            ssrc: sender.spec.ssrc,
            padding: padding > 0,
        };
        if let Some(index) = self.rtx {
            header.sequence = index as u16;
            header.ssrc = sender.spec.rtx?;
            header.payload_type = self.route.rtx?;
            let header_len = header.write(room, block)?;
            let plain = room.get_mut(header_len..)?;
            let (osn, rest) = plain.split_first_chunk_mut::<OSN_LEN>()?;
            *osn = (self.numbers.sequence as u16).to_be_bytes();
            let copy = rest.get_mut(..body.len())?;
            copy.copy_from_slice(body);
            if self.is_renumbered() {
                renumber(copy, self.numbers.shift);
            }
            let padding_room = rest.get_mut(body.len()..body.len() + usize::from(padding))?;
            padding_room.fill(0);
            if let Some(last) = padding_room.last_mut() {
                *last = padding;
            }
            let plain_len = OSN_LEN + body.len() + usize::from(padding);
            return seal.seal_rtp_in_place_of_burst(room, header_len, plain_len, index);
        }
        let index = self.numbers.sequence;
        let header_len = header.write(room, block)?;
        match self.route.treatment {
            Treatment::Renumber if self.is_renumbered() => {
                let copy = room.get_mut(header_len..header_len + body.len())?;
                copy.copy_from_slice(body);
                renumber(copy, self.numbers.shift);
                seal.seal_rtp_in_place_of_burst(room, header_len, body.len(), index)
            }
            Treatment::Copy | Treatment::Renumber | Treatment::Unwrap => {
                seal.seal_rtp_of_burst(room, header_len, body, padding, index)
            }
            Treatment::Rename(from, to) => {
                let copy = room.get_mut(header_len..header_len + body.len())?;
                copy.copy_from_slice(body);
                // A payload that is not what it claims to be leaves as it came.
                let _ = red::rewrite(copy, from, to);
                seal.seal_rtp_in_place_of_burst(room, header_len, body.len(), index)
            }
        }
    }
}

/// Fills a plan from what waits for one session.
struct Planner<'a> {
    tracks: &'a Slab<Track>,
    senders: &'a mut Slab<Sender>,
    counters: &'a mut Counters,
    plan: &'a mut Plan,
    lateness: Lateness,
}

impl Planner<'_> {
    /// What was asked for again goes first: somebody waits for it.
    fn plan_resends(&mut self, session: &mut Session) {
        let Some(seal) = session.keys.as_ref().map(|keys| &keys.seal) else {
            return;
        };
        let mut done = 0;
        while let Some(resend) = session.resends.peek(done) {
            let Some(planned) = self.prepare_resend(resend, seal) else {
                self.counters.drop_nack_too_late += 1;
                done += 1;
                continue;
            };
            if !self.plan.burst.push(planned.piece) {
                break;
            }
            if planned.rtx.is_some()
                && let Some(sender) = self.senders.get_mut(resend.sender)
            {
                sender.rtx_next += 1;
            }
            self.plan.packets.push(planned);
            self.counters.rtp_retransmitted += 1;
            done += 1;
        }
        session.resends.pop(done);
    }

    fn prepare_resend(&mut self, resend: Resend, seal: &SealKey) -> Option<Planned> {
        let sender = self.senders.get(resend.sender)?;
        let source = sender.source.as_ref()?;
        let track = self.tracks.get(source.track)?;
        let incoming = sender.numbering.invert(resend.sequence)?;
        let entry = *track.log.find(incoming)?;
        let numbers = sender.numbering.translate(&entry.stamp)?;
        let route = source.route(entry.stamp.format)?;
        let body = route.body(track.log.payload(&entry))?.len();
        let has_rtx = sender.spec.rtx.is_some() && route.rtx.is_some();
        if body == 0 || (!has_rtx && !sender.is_repeatable(resend.sequence)) {
            return None;
        }
        let body = body + if has_rtx { OSN_LEN } else { 0 };
        let list = track.log.extensions(&entry);
        let len = self.plan.datagram_len(
            (resend.sender, sender),
            (&entry, list),
            numbers.shift,
            body,
            seal,
        );
        let piece = Piece {
            len,
            paddable: has_rtx,
        };
        let rtx = has_rtx.then_some(sender.rtx_next);
        Some(Planned {
            sender: resend.sender,
            track: source.track,
            entry,
            route,
            numbers,
            rtx,
            ends_picture: source.layers.ends_picture(entry.stamp.layer),
            piece,
        })
    }

    /// Takes packets from the logs until the burst is full. What is held and not due stays, but for
    /// audio that fits behind what leaves anyway.
    fn plan_media(&mut self, session: &mut Session, soon: Soon) {
        let audio_due = session.audio_wait.is_due(soon.of(MediaKind::Audio));
        let video_due = session.video_wait.is_due(soon.of(MediaKind::Video));
        let Some(keys) = session.keys.as_ref() else {
            return;
        };
        let (mut bytes, mut index) = (0, 0);
        let (mut audio_left, mut video_left) = (false, false);
        let mut is_full = false;
        while let Some(&key) = session.pending.get(index) {
            let kind = self.senders.get(key).map(|sender| sender.spec.kind);
            let leaves = match kind {
                Some(MediaKind::Audio) => audio_due || self.plan.burst.pieces > 0,
                Some(MediaKind::Video) => video_due,
                None => true,
            };
            is_full |= leaves && !is_full && !self.plan_sender(key, &keys.seal, &mut bytes);
            if leaves && !is_full {
                session.pending.remove(index);
                if let Some(sender) = self.senders.get_mut(key) {
                    sender.is_pending = false;
                }
                continue;
            }
            audio_left |= kind == Some(MediaKind::Audio);
            video_left |= kind == Some(MediaKind::Video);
            index += 1;
        }
        if !audio_left {
            session.audio_wait.end();
        }
        if !video_left {
            session.video_wait.end();
        }
        session.resends.handle_sent(bytes);
    }

    /// Plans what one sender has to send; whether that was all of it.
    fn plan_sender(&mut self, key: SenderKey, seal: &SealKey, bytes: &mut usize) -> bool {
        loop {
            if !self.plan_track(key, seal, bytes) {
                return false;
            }
            let sender = self.senders.get_mut(key);
            if !sender.is_some_and(|sender| switching::go_over(sender, self.tracks)) {
                return true;
            }
        }
    }

    /// Plans what one sender has to send of the track that it reads; whether that was all of it.
    fn plan_track(&mut self, key: SenderKey, seal: &SealKey, bytes: &mut usize) -> bool {
        let Some(sender) = self.senders.get_mut(key) else {
            return true;
        };
        let Some(source) = sender.source.as_ref().filter(|source| !source.is_off) else {
            return true;
        };
        let (track_key, until) = (source.track, source.until());
        let Some(track) = self.tracks.get(track_key) else {
            return true;
        };
        self.counters.drop_subscriber_behind += catch_up(sender, track.log.tail());
        let mut choosing = Choosing {
            track,
            until,
            counters: self.counters,
            lateness: &mut self.lateness,
        };
        // What a packet without extensions of its own has besides its body.
        let mut around = None;
        while let Some(chosen) = choosing.next(sender) {
            let (entry, numbers) = (chosen.entry, chosen.numbers);
            let list = track.log.extensions(entry);
            let mut len_with = |body| {
                let plan = &mut *self.plan;
                plan.datagram_len((key, sender), (entry, list), numbers.shift, body, seal)
            };
            let len = if list.is_empty() {
                *around.get_or_insert_with(|| len_with(0)) + chosen.body_len
            } else {
                len_with(chosen.body_len)
            };
            let paddable = may_pad(sender, &chosen.route);
            let piece = Piece { len, paddable };
            if !self.plan.burst.push(piece) {
                return false;
            }
            sender.numbering.commit(&entry.stamp, numbers);
            sender.packets = sender.packets.wrapping_add(1);
            sender.octets = sender.octets.wrapping_add(chosen.body_len as u32);
            advance(sender);
            *bytes += chosen.body_len;
            self.plan.push_new(Planned {
                sender: key,
                track: track_key,
                entry: *entry,
                route: chosen.route,
                numbers,
                rtx: None,
                ends_picture: chosen.ends_picture,
                piece,
            });
        }
        true
    }
}

/// Chooses, packet by packet, what a sender sends of the track that it reads.
struct Choosing<'a> {
    track: &'a Track,
    /// The first packet that is not its any more.
    until: u64,
    counters: &'a mut Counters,
    lateness: &'a mut Lateness,
}

/// A packet that is to leave.
struct Chosen<'a> {
    entry: &'a Entry,
    route: Route,
    numbers: Numbers,
    body_len: usize,
    ends_picture: bool,
}

impl<'a> Choosing<'a> {
    /// The next packet that is to leave. What is not is passed over.
    #[inline]
    fn next(&mut self, sender: &mut Sender) -> Option<Chosen<'a>> {
        loop {
            let cursor = sender.source.as_ref()?.cursor;
            let entry = self.track.log.entry(cursor);
            let entry = entry.filter(|_| cursor < self.until)?;
            if self.lateness.leaves_out(sender, self.track, entry) {
                leave_out(sender, &entry.stamp, self.counters);
                continue;
            }
            let source = sender.source.as_mut()?;
            let Stamp {
                layer, keyframe, ..
            } = entry.stamp;
            if source.layers.leaves_out(layer, keyframe) {
                self.counters.layer_not_sent += 1;
                sender.numbering.skip(&entry.stamp);
                advance(sender);
                continue;
            }
            let ends_picture = source.layers.ends_picture(layer);
            let route = source.route(entry.stamp.format);
            let body = route.and_then(|route| route.body(self.track.log.payload(entry)));
            let (Some(route), Some(body)) = (route, body.filter(|body| !body.is_empty())) else {
                // Padding, or a format that the receiver does not take: its numbers close over it.
                self.counters.drop_format_not_accepted += u64::from(entry.payload_len() > 0);
                sender.numbering.skip(&entry.stamp);
                advance(sender);
                continue;
            };
            let clock_rate = self.track.clock_rate(entry.stamp.format);
            let Some(numbers) = sender.numbering.upcoming(&entry.stamp, clock_rate) else {
                advance(sender);
                continue;
            };
            return Some(Chosen {
                entry,
                route,
                numbers,
                body_len: body.len(),
                ends_picture,
            });
        }
    }
}

/// Whether a packet may leave with padding. Without RTX it may have to leave a second time just as it
/// did the first, and nobody remembers how it was padded: a voice is not asked for again, a picture is.
fn may_pad(sender: &Sender, route: &Route) -> bool {
    let has_rtx = sender.spec.rtx.is_some() && route.rtx.is_some();
    let is_voice = sender.spec.kind == MediaKind::Audio;
    (has_rtx || is_voice) && !matches!(route.treatment, Treatment::Rename(..))
}

/// Moves a sender on to what is still in the log, and returns how many packets it missed.
fn catch_up(sender: &mut Sender, tail: u64) -> u64 {
    let Some(source) = &mut sender.source else {
        return 0;
    };
    let lost = tail.saturating_sub(source.cursor);
    source.cursor += lost;
    if lost > NUMBERS_SKIPPED_MAX {
        sender.numbering.detach();
    }
    lost
}

/// Leaves out a packet that comes too late.
fn leave_out(sender: &mut Sender, stamp: &Stamp, counters: &mut Counters) {
    match sender.spec.kind {
        // A voice that is left out is lost; a picture's numbers close over it, so that nobody asks
        // for it again.
        MediaKind::Audio => counters.drop_late_audio += 1,
        MediaKind::Video => {
            counters.drop_late_video += 1;
            sender.numbering.skip(stamp);
        }
    }
    advance(sender);
}

fn advance(sender: &mut Sender) {
    if let Some(source) = &mut sender.source {
        source.cursor += 1;
    }
}
