//! The layer extension of WHEP (draft-murillo-whep-03 section 4.5.2): a player chooses how good its picture
//! is to be at most, by `POST` to the URL that the answer's `Link` names, and by `DELETE` whatever its
//! network carries again.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{MethodRouter, post};
use serde::Deserialize;

use super::Doors;
use super::cors;
use super::reply::Sentence;
use super::whip::{resource_of, wrong_method};
use crate::node::Node;
use crate::quality::Quality;

/// Names the extension in a `Link` header.
pub(super) const RELATION: &str = "urn:ietf:params:whep:ext:core:layer";

/// What a player chooses. What it does not name is chosen for it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    /// An encoding: `0` is the smallest.
    encoding_id: Option<String>,
    /// A spatial layer of the encoding.
    spatial_layer_id: Option<u8>,
    /// The same, by its other name.
    max_spatial_layer_id: Option<u8>,
}

impl Layer {
    fn most(&self) -> Result<Quality, Sentence> {
        let spatial = self.max_spatial_layer_id.or(self.spatial_layer_id);
        let encoding = match &self.encoding_id {
            Some(id) => Some(id.parse().map_err(|_| {
                let text = "`encodingId` counts the encodings from `0`, the smallest";
                Sentence::new(StatusCode::BAD_REQUEST, text)
            })?),
            None => None,
        };
        Ok(encoding.or(spatial).map_or(Quality::BEST, Quality::Layer))
    }
}

/// The URL of a player's choice.
pub(super) fn choice<N: Node>() -> MethodRouter<Doors<N>> {
    post(choose::<N>)
        .delete(release::<N>)
        .options(|| async { cors::preflight("POST, DELETE, OPTIONS") })
        .fallback(|| async {
            wrong_method(
                "POST, DELETE, OPTIONS",
                "a layer is chosen by POST and left to the server by DELETE",
            )
        })
}

async fn choose<N: Node>(
    State(doors): State<Doors<N>>,
    Path((_, id)): Path<(String, String)>,
    body: Bytes,
) -> Result<StatusCode, Sentence> {
    let layer: Layer = serde_json::from_slice(&body).map_err(|error| {
        let text = format!("a layer is JSON such as {{\"encodingId\":\"0\"}}: {error}");
        Sentence::new(StatusCode::BAD_REQUEST, text)
    })?;
    doors.node.layer(&resource_of(id)?, layer.most()?).await?;
    Ok(StatusCode::OK)
}

async fn release<N: Node>(
    State(doors): State<Doors<N>>,
    Path((_, id)): Path<(String, String)>,
) -> Result<StatusCode, Sentence> {
    doors.node.layer(&resource_of(id)?, Quality::BEST).await?;
    Ok(StatusCode::OK)
}
