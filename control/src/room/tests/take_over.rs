//! Rooms that go on in another program.

use std::collections::BTreeSet;

use super::super::{ROOMS_VERSION, RoomsSnapshot, UnreadableRooms};
use super::*;

impl World {
    /// The rooms go on in another program, with all sessions or none.
    pub(super) fn take_over(&mut self, with_sessions: bool) {
        let snapshot = RoomsSnapshot::decode(&self.rooms.snapshot(&[])).unwrap();
        let random = Box::new(Counting(43));
        self.rooms = Rooms::restore(self.now, World::config(), random, snapshot);
        let sessions = self.rooms.sessions.keys().copied();
        let carried: BTreeSet<SessionId> = sessions.filter(|_| with_sessions).collect();
        self.rooms.handle_carried(self.now, &carried);
    }
}

#[test]
fn people_come_back_to_everything_that_they_had() {
    let mut world = World::new();
    let ann = world.enter("r", "Ann").unwrap();
    world.offer(&ann.person, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    let bob = world.enter("r", "Bob").unwrap();
    let track = world.track(&ann.person, 1);
    let wants = [("2", track.as_str())];
    let sections = ["0 audio inactive", "1 video sendonly", "2 video recvonly"];
    world.offer(&bob.person, &BOB.page(&sections, &wants));
    let sdp = EVE.sdp(&["0 audio recvonly", "1 video recvonly"]);
    let player = world.connect(Door::Whep, "r", &sdp).unwrap();
    world.rooms.handle_mute(&ann.person, MICROPHONE, true);
    world.effects();
    let before = world.rooms.people_views(&room_name("r"));

    world.take_over(true);
    assert_eq!(world.commands(), [""; 0], "the workers know it all");
    for entry in [&ann, &bob] {
        let back = world.rooms.handle_resume(&entry.resume_token).unwrap();
        assert_eq!((&back.person, &back.people), (&entry.person, &before));
    }
    assert_eq!(world.effects(), [""; 0], "nobody is told of anything");
    // Ids go on behind those that are taken, and whoever watched still does.
    world.offer(
        &ann.person,
        &ANN.page(&["0 audio sendonly", "1 video inactive"], &[]),
    );
    let commands = world.commands();
    assert!(
        commands.contains(&"#0 unpublish t2".to_owned()),
        "{commands:?}"
    );
    let eve = world.entered("r", "Eve");
    world.offer(&eve, &EVE.page(&CAMERA_AND_MICROPHONE, &[]));
    let commands = world.commands();
    assert!(
        commands.contains(&"#0 publish t10 Audio".to_owned()),
        "{commands:?}"
    );
    world.rooms.handle_disconnect(&player.resource).unwrap();
    for person in [ann.person, bob.person, eve] {
        world
            .rooms
            .handle_leave(&person, super::super::EndReason::Left);
    }
    world.assert_empty();
}

#[test]
fn who_does_not_come_back_is_gone_after_15_seconds() {
    let mut world = World::new();
    world.entered("r", "Ann");
    world.take_over(false);
    world.wait(Duration::from_secs(14));
    assert_eq!(world.effects(), [""; 0]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.effects(), ["dismiss"]);
    world.assert_empty();
}

#[test]
fn a_relay_between_workers_is_known_and_ends_with_its_last_player() {
    let mut world = busy_room();
    let player = watch(&mut world);
    world.effects();
    world.take_over(true);
    world.rooms.handle_disconnect(&player.resource).unwrap();
    assert_eq!(
        world.commands(),
        [
            "#1 close",
            "#0 end export t1 to #1",
            "#1 unpublish t1",
            "#0 end export t2 to #1",
            "#1 unpublish t2",
        ]
    );
}

#[test]
fn whose_handshake_was_not_done_offers_again_when_back() {
    let mut world = World::new();
    let ann = world.enter("r", "Ann").unwrap();
    world.offer(&ann.person, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    let sdp = EVE.sdp(&CAMERA_AND_MICROPHONE);
    world.connect(Door::Whip, "r", &sdp).unwrap();
    world.effects();
    world.take_over(false);
    // An encoder has no other line to us: it is gone.
    let told = world.effects();
    assert!(told.contains(&"tell left".to_owned()), "{told:?}");
    assert!(
        !told.iter().any(|line| line.contains("media lost")),
        "{told:?}"
    );
    world.rooms.handle_resume(&ann.resume_token).unwrap();
    let told = world.effects();
    assert!(
        told.iter().any(|line| line.contains("media lost")),
        "{told:?}"
    );
    world.offer(&ann.person, &ANN.page(&CAMERA_AND_MICROPHONE, &[]));
    assert_eq!(world.commands()[0], "#0 open");
}

#[test]
fn no_worker_is_told_anything_of_those_who_were_lost_on_the_way() {
    let mut world = World::new();
    for name in [ANN, BOB] {
        let sdp = name.sdp(&CAMERA_AND_MICROPHONE);
        world.connect(Door::Whip, "r", &sdp).unwrap();
    }
    let sdp = EVE.sdp(&["0 audio recvonly", "1 video recvonly"]);
    world.connect(Door::Whep, "r", &sdp).unwrap();
    world.effects();
    world.take_over(false);
    assert_eq!(world.commands(), [""; 0]);
    world.assert_empty();
}

#[test]
fn who_sent_a_lost_track_on_is_told_that_it_is_gone_and_its_home_nothing() {
    let mut world = busy_room();
    watch(&mut world);
    world.effects();
    world.take_over(false);
    assert_eq!(world.commands(), ["#1 unpublish t1", "#1 unpublish t2"]);
    world.assert_empty();
}

#[test]
fn another_version_is_refused_and_so_is_half_of_it() {
    let mut world = World::new();
    world.entered("r", "Ann");
    let written = String::from_utf8(world.rooms.snapshot(&[])).unwrap();
    let version = format!("\"version\":{ROOMS_VERSION}");
    let other = written.replace(&version, "\"version\":999");
    assert_eq!(
        RoomsSnapshot::decode(other.as_bytes()).unwrap_err(),
        UnreadableRooms::UnknownVersion(999)
    );
    let torn = RoomsSnapshot::decode(&written.as_bytes()[..written.len() / 2]);
    assert!(matches!(torn, Err(UnreadableRooms::Malformed(_))));
}
