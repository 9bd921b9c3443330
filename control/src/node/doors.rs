//! What the doors ask of the node.

use signaling::camera::{CameraRequest, CameraView};
use signaling::name::RoomName;
use signaling::node::{
    Connect, Connected, Door, Enter, Entered, Node, PageOffer, Patch, Patched, PersonId, Refusal,
    ResourceId, RoomDetail, RoomSummary, SourceKind, Visit,
};
use signaling::quality::{Preference, Quality};

use super::{Millrace, State};
use crate::room::{ClientKind, Entry};

impl Node for Millrace {
    async fn enter(&self, request: Enter) -> Result<Entered, Refusal> {
        self.answer(|state, _| {
            let entry = state.rooms.handle_enter(&request)?;
            state.tally.joined(ClientKind::Page);
            Ok(state.entered(entry))
        })
    }

    async fn resume(&self, token: &str) -> Result<Entered, Refusal> {
        self.answer(|state, _| {
            let entry = state.rooms.handle_resume(token)?;
            Ok(state.entered(entry))
        })
    }

    fn suspend(&self, person: &PersonId, visit: Visit) {
        self.decide(|state, now| {
            if state.rooms.handle_suspend(person, visit, now) {
                state.people.remove(person);
            }
        });
    }

    fn leave(&self, person: &PersonId, visit: Visit) {
        self.decide(|state, _| state.rooms.handle_goodbye(person, visit));
    }

    async fn offer(&self, person: &PersonId, offer: PageOffer) -> Result<String, Refusal> {
        self.answer(|state, _| {
            state.workers.check()?;
            state.rooms.handle_offer(person, &offer)
        })
    }

    fn mute(&self, person: &PersonId, source: SourceKind, muted: bool) {
        self.decide(|state, _| state.rooms.handle_mute(person, source, muted));
    }

    fn prefer(&self, person: &PersonId, track: &str, preference: Preference) {
        self.decide(|state, _| state.rooms.handle_prefer(person, track, preference));
    }

    async fn layer(&self, resource: &ResourceId, most: Quality) -> Result<(), Refusal> {
        self.answer(|state, _| state.rooms.handle_layer(resource, most))
    }

    fn say(&self, person: &PersonId, text: &str) {
        self.decide(|state, _| state.rooms.handle_say(person, text));
    }

    async fn connect(&self, request: Connect) -> Result<Connected, Refusal> {
        self.answer(|state, _| {
            state.workers.check()?;
            let connected = state.rooms.handle_connect(&request)?;
            state.tally.joined(match request.door {
                Door::Whip => ClientKind::Encoder,
                Door::Whep => ClientKind::Viewer,
            });
            Ok(connected)
        })
    }

    async fn patch(&self, resource: &ResourceId, patch: Patch) -> Result<Patched, Refusal> {
        self.answer(|state, _| state.rooms.handle_patch(resource, &patch))
    }

    async fn disconnect(&self, resource: &ResourceId) -> Result<(), Refusal> {
        self.answer(|state, _| state.rooms.handle_disconnect(resource))
    }

    fn rooms(&self) -> Vec<RoomSummary> {
        self.lock().rooms.summaries()
    }

    fn room(&self, room: &RoomName) -> Option<RoomDetail> {
        self.lock().rooms.detail(room)
    }

    fn close_room(&self, room: &RoomName) -> bool {
        self.decide(|state, _| state.rooms.handle_close_room(room))
    }

    async fn add_camera(&self, request: CameraRequest) -> Result<CameraView, Refusal> {
        self.answer(|state, _| {
            let placed = state.described(request)?;
            state.add_camera(placed)
        })
    }

    fn cameras(&self) -> Vec<CameraView> {
        self.lock().cameras.views()
    }

    fn camera(&self, id: &PersonId) -> Option<CameraView> {
        self.lock().cameras.view(id)
    }

    fn remove_camera(&self, id: &PersonId) -> bool {
        self.decide(|state, _| state.rooms.handle_camera_removed(id))
    }

    fn ready(&self) -> Result<(), String> {
        let state = self.lock();
        let ready = state.rooms.ready().and_then(|()| state.workers.check());
        ready.map_err(|refusal| refusal.to_string())?;
        match &state.database {
            Some(database) => database.ready.clone(),
            None => Ok(()),
        }
    }

    fn metrics(&self) -> String {
        self.lock().metrics()
    }
}

impl State {
    fn entered(&mut self, entry: Entry) -> Entered {
        let events = self.channel(&entry.person);
        let Entry {
            person,
            visit,
            room,
            resume_token,
            people,
        } = entry;
        Entered {
            person,
            visit,
            room,
            resume_token,
            people,
            events,
        }
    }
}
