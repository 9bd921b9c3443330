//! The door of our own rooms (docs/websocket.md): a person joins, sends, and receives everybody else.

use dataplane::command::MediaKind;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::description::{Direction, Identity, Role, Section};
use super::door::{Comer, DoorError, Member, Place, Yard};
use crate::peers::answer::Answer;
use crate::peers::meeting::web_socket_url;
use crate::peers::roster::{Roster, ServerMessage};

type Web = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Where rooms are joined.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    url: String,
}

/// Somebody in a room; who is dropped leaves.
#[derive(Clone, Debug)]
pub(super) struct Person {
    asks: mpsc::Sender<oneshot::Sender<Result<(), DoorError>>>,
}

impl Rooms {
    pub(super) fn new(page: &str) -> Result<Rooms, DoorError> {
        let url = web_socket_url(page).map_err(|_| DoorError::Url(page.to_owned()))?;
        Ok(Rooms { url })
    }

    pub(super) async fn publish(&self, yard: &Yard, comer: Comer) -> Result<Member, DoorError> {
        let connected = connect_async_with_config(&self.url, None, true).await;
        let (web, _) = connected
            .map_err(|error| DoorError::Unreachable(self.url.clone(), error.to_string()))?;
        let (identity, socket) = comer.identity(yard, &self.url)?;
        let mut life = Life {
            web,
            roster: Roster::default(),
            identity,
            sections: comer.sending(yard),
        };
        let join = json!({"type": "join", "room": comer.room, "name": comer.name});
        life.say(&join).await?;
        while life.hear().await?.is_none() {
            if life.roster.is_known() {
                break;
            }
        }
        let answer = life.offer(1, &json!({})).await?;
        let leg = comer.join(yard, &life.identity, socket, answer, &life.sections, true);
        let (asks, asked) = mpsc::channel(1);
        tokio::spawn(life.live(asked));
        Ok(comer.into_member(Place::Person(Person { asks }, leg)))
    }
}

impl Person {
    /// Receives what everybody else in the room sends now.
    pub(super) async fn watch(&self) -> Result<(), DoorError> {
        let gone = || DoorError::Refused("the room's connection is gone".to_owned());
        let (reply, replied) = oneshot::channel();
        self.asks.send(reply).await.map_err(|_| gone())?;
        replied.await.map_err(|_| gone())?
    }
}

/// A person's connection.
struct Life {
    web: Web,
    roster: Roster,
    identity: Identity,
    sections: Vec<Section>,
}

impl Life {
    /// Listens until everybody who could ask is gone.
    async fn live(mut self, mut asked: mpsc::Receiver<oneshot::Sender<Result<(), DoorError>>>) {
        loop {
            tokio::select! {
                ask = asked.recv() => {
                    let Some(reply) = ask else { break };
                    reply.send(self.watch().await).ok();
                }
                heard = self.hear() => if heard.is_err() { return },
            }
        }
        self.say(&json!({"type": "leave"})).await.ok();
    }

    async fn watch(&mut self) -> Result<(), DoorError> {
        let mut wants = serde_json::Map::new();
        for track in self.roster.tracks() {
            let mid = self.sections.len();
            self.sections
                .push(Section::new(mid, track.kind, Direction::Receives));
            wants.insert(mid.to_string(), track.id.as_str().into());
        }
        self.offer(2, &wants.into()).await.map(|_| ())
    }

    async fn offer(&mut self, id: u64, wants: &serde_json::Value) -> Result<Answer, DoorError> {
        let sends = self.sections.iter();
        let sends = sends.filter(|section| matches!(section.direction, Direction::Sends(_)));
        let sources: serde_json::Map<String, serde_json::Value> = sends
            .map(|section| {
                let source = match section.kind {
                    MediaKind::Audio => "microphone",
                    MediaKind::Video => "camera",
                };
                (section.mid.clone(), source.into())
            })
            .collect();
        let sdp = self.identity.describe(Role::Offer, id, &self.sections);
        let offer =
            json!({"type": "offer", "id": id, "sdp": sdp, "sources": sources, "wants": wants});
        self.say(&offer).await?;
        loop {
            if let Some(answer) = self.hear().await? {
                return Ok(Answer::parse(&answer)?);
            }
        }
    }

    async fn say(&mut self, message: &serde_json::Value) -> Result<(), DoorError> {
        let sent = self.web.send(Message::text(message.to_string())).await;
        sent.map_err(|error| DoorError::Refused(error.to_string()))
    }

    /// Takes the next message; an answer is given back.
    async fn hear(&mut self) -> Result<Option<String>, DoorError> {
        let refused = |reason: &str| DoorError::Refused(reason.to_owned());
        let text = match self.web.next().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(_))) | None => return Err(refused("the connection is closed")),
            Some(Ok(_)) => return Ok(None),
            Some(Err(error)) => return Err(refused(&error.to_string())),
        };
        let message = serde_json::from_str::<ServerMessage>(&text).map_err(|_| refused(&text))?;
        match message {
            ServerMessage::Joined { you, people } => self.roster = Roster::new(you, people),
            ServerMessage::Answer { sdp, .. } => return Ok(Some(sdp)),
            ServerMessage::Refused { error, .. } => return Err(refused(&error)),
            ServerMessage::PersonJoined { person } => self.roster.add(person),
            ServerMessage::PersonLeft { id } => self.roster.remove(&id),
            ServerMessage::Tracks { id, tracks } => self.roster.set_tracks(&id, tracks),
            ServerMessage::MediaLost { reason } | ServerMessage::Closed { reason } => {
                return Err(refused(&reason));
            }
            ServerMessage::Other => {}
        }
        Ok(None)
    }
}
