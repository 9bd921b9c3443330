//! The doors as their callers see them, with a double of the node behind.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, like its own lines"
)]

mod cameras;
mod double;
mod firebase;
mod page;
mod rooms;
mod whip;
mod ws;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::MockConnectInfo;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use double::Double;
use signaling::doors::{DoorOptions, router};
use tower::ServiceExt;

/// An offer as a browser writes it, shortened to what counts.
pub(crate) const OFFER: &str = "v=0\r\n\
    o=- 4611731400430051336 2 IN IP4 127.0.0.1\r\n\
    s=-\r\n\
    t=0 0\r\n\
    a=group:BUNDLE 0\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
    c=IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:EsAw\r\n\
    a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
    a=fingerprint:sha-256 D2:FA:0E:C3:22:59:5E:14:95:69:92:3D:13:B4:84:24:\
    2C:C2:A2:C0:3E:FD:34:8E:5E:EA:6F:AF:52:CE:E6:0F\r\n\
    a=setup:actpass\r\n\
    a=mid:0\r\n\
    a=sendonly\r\n\
    a=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\n";

/// The doors in this process, as one caller sees them.
pub(crate) struct Caller {
    pub(crate) node: Arc<Double>,
    router: Router,
}

impl Caller {
    pub(crate) fn new() -> Caller {
        Caller::with(DoorOptions::default())
    }

    pub(crate) fn with(options: DoorOptions) -> Caller {
        let node = Arc::new(Double::default());
        let from: SocketAddr = "192.0.2.7:40000".parse().unwrap();
        let router = router(Arc::clone(&node), options).layer(MockConnectInfo(from));
        Caller { node, router }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    pub(crate) async fn ask(&self, method: Method, path: &str) -> Answer {
        self.send(request(method, path, &[], Body::empty())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path).await
    }
}

pub(crate) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    async fn read(response: Response<Body>) -> Answer {
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text,
        }
    }

    /// A header's value; empty when it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap()
    }

    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, word: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.text.contains(word), "no {word:?} in {:?}", self.text);
    }
}
