//! Nodes that die, drain, are cut off or replaced, and a database that does.

use std::time::Duration;

use signaling::firestore::Value;

use super::database::stamp;
use super::world::{World, field};
use super::{PATIENCE, SECOND};
use crate::firestore::desk::Desk;
use crate::firestore::message::Path;
use crate::firestore::registry::text;

/// Twenty rooms with four participants each.
fn fill(world: &mut World) {
    for n in 0..20 {
        world.offer_now(&format!("room{n}"), "broadcaster", "");
        for p in 0..4 {
            world.offer_now(&format!("p{n}-{p}"), "participant", &format!("room{n}"));
        }
    }
    world.run(SECOND * 3);
}

/// The ids of all requests.
fn all() -> impl Iterator<Item = String> {
    (0..20).flat_map(|n| {
        let people = (0..4).map(move |p| format!("p{n}-{p}"));
        people.chain([format!("room{n}")])
    })
}

#[test]
fn a_killed_nodes_documents_are_marked_and_their_pages_served_by_others() {
    for seed in [50, 51] {
        let mut world = World::three(seed);
        fill(&mut world);
        let victim = world.server("room0");
        let lost: Vec<String> = all().filter(|id| world.server(id) == victim).collect();
        world.kill(victim);
        world.run(SECOND * 45);
        for id in &lost {
            assert!(
                world.text(id, "error").contains("is gone; offer again"),
                "{id}"
            );
            assert_eq!(world.text(id, "owner"), "");
            world.offer_again(id);
        }
        let name = world.nodes[victim].name.clone();
        assert_eq!(world.database.document(&Path::node(&name)), None);
        world.run(PATIENCE);
        for id in all() {
            assert_ne!(world.server(&id), victim);
        }
        let sweeps: u64 = world
            .nodes
            .iter()
            .map(|node| node.desk.counters().sweeps)
            .sum();
        assert_eq!(sweeps, 1);
    }
}

#[test]
fn a_node_killed_in_the_middle_of_a_rush_loses_nothing_that_is_offered_again() {
    let mut world = World::three(52);
    for n in 0..20 {
        world.offer_now(&format!("room{n}"), "broadcaster", "");
        for p in 0..4 {
            world.offer_now(&format!("p{n}-{p}"), "participant", &format!("room{n}"));
        }
    }
    world.run(Duration::from_millis(12));
    world.kill(1);
    // Pages offer again whenever they are told to.
    for _ in 0..60 {
        world.run(SECOND * 2);
        for id in all() {
            let error = world.text(&id, "error");
            if !error.is_empty() && world.text(&id, "owner").is_empty() {
                world.offer_again(&id);
            }
        }
    }
    for id in all() {
        assert_ne!(world.server(&id), 1, "{id}");
    }
}

/// Runs until somebody begins to clean up after a dead node.
fn until_swept(world: &mut World, name: &str) {
    let node = Path::node(name);
    while let Some(found) = world.database.document(&node)
        && text(&found.fields, "swept_by").is_empty()
    {
        world.run(Duration::from_millis(1));
    }
}

#[test]
fn what_a_dead_node_wrote_arrives_late_and_is_marked_when_its_lease_is_over() {
    let mut world = World::three(55);
    fill(&mut world);
    let victim = world.server("room0");
    let name = world.nodes[victim].name.clone();
    let lost: Vec<String> = all().filter(|id| world.server(id) == victim).collect();
    world.kill(victim);
    until_swept(&mut world, &name);
    let end = stamp(world.now + SECOND * 20).0;
    let late = [field("lease_until", Value::Time(end))];
    world.page(world.now, Path::request("room0"), late.into());
    world.run(SECOND * 15);
    assert_eq!(world.text("room0", "owner"), name, "the node may live");
    world.run(SECOND * 15);
    for id in &lost {
        let error = world.text(id, "error");
        assert!(error.contains("is gone; offer again"), "{id}: {error}");
    }
    assert_eq!(world.database.document(&Path::node(&name)), None);
}

#[test]
fn the_last_word_of_a_dead_node_is_left_alone_for_a_second() {
    let mut world = World::three(57);
    fill(&mut world);
    let victim = world.server("room0");
    let name = world.nodes[victim].name.clone();
    world.kill(victim);
    until_swept(&mut world, &name);
    let word = [
        field("error", Value::from("the peer went silent; offer again")),
        field("lease_until", Value::Null),
    ];
    world.page(world.now, Path::request("room0"), word.into());
    world.run(SECOND);
    assert_eq!(world.text("room0", "owner"), name);
    world.run(SECOND * 5);
    assert_eq!(world.text("room0", "owner"), "");
}

#[test]
fn a_node_that_starts_again_marks_what_it_left_and_takes_up_work() {
    let mut world = World::new(53);
    world.start("a", 1000);
    world.run(SECOND * 20);
    fill(&mut world);
    world.kill(0);
    world.run(SECOND * 2);
    world.start("a", 1000);
    world.run(SECOND * 8);
    for id in all() {
        assert!(
            world
                .text(&id, "error")
                .contains("started again; offer again"),
            "{id}"
        );
        world.offer_again(&id);
    }
    world.run(PATIENCE);
    for id in all() {
        assert_eq!(world.server(&id), 1);
    }
}

#[test]
fn a_draining_node_keeps_its_meetings_and_leaves_new_ones_to_others() {
    let mut world = World::three(54);
    fill(&mut world);
    let node = world.server("room0");
    world.with(node, Desk::handle_drain);
    world.run(SECOND * 2);
    assert!(world.nodes[node].desk.ready().is_err());
    for n in 20..40 {
        world.offer_now(&format!("room{n}"), "broadcaster", "");
    }
    world.offer_now("late", "participant", "room0");
    world.run(PATIENCE);
    for n in 20..40 {
        assert_ne!(world.server(&format!("room{n}")), node);
    }
    assert_eq!(world.server("late"), node);
    assert!(!world.nodes[node].desk.is_idle());
    let left: Vec<String> = all().filter(|id| world.server(id) == node).collect();
    world.with(node, Desk::handle_end);
    world.run(SECOND * 4);
    assert!(world.nodes[node].desk.is_over() && world.nodes[node].desk.is_idle());
    for id in left {
        assert_eq!(world.text(&id, "error"), "the node ended; offer again");
        assert_eq!(world.text(&id, "owner"), "");
    }
    let name = world.nodes[node].name.clone();
    assert_eq!(world.database.document(&Path::node(&name)), None);
}

#[test]
fn meetings_outlive_an_outage_and_offers_made_meanwhile_are_served_after() {
    for seed in 55..58 {
        let mut world = World::three(seed);
        fill(&mut world);
        let before: Vec<usize> = all().map(|id| world.server(&id)).collect();
        for node in 0..3 {
            world.disconnect(node);
        }
        world.offer_now("new", "broadcaster", "");
        world.offer_now("p", "participant", "new");
        world.offer_now("q", "participant", "room3");
        world.run(SECOND * 120);
        assert!(
            world.nodes[0]
                .desk
                .ready()
                .unwrap_err()
                .contains("no route")
        );
        for node in 0..3 {
            world.run(SECOND * 2);
            world.connect(node);
        }
        world.run(PATIENCE);
        assert_eq!(world.server("p"), world.server("new"));
        assert_eq!(world.server("q"), world.server("room3"));
        world.run(SECOND * 60);
        let after: Vec<usize> = all().map(|id| world.server(&id)).collect();
        assert_eq!(before, after, "nothing was ended");
        assert!(all().all(|id| world.text(&id, "error").is_empty()));
    }
}

#[test]
fn a_node_cut_off_for_long_claims_back_what_nobody_took() {
    let mut world = World::three(58);
    fill(&mut world);
    let node = world.server("room0");
    let held: Vec<String> = all().filter(|id| world.server(id) == node).collect();
    world.disconnect(node);
    world.run(SECOND * 60);
    assert!(world.text("room0", "error").contains("is gone"));
    // Two pages offer again meanwhile: they are others' now.
    let moved = held
        .iter()
        .filter(|id| id.starts_with("room"))
        .nth(1)
        .cloned();
    let moved = moved.expect("it had more than one room");
    world.offer_again(&moved);
    world.run(SECOND * 3);
    let other = world.decision(&moved).expect("it is decided").node;
    assert_ne!(other, node);
    world.connect(node);
    world.run(SECOND * 20);
    assert!(!world.nodes[node].sessions.keys().any(|id| id.0 == moved));
    assert_eq!(world.nodes[node].desk.ready(), Ok(()));
    let name = Value::from(world.nodes[node].name.as_str());
    assert_eq!(world.holder("room0"), Some(node));
    assert_eq!(world.field("room0", "owner"), name);
    assert_eq!(world.text("room0", "error"), "");
}

#[test]
fn a_node_cut_off_for_long_gives_up_whom_others_refused_meanwhile() {
    let mut world = World::three(58);
    fill(&mut world);
    let node = world.server("room0");
    world.disconnect(node);
    world.run(SECOND * 60);
    world.offer_again("p0-0");
    world.run(SECOND * 20);
    let refused = world.text("p0-0", "error");
    assert!(refused.contains("is gone"), "{refused}");
    world.connect(node);
    world.run(SECOND * 20);
    assert!(world.holder("room0") == Some(node), "the room is kept");
    let mut sessions = world.nodes[node].sessions.keys();
    assert!(!sessions.any(|id| id.0 == "p0-0"));
    assert_eq!(world.text("p0-0", "error"), refused);
}

#[test]
fn a_database_that_forgets_everything_ends_no_meeting() {
    let mut world = World::three(59);
    fill(&mut world);
    let before: Vec<Option<usize>> = all().map(|id| world.holder(&id)).collect();
    let node = world.server("room0");
    for node in 0..3 {
        world.disconnect(node);
    }
    world.database.forget();
    world.run(SECOND * 5);
    for node in 0..3 {
        world.connect(node);
    }
    world.run(SECOND * 3);
    world.offer_now("late", "participant", "room0");
    world.offer_now("new", "broadcaster", "");
    world.run(SECOND * 3);
    assert_eq!(world.server("late"), node);
    world.server("new");
    world.run(SECOND * 60);
    let after: Vec<Option<usize>> = all().map(|id| world.holder(&id)).collect();
    assert_eq!(before, after);
}

#[test]
fn a_second_node_of_the_same_id_takes_the_first_ones_place() {
    let mut world = World::three(60);
    fill(&mut world);
    let held = world.nodes[0].sessions.len();
    let second = world.start("node-a", 1000);
    world.run(SECOND * 20);
    assert_eq!(
        world.nodes[0].alarms.len(),
        1,
        "{:?}",
        world.nodes[0].alarms
    );
    assert!(world.nodes[0].desk.ready().unwrap_err().contains("same id"));
    assert_eq!(world.nodes[0].sessions.len(), held, "meetings go on");
    assert_eq!(world.nodes[second].desk.ready(), Ok(()));
    for n in 0..20 {
        world.offer_now(&format!("new{n}"), "broadcaster", "");
    }
    world.run(PATIENCE);
    for n in 0..20 {
        assert_ne!(world.server(&format!("new{n}")), 0);
    }
}

#[test]
fn a_denial_is_one_alarm_and_few_tries() {
    let mut world = World::three(61);
    world.database.denies = true;
    world.offer_now("room", "broadcaster", "");
    world.run(SECOND * 300);
    for node in &world.nodes {
        assert_eq!(node.alarms.len(), 1, "{:?}", node.alarms);
        assert!(node.desk.ready().unwrap_err().contains("refuses this node"));
        assert!(node.desk.counters().writes_failed <= 30);
    }
    world.database.denies = false;
    world.run(SECOND * 60);
    assert_eq!(world.nodes[0].desk.ready(), Ok(()));
    world.offer_now("late", "broadcaster", "");
    world.run(SECOND * 10);
    world.server("late");
}

#[test]
fn whatever_is_cut_and_killed_every_offer_of_a_patient_page_is_served_in_the_end() {
    for seed in 70..74 {
        let mut world = World::three(seed);
        world.replays = [0, 5, 50, 100][(seed % 4) as usize];
        fill(&mut world);
        let mut down = None;
        for round in 0..40 {
            let node = (world.random() % 3) as usize;
            match down.take() {
                Some(node) => world.connect(node),
                None => {
                    world.disconnect(node);
                    down = Some(node);
                }
            }
            if round % 5 == 0 {
                let n = world.random() % 20;
                world.offer_again(&format!("room{n}"));
            }
            let span = 200 + world.random() % 15_000;
            world.run(Duration::from_millis(span));
            offer_where_told(&mut world);
        }
        if let Some(node) = down {
            world.connect(node);
        }
        for _ in 0..60 {
            world.run(SECOND * 2);
            offer_where_told(&mut world);
        }
        for id in all() {
            let holder = world.holder(&id);
            let owner = holder.map(|node| world.nodes[node].name.clone());
            assert_eq!(Some(world.text(&id, "owner")), owner, "seed {seed}: {id}");
        }
    }
}

/// Pages offer again where their document says so.
fn offer_where_told(world: &mut World) {
    for id in all() {
        if !world.text(&id, "error").is_empty() {
            world.offer_again(&id);
        }
    }
}

#[test]
fn an_offer_that_no_listener_was_told_of_is_found_by_counting() {
    let mut world = World::new(70);
    world.replays = 0;
    world.start("a", 1000);
    world.run(Duration::from_millis(300));
    // The emulator forgets a write that meets the beginning of a listen.
    world.mute = true;
    world.offer_now("room", "broadcaster", "");
    world.run(Duration::from_millis(1));
    world.mute = false;
    world.run(PATIENCE);
    assert_eq!(world.server("room"), 0);
    let relistens = world.nodes[0].desk.counters().relistens;
    assert_eq!(relistens, 1);
    // And of a page that hangs up.
    world.mute = true;
    world.hang_up("room");
    world.run(Duration::from_millis(1));
    world.mute = false;
    world.disconnect(0);
    world.connect(0);
    world.run(PATIENCE);
    assert_eq!(world.holder("room"), None);
}
