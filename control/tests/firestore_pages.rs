//! Pages in real browsers and a real node, which meet in Google's emulator by Firebase's own SDK.
//!
//! A browser opens six connections at most to an emulator, and a tab holds up to two of them: each
//! page has a browser of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod harness;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use harness::emulator::{Emulator, PATIENCE, Project, now};
use harness::{Browsers, Page, Server};
use serde_json::json;

/// From a hang-up to the end of the session, in milliseconds.
const HANG_UP_MS: f64 = 200.0;

/// Hang-ups of each kind that are measured: the quickest is what counts, as others meet a cold
/// emulator, or browsers and an emulator that the machine keeps waiting.
const HANG_UPS: usize = 7;

/// From a tab's end without a word to the end of its session: consent expires after 30 s (RFC 7675
/// section 5.1), and the machine may be busy.
const CONSENT: Duration = Duration::from_secs(45);

/// From a closed tab to the end of its session, much sooner than by consent: the page says that it goes.
const CLOSED_TAB: Duration = Duration::from_secs(10);

/// How often the node is asked whether a session has ended, where milliseconds count.
const LOOK: Duration = Duration::from_millis(1);

/// What the node says of a room that nobody watches.
const NOBODY_WATCHES: &str = r#""viewers":0"#;

/// Sessions that ended because nothing was heard of the browser any more.
const EXPIRED: &str = r#"millrace_sessions_ended_total{reason="consent_expired"}"#;

/// Where the contract's pages show their picture.
const PICTURE: &str = "#picture";

/// A node whose pages meet it in a project of their own.
struct World {
    node: Arc<Server>,
    project: Project,
    browsers: Browsers,
}

impl World {
    /// Starts the node at this emulator, and waits until it is ready.
    async fn new(host: &str) -> World {
        let browsers = Browsers::start();
        let project = Project::new(host);
        let (config, sdk) = (write_config(host, &project), sdk());
        let flags = [
            ["--firestore-project", &project.id],
            ["--firebase-config", config.to_str().unwrap()],
            ["--firebase-sdk", sdk.to_str().unwrap()],
        ];
        let node = Server::start_with(
            Ipv4Addr::LOCALHOST,
            flags.as_flattened(),
            &[("FIRESTORE_EMULATOR_HOST", host)],
        );
        until_ready(&node).await;
        std::fs::remove_file(config).unwrap();
        World {
            node: Arc::new(node),
            project,
            browsers,
        }
    }

    /// Opens a browser on a page of the node.
    async fn open(&self, path: &str) -> Page {
        self.browsers.open(&self.node.url(path)).await
    }

    /// Opens a broadcaster, and gives it once it is live, with its meeting's id.
    async fn broadcast(&self, name: &str) -> (Page, String) {
        let page = self
            .open(&format!("/contract/broadcaster.html?name={name}&start=1"))
            .await;
        let id = live(&page).await;
        (page, id)
    }

    /// Opens a participant, and gives it once it is live.
    async fn watch(&self, meeting: &str, name: &str) -> Page {
        let page = self.open(&watch_path(meeting, name)).await;
        live(&page).await;
        page
    }

    /// A sample of the node's metrics.
    fn metric(&self, name: &str) -> u64 {
        let page = self.node.get("/metrics");
        let sample = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sample.unwrap().parse().unwrap()
    }

    /// What the node says of a room, if there is one.
    fn room(&self, name: &str) -> Option<String> {
        let said = self.node.get(&format!("/v1/rooms/{name}"));
        said.starts_with("HTTP/1.1 200").then_some(said)
    }

    /// Writes a participant's `abort`, and nothing else; gives the milliseconds until its session's end.
    async fn leaves(&self, page: &Page, meeting: &str) -> f64 {
        let end = self.when(meeting, |room| {
            room.is_some_and(|room| room.contains(NOBODY_WATCHES))
        });
        let start = page
            .eval(
                "await (async () => {
                   const database = await contract.database;
                   const start = Date.now();
                   await database.update(contract.id, { abort: true });
                   return start;
                 })()",
            )
            .await;
        end.await.unwrap() - start.as_f64().unwrap()
    }

    /// Presses the broadcaster's button; gives the milliseconds until the meeting's end.
    async fn hangs_up(&self, broadcaster: &Page, meeting: &str) -> f64 {
        let end = self.when(meeting, |room| room.is_none());
        let start = "(start => (document.querySelector('#hang-up').click(), start))(Date.now())";
        let start = broadcaster.eval(start).await;
        end.await.unwrap() - start.as_f64().unwrap()
    }

    /// Looks at a room until it is so, from now on; gives when, in milliseconds as pages count them.
    fn when(
        &self,
        room: &str,
        so: impl Fn(Option<&str>) -> bool + Send + 'static,
    ) -> tokio::task::JoinHandle<f64> {
        let (node, path) = (Arc::clone(&self.node), format!("/v1/rooms/{room}"));
        tokio::task::spawn_blocking(move || {
            let end = now() + PATIENCE;
            loop {
                let said = node.get(&path);
                if so(said.starts_with("HTTP/1.1 200").then_some(said.as_str())) {
                    return UNIX_EPOCH.elapsed().unwrap().as_secs_f64() * 1e3;
                }
                assert!(now() < end, "waited in vain: {said}");
                std::thread::park_timeout(LOOK);
            }
        })
    }
}

impl Drop for World {
    /// Where a test fails, what the database and the node know is half of what went wrong.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let read = self
            .project
            .all(&["kind", "owner", "offer", "answer", "error", "abort"]);
        let all = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(read));
        println!("now {:?}", UNIX_EPOCH.elapsed());
        for (id, document) in all {
            println!("{id}, written {:?}", document.updated);
            for (field, value) in &document.fields {
                println!("  {field}: {:.120}", format!("{:?}", value.value_type));
            }
        }
        let metrics = self.node.get("/metrics");
        for line in metrics
            .lines()
            .filter(|line| line.starts_with("millrace_firestore"))
        {
            println!("{line}");
        }
    }
}

/// What pages are told of the database, in a file.
fn write_config(host: &str, project: &Project) -> PathBuf {
    let config = json!({ "projectId": project.id, "apiKey": "demo", "emulatorHost": host });
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.json", project.id));
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// The folder into which `scripts/test-deps` puts Firebase's SDK.
fn sdk() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let sdk = target.join("firebase-sdk");
    assert!(
        sdk.join("firebase-app.js").exists(),
        "Firebase's SDK is not in {}: `scripts/test-deps` puts it there",
        sdk.display()
    );
    sdk
}

fn watch_path(meeting: &str, name: &str) -> String {
    format!("/contract/participant.html?parent={meeting}&name={name}&start=1")
}

/// Waits until a page of the contract is live, and gives its document's id.
async fn live(page: &Page) -> String {
    page.until("to be live", "contract.state === 'live'").await;
    page.eval("contract.id").await.as_str().unwrap().to_owned()
}

fn is_ready(node: &Server) -> bool {
    node.get("/readyz").starts_with("HTTP/1.1 200")
}

/// Waits until it says that it serves offers.
async fn until_ready(node: &Server) {
    let end = now() + PATIENCE;
    while !is_ready(node) {
        assert!(now() < end, "not ready: {}", node.get("/readyz"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until(what: &str, time: Duration, so: impl Fn() -> bool) {
    let end = now() + time;
    while !so() {
        assert!(now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_is_seen_and_heard_by_those_who_came_before_it_and_after() {
    let world = World::new(Emulator::shared()).await;
    let ann = world.open("/contract/broadcaster.html?name=Ann").await;
    // Bob has the meeting's id before there is a meeting.
    let meeting = ann
        .eval(
            "await (async () => {
               const database = await contract.database;
               const id = database.newId();
               database.newId = () => id;
               return id;
             })()",
        )
        .await;
    let meeting = meeting.as_str().unwrap();
    let bob = world.open(&watch_path(meeting, "Bob")).await;
    bob.until("to wait", "contract.state === 'waiting'").await;
    ann.click("#start").await;
    assert_eq!(live(&ann).await, meeting);
    live(&bob).await;
    bob.shows("Ann", PICTURE).await;
    bob.hears("Ann's sound").await;

    // A person who types, and has a page without sound: one section that receives video.
    let eve = world.open("/contract/participant.html?audio=0").await;
    eve.fill("#parent", &format!("  {meeting} ")).await;
    eve.fill("#name", "Eve").await;
    eve.click("#start").await;
    live(&eve).await;
    eve.shows("Ann", PICTURE).await;
    bob.shows("Ann", PICTURE).await;
    let sections = "contract.pc.getTransceivers().map(t => [t.receiver.track.kind, t.currentDirection].join(' '))";
    assert_eq!(eve.eval(sections).await, json!(["video recvonly"]));
    assert_eq!(
        bob.eval(sections).await,
        json!(["video recvonly", "audio recvonly"])
    );
    let rooms = world.node.get("/v1/rooms");
    assert!(
        rooms.contains(&format!(r#""room":"{meeting}""#)) && rooms.contains(r#""viewers":2"#),
        "{rooms}"
    );
    let document = world.project.read(meeting).await.unwrap();
    assert_eq!(
        (document.text("requestor"), document.text("error")),
        ("Ann", "")
    );
    for (page, name) in [(ann, "broadcaster"), (bob, "participant"), (eve, "second")] {
        page.screenshot(&format!("contract-{name}")).await;
        page.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_closes_the_tab_or_crashes_is_gone() {
    let world = World::new(Emulator::shared()).await;
    // She is missed last, while others come and go.
    let (zoe, _) = world.broadcast("Zoe").await;
    zoe.crash();
    let crash = now();

    let ann = world.open("/contract/broadcaster.html?name=Ann").await;
    let bob = world.open("/contract/participant.html?name=Bob").await;
    let (mut left, mut over) = (Vec::new(), Vec::new());
    for _ in 0..HANG_UPS {
        let meeting = meet(&ann, &bob).await;
        left.push(world.leaves(&bob, &meeting).await);
        watch_again(&bob).await;
        over.push(world.hangs_up(&ann, &meeting).await);
        bob.until(
            "to be told",
            "contract.state === 'ended' && contract.text === 'This meeting is over.'",
        )
        .await;
    }
    check("a participant's `abort` until its session's end", left);
    check("a broadcaster's hang-up until its meeting's end", over);

    let meeting = meet(&ann, &bob).await;
    let start = now();
    bob.close().await;
    until("Bob's closed tab to be noticed", CLOSED_TAB, || {
        world
            .room(&meeting)
            .is_some_and(|room| room.contains(NOBODY_WATCHES))
    })
    .await;
    println!(
        "a participant's closed tab was noticed after {:?}",
        start.elapsed()
    );
    let start = now();
    ann.close().await;
    until("Ann's closed tab to be noticed", CLOSED_TAB, || {
        world.room(&meeting).is_none()
    })
    .await;
    println!(
        "a broadcaster's closed tab was noticed after {:?}",
        start.elapsed()
    );

    until("Zoe to be missed", CONSENT, || world.metric(EXPIRED) == 1).await;
    println!("a crashed browser was missed after {:?}", crash.elapsed());
    assert_eq!(world.metric("millrace_firestore_sessions"), 0);
}

/// Begins a meeting and has it watched; both pages are idle before.
async fn meet(broadcaster: &Page, participant: &Page) -> String {
    broadcaster.click("#start").await;
    let meeting = live(broadcaster).await;
    participant.fill("#parent", &meeting).await;
    participant.click("#start").await;
    live(participant).await;
    meeting
}

/// Watches the same meeting again after whatever there was.
async fn watch_again(page: &Page) {
    page.click("#hang-up").await;
    page.until("to be idle", "contract.state === 'ended'").await;
    page.click("#start").await;
    live(page).await;
}

/// Prints them, and checks the quickest.
fn check(what: &str, mut times_ms: Vec<f64>) {
    times_ms.sort_by(f64::total_cmp);
    let median_ms = times_ms[times_ms.len() / 2];
    println!("{what}: {median_ms:.0} ms, the median of {times_ms:.0?}");
    assert!(times_ms[0] < HANG_UP_MS, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_page_meets_in_the_database_and_through_its_other_door() {
    let world = World::new(Emulator::shared()).await;
    let ada = world.open("/?room=mill&name=Ada&join=1").await;
    let bob = world.open("/?room=mill&name=Bob&join=1").await;
    ada.sees("Bob", "camera").await;
    bob.sees("Ada", "camera").await;
    ada.hears("Bob's sound").await;
    bob.hears("Ada's sound").await;
    assert_eq!(world.metric("millrace_firestore_sessions"), 2);

    let web = world
        .open("/?room=mill&name=Web&join=1&signal=websocket")
        .await;
    web.sees("Ada", "camera").await;
    web.sees("Bob", "camera").await;
    ada.sees("Web", "camera").await;
    bob.sees("Web", "camera").await;
    web.hears("their sound").await;
    // By the third door as by the first two: the database knows nothing of her.
    assert_eq!(world.metric("millrace_firestore_sessions"), 2);
    ada.screenshot("firestore-three").await;

    for (from, to, words) in [
        (&ada, [&bob, &web], "Hello, both"),
        (&web, [&ada, &bob], "Hello, you two"),
    ] {
        from.click("#chat-open").await;
        from.fill("#chat-input", words).await;
        from.click("#chat-send").await;
        for page in to {
            page.until(words, &format!("[...document.querySelectorAll('.chat-message')].some(m => m.innerText.includes({words:?}))"))
                .await;
        }
    }
    ada.screenshot("firestore-chat").await;
    bob.click("#leave").await;
    let left = now();
    for page in [&ada, &web] {
        page.until(
            "Bob to be gone",
            "!document.querySelector('article[data-name=Bob]')",
        )
        .await;
    }
    // Sooner than the grace time of somebody whose media is lost.
    assert!(left.elapsed() < CLOSED_TAB, "{:?}", left.elapsed());
    ada.sees("Web", "camera").await;
    for page in [ada, bob, web] {
        page.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_move_while_the_database_is_away_and_offers_are_served_after() {
    let mut emulator = Emulator::start();
    let world = World::new(&emulator.host()).await;
    let (ann, meeting) = world.broadcast("Ann").await;
    let bob = world.watch(&meeting, "Bob").await;
    bob.shows("Ann", PICTURE).await;
    emulator.stop();
    until("/readyz to say so", PATIENCE, || !is_ready(&world.node)).await;
    assert!(
        world
            .node
            .get("/readyz")
            .contains("the database is not reached")
    );
    bob.shows("Ann", PICTURE).await;
    bob.hears("Ann's sound").await;
    // He offers while there is nobody to offer to.
    let eve = world.open(&watch_path(&meeting, "Eve")).await;
    eve.until("to offer", "contract.state === 'offering'").await;
    bob.shows("Ann", PICTURE).await;
    assert!(!is_ready(&world.node));

    // It forgot everything; the meeting is the node's.
    emulator.start_again();
    let back = now();
    until_ready(&world.node).await;
    println!("ready {:?} after the database was back", back.elapsed());
    let max = world.watch(&meeting, "Max").await;
    max.shows("Ann", PICTURE).await;
    max.hears("Ann's sound").await;
    live(&eve).await;
    eve.shows("Ann", PICTURE).await;
    bob.shows("Ann", PICTURE).await;
    let states = [&ann, &bob].map(|page| page.eval("contract.state"));
    for state in states {
        assert_eq!(state.await, "live");
    }
    for page in [ann, bob, eve, max] {
        page.close().await;
    }
}
