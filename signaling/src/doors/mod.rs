//! The HTTP doors: WHIP and WHEP, rooms, cameras, probes, the page and its WebSocket.
//!
//! ```text
//! request ─► callers (too many?) ─► whip | rooms | cameras | ws | probes ─► Node
//!                                   page ─► files in the binary
//! ```
//!
//! Every refusal is a status code and a sentence that says what would be right. Plain text for
//! encoders and players, JSON for everything else.

/// How often one address may ask for something that costs.
mod callers;
/// `/v1/cameras`: which cameras are pulled.
mod cameras;
/// Which pages of other origins may do what.
mod cors;
/// Firebase's part of a page.
mod firebase;
#[cfg(feature = "fuzz")]
pub mod fuzz;
/// Which picture a player wants.
mod layer;
/// The web page's files.
mod page;
/// `/healthz`, `/readyz`, `/metrics`.
mod probes;
/// Refusals as responses.
mod reply;
/// `/v1/rooms`: who and what is there.
mod rooms;
/// RFC 9725 and its counterpart for players.
mod whip;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::get;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::node::{Door, Node};
use crate::ws;
use callers::Callers;
use firebase::FirebaseParts;
pub use firebase::{BadFirebasePage, FirebasePage};
pub(crate) use reply::JsonError;

/// What the doors are told when they are made.
#[derive(Clone, Debug)]
pub struct DoorOptions {
    /// STUN and TURN servers that clients are told about.
    pub ice_servers: Vec<IceServer>,
    /// Longest request body, bytes: real offers stay under 20 KiB.
    pub body_len_max: usize,
    /// Requests whose bodies are read at once: with the longest bodies, 128 MiB.
    pub bodies_max: usize,
    /// Costly requests per second and address, over time.
    pub requests_per_s: u32,
    /// Costly requests that one address may make at once.
    pub requests_burst: u32,
    /// WebSockets that are open at once.
    pub sockets_max: usize,
    /// The page's folder, for people who work on the page; the files in the binary without it.
    pub web_root: Option<PathBuf>,
    /// With it, pages meet nodes in a Firestore database instead of over the WebSocket.
    pub firebase: Option<FirebasePage>,
}

impl Default for DoorOptions {
    fn default() -> DoorOptions {
        DoorOptions {
            ice_servers: Vec::new(),
            body_len_max: 256 * 1024,
            bodies_max: 512,
            requests_per_s: 50,
            requests_burst: 200,
            sockets_max: 10_000,
            web_root: None,
            firebase: None,
        }
    }
}

/// A STUN or TURN server, as `RTCIceServer` of the W3C's WebRTC API has it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct IceServer {
    /// `stun:`, `turn:` and `turns:` URLs of one server.
    pub urls: Vec<String>,
    /// User name on a TURN server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Its password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .finish_non_exhaustive()
    }
}

/// What every door can reach.
pub(crate) struct Doors<N> {
    /// The node behind them.
    pub(crate) node: Arc<N>,
    /// What they were told.
    pub(crate) options: Arc<DoorOptions>,
    /// Who asked how often.
    pub(crate) callers: Arc<Callers>,
    /// One permit for each request whose body may be on its way.
    pub(crate) bodies: Arc<Semaphore>,
    /// One permit for each WebSocket that may be open.
    pub(crate) sockets: Arc<Semaphore>,
    /// What pages are told of Firebase.
    firebase: Option<Arc<FirebaseParts>>,
}

// Not derived: that would ask for `N: Clone`.
impl<N> Clone for Doors<N> {
    fn clone(&self) -> Doors<N> {
        Doors {
            node: Arc::clone(&self.node),
            options: Arc::clone(&self.options),
            callers: Arc::clone(&self.callers),
            bodies: Arc::clone(&self.bodies),
            sockets: Arc::clone(&self.sockets),
            firebase: self.firebase.clone(),
        }
    }
}

/// All doors of `node`.
///
/// Serve it with `into_make_service_with_connect_info::<SocketAddr>()`: limits are per caller.
pub fn router<N: Node>(node: Arc<N>, options: DoorOptions) -> Router {
    let doors = Doors {
        node,
        callers: Arc::new(Callers::new(options.requests_per_s, options.requests_burst)),
        bodies: Arc::new(Semaphore::new(options.bodies_max)),
        sockets: Arc::new(Semaphore::new(options.sockets_max)),
        firebase: options
            .firebase
            .as_ref()
            .map(|page| Arc::new(FirebaseParts::new(page, &options.ice_servers))),
        options: Arc::new(options),
    };
    let limited = middleware::from_fn_with_state(doors.clone(), callers::limit::<N>);
    let whip = Router::new()
        .route("/v1/rooms/{room}/whip", whip::endpoint(&doors, Door::Whip))
        .route("/v1/rooms/{room}/whep", whip::endpoint(&doors, Door::Whep))
        .route("/v1/rooms/{room}/whip/{id}", whip::session(&doors))
        .route("/v1/rooms/{room}/whep/{id}", whip::session(&doors))
        .route("/v1/rooms/{room}/whep/{id}/layer", layer::choice())
        .layer(middleware::map_response(cors::allow_any_origin));
    let json = Router::new()
        .route("/v1/rooms", get(rooms::list::<N>))
        .route(
            "/v1/rooms/{room}",
            get(rooms::show::<N>).delete(rooms::close::<N>),
        )
        .route("/v1/cameras", cameras::all(&doors))
        .route("/v1/cameras/{id}", cameras::one())
        .route("/v1/ws", get(ws::upgrade::<N>).route_layer(limited))
        .route("/v1/firebase.json", get(firebase::config::<N>))
        .route("/healthz", get(probes::healthz))
        .route("/readyz", get(probes::readyz::<N>))
        .route("/metrics", get(probes::metrics::<N>))
        .route("/", get(page::index::<N>))
        .route("/r/{room}", get(page::room::<N>))
        .route("/wall/{room}", get(page::wall::<N>))
        .fallback(page::file::<N>)
        .method_not_allowed_fallback(wrong_method);
    whip.merge(json).with_state(doors)
}

async fn wrong_method() -> JsonError {
    JsonError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not take this method",
    )
    .with_hint("the Allow header lists the methods that it takes")
}
