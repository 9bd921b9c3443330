//! GStreamer's RTSP server, to pictures that decode.

use std::collections::HashSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use control::camera::order::{CameraId, CameraSource, Identity, LaneState, Order, Transport};
use control::camera::stream::CameraCodec;
use control::camera::url::CameraUrl;
use dataplane::wire::RtpView;

use crate::rtsp::{Server, Watched, spec};

/// H.264 or H.265 packets as a byte stream (H.264 annex B).
fn byte_stream(packets: &[Vec<u8>], h265: bool) -> Vec<u8> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    let header_len = if h265 { 2 } else { 1 };
    for packet in packets {
        let payload = RtpView::parse(packet).unwrap().payload();
        assert!(payload.len() <= 1_180);
        let kind = if h265 {
            payload[0] >> 1 & 0x3F
        } else {
            payload[0] & 0x1F
        };
        match kind {
            24 | 48 => {
                let mut rest = &payload[header_len..];
                while let Some((len, after)) = rest.split_first_chunk::<2>() {
                    let (unit, after) = after.split_at(usize::from(u16::from_be_bytes(*len)));
                    units.push(unit.to_vec());
                    rest = after;
                }
            }
            28 | 49 => {
                let fragment = payload[header_len];
                if fragment & 0x80 != 0 {
                    units.push(match h265 {
                        true => vec![payload[0] & 0x81 | (fragment & 0x3F) << 1, payload[1]],
                        false => vec![payload[0] & 0xE0 | fragment & 0x1F],
                    });
                }
                let part = &payload[header_len + 1..];
                units.last_mut().unwrap().extend_from_slice(part);
            }
            _ => units.push(payload.to_vec()),
        }
    }
    let marked = units.iter().flat_map(|unit| [&[0, 0, 0, 1][..], unit]);
    marked.flatten().copied().collect()
}

/// Decodes with GStreamer: how many pictures, and how many different ones.
fn decoded(stream: &[u8], h265: bool, size: usize) -> (usize, usize) {
    let folder =
        std::env::temp_dir().join(format!("millrace-{}-{h265}-{size}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (from, to) = (folder.join("stream"), folder.join("pictures"));
    fs::write(&from, stream).unwrap();
    let (parser, decoder) = if h265 {
        ("h265parse", "avdec_h265")
    } else {
        ("h264parse", "avdec_h264")
    };
    let status = Command::new("gst-launch-1.0")
        .args(["-q", "filesrc", &format!("location={}", from.display())])
        .args(["!", parser, "!", decoder, "!", "videoconvert"])
        .args(["!", "video/x-raw,format=GRAY8"])
        .args(["!", "filesink", &format!("location={}", to.display())])
        .status()
        .expect("gst-launch-1.0 is there; `make test-deps` installs it");
    assert!(status.success(), "the pictures decode");
    let bytes = fs::read(&to).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let pictures: Vec<&[u8]> = bytes.chunks_exact(size).collect();
    (
        pictures.len(),
        pictures.iter().collect::<HashSet<_>>().len(),
    )
}

/// Numbers without a gap, a marker on each last packet of a timestamp, and sets before the first key picture.
fn assert_whole(packets: &[Vec<u8>]) {
    for pair in packets.windows(2) {
        let [one, two] = [&pair[0], &pair[1]].map(|packet| RtpView::parse(packet).unwrap());
        assert_eq!(two.sequence(), one.sequence().wrapping_add(1));
        assert_eq!(one.marker(), one.timestamp() != two.timestamp());
    }
}

async fn pulled(path: &str, transport: Transport) -> (Server, Watched) {
    let server = Server::start(&[]);
    let watched = Watched::start(&[]);
    watched.add(1, spec(&server.url(path, ""), transport));
    (server, watched)
}

#[tokio::test]
async fn h264_and_its_sound_come_within_the_connection() {
    let (_server, mut watched) = pulled("/h264", Transport::Tcp).await;
    let (video, audio, remarks) = watched.until_described().await;
    let video = video[0].clone().unwrap();
    assert!(matches!(video.codec, CameraCodec::H264 { .. }));
    assert_eq!(video.resolution, Some((640, 360)));
    assert_eq!(audio.unwrap().codec, CameraCodec::Pcmu);
    assert_eq!(remarks, Vec::<String>::new());
    watched.until_state(&LaneState::Idle).await;
    assert_eq!(watched.record.len(), 0, "nobody wants it yet");
    watched.want(1);
    watched.until_state(&LaneState::Playing).await;
    let packets = watched.until_packets(1_000, 200).await;
    assert_whole(&packets);
    let (pictures, different) = decoded(&byte_stream(&packets, false), false, 640 * 360);
    assert!(pictures > 25 && different > 20, "{different} of {pictures}");
    let sound = watched.until_packets(1_009, 20).await;
    assert!(
        sound
            .iter()
            .all(|packet| packet.len() > 12 && packet[1] & 0x7F == 0)
    );
    let figures = watched
        .until_figures(|figures| figures.frame_rate > 10.0)
        .await;
    assert!(figures.bitrate_bps > 50_000 && figures.lost == 0 && !figures.has_b_frames);
}

#[tokio::test]
async fn h265_comes_as_datagrams() {
    let (_server, mut watched) = pulled("/h265", Transport::Udp).await;
    let (video, ..) = watched.until_described().await;
    let video = video[0].clone().unwrap();
    assert!(matches!(
        video.codec,
        CameraCodec::H265 { profile_id: 1, .. }
    ));
    assert_eq!(video.resolution, Some((320, 180)));
    watched.want(1);
    let packets = watched.until_packets(1_000, 100).await;
    assert_whole(&packets);
    let (pictures, different) = decoded(&byte_stream(&packets, true), true, 320 * 180);
    assert!(pictures > 25 && different > 20, "{different} of {pictures}");
    watched
        .until_recorded(|record| record.reports(1_000) > 0)
        .await;
}

#[tokio::test]
async fn names_and_passwords_are_given_as_the_camera_wants_them() {
    for auth in ["digest", "basic"] {
        let server = Server::start(&["--user", "n4me", "--password", "s3cret", "--auth", auth]);
        let mut watched = Watched::start(&[]);
        watched.add(
            1,
            spec(&server.url("/small", "n4me:s3cret"), Transport::Tcp),
        );
        watched.want(1);
        watched.until_packets(1_000, 30).await;
        watched.add(2, spec(&server.url("/small", "n4me:wrong"), Transport::Tcp));
        let reason = watched.until_away().await;
        assert!(reason.contains("password"), "{reason}");
    }
}

#[tokio::test]
async fn aac_is_said_to_be_impossible_and_the_picture_flows() {
    let (_server, mut watched) = pulled("/aac", Transport::Auto).await;
    let (video, audio, remarks) = watched.until_described().await;
    assert!(video[0].is_some() && audio.is_none());
    assert!(remarks[0].contains("AAC"), "{remarks:?}");
    watched.want(1);
    watched.until_packets(1_000, 30).await;
}

#[tokio::test]
async fn mjpeg_is_refused_with_a_sentence() {
    let (_server, mut watched) = pulled("/mjpeg", Transport::Auto).await;
    let reason = watched.until_refused().await;
    assert!(
        reason.contains("MJPEG") && reason.contains("H.264"),
        "{reason}"
    );
}

#[tokio::test]
async fn b_frames_are_told() {
    let (_server, mut watched) = pulled("/bframes", Transport::Tcp).await;
    watched.until_described().await;
    watched.want(1);
    watched.until_figures(|figures| figures.has_b_frames).await;
}

#[tokio::test]
async fn a_camera_that_restarts_is_away_and_comes_back() {
    let server = Server::start(&[]);
    let port = server.port.to_string();
    let mut watched = Watched::start(&[]);
    watched.add(1, spec(&server.url("/small", ""), Transport::Tcp));
    watched.want(1);
    let before = watched.until_packets(1_000, 30).await.len();
    drop(server);
    watched.until_away().await;
    let _server = Server::start(&["--port", &port]);
    watched.until_state(&LaneState::Playing).await;
    let packets = watched.until_packets(1_000, before + 60).await;
    let (pictures, different) = decoded(&byte_stream(&packets, false), false, 320 * 180);
    assert!(pictures > 40 && different > 30, "{different} of {pictures}");
}

#[tokio::test]
async fn a_camera_is_pulled_while_it_is_wanted_and_no_longer() {
    let (_server, mut watched) = pulled("/small", Transport::Udp).await;
    watched.until_described().await;
    for _ in 0..2 {
        let before = watched.record.len();
        watched.want(1);
        watched.until_state(&LaneState::Playing).await;
        watched.until_packets(1_000, before + 20).await;
        watched.lane.send(Order::Release {
            camera: CameraId(1),
        });
        watched.until_state(&LaneState::Idle).await;
        let after = watched.record.len();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(
            watched.record.len(),
            after,
            "nothing comes when nobody wants it"
        );
    }
}

#[tokio::test]
async fn layers_are_pulled_together_and_the_sound_comes_once() {
    let server = Server::start(&[]);
    let mut camera = spec(&server.url("/small", ""), Transport::Tcp);
    camera.sources.push(CameraSource {
        url: CameraUrl::parse(&server.url("/h264", "")).unwrap(),
        rid: Some("h".to_owned()),
    });
    let mut watched = Watched::start(&[]);
    watched.add(1, camera);
    let (video, audio, _) = watched.until_described().await;
    let sizes: Vec<_> = video
        .iter()
        .map(|video| video.as_ref().unwrap().resolution)
        .collect();
    assert_eq!(sizes, [Some((320, 180)), Some((640, 360))]);
    assert!(audio.is_some());
    watched.want(1);
    for ssrc in [1_000, 1_001, 1_009] {
        let packets = watched.until_packets(ssrc, 20).await;
        for pair in packets.windows(2) {
            let [one, two] = [&pair[0], &pair[1]].map(|packet| RtpView::parse(packet).unwrap());
            assert_eq!(two.sequence(), one.sequence().wrapping_add(1));
        }
    }
}

#[tokio::test]
async fn rtsps_is_spoken_and_certificates_are_looked_at_unless_any_will_do() {
    let folder = std::env::temp_dir().join(format!("millrace-tls-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let [certificate, key] =
        ["cert.pem", "key.pem"].map(|name| folder.join(name).display().to_string());
    let status = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=camera", "-keyout", &key, "-out", &certificate])
        .stderr(std::process::Stdio::null())
        .status()
        .expect("openssl is there; `make test-deps` installs it");
    assert!(status.success());
    let server = Server::start(&["--tls", &certificate, &key]);
    fs::remove_dir_all(&folder).unwrap();
    let url = server.url("/small", "").replacen("rtsp", "rtsps", 1);
    let mut watched = Watched::start(&[]);
    let mut verified = spec(&url, Transport::Tcp);
    verified.identity = Identity::Verified;
    watched.add(2, verified);
    let reason = watched.until_away().await;
    assert!(reason.contains("certificate"), "{reason}");
    watched.add(1, spec(&url, Transport::Tcp));
    watched.want(1);
    watched.until_packets(1_000, 30).await;
}
