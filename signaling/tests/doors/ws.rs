//! The room protocol over a real socket.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::Method;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use signaling::doors::{DoorOptions, IceServer, router};
use signaling::node::{PersonId, Refusal, RoomEvent};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::double::{Double, TOKEN, person, track};
use crate::{Caller, OFFER};

/// The doors on a real port.
struct Served {
    node: Arc<Double>,
    address: SocketAddr,
}

impl Served {
    async fn new() -> Served {
        Served::with(DoorOptions::default()).await
    }

    async fn with(options: DoorOptions) -> Served {
        let node = Arc::new(Double::default());
        let app = router(Arc::clone(&node), options);
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Served { node, address }
    }

    async fn open(&self) -> Client {
        let (socket, _) = connect_async(format!("ws://{}/v1/ws", self.address))
            .await
            .unwrap();
        Client(socket)
    }

    /// Somebody who is in already.
    async fn joined(&self) -> Client {
        let mut client = self.open().await;
        client
            .say(&json!({"type": "join", "room": "tea", "name": "Ada"}))
            .await;
        assert_eq!(client.hears().await["type"], "joined");
        client
    }
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn say(&mut self, message: &Value) {
        self.0
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    async fn hears(&mut self) -> Value {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("no message but {other:?}"),
            }
        }
    }

    /// Waits for the server's close frame.
    async fn closed(&mut self) -> u16 {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Close(Some(frame)) => return frame.code.into(),
                Message::Ping(_) => {}
                other => panic!("no close frame but {other:?}"),
            }
        }
    }

    /// Waits for a sentence and the close that follows it.
    async fn fails(mut self, code: u16, word: &str) {
        let failure = self.hears().await;
        assert_eq!(failure["code"], code, "{failure}");
        let error = failure["error"].as_str().unwrap();
        assert!(error.contains(word), "no {word:?} in {error:?}");
        assert_eq!(self.closed().await, code);
    }
}

#[tokio::test]
async fn a_person_joins_and_talks() {
    let options = DoorOptions {
        ice_servers: vec![IceServer {
            urls: vec!["stun:stun.example.net".to_owned()],
            username: None,
            credential: None,
        }],
        ..DoorOptions::default()
    };
    let served = Served::with(options).await;
    let mut client = served.open().await;
    client
        .say(&json!({"type": "join", "room": "tea", "name": " Ada\u{7} "}))
        .await;
    let track_json = json!({"id": "t1", "source": "screen-audio", "kind": "audio", "muted": false});
    let people = json!([{"id": "p1", "name": "Ada", "tracks": [track_json]}]);
    let joined = json!({"type": "joined", "you": "p1", "room": "tea", "token": TOKEN,
        "people": people, "iceServers": [{"urls": ["stun:stun.example.net"]}]});
    assert_eq!(client.hears().await, joined);

    client
        .say(&json!({"type": "offer", "id": 7, "sdp": OFFER,
            "sources": {"0": "microphone"}, "wants": {"1": "t9"}}))
        .await;
    assert_eq!(
        client.hears().await,
        json!({"type": "answer", "id": 7, "sdp": "v=0 answer"})
    );
    client
        .say(&json!({"type": "mute", "source": "screen", "muted": true}))
        .await;
    client.say(&json!({"type": "chat", "text": "hello"})).await;
    client.say(&json!({"type": "leave"})).await;
    assert_eq!(client.closed().await, 1000);
    served.node.called("leave p1").await;
    assert_eq!(
        served.node.calls(),
        [
            "enter tea as Ada",
            "offer p1 1 [(\"0\", Microphone)] [(\"1\", \"t9\")]",
            "mute p1 Screen true",
            "say p1 hello",
            "leave p1",
        ]
    );
}

#[tokio::test]
async fn what_happens_in_the_room_is_told() {
    let served = Served::new().await;
    let mut client = served.joined().await;
    let id = || PersonId("p2".to_owned());
    let track_json = json!({"id": "t1", "source": "screen-audio", "kind": "audio", "muted": false});
    let person_json = json!({"id": "p1", "name": "Bo", "tracks": [track_json]});
    let chat = RoomEvent::Chat {
        from: id(),
        name: signaling::name::PersonName::new("Bo"),
        text: "hi".to_owned(),
    };
    let cases = [
        (
            RoomEvent::PersonJoined {
                person: person("Bo"),
            },
            json!({"type": "person-joined", "person": person_json}),
        ),
        (
            RoomEvent::Tracks {
                id: id(),
                tracks: vec![track()],
            },
            json!({"type": "tracks", "id": "p2", "tracks": [track_json]}),
        ),
        (
            RoomEvent::Speaking {
                people: vec![id()],
                dominant: Some(id()),
            },
            json!({"type": "speaking", "people": ["p2"], "dominant": "p2"}),
        ),
        (
            chat,
            json!({"type": "chat", "from": "p2", "name": "Bo", "text": "hi"}),
        ),
        (RoomEvent::Connected, json!({"type": "connected"})),
        (
            RoomEvent::MediaLost {
                reason: "silence".to_owned(),
            },
            json!({"type": "media-lost", "reason": "silence"}),
        ),
        (
            RoomEvent::PersonLeft { id: id() },
            json!({"type": "person-left", "id": "p2"}),
        ),
        (
            RoomEvent::Closed {
                reason: "the room was closed".to_owned(),
            },
            json!({"type": "closed", "reason": "the room was closed"}),
        ),
    ];
    for (event, message) in cases {
        served.node.tell(event).await;
        assert_eq!(client.hears().await, message);
    }
    assert_eq!(client.closed().await, 4010);
    assert_eq!(
        served.node.calls(),
        ["enter tea as Ada"],
        "the node knows that it is over"
    );
}

#[tokio::test]
async fn offers_that_are_not_taken_leave_the_session_as_it_was() {
    let served = Served::new().await;
    let mut client = served.joined().await;
    client
        .say(&json!({"type": "offer", "id": 1, "sdp": "hello"}))
        .await;
    let refused = client.hears().await;
    assert_eq!(
        (&refused["type"], &refused["id"]),
        (&json!("refused"), &json!(1))
    );

    served
        .node
        .refuse(Refusal::Unservable("no codec in common".to_owned()));
    client
        .say(&json!({"type": "offer", "id": 2, "sdp": OFFER}))
        .await;
    let error = "this offer cannot be served: no codec in common";
    assert_eq!(
        client.hears().await,
        json!({"type": "refused", "id": 2, "error": error})
    );

    served.node.held.send_replace(true);
    client
        .say(&json!({"type": "offer", "id": 3, "sdp": OFFER}))
        .await;
    client
        .say(&json!({"type": "offer", "id": 4, "sdp": OFFER}))
        .await;
    let refused = client.hears().await;
    assert_eq!(refused["id"], 4);
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("offer 3 is not answered yet")
    );
    served.node.held.send_replace(false);
    assert_eq!(client.hears().await["id"], 3);
}

#[tokio::test]
async fn a_broken_connection_keeps_the_place_and_a_goodbye_gives_it_up() {
    let served = Served::new().await;
    drop(served.joined().await);
    served.node.called("suspend p1").await;

    let mut client = served.open().await;
    client.say(&json!({"type": "resume", "token": TOKEN})).await;
    assert_eq!(client.hears().await["token"], TOKEN);
    // A tab that is closed.
    let away = CloseFrame {
        code: 1001.into(),
        reason: "".into(),
    };
    client.0.close(Some(away)).await.unwrap();
    served.node.called("leave p1").await;
}

#[tokio::test]
async fn a_connection_whose_place_is_served_elsewhere_takes_nothing_with_it() {
    let served = Served::new().await;
    let client = served.joined().await;
    served.node.stop_telling();
    client.fails(4011, "replaced").await;
    assert_eq!(served.node.calls(), ["enter tea as Ada"]);
}

#[tokio::test]
async fn a_person_who_goes_away_while_they_enter_is_let_out_again() {
    let served = Served::new().await;
    served.node.held.send_replace(true);
    let mut client = served.open().await;
    client
        .say(&json!({"type": "join", "room": "tea", "name": "Ada"}))
        .await;
    served.node.called("enter tea as Ada").await;
    drop(client);
    let mut back = served.open().await;
    back.say(&json!({"type": "resume", "token": TOKEN})).await;
    served.node.called("resume secret").await;
    drop(back);
    served.node.held.send_replace(false);
    served.node.called("leave p1").await;
    served.node.called("suspend p1").await;
}

#[tokio::test]
async fn messages_out_of_turn_or_shape_end_the_conversation() {
    let served = Served::new().await;
    let first = [
        (json!({"type": "chat", "text": "hi"}), 4002, "join"),
        (json!({"type": "dance"}), 4002, "dance"),
        (json!([1]), 4002, "type"),
        (json!({"type": "join", "name": "Ada"}), 4004, "room"),
        (json!({"type": "join", "room": "tea"}), 4004, "name"),
        (
            json!({"type": "join", "room": "a b", "name": ""}),
            4004,
            "1 to 64 letters",
        ),
        (
            json!({"type": "resume", "token": "guess"}),
            4006,
            "no such session",
        ),
    ];
    for (message, code, word) in first {
        let mut client = served.open().await;
        client.say(&message).await;
        client.fails(code, word).await;
    }
    let later = [
        (json!({"type": "dance"}), 4006, "dance"),
        (
            json!({"type": "join", "room": "tea", "name": "A"}),
            4006,
            "joined already",
        ),
        (json!({"sdp": "v=0"}), 4004, "type"),
        (
            json!({"type": "offer", "id": -1, "sdp": "v=0"}),
            4004,
            "offer",
        ),
        (
            json!({"type": "mute", "source": "hat", "muted": true}),
            4004,
            "hat",
        ),
        (
            json!({"type": "chat", "text": "x".repeat(2001)}),
            4004,
            "2000",
        ),
    ];
    for (message, code, word) in later {
        let mut client = served.joined().await;
        client.say(&message).await;
        client.fails(code, word).await;
        served.node.called("leave p1").await;
    }
}

#[tokio::test]
async fn t_12_frames_that_are_no_json_end_the_conversation() {
    let served = Served::new().await;
    for frame in [
        Message::text("hello"),
        Message::text("[".repeat(200_000)),
        Message::text("{\"type\":".repeat(20_000)),
        Message::binary(b"{}".to_vec()),
    ] {
        let mut client = served.open().await;
        client.0.send(frame).await.unwrap();
        client.fails(4005, "JSON").await;
    }
    let mut client = served.joined().await;
    client
        .0
        .send(Message::text("x".repeat(256 * 1024 + 1)))
        .await
        .unwrap();
    client.fails(4008, "256 KiB").await;
}

#[tokio::test]
async fn t_12_a_client_that_says_too_much_is_stopped() {
    let served = Served::new().await;
    let mut client = served.joined().await;
    for _ in 0..100 {
        let chat = Message::text(json!({"type": "chat", "text": "spam"}).to_string());
        client.0.feed(chat).await.unwrap();
    }
    client.0.flush().await.unwrap();
    client.fails(4008, "50 a second").await;
    served.node.called("leave p1").await;
}

#[tokio::test]
async fn t_30_a_client_that_does_not_read_is_dropped() {
    let served = Served::new().await;
    let client = served.joined().await;
    let node = Arc::clone(&served.node);
    let teller = tokio::spawn(async move {
        let reason = "x".repeat(64 * 1024);
        loop {
            node.tell(RoomEvent::MediaLost {
                reason: reason.clone(),
            })
            .await;
        }
    });
    // Once the network's buffers are full nothing moves any more but the clock.
    tokio::time::pause();
    served.node.called("suspend p1").await;
    assert!(teller.await.is_err(), "nobody takes what is told");
    drop(client);
}

#[tokio::test]
async fn full_rooms_and_ending_nodes_say_so() {
    let served = Served::new().await;
    let cases = [
        (Refusal::RoomFull(9), 4009, "at most 9"),
        (
            Refusal::NodeFull("it holds 100 sessions".to_owned()),
            4009,
            "100 sessions",
        ),
        (Refusal::ShuttingDown, 4010, "shutting down"),
        (
            Refusal::Broken("a worker is gone".to_owned()),
            1011,
            "worker",
        ),
    ];
    for (refusal, code, word) in cases {
        served.node.refuse(refusal);
        let mut client = served.open().await;
        client
            .say(&json!({"type": "join", "room": "tea", "name": "Ada"}))
            .await;
        client.fails(code, word).await;
    }
}

#[tokio::test]
async fn sockets_are_limited() {
    let served = Served::with(DoorOptions {
        sockets_max: 1,
        ..DoorOptions::default()
    })
    .await;
    let mut first = served.joined().await;
    let url = format!("ws://{}/v1/ws", served.address);
    assert!(
        connect_async(&url)
            .await
            .unwrap_err()
            .to_string()
            .contains("503")
    );
    first.say(&json!({"type": "leave"})).await;
    assert_eq!(first.closed().await, 1000);
    while let Some(Ok(_)) = first.0.next().await {}
    // The connection's end and its permit are a moment apart.
    while connect_async(&url).await.is_err() {}
}

#[tokio::test]
async fn a_plain_request_is_told_what_the_path_is_for() {
    let caller = Caller::new();
    let answer = caller.get("/v1/ws").await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.contains("WebSockets only"));
    assert_eq!(caller.ask(Method::POST, "/v1/ws").await.status, 405);
}
