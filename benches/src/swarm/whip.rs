//! The doors WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): an offer posted, an answer back.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::description::Role;
use super::door::{Comer, DoorError, Member, Place, Yard};
use super::flock::LegId;
use crate::peers::answer::Answer;

/// Bytes of the longest answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How often a server may ask for patience.
const PATIENCE: usize = 20;

/// The longest pause that it may ask for.
const PAUSE_MAX: u64 = 10;

/// Somebody who watches.
#[derive(Debug)]
pub(super) struct Watching {
    /// Its connection.
    pub(super) leg: LegId,
    /// Where it can be ended (RFC 9725 section 4.2).
    resource: String,
}

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
        let (answer, _) = self
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
    ) -> Result<Watching, DoorError> {
        let name = own.map_or(comer.name.as_str(), |own| &own.name);
        let url = fill(&self.whep, &comer.room, name);
        let (identity, socket) = comer.identity(yard, &url)?;
        let sections = Comer::receiving(yard);
        let (answer, resource) = self
            .post(&url, &identity.describe(Role::Offer, 1, &sections))
            .await?;
        let leg = comer.join(yard, &identity, socket, answer, &sections, true);
        Ok(Watching { leg, resource })
    }

    /// Ends it by its resource.
    pub(super) async fn end(&self, watching: &Watching) -> Result<(), DoorError> {
        let url = &watching.resource;
        let request = Request::delete(url).body(Body::empty());
        let request = request.map_err(|_| DoorError::Url(url.clone()))?;
        let response = self.client.request(request).await;
        let status = response
            .map_err(|error| DoorError::Unreachable(url.clone(), error.to_string()))?
            .status();
        if status.is_success() {
            return Ok(());
        }
        Err(DoorError::Refused(format!("DELETE {url}: {status}")))
    }

    /// Posts an offer, again and again while the server asks to come back later; what is answered, and where
    /// the resource is.
    async fn post(&self, url: &str, offer: &str) -> Result<(Answer, String), DoorError> {
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
                let location = parts.headers.get(LOCATION).and_then(|to| to.to_str().ok());
                return Ok((Answer::parse(&text)?, absolute(url, location.unwrap_or(""))));
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

/// An address that may begin at the root of where it was said.
fn absolute(base: &str, location: &str) -> String {
    if !location.starts_with('/') {
        return location.to_owned();
    }
    let host_at = base.find("://").map_or(0, |at| at + 3);
    let host = base.get(host_at..).unwrap_or_default();
    let end = host_at + host.find('/').unwrap_or(host.len());
    format!("{}{location}", base.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_on_the_host_that_named_it() {
        let base = "http://localhost:8080/v1/rooms/a/whep";
        assert_eq!(absolute(base, "/v1/x"), "http://localhost:8080/v1/x");
        assert_eq!(absolute(base, "http://other/x"), "http://other/x");
    }
}
