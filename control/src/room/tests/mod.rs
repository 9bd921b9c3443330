//! Meetings as the doors and the engine see them.

mod cameras;
mod channels;
mod limits;
mod meetings;
mod model;
mod players;
mod quality;
mod requests;
mod spread;
mod take_over;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use dataplane::command::{Command, Feed};
use dataplane::data::DataRequest;
use dataplane::event::{CloseReason, Event, Report};
use dataplane::id::SessionId;
use dataplane::load::Load;
use signaling::name::{PersonName, RoomName};
use signaling::node::{
    Connect, Connected, Door, Enter, PageOffer, PersonId, Refusal, RoomEvent, SourceKind,
};
use signaling::quality::Quality;
use signaling::sdp::{Candidate, Offer};

use super::people::Entry;
use super::{Effect, Random, RoomLimits, Rooms, RoomsConfig};

/// Every byte is another, and all runs are the same.
struct Counting(u64);

impl Random for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (self.0 >> 33) as u8;
        }
    }
}

/// Rooms, and what came of what was asked of them.
struct World {
    rooms: Rooms,
    now: Instant,
}

const LIMITS: RoomLimits = RoomLimits {
    rooms: 3,
    sessions: 10,
    sessions_per_room: 4,
    tracks_per_session: 4,
    egress_bps: Some(1_000_000),
    spread_percent: 60,
};

impl World {
    fn new() -> World {
        World {
            rooms: Rooms::new(World::config(), Box::new(Counting(42))),
            now: any_instant(),
        }
    }

    fn config() -> RoomsConfig {
        let address = (Ipv4Addr::LOCALHOST, 3478).into();
        let candidates = vec![
            vec![Candidate {
                address,
                tcp: false
            }];
            2
        ];
        RoomsConfig {
            limits: LIMITS,
            fingerprint: [7; 32],
            candidates,
            first_id: 1,
        }
    }

    fn enter(&mut self, room: &str, name: &str) -> Result<Entry, Refusal> {
        let request = Enter {
            room: room_name(room),
            name: PersonName::new(name),
            from: caller(),
        };
        self.rooms.handle_enter(&request)
    }

    /// The WebSocket of this visit breaks.
    fn suspend(&mut self, entry: &Entry) -> bool {
        let now = self.now;
        self.rooms.handle_suspend(&entry.person, entry.visit, now)
    }

    /// Enters `room` and forgets what that led to.
    fn entered(&mut self, room: &str, name: &str) -> PersonId {
        let person = self.enter(room, name).unwrap().person;
        self.effects();
        person
    }

    fn offer(&mut self, person: &PersonId, offer: &PageOffer) -> String {
        self.rooms.handle_offer(person, offer).unwrap()
    }

    fn connect(&mut self, door: Door, room: &str, sdp: &str) -> Result<Connected, Refusal> {
        self.rooms.handle_connect(&Connect {
            most: Quality::BEST,
            door,
            room: room_name(room),
            name: PersonName::default(),
            offer: Offer::parse(sdp).unwrap(),
            watch: None,
            from: caller(),
        })
    }

    /// A second later each worker reports that it was busy for so much of it.
    fn reports(&mut self, busy_percent: [u16; 2]) {
        self.now += Duration::from_secs(1);
        for (worker, percent) in busy_percent.into_iter().enumerate() {
            let report = Report {
                load: Load(percent * 10),
                ..Report::default()
            };
            let event = Event::Report(Box::new(report));
            self.rooms.handle_event(self.now, worker, &event);
        }
    }

    fn engine_closes(&mut self, session: u64, reason: CloseReason) {
        let event = Event::Closed {
            session: SessionId(session),
            reason,
        };
        self.rooms.handle_event(self.now, 0, &event);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.rooms.handle_timeout(self.now);
    }

    /// What is to be done, a line each.
    fn effects(&mut self) -> Vec<String> {
        let rooms = &mut self.rooms;
        std::iter::from_fn(|| rooms.poll_effect())
            .map(|effect| line(&effect))
            .collect()
    }

    /// The same, commands only.
    fn commands(&mut self) -> Vec<String> {
        let mut lines = self.effects();
        lines.retain(|line| line.starts_with('#'));
        lines
    }

    /// The id of a person's nth track.
    fn track(&self, person: &PersonId, index: usize) -> String {
        self.rooms.person_view(person).unwrap().tracks[index]
            .id
            .clone()
    }

    /// Nothing is left of anybody.
    fn assert_empty(&self) {
        assert!(self.rooms.is_forgotten(), "{:?}", self.rooms.totals());
    }
}

/// An effect in a few words; commands begin with `#` and their worker.
fn line(effect: &Effect) -> String {
    match effect {
        Effect::Command { worker, command } => format!("#{worker} {}", command_line(command)),
        Effect::Notify { event, .. } => format!("tell {}", event_line(event)),
        Effect::Dismissed { .. } => "dismiss".to_owned(),
        Effect::SessionOpened { client, .. } => format!("opened {}", client.label()),
        Effect::SessionEnded { reason, .. } => format!("ended {}", reason.label()),
        Effect::CameraLost { .. } => "camera lost".to_owned(),
        Effect::ChannelRefused { reason } => format!("channel refused {}", reason.label()),
        Effect::RequestEnded { request, reason } => {
            format!("request {request} ended {}", reason.label())
        }
    }
}

fn command_line(command: &Command) -> String {
    match command {
        Command::Open(_) => "open".to_owned(),
        Command::OpenFeed(_) => "open feed".to_owned(),
        Command::Close { .. } => "close".to_owned(),
        Command::RestartIce { .. } => "restart".to_owned(),
        Command::Publish { track, .. } => format!("publish t{} {:?}", track.track.0, track.kind),
        Command::Unpublish { track } => format!("unpublish t{}", track.0),
        Command::Export { track, to } => format!("export t{} to #{to}", track.0),
        Command::EndExport { track, to } => format!("end export t{} to #{to}", track.0),
        Command::Import { track, from } => format!("import t{} from #{from}", track.track.0),
        Command::AddSender { sender, .. } => format!("add {:?}", sender.kind),
        Command::RemoveSender { .. } => "remove".to_owned(),
        Command::Prefer { preference, .. } => {
            format!("prefer {:?} at {}", preference.most, preference.priority)
        }
        Command::Feed { source: None, .. } => "feed nothing".to_owned(),
        Command::Feed {
            source: Some(feed), ..
        } => feed_line(feed),
        Command::AfterRestart => "after restart".to_owned(),
        Command::OpenData { .. } => "open data".to_owned(),
        Command::Data { session, request } => data_line(session.0, request),
        Command::DataEvent { .. }
        | Command::DataDropped { .. }
        | Command::DtlsTransmit { .. }
        | Command::DtlsConnected { .. }
        | Command::DtlsClosed { .. } => unreachable!("these are the handshake threads' own"),
    }
}

fn data_line(session: u64, request: &DataRequest) -> String {
    match request {
        DataRequest::Send { channel, message } => {
            let text = String::from_utf8_lossy(&message.bytes);
            format!("send s{session} c{} {text}", channel.0)
        }
        DataRequest::Close { channel } => format!("close s{session} c{}", channel.0),
    }
}

fn feed_line(feed: &Feed) -> String {
    let mut line = format!("feed t{}", feed.track.0);
    for format in &feed.payload_types {
        let _ = match format {
            Some(format) => write!(line, " {}", format.payload_type.0),
            None => write!(line, " -"),
        };
    }
    line
}

fn event_line(event: &RoomEvent) -> String {
    match event {
        RoomEvent::PersonJoined { person } => format!("joined {}", person.name.as_str()),
        RoomEvent::PersonLeft { .. } => "left".to_owned(),
        RoomEvent::Tracks { tracks, .. } => {
            let muted = tracks.iter().filter(|track| track.muted).count();
            format!("tracks {} muted {muted}", tracks.len())
        }
        RoomEvent::Speaking { people, .. } => format!("speaking {}", people.len()),
        RoomEvent::Camera { state, .. } => format!("camera {}", state.label()),
        RoomEvent::Chat { text, .. } => format!("chat {text}"),
        RoomEvent::Layer {
            track,
            layer,
            pause,
        } => format!("layer {track} {layer:?} {pause:?}"),
        RoomEvent::Estimate { bps } => format!("estimate {bps}"),
        RoomEvent::Wanted { source, most } => format!("wanted {source:?} {most:?}"),
        RoomEvent::Connected => "connected".to_owned(),
        RoomEvent::MediaLost { reason } => format!("media lost: {reason}"),
        RoomEvent::Closed { reason } => format!("closed: {reason}"),
    }
}

/// A client that offers.
#[derive(Clone, Copy)]
struct Client {
    ufrag: &'static str,
    certificate: &'static str,
    /// Payload types of Opus, VP8 and VP8's RTX.
    numbers: [u8; 3],
}

const ANN: Client = Client {
    ufrag: "ann1",
    certificate: "AA",
    numbers: [111, 96, 97],
};
const EVE: Client = Client {
    ufrag: "eve1",
    certificate: "EE",
    numbers: [111, 96, 97],
};
const BOB: Client = Client {
    ufrag: "bob1",
    certificate: "BB",
    numbers: [109, 120, 124],
};

impl Client {
    /// An offer with these sections, each `mid kind direction`.
    fn sdp(&self, sections: &[&str]) -> String {
        let Client {
            ufrag,
            certificate,
            numbers,
        } = self;
        let [opus, vp8, rtx] = numbers;
        let mids: Vec<&str> = sections
            .iter()
            .filter_map(|text| text.split(' ').next())
            .collect();
        let fingerprint = vec![*certificate; 32].join(":");
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
            mids.join(" ")
        );
        for section in sections {
            let [mid, kind, direction] = section.split(' ').collect::<Vec<_>>()[..] else {
                panic!("a section is `mid kind direction`: {section}");
            };
            if kind == "data" {
                let _ = write!(
                    sdp,
                    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n\
                     a=mid:{mid}\r\na={direction}\r\na=sctp-port:5000\r\n\
                     a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789abcdef0123456789\r\n\
                     a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n"
                );
                continue;
            }
            // A camera in three encodings.
            let (kind, rids) = match kind {
                "simulcast" => (
                    "video",
                    "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\n",
                ),
                kind => (kind, ""),
            };
            let (formats, codecs) = match kind {
                "audio" => (
                    format!("{opus}"),
                    format!("a=rtpmap:{opus} opus/48000/2\r\n"),
                ),
                "video" => (
                    format!("{vp8} {rtx}"),
                    format!(
                        "a=rtpmap:{vp8} VP8/90000\r\na=rtcp-fb:{vp8} nack\r\n\
                         a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={vp8}\r\n"
                    ),
                ),
                _ => ("0".to_owned(), String::new()),
            };
            let _ = write!(
                sdp,
                "m={kind} 9 UDP/TLS/RTP/SAVPF {formats}\r\nc=IN IP4 0.0.0.0\r\n\
                 a=mid:{mid}\r\na={direction}\r\na=rtcp-mux\r\n\
                 a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789abcdef0123456789\r\n\
                 a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n\
                 a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n{codecs}{rids}"
            );
        }
        sdp
    }

    /// A page's offer, where `wants` says which track each receiving section is for.
    fn page(&self, sections: &[&str], wants: &[(&str, &str)]) -> PageOffer {
        let wants = wants
            .iter()
            .map(|(mid, track)| ((*mid).to_owned(), (*track).to_owned()));
        PageOffer {
            offer: Offer::parse(&self.sdp(sections)).unwrap(),
            wants: wants.collect(),
            sources: Vec::new(),
        }
    }
}

/// The direction of each section of an answer.
fn directions(sdp: &str) -> Vec<&str> {
    let known = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let lines = sdp.lines().filter_map(|line| line.strip_prefix("a="));
    lines.filter(|line| known.contains(line)).collect()
}

/// The first value of an attribute.
fn attribute<'a>(sdp: &'a str, name: &str) -> &'a str {
    let mut lines = sdp.lines();
    lines
        .find_map(|line| line.strip_prefix(&format!("a={name}:")))
        .unwrap()
}

/// A player of both kinds comes.
fn watch(world: &mut World) -> Connected {
    let sdp = BOB.sdp(&["0 audio recvonly", "1 video recvonly"]);
    world.connect(Door::Whep, "r", &sdp).unwrap()
}

/// A room whose home, worker 0, is too busy for more, with an encoder there.
fn busy_room() -> World {
    let mut world = World::new();
    world
        .connect(Door::Whip, "r", &ANN.sdp(&CAMERA_AND_MICROPHONE))
        .unwrap();
    for _ in 0..4 {
        world.reports([61, 5]);
    }
    world.effects();
    world
}

fn room_name(name: &str) -> RoomName {
    name.parse().unwrap()
}

fn caller() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

#[expect(clippy::disallowed_methods, reason = "only differences to it matter")]
fn any_instant() -> Instant {
    Instant::now()
}

const CAMERA_AND_MICROPHONE: [&str; 2] = ["0 audio sendonly", "1 video sendonly"];

/// Somebody of this source's kind mutes it.
const MICROPHONE: SourceKind = SourceKind::Microphone;
