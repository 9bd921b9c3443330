//! Rooms, probes, and paths that are not there.

use std::sync::atomic::Ordering;

use axum::http::Method;
use serde_json::json;

use crate::Caller;

#[tokio::test]
async fn rooms_say_who_and_what_is_there() {
    let caller = Caller::new();
    let list = caller.get("/v1/rooms").await;
    assert_eq!(list.header("content-type"), "application/json");
    assert_eq!(
        list.json(),
        json!([{"room": "tea", "people": 1, "viewers": 2, "tracks": 1}])
    );
    let room = caller.get("/v1/rooms/tea").await.json();
    let track = json!({"id": "t1", "source": "screen-audio", "kind": "audio", "muted": false});
    let people = json!([{"id": "p1", "name": "Ada", "tracks": [track]}]);
    assert_eq!(
        room,
        json!({"room": "tea", "people": people, "viewers": 2, "media": []})
    );
}

#[tokio::test]
async fn a_room_is_closed() {
    let caller = Caller::new();
    assert_eq!(
        caller.ask(Method::DELETE, "/v1/rooms/tea").await.status,
        204
    );
    assert_eq!(caller.node.calls(), ["close tea"]);
}

#[tokio::test]
async fn rooms_that_are_not_there_or_cannot_be_are_refused() {
    let caller = Caller::new();
    for method in [Method::GET, Method::DELETE] {
        let answer = caller.ask(method.clone(), "/v1/rooms/empty").await;
        answer.refuses(404, "there is no room empty");
        assert!(answer.json()["hint"].is_string());
        caller
            .ask(method, "/v1/rooms/a%20b")
            .await
            .refuses(400, "1 to 64 letters");
    }
    let answer = caller.ask(Method::PUT, "/v1/rooms/tea").await;
    answer.refuses(405, "method");
    assert_eq!(answer.header("allow"), "GET,HEAD,DELETE");
}

#[tokio::test]
async fn x_07_pages_of_other_origins_cannot_close_rooms() {
    let answer = Caller::new().ask(Method::OPTIONS, "/v1/rooms/tea").await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn unknown_paths_name_the_known_ones() {
    let caller = Caller::new();
    for path in [
        "/nothing",
        "/v1/rooms/tea/whop",
        "/js/../../Cargo.toml",
        "/v2",
    ] {
        let answer = caller.get(path).await;
        answer.refuses(404, "nothing at this path");
        assert!(
            answer.json()["hint"]
                .as_str()
                .unwrap()
                .contains("/v1/rooms/{room}/whip")
        );
    }
}

#[tokio::test]
async fn probes_answer() {
    let caller = Caller::new();
    assert_eq!(caller.get("/healthz").await.text, "ok\n");
    assert_eq!(caller.get("/readyz").await.status, 200);
    caller.node.unready.store(true, Ordering::Relaxed);
    caller
        .get("/readyz")
        .await
        .refuses(503, "no worker has started yet");
    assert_eq!(caller.get("/healthz").await.status, 200);
    let metrics = caller.get("/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    assert_eq!(metrics.text, "millrace_sessions 1\n");
}
