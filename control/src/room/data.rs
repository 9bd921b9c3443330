//! Data channels: what their labels say, and who gets what is said on them.
//!
//! A message is handed on as it is: it does not say who sent it, and nobody here reads it, but on the
//! control channel.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dataplane::command::Command;
use dataplane::data::{ChannelSpec, DataEvent, DataRequest, Message, MessageKind};
use dataplane::id::{ChannelId, SessionId};
use signaling::channel::{ChannelMessage, ChannelReply, event_text};
use signaling::name::RoomName;
use signaling::node::{PersonId, RoomEvent};
use signaling::quality::Preference;

use super::Rooms;
use super::effect::{ChannelRefusal, Effect};
use super::person::{Person, Presence};
use super::session::{Owner, Session};

/// Messages per second on one control channel: as many as on a WebSocket.
const CONTROL_MESSAGES_PER_S_MAX: u32 = 50;

/// Messages handed to people and players of one room per second: 50 from somebody to each of a
/// hundred. Each costs a handshake thread some 20 microseconds, and others connect meanwhile.
const ROOM_DELIVERIES_PER_S_MAX: u32 = 5_000;

/// The label of channels to everybody in the room.
const ROOM_LABEL: &str = "room";

/// The label of control channels.
const CONTROL_LABEL: &str = "millrace";

/// What the label of a channel to one person begins with; their id follows.
const PERSON_PREFIX: &str = "to:";

/// The data channels of a session that negotiated them.
#[derive(Debug, Default)]
pub(super) struct Channels {
    open: BTreeMap<ChannelId, Channel>,
    /// Messages on the control channel.
    spoken: Quota,
}

/// Counts what may happen so often in a second.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// When the second began, and what was counted since.
    counted: Option<(Instant, u32)>,
}

impl Quota {
    /// Whether `amount` more may happen in this second, of `most`. What is more than that by itself
    /// may happen once.
    fn take(&mut self, now: Instant, amount: u32, most: u32) -> bool {
        let (since, count) = self.counted.get_or_insert((now, 0));
        if now.saturating_duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        let fits = *count == 0 || count.saturating_add(amount) <= most;
        if fits {
            *count = count.saturating_add(amount);
        }
        fits
    }
}

/// A channel that is open.
#[derive(Debug)]
struct Channel {
    purpose: Purpose,
    delivery: Delivery,
}

/// What a channel is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    /// To everybody else in the room who has one too.
    Room,
    /// To this person, if they have one back.
    Person(PersonId),
    /// To and from the server.
    Control,
}

impl Purpose {
    /// What a label says; `None` for one that says nothing to us.
    fn parse(label: &str) -> Option<Purpose> {
        match label {
            ROOM_LABEL => Some(Purpose::Room),
            CONTROL_LABEL => Some(Purpose::Control),
            _ => {
                let id = label.strip_prefix(PERSON_PREFIX)?;
                (!id.is_empty()).then(|| Purpose::Person(PersonId(id.to_owned())))
            }
        }
    }
}

/// How a channel delivers. Of several for one purpose, the one like the sender's gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Delivery {
    ordered: bool,
    reliable: bool,
}

impl From<&ChannelSpec> for Delivery {
    fn from(spec: &ChannelSpec) -> Delivery {
        Delivery {
            ordered: spec.ordered,
            reliable: spec.reliability.is_reliable(),
        }
    }
}

impl Channels {
    /// The channel for a purpose that is most like the sender's.
    fn channel(&self, purpose: &Purpose, like: Option<Delivery>) -> Option<ChannelId> {
        let fitting = |(_, channel): &(&ChannelId, &Channel)| channel.purpose == *purpose;
        let mut all = self.open.iter().filter(fitting);
        let first = all.clone().next()?;
        let alike = all.find(|(_, channel)| Some(channel.delivery) == like);
        Some(*alike.unwrap_or(first).0)
    }
}

impl Rooms {
    /// An offer's data channels were accepted: the engine is told the first time.
    pub(super) fn open_data(&mut self, id: SessionId, message_bytes_max: u32) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.data.is_none() {
            session.data = Some(Box::default());
            let worker = session.worker;
            let command = Command::OpenData {
                session: id,
                message_bytes_max,
            };
            self.command(worker, command);
        }
    }

    /// Takes in what happened on a session's data channels.
    pub(super) fn on_data(&mut self, now: Instant, id: SessionId, event: &DataEvent) {
        match event {
            DataEvent::Opened { channel, spec } => self.on_channel(id, *channel, spec),
            DataEvent::Closed { channel } => {
                if let Some(channels) = self.channels(id) {
                    channels.open.remove(channel);
                }
            }
            DataEvent::Received { channel, message } => {
                self.on_message(now, id, *channel, message);
            }
        }
    }

    /// Tells a session's client of its own media: over its WebSocket, or its control channel.
    pub(super) fn tell_session(&mut self, id: SessionId, event: RoomEvent) {
        if self.has_no_socket(id) {
            let message = text(&event_text(&event));
            self.send(id, &Purpose::Control, None, &message);
        } else if let Some(Owner::Page(person)) = self.sessions.get(&id).map(|its| &its.owner) {
            let person = person.clone();
            self.effects.push_back(Effect::Notify { person, event });
        }
    }

    /// Tells those who have no other line than a control channel.
    pub(super) fn tell_channels(&mut self, room: &RoomName, event: &RoomEvent) {
        let message = text(&event_text(event));
        for id in self.sessions_in(room) {
            if self.has_no_socket(id) {
                self.send(id, &Purpose::Control, None, &message);
            }
        }
    }

    fn on_channel(&mut self, id: SessionId, channel: ChannelId, spec: &ChannelSpec) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let is_player = matches!(session.owner, Owner::Viewer(..));
        let purpose = Purpose::parse(&spec.label)
            // A player has no id by which anybody could answer it.
            .filter(|purpose| !(is_player && matches!(purpose, Purpose::Person(_))));
        match (&mut session.data, purpose) {
            (Some(channels), Some(purpose)) => {
                let delivery = spec.into();
                let open = Channel { purpose, delivery };
                channels.open.insert(channel, open);
            }
            _ => self.refuse_channel(id, channel, ChannelRefusal::UnknownLabel),
        }
    }

    fn on_message(&mut self, now: Instant, id: SessionId, channel: ChannelId, message: &Message) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let open = session
            .data
            .as_ref()
            .and_then(|data| data.open.get(&channel));
        let Some(Channel { purpose, delivery }) = open else {
            return;
        };
        let (purpose, like, room) = (purpose.clone(), Some(*delivery), session.room.clone());
        let owner = session.owner.clone();
        match (purpose, owner) {
            (Purpose::Control, _) => self.on_control(now, id, channel, message),
            // Players listen.
            (Purpose::Room | Purpose::Person(_), Owner::Viewer(..) | Owner::Camera(_)) => {}
            (Purpose::Room, Owner::Page(_) | Owner::Encoder(..)) => {
                self.hand_to_room(now, id, &room, like, message);
            }
            (Purpose::Person(to), Owner::Page(from) | Owner::Encoder(from, _)) => {
                let person = self.people.get(&to).filter(|person| person.room == room);
                if let Some(session) = person.and_then(|person| person.session) {
                    self.send(session, &Purpose::Person(from), like, message);
                }
            }
        }
    }

    /// Hands a message to everybody in the room but its sender.
    fn hand_to_room(
        &mut self,
        now: Instant,
        from: SessionId,
        room: &RoomName,
        like: Option<Delivery>,
        message: &Message,
    ) {
        let mut others = self.sessions_in(room);
        others.retain(|id| *id != from && self.channel_to(*id, &Purpose::Room, like).is_some());
        let Some(room) = self.rooms.get_mut(room) else {
            return;
        };
        let amount = others.len() as u32;
        if !room.deliveries.take(now, amount, ROOM_DELIVERIES_PER_S_MAX) {
            let reason = ChannelRefusal::RoomBusy;
            self.effects.push_back(Effect::ChannelRefused { reason });
            return;
        }
        for other in others {
            self.send(other, &Purpose::Room, like, message);
        }
    }

    fn on_control(&mut self, now: Instant, id: SessionId, channel: ChannelId, message: &Message) {
        let may_speak = |data: &mut Channels| data.spoken.take(now, 1, CONTROL_MESSAGES_PER_S_MAX);
        if !self.channels(id).is_some_and(may_speak) {
            self.refuse_channel(id, channel, ChannelRefusal::TooFast);
            return;
        }
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let you = match &session.owner {
            Owner::Page(person) | Owner::Encoder(person, _) | Owner::Camera(person) => Some(person),
            Owner::Viewer(..) => None,
        };
        let reply = match (ChannelMessage::parse(&message.bytes), you) {
            (Ok(ChannelMessage::Hello), you) => ChannelReply::Hello {
                session: id.0,
                room: &session.room,
                you,
            }
            .to_text(),
            (Ok(ChannelMessage::Chat { text }), Some(person)) => {
                let person = person.clone();
                return self.handle_say(&person, &text);
            }
            (
                Ok(ChannelMessage::Prefer {
                    track,
                    most,
                    priority,
                }),
                _,
            ) => {
                let preference = Preference { most, priority };
                return self.prefer_of(id, track.as_deref(), preference);
            }
            (Ok(ChannelMessage::Chat { .. }), None) => ChannelReply::Refused {
                error: "a player is nobody in the room: only people and encoders may chat",
            }
            .to_text(),
            (Err(error), _) => ChannelReply::Refused { error: &error }.to_text(),
        };
        let message = text(&reply);
        self.send_on(id, channel, message);
    }

    /// Sessions of everybody in a room: people, encoders, players.
    fn sessions_in(&self, room: &RoomName) -> Vec<SessionId> {
        let Some(room) = self.rooms.get(room) else {
            return Vec::new();
        };
        let session = |id: &PersonId| self.people.get(id).and_then(|person| person.session);
        let people = room.people.iter().filter_map(session);
        people.chain(room.viewers.iter().copied()).collect()
    }

    /// Whether a session's client has no WebSocket to be told by.
    fn has_no_socket(&self, id: SessionId) -> bool {
        let by_socket = |person: &Person| {
            matches!(
                person.presence,
                Presence::Page { .. } | Presence::Suspended { .. }
            )
        };
        match self.sessions.get(&id).map(|session| &session.owner) {
            Some(Owner::Page(person)) => !self.people.get(person).is_some_and(by_socket),
            Some(Owner::Encoder(..) | Owner::Camera(_) | Owner::Viewer(..)) => true,
            None => false,
        }
    }

    /// Sends on a session's channel for this purpose, if it has one.
    fn send(&mut self, id: SessionId, to: &Purpose, like: Option<Delivery>, message: &Message) {
        if let Some(channel) = self.channel_to(id, to, like) {
            self.send_on(id, channel, message.clone());
        }
    }

    /// A session's channel for this purpose.
    fn channel_to(&self, id: SessionId, to: &Purpose, like: Option<Delivery>) -> Option<ChannelId> {
        self.sessions.get(&id)?.data.as_ref()?.channel(to, like)
    }

    fn send_on(&mut self, id: SessionId, channel: ChannelId, message: Message) {
        self.request(id, DataRequest::Send { channel, message });
    }

    fn refuse_channel(&mut self, id: SessionId, channel: ChannelId, reason: ChannelRefusal) {
        if let Some(channels) = self.channels(id) {
            channels.open.remove(&channel);
        }
        self.effects.push_back(Effect::ChannelRefused { reason });
        self.request(id, DataRequest::Close { channel });
    }

    fn request(&mut self, id: SessionId, request: DataRequest) {
        if let Some(worker) = self.sessions.get(&id).map(|session| session.worker) {
            let command = Command::Data {
                session: id,
                request: Box::new(request),
            };
            self.command(worker, command);
        }
    }

    fn channels(&mut self, id: SessionId) -> Option<&mut Channels> {
        let session: &mut Session = self.sessions.get_mut(&id)?;
        session.data.as_deref_mut()
    }
}

fn text(text: &str) -> Message {
    Message {
        kind: MessageKind::Text,
        bytes: text.as_bytes().to_vec().into(),
    }
}
