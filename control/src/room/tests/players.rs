//! Encoders and players.

use signaling::node::{Patch, Patched, ResourceId};
use signaling::sdp::IceCredentials;

use super::*;

fn whep(world: &mut World) -> Connected {
    world
        .connect(
            Door::Whep,
            "r",
            &BOB.sdp(&["0 audio recvonly", "1 video recvonly"]),
        )
        .unwrap()
}

fn whip(world: &mut World) -> Connected {
    world
        .connect(Door::Whip, "r", &ANN.sdp(&CAMERA_AND_MICROPHONE))
        .unwrap()
}

#[test]
fn an_encoder_is_a_person_in_the_room() {
    let mut world = World::new();
    world.entered("r", "Bob");
    whip(&mut world);
    assert_eq!(
        world.effects(),
        [
            "tell joined Encoder",
            "#0 open",
            "opened whip",
            "#0 publish t1 Audio",
            "#0 publish t2 Video",
            "tell tracks 2 muted 0",
        ]
    );
    let detail = world.rooms.detail(&room_name("r")).unwrap();
    assert_eq!(
        (detail.people.len(), detail.viewers, detail.media.len()),
        (2, 0, 2)
    );
}

#[test]
fn an_encoder_publishes_one_sound_and_one_picture_and_receives_nothing() {
    let mut world = World::new();
    let sections = [
        "0 audio sendrecv",
        "1 video sendrecv",
        "2 video sendrecv",
        "3 audio sendonly",
    ];
    let connected = world.connect(Door::Whip, "r", &ANN.sdp(&sections)).unwrap();
    assert_eq!(
        directions(&connected.answer),
        ["recvonly", "recvonly", "inactive", "inactive"]
    );
}

#[test]
fn a_player_that_comes_first_is_fed_when_somebody_publishes() {
    let mut world = World::new();
    let player = whep(&mut world);
    assert_eq!(directions(&player.answer), ["sendonly", "sendonly"]);
    assert_eq!(
        world.effects(),
        ["#0 open", "opened whep", "#0 add Audio", "#0 add Video"]
    );
    whip(&mut world);
    let commands = world.commands();
    let feeds: Vec<&String> = commands
        .iter()
        .filter(|line| line.contains("feed"))
        .collect();
    assert_eq!(feeds.len(), 2);
    assert!(
        feeds[0].ends_with(" 109") && feeds[1].ends_with(" 120"),
        "{feeds:?}"
    );
}

#[test]
fn a_player_goes_to_the_next_publisher_when_the_first_leaves() {
    let mut world = World::new();
    let first = whip(&mut world);
    let ann = world.entered("r", "Ann");
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    whep(&mut world);
    let commands = world.commands();
    assert!(
        commands.contains(&"#0 feed t1 109".to_owned()),
        "{commands:?}"
    );

    world.rooms.handle_disconnect(&first.resource).unwrap();
    let (sound, picture) = (world.track(&ann, 0), world.track(&ann, 1));
    let feeds = [
        format!("#0 feed {sound} 109"),
        format!("#0 feed {picture} 120"),
    ];
    let mut commands = world.commands();
    commands.retain(|line| line.contains("feed"));
    assert_eq!(commands, feeds);

    // Somebody who comes later does not take the picture from who is watched.
    whip(&mut world);
    assert!(world.commands().iter().all(|line| !line.contains("feed")));
}

#[test]
fn a_player_of_a_person_who_stops_the_camera_keeps_the_sound() {
    let mut world = World::new();
    let ann = world.entered("r", "Ann");
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    whep(&mut world);
    world.effects();
    world.offer(
        &ann,
        &ANN.page(&["0 audio sendonly", "1 video inactive"], &[]),
    );
    assert_eq!(world.commands(), ["#0 unpublish t2"]);
    world.offer(&ann, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    let picture = world.track(&ann, 1);
    let expected = [
        format!("#0 publish {picture} Video"),
        format!("#0 feed {picture} 120"),
    ];
    assert_eq!(world.commands(), expected);
}

#[test]
fn an_encoder_that_goes_silent_leaves() {
    let mut world = World::new();
    whip(&mut world);
    let session = world.rooms.sessions.keys().next().unwrap().0;
    world.effects();
    world.engine_closes(session, CloseReason::PeerClosed);
    assert_eq!(world.effects(), ["ended peer_closed", "dismiss"]);
    world.assert_empty();
}

#[test]
fn hanging_up_leaves_nothing() {
    let mut world = World::new();
    let (encoder, player) = (whip(&mut world), whep(&mut world));
    for resource in [&encoder.resource, &player.resource] {
        world.rooms.handle_disconnect(resource).unwrap();
        assert_eq!(
            world.rooms.handle_disconnect(resource),
            Err(Refusal::UnknownSession)
        );
    }
    world.assert_empty();
}

#[test]
fn a_patch_restarts_ice_or_takes_note() {
    let mut world = World::new();
    let player = whep(&mut world);
    world.effects();
    let ice = |ufrag: &str| {
        Some(IceCredentials {
            ufrag: ufrag.to_owned(),
            pwd: "0123456789abcdef012345".to_owned(),
        })
    };
    let tag = |tag: &str| Some(tag.to_owned());
    let mut patch = |ice, if_match| {
        let patched = world
            .rooms
            .handle_patch(&player.resource, &Patch { ice, if_match });
        (patched, world.effects())
    };
    let noted = (Ok(Patched::Trickled), vec![]);
    assert_eq!(patch(ice("bob1"), tag(&player.etag)), noted);
    assert_eq!(patch(None, tag(&player.etag)), noted);
    assert_eq!(patch(ice("bob2"), tag("old")).0, Err(Refusal::StaleEtag));

    let (restarted, effects) = patch(ice("bob2"), tag("*"));
    assert_eq!(effects, ["#0 restart"]);
    let Ok(Patched::Restarted { fragment, etag }) = restarted else {
        panic!("new credentials restart: {restarted:?}");
    };
    assert!(
        fragment.contains("a=ice-ufrag:") && fragment.contains("a=mid:0"),
        "{fragment}"
    );
    assert_ne!(etag, player.etag);
    assert_eq!(patch(None, tag(&player.etag)).0, Err(Refusal::StaleEtag));
    assert_eq!(patch(None, tag(&etag)), noted);
    let unknown = ResourceId("nobody".to_owned());
    let patch = Patch {
        ice: None,
        if_match: None,
    };
    assert_eq!(
        world.rooms.handle_patch(&unknown, &patch),
        Err(Refusal::UnknownSession)
    );
}
