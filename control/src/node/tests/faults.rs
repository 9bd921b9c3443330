//! Workers that fail, and decisions that do (T-33).

use dataplane::limits::WORKER_FAILURES_MAX;
use signaling::node::{Connect, Connected, Door, PageOffer, Patch, ResourceId};
use signaling::quality::Quality;
use signaling::sdp::Offer;

use super::*;
use crate::firestore::desk::{Kind, RequestId, Serve};

const ENCODER: &str = include_str!("../../../../signaling/tests/offers/obs-whip.sdp");
const PLAYER: &str = include_str!("../../../../signaling/tests/offers/chromium-recvonly.sdp");
const PAGE: &str = include_str!("../../../../signaling/tests/offers/chromium-sendrecv.sdp");
const BROADCASTER: &str =
    include_str!("../../../../signaling/tests/offers/chromium-broadcaster.sdp");

const PORT: u16 = 40_000;

const PATIENCE: Duration = Duration::from_secs(10);

/// A node with two workers, and what they tell.
fn two_workers() -> (Arc<Millrace>, mpsc::Receiver<(usize, Event)>) {
    let limits = RoomLimits {
        rooms: 4,
        sessions: 20,
        sessions_per_room: 10,
        ..LIMITS
    };
    let (dataplane, events) = Dataplane::start(DataplaneConfig {
        media: (Ipv4Addr::LOCALHOST, 0).into(),
        workers: 2,
        driver: DriverChoice::Msg,
        sessions_max: 20,
        publisher_bitrate_bps_max: 1_000_000,
        egress_hold: EGRESS_HOLD_DEFAULT,
        audio_speakers: 0,
        dtls_threads: 1,
        pin: false,
    })
    .unwrap();
    // An answer names its worker by the port.
    let candidates = (0..2).map(|worker| {
        let address = (Ipv4Addr::LOCALHOST, PORT + worker).into();
        let tcp = false;
        vec![Candidate { address, tcp }]
    });
    let node = Arc::new(Millrace::new(
        dataplane,
        candidates.collect(),
        limits,
        CAMERA_LIMITS,
    ));
    node.watch();
    (node, events)
}

/// Makes a worker fail in its next turn, and gives it something to wake up for.
fn fail(node: &Millrace, worker: usize) {
    let state = node.lock();
    let dataplane = state.workers.dataplane.as_ref().unwrap();
    dataplane.faults(worker).panic_next_turn();
    // A worker that has not failed ignores it.
    dataplane
        .try_command(worker, Command::AfterRestart)
        .unwrap();
}

fn page() -> PageOffer {
    PageOffer {
        offer: Offer::parse(PAGE).unwrap(),
        wants: Vec::new(),
        sources: Vec::new(),
    }
}

async fn connect(node: &Millrace, door: Door, room: &str, sdp: &str) -> Connected {
    node.connect(Connect {
        door,
        room: room.parse().unwrap(),
        name: PersonName::default(),
        offer: Offer::parse(sdp).unwrap(),
        watch: None,
        most: Quality::BEST,
        from: Ipv4Addr::LOCALHOST.into(),
    })
    .await
    .unwrap()
}

/// A person with a session, and the worker that it is on.
async fn person(node: &Millrace, room: &str) -> (Entered, usize) {
    let entered = node
        .enter(Enter {
            room: room.parse().unwrap(),
            name: PersonName::new("Ann"),
            from: Ipv4Addr::LOCALHOST.into(),
        })
        .await
        .unwrap();
    let worker = offer(node, &entered).await;
    (entered, worker)
}

/// Offers, and says on which worker the session is.
async fn offer(node: &Millrace, person: &Entered) -> usize {
    let answer = node.offer(&person.person, page()).await.unwrap();
    usize::from(!answer.contains(&format!(" {PORT} typ host")))
}

/// The next reason for which the person's media was lost.
async fn media_lost(entered: &mut Entered) -> String {
    let told = async {
        loop {
            match entered.events.recv().await.expect("they stay in the room") {
                RoomEvent::MediaLost { reason } => return reason,
                _ => continue,
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("in time")
}

async fn restart(node: &Millrace, resource: &ResourceId) -> Result<(), Refusal> {
    let patch = Patch {
        ice: None,
        if_match: Some("*".to_owned()),
    };
    node.patch(resource, patch).await.map(|_| ())
}

#[tokio::test]
async fn t_33_a_failed_worker_ends_its_own_sessions_with_a_reason_and_no_others() {
    const REASON: &str = "a part of the node failed and started again";
    let (node, events) = two_workers();
    let pump = tokio::spawn(Arc::clone(&node).run(events, None, None));
    let (mut lost, failing) = person(&node, "lost").await;
    let encoder = connect(&node, Door::Whip, "lost", ENCODER).await;
    let player = connect(&node, Door::Whep, "lost", PLAYER).await;
    let document = RequestId("d1".to_owned());
    let serve = Serve {
        kind: Kind::Broadcaster,
        room: "lost".parse().unwrap(),
        name: PersonName::default(),
        offer: Offer::parse(BROADCASTER).unwrap(),
        wants: Vec::new(),
        sources: Vec::new(),
    };
    node.serve_request(&document, serve).unwrap();
    let (mut kept, living) = person(&node, "kept").await;
    let other = connect(&node, Door::Whip, "kept", ENCODER).await;
    assert_ne!(failing, living);

    fail(&node, failing);
    assert_eq!(media_lost(&mut lost).await, REASON);
    for resource in [&encoder.resource, &player.resource] {
        assert_eq!(restart(&node, resource).await, Err(Refusal::UnknownSession));
        assert_eq!(
            node.disconnect(resource).await,
            Err(Refusal::UnknownSession)
        );
    }
    let ended = Report::Ended(document, REASON.to_owned());
    assert!(
        node.take_reports().contains(&ended),
        "the document hears too"
    );
    // The others' room goes on.
    assert_eq!(restart(&node, &other.resource).await, Ok(()));
    let told: Vec<RoomEvent> = std::iter::from_fn(|| kept.events.try_recv().ok()).collect();
    let media = |event: &RoomEvent| matches!(event, RoomEvent::MediaLost { .. });
    assert!(!told.iter().any(media), "{told:?}");
    // They offer again, and are served where they were.
    assert_eq!(offer(&node, &lost).await, failing);
    let metrics = node.metrics();
    for sample in [
        format!("millrace_worker_failures_total{{worker=\"{failing}\"}} 1"),
        format!("millrace_worker_failures_total{{worker=\"{living}\"}} 0"),
        "millrace_sessions_ended_total{reason=\"worker_failed\"} 4".to_owned(),
    ] {
        assert!(metrics.contains(&sample), "{sample}\n{metrics}");
    }
    pump.abort();
    node.stop();
}

#[tokio::test]
async fn t_33_a_worker_that_fails_again_and_again_takes_nobody_new() {
    let (node, events) = two_workers();
    let pump = tokio::spawn(Arc::clone(&node).run(events, None, None));
    let (mut ann, failing) = person(&node, "one").await;
    for failure in 1..=WORKER_FAILURES_MAX {
        fail(&node, failing);
        media_lost(&mut ann).await;
        assert!(node.ready().is_ok(), "there is another worker");
        if failure < WORKER_FAILURES_MAX {
            assert_eq!(offer(&node, &ann).await, failing);
        }
    }
    // What is new goes to the other worker, that of her own room too.
    assert_ne!(offer(&node, &ann).await, failing);
    assert_ne!(person(&node, "two").await.1, failing);
    // With no worker left, newcomers are told why.
    for _ in 0..WORKER_FAILURES_MAX {
        fail(&node, 1 - failing);
        media_lost(&mut ann).await;
        offer(&node, &ann).await;
    }
    let refused = enter(&node, "Eve").await.unwrap_err().to_string();
    assert!(
        refused.contains("it failed 5 times within 60 s"),
        "{refused}"
    );
    assert!(node.ready().is_err());
    pump.abort();
    node.stop();
}

#[test]
fn t_33_a_decision_that_panics_is_lost_and_what_follows_is_made() {
    let mut events = [1, 2, 3, 4].into_iter();
    let mut taken = Vec::new();
    let mut failures = 0;
    while !survived(|| {
        for event in events.by_ref() {
            assert_ne!(event, 2, "a test asked for it");
            taken.push(event);
        }
    }) {
        failures += 1;
    }
    assert_eq!((taken, failures), (vec![1, 3, 4], 1));
}
