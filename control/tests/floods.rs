//! What many clients at once can make a node hold: connections, offers, sessions. It is started with few places,
//! and its memory is read from `/proc`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const OFFER: &str = include_str!("../../signaling/tests/offers/obs-whip.sdp");

/// Descriptors that the node gets: half of them are for HTTP.
const DESCRIPTORS: usize = 256;

const SESSIONS: usize = 20;

/// What a flood may add to the node's memory.
const GROWTH_MAX: usize = 48 << 20;

/// A node with few places, ended when dropped.
struct Node {
    child: Child,
    address: String,
}

impl Node {
    fn start() -> Node {
        let sessions = SESSIONS.to_string();
        let mut child = Command::new("prlimit")
            .arg(format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}"))
            .arg(env!("CARGO_BIN_EXE_millrace"))
            .args(["--http", "127.0.0.1:0", "--media", "127.0.0.1:0"])
            .args(["--workers", "1", "--max-sessions", &sessions])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let page = lines.by_ref().map_while(Result::ok).find_map(|line| {
            line.split_once("http://localhost:")
                .map(|(_, port)| port.to_owned())
        });
        let port = page.expect("it serves");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let address = format!("127.0.0.1:{}", port.trim_end_matches('/'));
        Node { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// Sends a request and reads the whole answer.
    fn ask(&self, head: &str, body: &str) -> String {
        let mut stream = self.connect();
        let length = body.len();
        let rest =
            format!("Host: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        let mut answer = String::new();
        // It may be closed before all is written.
        let _ = write!(stream, "{head}\r\n{rest}");
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    fn offer(&self) -> String {
        let head = "POST /v1/rooms/tea/whip HTTP/1.1\r\nContent-Type: application/sdp";
        self.ask(head, OFFER)
    }

    /// A metric, over all its labels.
    fn metric(&self, name: &str) -> u64 {
        let page = self.ask("GET /metrics HTTP/1.1", "");
        let of = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<u64>().unwrap())
        };
        let samples: Vec<u64> = page.lines().filter_map(of).collect();
        assert!(!samples.is_empty(), "{name}: {page}");
        samples.iter().sum()
    }

    /// Its resident memory, in bytes.
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the other side has closed it.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match (&mut &*stream).read(&mut [0; 16]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn x_12_connections_past_the_limit_are_closed_and_leave_descriptors_for_others() {
    let node = Node::start();
    let before = node.memory();
    let flood: Vec<TcpStream> = (0..2 * DESCRIPTORS).map(|_| node.connect()).collect();
    let count = || flood.iter().filter(|stream| !is_closed(stream)).count();
    let mut open = count();
    // Until it has looked at all of them.
    for _ in 0..500 {
        if open <= DESCRIPTORS / 2 {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(10));
        open = count();
    }
    assert_eq!(open, DESCRIPTORS / 2, "half of the descriptors");
    assert!(node.memory() < before + GROWTH_MAX);
    let descriptors = format!("/proc/{}/fd", node.child.id());
    let held = std::fs::read_dir(descriptors).unwrap().count();
    assert!(held < DESCRIPTORS * 3 / 4, "{held} descriptors");
    // Somebody leaves, and somebody else comes in.
    drop(flood);
    assert!(
        node.ask("GET /healthz HTTP/1.1", "")
            .starts_with("HTTP/1.1 200")
    );
    let refused = node.metric("millrace_http_connections_refused_total");
    assert_eq!(refused as usize, 2 * DESCRIPTORS - DESCRIPTORS / 2);
}

#[test]
fn x_12_offers_past_the_limit_hear_why_and_take_no_memory() {
    let node = Node::start();
    // What the first of each kind takes is taken once.
    assert!(node.offer().starts_with("HTTP/1.1 201"));
    let before = node.memory();
    let answers: Vec<String> = (0..500).map(|_| node.offer()).collect();
    let with = |status: &str| {
        answers
            .iter()
            .filter(|answer| answer.contains(status))
            .count()
    };
    assert_eq!(with("HTTP/1.1 201"), SESSIONS - 1);
    let full = format!("the node is full: it holds at most {SESSIONS} sessions");
    assert!(with(&full) > 100, "{:?}", answers.get(SESSIONS));
    // A fast machine meets the limit of each address too.
    assert_eq!(
        with("HTTP/1.1 201") + with(&full) + with("HTTP/1.1 429"),
        500
    );
    assert!(node.memory() < before + GROWTH_MAX);
    assert!(
        node.ask("GET /healthz HTTP/1.1", "")
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(node.metric("millrace_sessions"), SESSIONS as u64);
}

#[test]
fn x_12_bodies_that_never_end_are_few_and_their_connections_end() {
    let node = Node::start();
    let before = node.memory();
    // Each as long as a body may be, but for its end.
    let length = 256 * 1024;
    let chunk = vec![b'a'; length - 1];
    let stalled: Vec<TcpStream> = (0..DESCRIPTORS / 2 - 8)
        .map(|_| {
            let mut stream = node.connect();
            let head =
                "POST /v1/rooms/tea/whip HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp";
            write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n").unwrap();
            stream.write_all(&chunk).unwrap();
            stream
        })
        .collect();
    assert!(
        node.offer().starts_with("HTTP/1.1 201"),
        "others are served"
    );
    let most = stalled.len() * 2 * length + GROWTH_MAX;
    assert!(node.memory() < before + most, "{}", node.memory() - before);
    for mut stream in stalled {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}
