//! Broadcasters and participants on nodes that are well.

use std::collections::BTreeMap;
use std::time::Duration;

use super::database::stamp;
use super::world::{World, field};
use super::{PATIENCE, SECOND, request};
use crate::firestore::desk::{RequestId, limits};
use crate::firestore::message::{Path, Stamp};
use signaling::firestore::Value;

/// How long each of these took to be decided, sorted.
fn waits(world: &World, offered: &BTreeMap<String, Stamp>) -> Vec<Duration> {
    let mut waits: Vec<Duration> = offered
        .iter()
        .map(|(id, at)| {
            let decision = world.decision(id);
            let decision = decision.unwrap_or_else(|| panic!("{id} is undecided"));
            decision.at.since(*at)
        })
        .collect();
    waits.sort_unstable();
    waits
}

/// So many offers within two seconds, in a tenth as many rooms.
fn rush(seed: u64, offers: u64, replays: u64) {
    let mut world = World::three(seed);
    world.replays = replays;
    let rooms = offers / 10;
    let mut offered = BTreeMap::new();
    for n in 0..offers {
        // Some participants are there before their broadcaster.
        let broadcasts = n / rooms == 3;
        let room = format!("room{}", n % rooms);
        let at = world.now + Duration::from_micros(world.random() % 2_000_000);
        let (id, fields) = if broadcasts {
            (room, request("broadcaster", "", n))
        } else {
            (format!("p{n}"), request("participant", &room, n))
        };
        world.page(at, Path::request(&id), fields);
        offered.insert(id, stamp(at));
    }
    world.run(SECOND * 12);
    let mut taken = [0; 3];
    for n in 0..rooms {
        taken[world.server(&format!("room{n}"))] += 1;
    }
    for id in offered.keys() {
        let room = world.text(id, "parent");
        if !room.is_empty() {
            assert_eq!(world.server(id), world.server(&room), "{id} is in its room");
        }
        let writes = world.database.writes[&Path::request(id)];
        assert_eq!(writes, 1, "one write for {id}");
    }
    let fair = usize::try_from(rooms).unwrap() / 3;
    assert!(
        taken.iter().all(|count| 2 * count >= fair),
        "spread: {taken:?}"
    );
    let waits = waits(&world, &offered);
    let median = waits[waits.len() / 2];
    assert!(median < SECOND, "{median:?}");
    assert!(waits.last() < Some(&PATIENCE), "{:?}", waits.last());
}

#[test]
fn two_thousand_offers_at_once_are_answered_once_each() {
    rush(1, 2000, 0);
}

#[test]
fn replays_after_every_write_change_nothing() {
    rush(2, 200, 100);
}

#[test]
fn a_hang_up_ends_the_session_at_once_and_a_broadcasters_the_meeting() {
    let mut world = World::three(3);
    world.offer_now("room", "broadcaster", "");
    world.offer_now("p1", "participant", "room");
    world.offer_now("p2", "participant", "room");
    world.run(SECOND * 2);
    let node = world.server("room");
    world.hang_up("p1");
    world.run(Duration::from_millis(50));
    assert_eq!(world.holder("p1"), None);
    assert_eq!(world.holder("p2"), Some(node));
    world.hang_up("room");
    world.run(Duration::from_millis(50));
    assert_eq!(world.holder("room").or(world.holder("p2")), None);
    world.run(SECOND * 2);
    for id in ["room", "p1", "p2"] {
        assert_eq!(world.text(id, "owner"), "", "{id}");
        assert!(matches!(world.field(id, "expire_at"), Value::Time(_)));
        assert_eq!(world.database.writes[&Path::request(id)], 2);
    }
    assert_eq!(world.text("p2", "error"), "this meeting is over");
    assert_eq!(world.nodes[node].desk.counters().rooms, 0);
    assert_eq!(world.nodes[node].desk.counters().hung_up, 2);
}

#[test]
fn an_abort_before_or_during_the_answer_leaves_no_session() {
    for micros in (0..40_000).step_by(1_000) {
        let mut world = World::three(micros);
        world.offer_now("room", "broadcaster", "");
        world.run(Duration::from_micros(micros));
        world.hang_up("room");
        world.run(SECOND * 15);
        assert_eq!(world.holder("room"), None, "after {micros} us");
        assert_eq!(world.text("room", "owner"), "", "after {micros} us");
    }
}

#[test]
fn a_participant_waits_for_its_broadcaster_and_not_for_ever() {
    let mut world = World::three(4);
    world.offer_now("early", "participant", "room");
    world.offer_now("lost", "participant", "nowhere");
    world.offer_now("astray", "participant", "early");
    world.run(SECOND * 5);
    assert_eq!(world.decision("early"), None);
    world.offer_now("room", "broadcaster", "");
    world.run(SECOND * 6);
    assert_eq!(world.server("early"), world.server("room"));
    assert_eq!(
        world.error("lost"),
        "there is no meeting `nowhere`; check its id"
    );
    assert!(world.error("astray").contains("not a broadcaster's"));
    for id in ["lost", "astray"] {
        assert_eq!(world.database.writes[&Path::request(id)], 1);
    }
    // With another parent it is another offer.
    let fields = [field("parent", "room")];
    world.page(world.now, Path::request("lost"), fields.into());
    world.run(SECOND * 2);
    assert_eq!(world.server("lost"), world.server("room"));
}

#[test]
fn bad_documents_cost_one_write_and_nobody_else_anything() {
    let mut world = World::three(5);
    let bad = [
        ("kind", Value::from("viewer")),
        ("kind", Value::Integer(3)),
        ("offer", Value::from("%%%")),
        ("offer", Value::Integer(7)),
        ("offer", Value::from("A".repeat(1 << 20))),
        ("offer", Value::from("e30=")),
        ("requestor", Value::Bool(true)),
    ];
    for (n, (name, value)) in bad.iter().enumerate() {
        let mut fields = request("broadcaster", "", n as u64);
        fields.insert((*name).to_owned(), value.clone());
        world.page(world.now, Path::request(&format!("bad{n}")), fields);
    }
    let mut missing = request("broadcaster", "", 9);
    missing.remove("kind");
    world.page(world.now, Path::request("bad7"), missing);
    world.page(
        world.now,
        Path::request("bad 8"),
        request("broadcaster", "", 8),
    );
    world.offer_now("good", "broadcaster", "");
    world.run(SECOND * 20);
    world.server("good");
    for id in [
        "bad0", "bad1", "bad2", "bad3", "bad4", "bad5", "bad6", "bad7", "bad 8",
    ] {
        assert!(!world.error(id).is_empty());
        assert_eq!(world.database.writes[&Path::request(id)], 1, "{id}");
        assert_eq!(world.text(id, "answer"), "");
    }
    // An offer that is not there yet is no bad one.
    let mut empty = request("broadcaster", "", 0);
    empty.insert("offer".to_owned(), "".into());
    world.page(world.now, Path::request("empty"), empty);
    world.run(SECOND * 20);
    assert_eq!(world.field("empty", "error"), Value::Null);
    world.offer_again("empty");
    world.run(SECOND);
    world.server("empty");
}

#[test]
fn full_nodes_leave_offers_to_others_and_then_say_so() {
    let mut world = World::new(6);
    for name in ["a", "b", "c"] {
        world.start(name, 3);
    }
    world.run(SECOND * 20);
    for n in 0..12 {
        world.offer_now(&format!("room{n}"), "broadcaster", "");
    }
    world.run(PATIENCE);
    let all = (0..12).map(|n| {
        world
            .decision(&format!("room{n}"))
            .expect("decided in time")
    });
    let (full, served): (Vec<_>, Vec<_>) = all.partition(|decision| !decision.error.is_empty());
    assert_eq!(served.len(), 9);
    for decision in full {
        assert!(decision.error.contains("full"), "{decision:?}");
    }
    for node in &world.nodes {
        assert_eq!(node.sessions.len(), 3);
    }
}

#[test]
fn a_node_that_would_not_after_all_leaves_the_offer_to_another() {
    let mut world = World::three(7);
    for node in [0, 1] {
        world.nodes[node].sessions_max = 0;
    }
    for n in 0..10 {
        world.offer_now(&format!("room{n}"), "broadcaster", "");
    }
    world.run(PATIENCE);
    for n in 0..10 {
        assert_eq!(world.server(&format!("room{n}")), 2);
    }
}

#[test]
fn lost_media_keeps_the_room_for_the_broadcaster_to_come_back() {
    let mut world = World::three(8);
    world.offer_now("room", "broadcaster", "");
    world.offer_now("p", "participant", "room");
    world.run(SECOND * 2);
    let node = world.server("room");
    world.lose_media(node, "room");
    world.run(SECOND * 2);
    assert_eq!(
        world.text("room", "error"),
        "the media connection was lost; offer again"
    );
    assert_eq!(world.holder("p"), Some(node));
    world.offer_again("room");
    world.run(SECOND * 3);
    assert_eq!(world.server("room"), node);
    assert_eq!(world.text("room", "error"), "");
    assert_eq!(world.holder("p"), Some(node));
    world.lose_media(node, "room");
    world.run(limits::BROADCASTER_GRACE + SECOND * 3);
    assert_eq!(world.holder("p"), None);
    assert_eq!(
        world.text("p", "error"),
        "the broadcaster did not come back"
    );
    assert_eq!(world.text("room", "owner"), "");
    world.offer_again("room");
    world.run(SECOND * 3);
    world.server("room");
}

#[test]
fn an_offer_changed_twice_in_a_second_gets_the_last_answer_a_second_later() {
    let mut world = World::three(9);
    world.offer_now("room", "broadcaster", "");
    world.run(Duration::from_millis(100));
    let node = world.server("room");
    world.offer_again("room");
    world.run(Duration::from_millis(100));
    world.offer_again("room");
    world.run(SECOND * 2);
    assert_eq!(world.server("room"), node);
    assert_eq!(world.database.writes[&Path::request("room")], 2);
    assert!(
        world.nodes[node]
            .sessions
            .contains_key(&RequestId("room".to_owned()))
    );
}

#[test]
fn ten_thousand_old_documents_do_not_hold_up_a_new_one() {
    let mut world = World::new(10);
    world.replays = 0;
    for n in 0..10_000 {
        let id = format!("old{n}");
        world.page(world.now, Path::request(&id), request("broadcaster", "", n));
    }
    world.run(limits::OFFER_AGE_MAX + SECOND * 30);
    world.offer_now("new", "broadcaster", "");
    world.run(Duration::from_millis(100));
    world.start("a", 1000);
    world.run(SECOND);
    assert_eq!(world.server("new"), 0);
    world.run(SECOND * 30);
    for n in 0..10_000 {
        let id = format!("old{n}");
        assert!(world.error(&id).contains("older than 10 minutes"));
        assert_eq!(world.database.writes[&Path::request(&id)], 1);
    }
    assert_eq!(world.nodes[0].desk.counters().undecided, 0);
}
