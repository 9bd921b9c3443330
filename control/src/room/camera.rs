//! Cameras as people in rooms: each publishes by a session that the engine calls a feed, without ICE.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::command::{
    Command, DtlsRole, DtlsSpec, ExtensionIds, FeedSpec, MediaKind, Simulcast, Source, TrackSpec,
};
use dataplane::id::{Mid, PayloadType, Rid, SessionId, Ssrc, TrackId};
use signaling::camera::CameraState;
use signaling::name::{PersonName, RoomName};
use signaling::node::{PersonId, Refusal, RoomEvent, SourceKind};
use signaling::sdp::{Codec, IceCredentials};

use super::effect::{ClientKind, Effect, EndReason};
use super::person::Presence;
use super::plan::PlannedTrack;
use super::session::{Owner, Session};
use super::{Rooms, random, translate};
use crate::camera::order::{Outlet, Target};
use crate::camera::stream::{CameraCodec, Stream};

/// What a camera is called that has no name.
const CAMERA_NAME: &str = "Camera";

/// `a=mid` of a camera's picture: there is no SDP in which it stands.
const VIDEO_MID: &str = "video";

/// `a=mid` of a camera's sound.
const AUDIO_MID: &str = "audio";

/// Payload type of the first kind of picture; others follow (RFC 3551 section 6: dynamic).
const VIDEO_PAYLOAD_TYPE: u8 = 96;

/// Payload type of Opus, as browsers have it.
const OPUS_PAYLOAD_TYPE: u8 = 111;

/// What a camera publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CameraStreams {
    /// For each of its sources, the smallest first: what it is called among the layers, and its picture, if that
    /// is forwarded. All are coded alike, but for profile and level.
    pub video: Vec<(Option<String>, Option<Stream>)>,
    /// Its sound.
    pub audio: Option<Stream>,
}

impl Rooms {
    /// A camera comes into a room, without a picture yet.
    ///
    /// # Errors
    /// A full room or node, a node that is shutting down.
    pub fn handle_camera(
        &mut self,
        room: &RoomName,
        name: &PersonName,
    ) -> Result<PersonId, Refusal> {
        self.check_camera(room)?;
        let id = PersonId(random::id(&mut *self.random));
        self.add_camera_as(&id, room, name);
        Ok(id)
    }

    /// The same for the camera of a document, which bears the document's id.
    ///
    /// # Errors
    /// The same, and an id that somebody in a room has.
    pub fn handle_camera_as(
        &mut self,
        id: &PersonId,
        room: &RoomName,
        name: &PersonName,
    ) -> Result<(), Refusal> {
        self.check_camera(room)?;
        if self.people.contains_key(id) {
            return Err(super::requests::id_taken());
        }
        self.add_camera_as(id, room, name);
        Ok(())
    }

    /// Whether there is a place for a camera.
    ///
    /// # Errors
    /// A full room or node, a node that is shutting down.
    pub fn check_camera(&self, room: &RoomName) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::ShuttingDown);
        }
        self.check_place(room)
    }

    /// What a camera publishes from now on, and where its packets are to go; `None` when it is not there.
    /// Without any stream its session ends.
    pub fn handle_camera_streams(
        &mut self,
        id: &PersonId,
        streams: &CameraStreams,
    ) -> Option<Target> {
        let person = self
            .people
            .get(id)
            .filter(|person| person.presence.camera().is_some())?;
        if self.ending {
            return None;
        }
        let (room, known) = (person.room.clone(), person.session);
        let nothing =
            streams.audio.is_none() && streams.video.iter().all(|(_, stream)| stream.is_none());
        if nothing {
            if let Some(session) = known {
                self.end_session(session, EndReason::Left);
                self.notify_tracks(id);
            }
            return None;
        }
        let session = known.unwrap_or_else(|| self.open_feed(&room, id));
        let (planned, outlets) = self.plan_camera(session, streams);
        self.carry_out_publishes(session, planned);
        self.feed_viewers(&room);
        let worker = self.sessions.get(&session)?.worker;
        Some(Target {
            worker,
            session,
            video: outlets.video,
            audio: outlets.audio,
        })
    }

    /// How it is with a camera now: the room is told.
    pub fn handle_camera_state(&mut self, id: &PersonId, state: CameraState) {
        let Some(person) = self.people.get_mut(id) else {
            return;
        };
        let Presence::Camera { state: before } = &mut person.presence else {
            return;
        };
        if *before == state {
            return;
        }
        *before = state;
        let room = person.room.clone();
        let event = RoomEvent::Camera {
            id: id.clone(),
            state,
        };
        self.notify_others(&room, Some(id), &event);
    }

    /// Cameras that somebody receives something of; `None` while that is as when this was last asked.
    pub fn take_watched(&mut self) -> Option<BTreeSet<PersonId>> {
        if !std::mem::take(&mut self.watch_changed) {
            return None;
        }
        let receivers = self
            .sessions
            .values()
            .flat_map(|session| session.receives.values());
        let taken = receivers.filter(|receiver| {
            receiver.kind() == MediaKind::Audio
                || receiver.preference.most != dataplane::command::Quality::Off
        });
        let tracks: BTreeSet<TrackId> = taken.filter_map(|receiver| receiver.track).collect();
        let owners = tracks
            .iter()
            .filter_map(|track| Some(&self.tracks.get(track)?.owner));
        let is_camera = |id: &&PersonId| self.is_camera(id);
        Some(owners.filter(is_camera).cloned().collect())
    }

    /// Whether this person is a camera.
    #[must_use]
    pub fn is_camera(&self, id: &PersonId) -> bool {
        self.people
            .get(id)
            .is_some_and(|person| person.presence.camera().is_some())
    }

    /// Somebody takes a camera out of its room; `false` when there is no such camera. If a document asked for it, that
    /// is told.
    pub fn handle_camera_removed(&mut self, id: &PersonId) -> bool {
        self.dismiss_camera(id, EndReason::Removed)
    }

    /// A camera is no longer wanted in its room; `false` when there is no such camera.
    pub fn handle_camera_over(&mut self, id: &PersonId) -> bool {
        self.dismiss_camera(id, EndReason::Left)
    }

    fn dismiss_camera(&mut self, id: &PersonId, reason: EndReason) -> bool {
        let is_camera = self.is_camera(id);
        if is_camera {
            self.handle_leave(id, reason);
        }
        is_camera
    }

    /// Whether nobody but cameras is in the room.
    pub(super) fn has_only_cameras(&self, name: &RoomName) -> bool {
        self.rooms.get(name).is_some_and(|room| {
            room.viewers.is_empty() && room.people.iter().all(|person| self.is_camera(person))
        })
    }

    /// The session of a camera is over, and the camera is still there.
    pub(super) fn on_feed_lost(&mut self, person: PersonId, session: SessionId, reason: EndReason) {
        self.end_session(session, reason);
        self.notify_tracks(&person);
        self.effects.push_back(Effect::CameraLost { person });
    }

    pub(super) fn add_camera_as(&mut self, id: &PersonId, room: &RoomName, name: &PersonName) {
        let name = if name.as_str().is_empty() {
            PersonName::new(CAMERA_NAME)
        } else {
            name.clone()
        };
        let state = CameraState::Connecting;
        self.add_person_as(id, room, name, Presence::Camera { state });
    }

    /// A session that carries nothing yet, and that no client speaks on.
    fn open_feed(&mut self, room: &RoomName, person: &PersonId) -> SessionId {
        let id = SessionId(self.next_id);
        self.next_id += 1;
        let worker = self.rooms.get(room).map_or(0, |room| self.worker_for(room));
        self.note_begin(room, worker);
        let mut cname = String::new();
        if let Some(person) = self.people.get_mut(person) {
            person.session = Some(id);
            cname.clone_from(&person.cname);
        }
        let session = Session {
            room: room.clone(),
            worker,
            owner: Owner::Camera(person.clone()),
            origin: ClientKind::Camera.into(),
            // There is nobody who could check any of these.
            local: IceCredentials {
                ufrag: String::new(),
                pwd: String::new(),
            },
            remote_ufrag: String::new(),
            dtls: DtlsSpec {
                role: DtlsRole::Server,
                fingerprints: Vec::new(),
            },
            fingerprint: [0; 32],
            sdp_session_id: 0,
            sdp_version: 0,
            bundle_mid: String::new(),
            publishes: BTreeMap::new(),
            chosen: None,
            receives: BTreeMap::new(),
            data: None,
        };
        let spec = Box::new(FeedSpec { session: id, cname });
        self.begin_session(id, session, Command::OpenFeed(spec));
        id
    }

    /// The tracks of a camera and how their packets are named. A track that is there keeps its id, so that whoever
    /// watches it goes on; its SSRCs are new, since the numbers in its packets begin anew.
    fn plan_camera(
        &mut self,
        session: SessionId,
        streams: &CameraStreams,
    ) -> (BTreeMap<String, PlannedTrack>, Outlets) {
        let mut outlets = Outlets::default();
        let mut planned = BTreeMap::new();
        let mut codecs: Vec<Codec> = Vec::new();
        let (mut sources, mut rids) = (Vec::new(), Vec::new());
        for (rid, stream) in &streams.video {
            let ssrc = self.outlet_ssrc(&mut outlets);
            let wanted = stream
                .as_ref()
                .map(|stream| codec_of(stream, VIDEO_PAYLOAD_TYPE));
            let payload_type =
                wanted.map_or(VIDEO_PAYLOAD_TYPE, |codec| add_codec(&mut codecs, codec));
            if stream.is_some() {
                sources.push(Source { ssrc, rtx: None });
                rids.extend(rid.as_ref().and_then(|rid| Rid::new(rid.as_bytes())));
            }
            outlets.video.push(Outlet {
                ssrc,
                payload_type: PayloadType(payload_type),
            });
        }
        if !sources.is_empty() {
            // A source without a name is the only one.
            let is_layered = sources.len() > 1 && rids.len() == sources.len();
            let simulcast = if is_layered {
                Simulcast::Rids(rids)
            } else {
                Simulcast::None
            };
            sources.truncate(if is_layered { sources.len() } else { 1 });
            let section = (VIDEO_MID, MediaKind::Video, SourceKind::Camera);
            let track = self.camera_track(session, section, sources, codecs, simulcast);
            planned.insert(VIDEO_MID.to_owned(), track);
        }
        if let Some(stream) = &streams.audio {
            let ssrc = self.outlet_ssrc(&mut outlets);
            let codec = codec_of(stream, OPUS_PAYLOAD_TYPE);
            outlets.audio = Some(Outlet {
                ssrc,
                payload_type: PayloadType(codec.payload_type),
            });
            let section = (AUDIO_MID, MediaKind::Audio, SourceKind::Microphone);
            let sources = vec![Source { ssrc, rtx: None }];
            let track = self.camera_track(session, section, sources, vec![codec], Simulcast::None);
            planned.insert(AUDIO_MID.to_owned(), track);
        }
        (planned, outlets)
    }

    fn camera_track(
        &mut self,
        session: SessionId,
        (mid, kind, source): (&str, MediaKind, SourceKind),
        sources: Vec<Source>,
        codecs: Vec<Codec>,
        simulcast: Simulcast,
    ) -> PlannedTrack {
        let known = self
            .sessions
            .get(&session)
            .and_then(|session| session.publishes.get(mid).copied());
        let track = known.unwrap_or_else(|| {
            self.next_id += 1;
            TrackId(self.next_id - 1)
        });
        let spec = TrackSpec {
            track,
            kind,
            mid: Mid::new(mid.as_bytes()).expect("the names above are neither empty nor long"),
            sources,
            formats: translate::formats(&codecs),
            extensions: ExtensionIds::default(),
            nack: false,
            simulcast,
            group: None,
            // Nobody can be asked for a key frame.
            keeps_group: kind == MediaKind::Video,
        };
        PlannedTrack {
            source,
            spec,
            codecs,
        }
    }

    fn outlet_ssrc(&mut self, outlets: &mut Outlets) -> Ssrc {
        let ssrc = random::ssrc(&mut *self.random, &outlets.taken);
        outlets.taken.insert(ssrc);
        Ssrc(ssrc)
    }
}

/// How the packets of a camera are named, in the making.
#[derive(Debug, Default)]
struct Outlets {
    video: Vec<Outlet>,
    audio: Option<Outlet>,
    taken: BTreeSet<u32>,
}

/// The payload type of a codec: that of its like, or the next one.
fn add_codec(codecs: &mut Vec<Codec>, codec: Codec) -> u8 {
    if let Some(known) = codecs
        .iter()
        .find(|known| known.fmtp == codec.fmtp && known.name == codec.name)
    {
        return known.payload_type;
    }
    let payload_type = VIDEO_PAYLOAD_TYPE + codecs.len() as u8;
    codecs.push(Codec {
        payload_type,
        ..codec
    });
    payload_type
}

/// A stream in SDP's terms, under a dynamic payload type where its own is not fixed (RFC 3551 section 6).
fn codec_of(stream: &Stream, dynamic: u8) -> Codec {
    let (payload_type, name, channels, fmtp) = match &stream.codec {
        CameraCodec::H264 {
            profile_level_id: [idc, constraints, level],
        } => {
            let fmtp = format!(
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={idc:02x}{constraints:02x}{level:02x}"
            );
            (dynamic, "H264", 1, fmtp)
        }
        CameraCodec::H265 {
            profile_id,
            tier,
            level_id,
        } => {
            let tier = u8::from(*tier);
            let fmtp = format!(
                "level-id={level_id};profile-id={profile_id};tier-flag={tier};tx-mode=SRST"
            );
            (dynamic, "H265", 1, fmtp)
        }
        CameraCodec::Pcmu => (0, "PCMU", 1, String::new()),
        CameraCodec::Pcma => (8, "PCMA", 1, String::new()),
        CameraCodec::Opus => (dynamic, "opus", 2, String::new()),
    };
    Codec {
        payload_type,
        name: name.to_owned(),
        clock_rate: stream.clock_rate,
        channels,
        fmtp,
        rtx: None,
        feedback: Vec::new(),
    }
}
