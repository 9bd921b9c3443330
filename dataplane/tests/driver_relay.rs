//! A track that is published on one worker and watched on another, over real sockets, on both drivers.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers fail as loudly as the test"
)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use dataplane::command::{
    Command, DtlsRole, DtlsSpec, MasterKey, MediaKind, SessionSpec, SrtpKeys, SrtpProfile,
};
use dataplane::driver::{Dataplane, DataplaneConfig, DriverChoice};
use dataplane::event::Event;
use dataplane::id::{SenderId, SessionId, TrackId};
use dataplane::limits::EGRESS_HOLD_DEFAULT;
use dataplane::wire::{Protocol, classify};
use rtc_shared::marshal::Unmarshal;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use tokio::sync::mpsc::Receiver;
use webrtc_srtp::context::Context;

#[path = "forwarding/world.rs"]
mod world;

use world::{check, context, credentials, of_kind, sender, video, video_feed, video_track};

const PATIENCE: Duration = Duration::from_secs(10);

/// Packets that are on their way at once: few enough for any socket buffer.
const WINDOW: u16 = 30;

/// A client with keys that both sides know.
struct Client {
    session: SessionId,
    socket: UdpSocket,
    seal: Context,
    open: Context,
}

impl Client {
    /// Connects a client to a worker.
    fn connect(dataplane: &Dataplane, worker: usize, number: u8) -> Client {
        let port = dataplane.workers()[worker].port;
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
            cname: "peer".to_owned(),
        };
        let [receive, send] = [number, 100 + number].map(|seed| MasterKey {
            key: vec![seed; 16],
            salt: vec![seed ^ 0xff; 12],
        });
        let keys = Box::new(SrtpKeys {
            profile: SrtpProfile::AeadAes128Gcm,
            receive,
            send,
        });
        command(dataplane, worker, Command::Open(Box::new(spec)));
        command(dataplane, worker, Command::DtlsConnected { session, keys });
        socket.send(&check(&ice, 1, true)).unwrap();
        let client = Client {
            session,
            socket,
            seal: context(number),
            open: context(100 + number),
        };
        assert_eq!(classify(&client.receive()), Some(Protocol::Stun));
        client
    }

    fn receive(&self) -> Vec<u8> {
        let mut bytes = vec![0; 2_048];
        let len = self.socket.recv(&mut bytes).expect("a packet in time");
        bytes.truncate(len);
        bytes
    }

    /// The next packet of media.
    fn media(&mut self) -> rtp::Packet {
        loop {
            let packet = self.receive();
            if classify(&packet) == Some(Protocol::Rtp) {
                let plain = self.open.decrypt_rtp(&packet).unwrap();
                return rtp::Packet::unmarshal(&mut plain.freeze()).unwrap();
            }
        }
    }

    /// Waits for a request for a key frame.
    fn keyframe_request(&mut self) -> PictureLossIndication {
        loop {
            let packet = self.receive();
            if classify(&packet) != Some(Protocol::Rtcp) {
                continue;
            }
            let plain = self.open.decrypt_rtcp(&packet).unwrap();
            let packets = rtcp::packet::unmarshal(&mut plain.freeze()).unwrap();
            if let Some(request) = of_kind(&packets).pop() {
                return request;
            }
        }
    }
}

fn command(dataplane: &Dataplane, worker: usize, command: Command) {
    dataplane.try_command(worker, command).unwrap();
}

/// Waits until both sessions are up.
fn wait_for_both(events: &mut Receiver<(usize, Event)>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut connected = 0;
    while connected < 2 {
        let event = async { tokio::time::timeout(PATIENCE, events.recv()).await };
        let event = runtime.block_on(event).expect("an event in time");
        let (_, event) = event.expect("the workers live");
        connected += usize::from(matches!(event, Event::Connected { .. }));
    }
}

/// A publisher on worker 0 and a subscriber on worker 1.
fn pair(dataplane: &Dataplane, events: &mut Receiver<(usize, Event)>) -> (Client, Client) {
    let publisher = Client::connect(dataplane, 0, 1);
    let subscriber = Client::connect(dataplane, 1, 2);
    wait_for_both(events);
    let track = TrackId(1);
    let publish = Command::Publish {
        session: publisher.session,
        track: Box::new(video_track(1)),
    };
    command(dataplane, 0, publish);
    command(dataplane, 0, Command::Export { track, to: 1 });
    let import = Command::Import {
        track: Box::new(video_track(1)),
        from: 0,
    };
    command(dataplane, 1, import);
    let add = Command::AddSender {
        session: subscriber.session,
        sender: Box::new(sender(2, MediaKind::Video, true)),
    };
    command(dataplane, 1, add);
    let feed = Command::Feed {
        sender: SenderId(2),
        source: Some(video_feed(1)),
    };
    command(dataplane, 1, feed);
    (publisher, subscriber)
}

fn watched_from_another_worker(driver: DriverChoice) {
    let (dataplane, mut events) = Dataplane::start(DataplaneConfig {
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
    let (mut publisher, mut subscriber) = pair(&dataplane, &mut events);
    for window in 0..20 {
        let numbers = window * WINDOW..(window + 1) * WINDOW;
        for sequence in numbers.clone() {
            let body = sequence.to_be_bytes().repeat(500);
            let packet = video(7, sequence, &body).packet();
            let sealed = publisher.seal.encrypt_rtp(&packet).unwrap();
            publisher.socket.send(&sealed).unwrap();
        }
        for sequence in numbers {
            let packet = subscriber.media();
            let body = sequence.to_be_bytes().repeat(500);
            assert_eq!(packet.payload, body, "{driver}");
        }
    }
    let request = PictureLossIndication {
        sender_ssrc: 1,
        media_ssrc: 0x5002,
    };
    let plain = rtcp::packet::marshal(&[Box::new(request)]).unwrap();
    let sealed = subscriber.seal.encrypt_rtcp(&plain).unwrap();
    subscriber.socket.send(&sealed).unwrap();
    assert_eq!(publisher.keyframe_request().media_ssrc, 7, "{driver}");
    dataplane.shutdown();
}

#[test]
fn media_and_requests_cross_workers_on_io_uring() {
    watched_from_another_worker(DriverChoice::Uring);
}

#[test]
fn media_and_requests_cross_workers_on_plain_sockets() {
    watched_from_another_worker(DriverChoice::Msg);
}
