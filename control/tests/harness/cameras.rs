//! What tests ask of a node's cameras.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::Server;

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
