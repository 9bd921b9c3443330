//! A thousand sessions go on in other workers, over the same sockets, on both drivers: no packet is lost, none
//! comes twice, and no index of a key is used again, also where the first attempt fails.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers fail as loudly as the test"
)]

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dataplane::command::{
    Command, DtlsRole, DtlsSpec, Feed, MasterKey, MediaKind, SenderFormat, SessionSpec, SrtpKeys,
    SrtpProfile,
};
use dataplane::driver::{Dataplane, DataplaneConfig, DriverChoice, Handover, Heir, StartError};
use dataplane::event::Event;
use dataplane::id::{PayloadType, SenderId, SessionId, TrackId};
use dataplane::limits::EGRESS_HOLD_DEFAULT;
use dataplane::wire::{Protocol, classify};
use rtc_shared::marshal::Unmarshal;
use tokio::sync::mpsc::Receiver;
use webrtc_srtp::context::Context;

#[path = "forwarding/world.rs"]
mod world;

use world::{Media, PUBLISHER_MID_ID, audio_track, check, context, credentials, sender};

const PATIENCE: Duration = Duration::from_secs(20);
const WORKERS: usize = 2;
const PUBLISHERS: u64 = 10;
const SESSIONS: u64 = 1_000;

/// Between two packets of a publisher.
const INTERVAL: Duration = Duration::from_millis(20);

/// A gap in which something else than the machine is slow. What viewers are promised is a tenth of it, and depends on
/// the machine: `make take-over` measures that.
const GAP_MAX: Duration = Duration::from_secs(1);

/// How often the workers are taken over: a machine that is busy with something else makes some of the gaps longer,
/// and none shorter.
const TAKE_OVERS: usize = 4;

#[expect(clippy::disallowed_methods, reason = "these clients live in real time")]
fn now() -> Instant {
    Instant::now()
}

fn config(driver: DriverChoice, workers: usize) -> DataplaneConfig {
    DataplaneConfig {
        media: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        workers,
        driver,
        sessions_max: SESSIONS as usize,
        publisher_bitrate_bps_max: 1_000_000,
        egress_hold: EGRESS_HOLD_DEFAULT,
        audio_speakers: 0,
        dtls_threads: 1,
        pin: false,
    }
}

/// A client with keys that both sides know.
struct Client {
    socket: UdpSocket,
    seal: Context,
    open: Context,
    /// The number of the next packet of media here, as its publisher counts.
    next: u16,
    media: HashSet<(u32, u16)>,
    control: HashSet<u32>,
    heard_at: Option<Instant>,
    gap_max: Duration,
}

impl Client {
    fn connect(dataplane: &Dataplane, worker: usize, number: u64) -> Client {
        let port = dataplane.workers()[worker].port;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (session, ice) = (SessionId(number), credentials(number, "a"));
        let spec = SessionSpec {
            session,
            ice: ice.clone(),
            dtls: DtlsSpec {
                role: DtlsRole::Server,
                fingerprints: Vec::new(),
            },
            cname: "peer".to_owned(),
        };
        let seed = (number % 100) as u8;
        let [receive, send] = [seed, 100 + seed].map(|seed| MasterKey {
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
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = [0; 2_048];
        let len = socket.recv(&mut answer).expect("an answer in time");
        assert_eq!(classify(&answer[..len]), Some(Protocol::Stun));
        socket.set_nonblocking(true).unwrap();
        Client {
            socket,
            seal: context(seed),
            open: context(100 + seed),
            next: 0,
            media: HashSet::new(),
            control: HashSet::new(),
            heard_at: None,
            gap_max: Duration::ZERO,
        }
    }

    /// Takes what has arrived.
    fn take(&mut self) {
        let mut bytes = [0; 2_048];
        while let Ok(len) = self.socket.recv(&mut bytes) {
            let datagram = &bytes[..len];
            match classify(datagram) {
                Some(Protocol::Rtp) => self.take_media(datagram),
                Some(Protocol::Rtcp) => {
                    // RFC 7714 section 9.2: the index comes last.
                    let index = u32::from_be_bytes(*datagram.last_chunk().unwrap());
                    assert!(self.control.insert(index), "{index:x} was used again");
                    self.open.decrypt_rtcp(datagram).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn take_media(&mut self, datagram: &[u8]) {
        let plain = self.open.decrypt_rtp(datagram).unwrap();
        let packet = rtp::Packet::unmarshal(&mut plain.freeze()).unwrap();
        let (ssrc, sequence) = (packet.header.ssrc, packet.header.sequence_number);
        assert!(
            self.media.insert((ssrc, sequence)),
            "{sequence} was used again"
        );
        assert_eq!(packet.payload, body(self.next), "nothing is lost or moved");
        self.next = self.next.wrapping_add(1);
        let now = now();
        if let Some(before) = self.heard_at.replace(now) {
            self.gap_max = self.gap_max.max(now - before);
        }
    }
}

/// What the packet with this number carries.
fn body(number: u16) -> Vec<u8> {
    number.to_be_bytes().repeat(200)
}

/// Voices are left out last where a machine is too busy, so that no packet may be missing here.
fn voice(ssrc: u32, sequence: u16, payload: &[u8]) -> Media<'_> {
    Media {
        ssrc,
        payload_type: 111,
        sequence,
        timestamp: u32::from(sequence) * 960,
        marker: false,
        extensions: &[(PUBLISHER_MID_ID, b"a")],
        payload,
    }
}

fn feed(track: u64) -> Feed {
    let format = SenderFormat {
        payload_type: PayloadType(100),
        rtx: None,
        red: None,
    };
    Feed {
        track: TrackId(track),
        payload_types: vec![Some(format), None],
    }
}

fn command(dataplane: &Dataplane, worker: usize, mut command: Command) {
    let until = now() + PATIENCE;
    while let Err(full) = dataplane.try_command(worker, command) {
        assert!(now() < until, "the worker takes no commands");
        command = *full.0;
        std::thread::yield_now();
    }
}

/// Publishers on both workers, and for each of them viewers on both.
struct Crowd {
    publishers: Vec<Client>,
    viewers: Vec<Client>,
    sent: u16,
}

impl Crowd {
    fn gather(dataplane: &Dataplane, events: &mut Receiver<(usize, Event)>) -> Crowd {
        let mut publishers = Vec::new();
        for number in 1..=PUBLISHERS {
            let worker = number as usize % WORKERS;
            publishers.push(Client::connect(dataplane, worker, number));
            let track = Box::new(audio_track(number));
            let session = SessionId(number);
            command(dataplane, worker, Command::Publish { session, track });
            let (track, to) = (TrackId(number), 1 - worker);
            command(dataplane, worker, Command::Export { track, to });
            let track = Box::new(audio_track(number));
            command(
                dataplane,
                to,
                Command::Import {
                    track,
                    from: worker,
                },
            );
        }
        let mut viewers = Vec::new();
        for number in PUBLISHERS + 1..=SESSIONS {
            let worker = (number / PUBLISHERS) as usize % WORKERS;
            viewers.push(Client::connect(dataplane, worker, number));
            let session = SessionId(number);
            let sender = Box::new(sender(number, MediaKind::Audio, false));
            command(dataplane, worker, Command::AddSender { session, sender });
            let feed = Command::Feed {
                sender: SenderId(number),
                source: Some(feed(1 + number % PUBLISHERS)),
            };
            command(dataplane, worker, feed);
        }
        wait_for(events, SESSIONS);
        Crowd {
            publishers,
            viewers,
            sent: 0,
        }
    }

    /// Media flows while `act` runs, and for some packets before and after it. Every viewer has got everything then.
    fn flow<T: Send>(&mut self, act: impl FnOnce() -> T + Send) -> T {
        let Crowd {
            publishers,
            viewers,
            sent,
        } = self;
        for viewer in viewers.iter_mut() {
            (viewer.heard_at, viewer.gap_max) = (None, Duration::ZERO);
        }
        let is_over = AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            scope.spawn(|| send(publishers, sent, &is_over));
            let (done, is_done) = std::sync::mpsc::channel();
            let acting = scope.spawn(move || {
                std::thread::park_timeout(5 * INTERVAL);
                let result = act();
                std::thread::park_timeout(5 * INTERVAL);
                let _ = done.send(());
                result
            });
            // An act that panics drops its end.
            while is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                viewers.iter_mut().for_each(Client::take);
                // The workers want these cores too.
                std::thread::park_timeout(Duration::from_millis(2));
            }
            is_over.store(true, Ordering::Relaxed);
            acting.join().unwrap()
        });
        let until = now() + PATIENCE;
        while viewers.iter().any(|viewer| viewer.next != *sent) {
            let behind = || viewers.iter().map(|viewer| viewer.next).min();
            assert!(now() < until, "of {sent} {:?} arrived", behind());
            viewers.iter_mut().for_each(Client::take);
        }
        result
    }

    /// How much longer than usual a viewer waited for a packet.
    fn gap(&self) -> Duration {
        let longest = self.viewers.iter().map(|viewer| viewer.gap_max).max();
        longest.unwrap_or_default().saturating_sub(INTERVAL)
    }
}

/// Every publisher sends a packet after each interval.
fn send(publishers: &mut [Client], sent: &mut u16, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        for (publisher, ssrc) in publishers.iter_mut().zip(1..) {
            let body = body(*sent);
            let packet = voice(ssrc, *sent, &body).packet();
            let sealed = publisher.seal.encrypt_rtp(&packet).unwrap();
            publisher.socket.send(&sealed).unwrap();
        }
        *sent = sent.wrapping_add(1);
        std::thread::park_timeout(INTERVAL);
    }
}

fn wait_for(events: &mut Receiver<(usize, Event)>, sessions: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut connected = 0;
    while connected < sessions {
        let event = async { tokio::time::timeout(PATIENCE, events.recv()).await };
        let event = runtime.block_on(event).expect("an event in time");
        let (_, event) = event.expect("the workers live");
        connected += u64::from(matches!(event, Event::Connected { .. }));
    }
}

/// What was handed over, as the other process reads it, with one engine's state cut short by so many bytes.
fn carried(handover: &Handover, cut: usize) -> Handover {
    let mut engines = handover.engines().to_vec();
    let len = engines[1].len();
    engines[1].truncate(len - cut);
    Handover::decode(&handover.encode(), engines).unwrap()
}

/// An attempt that fails: the workers go on.
fn fail(dataplane: &mut Dataplane, driver: DriverChoice) {
    let frozen = dataplane.freeze().unwrap();
    let sockets = || dataplane.share_sockets().unwrap();
    let torn = carried(&frozen.handover, 9);
    let refused = Heir::prepare(config(driver, WORKERS), sockets(), torn);
    assert!(
        matches!(refused, Err(StartError::Restore(_))),
        "{refused:?}"
    );
    let other = carried(&frozen.handover, 0);
    let refused = Heir::prepare(config(driver, WORKERS + 1), sockets(), other);
    assert!(matches!(refused, Err(StartError::OtherWorkers { .. })));
    // One that could be run, but dies before it is.
    let whole = carried(&frozen.handover, 0);
    drop(Heir::prepare(config(driver, WORKERS), sockets(), whole).unwrap());
    frozen.resume();
}

type Running = (Dataplane, Receiver<(usize, Event)>);

fn succeed(dataplane: &mut Dataplane, driver: DriverChoice) -> Running {
    let sockets = dataplane.share_sockets().unwrap();
    let frozen = dataplane.freeze().unwrap();
    let whole = carried(&frozen.handover, 0);
    let heir = Heir::prepare(config(driver, WORKERS), sockets, whole).unwrap();
    let sessions: usize = heir.sessions().iter().map(Vec::len).sum();
    assert_eq!(sessions as u64, SESSIONS);
    assert_eq!(heir.fingerprint(), dataplane.fingerprint());
    frozen.end();
    heir.start().unwrap()
}

fn a_thousand_sessions(driver: DriverChoice) {
    let started = Dataplane::start(config(driver, WORKERS));
    let (mut dataplane, mut events) =
        started.unwrap_or_else(|error| panic!("this test needs both drivers: {error}"));
    let mut crowd = Crowd::gather(&dataplane, &mut events);
    let running = &mut dataplane;
    crowd.flow(move || fail(running, driver));
    let mut gaps = Vec::new();
    for _ in 0..TAKE_OVERS {
        let running = &mut dataplane;
        let (next, said) = crowd.flow(move || succeed(running, driver));
        std::mem::replace(&mut dataplane, next).shutdown();
        events = said;
        gaps.push(crowd.gap());
    }
    drop(events);
    dataplane.shutdown();
    println!("{driver}: {gaps:?}");
    assert!(gaps.iter().any(|gap| *gap < GAP_MAX), "{gaps:?}");
}

#[test]
fn a_thousand_sessions_go_on_on_io_uring() {
    a_thousand_sessions(DriverChoice::Uring);
}

#[test]
fn a_thousand_sessions_go_on_on_plain_sockets() {
    a_thousand_sessions(DriverChoice::Msg);
}
