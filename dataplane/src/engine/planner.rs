//! What a burst holds: what waits for one session, packet by packet, as far as it may leave now.

use super::burst::Piece;
use super::downlink;
use super::egress::{FILLER_LEN, OSN_LEN, Plan, Planned};
use super::hold::Soon;
use super::log::{Entry, Stamp};
use super::numbering::{NUMBERS_SKIPPED_MAX, Numbers, Shift};
use super::resend::Resend;
use super::sender::{Route, Sender, SenderKey, Treatment};
use super::session::Session;
use super::slab::Slab;
use super::switching;
use super::thinning::Lateness;
use super::track::Track;
use crate::command::MediaKind;
use crate::counters::Counters;
use crate::srtp::SealKey;

/// Fills a plan from what waits for one session.
pub(super) struct Planner<'a> {
    pub(super) tracks: &'a Slab<Track>,
    pub(super) senders: &'a mut Slab<Sender>,
    pub(super) counters: &'a mut Counters,
    pub(super) plan: &'a mut Plan,
    pub(super) lateness: Lateness,
    /// Bytes of video that may leave now. Voices do not wait, but count.
    pub(super) allowance: usize,
}

impl Planner<'_> {
    /// What was asked for again goes first: somebody waits for it.
    pub(super) fn plan_resends(&mut self, session: &mut Session) {
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
            self.allowance = self.allowance.saturating_sub(planned.piece.len);
            self.plan.packets.push(planned);
            self.counters.rtp_retransmitted += 1;
            done += 1;
        }
        session.resends.pop(done);
    }

    fn prepare_resend(&mut self, resend: Resend, seal: &SealKey) -> Option<Planned> {
        let sender = self.senders.get(resend.sender)?;
        let source = sender.source.as_ref()?;
        if source.layers.is_paused() {
            // Nobody can show it any more, and what is to be shown next would wait behind it.
            return None;
        }
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
            is_marked: was_last_of_picture(sender, track, &entry),
            is_filler: false,
            piece,
        })
    }

    /// What a probe lacks in media, of so many bytes, is padding, with the retransmissions of a stream that has some.
    pub(super) fn plan_filler(&mut self, session: &Session, lacks: usize) {
        let Some(seal) = session.keys.as_ref().map(|keys| &keys.seal) else {
            return;
        };
        let senders = &self.senders;
        let mut keys = session.senders.iter().map(|(key, _)| *key);
        let key = keys.find(|key| senders.get(*key).is_some_and(downlink::pads));
        let planned = self.plan.packets.iter().map(|planned| planned.piece.len);
        let mut lacks = lacks.saturating_sub(planned.sum());
        while lacks > 0
            && let Some(planned) = key.and_then(|key| self.filler(key, seal))
        {
            if !self.plan.burst.push(planned.piece) {
                break;
            }
            if let Some(sender) = self.senders.get_mut(planned.sender) {
                sender.rtx_next += 1;
            }
            lacks = lacks.saturating_sub(planned.piece.len);
            self.plan.packets.push(planned);
            self.counters.padding_sent += 1;
        }
    }

    fn filler(&mut self, key: SenderKey, seal: &SealKey) -> Option<Planned> {
        let sender = self.senders.get(key)?;
        let source = sender.source.as_ref()?;
        let entry = self.tracks.get(source.track)?.log.latest()?.bare();
        let route = source.route(entry.stamp.format)?;
        route.rtx?;
        let numbers = Numbers {
            sequence: 0,
            timestamp: sender.numbering.last_timestamp(),
            shift: Shift::default(),
        };
        let len = self.plan.datagram_len(
            (key, sender),
            (&entry, &[]),
            numbers.shift,
            FILLER_LEN,
            seal,
        );
        Some(Planned {
            sender: key,
            track: source.track,
            entry,
            route,
            numbers,
            rtx: Some(sender.rtx_next),
            is_marked: false,
            is_filler: true,
            piece: Piece {
                len,
                paddable: false,
            },
        })
    }

    /// Takes packets from the logs until the burst is full. What is held and not due stays, but for
    /// audio that fits behind what leaves anyway.
    pub(super) fn plan_media(&mut self, session: &mut Session, soon: Soon) {
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
                Some(MediaKind::Video) => video_due && self.allowance > 0,
                None => true,
            };
            let is_done = leaves && !is_full && self.plan_sender(key, &keys.seal, &mut bytes);
            // Voices do not wait for the pace of a video.
            let is_video = kind == Some(MediaKind::Video);
            is_full |= leaves && !is_done && !(is_video && self.allowance == 0);
            if is_done {
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
        let track_key = source.track;
        let Some(track) = self.tracks.get(track_key) else {
            return true;
        };
        let until = source.until().min(track.pause.bound());
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
            let must_wait = self.allowance == 0 && sender.spec.kind == MediaKind::Video;
            if must_wait || !self.plan.burst.push(piece) {
                return false;
            }
            self.allowance = self.allowance.saturating_sub(len);
            sender.numbering.commit(&entry.stamp, numbers);
            if chosen.is_marked {
                sender.begin_talk(numbers.sequence);
            }
            if matches!(chosen.route.treatment, Treatment::Wrap(..)) {
                // What was repeated with it may be gone when it is asked for again.
                sender.handle_altered(numbers.sequence);
                choosing.counters.rtp_with_redundancy += 1;
            }
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
                is_marked: chosen.is_marked,
                is_filler: false,
                piece,
            });
        }
        true
    }
}

/// Whether the picture ended with this packet for the receiver when it was sent, because what follows in it was
/// left out.
fn was_last_of_picture(sender: &Sender, track: &Track, entry: &Entry) -> bool {
    let is_left_out = |after: &Entry| {
        let is_same_picture = after.stamp.timestamp == entry.stamp.timestamp;
        is_same_picture && sender.numbering.translate(&after.stamp).is_none()
    };
    let after = track.log.find(entry.stamp.sequence + 1);
    entry.stamp.layer.ends_frame() && after.is_some_and(is_left_out)
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
    is_marked: bool,
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
            let is_marked = source.layers.ends_picture(layer) || source.begins_talk;
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
            let numbering = &sender.numbering;
            let numbers = numbering.upcoming(&entry.stamp, entry.is_late(), clock_rate);
            let Some(numbers) = numbers else {
                advance(sender);
                continue;
            };
            let (mut route, mut body_len) = (route, body.len());
            if route.red.is_some()
                && let Some(wrapped) = sender.redundancy.wrap(self.track, entry, route)
            {
                (route, body_len) = wrapped;
            }
            return Some(Chosen {
                entry,
                route,
                numbers,
                body_len,
                is_marked,
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
