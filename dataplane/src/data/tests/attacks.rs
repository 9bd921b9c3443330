//! What a client may do to the association (T-22), packet by packet.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::*;
use crate::data::packet::{Draft, Packet, kind, u32_at, write_parameter};
use crate::limits::{
    DATA_CHUNK_OVERHEAD_BYTES, DATA_FORWARD_MAX, DATA_RECEIVED_BYTES_MAX, DATA_RESETS_DEFERRED_MAX,
    DATA_RESETS_UNANSWERED_MAX, DATA_STREAMS_MAX,
};
use crate::sim::network::Rng;

/// Our own tag and first number.
const TAG: u32 = 0x1234_5678;
const FIRST: u32 = u32::MAX - 10;

/// What is no chunk that the gate lets through, and panics in the crate behind it.
const ERROR: u8 = 9;

/// A client that writes its packets by hand.
struct Attacker {
    now: Instant,
    server: DataTransport,
    /// The server's tag.
    tag: u32,
    tsn: u32,
}

/// A chunk: type, flags, value.
type Written<'a> = (u8, u8, &'a [u8]);

fn packet(tag: u32, chunks: &[Written<'_>]) -> Bytes {
    let mut draft = Draft::new(5_000, 5_000, tag);
    for (kind, flags, value) in chunks {
        draft.push(*kind, *flags, value);
    }
    draft.finish().unwrap()
}

fn init(tag: u32, window: u32, streams: u16) -> Vec<u8> {
    let mut init = tag.to_be_bytes().to_vec();
    init.extend_from_slice(&window.to_be_bytes());
    init.extend_from_slice(&streams.to_be_bytes());
    init.extend_from_slice(&streams.to_be_bytes());
    init.extend_from_slice(&FIRST.to_be_bytes());
    write_parameter(0xc000, &[], &mut init);
    init
}

fn data(tsn: u32, stream: u16, ssn: u16, protocol: u32, bytes: &[u8]) -> Vec<u8> {
    let mut data = tsn.to_be_bytes().to_vec();
    data.extend_from_slice(&stream.to_be_bytes());
    data.extend_from_slice(&ssn.to_be_bytes());
    data.extend_from_slice(&protocol.to_be_bytes());
    data.extend_from_slice(bytes);
    data
}

fn reset(number: u32, last_tsn: u32, stream: u16) -> Vec<u8> {
    let mut request = number.to_be_bytes().to_vec();
    request.extend_from_slice(&[0; 4]);
    request.extend_from_slice(&last_tsn.to_be_bytes());
    request.extend_from_slice(&stream.to_be_bytes());
    let mut value = Vec::new();
    write_parameter(13, &request, &mut value);
    value.truncate(4 + request.len());
    value
}

impl Attacker {
    /// One whose association is up.
    fn new() -> Attacker {
        let now = start();
        let mut attacker = Attacker {
            now,
            server: DataTransport::new(now, DtlsRole::Server, DATA_MESSAGE_BYTES_MAX),
            tag: 0,
            tsn: FIRST,
        };
        let answer = attacker.send(&[(kind::INIT, 0, &init(TAG, 1 << 20, u16::MAX))]);
        let (_, answer) = chunks(&answer)[0].clone();
        assert!(answer[8..12] <= DATA_STREAMS_MAX.to_be_bytes().repeat(2)[..]);
        attacker.tag = u32_at(&answer, 0).unwrap();
        let cookie = answer[20..52].to_vec();
        let answer = attacker.send(&[(kind::COOKIE_ECHO, 0, &cookie)]);
        assert_eq!(chunks(&answer)[0].0, kind::COOKIE_ACK);
        attacker
    }

    fn send(&mut self, written: &[Written<'_>]) -> Vec<Bytes> {
        self.send_packet(&packet(self.tag, written))
    }

    fn send_packet(&mut self, packet: &[u8]) -> Vec<Bytes> {
        self.server.handle_packet(self.now, packet);
        self.answers()
    }

    fn answers(&mut self) -> Vec<Bytes> {
        std::iter::from_fn(|| self.server.poll_transmit()).collect()
    }

    /// Sends the next chunk of data, whole unless its flags say otherwise.
    fn data(
        &mut self,
        flags: u8,
        stream: u16,
        ssn: u16,
        protocol: u32,
        bytes: &[u8],
    ) -> Vec<Bytes> {
        let value = data(self.tsn, stream, ssn, protocol, bytes);
        self.tsn = self.tsn.wrapping_add(1);
        self.send(&[(kind::DATA, flags, &value)])
    }

    fn open(&mut self, stream: u16) -> Vec<Bytes> {
        let open = super::super::dcep::write_open(&channel("room"));
        self.data(0b11, stream, 0, 50, &open)
    }

    /// A message still finds its way: nothing of what was done has broken the association.
    fn still_works(&mut self) {
        self.open(1_000);
        self.data(0b11, 1_000, 1, 51, b"alive");
        let alive = DataEvent::Received {
            channel: ChannelId(1_000),
            message: text("alive"),
        };
        let told: Vec<DataEvent> = std::iter::from_fn(|| self.server.poll_event()).collect();
        assert!(told.contains(&alive), "{told:?}");
    }
}

fn chunks(packets: &[Bytes]) -> Vec<(u8, Vec<u8>)> {
    let parsed = packets.iter().map(|bytes| Packet::parse(bytes).unwrap());
    let chunks = parsed.flat_map(|packet| packet.chunks().collect::<Vec<_>>());
    chunks
        .map(|chunk| chunk.unwrap())
        .map(|chunk| (chunk.kind, chunk.value.to_vec()))
        .collect()
}

#[test]
fn t_22_an_association_is_asked_for_properly_or_not_at_all() {
    let good = init(TAG, 1 << 20, 10);
    for (what, tag, written) in [
        ("tag 0", 0, vec![(kind::INIT, 0, &init(0, 1 << 20, 10)[..])]),
        (
            "no streams",
            0,
            vec![(kind::INIT, 0, &init(TAG, 1 << 20, 0)[..])],
        ),
        (
            "no window",
            0,
            vec![(kind::INIT, 0, &init(TAG, 100, 10)[..])],
        ),
        ("cut short", 0, vec![(kind::INIT, 0, &good[..15])]),
        ("under a tag", 7, vec![(kind::INIT, 0, &good[..])]),
        (
            "in company",
            0,
            vec![(kind::INIT, 0, &good[..]), (kind::COOKIE_ACK, 0, &[])],
        ),
        ("not at all", 0, vec![(kind::COOKIE_ECHO, 0, &[1; 32][..])]),
    ] {
        let now = start();
        let mut server = DataTransport::new(now, DtlsRole::Server, DATA_MESSAGE_BYTES_MAX);
        server.handle_packet(now, &packet(tag, &written));
        assert_eq!(server.poll_transmit(), None, "{what}");
        assert_eq!(server.take_drops().malformed, 1, "{what}");
    }
}

#[test]
fn t_22_a_repeated_wish_gets_the_same_answer_and_another_one_a_new_association() {
    let now = start();
    let mut server = DataTransport::new(now, DtlsRole::Server, DATA_MESSAGE_BYTES_MAX);
    let ask = |tag| packet(0, &[(kind::INIT, 0, &init(tag, 1 << 20, 10))]);
    let mut answers = BTreeSet::new();
    for tag in [1, 1, 1, 2, 2] {
        server.handle_packet(now, &ask(tag));
        answers.insert(server.poll_transmit().unwrap());
        assert_eq!(server.poll_transmit(), None);
    }
    assert_eq!(answers.len(), 2);
    // Once it is up, nobody begins it again.
    let mut attacker = Attacker::new();
    assert!(attacker.send_packet(&ask(3)).is_empty());
    attacker.still_works();
}

#[test]
fn t_22_another_checksum_or_another_tag_is_dropped() {
    let mut attacker = Attacker::new();
    let abort = packet(attacker.tag, &[(kind::ABORT, 0, &[])]);
    for at in 0..abort.len() {
        let mut broken = abort.to_vec();
        broken[at] ^= 0x10;
        assert!(attacker.send_packet(&broken).is_empty());
    }
    for tag in [0, TAG, !attacker.tag] {
        assert!(
            attacker
                .send_packet(&packet(tag, &[(kind::ABORT, 0, &[])]))
                .is_empty()
        );
    }
    let malformed = attacker.server.take_drops().malformed;
    assert_eq!(malformed, abort.len() as u64 + 3);
    attacker.still_works();
}

#[test]
fn t_22_lengths_that_do_not_fit_are_dropped() {
    let mut attacker = Attacker::new();
    let whole = packet(
        attacker.tag,
        &[(kind::HEARTBEAT, 0, &[0, 1, 0, 8, 1, 2, 3, 4])],
    );
    for len in 0..whole.len() {
        attacker.send_packet(&whole[..len]);
    }
    for (chunk, value) in [
        (kind::DATA, &[0; 12][..]),
        (kind::SACK, &[0; 11]),
        (
            kind::SACK,
            &[0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        ),
        (kind::FORWARD_TSN, &[0; 3]),
        (kind::FORWARD_TSN, &[0; 6]),
        (kind::HEARTBEAT, &[]),
        (kind::HEARTBEAT, &[0, 1, 0xff, 0xff]),
        (kind::RECONFIG, &[0, 13, 0, 3]),
        (kind::RECONFIG, &[0, 13, 0, 8, 0, 0, 0, 1]),
        (kind::RECONFIG, &[0, 16, 0, 8, 0, 0, 0, 1]),
        (kind::SHUTDOWN, &[0; 3]),
        (kind::COOKIE_ECHO, &[]),
    ] {
        attacker.server.take_drops();
        attacker.send(&[(chunk, 0, value)]);
        let malformed = attacker.server.take_drops().malformed;
        assert_eq!(malformed, 1, "chunk {chunk} with {value:?}");
    }
    // The crate would read an error cause of 65,535 bytes.
    attacker.send(&[(ERROR, 0, &[0, 1, 0xff, 0xff])]);
    attacker.still_works();
    attacker.send(&[(kind::ABORT, 0, &[0, 1, 0xff, 0xff])]);
    let closed = std::iter::from_fn(|| attacker.server.poll_event()).last();
    assert!(
        matches!(closed, Some(DataEvent::Closed { .. })),
        "{closed:?}"
    );
}

#[test]
fn t_22_a_jump_is_not_walked() {
    let mut attacker = Attacker::new();
    for jump in [DATA_FORWARD_MAX + 1, 1 << 30, u32::MAX / 2 - 1] {
        let far = FIRST.wrapping_sub(1).wrapping_add(jump).to_be_bytes();
        attacker.send(&[(kind::FORWARD_TSN, 0, &far)]);
        assert_eq!(attacker.server.take_drops().over_limit, 1, "{jump}");
    }
    attacker.still_works();
    // A step that a client may take, with streams that nobody has.
    attacker.tsn = attacker.tsn.wrapping_add(DATA_FORWARD_MAX / 2);
    let mut far = attacker.tsn.wrapping_sub(1).to_be_bytes().to_vec();
    far.extend_from_slice(&[0xff; 40]);
    attacker.send(&[(kind::FORWARD_TSN, 0, &far)]);
    attacker.data(0b11, 1_000, 2, 51, b"on");
    let told = std::iter::from_fn(|| attacker.server.poll_event());
    assert_eq!(told.count(), 1, "{:?}", attacker.server.take_drops());
}

#[test]
fn t_22_chunks_that_wait_for_others_take_bounded_memory() {
    // A message without end, and messages behind one that never comes: full ones and tiny ones.
    for (flags, step, len) in [(0b00, 0, 1_100), (0b11, 1, 1_100), (0b11, 1, 1)] {
        let mut attacker = Attacker::new();
        attacker.data(0b10, 5, 1, 51, &[0]);
        let count = 4 * DATA_RECEIVED_BYTES_MAX / (len + DATA_CHUNK_OVERHEAD_BYTES);
        let mut acknowledged = 0;
        for number in 0..count {
            let ssn = 1 + step * number as u16;
            attacker.data(flags, 5, ssn, 51, &vec![0; len]);
            let answers = attacker.answers();
            acknowledged += chunks(&answers).len();
        }
        let held = attacker.server.gate.held_bytes();
        assert!(held <= 2 * DATA_RECEIVED_BYTES_MAX, "{held}");
        let refused = attacker.server.take_drops().over_limit as usize;
        assert!(refused > count / 4, "{refused} of {count}, {acknowledged}");
    }
}

#[test]
fn t_22_numbers_far_ahead_are_not_kept() {
    let mut attacker = Attacker::new();
    // The first is missing, the last is as far away as can be, and the gap is filled for ever.
    for number in 0..20_000_u32 {
        let ahead = if number == 0 { 1 << 30 } else { number };
        let value = data(FIRST.wrapping_add(ahead), 5, 0, 51, b"x");
        attacker.send(&[(kind::DATA, 0b111, &value)]);
    }
    let refused = attacker.server.take_drops().over_limit;
    assert!(refused > 17_000, "{refused}");
}

#[test]
fn t_22_streams_are_bounded_and_what_nobody_reads_is_acknowledged() {
    let mut attacker = Attacker::new();
    let mut acknowledged = None;
    for stream in DATA_STREAMS_MAX..=u16::MAX {
        let answers = attacker.data(0b11, stream, 0, 51, b"nobody has it");
        let mut sacks = chunks(&answers)
            .into_iter()
            .filter(|(chunk, _)| *chunk == kind::SACK);
        acknowledged = sacks.next_back().or(acknowledged);
    }
    let acknowledged = acknowledged.and_then(|(_, sack)| u32_at(&sack, 0));
    assert_eq!(acknowledged, Some(attacker.tsn.wrapping_sub(1)));
    assert_eq!(attacker.server.sizes().streams, 1, "all in one");
    // Openings that never end.
    for stream in 0..DATA_STREAMS_MAX {
        attacker.data(0b10, stream, 0, 50, &[3]);
    }
    let State { streams, channels } = attacker.server.sizes();
    assert_eq!((streams, channels), (usize::from(DATA_STREAMS_MAX) + 1, 0));
}

#[test]
fn t_22_resets_that_wait_for_ever_are_few() {
    let mut attacker = Attacker::new();
    attacker.open(1);
    let far = attacker.tsn.wrapping_add(1_000_000);
    let mut answers = 0;
    for number in 0..1_000 {
        answers += attacker
            .send(&[(kind::RECONFIG, 0, &reset(number, far, 1))])
            .len();
    }
    let refused = attacker.server.take_drops().over_limit;
    assert_eq!(refused, 1_000 - DATA_RESETS_DEFERRED_MAX as u64);
    assert_eq!(answers, DATA_RESETS_DEFERRED_MAX);
    attacker.still_works();
}

#[test]
fn t_22_who_never_answers_our_resets_is_cut_off() {
    let mut attacker = Attacker::new();
    for cycle in 0..10_000 {
        let answers = attacker.open(1);
        if chunks(&answers)
            .iter()
            .any(|(chunk, _)| *chunk == kind::ABORT)
        {
            panic!("cut off in the middle of an opening");
        }
        let last = attacker.tsn.wrapping_sub(1);
        let answers = attacker.send(&[(kind::RECONFIG, 0, &reset(cycle, last, 1))]);
        if chunks(&answers)
            .iter()
            .any(|(chunk, _)| *chunk == kind::ABORT)
        {
            assert_eq!(cycle, DATA_RESETS_UNANSWERED_MAX as u32);
            assert_eq!(attacker.server.poll_timeout(), None);
            return;
        }
    }
    panic!("never cut off");
}

#[test]
fn t_22_sixty_five_thousand_openings_and_closings_leave_nothing() {
    let network = LinkSpec {
        latency: Duration::ZERO,
        ..LinkSpec::default()
    };
    let mut pair = Pair::connected(network, 21);
    for cycle in 0..65_000_u32 {
        let stream = (cycle % 7) as u16;
        pair.browser.open(pair.now, stream, &channel("room"));
        pair.run_for(Duration::from_millis(1));
        pair.browser.close(pair.now, stream);
        pair.run_for(Duration::from_millis(1));
        assert_eq!(pair.closed(), [stream], "cycle {cycle}");
        pair.events.clear();
        pair.browser.lost.clear();
        pair.browser.acknowledged.clear();
    }
    pair.run_for(Duration::from_secs(10));
    let State { streams, channels } = pair.server.sizes();
    assert_eq!((streams, channels), (0, 0));
    assert!(pair.server.take_drops().is_empty());
    assert_eq!(pair.server.poll_timeout(), None);
}

#[test]
fn t_22_false_acknowledgements_end_nothing_but_the_association() {
    let gaps = |cumulative: u32, from: u16, to: u16| {
        let mut sack = cumulative.to_be_bytes().to_vec();
        sack.extend_from_slice(&(1_u32 << 20).to_be_bytes());
        sack.extend_from_slice(&[0, 1, 0, 0]);
        sack.extend_from_slice(&from.to_be_bytes());
        sack.extend_from_slice(&to.to_be_bytes());
        sack
    };
    for (cumulative, from, to) in [
        (0, 1, 0xffff),
        (1 << 31, 1, 1),
        (u32::MAX, 0xffff, 0),
        (5, 0, 0),
    ] {
        let mut attacker = Attacker::new();
        attacker.open(1);
        attacker.send(&[(kind::SACK, 0, &gaps(cumulative, from, to))]);
        let request = DataRequest::Send {
            channel: ChannelId(1),
            message: text("into the void"),
        };
        attacker.server.handle_request(attacker.now, request);
        assert!(attacker.answers().len() < 10);
    }
}

#[test]
fn t_22_a_window_of_nothing_is_probed_and_not_flooded() {
    let mut attacker = Attacker::new();
    let answers = attacker.open(1);
    let sent = chunks(&answers)
        .into_iter()
        .find(|(chunk, _)| *chunk == kind::DATA);
    let mut sack = sent.unwrap().1[..4].to_vec();
    sack.extend_from_slice(&[0; 8]);
    attacker.send(&[(kind::SACK, 0, &sack)]);
    for _ in 0..100 {
        let message = binary(1_000);
        let channel = ChannelId(1);
        let request = DataRequest::Send { channel, message };
        attacker.server.handle_request(attacker.now, request);
    }
    let mut sent = attacker.answers().len();
    for _ in 0..600 {
        attacker.now += Duration::from_secs(1);
        attacker.server.handle_timeout(attacker.now);
        sent += attacker.answers().len();
    }
    assert!((1..60).contains(&sent), "{sent} packets in ten minutes");
}

#[test]
fn t_22_whatever_comes_nothing_panics_and_memory_stays_bounded() {
    for seed in 0..2_000 {
        let mut random = Rng::new(seed);
        let len = random.below(4_096);
        let bytes: Vec<u8> = (0..len)
            // Small numbers are what lengths and kinds are made of.
            .map(|_| {
                let below = if random.chance(0.5) { 8 } else { 256 };
                random.below(below) as u8
            })
            .collect();
        fuzz::association(&bytes);
    }
}

/// How much the transport holds.
struct State {
    streams: usize,
    channels: usize,
}

impl DataTransport {
    fn sizes(&self) -> State {
        State {
            streams: self.stream_count(),
            channels: self.channels.len(),
        }
    }
}
