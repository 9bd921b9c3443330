//! What is refused, and that nothing is left of it.

use dataplane::counters::Counters;
use dataplane::event::Report;
use dataplane::load::Load;

use super::*;

/// Fails unless the refused request changed nothing.
fn assert_untouched(world: &mut World, before: &str) {
    assert_eq!(world.effects(), [""; 0]);
    assert_eq!(state(world), before);
}

fn state(world: &World) -> String {
    let Rooms {
        rooms,
        people,
        tokens,
        sessions,
        resources,
        tracks,
        ..
    } = &world.rooms;
    format!("{rooms:?} {people:?} {tokens:?} {sessions:?} {resources:?} {tracks:?}")
}

#[test]
fn a_full_room_refuses_people_and_players_alike() {
    let mut world = World::new();
    for _ in 0..LIMITS.sessions_per_room {
        world.entered("r", "X");
    }
    let before = state(&world);
    let full = "the room is full: it holds at most 4 sessions";
    assert_eq!(world.enter("r", "Y").unwrap_err().to_string(), full);
    let player = world.connect(Door::Whep, "r", &BOB.sdp(&["0 video recvonly"]));
    assert_eq!(player.unwrap_err().to_string(), full);
    assert_untouched(&mut world, &before);
    assert!(world.enter("other", "Y").is_ok());
}

#[test]
fn a_full_node_refuses() {
    let mut world = World::new();
    for room in ["a", "b", "c"] {
        for _ in 0..3 {
            world.entered(room, "X");
        }
    }
    let before = state(&world);
    let rooms = world.enter("d", "Y").unwrap_err().to_string();
    assert!(rooms.contains("it holds at most 3 rooms"), "{rooms}");
    assert_untouched(&mut world, &before);
    world.entered("a", "X");
    let sessions = world.enter("b", "Y").unwrap_err().to_string();
    assert!(
        sessions.contains("it holds at most 10 sessions"),
        "{sessions}"
    );
    assert!(world.rooms.ready().is_err());
}

#[test]
fn too_many_tracks_are_refused_and_the_session_goes_on() {
    let mut world = World::new();
    let ann = world.entered("r", "Ann");
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    world.effects();
    let before = state(&world);
    let sections: Vec<String> = (0..5).map(|mid| format!("{mid} video sendonly")).collect();
    let sections: Vec<&str> = sections.iter().map(String::as_str).collect();
    let refused = world
        .rooms
        .handle_offer(&ann, &ANN.page(&sections, &[]))
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "this offer cannot be served: it publishes 5 tracks, and a session may publish 4"
    );
    assert_untouched(&mut world, &before);
    // Nor does an offer from a new connection end the old one when it is refused.
    let anew = Client {
        certificate: "AC",
        ..ANN
    };
    assert!(
        world
            .rooms
            .handle_offer(&ann, &anew.page(&sections, &[]))
            .is_err()
    );
    assert_untouched(&mut world, &before);
}

#[test]
fn an_offer_with_nothing_for_us_is_refused() {
    let mut world = World::new();
    let ann = world.entered("r", "Ann");
    let before = state(&world);
    let strange = ANN.sdp(&["0 video sendonly"]).replace("VP8", "Theora");
    let mut page = ANN.page(&["0 video sendonly"], &[]);
    page.offer = Offer::parse(&strange).unwrap();
    let refused = world.rooms.handle_offer(&ann, &page);
    assert!(
        matches!(refused, Err(Refusal::Unservable(_))),
        "{refused:?}"
    );
    for (door, sections) in [
        (Door::Whip, ["0 video recvonly"]),
        (Door::Whep, ["0 video sendonly"]),
    ] {
        let refused = world.connect(door, "fresh", &BOB.sdp(&sections));
        assert!(
            matches!(refused, Err(Refusal::Unservable(_))),
            "{refused:?}"
        );
    }
    assert_untouched(&mut world, &before);
}

#[test]
fn a_node_that_sends_too_much_takes_nobody_in_until_it_sends_less() {
    let mut world = World::new();
    let mut bytes_sent = 0;
    let mut sends = |world: &mut World, bps: u64| {
        bytes_sent += bps / 8;
        world.now += Duration::from_secs(1);
        let counters = Counters {
            bytes_sent,
            ..Counters::default()
        };
        let report = Report {
            counters,
            ..Report::default()
        };
        world
            .rooms
            .handle_event(world.now, 1, &Event::Report(Box::new(report)));
    };
    sends(&mut world, 8_000_000);
    assert!(world.enter("r", "Ann").is_ok(), "one report is no rate");
    sends(&mut world, 2_000_000);
    let refused = world.enter("r", "Bob").unwrap_err().to_string();
    assert!(
        refused.contains("it sends 2000000 bit/s and may send at most 1000000"),
        "{refused}"
    );
    sends(&mut world, 80_000);
    assert!(world.enter("r", "Bob").is_ok());
}

#[test]
fn an_overloaded_worker_takes_nobody_in_while_its_meetings_go_on() {
    let mut world = World::new();
    let ann = world.entered("r", "Ann");
    let reports = |world: &mut World, worker: usize, load: u16| {
        for _ in 0..2 {
            world.now += Duration::from_secs(1);
            let report = Box::new(Report {
                load: Load(load),
                ..Report::default()
            });
            world
                .rooms
                .handle_event(world.now, worker, &Event::Report(report));
        }
    };
    reports(&mut world, 0, 950);
    // As long as there is another worker, newcomers go there.
    assert!(world.enter("r", "Bob").is_ok() && world.rooms.ready().is_ok());
    world.effects();
    reports(&mut world, 1, 970);
    let before = state(&world);
    let refused = world.enter("r", "Cid").unwrap_err().to_string();
    assert!(
        refused.contains("takes nobody new: it is busy 9"),
        "{refused}"
    );
    assert_untouched(&mut world, &before);
    assert!(world.enter("s", "Dan").is_err() && world.rooms.ready().is_err());
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    assert!(!world.effects().is_empty(), "who is in a meeting is served");
    reports(&mut world, 0, 300);
    assert!(world.enter("r", "Cid").is_ok());
}

#[test]
fn a_node_that_ends_takes_nobody_in_and_tells_everybody() {
    let mut world = World::new();
    let ann = world.entered("r", "Ann");
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    world.effects();
    world.rooms.handle_shutdown();
    assert_eq!(
        world.effects(),
        [
            "tell closed: the node is shutting down",
            "dismiss",
            "#0 close",
            "ended node_ending"
        ]
    );
    world.assert_empty();
    assert_eq!(world.enter("r", "Bob"), Err(Refusal::ShuttingDown));
    assert_eq!(world.rooms.ready(), Err(Refusal::ShuttingDown));
}
