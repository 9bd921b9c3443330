//! Carrying out a plan: from what a session was to what its offer makes of it.

use std::collections::BTreeMap;

use dataplane::command::{Command, SenderSpec, SessionSpec, TrackSpec};
use dataplane::id::{SessionId, TrackId};
use signaling::name::RoomName;
use signaling::node::{PersonId, SourceKind};
use signaling::sdp::{Answer, Decision, Offer};

use super::dominant::Loudness;
use super::effect::Effect;
use super::plan::{Plan, PlannedTrack, no_media};
use super::session::{Origin, Owner, PublishedTrack, Receiver, Session};
use super::{Rooms, random, track_name, translate};

impl Rooms {
    /// Makes a session that carries nothing yet.
    pub(super) fn open_session(
        &mut self,
        room: &RoomName,
        owner: Owner,
        origin: Origin,
        offer: &Offer,
        cname: String,
    ) -> SessionId {
        let id = SessionId(self.next_id);
        self.next_id += 1;
        self.room_or_new(room);
        let worker = self.rooms.get(room).map_or(0, |room| self.worker_for(room));
        self.note_begin(room, worker);
        if let (Some(request), Owner::Encoder(..) | Owner::Viewer(..)) = (&origin.request, &owner) {
            self.requests.insert(request.clone(), id);
        }
        match &owner {
            Owner::Page(person) | Owner::Encoder(person, _) | Owner::Camera(person) => {
                if let Some(person) = self.people.get_mut(person) {
                    person.session = Some(id);
                }
            }
            Owner::Viewer(..) => self.room_or_new(room).viewers.push(id),
        }
        let session = Session {
            room: room.clone(),
            worker,
            owner,
            origin,
            local: random::ice_credentials(&mut *self.random),
            remote_ufrag: offer.ice.ufrag.clone(),
            dtls: translate::dtls_spec(offer),
            fingerprint: self.config.fingerprint,
            sdp_session_id: random::sdp_session_id(&mut *self.random),
            sdp_version: 0,
            bundle_mid: String::new(),
            publishes: BTreeMap::new(),
            chosen: None,
            receives: BTreeMap::new(),
            data: None,
        };
        let (ice, dtls) = (session.ice_spec(), session.dtls.clone());
        let spec = Box::new(SessionSpec {
            session: id,
            ice,
            dtls,
            cname,
        });
        self.begin_session(id, session, Command::Open(spec));
        id
    }

    /// Lets a session begin: its worker is told how, and everybody else that it is there.
    pub(super) fn begin_session(&mut self, id: SessionId, session: Session, opening: Command) {
        self.command(session.worker, opening);
        let (room, client) = (session.room.clone(), session.origin.client);
        self.sessions.insert(id, session);
        self.effects.push_back(Effect::SessionOpened {
            session: id,
            room,
            client,
        });
    }

    /// Makes the session what the plan says, and writes the answer.
    pub(super) fn carry_out(&mut self, id: SessionId, plan: Plan, offer: &Offer) -> String {
        let Plan {
            decisions,
            publishes,
            receives,
            data_bytes_max,
        } = plan;
        self.carry_out_publishes(id, publishes);
        self.carry_out_receives(id, receives);
        if let Some(message_bytes_max) = data_bytes_max {
            self.open_data(id, message_bytes_max);
        }
        if let Some(session) = self.sessions.get(&id) {
            let room = session.room.clone();
            match session.owner {
                // Nobody else's picture changes because one more watches.
                Owner::Viewer(..) => self.feed_viewer(&room, id),
                Owner::Page(_) | Owner::Encoder(..) | Owner::Camera(_) => self.feed_viewers(&room),
            }
        }
        self.answer(id, decisions, offer)
    }

    pub(super) fn carry_out_publishes(
        &mut self,
        id: SessionId,
        planned: BTreeMap<String, PlannedTrack>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let (worker, room) = (session.worker, session.room.clone());
        let Some(owner) = publisher(&session.owner).cloned() else {
            return;
        };
        let after = planned
            .iter()
            .map(|(mid, track)| (mid.clone(), track.spec.track))
            .collect();
        let before: BTreeMap<String, TrackId> = std::mem::replace(&mut session.publishes, after);
        let gone: Vec<TrackId> = before
            .iter()
            .filter(|(mid, _)| !planned.contains_key(*mid))
            .map(|(_, track)| *track)
            .collect();
        for track in &gone {
            self.command(worker, Command::Unpublish { track: *track });
        }
        let mut changed = !gone.is_empty();
        if let Some(person) = self.people.get_mut(&owner) {
            person.tracks.retain(|track| !gone.contains(track));
        }
        self.forget_tracks(&room, &gone);
        let group = self.rooms.get(&room).map(|room| room.group);
        let is_camera = self.is_camera(&owner);
        for (_, mut track) in planned {
            // What is played to everybody is to be heard however loud it is.
            let is_voice = track.source == SourceKind::Microphone && !is_camera;
            track.spec.group = group.filter(|_| is_voice);
            changed |= self.publish(id, worker, &owner, track);
        }
        if changed {
            self.notify_tracks(&owner);
        }
    }

    /// Publishes a track, or changes it; says whether people in the room see a difference.
    fn publish(
        &mut self,
        session: SessionId,
        worker: usize,
        owner: &PersonId,
        planned: PlannedTrack,
    ) -> bool {
        let PlannedTrack {
            source,
            spec,
            codecs,
        } = planned;
        let id = spec.track;
        let muted = self
            .people
            .get(owner)
            .is_some_and(|person| person.muted.contains(&source));
        let Some(known) = self.tracks.get_mut(&id) else {
            let track = PublishedTrack {
                owner: owner.clone(),
                worker,
                source,
                muted,
                speaking: false,
                loudness: Loudness::default(),
                spec: spec.clone(),
                codecs,
                media: no_media(track_name(id)),
                wanted: u8::MAX,
            };
            self.tracks.insert(id, track);
            if let Some(person) = self.people.get_mut(owner) {
                person.tracks.push(id);
            }
            self.command(
                worker,
                Command::Publish {
                    session,
                    track: Box::new(spec),
                },
            );
            return true;
        };
        let seen = known.source != source || known.muted != muted;
        // Receivers of an encoding that is gone are fed anew.
        let renumbered = known.codecs != codecs || known.spec.simulcast != spec.simulcast;
        let told = same_track(&known.spec, &spec);
        known.source = source;
        known.muted = muted;
        known.codecs = codecs;
        known.spec = spec.clone();
        if !told {
            self.command(
                worker,
                Command::Publish {
                    session,
                    track: Box::new(spec),
                },
            );
            self.relay_again(id);
        }
        if renumbered {
            self.feed_again(id);
        }
        seen
    }

    /// Numbers a track's formats anew for everybody it is fed to.
    fn feed_again(&mut self, track: TrackId) {
        let mut feeds = Vec::new();
        for session in self.sessions.values() {
            for receiver in session
                .receives
                .values()
                .filter(|known| known.track == Some(track))
            {
                let source = self.feed(track, &receiver.codecs);
                feeds.push((session.worker, receiver.sender(), source));
            }
        }
        for (worker, sender, source) in feeds {
            self.command(worker, Command::Feed { sender, source });
        }
    }

    fn carry_out_receives(&mut self, id: SessionId, planned: BTreeMap<String, Receiver>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let worker = session.worker;
        let mut known_by_mid = std::mem::take(&mut session.receives);
        let mut after = BTreeMap::new();
        for (mid, mut receiver) in planned {
            // Its own tracks may have gone with the session that this one replaces.
            receiver.track = receiver
                .track
                .filter(|track| self.tracks.contains_key(track));
            let known = known_by_mid.remove(&mid);
            let told = known
                .as_ref()
                .is_some_and(|known| same_sender(&known.spec, &receiver.spec));
            if !told {
                let sender = Box::new(receiver.spec.clone());
                self.command(
                    worker,
                    Command::AddSender {
                        session: id,
                        sender,
                    },
                );
            }
            let before = known.as_ref().and_then(|known| known.track);
            if let Some(track) = receiver.track.filter(|track| before != Some(*track)) {
                self.relay_to(track, worker);
            }
            let fed = match &known {
                Some(known) => known.track == receiver.track && known.codecs == receiver.codecs,
                None => receiver.track.is_none(),
            };
            if !fed {
                let source = receiver
                    .track
                    .and_then(|track| self.feed(track, &receiver.codecs));
                self.command(
                    worker,
                    Command::Feed {
                        sender: receiver.sender(),
                        source,
                    },
                );
            }
            if let Some(before) = before.filter(|before| receiver.track != Some(*before)) {
                self.unrelay(before, worker);
            }
            if known.is_some_and(|known| known.preference != receiver.preference) {
                self.command(
                    worker,
                    Command::Prefer {
                        sender: receiver.sender(),
                        preference: receiver.preference,
                    },
                );
            }
            after.insert(mid, receiver);
        }
        self.remove_receivers(worker, known_by_mid);
        self.note_wants();
        if let Some(session) = self.sessions.get_mut(&id) {
            session.receives = after;
        }
    }

    /// Stops what is not received any more.
    fn remove_receivers(&mut self, worker: usize, gone: BTreeMap<String, Receiver>) {
        for gone in gone.into_values() {
            self.command(
                worker,
                Command::RemoveSender {
                    sender: gone.sender(),
                },
            );
            if let Some(track) = gone.track {
                self.unrelay(track, worker);
            }
        }
    }

    fn answer(&mut self, id: SessionId, sections: Vec<Decision>, offer: &Offer) -> String {
        let session = self
            .sessions
            .get_mut(&id)
            .expect("carry_out is called with its own session");
        session.sdp_version += 1;
        if let Some(first) = sections.iter().position(Decision::accepts) {
            session.bundle_mid = offer
                .sections
                .get(first)
                .map(|section| section.mid.clone())
                .unwrap_or_default();
        }
        let candidates = self
            .config
            .candidates
            .get(session.worker)
            .cloned()
            .unwrap_or_default();
        let answer = Answer {
            session_id: session.sdp_session_id,
            version: session.sdp_version,
            ice: session.local.clone(),
            fingerprint: session.fingerprint,
            candidates,
            sections,
        };
        answer.to_sdp(offer)
    }
}

/// The person that a session publishes as.
fn publisher(owner: &Owner) -> Option<&PersonId> {
    match owner {
        Owner::Page(person) | Owner::Encoder(person, _) | Owner::Camera(person) => Some(person),
        Owner::Viewer(..) => None,
    }
}

/// Whether the engine need not be told again.
fn same_track(one: &TrackSpec, other: &TrackSpec) -> bool {
    one.track == other.track
        && one.kind == other.kind
        && one.mid == other.mid
        && one.sources == other.sources
        && one.formats == other.formats
        && one.extensions == other.extensions
        && one.nack == other.nack
        && one.simulcast == other.simulcast
        && one.keeps_group == other.keeps_group
}

/// Whether the engine need not be told again.
fn same_sender(one: &SenderSpec, other: &SenderSpec) -> bool {
    one.sender == other.sender
        && one.kind == other.kind
        && one.mid == other.mid
        && one.ssrc == other.ssrc
        && one.rtx == other.rtx
        && one.extensions == other.extensions
        && one.cname == other.cname
}
