//! What passes between the RTSP client and a camera, without IO.
//!
//! The client (`retina`) leads the conversation: DESCRIBE, SETUP, PLAY, keep-alive, TEARDOWN. It never sees a camera's
//! words: its requests are written anew, with the camera's addresses and the credentials, and answers are written anew
//! for it, with nothing in them but what was understood. To it all packets would come within the connection; that they
//! come as datagrams, and which channels a camera chose, is between the camera and us.

use std::collections::VecDeque;

use http_auth::{PasswordClient, PasswordParams};
use url::Url;

use super::super::limits::MEDIA_MAX;
use super::super::order::Transport;
use super::description::Description;
use super::failure::Failure;
use super::message::Answer;

/// Characters of a session's id. Real ones have 8 to 32.
const SESSION_MAX: usize = 128;

/// Seconds after which a camera forgets a session that nothing is heard of (RFC 2326 section 12.37), and the fewest
/// that are believed.
const SESSION_TIME: u32 = 60;
const SESSION_TIME_MIN: u32 = 10;

/// Requests on their way; the client asks one thing at a time.
const PENDING_MAX: usize = 8;

/// Sockets for datagrams: the shell's, or a test's.
pub(super) trait Sockets {
    /// Opens a pair for a stream of the description, and says the lower port.
    fn open(&mut self, media: usize) -> Result<u16, Failure>;

    /// Packets of the stream come from these ports of the camera.
    fn aim(&mut self, media: usize, rtp: u16, rtcp: u16);

    /// They are not needed after all.
    fn close(&mut self, media: usize);
}

/// A request that waits for its answer.
struct Pending {
    cseq: u32,
    client_cseq: String,
    method: &'static str,
    uri: String,
    headers: Vec<(&'static str, String)>,
    set_up: Option<SetUp>,
    /// How often the camera's challenge to it was answered.
    answered: u8,
}

/// What a SETUP is about.
#[derive(Clone, Copy)]
struct SetUp {
    media: usize,
    client_channel: u8,
    by_datagrams: bool,
}

/// How packets of a stream come.
struct Way {
    media: usize,
    /// The lower channel of two; `None` of datagrams.
    channel: Option<u8>,
}

/// One conversation. Requests of the client are put in by [`Talk::handle_request`], answers of the camera by
/// [`Talk::handle_answer`]; then what is to be written is taken by [`Talk::poll_for_camera`] and
/// [`Talk::poll_for_client`].
pub(super) struct Talk {
    /// The path that the client's requests have: what does not have it is no request of ours.
    token: String,
    url: Url,
    credentials: Option<(String, String)>,
    transport: Transport,
    by_datagrams: bool,
    challenge: Option<PasswordClient>,
    base: Url,
    description: Option<Description>,
    session: Option<String>,
    ways: Vec<Way>,
    pending: VecDeque<Pending>,
    next_cseq: u32,
    redirect: Option<String>,
    for_camera: Vec<u8>,
    for_client: Vec<u8>,
}

impl Talk {
    /// A conversation with the camera at `url`, which has no credentials in it.
    pub(super) fn new(
        token: String,
        url: Url,
        credentials: Option<(String, String)>,
        transport: Transport,
    ) -> Talk {
        Talk {
            token,
            base: url.clone(),
            url,
            credentials,
            transport,
            by_datagrams: transport == Transport::Udp,
            challenge: None,
            description: None,
            session: None,
            ways: Vec::new(),
            pending: VecDeque::new(),
            next_cseq: 1,
            redirect: None,
            for_camera: Vec::new(),
            for_client: Vec::new(),
        }
    }

    /// What is to be written to the camera; empty where there is nothing.
    pub(super) fn poll_for_camera(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.for_camera)
    }

    /// What is to be written to the client; empty where there is nothing.
    pub(super) fn poll_for_client(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.for_client)
    }

    /// What the camera sends, once it has said it.
    pub(super) fn description(&self) -> Option<&Description> {
        self.description.as_ref()
    }

    /// Where the camera sends us, where it does.
    pub(super) fn redirect(&self) -> Option<&str> {
        self.redirect.as_deref()
    }

    /// Which stream of the description a channel belongs to, and whether it is RTCP's.
    pub(super) fn stream_of(&self, channel: u8) -> Option<(usize, bool)> {
        self.ways.iter().find_map(|way| {
            let lower = way.channel?;
            match channel.checked_sub(lower) {
                Some(0) => Some((way.media, false)),
                Some(1) => Some((way.media, true)),
                _ => None,
            }
        })
    }

    /// Whether a request is our client's: it alone knows the path.
    pub(super) fn is_ours(&self, head: &str) -> bool {
        let uri = head.split(' ').nth(1).unwrap_or_default();
        uri.split('/').nth(3) == Some(self.token.as_str())
    }

    /// Whether the client has asked anything.
    pub(super) fn is_begun(&self) -> bool {
        self.next_cseq > 1
    }

    /// A request of the client, up to the empty line.
    ///
    /// # Errors
    /// One that our client never makes, or a socket that cannot be had.
    pub(super) fn handle_request(
        &mut self,
        head: &str,
        sockets: &mut impl Sockets,
    ) -> Result<(), Failure> {
        let mut words = head.lines().next().unwrap_or_default().split(' ');
        let (method, uri) = (words.next().and_then(known), words.next());
        let (Some(method), Some(uri)) = (method, uri) else {
            return Err(Failure::Ours("its client asks what it never asks"));
        };
        if self.pending.len() == PENDING_MAX {
            return Err(Failure::Slow);
        }
        let header = |name| header_of(head, name);
        let client_cseq = header("CSeq").unwrap_or_default();
        let mut headers = Vec::new();
        for name in ["Accept", "Range"] {
            headers.extend(header(name).map(|value| (name, value)));
        }
        if let Some(session) = &self.session {
            headers.push(("Session", session.clone()));
        }
        let media = uri
            .rsplit_once("/s")
            .and_then(|(_, index)| index.parse().ok());
        let set_up = match (method, media) {
            ("SETUP", Some(media)) => Some(SetUp {
                media,
                client_channel: header("Transport")
                    .and_then(|value| channel_of(&value))
                    .unwrap_or(0),
                by_datagrams: self.by_datagrams,
            }),
            _ => None,
        };
        let pending = Pending {
            cseq: 0,
            client_cseq,
            method,
            uri: self.uri(method, media),
            headers,
            set_up,
            answered: 0,
        };
        self.ask(pending, sockets)
    }

    /// An answer of the camera.
    ///
    /// # Errors
    /// One that ends the conversation.
    pub(super) fn handle_answer(
        &mut self,
        answer: &Answer,
        sockets: &mut impl Sockets,
    ) -> Result<(), Failure> {
        let number = answer
            .header("CSeq")
            .and_then(|cseq| cseq.parse::<u32>().ok());
        // Answers come in the order of requests; one that was given already says nothing.
        let is_old = |pending: &Pending| number.is_some_and(|number| number < pending.cseq);
        if answer.status < 200 || self.pending.front().is_none_or(is_old) {
            return Ok(());
        }
        let Some(pending) = self.pending.pop_front() else {
            return Ok(());
        };
        match answer.status {
            200..=299 => self.on_success(&pending, answer, sockets),
            401 => self.on_challenge(pending, answer, sockets),
            300..=399 => {
                self.redirect = answer.header("Location").map(str::to_owned);
                Err(Failure::Redirects)
            }
            status => match (pending.method, pending.set_up) {
                ("SETUP", Some(set_up))
                    if self.transport == Transport::Auto
                        && !set_up.by_datagrams
                        && self.session.is_none()
                        && matches!(status, 400 | 461 | 500 | 501 | 551) =>
                {
                    self.by_datagrams = true;
                    let set_up = Some(SetUp {
                        by_datagrams: true,
                        ..set_up
                    });
                    self.ask(Pending { set_up, ..pending }, sockets)
                }
                ("DESCRIBE" | "SETUP" | "PLAY", _) => Err(refusal(pending.method, status)),
                // What keeps a session alive may be refused: it was heard.
                _ => {
                    self.answer(&pending, status, &[], "");
                    Ok(())
                }
            },
        }
    }

    /// The camera's address for a request.
    fn uri(&self, method: &str, media: Option<usize>) -> String {
        let description = self.description.as_ref();
        let control = match media {
            Some(media) => description
                .and_then(|description| description.media.get(media))
                .and_then(|media| media.control.as_deref())
                .or(description.and_then(|description| description.control.as_deref())),
            None => description.and_then(|description| description.control.as_deref()),
        };
        match control {
            Some(control) if method != "DESCRIBE" => join(&self.base, control),
            _ => self.url.to_string(),
        }
    }

    /// Writes a request.
    fn ask(&mut self, mut pending: Pending, sockets: &mut impl Sockets) -> Result<(), Failure> {
        pending.headers.retain(|(name, _)| *name != "Transport");
        if let Some(set_up) = pending.set_up {
            let value = if set_up.by_datagrams {
                let port = sockets.open(set_up.media)?;
                format!(
                    "RTP/AVP;unicast;client_port={port}-{}",
                    port.saturating_add(1)
                )
            } else {
                let channel = set_up.client_channel;
                let higher = channel.saturating_add(1);
                format!("RTP/AVP/TCP;unicast;interleaved={channel}-{higher}")
            };
            pending.headers.push(("Transport", value));
        }
        pending.cseq = self.next_cseq;
        self.next_cseq += 1;
        let mut text = format!(
            "{} {} RTSP/1.0\r\nCSeq: {}\r\nUser-Agent: Millrace\r\n",
            pending.method, pending.uri, pending.cseq
        );
        for (name, value) in &pending.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let (Some(challenge), Some((username, password))) =
            (&mut self.challenge, &self.credentials)
        {
            let response = challenge.respond(&PasswordParams {
                username,
                password,
                uri: &pending.uri,
                method: pending.method,
                body: Some(&[]),
            });
            let response = response.map_err(|_| Failure::Authentication)?;
            text += &format!("Authorization: {response}\r\n");
        }
        text += "\r\n";
        self.for_camera.extend_from_slice(text.as_bytes());
        self.pending.push_back(pending);
        Ok(())
    }

    /// The camera wants to know who asks (RFC 7616, RFC 7617).
    fn on_challenge(
        &mut self,
        pending: Pending,
        answer: &Answer,
        sockets: &mut impl Sockets,
    ) -> Result<(), Failure> {
        if self.credentials.is_none() {
            return Err(Failure::NoCredentials);
        }
        let challenges = || answer.headers("WWW-Authenticate");
        let is_stale = challenges().any(|text| {
            let text = text.to_ascii_lowercase();
            text.contains("stale=true") || text.contains("stale=\"true\"")
        });
        if pending.answered > u8::from(is_stale) {
            return Err(Failure::Credentials);
        }
        let builder = challenges().fold(PasswordClient::builder(), |builder, text| {
            builder.challenges(text)
        });
        let challenge = builder.build().map_err(|_| Failure::Authentication)?;
        self.challenge = Some(challenge);
        let answered = pending.answered + 1;
        if let Some(set_up) = pending.set_up.filter(|set_up| set_up.by_datagrams) {
            sockets.close(set_up.media);
        }
        self.ask(
            Pending {
                answered,
                ..pending
            },
            sockets,
        )
    }

    fn on_success(
        &mut self,
        pending: &Pending,
        answer: &Answer,
        sockets: &mut impl Sockets,
    ) -> Result<(), Failure> {
        match pending.method {
            "DESCRIBE" => {
                let described = Description::parse(&answer.body);
                let description = described.ok_or(Failure::Answer("DESCRIBE"))?;
                let base = ["Content-Base", "Content-Location"]
                    .iter()
                    .find_map(|name| Url::parse(answer.header(name)?).ok());
                // A camera may well write credentials into its own address.
                self.base = base.map_or_else(|| self.url.clone(), without_credentials);
                let body = description.for_client();
                let kind = [("Content-Type", "application/sdp".to_owned())];
                self.description = Some(description);
                self.answer(pending, 200, &kind, &body);
            }
            "SETUP" => {
                let set_up = pending.set_up.ok_or(Failure::Answer("SETUP"))?;
                self.on_set_up(set_up, answer, sockets)?;
                let session = self.session.clone().unwrap_or_default();
                let timeout = session_time(answer);
                let channel = set_up.client_channel;
                let higher = channel.saturating_add(1);
                let headers = [
                    ("Session", format!("{session};timeout={timeout}")),
                    (
                        "Transport",
                        format!("RTP/AVP/TCP;unicast;interleaved={channel}-{higher}"),
                    ),
                ];
                self.answer(pending, 200, &headers, "");
            }
            "OPTIONS" => {
                let offered = answer.header("Public").unwrap_or_default();
                let methods = ["GET_PARAMETER", "SET_PARAMETER"];
                let known = methods
                    .iter()
                    .copied()
                    .filter(|name| offered.contains(name));
                let public: Vec<&str> = std::iter::once("OPTIONS").chain(known).collect();
                self.answer(pending, 200, &[("Public", public.join(", "))], "");
            }
            _ => self.answer(pending, 200, &[], ""),
        }
        Ok(())
    }

    /// How packets of a stream will come.
    fn on_set_up(
        &mut self,
        set_up: SetUp,
        answer: &Answer,
        sockets: &mut impl Sockets,
    ) -> Result<(), Failure> {
        let bad = Failure::Answer("SETUP");
        if set_up.media >= MEDIA_MAX {
            return Err(bad);
        }
        if self.session.is_none() {
            let session = answer.header("Session").ok_or(bad.clone())?;
            let id = session.split(';').next().unwrap_or_default().trim();
            let is_sound = (1..=SESSION_MAX).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_graphic());
            self.session = Some(is_sound.then(|| id.to_owned()).ok_or(bad.clone())?);
        }
        let transport = answer.header("Transport").unwrap_or_default();
        let channel = if set_up.by_datagrams {
            // Where a camera says that it sends from another address, it is not believed: packets from there are not
            // taken, and nothing is sent there.
            let (rtp, rtcp) = pair_of(transport, "server_port=").unwrap_or((0, 0));
            sockets.aim(set_up.media, rtp, rtcp);
            None
        } else {
            if !transport.is_empty() && !transport.to_ascii_uppercase().contains("TCP") {
                return Err(Failure::Transport);
            }
            Some(channel_of(transport).unwrap_or(set_up.client_channel))
        };
        self.ways.push(Way {
            media: set_up.media,
            channel,
        });
        Ok(())
    }

    /// Writes an answer for the client.
    fn answer(&mut self, to: &Pending, status: u16, headers: &[(&str, String)], body: &str) {
        let word = if status < 300 { "OK" } else { "No" };
        let mut text = format!("RTSP/1.0 {status} {word}\r\nCSeq: {}\r\n", to.client_cseq);
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        self.for_client.extend_from_slice(text.as_bytes());
    }
}

/// A URL as it may be sent and shown.
pub(super) fn without_credentials(mut url: Url) -> Url {
    // Neither fails with a host, and without one there are none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

fn header_of(head: &str, name: &str) -> Option<String> {
    let mut all = head.lines().filter_map(|line| line.split_once(':'));
    let found = all.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim().to_owned())
}

fn known(method: &str) -> Option<&'static str> {
    let methods = [
        "DESCRIBE",
        "SETUP",
        "PLAY",
        "OPTIONS",
        "GET_PARAMETER",
        "SET_PARAMETER",
        "TEARDOWN",
    ];
    methods.into_iter().find(|known| *known == method)
}

/// A control address: whole, or put behind the base as all clients do it, which is not as URLs are joined.
fn join(base: &Url, control: &str) -> String {
    if control.is_empty() || control == "*" {
        return base.to_string();
    }
    if let Ok(whole) = Url::parse(control) {
        return whole.to_string();
    }
    let base = base.as_str();
    let slash = if base.ends_with('/') || control.starts_with('/') {
        ""
    } else {
        "/"
    };
    // By the parser, so that it has no line ends.
    let joined = format!("{base}{slash}{control}");
    Url::parse(&joined).map_or_else(|_| base.to_owned(), |url| url.to_string())
}

/// Two numbers behind a word: `7-8`, or `7`, which is 7 and 8.
fn pair_of(transport: &str, word: &str) -> Option<(u16, u16)> {
    let mut parts = transport.split(';').map(str::trim);
    let value = parts.find_map(|part| part.strip_prefix(word))?;
    let (lower, higher) = value.split_once('-').unwrap_or((value, ""));
    let lower: u16 = lower.parse().ok()?;
    Some((lower, higher.parse().unwrap_or(lower.saturating_add(1))))
}

/// The lower interleaved channel.
fn channel_of(transport: &str) -> Option<u8> {
    let (lower, _) = pair_of(transport, "interleaved=")?;
    u8::try_from(lower).ok()
}

/// Seconds for which a camera keeps the session.
fn session_time(answer: &Answer) -> u32 {
    let session = answer.header("Session").unwrap_or_default();
    let mut parts = session.split(';').map(str::trim);
    let said = parts.find_map(|part| part.strip_prefix("timeout="));
    let said = said
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(SESSION_TIME);
    said.clamp(SESSION_TIME_MIN, 24 * 3_600)
}

fn refusal(method: &'static str, status: u16) -> Failure {
    match status {
        403 => Failure::Credentials,
        404 => Failure::NotFound,
        461 => Failure::Transport,
        _ => Failure::Status { method, status },
    }
}
