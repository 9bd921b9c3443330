//! What callers do to the running node over loopback, and what its log says of them; the cases of
//! docs/security.md.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod http;
mod reflection;
mod resources;
mod secrets;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// A node that serves until it is dropped.
pub(crate) struct Node {
    child: Child,
    /// Host and port of its page.
    pub(crate) host: String,
    /// Where its log is.
    log: PathBuf,
}

impl Node {
    /// Starts one that logs as `level` says.
    pub(crate) fn start(name: &str, level: &str) -> Node {
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("MILLRACE_")) {
            command.env_remove(variable);
        }
        let mut child = command
            .args(["--http", "127.0.0.1:0", "--media", "127.0.0.1:0"])
            .args(["--public-ip", "127.0.0.1", "--workers", "1"])
            .env("MILLRACE_LOG", level)
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let host = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line.trim().strip_prefix("page")?.trim().to_owned();
            Some(address.strip_prefix("http://")?.to_owned())
        });
        let host = host.expect("it prints where its page is");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Node {
            child,
            host: host.trim_end_matches('/').replace("localhost", "127.0.0.1"),
            log,
        }
    }

    /// A connection to its doors.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The same, as one that becomes a WebSocket.
    pub(crate) fn websocket(&self) -> TcpStream {
        let mut stream = self.connect();
        write!(
            stream,
            "GET /v1/ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.host
        )
        .unwrap();
        stream
    }

    /// The whole answer to a request.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let mut stream = self.connect();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{headers}\r\n{body}",
            self.host
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Bytes of memory that it uses.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().unwrap() << 10
    }

    /// Files and sockets that it has open.
    pub(crate) fn descriptors(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        open.unwrap().count()
    }

    pub(crate) fn assert_alive(&self) {
        assert!(self.ask("GET", "/healthz", "", "").contains("200 OK"));
    }

    /// What it has logged so far.
    pub(crate) fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An offer of one voice, with this password and these lines besides.
pub(crate) fn offer(pwd: &str, lines: &str) -> String {
    let fingerprint = ["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\n\
         a=rtcp-mux\r\na=ice-ufrag:abcd\r\na=ice-pwd:{pwd}\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n\
         a=rtpmap:111 opus/48000/2\r\n{lines}"
    )
}

/// What follows `before` in the text, up to one of these characters.
pub(crate) fn after<'a>(text: &'a str, before: &str, end: &[char]) -> &'a str {
    let at = text
        .find(before)
        .unwrap_or_else(|| panic!("no {before} in {text}"));
    text[at + before.len()..].split(end).next().unwrap()
}

/// Sends a text frame of a client (RFC 6455 section 5.2), under a mask of zeros.
pub(crate) fn say(stream: &mut impl Write, text: &str) {
    let length = (text.len() as u16).to_be_bytes();
    let header = [0x81, 0xfe, length[0], length[1], 0, 0, 0, 0];
    stream.write_all(&header).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
}

/// Reads until `piece` has come.
pub(crate) fn hear(stream: &mut impl Read, piece: &str) -> String {
    let (mut heard, mut byte) = (String::new(), [0]);
    while !heard.ends_with(piece) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed after: {heard}");
        heard.push(char::from(byte[0]));
    }
    heard
}
