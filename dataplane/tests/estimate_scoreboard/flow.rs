//! A sender that obeys an estimator, and its receiver.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use dataplane::estimate::{Estimator, Pacer};
use dataplane::id::Ssrc;
use dataplane::sim::network::{Link, LinkSpec, Rng};
use dataplane::wire::{FeedbackView, RtcpWriter};

/// Bytes of a full packet, and of one of padding.
const PACKET_BYTES: usize = 1_200;

/// Frames per second.
const FRAMES: u32 = 30;

/// What a flow sends.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// An encoder that makes frames of as much as the estimate allows, up to a rate.
    Encoder(u64),
    /// The largest of these layers that the estimate allows, as a selective forwarder does.
    Layers(Vec<u64>),
}

/// What a flow is told at birth.
#[derive(Clone, Debug)]
pub(crate) struct FlowSpec {
    pub(crate) source: Source,
    /// The way back.
    pub(crate) feedback: LinkSpec,
    pub(crate) feedback_interval: Duration,
    pub(crate) starts: Duration,
}

impl Default for FlowSpec {
    fn default() -> FlowSpec {
        FlowSpec {
            source: Source::Encoder(8_000_000),
            feedback: LinkSpec {
                latency: Duration::from_millis(50),
                ..LinkSpec::default()
            },
            feedback_interval: Duration::from_millis(80),
            starts: Duration::ZERO,
        }
    }
}

/// A flow.
#[derive(Debug)]
pub(crate) struct Flow {
    spec: FlowSpec,
    start: Instant,
    estimator: Estimator,
    pacer: Pacer,
    rng: Rng,
    pub(crate) is_paused: bool,
    frame_at: Instant,
    waiting: VecDeque<usize>,
    back: Link<Vec<u8>>,
    /// Of the receiver: arrivals by number, from the first that it has not told of.
    told: u64,
    arrivals: VecDeque<Option<i64>>,
    feedback_at: Instant,
    /// Packets sent; of the last, how many bytes it had.
    pub(crate) sent: u64,
    pub(crate) arrived: u64,
    /// Bytes that arrived, in tenths of a second.
    pub(crate) received: Vec<u64>,
}

/// A packet on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) number: u64,
    pub(crate) bytes: usize,
}

impl Flow {
    pub(crate) fn new(start: Instant, spec: FlowSpec, seed: u64) -> Flow {
        let begins = start + spec.starts;
        let mut estimator = Estimator::new(begins);
        estimator.handle_wanted(spec.source.most());
        Flow {
            start,
            estimator,
            pacer: Pacer::new(begins),
            rng: Rng::new(seed),
            is_paused: false,
            frame_at: begins,
            waiting: VecDeque::new(),
            back: Link::new(spec.feedback, seed + 1),
            told: 0,
            arrivals: VecDeque::new(),
            feedback_at: begins,
            sent: 0,
            arrived: 0,
            received: Vec::new(),
            spec,
        }
    }

    pub(crate) fn target_bps(&self) -> u64 {
        self.estimator.target_bps()
    }

    /// Does what is due and hands what leaves to `send`.
    pub(crate) fn step(&mut self, now: Instant, mut send: impl FnMut(Packet)) {
        if now < self.start + self.spec.starts {
            return;
        }
        while let Some(raw) = self.back.poll_datagram(now) {
            if let Ok(view) = FeedbackView::parse(&raw) {
                self.estimator.handle_feedback(now, &view);
            }
        }
        self.estimator.handle_timeout(now);
        self.make_frame(now);
        if self.pacer.cluster().is_none()
            && !self.is_paused
            && let Some(probe) = self.estimator.poll_probe(now)
        {
            self.pacer.begin_probe(now, probe);
        }
        self.pacer.set_rate(now, self.estimator.pacing_bps());
        loop {
            let cluster = self.pacer.cluster();
            let may_leave = self.pacer.allowance(now) > 0;
            let media = self.waiting.pop_front_if(|_| may_leave);
            let bytes = match media {
                Some(bytes) => bytes,
                None if self.pacer.probe_allowance(now) > 0 => PACKET_BYTES,
                None => break,
            };
            match cluster {
                Some(cluster) => self.estimator.handle_probe_sent(now, bytes, cluster),
                None => self.estimator.handle_sent(now, bytes),
            };
            self.pacer.handle_sent(now, (bytes, 1));
            send(Packet {
                number: self.sent,
                bytes,
            });
            self.sent += 1;
        }
        self.give_feedback(now);
    }

    fn make_frame(&mut self, now: Instant) {
        if now < self.frame_at {
            return;
        }
        self.frame_at += Duration::from_secs(1) / FRAMES;
        if self.is_paused {
            self.waiting.clear();
            return;
        }
        let bps = self.media_bps();
        // Frames differ by a fifth either way.
        let vary = 80 + self.rng.below(41);
        let mut bytes = (bps * vary / 100 / 8 / u64::from(FRAMES)) as usize;
        while bytes > 0 {
            let packet = bytes.min(PACKET_BYTES);
            self.waiting.push_back(packet.max(60));
            bytes -= packet;
        }
    }

    /// What the next frame is made for.
    fn media_bps(&mut self) -> u64 {
        let target = self.estimator.target_bps();
        if let Source::Encoder(_) = self.spec.source {
            return self.spec.source.rate(target);
        }
        // A forwarder leaves room for what is sent again.
        let arrives = 1.0 - self.estimator.loss();
        let wanted = self.spec.source.most() as f64 / arrives;
        self.estimator.handle_wanted(wanted as u64);
        self.spec.source.rate((target as f64 * arrives) as u64)
    }

    /// A packet arrived at the receiver.
    pub(crate) fn handle_arrival(&mut self, now: Instant, packet: Packet) {
        let since = now - self.start;
        let tenth = since.as_millis() as usize / 100;
        if self.received.len() <= tenth {
            self.received.resize(tenth + 1, 0);
        }
        self.received[tenth] += packet.bytes as u64;
        self.arrived += 1;
        let Some(place) = packet.number.checked_sub(self.told) else {
            return;
        };
        let place = place as usize;
        if self.arrivals.len() <= place {
            self.arrivals.resize(place + 1, None);
        }
        self.arrivals[place] = Some(since.as_micros() as i64 / 250);
    }

    fn give_feedback(&mut self, now: Instant) {
        if now < self.feedback_at {
            return;
        }
        self.feedback_at = now + self.spec.feedback_interval;
        while !self.arrivals.is_empty() {
            let mut buffer = [0; 1_160];
            let mut writer = RtcpWriter::new(&mut buffer);
            let ticks: Vec<Option<i64>> = self.arrivals.iter().copied().collect();
            let base = self.told as u16;
            let told = writer.transport_feedback(Ssrc(1), Ssrc(2), 0, base, &ticks);
            let len = writer.len();
            assert!(told > 0, "a feedback says something");
            self.back
                .handle_datagram(now, len + 40, buffer[..len].to_vec());
            self.arrivals.drain(..told);
            self.told += told as u64;
        }
    }
}

impl Source {
    fn most(&self) -> u64 {
        match self {
            Source::Encoder(most) => *most,
            Source::Layers(layers) => layers.iter().copied().max().unwrap_or(0),
        }
    }

    fn rate(&self, target: u64) -> u64 {
        match self {
            Source::Encoder(most) => target.min(*most),
            Source::Layers(layers) => {
                let least = layers.iter().copied().min().unwrap_or(0);
                let fitting = layers.iter().copied().filter(|layer| *layer <= target);
                fitting.max().unwrap_or(least)
            }
        }
    }
}
