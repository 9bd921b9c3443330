//! The body of a test and of a fuzz target: a client that says anything under its association's tag
//! and with the right checksum, which is what a stranger cannot.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::packet::{Draft, Packet, kind, u32_at, write_parameter};
use super::{
    ChannelSpec, DataEvent, DataRequest, DataTransport, Message, MessageKind, Reliability, dcep,
};
use crate::command::DtlsRole;
use crate::id::ChannelId;
use crate::limits::{DATA_MESSAGE_BYTES_MAX, DATA_RECEIVED_BYTES_MAX, DATA_STREAMS_MAX};

/// Our tag and our first number.
const TAG: u32 = 0x1234_5678;
const FIRST: u32 = 1;

/// The kinds of chunks that are sent, known and unknown ones.
const KINDS: [u8; 16] = [0, 0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 14, 130, 192, 255];

/// From here on a first byte ends the packet, and lets time pass.
const PACKET_ENDS: u8 = 0xe0;

/// What four bytes say of a chunk: its kind, its flags, its number's distance from the next one, its
/// length. The chunk follows, and its first four bytes are that number.
const CHUNK_HEADER_BYTES: usize = 4;

/// Sends what `bytes` say and a message in between, and panics when the transport does, or keeps more
/// than it may.
pub fn association(bytes: &[u8]) {
    let Some((mut now, mut transport, tag)) = connected() else {
        panic!("a proper client connects");
    };
    let mut rest = bytes;
    let mut draft = Draft::new(5_000, 5_000, tag);
    while let Some((&[selector, flags, near, len], tail)) = rest.split_first_chunk() {
        if selector >= PACKET_ENDS {
            rest = rest.get(2..).unwrap_or_default();
            let packet = std::mem::replace(&mut draft, Draft::new(5_000, 5_000, tag)).finish();
            if let Some(packet) = packet {
                transport.handle_packet(now, &packet);
            }
            now += Duration::from_millis(u64::from(flags) * 8);
            exercise(&mut transport, now);
            continue;
        }
        let (value, tail) = tail
            .split_at_checked(usize::from(len % 64))
            .unwrap_or((tail, &[]));
        rest = tail;
        let mut value = value.to_vec();
        if let Some(number) = value.first_chunk_mut() {
            let near = FIRST.wrapping_add(u32::from(near)).wrapping_sub(16);
            *number = near.to_be_bytes();
        }
        let kind = KINDS.get(usize::from(selector) % KINDS.len());
        draft.push(*kind.unwrap_or(&0), flags, &value);
    }
    assert!(CHUNK_HEADER_BYTES > rest.len(), "all of it was said");
}

/// Lets the transport do what is due and send a message, and looks at what it keeps.
fn exercise(transport: &mut DataTransport, now: Instant) {
    if transport.poll_timeout().is_some_and(|due| due <= now) {
        transport.handle_timeout(now);
    }
    let message = Message {
        kind: MessageKind::Text,
        bytes: Bytes::from_static(b"in between"),
    };
    let channel = ChannelId(1);
    transport.handle_request(now, DataRequest::Send { channel, message });
    let packets = std::iter::from_fn(|| transport.poll_transmit()).count();
    assert!(packets < 4_096, "{packets} packets for one");
    while transport.poll_event().is_some() {}
    let held = transport.gate.held_bytes();
    assert!(held <= 2 * DATA_RECEIVED_BYTES_MAX, "{held} bytes");
    let streams = transport.stream_count();
    assert!(streams <= usize::from(DATA_STREAMS_MAX) + 1, "{streams}");
}

/// A transport with an association and a channel, its tag, and when that was.
fn connected() -> Option<(Instant, DataTransport, u32)> {
    #[expect(clippy::disallowed_methods, reason = "only differences to it matter")]
    let now = Instant::now();
    let mut transport = DataTransport::new(now, DtlsRole::Server, DATA_MESSAGE_BYTES_MAX);
    let mut init = TAG.to_be_bytes().to_vec();
    init.extend_from_slice(&(1_u32 << 20).to_be_bytes());
    init.extend_from_slice(&[0, 100, 0, 100]);
    init.extend_from_slice(&FIRST.to_be_bytes());
    write_parameter(0xc000, &[], &mut init);
    let mut draft = Draft::new(5_000, 5_000, 0);
    draft.push(kind::INIT, 0, &init);
    transport.handle_packet(now, &draft.finish()?);
    let answer = transport.poll_transmit()?;
    let answer = Packet::parse(&answer).ok()?.chunks().next()?.ok()?.value;
    let tag = u32_at(answer, 0)?;
    let mut draft = Draft::new(5_000, 5_000, tag);
    draft.push(kind::COOKIE_ECHO, 0, answer.get(20..52)?);
    let open = dcep::write_open(&ChannelSpec {
        label: "room".to_owned(),
        protocol: String::new(),
        ordered: true,
        reliability: Reliability::Reliable,
    });
    let mut data = FIRST.to_be_bytes().to_vec();
    data.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 50]);
    data.extend_from_slice(&open);
    draft.push(kind::DATA, 0b11, &data);
    transport.handle_packet(now, &draft.finish()?);
    let told = transport.poll_event()?;
    matches!(told, DataEvent::Opened { .. }).then_some((now, transport, tag))
}
