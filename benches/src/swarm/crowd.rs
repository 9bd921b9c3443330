//! Cheap clients of a [`Node`]: no door, no offers; who they are is known on both sides.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::command::{DtlsRole, DtlsSpec, Fingerprint, MediaKind};
use dataplane::dtls::Certificate;
use dataplane::sim::peer::PeerIce;

use super::flock::{Flock, FlockReport, Intake};
use super::leg::{LegSpec, Terms};
use super::media::{Media, Shape};
use super::scene::raise_file_limit;
use super::sent::SentSpec;
use crate::call;
use crate::node::{Node, ssrc, streams};
use crate::peers::histogram::Histogram;
use crate::peers::meeting::now;
use crate::peers::publishers::SentTimes;

/// What everybody's randomness is drawn from.
const SEED: u64 = 0x6372_6f77;

/// Clients on a thread of their own. Dropping it says no goodbye.
#[derive(Debug)]
pub struct Crowd {
    flock: Flock,
    certificate: Certificate,
    /// Nobody sends recorded pictures.
    sent: Arc<SentTimes>,
}

/// What came of a crowd.
#[derive(Clone, Debug, Default)]
pub struct CrowdReport {
    /// Clients that receive, as many as are connected.
    pub connected: usize,
    /// Clients that send, as many as are connected.
    pub publishers: usize,
    /// Clients whose session ended, by why.
    pub ends: BTreeMap<String, usize>,
    /// From the first check to keys.
    pub connect_p50: Option<Duration>,
    /// The same.
    pub connect_p99: Option<Duration>,
    /// Half of the packets came within this time.
    pub p50: Option<Duration>,
    /// 99 of 100 did.
    pub p99: Option<Duration>,
    /// Packets that came.
    pub packets: u64,
    /// Packets that did not.
    pub missing: u64,
    /// How late this crowd's thread did what was due.
    pub lateness_p99: Option<Duration>,
}

impl Crowd {
    /// Starts the thread; all clients show this certificate.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(certificate: Certificate) -> io::Result<Crowd> {
        raise_file_limit();
        let terms = Terms {
            epoch: now(),
            decrypt_every: 1,
        };
        Ok(Crowd {
            flock: Flock::start(terms, Intake::Runs)?,
            certificate,
            sent: Arc::default(),
        })
    }

    /// A client that receives begins to connect; the node expects it.
    ///
    /// # Errors
    /// When it gets no socket.
    pub fn join(&self, node: &Node, client: usize) -> io::Result<()> {
        self.add(node, client, Vec::new())
    }

    /// A client that sends video and audio begins to connect; the node expects it.
    ///
    /// # Errors
    /// When it gets no socket.
    pub fn publish(&self, node: &Node, client: usize, frames_per_second: u64) -> io::Result<()> {
        let sends = streams(frames_per_second)
            .into_iter()
            .enumerate()
            .map(|(at, load)| {
                let shape = Shape {
                    rate: load.bursts_per_second as u32,
                    packets: load.burst as u16,
                    key_packets: load.burst as u16,
                    bytes: load.payload,
                };
                let spec = SentSpec {
                    ssrc: ssrc(client, at).0,
                    payload_type: call::PAYLOAD_TYPE.0,
                    clock_rate: load.clock_rate(),
                    mid: Some((call::MID_ID, call::mid_of(load.kind).to_owned())),
                    audio_level: (load.kind == MediaKind::Audio).then_some(call::LEVEL_ID),
                };
                (spec, Media::Shaped(load.kind, shape))
            });
        self.add(node, client, sends.collect())
    }

    /// Counts from here on.
    pub fn measure(&self) {
        self.flock.measure();
    }

    /// What came of it since.
    pub fn report(&self) -> CrowdReport {
        let report = self.flock.report_blocking();
        let FlockReport { counts, tally, .. } = &report;
        let at = |histogram: &Histogram, q| histogram.quantile(q);
        CrowdReport {
            connected: report.connected,
            publishers: report.publishers_connected,
            ends: report.ends.clone(),
            connect_p50: at(&report.connect, 0.5),
            connect_p99: at(&report.connect, 0.99),
            p50: at(&tally.latency, 0.5),
            p99: at(&tally.latency, 0.99),
            packets: counts.packets,
            missing: counts.missing,
            lateness_p99: at(&report.lateness, 0.99),
        }
    }

    fn add(&self, node: &Node, client: usize, sends: Vec<(SentSpec, Media)>) -> io::Result<()> {
        let ours = call::credentials(client);
        let spec = LegSpec {
            ice: PeerIce {
                local_ufrag: ours.remote_ufrag,
                local_pwd: call::password(client),
                remote_ufrag: ours.local_ufrag,
                remote_pwd: ours.local_pwd,
            },
            dtls: DtlsSpec {
                role: DtlsRole::Client,
                fingerprints: vec![Fingerprint::Sha256(node.fingerprint)],
            },
            certificate: self.certificate.clone(),
            candidates: vec![node.address],
            seed: SEED + client as u64,
            cname: format!("peer-{client}"),
            receives: sends.is_empty(),
            sends,
            number: client,
            sent: self.sent.clone(),
            watches: None,
        };
        let asked_at: Instant = now();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        self.flock.join(spec, socket, asked_at);
        Ok(())
    }
}
