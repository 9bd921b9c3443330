//! What the kernel refuses, and workers that panic (T-31, T-33).

use super::*;
use crate::limits::RECEIVE_BUFFERS;

/// Ten datagrams of one size.
const SEGMENT: usize = 300;

fn burst() -> Vec<u8> {
    (0..10 * SEGMENT)
        .map(|byte| (byte / SEGMENT) as u8)
        .collect()
}

/// A rig whose first send in one piece of several datagrams is refused with `errno`, after which a second is made.
fn after_a_refused_burst(driver: DriverChoice, errno: i32) -> Counters {
    let mut rig = Rig::new(driver);
    rig.dataplane.faults(0).refuse_sends(errno, 1, 2);
    for _ in 0..2 {
        rig.send_burst(&burst(), SEGMENT);
        assert_eq!(rig.receive_burst(10 * SEGMENT), burst(), "{driver}");
    }
    assert_eq!(rig.dataplane.faults(0).sends_left(), 0, "{driver}");
    rig.counters()
}

#[test]
fn t_31_a_device_without_offload_is_given_datagrams_one_by_one_from_then_on() {
    on_both(|driver| {
        for errno in [libc::EIO, libc::EOPNOTSUPP] {
            let counters = after_a_refused_burst(driver, errno);
            assert_eq!(
                (counters.bursts_split, counters.send_offload_lost),
                (1, 1),
                "{driver}: the second burst is not even tried in one piece"
            );
            assert_eq!(counters.drop_socket_refused + counters.drop_socket_full, 0);
        }
    });
}

#[test]
fn t_31_a_burst_that_does_not_fit_its_path_is_split_and_the_next_one_is_tried_whole() {
    on_both(|driver| {
        for errno in [libc::EINVAL, libc::EMSGSIZE] {
            let counters = after_a_refused_burst(driver, errno);
            let split = (counters.bursts_split, counters.send_offload_lost);
            assert_eq!(split, (1, 0), "{driver}");
        }
    });
}

/// Ten datagrams, the first three of which are refused: the numbers that came back, and what was counted.
fn after_refused_datagrams(driver: DriverChoice, errno: i32) -> (Vec<u8>, Counters) {
    let mut rig = Rig::new(driver);
    rig.dataplane.faults(0).refuse_sends(errno, 3, 1);
    let mut back = Vec::new();
    for number in 0..10 {
        let left = rig.dataplane.faults(0).sends_left();
        rig.peer.send(&[number]).unwrap();
        if left == 0 {
            back.extend(rig.answer());
        } else {
            // It is taken in before the next one, so that each has a send of its own.
            let begun = clock::now();
            while rig.dataplane.faults(0).sends_left() == left {
                assert!(clock::now() - begun < PATIENCE, "{driver}: not sent");
                std::thread::yield_now();
            }
        }
    }
    (back, rig.counters())
}

#[test]
fn t_31_what_the_kernel_has_no_room_for_is_lost_and_counted_and_what_follows_is_sent() {
    on_both(|driver| {
        for errno in [libc::ENOBUFS, libc::ENOMEM] {
            let (back, counters) = after_refused_datagrams(driver, errno);
            assert_eq!(back, [3, 4, 5, 6, 7, 8, 9], "{driver}");
            assert_eq!(counters.drop_socket_full, 3, "{driver}");
            assert_eq!(counters.drop_socket_refused, 0, "{driver}");
        }
    });
}

#[test]
fn t_31_what_the_kernel_does_not_let_pass_is_lost_and_counted_and_what_follows_is_sent() {
    on_both(|driver| {
        for errno in [libc::EPERM, libc::ENETUNREACH, libc::EIO] {
            let (back, counters) = after_refused_datagrams(driver, errno);
            assert_eq!(back, [3, 4, 5, 6, 7, 8, 9], "{driver}");
            assert_eq!(counters.drop_socket_refused, 3, "{driver}");
            assert_eq!(counters.send_offload_lost, 0, "a datagram is no burst");
        }
    });
}

#[test]
fn t_31_a_full_socket_keeps_what_is_written_until_there_is_room() {
    // io_uring waits for room itself and does not tell.
    let mut rig = Rig::new(DriverChoice::Msg);
    rig.dataplane.faults(0).refuse_sends(libc::EAGAIN, 1, 1);
    rig.peer.send(b"first").unwrap();
    let begun = clock::now();
    while rig.dataplane.faults(0).sends_left() > 0 {
        assert!(clock::now() - begun < PATIENCE, "not sent");
        std::thread::yield_now();
    }
    // The kernel says that there is room with the next thing that happens at the socket.
    rig.peer.send(b"second").unwrap();
    assert_eq!(rig.answer(), b"first");
    assert_eq!(rig.answer(), b"second");
    assert_eq!(rig.counters().drop_socket_full, 0);
}

#[test]
fn t_31_a_flood_past_the_receive_buffers_waits_in_the_socket_and_is_counted() {
    const FLOOD: u32 = 4 * RECEIVE_BUFFERS as u32;
    on_both(|driver| {
        let mut rig = Rig::new(driver);
        set_gate(true);
        rig.peer.send(b"wait").unwrap();
        // From sockets of their own, so that GRO does not join them.
        let peers: Vec<UdpSocket> = (0..FLOOD)
            .map(|number| {
                let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
                peer.set_read_timeout(Some(PATIENCE)).unwrap();
                // What others on this machine still send to whoever had the port before stays out.
                peer.connect(rig.server).unwrap();
                peer.send(&number.to_be_bytes()).unwrap();
                peer
            })
            .collect();
        set_gate(false);
        assert_eq!(rig.answer(), b"wait");
        for (number, peer) in peers.iter().enumerate() {
            let mut bytes = [0; 16];
            let len = peer
                .recv(&mut bytes)
                .unwrap_or_else(|error| panic!("{driver}: {error}"));
            assert_eq!(bytes[..len], (number as u32).to_be_bytes());
        }
        let ran_out = rig.counters().receive_buffers_exhausted;
        assert_eq!(ran_out > 0, driver == DriverChoice::Uring, "{ran_out}");
    });
}

#[test]
fn t_33_a_worker_that_panics_serves_again_and_the_other_never_notices() {
    on_both(|driver| {
        let mut rig = Rig::with(&DataplaneConfig {
            workers: 2,
            ..config(driver)
        });
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = rig.dataplane.workers()[1].port;
        other.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        // What is under way at the other worker comes back, and in order.
        let mut sent = 0_u32;
        let mut goes_on = || {
            for number in sent..sent + 50 {
                other.send(&number.to_be_bytes()).unwrap();
            }
            for number in sent..sent + 50 {
                let mut bytes = [0; 16];
                let len = other.recv(&mut bytes).expect("the other worker serves");
                assert_eq!(bytes[..len], number.to_be_bytes(), "{driver}");
            }
            sent += 50;
        };
        for _ in 0..3 {
            goes_on();
            rig.peer.send(b"panic").unwrap();
            goes_on();
            assert_eq!(rig.event(), Event::WorkerRestarted, "{driver}");
            rig.peer.send(b"again").unwrap();
            assert_eq!(rig.answer(), b"again");
            let mut stream = rig.tcp();
            stream.write_all(&framed(b"tcp")).unwrap();
            assert_eq!(read_packet(&mut stream), b"tcp");
            goes_on();
        }
    });
}

#[test]
fn t_33_what_control_asked_of_a_lost_engine_is_not_asked_of_the_next() {
    on_both(|driver| {
        let mut rig = Rig::new(driver);
        let close = |rig: &Rig, session| {
            let session = SessionId(session);
            let command = Command::Close { session };
            rig.dataplane.try_command(0, command).unwrap();
        };
        rig.dataplane.faults(0).panic_next_turn();
        for session in 0..500 {
            close(&rig, session);
        }
        // Those of them that came before the panic are the lost engine's too.
        while rig.event() != Event::WorkerRestarted {}
        rig.peer.send(b"again").unwrap();
        assert_eq!(rig.answer(), b"again");
        close(&rig, 500);
        rig.dataplane.try_command(0, Command::AfterRestart).unwrap();
        close(&rig, 501);
        let closed = |session| Event::Closed {
            session: SessionId(session),
            reason: CloseReason::PeerClosed,
        };
        assert_eq!(rig.event(), closed(501), "{driver}");
        assert!(rig.counters().command_stale >= 1, "{driver}");
    });
}
