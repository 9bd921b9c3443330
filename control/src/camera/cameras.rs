//! Which cameras there are, what is known of them, and whether they are pulled.
//!
//! [`Cameras`] is a state machine without IO. Call any `handle_*`, then drain [`Cameras::poll_task`] (what the rooms
//! are to do, whose answer comes back by [`Cameras::handle_target`]) and after it [`Cameras::poll_order`] (what the
//! lane is to do); call [`Cameras::handle_timeout`] at the time of [`Cameras::poll_timeout`], or now and then.
//! A camera is named by the person that it is in its room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use signaling::camera::{CameraMode, CameraState, CameraTransport, CameraVideo, CameraView};
use signaling::name::{PersonName, RoomName};
use signaling::node::{PersonId, Refusal};

use super::order::{
    CameraId, CameraSpec, Figures, LaneEvent, LaneState, Mode, Order, Target, Transport,
};
use super::stream::{CameraCodec, Stream};
use crate::room::CameraStreams;

/// How long a camera is pulled after its last viewer has left: who changes the page comes back within it.
const LINGER: Duration = Duration::from_secs(10);

/// How long until a session that was lost is opened again; twice as long after each that was lost before a packet
/// came.
const REOPEN_FIRST: Duration = Duration::from_millis(250);

/// Doublings of it: 32 s at most.
const REOPEN_DOUBLINGS_MAX: u32 = 7;

/// How many cameras there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CameraLimits {
    /// In all rooms.
    pub cameras: usize,
    /// In one room.
    pub cameras_per_room: usize,
}

/// What the rooms are to do about a camera.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// It publishes this from now on; where its packets go then is told by [`Cameras::handle_target`].
    Publish {
        /// Which.
        person: PersonId,
        /// What.
        streams: CameraStreams,
    },
    /// It is otherwise with it now.
    Show {
        /// Which.
        person: PersonId,
        /// How it is.
        state: CameraState,
    },
}

/// A camera and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its room.
    pub room: RoomName,
    /// What it is called there.
    pub name: PersonName,
    /// The camera.
    pub spec: CameraSpec,
}

/// How much came from all cameras, and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CameraTotals {
    /// Cameras by state, in the order of [`CameraState::ALL`].
    pub states: [u64; CameraState::ALL.len()],
    /// Packets that came.
    pub packets: u64,
    /// Packets that did not come.
    pub lost: u64,
}

/// All cameras of a node.
#[derive(Debug)]
pub struct Cameras {
    limits: CameraLimits,
    next_id: u64,
    cameras: BTreeMap<CameraId, Camera>,
    people: BTreeMap<PersonId, CameraId>,
    orders: VecDeque<Order>,
    tasks: VecDeque<Task>,
    /// Packets that came and that did not, of cameras that are gone too.
    packets: u64,
    lost: u64,
}

/// One camera.
#[derive(Debug)]
struct Camera {
    person: PersonId,
    placed: Placed,
    state: CameraState,
    /// What last went wrong.
    error: Option<String>,
    retry_ms: Option<u64>,
    /// What it sends, once known.
    streams: Option<CameraStreams>,
    remarks: Vec<String>,
    figures: Vec<Figures>,
    /// Where its packets go, while it has a session.
    target: Option<Target>,
    /// Where the lane was last told to send them.
    ordered: Option<Target>,
    audience: Audience,
    /// When its session is opened again.
    reopen_at: Option<Instant>,
    /// Sessions that were lost since the last packet.
    losses: u32,
}

/// Whether somebody watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    /// Nobody.
    None,
    /// Somebody.
    Some,
    /// Nobody any more; they may come back until then.
    Gone(Instant),
}

impl Cameras {
    /// None yet.
    #[must_use]
    pub fn new(limits: CameraLimits) -> Cameras {
        Cameras {
            limits,
            next_id: 1,
            cameras: BTreeMap::new(),
            people: BTreeMap::new(),
            orders: VecDeque::new(),
            tasks: VecDeque::new(),
            packets: 0,
            lost: 0,
        }
    }

    /// Whether there is a place for one more.
    ///
    /// # Errors
    /// Says how many there may be.
    pub fn check(&self, room: &RoomName) -> Result<(), Refusal> {
        let CameraLimits {
            cameras,
            cameras_per_room,
        } = self.limits;
        if self.cameras.len() >= cameras {
            return Err(Refusal::NodeFull(format!(
                "it holds at most {cameras} cameras"
            )));
        }
        let here = self
            .cameras
            .values()
            .filter(|camera| camera.placed.room == *room)
            .count();
        if here >= cameras_per_room {
            return Err(Refusal::NodeFull(format!(
                "a room of it holds at most {cameras_per_room} cameras"
            )));
        }
        Ok(())
    }

    /// There is a camera, which is this person in its room.
    pub fn handle_add(&mut self, person: PersonId, placed: Placed) {
        let id = CameraId(self.next_id);
        self.next_id += 1;
        let spec = placed.spec.clone();
        self.people.insert(person.clone(), id);
        self.cameras.insert(id, Camera::new(person, placed));
        self.orders.push_back(Order::Add { camera: id, spec });
    }

    /// This person is no longer in their room; most are no cameras.
    pub fn handle_gone(&mut self, person: &PersonId) {
        let Some(camera) = self.people.remove(person) else {
            return;
        };
        self.cameras.remove(&camera);
        self.orders.push_back(Order::Remove { camera });
    }

    /// The lane says something of a camera, which may be gone by now.
    pub fn handle_lane_event(&mut self, now: Instant, id: CameraId, event: LaneEvent) {
        let Some(camera) = self.cameras.get_mut(&id) else {
            return;
        };
        match event {
            LaneEvent::Described {
                video,
                audio,
                mut remarks,
            } => {
                let streams = streams_of(&camera.placed.spec, video, audio, &mut remarks);
                camera.remarks = remarks;
                if camera.streams.as_ref() != Some(&streams) || camera.target.is_none() {
                    camera.streams = Some(streams.clone());
                    let person = camera.person.clone();
                    self.tasks.push_back(Task::Publish { person, streams });
                }
            }
            LaneEvent::State(state) => {
                if let Some(task) = camera.on_state(state) {
                    self.tasks.push_back(task);
                }
            }
            LaneEvent::Figures(figures) => {
                let (packets, lost) = camera.on_figures(figures);
                self.packets += packets;
                self.lost += lost;
            }
        }
        self.settle(now, id);
    }

    /// The rooms did what [`Task::Publish`] asked for; `None` where there is nothing to send.
    pub fn handle_target(&mut self, now: Instant, person: &PersonId, target: Option<Target>) {
        let Some((id, camera)) = self.of(person) else {
            return;
        };
        camera.target = target;
        camera.reopen_at = None;
        self.settle(now, id);
    }

    /// The session of a camera is over: it is opened again soon.
    pub fn handle_session_lost(&mut self, now: Instant, person: &PersonId) {
        let Some((_, camera)) = self.of(person) else {
            return;
        };
        camera.target = None;
        camera.reopen_at = Some(now + REOPEN_FIRST * 2_u32.pow(camera.losses));
        camera.losses = (camera.losses + 1).min(REOPEN_DOUBLINGS_MAX);
    }

    /// These cameras are watched now, and no others.
    pub fn handle_watched(&mut self, now: Instant, watched: &BTreeSet<PersonId>) {
        let mut changed = Vec::new();
        for (id, camera) in &mut self.cameras {
            let audience = match (camera.audience, watched.contains(&camera.person)) {
                (_, true) => Audience::Some,
                (Audience::Some, false) => Audience::Gone(now + LINGER),
                (before, false) => before,
            };
            if audience != camera.audience {
                camera.audience = audience;
                changed.push(*id);
            }
        }
        for id in changed {
            self.settle(now, id);
        }
    }

    /// Releases what nobody came back to, and opens sessions again.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = |camera: &Camera| camera.due().is_some_and(|at| at <= now);
        let due: Vec<CameraId> = self
            .cameras
            .iter()
            .filter(|(_, camera)| due(camera))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(camera) = self.cameras.get_mut(&id) else {
                continue;
            };
            if matches!(camera.audience, Audience::Gone(until) if until <= now) {
                camera.audience = Audience::None;
            }
            if camera.reopen_at.is_some_and(|at| at <= now) {
                match camera.streams.clone() {
                    // It is no longer due once the rooms have done it.
                    Some(streams) => {
                        let person = camera.person.clone();
                        self.tasks.push_back(Task::Publish { person, streams });
                    }
                    None => camera.reopen_at = None,
                }
            }
            self.settle(now, id);
        }
    }

    /// When [`Cameras::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.cameras.values().filter_map(Camera::due).min()
    }

    /// What the rooms are to do next.
    pub fn poll_task(&mut self) -> Option<Task> {
        self.tasks.pop_front()
    }

    /// What the lane is to do next.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// All of them, as the API shows them, in the order in which they came.
    #[must_use]
    pub fn views(&self) -> Vec<CameraView> {
        self.cameras.values().map(Camera::view).collect()
    }

    /// One of them.
    #[must_use]
    pub fn view(&self, person: &PersonId) -> Option<CameraView> {
        let id = self.people.get(person)?;
        self.cameras.get(id).map(Camera::view)
    }

    /// What was asked for of one of them.
    #[must_use]
    pub fn placed(&self, person: &PersonId) -> Option<&Placed> {
        let id = self.people.get(person)?;
        self.cameras.get(id).map(|camera| &camera.placed)
    }

    /// All of them with what was asked for, for the program that takes over: there are credentials in it.
    pub fn all(&self) -> impl Iterator<Item = (&PersonId, &Placed)> {
        self.cameras
            .values()
            .map(|camera| (&camera.person, &camera.placed))
    }

    /// How much there is.
    #[must_use]
    pub fn totals(&self) -> CameraTotals {
        let count = |state| {
            self.cameras
                .values()
                .filter(|camera| camera.state == state)
                .count() as u64
        };
        CameraTotals {
            states: CameraState::ALL.map(count),
            packets: self.packets,
            lost: self.lost,
        }
    }

    fn of(&mut self, person: &PersonId) -> Option<(CameraId, &mut Camera)> {
        let id = *self.people.get(person)?;
        self.cameras.get_mut(&id).map(|camera| (id, camera))
    }

    /// Tells the lane what it is to do about a camera, where that is not what it was last told.
    fn settle(&mut self, now: Instant, id: CameraId) {
        let Some(camera) = self.cameras.get_mut(&id) else {
            return;
        };
        let has_place = camera.target.is_some() || camera.reopen_at.is_some();
        if !camera.is_wanted(now) || !has_place {
            if camera.ordered.take().is_some() {
                self.orders.push_back(Order::Release { camera: id });
            }
            return;
        }
        // While a session is opened again its packets go where they went: they find nobody for a moment.
        if let Some(target) = &camera.target
            && camera.ordered.as_ref() != Some(target)
        {
            camera.ordered = Some(target.clone());
            let target = target.clone();
            self.orders.push_back(Order::Want { camera: id, target });
        }
    }
}

impl Camera {
    fn new(person: PersonId, placed: Placed) -> Camera {
        Camera {
            person,
            placed,
            state: CameraState::Connecting,
            error: None,
            retry_ms: None,
            streams: None,
            remarks: Vec::new(),
            figures: Vec::new(),
            target: None,
            ordered: None,
            audience: Audience::None,
            reopen_at: None,
            losses: 0,
        }
    }

    fn is_wanted(&self, now: Instant) -> bool {
        let is_watched = match self.audience {
            Audience::None => false,
            Audience::Some => true,
            Audience::Gone(until) => now < until,
        };
        is_watched || self.placed.spec.mode == Mode::Always
    }

    fn due(&self) -> Option<Instant> {
        let gone = match self.audience {
            Audience::Gone(until) => Some(until),
            Audience::None | Audience::Some => None,
        };
        [gone, self.reopen_at].into_iter().flatten().min()
    }

    /// Takes in how it is with it; the room is told of another state only.
    fn on_state(&mut self, state: LaneState) -> Option<Task> {
        self.retry_ms = None;
        let state = match state {
            LaneState::Idle => CameraState::Idle,
            LaneState::Connecting => CameraState::Connecting,
            LaneState::Playing => CameraState::Playing,
            LaneState::Away { reason, retry_ms } => {
                self.error = Some(reason);
                self.retry_ms = Some(retry_ms);
                CameraState::Away
            }
            LaneState::Refused { reason } => {
                self.error = Some(reason);
                CameraState::Refused
            }
        };
        if state != CameraState::Playing {
            // Nothing comes: rates are of what comes now.
            for figures in &mut self.figures {
                (figures.bitrate_bps, figures.frame_rate) = (0, 0.0);
            }
        }
        if state == self.state {
            return None;
        }
        self.state = state;
        let person = self.person.clone();
        Some(Task::Show { person, state })
    }

    /// Takes in what came; says how many packets came since last time, and how many did not.
    fn on_figures(&mut self, figures: Vec<Figures>) -> (u64, u64) {
        self.losses = 0;
        let sum = |figures: &[Figures]| {
            let of = |count: fn(&Figures) -> u64| figures.iter().map(count).sum::<u64>();
            (of(|figures| figures.packets), of(|figures| figures.lost))
        };
        let ((packets_before, lost_before), (packets, lost)) = (sum(&self.figures), sum(&figures));
        self.figures = figures;
        (
            packets.saturating_sub(packets_before),
            lost.saturating_sub(lost_before),
        )
    }

    fn view(&self) -> CameraView {
        let Placed { room, name, spec } = &self.placed;
        let video = |(index, source): (usize, &super::order::CameraSource)| {
            let streams = self.streams.as_ref();
            let stream = streams.and_then(|streams| streams.video.get(index)?.1.as_ref());
            let figures = self.figures.get(index).copied().unwrap_or_default();
            let resolution = figures
                .resolution
                .or(stream.and_then(|stream| stream.resolution));
            CameraVideo {
                url: source.url.to_string(),
                rid: source.rid.clone(),
                codec: stream.map(|stream| codec_name(&stream.codec)),
                width: resolution.map(|(width, _)| width),
                height: resolution.map(|(_, height)| height),
                frame_rate: figures.frame_rate,
                bitrate_bps: figures.bitrate_bps,
                packets: figures.packets,
                lost: figures.lost,
                b_frames: figures.has_b_frames,
            }
        };
        let audio = self
            .streams
            .as_ref()
            .and_then(|streams| streams.audio.as_ref());
        CameraView {
            id: self.person.clone(),
            room: room.clone(),
            name: name.clone(),
            state: self.state,
            wanted: self.ordered.is_some(),
            transport: match spec.transport {
                Transport::Auto => CameraTransport::Auto,
                Transport::Tcp => CameraTransport::Tcp,
                Transport::Udp => CameraTransport::Udp,
            },
            mode: match spec.mode {
                Mode::OnDemand => CameraMode::OnDemand,
                Mode::Always => CameraMode::Always,
            },
            video: spec.sources.iter().enumerate().map(video).collect(),
            audio: audio.map(|stream| kind_of(&stream.codec)),
            error: self.error.clone(),
            retry_ms: self.retry_ms,
            remarks: self.remarks.clone(),
        }
    }
}

/// What is published of what a camera sends. Its layers stand for each other, so they are of one kind: a viewer that
/// takes no H.265 would lose its picture with the layer.
fn streams_of(
    spec: &CameraSpec,
    mut video: Vec<Option<Stream>>,
    audio: Option<Stream>,
    remarks: &mut Vec<String>,
) -> CameraStreams {
    let is_h264 = |stream: &Stream| matches!(stream.codec, CameraCodec::H264 { .. });
    let has_h264 = video.iter().flatten().any(is_h264);
    video.resize(spec.sources.len(), None);
    let mut layers = Vec::with_capacity(video.len());
    for (source, stream) in spec.sources.iter().zip(video) {
        let kept = stream.clone().filter(|stream| !has_h264 || is_h264(stream));
        if kept.is_none() && stream.is_some() {
            let rid = source.rid.as_deref().unwrap_or_default();
            remarks.push(format!(
                "the layer {rid} is left out: it is not H.264 as another is"
            ));
        }
        layers.push((source.rid.clone(), kept));
    }
    CameraStreams {
        video: layers,
        audio,
    }
}

/// A codec with its profile, for people.
fn codec_name(codec: &CameraCodec) -> String {
    match codec {
        CameraCodec::H264 {
            profile_level_id: [idc, constraints, level],
        } => {
            format!("H264 {idc:02x}{constraints:02x}{level:02x}")
        }
        CameraCodec::H265 {
            profile_id,
            level_id,
            ..
        } => {
            format!("H265 profile {profile_id} level {level_id}")
        }
        CameraCodec::Pcmu | CameraCodec::Pcma | CameraCodec::Opus => kind_of(codec).to_owned(),
    }
}

/// A codec's name in SDP.
fn kind_of(codec: &CameraCodec) -> &'static str {
    match codec {
        CameraCodec::H264 { .. } => "H264",
        CameraCodec::H265 { .. } => "H265",
        CameraCodec::Pcmu => "PCMU",
        CameraCodec::Pcma => "PCMA",
        CameraCodec::Opus => "opus",
    }
}

#[cfg(test)]
mod tests;
