//! `/v1/cameras`: cameras that the node pulls into its rooms.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::reply::JsonError;
use super::{Doors, callers};
use crate::camera::{CameraRequest, CameraView, without_secrets};
use crate::node::{Node, PersonId, Refusal};

/// The longest description of a camera, bytes: three addresses of the longest kind, and their names.
const BODY_LEN_MAX: usize = 16 * 1024;

/// What a camera is described in.
const JSON: &str = "application/json";

/// How a camera is described, for people who described none.
const EXAMPLE: &str = "a camera is JSON such as {\"room\":\"gate\",\"name\":\"Gate\",\
                       \"url\":\"rtsp://name:password@192.0.2.7:554/stream1\"}";

/// The URL of all cameras.
pub(super) fn all<N: Node>(doors: &Doors<N>) -> MethodRouter<Doors<N>> {
    let limited = middleware::from_fn_with_state(doors.clone(), callers::limit::<N>);
    post(add::<N>)
        .route_layer(limited)
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .get(list::<N>)
}

/// The URL of one camera.
pub(super) fn one<N: Node>() -> MethodRouter<Doors<N>> {
    get(show::<N>).delete(remove::<N>)
}

async fn add<N: Node>(
    State(doors): State<Doors<N>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, JsonError> {
    let sent = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = sent
        .and_then(|value| value.split(';').next())
        .unwrap_or("")
        .trim();
    // A page of another origin can send any other type without having asked whether it may.
    if !essence.eq_ignore_ascii_case(JSON) {
        let text = format!("the body has to be of Content-Type {JSON}");
        return Err(JsonError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text).with_hint(EXAMPLE));
    }
    let body =
        body.map_err(|rejection| JsonError::new(rejection.status(), too_long(&rejection)))?;
    let request: CameraRequest = serde_json::from_slice(&body).map_err(|error| {
        JsonError::new(StatusCode::BAD_REQUEST, without_secrets(&error.to_string()))
            .with_hint(EXAMPLE)
    })?;
    let view = doors.node.add_camera(request).await?;
    let location = format!("/v1/cameras/{}", view.id.0);
    let location = HeaderValue::try_from(location)
        .map_err(|_| Refusal::Broken("the camera's id fits no header".to_owned()))?;
    let headers = [(LOCATION, location)];
    Ok((StatusCode::CREATED, headers, Json(view)).into_response())
}

async fn list<N: Node>(State(doors): State<Doors<N>>) -> Json<Vec<CameraView>> {
    Json(doors.node.cameras())
}

async fn show<N: Node>(
    State(doors): State<Doors<N>>,
    Path(id): Path<String>,
) -> Result<Json<CameraView>, JsonError> {
    let view = doors.node.camera(&PersonId(id));
    view.map(Json).ok_or_else(no_such_camera)
}

async fn remove<N: Node>(
    State(doors): State<Doors<N>>,
    Path(id): Path<String>,
) -> Result<StatusCode, JsonError> {
    if doors.node.remove_camera(&PersonId(id)) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_such_camera())
    }
}

fn no_such_camera() -> JsonError {
    JsonError::new(StatusCode::NOT_FOUND, "there is no such camera now")
        .with_hint("GET /v1/cameras lists them with their ids")
}

fn too_long(rejection: &BytesRejection) -> &'static str {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => "the body is too long: a camera has at most 16 KiB",
        _ => "the body broke off",
    }
}
