//! Encoders and players: WHIP and WHEP, from where HTTP has been read.

use std::net::Ipv4Addr;

use signaling::name::PersonName;
use signaling::node::{Connect, Door as HttpDoor, Patch, Patched, Refusal};
use signaling::quality::Quality;
use signaling::sdp::{Fragment, IceCredentials, Offer};

use crate::chaos::Act;
use crate::person::{Door, Resource};
use crate::world::World;

impl World {
    /// A `POST` of an encoder or a player.
    pub(crate) fn post(&mut self, person: usize) {
        let now = self.now;
        let Some(node) = self.people.get(&person).map(|state| state.node) else {
            return;
        };
        if self.nodes[node]
            .stalled_until
            .is_some_and(|until| until > now)
        {
            let wait = self.soon(500, 1_500);
            self.plan_act(person, wait, Act::Enter);
            return;
        }
        self.renew_call(person);
        let Some(state) = self.people.get_mut(&person) else {
            return;
        };
        let (door, sends) = match &state.door {
            Door::Encoder(_) => (HttpDoor::Whip, Some([true, true])),
            Door::Player(_) => (HttpDoor::Whep, None),
            Door::Page(_) | Door::Paper(_) => return,
        };
        let room = state.room.clone();
        let Some(call) = &mut state.call else { return };
        if door == HttpDoor::Whep {
            call.want_whatever_comes();
        }
        let sdp = call.offer(now, sends);
        let request = Connect {
            door,
            room,
            name: PersonName::default(),
            offer: Offer::parse(&sdp).expect("what is written is read"),
            watch: None,
            most: Quality::BEST,
            from: Ipv4Addr::LOCALHOST.into(),
        };
        self.tally.offers += 1;
        let connected = self.decide(node, |rooms, _| rooms.handle_connect(&request));
        let life = self.nodes[node].life;
        let Ok(connected) = connected else {
            self.tally.refused += 1;
            // Most often a player whose room has nobody in it yet.
            let wait = self.soon(20_000, 60_000);
            self.plan_act(person, wait, Act::Enter);
            return;
        };
        let resource = Resource {
            id: connected.resource,
            etag: connected.etag,
            life,
        };
        if let Some(state) = self.people.get_mut(&person) {
            match &mut state.door {
                Door::Encoder(kept) | Door::Player(kept) => *kept = Some(resource),
                Door::Page(_) | Door::Paper(_) => {}
            }
        }
        let (epoch, pace) = (self.epoch, self.plan.pace);
        if let Some(call) = self
            .people
            .get_mut(&person)
            .and_then(|its| its.call.as_mut())
        {
            call.handle_answer(now, epoch, &pace, &connected.answer);
        }
        self.drain_peer(person);
    }

    /// A `PATCH` that restarts ICE.
    pub(crate) fn patch(&mut self, person: usize) {
        let now = self.now;
        let Some((node, id, etag)) = self.resource(person) else {
            return;
        };
        let Some(call) = self
            .people
            .get_mut(&person)
            .and_then(|its| its.call.as_mut())
        else {
            return;
        };
        call.restart_ice(&mut self.rng);
        let ice = IceCredentials {
            ufrag: call.transport.ufrag.clone(),
            pwd: call.transport.pwd.clone(),
        };
        let patch = Patch {
            ice: Some(ice),
            if_match: Some(etag),
        };
        match self.decide(node, |rooms, _| rooms.handle_patch(&id, &patch)) {
            Ok(Patched::Restarted { fragment, etag }) => {
                let theirs = Fragment::parse(&fragment).expect("our fragment can be read");
                let theirs = theirs.ice.expect("a restart has new credentials");
                let Some(state) = self.people.get_mut(&person) else {
                    return;
                };
                if let Some(call) = &mut state.call {
                    call.handle_restarted(now, &theirs.ufrag, &theirs.pwd);
                }
                if let Door::Encoder(Some(kept)) | Door::Player(Some(kept)) = &mut state.door {
                    kept.etag = etag;
                }
                self.drain_peer(person);
            }
            Ok(Patched::Trickled) => panic!("new credentials are a restart"),
            // The session ended and its client has not noticed.
            Err(Refusal::UnknownSession) => self.on_failed(person),
            Err(refusal) => panic!("an ICE restart is refused: {refusal}"),
        }
    }

    /// A `DELETE`, and goodbye.
    pub(crate) fn delete(&mut self, person: usize) {
        if let Some((node, id, _)) = self.resource(person) {
            let _may_have_ended = self.decide(node, |rooms, _| rooms.handle_disconnect(&id));
        }
        self.forget_person(person);
    }

    /// The node of somebody's resource, its id and tag, if that node still lives.
    fn resource(&self, person: usize) -> Option<(usize, signaling::node::ResourceId, String)> {
        let state = self.people.get(&person)?;
        let (Door::Encoder(Some(resource)) | Door::Player(Some(resource))) = &state.door else {
            return None;
        };
        let node = &self.nodes[state.node];
        let is_known = resource.life == node.life;
        is_known.then(|| (state.node, resource.id.clone(), resource.etag.clone()))
    }
}
