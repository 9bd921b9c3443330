//! What control asks for, carried out.

use std::time::Instant;

use super::Engine;
use super::ice::Credentials;
use super::intake::Intake;
use super::sender::{FeedState, Sender, SenderKey};
use super::session::{Keys, Session, SessionKey};
use super::track::{Home, Track, TrackKey, encodings_len};
use crate::command::{Command, Feed, IceSpec, SenderSpec, SessionSpec, SrtpKeys, TrackSpec};
use crate::event::{CloseReason, DtlsInput, Event};
use crate::id::{SenderId, SessionId, Ssrc, TrackId};
use crate::limits::{
    CLOSING_MAX, CLOSING_TIMEOUT, CNAME_BYTES_MAX, FORMATS_MAX, RTCP_INTERVAL,
    TRACKS_PER_SESSION_MAX,
};

impl Engine {
    /// Carries out a command; `None` when what it names is gone.
    pub(super) fn carry_out(&mut self, now: Instant, command: Command) -> Option<()> {
        match command {
            Command::Open(spec) => self.open(now, *spec),
            Command::OpenFeed(spec) => self.open_feed(now, &spec),
            Command::Close { session } => {
                let key = *self.names.sessions.get(&session)?;
                self.end_session(now, key);
            }
            Command::RestartIce { session, ice } => {
                let key = *self.names.sessions.get(&session)?;
                self.restart_ice(key, ice);
            }
            Command::Publish { session, track } => {
                let key = *self.names.sessions.get(&session)?;
                self.publish(key, &track);
            }
            Command::Unpublish { track } => {
                self.names.tracks.get(&track)?;
                self.remove_stream(track);
            }
            Command::Export { track, to } => return self.export(now, track, to),
            Command::EndExport { track, to } => return self.end_export(track, to),
            Command::Import { track, from } => self.import(&track, from),
            Command::AddSender { session, sender } => {
                let key = *self.names.sessions.get(&session)?;
                self.add_sender(key, *sender);
                self.open_downlink(now, key);
            }
            Command::RemoveSender { sender } => {
                let key = *self.names.senders.get(&sender)?;
                self.remove_sender(key);
            }
            Command::Feed { sender, source } => return self.feed(now, sender, source),
            Command::Prefer { sender, preference } => {
                let key = *self.names.senders.get(&sender)?;
                self.senders.get_mut(key)?.standing.preference = preference;
                self.allocate_for(now, key);
            }
            Command::AfterRestart => {}
            Command::OpenData {
                session,
                message_bytes_max,
            } => return self.open_data(session, message_bytes_max),
            Command::Data { session, request } => return self.request_data(session, request),
            Command::DataEvent { session, event } => return self.tell_data(session, event),
            Command::DataDropped { drops } => self.count_data_drops(*drops),
            Command::DtlsTransmit { session, bytes } => {
                return self.transmit_dtls(session, &bytes);
            }
            Command::DtlsConnected { session, keys } => {
                let key = *self.names.sessions.get(&session)?;
                self.install_keys(now, key, &keys);
            }
            Command::DtlsClosed { session, reason } => {
                let key = *self.names.sessions.get(&session)?;
                self.close(now, key, reason);
            }
        }
        Some(())
    }

    fn open(&mut self, now: Instant, spec: SessionSpec) {
        let is_taken = self.names.sessions.contains_key(&spec.session)
            || self.ufrags.contains_key(spec.ice.local_ufrag.as_bytes());
        if is_taken {
            self.counters.command_refused += 1;
            return;
        }
        if !self.has_room_for(spec.session) {
            return;
        }
        let (id, ufrag) = (spec.session, spec.ice.local_ufrag.clone());
        let rtcp_ssrc = Ssrc(self.random.next() as u32);
        let intake = Intake::new(now, self.intake_max);
        let key = self
            .sessions
            .insert(Session::new(now, spec, rtcp_ssrc, intake));
        self.names.sessions.insert(id, key);
        self.ufrags
            .insert(ufrag.into_bytes().into_boxed_slice(), key);
        // The phase is random, so that sessions that opened together do not report together.
        let phase = RTCP_INTERVAL.mul_f64(0.5 + (self.random.next() % 512) as f64 / 1_024.0);
        self.schedule_tick(now + phase, key);
    }

    /// Whether one more session is within the limit; control hears of one that is not.
    pub(super) fn has_room_for(&mut self, session: SessionId) -> bool {
        let has_room = self.sessions.len() < self.config.sessions_max;
        if !has_room {
            let reason = CloseReason::AtLimit;
            self.events.push_back(Event::Closed { session, reason });
        }
        has_room
    }

    /// The session ended by itself.
    pub(super) fn close(&mut self, now: Instant, key: SessionKey, reason: CloseReason) {
        if let Some(session) = self.end_session(now, key) {
            self.events.push_back(Event::Closed { session, reason });
        }
    }

    /// Forgets a session and everything that hangs on it.
    fn end_session(&mut self, now: Instant, key: SessionKey) -> Option<SessionId> {
        let session = self.sessions.get_mut(key)?;
        let id = session.id;
        for track in std::mem::take(&mut session.tracks) {
            // The first encoding takes the others with it.
            if let Some(track) = self.track_id(track) {
                self.remove_stream(track);
            }
        }
        let session = self.sessions.get_mut(key)?;
        for (sender, _) in std::mem::take(&mut session.senders) {
            self.remove_sender(sender);
        }
        let session = self.sessions.remove(key)?;
        self.names.sessions.remove(&id);
        for path in session.ice.paths() {
            self.paths.remove(&path);
        }
        for ufrag in session.ice.local_ufrags() {
            self.ufrags.remove(ufrag.as_bytes());
        }
        if let Some(path) = session.ice.handshake_path() {
            // The handshake threads still have a goodbye to send, which needs to know where.
            while self.closing.len() >= CLOSING_MAX
                || self
                    .closing
                    .front()
                    .is_some_and(|(_, _, at)| now >= *at + CLOSING_TIMEOUT)
            {
                self.closing.pop_front();
            }
            self.closing.push_back((id, path, now));
            self.dtls.push_back(DtlsInput::Close { session: id });
        }
        Some(id)
    }

    fn restart_ice(&mut self, key: SessionKey, ice: IceSpec) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.is_feed || self.ufrags.contains_key(ice.local_ufrag.as_bytes()) {
            self.counters.command_refused += 1;
            return;
        }
        self.ufrags.insert(ice.local_ufrag.as_bytes().into(), key);
        if let Some(abandoned) = session.ice.restart(Credentials::new(ice)) {
            self.ufrags.remove(abandoned.as_bytes());
        }
    }

    fn publish(&mut self, key: SessionKey, spec: &TrackSpec) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if spec.formats.len() > FORMATS_MAX {
            self.counters.command_refused += 1;
            return;
        }
        if let Some(&first) = self
            .names
            .tracks
            .get(&spec.track)
            .and_then(|all| all.first())
        {
            if self
                .tracks
                .get(first)
                .is_some_and(|track| track.session() == Some(key))
            {
                self.replace_stream(Home::Session(key), spec);
            } else {
                self.counters.command_refused += 1;
            }
            return;
        }
        let published = session
            .tracks
            .iter()
            .filter_map(|key| self.tracks.get(*key));
        let streams = published.filter(|track| track.encoding == 0).count();
        if streams >= TRACKS_PER_SESSION_MAX {
            self.counters.command_refused += 1;
            return;
        }
        self.add_stream(Home::Session(key), spec);
    }

    /// Makes the tracks of a stream that is not known yet.
    pub(super) fn add_stream(&mut self, home: Home, spec: &TrackSpec) {
        let encodings = (0..encodings_len(spec))
            .map(|encoding| self.add_track(home, spec, encoding))
            .collect();
        self.names.tracks.insert(spec.track, encodings);
    }

    fn add_track(&mut self, home: Home, spec: &TrackSpec, encoding: usize) -> TrackKey {
        let mut track = Track::new(home, spec, encoding);
        let session = track.session().and_then(|key| self.sessions.get_mut(key));
        track.is_fed = session.as_ref().is_some_and(|session| session.is_feed);
        let key = self.tracks.insert(track);
        if let Some(session) = session {
            session.tracks.push(key);
        }
        key
    }

    /// Renegotiation: the stream's subscribers stay, and their formats follow.
    pub(super) fn replace_stream(&mut self, home: Home, spec: &TrackSpec) {
        let Some(encodings) = self.names.tracks.remove(&spec.track) else {
            return;
        };
        let mut encodings = encodings.into_vec();
        let len = encodings_len(spec);
        for gone in encodings.split_off(len.min(encodings.len())) {
            self.remove_track(gone);
        }
        for &key in &encodings {
            self.replace_track(key, spec);
        }
        for encoding in encodings.len()..len {
            encodings.push(self.add_track(home, spec, encoding));
        }
        self.names.tracks.insert(spec.track, encodings.into());
    }

    fn replace_track(&mut self, key: TrackKey, spec: &TrackSpec) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        let levels = |spec: &TrackSpec| spec.extensions.audio_level.is_some();
        if track.spec.group != spec.group || levels(&track.spec) != levels(spec) {
            self.floor.leave(key, track);
        }
        track.replace_spec(spec);
        if let Some(feed) = track.session().and_then(|key| self.sessions.get_mut(key)) {
            feed.forget_unsignalled(key, &track.spec);
        }
        for &(sender, _) in &track.subscribers {
            if let Some(sender) = self.senders.get_mut(sender) {
                sender.reroute(&track.spec.formats);
            }
        }
    }

    fn remove_stream(&mut self, track: TrackId) {
        let Some(encodings) = self.names.tracks.remove(&track) else {
            return;
        };
        for key in encodings {
            self.remove_track(key);
        }
    }

    fn remove_track(&mut self, key: TrackKey) {
        let Some(mut track) = self.tracks.remove(key) else {
            return;
        };
        self.floor.leave(key, &mut track);
        for &(sender, _) in &track.subscribers {
            if let Some(sender) = self.senders.get_mut(sender) {
                sender.stop();
            }
        }
        if let Some(session) = track.session().and_then(|key| self.sessions.get_mut(key)) {
            session.tracks.retain(|its| *its != key);
            session.retire_sources(key);
        }
    }

    fn add_sender(&mut self, key: SessionKey, spec: SenderSpec) {
        let known = self.names.senders.get(&spec.sender).copied();
        if spec.cname.len() > CNAME_BYTES_MAX || !self.has_free_ssrcs(key, known, &spec) {
            self.counters.command_refused += 1;
            return;
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(sender_key) = known else {
            if !session.has_sender_room() {
                self.counters.command_refused += 1;
                return;
            }
            let (id, ssrc) = (spec.sender, spec.ssrc);
            let random = [self.random.next(), self.random.next()];
            let used = [Some(ssrc), spec.rtx].map(|ssrc| session.revive_ssrc(ssrc?));
            let sender_key = self.senders.insert(Sender::new(key, spec, random, used));
            session.senders.push((sender_key, ssrc));
            session.pending.reserve(session.senders.len());
            self.names.senders.insert(id, sender_key);
            return;
        };
        let Some(sender) = self.senders.get_mut(sender_key) else {
            return;
        };
        // Another SSRC would be another stream, and its numbers are another's.
        if sender.session != key || sender.spec.ssrc != spec.ssrc {
            self.counters.command_refused += 1;
            return;
        }
        if sender.spec.rtx != spec.rtx {
            if let Some(before) = sender.spec.rtx {
                session.retire_ssrc(before, sender.rtx_next);
            }
            let used = spec.rtx.and_then(|rtx| session.revive_ssrc(rtx));
            sender.rtx_next = used.unwrap_or(sender.rtx_next);
        }
        sender.replace_spec(spec);
    }

    /// Whether the session can be sent to, and no other sender of it has the SSRCs: a shared one would share packet
    /// indices under one key, which gives the key away (RFC 3711 section 9.1).
    fn has_free_ssrcs(&self, key: SessionKey, known: Option<SenderKey>, spec: &SenderSpec) -> bool {
        let session = self.sessions.get(key);
        let Some(session) = session.filter(|session| !session.is_feed) else {
            return false;
        };
        let wanted = [Some(spec.ssrc), spec.rtx];
        let mut others = session
            .senders
            .iter()
            .filter(|(other, _)| Some(*other) != known)
            .filter_map(|(other, _)| self.senders.get(*other))
            .flat_map(|other| [Some(other.spec.ssrc), other.spec.rtx])
            .flatten();
        spec.rtx != Some(spec.ssrc) && !others.any(|taken| wanted.contains(&Some(taken)))
    }

    fn remove_sender(&mut self, key: SenderKey) {
        let Some(sender) = self.senders.remove(key) else {
            return;
        };
        self.names.senders.remove(&sender.spec.sender);
        for track in sender.source.iter().flat_map(FeedState::tracks) {
            if let Some(track) = self.tracks.get_mut(track) {
                track.subscribers.retain(|(its, _)| *its != key);
                track.joining.retain(|its| *its != key);
            }
        }
        if let Some(session) = self.sessions.get_mut(sender.session) {
            session.senders.retain(|(its, _)| *its != key);
            session.pending.retain(|its| *its != key);
            session.retire_ssrc(sender.spec.ssrc, sender.numbering.next());
            if let Some(rtx) = sender.spec.rtx {
                session.retire_ssrc(rtx, sender.rtx_next);
            }
        }
    }

    fn feed(&mut self, now: Instant, sender: SenderId, source: Option<Feed>) -> Option<()> {
        let key = *self.names.senders.get(&sender)?;
        let sender = self.senders.get_mut(key)?;
        let encodings = match &source {
            Some(feed) => Some(self.names.tracks.get(&feed.track)?),
            None => None,
        };
        let before = sender.source.as_ref();
        let is_same = before.is_some_and(|before| {
            source
                .as_ref()
                .is_some_and(|feed| feed.track == before.stream)
        });
        if !is_same {
            for track in before.into_iter().flat_map(FeedState::tracks) {
                if let Some(track) = self.tracks.get_mut(track) {
                    track.subscribers.retain(|(its, _)| *its != key);
                    track.joining.retain(|its| *its != key);
                }
            }
        }
        let (Some(feed), Some(encodings)) = (source, encodings) else {
            sender.stop();
            return Some(());
        };
        let session = sender.session;
        // The smallest that flows, until it is known how much can be carried.
        let has_begun = |track: &TrackKey| self.tracks.get(*track)?.ssrc();
        let first = encodings.iter().find(|track| has_begun(track).is_some());
        let mut track_key = first.or(encodings.first()).copied()?;
        if is_same && let Some(source) = &sender.source {
            track_key = source.track;
        }
        let track = self.tracks.get_mut(track_key)?;
        let is_new = sender.feed(track_key, track, feed);
        if is_new {
            track.subscribers.push((key, session));
        }
        // Before the connection is up, a key frame would come too soon, and the next one would be
        // held back when it is needed: `note_connected` asks.
        if self.sessions.get(session)?.is_connected && !(is_new && self.begin_with_group(now, key))
        {
            self.request_keyframe(now, track_key);
        }
        self.allocate_for(now, key);
        Some(())
    }

    fn install_keys(&mut self, now: Instant, key: SessionKey, keys: &SrtpKeys) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        // The indices of what was sealed so far belong to the keys that are there.
        if session.keys.is_some() || session.is_feed {
            self.counters.command_refused += 1;
            return;
        }
        match Keys::new(keys) {
            Ok(keys) => session.keys = Some(keys),
            Err(_) => {
                self.close(now, key, CloseReason::HandshakeFailed);
                return;
            }
        }
        self.note_connected(now, key);
    }

    /// Media can flow once there are keys and a nominated path: tells control, once, and lets
    /// everything that feeds the session begin.
    pub(super) fn note_connected(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(path) = session.ice.media_path() else {
            return;
        };
        if session.keys.is_none() || session.is_connected {
            return;
        }
        session.is_connected = true;
        self.events.push_back(Event::Connected {
            session: session.id,
            remote: path.remote,
            transport: path.transport,
        });
        let senders = session.senders.clone();
        for &(sender, _) in &senders {
            let Some(sender) = self.senders.get_mut(sender) else {
                continue;
            };
            let source = sender.source.as_ref();
            if let Some(track) = source.and_then(|source| self.tracks.get(source.track)) {
                sender.skip_to_head(&track.log);
            }
        }
        self.open_downlink(now, key);
        self.allocate(now, key);
        for (sender, _) in senders {
            if self.begin_with_group(now, sender) {
                continue;
            }
            let source = self
                .senders
                .get(sender)
                .and_then(|sender| sender.source.as_ref());
            // What waits for another encoding has asked for its key frame already.
            if let Some(source) = source.filter(|source| source.awaits().is_none()) {
                let track = source.track;
                self.request_keyframe(now, track);
            }
        }
    }

    fn transmit_dtls(&mut self, session: SessionId, bytes: &[u8]) -> Option<()> {
        let path = match self.names.sessions.get(&session) {
            Some(&key) => self.sessions.get(key)?.ice.handshake_path()?,
            None => self.closing.iter().find(|(id, _, _)| *id == session)?.1,
        };
        if !self.outbox.push(path, bytes) {
            self.counters.drop_control_queue_full += 1;
        }
        Some(())
    }

    /// The track's id, for events.
    pub(super) fn track_id(&self, key: TrackKey) -> Option<TrackId> {
        Some(self.tracks.get(key)?.spec.track)
    }
}
