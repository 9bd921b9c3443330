//! Cameras that misbehave: each is set aside with a reason, and the next picture comes when it behaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use control::camera::order::{CameraId, LaneState, Order, Transport, Trust};
use dataplane::wire::RtpView;
use tokio::net::TcpListener;

use crate::rtsp::{Watched, spec};
use crate::scripted::{Caller, H264, OTHER_SPS, PPS, SPS, serve, serve_at};

/// With all kinds of secrets in it.
fn url(port: u16) -> String {
    format!("rtsp://n4me:s3cret@127.0.0.1:{port}/cam/user=n4me_password=s3cret?token=s3cret")
}

/// A lane that is asked for the camera at this port, and wants it once it is described or away.
async fn wanted(port: u16) -> Watched {
    let watched = Watched::start(&[]);
    watched.add(1, spec(&url(port), Transport::Auto));
    watched.want(1);
    watched
}

/// Pictures until the node hangs up or there were so many.
async fn pictures(caller: &mut Caller, count: u8) {
    for n in 0..count {
        let unit = if n % 10 == 0 {
            [0x65, 0x88, n]
        } else {
            [0x41, 0x88, n]
        };
        caller.picture(&unit).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn t_34_a_wrong_digest_is_tried_once_and_not_again_soon() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let port = serve(move |mut caller, _| {
        let count = count.clone();
        async move {
            while let Some(asked) = caller.asked().await {
                count.fetch_add(1, Ordering::Relaxed);
                let challenge = "WWW-Authenticate: Digest realm=\"s3cret n4me\", nonce=\"abc\"\r\n";
                // A camera may repeat what it was told.
                caller.answer(&asked, 401, challenge, &asked.head).await;
            }
        }
    })
    .await;
    let mut watched = wanted(port).await;
    let reason = watched.until_away().await;
    assert_eq!(reason, "the camera does not take the name and the password");
    assert_eq!(asked.load(Ordering::Relaxed), 2, "without, and with");

    let url = format!("rtsp://127.0.0.1:{port}/");
    watched.add(2, spec(&url, Transport::Auto));
    let reason = watched.until_away().await;
    assert!(reason.contains("rtsp://name:password@host/"), "{reason}");
}

#[tokio::test]
async fn t_34_digests_whose_nonce_changes_are_followed() {
    let port = serve(|mut caller, _| async move {
        let mut number = 0;
        while let Some(asked) = caller.asked().await {
            number += 1;
            if asked.head.contains(&format!("nonce=\"n{}\"", number - 1)) {
                let (headers, body) = match asked.method.as_str() {
                    "DESCRIBE" => ("Content-Type: application/sdp\r\n", H264),
                    _ => (
                        "Session: 7\r\nTransport: RTP/AVP/TCP;interleaved=4-5\r\n",
                        "",
                    ),
                };
                caller.answer(&asked, 200, headers, body).await;
                if asked.method == "PLAY" {
                    break;
                }
            } else {
                let challenge = format!(
                    "WWW-Authenticate: Digest realm=\"r\", nonce=\"n{number}\", stale=true\r\n"
                );
                caller.answer(&asked, 401, &challenge, "").await;
            }
        }
        pictures(&mut caller, 200).await;
    })
    .await;
    let watched = wanted(port).await;
    watched.until_packets(1_000, 20).await;
}

#[tokio::test]
async fn t_34_answers_without_end_are_not_waited_for() {
    let port = serve(|mut caller, n| async move {
        let Some(_) = caller.asked().await else {
            return;
        };
        if n == 0 {
            caller.raw(b"RTSP/1.0 200 OK\r\n").await;
            for _ in 0..100_000 {
                caller.raw(b"X-Again: n4me s3cret\r\n").await;
            }
        } else {
            let head = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 4294967296\r\n\r\n";
            caller.raw(head).await;
            caller.until_gone().await;
        }
    })
    .await;
    let mut watched = wanted(port).await;
    assert!(watched.until_away().await.contains("head"));
    assert!(watched.until_away().await.contains("65536 bytes"));
}

#[tokio::test]
async fn t_34_interleaving_that_lost_its_place_is_noticed_and_the_picture_comes_back() {
    let port = serve(|mut caller, n| async move {
        if caller.until_play(H264).await {
            pictures(&mut caller, 20).await;
            if n == 0 {
                // Two bytes fewer than announced, and then what is no message.
                caller
                    .raw(&[b'$', 4, 0, 3, 1, 0x80, 0x60, 0xFF, 0xFF, 0xFF])
                    .await;
            }
            pictures(&mut caller, 200).await;
            caller.until_gone().await;
        }
    })
    .await;
    let mut watched = wanted(port).await;
    assert!(watched.until_away().await.contains("lost its place"));
    watched.until_state(&LaneState::Playing).await;
    let packets = watched.until_packets(1_000, 60).await;
    assert_continuous(&packets);
}

#[tokio::test]
async fn t_34_a_connection_that_ends_within_a_packet_is_made_again() {
    let port = serve(|mut caller, n| async move {
        if caller.until_play(H264).await {
            pictures(&mut caller, 20).await;
            if n == 0 {
                caller.raw(&[b'$', 4, 0xFF, 0xFF, 0x80, 96, 0, 1]).await;
                return;
            }
            pictures(&mut caller, 200).await;
            caller.until_gone().await;
        }
    })
    .await;
    let mut watched = wanted(port).await;
    let reason = watched.until_away().await;
    assert_eq!(reason, "the camera closed the connection");
    watched.until_state(&LaneState::Playing).await;
    let packets = watched.until_packets(1_000, 60).await;
    assert_continuous(&packets);
}

#[tokio::test]
async fn t_34_parameter_sets_that_change_are_sent_on_and_told() {
    let port = serve(|mut caller, _| async move {
        if caller.until_play(H264).await {
            pictures(&mut caller, 20).await;
            for n in 0..100 {
                caller.packet(OTHER_SPS, false).await;
                caller.packet(PPS, false).await;
                pictures(&mut caller, 10).await;
                tokio::time::sleep(Duration::from_millis(n)).await;
            }
        }
    })
    .await;
    let mut watched = wanted(port).await;
    let (video, ..) = watched.until_described().await;
    assert_eq!(video[0].as_ref().unwrap().resolution, Some((1920, 1080)));
    let figures = watched
        .until_figures(|figures| figures.resolution == Some((704, 480)))
        .await;
    assert!(figures.packets > 0 && figures.lost == 0);
    let (video, ..) = watched.until_described().await;
    assert_eq!(video[0].as_ref().unwrap().resolution, Some((704, 480)));
    let packets = watched.record.packets(1_000);
    let has = |set: &[u8]| {
        let holds = |packet: &Vec<u8>| packet.windows(set.len()).any(|part| part == set);
        packets.iter().any(holds)
    };
    assert!(has(SPS) && has(OTHER_SPS));
}

#[tokio::test]
async fn t_34_timestamps_that_jump_become_a_continuation() {
    let port = serve(|mut caller, _| async move {
        if caller.until_play(H264).await {
            for jump in [0, 1_000_000_000, 4_000_000_000, 90_000_000] {
                caller.timestamp = caller.timestamp.wrapping_add(jump);
                pictures(&mut caller, 30).await;
            }
            caller.until_gone().await;
        }
    })
    .await;
    let watched = wanted(port).await;
    let packets = watched.until_packets(1_000, 120).await;
    assert_continuous(&packets);
}

/// No timestamp is earlier than the one before or more than ten seconds later.
fn assert_continuous(packets: &[Vec<u8>]) {
    let mut last = None;
    for packet in packets {
        let timestamp = RtpView::parse(packet).unwrap().timestamp();
        let step = timestamp.wrapping_sub(last.unwrap_or(timestamp));
        assert!(step < 10 * 90_000, "a step of {step}");
        last = Some(timestamp);
    }
}

#[tokio::test]
async fn t_34_pictures_that_refer_to_later_ones_are_told() {
    let port = serve(|mut caller, _| async move {
        if caller.until_play(H264).await {
            for n in 0..200 {
                // first_mb 0, type 6: B.
                let unit = if n % 10 == 0 {
                    [0x65, 0x88, 0]
                } else {
                    [0x01, 0b1001_1100, 0]
                };
                caller.picture(&unit).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    })
    .await;
    let mut watched = wanted(port).await;
    watched.until_figures(|figures| figures.has_b_frames).await;
}

#[tokio::test]
async fn t_34_a_redirect_to_an_internal_address_is_not_followed() {
    let inside = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let to = inside.local_addr().unwrap();
    let port = serve(move |mut caller, _| async move {
        while let Some(asked) = caller.asked().await {
            let location = format!("Location: rtsp://n4me:s3cret@{to}/inside\r\n");
            caller.answer(&asked, 302, &location, "").await;
        }
    })
    .await;
    // Also where the operator named the camera: it is the camera that names the other address.
    for trust in [Trust::Request, Trust::Operator] {
        let mut watched = Watched::start(&["127.0.0.1"]);
        let mut camera = spec(&url(port), Transport::Auto);
        camera.trust = trust;
        watched.add(1, camera);
        let reason = watched.until_refused().await;
        assert!(
            reason.contains("elsewhere") && reason.contains("loopback"),
            "{reason}"
        );
    }
    let nobody = tokio::time::timeout(Duration::from_millis(100), inside.accept()).await;
    assert!(
        nobody.is_err(),
        "somebody connected to the internal address"
    );
}

#[tokio::test]
async fn t_34_redirects_are_followed_where_allowed_and_not_for_ever() {
    // Name and password do not go along to another address.
    let other = serve_at("127.0.0.3", |mut caller, _| async move {
        let Some(asked) = caller.asked().await else {
            return;
        };
        assert!(!asked.head.contains("Authorization"));
        let kind = "Content-Type: application/sdp\r\n";
        caller.answer(&asked, 200, kind, H264).await;
        caller.until_gone().await;
    })
    .await;
    let port = serve(move |mut caller, _| async move {
        if let Some(asked) = caller.asked().await {
            let location = format!("Location: rtsp://127.0.0.3:{other}/other\r\n");
            caller.answer(&asked, 301, &location, "").await;
        }
    })
    .await;
    let mut watched = Watched::start(&["127.0.0.0/8"]);
    watched.add(1, spec(&url(port), Transport::Auto));
    let (video, ..) = watched.until_described().await;
    assert!(video[0].is_some());

    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let port = serve(move |mut caller, _| {
        let count = counted.clone();
        async move {
            if let Some(asked) = caller.asked().await {
                count.fetch_add(1, Ordering::Relaxed);
                let location = format!("Location: {}\r\n", asked.uri);
                caller.answer(&asked, 302, &location, "").await;
            }
        }
    })
    .await;
    watched.add(2, spec(&url(port), Transport::Auto));
    assert!(watched.until_away().await.contains("elsewhere"));
    assert_eq!(count.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn t_34_a_stranger_may_not_name_an_internal_camera() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut watched = Watched::start(&[]);
    let hosts = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "127.1",
        "0x7f000001",
        "2130706433",
    ];
    for (n, host) in hosts.into_iter().enumerate() {
        let mut camera = spec(
            &format!("rtsp://n4me:s3cret@{host}:{port}/"),
            Transport::Auto,
        );
        camera.trust = Trust::Request;
        watched.add(n as u64, camera);
        let reason = watched
            .until(|event| match event {
                control::camera::order::LaneEvent::State(
                    LaneState::Refused { reason } | LaneState::Away { reason, .. },
                ) => Some(reason),
                _ => None,
            })
            .await;
        let is_told = reason.contains("--camera-allow") || reason.contains("resolved");
        assert!(is_told && !reason.contains(host), "{host}: {reason}");
    }
    let nobody = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(nobody.is_err(), "somebody connected");
}

#[tokio::test]
async fn t_34_a_camera_that_says_nothing_is_away() {
    let port = serve(|mut caller, n| async move {
        match n {
            // No answer at all.
            0 => {
                caller.asked().await;
                std::future::pending::<()>().await;
            }
            // No packet.
            _ => {
                caller.until_play(H264).await;
                caller.until_gone().await;
            }
        }
    })
    .await;
    let mut watched = wanted(port).await;
    assert!(watched.until_away().await.contains("in time"));
    assert_eq!(watched.until_away().await, "no packet came for 10 s");
}

#[tokio::test]
async fn t_34_a_camera_that_floods_is_hung_up_on_and_others_are_not() {
    let port = serve(|mut caller, _| async move {
        if caller.until_play(H264).await {
            let mut unit = vec![0x41, 0x88];
            unit.resize(60_000, 7);
            for _ in 0..1_000_000 {
                caller.picture(&unit).await;
            }
        }
    })
    .await;
    let quiet = serve(|mut caller, _| async move {
        if caller.until_play(H264).await {
            pictures(&mut caller, 250).await;
            caller.until_gone().await;
        }
    })
    .await;
    let mut watched = wanted(port).await;
    watched.add(2, spec(&url(quiet), Transport::Auto));
    watched.want(2);
    assert!(watched.until_away().await.contains("Mbit/s"));
    watched.until_packets(2_000, 200).await;
}

#[tokio::test]
async fn t_34_what_is_no_camera_is_told_so() {
    let answers: [(u16, &str, &str); 6] = [
        (404, "", "no stream"),
        (453, "", "status 453"),
        (200, "", "DESCRIBE"),
        (200, "m=video 0 RTP/AVP\r\n", "H.264"),
        (200, "v=0\r\nm=video 0 RTP/AVP 26\r\n", "MJPEG"),
        (403, "n4me:s3cret", "password"),
    ];
    for (status, body, word) in answers {
        let port = serve(move |mut caller, _| async move {
            while let Some(asked) = caller.asked().await {
                let kind = "Content-Type: text/n4me-s3cret\r\n";
                caller.answer(&asked, status, kind, body).await;
            }
        })
        .await;
        let mut watched = wanted(port).await;
        let reason = watched
            .until(|event| match event {
                control::camera::order::LaneEvent::State(
                    LaneState::Refused { reason } | LaneState::Away { reason, .. },
                ) => Some(reason),
                _ => None,
            })
            .await;
        assert!(reason.contains(word), "{status}: {reason}");
    }
}

#[tokio::test]
async fn t_34_no_secret_is_told_whatever_fails() {
    // `Watched` looks at every event; here are the ways of failing that no other test goes.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = closed.local_addr().unwrap().port();
    drop(closed);
    let garbage = serve(|mut caller, _| async move {
        caller.asked().await;
        caller.raw(b"n4me s3cret \x00\xFF").await;
    })
    .await;
    let session = serve(|mut caller, _| async move {
        while let Some(asked) = caller.asked().await {
            let headers = "Session: s3cret\x01n4me\r\nTransport: s3cret\r\n";
            caller.answer(&asked, 200, headers, H264).await;
        }
    })
    .await;
    let mut watched = Watched::start(&[]);
    for (n, port) in [refused, garbage, session].into_iter().enumerate() {
        let mut camera = spec(&url(port), Transport::Auto);
        for scheme in ["rtsp", "rtsps"] {
            let id = n as u64 * 2 + u64::from(scheme == "rtsps");
            let text = url(port).replacen("rtsp", scheme, 1);
            camera.sources = spec(&text, Transport::Auto).sources;
            assert!(!format!("{camera:?}").contains("s3cret"));
            watched.add(id, camera.clone());
            watched.want(id);
            let reason = watched.until_away().await;
            assert!(!reason.is_empty());
            watched.lane.send(Order::Remove {
                camera: CameraId(id),
            });
        }
    }
    let missing = spec("rtsp://n4me:s3cret@no-such-host.invalid/", Transport::Auto);
    watched.add(90, missing);
    assert!(watched.until_away().await.contains("resolved"));
}

#[tokio::test]
async fn t_34_a_hundred_cameras_at_once_are_no_stampede() {
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (counted, highest) = (now.clone(), most.clone());
    let port = serve(move |mut caller, _| {
        let (now, most) = (counted.clone(), highest.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            if let Some(asked) = caller.asked().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let kind = "Content-Type: application/sdp\r\n";
                caller.answer(&asked, 200, kind, H264).await;
            }
            caller.until_gone().await;
            now.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let mut watched = Watched::start(&[]);
    for camera in 0..100 {
        watched.add(camera, spec(&url(port), Transport::Auto));
    }
    for _ in 0..100 {
        watched.until_described().await;
    }
    let most = most.load(Ordering::SeqCst);
    assert!((2..=9).contains(&most), "{most} at once");
}
