//! The bare forwarder's door: WHIP and WHEP at `/{room}/whip?name=N` and `/{room}/whep?name=N`.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::post;
use dataplane::dtls::Certificate;
use dataplane::sim::peer::PeerIce;
use serde::Deserialize;

use super::forwarder::{Forwarder, Manner};
use super::session::SessionSpec;
use crate::peers::answer::Answer;

/// Where it listens, and how it sends.
#[derive(Clone, Copy, Debug)]
pub struct BareConfig {
    /// For WHIP and WHEP.
    pub http: SocketAddr,
    /// For media: the address that clients are told.
    pub media: SocketAddr,
    /// How it sends.
    pub manner: Manner,
}

struct Door {
    media: SocketAddr,
    fingerprint: [u8; 32],
    comers: Mutex<Sender<SessionSpec>>,
    next: AtomicU64,
}

#[derive(Debug, Deserialize)]
struct Who {
    #[serde(default)]
    name: String,
}

/// Serves until the process ends.
///
/// # Errors
///
/// What the system says.
pub async fn serve(config: BareConfig) -> io::Result<()> {
    let certificate = Certificate::generate().map_err(io::Error::other)?;
    let fingerprint = certificate.fingerprint();
    let (forwarder, comers, media) = Forwarder::bind(config.media, config.manner, certificate)?;
    std::thread::Builder::new()
        .name("forwarder".to_owned())
        .spawn(move || forwarder.run())?;
    let door = Door {
        media,
        fingerprint,
        comers: Mutex::new(comers),
        next: AtomicU64::new(1),
    };
    let router = Router::new()
        .route("/{room}/{door}", post(answer))
        .with_state(Arc::new(door));
    let listener = tokio::net::TcpListener::bind(config.http).await?;
    axum::serve(listener, router).await
}

async fn answer(
    State(door): State<Arc<Door>>,
    Path((room, way)): Path<(String, String)>,
    Query(who): Query<Who>,
    offer: String,
) -> Result<(StatusCode, String), (StatusCode, String)> {
    let wrong = |why: String| (StatusCode::BAD_REQUEST, why);
    let theirs = Answer::parse(&offer).map_err(|error| wrong(error.to_string()))?;
    let number = door.next.fetch_add(1, Ordering::Relaxed);
    let ice = PeerIce {
        local_ufrag: format!("b{number:07x}"),
        local_pwd: format!("{:032x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        remote_ufrag: theirs.ufrag,
        remote_pwd: theirs.pwd,
    };
    let sdp = door.describe(&ice, &offer);
    let spec = SessionSpec {
        ice,
        fingerprints: theirs.fingerprints,
        room,
        name: who.name,
        publishes: way == "whip",
    };
    let comers = door.comers.lock();
    if !comers.is_ok_and(|comers| comers.send(spec).is_ok()) {
        return Err(wrong("the forwarder has ended".to_owned()));
    }
    Ok((StatusCode::CREATED, sdp))
}

impl Door {
    /// The offer's sections, answered.
    fn describe(&self, ice: &PeerIce, offer: &str) -> String {
        let hex: Vec<String> = self
            .fingerprint
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect();
        let (ip, port, hex) = (self.media.ip(), self.media.port(), hex.join(":"));
        let mut sdp =
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n".to_owned();
        for line in offer.lines() {
            let direction = match line {
                "a=sendonly" => Some("recvonly"),
                "a=recvonly" => Some("sendonly"),
                _ => None,
            };
            if line.starts_with("m=") {
                let (ufrag, pwd) = (&ice.local_ufrag, &ice.local_pwd);
                let _ = write!(
                    sdp,
                    "{line}\r\nc=IN IP4 {ip}\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n\
                     a=fingerprint:sha-256 {hex}\r\na=setup:passive\r\na=rtcp-mux\r\n\
                     a=candidate:1 1 udp 2130706431 {ip} {port} typ host\r\n"
                );
            } else if let Some(direction) = direction {
                let _ = write!(sdp, "a={direction}\r\n");
            } else if ["a=group:", "a=mid:", "a=rtpmap:"]
                .iter()
                .any(|start| line.starts_with(start))
            {
                let _ = write!(sdp, "{line}\r\n");
            }
        }
        sdp
    }
}
