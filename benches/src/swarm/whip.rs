//! The doors WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): an offer posted, an answer back.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::description::Role;
use super::door::{Comer, DoorError, Member, Place, Yard};
use crate::peers::answer::Answer;

/// Bytes of the longest answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How often a server may ask for patience.
const PATIENCE: usize = 20;

/// The longest pause that it may ask for.
const PAUSE_MAX: u64 = 10;

/// The endpoints.
#[derive(Clone, Debug)]
pub(super) struct Whip {
    whip: String,
    whep: String,
    client: Client<HttpConnector, Body>,
}

impl Whip {
    pub(super) fn new(whip: &str, whep: &str) -> Whip {
        Whip {
            whip: whip.to_owned(),
            whep: whep.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    pub(super) async fn publish(&self, yard: &Yard, comer: Comer) -> Result<Member, DoorError> {
        let url = fill(&self.whip, &comer.room, &comer.name);
        let (identity, socket) = comer.identity(yard, &url)?;
        let sections = comer.sending(yard);
        let answer = self
            .post(&url, &identity.describe(Role::Offer, 1, &sections))
            .await?;
        comer.join(yard, &identity, socket, answer, &sections, false);
        Ok(comer.into_member(Place::Whip))
    }

    pub(super) async fn watch(
        &self,
        yard: &Yard,
        comer: Comer,
        own: Option<&Member>,
    ) -> Result<(), DoorError> {
        let name = own.map_or(comer.name.as_str(), |own| &own.name);
        let url = fill(&self.whep, &comer.room, name);
        let (identity, socket) = comer.identity(yard, &url)?;
        let sections = Comer::receiving(yard);
        let answer = self
            .post(&url, &identity.describe(Role::Offer, 1, &sections))
            .await?;
        comer.join(yard, &identity, socket, answer, &sections, true);
        Ok(())
    }

    /// Posts an offer, again and again while the server asks to come back later.
    async fn post(&self, url: &str, offer: &str) -> Result<Answer, DoorError> {
        for _ in 0..PATIENCE {
            let request = Request::post(url)
                .header(CONTENT_TYPE, "application/sdp")
                .body(Body::from(offer.to_owned()))
                .map_err(|_| DoorError::Url(url.to_owned()))?;
            let unreachable = |error: String| DoorError::Unreachable(url.to_owned(), error);
            let response = self.client.request(request).await;
            let response = response.map_err(|error| unreachable(format!("{error:?}")))?;
            let (parts, body) = response.into_parts();
            let body = to_bytes(Body::new(body), ANSWER_BYTES_MAX).await;
            let body = body.map_err(|error| unreachable(error.to_string()))?;
            let text = String::from_utf8_lossy(&body);
            if parts.status == StatusCode::CREATED {
                return Ok(Answer::parse(&text)?);
            }
            let later = parts
                .headers
                .get(RETRY_AFTER)
                .and_then(|after| after.to_str().ok());
            let Some(later) = later.and_then(|seconds| seconds.parse::<u64>().ok()) else {
                return Err(DoorError::Refused(format!("{}: {text}", parts.status)));
            };
            tokio::time::sleep(Duration::from_secs(later.clamp(1, PAUSE_MAX))).await;
        }
        Err(DoorError::Refused(format!(
            "{url} asked {PATIENCE} times to come back later"
        )))
    }
}

fn fill(template: &str, room: &str, name: &str) -> String {
    template.replace("{room}", room).replace("{name}", name)
}
