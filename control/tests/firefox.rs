//! A meeting of Firefox and Chromium.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod harness;

use harness::firefox::Firefox;
use harness::{Browsers, Page, Server};

async fn joined(page: Page) -> Page {
    page.until(
        "to be in the meeting",
        "document.body.dataset.state === 'in-meeting'",
    )
    .await;
    page
}

#[tokio::test]
async fn firefox_and_chromium_meet() {
    let firefox = Firefox::start();
    let server = Server::start_at(firefox.node, &[]);
    let browsers = Browsers::start();
    let address = |name: &str| server.url(&format!("/?room=mill&name={name}&join=1"));

    // Camera and microphone on an address that is not `localhost`, without HTTPS.
    let secure = format!(
        "--unsafely-treat-insecure-origin-as-secure={}",
        server.url("")
    );

    let ada = joined(browsers.open_with(&address("Ada"), &[&secure]).await).await;
    let fox = joined(firefox.open(&address("Fox")).await).await;
    ada.sees("Fox", "camera").await;
    fox.sees("Ada", "camera").await;
    ada.hears("Fox's sound").await;
    fox.hears("Ada's sound").await;

    // Of what Firefox offers, the node has taken what it likes best.
    let transport = fox
        .until(
            "a DTLS transport",
            "[...(await window.millrace.pc.getStats()).values()].find(s =>
               s.type === 'transport' && s.dtlsState === 'connected' && s.srtpCipher)",
        )
        .await;
    assert_eq!(transport["srtpCipher"], "SRTP_AEAD_AES_128_GCM");
    assert_eq!(
        transport["dtlsCipher"],
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
    );

    fox.moves_to_another_port().await;
    ada.sees("Fox", "camera").await;
    fox.sees("Ada", "camera").await;

    let late = joined(browsers.open_with(&address("Late"), &[&secure]).await).await;
    late.sees("Fox", "camera").await;
    fox.sees("Late", "camera").await;
    fox.sees("Ada", "camera").await;
    ada.sees("Late", "camera").await;
    fox.screenshot("three-firefox").await;

    late.close().await;
    fox.until(
        "Late to be gone",
        "!document.querySelector('article[data-name=Late]')",
    )
    .await;
    fox.sees("Ada", "camera").await;

    fox.close().await;
    ada.until(
        "Fox to be gone",
        "!document.querySelector('article[data-name=Fox]')",
    )
    .await;
    ada.close().await;
}
