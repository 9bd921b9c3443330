//! Long random days of a node, against a model of the engine that accepts no stray command.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::command::{MediaKind, SenderSpec};
use dataplane::id::{SenderId, TrackId};
use signaling::node::ResourceId;

use super::super::session::Receiver;
use super::super::{CameraStreams, Request, RequestKind};
use super::*;
use crate::camera::stream::{CameraCodec, Stream};

/// Seeds of the days; a failing one is repeated by itself.
const SEEDS: [u64; 8] = [1, 2, 3, 5, 8, 13, 21, 34];

/// Things that happen in a day.
const STEPS: usize = 500;

/// What an engine would know, had it carried out every command.
#[derive(Debug, Default)]
struct Engines {
    sessions: BTreeMap<SessionId, usize>,
    tracks: BTreeMap<TrackId, (SessionId, MediaKind, usize)>,
    senders: BTreeMap<SenderId, (SessionId, MediaKind, u32)>,
    feeds: BTreeMap<SenderId, TrackId>,
    /// Tracks that are handed to another worker, and tracks that are taken from one.
    exports: BTreeSet<(TrackId, usize)>,
    imports: BTreeSet<(TrackId, usize)>,
    /// Workers that drop what they are told, because it may be for the engine that they lost.
    restarting: BTreeSet<usize>,
}

impl Engines {
    fn carry_out(&mut self, worker: usize, command: &Command) {
        assert!(
            !self.restarting.contains(&worker) || matches!(command, Command::AfterRestart),
            "worker {worker} drops {command:?}"
        );
        match command {
            Command::AfterRestart => assert!(self.restarting.remove(&worker)),
            Command::Open(spec) => {
                assert!(spec.ice.local_pwd.len() >= 22 && spec.ice.local_ufrag.len() >= 4);
                assert_eq!(
                    self.sessions.insert(spec.session, worker),
                    None,
                    "opened twice"
                );
            }
            Command::OpenFeed(spec) => {
                let before = self.sessions.insert(spec.session, worker);
                assert_eq!(before, None, "opened twice");
            }
            Command::Close { session } => {
                self.on_worker(worker, *session);
                self.forget(*session);
            }
            Command::RestartIce { session, .. } => self.on_worker(worker, *session),
            Command::Publish { session, track } => {
                self.on_worker(worker, *session);
                let known = (*session, track.kind, track.formats.len());
                let before = self.tracks.insert(track.track, known);
                assert!(
                    before.is_none_or(|(owner, ..)| owner == *session),
                    "taken over"
                );
            }
            Command::Unpublish { track } if self.imports.remove(&(*track, worker)) => {
                self.silence(*track, worker);
            }
            Command::Unpublish { track } => {
                let known = self
                    .tracks
                    .remove(track)
                    .expect("unpublished what was published");
                self.on_worker(worker, known.0);
                self.silence(*track, worker);
                self.exports.retain(|(exported, _)| exported != track);
            }
            Command::Export { .. } | Command::EndExport { .. } | Command::Import { .. } => {
                self.relay(worker, command);
            }
            Command::AddSender { session, sender } => {
                self.on_worker(worker, *session);
                self.add_sender(*session, sender);
            }
            Command::RemoveSender { sender } => {
                let known = self.senders.remove(sender).expect("removed what was added");
                self.on_worker(worker, known.0);
                self.feeds.remove(sender);
            }
            Command::Prefer { sender, .. } => self.on_worker(worker, self.senders[sender].0),
            Command::Feed { sender, source } => self.feed(worker, *sender, source.as_ref()),
            Command::OpenData { session, .. } | Command::Data { session, .. } => {
                self.on_worker(worker, *session);
            }
            Command::DataEvent { .. }
            | Command::DataDropped { .. }
            | Command::DtlsTransmit { .. }
            | Command::DtlsConnected { .. }
            | Command::DtlsClosed { .. } => unreachable!("these are the handshake threads' own"),
        }
    }

    fn relay(&mut self, worker: usize, command: &Command) {
        match command {
            Command::Export { track, to } => {
                self.on_worker(worker, self.tracks[track].0);
                assert!(
                    self.imports.contains(&(*track, *to)),
                    "it is expected there"
                );
                assert!(worker != *to && self.exports.insert((*track, *to)));
            }
            Command::EndExport { track, to } => {
                self.on_worker(worker, self.tracks[track].0);
                assert!(self.exports.remove(&(*track, *to)));
            }
            Command::Import { track, from } => {
                let (publisher, kind, formats) = self.tracks[&track.track];
                self.on_worker(*from, publisher);
                assert_eq!((track.kind, track.formats.len()), (kind, formats));
                self.imports.insert((track.track, worker));
            }
            _ => unreachable!("only these are about other workers"),
        }
    }

    fn add_sender(&mut self, session: SessionId, sender: &SenderSpec) {
        let known = (session, sender.kind, sender.ssrc.0);
        let before = self.senders.insert(sender.sender, known);
        assert!(
            before.is_none_or(|before| before == known),
            "another stream"
        );
    }

    fn feed(&mut self, worker: usize, sender: SenderId, source: Option<&Feed>) {
        let (session, kind, _) = self.senders[&sender];
        self.on_worker(worker, session);
        let Some(feed) = source else {
            self.feeds.remove(&sender);
            return;
        };
        let (publisher, published, formats) = self.tracks[&feed.track];
        if !self.imports.contains(&(feed.track, worker)) {
            self.on_worker(worker, publisher);
        }
        assert_eq!((kind, formats), (published, feed.payload_types.len()));
        self.feeds.insert(sender, feed.track);
    }

    fn on_worker(&self, worker: usize, session: SessionId) {
        assert_eq!(
            self.sessions.get(&session),
            Some(&worker),
            "no such session there"
        );
    }

    /// What a track fed on a worker is silent.
    fn silence(&mut self, track: TrackId, worker: usize) {
        let Engines {
            sessions,
            senders,
            feeds,
            ..
        } = self;
        let on_it = |sender: &SenderId| sessions[&senders[sender].0] == worker;
        feeds.retain(|sender, fed| *fed != track || !on_it(sender));
    }

    /// A worker has forgotten everything.
    fn restart(&mut self, worker: usize) {
        self.restarting.insert(worker);
        let lives = |(id, on): (&SessionId, &usize)| (*on == worker).then_some(*id);
        let lost: Vec<SessionId> = self.sessions.iter().filter_map(lives).collect();
        self.imports.retain(|(_, on)| *on != worker);
        for session in lost {
            self.forget(session);
        }
    }

    fn forget(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.tracks.retain(|_, (owner, ..)| *owner != session);
        self.senders.retain(|_, (owner, ..)| *owner != session);
        let Engines {
            sessions,
            tracks,
            senders,
            feeds,
            exports,
            imports,
            ..
        } = self;
        exports.retain(|(track, _)| tracks.contains_key(track));
        // Elsewhere a track that is gone is silent, but not forgotten.
        feeds.retain(|sender, track| {
            let Some((session, ..)) = senders.get(sender) else {
                return false;
            };
            tracks.contains_key(track) || imports.contains(&(*track, sessions[session]))
        });
    }

    /// The rooms must believe of the engines what is so.
    fn assert_agrees(&self, rooms: &Rooms) {
        let sessions: BTreeMap<SessionId, usize> = rooms
            .sessions
            .iter()
            .map(|(id, session)| (*id, session.worker))
            .collect();
        assert_eq!(sessions, self.sessions);
        let tracks: BTreeSet<TrackId> = rooms.tracks.keys().copied().collect();
        assert_eq!(tracks, self.tracks.keys().copied().collect());
        let receivers = rooms
            .sessions
            .values()
            .flat_map(|session| session.receives.values());
        let feeds = receivers
            .clone()
            .filter_map(|known| Some((known.sender(), known.track?)));
        assert_eq!(feeds.collect::<BTreeMap<_, _>>(), self.feeds);
        let senders: BTreeSet<SenderId> = receivers.map(Receiver::sender).collect();
        assert_eq!(senders, self.senders.keys().copied().collect());
        let watched = rooms.sessions.values().flat_map(|session| {
            let tracks = session.receives.values().filter_map(|known| known.track);
            tracks.map(|track| (track, session.worker))
        });
        let elsewhere: BTreeSet<(TrackId, usize)> = watched
            .filter(|(track, worker)| rooms.tracks[track].worker != *worker)
            .collect();
        assert_eq!(self.imports, elsewhere);
        assert_eq!(self.exports, elsewhere);
        for (name, room) in &rooms.rooms {
            assert!(room.places() > 0, "an empty room is left");
            assert!(room.places() <= LIMITS.sessions_per_room);
            assert!(
                room.people
                    .iter()
                    .all(|person| rooms.people[person].room == *name)
            );
        }
    }
}

/// One day of a node.
struct Day {
    world: World,
    engines: Engines,
    chance: Counting,
    people: Vec<Entry>,
    resources: Vec<ResourceId>,
}

impl Day {
    fn new(seed: u64) -> Day {
        Day {
            world: World::new(),
            engines: Engines::default(),
            chance: Counting(seed),
            people: Vec::new(),
            resources: Vec::new(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        let mut bytes = [0; 2];
        self.chance.fill(&mut bytes);
        usize::from(u16::from_be_bytes(bytes)) % bound
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(from.len().max(1));
        from.get(index).cloned()
    }

    fn step(&mut self) {
        let room = ["a", "b", "c", "d"][self.below(4)];
        let person = self.pick(&self.people.clone());
        match (self.below(16), person) {
            (0 | 1, _) => self.people.extend(self.world.enter(room, "X")),
            (2..=5, Some(person)) => self.offer(&person.person),
            (6, Some(person)) if self.below(2) == 0 => {
                let rooms = &mut self.world.rooms;
                rooms.handle_goodbye(&person.person, person.visit);
            }
            (6, Some(person)) => {
                let now = self.world.now;
                let rooms = &mut self.world.rooms;
                rooms.handle_suspend(&person.person, person.visit, now);
            }
            (7, Some(person)) => {
                let rooms = &mut self.world.rooms;
                if let Ok(back) = rooms.handle_resume(&person.resume_token) {
                    // The socket that they had ends only now.
                    rooms.handle_goodbye(&person.person, person.visit);
                    self.people.retain(|known| known.person != back.person);
                    self.people.push(back);
                }
            }
            (8, _) => self.connect(room),
            (9, _) => {
                if let Some(resource) = self.pick(&self.resources.clone()) {
                    let _ = self.world.rooms.handle_disconnect(&resource);
                }
            }
            (10, _) => self.engine_tells(),
            (11, _) if self.below(20) == 0 => {
                self.world.rooms.handle_close_room(&room_name(room));
            }
            (12, _) => self.request(room),
            (14 | 15, _) => {
                let busy = [(); 2].map(|()| self.below(100) as u16);
                self.world.reports(busy);
            }
            (13, _) if self.below(3) == 0 => {
                let id = ["d1", "d2", "d3"][self.below(3)];
                self.world.rooms.handle_request_over(id);
            }
            _ if self.below(6) == 0 => self.camera(room),
            _ => self.world.wait(Duration::from_secs(2)),
        }
        self.carry_out();
    }

    /// A camera comes, goes, or sends something else.
    fn camera(&mut self, room: &str) {
        let rooms = &mut self.world.rooms;
        let cameras: Vec<PersonId> = rooms
            .people
            .keys()
            .filter(|id| rooms.is_camera(id))
            .cloned()
            .collect();
        let what = self.below(6);
        let camera = self.pick(&cameras);
        let rooms = &mut self.world.rooms;
        match (what, camera) {
            (0, Some(camera)) => {
                rooms.handle_camera_over(&camera);
            }
            (1..=4, Some(camera)) => {
                let sound = Stream {
                    codec: CameraCodec::Opus,
                    clock_rate: 48_000,
                    resolution: None,
                };
                let picture = Stream {
                    codec: CameraCodec::H264 {
                        profile_level_id: [0x42, 0xe0, 0x1f],
                    },
                    clock_rate: 90_000,
                    resolution: None,
                };
                let streams = CameraStreams {
                    video: vec![(None, (what > 1).then_some(picture))],
                    audio: what.is_multiple_of(2).then_some(sound),
                };
                let _ = rooms.handle_camera_streams(&camera, &streams);
            }
            // One at a time, so that there are places for people.
            _ if cameras.is_empty() => {
                let _ = rooms.handle_camera(&room_name(room), &PersonName::default());
            }
            _ => {}
        }
    }

    fn offer(&mut self, person: &PersonId) {
        let directions = ["sendrecv", "sendonly", "recvonly", "inactive"];
        let sections: Vec<String> = (0..1 + self.below(5))
            .map(|mid| {
                let kind = ["audio", "video"][mid % 2];
                format!("{mid} {kind} {}", directions[self.below(4)])
            })
            .collect();
        let sections: Vec<&str> = sections.iter().map(String::as_str).collect();
        let tracks: Vec<TrackId> = self.world.rooms.tracks.keys().copied().collect();
        let wants: Vec<(String, String)> = (0..sections.len())
            .filter_map(|mid| Some((mid.to_string(), format!("t{}", self.pick(&tracks)?.0))))
            .collect();
        let wants: Vec<(&str, &str)> = wants
            .iter()
            .map(|(mid, track)| (mid.as_str(), track.as_str()))
            .collect();
        let client = Client {
            ufrag: ["one1", "two2"][self.below(2)],
            certificate: ["AA", "AA", "AA", "BB"][self.below(4)],
            numbers: [[111, 96, 97], [109, 120, 124]][self.below(2)],
        };
        let _ = self
            .world
            .rooms
            .handle_offer(person, &client.page(&sections, &wants));
    }

    fn connect(&mut self, room: &str) {
        let connected = if self.below(2) == 0 {
            self.world
                .connect(Door::Whip, room, &ANN.sdp(&CAMERA_AND_MICROPHONE))
        } else {
            self.world.connect(
                Door::Whep,
                room,
                &BOB.sdp(&["0 video recvonly", "1 audio recvonly"]),
            )
        };
        self.resources
            .extend(connected.map(|connected| connected.resource));
    }

    fn request(&mut self, room: &str) {
        let certificate = ["AA", "AA", "BB"][self.below(3)];
        let client = Client { certificate, ..ANN };
        let kinds = [
            RequestKind::Broadcaster,
            RequestKind::Participant,
            RequestKind::Member,
        ];
        let request = Request {
            id: ["d1", "d2", "d3"][self.below(3)].to_owned(),
            kind: kinds[self.below(3)],
            room: room_name(room),
            name: PersonName::default(),
            page: client.page(&["0 audio sendrecv", "1 video sendrecv"], &[]),
        };
        let _ = self.world.rooms.handle_request(&request);
    }

    /// Sessions and workers end by themselves now and then, and people speak.
    fn engine_tells(&mut self) {
        let sessions: Vec<SessionId> = self.engines.sessions.keys().copied().collect();
        let tracks: Vec<TrackId> = self.engines.tracks.keys().copied().collect();
        let (worker, event) = match self.below(12) {
            0 => (self.below(2), Event::WorkerRestarted),
            1..=3 => {
                let Some(session) = self.pick(&sessions) else {
                    return;
                };
                let reason = CloseReason::ConsentExpired;
                (
                    self.engines.sessions[&session],
                    Event::Closed { session, reason },
                )
            }
            _ => {
                let Some(track) = self.pick(&tracks) else {
                    return;
                };
                (
                    0,
                    Event::Speaking {
                        track,
                        speaking: self.below(2) == 0,
                    },
                )
            }
        };
        match event {
            Event::WorkerRestarted => self.engines.restart(worker),
            Event::Closed { session, .. } => self.engines.forget(session),
            _ => {}
        }
        self.world
            .rooms
            .handle_event(self.world.now, worker, &event);
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.world.rooms.poll_effect() {
            if let Effect::Command { worker, command } = effect {
                self.engines.carry_out(worker, &command);
            }
        }
        self.engines.assert_agrees(&self.world.rooms);
    }
}

#[test]
fn whatever_happens_the_engines_hold_what_the_rooms_believe() {
    for seed in SEEDS {
        let mut day = Day::new(seed);
        let (mut most, mut relayed) = (0, 0);
        for _ in 0..STEPS {
            day.step();
            most = most.max(day.engines.feeds.len());
            relayed = relayed.max(day.engines.imports.len());
        }
        assert!(
            relayed > 0,
            "on a day of seed {seed} no room was on two workers"
        );
        assert!(
            most > 3,
            "a day of seed {seed} in which nobody saw anybody tests nothing"
        );
        day.world.rooms.handle_shutdown();
        day.carry_out();
        day.world.assert_empty();
    }
}
