//! The program as its user meets it: what it prints, and how it ends.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

fn millrace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MILLRACE_")) {
        command.env_remove(name);
    }
    command
}

fn run(args: &[&str]) -> Output {
    millrace().args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Ends with this status and says all of this.
fn assert_fails(output: &Output, status: i32, parts: &[&str]) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{error}");
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

/// A configuration file of this text, in a place of its own.
fn file(name: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// A node that serves until it is dropped.
struct Serving {
    child: Child,
    page: String,
}

impl Serving {
    fn start() -> Serving {
        let args = [
            "--http",
            "127.0.0.1:0",
            "--media",
            "127.0.0.1:0",
            "--workers",
            "1",
        ];
        let mut child = millrace()
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let page = lines
            .filter_map(|line| {
                line.trim()
                    .strip_prefix("page")?
                    .trim()
                    .strip_prefix("http://")
                    .map(str::to_owned)
            })
            .next()
            .expect("it prints where its page is");
        Serving {
            child,
            page: page.trim_end_matches('/').replace("localhost", "127.0.0.1"),
        }
    }

    /// The whole answer to a request without a body.
    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.page).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.page
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Opens the WebSocket and enters a room; gives back the socket and what came first.
    fn join(&self) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(&self.page).unwrap();
        write!(
            stream,
            "GET /v1/ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.page
        )
        .unwrap();
        let join = br#"{"type":"join","room":"r","name":"Ann"}"#;
        // A final text frame under a mask of zeros (RFC 6455 section 5.2).
        stream
            .write_all(&[0x81, 0x80 | join.len() as u8, 0, 0, 0, 0])
            .unwrap();
        stream.write_all(join).unwrap();
        let mut answer = String::new();
        let mut byte = [0];
        while !answer.contains("iceServers") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed after: {answer}");
            answer.push(char::from(byte[0]));
        }
        (stream, answer)
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_says_its_version() {
    for args in [["version"], ["--version"]] {
        let output = run(&args);
        assert!(output.status.success());
        assert_eq!(
            text(&output.stdout),
            format!("millrace {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
}

#[test]
fn a_misspelt_flag_names_the_nearest() {
    assert_fails(
        &run(&["--max-room", "3"]),
        2,
        &["--max-room", "--max-rooms"],
    );
}

#[test]
fn a_bad_value_names_its_flag() {
    assert_fails(&run(&["--http", "here"]), 2, &["--http", "'here'"]);
    assert_fails(
        &run(&["--driver", "epoll"]),
        2,
        &["--driver", "auto, uring and msg"],
    );
    assert_fails(&run(&["--workers", "0"]), 2, &["workers", "1 to"]);
    assert_fails(
        &run(&["--egress-bps", "lots"]),
        2,
        &["--egress-bps", "2500k"],
    );
    assert_fails(&run(&["--tls-cert", "x.pem"]), 2, &["tls-key"]);
}

#[test]
fn a_misspelt_key_or_variable_names_the_nearest() {
    let config = file("misspelt.toml", "max-sesions = 3\n");
    let output = run(&["--config", config.to_str().unwrap()]);
    assert_fails(
        &output,
        2,
        &["misspelt.toml", "`max-sesions`", "`max-sessions`"],
    );
    let output = millrace().env("MILLRACE_MEDA", "x").output().unwrap();
    assert_fails(&output, 2, &["MILLRACE_MEDA", "`MILLRACE_MEDIA`"]);
}

#[test]
fn a_bad_file_says_where() {
    assert_fails(
        &run(&["--config", "/nowhere.toml"]),
        2,
        &["/nowhere.toml", "No such file"],
    );
    let config = file("bad.toml", "http = \"127.0.0.1:1\"\nworkers = \"two\"\n");
    assert_fails(
        &run(&["--config", config.to_str().unwrap()]),
        2,
        &["bad.toml", "line 2", "workers"],
    );
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let config = file(
        "precedence.toml",
        "max-rooms = 1\nmax-sessions = 1\nmax-sessions-per-room = 1\npublic-ip = [\"192.0.2.1\"]\n",
    );
    let output = millrace()
        .env("MILLRACE_CONFIG", &config)
        .env("MILLRACE_MAX_ROOMS", "2")
        .env("MILLRACE_MAX_SESSIONS", "2")
        .args(["--max-rooms", "3", "--print-config"])
        .output()
        .unwrap();
    let printed = text(&output.stdout);
    for line in [
        "max-rooms = 3",
        "max-sessions = 2",
        "max-sessions-per-room = 1",
        "max-tracks-per-session = 8",
        "public-ip = [\"192.0.2.1\"]",
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line}\n{printed}"
        );
    }
}

#[test]
fn a_port_in_use_is_a_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["--http", &address, "--media", "127.0.0.1:0"]);
    assert_fails(&output, 1, &[&address, "another program uses it", "--http"]);
    let output = run(&[
        "--http",
        "127.0.0.1:0",
        "--media",
        &address,
        "--workers",
        "1",
    ]);
    assert_fails(&output, 1, &[&address, "in use"]);
}

#[test]
fn a_missing_certificate_is_a_sentence() {
    let args = [
        "--http",
        "127.0.0.1:0",
        "--tls-cert",
        "/no/cert.pem",
        "--tls-key",
        "/no/key.pem",
    ];
    assert_fails(&run(&args), 1, &["/no/cert.pem"]);
}

#[test]
fn the_doctor_looks_at_everything_and_says_whether_it_can_serve() {
    let output = run(&["doctor"]);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}");
    for name in [
        "kernel",
        "io_uring",
        "receive buffer",
        "GSO",
        "USO",
        "open files",
        "cores",
        "clock",
    ] {
        assert!(printed.contains(name), "{name}\n{printed}");
    }
    assert!(printed.contains("This machine"), "{printed}");
}

#[test]
fn it_serves_and_ends_in_order() {
    let mut serving = Serving::start();
    assert!(serving.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(serving.get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(serving.get("/").contains("<html"));
    let metrics = serving.get("/metrics");
    assert!(metrics.contains("\nmillrace_rooms 0\n"), "{metrics}");
    assert!(
        metrics.contains("millrace_datagrams_received_total{worker=\"0\"}"),
        "{metrics}"
    );
    let (mut socket, joined) = serving.join();
    assert!(joined.contains(r#""name":"Ann""#), "{joined}");
    assert!(serving.get("/v1/rooms").contains(r#""people":1"#));
    serving.signal("-TERM");
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("the node is shutting down"), "{rest}");
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut serving = Serving::start();
    serving.signal("-INT");
    serving.signal("-TERM");
    let status = serving.child.wait().unwrap();
    // Either the second came in time, or the orderly end was over before it.
    assert!(matches!(status.code(), Some(0 | 130)), "{status}");
}

#[test]
fn a_wrong_file_of_cameras_is_named_with_its_line_and_without_its_password() {
    let wrong = file(
        "wrong-cameras.toml",
        "[[camera]]\nroom = \"gate\"\nurl = \"rtsp://ann:s3cret@192.0.2.7/1\"\nmode = \"seldom\"\n",
    );
    let output = run(&["--cameras", wrong.to_str().unwrap()]);
    assert_fails(&output, 2, &["wrong-cameras.toml, line 4: ", "always"]);
    assert!(!text(&output.stderr).contains("s3cret"));
    let output = run(&["--camera-allow", "192.168.0.1/16"]);
    assert_fails(&output, 2, &["camera-allow: ", "192.168.0.0/16"]);
}
