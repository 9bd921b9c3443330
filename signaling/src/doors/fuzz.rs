//! The body of a test and of a fuzz target: requests to the doors of a node that serves whatever can be
//! read, one after the other.
//!
//! What must hold: every status fits, none says that the node failed; every refusal is a short sentence;
//! a session is there if and only if its URL was told, until it is deleted.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::MockConnectInfo;
use axum::http::header::{ALLOW, ETAG, LOCATION};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::{DoorOptions, router};
use crate::camera::{CameraRequest, CameraView};
use crate::name::RoomName;
use crate::node::{
    Connect, Connected, Enter, Entered, Node, PageOffer, Patch, Patched, PersonId, Refusal,
    ResourceId, RoomDetail, RoomSummary, SourceKind, Visit,
};
use crate::quality::{Preference, Quality};
use crate::sdp::fuzz::accept_all;

/// Ends a request: no UTF-8 has it.
const REQUEST_END: u8 = 0xff;

/// Requests of one run.
const REQUESTS_MAX: usize = 16;

/// Longest sentence of a refusal, bytes.
const SENTENCE_LEN_MAX: usize = 1024;

/// Longest body that is read of a response: the page's longest file is shorter.
const BODY_LEN_MAX: usize = 1 << 22;

/// Sends requests that end with `0xff`. Each is lines as HTTP/1.1 has them, which end with a line feed:
/// method and path, headers, an empty line, the body. How many were answered with success.
///
/// # Panics
/// When a door does, or an answer breaks what must hold.
pub fn requests(bytes: &[u8]) -> usize {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a thread can have a runtime");
    }
    let node = Arc::new(Everything::default());
    let options = DoorOptions {
        requests_per_s: u32::MAX,
        requests_burst: u32::MAX,
        ..DoorOptions::default()
    };
    let from = SocketAddr::from(([192, 0, 2, 7], 40_000));
    let router = router(Arc::clone(&node), options).layer(MockConnectInfo(from));
    let requests = bytes.split(|byte| *byte == REQUEST_END).take(REQUESTS_MAX);
    let successes = requests.filter_map(read).filter(|request| {
        let before = node.sessions().clone();
        let method = request.method.clone();
        let answer = RUNTIME.with(|runtime| runtime.block_on(ask(&router, request)));
        answer.assert_fits(&method, &before, &node.sessions());
        answer.status.is_success()
    });
    successes.count()
}

/// A request as the bytes have it.
struct Written<'a> {
    method: Method,
    path: &'a str,
    headers: Vec<(&'a str, &'a [u8])>,
    body: &'a [u8],
}

/// `None` for what no HTTP library would let through.
fn read(bytes: &[u8]) -> Option<Written<'_>> {
    let mut rest = bytes;
    let mut line = || {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.get(1..).unwrap_or_default();
        line
    };
    let first = std::str::from_utf8(line()).ok()?;
    let (method, path) = first.split_once(' ')?;
    let mut headers = Vec::new();
    loop {
        let header = line();
        let Some(colon) = header.iter().position(|byte| *byte == b':') else {
            break;
        };
        let (name, value) = header.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        headers.push((std::str::from_utf8(name).ok()?, value));
    }
    Some(Written {
        method: Method::from_bytes(method.as_bytes()).ok()?,
        path,
        headers,
        body: rest,
    })
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

async fn ask(router: &Router, written: &Written<'_>) -> Answer {
    let mut request = Request::builder().method(&written.method).uri(written.path);
    for (name, value) in &written.headers {
        request = request.header(*name, *value);
    }
    let Ok(request) = request.body(Body::from(written.body.to_vec())) else {
        // Not HTTP: it never gets as far as here.
        return Answer {
            status: StatusCode::BAD_REQUEST,
            headers: HeaderMap::new(),
            text: "not HTTP".to_owned(),
        };
    };
    let response = router.clone().oneshot(request).await;
    let (parts, body) = response.expect("a router has no errors").into_parts();
    let body = axum::body::to_bytes(body, BODY_LEN_MAX).await;
    let body = body.expect("bodies are in memory and short");
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8_lossy(&body).into_owned(),
    }
}

impl Answer {
    fn assert_fits(&self, method: &Method, before: &BTreeSet<String>, after: &BTreeSet<String>) {
        let Answer {
            status,
            headers,
            text,
        } = self;
        assert!(!status.is_server_error(), "{status} {text}");
        if *status == StatusCode::METHOD_NOT_ALLOWED {
            assert!(
                headers.contains_key(ALLOW),
                "which methods are taken is told"
            );
        }
        if status.is_client_error() && method != Method::HEAD {
            assert!(text.len() <= SENTENCE_LEN_MAX, "{status} {text}");
            let sentence = text.trim_end_matches('\n');
            assert!(!sentence.is_empty(), "{status} without a sentence");
            assert!(!sentence.contains(char::is_control), "{status} {text:?}");
        }
        let text_of = |name| headers.get(name).and_then(|value| value.to_str().ok());
        match *status {
            StatusCode::CREATED => {
                let told = text_of(LOCATION).expect("where the session is");
                let (_, id) = told.rsplit_once('/').expect("a path");
                assert!(!before.contains(id) && after.contains(id), "{told}");
                assert_eq!(after.len(), before.len() + 1);
                let etag = text_of(ETAG).expect("which ICE session it is");
                assert!(etag.starts_with('"') && etag.ends_with('"'));
                assert!(crate::sdp::Offer::LEN_MAX > text.len() && text.starts_with("v=0"));
            }
            StatusCode::OK if method == Method::DELETE => assert!(after.is_subset(before)),
            _ => assert_eq!(before, after, "{status} for a session"),
        }
    }
}

/// A node that takes everything.
#[derive(Default)]
struct Everything {
    sessions: Mutex<BTreeSet<String>>,
}

impl Everything {
    fn sessions(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, resource: &ResourceId) -> Result<(), Refusal> {
        let is_known = self.sessions().contains(&resource.0);
        is_known.then_some(()).ok_or(Refusal::UnknownSession)
    }

    fn entered(room: RoomName) -> Entered {
        Entered {
            person: PersonId("p1".to_owned()),
            visit: Visit(1),
            room,
            resume_token: "secret".to_owned(),
            people: Vec::new(),
            events: mpsc::channel(1).1,
        }
    }
}

impl Node for Everything {
    async fn enter(&self, request: Enter) -> Result<Entered, Refusal> {
        Ok(Everything::entered(request.room))
    }

    async fn resume(&self, _token: &str) -> Result<Entered, Refusal> {
        Err(Refusal::UnknownSession)
    }

    fn suspend(&self, _person: &PersonId, _visit: Visit) {}

    fn leave(&self, _person: &PersonId, _visit: Visit) {}

    async fn offer(&self, _person: &PersonId, page: PageOffer) -> Result<String, Refusal> {
        Ok(accept_all(&page.offer).to_sdp(&page.offer))
    }

    fn mute(&self, _person: &PersonId, _source: SourceKind, _muted: bool) {}

    fn prefer(&self, _person: &PersonId, _track: &str, _preference: Preference) {}

    fn say(&self, _person: &PersonId, _text: &str) {}

    async fn connect(&self, request: Connect) -> Result<Connected, Refusal> {
        let mut sessions = self.sessions();
        let unused = (0..=sessions.len()).map(|number| format!("s{number}"));
        let id = unused.into_iter().find(|id| !sessions.contains(id));
        let id = id.ok_or(Refusal::ShuttingDown)?;
        sessions.insert(id.clone());
        Ok(Connected {
            resource: ResourceId(id),
            answer: accept_all(&request.offer).to_sdp(&request.offer),
            etag: "e0".to_owned(),
        })
    }

    async fn patch(&self, resource: &ResourceId, patch: Patch) -> Result<Patched, Refusal> {
        self.known(resource)?;
        match (patch.if_match.as_deref(), patch.ice) {
            (Some("*"), Some(_)) => Ok(Patched::Restarted {
                fragment: "a=ice-ufrag:new\r\n".to_owned(),
                etag: "e1".to_owned(),
            }),
            (None | Some("e0" | "*"), _) => Ok(Patched::Trickled),
            _ => Err(Refusal::StaleEtag),
        }
    }

    async fn layer(&self, resource: &ResourceId, _most: Quality) -> Result<(), Refusal> {
        self.known(resource)
    }

    async fn disconnect(&self, resource: &ResourceId) -> Result<(), Refusal> {
        self.known(resource)?;
        self.sessions().remove(&resource.0);
        Ok(())
    }

    fn rooms(&self) -> Vec<RoomSummary> {
        Vec::new()
    }

    fn room(&self, room: &RoomName) -> Option<RoomDetail> {
        (room.as_str() == "tea").then(|| RoomDetail {
            room: room.clone(),
            people: Vec::new(),
            viewers: self.sessions().len(),
            media: Vec::new(),
        })
    }

    fn close_room(&self, room: &RoomName) -> bool {
        room.as_str() == "tea"
    }

    async fn add_camera(&self, request: CameraRequest) -> Result<CameraView, Refusal> {
        Err(Refusal::BadCamera(format!("{request:?}")))
    }

    fn cameras(&self) -> Vec<CameraView> {
        Vec::new()
    }

    fn camera(&self, _id: &PersonId) -> Option<CameraView> {
        None
    }

    fn remove_camera(&self, _id: &PersonId) -> bool {
        false
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn metrics(&self) -> String {
        "millrace_sessions 1\n".to_owned()
    }
}
