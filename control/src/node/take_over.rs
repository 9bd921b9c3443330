//! Handing the node over to another program, and being that other program.

use std::collections::BTreeSet;

use dataplane::driver::{Dataplane, Frozen};
use dataplane::event::Event;
use dataplane::id::SessionId;
use signaling::sdp::Candidate;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{Millrace, SystemRandom, now};
use crate::camera::cameras::CameraLimits;
use crate::room::{RoomLimits, Rooms, RoomsSnapshot};
use crate::take_over::{Broken, Request};

/// What ended [`Millrace::run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All workers are gone.
    Workers,
    /// Another program has everything: this one must say nothing more to anybody.
    TakenOver,
}

impl Millrace {
    /// A node that goes on where another program ended, over the workers that were taken over from it.
    #[must_use]
    pub fn heir(
        dataplane: Dataplane,
        candidates: Vec<Vec<Candidate>>,
        limits: RoomLimits,
        mut rooms: RoomsSnapshot,
        sessions: &BTreeSet<SessionId>,
        cameras: CameraLimits,
    ) -> Millrace {
        let carried = rooms.take_cameras();
        let make = |config| Rooms::restore(now(), config, Box::new(SystemRandom), rooms);
        let node = Millrace::with_rooms(dataplane, candidates, limits, cameras, make);
        node.decide(|state, now| {
            state.adopt_cameras(carried);
            state.rooms.handle_carried(now, sessions);
            // Newcomers get one of its own: programs that follow each other would never renew the first one's.
            state.renew_certificate();
        });
        info!(sessions = sessions.len(), "took over from another program");
        node
    }

    /// Hands everything to another program, or goes on as if nothing had been. Nothing else happens meanwhile: the
    /// thread of all signalling waits here, and the workers stand still.
    pub(super) fn hand_over(
        &self,
        mut request: Request,
        events: &mut mpsc::Receiver<(usize, Event)>,
    ) -> bool {
        // What the workers have said already is known to the rooms that are handed over.
        let mut said = Vec::new();
        while let Ok(event) = events.try_recv() {
            said.push(event);
        }
        self.decide(|state, now| {
            for (worker, event) in said {
                state.take_in(now, worker, &event);
            }
        });
        let began = now();
        let frozen = match self.hand_over_all(&mut request) {
            Ok(frozen) => frozen,
            Err(why) => {
                warn!("the other program failed, this one goes on: {why}");
                request.refuse(&why);
                return false;
            }
        };
        let still_since = frozen.since;
        if let Err(why) = request.commit(frozen) {
            warn!("the other program is gone, this one goes on: {why}");
            return false;
        }
        let now = now();
        info!(
            took = ?now.saturating_duration_since(began),
            media_stood_still = ?now.saturating_duration_since(still_since),
            "another program has taken over"
        );
        true
    }

    fn hand_over_all(&self, request: &mut Request) -> Result<Frozen, String> {
        let mut state = self.lock();
        state.workers.flush();
        if state.workers.waiting() > 0 {
            return Err("its workers are behind; try again in a moment".to_owned());
        }
        let Some(dataplane) = &state.workers.dataplane else {
            return Err("it ends".to_owned());
        };
        let say = |why: &Broken| why.to_string();
        request
            .hand_rooms(&state.rooms.snapshot(&state.carried_cameras()))
            .map_err(|why| say(&why))?;
        let frozen = dataplane.freeze().map_err(|why| why.to_string())?;
        match request.hand_workers(&frozen.handover) {
            Ok(()) => Ok(frozen),
            Err(why) => {
                frozen.resume();
                Err(say(&why))
            }
        }
    }
}
