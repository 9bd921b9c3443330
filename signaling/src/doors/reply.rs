//! Refusals as responses: a sentence for encoders and players, JSON for everything else.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::name::BadRoomName;
use crate::node::Refusal;

/// What a client that was turned away for lack of room waits before it asks again, seconds.
const RETRY_AFTER_S: u32 = 5;

/// A refusal in one plain sentence.
#[derive(Debug)]
pub(crate) struct Sentence {
    status: StatusCode,
    text: String,
}

impl Sentence {
    /// A refusal with this status and text.
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Sentence {
        Sentence {
            status,
            text: text.into(),
        }
    }
}

impl IntoResponse for Sentence {
    fn into_response(self) -> Response {
        with_retry_after(self.status, (self.status, self.text + "\n").into_response())
    }
}

impl From<Refusal> for Sentence {
    fn from(refusal: Refusal) -> Sentence {
        Sentence::new(status_of(&refusal), refusal.to_string())
    }
}

impl From<BadRoomName> for Sentence {
    fn from(bad: BadRoomName) -> Sentence {
        Sentence::new(StatusCode::BAD_REQUEST, bad.to_string())
    }
}

/// A refusal as JSON: what was wrong, and what would be right.
#[derive(Debug, Serialize)]
pub(crate) struct JsonError {
    #[serde(skip)]
    status: StatusCode,
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl JsonError {
    /// A refusal with this status and text.
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> JsonError {
        JsonError {
            status,
            error: error.into(),
            hint: None,
        }
    }

    /// Adds what would be right.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> JsonError {
        self.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for JsonError {
    fn into_response(self) -> Response {
        with_retry_after(self.status, (self.status, Json(&self)).into_response())
    }
}

impl From<Refusal> for JsonError {
    fn from(refusal: Refusal) -> JsonError {
        JsonError::new(status_of(&refusal), refusal.to_string())
    }
}

impl From<BadRoomName> for JsonError {
    fn from(bad: BadRoomName) -> JsonError {
        JsonError::new(StatusCode::BAD_REQUEST, bad.to_string())
    }
}

fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Unservable(_) | Refusal::BadCamera(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::RoomFull(_) | Refusal::NodeFull(_) | Refusal::ShuttingDown => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Refusal::NothingToWatch => StatusCode::CONFLICT,
        Refusal::UnknownSession => StatusCode::NOT_FOUND,
        Refusal::StaleEtag => StatusCode::PRECONDITION_FAILED,
        Refusal::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Adds `Retry-After` where waiting helps (RFC 9110 section 10.2.3).
fn with_retry_after(status: StatusCode, mut response: Response) -> Response {
    let seconds = match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT => RETRY_AFTER_S,
        StatusCode::TOO_MANY_REQUESTS => 1,
        _ => return response,
    };
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}
