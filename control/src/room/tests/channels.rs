//! Who gets what is said on data channels.

use std::time::Duration;

use dataplane::data::{ChannelSpec, DataEvent, Message, MessageKind, Reliability};
use dataplane::event::Event;
use dataplane::id::{ChannelId, SessionId};

use super::*;

/// A section with data channels.
const DATA: [&str; 1] = ["0 data sendrecv"];

impl World {
    /// A person in `room` whose session has data channels, and its number.
    fn with_data(&mut self, room: &str, client: &Client) -> (PersonId, u64) {
        let person = self.entered(room, client.ufrag);
        self.offer(&person, &client.page(&DATA, &[]));
        self.effects();
        let session = self.rooms.people[&person].session.unwrap();
        (person, session.0)
    }

    fn data(&mut self, session: u64, event: DataEvent) -> Vec<String> {
        let event = Event::Data {
            session: SessionId(session),
            event: Box::new(event),
        };
        self.rooms.handle_event(self.now, 0, &event);
        self.effects()
    }

    fn opens(&mut self, session: u64, channel: u16, label: &str) -> Vec<String> {
        self.opens_as(session, channel, label, Reliability::Reliable)
    }

    fn opens_as(
        &mut self,
        session: u64,
        channel: u16,
        label: &str,
        reliability: Reliability,
    ) -> Vec<String> {
        let spec = ChannelSpec {
            label: label.to_owned(),
            protocol: String::new(),
            ordered: true,
            reliability,
        };
        let channel = ChannelId(channel);
        self.data(session, DataEvent::Opened { channel, spec })
    }

    fn closes(&mut self, session: u64, channel: u16) -> Vec<String> {
        let channel = ChannelId(channel);
        self.data(session, DataEvent::Closed { channel })
    }

    fn says(&mut self, session: u64, channel: u16, text: &str) -> Vec<String> {
        let message = Message {
            kind: MessageKind::Text,
            bytes: text.as_bytes().to_vec().into(),
        };
        let channel = ChannelId(channel);
        self.data(session, DataEvent::Received { channel, message })
    }
}

const CAT: Client = Client {
    ufrag: "cat1",
    certificate: "CC",
    numbers: [111, 96, 97],
};

#[test]
fn an_offer_of_data_channels_alone_is_answered_and_the_engine_told_once() {
    let mut world = World::new();
    let ann = world.entered("mill", "Ann");
    let answer = world.offer(&ann, &ANN.page(&DATA, &[]));
    assert!(
        answer.contains("m=application 3478 UDP/DTLS/SCTP webrtc-datachannel\r\n"),
        "{answer}"
    );
    assert_eq!(attribute(&answer, "max-message-size"), "65536");
    assert_eq!(world.commands(), ["#0 open", "#0 open data"]);
    world.offer(&ann, &ANN.page(&DATA, &[]));
    assert_eq!(world.commands(), [""; 0]);
    // A second association has no place in a bundle.
    let twice = ["0 data sendrecv", "1 data sendrecv"];
    let answer = world.offer(&ann, &ANN.page(&twice, &[]));
    assert!(answer.contains("m=application 0 "), "{answer}");
}

#[test]
fn channels_may_come_with_a_later_offer_and_at_every_door() {
    let mut world = World::new();
    let ann = world.entered("mill", "Ann");
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    world.effects();
    let sections = [&CAMERA_AND_MICROPHONE[..], &["2 data sendrecv"]].concat();
    world.offer(&ann, &ANN.page(&sections, &[]));
    assert_eq!(world.commands(), ["#0 open data"]);
    for door in [Door::Whip, Door::Whep] {
        world.connect(door, "mill", &BOB.sdp(&DATA)).unwrap();
        assert_eq!(world.commands(), ["#0 open", "#0 open data"]);
    }
}

#[test]
fn the_room_hears_what_is_said_on_room_channels_and_the_speaker_does_not() {
    let mut world = World::new();
    let (_, ann) = world.with_data("mill", &ANN);
    let (_, bob) = world.with_data("mill", &BOB);
    let (_, cat) = world.with_data("mill", &CAT);
    let (_, dan) = world.with_data(
        "other",
        &Client {
            ufrag: "dan1",
            ..ANN
        },
    );
    for (session, channel) in [(ann, 1), (bob, 5), (dan, 7)] {
        assert_eq!(world.opens(session, channel, "room"), [""; 0]);
    }
    let heard = [format!("#0 send s{bob} c5 hello")];
    assert_eq!(world.says(ann, 1, "hello"), heard);
    world.opens(cat, 3, "room");
    assert_eq!(world.says(ann, 1, "hello").len(), 2);
    world.closes(bob, 5);
    assert_eq!(
        world.says(ann, 1, "bye"),
        [format!("#0 send s{cat} c3 bye")]
    );
    // Nobody speaks on a channel that is closed.
    assert_eq!(world.says(bob, 5, "still here?"), [""; 0]);
}

#[test]
fn a_message_goes_to_the_channel_that_is_like_the_senders() {
    let mut world = World::new();
    let (_, ann) = world.with_data("mill", &ANN);
    let (_, bob) = world.with_data("mill", &BOB);
    for session in [ann, bob] {
        world.opens(session, 1, "room");
        world.opens_as(session, 2, "room", Reliability::Retransmits(0));
    }
    assert_eq!(world.says(ann, 1, "a"), [format!("#0 send s{bob} c1 a")]);
    assert_eq!(world.says(ann, 2, "b"), [format!("#0 send s{bob} c2 b")]);
    world.closes(bob, 2);
    assert_eq!(world.says(ann, 2, "c"), [format!("#0 send s{bob} c1 c")]);
}

#[test]
fn a_channel_to_a_person_reaches_only_them_and_only_if_they_have_one_back() {
    let mut world = World::new();
    let (ann_id, ann) = world.with_data("mill", &ANN);
    let (bob_id, bob) = world.with_data("mill", &BOB);
    let (_, cat) = world.with_data("mill", &CAT);
    let (dan_id, dan) = world.with_data(
        "other",
        &Client {
            ufrag: "dan1",
            ..ANN
        },
    );
    world.opens(ann, 1, &format!("to:{}", bob_id.0));
    assert_eq!(world.says(ann, 1, "psst"), [""; 0]);
    world.opens(bob, 4, &format!("to:{}", ann_id.0));
    world.opens(cat, 4, &format!("to:{}", ann_id.0));
    assert_eq!(
        world.says(ann, 1, "psst"),
        [format!("#0 send s{bob} c4 psst")]
    );
    // Walls are thick.
    world.opens(ann, 2, &format!("to:{}", dan_id.0));
    world.opens(dan, 2, &format!("to:{}", ann_id.0));
    assert_eq!(world.says(ann, 2, "over there"), [""; 0]);
}

#[test]
fn a_label_that_says_nothing_closes_its_channel() {
    let mut world = World::new();
    let (_, ann) = world.with_data("mill", &ANN);
    for label in ["", "Room", "files", "to:"] {
        let closed = [
            "channel refused unknown_label".to_owned(),
            format!("#0 close s{ann} c9"),
        ];
        assert_eq!(world.opens(ann, 9, label), closed, "{label}");
        assert_eq!(world.says(ann, 9, "anybody?"), [""; 0]);
    }
}

#[test]
fn the_control_channel_says_who_one_is_and_what_was_wrong() {
    let mut world = World::new();
    let (ann_id, ann) = world.with_data("mill", &ANN);
    world.opens(ann, 1, "millrace");
    let hello = format!(
        r#"#0 send s{ann} c1 {{"type":"hello","session":{ann},"room":"mill","you":"{}"}}"#,
        ann_id.0
    );
    assert_eq!(world.says(ann, 1, r#"{"type":"hello"}"#), [hello]);
    let refused = world.says(ann, 1, "hello");
    assert!(
        refused[0].contains(r#"{"type":"refused","error":"#),
        "{refused:?}"
    );
    // Too much of it, and it is over.
    let mut told = Vec::new();
    for _ in 0..60 {
        told.extend(world.says(ann, 1, r#"{"type":"hello"}"#));
    }
    let closed = [
        "channel refused too_fast".to_owned(),
        format!("#0 close s{ann} c1"),
    ];
    assert_eq!(told[told.len() - 2..], closed);
    world.wait(Duration::from_secs(1));
    world.opens(ann, 1, "millrace");
    assert_eq!(world.says(ann, 1, r#"{"type":"hello"}"#).len(), 1);
}

#[test]
fn chat_reaches_who_has_a_socket_by_it_and_others_by_their_control_channel() {
    let mut world = World::new();
    let (_, ann) = world.with_data("mill", &ANN);
    world.opens(ann, 1, "millrace");
    world.connect(Door::Whip, "mill", &BOB.sdp(&DATA)).unwrap();
    world.connect(Door::Whep, "mill", &CAT.sdp(&DATA)).unwrap();
    world.effects();
    let sessions: Vec<u64> = world.rooms.sessions.keys().map(|id| id.0).collect();
    let [_, encoder, player] = sessions[..] else {
        panic!("three have sessions: {sessions:?}");
    };
    world.opens(encoder, 1, "millrace");
    world.opens(player, 1, "millrace");
    let told = world.says(encoder, 1, r#"{"type":"chat","text":"on air"}"#);
    let lines: Vec<&str> = told
        .iter()
        .map(|line| line.split(" {").next().unwrap())
        .collect();
    let encoder_line = format!("#0 send s{encoder} c1");
    let player_line = format!("#0 send s{player} c1");
    assert_eq!(
        lines,
        [
            "tell chat on air",
            "tell chat on air",
            &encoder_line,
            &player_line
        ]
    );
    assert!(told[3].contains(r#""type":"chat""#) && told[3].contains(r#""text":"on air""#));
    // A player is nobody, but listens to the room.
    let refused = world.says(player, 1, r#"{"type":"chat","text":"me too"}"#);
    assert!(
        refused[0].contains("only people and encoders"),
        "{refused:?}"
    );
    world.opens(player, 2, "room");
    world.opens(encoder, 2, "room");
    let heard = [format!("#0 send s{player} c2 caption")];
    assert_eq!(world.says(encoder, 2, "caption"), heard);
    assert_eq!(world.says(player, 2, "noise"), [""; 0]);
    assert_eq!(world.opens(player, 3, "to:somebody").len(), 2, "refused");
}

#[test]
fn a_room_hands_on_so_many_messages_a_second() {
    let mut world = World::new();
    let (_, ann) = world.with_data("mill", &ANN);
    let (_, bob) = world.with_data("mill", &BOB);
    world.opens(ann, 1, "room");
    world.opens(bob, 1, "room");
    let mut handed_on = 0;
    for _ in 0..6_000 {
        let told = world.says(ann, 1, "flood");
        handed_on += usize::from(told[0].starts_with("#0 send"));
        assert!(told[0].starts_with("#0 send") || told == ["channel refused room_busy"]);
    }
    assert_eq!(handed_on, 5_000);
    world.wait(Duration::from_secs(1));
    assert_eq!(
        world.says(ann, 1, "later"),
        [format!("#0 send s{bob} c1 later")]
    );
}

#[test]
fn a_player_chooses_its_picture_and_hears_of_it_on_its_control_channel() {
    let mut world = World::new();
    let ann = world.entered("mill", "Ann");
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    let sections = ["v video recvonly", "d data sendrecv"];
    world
        .connect(Door::Whep, "mill", &BOB.sdp(&sections))
        .unwrap();
    world.effects();
    let player = *world.rooms.sessions.keys().last().unwrap();
    world.opens(player.0, 1, "millrace");
    let chosen = world.says(player.0, 1, r#"{"type":"prefer","most":0}"#);
    assert_eq!(chosen, ["#0 prefer Layer(0) at 0"]);
    let sender = world.rooms.sessions[&player].receives["v"].sender();
    let event = Event::Chosen {
        session: player,
        sender,
        sent: dataplane::event::Sent::NoRoom,
    };
    world.rooms.handle_event(world.now, 0, &event);
    let told = world.effects();
    let layer = r#"{"type":"layer","track":"t2","layer":null,"pause":"no-room"}"#;
    assert_eq!(told, [format!("#0 send s{} c1 {layer}", player.0)]);
}
