//! Firefox's own remote protocol, Marionette: JSON arrays over TCP, each behind its length and a colon.
//!
//! A command is `[0, id, name, parameters]`, its answer `[1, id, error, result]`
//! (Firefox source docs, "Marionette", "Protocol"). What stands in between, geckodriver, Debian does not have.

use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;

use super::PATIENCE_MS;

/// A session with one Firefox.
pub struct Marionette {
    wire: Mutex<Wire>,
}

struct Wire {
    answers: BufReader<OwnedReadHalf>,
    commands: OwnedWriteHalf,
    commands_sent: u64,
}

impl Marionette {
    /// Opens the session on a connection to the port where Firefox listens.
    pub async fn open(stream: TcpStream) -> Marionette {
        stream.set_nonblocking(true).unwrap();
        let (answers, commands) = tokio::net::TcpStream::from_std(stream)
            .unwrap()
            .into_split();
        let mut wire = Wire {
            answers: BufReader::new(answers),
            commands,
            commands_sent: 0,
        };
        let greeting = wire.message().await;
        assert_eq!(greeting["marionetteProtocol"], 3, "{greeting}");
        let marionette = Marionette {
            wire: Mutex::new(wire),
        };
        marionette.command("WebDriver:NewSession", json!({})).await;
        marionette
            .command(
                "WebDriver:SetTimeouts",
                json!({ "script": 3 * PATIENCE_MS }),
            )
            .await;
        marionette
    }

    /// The result of a command, which must be taken.
    pub async fn command(&self, name: &str, parameters: Value) -> Value {
        let mut wire = self.wire.lock().await;
        let patience = Duration::from_millis(4 * PATIENCE_MS);
        let (error, result) = tokio::time::timeout(patience, wire.command(name, parameters))
            .await
            .unwrap_or_else(|_| panic!("Firefox does not answer {name}"));
        assert!(error.is_null(), "Firefox on {name}: {error}");
        result
    }
}

impl Marionette {
    /// Goes to an address and waits until it is loaded.
    pub async fn goto(&self, url: &str) {
        self.command("WebDriver:Navigate", json!({ "url": url }))
            .await;
    }

    /// What the script gives to the last of its arguments.
    pub async fn execute_async(&self, script: &str) -> Value {
        let parameters = json!({ "script": script, "args": [] });
        self.command("WebDriver:ExecuteAsyncScript", parameters)
            .await["value"]
            .take()
    }

    /// A picture of the tab, PNG.
    pub async fn screenshot(&self) -> Vec<u8> {
        let parameters = json!({ "full": false });
        let picture = self.command("WebDriver:TakeScreenshot", parameters).await;
        let picture = picture["value"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD
            .decode(picture)
            .unwrap()
    }

    /// Quits Firefox as a person does: the page may still say goodbye.
    pub async fn quit(&self) {
        let parameters = json!({ "flags": ["eAttemptQuit"] });
        self.command("Marionette:Quit", parameters).await;
    }
}

impl Wire {
    async fn command(&mut self, name: &str, parameters: Value) -> (Value, Value) {
        self.commands_sent += 1;
        let command = json!([0, self.commands_sent, name, parameters]).to_string();
        let framed = format!("{}:{command}", command.len());
        self.commands.write_all(framed.as_bytes()).await.unwrap();
        let mut answer = self.message().await;
        assert_eq!(answer[1], self.commands_sent, "an answer to {name}");
        (answer[2].take(), answer[3].take())
    }

    async fn message(&mut self) -> Value {
        let mut length = Vec::new();
        self.answers.read_until(b':', &mut length).await.unwrap();
        assert_eq!(length.pop(), Some(b':'), "Firefox closed its remote port");
        let length = std::str::from_utf8(&length).unwrap().parse().unwrap();
        let mut message = vec![0; length];
        self.answers.read_exact(&mut message).await.unwrap();
        serde_json::from_slice(&message).unwrap()
    }
}
