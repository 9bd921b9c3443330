//! People at the page.

use dataplane::event::{Report, TrackReport};
use dataplane::id::TrackId;

use super::*;

#[test]
fn two_people_see_each_other() {
    let mut world = World::new();
    let ann = world.entered("r", "Ann");
    let answer = world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    assert_eq!(directions(&answer), ["recvonly", "recvonly"]);
    assert_eq!(
        world.effects(),
        [
            "#0 open",
            "opened page",
            "#0 publish t1 Audio",
            "#0 publish t2 Video"
        ]
    );

    let bob = world.enter("r", "Bob").unwrap();
    let sources: Vec<SourceKind> = bob.people[0]
        .tracks
        .iter()
        .map(|track| track.source)
        .collect();
    assert_eq!(sources, [SourceKind::Microphone, SourceKind::Camera]);
    assert_eq!(world.effects(), ["tell joined Bob"]);

    let sections = ["a audio recvonly", "b video recvonly"];
    let answer = world.offer(
        &bob.person,
        &BOB.page(&sections, &[("a", "t1"), ("b", "t2")]),
    );
    assert_eq!(directions(&answer), ["sendonly", "sendonly"]);
    assert!(answer.contains(&format!("msid:{} t1", ann.0)), "{answer}");
    assert_eq!(
        world.commands(),
        [
            "#0 open",
            "#0 add Audio",
            "#0 feed t1 109",
            "#0 add Video",
            "#0 feed t2 120"
        ],
        "packets go under Bob's numbers"
    );
}

#[test]
fn others_are_told_when_somebodys_next_connection_sends_nothing() {
    let mut world = World::new();
    let (ann, _bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    world.effects();
    // Another certificate: another connection.
    world.offer(&ann, &BOB.page(&["a video recvonly"], &[]));
    let effects = world.effects();
    let told = effects.iter().filter(|effect| effect.starts_with("tell"));
    assert_eq!(told.collect::<Vec<_>>(), ["tell tracks 0 muted 0"]);
}

#[test]
fn a_client_that_offers_again_keeps_what_it_had() {
    let mut world = World::new();
    let (ann, bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    let first = world.offer(&bob, &BOB.page(&["a video recvonly"], &[("a", "t2")]));
    world.effects();

    let again = world.offer(&bob, &BOB.page(&["a video recvonly"], &[("a", "t2")]));
    assert_eq!(world.effects(), [""; 0]);
    for name in ["ice-ufrag", "ice-pwd", "ssrc"] {
        assert_eq!(attribute(&first, name), attribute(&again, name));
    }

    // Another section and a changed want: the first section's SSRC stays.
    let sections = ["a video recvonly", "b audio sendrecv"];
    let more = world.offer(&bob, &BOB.page(&sections, &[("a", "t2"), ("b", "t1")]));
    assert_eq!(directions(&more), ["sendonly", "sendrecv"]);
    assert_eq!(attribute(&first, "ssrc"), attribute(&more, "ssrc"));
    let own = world.track(&bob, 0);
    let publish = format!("#0 publish {own} Audio");
    assert_eq!(
        world.commands(),
        [publish.as_str(), "#0 add Audio", "#0 feed t1 109"]
    );
}

#[test]
fn a_section_that_wants_another_track_is_fed_anew() {
    let mut world = World::new();
    let (ann, bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    let sections = ["0 video sendonly", "1 video sendonly"];
    world.offer(&ann, &ANN.page(&sections, &[]));
    world.offer(&bob, &BOB.page(&["a video recvonly"], &[("a", "t1")]));
    world.effects();
    world.offer(&bob, &BOB.page(&["a video recvonly"], &[("a", "t2")]));
    assert_eq!(world.commands(), ["#0 feed t2 120"]);
    // Not wanted any more, or unknown, or of the other kind: nothing is sent.
    let answer = world.offer(&bob, &BOB.page(&["a video recvonly"], &[]));
    assert_eq!(directions(&answer), ["inactive"]);
    assert_eq!(world.commands(), ["#0 remove"]);
    for wrong in ["t999", "2", "", "tx"] {
        let answer = world.offer(&bob, &BOB.page(&["a video recvonly"], &[("a", wrong)]));
        assert_eq!(directions(&answer), ["inactive"]);
    }
}

#[test]
fn x_06_nobody_gets_tracks_of_another_room() {
    let mut world = World::new();
    let (ann, eve) = (world.entered("r", "Ann"), world.entered("other", "Eve"));
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    let answer = world.offer(&eve, &BOB.page(&["a video recvonly"], &[("a", "t2")]));
    assert_eq!(directions(&answer), ["inactive"]);
}

#[test]
fn a_stopped_track_is_gone_for_the_others() {
    let mut world = World::new();
    let (ann, bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    world.offer(&bob, &BOB.page(&["a video recvonly"], &[("a", "t2")]));
    world.effects();
    world.offer(
        &ann,
        &ANN.page(&["0 audio sendonly", "1 video inactive"], &[]),
    );
    assert_eq!(
        world.effects(),
        ["#0 unpublish t2", "tell tracks 1 muted 0"]
    );
    // Bob's section is free again.
    let answer = world.offer(&bob, &BOB.page(&["a video recvonly"], &[("a", "t2")]));
    assert_eq!(directions(&answer), ["inactive"]);
    assert_eq!(world.commands(), ["#0 remove"]);
}

#[test]
fn new_credentials_restart_ice() {
    let mut world = World::new();
    let ann = world.entered("r", "Ann");
    let first = world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    world.effects();
    let moved = Client {
        ufrag: "ann2",
        ..ANN
    };
    let second = world.offer(&ann, &moved.page(&CAMERA_AND_MICROPHONE, &[]));
    assert_eq!(world.effects(), ["#0 restart"]);
    assert_ne!(
        attribute(&first, "ice-ufrag"),
        attribute(&second, "ice-ufrag")
    );
    assert_ne!(attribute(&first, "ice-pwd"), attribute(&second, "ice-pwd"));
}

#[test]
fn a_new_certificate_of_ours_is_told_to_new_sessions_and_old_ones_hear_of_theirs() {
    let mut world = World::new();
    let (ann, bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    let first = world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    let next = world.rooms.next_session();
    world.rooms.handle_certificate([8; 32]);
    let again = world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    let other = world.offer(&bob, &BOB.page(&CAMERA_AND_MICROPHONE, &[]));
    let [first, again, other] =
        [&first, &again, &other].map(|answer| attribute(answer, "fingerprint"));
    assert_eq!(
        first, again,
        "a client that offers again is in the middle of a call"
    );
    assert!(
        first.ends_with(":07") && other.ends_with(":08"),
        "{first} {other}"
    );
    assert!(world.rooms.next_session().0 > next.0);
}

#[test]
fn another_certificate_makes_a_new_session_in_place_of_the_old() {
    let mut world = World::new();
    let (ann, bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    world.offer(&ann, &ANN.page(&["0 audio sendonly"], &[]));
    world.offer(&bob, &BOB.page(&["a audio recvonly"], &[("a", "t1")]));
    world.effects();
    let anew = Client {
        certificate: "AC",
        ..ANN
    };
    world.offer(&ann, &anew.page(&["0 audio sendonly"], &[]));
    let track = world.track(&ann, 0);
    assert_ne!(track, "t1");
    let publish = format!("#0 publish {track} Audio");
    assert_eq!(
        world.effects(),
        [
            "#0 close",
            "ended replaced",
            "#0 open",
            "opened page",
            &publish,
            "tell tracks 1 muted 0"
        ]
    );
    // A section that still names the old track is silent, not wrong.
    let answer = world.offer(&bob, &BOB.page(&["a audio recvonly"], &[("a", "t1")]));
    assert_eq!(directions(&answer), ["inactive"]);
}

#[test]
fn media_that_the_engine_lost_can_be_offered_again() {
    let mut world = World::new();
    let (ann, bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    world.offer(&ann, &ANN.page(&["0 audio sendonly"], &[]));
    world.offer(&bob, &BOB.page(&["a audio recvonly"], &[("a", "t1")]));
    world.effects();
    let session = world.rooms.people[&ann].session.unwrap().0;
    world.engine_closes(session, CloseReason::ConsentExpired);
    assert_eq!(
        world.effects(),
        [
            "ended consent_expired",
            "tell tracks 0 muted 0",
            "tell media lost: the peer went silent: no connectivity check for 30 s",
        ],
        "the engine has closed it already"
    );
    world.engine_closes(session, CloseReason::ConsentExpired);
    assert_eq!(world.effects(), [""; 0]);
    world.offer(&ann, &ANN.page(&["0 audio sendonly"], &[]));
    let commands = world.commands();
    assert_eq!(commands.first().map(String::as_str), Some("#0 open"));
}

#[test]
fn t_33_a_failed_worker_loses_its_sessions_and_not_its_people() {
    let mut world = World::new();
    let ann = world.entered("r", "Ann");
    world.offer(&ann, &ANN.page(&["0 audio sendonly"], &[]));
    world
        .connect(Door::Whip, "r", &BOB.sdp(&CAMERA_AND_MICROPHONE))
        .unwrap();
    world.effects();
    world
        .rooms
        .handle_event(world.now, 1, &Event::WorkerRestarted);
    assert_eq!(world.effects(), ["#1 after restart"]);
    world
        .rooms
        .handle_event(world.now, 0, &Event::WorkerRestarted);
    assert_eq!(world.commands(), ["#0 after restart"]);
    assert_eq!(world.rooms.people.keys().collect::<Vec<_>>(), [&ann]);
    assert!(world.rooms.sessions.is_empty() && world.rooms.tracks.is_empty());
}

#[test]
fn a_broken_websocket_has_15_seconds() {
    let mut world = World::new();
    let entry = world.enter("r", "Ann").unwrap();
    world.offer(&entry.person, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    world.effects();
    world.suspend(&entry);
    assert_eq!(
        world.rooms.poll_timeout(),
        Some(world.now + Duration::from_secs(15))
    );
    world.wait(Duration::from_secs(14));
    let back = world.rooms.handle_resume(&entry.resume_token).unwrap();
    assert_eq!(
        (&back.person, back.people[0].tracks.len()),
        (&entry.person, 2)
    );
    world.wait(Duration::from_secs(60));
    assert_eq!(world.effects(), [""; 0]);

    world.suspend(&back);
    world.wait(Duration::from_secs(15));
    assert_eq!(world.effects(), ["#0 close", "ended grace_over", "dismiss"]);
    let late = world.rooms.handle_resume(&entry.resume_token);
    assert_eq!(late, Err(Refusal::UnknownSession));
    world.assert_empty();
}

#[test]
fn a_websocket_that_ends_after_its_person_came_back_by_another_ends_nothing() {
    let mut world = World::new();
    let entry = world.enter("r", "Ann").unwrap();
    let back = world.rooms.handle_resume(&entry.resume_token).unwrap();
    world.effects();
    assert!(!world.suspend(&entry), "the visit was over");
    world.rooms.handle_goodbye(&entry.person, entry.visit);
    world.wait(Duration::from_secs(60));
    assert_eq!(world.effects(), [""; 0]);

    assert!(world.suspend(&back));
    // By then it is too late for a goodbye: they may be on their way back.
    world.rooms.handle_goodbye(&back.person, back.visit);
    assert_eq!(world.effects(), [""; 0]);
    let again = world.rooms.handle_resume(&entry.resume_token).unwrap();
    world.rooms.handle_goodbye(&again.person, again.visit);
    assert_eq!(world.effects(), ["dismiss"]);
    world.assert_empty();
}

#[test]
fn muting_is_told_once_and_holds_for_tracks_to_come() {
    let mut world = World::new();
    let (ann, _bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    world.rooms.handle_mute(&ann, MICROPHONE, true);
    assert_eq!(world.effects(), [""; 0]);
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    assert_eq!(
        world.effects().last().map(String::as_str),
        Some("tell tracks 2 muted 1")
    );
    world.rooms.handle_mute(&ann, MICROPHONE, false);
    world.rooms.handle_mute(&ann, MICROPHONE, false);
    assert_eq!(world.effects(), ["tell tracks 2 muted 0"]);
}

#[test]
fn who_speaks_is_told_on_change_only() {
    let mut world = World::new();
    let (ann, _bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    world.offer(
        &ann,
        &ANN.page(&["0 audio sendonly", "1 audio sendonly"], &[]),
    );
    world.effects();
    let mut speaks = |track, speaking| {
        let event = Event::Speaking {
            track: TrackId(track),
            speaking,
        };
        world.rooms.handle_event(world.now, 0, &event);
        world.effects()
    };
    assert_eq!(
        speaks(1, true),
        ["tell speaking 1"; 2],
        "both people are told"
    );
    assert_eq!(speaks(2, true), [""; 0], "she speaks already");
    assert_eq!(speaks(1, false), [""; 0], "and still does");
    assert_eq!(speaks(2, false), ["tell speaking 0"; 2]);
    assert_eq!(speaks(99, true), [""; 0]);
}

#[test]
fn who_comes_in_hears_of_who_speaks() {
    let mut world = World::new();
    let ann = world.entered("r", "Ann");
    world.offer(&ann, &ANN.page(&["0 audio sendonly"], &[]));
    let track = TrackId(1);
    let event = Event::Speaking {
        track,
        speaking: true,
    };
    world.rooms.handle_event(world.now, 0, &event);
    world.effects();
    world.enter("r", "Bob").unwrap();
    assert_eq!(world.effects(), ["tell joined Bob", "tell speaking 1"]);
}

#[test]
fn one_of_those_who_speak_dominates_until_another_was_louder_for_a_while() {
    let mut world = World::new();
    let people = [world.entered("r", "Ann"), world.entered("r", "Bob")];
    for (person, peer) in people.iter().zip([ANN, BOB]) {
        world.offer(person, &peer.page(&["0 audio sendonly"], &[]));
    }
    let tracks = people.each_ref().map(|id| world.rooms.people[id].tracks[0]);
    for track in tracks {
        let event = Event::Speaking {
            track,
            speaking: true,
        };
        world.rooms.handle_event(world.now, 0, &event);
    }
    let dominant = |world: &World| {
        let room = world.rooms.rooms.values().next().unwrap();
        let index = people
            .iter()
            .position(|id| room.dominant.as_ref() == Some(id));
        index.unwrap()
    };
    assert_eq!(dominant(&world), 0, "who spoke first");
    world.effects();
    let report = |loudness: [u8; 2]| {
        let tracks = tracks.into_iter().zip(loudness);
        let rows = tracks.map(|(track, loudness_db)| TrackReport {
            track,
            bitrate_bps: 0,
            packets: 0,
            lost: 0,
            loudness_db,
        });
        Event::Report(Box::new(Report {
            tracks: rows.collect(),
            ..Report::default()
        }))
    };
    let mut told = 0;
    for (second, loudness) in [[10, 10]; 5].into_iter().chain([[10, 20]; 5]).enumerate() {
        world.rooms.handle_event(world.now, 0, &report(loudness));
        told += world.effects().len();
        let expected = usize::from(second > 5);
        assert_eq!(dominant(&world), expected, "second {second}");
    }
    assert_eq!(told, 2, "both are told, once");
}

#[test]
fn a_source_is_what_its_sender_says_if_that_can_be() {
    let mut world = World::new();
    let ann = world.entered("r", "Ann");
    let sections = ["0 video sendonly", "1 video sendonly", "2 audio sendonly"];
    let mut page = ANN.page(&sections, &[]);
    let named = [
        ("0", SourceKind::Screen),
        ("1", MICROPHONE),
        ("2", SourceKind::ScreenAudio),
    ];
    page.sources = named.map(|(mid, source)| (mid.to_owned(), source)).to_vec();
    world.offer(&ann, &page);
    let tracks = world.rooms.person_view(&ann).unwrap().tracks;
    let sources: Vec<SourceKind> = tracks.iter().map(|track| track.source).collect();
    assert_eq!(
        sources,
        [
            SourceKind::Screen,
            SourceKind::Camera,
            SourceKind::ScreenAudio
        ]
    );
}

#[test]
fn who_leaves_speaks_no_more() {
    let mut world = World::new();
    let (ann, _bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    world.offer(&ann, &ANN.page(&["0 audio sendonly"], &[]));
    world.rooms.handle_event(
        world.now,
        0,
        &Event::Speaking {
            track: TrackId(1),
            speaking: true,
        },
    );
    world.effects();
    world
        .rooms
        .handle_leave(&ann, super::super::EndReason::Left);
    let effects = world.effects();
    assert!(
        effects.contains(&"tell speaking 0".to_owned()),
        "{effects:?}"
    );
    assert_eq!(effects.last().map(String::as_str), Some("tell left"));
}

#[test]
fn chat_reaches_everybody_in_the_room_and_nobody_else() {
    let mut world = World::new();
    let (ann, _bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    world.entered("other", "Eve");
    world.rooms.handle_say(&ann, "hello");
    assert_eq!(world.effects(), ["tell chat hello"; 2]);
}

#[test]
fn rooms_spread_over_the_workers() {
    let mut world = World::new();
    for (room, worker) in [("a", "#0 open"), ("b", "#1 open"), ("a", "#0 open")] {
        let person = world.entered(room, "X");
        world.offer(&person, &ANN.page(&["0 audio sendonly"], &[]));
        assert_eq!(world.commands()[0], worker);
    }
    let person = world.entered("c", "X");
    world.offer(&person, &ANN.page(&["0 audio sendonly"], &[]));
    assert_eq!(world.commands()[0], "#1 open", "two are in a, one is in b");
}

#[test]
fn a_closed_room_ends_for_everybody() {
    let mut world = World::new();
    let (ann, _bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    world
        .connect(Door::Whep, "r", &BOB.sdp(&["0 video recvonly"]))
        .unwrap();
    world.effects();
    assert!(world.rooms.handle_close_room(&room_name("r")));
    let mut effects = world.effects();
    effects.retain(|line| !line.starts_with('#'));
    assert_eq!(
        effects,
        [
            "tell closed: the room was closed",
            "tell closed: the room was closed",
            "dismiss",
            "dismiss",
            "ended room_closed",
            "ended room_closed",
        ]
    );
    world.assert_empty();
    assert!(!world.rooms.handle_close_room(&room_name("r")));
}

#[test]
fn a_track_whose_numbers_change_is_fed_anew() {
    let mut world = World::new();
    let (ann, bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
    world.offer(&ann, &ANN.page(&["0 audio sendonly"], &[]));
    world.offer(&bob, &BOB.page(&["a audio recvonly"], &[("a", "t1")]));
    world.effects();
    let renumbered = Client {
        numbers: [100, 101, 102],
        ..ANN
    };
    world.offer(&ann, &renumbered.page(&["0 audio sendonly"], &[]));
    assert_eq!(world.effects(), ["#0 publish t1 Audio", "#0 feed t1 109"]);
}
