//! Rooms on several workers.

use super::*;

#[test]
fn a_new_room_begins_where_there_is_least_to_do() {
    let mut world = World::new();
    world.entered("busy", "Ann");
    for _ in 0..4 {
        world.reports([5, 40]);
    }
    let ann = world.entered("a", "Ann");
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    assert_eq!(world.commands()[0], "#0 open", "worker 1 has more to do");
    for _ in 0..4 {
        world.reports([90, 40]);
    }
    let bob = world.entered("b", "Bob");
    world.offer(&bob, &BOB.page(&CAMERA_AND_MICROPHONE, &[]));
    assert_eq!(world.commands()[0], "#1 open");
}

#[test]
fn a_room_that_outgrows_its_worker_goes_on_on_another() {
    let mut world = busy_room();
    let first = watch(&mut world);
    assert_eq!(
        world.commands(),
        [
            "#1 open",
            "#1 add Audio",
            "#1 add Video",
            "#1 import t1 from #0",
            "#0 export t1 to #1",
            "#1 feed t1 109",
            "#1 import t2 from #0",
            "#0 export t2 to #1",
            "#1 feed t2 120",
        ],
        "who is to take it is told first, the section last"
    );
    // The second one there is fed from what is there.
    let second = watch(&mut world);
    let commands = world.commands();
    assert_eq!(commands[0], "#1 open");
    assert!(
        commands.iter().all(|line| !line.contains("port")),
        "{commands:?}"
    );

    world.rooms.handle_disconnect(&first.resource).unwrap();
    assert_eq!(world.commands(), ["#1 close"]);
    world.rooms.handle_disconnect(&second.resource).unwrap();
    assert_eq!(
        world.commands(),
        [
            "#1 close",
            "#0 end export t1 to #1",
            "#1 unpublish t1",
            "#0 end export t2 to #1",
            "#1 unpublish t2",
        ],
        "what nobody watches any more is not relayed"
    );
    world.reports([30, 5]);
    watch(&mut world);
    assert_eq!(world.commands()[0], "#0 open", "its home has time again");
}

#[test]
fn people_on_two_workers_see_each_other() {
    let mut world = busy_room();
    let bob = world.entered("r", "Bob");
    let sections = ["0 video sendonly", "1 video recvonly"];
    world.offer(&bob, &BOB.page(&sections, &[("1", "t2")]));
    let own = world.track(&bob, 0);
    world.effects();
    world.reports([10, 5]);
    let eve = world.entered("r", "Eve");
    let wants = [("0", "t2"), ("1", own.as_str())];
    world.offer(
        &eve,
        &ANN.page(&["0 video recvonly", "1 video recvonly"], &wants),
    );
    let commands = world.commands();
    let relayed: Vec<&String> = commands
        .iter()
        .filter(|line| line.contains("port") || line.contains("feed"))
        .collect();
    assert_eq!(
        relayed,
        [
            "#0 feed t2 96",
            &format!("#0 import {own} from #1"),
            &format!("#1 export {own} to #0"),
            &format!("#0 feed {own} 96"),
        ],
        "each track lives where its publisher does"
    );
    // Whoever speaks is told by the worker where they are, and everybody hears it.
    let track = world.rooms.people[&bob].tracks[0];
    let event = Event::Speaking {
        track,
        speaking: true,
    };
    world.rooms.handle_event(world.now, 1, &event);
    let told = world.effects();
    assert_eq!(told, vec!["tell speaking 1"; told.len()]);
    assert!(told.len() >= 2);
}

#[test]
fn a_publisher_that_leaves_is_forgotten_on_every_worker() {
    let mut world = busy_room();
    watch(&mut world);
    world.effects();
    let (encoder, _) = world.rooms.sessions.first_key_value().unwrap();
    world.engine_closes(encoder.0, CloseReason::ConsentExpired);
    let commands = world.commands();
    assert_eq!(
        commands,
        ["#1 unpublish t1", "#1 unpublish t2"],
        "its home has forgotten it by itself"
    );
}

#[test]
fn t_33_a_worker_that_failed_is_relayed_nothing_any_more() {
    let mut world = busy_room();
    watch(&mut world);
    world.effects();
    world
        .rooms
        .handle_event(world.now, 1, &Event::WorkerRestarted);
    let mut commands = world.commands();
    commands.sort();
    assert_eq!(
        commands,
        [
            "#0 end export t1 to #1",
            "#0 end export t2 to #1",
            "#1 after restart"
        ]
    );
}

#[test]
fn many_who_come_at_once_spread_before_any_report() {
    let mut world = World::new();
    world.rooms.config.limits = RoomLimits {
        sessions: 2_000,
        sessions_per_room: 2_000,
        ..LIMITS
    };
    let mut on = [0; 2];
    for _ in 0..1_000 {
        watch(&mut world);
        for line in world.commands() {
            on[0] += usize::from(line == "#0 open");
            on[1] += usize::from(line == "#1 open");
        }
    }
    assert!(on[0] >= 300 && on[1] >= 300, "{on:?}");
}
