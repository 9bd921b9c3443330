//! A node without its shell: the rooms, the desk, the engines of its workers and their handshakes. What `node.rs` and
//! `firestore/shell.rs` do between them is done here again, under a clock that is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, UNIX_EPOCH};

use control::firestore::desk::{Desk, DeskConfig, RequestId, RoomView};
use control::firestore::message::{Path, Stamp, Target};
use control::room::{Random, RoomLimits, Rooms, RoomsConfig};
use dataplane::command::Command;
use dataplane::counters::Counters;
use dataplane::dtls::Certificate;
use dataplane::engine::{Engine, EngineConfig};
use dataplane::limits::EGRESS_HOLD_MAX;
use dataplane::sim::network::Rng;
use serde::Serialize;
use signaling::name::RoomName;
use signaling::node::PersonId;
use signaling::sdp::Candidate;

use crate::lane::Lane;
use crate::model::Model;

/// People and players in one room at most.
pub(crate) const SESSIONS_PER_ROOM: usize = 12;

/// Room for what one person has not read yet: `node.rs` has the sum.
pub(crate) const UNREAD_MAX: usize = 256 + 2 * SESSIONS_PER_ROOM;

/// The same generator for everything random in a node.
struct Seeded(Rng);

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.next_u32() as u8;
        }
    }
}

/// What a node is made of.
#[derive(Clone)]
pub(crate) struct NodeConfig {
    pub(crate) index: usize,
    pub(crate) workers: usize,
    /// The certificate, where handshakes are real.
    pub(crate) certificate: Option<Certificate>,
    pub(crate) audio_speakers: usize,
    /// Whether there is a database.
    pub(crate) has_desk: bool,
}

/// A worker.
pub(crate) struct Worker {
    pub(crate) engine: Engine,
    pub(crate) lane: Lane,
    pub(crate) address: SocketAddr,
    /// Its socket takes nothing.
    pub(crate) is_blocked: bool,
    pub(crate) counters: Counters,
    /// Failures that the rooms have not heard of: what they command is meant for an engine that is gone.
    pub(crate) unheard: u32,
    /// Timers of its engine that fired.
    pub(crate) wakes: u64,
}

/// The way to the database.
#[derive(Default)]
pub(crate) struct DatabaseLink {
    pub(crate) is_up: bool,
    /// Counts connections: what an older one carried is lost.
    pub(crate) epoch: u32,
    /// What the listener told of each target.
    pub(crate) told: BTreeMap<Target, BTreeMap<Path, Stamp>>,
    /// Nothing is told before what was told before.
    pub(crate) told_until: Option<Instant>,
}

/// A node.
pub(crate) struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) name: String,
    /// Counts its starts: what was meant for an earlier one is lost.
    pub(crate) life: u32,
    /// Counts its processes: a life goes on in another one.
    pub(crate) process: u32,
    pub(crate) rooms: Rooms,
    pub(crate) desk: Option<Desk>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) model: Model,
    /// The sockets of people.
    pub(crate) people: BTreeMap<PersonId, usize>,
    pub(crate) ended: Vec<(RequestId, String)>,
    pub(crate) changed: BTreeSet<RoomName>,
    /// When the desk hears of these.
    pub(crate) reports_at: Option<Instant>,
    pub(crate) link: DatabaseLink,
    /// The process stands still until then.
    pub(crate) stalled_until: Option<Instant>,
}

impl Node {
    /// A node that has just started.
    pub(crate) fn new(now: Instant, config: NodeConfig, life: u32, rng: &mut Rng) -> Node {
        let workers = (0..config.workers)
            .map(|worker| Worker::new(now, &config, address(&config, worker), rng.next_u64()))
            .collect();
        let rooms = rooms_config(&config, life);
        let name = format!("node-{}", config.index);
        let desk = config.has_desk.then(|| desk(&name, rng));
        Node {
            rooms: Rooms::new(rooms, random(rng.next_u64())),
            desk,
            workers,
            model: Model::default(),
            people: BTreeMap::new(),
            ended: Vec::new(),
            changed: BTreeSet::new(),
            reports_at: None,
            link: DatabaseLink::default(),
            stalled_until: None,
            name,
            life,
            process: 0,
            config,
        }
    }

    /// A worker failed: it starts again, and knows nobody.
    pub(crate) fn restart_worker(&mut self, now: Instant, worker: usize, seed: u64) {
        if let Some(slot) = self.workers.get_mut(worker) {
            let unheard = slot.unheard + 1;
            *slot = Worker::new(now, &self.config, slot.address, seed);
            slot.unheard = unheard;
        }
    }

    /// What a room looks like to members.
    pub(crate) fn view(&self, room: &RoomName) -> Option<RoomView> {
        let sight = self.rooms.sight(room)?;
        let present = sight.present;
        Some(match sight.members {
            None => RoomView {
                present,
                ..RoomView::default()
            },
            Some(members) => RoomView {
                people: json(&members.people),
                speaking: json(&members.speaking),
                chat: json(&members.chat),
                present,
            },
        })
    }

    /// Rooms where at least two meet.
    pub(crate) fn meetings(&self) -> usize {
        let meets = |room: &signaling::node::RoomSummary| room.people + room.viewers >= 2;
        self.rooms
            .summaries()
            .iter()
            .filter(|room| meets(room))
            .count()
    }
}

impl Worker {
    /// Carries out a command of the rooms, unless it was meant for an engine that is gone: as the driver does.
    pub(crate) fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::AfterRestart => self.unheard -= 1,
            _ if self.unheard > 0 => {}
            command => self.engine.handle_command(now, command),
        }
    }

    fn new(now: Instant, config: &NodeConfig, address: SocketAddr, seed: u64) -> Worker {
        Worker {
            engine: Engine::new(engine_config(now, config, seed)),
            lane: Lane::new(config.certificate.as_ref(), seed),
            address,
            is_blocked: false,
            counters: Counters::default(),
            unheard: 0,
            wakes: 0,
        }
    }
}

fn address(config: &NodeConfig, worker: usize) -> SocketAddr {
    let host = Ipv4Addr::new(203, 0, 113, config.index as u8 + 1);
    SocketAddr::from((host, 3_478 + worker as u16))
}

/// Where a node's randomness comes from.
pub(crate) fn random(seed: u64) -> Box<dyn Random> {
    Box::new(Seeded(Rng::new(seed)))
}

/// How a node's rooms are made.
pub(crate) fn rooms_config(config: &NodeConfig, life: u32) -> RoomsConfig {
    let candidates = (0..config.workers).map(|worker| {
        vec![Candidate {
            address: address(config, worker),
            tcp: false,
        }]
    });
    RoomsConfig {
        limits: RoomLimits {
            rooms: 400,
            sessions: 2_000,
            sessions_per_room: SESSIONS_PER_ROOM,
            tracks_per_session: 4,
            egress_bps: None,
            spread_percent: 60,
        },
        fingerprint: config
            .certificate
            .as_ref()
            .map_or([7; 32], Certificate::fingerprint),
        candidates: candidates.collect(),
        first_id: 1 + (config.index as u64 * 1_000 + u64::from(life)) * 1_000_000,
    }
}

/// How the engine of a worker is made.
pub(crate) fn engine_config(now: Instant, config: &NodeConfig, seed: u64) -> EngineConfig {
    EngineConfig {
        epoch: (now, UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
        seed,
        sessions_max: 1_000,
        publisher_bitrate_bps_max: 2_500_000,
        hold_max: EGRESS_HOLD_MAX,
        audio_speakers: config.audio_speakers,
    }
}

fn desk(name: &str, rng: &mut Rng) -> Desk {
    let seed = rng.next_u64();
    let config = DeskConfig {
        node: name.to_owned(),
        incarnation: format!("{seed:x}"),
        addresses: "203.0.113.1".to_owned(),
        http: "http://203.0.113.1:8080".to_owned(),
        version: "1".to_owned(),
        lease: Duration::from_secs(30),
        broadcasts_max: 1_000,
        sessions_max: 5_000,
    };
    Desk::new(config, seed)
}

fn json(list: &[impl Serialize]) -> String {
    serde_json::to_string(list).expect("lists of plain values can be written")
}
