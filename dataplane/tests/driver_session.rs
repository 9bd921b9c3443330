//! A session over real sockets: a check, the DTLS handshake, and the end, on both drivers and over
//! both transports; and what becomes of sessions whose worker fails, or is sent ClientHellos without end.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers fail as loudly as the test"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use dataplane::command::{Command, DtlsRole, DtlsSpec, Fingerprint, IceSpec, SessionSpec};
use dataplane::driver::{Dataplane, DataplaneConfig, DriverChoice};
use dataplane::dtls::{Association, AssociationEvent, Certificate};
use dataplane::event::{CloseReason, Event};
use dataplane::id::SessionId;
use dataplane::limits::EGRESS_HOLD_DEFAULT;
use dataplane::transmit::Transport;
use rtc_crypto::providers::AwsLcRsCrypto;
use stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute,
};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, Setter, TransactionId};
use stun::xoraddr::XorMappedAddress;
use tokio::sync::mpsc::Receiver;

const PATIENCE: Duration = Duration::from_secs(10);
const SESSION: SessionId = SessionId(1);
const PWD: &str = "a password of 22 chars or more";

/// A client's connection to the worker.
enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Wire {
    fn new(transport: &str, server: SocketAddr) -> Wire {
        match transport {
            "udp" => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                socket.connect(server).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                Wire::Udp(socket)
            }
            _ => {
                let stream = TcpStream::connect(server).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Wire::Tcp(stream)
            }
        }
    }

    fn local(&self) -> SocketAddr {
        match self {
            Wire::Udp(socket) => socket.local_addr().unwrap(),
            Wire::Tcp(stream) => stream.local_addr().unwrap(),
        }
    }

    fn send(&mut self, packet: &[u8]) {
        match self {
            Wire::Udp(socket) => assert_eq!(socket.send(packet).unwrap(), packet.len()),
            Wire::Tcp(stream) => {
                let framed = [&(packet.len() as u16).to_be_bytes(), packet].concat();
                stream.write_all(&framed).unwrap();
            }
        }
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2048];
        let len = match self {
            Wire::Udp(socket) => socket.recv(&mut packet).expect("a packet in time"),
            Wire::Tcp(stream) => {
                let mut length = [0; 2];
                stream.read_exact(&mut length).expect("a packet in time");
                let len = usize::from(u16::from_be_bytes(length));
                stream.read_exact(&mut packet[..len]).unwrap();
                len
            }
        };
        packet.truncate(len);
        packet
    }
}

/// A check for the session, by the name that our side of it has.
fn check(session: SessionId) -> Vec<u8> {
    let username = format!("{}:peer", ufrag(session));
    let attribute = |typ, value: &[u8]| RawAttribute {
        typ,
        length: value.len() as u16,
        value: value.to_vec(),
    };
    let mut message = Message::new();
    message
        .build(&[
            Box::new(TransactionId::new()),
            Box::new(BINDING_REQUEST),
            Box::new(attribute(ATTR_USERNAME, username.as_bytes())),
            Box::new(attribute(ATTR_PRIORITY, &1_u32.to_be_bytes())),
            Box::new(attribute(ATTR_ICE_CONTROLLING, &7_u64.to_be_bytes())),
            Box::new(attribute(ATTR_USE_CANDIDATE, &[])),
        ])
        .unwrap();
    MessageIntegrity::new_short_term_integrity_with_provider(PWD.to_owned(), &AwsLcRsCrypto)
        .add_to(&mut message)
        .unwrap();
    FINGERPRINT.add_to(&mut message).unwrap();
    message.raw
}

/// The next event that is no report, and whose it is.
fn next_event(events: &mut Receiver<(usize, Event)>) -> (usize, Event) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        loop {
            let event = tokio::time::timeout(PATIENCE, events.recv()).await;
            match event.expect("an event in time").expect("the worker lives") {
                (_, Event::Report(_)) => {}
                event => return event,
            }
        }
    })
}

/// What happens next is that this session connects.
fn assert_connects(events: &mut Receiver<(usize, Event)>, session: SessionId) {
    let (_, connected) = next_event(events);
    assert!(
        matches!(connected, Event::Connected { session: its, .. } if its == session),
        "{session:?}: {connected:?}"
    );
}

#[expect(clippy::disallowed_methods, reason = "this client lives in real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this client lives in real time")]
fn rest() {
    thread::sleep(Duration::from_millis(1));
}

fn ufrag(session: SessionId) -> String {
    format!("node{}", session.0)
}

fn spec(session: SessionId, peer: &Certificate) -> SessionSpec {
    SessionSpec {
        session,
        ice: IceSpec {
            local_ufrag: ufrag(session),
            local_pwd: PWD.to_owned(),
            remote_ufrag: "peer".to_owned(),
        },
        dtls: DtlsSpec {
            role: DtlsRole::Server,
            fingerprints: vec![Fingerprint::Sha256(peer.fingerprint())],
        },
        cname: "peer".to_owned(),
    }
}

fn start(driver: DriverChoice, workers: usize) -> (Dataplane, Receiver<(usize, Event)>) {
    Dataplane::start(DataplaneConfig {
        media: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        workers,
        driver,
        sessions_max: 10,
        publisher_bitrate_bps_max: 1_000_000,
        egress_hold: EGRESS_HOLD_DEFAULT,
        audio_speakers: 0,
        dtls_threads: 1,
        pin: false,
    })
    .unwrap_or_else(|error| panic!("this test needs both drivers: {error}"))
}

/// A client of the worker.
struct Client {
    session: SessionId,
    wire: Wire,
    dtls: Association,
}

impl Client {
    /// One whose address is proven, and whose handshake has not begun.
    fn open(dataplane: &Dataplane, worker: usize, session: SessionId, over: &str) -> Client {
        let port = dataplane.workers()[worker].port;
        let own = Certificate::generate().unwrap();
        let open = Command::Open(Box::new(spec(session, &own)));
        dataplane.try_command(worker, open).unwrap();
        let server = DtlsSpec {
            role: DtlsRole::Client,
            fingerprints: vec![Fingerprint::Sha256(dataplane.fingerprint_of(session))],
        };
        let mut client = Client {
            session,
            wire: Wire::new(over, SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            dtls: Association::new(now(), &own, server),
        };
        // The worker takes commands before packets, so the check finds its session.
        client.check();
        client
    }

    /// One whose session is up.
    fn connect(dataplane: &Dataplane, worker: usize, session: SessionId, over: &str) -> Client {
        let mut client = Client::open(dataplane, worker, session, over);
        loop {
            client.flush();
            match client.dtls.poll_event() {
                Some(AssociationEvent::Connected(_)) => return client,
                Some(AssociationEvent::Closed(reason)) => panic!("session {session:?}: {reason}"),
                None => {
                    let datagram = client.wire.receive();
                    client.dtls.handle_datagram(now(), &datagram);
                }
            }
        }
    }

    /// One check, which is answered.
    fn check(&mut self) {
        self.wire.send(&check(self.session));
        let mut answer = Message::new();
        answer.unmarshal_binary(&self.wire.receive()).unwrap();
        assert_eq!(answer.typ, BINDING_SUCCESS);
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&answer).unwrap();
        assert_eq!(SocketAddr::new(mapped.ip, mapped.port), self.wire.local());
    }

    fn flush(&mut self) {
        while let Some(datagram) = self.dtls.poll_transmit() {
            self.wire.send(&datagram);
        }
    }
}

fn session_over(driver: DriverChoice, transport: &str) {
    let (dataplane, mut events) = start(driver, 1);
    let mut client = Client::connect(&dataplane, 0, SESSION, transport);
    match next_event(&mut events) {
        (
            0,
            Event::Connected {
                session,
                remote,
                transport: connected,
            },
        ) => {
            assert_eq!((session, remote), (SESSION, client.wire.local()));
            assert_eq!(connected == Transport::Udp, transport == "udp");
        }
        other => panic!("{driver} over {transport}: {other:?}"),
    }

    client.dtls.handle_close(now());
    client.flush();
    let reason = CloseReason::PeerClosed;
    let closed = Event::Closed {
        session: SESSION,
        reason,
    };
    assert_eq!(next_event(&mut events), (0, closed));
    dataplane.shutdown();
}

#[test]
fn a_client_connects_and_leaves_over_udp_and_io_uring() {
    session_over(DriverChoice::Uring, "udp");
}

#[test]
fn a_client_connects_and_leaves_over_udp_and_plain_sockets() {
    session_over(DriverChoice::Msg, "udp");
}

#[test]
fn a_client_connects_and_leaves_over_tcp_and_io_uring() {
    session_over(DriverChoice::Uring, "tcp");
}

#[test]
fn a_client_connects_and_leaves_over_tcp_and_plain_sockets() {
    session_over(DriverChoice::Msg, "tcp");
}

/// Somebody whose address is proven sends five ClientHellos each millisecond, and nothing else.
fn hellos_without_end(driver: DriverChoice) {
    let (dataplane, mut events) = start(driver, 1);
    let mut there = Client::connect(&dataplane, 0, SessionId(1), "udp");
    let mut flooder = Client::open(&dataplane, 0, SessionId(2), "udp");
    let hello = flooder.dtls.poll_transmit().unwrap();
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for _ in 0..1_000 {
                for _ in 0..5 {
                    flooder.wire.send(&hello);
                }
                rest();
            }
        });
        let mut newcomers = Vec::new();
        while !flood.is_finished() {
            // Who is there is answered, and who comes gets keys.
            there.check();
            if newcomers.len() < 5 {
                let session = SessionId(3 + newcomers.len() as u64);
                newcomers.push(Client::connect(&dataplane, 0, session, "udp"));
            }
        }
        assert_eq!(newcomers.len(), 5, "{driver}");
    });
    for session in [1, 3, 4, 5, 6, 7] {
        assert_connects(&mut events, SessionId(session));
    }
    dataplane.shutdown();
}

#[test]
fn t_20_hellos_without_end_keep_nobody_out_on_io_uring() {
    hellos_without_end(DriverChoice::Uring);
}

#[test]
fn t_20_hellos_without_end_keep_nobody_out_on_plain_sockets() {
    hellos_without_end(DriverChoice::Msg);
}

#[test]
fn after_a_renewal_old_sessions_go_on_and_new_ones_have_the_new_certificate() {
    let (dataplane, mut events) = start(DriverChoice::Msg, 1);
    let first = dataplane.fingerprint();
    let mut before = Client::connect(&dataplane, 0, SessionId(1), "udp");
    let second = dataplane.renew_certificate(SessionId(10)).unwrap();
    assert_ne!(first, second);
    // One that was made before the renewal, and whose client is only here now; one made after.
    let late = Client::connect(&dataplane, 0, SessionId(9), "udp");
    let after = Client::connect(&dataplane, 0, SessionId(10), "udp");
    let has = [1, 9, 10].map(|session| dataplane.fingerprint_of(SessionId(session)));
    assert_eq!(has, [first, first, second]);
    assert_eq!(dataplane.fingerprint(), second);
    before.check();
    for client in [before, late, after] {
        assert_connects(&mut events, client.session);
    }
    dataplane.shutdown();
}

/// Worker 0 fails with a session on it, while another session is on worker 1.
fn worker_fails(driver: DriverChoice) {
    let (dataplane, mut events) = start(driver, 2);
    let connected = |events: &mut Receiver<(usize, Event)>| {
        let event = next_event(events);
        assert!(matches!(event.1, Event::Connected { .. }), "{event:?}");
        event.0
    };
    let mut lost = Client::connect(&dataplane, 0, SessionId(1), "udp");
    let mut other = Client::connect(&dataplane, 1, SessionId(2), "udp");
    let _ = (connected(&mut events), connected(&mut events));
    dataplane.faults(0).panic_next_turn();
    lost.wire.send(&check(lost.session));
    assert_eq!(next_event(&mut events), (0, Event::WorkerRestarted));
    other.check();
    // A new engine on the same socket: it takes who comes..
    dataplane.try_command(0, Command::AfterRestart).unwrap();
    drop(Client::connect(&dataplane, 0, SessionId(3), "udp"));
    assert_eq!(connected(&mut events), 0, "{driver}");
    drop(Client::connect(&dataplane, 0, SessionId(4), "tcp"));
    assert_eq!(connected(&mut events), 0, "{driver}");
    // ..and does not know who was there.
    lost.wire.send(&check(lost.session));
    other.check();
    other.dtls.handle_close(now());
    other.flush();
    let closed = Event::Closed {
        session: other.session,
        reason: CloseReason::PeerClosed,
    };
    assert_eq!(next_event(&mut events), (1, closed));
    let unanswered = Client::connect(&dataplane, 0, SessionId(5), "udp");
    assert_eq!(connected(&mut events), 0);
    if let Wire::Udp(socket) = &lost.wire {
        // What came before `unanswered` was answered was answered, if at all.
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 2048]).is_err(), "{driver}");
    }
    drop(unanswered);
    dataplane.shutdown();
}

#[test]
fn t_33_a_failed_worker_takes_new_sessions_on_io_uring() {
    worker_fails(DriverChoice::Uring);
}

#[test]
fn t_33_a_failed_worker_takes_new_sessions_on_plain_sockets() {
    worker_fails(DriverChoice::Msg);
}
