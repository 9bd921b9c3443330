//! Cameras as people in rooms.

use dataplane::command::Simulcast;
use signaling::camera::CameraState;

use super::super::{CameraStreams, EndReason, Request, RequestKind};
use super::*;
use crate::camera::order::Target;
use crate::camera::stream::{CameraCodec, Stream};

/// A client that takes two profiles of H.264 in packetization mode 1, and G.711.
const WATCHER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n\
    a=ice-ufrag:bob1\r\na=ice-pwd:0123456789abcdef0123456789\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB\r\n\
    a=rtpmap:0 PCMU/8000\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 102 112\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=recvonly\r\na=rtcp-mux\r\n\
    a=ice-ufrag:bob1\r\na=ice-pwd:0123456789abcdef0123456789\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB:BB\r\n\
    a=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\n\
    a=rtpmap:112 H264/90000\r\na=fmtp:112 packetization-mode=1;profile-level-id=64001f\r\n";

/// High profile, whatever level: what most cameras send.
const HIGH: [u8; 3] = [0x64, 0, 0x2a];

/// Constrained Baseline.
const BASELINE: [u8; 3] = [0x42, 0xe0, 0x1e];

fn h264(profile_level_id: [u8; 3]) -> Option<Stream> {
    Some(Stream {
        codec: CameraCodec::H264 { profile_level_id },
        clock_rate: 90_000,
        resolution: None,
    })
}

fn pcmu() -> Option<Stream> {
    Some(Stream {
        codec: CameraCodec::Pcmu,
        clock_rate: 8_000,
        resolution: None,
    })
}

fn picture_and_sound() -> CameraStreams {
    CameraStreams {
        video: vec![(None, h264(HIGH))],
        audio: pcmu(),
    }
}

impl World {
    fn camera(&mut self, room: &str) -> PersonId {
        let camera = self
            .rooms
            .handle_camera(&room_name(room), &PersonName::new("Gate"));
        camera.unwrap()
    }

    /// A camera that sends picture and sound, and what that led to is forgotten.
    fn playing_camera(&mut self, room: &str) -> PersonId {
        let camera = self.camera(room);
        self.streams(&camera, &picture_and_sound()).unwrap();
        self.effects();
        camera
    }

    fn streams(&mut self, camera: &PersonId, streams: &CameraStreams) -> Option<Target> {
        self.rooms.handle_camera_streams(camera, streams)
    }

    fn watch(&mut self, room: &str) -> Connected {
        self.connect(Door::Whep, room, WATCHER).unwrap()
    }

    /// Cameras that are watched, if that changed.
    fn watched(&mut self) -> Option<Vec<PersonId>> {
        Some(self.rooms.take_watched()?.into_iter().collect())
    }
}

#[test]
fn a_camera_is_a_person_whose_session_is_a_feed() {
    let mut world = World::new();
    world.entered("r", "Ann");
    let camera = world.camera("r");
    assert_eq!(world.effects(), ["tell joined Gate"]);
    let target = world.streams(&camera, &picture_and_sound()).unwrap();
    let told = world.effects();
    assert_eq!(told[..2], ["#0 open feed", "opened camera"]);
    assert!(
        told.contains(&"tell tracks 2 muted 0".to_owned()),
        "{told:?}"
    );
    assert_eq!((target.worker, target.video.len()), (0, 1));
    assert_eq!(
        target.audio.unwrap().payload_type.0,
        0,
        "PCMU has its own number"
    );
    let view = world.rooms.person_view(&camera).unwrap();
    assert_eq!(view.camera, Some(CameraState::Connecting));
    assert_eq!(view.tracks.len(), 2);
    world
        .rooms
        .handle_camera_state(&camera, CameraState::Playing);
    world
        .rooms
        .handle_camera_state(&camera, CameraState::Playing);
    assert_eq!(world.effects(), ["tell camera playing"]);
}

#[test]
fn a_player_is_answered_by_the_profile_that_the_camera_has() {
    let mut world = World::new();
    world.playing_camera("r");
    world.watch("r");
    let commands = world.commands();
    let feeds: Vec<&str> = commands
        .iter()
        .filter_map(|line| line.split_once("feed "))
        .map(|(_, feed)| feed)
        .collect();
    assert_eq!(feeds.len(), 2, "{commands:?}");
    assert!(
        feeds[0].ends_with(" 0") && feeds[1].ends_with(" 112"),
        "{feeds:?}"
    );
}

#[test]
fn a_camera_is_watched_while_something_of_it_is_received() {
    let mut world = World::new();
    let camera = world.playing_camera("r");
    world.watched();
    assert_eq!(world.watched(), None, "nothing has changed");
    let player = world.watch("r");
    assert_eq!(world.watched(), Some(vec![camera.clone()]));
    world.rooms.handle_disconnect(&player.resource).unwrap();
    assert_eq!(world.watched(), Some(vec![]));

    let ann = world.entered("r", "Ann");
    let (sound, picture) = (world.track(&camera, 0), world.track(&camera, 1));
    let wants = vec![("0".to_owned(), sound), ("1".to_owned(), picture.clone())];
    let offer = |wants| PageOffer {
        offer: Offer::parse(WATCHER).unwrap(),
        wants,
        sources: vec![],
    };
    world.offer(&ann, &offer(wants[1..].to_vec()));
    assert_eq!(world.watched(), Some(vec![camera.clone()]));
    // Who wants nothing of its picture does not have it pulled; its sound is wanted as long as it is received.
    let off = signaling::quality::Preference {
        most: Quality::OFF,
        priority: 0,
    };
    world.rooms.handle_prefer(&ann, &picture, off);
    assert_eq!(world.watched(), Some(vec![]));
    world.offer(&ann, &offer(wants));
    assert_eq!(world.watched(), Some(vec![camera]));
}

#[test]
fn layers_are_encodings_in_their_order_with_a_format_for_each_profile() {
    let mut world = World::new();
    let camera = world.camera("r");
    let layer = |rid: &str, profile| (Some(rid.to_owned()), h264(profile));
    let streams = CameraStreams {
        video: vec![layer("l", BASELINE), layer("m", HIGH), layer("h", HIGH)],
        audio: None,
    };
    let target = world.streams(&camera, &streams).unwrap();
    let numbers: Vec<u8> = target
        .video
        .iter()
        .map(|outlet| outlet.payload_type.0)
        .collect();
    assert_eq!(numbers, [96, 97, 97]);
    let track = world.rooms.tracks.values().next().unwrap();
    let Simulcast::Rids(rids) = &track.spec.simulcast else {
        panic!("{:?}", track.spec.simulcast);
    };
    assert_eq!(rids.len(), 3);
    assert!(track.spec.keeps_group);
    let signalled: Vec<_> = track
        .spec
        .sources
        .iter()
        .map(|source| source.ssrc)
        .collect();
    let written: Vec<_> = target.video.iter().map(|outlet| outlet.ssrc).collect();
    assert_eq!(signalled, written);

    // One that cannot be forwarded is no encoding, and the outlets stay in the order of the sources.
    let streams = CameraStreams {
        video: vec![layer("l", BASELINE), (Some("h".to_owned()), None)],
        audio: None,
    };
    let target = world.streams(&camera, &streams).unwrap();
    let track = world.rooms.tracks.values().next().unwrap();
    assert_eq!(
        (track.spec.simulcast.clone(), track.spec.sources.len()),
        (Simulcast::None, 1)
    );
    assert_eq!(
        (target.video.len(), target.video[0].ssrc),
        (2, track.spec.sources[0].ssrc)
    );
}

#[test]
fn a_camera_that_sends_otherwise_keeps_its_track_and_its_viewers() {
    let mut world = World::new();
    let camera = world.playing_camera("r");
    world.watch("r");
    world.effects();
    let track = world.track(&camera, 1);
    let other = CameraStreams {
        video: vec![(None, h264(BASELINE))],
        audio: pcmu(),
    };
    world.streams(&camera, &other).unwrap();
    assert_eq!(world.track(&camera, 1), track);
    let commands = world.commands();
    let fed = format!("#0 feed {track} 102");
    assert!(commands.contains(&fed), "{commands:?}");
    assert!(
        !commands.iter().any(|line| line.contains("feed nothing")),
        "{commands:?}"
    );
    // Without its picture it has sound only, and without both no session.
    let sound = CameraStreams {
        video: vec![(None, None)],
        audio: pcmu(),
    };
    world.streams(&camera, &sound).unwrap();
    assert!(world.commands().contains(&format!("#0 unpublish {track}")));
    assert_eq!(world.streams(&camera, &CameraStreams::default()), None);
    assert!(world.effects().contains(&"#0 close".to_owned()));
    assert!(world.rooms.person_view(&camera).unwrap().tracks.is_empty());
}

#[test]
fn a_room_with_only_a_camera_exists_and_a_documents_participant_watches_it() {
    let mut world = World::new();
    let camera = world.playing_camera("r");
    let request = Request {
        id: "d1".to_owned(),
        kind: RequestKind::Participant,
        room: room_name("r"),
        name: PersonName::default(),
        page: PageOffer {
            offer: Offer::parse(WATCHER).unwrap(),
            wants: vec![],
            sources: vec![],
        },
    };
    world.rooms.handle_request(&request).unwrap();
    assert_eq!(world.watched(), Some(vec![camera.clone()]));
    world.rooms.handle_request_over("d1");
    assert!(
        world.rooms.detail(&room_name("r")).is_some(),
        "the camera is still there"
    );
    assert!(world.rooms.handle_camera_over(&camera));
    assert!(!world.rooms.handle_camera_over(&camera));
    world.assert_empty();
}

#[test]
fn a_closed_room_ends_its_cameras() {
    let mut world = World::new();
    world.playing_camera("r");
    world.camera("r");
    assert!(world.rooms.handle_close_room(&room_name("r")));
    let told = world.effects();
    assert_eq!(
        told.iter().filter(|line| *line == "dismiss").count(),
        2,
        "{told:?}"
    );
    world.assert_empty();
}

#[test]
fn a_worker_that_fails_loses_the_session_and_not_the_camera() {
    let mut world = World::new();
    let ann = world.entered("r", "Ann");
    let camera = world.playing_camera("r");
    world
        .rooms
        .handle_event(world.now, 0, &Event::WorkerRestarted);
    let told = world.effects();
    assert!(told.contains(&"camera lost".to_owned()), "{told:?}");
    assert!(told.contains(&"ended worker_failed".to_owned()), "{told:?}");
    assert!(!told.contains(&"#0 close".to_owned()), "{told:?}");
    let target = world.streams(&camera, &picture_and_sound());
    assert!(target.is_some());
    let told = world.effects();
    assert!(
        told.contains(&"#0 open feed".to_owned()) || told.contains(&"#1 open feed".to_owned()),
        "{told:?}"
    );
    assert!(
        told.contains(&"tell tracks 2 muted 0".to_owned()),
        "{told:?}"
    );
    world.rooms.handle_leave(&ann, EndReason::Left);
    world.rooms.handle_camera_over(&camera);
    world.assert_empty();
}

#[test]
fn cameras_take_places_and_a_node_that_drains_does_not_wait_for_them() {
    let mut world = World::new();
    for _ in 0..LIMITS.sessions_per_room {
        world.camera("r");
    }
    let full = world
        .rooms
        .handle_camera(&room_name("r"), &PersonName::default());
    assert_eq!(
        full.unwrap_err(),
        Refusal::RoomFull(LIMITS.sessions_per_room)
    );
    world.playing_camera("s");
    let ann = world.entered("s", "Ann");
    world.rooms.handle_drain();
    let refused = world
        .rooms
        .handle_camera(&room_name("s"), &PersonName::default());
    assert_eq!(refused.unwrap_err(), Refusal::ShuttingDown);
    world.wait(Duration::from_millis(100));
    assert!(world.rooms.detail(&room_name("r")).is_none());
    assert!(
        world.rooms.detail(&room_name("s")).is_some(),
        "Ann is still there"
    );
    world.rooms.handle_leave(&ann, EndReason::Left);
    world.wait(Duration::from_millis(100));
    world.assert_empty();
}

#[test]
fn a_camera_that_is_taken_over_is_described_anew_and_keeps_its_place() {
    let mut world = World::new();
    let camera = world.playing_camera("r");
    world.watch("r");
    world.effects();
    world.take_over(false);
    let told = world.effects();
    assert!(told.contains(&"camera lost".to_owned()), "{told:?}");
    let view = world.rooms.person_view(&camera).unwrap();
    assert_eq!(
        (view.camera, view.tracks.len()),
        (Some(CameraState::Connecting), 0)
    );
    assert!(world.streams(&camera, &picture_and_sound()).is_some());
}

#[test]
fn a_player_may_choose_one_of_many_cameras_and_stays_with_it() {
    let mut world = World::new();
    world.playing_camera("r");
    let second = world
        .rooms
        .handle_camera(&room_name("r"), &PersonName::new("Yard"))
        .unwrap();
    let connect = |watch: &str| Connect {
        door: Door::Whep,
        room: room_name("r"),
        name: PersonName::default(),
        offer: Offer::parse(WATCHER).unwrap(),
        watch: Some(watch.to_owned()),
        most: Quality::BEST,
        from: caller(),
    };
    let refused = world.rooms.handle_connect(&connect("Roof"));
    assert_eq!(refused.unwrap_err(), Refusal::NothingToWatch);
    world.rooms.handle_connect(&connect("Yard")).unwrap();
    let commands = world.commands();
    assert!(
        !commands.iter().any(|line| line.contains("feed")),
        "the other is not what was asked for: {commands:?}"
    );
    world.streams(&second, &picture_and_sound()).unwrap();
    let fed = format!("#0 feed {} 112", world.track(&second, 1));
    assert!(world.commands().contains(&fed));
    assert_eq!(world.watched(), Some(vec![second]));
}
