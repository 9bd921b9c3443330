//! The body of a test and of a fuzz target: a client, a node and a clock that say whatever the bytes
//! say to one conversation.
//!
//! What must hold: the node is asked one thing at a time; who was let in is let out again, once; nothing
//! is sent behind a goodbye; every message is JSON that says what it is, and every goodbye has a code.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::protocol::{Action, Joined, Protocol};
use crate::camera::CameraState;
use crate::name::PersonName;
use crate::node::{Person, PersonId, Refusal, RoomEvent, SourceKind, Track, TrackKind, Visit};
use crate::quality::Quality;

/// Ends what happens next: no UTF-8 has it.
const PART_END: u8 = 0xff;

/// Longest sentence that a client is told, bytes.
const SENTENCE_LEN_MAX: usize = 1024;

/// Has a conversation: parts that end with `0xff`, each a letter for what happens and what goes with it.
/// Whether somebody was let in.
///
/// # Panics
/// When the protocol does, or breaks what must hold.
pub fn conversation(bytes: &[u8]) -> bool {
    let mut talk = Talk::new();
    for part in bytes.split(|byte| *byte == PART_END) {
        if let [kind, rest @ ..] = part {
            talk.happen(*kind, rest);
        }
    }
    talk.end();
    talk.people > 0
}

/// What the node is asked at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Enter,
    Offer,
}

struct Talk {
    now: Instant,
    protocol: Protocol,
    call: Option<Call>,
    /// How many were let in.
    people: usize,
    /// Who is in the room for all that the node knows.
    inside: Option<PersonId>,
    /// Whether the node ended it or closed the room's channel, and has forgotten the person by itself.
    is_forgotten: bool,
    is_closed: bool,
}

impl Talk {
    #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
    fn new() -> Talk {
        let now = Instant::now();
        Talk {
            now,
            protocol: Protocol::new(now, [].into()),
            call: None,
            people: 0,
            inside: None,
            is_forgotten: false,
            is_closed: false,
        }
    }

    fn happen(&mut self, kind: u8, rest: &[u8]) {
        let first = rest.first().copied().unwrap_or(0);
        let is_read = !self.protocol.is_over();
        match kind {
            b't' if is_read => {
                let text = String::from_utf8_lossy(rest);
                self.protocol.handle_text(self.now, &text);
            }
            b'b' if is_read => self.protocol.handle_binary(self.now),
            b'p' if is_read => {
                let _was_taken = self.protocol.handle_frame(self.now);
            }
            b'c' if is_read => {
                let code = rest.first_chunk().map(|code| u16::from_be_bytes(*code));
                self.protocol.handle_close(code);
            }
            b'x' if is_read => self.protocol.handle_broken(),
            b'+' => self.pass_time(Duration::from_millis(u64::from(first) * 100)),
            b'a' => self.reply(None),
            b'r' => self.reply(Some(refusal(first))),
            b'v' if self.inside.is_some() && is_read => {
                let event = event(first, rest);
                self.is_forgotten |= matches!(event, RoomEvent::Closed { .. });
                self.protocol.handle_event(&event);
            }
            b'z' if self.inside.is_some() && is_read => {
                self.is_forgotten = true;
                self.protocol.handle_events_ended();
            }
            _ => {}
        }
        self.perform();
    }

    fn pass_time(&mut self, time: Duration) {
        self.now += time;
        if self
            .protocol
            .poll_timeout()
            .is_some_and(|due| due <= self.now)
        {
            self.protocol.handle_timeout(self.now);
        }
    }

    /// The node answers what it was asked.
    fn reply(&mut self, refusal: Option<Refusal>) {
        let Some(call) = self.call.take() else {
            return;
        };
        match (call, refusal) {
            (Call::Offer, Some(refusal)) => self.protocol.handle_answered(&Err(refusal)),
            (Call::Offer, None) => self.protocol.handle_answered(&Ok("v=0\r\n".to_owned())),
            (Call::Enter, Some(refusal)) => self.protocol.handle_entered(Err(refusal)),
            (Call::Enter, None) => {
                let person = PersonId(format!("p{}", self.people));
                self.people += 1;
                assert_eq!(self.inside.replace(person.clone()), None, "let in twice");
                self.protocol.handle_entered(Ok(Joined {
                    people: vec![someone(&person)],
                    visit: Visit(self.people as u64),
                    person,
                    room: "tea".parse().expect("a room's name"),
                    resume_token: "secret".to_owned(),
                }));
            }
        }
    }

    /// Does what the protocol says, as the connection would.
    fn perform(&mut self) {
        while let Some(action) = self.protocol.poll_action() {
            match action {
                Action::Enter { .. } | Action::Resume { .. } => self.ask(Call::Enter),
                Action::Offer { person, .. } => {
                    self.assert_inside(&person);
                    self.ask(Call::Offer);
                }
                Action::Mute { person, .. }
                | Action::Prefer { person, .. }
                | Action::Say { person, .. } => self.assert_inside(&person),
                Action::Suspend(person, _) | Action::Leave(person, _) => {
                    self.assert_inside(&person);
                    self.inside = None;
                }
                Action::Send(text) => {
                    assert!(!self.is_closed, "a message behind the goodbye: {text}");
                    assert_says_what_it_is(&text);
                }
                Action::Ping => assert!(!self.is_closed, "a ping behind the goodbye"),
                Action::Close(code, reason) => {
                    assert!(!self.is_closed, "a second goodbye");
                    assert!((1000..5000).contains(&(code as u16)));
                    assert!(reason.len() <= SENTENCE_LEN_MAX, "{reason}");
                    self.is_closed = true;
                }
                Action::Drop => self.is_closed = true,
            }
        }
        assert!(
            !self.is_closed || self.protocol.is_over(),
            "a goodbye that ends nothing"
        );
    }

    fn ask(&mut self, call: Call) {
        assert_eq!(
            self.call.replace(call),
            None,
            "the node is asked one thing at a time"
        );
    }

    fn assert_inside(&self, person: &PersonId) {
        assert_eq!(self.inside.as_ref(), Some(person), "somebody who is not in");
    }

    /// The socket breaks, if it is still there, and the node answers what it was asked.
    fn end(&mut self) {
        self.happen(b'x', &[]);
        self.happen(b'a', &[]);
        assert!(self.protocol.is_over());
        assert_eq!(
            self.protocol.poll_timeout(),
            None,
            "nothing is due any more"
        );
        assert!(
            self.inside.is_none() || self.is_forgotten,
            "somebody stays behind"
        );
    }
}

fn assert_says_what_it_is(text: &str) {
    let message: Value = serde_json::from_str(text).expect("messages are JSON");
    let of = |field| message.get(field).and_then(Value::as_str);
    let error = of("error").unwrap_or_default();
    assert!(of("type").is_some() || !error.is_empty(), "{text}");
    assert!(error.len() <= SENTENCE_LEN_MAX, "{error}");
}

fn refusal(choice: u8) -> Refusal {
    match choice % 8 {
        0 => Refusal::Unservable("no codec".to_owned()),
        1 => Refusal::RoomFull(9),
        2 => Refusal::NodeFull("it has no port left".to_owned()),
        3 => Refusal::ShuttingDown,
        4 => Refusal::NothingToWatch,
        5 => Refusal::UnknownSession,
        6 => Refusal::StaleEtag,
        _ => Refusal::Broken("a worker is gone".to_owned()),
    }
}

fn someone(id: &PersonId) -> Person {
    Person {
        id: id.clone(),
        name: PersonName::new("Ada"),
        tracks: tracks(),
        camera: None,
    }
}

fn tracks() -> Vec<Track> {
    vec![Track {
        id: "t1".to_owned(),
        source: SourceKind::ScreenAudio,
        kind: TrackKind::Audio,
        muted: false,
    }]
}

fn event(choice: u8, rest: &[u8]) -> RoomEvent {
    let id = PersonId("p7".to_owned());
    let text = String::from_utf8_lossy(rest).into_owned();
    match choice % 11 {
        0 => RoomEvent::PersonJoined {
            person: someone(&id),
        },
        1 => RoomEvent::PersonLeft { id },
        2 => RoomEvent::Tracks {
            id,
            tracks: tracks(),
        },
        3 => RoomEvent::Speaking {
            people: vec![id.clone()],
            dominant: Some(id),
        },
        4 => RoomEvent::Chat {
            from: id,
            name: PersonName::new(&text),
            text,
        },
        5 => RoomEvent::Layer {
            track: text,
            layer: Some(choice),
            pause: None,
        },
        6 => RoomEvent::Wanted {
            source: SourceKind::Screen,
            most: Quality::Layer(choice),
        },
        7 => RoomEvent::Connected,
        8 => RoomEvent::MediaLost { reason: text },
        9 => RoomEvent::Camera {
            id,
            state: CameraState::Away,
        },
        _ => RoomEvent::Closed {
            reason: "the room was closed".to_owned(),
        },
    }
}
