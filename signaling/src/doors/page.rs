//! The web page's files: in the binary, or from a folder for people who work on the page.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use axum::extract::{self, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Doors;
use super::firebase::{FirebaseParts, is_host};
use super::reply::{JsonError, Sentence};
use crate::name::RoomName;
use crate::node::Node;

/// Path and content of every file under `web/`, made by the build script.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/web_files.rs"));

const INDEX: &str = "index.html";
const WALL: &str = "wall.html";

/// Scripts and styles come from here only, none of it inline.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; \
                      object-src 'none'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'";
/// What the page may ask its user for, and what nothing here ever needs.
const PERMISSIONS: &str = "camera=(self), microphone=(self), display-capture=(self), \
                           fullscreen=(self), autoplay=(self), screen-wake-lock=(self), \
                           geolocation=(), payment=(), usb=()";
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// What there is, for people who typed something else.
const ROUTES: &str = "there are /, /r/{room}, /wall/{room}, /v1/rooms, /v1/rooms/{room}, \
                      /v1/rooms/{room}/whip, /v1/rooms/{room}/whep, /v1/cameras, /v1/cameras/{id}, \
                      /v1/ws, /v1/firebase.json, \
                      /contract/broadcaster.html, /contract/participant.html, /healthz, /readyz \
                      and /metrics";

/// `GET /`
pub(crate) async fn index<N: Node>(
    State(doors): State<Doors<N>>,
    request_headers: HeaderMap,
) -> Response {
    serve(&doors, INDEX, &request_headers)
        .await
        .unwrap_or_else(no_page)
}

/// `GET /r/{room}`: a room's link is the page, which reads the room from its own address.
pub(crate) async fn room<N: Node>(
    State(doors): State<Doors<N>>,
    extract::Path(room): extract::Path<String>,
    request_headers: HeaderMap,
) -> Result<Response, Sentence> {
    RoomName::try_from(room)?;
    Ok(serve(&doors, INDEX, &request_headers)
        .await
        .unwrap_or_else(no_page))
}

/// `GET /wall/{room}`: all cameras of a room, on a page that reads the room from its own address.
pub(crate) async fn wall<N: Node>(
    State(doors): State<Doors<N>>,
    extract::Path(room): extract::Path<String>,
    request_headers: HeaderMap,
) -> Result<Response, Sentence> {
    RoomName::try_from(room)?;
    Ok(serve(&doors, WALL, &request_headers)
        .await
        .unwrap_or_else(no_page))
}

/// Any other path: a file of the page, or a sentence about what there is.
pub(crate) async fn file<N: Node>(State(doors): State<Doors<N>>, request: Request) -> Response {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads
        && let Some(name) = path.strip_prefix('/')
        && let Some(response) = serve(&doors, name, request.headers()).await
    {
        return response;
    }
    JsonError::new(StatusCode::NOT_FOUND, "there is nothing at this path")
        .with_hint(ROUTES)
        .into_response()
}

fn no_page() -> Response {
    Sentence::new(StatusCode::NOT_FOUND, "this build has no web page in it").into_response()
}

async fn serve<N: Node>(doors: &Doors<N>, name: &str, asked: &HeaderMap) -> Option<Response> {
    let firebase = doors.firebase.as_deref();
    let mut content = match (
        &doors.options.web_root,
        firebase.and_then(|f| f.sdk_file(name)),
    ) {
        (_, Some((folder, file))) => Cow::Owned(read_from(folder, file).await?),
        (Some(root), None) => Cow::Owned(read_from(root, name).await?),
        (None, None) => Cow::Borrowed(FILES.iter().find(|(file, _)| *file == name)?.1),
    };
    if name.ends_with(".html")
        && let Some(page) = firebase.and_then(|firebase| firebase.insert_into(&content))
    {
        content = Cow::Owned(page);
    }
    let mut headers = HeaderMap::new();
    let mut put = |name, value| headers.insert(name, HeaderValue::from_static(value));
    put(CONTENT_TYPE, media_type(name));
    // Asked for again each time, answered 304: a new binary's page is seen at once.
    put(CACHE_CONTROL, "no-cache");
    put(X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(PERMISSIONS_POLICY, PERMISSIONS);
    // The address holds the room's name, which is nobody else's business.
    put(REFERRER_POLICY, "no-referrer");
    headers.insert(CONTENT_SECURITY_POLICY, policy(firebase, asked));
    let etag = entity_tag(&content);
    let known = asked.get(IF_NONE_MATCH).is_some_and(|tag| tag == etag);
    headers.insert(ETAG, etag);
    if known {
        return Some((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Some((headers, content).into_response())
}

/// The content security policy of a page that was asked for with these headers.
fn policy(firebase: Option<&FirebaseParts>, asked: &HeaderMap) -> HeaderValue {
    let mut policy = format!("{POLICY}; connect-src 'self'");
    // `'self'` covers the WebSocket too, but not in Safari before 15.4.
    let host = asked.get(HOST).and_then(|host| host.to_str().ok());
    if let Some(host) = host.filter(|host| is_host(host)) {
        policy += &format!(" ws://{host} wss://{host}");
    }
    if let Some(firebase) = firebase {
        policy += &format!(
            " {}; script-src {}",
            firebase.connect_sources, firebase.script_sources
        );
    }
    HeaderValue::try_from(policy).expect("its parts were checked for bytes that fit no header")
}

/// Reads a file below `root`; `None` for names that could lead out of it.
async fn read_from(root: &Path, name: &str) -> Option<Vec<u8>> {
    let plain = |part: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed)
    };
    if !name.split('/').all(plain) {
        return None;
    }
    let path = root.join(name);
    tokio::task::spawn_blocking(move || std::fs::read(path))
        .await
        .ok()?
        .ok()
}

fn entity_tag(content: &[u8]) -> HeaderValue {
    // Tells versions of a file apart; nobody gains anything by a collision.
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish()))
        .expect("hexadecimal digits in quotes fit a header")
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}
