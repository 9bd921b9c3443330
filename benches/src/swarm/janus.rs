//! The door of Janus: its videoroom plugin over its WebSocket API (janus.conf.meetecho.com/docs).
//!
//! One WebSocket and one Janus session carry everybody; each publisher and each viewer has a handle.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::description::{Role, offered};
use super::door::{Comer, DoorError, Member, Place, Yard};
use crate::peers::answer::Answer;

/// A session without a word for 60 s is ended.
const KEEP_ALIVE: Duration = Duration::from_secs(25);

/// A request and who waits for what it brings.
type Ask = (Value, oneshot::Sender<Value>);

/// A session with the server.
#[derive(Clone, Debug)]
pub(super) struct Janus {
    url: String,
    asks: mpsc::Sender<Ask>,
    session: u64,
    /// Rooms that were made.
    rooms: Arc<Mutex<HashSet<u64>>>,
    next_room: Arc<AtomicU64>,
    numbers: Arc<Mutex<HashMap<String, u64>>>,
}

impl Janus {
    pub(super) async fn connect(url: &str) -> Result<Janus, DoorError> {
        let unreachable = |error: String| DoorError::Unreachable(url.to_owned(), error);
        let mut request = url
            .into_client_request()
            .map_err(|error| unreachable(error.to_string()))?;
        let protocol = HeaderValue::from_static("janus-protocol");
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
        let connected = tokio_tungstenite::connect_async(request).await;
        let (web, _) = connected.map_err(|error| unreachable(error.to_string()))?;
        let (asks, mut asked) = mpsc::channel::<Ask>(64);
        tokio::spawn(async move {
            let (mut outgoing, mut incoming) = web.split();
            let mut waiting: HashMap<String, oneshot::Sender<Value>> = HashMap::new();
            let mut number = 0_u64;
            loop {
                tokio::select! {
                    ask = asked.recv() => {
                        let Some((mut request, reply)) = ask else { return };
                        number += 1;
                        let transaction = format!("t{number}");
                        request["transaction"] = transaction.as_str().into();
                        waiting.insert(transaction, reply);
                        if outgoing.send(Message::text(request.to_string())).await.is_err() {
                            return;
                        }
                    }
                    message = incoming.next() => match message {
                        Some(Ok(Message::Text(text))) => answer(&mut waiting, &text),
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return,
                    },
                }
            }
        });
        let mut janus = Janus {
            url: url.to_owned(),
            asks,
            session: 0,
            rooms: Arc::default(),
            // Rooms outlive their people: those of the load before are still there.
            next_room: Arc::new(AtomicU64::new(u64::from(std::process::id()) * 10_000)),
            numbers: Arc::default(),
        };
        let created = janus.ask(json!({"janus": "create"})).await?;
        janus.session = number_at(&created, "/data/id")?;
        let alive = janus.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(KEEP_ALIVE);
            loop {
                ticks.tick().await;
                let request = json!({"janus": "keepalive", "session_id": alive.session});
                // Its acknowledgement is not waited for: that of a request means nothing.
                let (reply, _) = oneshot::channel();
                if alive.asks.send((request, reply)).await.is_err() {
                    return;
                }
            }
        });
        Ok(janus)
    }

    pub(super) async fn publish(&self, yard: &Yard, comer: Comer) -> Result<Member, DoorError> {
        let handle = self.attach().await?;
        let room = self.room(handle, &comer.room).await?;
        let (identity, socket) = comer.identity(yard, &self.url)?;
        let sections = comer.sending(yard);
        let sdp = identity.describe(Role::Offer, 1, &sections);
        let body = json!({
            "request": "joinandconfigure", "ptype": "publisher", "room": room,
            "display": comer.name,
        });
        let event = self.message(handle, body, Some(("offer", &sdp))).await?;
        let feed = number_at(&event, "/plugindata/data/id")?;
        let answer = Answer::parse(text_at(&event, "/jsep/sdp")?)?;
        comer.join(yard, &identity, socket, answer, &sections, false);
        Ok(comer.into_member(Place::Janus(feed)))
    }

    pub(super) async fn watch(&self, yard: &Yard, comer: Comer) -> Result<(), DoorError> {
        let handle = self.attach().await?;
        let room = self.room(handle, &comer.room).await?;
        let feeds: Vec<Value> = comer
            .others
            .iter()
            .filter_map(|member| match member.place {
                Place::Janus(feed) => Some(json!({"feed": feed})),
                _ => None,
            })
            .collect();
        let body = json!({
            "request": "join", "ptype": "subscriber", "room": room, "streams": feeds,
        });
        let event = self.message(handle, body, None).await?;
        let offer = text_at(&event, "/jsep/sdp")?;
        let (identity, socket) = comer.identity(yard, &self.url)?;
        let sections = offered(offer);
        let sdp = identity.describe(Role::Answer, 1, &sections);
        let theirs = Answer::parse(offer)?;
        let body = json!({"request": "start", "room": room});
        self.message(handle, body, Some(("answer", &sdp))).await?;
        // Checks that come before the answer are not heard.
        comer.join(yard, &identity, socket, theirs, &sections, true);
        Ok(())
    }

    async fn attach(&self) -> Result<u64, DoorError> {
        let request = json!({
            "janus": "attach", "session_id": self.session, "plugin": "janus.plugin.videoroom",
        });
        number_at(&self.ask(request).await?, "/data/id")
    }

    /// The number of a room, which is made if nobody has been in it yet.
    async fn room(&self, handle: u64, name: &str) -> Result<u64, DoorError> {
        let number = {
            let mut numbers = self.numbers.lock().await;
            let next = || self.next_room.fetch_add(1, Ordering::Relaxed);
            *numbers.entry(name.to_owned()).or_insert_with(next)
        };
        let mut rooms = self.rooms.lock().await;
        if rooms.contains(&number) {
            return Ok(number);
        }
        let body = json!({
            "request": "create", "room": number, "publishers": 1_000, "bitrate": 0,
            "audiocodec": "opus", "videocodec": "vp8", "notify_joining": false,
            "audiolevel_ext": false, "videoorient_ext": false, "playoutdelay_ext": false,
            "transport_wide_cc_ext": false, "fir_freq": 0,
        });
        self.message(handle, body, None).await?;
        rooms.insert(number);
        Ok(number)
    }

    async fn message(
        &self,
        handle: u64,
        body: Value,
        jsep: Option<(&str, &str)>,
    ) -> Result<Value, DoorError> {
        let mut request = json!({
            "janus": "message", "session_id": self.session, "handle_id": handle, "body": body,
        });
        if let Some((kind, sdp)) = jsep {
            request["jsep"] = json!({"type": kind, "sdp": sdp});
        }
        self.ask(request).await
    }

    async fn ask(&self, request: Value) -> Result<Value, DoorError> {
        let gone = || DoorError::Unreachable(self.url.clone(), "the connection closed".to_owned());
        let (reply, replied) = oneshot::channel();
        self.asks.send((request, reply)).await.map_err(|_| gone())?;
        let event = replied.await.map_err(|_| gone())?;
        let errors = [
            event.pointer("/error/reason"),
            event.pointer("/plugindata/data/error"),
        ];
        let reason = errors.into_iter().flatten().next().map(Value::to_string);
        match reason {
            Some(reason) => Err(DoorError::Refused(reason)),
            None => Ok(event),
        }
    }
}

/// Gives an event to who waits for it; an acknowledgement says only that there will be one.
fn answer(waiting: &mut HashMap<String, oneshot::Sender<Value>>, text: &str) {
    let Ok(event) = serde_json::from_str::<Value>(text) else {
        return;
    };
    if event["janus"] == "ack" {
        return;
    }
    if let Some(reply) = event["transaction"]
        .as_str()
        .and_then(|t| waiting.remove(t))
    {
        reply.send(event).ok();
    }
}

fn number_at(event: &Value, at: &str) -> Result<u64, DoorError> {
    let number = event.pointer(at).and_then(Value::as_u64);
    number.ok_or_else(|| DoorError::Refused(format!("no {at} in {event}")))
}

fn text_at<'a>(event: &'a Value, at: &str) -> Result<&'a str, DoorError> {
    let text = event.pointer(at).and_then(Value::as_str);
    text.ok_or_else(|| DoorError::Refused(format!("no {at} in {event}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_no_answer() {
        let (reply, mut replied) = oneshot::channel();
        let mut waiting = HashMap::from([("t1".to_owned(), reply)]);
        answer(&mut waiting, r#"{"janus":"ack","transaction":"t1"}"#);
        assert!(replied.try_recv().is_err());
        answer(
            &mut waiting,
            r#"{"janus":"event","transaction":"t1","x":7}"#,
        );
        assert_eq!(number_at(&replied.try_recv().unwrap(), "/x").unwrap(), 7);
        assert!(waiting.is_empty());
    }
}
