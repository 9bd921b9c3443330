//! The forwarding engine: a state machine without IO.
//!
//! A packet's way through it: [`ingest`] finds its track and decrypts it into the track's [`log`];
//! the track's subscribers become ready; [`egress`] reads the log for each of them, one after the
//! other, and seals a [`burst`] straight into the caller's slot. There are no queues of packets:
//! a subscriber is a cursor into the logs of its tracks.

mod allocate;
mod arrivals;
mod burst;
mod clock;
mod commands;
mod connectivity;
mod continuity;
mod data;
mod downlink;
mod egress;
mod extensions;
mod feed;
mod feedback;
mod floor;
#[cfg(feature = "sim")]
pub mod fuzz;
mod group;
mod hold;
mod ice;
mod ingest;
mod intake;
mod keyframe;
mod layers;
mod log;
mod meter;
mod moment;
mod nack;
mod numbering;
mod outbox;
mod pause;
mod planner;
mod random;
mod redundancy;
mod relay;
mod reports;
mod resend;
mod resolve;
mod sender;
mod session;
#[cfg(test)]
mod sizes;
mod slab;
mod snapshot;
mod source;
mod spatial;
mod speaking;
mod statistics;
mod switching;
mod thinning;
mod timers;
mod track;
mod voice;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use ahash::RandomState;

use crate::command::Command;
use crate::counters::Counters;
use crate::event::{DtlsInput, Event};
use crate::id::{SenderId, SessionId, TrackId};
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::load::Load;
use crate::relay::RelaySlot;
use crate::transmit::{Path, Transmit};
use crate::wire::{Protocol, classify};
use allocate::Demand;
use clock::Clock;
use egress::Plan;
use extensions::ExtensionList;
use floor::Floor;
use hold::Hold;
pub(crate) use layers::LayerStamp;
use moment::Moment;
use outbox::Outbox;
use random::Random;
use relay::Relay;
use reports::Material;
use sender::{Sender, SenderKey};
use session::{Session, SessionKey};
use slab::Slab;
pub use snapshot::{EngineSnapshot, RestoreError, SNAPSHOT_VERSION};
use timers::Timers;
use track::{Encodings, Track, TrackKey};

/// What an engine is told at birth.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// One instant on both clocks, for NTP timestamps in sender reports.
    pub epoch: (Instant, SystemTime),
    /// Seed of everything random in it: SSRC-independent numbers, hash keys. From the system's
    /// generator in production, a constant in simulations.
    pub seed: u64,
    /// Most sessions at once.
    pub sessions_max: usize,
    /// Bits per second that publishers are told they may send (REMB), each.
    pub publisher_bitrate_bps_max: u64,
    /// How long a packet may wait at most for others to share its send. A worker that is idle holds
    /// nothing but the beginnings of frames, and video waits at most [`VIDEO_HOLD_MAX`](crate::limits::VIDEO_HOLD_MAX).
    pub hold_max: Duration,
    /// How many voices of a group are forwarded, the loudest; 0 for all. At most
    /// [`AUDIO_SPEAKERS_MAX`](crate::limits::AUDIO_SPEAKERS_MAX).
    pub audio_speakers: usize,
}

/// The forwarding engine of one worker.
///
/// Call order: any `handle_*` with the current time, then drain `poll_relay` for each other worker,
/// `poll_transmit`, `poll_dtls` and `poll_event` until each has nothing, then wait until `poll_timeout` or the next input.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    clock: Clock,
    random: Random,
    counters: Counters,
    /// How much each client may send, in bytes per second.
    intake_max: u64,
    sessions: Slab<Session>,
    tracks: Slab<Track>,
    senders: Slab<Sender>,
    names: Names,
    /// Whose a validated path is.
    paths: HashMap<Path, SessionKey, RandomState>,
    /// Whose our ufrags are.
    ufrags: HashMap<Box<[u8]>, SessionKey, RandomState>,
    /// Tracks that got packets since the subscribers were told.
    dirty: Vec<TrackKey>,
    /// Sessions with media to send.
    ready: VecDeque<SessionKey>,
    /// What waits for company before its session becomes ready.
    hold: Hold,
    /// Which voices are forwarded.
    floor: Floor,
    /// What other workers are to be told.
    relay: Relay,
    outbox: Outbox,
    dtls: VecDeque<DtlsInput>,
    events: VecDeque<Event>,
    /// Where the last goodbye of an ended session goes.
    closing: VecDeque<(SessionId, Path, Instant)>,
    timers: Timers,
    plan: Plan,
    /// What the session in hand could be sent. Its memory is used again for each.
    demands: Vec<Demand>,
    /// What was worked out for the last time at which something was sent.
    moment: Moment,
    material: Material,
    extension_list: ExtensionList,
    rtcp_plain: Box<[u8]>,
}

/// What control's ids mean here.
#[derive(Debug)]
struct Names {
    sessions: HashMap<SessionId, SessionKey, RandomState>,
    tracks: HashMap<TrackId, Encodings, RandomState>,
    senders: HashMap<SenderId, SenderKey, RandomState>,
}

impl Names {
    /// An encoding of a published stream.
    fn encoding(&self, track: TrackId, encoding: u8) -> Option<TrackKey> {
        self.tracks.get(&track)?.get(usize::from(encoding)).copied()
    }
}

impl Engine {
    /// An engine with no sessions.
    #[must_use]
    pub fn new(config: EngineConfig) -> Engine {
        let mut random = Random::new(config.seed);
        // Keyed, because addresses and ufrags are what peers can choose.
        let hasher =
            RandomState::with_seeds(random.next(), random.next(), random.next(), random.next());
        let sessions_max = config.sessions_max;
        let clock = Clock::new(config.epoch);
        let hold = Hold::new(config.hold_max, sessions_max);
        Engine {
            moment: Moment::new(config.epoch.0, &clock, &hold),
            clock,
            random,
            counters: Counters::default(),
            intake_max: intake::bytes_per_second_max(config.publisher_bitrate_bps_max),
            sessions: Slab::with_capacity(sessions_max),
            tracks: Slab::with_capacity(sessions_max),
            senders: Slab::with_capacity(sessions_max),
            names: Names {
                sessions: HashMap::with_hasher(hasher.clone()),
                tracks: HashMap::with_hasher(hasher.clone()),
                senders: HashMap::with_hasher(hasher.clone()),
            },
            paths: HashMap::with_hasher(hasher.clone()),
            ufrags: HashMap::with_hasher(hasher.clone()),
            dirty: Vec::with_capacity(sessions_max),
            ready: VecDeque::with_capacity(sessions_max),
            hold,
            floor: Floor::new(config.audio_speakers, hasher),
            relay: Relay::default(),
            outbox: Outbox::new(),
            dtls: VecDeque::new(),
            events: VecDeque::new(),
            closing: VecDeque::new(),
            timers: Timers::new(config.epoch.0),
            plan: Plan::new(),
            demands: Vec::new(),
            material: Material::default(),
            extension_list: ExtensionList::new(),
            rtcp_plain: vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice(),
            config,
        }
    }

    /// Takes a run of datagrams from one path, laid end to end, each `segment` bytes long but
    /// the last, which may be shorter (what GRO delivers). Packets are decrypted out of `bytes`,
    /// whose content is unspecified afterwards.
    pub fn handle_datagrams(&mut self, now: Instant, path: Path, bytes: &mut [u8], segment: usize) {
        let mut session = self.paths.get(&path).copied();
        for datagram in bytes.chunks(segment.max(1)) {
            self.counters.datagrams_received += 1;
            if datagram.len() > DATAGRAM_BYTES_MAX {
                self.counters.drop_too_large += 1;
                continue;
            }
            let Some(protocol) = classify(datagram) else {
                self.counters.drop_unknown_protocol += 1;
                continue;
            };
            match (protocol, session) {
                (Protocol::Stun, _) => {
                    self.handle_stun(now, path, datagram);
                    session = self.paths.get(&path).copied();
                }
                (Protocol::Dtls, Some(key)) => self.handle_dtls(key, datagram),
                (Protocol::Rtp, Some(key)) => self.handle_rtp(now, key, datagram),
                (Protocol::Rtcp, Some(key)) => self.handle_rtcp(now, key, datagram),
                (Protocol::Dtls | Protocol::Rtp | Protocol::Rtcp, None) => {
                    self.counters.drop_unknown_address += 1;
                }
            }
        }
    }

    /// Takes one packet of a feed session, RTP or RTCP in the clear (RFC 3550), that arrived in this process at
    /// `arrived`. What names something else is counted and dropped.
    pub fn handle_feed(
        &mut self,
        now: Instant,
        session: SessionId,
        arrived: Instant,
        packet: &[u8],
    ) {
        self.counters.feed_received += 1;
        self.take_fed(now, session, arrived, packet);
    }

    /// Carries out a request.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        if self.carry_out(now, command).is_none() {
            self.counters.command_stale += 1;
        }
    }

    /// The worker is this busy: the busier, the longer packets may wait for others.
    pub fn handle_load(&mut self, load: Load) {
        self.hold.handle_load(load);
        self.moment.refresh(&self.clock, &self.hold);
    }

    /// Sessions, tracks, senders and addresses that are kept: as many at the end of a day as before it.
    fn objects(&self) -> u64 {
        let objects = self.sessions.len() + self.tracks.len() + self.senders.len();
        (objects + self.paths.len() + self.ufrags.len()) as u64
    }

    /// How long the caller may leave what arrives next where it is, once something has arrived: it would be
    /// held anyway. Zero unless the hold is long.
    #[must_use]
    pub fn rest(&self) -> Duration {
        self.hold.rest()
    }

    /// Takes what the engine of another worker wrote: see [`Engine::poll_relay`].
    pub fn handle_relay(&mut self, now: Instant, slot: &RelaySlot) {
        self.take_relayed(now, slot);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.fire(now);
    }

    /// Writes the next burst into `slot`, which must hold at least
    /// [`BURST_BYTES_MAX`](crate::limits::BURST_BYTES_MAX) bytes.
    pub fn poll_transmit(&mut self, now: Instant, slot: &mut [u8]) -> Option<Transmit> {
        self.wake_subscribers(now);
        let control = self.outbox.poll(slot);
        let transmit = control
            .or_else(|| self.poll_media(now, slot))
            // Video that is left out instead of sent is followed by a request for a key frame.
            .or_else(|| self.outbox.poll(slot))?;
        self.counters.bursts_sent += 1;
        self.counters.datagrams_sent += transmit.segments() as u64;
        self.counters.bytes_sent += transmit.len as u64;
        Some(transmit)
    }

    /// Writes what the engine of worker `to` is to be handed next into `slot`; `false` when there
    /// is nothing. Without a slot nothing is lost: packets stay in their tracks' logs, as long as
    /// those are.
    pub fn poll_relay(&mut self, now: Instant, to: usize, slot: &mut RelaySlot) -> bool {
        self.write_relayed(now, to, slot)
    }

    /// The next input for the handshake threads.
    pub fn poll_dtls(&mut self) -> Option<DtlsInput> {
        self.dtls.pop_front()
    }

    /// The next thing to tell control.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` wants to be called, if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due()
    }
}
