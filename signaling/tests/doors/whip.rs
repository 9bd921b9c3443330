//! WHIP and WHEP.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Method;
use signaling::doors::{DoorOptions, IceServer};
use signaling::node::Refusal;

use crate::double::RESOURCE;
use crate::{Answer, Caller, OFFER, request};

const SDP: (&str, &str) = ("content-type", "application/sdp");
const FRAGMENT: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");
const SESSION: &str = "/v1/rooms/tea/whip/f2a9";
const CANDIDATE: &str = "a=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
    a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
    a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host\r\n";
const RESTART: &str = "a=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
    a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4yAe6dPPAzAP9Gp5k\r\n";

impl Caller {
    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(Method::POST, path, &[SDP], body)).await
    }

    async fn patch(&self, path: &str, if_match: &str, body: &'static str) -> Answer {
        let headers = [FRAGMENT, ("if-match", if_match)];
        self.send(request(Method::PATCH, path, &headers, body))
            .await
    }
}

#[tokio::test]
async fn an_encoder_publishes() {
    let caller = Caller::with(DoorOptions {
        ice_servers: vec![
            IceServer {
                urls: vec!["stun:stun.example.net".to_owned()],
                username: None,
                credential: None,
            },
            IceServer {
                urls: vec!["turn:turn.example.net?transport=udp".to_owned()],
                username: Some("u".to_owned()),
                credential: Some("p\"w".to_owned()),
            },
        ],
        ..DoorOptions::default()
    });
    let answer = caller
        .post("/v1/rooms/tea/whip?name=Stage%20left", OFFER)
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.text, "v=0 answer");
    assert_eq!(answer.header("content-type"), "application/sdp");
    assert_eq!(answer.header("location"), SESSION);
    assert_eq!(answer.header("etag"), "\"e1\"");
    assert_eq!(
        answer.header("accept-patch"),
        "application/trickle-ice-sdpfrag"
    );
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let links: Vec<_> = answer.headers.get_all("link").iter().collect();
    assert_eq!(
        links,
        [
            "<stun:stun.example.net>; rel=\"ice-server\"",
            "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"u\"; \
             credential=\"p\\\"w\"; credential-type=\"password\"",
        ]
    );
    assert_eq!(
        caller.node.calls(),
        ["connect Whip tea \"Stage left\" 192.0.2.7"]
    );
}

#[tokio::test]
async fn a_player_watches() {
    let caller = Caller::new();
    let headers = [
        ("content-type", "Application/SDP; charset=utf-8"),
        ("authorization", "Bearer x"),
    ];
    let offer = request(Method::POST, "/v1/rooms/tea/whep", &headers, OFFER);
    let answer = caller.send(offer).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("location"), "/v1/rooms/tea/whep/f2a9");
    assert_eq!(caller.node.calls(), ["connect Whep tea \"\" 192.0.2.7"]);
}

#[tokio::test]
async fn bad_offers_are_refused_with_a_sentence() {
    let caller = Caller::new();
    let whip = "/v1/rooms/tea/whip";
    let plain = [("content-type", "text/plain")];
    caller
        .send(request(Method::POST, whip, &plain, OFFER))
        .await
        .refuses(415, "application/sdp");
    caller
        .send(request(Method::POST, whip, &[], OFFER))
        .await
        .refuses(415, "application/sdp");
    caller
        .post(whip, "x".repeat(256 * 1024 + 1))
        .await
        .refuses(413, "256 KiB");
    caller.post(whip, "hello").await.refuses(400, "offer");
    caller.post(whip, "").await.refuses(400, "offer");
    caller
        .post(whip, vec![0xFF, 0xFE])
        .await
        .refuses(400, "UTF-8");
    for room in ["a%20b", "%2e%2e", "caf%C3%A9", &"x".repeat(65)] {
        caller
            .post(&format!("/v1/rooms/{room}/whip"), OFFER)
            .await
            .refuses(400, "1 to 64 letters");
    }
    assert!(
        caller.node.calls().is_empty(),
        "nothing of it reached the node"
    );
}

#[tokio::test]
async fn refusals_of_the_node_have_their_status() {
    let caller = Caller::new();
    let cases = [
        (
            Refusal::Unservable("no codec in common".to_owned()),
            422,
            "",
        ),
        (Refusal::RoomFull(9), 503, "5"),
        (
            Refusal::NodeFull("it holds 100 sessions".to_owned()),
            503,
            "5",
        ),
        (Refusal::ShuttingDown, 503, "5"),
        (Refusal::NothingToWatch, 409, "5"),
        (Refusal::Broken("a worker is gone".to_owned()), 500, ""),
    ];
    for (refusal, status, retry_after) in cases {
        caller.node.refuse(refusal.clone());
        let answer = caller.post("/v1/rooms/tea/whep", OFFER).await;
        answer.refuses(status, &refusal.to_string());
        assert_eq!(answer.header("retry-after"), retry_after, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_no_session_behind() {
    let caller = Arc::new(Caller::new());
    caller.node.held.send_replace(true);
    let post = tokio::spawn({
        let caller = Arc::clone(&caller);
        async move { caller.post("/v1/rooms/tea/whip", OFFER).await }
    });
    caller.node.called("connect Whip tea \"\" 192.0.2.7").await;
    post.abort();
    assert!(post.await.unwrap_err().is_cancelled());
    caller.node.held.send_replace(false);
    caller.node.called(&format!("disconnect {RESOURCE}")).await;
}

#[tokio::test]
async fn candidates_are_taken_without_a_new_entity_tag() {
    let caller = Caller::new();
    let answer = caller.patch(SESSION, "\"e1\"", CANDIDATE).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
    assert_eq!(answer.header("etag"), "");
}

#[tokio::test]
async fn ice_restarts_with_a_new_entity_tag() {
    let caller = Caller::new();
    let answer = caller.patch(SESSION, "*", RESTART).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text.as_str()),
        (200, "a=ice-ufrag:new\r\n")
    );
    assert_eq!(answer.header("etag"), "\"e2\"");
    assert_eq!(
        answer.header("content-type"),
        "application/trickle-ice-sdpfrag"
    );
}

#[tokio::test]
async fn bad_patches_are_refused_with_a_sentence() {
    let caller = Caller::new();
    caller
        .patch(SESSION, "\"old\"", CANDIDATE)
        .await
        .refuses(412, "entity tag");
    caller
        .patch(SESSION, "W/\"e1\"", CANDIDATE)
        .await
        .refuses(412, "entity tag");
    caller
        .patch(SESSION, "e1", CANDIDATE)
        .await
        .refuses(400, "double quotes");
    caller
        .patch(SESSION, "\"e1\", \"e0\"", CANDIDATE)
        .await
        .refuses(400, "one entity tag");
    caller
        .patch(SESSION, "*", "nonsense")
        .await
        .refuses(400, "");
    caller
        .patch("/v1/rooms/tea/whip/none", "*", RESTART)
        .await
        .refuses(404, "no such session");
    let missing = request(Method::PATCH, SESSION, &[FRAGMENT], CANDIDATE);
    caller.send(missing).await.refuses(428, "If-Match");
    let other = request(Method::PATCH, SESSION, &[SDP, ("if-match", "*")], OFFER);
    caller.send(other).await.refuses(415, "trickle-ice-sdpfrag");
}

#[tokio::test]
async fn a_session_is_ended_once() {
    let caller = Caller::new();
    let delete = request(Method::DELETE, SESSION, &[("if-match", "\"whatever\"")], "");
    assert_eq!(caller.send(delete).await.status, 200);
    assert_eq!(caller.node.calls(), ["disconnect f2a9"]);
    let long = format!("/v1/rooms/tea/whep/{}", "x".repeat(1000));
    for path in ["/v1/rooms/tea/whep/none", &long] {
        caller
            .ask(Method::DELETE, path)
            .await
            .refuses(404, "no such session");
    }
}

#[tokio::test]
async fn other_methods_are_reserved() {
    let caller = Caller::new();
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
        let answer = caller.ask(method, "/v1/rooms/tea/whep").await;
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("allow"), "POST, OPTIONS");
    }
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::POST] {
        let answer = caller.ask(method, SESSION).await;
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("allow"), "PATCH, DELETE, OPTIONS");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_let_in() {
    let caller = Caller::with(DoorOptions {
        ice_servers: vec![IceServer {
            urls: vec!["stun:stun.example.net".to_owned()],
            username: None,
            credential: None,
        }],
        ..DoorOptions::default()
    });
    let answer = caller.ask(Method::OPTIONS, "/v1/rooms/tea/whip").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("accept-post"), "application/sdp");
    assert_eq!(
        answer.header("link"),
        "<stun:stun.example.net>; rel=\"ice-server\""
    );
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(
        answer.header("access-control-allow-methods"),
        "POST, OPTIONS"
    );
    assert_eq!(
        answer.header("access-control-allow-headers"),
        "Authorization, Content-Type, If-Match"
    );
    let exposed = answer.header("access-control-expose-headers");
    for header in ["Location", "ETag", "Link"] {
        assert!(exposed.contains(header));
    }
    let answer = caller.ask(Method::OPTIONS, SESSION).await;
    assert_eq!(
        answer.header("access-control-allow-methods"),
        "PATCH, DELETE, OPTIONS"
    );
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_to_wait() {
    let options = DoorOptions {
        requests_per_s: 1,
        requests_burst: 2,
        ..DoorOptions::default()
    };
    let caller = Caller::with(options);
    for _ in 0..2 {
        assert_eq!(caller.post("/v1/rooms/tea/whip", OFFER).await.status, 201);
    }
    let answer = caller.post("/v1/rooms/tea/whip", OFFER).await;
    answer.refuses(429, "too many requests");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(
        caller.ask(Method::DELETE, SESSION).await.status,
        200,
        "the end is always let in"
    );
}

#[tokio::test(start_paused = true)]
async fn t_12_of_ten_thousand_offers_at_once_from_one_address_a_few_get_in() {
    let caller = Caller::new();
    let mut taken = 0;
    for _ in 0..10_000 {
        let answer = caller.post("/v1/rooms/tea/whip", OFFER).await;
        match answer.status.as_u16() {
            201 => taken += 1,
            _ => answer.refuses(429, "too many requests"),
        }
    }
    assert_eq!(taken, DoorOptions::default().requests_burst);
    let reached = caller.node.calls().len();
    assert_eq!(reached, taken as usize, "the node hears of no other");
    assert_eq!(caller.get("/healthz").await.text, "ok\n");
}

#[tokio::test]
async fn a_player_chooses_its_layer() {
    let caller = Caller::new();
    let answer = caller.post("/v1/rooms/tea/whep?layer=low", OFFER).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let link = "</v1/rooms/tea/whep/f2a9/layer>; rel=\"urn:ietf:params:whep:ext:core:layer\"";
    assert_eq!(answer.header("link"), link);
    let refused = caller.post("/v1/rooms/tea/whep?layer=medium", OFFER).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("`low`, `high`"), "{refused:?}");

    let path = "/v1/rooms/tea/whep/f2a9/layer";
    for (body, status) in [
        ("{\"mediaId\":\"1\",\"encodingId\":\"1\"}", 200),
        ("{\"maxSpatialLayerId\":2}", 200),
        ("{}", 200),
        ("{\"encodingId\":\"q\"}", 400),
        ("layer 1", 400),
    ] {
        let answer = caller.send(request(Method::POST, path, &[], body)).await;
        assert_eq!(answer.status, status, "{body} {answer:?}");
    }
    assert_eq!(
        caller
            .send(request(Method::DELETE, path, &[], ""))
            .await
            .status,
        200
    );
    let unknown = request(Method::DELETE, "/v1/rooms/tea/whep/other/layer", &[], "");
    assert_eq!(caller.send(unknown).await.status, 404);
    let told = caller.node.calls();
    let layers: Vec<&str> = told
        .iter()
        .filter_map(|line| line.strip_prefix("layer f2a9 "))
        .collect();
    assert_eq!(
        layers,
        ["Layer(1)", "Layer(2)", "Named(Best)", "Named(Best)"]
    );
    assert!(
        told.iter().any(|line| line.ends_with("Layer(0)")),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn x_12_bodies_that_do_not_come_are_few_and_not_waited_for() {
    let caller = Arc::new(Caller::with(DoorOptions {
        bodies_max: 2,
        ..DoorOptions::default()
    }));
    let stalled = || {
        let caller = Arc::clone(&caller);
        tokio::spawn(async move {
            let nothing = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
            let body = Body::from_stream(nothing);
            let request = request(Method::POST, "/v1/rooms/tea/whip", &[SDP], body);
            caller.send(request).await
        })
    };
    let waiting = [stalled(), stalled()];
    tokio::task::yield_now().await;
    let refused = caller.post("/v1/rooms/tea/whip", OFFER).await;
    refused.refuses(503, "as many requests as it can at once");
    assert_eq!(refused.header("retry-after"), "5");
    for stalled in waiting {
        stalled.await.unwrap().refuses(408, "within 10 seconds");
    }
    assert_eq!(caller.post("/v1/rooms/tea/whip", OFFER).await.status, 201);
}
