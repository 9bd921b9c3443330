//! Members: rooms that no broadcaster made.

use std::time::Duration;

use signaling::firestore::{Fields, Value};

use super::world::{World, field};
use super::{SECOND, request};
use crate::firestore::desk::{RequestId, limits};
use crate::firestore::message::Path;

fn map<const N: usize>(entries: [(String, Value); N]) -> Value {
    Value::Map(Fields::from(entries))
}

#[test]
fn members_of_a_room_meet_on_one_node_and_see_its_document() {
    for seed in 20..30 {
        let mut world = World::three(seed);
        for n in 0..6 {
            world.offer_now(&format!("m{n}"), "member", "lobby");
        }
        world.run(SECOND * 3);
        let node = world.server("m0");
        for n in 1..6 {
            assert_eq!(world.server(&format!("m{n}")), node);
        }
        let room = world.database.document(&Path::room("lobby")).unwrap();
        assert_eq!(
            room.fields["owner"],
            Value::from(world.nodes[node].name.as_str())
        );
        let people = room.fields["people"].as_text().unwrap();
        assert!(
            (0..6).all(|n| people.contains(&format!("m{n}"))),
            "{people}"
        );
        // Somebody who comes later finds it at once.
        world.offer_now("late", "member", "lobby");
        world.run(Duration::from_millis(100));
        assert_eq!(world.server("late"), node);
        for n in 0..6 {
            world.hang_up(&format!("m{n}"));
        }
        world.hang_up("late");
        world.run(limits::EMPTY_ROOM_GRACE + SECOND * 4);
        assert_eq!(world.database.document(&Path::room("lobby")), None);
        assert_eq!(world.nodes[node].desk.counters().rooms, 0);
        world.offer_now("again", "member", "lobby");
        world.run(SECOND * 3);
        world.server("again");
    }
}

#[test]
fn what_members_mute_and_say_is_carried_out_once() {
    let mut world = World::three(31);
    let mut fields = request("member", "lobby", 1);
    let camera = map([field("camera", true)]);
    fields.insert("muted".to_owned(), camera);
    world.page(world.now, Path::request("m"), fields);
    world.run(SECOND * 2);
    let node = world.server("m");
    let id = RequestId("m".to_owned());
    assert_eq!(world.nodes[node].muted, [(id.clone(), true)]);
    for n in 1..3_i64 {
        let said = map([field("n", n), field("text", format!("hello {n}"))]);
        let fields = [("say".to_owned(), said)];
        world.page(world.now, Path::request("m"), fields.into());
        world.run(SECOND);
    }
    let fields = [("muted".to_owned(), map([field("camera", false)]))];
    world.page(world.now, Path::request("m"), fields.into());
    world.offer_again("m");
    world.run(SECOND * 3);
    assert_eq!(world.server("m"), node);
    let said = ["hello 1", "hello 2"].map(|text| (id.clone(), text.to_owned()));
    assert_eq!(world.nodes[node].said, said);
    assert_eq!(world.nodes[node].muted, [(id.clone(), true), (id, false)]);
}

#[test]
fn members_join_a_broadcasters_room_on_its_node() {
    for seed in 32..38 {
        let mut world = World::three(seed);
        world.offer_now("m", "member", "room");
        world.offer_now("room", "broadcaster", "");
        world.offer_now("n", "member", "room");
        world.run(SECOND * 9);
        let node = world.server("room");
        assert_eq!(world.server("n"), world.server("m"));
        let room = world.database.document(&Path::room("room")).unwrap();
        let owner = Value::from(world.nodes[world.server("m")].name.as_str());
        assert_eq!(room.fields["owner"], owner);
        assert_eq!(world.server("m"), node, "seed {seed}");
    }
}

/// Three nodes, one of which has somebody in a room who came by another door, and which that is.
fn with_room_by_another_door(seed: u64, room: &str) -> (World, usize) {
    let mut world = World::three(seed);
    let node = (seed % 3) as usize;
    let view = crate::firestore::desk::RoomView {
        present: 1,
        ..Default::default()
    };
    world.with(node, |desk, now| {
        desk.handle_room(now, &room.parse().unwrap(), Some(view));
    });
    (world, node)
}

#[test]
fn a_room_that_the_node_has_already_is_taken_by_that_node() {
    for seed in 40..46 {
        let (mut world, node) = with_room_by_another_door(seed, "lobby");
        world.offer_now("m", "member", "lobby");
        world.run(SECOND * 2);
        assert_eq!(world.server("m"), node, "seed {seed}");
    }
}

#[test]
fn a_participant_watches_a_room_that_a_node_has_by_another_door() {
    for seed in 46..52 {
        let (mut world, node) = with_room_by_another_door(seed, "gate");
        world.offer_now("p", "participant", "gate");
        world.offer_now("q", "participant", "gate");
        world.run(SECOND * 2);
        assert_eq!(world.server("p"), node, "seed {seed}");
        assert_eq!(world.server("q"), node, "seed {seed}");
    }
}

#[test]
fn who_offers_again_after_a_session_that_ended_before_its_answer_was_written_is_served() {
    for seed in 60..70 {
        let mut world = World::three(seed);
        world.offer_now("m", "member", "lobby");
        world.run(SECOND * 3);
        let node = world.server("m");
        // The first answer has its second, and the next has to wait for the rest of it.
        world.offer_again("m");
        world.run(Duration::from_millis(500));
        world.offer_again("m");
        world.run(Duration::from_millis(100));
        world.lose_media(node, "m");
        world.run(SECOND * 3);
        assert_eq!(
            world.text("m", "error"),
            "the media connection was lost; offer again"
        );
        world.offer_again("m");
        world.run(SECOND * 3);
        world.server("m");
    }
}
