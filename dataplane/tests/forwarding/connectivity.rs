//! Connections: checks, nomination, restart, expiry, and who gets nothing.

use std::net::SocketAddr;
use std::time::Duration;

use dataplane::command::{Command, MediaKind};
use dataplane::event::{CloseReason, DtlsInput, Event};
use dataplane::id::SenderId;
use dataplane::transmit::{Path, Transport};

use crate::world::*;

fn elsewhere(port: u16) -> Path {
    Path::udp(SocketAddr::from(([203, 0, 113, 9], port)))
}

#[test]
fn a_check_is_answered_and_a_nomination_with_keys_connects() {
    let mut world = World::new();
    let mut peer = Peer::open(&mut world, 1);
    peer.check(&mut world, false);
    let answers = world.sent_to(peer.path);
    assert!(answers.len() == 1 && is_success(&answers[0]));
    assert!(matches!(world.dtls.as_slice(), [DtlsInput::Open { .. }]));
    world.arrive(peer.path, &[22, 0xfe, 0xff, 1, 2, 3]);
    world.drain();
    assert!(matches!(
        world.dtls.last(),
        Some(DtlsInput::Datagram { .. })
    ));
    let bytes = vec![22, 9, 9].into_boxed_slice();
    world.command(Command::DtlsTransmit {
        session: peer.session,
        bytes,
    });
    assert_eq!(world.sent_to(peer.path), [[22, 9, 9]]);
    peer.handshake(&mut world);
    assert!(world.events.is_empty(), "not nominated yet");
    peer.check(&mut world, true);
    let connected = Event::Connected {
        session: peer.session,
        remote: peer.path.remote,
        transport: Transport::Udp,
    };
    assert_eq!(world.events, [connected]);
}

#[test]
fn t_14_who_cannot_prove_the_password_gets_no_byte_and_moves_nothing() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let forged = check_with_password(&subscriber.ice, "not-the-password-at-all", 9, true);
    world.arrive(elsewhere(1), &forged);
    let mut stranger = subscriber.ice.clone();
    stranger.local_ufrag = "nobody".into();
    world.arrive(elsewhere(1), &check(&stranger, 9, true));
    let mut other = subscriber.ice.clone();
    other.remote_ufrag = "other".into();
    world.arrive(elsewhere(1), &check(&other, 9, true));
    world.arrive(elsewhere(1), &[22; 100]);
    world.arrive(elsewhere(1), &video(7, 1, b"spray").packet());
    world.arrive(elsewhere(1), &[80]);
    world.arrive(elsewhere(1), &[0; 40]);
    world.drain();
    assert!(world.sent_to(elsewhere(1)).is_empty());
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    assert_eq!(subscriber.media(&mut world).len(), 1);
    let counters = world.counters();
    assert_eq!(
        (
            counters.drop_stun_integrity,
            counters.drop_stun_unknown_user
        ),
        (2, 1)
    );
    assert_eq!(counters.drop_unknown_address, 2);
    assert_eq!(
        (counters.drop_unknown_protocol, counters.drop_stun_malformed),
        (1, 1)
    );
}

#[test]
fn t_07_only_a_nomination_moves_media() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let home = subscriber.path;
    subscriber.path = elsewhere(2);
    subscriber.check(&mut world, false);
    assert!(is_success(&world.sent_to(elsewhere(2))[0]));
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    world.drain();
    assert!(world.sent_to(elsewhere(2)).is_empty());
    assert_eq!(world.sent_to(home).len(), 1);
    subscriber.check(&mut world, true);
    world.sent_to(elsewhere(2));
    publisher.send(&mut world, &video(7, 2, b"x").packet());
    assert_eq!(subscriber.media(&mut world).len(), 1);
    assert!(world.sent_to(home).is_empty());
    let moved = Event::PathChanged {
        session: subscriber.session,
        remote: elsewhere(2).remote,
        transport: Transport::Udp,
    };
    assert!(world.events.contains(&moved));
}

#[test]
fn t_15_a_recorded_nomination_moves_nothing_when_somebody_else_repeats_it() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let recorded = check(&subscriber.ice, 200, true);
    world.arrive(subscriber.path, &recorded);
    world.drain();
    world.sent_to(subscriber.path);
    world.arrive(elsewhere(6), &recorded);
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    world.drain();
    assert!(world.sent_to(elsewhere(6)).is_empty());
    assert_eq!(subscriber.media(&mut world).len(), 1);
    assert_eq!(world.counters().drop_stun_replayed, 1);
}

#[test]
fn during_a_restart_both_credentials_are_good_and_after_it_only_the_new() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    let (old, new) = (subscriber.ice.clone(), credentials(2, "b"));
    world.command(Command::RestartIce {
        session: subscriber.session,
        ice: new.clone(),
    });
    subscriber.check(&mut world, true);
    assert!(is_success(&world.sent_to(subscriber.path)[0]));
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    assert_eq!(subscriber.media(&mut world).len(), 1, "media flows on");
    subscriber.path = elsewhere(3);
    subscriber.ice = new;
    subscriber.check(&mut world, true);
    assert!(is_success(&world.sent_to(subscriber.path)[0]));
    publisher.send(&mut world, &video(7, 2, b"x").packet());
    assert_eq!(subscriber.media(&mut world).len(), 1);
    subscriber.ice = old;
    subscriber.check(&mut world, true);
    assert!(
        world.sent_to(subscriber.path).is_empty(),
        "the old credentials are over"
    );
}

#[test]
fn a_silent_peer_is_gone_after_its_consent() {
    let mut world = World::new();
    let (_, mut subscriber) = video_pair(&mut world, true);
    let never = Peer::open(&mut world, 3);
    for _ in 0..8 {
        world.ms(5_000);
        subscriber.check(&mut world, true);
    }
    let closed = |session, reason| Event::Closed { session, reason };
    assert!(
        world
            .events
            .contains(&closed(never.session, CloseReason::NeverConnected))
    );
    let publisher = dataplane::id::SessionId(1);
    assert!(
        world
            .events
            .contains(&closed(publisher, CloseReason::ConsentExpired))
    );
    assert!(
        world
            .dtls
            .contains(&DtlsInput::Close { session: publisher })
    );
    world.events.clear();
    world.advance(Duration::from_millis(29_500));
    assert!(world.events.is_empty());
    world.ms(500);
    assert_eq!(
        world.events,
        [closed(subscriber.session, CloseReason::ConsentExpired)]
    );
}

#[test]
fn a_closed_session_leaves_nothing_but_its_goodbye() {
    let mut world = World::new();
    let (mut publisher, mut subscriber) = video_pair(&mut world, true);
    publisher.send(&mut world, &video(7, 1, b"x").packet());
    assert_eq!(subscriber.media(&mut world).len(), 1);
    world.sent_to(publisher.path);
    world.command(Command::Close {
        session: publisher.session,
    });
    assert!(world.dtls.contains(&DtlsInput::Close {
        session: publisher.session
    }));
    let bytes = vec![21, 0].into_boxed_slice();
    world.command(Command::DtlsTransmit {
        session: publisher.session,
        bytes,
    });
    assert_eq!(world.sent_to(publisher.path), [[21, 0]]);
    publisher.check(&mut world, true);
    publisher.send(&mut world, &video(7, 2, b"x").packet());
    world.drain();
    assert!(world.sent_to(publisher.path).is_empty());
    assert!(subscriber.media(&mut world).is_empty());
    assert!(
        !world
            .events
            .iter()
            .any(|event| matches!(event, Event::Closed { .. }))
    );
    // The ids and credentials are free again.
    let (mut publisher, _) = (Peer::connect(&mut world, 1), ());
    let (session, track) = (publisher.session, Box::new(video_track(1)));
    world.command(Command::Publish { session, track });
    world.command(Command::Feed {
        sender: SenderId(1),
        source: Some(video_feed(1)),
    });
    publisher.send(&mut world, &video(7, 2, b"x").packet());
    assert_eq!(subscriber.media(&mut world).len(), 1);
}

#[test]
fn limits_are_kept() {
    let mut world = World::with_sessions_max(2);
    let peers: Vec<Peer> = (1..=3)
        .map(|number| Peer::open(&mut world, number))
        .collect();
    let (session, reason) = (peers[2].session, CloseReason::AtLimit);
    assert_eq!(world.events, [Event::Closed { session, reason }]);
    for id in 0..20 {
        let (session, track) = (peers[0].session, Box::new(video_track(id)));
        world.command(Command::Publish { session, track });
    }
    for id in 0..300 {
        let spec = Box::new(sender(id, MediaKind::Audio, false));
        world.command(Command::AddSender {
            session: peers[1].session,
            sender: spec,
        });
    }
    world.command(Command::Feed {
        sender: SenderId(299),
        source: None,
    });
    let counters = world.counters();
    assert_eq!(
        (counters.command_refused, counters.command_stale),
        (4 + 44, 1)
    );
}

#[test]
fn media_before_the_keys_is_counted_and_paths_are_bounded() {
    let mut world = World::new();
    let mut peer = Peer::open(&mut world, 1);
    peer.check(&mut world, true);
    let home = peer.path;
    peer.send(&mut world, &video(7, 1, b"x").packet());
    for port in 0..200 {
        peer.path = elsewhere(port);
        peer.check(&mut world, false);
        world.ms(1);
    }
    // The nominated path stays, an early one had to go.
    world.arrive(home, &[22, 1]);
    world.arrive(elsewhere(0), &[22, 2]);
    let counters = world.counters();
    assert_eq!(
        (counters.drop_no_keys, counters.drop_unknown_address),
        (1, 1)
    );
}
