//! How long from pressing Join to the first decoded frame of somebody who is already there?
//!
//! `make first-frame`: ten joins of a headless Chromium on loopback, one after another, and their median.
//! The clock is the joining page's own: from the click to the first frame that its video element shows.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on says where"
)]

#[path = "../tests/harness/mod.rs"]
mod harness;

use harness::{Browsers, Server};

const JOINS: usize = 10;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let server = Server::start(&[]);
    let browsers = Browsers::start();
    let host = browsers
        .open(&server.url("/?room=mill&name=Host&join=1"))
        .await;
    host.until(
        "to be in the meeting",
        "document.body.dataset.state === 'in-meeting'",
    )
    .await;
    let guest = browsers.open(&server.url("/")).await;
    let mut times_ms = Vec::with_capacity(JOINS);
    for n in 0..JOINS {
        guest.goto(&server.url("/?room=mill&name=Guest")).await;
        guest.until("the lobby", "document.body.dataset.state === 'lobby' && !document.querySelector('#join').disabled").await;
        let time_ms = guest.first_frame_ms("Host").await;
        println!("join {:2}: {time_ms:5.0} ms", n + 1);
        times_ms.push(time_ms);
        guest.click("#leave").await;
        host.until(
            "the guest to be gone",
            "!document.querySelector('article[data-name=Guest]')",
        )
        .await;
    }
    times_ms.sort_by(f64::total_cmp);
    let median_ms = f64::midpoint(times_ms[(JOINS - 1) / 2], times_ms[JOINS / 2]);
    println!("join to first decoded frame, median of {JOINS}: {median_ms:.0} ms");
    guest.close().await;
    host.close().await;
}
