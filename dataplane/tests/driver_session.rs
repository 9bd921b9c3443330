//! A session over real sockets: a check, the DTLS handshake, and the end, on both drivers and over
//! both transports.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers fail as loudly as the test"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
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

fn check() -> Vec<u8> {
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
            Box::new(attribute(ATTR_USERNAME, b"node:peer")),
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

fn next_event(events: &mut Receiver<(usize, Event)>) -> Event {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        loop {
            let event = tokio::time::timeout(PATIENCE, events.recv()).await;
            match event.expect("an event in time").expect("the worker lives") {
                (0, Event::Report(_)) => {}
                (0, event) => return event,
                (worker, event) => panic!("there is no worker {worker}: {event:?}"),
            }
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "this client lives in real time")]
fn now() -> Instant {
    Instant::now()
}

fn spec(peer: &Certificate) -> SessionSpec {
    SessionSpec {
        session: SESSION,
        ice: IceSpec {
            local_ufrag: "node".to_owned(),
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

fn session_over(driver: DriverChoice, transport: &str) {
    let (dataplane, mut events) = Dataplane::start(DataplaneConfig {
        media: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        workers: 1,
        driver,
        sessions_max: 10,
        publisher_bitrate_bps_max: 1_000_000,
        egress_hold: EGRESS_HOLD_DEFAULT,
        audio_speakers: 0,
        dtls_threads: 1,
        pin: false,
    })
    .unwrap_or_else(|error| panic!("this test needs both drivers: {error}"));
    let port = dataplane.workers()[0].port;
    let mut wire = Wire::new(transport, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let own = Certificate::generate().unwrap();
    dataplane
        .try_command(0, Command::Open(Box::new(spec(&own))))
        .unwrap();

    // The worker takes commands before packets, so the check finds its session.
    wire.send(&check());
    let mut answer = Message::new();
    answer.unmarshal_binary(&wire.receive()).unwrap();
    assert_eq!(answer.typ, BINDING_SUCCESS);
    let mut mapped = XorMappedAddress::default();
    mapped.get_from(&answer).unwrap();
    assert_eq!(SocketAddr::new(mapped.ip, mapped.port), wire.local());

    let server = DtlsSpec {
        role: DtlsRole::Client,
        fingerprints: vec![Fingerprint::Sha256(dataplane.fingerprint())],
    };
    let mut client = Association::new(now(), &own, server);
    loop {
        while let Some(datagram) = client.poll_transmit() {
            wire.send(&datagram);
        }
        match client.poll_event() {
            Some(AssociationEvent::Connected(_)) => break,
            Some(AssociationEvent::Closed(reason)) => panic!("{driver} over {transport}: {reason}"),
            None => client.handle_datagram(now(), &wire.receive()),
        }
    }
    match next_event(&mut events) {
        Event::Connected {
            session,
            remote,
            transport: connected,
        } => {
            assert_eq!((session, remote), (SESSION, wire.local()));
            assert_eq!(connected == Transport::Udp, transport == "udp");
        }
        other => panic!("{driver} over {transport}: {other:?}"),
    }

    client.handle_close(now());
    while let Some(datagram) = client.poll_transmit() {
        wire.send(&datagram);
    }
    let reason = CloseReason::PeerClosed;
    assert_eq!(
        next_event(&mut events),
        Event::Closed {
            session: SESSION,
            reason
        }
    );
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
