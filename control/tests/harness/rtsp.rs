//! What tests of cameras share: GStreamer's RTSP server, and a record of what a lane says and sends.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, like its own lines"
)]
#![allow(dead_code, reason = "not every test needs all of it")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use control::camera::allow::Allowed;
use control::camera::lane::{Lane, Outflow};
use control::camera::order::{
    CameraId, CameraSource, CameraSpec, Figures, Identity, LaneEvent, LaneState, Mode, Order,
    Outlet, Target, Transport, Trust,
};
use control::camera::stream::Stream;
use control::camera::url::CameraUrl;
use dataplane::id::{PayloadType, SessionId, Ssrc};
use tokio::sync::{Notify, mpsc};

/// Longer than anything takes that is not meant to.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What no event may contain: the name and the password of every URL of these tests.
pub(crate) const SECRETS: [&str; 2] = ["n4me", "s3cret"];

/// GStreamer's RTSP server; it ends with this.
pub(crate) struct Server {
    child: Child,
    /// Where it serves, on 127.0.0.1.
    pub(crate) port: u16,
}

impl Server {
    /// Starts `harness/rtsp_server.py`, which says what it serves, with these options.
    pub(crate) fn start(options: &[&str]) -> Server {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/rtsp_server.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("/usr/bin/python3 is there; `make test-deps` installs it");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line
            .trim()
            .strip_prefix("port ")
            .and_then(|port| port.parse().ok());
        let port = port.expect("GStreamer's RTSP server serves; `make test-deps` installs it");
        Server { child, port }
    }

    /// The URL of a path, with a name and a password where `credentials` are given: `name:password`.
    pub(crate) fn url(&self, path: &str, credentials: &str) -> String {
        let at = if credentials.is_empty() { "" } else { "@" };
        format!("rtsp://{credentials}{at}127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A packet as it came out of a lane.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) session: SessionId,
    pub(crate) at: Instant,
    pub(crate) bytes: Vec<u8>,
}

/// Keeps what a lane sends.
#[derive(Clone, Default)]
pub(crate) struct Record {
    sent: Arc<Mutex<Vec<Sent>>>,
    more: Arc<Notify>,
}

impl Outflow for Record {
    fn send(&mut self, _: usize, session: SessionId, at: Instant, packet: &[u8]) -> bool {
        let bytes = packet.to_vec();
        self.sent.lock().unwrap().push(Sent { session, at, bytes });
        true
    }

    fn room(&mut self, _: usize) -> usize {
        usize::MAX
    }

    fn flush(&mut self) {
        self.more.notify_one();
    }
}

impl Record {
    /// RTP packets of an SSRC so far, in order.
    pub(crate) fn packets(&self, ssrc: u32) -> Vec<Vec<u8>> {
        let sent = self.sent.lock().unwrap();
        let of_ssrc = sent.iter().filter(|sent| {
            sent.bytes[8..12] == ssrc.to_be_bytes() && !(200..=204).contains(&sent.bytes[1])
        });
        of_ssrc.map(|sent| sent.bytes.clone()).collect()
    }

    /// Sender reports of an SSRC so far.
    pub(crate) fn reports(&self, ssrc: u32) -> usize {
        let sent = self.sent.lock().unwrap();
        let is_report =
            |sent: &&Sent| sent.bytes[1] == 200 && sent.bytes[4..8] == ssrc.to_be_bytes();
        sent.iter().filter(is_report).count()
    }

    /// How many packets there are of all.
    pub(crate) fn len(&self) -> usize {
        self.sent.lock().unwrap().len()
    }
}

/// A lane with one thread, and what it says.
pub(crate) struct Watched {
    pub(crate) lane: Lane,
    pub(crate) record: Record,
    events: mpsc::Receiver<(CameraId, LaneEvent)>,
}

impl Watched {
    pub(crate) fn start(allowed: &[&str]) -> Watched {
        let record = Record::default();
        let (events, received) = mpsc::channel(10_000);
        let ranges = allowed.iter().map(|range| range.parse().unwrap()).collect();
        let outflows: Vec<Box<dyn Outflow>> = vec![Box::new(record.clone())];
        let lane = Lane::start(Allowed::new(ranges), outflows, &events).unwrap();
        Watched {
            lane,
            record,
            events: received,
        }
    }

    /// Adds a camera of the operator's.
    pub(crate) fn add(&self, camera: u64, spec: CameraSpec) {
        let camera = CameraId(camera);
        self.lane.send(Order::Add { camera, spec });
    }

    /// Wants it, on [`target`].
    pub(crate) fn want(&self, camera: u64) {
        let target = target(camera);
        let camera = CameraId(camera);
        self.lane.send(Order::Want { camera, target });
    }

    /// The next event; none of them has a secret in it.
    pub(crate) async fn next(&mut self) -> (CameraId, LaneEvent) {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        let (camera, event) = event
            .expect("something happens")
            .expect("the lane is there");
        let text = format!("{event:?}");
        for secret in SECRETS {
            assert!(!text.contains(secret), "a secret is told: {text}");
        }
        (camera, event)
    }

    /// The first event of which this makes something.
    pub(crate) async fn until<T>(&mut self, mut wanted: impl FnMut(LaneEvent) -> Option<T>) -> T {
        let all = async {
            loop {
                let (_, event) = self.next().await;
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, all)
            .await
            .expect("it happens in time")
    }

    pub(crate) async fn until_described(
        &mut self,
    ) -> (Vec<Option<Stream>>, Option<Stream>, Vec<String>) {
        self.until(|event| match event {
            LaneEvent::Described {
                video,
                audio,
                remarks,
            } => Some((video, audio, remarks)),
            _ => None,
        })
        .await
    }

    pub(crate) async fn until_state(&mut self, state: &LaneState) {
        self.until(|event| (event == LaneEvent::State(state.clone())).then_some(()))
            .await;
    }

    /// Why it is away.
    pub(crate) async fn until_away(&mut self) -> String {
        self.until(|event| match event {
            LaneEvent::State(LaneState::Away { reason, .. }) => Some(reason),
            _ => None,
        })
        .await
    }

    /// Why it is refused.
    pub(crate) async fn until_refused(&mut self) -> String {
        self.until(|event| match event {
            LaneEvent::State(LaneState::Refused { reason }) => Some(reason),
            _ => None,
        })
        .await
    }

    /// Figures of its first source of which something is true.
    pub(crate) async fn until_figures(
        &mut self,
        mut good: impl FnMut(&Figures) -> bool,
    ) -> Figures {
        self.until(|event| match event {
            LaneEvent::Figures(all) => all.first().copied().filter(&mut good),
            _ => None,
        })
        .await
    }

    /// Waits until so many packets of an SSRC came.
    pub(crate) async fn until_packets(&self, ssrc: u32, count: usize) -> Vec<Vec<u8>> {
        self.until_recorded(|record| record.packets(ssrc).len() >= count)
            .await;
        self.record.packets(ssrc)
    }

    /// Waits until something is true of what was sent.
    pub(crate) async fn until_recorded(&self, is_so: impl Fn(&Record) -> bool) {
        let all = async {
            while !is_so(&self.record) {
                self.record.more.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, all)
            .await
            .expect("packets come");
    }
}

/// A camera with one source.
pub(crate) fn spec(url: &str, transport: Transport) -> CameraSpec {
    CameraSpec {
        sources: vec![CameraSource {
            url: CameraUrl::parse(url).unwrap(),
            rid: None,
        }],
        transport,
        trust: Trust::Operator,
        identity: Identity::Any,
        mode: Mode::OnDemand,
    }
}

/// Where the packets of a camera go: SSRC `1000 * camera` and up for pictures, 9 for its sound.
pub(crate) fn target(camera: u64) -> Target {
    let outlet = |ssrc: u64, payload_type| Outlet {
        ssrc: Ssrc(ssrc as u32),
        payload_type: PayloadType(payload_type),
    };
    Target {
        worker: 0,
        session: SessionId(camera),
        video: (0..3).map(|n| outlet(1_000 * camera + n, 100)).collect(),
        audio: Some(outlet(1_000 * camera + 9, 0)),
    }
}
