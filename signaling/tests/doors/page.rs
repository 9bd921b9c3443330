//! The page's files.

use std::fs;
use std::path::Path;

use axum::http::Method;
use signaling::doors::DoorOptions;

use crate::{Caller, request};

/// A page in a folder of the test's own: tests run side by side.
fn with_folder(test: &str) -> Caller {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("doors_page")
        .join(test);
    fs::create_dir_all(root.join("js")).unwrap();
    fs::write(root.join("index.html"), "<!doctype html>").unwrap();
    fs::write(root.join("js/main.js"), "export {}").unwrap();
    fs::write(root.join(".secret"), "no").unwrap();
    Caller::with(DoorOptions {
        web_root: Some(root),
        ..DoorOptions::default()
    })
}

#[tokio::test]
async fn the_page_and_a_rooms_link_are_the_same_file() {
    let caller = with_folder("same");
    for path in ["/", "/r/tea", "/index.html"] {
        let answer = caller.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (200, "<!doctype html>")
        );
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert!(
            answer
                .header("content-security-policy")
                .starts_with("default-src 'self'")
        );
        let permissions = answer.header("permissions-policy");
        for needed in [
            "camera=(self)",
            "microphone=(self)",
            "display-capture=(self)",
        ] {
            assert!(permissions.contains(needed));
        }
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    caller.get("/r/a%20b").await.refuses(400, "1 to 64 letters");
}

#[tokio::test]
async fn scripts_are_served_and_known_ones_are_not_sent_again() {
    let caller = with_folder("known");
    let first = caller.get("/js/main.js").await;
    assert_eq!(
        first.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    assert_eq!(first.header("cache-control"), "no-cache");
    let headers = [("if-none-match", first.header("etag"))];
    let again = caller
        .send(request(Method::GET, "/js/main.js", &headers, ""))
        .await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
}

#[tokio::test]
async fn nothing_outside_of_the_folder_is_served() {
    let caller = with_folder("outside");
    for path in [
        "/.secret",
        "/../Cargo.toml",
        "/js/%2e%2e/.secret",
        "//etc/passwd",
        "/js",
        "/js/",
    ] {
        assert_eq!(caller.get(path).await.status, 404, "{path}");
    }
    assert_eq!(caller.ask(Method::POST, "/index.html").await.status, 404);
}

#[tokio::test]
async fn the_binary_holds_the_page_and_all_that_it_refers_to() {
    let caller = Caller::new();
    let page = caller.get("/").await;
    assert_eq!(page.status, 200);
    let quoted = page.text.split(['"', '#']);
    let mut files = 0;
    for file in quoted.filter(|part| part.starts_with('/') && part.contains('.')) {
        let answer = caller.get(file).await;
        assert_eq!(answer.status, 200, "{file}");
        assert_ne!(
            answer.header("content-type"),
            "application/octet-stream",
            "{file}"
        );
        files += 1;
    }
    assert!(files > 0, "the page has a script at least");
    assert_eq!(
        caller.get("/tests/").await.status,
        404,
        "the page's tests stay outside"
    );
}
