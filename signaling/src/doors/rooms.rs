//! `/v1/rooms`: who and what is there.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Doors;
use super::reply::JsonError;
use crate::name::RoomName;
use crate::node::{Node, RoomDetail, RoomSummary};

/// `GET /v1/rooms`
pub(crate) async fn list<N: Node>(State(doors): State<Doors<N>>) -> Json<Vec<RoomSummary>> {
    Json(doors.node.rooms())
}

/// `GET /v1/rooms/{room}`
pub(crate) async fn show<N: Node>(
    State(doors): State<Doors<N>>,
    Path(room): Path<String>,
) -> Result<Json<RoomDetail>, JsonError> {
    let room = RoomName::try_from(room)?;
    doors
        .node
        .room(&room)
        .map(Json)
        .ok_or_else(|| no_such_room(&room))
}

/// `DELETE /v1/rooms/{room}`
pub(crate) async fn close<N: Node>(
    State(doors): State<Doors<N>>,
    Path(room): Path<String>,
) -> Result<StatusCode, JsonError> {
    let room = RoomName::try_from(room)?;
    if doors.node.close_room(&room) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_such_room(&room))
    }
}

fn no_such_room(room: &RoomName) -> JsonError {
    JsonError::new(
        StatusCode::NOT_FOUND,
        format!("there is no room {room} now"),
    )
    .with_hint("a room is there while somebody is in it: GET /v1/rooms lists them")
}
