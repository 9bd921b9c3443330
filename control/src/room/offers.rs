//! Offers from the three doors, and what each means for its sections.

use dataplane::command::{Command, MediaKind};
use dataplane::id::{SessionId, TrackId};
use signaling::name::{PersonName, RoomName};
use signaling::node::{
    Connect, Connected, Door, PageOffer, Patch, Patched, PersonId, Refusal, ResourceId, SourceKind,
};
use signaling::sdp::{self, Offer, Section};

use super::effect::{ClientKind, EndReason};
use super::person::Presence;
use super::plan::{Intent, Numbers, Plan, Watch};
use super::proof::Proof;
use super::session::{Origin, Owner, Session};
use super::{Rooms, random, track_name, translate};

/// What an encoder is called that does not say.
const ENCODER_NAME: &str = "Encoder";

/// `a=msid` stream of what players get: it stays the same whoever is watched.
const VIEWER_STREAM: &str = "millrace";

impl Rooms {
    /// Answers an offer from the page: the first makes the person's session, later ones
    /// renegotiate it. An offer with another certificate comes from a new `RTCPeerConnection`,
    /// and makes a new session in place of the old one.
    ///
    /// # Errors
    /// An offer that cannot be served; limits. Nothing has changed then.
    pub fn handle_offer(&mut self, id: &PersonId, page: &PageOffer) -> Result<String, Refusal> {
        if self.ending {
            return Err(Refusal::ShuttingDown);
        }
        let person = self.people.get(id).ok_or(Refusal::UnknownSession)?;
        let (room, cname, before) = (person.room.clone(), person.cname.clone(), person.session);
        let fingerprints = translate::dtls_spec(&page.offer).fingerprints;
        let kept = before.filter(|before| {
            self.sessions
                .get(before)
                .is_some_and(|session| session.dtls.fingerprints == fingerprints)
        });
        let intents: Vec<Intent> = page
            .offer
            .sections
            .iter()
            .map(|section| self.page_intent(&room, page, section))
            .collect();
        let session = kept.and_then(|kept| self.sessions.get(&kept));
        let plan = Plan::new(
            session,
            &page.offer,
            &intents,
            self.config.limits.tracks_per_session,
            &mut Numbers {
                next_id: &mut self.next_id,
                random: &mut *self.random,
            },
        )?;
        let session = match kept {
            Some(kept) => kept,
            None if !plan.accepts_any() => {
                return Err(Refusal::Unservable(
                    "no section has audio or video in a codec that this node forwards".to_owned(),
                ));
            }
            None => {
                if let Some(before) = before {
                    self.replace_session(id, before, &plan);
                }
                let origin = self.origin_of(id);
                self.open_session(&room, Owner::Page(id.clone()), origin, &page.offer, cname)
            }
        };
        if kept.is_some() {
            self.restart_ice_if_new(session, &page.offer);
        }
        Ok(self.carry_out(session, plan, &page.offer))
    }

    /// Ends the session that somebody had, whose new one will be by this plan.
    fn replace_session(&mut self, id: &PersonId, before: SessionId, plan: &Plan) {
        let published = self
            .people
            .get(id)
            .is_some_and(|its| !its.tracks.is_empty());
        self.end_session(before, EndReason::Replaced);
        // Others are told with the tracks of the new one, if it has any.
        if published && plan.publishes.is_empty() {
            self.notify_tracks(id);
        }
    }

    /// Answers a WHIP or WHEP `POST`.
    ///
    /// # Errors
    /// An offer that cannot be served; limits. Nothing has changed then.
    pub fn handle_connect(&mut self, request: &Connect) -> Result<Connected, Refusal> {
        self.check_place(&request.room)?;
        self.chosen(request)?;
        let origin = match request.door {
            Door::Whip => ClientKind::Encoder.into(),
            Door::Whep => ClientKind::Viewer.into(),
        };
        let cname = random::id(&mut *self.random);
        let plan = self.plan_connect(None, request, &cname)?;
        Ok(self.connect(request, origin, plan, cname))
    }

    /// What the offer of an encoder or a player makes of its session, or of none.
    pub(super) fn plan_connect(
        &mut self,
        session: Option<SessionId>,
        request: &Connect,
        cname: &str,
    ) -> Result<Plan, Refusal> {
        let offer = &request.offer;
        let intents = match request.door {
            Door::Whip => encoder_intents(offer),
            Door::Whep => viewer_intents(offer, cname),
        };
        let plan = Plan::new(
            session.and_then(|id| self.sessions.get(&id)),
            offer,
            &intents,
            self.config.limits.tracks_per_session,
            &mut Numbers {
                next_id: &mut self.next_id,
                random: &mut *self.random,
            },
        )?;
        let is_empty = plan.publishes.is_empty() && plan.receives.is_empty();
        if is_empty && plan.data_bytes_max.is_none() {
            return Err(Refusal::Unservable(nothing_to_do(request.door).to_owned()));
        }
        Ok(plan)
    }

    /// Makes the session of an encoder or a player.
    pub(super) fn connect(
        &mut self,
        request: &Connect,
        origin: Origin,
        plan: Plan,
        cname: String,
    ) -> Connected {
        let resource = ResourceId(random::id(&mut *self.random));
        let (owner, cname) = match request.door {
            Door::Whip => {
                let person = self.add_encoder(&request.room, &request.name);
                let cname = self
                    .people
                    .get(&person)
                    .map_or(cname, |person| person.cname.clone());
                (Owner::Encoder(person, resource.clone()), cname)
            }
            Door::Whep => (Owner::Viewer(resource.clone(), None), cname),
        };
        let session = self.open_session(&request.room, owner, origin, &request.offer, cname);
        self.resources.insert(Proof::of(&resource.0), session);
        let chosen = self.chosen(request).unwrap_or_default();
        if let Some(session) = self.sessions.get_mut(&session) {
            session.chosen = chosen;
        }
        let answer = self.carry_out(session, plan, &request.offer);
        self.prefer_picture(session, request.most);
        let etag = self.sessions.get(&session).map(etag).unwrap_or_default();
        Connected {
            resource,
            answer,
            etag,
        }
    }

    /// Whom a player asks to watch: the first in the room of that id or name.
    fn chosen(&self, request: &Connect) -> Result<Option<PersonId>, Refusal> {
        let Some(whom) = request
            .watch
            .as_ref()
            .filter(|_| request.door == Door::Whep)
        else {
            return Ok(None);
        };
        let people = self
            .rooms
            .get(&request.room)
            .map(|room| room.people.as_slice());
        let is_meant = |id: &&PersonId| {
            let name = self.people.get(id).map(|person| person.name.as_str());
            id.0 == *whom || name == Some(whom)
        };
        let found = people.unwrap_or_default().iter().find(is_meant);
        found.cloned().map(Some).ok_or(Refusal::NothingToWatch)
    }

    /// Takes a WHIP or WHEP `PATCH`: an ICE restart when the credentials are new, else candidates,
    /// which an ICE-lite agent does not need (RFC 9725 section 4.3).
    ///
    /// # Errors
    /// [`Refusal::UnknownSession`], [`Refusal::StaleEtag`].
    pub fn handle_patch(&mut self, id: &ResourceId, patch: &Patch) -> Result<Patched, Refusal> {
        let id = self.resources.get(&Proof::of(&id.0));
        let id = *id.ok_or(Refusal::UnknownSession)?;
        let session = self.sessions.get_mut(&id).ok_or(Refusal::UnknownSession)?;
        let current = etag(session);
        if patch
            .if_match
            .as_ref()
            .is_some_and(|tag| tag != "*" && *tag != current)
        {
            return Err(Refusal::StaleEtag);
        }
        let Some(ice) = patch
            .ice
            .as_ref()
            .filter(|ice| ice.ufrag != session.remote_ufrag)
        else {
            return Ok(Patched::Trickled);
        };
        session.local = random::ice_credentials(&mut *self.random);
        session.remote_ufrag.clone_from(&ice.ufrag);
        let (worker, ice) = (session.worker, session.ice_spec());
        let (local, mid, etag) = (
            session.local.clone(),
            session.bundle_mid.clone(),
            etag(session),
        );
        self.command(worker, Command::RestartIce { session: id, ice });
        let candidates = self
            .config
            .candidates
            .get(worker)
            .map(Vec::as_slice)
            .unwrap_or_default();
        Ok(Patched::Restarted {
            fragment: sdp::restart_fragment(&local, candidates, &mid),
            etag,
        })
    }

    /// New credentials of the client's ask for an ICE restart (RFC 8839 section 4.4.1.1.1).
    pub(super) fn restart_ice_if_new(&mut self, id: SessionId, offer: &Offer) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.remote_ufrag == offer.ice.ufrag {
            return;
        }
        session.local = random::ice_credentials(&mut *self.random);
        session.remote_ufrag.clone_from(&offer.ice.ufrag);
        let (worker, ice) = (session.worker, session.ice_spec());
        self.command(worker, Command::RestartIce { session: id, ice });
    }

    fn page_intent(&self, room: &RoomName, page: &PageOffer, section: &Section) -> Intent {
        let Some(kind) = translate::media_kind(section.kind) else {
            return Intent::default();
        };
        let named = page.sources.iter().find(|(mid, _)| *mid == section.mid);
        let source = named
            .map(|(_, source)| *source)
            .filter(|source| translate::fits(*source, kind))
            .unwrap_or_else(|| translate::default_source(kind));
        let want = page.wants.iter().find(|(mid, _)| *mid == section.mid);
        let watch = want.and_then(|(_, track)| self.wanted(room, kind, track));
        Intent {
            publish: Some(source),
            watch,
        }
    }

    /// The track of this name, if somebody in the room publishes it. It may just have gone: then
    /// the section stays silent until the client hears of it and offers again.
    fn wanted(&self, room: &RoomName, kind: MediaKind, name: &str) -> Option<Watch> {
        let id = TrackId(name.strip_prefix('t')?.parse().ok()?);
        let track = self
            .tracks
            .get(&id)
            .filter(|track| track.spec.kind == kind)?;
        let owner = self
            .people
            .get(&track.owner)
            .filter(|owner| owner.room == *room)?;
        Some(Watch {
            track: Some(id),
            stream: track.owner.0.clone(),
            msid_track: track_name(id),
            cname: owner.cname.clone(),
        })
    }

    fn add_encoder(&mut self, room: &RoomName, name: &PersonName) -> PersonId {
        let unnamed = name.as_str().is_empty();
        let name = if unnamed {
            PersonName::new(ENCODER_NAME)
        } else {
            name.clone()
        };
        self.add_person(room, name, Presence::Encoder)
    }
}

/// Names the ICE session of a resource (RFC 9725 section 4.3.1): our ufrag is new with each restart.
fn etag(session: &Session) -> String {
    session.local.ufrag.replace(['+', '/'], "-")
}

/// An encoder's first sound and first picture are taken.
fn encoder_intents(offer: &Offer) -> Vec<Intent> {
    let mut free = [SourceKind::Microphone, SourceKind::Camera].map(Some);
    let intent = |section: &Section| {
        let usable = !section.rejected && section.direction.sends();
        let publish = first_of_kind(&mut free, section, usable);
        Intent {
            publish,
            watch: None,
        }
    };
    offer.sections.iter().map(intent).collect()
}

/// A player's first section for sound and first for a picture are sent to.
fn viewer_intents(offer: &Offer, cname: &str) -> Vec<Intent> {
    let mut free = ["audio", "video"].map(Some);
    let intent = |section: &Section| {
        let usable = !section.rejected && section.direction.receives();
        let watch = first_of_kind(&mut free, section, usable).map(|name| Watch {
            track: None,
            stream: VIEWER_STREAM.to_owned(),
            msid_track: name.to_owned(),
            cname: cname.to_owned(),
        });
        Intent {
            publish: None,
            watch,
        }
    };
    offer.sections.iter().map(intent).collect()
}

/// Takes what is there for the section's kind, if it is still there.
fn first_of_kind<T>(free: &mut [Option<T>; 2], section: &Section, usable: bool) -> Option<T> {
    let [audio, video] = free;
    match translate::media_kind(section.kind).filter(|_| usable)? {
        MediaKind::Audio => audio.take(),
        MediaKind::Video => video.take(),
    }
}

fn nothing_to_do(door: Door) -> &'static str {
    match door {
        Door::Whip => {
            "an encoder's offer needs a section that sends audio or video in a codec that this node forwards"
        }
        Door::Whep => {
            "a player's offer needs a section that receives audio or video in a codec that this node forwards"
        }
    }
}
