//! What a camera sends in its RTSP connection: answers (RFC 2326 section 7), and packets between them (section 10.12).

use super::super::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX};
use super::failure::Failure;

/// Headers of an answer that are kept; more are passed over.
const HEADERS_MAX: usize = 64;

/// Letters of a method; the longest has 13.
const METHOD_MAX: usize = 20;

/// Bytes that may wait: the longest head and body, or the longest packet.
const WAITING_MAX: usize = HEAD_BYTES_MAX + BODY_BYTES_MAX + 4;

/// An answer of a camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status code.
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    /// The body; empty without one.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The first header of this name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    /// All headers of this name.
    pub(super) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// One thing that a camera sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// A packet on a channel.
    Packet {
        /// The channel.
        channel: u8,
        /// RTP or RTCP.
        bytes: &'a [u8],
    },
    /// An answer.
    Answer(Answer),
    /// A request of the camera's own, which is passed over.
    Request,
}

/// Cuts what a camera sends into messages. Bytes are put in by [`Inbox::room`] and [`Inbox::filled`], and messages
/// taken out by [`Inbox::poll_message`] until there is none.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// What was taken out already.
    from: usize,
    /// What is filled.
    to: usize,
}

impl Inbox {
    /// Where the next bytes go.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.from > 0 {
            self.bytes.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        // Grows to what a camera sends at once, and no further than a message may be long.
        if self.to == self.bytes.len() {
            let len = (self.bytes.len() * 2).clamp(8_192, WAITING_MAX + 4_096);
            self.bytes.resize(len, 0);
        }
        &mut self.bytes[self.to..]
    }

    /// So many bytes were written there.
    pub(super) fn filled(&mut self, len: usize) {
        self.to = (self.to + len).min(self.bytes.len());
    }

    /// The next message; `None` where more bytes are needed.
    ///
    /// # Errors
    /// What cannot be a message, or would be too long.
    pub(super) fn poll_message(&mut self) -> Result<Option<Message<'_>>, Failure> {
        // Some cameras put empty lines between messages.
        while let Some(b'\r' | b'\n') = self.bytes[self.from..self.to].first() {
            self.from += 1;
        }
        let rest = &self.bytes[self.from..self.to];
        match rest {
            [b'$', channel, high, low, after @ ..] => {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                let Some(bytes) = after.get(..len) else {
                    return Ok(None);
                };
                self.from += 4 + len;
                Ok(Some(Message::Packet {
                    channel: *channel,
                    bytes,
                }))
            }
            [] | [b'$', ..] => Ok(None),
            _ => {
                let Some((head_len, head)) = head(rest)? else {
                    return Ok(None);
                };
                let body_len = head.body_len?;
                if body_len > BODY_BYTES_MAX {
                    return Err(Failure::LongBody);
                }
                let Some(body) = rest.get(head_len..head_len + body_len) else {
                    return Ok(None);
                };
                self.from += head_len + body_len;
                Ok(Some(match head.status {
                    Some(status) => Message::Answer(Answer {
                        status,
                        headers: head.headers,
                        body: body.to_vec(),
                    }),
                    None => Message::Request,
                }))
            }
        }
    }
}

/// What a head says.
struct Head {
    /// Of an answer.
    status: Option<u16>,
    headers: Vec<(String, String)>,
    body_len: Result<usize, Failure>,
}

/// The head that these bytes begin with, and its length; `None` where it has not ended.
fn head(rest: &[u8]) -> Result<Option<(usize, Head)>, Failure> {
    // "RTSP/" or a method: capital letters, so that what is no message is known by its first bytes.
    let word = rest
        .split(|byte| b" /".contains(byte))
        .next()
        .unwrap_or_default();
    let is_capital = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'_';
    if word.is_empty() || word.len() > METHOD_MAX || !word.iter().all(is_capital) {
        return Err(Failure::OutOfStep);
    }
    let window = &rest[..rest.len().min(HEAD_BYTES_MAX)];
    let Some(len) = end_of_head(window) else {
        let line_end = window.iter().position(|&byte| byte == b'\n');
        let first = &window[..line_end.unwrap_or(window.len())];
        return match () {
            () if !first
                .iter()
                .all(|&byte| (b' '..127).contains(&byte) || byte == b'\r') =>
            {
                Err(Failure::OutOfStep)
            }
            () if window.len() == HEAD_BYTES_MAX => Err(Failure::LongHead),
            () => Ok(None),
        };
    };
    let text = String::from_utf8_lossy(&window[..len]);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let status = match first.strip_prefix("RTSP/") {
        Some(answer) => {
            let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
            Some(
                status
                    .filter(|code| (100..1_000).contains(code))
                    .ok_or(Failure::OutOfStep)?,
            )
        }
        None if first.contains(" RTSP/") => None,
        None => return Err(Failure::OutOfStep),
    };
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .take(HEADERS_MAX)
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let body_len = match length.map(|(_, value)| value) {
        None => Ok(0),
        Some(value) if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() => {
            Ok(value.parse().unwrap_or(usize::MAX))
        }
        Some(_) => Err(Failure::OutOfStep),
    };
    let head = Head {
        status,
        headers,
        body_len,
    };
    Ok(Some((len, head)))
}

/// Bytes up to the end of the empty line, in either form of line ends.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut line_start = 0;
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        if matches!(&bytes[line_start..at], [] | [b'\r']) {
            return Some(at + 1);
        }
        line_start = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of these bytes, given in pieces of this length.
    fn messages(bytes: &[u8], piece: usize) -> Result<Vec<String>, Failure> {
        let mut inbox = Inbox::default();
        let mut seen = Vec::new();
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                let room = inbox.room();
                let len = room.len().min(piece.len());
                room[..len].copy_from_slice(&piece[..len]);
                inbox.filled(len);
                piece = &piece[len..];
                while let Some(message) = inbox.poll_message()? {
                    seen.push(match message {
                        Message::Packet { channel, bytes } => format!("{channel}:{}", bytes.len()),
                        Message::Answer(answer) => {
                            format!("{} {}", answer.status, answer.body.len())
                        }
                        Message::Request => "request".to_owned(),
                    });
                }
            }
        }
        Ok(seen)
    }

    #[test]
    fn answers_and_packets_are_told_apart_however_they_arrive() {
        let mut bytes = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\ncontent-length:  3\r\n\r\nabc".to_vec();
        bytes.extend([b'$', 2, 0, 3, 1, 2, 3, b'\r', b'\n', b'$', 0, 0xFF, 0xFF]);
        bytes.extend([7; 65_535]);
        bytes.extend(b"OPTIONS rtsp://node/ RTSP/1.0\nCSeq: 9\n\nRTSP/1.0 401 No\r\n\r\n");
        for piece in [1, 7, 1_000, 200_000] {
            let seen = messages(&bytes, piece).unwrap();
            assert_eq!(seen, ["200 3", "2:3", "0:65535", "request", "401 0"]);
        }
    }

    #[test]
    fn t_34_heads_and_bodies_without_end_are_not_waited_for() {
        let mut head = b"RTSP/1.0 200 OK\r\n".to_vec();
        while head.len() < 1_000_000 {
            head.extend(b"X-Again: and again\r\n");
        }
        assert_eq!(messages(&head, 1_000), Err(Failure::LongHead));
        let body = b"RTSP/1.0 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n";
        assert_eq!(messages(body, 10), Err(Failure::LongBody));
        let body = b"RTSP/1.0 200 OK\r\nContent-Length: 65537\r\n\r\n";
        assert_eq!(messages(body, 10), Err(Failure::LongBody));
        let body = b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n";
        assert_eq!(messages(body, 10), Err(Failure::OutOfStep));
    }

    #[test]
    fn t_34_interleaving_that_lost_its_place_is_noticed() {
        for bytes in [
            &b"$\0\0\x02abHello"[..],
            b"\x80\x60\0\0",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"RTSP/1.0 abc OK\r\n\r\n",
            b"RTSP/1.0 99999 OK\r\n\r\n",
            b"G\x80\x60\x01\x02",
        ] {
            assert_eq!(messages(bytes, 3), Err(Failure::OutOfStep), "{bytes:?}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut inbox = Inbox::default();
        for n in 0..10_000 {
            let len = inbox.room().len();
            inbox.room().fill(b'A');
            if n == 0 {
                inbox.room()[..5].copy_from_slice(b"RTSP/");
            }
            inbox.filled(len);
            if inbox.poll_message().is_err() {
                break;
            }
        }
        assert!(inbox.bytes.len() <= WAITING_MAX + 4_096);
    }
}
