//! What a world is like, by its seed.

use std::time::{Duration, Instant};

use dataplane::dtls::Certificate;
use dataplane::sim::network::{LinkSpec, Rng};
use dataplane::sim::source::Shape;

use crate::call::Pace;
use crate::node::NodeConfig;

/// How much of a world is media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Few rooms, a packet or more of everybody each second, networks that lose.
    Packets,
    /// Many rooms, hours long, where media only shows now and then that it would pass.
    Signalling,
}

/// What a world is like.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    workers: usize,
    pub(crate) rooms: usize,
    pub(crate) people: usize,
    /// Whether DTLS is spoken.
    pub(crate) real_handshakes: bool,
    certificate: Option<Certificate>,
    pub(crate) audio_speakers: usize,
    pub(crate) has_database: bool,
    pub(crate) pace: Pace,
    /// Between two things that happen, on average.
    pub(crate) pause: Duration,
    /// Of so many reports that an engine sends to somebody one arrives.
    pub(crate) reports_apart: u64,
    /// Timers of engines fire at multiples of this, as those of a busy worker do; zero for when they are due.
    turn: Duration,
    /// How long it lasts, the calm at its end aside.
    pub(crate) span: Duration,
}

impl Plan {
    /// The world of a seed.
    pub(crate) fn new(weight: Weight, seed: u64, span: Duration) -> Plan {
        let mut rng = Rng::new(seed ^ 0x706c_616e);
        let real_handshakes = weight == Weight::Packets && rng.chance(0.2);
        let made = || Certificate::generate().expect("a simulation's system has randomness");
        let has_database = rng.chance(0.6);
        let nodes = if has_database && rng.chance(0.6) {
            2
        } else {
            1
        };
        let (rooms, people) = match weight {
            Weight::Packets => (3 + rng.below(4) as usize, 10 + rng.below(10) as usize),
            Weight::Signalling => {
                let rooms = 50 + rng.below(100) as usize;
                (rooms, rooms * 5 / 2 + rng.below(rooms as u64) as usize)
            }
        };
        // Wild worlds and quiet ones.
        let per_person = Duration::from_secs([60, 300, 1_200][rng.below(3) as usize]);
        let pause = match weight {
            Weight::Packets => per_person.min(Duration::from_secs(120)) / people as u32,
            Weight::Signalling => per_person / people as u32,
        };
        Plan {
            seed,
            nodes,
            workers: 1 + rng.below(2) as usize,
            rooms,
            people,
            real_handshakes,
            certificate: real_handshakes.then(made),
            audio_speakers: if rng.chance(0.2) { 3 } else { 0 },
            has_database,
            pace: pace(weight, rng.chance(0.5)),
            reports_apart: if weight == Weight::Packets { 1 } else { 10 },
            turn: match weight {
                Weight::Packets => Duration::ZERO,
                Weight::Signalling => Duration::from_secs(2),
            },
            pause,
            span,
        }
    }

    /// A node of this world.
    pub(crate) fn node(&self, index: usize) -> NodeConfig {
        NodeConfig {
            index,
            workers: self.workers,
            certificate: self.certificate.clone(),
            audio_speakers: self.audio_speakers,
            has_desk: self.has_database,
        }
    }

    /// When an engine's timer that is due then fires.
    pub(crate) fn turn_at(&self, epoch: Instant, due: Instant) -> Instant {
        if self.turn.is_zero() {
            return due;
        }
        let turns = (due - epoch).as_micros().div_ceil(self.turn.as_micros());
        epoch + self.turn * turns as u32
    }

    /// A network that nobody complains about.
    pub(crate) fn good_network(&self, rng: &mut Rng) -> LinkSpec {
        LinkSpec {
            latency: Duration::from_millis(2 + rng.below(60)),
            jitter: Duration::from_millis(rng.below(5)),
            ..LinkSpec::default()
        }
    }

    /// One that people do complain about.
    pub(crate) fn bad_network(&self, rng: &mut Rng) -> LinkSpec {
        LinkSpec {
            latency: Duration::from_millis(20 + rng.below(250)),
            jitter: Duration::from_millis(rng.below(60)),
            loss: 0.01 * rng.below(30) as f64,
            reorder: 0.01 * rng.below(5) as f64,
            duplicate: 0.01 * rng.below(5) as f64,
            rate_bps: rng.chance(0.3).then_some(500_000),
            queue_bytes_max: 60_000,
            ..LinkSpec::default()
        }
    }

    /// None at all.
    pub(crate) fn no_network() -> LinkSpec {
        LinkSpec {
            loss: 1.0,
            ..LinkSpec::default()
        }
    }

    /// The longest that a subscriber who is well waits for the next packet of a stream.
    pub(crate) fn silence_max(&self) -> Duration {
        2 * self.pace.audio.interval.max(self.pace.video.interval) + Duration::from_secs(5)
    }
}

fn pace(weight: Weight, feedback: bool) -> Pace {
    let shape = |interval, packets, key_packets, payload_bytes| Shape {
        interval,
        packets,
        key_packets,
        payload_bytes,
    };
    match weight {
        Weight::Packets => Pace {
            audio: shape(Duration::from_secs(1), 1, 1, 60),
            video: shape(Duration::from_secs(1), 2, 4, 300),
            report_interval: Duration::from_secs(5),
            consent_interval: Duration::from_millis(2_500),
            feedback,
        },
        Weight::Signalling => Pace {
            audio: shape(Duration::from_secs(40), 1, 1, 60),
            video: shape(Duration::from_secs(40), 1, 1, 100),
            report_interval: Duration::from_secs(120),
            consent_interval: Duration::from_secs(9),
            feedback: false,
        },
    }
}
