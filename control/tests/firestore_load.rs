//! Three nodes, one database, and two thousand pages that offer at once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use firestore::gcloud_sdk::google::firestore::v1::Value;
use harness::Server;
use harness::emulator::{Emulator, Found, Project, now, text, until};
use harness::requests::{document, is_refused, offer};

/// Meetings that begin at once.
const ROOMS: usize = 200;

/// People who watch each of them, and offer in the same moment.
const VIEWERS: usize = 9;

/// Documents in all.
const OFFERS: usize = ROOMS * (1 + VIEWERS);

/// How long everything may take: three nodes, an emulator and a test share a few cores.
const PATIENCE: Duration = Duration::from_secs(180);

/// Between two looks at everything.
const LOOK: Duration = Duration::from_millis(500);

/// Prints a line whether or not the test passes: what it found is wanted each time, and the test's
/// runner keeps back what `println!` says.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.write_all(b"\n").unwrap();
}

/// Held by the test that runs: each fills the machine.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A database of one's own and its nodes.
struct World {
    // Ends after the nodes.
    nodes: BTreeMap<&'static str, Server>,
    project: Project,
    _emulator: Emulator,
}

impl World {
    /// Three nodes that have met.
    async fn start(flags: &[&str]) -> World {
        let emulator = Emulator::start();
        let project = Project::new(&emulator.host());
        let nodes: BTreeMap<_, _> = ["n1", "n2", "n3"]
            .into_iter()
            .map(|id| (id, project.node(id, flags)))
            .collect();
        for node in nodes.values() {
            until("the nodes to meet", || {
                node.is_ready() && node.metric("millrace_firestore_nodes_live") == 3
            })
            .await;
        }
        World {
            nodes,
            project,
            _emulator: emulator,
        }
    }

    fn sum(&self, metric: &str) -> usize {
        let sum: u64 = self.nodes.values().map(|node| node.metric(metric)).sum();
        usize::try_from(sum).unwrap()
    }

    /// Every document, without offer and answer.
    async fn all(&self) -> BTreeMap<String, Found> {
        self.project
            .all(&["kind", "parent", "owner", "error"])
            .await
    }
}

type Request = (String, Vec<(&'static str, Value)>);

fn room(number: usize) -> String {
    format!("room{number}")
}

/// The request of a broadcaster, with an offer of its own.
fn meeting(id: String) -> Request {
    let sections = ["audio sendrecv", "video sendrecv"];
    (id, document("broadcaster", "", text(&offer(&sections))))
}

/// The requests of everybody, each with an offer of its own.
fn requests() -> Vec<Request> {
    let mut requests = Vec::with_capacity(OFFERS);
    for number in 0..ROOMS {
        requests.push(meeting(room(number)));
        for viewer in 0..VIEWERS {
            let sections = ["audio recvonly", "video recvonly"];
            let request = document("participant", &room(number), text(&offer(&sections)));
            requests.push((format!("{}-{viewer}", room(number)), request));
        }
    }
    requests
}

/// What a page writes that offers again in its document.
fn again(id: &str, found: &Found) -> Request {
    let direction = match found.text("kind") {
        "broadcaster" => "sendrecv",
        _ => "recvonly",
    };
    let sections = [format!("audio {direction}"), format!("video {direction}")];
    let offer = offer(&[&sections[0], &sections[1]]);
    let fields = vec![("offer", text(&offer)), ("answer", text(""))];
    (id.to_owned(), fields)
}

/// The node that serves a document; none if it waits or was refused.
fn server(found: &Found) -> Option<&str> {
    let served = !found.text("owner").is_empty() && !is_refused(found);
    served.then(|| found.text("owner"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_offers_at_once_are_each_answered_once_by_the_node_that_has_the_room() {
    let _turn = TURN.lock().await;
    let world = World::start(&[]).await;
    let start = now();
    world.project.write_all(&requests()).await;
    let written = start.elapsed();
    loop {
        let answered = world.sum("millrace_firestore_answered_total");
        let refused = world.sum("millrace_firestore_refused_total");
        if answered + refused >= OFFERS {
            break;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{answered} answered and {refused} refused of {OFFERS}"
        );
        tokio::time::sleep(LOOK).await;
    }
    let all = world.all().await;
    assert_eq!(all.len(), OFFERS);
    for (id, found) in &all {
        let owner = server(found);
        assert!(owner.is_some(), "{id}: {found:?}");
        if let Some(parent) = all.get(found.text("parent")) {
            assert_eq!(owner, server(parent), "{id} is where its room is");
        }
    }
    print_table(&world, &all, written);
    // As many answers as documents, and none without one: each has exactly one.
    assert_eq!(world.sum("millrace_firestore_answered_total"), OFFERS);
    assert_eq!(world.sum("millrace_firestore_sessions"), OFFERS);
    for (id, node) in &world.nodes {
        let rooms = usize::try_from(node.metric("millrace_firestore_rooms")).unwrap();
        assert!(rooms >= ROOMS / 6, "{id} has {rooms} of {ROOMS} rooms");
    }
}

/// Who served how much, and how long pages waited by the database's clock.
fn print_table(world: &World, all: &BTreeMap<String, Found>, written: Duration) {
    say("| node | rooms | answers | answers lost to others | writes | reads |");
    say("| --- | --- | --- | --- | --- | --- |");
    for (id, node) in &world.nodes {
        let [rooms, answered, lost, writes, reads] = [
            "rooms",
            "answered_total",
            "claims_lost_total",
            "writes_total",
            "reads_total",
        ]
        .map(|name| node.metric(&format!("millrace_firestore_{name}")));
        say(&format!(
            "| {id} | {rooms} | {answered} | {lost} | {writes} | {reads} |"
        ));
    }
    let mut waits: Vec<Duration> = all
        .values()
        .map(|found| found.updated.saturating_sub(found.created))
        .collect();
    waits.sort_unstable();
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100].as_millis();
    say(&format!(
        "{OFFERS} offers written in {} ms; offer -> answer: median {} ms, p99 {} ms, last {} ms",
        written.as_millis(),
        at(50),
        at(99),
        at(100)
    ));
}

/// Says how long nodes took themselves, from an offer's arrival to its answer's write.
fn print_share(world: &World, answers: usize) {
    const NAME: &str = "millrace_firestore_answer_microseconds";
    let counted = world.sum(&format!("{NAME}_count"));
    assert_eq!(counted, answers, "each was measured");
    let within: Vec<String> = [200, 500, 1_000, 2_000, 5_000, 10_000]
        .iter()
        .map(|us| {
            let count = world.sum(&format!("{NAME}_bucket{{le=\"{us}\"}}"));
            format!("{count} within {} ms", f64::from(*us) / 1e3)
        })
        .collect();
    let mean_ms = world.sum(&format!("{NAME}_sum")) as f64 / answers as f64 / 1e3;
    let within = within.join(", ");
    say(&format!(
        "the nodes' own share of {answers} answers: {within}; mean {mean_ms:.1} ms"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_that_come_one_by_one_are_each_answered_and_the_nodes_say_how_long_they_took() {
    const MEETINGS: usize = 100;
    let _turn = TURN.lock().await;
    let world = World::start(&[]).await;
    for number in 0..MEETINGS {
        let (id, request) = meeting(room(number));
        world.project.write(&id, &request).await;
        world
            .project
            .until("an answer", &id, |found| server(found).is_some())
            .await;
    }
    // A node counts an answer when it hears that it was written, which is after it can be read.
    until("all to be counted", || {
        world.sum("millrace_firestore_answered_total") == MEETINGS
    })
    .await;
    print_share(&world, MEETINGS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_in_the_middle_of_it_loses_no_page_that_offers_again() {
    let _turn = TURN.lock().await;
    let mut world = World::start(&["--lease", "15"]).await;
    world.project.write_all(&requests()).await;
    let start = now();
    // In the middle: it has answered some, and some of its answers are on their way.
    loop {
        if world.nodes["n2"].metric("millrace_firestore_answered_total") as usize > OFFERS / 20 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the node answers nothing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(world.nodes.remove("n2"));
    let killed = now();
    let mut served: BTreeSet<String> = BTreeSet::new();
    let mut offered_again = 0;
    while served.len() < OFFERS {
        let all = world.all().await;
        // Nobody is behind these pages, so that their sessions end by themselves. Participants that
        // have been served are content; broadcasters come back, or there is nothing to be served.
        let content =
            |id: &str, found: &Found| served.contains(id) && found.text("kind") == "participant";
        let refused = all
            .iter()
            .filter(|(id, found)| is_refused(found) && !content(id, found));
        let pages: Vec<Request> = refused.map(|(id, found)| again(id, found)).collect();
        offered_again += pages.len();
        world.project.write_all(&pages).await;
        let alive = |found: &Found| server(found).is_some_and(|owner| owner != "n2");
        served.extend(
            all.iter()
                .filter(|(_, found)| alive(found))
                .map(|(id, _)| id.clone()),
        );
        assert!(
            killed.elapsed() < PATIENCE,
            "{} of {OFFERS} are served; not {:?}",
            served.len(),
            all.iter().find(|(id, _)| !served.contains(*id))
        );
        tokio::time::sleep(LOOK).await;
    }
    say(&format!(
        "a node of three was killed: all {OFFERS} pages are served by the others {:.1} s later, after {offered_again} offers made again",
        killed.elapsed().as_secs_f64()
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_node_leaves_new_meetings_to_the_others() {
    let _turn = TURN.lock().await;
    let mut world = World::start(&["--drain-time", "60"]).await;
    let ids = |prefix: &str| -> Vec<String> { (0..30).map(|n| format!("{prefix}{n}")).collect() };
    let before: Vec<Request> = ids("before").into_iter().map(meeting).collect();
    world.project.write_all(&before).await;
    until("thirty meetings", || {
        world.sum("millrace_firestore_answered_total") == 30
    })
    .await;
    world.nodes["n1"].signal(rustix::process::Signal::TERM);
    until("it to drain", || !world.nodes["n1"].is_ready()).await;
    let after: Vec<Request> = ids("after").into_iter().map(meeting).collect();
    world.project.write_all(&after).await;
    until("sixty meetings", || {
        world.sum("millrace_firestore_answered_total") == 60
    })
    .await;
    let all = world.all().await;
    for id in ids("after") {
        let owner = server(&all[&id]);
        assert!(owner.is_some_and(|owner| owner != "n1"), "{id}: {owner:?}");
    }
    // Its own go on, and take people in, until they are over.
    let own: Vec<&String> = all
        .iter()
        .filter(|(_, found)| server(found) == Some("n1"))
        .map(|(id, _)| id)
        .collect();
    assert!(!own.is_empty());
    let late = document("participant", own[0], text(&offer(&["video recvonly"])));
    world.project.write("late", &late).await;
    let late = world
        .project
        .until("an answer", "late", |found| server(found).is_some())
        .await;
    assert_eq!(server(&late), Some("n1"));
    let hang_up = |id: &&String| {
        (
            (*id).clone(),
            vec![("abort", harness::emulator::boolean(true))],
        )
    };
    let hung_up: Vec<Request> = own.iter().map(hang_up).collect();
    world.project.write_all(&hung_up).await;
    let node = world.nodes.get_mut("n1").unwrap();
    let end = now() + PATIENCE;
    while node.ended().is_none() {
        assert!(
            now() < end,
            "the node did not end when its last meeting did"
        );
        tokio::time::sleep(LOOK).await;
    }
    assert!(
        world
            .project
            .read_in("broadcast_requests_nodes", "n1")
            .await
            .is_none()
    );
}
