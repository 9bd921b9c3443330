//! Which quality of a picture goes to whom, and which nobody wants.
//!
//! Receivers say what they want; the engine chooses within that what their network carries, and says what it
//! chose. A publisher is told the best that anybody wants, so that it need not encode more. That is looked
//! at once a second at most: it is an economy, and who wants more sees the next smaller quality meanwhile.

use std::collections::BTreeMap;

use dataplane::command::{Command, MediaKind, Preference, Quality};
use dataplane::event::Sent;
use dataplane::id::{SenderId, SessionId, TrackId};
use signaling::node::{PersonId, Refusal, ResourceId, RoomEvent, SourceKind};
use signaling::quality::{self, Named, Pause};

use super::effect::Effect;
use super::session::{Owner, PublishedTrack};
use super::{Rooms, track_name};

impl Rooms {
    /// A person says what they want of a track that they receive.
    pub fn handle_prefer(&mut self, id: &PersonId, track: &str, preference: quality::Preference) {
        let session = self.people.get(id).and_then(|person| person.session);
        if let Some(session) = session {
            self.prefer_of(session, Some(track), preference);
        }
    }

    /// A session's client says what it wants of a track, or of all.
    pub(super) fn prefer_of(
        &mut self,
        session: SessionId,
        track: Option<&str>,
        preference: quality::Preference,
    ) {
        let preference = Preference {
            most: of_words(preference.most),
            priority: preference.priority,
        };
        self.prefer(session, preference, |its| {
            track.is_none_or(|track| its.is_some_and(|its| track_name(its) == track))
        });
    }

    /// A player says what it wants of its picture.
    ///
    /// # Errors
    /// [`Refusal::UnknownSession`].
    pub fn handle_layer(
        &mut self,
        resource: &ResourceId,
        most: quality::Quality,
    ) -> Result<(), Refusal> {
        let is_its = |owner: &Owner| matches!(owner, Owner::Viewer(its, _) if its == resource);
        let found = self
            .sessions
            .iter()
            .find(|(_, session)| is_its(&session.owner));
        let session = found.map(|(id, _)| *id).ok_or(Refusal::UnknownSession)?;
        self.prefer_picture(session, most);
        Ok(())
    }

    /// Every picture that a session receives, now and later, is to be no better than this.
    pub(super) fn prefer_picture(&mut self, session: SessionId, most: quality::Quality) {
        let preference = Preference {
            most: of_words(most),
            priority: 0,
        };
        self.prefer(session, preference, |_| true);
    }

    fn prefer(
        &mut self,
        id: SessionId,
        preference: Preference,
        is_meant: impl Fn(Option<TrackId>) -> bool,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let mut changed = Vec::new();
        for receiver in session.receives.values_mut() {
            let is_picture = receiver.kind() == MediaKind::Video;
            let is_other = receiver.preference != preference;
            if is_picture && is_other && is_meant(receiver.track) {
                receiver.preference = preference;
                changed.push(receiver.sender());
            }
        }
        let worker = session.worker;
        for sender in changed {
            self.command(worker, Command::Prefer { sender, preference });
            self.note_wants();
        }
    }

    /// The engine chose what a receiver is sent.
    pub(super) fn on_chosen(&mut self, id: SessionId, sender: SenderId, sent: Sent) {
        let session = self.sessions.get_mut(&id);
        let receiver = session.and_then(|session| {
            let mut receivers = session.receives.values_mut();
            receivers.find(|receiver| receiver.sender() == sender)
        });
        let Some(receiver) = receiver else { return };
        receiver.sent = Some(sent);
        if let Some(track) = receiver.track {
            let event = self.layer_event(track, sent);
            self.tell_session(id, event);
        }
    }

    /// Tells a person who is back what they are sent, and what is wanted of what they send: it may have changed
    /// while they were away.
    pub(super) fn tell_quality(&mut self, person: &PersonId) {
        let session = self.people.get(person).and_then(|person| person.session);
        let Some(session) = session.and_then(|id| self.sessions.get(&id)) else {
            return;
        };
        let sent = session.receives.values();
        let sent = sent.filter_map(|receiver| Some((receiver.track?, receiver.sent?)));
        let layers = sent.map(|(track, sent)| self.layer_event(track, sent));
        let published = session.publishes.values();
        let published = published.filter_map(|track| self.tracks.get(track));
        let wanted = published
            .filter(|track| track.is_simulcast())
            .map(|track| wanted_event(track.source, track.wanted));
        let events: Vec<RoomEvent> = layers.chain(wanted).collect();
        for event in events {
            let person = person.clone();
            self.effects.push_back(Effect::Notify { person, event });
        }
    }

    fn layer_event(&self, track: TrackId, sent: Sent) -> RoomEvent {
        let known = self.tracks.get(&track);
        // One encoding with spatial layers counts by these.
        let is_simulcast = known.is_some_and(PublishedTrack::is_simulcast);
        let (layer, pause) = match sent {
            Sent::Layers { encoding, .. } if is_simulcast => (Some(encoding), None),
            Sent::Layers { spatial, .. } => (Some(spatial), None),
            Sent::NoRoom => (None, Some(Pause::NoRoom)),
            Sent::Unwanted => (None, Some(Pause::Unwanted)),
        };
        RoomEvent::Layer {
            track: track_name(track),
            layer,
            pause,
        }
    }

    /// What a receiver's network carries is another amount.
    pub(super) fn on_downlink(&mut self, id: SessionId, estimate_bps: u64) {
        self.tell_session(id, RoomEvent::Estimate { bps: estimate_bps });
    }

    /// Tells publishers which qualities of their pictures anybody wants, where that changed.
    pub(super) fn tell_wants(&mut self) {
        if !std::mem::take(&mut self.wants_changed) {
            return;
        }
        let mut best: BTreeMap<TrackId, u8> = BTreeMap::new();
        let receivers = self
            .sessions
            .values()
            .flat_map(|session| session.receives.values());
        for receiver in receivers.filter(|receiver| receiver.kind() == MediaKind::Video) {
            let Some(track) = receiver.track else {
                continue;
            };
            let wanted = best.entry(track).or_default();
            *wanted = (*wanted).max(highest(receiver.preference.most));
        }
        let mut told = Vec::new();
        for (id, track) in &mut self.tracks {
            // The smallest is always there, so that who comes next sees something at once.
            let wanted = best.get(id).copied().unwrap_or(0);
            if track.is_simulcast() && track.wanted != wanted {
                track.wanted = wanted;
                told.push((track.owner.clone(), track.source, wanted));
            }
        }
        for (person, source, wanted) in told {
            let event = wanted_event(source, wanted);
            self.effects.push_back(Effect::Notify { person, event });
        }
    }
}

fn of_words(quality: quality::Quality) -> Quality {
    match quality {
        quality::Quality::Layer(layer) => Quality::Layer(layer),
        quality::Quality::Named(Named::Best) => Quality::Best,
        quality::Quality::Named(Named::Off) => Quality::Off,
    }
}

/// What a publisher is told of a source of which this layer is the highest that anybody wants.
fn wanted_event(source: SourceKind, wanted: u8) -> RoomEvent {
    let most = match wanted {
        u8::MAX => quality::Quality::BEST,
        layer => quality::Quality::Layer(layer),
    };
    RoomEvent::Wanted { source, most }
}

/// The highest layer that a quality has.
fn highest(quality: Quality) -> u8 {
    match quality {
        Quality::Off => 0,
        Quality::Layer(layer) => layer,
        Quality::Best => u8::MAX,
    }
}
