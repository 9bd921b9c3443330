//! Feeds: publishers without a transport, such as cameras.

use std::time::Duration;

use dataplane::command::{Command, FeedSpec, MediaKind, SrtpKeys, SrtpProfile};
use dataplane::event::Event;
use dataplane::id::{SenderId, SessionId, Ssrc, TrackId};
use rtcp::sender_report::SenderReport;

use crate::camera::*;
use crate::world::*;

#[test]
fn a_feed_s_packets_reach_a_viewer_as_a_browser_s_do() {
    let (mut world, mut camera) = with_camera();
    let mut viewer = viewer(&mut world, 2);
    world.ms(500);
    assert!(viewer.media(&mut world).is_empty());
    let sent = camera.play(&mut world, 0..60);
    let media = viewer.media(&mut world);
    assert_whole(&media, &sent);
    let header = &media[0].header;
    assert_eq!((header.ssrc, header.payload_type), (0x5002, SUBSCRIBER_PT));
    let mid = header.get_extension(SUBSCRIBER_MID_ID);
    assert_eq!(mid.as_deref(), Some(&b"7"[..]));
    let started = Event::TrackStarted { track: TrackId(1) };
    assert_eq!(world.events.iter().filter(|e| **e == started).count(), 1);
    let is_camera =
        |event: &&Event| matches!(event, Event::Connected { session, .. } if *session == CAMERA);
    assert!(!world.events.iter().any(|event| is_camera(&event)));
    let counters = world.counters();
    assert_eq!(counters.feed_received, sent.len() as u64);
    assert_eq!(counters.rtp_received, sent.len() as u64);
    assert_eq!(counters.nacks_sent + counters.keyframe_requests, 0);
}

#[test]
fn what_a_feed_says_of_its_clock_tells_its_viewers_when_a_picture_was_taken() {
    let (mut world, mut camera) = with_camera();
    let mut viewer = viewer(&mut world, 2);
    let (mut media, mut reports) = (Vec::new(), Vec::new());
    for picture in 0..100 {
        let packets = camera.picture(picture % 10 == 0);
        camera.hand(&mut world, &packets);
        if picture == 20 {
            let report = SenderReport {
                ssrc: CAMERA_SSRC,
                ntp_time: 77 << 32,
                rtp_time: camera.timestamp,
                ..SenderReport::default()
            };
            let compound = rtcp::packet::marshal(&[Box::new(report)]).unwrap();
            camera.hand(&mut world, &[compound.to_vec()]);
        }
        world.ms(PICTURE_MS);
        let (some, control) = viewer.receive(&mut world);
        media.extend(some);
        let told: Vec<SenderReport> = of_kind(&control);
        assert!(picture >= 20 || told.is_empty(), "its clock is not known");
        reports.extend(told);
    }
    assert!(reports.len() >= 2);
    let first = media[0].header.timestamp;
    for report in &reports {
        assert_eq!(report.ssrc, 0x5002);
        let media_s = f64::from(report.rtp_time.wrapping_sub(first)) / 90_000.0;
        let wall_s = report.ntp_time as f64 / 2f64.powi(32) - 2_208_988_800.0 - 1_000_000.0;
        assert!((media_s - wall_s).abs() < 0.005, "{media_s} {wall_s}");
    }
}

#[test]
fn nothing_is_ever_sent_to_a_feed_and_no_silence_ends_it() {
    let (mut world, mut camera) = with_camera();
    let session = CAMERA;
    let refused_before = world.counters().command_refused;
    world.command(Command::AddSender {
        session,
        sender: Box::new(sender(9, MediaKind::Video, true)),
    });
    let ice = credentials(9, "a");
    world.command(Command::RestartIce { session, ice });
    world.command(Command::OpenData {
        session,
        message_bytes_max: 1_000,
    });
    let keys = SrtpProfile::AeadAes128Gcm;
    world.command(Command::DtlsConnected {
        session,
        keys: Box::new(SrtpKeys {
            profile: keys,
            receive: master(1, keys),
            send: master(2, keys),
        }),
    });
    assert_eq!(world.counters().command_refused - refused_before, 4);
    camera.play(&mut world, 0..30);
    // A gap, which a browser would be asked to fill.
    camera.sequence = camera.sequence.wrapping_add(10);
    camera.play(&mut world, 30..60);
    world.advance(Duration::from_secs(100));
    camera.play(&mut world, 60..70);
    assert!(world.sent.is_empty() && world.dtls.is_empty());
    let is_end = |event: &Event| matches!(event, Event::Closed { .. });
    assert!(!world.events.iter().any(is_end));
    assert_eq!(world.counters().bursts_sent, 0);
    world.command(Command::Close { session });
    let before = world.counters();
    camera.play(&mut world, 70..71);
    let after = world.counters();
    assert_eq!(after.drop_feed_unknown - before.drop_feed_unknown, 5);
    assert!(world.sent.is_empty() && world.dtls.is_empty());
}

#[test]
fn what_a_feed_should_not_send_is_counted_and_dropped() {
    let (mut world, mut camera) = with_camera();
    let client = Peer::connect(&mut world, 2);
    let packet = camera.picture(true).remove(0);
    let mut hand = |session: SessionId, packet: &[u8]| {
        let now = world.now;
        world.engine.handle_feed(now, session, now, packet);
    };
    hand(SessionId(55), &packet);
    // Nobody gets plain packets into a client's session.
    hand(client.session, &packet);
    let stranger = Media {
        ssrc: 99,
        extensions: &[],
        ..video(99, 1, b"x")
    };
    hand(CAMERA, &stranger.packet());
    let strange = Media {
        ssrc: CAMERA_SSRC,
        payload_type: 50,
        extensions: &[],
        ..video(CAMERA_SSRC, 1, b"x")
    };
    hand(CAMERA, &strange.packet());
    hand(CAMERA, &[0, 1, 0, 0]);
    hand(CAMERA, &[]);
    hand(CAMERA, &[0x80, PUBLISHER_PT, 0]);
    hand(CAMERA, &[0x80, 200, 0, 9, 0]);
    hand(CAMERA, &vec![0x80; 1_501]);
    let counters = world.counters();
    let counted = [
        counters.drop_feed_unknown,
        counters.drop_unknown_ssrc,
        counters.drop_unknown_format,
        counters.drop_unknown_protocol,
        counters.drop_rtp_malformed,
        counters.drop_rtcp_malformed,
        counters.drop_too_large,
    ];
    assert_eq!(counted, [2, 1, 1, 2, 1, 1, 1]);
    assert_eq!(counters.rtp_received, 0);
}

#[test]
fn a_feed_that_floods_is_cut_off_and_the_others_are_not() {
    let (mut world, mut flood) = with_camera();
    flood.bytes = 1_180;
    let other = SessionId(101);
    world.command(Command::OpenFeed(Box::new(FeedSpec {
        session: other,
        cname: "other".to_owned(),
    })));
    world.command(Command::Publish {
        session: other,
        track: Box::new(camera_track(2)),
    });
    let mut quiet = Camera {
        session: other,
        ..Camera::new(CAMERA_SSRC)
    };
    let mut sent = 0;
    for picture in 0..50_u32 {
        for _ in 0..100 {
            let packets = flood.picture(false);
            sent += packets.len() as u64;
            flood.hand(&mut world, &packets);
        }
        let packets = quiet.picture(picture % 10 == 0);
        sent += packets.len() as u64;
        quiet.hand(&mut world, &packets);
        world.ms(PICTURE_MS);
    }
    let counters = world.counters();
    // 9 MB a second, of which five are taken, and a second's worth at once.
    assert!(
        counters.drop_over_rate > 2_000,
        "{}",
        counters.drop_over_rate
    );
    assert_eq!(counters.drop_over_rate + counters.rtp_received, sent);
    let mut viewer = Peer::connect(&mut world, 2);
    world.command(Command::AddSender {
        session: viewer.session,
        sender: Box::new(sender(2, MediaKind::Video, true)),
    });
    world.command(Command::Feed {
        sender: SenderId(2),
        source: Some(video_feed(2)),
    });
    assert_eq!(viewer.media(&mut world).len(), 5 + 9 * 3);
}

#[test]
fn a_changed_camera_goes_on_under_new_sources_and_the_old_ones_are_heard_no_more() {
    let (mut world, mut camera) = with_camera();
    let mut viewer = viewer(&mut world, 2);
    let mut media = Vec::new();
    for change in 0..20_u32 {
        camera.ssrc = CAMERA_SSRC + change;
        let mut track = camera_track(1);
        track.sources[0].ssrc = Ssrc(camera.ssrc);
        world.command(Command::Publish {
            session: CAMERA,
            track: Box::new(track),
        });
        camera.play(&mut world, 0..2);
        media.extend(viewer.media(&mut world));
    }
    assert_eq!(media.len(), 20 * 8);
    let numbers: Vec<u16> = media.iter().map(|p| p.header.sequence_number).collect();
    assert!(
        numbers
            .windows(2)
            .all(|pair| pair[1] == pair[0].wrapping_add(1))
    );
    let mut gone = Camera::new(CAMERA_SSRC);
    let packets = gone.picture(true);
    gone.hand(&mut world, &packets);
    assert_eq!(world.counters().drop_unknown_ssrc, 5);
}
