//! The node over a worker that runs.

mod cameras;
mod faults;
mod overload;

use std::net::Ipv4Addr;

use dataplane::driver::{DataplaneConfig, DriverChoice};
use dataplane::limits::EGRESS_HOLD_DEFAULT;
use signaling::name::PersonName;
use signaling::node::{Enter, Entered, Node, PageOffer};
use signaling::sdp::Offer;

use super::*;

const LIMITS: RoomLimits = RoomLimits {
    rooms: 2,
    sessions: 4,
    sessions_per_room: 2,
    tracks_per_session: 4,
    egress_bps: None,
    spread_percent: 60,
};

const CAMERA_LIMITS: CameraLimits = CameraLimits {
    cameras: 2,
    cameras_per_room: 1,
};

fn node() -> Millrace {
    let (dataplane, _events) = Dataplane::start(DataplaneConfig {
        media: (Ipv4Addr::LOCALHOST, 0).into(),
        workers: 1,
        driver: DriverChoice::Msg,
        sessions_max: 4,
        publisher_bitrate_bps_max: 1_000_000,
        egress_hold: EGRESS_HOLD_DEFAULT,
        audio_speakers: 0,
        dtls_threads: 1,
        pin: false,
    })
    .unwrap();
    Millrace::new(dataplane, vec![vec![]], LIMITS, CAMERA_LIMITS)
}

async fn enter(node: &Millrace, name: &str) -> Result<Entered, Refusal> {
    let (room, name) = ("r".parse().unwrap(), PersonName::new(name));
    let from = Ipv4Addr::LOCALHOST.into();
    node.enter(Enter { room, name, from }).await
}

fn people(node: &Millrace) -> usize {
    node.rooms().first().map_or(0, |room| room.people)
}

#[tokio::test]
async fn t_30_who_does_not_read_is_removed_and_nobody_else() {
    let node = node();
    let mut ann = enter(&node, "Ann").await.unwrap();
    let mut bob = enter(&node, "Bob").await.unwrap();
    let patience = PERSON_QUEUE_LEN + MOMENT_EVENTS * LIMITS.sessions_per_room;
    // Ann has been told that Bob came.
    for said in 1..patience {
        node.say(&bob.person, "are you there?");
        assert!(bob.events.try_recv().is_ok());
        assert_eq!(people(&node), 2, "after {said}");
    }
    node.say(&bob.person, "well then");
    assert_eq!(people(&node), 1);
    let mut last = None;
    while let Ok(event) = bob.events.try_recv() {
        last = Some(event);
    }
    assert_eq!(last, Some(RoomEvent::PersonLeft { id: ann.person }));
    // What Ann's socket still reads ends.
    while ann.events.recv().await.is_some() {}
}

#[tokio::test]
async fn a_person_who_is_back_gets_a_new_channel_and_the_old_one_ends() {
    let node = node();
    let mut ann = enter(&node, "Ann").await.unwrap();
    let mut back = node.resume(&ann.resume_token).await.unwrap();
    assert_eq!(back.person, ann.person);
    assert_eq!(ann.events.recv().await, None);
    // A network that did not take what was sent is noticed only now.
    node.suspend(&ann.person, ann.visit);
    node.say(&back.person, "here again");
    assert!(matches!(back.events.try_recv(), Ok(RoomEvent::Chat { .. })));
}

/// The certificate that a person's next session is told of.
async fn fingerprint_told(node: &Millrace, name: &str) -> String {
    let entered = enter(node, name).await.unwrap();
    let page = include_str!("../../../signaling/tests/offers/chromium-sendrecv.sdp");
    let offer = PageOffer {
        offer: Offer::parse(page).unwrap(),
        wants: Vec::new(),
        sources: Vec::new(),
    };
    let answer = node.offer(&entered.person, offer).await.unwrap();
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("a=fingerprint:sha-256 "));
    line.unwrap().to_owned()
}

#[tokio::test]
async fn after_a_renewal_new_sessions_are_told_of_the_certificate_that_they_get() {
    let node = node();
    let used = |session| {
        let state = node.lock();
        let dataplane = state.workers.dataplane.as_ref().unwrap();
        let bytes = dataplane.fingerprint_of(session);
        let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    };
    let next = || node.lock().rooms.next_session();
    let ann = next();
    assert_eq!(fingerprint_told(&node, "Ann").await, used(ann));
    node.decide(|state, _| state.renew_certificate());
    let bob = next();
    assert_eq!(fingerprint_told(&node, "Bob").await, used(bob));
    assert_ne!(used(ann), used(bob), "Ann keeps what she has");
}

#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let node = node();
    for name in ["Ann", "Bob"] {
        enter(&node, name).await.unwrap();
    }
    assert_eq!(enter(&node, "Eve").await.err(), Some(Refusal::RoomFull(2)));
    let metrics = node.metrics();
    for sample in [
        "millrace_refusals_total{reason=\"room_full\"} 1",
        "millrace_joins_total{client=\"page\"} 2",
        "millrace_people 2",
    ] {
        assert!(
            metrics.lines().any(|line| line == sample),
            "{sample}\n{metrics}"
        );
    }
}

#[tokio::test]
async fn a_node_that_ends_says_so_to_everybody() {
    let node = node();
    let mut ann = enter(&node, "Ann").await.unwrap();
    node.close();
    let told = ann.events.recv().await;
    assert!(matches!(told, Some(RoomEvent::Closed { .. })), "{told:?}");
    assert_eq!(ann.events.recv().await, None);
    assert_eq!(node.ready(), Err(Refusal::ShuttingDown.to_string()));
    assert_eq!(enter(&node, "Bob").await.err(), Some(Refusal::ShuttingDown));
    node.stop();
}
