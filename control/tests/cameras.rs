//! RTSP cameras through a real node to real browsers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod harness;
#[path = "harness/rtsp.rs"]
mod rtsp;

use std::path::PathBuf;

use harness::emulator::{Emulator, Found, Project, boolean, text, until};
use harness::requests::{document, is_answered, is_refused};
use harness::{Browsers, Page, Server};
use rtsp::Server as RtspServer;
use serde_json::Value;

/// Where the tests' cameras are.
const ALLOWED: [&str; 2] = ["--camera-allow", "127.0.0.0/8"];

/// The first picture of a camera that is pulled already, from the click on Join, comes sooner than this to everybody,
/// however busy the machine is; the camera's next key frame would come so soon to one in three.
const FIRST_PICTURE_MS_MAX: f64 = 3_000.0;

/// How many join.
const TRIES: usize = 4;

/// The widths of the pictures that the wall receives, by the camera's name.
const WIDTHS: &str = "(async () => {
    const stats = [...(await window.millrace.pc.getStats()).values()];
    const width = track => stats.find(s => s.type === 'inbound-rtp' && s.trackIdentifier === track)?.frameWidth;
    return Object.fromEntries([...document.querySelectorAll('article')]
      .map(tile => [tile.dataset.name, width(tile.querySelector('video').srcObject?.getVideoTracks()[0].id)]));
  })()";

/// Whether the page shows what it receives within a third of a second: all of a group comes at once to whoever joins.
const CAUGHT_UP: &str = "(async () => {
    const look = async () => {
      const stats = [...(await window.millrace.pc.getStats()).values()];
      return stats.find(s => s.type === 'inbound-rtp' && s.kind === 'video');
    };
    const before = await look();
    await new Promise(go => setTimeout(go, 500));
    const after = await look();
    const frames = after.jitterBufferEmittedCount - before.jitterBufferEmittedCount;
    return frames > 3 && (after.jitterBufferDelay - before.jitterBufferDelay) / frames < 0.33;
  })()";

/// A file of cameras with this text.
fn list(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.toml"));
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn wall(browsers: &Browsers, server: &Server, flags: &[&str]) -> Page {
    let page = browsers.open_with(&server.url("/wall/gate"), flags).await;
    page.until("the wall", "document.body.dataset.state === 'showing'")
        .await;
    page
}

async fn becomes(server: &Server, camera: &Value, state: &str) {
    let what = format!("the camera to be {state}");
    until(&what, || server.camera(camera)["state"] == state).await;
}

#[tokio::test]
async fn a_wall_shows_cameras_of_all_kinds_each_at_its_size() {
    let open = RtspServer::start(&[]);
    let locked = RtspServer::start(&["--user", "ann", "--password", "s3cret", "--auth", "digest"]);
    let secret = locked.url("/small", "ann:s3cret");
    let text = [
        format!(
            "[[camera]]\nroom = \"gate\"\nname = \"Over TCP\"\ntransport = \"tcp\"\nurl = \"{}\"",
            open.url("/h264", "")
        ),
        format!(
            "[[camera]]\nroom = \"gate\"\nname = \"Over UDP\"\ntransport = \"udp\"\nurl = \"{}\"",
            open.url("/small", "")
        ),
        format!("[[camera]]\nroom = \"gate\"\nname = \"With digest\"\nurl = \"{secret}\""),
        format!(
            "[[camera]]\nroom = \"gate\"\nname = \"In layers\"\nlayers = [{{ rid = \"l\", url = \"{}\" }}, {{ rid = \"h\", url = \"{}\" }}]",
            open.url("/small", ""),
            open.url("/h264", "")
        ),
        "[[camera]]\nroom = \"gate\"\nname = \"Not there\"\nurl = \"rtsp://127.0.0.1:9/live\""
            .to_owned(),
    ];
    let server = Server::start(&["--cameras", &list("kinds", &text.join("\n"))]);
    let browsers = Browsers::start();
    let page = wall(&browsers, &server, &[]).await;
    for name in ["Over TCP", "Over UDP", "With digest", "In layers"] {
        page.sees(name, "camera").await;
    }
    page.until(
        "a mark that a camera is away",
        "document.querySelector('article[data-name=\"Not there\"][data-state=away]')",
    )
    .await;
    page.until(
        "the larger layer on a large tile",
        &format!("{WIDTHS}.then(widths => widths['In layers'] === 640)"),
    )
    .await;
    page.screenshot("wall").await;
    page.close().await;

    let small = wall(&browsers, &server, &["--window-size=560,420"]).await;
    small
        .until(
            "the smaller layer on a small tile",
            &format!("{WIDTHS}.then(widths => widths['In layers'] === 320)"),
        )
        .await;
    small.close().await;
    let shown = server.get("/v1/cameras") + &server.get("/metrics");
    assert!(!shown.contains("s3cret"));
    assert!(server.metric("millrace_camera_packets_total") > 0);
    assert_eq!(
        server.metric("millrace_sessions{client=\"camera\"}"),
        4,
        "a session for each camera that answers"
    );
}

#[tokio::test]
async fn a_camera_is_pulled_while_somebody_watches() {
    let rtsp = RtspServer::start(&[]);
    let server = Server::start(&ALLOWED);
    let url = rtsp.url("/h264", "");
    let camera = server.add_camera(&format!(r#"{{"room":"gate","name":"Gate","url":"{url}"}}"#));
    becomes(&server, &camera, "idle").await;
    let view = server.camera(&camera);
    assert!(
        view["video"][0]["codec"]
            .as_str()
            .unwrap()
            .starts_with("H264"),
        "{view}"
    );
    assert_eq!(view["audio"], "PCMU");
    let browsers = Browsers::start();
    let page = browsers
        .open(&server.url("/?room=gate&name=Ann&join=1"))
        .await;
    page.sees("Gate", "camera").await;
    page.hears("the camera's sound").await;
    page.until(
        "a mark that it is a camera",
        "document.querySelector('article[data-name=Gate] .camera-mark:not([hidden])')",
    )
    .await;
    becomes(&server, &camera, "playing").await;
    until("figures of what comes", || {
        let view = server.camera(&camera);
        view["video"][0]["bitrate_bps"].as_u64() > Some(50_000) && view["video"][0]["width"] == 640
    })
    .await;
    page.close().await;
    becomes(&server, &camera, "idle").await;
    server.remove_camera(&camera);
    assert!(
        server.get("/v1/rooms").ends_with("[]"),
        "the room was the camera's"
    );
}

#[tokio::test]
async fn a_camera_that_restarts_in_mid_view_comes_back_to_whoever_watches() {
    let rtsp = RtspServer::start(&[]);
    let server = Server::start(&ALLOWED);
    let camera = server.add_camera(&format!(
        r#"{{"room":"gate","name":"Gate","url":"{}"}}"#,
        rtsp.url("/h264", "")
    ));
    let browsers = Browsers::start();
    let page = wall(&browsers, &server, &[]).await;
    page.sees("Gate", "camera").await;
    let port = rtsp.port.to_string();
    drop(rtsp);
    page.until(
        "the camera to be away",
        "document.querySelector('article[data-state=away]')",
    )
    .await;
    let view = server.camera(&camera);
    assert!(view["error"].is_string(), "{view}");
    let _rtsp = RtspServer::start(&["--port", &port]);
    page.until(
        "the camera to play",
        "document.querySelector('article[data-state=playing]')",
    )
    .await;
    page.sees("Gate", "camera").await;
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_of_a_document_moves_to_another_node_when_its_own_ends() {
    let rtsp = RtspServer::start(&[]);
    let project = Project::new(Emulator::shared());
    let nodes = ["n1", "n2"].map(|id| (id, project.node(id, &ALLOWED)));
    for (_, node) in &nodes {
        let met = || node.is_ready() && node.metric("millrace_firestore_nodes_live") == 2;
        until("the nodes to meet", met).await;
    }
    let mut fields = document("camera", "gate", text(""));
    fields.push(("url", text(&rtsp.url("/h264", ""))));
    project.write("cam", &fields).await;
    let pulled_by = |found: &Found, id: &str| is_answered(found) && found.text("owner") == id;
    let served = project.until("an answer", "cam", is_answered).await;
    let (ours, other) = match &nodes {
        [(id, first), second] if served.text("owner") == *id => (first, second),
        [first, (_, second)] => (second, first),
    };
    assert_eq!(served.text("answer"), "cam");
    let browsers = Browsers::start();
    let page = wall(&browsers, ours, &[]).await;
    page.sees("Ann", "camera").await;
    page.close().await;

    ours.signal(rustix::process::Signal::TERM);
    let (id, other) = other;
    project
        .until("the other node", "cam", |found| pulled_by(found, id))
        .await;
    let page = wall(&browsers, other, &[]).await;
    page.sees("Ann", "camera").await;
    page.close().await;
    project.write("cam", &[("abort", boolean(true))]).await;
    until("the camera to be gone", || {
        other.get("/v1/cameras").ends_with("[]")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_of_a_document_is_changed_there_and_told_when_it_is_removed() {
    let rtsp = RtspServer::start(&[]);
    let project = Project::new(Emulator::shared());
    let server = project.node("n1", &ALLOWED);
    until("the node to be there", || server.is_ready()).await;
    let camera = serde_json::json!({ "id": "yard" });
    let mut fields = document("camera", "gate", text(""));
    fields.push(("url", text(&rtsp.url("/h264", ""))));
    project.write("yard", &fields).await;
    becomes(&server, &camera, "idle").await;
    let small = rtsp.url("/small", "");
    let change = [("url", text(&small)), ("answer", text(""))];
    project.write("yard", &change).await;
    until("the other address", || {
        server.camera(&camera)["video"][0]["url"] == small.as_str()
    })
    .await;
    becomes(&server, &camera, "idle").await;
    project.until("an answer", "yard", is_answered).await;
    server.remove_camera(&camera);
    let told = project.until("a sentence", "yard", is_refused).await;
    assert_eq!(told.text("error"), "the camera was removed; offer again");
    let wrong = [("mode", text("sometimes")), ("answer", text(""))];
    project.write("yard", &wrong).await;
    let refused = |found: &Found| found.text("error").starts_with("this is no camera: ");
    project.until("a refusal", "yard", refused).await;
}

#[tokio::test]
async fn a_player_sees_the_camera_that_it_names() {
    let rtsp = RtspServer::start(&[]);
    let server = Server::start(&ALLOWED);
    for (name, path) in [("Gate", "/h264"), ("Yard", "/small")] {
        let url = rtsp.url(path, "");
        let camera = server.add_camera(&format!(
            r#"{{"room":"gate","name":"{name}","url":"{url}"}}"#
        ));
        becomes(&server, &camera, "idle").await;
    }
    let browsers = Browsers::start();
    let page = browsers.open(&server.url("/?room=elsewhere")).await;
    page.eval(
        "(async () => {
           const pc = new RTCPeerConnection();
           window.millrace = { pc };
           const video = document.body.appendChild(document.createElement('video'));
           Object.assign(video, { id: 'player', muted: true, autoplay: true });
           pc.ontrack = ({ streams }) => { video.srcObject = streams[0]; };
           pc.addTransceiver('video', { direction: 'recvonly' });
           pc.addTransceiver('audio', { direction: 'recvonly' });
           await pc.setLocalDescription();
           const answer = await fetch('/v1/rooms/gate/whep?watch=Yard', { method: 'POST', body: pc.localDescription.sdp,
             headers: { 'Content-Type': 'application/sdp' } });
           await pc.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
         })()",
    )
    .await;
    page.shows("the yard", "#player").await;
    let width = page
        .eval("document.querySelector('#player').videoWidth")
        .await;
    assert_eq!(width, 320, "the second camera");
    page.close().await;
}

/// The best of three joins: a busy machine may spoil one, a wait for the next key frame spoils them all.
#[tokio::test]
async fn the_first_picture_of_a_camera_that_is_pulled_comes_at_once() {
    let rtsp = RtspServer::start(&[]);
    let server = Server::start(&ALLOWED);
    let url = rtsp.url("/rare", "");
    let camera = server.add_camera(&format!(
        r#"{{"room":"gate","name":"Gate","mode":"always","url":"{url}"}}"#
    ));
    becomes(&server, &camera, "playing").await;
    let browsers = Browsers::start();
    let lobby = server.url("/?room=gate&name=Late&camera=0&mic=0");
    let page = browsers.open(&lobby).await;
    let mut waits_ms = Vec::new();
    for _ in 0..TRIES {
        page.until(
            "the lobby",
            "document.querySelector('#join')?.disabled === false",
        )
        .await;
        waits_ms.push(page.first_frame_ms("Gate").await.round());
        page.until("the picture to be the latest", CAUGHT_UP).await;
        page.click("#leave").await;
        page.goto(&lobby).await;
    }
    println!("first picture of a camera that is pulled already: {waits_ms:?} ms");
    assert!(
        waits_ms.iter().all(|ms| *ms <= FIRST_PICTURE_MS_MAX),
        "who joins waits for the next key frame: {waits_ms:?} ms"
    );
    page.close().await;
}

#[tokio::test]
async fn cameras_and_their_viewers_go_over_to_the_next_program() {
    let rtsp = RtspServer::start(&[]);
    let socket = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cameras.socket");
    let listed = format!(
        "[[camera]]\nroom = \"gate\"\nname = \"Listed\"\nurl = \"{}\"",
        rtsp.url("/small", "")
    );
    let listed = list("taken-over", &listed);
    let flags = [
        "--upgrade-socket",
        socket.to_str().unwrap(),
        "--cameras",
        &listed,
    ];
    let mut server = Server::start(&[&flags[..], &ALLOWED[..]].concat());
    let url = rtsp.url("/h264", "");
    server.add_camera(&format!(
        r#"{{"room":"gate","name":"Asked","url":"{url}"}}"#
    ));
    let browsers = Browsers::start();
    let page = wall(&browsers, &server, &[]).await;
    page.sees("Listed", "camera").await;
    page.sees("Asked", "camera").await;
    server.upgrade();
    page.until(
        "both cameras to play again",
        "fetch('/v1/cameras').then(answer => answer.json())
           .then(cameras => cameras.length === 2 && cameras.every(camera => camera.state === 'playing'))",
    )
    .await;
    page.sees("Listed", "camera").await;
    page.sees("Asked", "camera").await;
    page.close().await;
}

#[tokio::test]
async fn a_request_cannot_look_into_the_nodes_own_network() {
    let rtsp = RtspServer::start(&[]);
    let server = Server::start(&[]);
    let url = rtsp.url("/h264", "");
    let camera = server.add_camera(&format!(r#"{{"room":"gate","url":"{url}"}}"#));
    becomes(&server, &camera, "refused").await;
    let view = server.camera(&camera);
    let error = view["error"].as_str().unwrap();
    assert!(error.contains("--camera-allow"), "{error}");
}

/// Cameras of `make cameras`, each of 2 Mbit/s.
const MANY: usize = 100;

/// How long they are watched for what is lost.
const MANY_S: u64 = 30;

/// Ticks of the process's clock in a second, as Linux has it everywhere.
const TICKS_PER_S: f64 = 100.0;

/// Seconds of processor time that the node took so far.
fn cpu_s(server: &Server) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<f64> = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse().unwrap())
        .collect();
    fields.iter().sum::<f64>() / TICKS_PER_S
}

#[tokio::test]
#[ignore = "takes a minute and the whole machine: `make cameras`"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
async fn a_hundred_cameras_lose_nothing_inside_the_node() {
    let rtsp = RtspServer::start(&[]);
    let server = Server::start(&ALLOWED);
    let url = rtsp.url("/load", "");
    let cameras: Vec<Value> = (0..MANY)
        .map(|n| {
            let json = r#"{"mode":"always","transport":"tcp""#;
            server.add_camera(&format!(
                r#"{json},"room":"gate","name":"{n}","url":"{url}"}}"#
            ))
        })
        .collect();
    until("all cameras to play", || {
        cameras
            .iter()
            .all(|camera| server.camera(camera)["state"] == "playing")
    })
    .await;
    let counted = [
        "millrace_camera_packets_total",
        "millrace_camera_packets_lost_total",
    ];
    let before = counted.map(|name| server.metric(name));
    let (cpu_before, began) = (cpu_s(&server), std::time::Instant::now());
    tokio::time::sleep(std::time::Duration::from_secs(MANY_S)).await;
    let span_s = began.elapsed().as_secs_f64();
    let after = counted.map(|name| server.metric(name));
    let [packets, lost] = [after[0] - before[0], after[1] - before[1]];
    let bps: u64 = cameras
        .iter()
        .map(|camera| {
            server.camera(camera)["video"][0]["bitrate_bps"]
                .as_u64()
                .unwrap()
        })
        .sum();
    let drops: Vec<(String, u64)> = drops(&server);
    let cores = (cpu_s(&server) - cpu_before) / span_s;
    println!(
        "{MANY} cameras: {:.1} Mbit/s, {:.0} packets/s, {lost} lost before the node, inside it {drops:?}; {cores:.2} cores",
        bps as f64 / 1e6,
        packets as f64 / span_s
    );
    assert!(
        bps as f64 / MANY as f64 > 1_500_000.0,
        "they send less than they should: {bps} bit/s"
    );
    // Where the machine is too busy the test's server leaves packets out, which it tells nobody.
    assert!(lost * 1_000 < packets, "{lost} of {packets} did not come");
    assert_eq!(drops, vec![], "inside the node");
}

/// What the engines dropped, by counter.
fn drops(server: &Server) -> Vec<(String, u64)> {
    let page = server.get("/metrics");
    let samples = page.lines().filter_map(|line| {
        let name = line.strip_prefix("millrace_drop_")?.split('{').next()?;
        let value: u64 = line.rsplit(' ').next()?.parse().ok()?;
        (value > 0).then(|| (name.to_owned(), value))
    });
    samples.collect()
}
