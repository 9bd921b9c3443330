//! Nothing on the packet path allocates: one publisher, fifty subscribers, bursts of ten.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use dataplane::command::{Command, MediaKind};
use dataplane::id::TrackId;
use dataplane::relay::RelaySlot;

#[path = "forwarding/world.rs"]
mod world;

use world::{Media, Peer, World, sender, video, video_feed, video_track};

/// The system's allocator, which counts how often it is asked.
struct Counting;

thread_local! {
    /// Of this thread: tests run beside each other.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that it holds.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

fn allocations() -> u64 {
    ALLOCATIONS.get()
}

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its interface; it only counts"
)]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        HELD.set(HELD.get() + layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as i64);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn forwarding_allocates_nothing() {
    const SUBSCRIBERS: u64 = 50;
    let mut world = World::new();
    let mut publisher = Peer::connect(&mut world, 1);
    let (session, track) = (publisher.session, Box::new(video_track(1)));
    world.command(Command::Publish { session, track });
    for number in 2..2 + SUBSCRIBERS {
        let spec = sender(number, MediaKind::Video, number % 2 == 0);
        let (session, id) = (Peer::connect(&mut world, number).session, spec.sender);
        world.command(Command::AddSender {
            session,
            sender: Box::new(spec),
        });
        world.command(Command::Feed {
            sender: id,
            source: Some(video_feed(1)),
        });
    }
    let mut frames = frames(&mut publisher);
    let segment = frames[0].len() / 10;
    let mut slot = vec![0; dataplane::limits::BURST_BYTES_MAX];
    let mut packets = 0;
    let mut before = 0;
    for (index, run) in frames.iter_mut().enumerate() {
        if index == 20 {
            // The first ones may: queues grow to their size.
            before = allocations();
            packets = 0;
        }
        world
            .engine
            .handle_datagrams(world.now, publisher.path, run, segment);
        while let Some(transmit) = world.engine.poll_transmit(world.now, &mut slot) {
            packets += transmit.segments();
        }
    }
    let allocations = allocations() - before;
    assert_eq!(packets as u64, 180 * 10 * SUBSCRIBERS);
    assert_eq!(allocations, 0);
}

#[test]
fn t_29_after_thousands_of_joins_and_leaves_memory_and_timers_are_what_they_were() {
    let mut world = World::new();
    let mut publisher = Peer::connect(&mut world, 1);
    let (session, track) = (publisher.session, Box::new(video_track(1)));
    world.command(Command::Publish { session, track });
    let mut baseline = 0;
    // Ten a second for half an hour; some say a word, some only look, some never connect.
    for number in 2..18_000_u64 {
        let mut guest = match number % 3 {
            0 => Peer::open(&mut world, 1_000 + number),
            _ => Peer::connect(&mut world, 1_000 + number),
        };
        let session = guest.session;
        let spec = sender(number, MediaKind::Video, true);
        let id = spec.sender;
        world.command(Command::AddSender {
            session,
            sender: Box::new(spec),
        });
        let source = Some(video_feed(1));
        world.command(Command::Feed { sender: id, source });
        if number % 3 == 1 {
            let track = Box::new(video_track(number));
            world.command(Command::Publish { session, track });
            guest.send(&mut world, &video(70, 1, b"hello").packet());
        }
        let packet = video(7, number as u16, &[1; 500]).packet();
        publisher.send(&mut world, &packet);
        world.ms(90);
        publisher.check(&mut world, true);
        world.command(Command::Close { session });
        world.ms(10);
        drop(guest);
        world.sent = Vec::new();
        world.bursts = Vec::new();
        world.events = Vec::new();
        world.dtls = Vec::new();
        if number == 2_000 {
            baseline = HELD.get();
        }
    }
    let grown = HELD.get() - baseline;
    assert!(grown.abs() < 16 << 10, "{grown} bytes more than before");
    let session = publisher.session;
    world.command(Command::Close { session });
    world.ms(2_000);
    let due = world.engine.poll_timeout().map(|due| due - world.now);
    let due = due.expect("its own report");
    assert!(due <= dataplane::limits::REPORT_INTERVAL, "{due:?}");
    world.ms(60_000);
    assert!(
        world.events.is_empty(),
        "nobody is left: {:?}",
        world.events
    );
}

#[test]
fn t_16_a_million_unknown_usernames_cost_no_allocation_and_leave_nothing() {
    let mut world = World::new();
    let peer = Peer::connect(&mut world, 1);
    let mut check = world::check(&peer.ice, 9, true);
    // The last attribute is a fingerprint, which would tell of what is changed: it may be missing.
    check.truncate(check.len() - 8);
    check[3] -= 8;
    let name_at = 24;
    assert_eq!(check[name_at..name_at + 7], *b"local1a");
    let datagrams = |world: &World| world.engine.poll_timeout();
    let due = datagrams(&world);
    let before = allocations();
    for number in 0..1_000_000_u32 {
        let name = &mut check[name_at..name_at + 4];
        name.copy_from_slice(&number.to_be_bytes());
        let mut bytes = [0; 200];
        bytes[..check.len()].copy_from_slice(&check);
        let bytes = &mut bytes[..check.len()];
        let segment = bytes.len();
        world
            .engine
            .handle_datagrams(world.now, peer.path, bytes, segment);
    }
    assert_eq!(allocations() - before, 0);
    assert_eq!(datagrams(&world), due, "no timer for any of them");
    world.drain();
    assert!(world.sent_to(peer.path).is_empty());
    assert_eq!(world.counters().drop_stun_unknown_user, 1_000_000);
}

#[test]
fn a_relay_allocates_nothing() {
    let (mut home, mut away) = (World::new(), World::new());
    let mut publisher = Peer::connect(&mut home, 1);
    let (session, track) = (publisher.session, Box::new(video_track(1)));
    home.command(Command::Publish { session, track });
    let track = TrackId(1);
    home.command(Command::Export { track, to: 1 });
    away.command(Command::Import {
        track: Box::new(video_track(1)),
        from: 0,
    });
    let session = Peer::connect(&mut away, 2).session;
    let spec = Box::new(sender(2, MediaKind::Video, true));
    let (feed, sender) = (video_feed(1), spec.sender);
    away.command(Command::AddSender {
        session,
        sender: spec,
    });
    away.command(Command::Feed {
        sender,
        source: Some(feed),
    });
    let mut frames = frames(&mut publisher);
    let segment = frames[0].len() / 10;
    let mut slot = vec![0; dataplane::limits::BURST_BYTES_MAX];
    let mut relayed = RelaySlot::new();
    let mut packets = 0;
    let mut before = 0;
    for (index, run) in frames.iter_mut().enumerate() {
        if index == 20 {
            before = allocations();
            packets = 0;
        }
        let now = home.now;
        home.engine
            .handle_datagrams(now, publisher.path, run, segment);
        while home.engine.poll_relay(now, 1, &mut relayed) {
            away.engine.handle_relay(now, &relayed);
        }
        while let Some(transmit) = away.engine.poll_transmit(now, &mut slot) {
            packets += transmit.segments();
        }
    }
    assert_eq!((packets, allocations() - before), (180 * 10, 0));
}

/// Two hundred frames of ten packets.
fn frames(publisher: &mut Peer) -> Vec<Vec<u8>> {
    let frame = |frame: u16| {
        let mut run = Vec::new();
        for n in 0..10 {
            let payload = [n as u8; 1_150];
            let packet = Media {
                marker: n == 9,
                ..video(7, frame * 10 + n, &payload)
            };
            let packet = packet.packet();
            run.extend_from_slice(
                &publisher
                    .seal
                    .encrypt_rtp(&packet)
                    .expect("a well-formed packet seals"),
            );
        }
        run
    };
    (0..200).map(frame).collect()
}
