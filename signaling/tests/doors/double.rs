//! A node that remembers what it was asked and says what the test wants.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use signaling::camera::{
    CameraMode, CameraRequest, CameraState, CameraTransport, CameraView, SecretUrl,
};
use signaling::name::RoomName;
use signaling::node::{
    Connect, Connected, Enter, Entered, Node, PageOffer, Patch, Patched, Person, PersonId, Refusal,
    ResourceId, RoomDetail, RoomEvent, RoomSummary, SourceKind, Track, TrackKind, Visit,
};
use signaling::quality::{Preference, Quality};
use tokio::sync::{mpsc, watch};

pub(crate) const RESOURCE: &str = "f2a9";
pub(crate) const TOKEN: &str = "secret";

pub(crate) struct Double {
    /// What was asked, in order; a `watch` so that tests wait for it without sleeping.
    calls: watch::Sender<Vec<String>>,
    /// The next answer that can be a refusal is this one.
    pub(crate) refusal: Mutex<Option<Refusal>>,
    /// Calls wait while this is true.
    pub(crate) held: watch::Sender<bool>,
    pub(crate) unready: AtomicBool,
    /// Where room events of the newest person go.
    events: Mutex<Option<mpsc::Sender<RoomEvent>>>,
}

impl Default for Double {
    fn default() -> Double {
        Double {
            calls: watch::Sender::new(Vec::new()),
            refusal: Mutex::new(None),
            held: watch::Sender::new(false),
            unready: AtomicBool::new(false),
            events: Mutex::new(None),
        }
    }
}

impl Double {
    pub(crate) fn refuse(&self, refusal: Refusal) {
        *self.refusal.lock().unwrap() = Some(refusal);
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    /// Waits until a call has this text.
    pub(crate) async fn called(&self, call: &str) {
        let mut calls = self.calls.subscribe();
        calls
            .wait_for(|calls| calls.iter().any(|c| c == call))
            .await
            .unwrap();
    }

    pub(crate) async fn tell(&self, event: RoomEvent) {
        let events = self.events.lock().unwrap().clone().unwrap();
        events.send(event).await.unwrap();
    }

    /// Closes the newest person's channel.
    pub(crate) fn stop_telling(&self) {
        *self.events.lock().unwrap() = None;
    }

    fn note(&self, call: String) {
        self.calls.send_modify(|calls| calls.push(call));
    }

    async fn answer<T>(&self, answer: T) -> Result<T, Refusal> {
        self.held.subscribe().wait_for(|held| !held).await.unwrap();
        self.refusal.lock().unwrap().take().map_or(Ok(answer), Err)
    }

    fn entered(&self, room: RoomName, name: &str) -> Entered {
        let (sender, events) = mpsc::channel(8);
        *self.events.lock().unwrap() = Some(sender);
        Entered {
            person: PersonId("p1".to_owned()),
            visit: Visit(1),
            room,
            resume_token: TOKEN.to_owned(),
            people: vec![person(name)],
            events,
        }
    }
}

pub(crate) fn person(name: &str) -> Person {
    Person {
        id: PersonId("p1".to_owned()),
        name: signaling::name::PersonName::new(name),
        tracks: vec![track()],
        camera: None,
    }
}

pub(crate) fn track() -> Track {
    Track {
        id: "t1".to_owned(),
        source: SourceKind::ScreenAudio,
        kind: TrackKind::Audio,
        muted: false,
    }
}

pub(crate) fn camera() -> CameraView {
    CameraView {
        id: PersonId("c1".to_owned()),
        room: "gate".parse().unwrap(),
        name: signaling::name::PersonName::new("Gate"),
        state: CameraState::Connecting,
        wanted: false,
        transport: CameraTransport::Auto,
        mode: CameraMode::OnDemand,
        video: Vec::new(),
        audio: None,
        error: None,
        retry_ms: None,
        remarks: Vec::new(),
    }
}

impl Node for Double {
    async fn enter(&self, request: Enter) -> Result<Entered, Refusal> {
        self.note(format!(
            "enter {} as {}",
            request.room,
            request.name.as_str()
        ));
        let entered = self.entered(request.room, request.name.as_str());
        self.answer(entered).await
    }

    async fn resume(&self, token: &str) -> Result<Entered, Refusal> {
        self.note(format!("resume {token}"));
        if token != TOKEN {
            return Err(Refusal::UnknownSession);
        }
        let entered = self.entered("tea".parse().unwrap(), "Ada");
        self.answer(entered).await
    }

    fn suspend(&self, person: &PersonId, _visit: Visit) {
        self.note(format!("suspend {}", person.0));
    }

    fn leave(&self, person: &PersonId, _visit: Visit) {
        self.note(format!("leave {}", person.0));
    }

    async fn offer(&self, person: &PersonId, offer: PageOffer) -> Result<String, Refusal> {
        let PageOffer {
            wants,
            sources,
            offer,
        } = offer;
        let sections = offer.sections.len();
        self.note(format!(
            "offer {} {sections} {sources:?} {wants:?}",
            person.0
        ));
        self.answer("v=0 answer".to_owned()).await
    }

    fn mute(&self, person: &PersonId, source: SourceKind, muted: bool) {
        self.note(format!("mute {} {source:?} {muted}", person.0));
    }

    fn prefer(&self, person: &PersonId, track: &str, preference: Preference) {
        let Preference { most, priority } = preference;
        self.note(format!("prefer {} {track} {most:?} {priority}", person.0));
    }

    fn say(&self, person: &PersonId, text: &str) {
        self.note(format!("say {} {text}", person.0));
    }

    async fn connect(&self, request: Connect) -> Result<Connected, Refusal> {
        let Connect {
            door,
            room,
            name,
            most,
            from,
            ..
        } = request;
        let most = if most == Quality::BEST {
            String::new()
        } else {
            format!(" {most:?}")
        };
        self.note(format!(
            "connect {door:?} {room} {:?} {from}{most}",
            name.as_str()
        ));
        self.answer(Connected {
            resource: ResourceId(RESOURCE.to_owned()),
            answer: "v=0 answer".to_owned(),
            etag: "e1".to_owned(),
        })
        .await
    }

    async fn patch(&self, resource: &ResourceId, patch: Patch) -> Result<Patched, Refusal> {
        self.note(format!(
            "patch {} {}",
            resource.0,
            patch.if_match.as_deref().unwrap_or("-")
        ));
        if resource.0 != RESOURCE {
            return Err(Refusal::UnknownSession);
        }
        if patch.if_match.is_some_and(|tag| tag != "*" && tag != "e1") {
            return Err(Refusal::StaleEtag);
        }
        self.answer(match patch.ice {
            Some(ice) if ice.ufrag != "EsAw" => Patched::Restarted {
                fragment: "a=ice-ufrag:new\r\n".to_owned(),
                etag: "e2".to_owned(),
            },
            _ => Patched::Trickled,
        })
        .await
    }

    async fn layer(&self, resource: &ResourceId, most: Quality) -> Result<(), Refusal> {
        self.note(format!("layer {} {most:?}", resource.0));
        if resource.0 == RESOURCE {
            Ok(())
        } else {
            Err(Refusal::UnknownSession)
        }
    }

    async fn disconnect(&self, resource: &ResourceId) -> Result<(), Refusal> {
        self.note(format!("disconnect {}", resource.0));
        if resource.0 == RESOURCE {
            Ok(())
        } else {
            Err(Refusal::UnknownSession)
        }
    }

    fn rooms(&self) -> Vec<RoomSummary> {
        vec![RoomSummary {
            room: "tea".parse().unwrap(),
            people: 1,
            viewers: 2,
            tracks: 1,
        }]
    }

    fn room(&self, room: &RoomName) -> Option<RoomDetail> {
        (room.as_str() == "tea").then(|| RoomDetail {
            room: room.clone(),
            people: vec![person("Ada")],
            viewers: 2,
            media: Vec::new(),
        })
    }

    fn close_room(&self, room: &RoomName) -> bool {
        self.note(format!("close {room}"));
        room.as_str() == "tea"
    }

    async fn add_camera(&self, request: CameraRequest) -> Result<CameraView, Refusal> {
        let urls = request
            .url
            .iter()
            .chain(request.layers.iter().map(|layer| &layer.url));
        let urls: Vec<&str> = urls.map(SecretUrl::secret).collect();
        self.note(format!(
            "camera {} in {} at {urls:?}",
            request.name.as_str(),
            request.room
        ));
        self.answer(camera()).await
    }

    fn cameras(&self) -> Vec<CameraView> {
        vec![camera()]
    }

    fn camera(&self, id: &PersonId) -> Option<CameraView> {
        (*id == camera().id).then(camera)
    }

    fn remove_camera(&self, id: &PersonId) -> bool {
        self.note(format!("remove camera {}", id.0));
        *id == camera().id
    }

    fn ready(&self) -> Result<(), String> {
        if self.unready.load(Ordering::Relaxed) {
            return Err("no worker has started yet".to_owned());
        }
        Ok(())
    }

    fn metrics(&self) -> String {
        "millrace_sessions 1\n".to_owned()
    }
}
