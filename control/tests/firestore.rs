//! A node, Google's emulator, and pages that are a script: what they write, and what they find.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod harness;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::Server;
use harness::emulator::{Emulator, Found, Project, boolean, integer, now, text, until};
use harness::requests::{broadcaster, document, is_answered, is_refused, participant, sdp};
use signaling::firestore::encode_offer;

/// The contract's promise for what cannot be served.
const ERROR_TIME: Duration = Duration::from_secs(10);

/// A node and a project of one's own, in the emulator that the tests share.
fn world() -> (Server, Project) {
    let host = Emulator::shared();
    let project = Project::new(host);
    (project.node("n1", &[]), project)
}

/// The SDP in an answer, which is checked for its form.
fn answer(found: &Found) -> String {
    let json = STANDARD.decode(found.text("answer")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["type"], "answer");
    json["sdp"].as_str().unwrap().to_owned()
}

fn directions(sdp: &str) -> Vec<&str> {
    let lines = sdp.lines().filter_map(|line| line.strip_prefix("a="));
    lines
        .filter(|line| ["sendrecv", "sendonly", "recvonly", "inactive"].contains(line))
        .collect()
}

/// Held by the test that runs: nodes and an emulator side by side would be tested for the machine's
/// speed, and not for what they do.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn the_contracts_two_pages_are_answered_each_in_one_write() {
    let _turn = TURN.lock().await;
    let (node, project) = world();
    // This one is there before its broadcaster.
    project.write("early", &participant("meeting")).await;
    project.write("meeting", &broadcaster()).await;
    let meeting = project.until("an answer", "meeting", is_answered).await;
    let sdp = answer(&meeting);
    assert_eq!(directions(&sdp), ["recvonly", "recvonly"]);
    assert!(sdp.contains("a=candidate:") && sdp.contains("a=end-of-candidates"));
    assert_eq!(meeting.text("owner"), "n1");
    assert!(meeting.has("lease_until") && meeting.text("error").is_empty());
    assert_eq!(meeting.text("requestor"), "Ann");
    project.write("late", &participant("meeting")).await;
    for id in ["early", "late"] {
        let sdp = answer(&project.until("an answer", id, is_answered).await);
        assert_eq!(directions(&sdp), ["sendonly"]);
        assert!(sdp.contains("a=msid:"), "{sdp}");
    }
    let rooms = node.get("/v1/rooms");
    assert!(
        rooms.contains(r#""room":"meeting""#) && rooms.contains(r#""viewers":2"#),
        "{rooms}"
    );
    until("three answers counted", || {
        node.metric("millrace_firestore_answered_total") == 3
    })
    .await;
    assert_eq!(node.metric("millrace_firestore_claims_lost_total"), 0);
    assert!(node.is_ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_share_of_an_answer_is_a_few_milliseconds_at_most() {
    let _turn = TURN.lock().await;
    const OFFERS: u64 = 100;
    let (node, project) = world();
    for number in 0..OFFERS {
        let id = format!("b{number}");
        project.write(&id, &broadcaster()).await;
        project.until("an answer", &id, is_answered).await;
    }
    const NAME: &str = "millrace_firestore_answer_microseconds";
    let sum_us = node.metric(&format!("{NAME}_sum"));
    let under_5_ms = node.metric(&format!("{NAME}_bucket{{le=\"5000\"}}"));
    let page = node.get("/metrics");
    let buckets: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix(NAME))
        .collect();
    println!("{OFFERS} answers, mean {} us: {buckets:?}", sum_us / OFFERS);
    assert!(under_5_ms > OFFERS / 2, "{buckets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_documents_end_in_one_write_with_a_sentence_and_block_nobody() {
    let _turn = TURN.lock().await;
    let (node, project) = world();
    let good = encode_offer(&sdp(&["audio sendrecv"]));
    let base64 = |json: &str| text(&STANDARD.encode(json));
    let mut bad = BTreeMap::from([
        ("not-base64", document("broadcaster", "", text("%%%"))),
        ("not-json", document("broadcaster", "", base64("{"))),
        (
            "not-an-offer",
            document("broadcaster", "", base64(r#"{"type":"answer","sdp":""}"#)),
        ),
        (
            "not-sdp",
            document(
                "broadcaster",
                "",
                base64(r#"{"type":"offer","sdp":"hello"}"#),
            ),
        ),
        ("a-number", document("broadcaster", "", integer(7))),
        (
            "huge",
            document("broadcaster", "", text(&"A".repeat(1_000_000))),
        ),
        ("unknown-kind", document("spectator", "", text(&good))),
        ("no-parent", document("participant", "", text(&good))),
        ("bad-parent", document("participant", "a/b", text(&good))),
        (
            "nothing-to-publish",
            document(
                "broadcaster",
                "",
                text(&encode_offer(&sdp(&["audio recvonly"]))),
            ),
        ),
        ("no-kind", document("broadcaster", "", text(&good))),
        ("number-kind", document("broadcaster", "", text(&good))),
    ]);
    bad.get_mut("no-kind")
        .unwrap()
        .retain(|(name, _)| *name != "kind");
    bad.get_mut("number-kind").unwrap()[1].1 = integer(3);
    for (id, fields) in &bad {
        project.write(id, fields).await;
    }
    let mut found = BTreeMap::new();
    for id in bad.keys() {
        let refused = project.until("an error", id, is_refused).await;
        assert_eq!(refused.text("answer"), "", "{id}");
        assert!(refused.text("error").contains(' '), "{id}: {refused:?}");
        found.insert(*id, refused);
    }
    // Others are served as if nothing had been, and nothing is written to the bad ones again.
    project.write("good", &broadcaster()).await;
    project.until("an answer", "good", is_answered).await;
    for (id, before) in found {
        assert_eq!(
            project.read(id).await.unwrap().updated,
            before.updated,
            "{id}"
        );
    }
    assert_eq!(
        node.metric("millrace_firestore_refused_total"),
        bad.len() as u64
    );
    // What is set right on the same document is served.
    project.write("not-sdp", &broadcaster()).await;
    project.until("an answer", "not-sdp", is_answered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_documents_at_start_are_each_written_once_and_newcomers_are_served() {
    let _turn = TURN.lock().await;
    const DOCUMENTS: u64 = 10_000;
    let host = Emulator::shared();
    let project = Project::new(host);
    let document = |number| (format!("d{number}"), document("spectator", "", text("x")));
    let documents: Vec<_> = (0..DOCUMENTS).map(document).collect();
    project.write_all(&documents).await;
    let start = now();
    let node = project.node("n1", &[]);
    until("the node to see them", || {
        node.metric("millrace_firestore_offers_total") == DOCUMENTS
    })
    .await;
    let seen = start.elapsed();
    project.write("good", &broadcaster()).await;
    project.until("an answer", "good", is_answered).await;
    let served = start.elapsed();
    let end = now() + Duration::from_secs(240);
    while node.metric("millrace_firestore_undecided") > 0 {
        assert!(now() < end, "{}", node.get("/metrics"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut all = project.all(&["error"]).await;
    // Nobody came to its session.
    all.remove("good");
    assert_eq!(all.len() as u64, DOCUMENTS);
    assert!(all.values().all(is_refused));
    // A write whose outcome nobody knows is made again, and lost if it took place. The rest is the
    // newcomer's answer, and heartbeats.
    let failed = node.metric("millrace_firestore_writes_failed_total");
    let written = node.metric("millrace_firestore_writes_total") - failed;
    assert!(written < DOCUMENTS + 100, "{written} writes");
    println!(
        "seen after {seen:?}, one served after {served:?}, all refused after {:?}",
        start.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_does_not_exist_is_an_error_in_time() {
    let _turn = TURN.lock().await;
    let (_node, project) = world();
    project.write("warm", &broadcaster()).await;
    project.until("an answer", "warm", is_answered).await;
    let start = now();
    project.write("lost", &participant("nowhere")).await;
    let refused = project.until("an error", "lost", is_refused).await;
    assert!(start.elapsed() < ERROR_TIME, "{:?}", start.elapsed());
    assert_eq!(refused.text("answer"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_is_gone_whenever_they_do() {
    let _turn = TURN.lock().await;
    let (node, project) = world();
    // Before: nothing happens to it.
    let mut before = broadcaster();
    before[5].1 = boolean(true);
    project.write("before", &before).await;
    let untouched = project.read("before").await.unwrap().updated;
    // During: the two writes meet.
    project.write("during", &broadcaster()).await;
    project.write("during", &[("abort", boolean(true))]).await;
    // After, with somebody watching.
    project.write("after", &broadcaster()).await;
    project.until("an answer", "after", is_answered).await;
    project.write("watching", &participant("after")).await;
    project.until("an answer", "watching", is_answered).await;
    let start = now();
    project.write("after", &[("abort", boolean(true))]).await;
    until("the room to be gone", || {
        !node.get("/v1/rooms").contains("after")
    })
    .await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "a hang-up took {took:?}");
    let is_over = |found: &Found| found.text("owner").is_empty() && found.has("expire_at");
    project.until("its end", "after", is_over).await;
    until("no session to be left", || {
        node.metric("millrace_firestore_sessions") == 0 && node.get("/v1/rooms").ends_with("[]")
    })
    .await;
    assert_eq!(project.read("before").await.unwrap().updated, untouched);
    assert!(!project.read("before").await.unwrap().has("owner"));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_read_their_room_in_its_document() {
    let _turn = TURN.lock().await;
    let (_node, project) = world();
    let offer = encode_offer(&sdp(&["audio sendonly", "video sendonly"]));
    project
        .write("m1", &document("member", "plaza", text(&offer)))
        .await;
    let found = project.until("an answer", "m1", is_answered).await;
    assert_eq!(directions(&answer(&found)), ["recvonly", "recvonly"]);
    let rooms = "broadcast_requests_rooms";
    let seen = |room: &Found| room.text("people").contains(r#""id":"m1""#);
    let room = project.until_in(rooms, "the people", "plaza", seen).await;
    assert_eq!(room.text("owner"), "n1");
    let said = harness::emulator::map(&[("n", integer(1)), ("text", text("hello"))]);
    project.write("m1", &[("say", said)]).await;
    let heard = |room: &Found| room.text("chat").contains("hello");
    project
        .until_in(rooms, "what was said", "plaza", heard)
        .await;
    let muted = harness::emulator::map(&[("microphone", boolean(true))]);
    project.write("m1", &[("muted", muted)]).await;
    let silent = |room: &Found| room.text("people").contains(r#""muted":true"#);
    project
        .until_in(rooms, "who is muted", "plaza", silent)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn meetings_outlive_the_database_and_offers_wait_for_it() {
    let _turn = TURN.lock().await;
    let mut emulator = Emulator::start();
    let host = emulator.host();
    let project = Project::new(&host);
    let node = project.node("n1", &[]);
    project.write("meeting", &broadcaster()).await;
    project.until("an answer", "meeting", is_answered).await;
    // The node too has to know that its answer is there: an answer in doubt is one lost.
    until("the answer counted", || {
        node.metric("millrace_firestore_answered_total") == 1
    })
    .await;
    emulator.stop();
    until("/readyz to say so", || !node.is_ready()).await;
    assert!(node.get("/v1/rooms").contains("meeting"));
    emulator.start_again();
    // The emulator forgot all; the meeting lives on in the node.
    project.write("late", &participant("meeting")).await;
    project.until("an answer", "late", is_answered).await;
    until("/readyz to say so", || node.is_ready()).await;
    assert!(node.get("/v1/rooms").contains(r#""viewers":1"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lets_nobody_in_is_one_alarm_and_no_loop() {
    let _turn = TURN.lock().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    let denied = Router::new().fallback(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::future::ready([
            ("content-type", "application/grpc"),
            ("grpc-status", "7"),
            ("grpc-message", "Missing or insufficient permissions."),
        ])
    });
    let service = denied.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum_server::from_tcp(listener).unwrap().serve(service));
    let node = Project::new(&host).node("n1", &[]);
    until("/readyz to say why", || {
        node.get("/readyz").to_lowercase().contains("permission")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let asked = asked.load(std::sync::atomic::Ordering::Relaxed);
    assert!(asked < 10, "it asked {asked} times in 3 s");
    assert!(node.get("/healthz").starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_asked_to_end_lets_meetings_go_on_and_says_goodbye() {
    let _turn = TURN.lock().await;
    let host = Emulator::shared();
    let project = Project::new(host);
    let mut node = project.node("n1", &["--drain-time", "30"]);
    project.write("meeting", &broadcaster()).await;
    project.until("an answer", "meeting", is_answered).await;
    node.signal(rustix::process::Signal::TERM);
    let nodes = "broadcast_requests_nodes";
    let draining = |found: &Found| format!("{:?}", found.fields["draining"]).contains("true");
    project
        .until_in(nodes, "the registry to know", "n1", draining)
        .await;
    project.write("late", &participant("meeting")).await;
    project.until("an answer", "late", is_answered).await;
    assert!(!node.is_ready());
    project.write("meeting", &[("abort", boolean(true))]).await;
    let end = now() + harness::emulator::PATIENCE;
    let status = loop {
        if let Some(status) = node.ended() {
            break status;
        }
        assert!(
            now() < end,
            "the node did not end when its last meeting did"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(status.code(), Some(0));
    assert!(project.read_in(nodes, "n1").await.is_none());
}

#[test]
fn the_doctor_says_how_the_database_is_to_be_reached() {
    let doctor = |host: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(["--firestore-project", "demo-doctor", "doctor"])
            .env("FIRESTORE_EMULATOR_HOST", host)
            .output()
            .unwrap()
    };
    let well = doctor(Emulator::shared());
    let said = String::from_utf8_lossy(&well.stdout).into_owned();
    assert!(said.contains("project demo-doctor: reached"), "{said}");
    let nobody = doctor(&format!("127.0.0.1:{}", harness::free_port()));
    let said = String::from_utf8_lossy(&nobody.stdout).into_owned();
    assert!(said.contains("it cannot be reached"), "{said}");
    assert!(!nobody.status.success());
}
