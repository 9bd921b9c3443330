//! Cameras at the node: what the doors ask, what the lane says, and what comes of it.

use std::fmt;
use std::time::Instant;

use signaling::camera::{CameraRequest, CameraView};
use signaling::node::{PersonId, Refusal};
use tokio::sync::mpsc;
use tracing::warn;

use super::{Millrace, State};
use crate::camera::cameras::{Placed, Task};
use crate::camera::carried::Carried;
use crate::camera::description;
use crate::camera::order::{CameraId, LaneEvent, Order, Trust};
use crate::room::ClientKind;

/// What the lane says.
pub type LaneEvents = mpsc::Receiver<(CameraId, LaneEvent)>;

/// How the lane is told; without one, cameras are known and never pulled.
#[derive(Default)]
pub(super) struct LaneLine(Option<Box<dyn Fn(Order) + Send>>);

impl fmt::Debug for LaneLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LaneLine").field(&self.0.is_some()).finish()
    }
}

impl Millrace {
    /// From now on there is a lane, which is told of cameras by this.
    pub fn open_lane(&self, tell: impl Fn(Order) + Send + 'static) {
        self.decide(|state, _| state.lane = LaneLine(Some(Box::new(tell))));
    }

    /// These cameras are in the configuration, and no others are: what another program handed over and is no longer
    /// listed goes. One that finds no place is left out, which is logged.
    pub fn list_cameras(&self, listed: &[Placed]) {
        let is_listed = |placed: &Placed| placed.spec.trust == Trust::Operator;
        // They leave their places first.
        let kept: Vec<Placed> = self.decide(|state, _| {
            let known = state.cameras.all().filter(|(_, placed)| is_listed(placed));
            let known: Vec<(PersonId, Placed)> = known
                .map(|(person, placed)| (person.clone(), placed.clone()))
                .collect();
            let (kept, gone): (Vec<_>, Vec<_>) = known
                .into_iter()
                .partition(|(_, placed)| listed.contains(placed));
            for (person, _) in gone {
                state.rooms.handle_camera_over(&person);
            }
            kept.into_iter().map(|(_, placed)| placed).collect()
        });
        self.decide(|state, _| {
            for placed in listed.iter().filter(|placed| !kept.contains(placed)) {
                let (room, name) = (placed.room.clone(), placed.name.clone());
                if let Err(refusal) = state.add_camera(placed.clone()) {
                    warn!(%room, name = name.as_str(), "a camera of the list is left out: {refusal}");
                }
            }
        });
    }
}

impl State {
    /// Puts a camera into its room.
    pub(super) fn add_camera(&mut self, placed: Placed) -> Result<CameraView, Refusal> {
        self.cameras.check(&placed.room)?;
        let person = self.rooms.handle_camera(&placed.room, &placed.name)?;
        self.note_camera(person.clone(), placed);
        let view = self.cameras.view(&person);
        view.ok_or_else(|| Refusal::Broken("the camera was lost at once".to_owned()))
    }

    /// Puts the camera of a document, which bears its id, into its room. One that is there goes on if it is the same.
    pub(super) fn keep_camera(&mut self, id: &PersonId, placed: Placed) -> Result<(), Refusal> {
        if self.cameras.placed(id) == Some(&placed) {
            return Ok(());
        }
        if self.rooms.handle_camera_over(id) {
            // Everybody is told that it is gone before one of the same id comes.
            self.carry_out();
        }
        self.cameras.check(&placed.room)?;
        self.rooms
            .handle_camera_as(id, &placed.room, &placed.name)?;
        self.note_camera(id.clone(), placed);
        Ok(())
    }

    /// Takes note of a camera that is in its room.
    fn note_camera(&mut self, person: PersonId, placed: Placed) {
        self.cameras.handle_add(person, placed);
        self.tally.joined(ClientKind::Camera);
    }

    /// The camera that a stranger describes, if sessions can be made now.
    pub(super) fn described(&self, camera: CameraRequest) -> Result<Placed, Refusal> {
        let placed = description::placed(camera, Trust::Request);
        let placed = placed.map_err(|bad| Refusal::BadCamera(bad.to_string()))?;
        self.workers.check()?;
        Ok(placed)
    }

    /// Takes up cameras of another program. Who is not in the rooms that it handed over is left out.
    pub(super) fn adopt_cameras(&mut self, carried: Vec<Carried>) {
        for (person, placed) in carried.into_iter().filter_map(Carried::placed) {
            if self.rooms.is_camera(&person) {
                self.cameras.handle_add(person, placed);
            }
        }
    }

    /// What the program that takes over is to know of cameras.
    pub(super) fn carried_cameras(&self) -> Vec<Carried> {
        self.cameras
            .all()
            .map(|(person, placed)| Carried::new(person, placed))
            .collect()
    }

    /// Time passes, and somebody may have begun or ceased to watch.
    pub(super) fn watch_cameras(&mut self, now: Instant) {
        if let Some(watched) = self.rooms.take_watched() {
            self.cameras.handle_watched(now, &watched);
        }
        self.cameras.handle_timeout(now);
    }

    /// Does what was decided about cameras. Rooms may have more to do after it.
    pub(super) fn perform_cameras(&mut self, now: Instant) {
        while let Some(task) = self.cameras.poll_task() {
            match task {
                Task::Publish { person, streams } => {
                    let target = self.rooms.handle_camera_streams(&person, &streams);
                    self.cameras.handle_target(now, &person, target);
                }
                Task::Show { person, state } => self.rooms.handle_camera_state(&person, state),
            }
        }
        let LaneLine(Some(tell)) = &self.lane else {
            // They wait for it: there is one soon after the start.
            return;
        };
        while let Some(order) = self.cameras.poll_order() {
            tell(order);
        }
    }
}
