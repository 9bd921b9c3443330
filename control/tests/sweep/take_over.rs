//! The program of a node is replaced: rooms, engines and handshakes are written down and read again, as bytes.

use std::collections::BTreeSet;

use control::room::{Rooms, RoomsSnapshot};
use dataplane::engine::{Engine, EngineSnapshot};
use dataplane::id::SessionId;

use crate::chaos::Mend;
use crate::lane::Lane;
use crate::node::{engine_config, random, rooms_config};
use crate::world::World;

impl World {
    /// Another program takes over, as `node/take_over.rs` and `driver/take_over.rs` do it. What workers said in the
    /// last moment is lost between the two. A node with a database is drained instead.
    pub(crate) fn take_over(&mut self, node: usize) {
        let state = &self.nodes[node];
        let is_behind = state
            .workers
            .iter()
            .any(|its| its.unheard > 0 || its.is_blocked);
        if is_behind || state.desk.is_some() || state.stalled_until.is_some() {
            return;
        }
        let rooms = state.rooms.snapshot(&[]);
        let rooms = RoomsSnapshot::decode(&rooms).expect("what was written can be read");
        let carried = self.replace_workers(node);
        let (now, config) = (self.now, &self.nodes[node].config);
        let random = random(self.rng.next_u64());
        let config = rooms_config(config, self.nodes[node].life);
        let state = &mut self.nodes[node];
        state.rooms = Rooms::restore(now, config, random, rooms);
        state.process += 1;
        state.people.clear();
        let known: Vec<SessionId> = state.model.sessions.keys().copied().collect();
        for session in known.into_iter().filter(|known| !carried.contains(known)) {
            state.model.forget(session);
        }
        self.tally.taken_over += 1;
        self.break_sockets(node);
        self.decide(node, |rooms, now| rooms.handle_carried(now, &carried));
        let time = self.soon(1, 50);
        self.nodes[node].stalled_until = Some(self.now + time);
        self.mend_after(time, Mend::Stall(node));
    }

    /// New engines and handshakes in place of the old ones; the sessions that go on.
    fn replace_workers(&mut self, node: usize) -> BTreeSet<SessionId> {
        let now = self.now;
        for worker in &mut self.nodes[node].workers {
            worker.engine.handle_take_over(now);
        }
        self.drive(node);
        let mut all = BTreeSet::new();
        for worker in 0..self.nodes[node].workers.len() {
            let seed = self.rng.next_u64();
            let state = &mut self.nodes[node];
            let worker = &mut state.workers[worker];
            let snapshot = EngineSnapshot::decode(&worker.engine.snapshot(now).encode());
            let snapshot = snapshot.expect("what was written can be read");
            let carried: BTreeSet<SessionId> = snapshot.sessions().collect();
            let config = engine_config(now, &state.config, seed);
            worker.engine = Engine::restore(config, now, snapshot).expect("it makes sense");
            let lane = Lane::new(state.config.certificate.as_ref(), seed);
            let lane = std::mem::replace(&mut worker.lane, lane);
            worker.lane.restore(now, lane, &carried);
            all.extend(carried);
        }
        all
    }
}
