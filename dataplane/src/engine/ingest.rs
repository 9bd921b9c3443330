//! Media on its way in: authenticated, decrypted once, and into its track's log.

use std::time::Instant;

use super::Engine;
use super::extensions::ForwardedIds;
use super::layers::describe;
use super::log::Stamp;
use super::nack::Arrival;
use super::resolve::resolve;
use super::session::{Session, SessionKey};
use super::source::Source;
use super::track::{Place, Track, TrackKey, Use, has_keyframes};
use crate::command::PayloadKind;
use crate::counters::Counters;
use crate::event::Event;
use crate::id::{FormatIndex, Ssrc, TrackId};
use crate::wire::{RtpView, padding_len};

/// Bytes of the original sequence number in a retransmission (RFC 4588 section 4).
const OSN_LEN: usize = 2;

/// Why a packet went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Malformed,
    NoKeys,
    OverRate,
    UnknownSource,
    UnknownFormat,
    Replayed,
    Unauthenticated,
}

impl Refused {
    fn count(self, counters: &mut Counters) {
        match self {
            Refused::Malformed => counters.drop_rtp_malformed += 1,
            Refused::NoKeys => counters.drop_no_keys += 1,
            Refused::OverRate => counters.drop_over_rate += 1,
            Refused::UnknownSource => counters.drop_unknown_ssrc += 1,
            Refused::UnknownFormat => counters.drop_unknown_format += 1,
            Refused::Replayed => counters.drop_replayed += 1,
            Refused::Unauthenticated => counters.drop_unauthenticated += 1,
        }
    }
}

/// A packet that was authentic.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// What came into the log of it.
    logged: Option<Logged>,
    /// Its transport-wide number, if it has one, and its source.
    transport: Option<(u16, Ssrc)>,
}

/// A packet that is in the log now.
#[derive(Clone, Copy, Debug)]
struct Logged {
    track: TrackKey,
    payload_len: usize,
    /// Whether its source is a new one for the track.
    is_new_source: bool,
    /// Whether it is the track's first at all.
    is_first: bool,
    /// What its arrival says of others of its source.
    arrival: Arrival,
    audio_level: Option<u8>,
    /// Whether a key frame begins with it.
    is_keyframe: bool,
}

impl Engine {
    /// Takes one SRTP packet of a session, or an RTP packet of a feed.
    pub(super) fn handle_rtp(&mut self, now: Instant, key: SessionKey, packet: &[u8]) {
        match self.log_packet(now, key, packet) {
            Ok(Taken { logged, transport }) => {
                if let Some(numbered) = transport {
                    self.note_arrival(now, key, numbered);
                }
                // Without it: padding that carries nothing.
                if let Some(logged) = logged {
                    self.on_logged(now, key, logged);
                }
            }
            Err(refused) => refused.count(&mut self.counters),
        }
    }

    /// Everything that a packet in the log entails.
    fn on_logged(&mut self, now: Instant, key: SessionKey, logged: Logged) {
        self.counters.rtp_received += 1;
        self.counters.bytes_received += logged.payload_len as u64;
        let Some(track) = self.tracks.get_mut(logged.track) else {
            return;
        };
        track.bits += 8 * logged.payload_len as u64;
        self.relay.note_packet(logged.track, track);
        let (id, is_video) = (track.spec.track, has_keyframes(track.spec.kind));
        let is_fed = track.is_fed;
        let has_lost_top = track.top.is_gone();
        if let Some(level) = logged.audio_level
            && let Some(speaking) = track.speech.handle_level(now, level)
        {
            self.on_speaking(logged.track, speaking);
        }
        self.hear(now, logged.track, logged.audio_level);
        self.mark_dirty(logged.track);
        if logged.is_keyframe {
            self.on_keyframe(logged.track);
        }
        if has_lost_top {
            self.request_keyframe(now, logged.track);
        }
        if logged.is_first && !self.has_begun_otherwise(id, logged.track) {
            self.events.push_back(Event::TrackStarted { track: id });
        }
        if logged.is_new_source && is_video && !is_fed {
            // libwebrtc takes the first estimates that it is told in a stream's first two seconds
            // at their word, instead of feeling its way up from 300 kbit/s: tell it at once.
            self.send_reports(now, key);
        }
        match logged.arrival {
            Arrival::Expected => {}
            Arrival::Gap => self.watch_missing(key),
            Arrival::Hopeless => self.request_keyframe(now, logged.track),
        }
    }

    /// Whether another encoding of the stream has begun before this one.
    fn has_begun_otherwise(&self, id: TrackId, key: TrackKey) -> bool {
        let encodings = self.names.tracks.get(&id);
        let others = encodings.into_iter().flatten().filter(|its| **its != key);
        let mut others = others.filter_map(|other| self.tracks.get(*other));
        others.any(|other| other.ssrc().is_some())
    }

    fn log_packet(
        &mut self,
        now: Instant,
        key: SessionKey,
        packet: &[u8],
    ) -> Result<Taken, Refused> {
        let view = RtpView::parse(packet).map_err(|_| Refused::Malformed)?;
        let session = self.sessions.get_mut(key).ok_or(Refused::UnknownSource)?;
        if session.keys.is_none() && !session.is_feed {
            return Err(Refused::NoKeys);
        }
        if !session.intake.take(now, packet.len(), self.intake_max) {
            return Err(Refused::OverRate);
        }
        let known = session
            .sources
            .iter()
            .position(|source| source.ssrc == view.ssrc());
        let track_key = match known.and_then(|index| session.sources.get(index)) {
            Some(source) => source.track,
            None => resolve(session, &self.tracks, &view).ok_or(Refused::UnknownSource)?,
        };
        let track = self
            .tracks
            .get_mut(track_key)
            .ok_or(Refused::UnknownSource)?;
        let usage = track
            .usage(view.payload_type())
            .ok_or(Refused::UnknownFormat)?;
        ForwardedIds::list(&track.ids, view.extensions(), &mut self.extension_list);
        if track.spec.extensions.abs_capture_time.is_some()
            && let Some(ahead) = session.remote_clock.offset()
        {
            self.extension_list.complete_capture_time(ahead);
        }
        let transport = transport_number(track, &view).map(|number| (number, view.ssrc()));
        let taken = |logged| Taken { logged, transport };
        let mut ingest = Ingest {
            now,
            track_key,
            track,
            packet,
            view: &view,
            list: self.extension_list.as_bytes(),
            audio_level: self.extension_list.audio_level(),
            is_keyframe: false,
        };
        let is_repair = matches!(usage, Use::Repair(_));
        let Some(index) = known else {
            // Nothing is remembered of a source before a packet of it was authentic.
            let nack = ingest.track.spec.nack && !ingest.track.is_fed;
            let mut source = Source::new(view.ssrc(), track_key, is_repair, nack);
            // A section that is taken up again may go on with the SSRC, and the rollovers, of before.
            if let Some(window) = session.retired_window(view.ssrc()) {
                source.window = window;
            }
            let logged = ingest.log(session, &mut source, usage, false)?;
            session.revive_source(view.ssrc());
            session.sources.push(source);
            return Ok(taken(logged));
        };
        // The source is taken out while its session is worked on, and put back in its place.
        let vacant = Source::new(view.ssrc(), track_key, is_repair, false);
        let Some(place) = session.sources.get_mut(index) else {
            return Ok(taken(None));
        };
        let mut source = std::mem::replace(place, vacant);
        let logged = ingest.log(session, &mut source, usage, true);
        if let Some(place) = session.sources.get_mut(index) {
            *place = source;
        }
        logged.map(taken)
    }
}

/// The number that feedback on the packet is to name
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2).
fn transport_number(track: &Track, view: &RtpView<'_>) -> Option<u16> {
    let wanted = track
        .spec
        .extensions
        .transport_cc
        .filter(|_| !track.is_fed)?;
    let (_, value) = view.extensions().find(|(id, _)| *id == wanted)?;
    value.try_into().ok().map(u16::from_be_bytes)
}

/// One packet, its track known.
struct Ingest<'a> {
    now: Instant,
    track_key: TrackKey,
    track: &'a mut Track,
    packet: &'a [u8],
    view: &'a RtpView<'a>,
    list: &'a [u8],
    audio_level: Option<u8>,
    /// Whether a key frame begins with what was kept.
    is_keyframe: bool,
}

impl Ingest<'_> {
    fn log(
        &mut self,
        session: &mut Session,
        source: &mut Source,
        usage: Use,
        was_heard: bool,
    ) -> Result<Option<Logged>, Refused> {
        match usage {
            Use::Media(format) if !source.is_repair => {
                self.log_media(session, source, format, was_heard)
            }
            Use::Repair(format) if source.is_repair => self.log_repair(session, source, format),
            Use::Media(_) | Use::Repair(_) => Err(Refused::UnknownFormat),
        }
    }

    fn log_media(
        &mut self,
        session: &Session,
        source: &mut Source,
        format: FormatIndex,
        was_heard: bool,
    ) -> Result<Option<Logged>, Refused> {
        let (now, ssrc) = (self.now, self.view.ssrc());
        let index = source.window.estimate(self.view.sequence());
        if !source.window.is_fresh(index) {
            return Err(Refused::Replayed);
        }
        let place = self
            .track
            .place(now, ssrc, was_heard, index)
            .ok_or(Refused::UnknownSource)?;
        if self.track.log.refuses(place.sequence) {
            return Err(Refused::Replayed);
        }
        let payload = self.open(session, format, index)?;
        source.window.accept(index);
        let clock_rate = self.track.clock_rate(format);
        source
            .reception
            .handle_packet(now, index, self.view.timestamp(), clock_rate);
        let arrival = match &mut source.missing {
            Some(missing) => missing.handle_packet(now, index),
            None => Arrival::Expected,
        };
        let is_first = self.track.ssrc().is_none();
        let is_new_source = self.track.handle_source(now, ssrc, place, format);
        let payload_len = self.commit(place, format, payload, 0)?;
        Ok(Some(Logged {
            track: self.track_key,
            payload_len,
            is_new_source,
            is_first,
            arrival,
            audio_level: self.audio_level,
            is_keyframe: self.is_keyframe,
        }))
    }

    /// A retransmission: what it repairs enters the log as a late packet (RFC 4588).
    fn log_repair(
        &mut self,
        session: &mut Session,
        source: &mut Source,
        format: FormatIndex,
    ) -> Result<Option<Logged>, Refused> {
        let index = source.window.estimate(self.view.sequence());
        if !source.window.is_fresh(index) {
            return Err(Refused::Replayed);
        }
        let payload = self.open(session, format, index)?;
        source.window.accept(index);
        let (list_len, plain_len) = (self.list.len(), self.unpadded(payload)?);
        let Some(ssrc) = self.track.ssrc() else {
            return Ok(None);
        };
        let media = session
            .sources
            .iter_mut()
            .find(|media| media.ssrc == ssrc && media.track == self.track_key);
        let Some(media) = media else { return Ok(None) };
        let osn = self
            .opened(list_len, plain_len)
            .first_chunk::<OSN_LEN>()
            .copied();
        // Without an original number it is a probe for bandwidth, made of padding.
        let Some(osn) = osn.filter(|_| plain_len > OSN_LEN) else {
            return Ok(None);
        };
        let index = media.window.estimate(u16::from_be_bytes(osn));
        let Some(place) = self.track.repaired_place(ssrc, index) else {
            return Ok(None);
        };
        // Nobody misses it: browsers probe for bandwidth with packets that they have sent before.
        if self.track.log.refuses(place.sequence) {
            return Ok(None);
        }
        media.reception.handle_recovered();
        let arrival = match &mut media.missing {
            Some(missing) => missing.handle_packet(self.now, index),
            None => Arrival::Expected,
        };
        let payload_len = self.commit(place, format, payload, OSN_LEN)?;
        Ok(Some(Logged {
            track: self.track_key,
            payload_len,
            is_new_source: false,
            is_first: false,
            arrival,
            audio_level: None,
            is_keyframe: self.is_keyframe,
        }))
    }

    /// Decrypts the packet straight into the log, behind its extensions, and returns the length
    /// of its plaintext. What a feed sends is that already.
    fn open(
        &mut self,
        session: &Session,
        format: FormatIndex,
        index: u64,
    ) -> Result<usize, Refused> {
        let header_len = self.view.header_len();
        if session.is_feed && self.begins_keyframe(format, header_len) {
            self.track.log.begin_keyframe(self.view.timestamp());
        }
        let len = self.list.len() + self.packet.len() - header_len;
        let slot = self.track.log.reserve(len).ok_or(Refused::Malformed)?;
        let (list, out) = slot.split_at_mut(self.list.len());
        list.copy_from_slice(self.list);
        let Some(keys) = &session.keys else {
            // Only a feed's packets come so far without keys.
            let plain = self.packet.get(header_len..).filter(|_| session.is_feed);
            out.copy_from_slice(plain.ok_or(Refused::NoKeys)?);
            return Ok(out.len());
        };
        keys.open
            .open_rtp(self.packet, header_len, index, out)
            .map_err(|_| Refused::Unauthenticated)
    }

    /// Whether a key frame begins with the packet, as far as that is to be known before it is written.
    fn begins_keyframe(&self, format: FormatIndex, header_len: usize) -> bool {
        let payload = self.packet.get(header_len..).unwrap_or_default();
        let format = self.track.format(format);
        self.track.log.keeps_group()
            && matches!(format.map(|format| format.payload), Some(PayloadKind::Video(codec)) if codec.starts_keyframe(payload))
    }

    /// Bytes of plaintext without RTP padding.
    fn unpadded(&self, plain_len: usize) -> Result<usize, Refused> {
        if !self.view.has_padding() {
            return Ok(plain_len);
        }
        let padding = padding_len(self.opened(self.list.len(), plain_len));
        Ok(plain_len - padding.ok_or(Refused::Malformed)?)
    }

    /// What was decrypted and is not committed yet.
    fn opened(&self, list_len: usize, plain_len: usize) -> &[u8] {
        self.track.log.reserved(list_len..list_len + plain_len)
    }

    /// Keeps the packet, its first `skip` bytes of plaintext left out; returns what is left.
    fn commit(
        &mut self,
        place: Place,
        format: FormatIndex,
        plain_len: usize,
        skip: usize,
    ) -> Result<usize, Refused> {
        let end = self.list.len() + self.unpadded(plain_len)?;
        let payload = self.list.len() + skip..end;
        let payload_len = payload.len();
        let list = self.track.log.reserved(0..self.list.len());
        let bytes = self.track.log.reserved(payload.clone());
        let payload_kind = self.track.format(format).map(|format| format.payload);
        let (structure, top) = (&mut self.track.structure, &mut self.track.top);
        let (layer, keyframe) = describe(payload_kind, bytes, list, structure, top);
        let stamp = Stamp {
            sequence: place.sequence,
            timestamp: self.view.timestamp(),
            arrived: self.now,
            epoch: place.epoch,
            marker: self.view.marker(),
            keyframe,
            format,
            layer,
        };
        self.track.log.commit(stamp, self.list.len(), payload);
        self.track.meter.handle_packet(self.now, layer, payload_len);
        self.is_keyframe = keyframe;
        Ok(payload_len)
    }
}
