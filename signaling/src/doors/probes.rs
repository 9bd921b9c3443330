//! `/healthz`, `/readyz`, `/metrics`: for the machines that look after this one.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::Doors;
use super::reply::Sentence;
use crate::node::Node;

/// The process answers: nothing more is asked, so that an overloaded node is not restarted.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether new sessions are taken.
pub(crate) async fn readyz<N: Node>(State(doors): State<Doors<N>>) -> Response {
    match doors.node.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => Sentence::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

/// The metrics, in Prometheus text format 0.0.4.
pub(crate) async fn metrics<N: Node>(State(doors): State<Doors<N>>) -> Response {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        doors.node.metrics(),
    )
        .into_response()
}
