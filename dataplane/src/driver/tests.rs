//! Workers over loopback, each test on both drivers, with an engine that echoes.

mod faults;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

use super::core::Core;
use super::*;
use crate::command::Command;
use crate::counters::Counters;
use crate::engine::EngineConfig;
use crate::event::{CloseReason, DtlsInput, Event};
use crate::id::SessionId;
use crate::limits::{BURST_BYTES_MAX, STOP_TIMEOUT, TCP_UNVALIDATED_MAX};
use crate::load::Load;
use crate::transmit::{Path, Transmit};

const PATIENCE: Duration = Duration::from_secs(10);

/// Sends back every run as it came, and obeys a few words.
#[derive(Debug, Default)]
struct Echo {
    runs: VecDeque<(Path, Vec<u8>, usize)>,
    events: VecDeque<Event>,
    rest: Duration,
}

/// Closed by a test that wants datagrams to pile up behind a worker that is busy.
static GATE: Mutex<bool> = Mutex::new(false);
static GATE_MOVED: Condvar = Condvar::new();

fn set_gate(closed: bool) {
    *GATE.lock().unwrap() = closed;
    GATE_MOVED.notify_all();
}

impl Core for Echo {
    fn handle_datagrams(&mut self, _now: Instant, path: Path, bytes: &mut [u8], segment: usize) {
        match &*bytes {
            b"panic" => panic!("asked to"),
            b"report" => self.events.push_back(Event::Report(Box::default())),
            b"rest" => self.rest = Duration::from_millis(3),
            b"wait" => {
                let closed = GATE.lock().unwrap();
                drop(GATE_MOVED.wait_while(closed, |closed| *closed).unwrap());
            }
            _ => {}
        }
        self.runs.push_back((path, bytes.to_vec(), segment));
    }

    fn handle_command(&mut self, _now: Instant, command: Command) {
        if let Command::Close { session } = command {
            let reason = CloseReason::PeerClosed;
            self.events.push_back(Event::Closed { session, reason });
        }
    }

    fn handle_load(&mut self, _: Load) {}

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_transmit(&mut self, _now: Instant, slot: &mut [u8]) -> Option<Transmit> {
        let (path, bytes, segment) = self.runs.pop_front()?;
        slot[..bytes.len()].copy_from_slice(&bytes);
        Some(Transmit {
            path,
            len: bytes.len(),
            segment,
        })
    }

    fn poll_dtls(&mut self) -> Option<DtlsInput> {
        None
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn rest(&self) -> Duration {
        self.rest
    }
}

fn echo(_: EngineConfig) -> Echo {
    Echo::default()
}

fn config(driver: DriverChoice) -> DataplaneConfig {
    DataplaneConfig {
        media: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        workers: 1,
        driver,
        sessions_max: 10,
        publisher_bitrate_bps_max: 1_000_000,
        egress_hold: Duration::ZERO,
        audio_speakers: 0,
        dtls_threads: 1,
        pin: false,
    }
}

/// A running echo with a peer that knows its address.
struct Rig {
    dataplane: Dataplane,
    events: Receiver<(usize, Event)>,
    server: SocketAddr,
    peer: UdpSocket,
}

impl Rig {
    fn new(driver: DriverChoice) -> Rig {
        Rig::at(driver, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    fn at(driver: DriverChoice, media: SocketAddr) -> Rig {
        Rig::with(&DataplaneConfig {
            media,
            ..config(driver)
        })
    }

    /// A peer of the first worker.
    fn with(config: &DataplaneConfig) -> Rig {
        let media = config.media;
        let (dataplane, events) = Dataplane::start_with(config, echo)
            .unwrap_or_else(|error| panic!("these tests need both drivers: {error}"));
        let port = dataplane.workers()[0].port;
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let ip = if media.is_ipv6() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            media.ip()
        };
        let server = SocketAddr::new(ip, port);
        peer.connect(server).unwrap();
        Rig {
            dataplane,
            events,
            server,
            peer,
        }
    }

    fn answer(&self) -> Vec<u8> {
        let mut bytes = [0; 2048];
        let len = self
            .peer
            .recv(&mut bytes)
            .expect("an echo within the patience of the test");
        bytes[..len].to_vec()
    }

    /// What was counted, as the worker reports it.
    fn counters(&mut self) -> Counters {
        self.peer.send(b"report").unwrap();
        assert_eq!(self.answer(), b"report");
        match self.event() {
            Event::Report(report) => report.counters,
            other => panic!("a report, not {other:?}"),
        }
    }

    fn event(&mut self) -> Event {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let event = async { tokio::time::timeout(PATIENCE, self.events.recv()).await };
        runtime
            .block_on(event)
            .expect("an event in time")
            .expect("the workers live")
            .1
    }

    /// Sends datagrams of one size, which are one run at the worker and one send when they come back.
    fn send_burst(&self, bytes: &[u8], segment: usize) {
        let state = quinn_udp::UdpSocketState::new((&self.peer).into()).unwrap();
        self.peer.set_nonblocking(false).unwrap();
        let transmit = quinn_udp::Transmit {
            destination: self.server,
            ecn: None,
            contents: bytes,
            segment_size: Some(segment),
            src_ip: None,
        };
        state.try_send((&self.peer).into(), &transmit).unwrap();
    }

    /// So many bytes in datagrams of equal bytes. The peer's socket has GRO too once it sent a burst: what comes
    /// back is one run again, or several.
    fn receive_burst(&self, len: usize) -> Vec<u8> {
        let state = quinn_udp::UdpSocketState::new((&self.peer).into()).unwrap();
        self.peer.set_nonblocking(false).unwrap();
        let mut bytes = vec![0; BURST_BYTES_MAX];
        let mut received = Vec::new();
        while received.len() < len {
            let mut meta = [quinn_udp::RecvMeta::default()];
            let mut slices = [std::io::IoSliceMut::new(&mut bytes)];
            let runs = state.recv((&self.peer).into(), &mut slices, &mut meta);
            assert_eq!(runs.expect("an echo in time"), 1);
            for datagram in bytes[..meta[0].len].chunks(meta[0].stride) {
                assert!(
                    datagram.iter().all(|&byte| byte == datagram[0]),
                    "cut wrongly"
                );
                received.extend_from_slice(datagram);
            }
        }
        received
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn on_both(test: impl Fn(DriverChoice)) {
    test(DriverChoice::Msg);
    test(DriverChoice::Uring);
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u16).to_be_bytes(), packet].concat()
}

fn read_packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut packet).unwrap();
    packet
}

#[test]
fn ten_thousand_datagrams_come_back() {
    const WINDOW: u32 = 50;
    on_both(|driver| {
        let rig = Rig::new(driver);
        for window in 0..10_000 / WINDOW {
            let numbers = window * WINDOW..(window + 1) * WINDOW;
            for number in numbers.clone() {
                rig.peer.send(&number.to_be_bytes()).unwrap();
            }
            for number in numbers {
                assert_eq!(rig.answer(), number.to_be_bytes(), "{driver}");
            }
        }
    });
}

#[test]
fn a_worker_that_rests_misses_nothing() {
    on_both(|driver| {
        let rig = Rig::new(driver);
        rig.peer.send(b"rest").unwrap();
        assert_eq!(rig.answer(), b"rest");
        for number in 0..300_u32 {
            // Into a rest, at its end, and after it.
            std::thread::park_timeout(Duration::from_micros(u64::from(number) * 37 % 6_000));
            rig.peer.send(&number.to_be_bytes()).unwrap();
            assert_eq!(rig.answer(), number.to_be_bytes(), "{driver}");
        }
    });
}

#[test]
fn a_run_is_split_where_its_datagrams_end() {
    on_both(|driver| {
        let rig = Rig::new(driver);
        let burst: Vec<u8> = (0..10 * 300 + 100).map(|byte| (byte / 300) as u8).collect();
        rig.send_burst(&burst, 300);
        let received = rig.receive_burst(burst.len());
        assert_eq!(received, burst);
        let info = &rig.dataplane.workers()[0];
        assert!(info.gso && info.gro, "{info:?}");
    });
}

#[test]
fn a_dual_stack_socket_answers_ipv4_and_ipv6() {
    on_both(|driver| {
        let rig = Rig::at(driver, "[::]:0".parse().unwrap());
        rig.peer.send(b"four").unwrap();
        assert_eq!(rig.answer(), b"four");
        let peer = UdpSocket::bind("[::1]:0").unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.send_to(b"six", ("::1", rig.server.port())).unwrap();
        let mut bytes = [0; 16];
        assert_eq!(peer.recv(&mut bytes).unwrap(), 3, "{driver}");
    });
}

#[test]
fn tcp_packets_come_back_framed() {
    on_both(|driver| {
        let rig = Rig::new(driver);
        let mut stream = rig.tcp();
        let packets = [vec![1; 1200], vec![2], vec![3; 500]];
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| framed(packet)).collect();
        for part in bytes.chunks(7) {
            stream.write_all(part).unwrap();
        }
        for packet in &packets {
            assert_eq!(&read_packet(&mut stream), packet, "{driver}");
        }
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(
            matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_)),
            "not ICE-TCP, so it is closed"
        );
    });
}

#[test]
fn t_30_a_slow_tcp_reader_holds_nobody_up() {
    on_both(|driver| {
        let rig = Rig::new(driver);
        let mut slow = rig.tcp();
        slow.set_write_timeout(Some(PATIENCE)).unwrap();
        let packet = framed(&[5; 1400]);
        // More than its socket buffers and its queue take together; it reads none of it.
        for _ in 0..16_000 {
            slow.write_all(&packet).unwrap();
        }
        let mut other = rig.tcp();
        other.write_all(&framed(b"tcp")).unwrap();
        assert_eq!(read_packet(&mut other), b"tcp");
        rig.peer.send(b"udp").unwrap();
        assert_eq!(rig.answer(), b"udp", "{driver}");
        // What it did not lose is still in step.
        for _ in 0..10 {
            assert_eq!(read_packet(&mut slow), [5; 1400]);
        }
    });
}

#[test]
fn x_05_strangers_cannot_take_every_tcp_place() {
    on_both(|driver| {
        let rig = Rig::new(driver);
        let mut client = rig.tcp();
        client.write_all(&framed(b"client")).unwrap();
        assert_eq!(read_packet(&mut client), b"client");
        let mut strangers: Vec<TcpStream> = (0..=TCP_UNVALIDATED_MAX).map(|_| rig.tcp()).collect();
        assert!(
            matches!(strangers[0].read(&mut [0]), Ok(0) | Err(_)),
            "{driver}: the oldest goes"
        );
        let last = strangers.last_mut().unwrap();
        last.write_all(&framed(b"last")).unwrap();
        assert_eq!(read_packet(last), b"last");
        client.write_all(&framed(b"client")).unwrap();
        assert_eq!(
            read_packet(&mut client),
            b"client",
            "{driver}: a client stays"
        );
    });
}

#[test]
fn commands_reach_the_engine_and_events_come_back() {
    on_both(|driver| {
        let mut rig = Rig::new(driver);
        for session in (0..500).map(SessionId) {
            rig.dataplane
                .try_command(0, Command::Close { session })
                .unwrap();
        }
        for session in (0..500).map(SessionId) {
            let reason = CloseReason::PeerClosed;
            assert_eq!(rig.event(), Event::Closed { session, reason }, "{driver}");
        }
    });
}

#[test]
fn an_ended_dataplane_leaves_its_ports_free() {
    on_both(|driver| {
        // An address of its own, where no other test takes the port meanwhile.
        let rig = Rig::at(driver, "127.0.0.77:0".parse().unwrap());
        let (media, begun) = (rig.server, clock::now());
        rig.dataplane.shutdown();
        assert!(
            clock::now() - begun < STOP_TIMEOUT,
            "{driver}: the workers ended by themselves"
        );
        drop(Rig::at(driver, media));
    });
}

#[test]
fn each_worker_has_its_port() {
    on_both(|driver| {
        let config = DataplaneConfig {
            workers: 3,
            pin: true,
            ..config(driver)
        };
        let (dataplane, _events) = Dataplane::start_with(&config, echo).unwrap();
        for (index, worker) in dataplane.workers().iter().enumerate() {
            assert_eq!(worker.index, index);
            assert!(worker.core.is_some());
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            peer.send_to(b"hello", (Ipv4Addr::LOCALHOST, worker.port))
                .unwrap();
            assert_eq!(peer.recv(&mut [0; 16]).unwrap(), 5);
        }
    });
}

#[test]
fn a_start_that_fails_says_what_to_do() {
    let rig = Rig::new(DriverChoice::Auto);
    let start = |config| {
        Dataplane::start_with(&config, echo)
            .unwrap_err()
            .to_string()
    };
    let base = config(DriverChoice::Auto);
    assert_eq!(
        start(DataplaneConfig {
            media: rig.server,
            ..base.clone()
        }),
        format!(
            "UDP {} is in use by another program: stop it, or choose another media address",
            rig.server
        )
    );
    let media = SocketAddr::from((Ipv4Addr::LOCALHOST, 65_535));
    assert_eq!(
        start(DataplaneConfig {
            media,
            workers: 2,
            ..base.clone()
        }),
        "media port 65535 leaves no room for 2 workers: each takes the next port, up to 65535"
    );
    assert_eq!(
        start(DataplaneConfig { workers: 0, ..base }),
        "0 workers were asked for, at least 1 is needed"
    );
}
