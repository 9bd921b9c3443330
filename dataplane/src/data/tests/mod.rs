//! Channels in virtual time, against the crate's own association in the place of a browser's.

mod attacks;
pub(crate) mod browser;

use std::time::{Duration, Instant};

use bytes::Bytes;

use self::browser::Browser;
use super::*;
use crate::command::DtlsRole;
use crate::id::ChannelId;
use crate::limits::{
    DATA_CHANNELS_MAX, DATA_MESSAGE_BYTES_MAX, DATA_MESSAGES_PER_SECOND_MAX, DATA_SEND_BUFFER_BYTES,
};
use crate::sim::network::{Link, LinkSpec};

/// A browser and a session's transport with a network between them.
struct Pair {
    now: Instant,
    browser: Browser,
    server: DataTransport,
    up: Link<Bytes>,
    down: Link<Bytes>,
    events: Vec<DataEvent>,
}

#[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
fn start() -> Instant {
    Instant::now()
}

fn channel(label: &str) -> ChannelSpec {
    ChannelSpec {
        label: label.to_owned(),
        protocol: String::new(),
        ordered: true,
        reliability: Reliability::Reliable,
    }
}

fn lossy_channel(label: &str) -> ChannelSpec {
    ChannelSpec {
        ordered: false,
        reliability: Reliability::Retransmits(0),
        ..channel(label)
    }
}

fn text(text: &str) -> Message {
    Message {
        kind: MessageKind::Text,
        bytes: Bytes::copy_from_slice(text.as_bytes()),
    }
}

fn binary(len: usize) -> Message {
    let bytes = (0..len).map(|at| at as u8).collect();
    Message {
        kind: MessageKind::Binary,
        bytes,
    }
}

impl Pair {
    fn new(network: LinkSpec, seed: u64) -> Pair {
        let now = start();
        Pair {
            now,
            browser: Browser::new(now),
            server: DataTransport::new(now, DtlsRole::Server, DATA_MESSAGE_BYTES_MAX),
            up: Link::new(network, seed),
            down: Link::new(network, seed ^ 0xff),
            events: Vec::new(),
        }
    }

    /// One whose association is up.
    fn connected(network: LinkSpec, seed: u64) -> Pair {
        let mut pair = Pair::new(network, seed);
        pair.run_for(Duration::from_secs(20));
        assert!(pair.browser.is_connected());
        pair
    }

    /// Moves everything that is due, then time to the next thing, for so long.
    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let now = self.now;
            while let Some(packet) = self.up.poll_datagram(now) {
                self.server.handle_packet(now, &packet);
            }
            while let Some(packet) = self.down.poll_datagram(now) {
                self.browser.handle_packet(now, packet);
            }
            self.browser.handle_timeout(now);
            if self.server.poll_timeout().is_some_and(|due| due <= now) {
                self.server.handle_timeout(now);
            }
            while let Some(packet) = self.browser.poll_transmit(now) {
                self.up.handle_datagram(now, packet.len(), packet);
            }
            while let Some(packet) = self.server.poll_transmit() {
                self.down.handle_datagram(now, packet.len(), packet);
            }
            self.events
                .extend(std::iter::from_fn(|| self.server.poll_event()));
            let next = [
                self.up.poll_timeout(),
                self.down.poll_timeout(),
                self.browser.poll_timeout(),
                self.server.poll_timeout(),
            ];
            match next.into_iter().flatten().min() {
                Some(next) if next <= end => self.now = next.max(now),
                _ => break,
            }
        }
        self.now = end;
    }

    fn open(&mut self, stream: u16, spec: &ChannelSpec) {
        self.browser.open(self.now, stream, spec);
        self.run_for(Duration::from_secs(5));
        let opened = DataEvent::Opened {
            channel: ChannelId(stream),
            spec: spec.clone(),
        };
        assert!(self.events.contains(&opened), "{:?}", self.events);
    }

    fn send(&mut self, stream: u16, message: Message) {
        let channel = ChannelId(stream);
        let request = DataRequest::Send { channel, message };
        self.server.handle_request(self.now, request);
    }

    fn close(&mut self, stream: u16) {
        let channel = ChannelId(stream);
        let request = DataRequest::Close { channel };
        self.server.handle_request(self.now, request);
    }

    fn received(&self) -> Vec<(u16, Message)> {
        let received = self.events.iter().filter_map(|event| match event {
            DataEvent::Received { channel, message } => Some((channel.0, message.clone())),
            _ => None,
        });
        received.collect()
    }

    fn closed(&self) -> Vec<u16> {
        let closed = self.events.iter().filter_map(|event| match event {
            DataEvent::Closed { channel } => Some(channel.0),
            _ => None,
        });
        closed.collect()
    }
}

/// A bad network: a twentieth is lost, some comes twice or late.
fn bad_network() -> LinkSpec {
    LinkSpec {
        latency: Duration::from_millis(30),
        jitter: Duration::from_millis(10),
        loss: 0.05,
        reorder: 0.05,
        duplicate: 0.02,
        ..LinkSpec::default()
    }
}

#[test]
fn messages_go_both_ways_as_they_are() {
    let mut pair = Pair::connected(LinkSpec::default(), 1);
    pair.open(1, &channel("room"));
    assert!(pair.browser.acknowledged.contains(&1));
    let messages = [
        text("hello"),
        text(""),
        binary(0),
        binary(1),
        binary(1_172),
        binary(1_173),
        binary(DATA_MESSAGE_BYTES_MAX),
    ];
    for message in &messages {
        pair.browser.send(pair.now, 1, message);
        pair.send(1, message.clone());
        pair.run_for(Duration::from_secs(5));
    }
    let sent: Vec<(u16, Message)> = messages.iter().map(|sent| (1, sent.clone())).collect();
    assert_eq!(pair.received(), sent);
    assert_eq!(pair.browser.received, sent);
    assert!(pair.server.take_drops().is_empty());
}

#[test]
fn a_message_may_follow_its_channels_opening_at_once() {
    let mut pair = Pair::connected(bad_network(), 2);
    for stream in 0..20 {
        pair.browser.open(pair.now, stream, &channel("room"));
        pair.browser.send(pair.now, stream, &text("early"));
    }
    pair.run_for(Duration::from_secs(30));
    assert_eq!(pair.received().len(), 20);
    assert!(pair.closed().is_empty());
}

#[test]
fn a_reliable_channel_loses_nothing_on_a_bad_network() {
    let mut pair = Pair::connected(bad_network(), 3);
    pair.open(1, &channel("room"));
    for number in 0..200 {
        let message = text(&number.to_string());
        pair.browser.send(pair.now, 1, &message);
        pair.send(1, message);
        pair.run_for(Duration::from_millis(20));
    }
    pair.run_for(Duration::from_secs(60));
    let sent: Vec<(u16, Message)> = (0..200).map(|n: u32| (1, text(&n.to_string()))).collect();
    assert_eq!(pair.received(), sent);
    assert_eq!(pair.browser.received, sent);
}

#[test]
fn an_unreliable_channel_goes_on_past_what_was_lost() {
    let mut pair = Pair::connected(bad_network(), 4);
    pair.open(1, &lossy_channel("room"));
    for number in 0..200 {
        let message = text(&number.to_string());
        pair.browser.send(pair.now, 1, &message);
        pair.send(1, message);
        pair.run_for(Duration::from_millis(20));
    }
    pair.run_for(Duration::from_secs(60));
    for (side, received) in [
        ("server", pair.received().len()),
        ("browser", pair.browser.received.len()),
    ] {
        assert!((150..200).contains(&received), "{side}: {received}");
    }
    assert!(pair.closed().is_empty());
}

#[test]
fn either_side_closes_a_channel_and_its_stream_is_free_again() {
    let mut pair = Pair::connected(bad_network(), 5);
    for round in 0..10 {
        pair.events.clear();
        pair.browser.lost.clear();
        pair.open(1, &channel("room"));
        if round % 2 == 0 {
            pair.browser.close(pair.now, 1);
        } else {
            pair.close(1);
        }
        pair.run_for(Duration::from_secs(30));
        let told = if round % 2 == 0 { vec![1] } else { vec![] };
        assert_eq!(
            pair.closed(),
            told,
            "who asks for the end is not told of it"
        );
        assert_eq!(pair.browser.lost, [1], "round {round}");
    }
}

#[test]
fn what_arrives_on_a_channel_that_was_just_closed_holds_nothing_up() {
    let mut pair = Pair::connected(LinkSpec::default(), 6);
    pair.open(1, &channel("room"));
    pair.open(3, &channel("other"));
    pair.close(1);
    // Under way while the reset is.
    for _ in 0..5 {
        pair.browser.send(pair.now, 1, &binary(3_000));
    }
    pair.browser.send(pair.now, 3, &text("still here"));
    pair.run_for(Duration::from_secs(30));
    assert_eq!(pair.received(), [(3, text("still here"))]);
    assert_eq!(pair.browser.lost, [1], "and the browser is done with it");
    pair.open(1, &channel("again"));
}

#[test]
fn a_client_has_only_so_many_channels() {
    let mut pair = Pair::connected(LinkSpec::default(), 7);
    for stream in 0..40 {
        pair.browser.open(pair.now, stream, &channel("room"));
    }
    pair.run_for(Duration::from_secs(30));
    let opened = pair
        .events
        .iter()
        .filter(|event| matches!(event, DataEvent::Opened { .. }));
    assert_eq!(opened.count(), DATA_CHANNELS_MAX);
    assert_eq!(pair.browser.lost.len(), 40 - DATA_CHANNELS_MAX);
    let refused = pair.server.take_drops().channels_refused;
    assert_eq!(refused, (40 - DATA_CHANNELS_MAX) as u64);
    // A place that becomes free can be taken.
    pair.browser.close(pair.now, 0);
    pair.run_for(Duration::from_secs(5));
    pair.open(50, &channel("room"));
}

#[test]
fn who_does_not_read_costs_a_bounded_buffer() {
    for (spec, closes) in [(channel("room"), true), (lossy_channel("room"), false)] {
        let mut pair = Pair::connected(LinkSpec::default(), 8);
        pair.open(1, &spec);
        pair.down.set_spec(LinkSpec {
            loss: 1.0,
            ..LinkSpec::default()
        });
        let count = 4 * DATA_SEND_BUFFER_BYTES / 10_000;
        for _ in 0..count {
            pair.send(1, binary(10_000));
        }
        pair.run_for(Duration::from_millis(10));
        let dropped = pair.server.take_drops().buffer_full;
        if closes {
            assert_eq!((dropped, pair.closed()), (1, vec![1]));
        } else {
            let fit = (DATA_SEND_BUFFER_BYTES / 10_000) as u64;
            assert!(dropped.abs_diff(count as u64 - fit) < 5, "{dropped}");
            assert!(pair.closed().is_empty());
        }
    }
}

#[test]
fn who_sends_too_fast_is_held_to_the_rate() {
    for (spec, closes) in [(channel("room"), true), (lossy_channel("room"), false)] {
        let mut pair = Pair::connected(LinkSpec::default(), 9);
        pair.open(1, &spec);
        for _ in 0..1_000 {
            pair.browser.send(pair.now, 1, &text("flood"));
            pair.run_for(Duration::from_millis(1));
        }
        pair.run_for(Duration::from_secs(1));
        let received = pair.received().len();
        assert!(received <= 4 * DATA_MESSAGES_PER_SECOND_MAX as usize);
        assert!(pair.server.take_drops().over_rate > 0);
        assert_eq!(!pair.closed().is_empty(), closes);
    }
}

#[test]
fn whoever_lets_others_begin_with_dtls_is_asked() {
    let now = start();
    let client = DataTransport::new(now, DtlsRole::Client, DATA_MESSAGE_BYTES_MAX);
    let mut pair = Pair::new(bad_network(), 10);
    pair.server = client;
    // Both ask, as browsers do.
    pair.run_for(Duration::from_secs(20));
    pair.open(1, &channel("room"));
    // And one that waits to be asked.
    let mut pair = Pair::new(LinkSpec::default(), 11);
    pair.browser = Browser::waiting();
    pair.server = DataTransport::new(pair.now, DtlsRole::Client, DATA_MESSAGE_BYTES_MAX);
    pair.run_for(Duration::from_secs(20));
    pair.open(1, &channel("room"));
}

#[test]
fn a_client_that_takes_only_short_messages_gets_no_longer_ones() {
    let mut pair = Pair::new(LinkSpec::default(), 12);
    pair.server = DataTransport::new(pair.now, DtlsRole::Server, 1_000);
    pair.run_for(Duration::from_secs(5));
    pair.open(1, &lossy_channel("room"));
    pair.send(1, binary(1_001));
    pair.send(1, binary(1_000));
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.browser.received, [(1, binary(1_000))]);
}
