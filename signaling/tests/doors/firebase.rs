//! Pages that meet nodes in a Firestore database.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use signaling::doors::{DoorOptions, FirebasePage, IceServer};

use crate::{Caller, request};

const GOOGLE: &str = "https://www.gstatic.com/firebasejs/12.19.0";

fn with(config: serde_json::Value, sdk: &str) -> Caller {
    Caller::with(DoorOptions {
        firebase: Some(FirebasePage::new(config, sdk, "requests").unwrap()),
        ice_servers: vec![IceServer {
            urls: vec!["stun:stun.example:3478".into()],
            username: None,
            credential: None,
        }],
        ..DoorOptions::default()
    })
}

/// The text between the first `from` and the next `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap();
    rest.split_once(to).unwrap().0
}

#[tokio::test]
async fn a_page_holds_its_configuration_and_where_the_sdk_is_before_any_script() {
    let caller = with(json!({ "projectId": "demo", "note": "</script>" }), GOOGLE);
    for path in ["/", "/r/tea", "/contract/broadcaster.html"] {
        let page = caller.get(path).await;
        let map = between(&page.text, "<script type=\"importmap\">", "</script>");
        let imports: serde_json::Value = serde_json::from_str(map).unwrap();
        assert_eq!(
            imports["imports"]["firebase/firestore"],
            format!("{GOOGLE}/firebase-firestore.js")
        );
        let data = between(&page.text, "id=\"firebase\">", "</script>");
        let config: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(config["projectId"], "demo");
        assert_eq!(config["note"], "</script>");
        assert_eq!(config["collection"], "requests");
        assert_eq!(config, caller.get("/v1/firebase.json").await.json());
        let scripts = page.text.find("<script type=\"module\"").unwrap();
        assert!(page.text.find("importmap").unwrap() < scripts, "{path}");

        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, map.as_bytes());
        let policy = page.header("content-security-policy");
        let allowed = format!(
            "script-src 'self' 'sha256-{}' {GOOGLE}/",
            STANDARD.encode(digest)
        );
        assert!(policy.ends_with(&allowed), "{policy}");
        assert!(policy.contains("connect-src 'self' https://firestore.googleapis.com;"));
    }
    let config = caller.get("/v1/firebase.json").await.json();
    assert_eq!(config["iceServers"][0]["urls"][0], "stun:stun.example:3478");
    assert_eq!(config["sdk"], GOOGLE);
}

#[tokio::test]
async fn without_a_configuration_pages_are_as_they_are_in_the_binary() {
    let caller = Caller::new();
    let plain = include_str!("../../web/index.html");
    let page = caller.get("/").await;
    assert_eq!(page.text, plain);
    assert!(
        !page
            .header("content-security-policy")
            .contains("script-src")
    );
    caller
        .get("/v1/firebase.json")
        .await
        .refuses(404, "--firebase-config");
    assert_eq!(
        caller.get("/firebase-sdk/firebase-app.js").await.status,
        404
    );
}

#[tokio::test]
async fn a_copy_of_the_sdk_on_this_machine_is_served_and_nothing_else_in_its_folder() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("doors_firebase_sdk");
    fs::create_dir_all(&folder).unwrap();
    let import = "import{a}from\"https://www.gstatic.com/firebasejs/11.0.2/firebase-app.js\";";
    fs::write(folder.join("firebase-app.js"), "export const a = 1;").unwrap();
    fs::write(folder.join("firebase-firestore.js"), import).unwrap();
    fs::write(folder.join("firebase-auth.js"), import).unwrap();
    fs::write(folder.join("firebase-other.js"), "no").unwrap();
    let config = json!({ "projectId": "demo", "emulatorHost": "127.0.0.1:8791" });
    let caller = with(config, folder.to_str().unwrap());

    let sdk = caller.get("/firebase-sdk/firebase-firestore.js").await;
    assert_eq!((sdk.status.as_u16(), sdk.text.as_str()), (200, import));
    assert_eq!(sdk.header("content-type"), "text/javascript; charset=utf-8");
    for path in ["firebase-other.js", "../Cargo.toml", "", "package.json"] {
        let answer = caller.get(&format!("/firebase-sdk/{path}")).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let page = caller.get("/").await;
    let map = between(&page.text, "<script type=\"importmap\">", "</script>");
    let imports: serde_json::Value = serde_json::from_str(map).unwrap();
    assert_eq!(
        imports["imports"]["https://www.gstatic.com/firebasejs/11.0.2/firebase-app.js"],
        "/firebase-sdk/firebase-app.js"
    );
    let policy = page.header("content-security-policy");
    assert!(policy.contains("connect-src 'self' http://127.0.0.1:8791;"));
    assert!(!policy.contains("gstatic"), "{policy}");
}

#[tokio::test]
async fn the_policy_names_the_pages_own_host_for_browsers_that_do_not_take_self_for_a_websocket() {
    let caller = Caller::new();
    let policy_for = async |host: &str| {
        let asked = request(axum::http::Method::GET, "/", &[("host", host)], "");
        let answer = caller.send(asked).await;
        answer.header("content-security-policy").to_owned()
    };
    let policy = policy_for("[::1]:8080").await;
    assert!(policy.ends_with("connect-src 'self' ws://[::1]:8080 wss://[::1]:8080"));
    let policy = policy_for("a.example; script-src *").await;
    assert!(policy.ends_with("connect-src 'self'"));
}
