//! What the Firestore door asks of the node, and is told.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use signaling::camera::CameraRequest;
use signaling::name::RoomName;
use signaling::node::{PageOffer, PersonId, Refusal};
use tokio::sync::Notify;

use super::{Millrace, State};
use crate::firestore::desk::{Answered, Kind, RequestId, RoomView, Serve};
use crate::firestore::shell::Standing;
use crate::gate::Gate;
use crate::room::{Request, RequestKind, Usage};

/// Something that the Firestore door is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A request's session ended by itself, for a reason that ends a sentence.
    Ended(RequestId, String),
    /// A room looks like this now; `None` when it is gone.
    Room(RoomName, Option<RoomView>),
}

/// What the door has not been told yet. There is at most one entry for each session and room, so
/// it is bounded as they are.
#[derive(Debug, Default)]
pub(super) struct Untold {
    ended: Vec<(RequestId, String)>,
    rooms: BTreeSet<RoomName>,
}

impl Untold {
    pub(super) fn ended(&mut self, id: String, reason: String) {
        self.ended.push((RequestId(id), reason));
    }

    pub(super) fn changed(&mut self, rooms: BTreeSet<RoomName>) {
        self.rooms.extend(rooms);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.rooms.is_empty()
    }
}

impl Millrace {
    /// From now on there is somebody to tell.
    pub fn watch(&self) {
        self.lock().untold = Some(Untold::default());
    }

    /// Rings when there is something to take with [`Millrace::take_reports`].
    #[must_use]
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// What happened since this was last asked.
    #[must_use]
    pub fn take_reports(&self) -> Vec<Report> {
        let mut state = self.lock();
        let Untold { ended, rooms } = state
            .untold
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        let ended = ended
            .into_iter()
            .map(|(id, reason)| Report::Ended(id, reason));
        let mut reports: Vec<Report> = ended.collect();
        reports.extend(rooms.into_iter().map(|room| {
            let view = state.view(&room);
            Report::Room(room, view)
        }));
        reports
    }

    /// Makes the session of a request, or gives the one that it has a new offer.
    ///
    /// # Errors
    /// An offer that cannot be served; limits.
    pub fn serve_request(
        &self,
        RequestId(id): &RequestId,
        serve: Serve,
    ) -> Result<Answered, Refusal> {
        let kind = match serve.kind {
            Kind::Broadcaster => RequestKind::Broadcaster,
            Kind::Participant => RequestKind::Participant,
            Kind::Member | Kind::Camera => RequestKind::Member,
        };
        let request = Request {
            id: id.clone(),
            kind,
            room: serve.room,
            name: serve.name,
            page: PageOffer {
                offer: serve.offer,
                wants: serve.wants,
                sources: serve.sources,
            },
        };
        self.answer(|state, _| {
            state.workers.check()?;
            let sdp = state.rooms.handle_request(&request)?;
            state.tally.joined(kind.client());
            Ok(Answered::Session { sdp })
        })
    }

    /// Puts the camera of a request into its room, in place of the one that it has there if that is another.
    ///
    /// # Errors
    /// A description of no camera; limits.
    pub fn serve_camera(
        &self,
        RequestId(id): &RequestId,
        camera: CameraRequest,
    ) -> Result<Answered, Refusal> {
        self.answer(|state, _| {
            let placed = state.described(camera)?;
            state.keep_camera(&PersonId(id.clone()), placed)?;
            Ok(Answered::Camera)
        })
    }

    /// Ends the session of a request, if it has one.
    pub fn hang_up(&self, RequestId(id): &RequestId) {
        self.decide(|state, _| state.rooms.handle_request_over(id));
    }

    /// Ends the room of a broadcaster who hung up.
    pub fn end_broadcast(&self, room: &RoomName) {
        self.decide(|state, _| state.rooms.handle_broadcast_over(room));
    }

    /// Makes no new rooms from now on.
    pub fn drain(&self) {
        self.decide(|state, _| state.rooms.handle_drain());
    }

    /// How busy the node is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.lock().rooms.usage()
    }

    /// Takes note of how the Firestore door stands.
    pub fn show_database(&self, standing: Standing) {
        self.lock().database = Some(standing);
    }

    /// Takes note of where connections come in.
    pub fn show_gate(&self, gate: Gate) {
        self.lock().gate = Some(gate);
    }
}

impl State {
    fn view(&self, room: &RoomName) -> Option<RoomView> {
        let sight = self.rooms.sight(room)?;
        let Some(members) = sight.members else {
            return Some(RoomView {
                present: sight.present,
                ..RoomView::default()
            });
        };
        Some(RoomView {
            people: json(&members.people),
            speaking: json(&members.speaking),
            chat: json(&members.chat),
            present: sight.present,
        })
    }
}

/// Lists of plain values, which always can be written.
fn json(list: &[impl Serialize]) -> String {
    serde_json::to_string(list).unwrap_or_else(|_| "[]".to_owned())
}
