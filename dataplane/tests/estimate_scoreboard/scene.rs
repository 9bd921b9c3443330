//! Flows that share a bottleneck, in virtual time, and what is measured of them.

use std::fmt::Write as _;
use std::panic::Location;
use std::time::{Duration, Instant};

use dataplane::sim::network::{Link, LinkSpec};

use crate::flow::{Flow, FlowSpec, Packet};
use crate::tcp::{SEGMENT_BYTES, Tcp};

/// Time between two looks at everything: the unit that arrivals are told in.
const STEP: Duration = Duration::from_micros(250);

/// Between two looks at the queue.
const SAMPLE: u64 = 40;

const SEED: u64 = 0x0062_616e_6477;

/// What changes while a scene is played.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Rate(u64),
    Latency(u64),
    Pause(usize),
    Resume(usize),
}

/// What is played.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) link: LinkSpec,
    pub(crate) flows: Vec<FlowSpec>,
    /// TCP flows: when they start, in milliseconds, and their packets.
    pub(crate) tcps: Vec<(u64, u64)>,
    /// When what changes, in milliseconds, in order.
    pub(crate) changes: Vec<(u64, Change)>,
    pub(crate) seconds: u64,
    /// Which of the networks that are alike.
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    name: &'static str,
    /// Share of the bottleneck that all that arrived took, TCP flows' packets too.
    pub(crate) utilisation: f64,
    /// Time that packets waited for the bottleneck, in milliseconds.
    pub(crate) queue_ms: Vec<f64>,
    pub(crate) loss: f64,
    /// What arrived of each flow in each tenth of a second, in bits per second.
    pub(crate) rates: Vec<Vec<f64>>,
    pub(crate) target_bps: u64,
    /// What the case itself says.
    pub(crate) note: String,
    /// What should have held and did not, by line.
    pub(crate) broken: Vec<u32>,
}

/// Who a packet is of.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Flow(usize, Packet),
    Tcp(usize, u64),
}

impl Change {
    fn apply(self, now: Instant, spec: &mut LinkSpec, link: &mut Link<Owner>, flows: &mut [Flow]) {
        match self {
            Change::Rate(bps) => {
                spec.rate_bps = Some(bps);
                link.set_rate(now, bps);
            }
            Change::Latency(ms) => {
                spec.latency = Duration::from_millis(ms);
                link.set_spec(*spec);
            }
            Change::Pause(flow) => flows[flow].is_paused = true,
            Change::Resume(flow) => flows[flow].is_paused = false,
        }
    }
}

/// Plays a scene to its end.
pub(crate) fn play(scene: &Scene) -> Outcome {
    #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
    let start = Instant::now();
    let mut link: Link<Owner> = Link::new(scene.link, SEED + scene.seed);
    let flows = scene.flows.iter().cloned().zip(SEED + scene.seed..);
    let mut flows: Vec<Flow> = flows
        .map(|(spec, seed)| Flow::new(start, spec, seed))
        .collect();
    let at = |ms| start + Duration::from_millis(ms);
    let mut tcps: Vec<Tcp> = scene
        .tcps
        .iter()
        .map(|(ms, packets)| Tcp::new(at(*ms), Duration::from_millis(50), *packets))
        .collect();
    let mut spec = scene.link;
    let mut changes = scene.changes.iter().peekable();
    let (mut queue_ms, mut carried, mut step) = (Vec::new(), 0.0, 0);
    let mut now = start;
    while now < at(scene.seconds * 1_000) {
        while let Some((_, change)) = changes.next_if(|(ms, _)| at(*ms) <= now) {
            change.apply(now, &mut spec, &mut link, &mut flows);
        }
        for (index, flow) in flows.iter_mut().enumerate() {
            flow.step(now, |packet| {
                link.handle_datagram(now, packet.bytes, Owner::Flow(index, packet));
            });
        }
        for (index, tcp) in tcps.iter_mut().enumerate() {
            tcp.step(now, |number| {
                link.handle_datagram(now, SEGMENT_BYTES, Owner::Tcp(index, number));
            });
        }
        while let Some(owner) = link.poll_datagram(now) {
            match owner {
                Owner::Flow(index, packet) => flows[index].handle_arrival(now, packet),
                Owner::Tcp(index, number) => tcps[index].handle_arrival(now, number),
            }
        }
        if step % SAMPLE == 0 {
            queue_ms.push(link.queueing(now).as_secs_f64() * 1e3);
        }
        carried += spec.rate_bps.unwrap_or(0) as f64 * STEP.as_secs_f64() / 8.0;
        step += 1;
        now += STEP;
    }
    let received: u64 = flows.iter().flat_map(|flow| &flow.received).sum();
    let tcp: u64 = tcps.iter().map(|tcp| tcp.received).sum();
    let sent: u64 = flows.iter().map(|flow| flow.sent).sum();
    let arrived: u64 = flows.iter().map(|flow| flow.arrived).sum();
    let rates = flows.iter().map(|flow| {
        let tenths = flow.received.iter();
        tenths.map(|bytes| *bytes as f64 * 80.0).collect()
    });
    Outcome {
        name: scene.name,
        utilisation: (received + tcp) as f64 / carried,
        queue_ms,
        loss: 1.0 - arrived as f64 / sent as f64,
        rates: rates.collect(),
        target_bps: flows[0].target_bps(),
        note: String::new(),
        broken: Vec::new(),
    }
}

impl Outcome {
    /// The time that a share of the samples waited at most, in milliseconds.
    pub(crate) fn queue(&self, share: f64) -> f64 {
        let mut sorted = self.queue_ms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * share) as usize]
    }

    /// A flow's mean rate between two seconds.
    pub(crate) fn rate(&self, flow: usize, from: usize, to: usize) -> f64 {
        let tenths = self.rates[flow].iter().skip(from * 10);
        tenths.take((to - from) * 10).sum::<f64>() / ((to - from) * 10) as f64
    }

    /// Jain's index of the flows' rates between two seconds: 1 where all have the same.
    pub(crate) fn fairness(&self, from: usize, to: usize) -> f64 {
        let rates = (0..self.rates.len()).map(|flow| self.rate(flow, from, to));
        let (sum, squares) = rates.fold((0.0, 0.0), |(sum, squares), rate: f64| {
            (sum + rate, squares + rate * rate)
        });
        sum * sum / (self.rates.len() as f64 * squares)
    }

    /// Seconds after `from` until a flow's mean rate over a second is at least `bps`.
    pub(crate) fn reached(&self, flow: usize, from: usize, bps: f64) -> f64 {
        let rates = &self.rates[flow];
        let place = (from * 10..rates.len().saturating_sub(10)).find(|place| {
            let second = &rates[*place..place + 10];
            second.iter().sum::<f64>() / 10.0 >= bps
        });
        place.map_or(f64::INFINITY, |place| (place - from * 10) as f64 / 10.0)
    }

    /// Seconds after `from` until packets wait for less than `ms`, for a second at least.
    pub(crate) fn drained(&self, from: usize, ms: f64) -> f64 {
        let place = (from * 100..self.queue_ms.len() - 100).find(|place| {
            self.queue_ms[*place..place + 100]
                .iter()
                .all(|wait| *wait < ms)
        });
        place.map_or(f64::INFINITY, |place| (place - from * 100) as f64 / 100.0)
    }

    /// Something that a user would notice must hold.
    #[track_caller]
    pub(crate) fn must(&mut self, holds: bool) {
        if !holds {
            self.broken.push(Location::caller().line());
        }
    }

    /// Its row.
    pub(crate) fn row(&self) -> String {
        let mut row = format!(
            "{:<34} {:>5.1} {:>5.0} {:>5.0} {:>6.2}",
            self.name,
            self.utilisation * 100.0,
            self.queue(0.5),
            self.queue(0.95),
            self.loss * 100.0,
        );
        if !self.note.is_empty() {
            let _ = write!(row, "  {}", self.note);
        }
        row
    }
}
