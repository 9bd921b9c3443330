//! What must hold: at any time, once all has been quiet for a while, and when everybody has left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use control::firestore::message::Path;
use dataplane::command::MediaKind;
use dataplane::sim::reception::Reception;
use serde_json::Value;
use signaling::name::RoomName;

use crate::call::Call;
use crate::chaos::Mend;
use crate::node::Node;
use crate::person::{Door, Page, Person};
use crate::socket::Socket;
use crate::world::World;

/// Between two looks at what must hold at any time.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Between two counts of meetings.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// After this long without troubles everything is as it should be: leases have lapsed and were renewed, what was
/// lost has been noticed and made anew.
const CALM: Duration = Duration::from_secs(150);

/// A page waits this long for an answer where nothing is wrong.
const PATIENCE: Duration = Duration::from_secs(12);

/// How long a trouble may be felt by those who wait for an answer.
const AFTERMATH: Duration = Duration::from_secs(75);

/// How long what people left behind may be kept: the longest grace is a broadcaster's.
const OBLIVION: Duration = Duration::from_secs(300);

impl World {
    /// Lives through what the plan says, then through a calm, then until everybody has left.
    pub(crate) fn live(&mut self) {
        let end = self.now + self.plan.span;
        let mut looked_at = self.now;
        let mut calm_at = self.now + self.next_calm();
        self.run(Duration::from_secs(20));
        while self.now < end {
            let mean_ms = self.plan.pause.as_millis() as u64;
            let pause = Duration::from_millis(self.rng.below(2 * mean_ms + 1)).min(LOOK_INTERVAL);
            self.pass(pause);
            if pause < LOOK_INTERVAL {
                self.operate();
            }
            if self.now >= looked_at + LOOK_INTERVAL {
                looked_at = self.now;
                self.look();
            }
            if self.now >= calm_at {
                self.calm_down();
                calm_at = self.now + self.next_calm();
            }
        }
        self.calm_down();
        self.end();
    }

    fn next_calm(&mut self) -> Duration {
        Duration::from_secs(300 + self.rng.below(1_500))
    }

    /// Time passes, in steps that are looked at.
    fn pass(&mut self, mut span: Duration) {
        while !span.is_zero() {
            let step = span.min(LOOK_INTERVAL);
            self.run(step);
            self.count_meetings();
            span -= step;
        }
    }

    /// Counts rooms where at least two meet, every few seconds, for the time since they were counted last.
    fn count_meetings(&mut self) {
        let since = self.now - self.counted_at;
        if since >= COUNT_INTERVAL {
            self.counted_at = self.now;
            let meetings: usize = self.nodes.iter().map(Node::meetings).sum();
            self.tally.meeting_seconds += meetings as f64 * since.as_secs_f64();
        }
    }

    /// What must hold at any time.
    fn look(&mut self) {
        for node in &self.nodes {
            for worker in &node.workers {
                let refused = worker.counters.command_refused;
                assert_eq!(refused, 0, "an engine refused a command");
            }
        }
        let (now, disturbed_at) = (self.now, self.disturbed_at);
        for (id, person) in &self.people {
            let offered_at = match &person.door {
                Door::Paper(paper) => paper.offered_at,
                Door::Page(page) if page.is_joined => {
                    let call = person.call.as_ref();
                    call.and_then(|call| Some(call.pending.as_ref()?.at))
                }
                Door::Page(_) | Door::Encoder(_) | Door::Player(_) => None,
            };
            let felt_until = disturbed_at.max(person.undisturbed_since) + AFTERMATH;
            if let Some(offered_at) = offered_at {
                let waits = now.saturating_duration_since(offered_at.max(felt_until));
                assert!(
                    waits <= PATIENCE,
                    "{id} waits for an answer: {waits:?}, {}",
                    told(person)
                );
            }
        }
    }

    /// All troubles end, and nothing happens for a while; then all must be well.
    fn calm_down(&mut self) {
        let people: Vec<usize> = self.people.keys().copied().collect();
        for person in people {
            self.on_mend(Mend::Network(person));
        }
        for socket in self.sockets.values_mut() {
            socket.stuck_until = None;
        }
        for node in 0..self.nodes.len() {
            let process = self.nodes[node].process;
            for worker in 0..self.nodes[node].workers.len() {
                self.on_mend(Mend::Worker(node, process, worker));
                self.on_mend(Mend::Load(node, process, worker));
            }
            if self.plan.has_database && !self.nodes[node].link.is_up {
                self.connect_database(node);
            }
        }
        self.on_mend(Mend::Mute);
        self.on_mend(Mend::Denial);
        self.pass(CALM);
        let before = self.late();
        self.pass(2 * self.plan.silence_max());
        assert_eq!(
            self.late(),
            before,
            "packets are late with so little to send"
        );
        self.look();
        self.assert_well();
    }

    /// What must hold once all has been quiet.
    fn assert_well(&self) {
        self.assert_nobody_is_lost();
        for (node, state) in self.nodes.iter().enumerate() {
            let totals = state.rooms.totals();
            let sessions: usize = totals.sessions.iter().sum();
            assert_eq!(state.model.sessions.len(), sessions, "of node {node}");
            assert_eq!(state.model.tracks.len(), totals.tracks, "of node {node}");
            let lanes: usize = state.workers.iter().map(|worker| worker.lane.len()).sum();
            assert_eq!(lanes, sessions, "handshakes of node {node}");
        }
        for (id, person) in &self.people {
            if person.has_plan {
                continue;
            }
            self.assert_knows_everybody(*id, person);
            let call = person.call.as_ref();
            let is_connected = call.is_some_and(Call::is_connected);
            // An offer that was lost is not made again once there is nothing in it.
            let is_needed = |call: &Call| call.server.is_some() || !call.is_empty(person.sends);
            let has_media = call.is_some_and(|call| call.offers > 0 && is_needed(call));
            assert!(
                is_connected || !has_media,
                "{id} is not connected: {}",
                told(person)
            );
            let silence = self.plan.silence_max();
            if let Some(call) = call.filter(|call| has_media && call.is_settled(self.now, silence))
            {
                self.assert_receives(*id, person, call);
            }
        }
    }

    /// As many are in each room as believe that they are.
    fn assert_nobody_is_lost(&self) {
        let mut believed: BTreeMap<&RoomName, (usize, usize)> = BTreeMap::new();
        for person in self.people.values().filter(|person| self.is_in(person)) {
            let (people, players) = believed.entry(&person.room).or_default();
            match person.watches_one() {
                true => *players += 1,
                false => *people += 1,
            }
        }
        let mut known: BTreeMap<&RoomName, (usize, usize)> = BTreeMap::new();
        let summaries = self.nodes.iter().map(|node| node.rooms.summaries());
        let summaries: Vec<_> = summaries.flatten().collect();
        for room in summaries
            .iter()
            .filter(|room| room.people + room.viewers > 0)
        {
            let (people, players) = known.entry(&room.room).or_default();
            *people += room.people;
            *players += room.viewers;
        }
        let names: BTreeSet<_> = known.keys().chain(believed.keys()).collect();
        for name in names {
            let (known, believed) = (known.get(*name), believed.get(*name));
            assert_eq!(
                known,
                believed,
                "people and players who are known in {name}, and who believe so: {}",
                self.people_of(name)
            );
        }
    }

    /// Everybody who is meant for a room, for a failure's sentence.
    fn people_of(&self, room: &RoomName) -> String {
        let people = self.people.values().filter(|its| its.room == *room);
        let lines = people.map(|its| {
            let (told, is_in, rooms) = (told(its), self.is_in(its), self.rooms_of(its));
            format!("\n{told}, in: {is_in}, {rooms}")
        });
        lines.collect()
    }

    /// Whether somebody believes to be in their room.
    fn is_in(&self, person: &Person) -> bool {
        match &person.door {
            Door::Page(page) => page.is_joined,
            Door::Encoder(resource) | Door::Player(resource) => {
                let life = self.nodes[person.node].life;
                resource.as_ref().is_some_and(|its| its.life == life)
                    && person.call.as_ref().is_some_and(|call| !call.is_over)
            }
            Door::Paper(paper) => !paper.answered.is_empty() && paper.error.is_empty(),
        }
    }

    /// What a page was told of its room is what is so.
    fn assert_knows_everybody(&self, id: usize, person: &Person) {
        let Door::Page(page) = &person.door else {
            return;
        };
        assert!(page.is_joined, "{id} is not in");
        let socket = page.socket.and_then(|socket| self.sockets.get(&socket));
        assert!(socket.is_some_and(Socket::is_idle), "{id} reads");
        let detail = self.nodes[person.node].rooms.detail(&person.room);
        let detail = detail.unwrap_or_else(|| panic!("{id} is in a room that is not there"));
        let people: BTreeMap<String, Value> = detail
            .people
            .iter()
            .map(|person| {
                let known = serde_json::to_value(person).expect("people are JSON");
                (person.id.0.clone(), known)
            })
            .collect();
        assert_eq!(
            others(&page.roster, page),
            others(&people, page),
            "{id} was told otherwise"
        );
    }

    /// Whoever wants a stream that is sent gets it.
    fn assert_receives(&self, id: usize, person: &Person, call: &Call) {
        let Some(peer) = &call.peer else { return };
        let sends = self.sends_in(person);
        let wanted: BTreeSet<Option<&String>> = call
            .receivers
            .iter()
            .map(|known| known.want.as_ref())
            .collect();
        assert!(wanted.len() <= call.receivers.len() + 1);
        for receiver in call.receivers.iter().filter(|known| known.want.is_some()) {
            let is_heard = receiver.kind == MediaKind::Video || self.plan.audio_speakers == 0;
            let is_sent = sends[usize::from(receiver.kind == MediaKind::Video)];
            if !is_heard || !is_sent {
                continue;
            }
            let reception = receiver.ssrc.and_then(|ssrc| peer.reception(ssrc));
            let last_at = reception
                .map(Reception::counts)
                .and_then(|counts| counts.last_at);
            let is_seen = last_at.is_some_and(|at| self.now <= at + self.plan.silence_max());
            assert!(
                is_seen,
                "{id} ({}) gets nothing of {receiver:?} since {:?}; there are {}",
                told(person),
                last_at.map(|at| self.now - at),
                self.rooms_of(person),
            );
        }
    }

    /// The rooms of that name, as nodes and the database know them, and what somebody with a document knows.
    fn rooms_of(&self, person: &Person) -> String {
        let details = self.nodes.iter().map(|node| {
            let detail = node.rooms.detail(&person.room);
            serde_json::to_string(&detail.map(|detail| detail.people)).expect("rooms are JSON")
        });
        let details: Vec<String> = details.collect();
        let document = self
            .database
            .documents
            .get(&Path::room(person.room.as_str()));
        let Door::Paper(paper) = &person.door else {
            return format!("{details:?}, {document:?}");
        };
        let offered = paper.offered_at.map(|at| self.now - at);
        format!(
            "{details:?}, {document:?}; {:?}, dirty {}, offered {offered:?}",
            paper.roster, paper.is_dirty
        )
    }

    /// Whether sound and a picture are there for this person: somebody else in the room sends them. A player is
    /// shown one person, who may be any that sends something.
    fn sends_in(&self, person: &Person) -> [bool; 2] {
        // Whom the database sent to another node is in another room of that name.
        let place = |person: &Person| {
            let server = person.call.as_ref().and_then(|call| call.server);
            server
                .and_then(|server| self.servers.get(&server))
                .map(|(node, _)| *node)
        };
        let others = self.people.values().filter(|other| {
            other.room == person.room
                && place(other) == place(person)
                && !std::ptr::eq(*other, person)
        });
        let calls = others.filter_map(|other| other.call.as_ref());
        // Who has just begun may not have sent anything yet.
        let span = self.plan.silence_max();
        let sent: Vec<[bool; 2]> = calls
            .filter(|call| call.is_connected() && call.sends != [false; 2])
            .map(|call| {
                call.sends
                    .map(|sends| sends && call.is_settled(self.now, span))
            })
            .collect();
        [0, 1].map(|kind| {
            let mut all = sent.iter().map(|sends| sends[kind]);
            match person.watches_one() {
                true => !sent.is_empty() && all.all(|sends| sends),
                false => all.any(|sends| sends),
            }
        })
    }

    /// Everybody leaves, one way or another; then nothing must be left of anybody.
    fn end(&mut self) {
        let people: Vec<usize> = self.people.keys().copied().collect();
        for person in people {
            if self.rng.chance(0.5) {
                self.leave(person);
            } else {
                self.vanish(person);
            }
            let wait = self.soon(0, 500);
            self.run(wait);
        }
        self.run(OBLIVION);
        let before: Vec<u64> = self.wakes().collect();
        self.run(Duration::from_secs(20));
        for (before, after) in before.into_iter().zip(self.wakes()) {
            let wakes = after - before;
            assert!(
                wakes <= 21,
                "an engine with nobody wakes {wakes} times in 20 s"
            );
        }
        assert_eq!(self.sockets.len(), 0, "WebSockets of nobody");
        for node in &self.nodes {
            assert!(node.rooms.is_forgotten(), "{:?}", node.rooms.totals());
            assert_eq!(node.rooms.poll_timeout(), None);
            assert!(node.people.is_empty());
            node.model.assert_empty();
            for worker in &node.workers {
                assert_eq!(worker.lane.len(), 0, "handshakes of nobody");
            }
            if let Some(desk) = &node.desk {
                let counters = desk.counters();
                let left = (
                    counters.work,
                    counters.sessions,
                    counters.rooms,
                    counters.writes_in_flight + counters.writes_waiting,
                );
                assert!(left.0 + left.1 + left.2 == 0 && left.3 <= 1, "{left:?}");
            }
        }
    }

    /// Packets that were left out because they waited too long, worker by worker.
    fn late(&self) -> Vec<u64> {
        let workers = self.nodes.iter().flat_map(|node| node.workers.iter());
        let late = workers.map(|worker| worker.counters.drop_late_video);
        late.collect()
    }

    fn wakes(&self) -> impl Iterator<Item = u64> {
        let workers = self.nodes.iter().flat_map(|node| node.workers.iter());
        workers.map(|worker| worker.wakes)
    }
}

/// Everybody but the page's own person, whose tracks it is not told.
fn others<'a>(people: &'a BTreeMap<String, Value>, page: &Page) -> Vec<&'a Value> {
    let others = people
        .iter()
        .filter(|(id, _)| page.you.as_ref() != Some(id));
    others.map(|(_, person)| person).collect()
}

/// Who somebody is, for a failure's sentence.
fn told(person: &Person) -> String {
    let room = &person.room;
    match &person.door {
        Door::Page(page) => format!("page {:?} in {room}", page.you),
        Door::Encoder(_) => format!("encoder in {room}"),
        Door::Player(_) => format!("player in {room}"),
        Door::Paper(paper) => format!("{:?} {} {:?} in {room}", paper.kind, paper.id, paper.error),
    }
}
