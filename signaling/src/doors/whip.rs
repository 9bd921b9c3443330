//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): an offer by `POST`, candidates and ICE restarts
//! by `PATCH`, the end by `DELETE`. The two differ only in which way the media flows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, ETAG, IF_MATCH, LINK, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, patch, post};
use axum::{Extension, middleware};
use serde::Deserialize;
use tokio::sync::{Semaphore, oneshot};

use super::reply::Sentence;
use super::{Doors, IceServer, callers, cors, layer};
use crate::name::{PersonName, RoomName};
use crate::node::{Connect, Connected, Door, Node, Patch, Patched, Refusal, ResourceId};
use crate::quality::Quality;
use crate::sdp::{Fragment, Offer};

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// How long a client may take to send its body.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Longest session id that is looked up, bytes: ours are shorter.
const ID_LEN_MAX: usize = 128;

/// The URL that takes offers. Other methods are reserved (RFC 9725 section 4.2).
pub(crate) fn endpoint<N: Node>(doors: &Doors<N>, door: Door) -> MethodRouter<Doors<N>> {
    let limited = middleware::from_fn_with_state(doors.clone(), callers::limit::<N>);
    post(create::<N>)
        .route_layer(limited)
        .layer(DefaultBodyLimit::max(doors.options.body_len_max))
        .options(endpoint_options::<N>)
        .fallback(|| async { wrong_method("POST, OPTIONS", "an offer is sent by POST") })
        .layer(Extension(door))
}

/// The URL of one session. Other methods are reserved (RFC 9725 section 4.2).
pub(crate) fn session<N: Node>(doors: &Doors<N>) -> MethodRouter<Doors<N>> {
    patch(update::<N>)
        .layer(DefaultBodyLimit::max(doors.options.body_len_max))
        .delete(end::<N>)
        .options(|| async { cors::preflight("PATCH, DELETE, OPTIONS") })
        .fallback(|| async {
            wrong_method(
                "PATCH, DELETE, OPTIONS",
                "a session takes PATCH (candidates, ICE restart) and DELETE (its end)",
            )
        })
}

/// What may follow the endpoint's path.
#[derive(Deserialize)]
struct CreateQuery {
    /// How the publisher is called in the room.
    #[serde(default)]
    name: String,
    /// How good a player's picture is to be at most: `low`, `high`, `auto`, a number, or `audio` for none.
    #[serde(default)]
    layer: String,
    /// Whom a player watches, by id or name.
    watch: Option<String>,
}

async fn create<N: Node>(
    State(doors): State<Doors<N>>,
    Extension(door): Extension<Door>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Path(room): Path<String>,
    query: Query<CreateQuery>,
    request: Request,
) -> Result<Response, Sentence> {
    let room = RoomName::try_from(room)?;
    let text = read_body(&doors.bodies, request, SDP).await?;
    let offer = Offer::parse(&text)
        .map_err(|error| Sentence::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let name = PersonName::new(&query.name);
    let most = layer_of(&query.layer)?;
    let request = Connect {
        door,
        room: room.clone(),
        name,
        offer,
        watch: query.watch.clone().filter(|whom| !whom.is_empty()),
        most,
        from: from.ip(),
    };
    let connected = connect(Arc::clone(&doors.node), request).await?;
    let ResourceId(id) = &connected.resource;
    let segment = match door {
        Door::Whip => "whip",
        Door::Whep => "whep",
    };
    let mut headers = ice_server_links(&doors.options.ice_servers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    headers.insert(
        LOCATION,
        header_value(format!("/v1/rooms/{room}/{segment}/{id}"))?,
    );
    if door == Door::Whep {
        let relation = layer::RELATION;
        let link = format!("</v1/rooms/{room}/whep/{id}/layer>; rel=\"{relation}\"");
        headers.append(LINK, header_value(link)?);
    }
    headers.insert(ETAG, header_value(format!("\"{}\"", connected.etag))?);
    Ok((StatusCode::CREATED, headers, connected.answer).into_response())
}

fn layer_of(word: &str) -> Result<Quality, Sentence> {
    Quality::from_query(word).ok_or_else(|| {
        let text =
            "`layer` is `low`, `high`, `auto`, `audio`, or a number from 0, the smallest picture";
        Sentence::new(StatusCode::BAD_REQUEST, text)
    })
}

/// Connects in a task of its own: when the client goes away meanwhile, this handler is dropped, and
/// a session whose URL nobody knows must not stay behind.
async fn connect<N: Node>(node: Arc<N>, request: Connect) -> Result<Connected, Sentence> {
    let (reply, answer) = oneshot::channel();
    tokio::spawn(async move {
        let result = node.connect(request).await;
        if let Err(Ok(unheard)) = reply.send(result) {
            // It may have ended by itself; then it is gone all the same.
            let _ended = node.disconnect(&unheard.resource).await;
        }
    });
    let broken = |_| Refusal::Broken("the request was dropped inside the node".to_owned());
    Ok(answer.await.map_err(broken)??)
}

async fn update<N: Node>(
    State(doors): State<Doors<N>>,
    Path((_, id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Sentence> {
    let resource = resource_of(id)?;
    let if_match = if_match(request.headers())?;
    let text = read_body(&doors.bodies, request, FRAGMENT).await?;
    let fragment = Fragment::parse(&text)
        .map_err(|error| Sentence::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let patch = Patch {
        ice: fragment.ice,
        if_match: Some(if_match),
    };
    match doors.node.patch(&resource, patch).await? {
        // Without an ETag: the ICE session is still the same (RFC 9725 section 4.3.2).
        Patched::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
        Patched::Restarted { fragment, etag } => {
            let etag = header_value(format!("\"{etag}\""))?;
            let headers = [
                (CONTENT_TYPE, HeaderValue::from_static(FRAGMENT)),
                (ETAG, etag),
            ];
            Ok((headers, fragment).into_response())
        }
    }
}

/// `If-Match` is ignored: the end needs no particular ICE session (RFC 9725 section 4.3.1).
async fn end<N: Node>(
    State(doors): State<Doors<N>>,
    Path((_, id)): Path<(String, String)>,
) -> Result<StatusCode, Sentence> {
    doors.node.disconnect(&resource_of(id)?).await?;
    Ok(StatusCode::OK)
}

/// Answers with the ICE servers too: some players ask for them before they offer.
async fn endpoint_options<N: Node>(State(doors): State<Doors<N>>) -> HeaderMap {
    let mut headers = ice_server_links(&doors.options.ice_servers);
    headers.extend(cors::preflight("POST, OPTIONS"));
    headers.insert(ACCEPT_POST, HeaderValue::from_static(SDP));
    headers
}

pub(super) fn wrong_method(allow: &'static str, text: &'static str) -> Response {
    let refusal = Sentence::new(StatusCode::METHOD_NOT_ALLOWED, text);
    ([(ALLOW, HeaderValue::from_static(allow))], refusal).into_response()
}

/// The body as text, when it is of the media type `wanted` and so many are not on their way already.
async fn read_body(bodies: &Semaphore, request: Request, wanted: &str) -> Result<String, Sentence> {
    let sent = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = sent
        .and_then(|value| value.split(';').next())
        .unwrap_or("")
        .trim();
    if !essence.eq_ignore_ascii_case(wanted) {
        let text = format!("the body has to be of Content-Type {wanted}");
        return Err(Sentence::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let _place = bodies.try_acquire().map_err(|_| {
        let text = "the node reads as many requests as it can at once; try again in a moment";
        Sentence::new(StatusCode::SERVICE_UNAVAILABLE, text)
    })?;
    let body = tokio::time::timeout(BODY_WITHIN, Bytes::from_request(request, &())).await;
    let body = body.map_err(|_| {
        Sentence::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive within 10 seconds",
        )
    })?;
    let body = body.map_err(|rejection| body_refusal(&rejection))?;
    String::from_utf8(body.into())
        .map_err(|_| Sentence::new(StatusCode::BAD_REQUEST, "the body has to be UTF-8 text"))
}

fn body_refusal(rejection: &BytesRejection) -> Sentence {
    let status = rejection.status();
    let text = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "the body is too long: an offer has at most 256 KiB",
        _ => "the body broke off",
    };
    Sentence::new(status, text)
}

/// The entity tag in `If-Match`, without quotes (RFC 9110 section 13.1.1).
fn if_match(headers: &HeaderMap) -> Result<String, Sentence> {
    let Some(value) = headers.get(IF_MATCH) else {
        let text =
            "a PATCH needs If-Match: the newest ETag for candidates, or * for an ICE restart";
        return Err(Sentence::new(StatusCode::PRECONDITION_REQUIRED, text));
    };
    let value = value.to_str().unwrap_or("").trim();
    if value == "*" {
        return Ok(value.to_owned());
    }
    // Strong comparison: a weak tag never matches.
    if value.starts_with("W/\"") {
        return Err(Refusal::StaleEtag.into());
    }
    let tag = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match tag {
        Some(tag) if !tag.contains('"') => Ok(tag.to_owned()),
        _ => Err(Sentence::new(
            StatusCode::BAD_REQUEST,
            "If-Match has to hold one entity tag in double quotes, or *",
        )),
    }
}

pub(super) fn resource_of(id: String) -> Result<ResourceId, Sentence> {
    if id.len() > ID_LEN_MAX {
        return Err(Refusal::UnknownSession.into());
    }
    Ok(ResourceId(id))
}

/// One `Link` header for each URL (RFC 9725 section 4.6).
fn ice_server_links(servers: &[IceServer]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for server in servers {
        for url in &server.urls {
            let mut link = format!("<{url}>; rel=\"ice-server\"");
            if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
                let (username, credential) = (quoted(username), quoted(credential));
                link += &format!("; username={username}; credential={credential}");
                link += "; credential-type=\"password\"";
            }
            // A URL or password that no header can hold is left out; `joined` still has it.
            if let Ok(link) = HeaderValue::try_from(link) {
                headers.append(LINK, link);
            }
        }
    }
    headers
}

/// A quoted-string (RFC 9110 section 5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn header_value(text: String) -> Result<HeaderValue, Sentence> {
    HeaderValue::try_from(text)
        .map_err(|_| Refusal::Broken("a name of the session fits no header".to_owned()).into())
}
