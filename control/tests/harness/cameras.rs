//! A camera for tests: GStreamer's RTSP server with generated streams.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::Server;

/// A running RTSP server, ended when dropped.
pub struct RtspServer {
    child: Child,
    /// Where it listens, on loopback.
    pub port: u16,
}

impl RtspServer {
    /// Starts it with these options besides; see the script.
    pub fn start(options: &[&str]) -> RtspServer {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/rtsp_server.py");
        // Debian's own, which knows Debian's GStreamer.
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs: `scripts/test-deps` installs it and GStreamer");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("port ")?.parse().ok());
        let port =
            port.expect("the RTSP server serves: `scripts/test-deps` installs what it needs");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        RtspServer { child, port }
    }

    /// The address of one of its streams.
    pub fn url(&self, path: &str) -> String {
        format!("rtsp://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Server {
    /// Adds a camera that this JSON describes, and gives its view.
    pub fn add_camera(&self, json: &str) -> Value {
        let (status, view) = self.ask("POST", "/v1/cameras", json);
        assert_eq!(status, 201, "{view}");
        view
    }

    /// The camera's view now.
    pub fn camera(&self, view: &Value) -> Value {
        let path = format!("/v1/cameras/{}", view["id"].as_str().unwrap());
        self.ask("GET", &path, "").1
    }

    /// Takes it out of its room.
    pub fn remove_camera(&self, view: &Value) {
        let path = format!("/v1/cameras/{}", view["id"].as_str().unwrap());
        assert_eq!(self.ask("DELETE", &path, "").0, 204);
    }

    fn ask(&self, method: &str, path: &str, json: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
            json.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }
}
