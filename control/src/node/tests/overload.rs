//! A worker that more people come to than it can serve.

use std::net::{SocketAddr, TcpListener};

use axum::http::header::RETRY_AFTER;
use axum::middleware::map_response;
use axum::response::Response;
use benches::swarm::door::DoorSpec;
use benches::swarm::media::Media;
use benches::swarm::row::Row;
use benches::swarm::scene::{Cast, Intake, News, SceneConfig, run};
use dataplane::command::MediaKind;
use signaling::doors::{self, DoorOptions};

use super::*;

/// What each send takes the worker. A viewer of thirty pictures a second needs 45 ms of each second, so
/// that [`CAN_SERVE`] of them are all that it can do, however fast the machine is.
const SEND: Duration = Duration::from_micros(1_500);

const CAN_SERVE: usize = 22;

/// A node with one worker whose sends are slow, and its doors.
async fn slow_node() -> (Arc<Millrace>, SocketAddr) {
    let (dataplane, events) = Dataplane::start(DataplaneConfig {
        media: (Ipv4Addr::LOCALHOST, 0).into(),
        workers: 1,
        driver: DriverChoice::Auto,
        sessions_max: 1_000,
        publisher_bitrate_bps_max: 10_000_000,
        egress_hold: EGRESS_HOLD_DEFAULT,
        audio_speakers: 0,
        dtls_threads: 1,
        pin: false,
    })
    .unwrap();
    dataplane.faults(0).slow_sends(SEND);
    let address = (Ipv4Addr::LOCALHOST, dataplane.workers()[0].port).into();
    let candidates = vec![vec![Candidate {
        address,
        tcp: false,
    }]];
    let limits = RoomLimits {
        rooms: 10,
        sessions: 1_000,
        sessions_per_room: 1_000,
        ..LIMITS
    };
    let node = Arc::new(Millrace::new(dataplane, candidates, limits, CAMERA_LIMITS));
    tokio::spawn(Arc::clone(&node).run(events, None, None));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let http = listener.local_addr().unwrap();
    // Nobody is asked to come back: who is refused stays away.
    let router = doors::router(Arc::clone(&node), DoorOptions::default()).layer(map_response(
        async |mut response: Response| {
            response.headers_mut().remove(RETRY_AFTER);
            response
        },
    ));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum_server::from_tcp(listener).unwrap();
    tokio::spawn(server.serve(service));
    (node, http)
}

/// A camera, and ten viewers a second until so many have come. What was measured then, and what those who
/// did not get in were told.
async fn crowd(http: SocketAddr, viewers: usize) -> (Row, Vec<String>) {
    let endpoint = |door| format!("http://{http}/v1/rooms/{{room}}/{door}");
    let config = SceneConfig {
        door: DoorSpec::Whip {
            whip: endpoint("whip"),
            whep: endpoint("whep"),
        },
        server: "millrace".to_owned(),
        scene: "crowd".to_owned(),
        cast: Cast::Watch {
            rooms: 1,
            steps: vec![viewers],
        },
        media: vec![Media::Shaped(
            MediaKind::Video,
            "30x4x1100".parse().unwrap(),
        )],
        plain: true,
        decrypt_every: 1,
        intake: Intake::Single,
        joins_per_second: 10.0,
        seconds: 3,
        until_full: false,
        pid: None,
        core: None,
    };
    let (mut measured, mut refused) = (None, Vec::new());
    let tell = |news: News<'_>| match news {
        News::Measured(row) => measured = Some(row.clone()),
        News::Refused(why) => refused.push(why),
        News::Second(_) => {}
    };
    run(config, tell).await.unwrap();
    (measured.expect("one step is measured"), refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x_13_a_crowd_twice_as_large_as_a_worker_can_serve_spoils_no_meeting_and_hears_why() {
    let (node, http) = slow_node().await;
    let (row, refused) = crowd(http, 2 * CAN_SERVE).await;
    assert_eq!(row.connected + refused.len(), 2 * CAN_SERVE, "{row:?}");
    assert!(row.connected >= CAN_SERVE / 4, "{row:?}");
    for reason in &refused {
        assert!(reason.contains("worker 0 takes nobody new: "), "{reason}");
    }
    // Those who are in miss nothing, but for what is on its way when the count ends.
    let due = row.packets_in_per_second * row.connected as f64;
    assert!(row.packets_per_second >= 0.97 * due, "{row:?}");
    let metrics = node.metrics();
    let refusals = format!(
        "millrace_refusals_total{{reason=\"node_full\"}} {}",
        refused.len()
    );
    assert!(metrics.contains(&refusals), "{metrics}");
    for lost in [
        "drop_late_video",
        "drop_socket_full",
        "drop_subscriber_behind",
    ] {
        let none = format!("millrace_{lost}_total{{worker=\"0\"}} 0");
        assert!(metrics.contains(&none), "{lost}: {metrics}");
    }
    node.stop();
}
