//! The room protocol from the server's side, as a state machine without IO.
//!
//! Calls: any `handle_*` when something happens, then [`Protocol::poll_action`] until it is empty,
//! then [`Protocol::poll_timeout`] for when to call [`Protocol::handle_timeout`] next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::{
    BadMessage, ClientMessage, Failure, Join, OfferMessage, Resume, ServerMessage, to_text,
};
use crate::doors::IceServer;
use crate::name::{PersonName, RoomName};
use crate::node::{PageOffer, Person, PersonId, Refusal, RoomEvent, SourceKind, Visit};
use crate::quality::Preference;
use crate::sdp::Offer;

/// How long a new socket may stay silent.
const FIRST_MESSAGE_WITHIN: Duration = Duration::from_secs(5);
/// Pings keep middleboxes from forgetting the connection, and find clients that are gone.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Pings without a sign of life after which a client is gone.
const PINGS_UNANSWERED_MAX: u32 = 2;
/// Frames a client may send in any one second.
const FRAMES_PER_S_MAX: usize = 50;
/// Longest text frame, bytes: the longest offer that HTTP takes too.
pub(super) const FRAME_LEN_MAX: usize = 256 * 1024;

/// Why the server closes a socket: `docs/websocket.md` tells clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// Answers a client's goodbye.
    Normal = 1000,
    /// The node failed.
    Internal = 1011,
    /// The first message is no `join` or `resume`, or did not come.
    NotJoined = 4002,
    /// A field is missing or out of range.
    BadField = 4004,
    /// Not JSON.
    NotJson = 4005,
    /// An unknown type or token, or a message out of turn.
    Unknown = 4006,
    /// Too many or too long messages.
    TooMuch = 4008,
    /// Room or node full.
    Full = 4009,
    /// Room closed or node ending.
    Closed = 4010,
    /// The person's place is served elsewhere, or they did not read what was sent.
    Replaced = 4011,
}

/// What the shell has to do. In order.
#[derive(Debug)]
pub enum Action {
    /// Ask the node to let somebody in; then `handle_entered`.
    Enter {
        /// Where.
        room: RoomName,
        /// Who.
        name: PersonName,
    },
    /// Ask the node whose token this is; then `handle_entered`.
    Resume {
        /// The token.
        token: String,
    },
    /// Ask the node to answer; then `handle_answered`.
    Offer {
        /// Who offers.
        person: PersonId,
        /// What.
        offer: PageOffer,
    },
    /// Tell the node.
    Mute {
        /// Who.
        person: PersonId,
        /// Which source.
        source: SourceKind,
        /// Whether it is muted.
        muted: bool,
    },
    /// Tell the node.
    Prefer {
        /// Who.
        person: PersonId,
        /// Which track.
        track: String,
        /// What they want of it.
        preference: Preference,
    },
    /// Tell the node.
    Say {
        /// Who.
        person: PersonId,
        /// What.
        text: String,
    },
    /// Tell the node that the person may come back.
    Suspend(PersonId, Visit),
    /// Tell the node that the person is gone.
    Leave(PersonId, Visit),
    /// Send a text frame.
    Send(String),
    /// Send a ping.
    Ping,
    /// Send a close frame; nothing follows on the socket.
    Close(CloseCode, String),
    /// Drop the socket without a word; nothing follows on it.
    Drop,
}

/// Somebody who was let in, without the channel of what happens there.
#[derive(Debug)]
pub struct Joined {
    /// Who.
    pub person: PersonId,
    /// What ends with this socket.
    pub visit: Visit,
    /// Where.
    pub room: RoomName,
    /// What `resume` needs.
    pub resume_token: String,
    /// Everybody.
    pub people: Vec<Person>,
}

#[derive(Debug)]
enum State {
    /// The first message has to come until then.
    Waiting { until: Instant },
    /// The node was asked to let the person in, or back in.
    Entering { resuming: bool },
    /// The socket ended while the node was asked; the person has to be let out again.
    Abandoned { resuming: bool },
    /// In the room. `offer` is the number of the one that the node works on.
    Joined {
        person: PersonId,
        visit: Visit,
        offer: Option<u64>,
    },
    /// Nothing follows.
    Over,
}

/// One client's conversation.
#[derive(Debug)]
pub struct Protocol {
    state: State,
    ice_servers: Arc<[IceServer]>,
    actions: VecDeque<Action>,
    /// When the last frames came, newest last: as many as may come in a second.
    frames: VecDeque<Instant>,
    ping_at: Instant,
    pings_unanswered: u32,
}

impl Protocol {
    /// A socket was opened.
    pub fn new(now: Instant, ice_servers: Arc<[IceServer]>) -> Protocol {
        Protocol {
            state: State::Waiting {
                until: now + FIRST_MESSAGE_WITHIN,
            },
            ice_servers,
            actions: VecDeque::new(),
            frames: VecDeque::with_capacity(FRAMES_PER_S_MAX),
            ping_at: now + PING_EVERY,
            pings_unanswered: 0,
        }
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Protocol::handle_timeout`]: the first message is due, or the next ping.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting { until } => Some(self.ping_at.min(*until)),
            State::Entering { .. } | State::Joined { .. } => Some(self.ping_at),
            State::Abandoned { .. } | State::Over => None,
        }
    }

    /// Whether the socket has ended; the node may still be at work for it.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over | State::Abandoned { .. })
    }

    /// A text frame came.
    pub fn handle_text(&mut self, now: Instant, text: &str) {
        if self.is_over() || !self.handle_frame(now) {
            return;
        }
        if text.len() > FRAME_LEN_MAX {
            self.fail(CloseCode::TooMuch, "a message has at most 256 KiB");
            return;
        }
        match ClientMessage::parse(text) {
            Ok(message) => self.on_message(message),
            Err(bad) => self.on_bad_message(&bad),
        }
    }

    /// A binary frame came.
    pub fn handle_binary(&mut self, now: Instant) {
        if !self.is_over() && self.handle_frame(now) {
            self.fail(CloseCode::NotJson, "messages have to be JSON text frames");
        }
    }

    /// Any frame came, pings and pongs too; `false` when it was one too many.
    pub fn handle_frame(&mut self, now: Instant) -> bool {
        self.pings_unanswered = 0;
        if self.frames.len() == FRAMES_PER_S_MAX
            && let Some(oldest) = self.frames.pop_front()
            && now.saturating_duration_since(oldest) < Duration::from_secs(1)
        {
            if !self.is_over() {
                let text = format!("too many messages: at most {FRAMES_PER_S_MAX} a second");
                self.fail(CloseCode::TooMuch, &text);
            }
            return false;
        }
        self.frames.push_back(now);
        true
    }

    /// The client closed the socket with this code.
    pub fn handle_close(&mut self, code: Option<u16>) {
        // 1001 is what a browser sends when its tab is closed.
        self.on_end(matches!(code, Some(1000 | 1001)));
    }

    /// The socket broke.
    pub fn handle_broken(&mut self) {
        self.on_end(false);
    }

    /// The node let the person in, or not.
    pub fn handle_entered(&mut self, result: Result<Joined, Refusal>) {
        match (std::mem::replace(&mut self.state, State::Over), result) {
            (State::Entering { .. }, Ok(joined)) => {
                let message = ServerMessage::Joined {
                    you: &joined.person,
                    room: &joined.room,
                    token: &joined.resume_token,
                    people: &joined.people,
                    ice_servers: &self.ice_servers,
                };
                self.actions.push_back(Action::Send(to_text(&message)));
                self.state = State::Joined {
                    person: joined.person,
                    visit: joined.visit,
                    offer: None,
                };
            }
            (State::Entering { .. }, Err(refusal)) => {
                self.fail(code_of(&refusal), &refusal.to_string());
            }
            // Who cannot know the token cannot come back.
            (State::Abandoned { resuming: false }, Ok(joined)) => {
                self.actions
                    .push_back(Action::Leave(joined.person, joined.visit));
            }
            (State::Abandoned { resuming: true }, Ok(joined)) => {
                self.actions
                    .push_back(Action::Suspend(joined.person, joined.visit));
            }
            (State::Abandoned { .. }, Err(_)) => {}
            (State::Waiting { .. } | State::Joined { .. } | State::Over, _) => {
                unreachable!("the node is asked once, and the state waits for its answer")
            }
        }
    }

    /// The node answered the offer, or refused it.
    pub fn handle_answered(&mut self, result: &Result<String, Refusal>) {
        let State::Joined { offer, .. } = &mut self.state else {
            return;
        };
        let Some(id) = offer.take() else { return };
        let text = match result {
            Ok(sdp) => to_text(&ServerMessage::Answer { id, sdp }),
            Err(refusal) => to_text(&ServerMessage::Refused {
                id,
                error: refusal.to_string(),
            }),
        };
        self.actions.push_back(Action::Send(text));
    }

    /// Something happened in the room.
    pub fn handle_event(&mut self, event: &RoomEvent) {
        if !matches!(self.state, State::Joined { .. }) {
            return;
        }
        self.actions.push_back(Action::Send(to_text(event)));
        if let RoomEvent::Closed { reason } = event {
            self.close(CloseCode::Closed, reason);
        }
    }

    /// The node closed the room's channel: the person resumed on another socket, or did not read.
    pub fn handle_events_ended(&mut self) {
        if matches!(self.state, State::Joined { .. }) {
            let text = "this connection was replaced by another one, or did not keep up";
            self.fail_without_leave(CloseCode::Replaced, text);
        }
    }

    /// The time that [`Protocol::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_over() {
            return;
        }
        if let State::Waiting { until } = &self.state
            && now >= *until
        {
            self.fail(
                CloseCode::NotJoined,
                "no `join` or `resume` came within 5 seconds",
            );
            return;
        }
        if now < self.ping_at {
            return;
        }
        if self.pings_unanswered >= PINGS_UNANSWERED_MAX {
            self.on_end(false);
            self.actions.push_back(Action::Drop);
            return;
        }
        self.pings_unanswered += 1;
        self.ping_at = now + PING_EVERY;
        self.actions.push_back(Action::Ping);
    }

    fn on_message(&mut self, message: ClientMessage) {
        match (&mut self.state, message) {
            (State::Waiting { .. }, ClientMessage::Join(Join { room, name })) => {
                self.state = State::Entering { resuming: false };
                self.actions.push_back(Action::Enter {
                    room,
                    name: PersonName::new(&name),
                });
            }
            (State::Waiting { .. }, ClientMessage::Resume(Resume { token })) => {
                self.state = State::Entering { resuming: true };
                self.actions.push_back(Action::Resume { token });
            }
            (State::Waiting { .. }, _) => {
                self.fail(
                    CloseCode::NotJoined,
                    "the first message has to be `join` or `resume`",
                );
            }
            (_, ClientMessage::Leave) => {
                self.on_end(true);
                self.actions
                    .push_back(Action::Close(CloseCode::Normal, String::new()));
            }
            (State::Joined { person, offer, .. }, ClientMessage::Offer(message)) => {
                let action = on_offer(person, offer, message);
                self.actions.push_back(action);
            }
            (State::Joined { person, .. }, ClientMessage::Mute(mute)) => {
                let person = person.clone();
                let (source, muted) = (mute.source, mute.muted);
                self.actions.push_back(Action::Mute {
                    person,
                    source,
                    muted,
                });
            }
            (State::Joined { person, .. }, ClientMessage::Prefer(prefer)) => {
                let person = person.clone();
                self.actions.push_back(Action::Prefer {
                    person,
                    track: prefer.track,
                    preference: Preference {
                        most: prefer.most,
                        priority: prefer.priority,
                    },
                });
            }
            (State::Joined { person, .. }, ClientMessage::Chat(chat)) => {
                let person = person.clone();
                self.actions.push_back(Action::Say {
                    person,
                    text: chat.text,
                });
            }
            (State::Joined { .. }, ClientMessage::Join(_) | ClientMessage::Resume(_)) => {
                self.fail(CloseCode::Unknown, "you have joined already");
            }
            (State::Entering { .. }, _) => {
                self.fail(CloseCode::Unknown, "wait for `joined` before you send more");
            }
            (State::Abandoned { .. } | State::Over, _) => {}
        }
    }

    fn on_bad_message(&mut self, bad: &BadMessage) {
        let code = match bad {
            BadMessage::NotJson(_) => CloseCode::NotJson,
            BadMessage::UnknownType(_) | BadMessage::NoType
                if matches!(self.state, State::Waiting { .. }) =>
            {
                CloseCode::NotJoined
            }
            BadMessage::UnknownType(_) => CloseCode::Unknown,
            BadMessage::BadField { .. } | BadMessage::NoType => CloseCode::BadField,
        };
        self.fail(code, &bad.to_string());
    }

    /// The socket has ended, with a goodbye or without.
    fn on_end(&mut self, goodbye: bool) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            // A goodbye is meant for the room, and an interrupted return keeps its grace time.
            State::Entering { resuming } => State::Abandoned {
                resuming: resuming && !goodbye,
            },
            State::Joined { person, visit, .. } => {
                let action = if goodbye {
                    Action::Leave(person, visit)
                } else {
                    Action::Suspend(person, visit)
                };
                self.actions.push_back(action);
                State::Over
            }
            abandoned @ State::Abandoned { .. } => abandoned,
            State::Waiting { .. } | State::Over => State::Over,
        };
    }

    /// Says what was wrong, and ends it: nothing of the person stays behind.
    fn fail(&mut self, code: CloseCode, error: &str) {
        self.on_end(true);
        self.fail_without_leave(code, error);
    }

    fn fail_without_leave(&mut self, code: CloseCode, error: &str) {
        let failure = Failure {
            error,
            code: code as u16,
        };
        self.actions.push_back(Action::Send(to_text(&failure)));
        self.close(code, error);
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        self.actions
            .push_back(Action::Close(code, reason.to_owned()));
        if !matches!(self.state, State::Abandoned { .. }) {
            self.state = State::Over;
        }
    }
}

/// One offer at a time: the next may come after the answer to the last.
fn on_offer(person: &PersonId, current: &mut Option<u64>, message: OfferMessage) -> Action {
    let OfferMessage {
        id,
        sdp,
        sources,
        wants,
    } = message;
    let refused = |error| Action::Send(to_text(&ServerMessage::Refused { id, error }));
    if let Some(current) = current {
        return refused(format!(
            "offer {current} is not answered yet: wait for that"
        ));
    }
    match Offer::parse(&sdp) {
        Ok(offer) => {
            *current = Some(id);
            let (sources, wants) = (sources.into_iter().collect(), wants.into_iter().collect());
            Action::Offer {
                person: person.clone(),
                offer: PageOffer {
                    offer,
                    wants,
                    sources,
                },
            }
        }
        Err(error) => refused(error.to_string()),
    }
}

fn code_of(refusal: &Refusal) -> CloseCode {
    match refusal {
        Refusal::RoomFull(_) | Refusal::NodeFull(_) => CloseCode::Full,
        Refusal::ShuttingDown => CloseCode::Closed,
        Refusal::UnknownSession => CloseCode::Unknown,
        Refusal::Unservable(_)
        | Refusal::NothingToWatch
        | Refusal::StaleEtag
        | Refusal::BadCamera(_)
        | Refusal::Broken(_) => CloseCode::Internal,
    }
}
