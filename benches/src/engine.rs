//! The engine without sockets, with a call on it: what is measured by time and by instructions.

use std::net::SocketAddr;
use std::time::{Duration, Instant, UNIX_EPOCH};

use dataplane::engine::{Engine, EngineConfig};
use dataplane::limits::BURST_BYTES_MAX;
use dataplane::transmit::Path;

use crate::call::{self, Load};
use crate::publisher::Publisher;

/// An engine with a call, and what came of it.
#[derive(Debug)]
pub struct Scene {
    engine: Engine,
    now: Instant,
    slot: Vec<u8>,
    /// Packets of media that left since [`prepare`].
    pub packets: u64,
    /// In so many sends.
    pub sends: u64,
}

impl Scene {
    /// Everybody is connected.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a beginning for simulated time")]
    pub fn new(load: &Load) -> Scene {
        let now = Instant::now();
        let engine = Engine::new(EngineConfig {
            epoch: (now, UNIX_EPOCH + Duration::from_secs(1_000_000)),
            seed: 42,
            sessions_max: 1_000,
            publisher_bitrate_bps_max: 1_000_000_000_000,
            hold_max: Duration::ZERO,
            audio_speakers: 0,
        });
        let mut scene = Scene {
            engine,
            now,
            slot: vec![0; BURST_BYTES_MAX],
            packets: 0,
            sends: 0,
        };
        for client in 0..=load.subscribers {
            scene.engine.handle_command(now, call::open(client));
            scene.check(client);
            scene
                .engine
                .handle_command(now, call::connect(load, client));
        }
        for command in call::streams(load) {
            scene.engine.handle_command(now, command);
        }
        scene.drain();
        scene
    }

    fn check(&mut self, client: usize) {
        let mut check = call::check(client);
        let len = check.len();
        self.engine
            .handle_datagrams(self.now, path(client), &mut check, len);
    }

    /// The next burst arrives, as the driver hands it over; what follows from it leaves.
    pub fn forward(&mut self, run: &mut [u8], segment: usize, load: &Load) {
        self.now += Duration::from_nanos(1_000_000_000 / load.bursts_per_second);
        self.engine
            .handle_datagrams(self.now, path(0), run, segment);
        if self
            .engine
            .poll_timeout()
            .is_some_and(|due| due <= self.now)
        {
            self.engine.handle_timeout(self.now);
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.engine.poll_transmit(self.now, &mut self.slot) {
            if transmit.len > transmit.segment || is_media(&self.slot) {
                self.packets += transmit.segments() as u64;
                self.sends += 1;
            }
        }
        while self.engine.poll_dtls().is_some() {}
        while self.engine.poll_event().is_some() {}
    }
}

fn path(client: usize) -> Path {
    let [a, b, c, d] = (0x0a00_0000 + client as u32).to_be_bytes();
    Path::udp(SocketAddr::from(([a, b, c, d], 5_000)))
}

fn is_media(slot: &[u8]) -> bool {
    dataplane::wire::classify(slot) == Some(dataplane::wire::Protocol::Rtp)
}

/// Bursts that were made before they are needed.
#[derive(Debug)]
pub struct Bursts {
    publisher: Publisher,
    /// One after another.
    pub runs: Vec<Vec<u8>>,
    /// Bytes of a packet.
    pub segment: usize,
}

impl Bursts {
    /// Room for so many.
    #[must_use]
    pub fn new(load: Load, count: usize) -> Bursts {
        Bursts {
            publisher: Publisher::new(load),
            runs: vec![Vec::new(); count],
            segment: 0,
        }
    }

    /// Makes the next ones.
    pub fn make(&mut self) {
        for run in &mut self.runs {
            self.segment = self.publisher.write_burst(0, run);
        }
    }
}

/// Makes the next bursts, and renews every client's consent.
pub fn prepare(scene: &mut Scene, bursts: &mut Bursts, load: &Load) {
    bursts.make();
    for client in 0..=load.subscribers {
        scene.check(client);
    }
    scene.drain();
    (scene.packets, scene.sends) = (0, 0);
}

/// What is measured. Never inlined, so that a profiler can be told to look at nothing else.
#[inline(never)]
pub fn forward_all(scene: &mut Scene, bursts: &mut Bursts, load: &Load) {
    for run in &mut bursts.runs {
        scene.forward(run, bursts.segment, load);
    }
}
