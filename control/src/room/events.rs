//! What the engine tells.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use dataplane::command::Command;
use dataplane::event::{CloseReason, Event, Report};
use dataplane::id::{SessionId, TrackId};
use signaling::name::RoomName;
use signaling::node::{PersonId, RoomEvent};

use super::dominant::{Voice, dominant};
use super::effect::{ClientKind, Effect, EndReason};
use super::person::Presence;
use super::session::{Owner, Session};
use super::{Egress, Rooms};

/// Shorter spans between two reports say nothing about a rate.
const RATE_SPAN_MIN_MS: u128 = 100;

impl Rooms {
    /// Takes in what a worker's engine tells.
    pub fn handle_event(&mut self, now: Instant, worker: usize, event: &Event) {
        match event {
            Event::Connected { session, .. } => self.on_connected(*session),
            Event::Closed { session, reason } => self.on_closed(now, *session, (*reason).into()),
            Event::WorkerRestarted => self.on_worker_restarted(now, worker),
            Event::Speaking { track, speaking } => self.on_speaking(*track, *speaking),
            Event::Data { session, event } => self.on_data(now, *session, event),
            Event::Report(report) => self.on_report(now, worker, report),
            // Where a peer is and when its first packet came are the engine's own business.
            Event::PathChanged { .. } | Event::TrackStarted { .. } => {}
            Event::Chosen {
                session,
                sender,
                sent,
            } => self.on_chosen(*session, *sender, *sent),
            Event::Downlink {
                session,
                estimate_bps,
                ..
            } => self.on_downlink(*session, *estimate_bps),
        }
    }

    fn on_connected(&mut self, session: SessionId) {
        let Some(session) = self.sessions.get(&session) else {
            return;
        };
        if let Some(duty) = self.workers.get_mut(session.worker) {
            duty.handle_connected();
        }
        if let Owner::Page(person) = &session.owner {
            let (person, event) = (person.clone(), RoomEvent::Connected);
            self.effects.push_back(Effect::Notify { person, event });
        }
    }

    fn on_worker_restarted(&mut self, now: Instant, worker: usize) {
        // Before anything that is for its new engine.
        self.command(worker, Command::AfterRestart);
        if let Some(duty) = self.workers.get_mut(worker) {
            duty.handle_failure(now);
        }
        self.end_relays_to(worker);
        let lost =
            |_, session: &Session| (session.worker == worker).then_some(EndReason::WorkerFailed);
        self.end_lost(now, lost);
    }

    /// Ends the sessions that no engine has any more, for which `reason` has one.
    pub(super) fn end_lost(
        &mut self,
        now: Instant,
        reason: impl Fn(SessionId, &Session) -> Option<EndReason>,
    ) {
        let lost = self.sessions.iter().filter_map(|(id, session)| {
            let reason = reason(*id, session)?;
            Some((session.origin.client, *id, reason))
        });
        let mut lost: Vec<(ClientKind, SessionId, EndReason)> = lost.collect();
        // All that was published by these is gone at once: nobody is to be fed from what is lost too, and
        // no worker to be told of it.
        let mut gone: BTreeMap<RoomName, Vec<TrackId>> = BTreeMap::new();
        for session in lost.iter().filter_map(|(_, id, _)| self.sessions.get(id)) {
            let tracks = gone.entry(session.room.clone()).or_default();
            tracks.extend(session.publishes.values());
        }
        for (room, tracks) in &gone {
            self.drop_tracks(room, tracks);
        }
        // Players go before those that go on are fed anew.
        lost.sort_by_key(|(client, ..)| std::cmp::Reverse(*client));
        let (players, others): (Vec<_>, Vec<_>) = lost
            .into_iter()
            .partition(|(client, ..)| *client >= ClientKind::Viewer);
        for (_, session, reason) in players {
            self.on_closed(now, session, reason);
        }
        for room in gone.keys() {
            self.replace_tracks(room);
        }
        for (_, session, reason) in others {
            self.on_closed(now, session, reason);
        }
    }

    pub(super) fn on_closed(&mut self, now: Instant, id: SessionId, reason: EndReason) {
        let owner = self.sessions.get(&id).map(|session| session.owner.clone());
        match owner {
            // A member has no other line to us than its document, which is slower than this one: whoever
            // closes the connection has hung up, and the word of it is under way or lost with the tab.
            Some(Owner::Page(person))
                if self.is_member(&person)
                    && reason == EndReason::Engine(CloseReason::PeerClosed) =>
            {
                self.handle_leave(&person, reason);
            }
            // The person stays: a new offer makes a new session.
            Some(Owner::Page(person)) => {
                self.end_session(id, reason);
                self.await_document(&person, now);
                self.notify_tracks(&person);
                self.tell_loss(person, reason.to_string());
            }
            Some(Owner::Encoder(person, _)) => {
                self.handle_leave(&person, reason);
            }
            Some(Owner::Camera(person)) => self.on_feed_lost(person, id, reason),
            Some(Owner::Viewer(..)) => self.end_session(id, reason),
            // It was closed from this side while the event was on its way.
            None => {}
        }
    }

    /// Tells somebody that their media ended, now or when their WebSocket is back.
    fn tell_loss(&mut self, person: PersonId, reason: String) {
        match self.people.get_mut(&person) {
            Some(known) if matches!(known.presence, Presence::Suspended { .. }) => {
                known.untold_loss = Some(reason);
            }
            _ => {
                let event = RoomEvent::MediaLost { reason };
                self.effects.push_back(Effect::Notify { person, event });
            }
        }
    }

    fn on_speaking(&mut self, track: TrackId, speaking: bool) {
        let Some(track) = self.tracks.get_mut(&track) else {
            return;
        };
        track.speaking = speaking;
        let room = self
            .people
            .get(&track.owner)
            .map(|person| person.room.clone());
        if let Some(room) = room {
            self.refresh_speaking(&room);
        }
    }

    fn on_report(&mut self, now: Instant, worker: usize, report: &Report) {
        let mut loud = BTreeSet::new();
        for row in &report.tracks {
            if let Some(track) = self.tracks.get_mut(&row.track) {
                track.loudness.handle_second(row.loudness_db);
                if track.speaking {
                    loud.insert(track.owner.clone());
                }
                track.media.bitrate_bps = row.bitrate_bps;
                track.media.packets = row.packets;
                track.media.lost = row.lost;
            }
        }
        if let Some(egress) = self.egress.get_mut(worker) {
            egress.update(now, report.counters.bytes_sent);
        }
        if let Some(duty) = self.workers.get_mut(worker) {
            duty.handle_report(now, report);
        }
        let rooms = loud.iter().filter_map(|id| self.people.get(id));
        let rooms: BTreeSet<RoomName> = rooms.map(|person| person.room.clone()).collect();
        for room in &rooms {
            self.refresh_speaking(room);
        }
        self.tell_wants();
    }

    /// Tells the room who speaks and who dominates, if that is not what it was last told.
    pub(super) fn refresh_speaking(&mut self, name: &RoomName) {
        let Some(room) = self.rooms.get(name) else {
            return;
        };
        let voices: Vec<Voice> = room
            .people
            .iter()
            .filter_map(|person| self.voice(person))
            .collect();
        let speaking: BTreeSet<PersonId> = voices
            .iter()
            .filter(|voice| voice.speaks)
            .map(|voice| voice.person.clone())
            .collect();
        let dominant = dominant(room.dominant.as_ref(), &voices);
        if speaking == room.speaking && dominant == room.dominant {
            return;
        }
        if let Some(room) = self.rooms.get_mut(name) {
            (room.speaking, room.dominant) = (speaking, dominant);
            let event = room.speaking_event();
            self.notify_others(name, None, &event);
        }
    }

    /// A person's voice, on whichever of their tracks it is loudest; `None` without any.
    fn voice(&self, id: &PersonId) -> Option<Voice> {
        let tracks = self.people.get(id)?.tracks.iter();
        let mut heard = tracks.filter_map(|id| self.tracks.get(id));
        let first = heard.next()?;
        let voice = Voice {
            person: id.clone(),
            speaks: first.speaking,
            loudness: first.loudness,
        };
        Some(heard.fold(voice, |voice, track| Voice {
            speaks: voice.speaks || track.speaking,
            loudness: voice.loudness.max(track.loudness),
            ..voice
        }))
    }
}

impl Egress {
    fn update(&mut self, now: Instant, bytes: u64) {
        if let Some((bytes_before, before)) = self.last {
            let span_ms = now.saturating_duration_since(before).as_millis();
            if span_ms < RATE_SPAN_MIN_MS {
                return;
            }
            let bits = u128::from(bytes.saturating_sub(bytes_before)) * 8;
            self.bps = (bits * 1000 / span_ms) as u64;
        }
        self.last = Some((bytes, now));
    }
}
