//! A camera's life, as the rooms, the lane and the API see it.

use super::super::description;
use super::super::order::{Outlet, Trust};
use super::*;
use dataplane::id::{PayloadType, SessionId, Ssrc};

const LIMITS: CameraLimits = CameraLimits {
    cameras: 3,
    cameras_per_room: 2,
};

/// Cameras, and what time it is.
struct World {
    cameras: Cameras,
    now: Instant,
}

impl World {
    fn new() -> World {
        World {
            cameras: Cameras::new(LIMITS),
            now: any_instant(),
        }
    }

    /// A camera in the room `gate`; what is asked for besides its address is JSON.
    fn add(&mut self, person: &str, rest: &str) -> CameraId {
        let url = format!("rtsp://ann:s3cret@192.0.2.7/{person}");
        let rest = if rest.contains("layers") {
            rest.to_owned()
        } else {
            format!("\"url\":\"{url}\"{rest}")
        };
        let text = format!("{{\"room\":\"gate\",\"name\":\"{person}\",{rest}}}");
        let request = serde_json::from_str(&text).unwrap();
        let placed = description::placed(request, Trust::Request).unwrap();
        self.cameras.handle_add(id(person), placed);
        match self.orders().pop() {
            Some(Order::Add { camera, .. }) => camera,
            other => panic!("the lane is told at once, not {other:?}"),
        }
    }

    /// It is described, and the rooms give it this session.
    fn described(&mut self, camera: CameraId, person: &str, session: u64) {
        self.says(camera, h264(1));
        assert_eq!(self.tasks(), [format!("publish {person}")]);
        self.cameras
            .handle_target(self.now, &id(person), Some(target(session)));
    }

    fn says(&mut self, camera: CameraId, event: LaneEvent) {
        self.cameras.handle_lane_event(self.now, camera, event);
    }

    fn watched(&mut self, people: &[&str]) {
        let people = people.iter().map(|person| id(person)).collect();
        self.cameras.handle_watched(self.now, &people);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.cameras.handle_timeout(self.now);
    }

    fn orders(&mut self) -> Vec<Order> {
        std::iter::from_fn(|| self.cameras.poll_order()).collect()
    }

    /// What the lane is told, a word each.
    fn words(&mut self) -> Vec<String> {
        let word = |order| match order {
            Order::Add { .. } => "add".to_owned(),
            Order::Want { target, .. } => format!("want s{}", target.session.0),
            Order::Release { .. } => "release".to_owned(),
            Order::Remove { .. } => "remove".to_owned(),
        };
        self.orders().into_iter().map(word).collect()
    }

    fn tasks(&mut self) -> Vec<String> {
        let word = |task| match task {
            Task::Publish { person, .. } => format!("publish {}", person.0),
            Task::Show { person, state } => format!("show {} {}", person.0, state.label()),
        };
        std::iter::from_fn(|| self.cameras.poll_task())
            .map(word)
            .collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "tests begin at any time")]
fn any_instant() -> Instant {
    Instant::now()
}

fn id(person: &str) -> PersonId {
    PersonId(person.to_owned())
}

fn target(session: u64) -> Target {
    Target {
        worker: 0,
        session: SessionId(session),
        video: vec![Outlet {
            ssrc: Ssrc(7),
            payload_type: PayloadType(96),
        }],
        audio: None,
    }
}

fn stream(codec: CameraCodec) -> Stream {
    Stream {
        codec,
        clock_rate: 90_000,
        resolution: Some((1_280, 720)),
    }
}

fn h264(level: u8) -> LaneEvent {
    let codec = CameraCodec::H264 {
        profile_level_id: [0x64, 0, level],
    };
    LaneEvent::Described {
        video: vec![Some(stream(codec))],
        audio: Some(Stream {
            codec: CameraCodec::Pcmu,
            clock_rate: 8_000,
            resolution: None,
        }),
        remarks: vec![],
    }
}

#[test]
fn a_camera_is_pulled_while_somebody_watches_and_ten_seconds_more() {
    let mut world = World::new();
    let camera = world.add("a", "");
    world.described(camera, "a", 1);
    assert_eq!(world.words(), [""; 0], "nobody watches");
    world.watched(&["a"]);
    assert_eq!(world.words(), ["want s1"]);
    world.watched(&[]);
    world.wait(Duration::from_secs(9));
    assert_eq!(world.words(), [""; 0]);
    world.watched(&["a"]);
    world.wait(Duration::from_secs(9));
    world.watched(&[]);
    assert_eq!(world.words(), [""; 0], "who came back found it pulled");
    assert_eq!(world.cameras.poll_timeout(), Some(world.now + LINGER));
    world.wait(LINGER);
    assert_eq!(world.words(), ["release"]);
    world.watched(&["a"]);
    assert_eq!(world.words(), ["want s1"]);
}

#[test]
fn a_camera_that_is_wanted_before_it_is_known_is_pulled_as_soon_as_it_is() {
    let mut world = World::new();
    let watched = world.add("a", "");
    let always = world.add("b", ",\"mode\":\"always\"");
    world.watched(&["a"]);
    assert_eq!(world.words(), [""; 0], "there is nowhere to send it");
    world.described(watched, "a", 1);
    world.described(always, "b", 2);
    assert_eq!(world.words(), ["want s1", "want s2"]);
    world.watched(&[]);
    world.wait(LINGER);
    assert_eq!(world.words(), ["release"], "one is always pulled");
}

#[test]
fn a_session_that_was_lost_is_opened_again_and_later_each_time() {
    let mut world = World::new();
    let camera = world.add("a", ",\"mode\":\"always\"");
    world.described(camera, "a", 1);
    world.words();
    world.cameras.handle_session_lost(world.now, &id("a"));
    assert_eq!(
        (world.tasks(), world.words()),
        (vec![], vec![]),
        "not at once, and the camera goes on"
    );
    world.wait(REOPEN_FIRST);
    assert_eq!(world.tasks(), ["publish a"]);
    world
        .cameras
        .handle_target(world.now, &id("a"), Some(target(2)));
    assert_eq!(world.words(), ["want s2"]);
    world.cameras.handle_session_lost(world.now, &id("a"));
    world.wait(REOPEN_FIRST);
    assert_eq!(world.tasks(), [""; 0]);
    world.wait(REOPEN_FIRST);
    assert_eq!(world.tasks(), ["publish a"]);
    world
        .cameras
        .handle_target(world.now, &id("a"), Some(target(3)));
    // Packets came: the next loss counts as the first.
    world.says(camera, LaneEvent::Figures(vec![Figures::default()]));
    world.cameras.handle_session_lost(world.now, &id("a"));
    world.wait(REOPEN_FIRST);
    assert_eq!(world.tasks(), ["publish a"]);
}

#[test]
fn another_description_is_published_and_the_same_is_not() {
    let mut world = World::new();
    let camera = world.add("a", "");
    world.described(camera, "a", 1);
    world.says(camera, h264(1));
    assert_eq!(world.tasks(), [""; 0]);
    world.says(camera, h264(2));
    assert_eq!(world.tasks(), ["publish a"]);
}

#[test]
fn an_away_camera_is_shown_as_away_with_the_reason_and_stays_wanted() {
    let mut world = World::new();
    let camera = world.add("a", "");
    world.described(camera, "a", 1);
    world.watched(&["a"]);
    world.says(camera, LaneEvent::State(LaneState::Playing));
    let away = LaneState::Away {
        reason: "it does not answer".to_owned(),
        retry_ms: 2_000,
    };
    world.says(camera, LaneEvent::State(away.clone()));
    world.says(camera, LaneEvent::State(away));
    assert_eq!(
        world.tasks(),
        ["show a playing", "show a away"],
        "the room is told once"
    );
    let view = world.cameras.view(&id("a")).unwrap();
    assert_eq!(
        (view.state, view.retry_ms, view.wanted),
        (CameraState::Away, Some(2_000), true)
    );
    assert_eq!(view.error.as_deref(), Some("it does not answer"));
    world.says(camera, LaneEvent::State(LaneState::Playing));
    let view = world.cameras.view(&id("a")).unwrap();
    assert_eq!((view.state, view.retry_ms), (CameraState::Playing, None));
    assert!(
        view.error.is_some(),
        "what went wrong last can still be read"
    );
    assert_eq!(
        world.words(),
        ["want s1"],
        "nothing else was asked of the lane"
    );
}

#[test]
fn the_view_shows_what_comes_and_no_password() {
    let mut world = World::new();
    let camera = world.add("a", "");
    world.described(camera, "a", 1);
    let figures = |packets, lost| Figures {
        bitrate_bps: 2_000_000,
        frame_rate: 25.0,
        packets,
        lost,
        resolution: Some((1_920, 1_080)),
        has_b_frames: true,
    };
    world.says(camera, LaneEvent::Figures(vec![figures(100, 1)]));
    world.says(camera, LaneEvent::Figures(vec![figures(300, 4)]));
    let view = world.cameras.view(&id("a")).unwrap();
    let video = &view.video[0];
    assert_eq!(video.codec.as_deref(), Some("H264 640001"));
    assert_eq!((video.width, video.height), (Some(1_920), Some(1_080)));
    assert_eq!(
        (video.bitrate_bps, video.packets, video.lost),
        (2_000_000, 300, 4)
    );
    assert!(video.b_frames);
    assert_eq!(view.audio, Some("PCMU"));
    let written = serde_json::to_string(&view).unwrap();
    assert!(
        written.contains("rtsp://192.0.2.7/a") && !written.contains("s3cret"),
        "{written}"
    );
    assert!(!format!("{:?}", world.cameras).contains("s3cret"));
    let totals = world.cameras.totals();
    assert_eq!((totals.packets, totals.lost), (300, 4));
    // What came stays counted when the camera is gone.
    world.cameras.handle_gone(&id("a"));
    assert_eq!(world.words(), ["remove"]);
    assert_eq!(world.cameras.totals().packets, 300);
    assert_eq!(world.cameras.totals().states, [0; 5]);
    // What the lane still says of it goes nowhere.
    world.says(camera, LaneEvent::State(LaneState::Playing));
    assert_eq!(world.tasks(), [""; 0]);
}

#[test]
fn a_layer_of_another_kind_is_left_out_and_said() {
    let mut world = World::new();
    let layers = r#""layers":[{"url":"rtsp://h/2","rid":"l"},{"url":"rtsp://h/1","rid":"h"}]"#;
    let camera = world.add("a", layers);
    let h265 = CameraCodec::H265 {
        profile_id: 1,
        tier: false,
        level_id: 93,
    };
    let h264 = CameraCodec::H264 {
        profile_level_id: [0x42, 0xe0, 0x1f],
    };
    let event = LaneEvent::Described {
        video: vec![Some(stream(h264.clone())), Some(stream(h265))],
        audio: None,
        remarks: vec!["AAC is not forwarded".to_owned()],
    };
    world.says(camera, event);
    let Some(Task::Publish { streams, .. }) = world.cameras.poll_task() else {
        panic!("it is published");
    };
    let kept = [
        (Some("l".to_owned()), Some(stream(h264))),
        (Some("h".to_owned()), None),
    ];
    assert_eq!(streams.video, kept);
    let remarks = world.cameras.view(&id("a")).unwrap().remarks;
    assert!(
        remarks.len() == 2 && remarks[1].contains("layer h"),
        "{remarks:?}"
    );
}

#[test]
fn a_room_and_the_node_hold_so_many_and_no_more() {
    let mut world = World::new();
    world.add("a", "");
    world.add("b", "");
    let (here, there) = ("gate".parse().unwrap(), "yard".parse().unwrap());
    let refusal = world.cameras.check(&here).unwrap_err().to_string();
    assert!(refusal.contains("at most 2 cameras"), "{refusal}");
    assert_eq!(world.cameras.check(&there), Ok(()));
    world.add("c", "");
    let refusal = world.cameras.check(&there).unwrap_err().to_string();
    assert!(refusal.contains("at most 3 cameras"), "{refusal}");
    world.cameras.handle_gone(&id("c"));
    assert_eq!(world.cameras.check(&there), Ok(()));
}
