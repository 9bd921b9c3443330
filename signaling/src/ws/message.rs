//! The messages of the room protocol, and how they look as JSON.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::doors::IceServer;
use crate::name::RoomName;
use crate::node::{Person, PersonId, SourceKind};
use crate::quality::Quality;

/// Longest text of a chat message, characters.
pub(crate) const CHAT_CHARS_MAX: usize = 2_000;
/// Longest description of what is wrong with a message, characters.
const PROBLEM_CHARS_MAX: usize = 200;
/// Longest resume token that is looked up, bytes: ours are shorter.
const TOKEN_LEN_MAX: usize = 256;

/// What a client says.
#[derive(Debug)]
pub(super) enum ClientMessage {
    /// First message: let me in.
    Join(Join),
    /// First message: I am back.
    Resume(Resume),
    /// Answer this.
    Offer(OfferMessage),
    /// A source of mine is muted, or not any more.
    Mute(Mute),
    /// What I want of a track.
    Prefer(Prefer),
    /// To everybody.
    Chat(Chat),
    /// Goodbye.
    Leave,
}

/// `join`
#[derive(Debug, Deserialize)]
pub(super) struct Join {
    /// The room, as the client wrote it.
    pub(super) room: RoomName,
    /// The person's name.
    pub(super) name: String,
}

/// `resume`
#[derive(Debug, Deserialize)]
pub(super) struct Resume {
    /// What `joined` gave out.
    pub(super) token: String,
}

/// `offer`
#[derive(Debug, Deserialize)]
pub(super) struct OfferMessage {
    /// The client's number for it.
    pub(super) id: u64,
    /// The offer.
    pub(super) sdp: String,
    /// What each sending section carries, by `mid`.
    #[serde(default)]
    pub(super) sources: BTreeMap<String, SourceKind>,
    /// Which track each receiving section is for, by `mid`.
    #[serde(default)]
    pub(super) wants: BTreeMap<String, String>,
}

/// `mute`
#[derive(Debug, Deserialize)]
pub(super) struct Mute {
    /// Which of the person's sources.
    pub(super) source: SourceKind,
    /// Whether it is silent from now on.
    pub(super) muted: bool,
}

/// `prefer`
#[derive(Debug, Deserialize)]
pub(super) struct Prefer {
    /// The track's id.
    pub(super) track: String,
    /// How good it is to be at most.
    pub(super) most: Quality,
    /// Whether others make way for it.
    #[serde(default)]
    pub(super) priority: u8,
}

/// `chat`
#[derive(Debug, Deserialize)]
pub(super) struct Chat {
    /// What to say.
    pub(super) text: String,
}

/// Why a message cannot be taken. Each has its close code.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadMessage {
    /// 4005
    #[error("messages have to be JSON text: {0}")]
    NotJson(String),
    /// 4006
    #[error(
        "there is no message of type `{0}`: join, resume, offer, mute, prefer, chat and leave are known"
    )]
    UnknownType(String),
    /// 4004
    #[error("in `{kind}`: {problem}")]
    BadField {
        /// The message's type.
        kind: String,
        /// What is missing or out of range.
        problem: String,
    },
    /// 4004
    #[error("a message has to have a `type`")]
    NoType,
}

impl ClientMessage {
    /// Reads a text frame.
    pub(super) fn parse(text: &str) -> Result<ClientMessage, BadMessage> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| BadMessage::NotJson(brief(&e)))?;
        let kind = value
            .get("type")
            .and_then(Value::as_str)
            .ok_or(BadMessage::NoType)?
            .to_owned();
        let message = match kind.as_str() {
            "join" => ClientMessage::Join(fields(&kind, value)?),
            "resume" => ClientMessage::Resume(fields(&kind, value)?),
            "offer" => ClientMessage::Offer(fields(&kind, value)?),
            "mute" => ClientMessage::Mute(fields(&kind, value)?),
            "prefer" => ClientMessage::Prefer(fields(&kind, value)?),
            "chat" => ClientMessage::Chat(fields(&kind, value)?),
            "leave" => ClientMessage::Leave,
            unknown => {
                return Err(BadMessage::UnknownType(unknown.chars().take(32).collect()));
            }
        };
        message.check_range(&kind)
    }

    fn check_range(self, kind: &str) -> Result<ClientMessage, BadMessage> {
        let problem = match &self {
            ClientMessage::Chat(chat) if chat.text.chars().count() > CHAT_CHARS_MAX => {
                format!("`text` has at most {CHAT_CHARS_MAX} characters")
            }
            ClientMessage::Resume(resume) if resume.token.len() > TOKEN_LEN_MAX => {
                format!("`token` has at most {TOKEN_LEN_MAX} bytes")
            }
            ClientMessage::Join(_)
            | ClientMessage::Resume(_)
            | ClientMessage::Offer(_)
            | ClientMessage::Mute(_)
            | ClientMessage::Prefer(_)
            | ClientMessage::Chat(_)
            | ClientMessage::Leave => return Ok(self),
        };
        Err(BadMessage::BadField {
            kind: kind.to_owned(),
            problem,
        })
    }
}

fn fields<T: DeserializeOwned>(kind: &str, value: Value) -> Result<T, BadMessage> {
    serde_json::from_value(value).map_err(|e| BadMessage::BadField {
        kind: kind.to_owned(),
        problem: brief(&e),
    })
}

/// What is wrong with a message, in so many characters: the whole may quote all that the client wrote.
pub(crate) fn brief(error: &serde_json::Error) -> String {
    error.to_string().chars().take(PROBLEM_CHARS_MAX).collect()
}

/// What the server says, besides room events, which are messages as they are.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum ServerMessage<'a> {
    /// To `join` and `resume`.
    Joined {
        /// The person's own id.
        you: &'a PersonId,
        /// The room.
        room: &'a RoomName,
        /// What `resume` needs.
        token: &'a str,
        /// Everybody, the person included.
        people: &'a [Person],
        /// For the client's `RTCPeerConnection`.
        #[serde(rename = "iceServers")]
        ice_servers: &'a [IceServer],
    },
    /// To an offer.
    Answer {
        /// The offer's number.
        id: u64,
        /// The answer.
        sdp: &'a str,
    },
    /// The offer was not taken.
    Refused {
        /// The offer's number.
        id: u64,
        /// Why, and what would be right.
        error: String,
    },
}

/// The last message before the server closes the socket.
#[derive(Debug, Serialize)]
pub(super) struct Failure<'a> {
    /// What was wrong.
    pub(super) error: &'a str,
    /// The close code that follows.
    pub(super) code: u16,
}

/// A message as the text of a frame.
pub(crate) fn to_text(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("messages have only string keys, so they always encode")
}
