//! The messages of the control channel, which is a data channel labelled `millrace`: the part of the
//! room protocol that makes sense to somebody without a WebSocket, as `docs/data-channels.md` has it.

use serde::{Deserialize, Serialize};

use crate::name::RoomName;
use crate::node::{PersonId, RoomEvent};
use crate::quality::Quality;
use crate::ws::{CHAT_CHARS_MAX, brief, to_text};

/// What a client says on its control channel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ChannelMessage {
    /// Who am I?
    Hello,
    /// To everybody.
    Chat {
        /// What to say.
        text: String,
    },
    /// What I want of a picture that I receive.
    Prefer {
        /// Which; all of them where none is named.
        track: Option<String>,
        /// How good it is to be at most.
        most: Quality,
        /// Whether others make way for it.
        #[serde(default)]
        priority: u8,
    },
}

impl ChannelMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// A sentence that says what is wrong, for the client.
    pub fn parse(message: &[u8]) -> Result<ChannelMessage, String> {
        let message: ChannelMessage = serde_json::from_slice(message).map_err(|error| {
            let problem = brief(&error);
            format!("this is no message of the control channel: {problem}")
        })?;
        match &message {
            ChannelMessage::Chat { text } if text.chars().count() > CHAT_CHARS_MAX => {
                Err(format!("`text` has at most {CHAT_CHARS_MAX} characters"))
            }
            ChannelMessage::Hello | ChannelMessage::Chat { .. } | ChannelMessage::Prefer { .. } => {
                Ok(message)
            }
        }
    }
}

/// What the server says on a control channel, besides room events.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ChannelReply<'a> {
    /// To `hello`.
    Hello {
        /// The session's number on this node, as its logs have it.
        session: u64,
        /// The room.
        room: &'a RoomName,
        /// The client's own id in the room; players have none.
        you: Option<&'a PersonId>,
    },
    /// A message was not taken.
    Refused {
        /// Why, and what would be right.
        error: &'a str,
    },
}

impl ChannelReply<'_> {
    /// The reply as the text of a message.
    #[must_use]
    pub fn to_text(&self) -> String {
        to_text(self)
    }
}

/// A room event as the text of a message.
#[must_use]
pub fn event_text(event: &RoomEvent) -> String {
    to_text(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_others_are_refused_with_a_reason() {
        let hello = ChannelMessage::parse(br#"{"type":"hello"}"#);
        assert_eq!(hello, Ok(ChannelMessage::Hello));
        let text = "hi".to_owned();
        let chat = ChannelMessage::parse(br#"{"type":"chat","text":"hi"}"#);
        assert_eq!(chat, Ok(ChannelMessage::Chat { text }));
        let prefer = ChannelMessage::parse(br#"{"type":"prefer","most":0}"#);
        let wanted = ChannelMessage::Prefer {
            track: None,
            most: Quality::Layer(0),
            priority: 0,
        };
        assert_eq!(prefer, Ok(wanted));
        let long = format!(r#"{{"type":"chat","text":"{}"}}"#, "x".repeat(2_001));
        for (message, reason) in [
            (r#"{"type":"leave"}"#, "unknown variant `leave`"),
            (r#"{"type":"chat"}"#, "missing field `text`"),
            ("hello", "expected value"),
            ("", "EOF"),
            (&long, "at most 2000 characters"),
        ] {
            let error = ChannelMessage::parse(message.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(ChannelMessage::parse(&[0xff, 0xfe]).is_err());
        // What the client wrote is not sent back to it at length.
        let unknown = format!(r#"{{"type":"{}"}}"#, "x".repeat(60_000));
        let error = ChannelMessage::parse(unknown.as_bytes()).unwrap_err();
        assert!(error.len() < 512, "{} bytes", error.len());
    }

    #[test]
    fn replies_are_json_with_a_type() {
        let room: RoomName = "mill".parse().unwrap();
        let you = PersonId("p1".to_owned());
        let hello = ChannelReply::Hello {
            session: 7,
            room: &room,
            you: Some(&you),
        };
        assert_eq!(
            hello.to_text(),
            r#"{"type":"hello","session":7,"room":"mill","you":"p1"}"#
        );
        let error = "too long";
        let refused = ChannelReply::Refused { error };
        assert_eq!(
            refused.to_text(),
            r#"{"type":"refused","error":"too long"}"#
        );
    }
}
