//! A ring against the kernel of this machine.

use super::setup::ENTRIES;
use super::*;

#[test]
fn every_setup_receives_and_sends() {
    for setup in [Setup::Deferred, Setup::Cooperative, Setup::Plain] {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let here = udp.local_addr().unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        let mut socket = UringSocket::open_with(udp, setup, COMPLETIONS).unwrap_or_else(|error| {
            panic!("io_uring is refused on this machine, which these tests need: {error}")
        });
        peer.send_to(b"ping", here).unwrap();
        while socket.arrivals.is_empty() {
            socket.ring.submit_and_wait(1).unwrap();
            socket.reap();
        }
        let Arrival { buffer, len } = socket.arrivals.pop_front().unwrap();
        let run = parse(socket.memory.buffers.received(buffer, len)).unwrap();
        assert_eq!(
            (&*run.bytes, run.remote),
            (&b"ping"[..], peer.local_addr().unwrap())
        );
        let slot = socket.memory.slots.next_free().unwrap();
        slot[..4].copy_from_slice(b"pong");
        let transmit = Transmit {
            path: Path::udp(peer.local_addr().unwrap()),
            len: 4,
            segment: 4,
        };
        let (_, entry) = socket.memory.slots.send(transmit, false, true).unwrap();
        assert!(socket.push(&entry));
        socket.submit();
        let mut answer = [0; 16];
        assert_eq!(peer.recv(&mut answer).unwrap(), 4, "{setup:?}");
        assert_eq!(&answer[..4], b"pong");
    }
}

#[test]
fn t_31_what_the_completion_queue_has_no_room_for_is_received_all_the_same() {
    /// As few as the kernel gives for so many submissions.
    const FEW: u32 = ENTRIES;
    /// More than that, and fewer than the buffers.
    const FLOOD: u32 = 100;
    for setup in [Setup::Deferred, Setup::Cooperative, Setup::Plain] {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let here = udp.local_addr().unwrap();
        let mut socket = UringSocket::open_with(udp, setup, FEW).unwrap();
        // From sockets of their own, so that GRO does not join them.
        for number in 0..FLOOD {
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            peer.send_to(&number.to_be_bytes(), here).unwrap();
        }
        socket.ring.submit_and_wait(FEW as usize).unwrap();
        assert_eq!(
            socket.ring.completion().len(),
            FEW as usize,
            "{setup:?}: the queue is full"
        );
        assert!(socket.ring.submission().cq_overflow(), "{setup:?}");
        let mut received = Vec::new();
        while received.len() < FLOOD as usize {
            socket.receive(FLOOD as usize, |_, bytes, _| {
                received.push(u32::from_be_bytes(*bytes.first_chunk().unwrap()));
            });
            if received.len() < FLOOD as usize {
                socket.ring.submit_and_wait(1).unwrap();
            }
        }
        assert_eq!(received, (0..FLOOD).collect::<Vec<u32>>(), "{setup:?}");
        assert!(socket.armed, "{setup:?}");
    }
}

#[test]
fn a_dropped_link_leaves_nothing_with_the_kernel() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut socket = UringSocket::open(&udp, &Faults::default()).unwrap();
    assert!(
        socket.end(),
        "the standing receive is cancelled and its end seen"
    );
}
