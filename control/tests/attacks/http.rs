//! Bytes that are hardly HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::Node;

/// Memory that the node may take for all that one connection does, in bytes.
const GROWTH_MAX: u64 = 32 << 20;

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM_AND_HEADERS: u8 = 5;

/// `GET /` of `http://a`, by the static table of RFC 7541.
const REQUEST: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 1, b'a'];

/// A connection that speaks HTTP/2 already.
fn http2(node: &Node) -> TcpStream {
    let mut stream = node.connect();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    stream
}

/// Writes until the node does not want to hear more, at most so many bytes; how many it were.
fn flood(stream: &mut TcpStream, most: usize, mut next: impl FnMut() -> Vec<u8>) -> usize {
    let mut written = 0;
    while written < most {
        let bytes = next();
        if stream.write_all(&bytes).is_err() {
            break;
        }
        written += bytes.len();
    }
    written
}

/// Whether the node ended the connection, with whatever last words.
fn is_ended(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 16 << 10];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn x_08_streams_reset_as_soon_as_they_are_opened_end_the_connection() {
    // CVE-2023-44487.
    let node = Node::start("rapid-reset", "info");
    let before = node.resident_bytes();
    let mut stream = http2(&node);
    let mut id = 1;
    flood(&mut stream, 4 << 20, || {
        let open = frame(HEADERS, END_STREAM_AND_HEADERS, id, &REQUEST);
        let reset = frame(RST_STREAM, 0, id, &8_u32.to_be_bytes());
        id += 2;
        [open, reset].concat()
    });
    assert!(is_ended(&mut stream));
    node.assert_alive();
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown}");
}

#[test]
fn x_08_headers_without_end_end_the_connection() {
    // CVE-2024-27316 and its like: CONTINUATION upon CONTINUATION.
    let node = Node::start("continuation", "info");
    let before = node.resident_bytes();
    let mut stream = http2(&node);
    stream.write_all(&frame(HEADERS, 1, 1, &REQUEST)).unwrap();
    // A header that is not in the table: one letter, and a value of a hundred.
    let header = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
    let block = header.repeat(150);
    flood(&mut stream, 64 << 20, || frame(CONTINUATION, 0, 1, &block));
    assert!(is_ended(&mut stream));
    node.assert_alive();
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown}");
}

#[test]
fn x_09_a_frame_and_a_header_without_end_are_not_waited_for() {
    let node = Node::start("endless", "info");
    let before = node.resident_bytes();
    // A WebSocket's frame that says it has an exbibyte (CVE-2023-43669 was of its header's).
    let mut stream = node.websocket();
    let mut header = vec![0x81, 0xff];
    header.extend((1_u64 << 60).to_be_bytes());
    header.extend([0; 4]);
    stream.write_all(&header).unwrap();
    flood(&mut stream, 64 << 20, || vec![b' '; 64 << 10]);
    assert!(is_ended(&mut stream));
    // A request whose headers never end.
    let mut stream = node.connect();
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    flood(&mut stream, 64 << 20, || {
        b"X-Filler: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(100)
    });
    assert!(is_ended(&mut stream));
    // A body longer than any offer.
    let body = "v=0\r\n".repeat(200_000);
    let mut stream = node.connect();
    write!(
        stream,
        "POST /v1/rooms/r/whip HTTP/1.1\r\nHost: {}\r\nContent-Type: application/sdp\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        node.host
    )
    .unwrap();
    let chunk = format!("{:x}\r\n{body}\r\n", body.len());
    flood(&mut stream, 64 << 20, || chunk.clone().into_bytes());
    assert!(is_ended(&mut stream));
    node.assert_alive();
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown}");
}
