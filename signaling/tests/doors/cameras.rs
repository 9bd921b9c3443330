//! `/v1/cameras`.

use axum::http::Method;
use serde_json::json;
use signaling::node::Refusal;

use crate::{Answer, Caller, request};

const BODY: &str = r#"{"room":"gate","name":"Gate","url":"rtsp://ann:s3cret@192.0.2.7/live"}"#;

async fn post(caller: &Caller, body: &str) -> Answer {
    let headers = [("content-type", "application/json")];
    let request = request(Method::POST, "/v1/cameras", &headers, body.to_owned());
    caller.send(request).await
}

#[tokio::test]
async fn a_camera_is_added_listed_and_removed() {
    let caller = Caller::new();
    let answer = post(&caller, BODY).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.header("location"), "/v1/cameras/c1");
    assert!(!answer.text.contains("s3cret"));
    let calls = caller.node.calls();
    assert_eq!(
        calls,
        ["camera Gate in gate at [\"rtsp://ann:s3cret@192.0.2.7/live\"]"]
    );
    let one = caller.get("/v1/cameras/c1").await.json();
    assert_eq!(one["state"], "connecting");
    assert_eq!(caller.get("/v1/cameras").await.json(), json!([one]));
    let removed = caller.ask(Method::DELETE, "/v1/cameras/c1").await;
    assert_eq!(removed.status, 204);
    for method in [Method::GET, Method::DELETE] {
        let answer = caller.ask(method, "/v1/cameras/c2").await;
        answer.refuses(404, "no such camera");
    }
}

#[tokio::test]
async fn what_is_no_camera_is_refused_without_what_may_be_its_password() {
    let caller = Caller::new();
    for (body, why) in [
        ("", "EOF"),
        (
            r#"{"room":"a b","url":"rtsp://ann:s3cret@h/"}"#,
            "1 to 64 letters",
        ),
        (r#"{"room":"gate","ulr":"rtsp://ann:s3cret@h/"}"#, "ulr"),
        (
            r#"{"room":"gate","layers":"rtsp://ann:s3cret@h/"}"#,
            "wrong kind",
        ),
    ] {
        let answer = post(&caller, body).await;
        answer.refuses(400, why);
        assert!(!answer.text.contains("s3cret"), "{}", answer.text);
        assert!(answer.json()["hint"].as_str().unwrap().contains("rtsp://"));
    }
    let long = format!(
        "{{\"room\":\"gate\",\"url\":\"rtsp://h/{}\"}}",
        "x".repeat(20_000)
    );
    let answer = post(&caller, &long).await;
    answer.refuses(413, "at most 16 KiB");
    caller
        .node
        .refuse(Refusal::BadCamera("it has no `url`".to_owned()));
    let answer = post(&caller, BODY).await;
    answer.refuses(422, "cannot be added: it has no `url`");
    caller
        .node
        .refuse(Refusal::NodeFull("it holds at most 3 cameras".to_owned()));
    let answer = post(&caller, BODY).await;
    answer.refuses(503, "at most 3 cameras");
}

#[tokio::test]
async fn x_07_pages_of_other_origins_cannot_add_cameras() {
    let caller = Caller::new();
    for path in ["/v1/cameras", "/v1/cameras/c1"] {
        let answer = caller.ask(Method::OPTIONS, path).await;
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    // What a form or a script may send without asking first.
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let headers = [("content-type", kind)];
        let request = request(Method::POST, "/v1/cameras", &headers, BODY);
        caller.send(request).await.refuses(415, "application/json");
    }
    assert_eq!(caller.node.calls(), [""; 0]);
}

#[tokio::test]
async fn the_wall_is_a_page_for_names_of_rooms() {
    let caller = Caller::new();
    let wall = caller.get("/wall/gate").await;
    assert_eq!(wall.status, 200);
    assert!(wall.text.contains("/js/wall.js"));
    caller
        .get("/wall/a%20b")
        .await
        .refuses(400, "1 to 64 letters");
}
