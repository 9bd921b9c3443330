//! Conversations with cameras, without sockets.

use url::Url;

use super::super::order::Transport;
use super::failure::Failure;
use super::message::{Answer, Inbox, Message};
use super::talk::{Sockets, Talk};

const DESCRIPTION: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n\
    m=audio 0 RTP/AVP 0\r\na=control:rtsp://other/track2\r\n";

#[derive(Default)]
struct Fake {
    open: Vec<usize>,
    aimed: Vec<(usize, u16, u16)>,
}

impl Sockets for Fake {
    fn open(&mut self, media: usize) -> Result<u16, Failure> {
        self.open.push(media);
        Ok(5_000)
    }

    fn aim(&mut self, media: usize, rtp: u16, rtcp: u16) {
        self.aimed.push((media, rtp, rtcp));
    }

    fn close(&mut self, media: usize) {
        self.open.retain(|open| *open != media);
    }
}

fn answer(text: &str) -> Answer {
    let mut inbox = Inbox::default();
    let room = inbox.room();
    room[..text.len()].copy_from_slice(text.as_bytes());
    inbox.filled(text.len());
    match inbox.poll_message() {
        Ok(Some(Message::Answer(answer))) => answer,
        other => panic!("{other:?}"),
    }
}

/// A conversation, its sockets, and what the client was answered last.
struct Line {
    talk: Talk,
    sockets: Fake,
}

impl Line {
    fn new(url: &str, transport: Transport) -> Line {
        let credentials = Some(("n4me".to_owned(), "s3cret".to_owned()));
        let url = Url::parse(url).unwrap();
        Line {
            talk: Talk::new("token".to_owned(), url, credentials, transport),
            sockets: Fake::default(),
        }
    }

    /// The client asks; what the camera is asked.
    fn asks(&mut self, method: &str, path: &str, headers: &str) -> String {
        let head =
            format!("{method} rtsp://127.0.0.1:9/token{path} RTSP/1.0\r\nCSeq: 77\r\n{headers}");
        assert!(self.talk.is_ours(&head));
        self.talk.handle_request(&head, &mut self.sockets).unwrap();
        String::from_utf8(self.talk.poll_for_camera()).unwrap()
    }

    /// The camera answers; what it is asked then, and what the client is told.
    fn answers(&mut self, text: &str) -> Result<(String, String), Failure> {
        self.talk.handle_answer(&answer(text), &mut self.sockets)?;
        let for_camera = String::from_utf8(self.talk.poll_for_camera()).unwrap();
        let for_client = String::from_utf8(self.talk.poll_for_client()).unwrap();
        Ok((for_camera, for_client))
    }

    fn described(&mut self, headers: &str) {
        self.asks("DESCRIBE", "", "Accept: application/sdp\r\n");
        let len = DESCRIPTION.len();
        let text = format!(
            "RTSP/1.0 200 OK\r\nCSeq: 1\r\n{headers}Content-Length: {len}\r\n\r\n{DESCRIPTION}"
        );
        let (_, told) = self.answers(&text).unwrap();
        assert!(
            told.contains("a=control:s1") && !told.contains("other"),
            "{told}"
        );
    }
}

const SET_UP: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";

#[test]
fn the_camera_is_asked_at_its_own_addresses() {
    let mut line = Line::new("rtsp://cam:8554/live?channel=1", Transport::Auto);
    let asked = line.asks("DESCRIBE", "", "Accept: application/sdp\r\n");
    assert!(asked.starts_with("DESCRIBE rtsp://cam:8554/live?channel=1 RTSP/1.0\r\n"));
    assert!(!asked.contains("127.0.0.1") && !asked.contains("token"));
    let mut line = Line::new("rtsp://cam/live?channel=1", Transport::Auto);
    line.described("Content-Base: rtsp://cam/live/\r\n");
    let asked = line.asks("SETUP", "/s0", SET_UP);
    assert!(
        asked.starts_with("SETUP rtsp://cam/live/track1 RTSP/1.0\r\n"),
        "{asked}"
    );
    let transport = "Session: abc;timeout=90\r\nTransport: RTP/AVP/TCP;interleaved=6-7\r\n";
    let (_, told) = line
        .answers(&format!("RTSP/1.0 200 OK\r\nCSeq: 2\r\n{transport}\r\n"))
        .unwrap();
    assert!(told.contains("Session: abc;timeout=90") && told.contains("interleaved=0-1"));
    assert_eq!(line.talk.stream_of(6), Some((0, false)));
    assert_eq!(line.talk.stream_of(7), Some((0, true)));
    assert_eq!(line.talk.stream_of(0), None);
    let asked = line.asks(
        "SETUP",
        "/s1",
        "Transport: RTP/AVP/TCP;unicast;interleaved=2-3\r\n",
    );
    assert!(asked.starts_with("SETUP rtsp://other/track2 RTSP/1.0\r\n"));
    assert!(asked.contains("Session: abc\r\n"));
}

#[test]
fn where_the_connection_is_refused_datagrams_are_asked_for() {
    let mut line = Line::new("rtsp://cam/live", Transport::Auto);
    line.described("");
    line.asks("SETUP", "/s0", SET_UP);
    let (asked, told) = line.answers("RTSP/1.0 461 No\r\nCSeq: 2\r\n\r\n").unwrap();
    assert!(
        asked.contains("Transport: RTP/AVP;unicast;client_port=5000-5001\r\n"),
        "{asked}"
    );
    assert_eq!(told, "");
    let transport = "Session: abc\r\nTransport: RTP/AVP;unicast;client_port=5000-5001;server_port=7000-7001;source=10.0.0.1\r\n";
    let (_, told) = line
        .answers(&format!("RTSP/1.0 200 OK\r\nCSeq: 3\r\n{transport}\r\n"))
        .unwrap();
    assert!(told.contains("interleaved=0-1") && !told.contains("10.0.0.1"));
    assert_eq!(line.sockets.aimed, [(0, 7_000, 7_001)]);
    let mut line = Line::new("rtsp://cam/live", Transport::Tcp);
    line.described("");
    line.asks("SETUP", "/s0", SET_UP);
    let refused = line.answers("RTSP/1.0 461 No\r\nCSeq: 2\r\n\r\n");
    assert_eq!(refused, Err(Failure::Transport));
}

#[test]
fn a_challenge_is_answered_by_digest_where_there_is_a_choice() {
    let mut line = Line::new("rtsp://cam/live", Transport::Auto);
    line.asks("DESCRIBE", "", "");
    let challenge = "RTSP/1.0 401 No\r\nCSeq: 1\r\nWWW-Authenticate: Basic realm=\"r\"\r\n\
        WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n\r\n";
    let (asked, _) = line.answers(challenge).unwrap();
    assert!(
        asked.contains("Authorization: Digest username=\"n4me\""),
        "{asked}"
    );
    assert!(asked.contains("uri=\"rtsp://cam/live\"") && !asked.contains("s3cret"));
    let again = challenge.replace("CSeq: 1", "CSeq: 2");
    assert_eq!(line.answers(&again), Err(Failure::Credentials));

    let mut line = Line::new("rtsp://cam/live", Transport::Auto);
    line.asks("DESCRIBE", "", "");
    let challenge = "RTSP/1.0 401 No\r\nCSeq: 1\r\nWWW-Authenticate: Bearer realm=\"r\"\r\n\r\n";
    assert_eq!(line.answers(challenge), Err(Failure::Authentication));
}

#[test]
fn t_34_only_the_client_that_knows_the_path_is_listened_to() {
    let line = Line::new("rtsp://cam/live", Transport::Auto);
    for uri in [
        "rtsp://127.0.0.1:9/",
        "rtsp://127.0.0.1:9/other",
        "rtsp://cam/live",
        "*",
        "",
    ] {
        assert!(
            !line.talk.is_ours(&format!("DESCRIBE {uri} RTSP/1.0\r\n")),
            "{uri}"
        );
    }
}

#[test]
fn t_34_answers_that_nobody_asked_for_say_nothing() {
    let mut line = Line::new("rtsp://cam/live", Transport::Auto);
    let unasked = line.answers("RTSP/1.0 302 No\r\nCSeq: 1\r\nLocation: rtsp://x/\r\n\r\n");
    assert_eq!(unasked, Ok((String::new(), String::new())));
    line.described("");
    let old = line.answers("RTSP/1.0 500 No\r\nCSeq: 1\r\n\r\n");
    assert_eq!(old, Ok((String::new(), String::new())));
}
