//! A camera's packets from a thread of this process to viewers on two workers, over real sockets, on both drivers.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers fail as loudly as the test"
)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use dataplane::command::{
    Command, DtlsRole, DtlsSpec, MediaKind, SessionSpec, SrtpKeys, SrtpProfile,
};
use dataplane::counters::Counters;
use dataplane::driver::{Dataplane, DataplaneConfig, DriverChoice, Feeder};
use dataplane::event::Event;
use dataplane::id::{SenderId, SessionId, TrackId};
use dataplane::limits::{EGRESS_HOLD_DEFAULT, FEED_SLOTS};
use dataplane::wire::{Protocol, classify};
use rtc_shared::marshal::Unmarshal;
use tokio::sync::mpsc::Receiver;
use webrtc_srtp::context::Context;

#[path = "forwarding/camera.rs"]
mod camera;
#[path = "forwarding/world.rs"]
mod world;

use camera::{CAMERA, CAMERA_SSRC, Camera, camera_track, open_commands, sent_payloads};
use world::{check, context, credentials, master, sender, video_feed};

const PATIENCE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "these cameras live in real time")]
fn now() -> Instant {
    Instant::now()
}

/// A viewer with keys that both sides know.
struct Viewer {
    socket: UdpSocket,
    open: Context,
    /// Number and time of the last packet.
    last: Option<(u16, u32)>,
}

/// The running workers, and what they say.
struct Node {
    dataplane: Dataplane,
    events: Receiver<(usize, Event)>,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    fn start(driver: DriverChoice) -> Node {
        let (dataplane, events) = Dataplane::start(DataplaneConfig {
            media: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            workers: 2,
            driver,
            sessions_max: 10,
            publisher_bitrate_bps_max: 1_000_000,
            egress_hold: EGRESS_HOLD_DEFAULT,
            audio_speakers: 0,
            dtls_threads: 1,
            pin: false,
        })
        .unwrap_or_else(|error| panic!("this test needs both drivers: {error}"));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Node {
            dataplane,
            events,
            runtime: runtime.enable_time().build().unwrap(),
        }
    }

    fn command(&self, worker: usize, command: Command) {
        self.dataplane.try_command(worker, command).unwrap();
    }

    /// Waits for something that this worker says.
    fn wait_for<T>(&mut self, worker: usize, mut is_it: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let events = &mut self.events;
            let event = async { tokio::time::timeout(PATIENCE, events.recv()).await };
            let event = self.runtime.block_on(event).expect("an event in time");
            let (from, event) = event.expect("the workers live");
            if from == worker
                && let Some(found) = is_it(&event)
            {
                return found;
            }
        }
    }

    /// Waits until this worker has counted it.
    fn wait_counted(&mut self, worker: usize, mut is_counted: impl FnMut(&Counters) -> bool) {
        self.wait_for(worker, |event| match event {
            Event::Report(report) => is_counted(&report.counters).then_some(()),
            _ => None,
        });
    }

    /// A connected viewer of the camera's picture.
    fn viewer(&mut self, worker: usize, number: u8) -> Viewer {
        let port = self.dataplane.workers()[worker].port;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let session = SessionId(u64::from(number));
        let ice = credentials(u64::from(number), "a");
        let spec = SessionSpec {
            session,
            ice: ice.clone(),
            dtls: DtlsSpec {
                role: DtlsRole::Server,
                fingerprints: Vec::new(),
            },
            cname: "viewer".to_owned(),
        };
        let profile = SrtpProfile::AeadAes128Gcm;
        let [receive, send] = [number, 100 + number].map(|seed| master(seed, profile));
        let keys = Box::new(SrtpKeys {
            profile,
            receive,
            send,
        });
        self.command(worker, Command::Open(Box::new(spec)));
        self.command(worker, Command::DtlsConnected { session, keys });
        socket.send(&check(&ice, 1, true)).unwrap();
        self.wait_for(worker, |event| match event {
            Event::Connected { session: its, .. } if *its == session => Some(()),
            _ => None,
        });
        let number = u64::from(number);
        let mut outgoing = sender(number, MediaKind::Video, true);
        outgoing.extensions.audio_level = None;
        let add = Command::AddSender {
            session,
            sender: Box::new(outgoing),
        };
        self.command(worker, add);
        let feed = Command::Feed {
            sender: SenderId(number),
            source: Some(video_feed(1)),
        };
        self.command(worker, feed);
        Viewer {
            socket,
            open: context(100 + number as u8),
            last: None,
        }
    }
}

impl Viewer {
    /// The next packet of media.
    fn media(&mut self) -> rtp::Packet {
        let mut bytes = vec![0; 2_048];
        loop {
            let len = self.socket.recv(&mut bytes).expect("a packet in time");
            if classify(&bytes[..len]) == Some(Protocol::Rtp) {
                let plain = self.open.decrypt_rtp(&bytes[..len]).unwrap();
                return rtp::Packet::unmarshal(&mut plain.freeze()).unwrap();
            }
        }
    }

    /// Expects these packets of the camera next, with nothing missing between.
    fn expect(&mut self, sent: &[Vec<u8>]) {
        for payload in sent_payloads(sent) {
            let packet = self.media();
            assert_eq!(packet.payload, payload);
            let header = &packet.header;
            if let Some((number, timestamp)) = self.last {
                assert_eq!(header.sequence_number, number.wrapping_add(1));
                assert!(header.timestamp.wrapping_sub(timestamp) <= 3_600);
            }
            self.last = Some((header.sequence_number, header.timestamp));
        }
    }
}

fn send(feeder: &mut Feeder, packets: &[Vec<u8>]) {
    for packet in packets {
        assert!(feeder.send(0, CAMERA, now(), packet));
    }
    feeder.flush();
}

/// A camera on worker 0, seen by viewers on both.
fn camera_is_seen(driver: DriverChoice) {
    let mut node = Node::start(driver);
    let mut feeder = node.dataplane.feeder();
    let mut camera = Camera::new(CAMERA_SSRC);
    for command in open_commands(camera_track(1)) {
        node.command(0, command);
    }
    let (track, from) = (Box::new(camera_track(1)), 0);
    node.command(1, Command::Import { track, from });
    let (track, to) = (TrackId(1), 1);
    node.command(0, Command::Export { track, to });
    let mut near = node.viewer(0, 1);
    let mut far = node.viewer(1, 2);
    let mut group = Vec::new();
    for picture in 0..35 {
        let packets = camera.picture(picture % 10 == 0);
        // From another thread, as a camera's.
        std::thread::scope(|scope| scope.spawn(|| send(&mut feeder, &packets)).join()).unwrap();
        near.expect(&packets);
        far.expect(&packets);
        if picture % 10 == 0 {
            group.clear();
        }
        group.extend(packets);
    }
    // Newcomers do not wait for the next key frame: nothing is sent meanwhile.
    node.viewer(0, 3).expect(&group);
    node.viewer(1, 4).expect(&group);
    worker_restarts(&mut node, &mut feeder, &mut camera);
    queue_is_full(&mut node, &mut feeder, &mut camera);
    node.dataplane.shutdown();
}

/// The worker fails and starts again: its queues are still there, and what names the sessions of before is counted.
fn worker_restarts(node: &mut Node, feeder: &mut Feeder, camera: &mut Camera) {
    node.dataplane.faults(0).panic_next_turn();
    send(feeder, &camera.picture(false));
    node.wait_for(0, |event| {
        matches!(event, Event::WorkerRestarted).then_some(())
    });
    node.command(0, Command::AfterRestart);
    send(feeder, &camera.picture(false));
    node.wait_counted(0, |counters| counters.drop_feed_unknown >= 3);
    for command in open_commands(camera_track(1)) {
        node.command(0, command);
    }
    let mut again = node.viewer(0, 5);
    let packets = camera.picture(true);
    send(feeder, &packets);
    again.expect(&packets);
}

/// More than the queue holds is lost, and counted; the rest goes on.
fn queue_is_full(node: &mut Node, feeder: &mut Feeder, camera: &mut Camera) {
    let faults = node.dataplane.faults(0);
    // It is busy with what it sends, and does not look at its queue meanwhile.
    faults.slow_sends(Duration::from_millis(500));
    send(feeder, &camera.picture(false));
    let packet = camera.picture(false).remove(0);
    let lost = (0..100 * FEED_SLOTS).any(|_| !feeder.send(0, CAMERA, now(), &packet));
    assert!(lost, "a queue without a bound");
    faults.slow_sends(Duration::ZERO);
    let counted = |feeder: &mut Feeder| feeder.send(0, CAMERA, now(), &packet);
    while !counted(feeder) {
        std::thread::yield_now();
    }
    feeder.flush();
    node.wait_counted(0, |counters| counters.drop_feed_queue_full > 0);
}

#[test]
fn a_camera_is_seen_on_two_workers_on_io_uring() {
    camera_is_seen(DriverChoice::Uring);
}

#[test]
fn a_camera_is_seen_on_two_workers_on_plain_sockets() {
    camera_is_seen(DriverChoice::Msg);
}
