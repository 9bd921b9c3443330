//! What the sources of one camera are together: what is said of it, and what is wanted of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};

use super::super::limits::REMARKS_MAX;
use super::super::order::{CameraId, CameraSpec, LaneEvent, LaneState, Target};
use super::super::stream::Stream;
use super::flow::Flow;

/// What is wanted of a camera's sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// Where packets go; `None` while nobody wants them.
    pub(super) target: Option<Target>,
    /// The source whose sound is taken.
    pub(super) sound: Option<usize>,
    /// There is no such camera any more.
    pub(super) is_removed: bool,
}

/// What a source sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Its picture.
    pub(super) video: Option<Stream>,
    /// Its sound.
    pub(super) audio: Option<Stream>,
    /// What of it is not forwarded, and why.
    pub(super) remarks: Vec<String>,
}

/// A camera in its thread.
pub(super) struct Camera {
    id: CameraId,
    pub(super) spec: CameraSpec,
    events: mpsc::Sender<(CameraId, LaneEvent)>,
    wish: watch::Sender<Wish>,
    sources: RefCell<Vec<Source>>,
    said: RefCell<Said>,
}

/// One source, as far as the camera is concerned.
struct Source {
    flow: Rc<RefCell<Flow>>,
    told: Option<Told>,
    /// It was described, or failed to be: others wait for it no longer.
    is_settled: bool,
    state: LaneState,
}

#[derive(Default)]
struct Said {
    described: Option<LaneEvent>,
    state: Option<LaneState>,
}

impl Camera {
    /// A camera of which nothing is known, with a flow for each source.
    pub(super) fn new(
        id: CameraId,
        spec: CameraSpec,
        events: mpsc::Sender<(CameraId, LaneEvent)>,
        flows: Vec<Rc<RefCell<Flow>>>,
    ) -> Camera {
        let sources = flows.into_iter().map(|flow| Source {
            flow,
            told: None,
            is_settled: false,
            state: LaneState::Connecting,
        });
        Camera {
            id,
            spec,
            events,
            wish: watch::Sender::default(),
            sources: RefCell::new(sources.collect()),
            said: RefCell::default(),
        }
    }

    /// What is wanted, and every change of it.
    pub(super) fn wishes(&self) -> watch::Receiver<Wish> {
        self.wish.subscribe()
    }

    /// Packets go there, or nobody wants them.
    pub(super) fn aim(&self, target: Option<Target>) {
        self.wish.send_if_modified(|wish| {
            let is_new = wish.target != target;
            wish.target = target;
            is_new
        });
    }

    /// It is not there any more.
    pub(super) fn remove(&self) {
        self.wish.send_modify(|wish| {
            wish.is_removed = true;
            wish.target = None;
        });
    }

    /// What a source sends.
    pub(super) fn on_told(&self, index: usize, told: Told) {
        if let Some(source) = self.sources.borrow_mut().get_mut(index) {
            source.told = Some(told);
            source.is_settled = true;
        }
        self.report();
    }

    /// How it is with a source.
    pub(super) fn on_state(&self, index: usize, state: LaneState) {
        if let Some(source) = self.sources.borrow_mut().get_mut(index) {
            let failed = matches!(state, LaneState::Away { .. } | LaneState::Refused { .. });
            source.is_settled |= failed;
            source.state = state;
        }
        self.report();
    }

    /// Says what has not been said. Where there was no room for it, it is said the next time.
    pub(super) fn report(&self) {
        if self.wish.borrow().is_removed {
            return;
        }
        let sources = self.sources.borrow();
        let mut said = self.said.borrow_mut();
        let sound = sources.iter().rposition(|source| {
            let told = source.told.as_ref();
            told.is_some_and(|told| told.audio.is_some())
        });
        self.wish.send_if_modified(|wish| {
            let is_new = wish.sound != sound;
            wish.sound = sound;
            is_new
        });
        let is_settled = sources.iter().all(|source| source.is_settled);
        if is_settled && sources.iter().any(|source| source.told.is_some()) {
            let event = Some(described(&sources, sound));
            if said.described != event && self.say(event.clone()) {
                said.described = event;
            }
        }
        let state = together(&sources);
        if said.state.as_ref() != Some(&state) && self.say(Some(LaneEvent::State(state.clone()))) {
            said.state = Some(state);
        }
    }

    /// Says what came within the last second, where anything comes.
    pub(super) fn report_figures(&self, now: Instant) {
        let sources = self.sources.borrow();
        let figures = sources
            .iter()
            .map(|source| source.flow.borrow_mut().figures(now));
        let figures: Vec<_> = figures.collect();
        if sources
            .iter()
            .any(|source| source.state == LaneState::Playing)
        {
            // Where there is no room, the next ones say as much.
            self.say(Some(LaneEvent::Figures(figures)));
        }
    }

    fn say(&self, event: Option<LaneEvent>) -> bool {
        event.is_none_or(|event| self.events.try_send((self.id, event)).is_ok())
    }
}

fn described(sources: &[Source], sound: Option<usize>) -> LaneEvent {
    let told = |index: usize| sources.get(index).and_then(|source| source.told.as_ref());
    let mut remarks = Vec::new();
    for remark in sources
        .iter()
        .filter_map(|source| source.told.as_ref())
        .flat_map(|told| &told.remarks)
    {
        if remarks.len() < REMARKS_MAX && !remarks.contains(remark) {
            remarks.push(remark.clone());
        }
    }
    LaneEvent::Described {
        video: (0..sources.len())
            .map(|index| told(index)?.video.clone())
            .collect(),
        audio: sound.and_then(|index| told(index)?.audio.clone()),
        remarks,
    }
}

/// A camera plays when one of its sources does, and is refused when all are; else it is what most is to be done about.
fn together(sources: &[Source]) -> LaneState {
    let rank = |state: &LaneState| match state {
        LaneState::Playing => 0,
        LaneState::Connecting => 1,
        LaneState::Away { .. } => 2,
        LaneState::Idle => 3,
        LaneState::Refused { .. } => 4,
    };
    let first = sources
        .iter()
        .map(|source| &source.state)
        .min_by_key(|state| rank(state));
    first.cloned().unwrap_or(LaneState::Idle)
}
