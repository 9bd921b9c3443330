//! What is done to sessions, tracks and senders.

use super::client::{Check, Client};
use super::stream::Stream;
use super::track::{Encoding, Shape, Track, rtx_of};
use super::world::{SESSIONS_MAX, World};
use crate::command::{
    Command, ExtensionIds, MediaKind, PayloadKind, Preference, Quality, SenderSpec,
};
use crate::event::CloseReason;
use crate::id::{Mid, SenderId, SessionId, Ssrc, TrackId};
use crate::sim::script::Script;
use crate::transmit::Path;
use crate::wire::VideoCodec;

/// Tracks of one client, and encodings of one track.
const TRACKS_MAX: usize = 4;
const ENCODINGS_MAX: usize = 3;

/// Addresses of a client that are kept.
const PROVEN_MAX: usize = 64;

impl World {
    /// Somebody comes, and is connected at once where a bit says so.
    pub(super) fn join(&mut self, script: &mut Script<'_>) {
        let Some(seat) = self.seats.iter().position(Option::is_none) else {
            return;
        };
        let (choices, profile) = (script.byte(), script.byte());
        let (worker, room) = (usize::from(choices & 1), usize::from(choices >> 1 & 1));
        let index = self.clients.len();
        let client = Client::new(index as u32, worker, room, profile);
        let spec = Box::new(client.spec());
        let of_worker = |client: &&Client| client.is_here && client.worker == worker;
        let is_full = self.clients.iter().filter(of_worker).count() >= SESSIONS_MAX;
        self.clients.push(client);
        self.seats[seat] = Some(index);
        self.command(worker, Command::Open(spec));
        self.settle();
        assert_eq!(
            is_full, !self.clients[index].is_here,
            "who is one too many is told so"
        );
        if choices & 4 == 0 && !is_full {
            self.send_check(index, true);
            self.give_keys(index);
        }
    }

    /// A connectivity check, right or wrong, or somebody else's.
    pub(super) fn check(&mut self, script: &mut Script<'_>) {
        let Some(index) = self.somebody(script) else {
            return;
        };
        let number = self.number();
        let client = self.client(index);
        let (worker, path) = (client.worker, client.path);
        match script.byte() % 8 {
            0..=3 => self.send_check(index, true),
            4 => self.send_check(index, false),
            5 => {
                let check = client.check(true, "a-password-that-nobody-has");
                self.greeted.insert(path);
                self.arrive(worker, path, &check);
            }
            choice => {
                // Recorded, and repeated from elsewhere or from where it was sent.
                let check = client.last_check.clone();
                let is_elsewhere = choice == 6;
                let path = if is_elsewhere { stranger(number) } else { path };
                let is_taken = self.present(index, path, &check);
                let is_theft = is_taken && is_elsewhere && check.nominates;
                assert!(!is_theft, "a repeated nomination moves nothing");
            }
        }
    }

    /// The client proves that it is where it is.
    fn send_check(&mut self, index: usize, nominates: bool) {
        let client = self.client(index);
        let pwd = client.ice.local_pwd.clone();
        let bytes = client.check(nominates, &pwd);
        let path = client.path;
        let check = Check { bytes, nominates };
        if self.present(index, path, &check) {
            self.client(index).last_check = check;
        }
    }

    /// A check of a client comes from this address. Whether it was taken.
    fn present(&mut self, index: usize, path: Path, check: &Check) -> bool {
        let worker = self.client(index).worker;
        self.greeted.insert(path);
        let before = self.engines[worker].counters.stun_answered;
        self.arrive(worker, path, &check.bytes);
        if self.engines[worker].counters.stun_answered == before {
            return false;
        }
        for (number, other) in self.clients.iter_mut().enumerate() {
            if number != index && other.worker == worker {
                other.proven.retain(|known| *known != path);
                if other.media.take_if(|known| *known == path).is_some() {
                    // What waited for them waits on.
                    for stream in other.streams.values_mut() {
                        stream.is_loose = true;
                    }
                }
            }
        }
        let client = self.client(index);
        if client.proven.len() < PROVEN_MAX && !client.proven.contains(&path) {
            client.proven.push(path);
        }
        if check.nominates {
            client.media = Some(path);
        }
        true
    }

    /// The handshake is done, perhaps once more.
    pub(super) fn install_keys(&mut self, script: &mut Script<'_>) {
        if let Some(index) = self.somebody(script) {
            self.give_keys(index);
        }
    }

    fn give_keys(&mut self, index: usize) {
        let client = self.client(index);
        client.is_keyed = true;
        let (worker, session) = (client.worker, client.session);
        let keys = Box::new(client.keys_of_node());
        self.command(worker, Command::DtlsConnected { session, keys });
    }

    /// Somebody goes.
    pub(super) fn leave(&mut self, script: &mut Script<'_>) {
        if let Some(index) = self.somebody(script) {
            self.send_away(index);
        }
    }

    /// Ends a session.
    pub(super) fn send_away(&mut self, index: usize) {
        let client = self.client(index);
        let (worker, session) = (client.worker, client.session);
        self.command(worker, Command::Close { session });
        self.part(index);
    }

    /// A session is over, and everything that hung on it.
    pub(super) fn part(&mut self, index: usize) {
        let client = self.client(index);
        client.is_here = false;
        client.media = None;
        for stream in client.streams.values_mut() {
            stream.is_here = false;
            stream.feed(None);
        }
        for seat in &mut self.seats {
            seat.take_if(|occupant| *occupant == index);
        }
        let theirs = self.tracks.values().filter(|track| track.is_here);
        let theirs = theirs.filter(|track| track.owner == index);
        for track in theirs.map(|track| track.id).collect::<Vec<_>>() {
            self.end_track(track);
        }
    }

    /// Somebody has another address from now on: a new one, or another's.
    pub(super) fn move_address(&mut self, script: &mut Script<'_>) {
        let (Some(index), Some(other)) = (self.somebody(script), self.somebody(script)) else {
            return;
        };
        let choices = script.byte();
        let number = self.number();
        let path = match choices % 4 {
            0 => self.client(other).path,
            _ => stranger(number),
        };
        self.client(index).path = path;
        if choices & 4 == 0 {
            self.send_check(index, choices & 8 == 0);
        }
    }

    /// New credentials, used at once or never.
    pub(super) fn restart_ice(&mut self, script: &mut Script<'_>) {
        let Some(index) = self.somebody(script) else {
            return;
        };
        let client = self.client(index);
        let before = client.ice.clone();
        let ice = client.renew_credentials();
        let (worker, session) = (client.worker, client.session);
        if script.byte() & 1 == 1 {
            client.ice = before;
        }
        self.command(worker, Command::RestartIce { session, ice });
    }

    /// The handshake threads say that it is over.
    pub(super) fn close_handshake(&mut self, script: &mut Script<'_>) {
        let Some(index) = self.somebody(script) else {
            return;
        };
        let client = self.client(index);
        let (worker, session) = (client.worker, client.session);
        let reason = CloseReason::PeerClosed;
        self.command(worker, Command::DtlsClosed { session, reason });
    }

    /// Somebody publishes.
    pub(super) fn publish(&mut self, script: &mut Script<'_>) {
        let Some(owner) = self.somebody(script) else {
            return;
        };
        let choices = script.byte();
        let theirs = self
            .tracks
            .values()
            .filter(|track| track.is_here && track.owner == owner);
        if theirs.count() >= TRACKS_MAX {
            return;
        }
        let id = TrackId(u64::from(self.number()));
        let shape = shape(choices);
        let encoding = |_| Encoding {
            ssrc: self.number() << 4,
            next: u64::from(script.short()),
            rtx_next: 0,
            left_out: Vec::new(),
        };
        let encodings = (0..shape.encodings).map(encoding).collect();
        let track = Track {
            id,
            owner,
            shape,
            is_here: true,
            encodings,
            is_exported: false,
            sent: std::collections::HashMap::new(),
            timestamp: 0,
            picture: 0,
        };
        let spec = Box::new(track.spec(false));
        let client = self.client(owner);
        let (worker, session) = (client.worker, client.session);
        self.tracks.insert(id, track);
        self.command(
            worker,
            Command::Publish {
                session,
                track: spec,
            },
        );
    }

    /// A track ends.
    pub(super) fn unpublish(&mut self, script: &mut Script<'_>) {
        let Some(track) = self.some_track(script) else {
            return;
        };
        let owner = self.tracks[&track].owner;
        let worker = self.client(owner).worker;
        self.command(worker, Command::Unpublish { track });
        self.end_track(track);
    }

    /// A track is over here; the other worker is told.
    fn end_track(&mut self, id: TrackId) {
        let Some(track) = self.tracks.get_mut(&id) else {
            return;
        };
        track.is_here = false;
        let (owner, was_exported) = (track.owner, std::mem::take(&mut track.is_exported));
        let worker = self.client(owner).worker;
        if was_exported {
            self.command(1 - worker, Command::Unpublish { track: id });
        }
        let streams = self
            .clients
            .iter_mut()
            .flat_map(|client| client.streams.values_mut());
        for stream in streams.filter(|stream| stream.feed == Some(id)) {
            stream.feed(None);
        }
    }

    /// A track's description changes while it runs.
    pub(super) fn republish(&mut self, script: &mut Script<'_>) {
        let Some(id) = self.some_track(script) else {
            return;
        };
        let is_longer = script.byte() & 1 == 1;
        let Some(track) = self.tracks.get_mut(&id) else {
            return;
        };
        let (owner, spec) = (track.owner, Box::new(track.spec(is_longer)));
        let imported = track.is_exported.then(|| spec.clone());
        let client = self.client(owner);
        let (worker, session) = (client.worker, client.session);
        self.command(
            worker,
            Command::Publish {
                session,
                track: spec,
            },
        );
        if let Some(track) = imported {
            let from = worker;
            self.command(1 - worker, Command::Import { track, from });
        }
    }

    /// Somebody is sent a track of their room, by a new sender or one whose SSRC was used before.
    pub(super) fn subscribe(&mut self, script: &mut Script<'_>) {
        let (Some(index), Some(track)) = (self.somebody(script), self.some_track(script)) else {
            return;
        };
        let choices = script.byte();
        let (ssrc, number) = (self.number() << 4, self.number());
        let kind = self.tracks[&track].shape.kind;
        let room = self.clients[self.tracks[&track].owner].room;
        let client = self.client(index);
        if client.room != room {
            return;
        }
        let used = client
            .streams
            .iter()
            .find(|(_, stream)| !stream.is_here && stream.kind == kind);
        let ssrc = match used {
            Some((used, _)) if choices & 1 == 1 => *used,
            _ => ssrc,
        };
        let has_rtx = kind == MediaKind::Video && choices & 2 == 0;
        let rtx = has_rtx.then(|| rtx_of(ssrc));
        let sender = SenderId(u64::from(number));
        let fresh = || Stream::new(sender, kind, rtx);
        let stream = client.streams.entry(ssrc).or_insert_with(fresh);
        (stream.sender, stream.rtx, stream.is_here) = (sender, rtx, true);
        let (worker, session) = (client.worker, client.session);
        let spec = Box::new(sender_spec(sender, kind, ssrc, rtx, choices));
        self.command(
            worker,
            Command::AddSender {
                session,
                sender: spec,
            },
        );
        self.connect((index, ssrc), track, choices & 32 != 0);
    }

    /// Feeds a stream with a track, which is brought to its worker first.
    fn connect(&mut self, (index, ssrc): (usize, u32), id: TrackId, has_red: bool) {
        let worker = self.clients[index].worker;
        let Some(track) = self.tracks.get_mut(&id) else {
            return;
        };
        let home = self.clients[track.owner].worker;
        if worker != home && !track.is_exported {
            track.is_exported = true;
            let spec = Box::new(track.spec(false));
            let to = worker;
            self.command(home, Command::Export { track: id, to });
            let (track, from) = (spec, home);
            self.command(worker, Command::Import { track, from });
        }
        let Some(stream) = self.clients[index].streams.get_mut(&ssrc) else {
            return;
        };
        let source = Some(self.tracks[&id].feed(stream.rtx.is_some(), has_red));
        stream.feed(Some(id));
        let sender = stream.sender;
        self.command(worker, Command::Feed { sender, source });
    }

    /// A sender goes.
    pub(super) fn unsubscribe(&mut self, script: &mut Script<'_>) {
        let Some(named) = self.some_stream(script) else {
            return;
        };
        let worker = self.clients[named.0].worker;
        let Some(stream) = self.stream(named) else {
            return;
        };
        stream.is_here = false;
        stream.feed(None);
        let sender = stream.sender;
        self.command(worker, Command::RemoveSender { sender });
    }

    /// A sender sends another track of its room and kind, or nothing.
    pub(super) fn feed(&mut self, script: &mut Script<'_>) {
        let Some(named) = self.some_stream(script) else {
            return;
        };
        let choices = script.byte();
        let (worker, room) = (self.clients[named.0].worker, self.clients[named.0].room);
        let Some(track) = self.some_track(script).filter(|_| choices & 1 == 1) else {
            let Some(stream) = self.stream(named) else {
                return;
            };
            stream.feed(None);
            let (sender, source) = (stream.sender, None);
            self.command(worker, Command::Feed { sender, source });
            return;
        };
        let shape = self.tracks[&track].shape;
        let is_theirs = self.clients[self.tracks[&track].owner].room == room;
        let fits = self
            .stream(named)
            .is_some_and(|stream| stream.kind == shape.kind);
        if is_theirs && fits {
            self.connect(named, track, choices & 2 != 0);
        }
    }

    /// A sender's description changes while it runs.
    pub(super) fn renegotiate(&mut self, script: &mut Script<'_>) {
        let Some(named) = self.some_stream(script) else {
            return;
        };
        let choices = script.byte();
        let client = &mut self.clients[named.0];
        let (worker, session) = (client.worker, client.session);
        let Some(stream) = client.streams.get_mut(&named.1) else {
            return;
        };
        let has_rtx = stream.kind == MediaKind::Video && choices & 2 == 0;
        stream.rtx = has_rtx.then(|| rtx_of(named.1));
        let (id, kind, rtx) = (stream.sender, stream.kind, stream.rtx);
        let sender = Box::new(sender_spec(id, kind, named.1, rtx, choices));
        self.command(worker, Command::AddSender { session, sender });
    }

    /// A receiver says what it wants.
    pub(super) fn prefer(&mut self, script: &mut Script<'_>) {
        let Some(named) = self.some_stream(script) else {
            return;
        };
        let choices = script.byte();
        let most = match choices % 6 {
            0 => Quality::Off,
            1 | 2 => Quality::Best,
            layer => Quality::Layer(layer - 3),
        };
        let worker = self.clients[named.0].worker;
        let Some(stream) = self.stream(named) else {
            return;
        };
        // What comes late for a stream that is switched off is left out without a count.
        stream.is_loose |= most == Quality::Off;
        let sender = stream.sender;
        let priority = choices >> 4;
        let preference = Preference { most, priority };
        self.command(worker, Command::Prefer { sender, preference });
    }

    /// Commands that name what is not there, or not theirs.
    pub(super) fn misname(&mut self, script: &mut Script<'_>) {
        let worker = script.below(2);
        let (session, track) = (SessionId(999_999), TrackId(u64::from(script.byte())));
        let unknown = TrackId(999_999);
        let sender = SenderId(999_999);
        let command = match script.below(8) {
            0 => Command::Close { session },
            1 => Command::Unpublish { track: unknown },
            2 => Command::RemoveSender { sender },
            3 => Command::EndExport {
                track: unknown,
                to: 1,
            },
            4 => Command::Feed {
                sender,
                source: None,
            },
            5 => Command::DtlsTransmit {
                session,
                bytes: Box::from(script.piece()),
            },
            6 => match self.tracks.get(&track).filter(|track| track.is_here) {
                // Somebody else's track, or one that is published here.
                Some(track) => {
                    let here = self.clients.iter().filter(|client| client.is_here);
                    let other = here
                        .rev()
                        .find(|client| client.number as usize != track.owner);
                    let (Some(other), spec) = (other, Box::new(track.spec(false))) else {
                        return;
                    };
                    if other.worker != self.clients[track.owner].worker {
                        return;
                    }
                    Command::Publish {
                        session: other.session,
                        track: spec,
                    }
                }
                None => return,
            },
            _ => Command::OpenData {
                session,
                message_bytes_max: 1,
            },
        };
        self.command(worker, command);
    }
}

/// An address that nobody had.
pub(super) fn stranger(number: u32) -> Path {
    Path::udp(std::net::SocketAddr::from((
        [10, 1, (number >> 8) as u8, number as u8],
        4_000,
    )))
}

fn shape(choices: u8) -> Shape {
    let codecs = [
        PayloadKind::Opaque,
        PayloadKind::Video(VideoCodec::Vp8),
        PayloadKind::Video(VideoCodec::Vp9),
        PayloadKind::Video(VideoCodec::Av1),
        PayloadKind::Video(VideoCodec::H264),
    ];
    let is_voice = choices & 1 == 1;
    let kind = if is_voice {
        MediaKind::Audio
    } else {
        MediaKind::Video
    };
    Shape {
        kind,
        payload: match kind {
            MediaKind::Audio => PayloadKind::Opaque,
            MediaKind::Video => codecs[usize::from(choices >> 1 & 7) % codecs.len()],
        },
        encodings: match choices >> 5 {
            0 if !is_voice => ENCODINGS_MAX,
            1 if !is_voice => 2,
            _ => 1,
        },
        is_signalled: choices & 16 != 0,
        is_grouped: is_voice && choices & 2 != 0,
    }
}

fn sender_spec(
    sender: SenderId,
    kind: MediaKind,
    ssrc: u32,
    rtx: Option<u32>,
    choices: u8,
) -> SenderSpec {
    let is_numbered = choices & 4 != 0;
    SenderSpec {
        sender,
        kind,
        mid: Mid::new(format!("s{}", sender.0).as_bytes()).expect("a short name"),
        ssrc: Ssrc(ssrc),
        rtx: rtx.map(Ssrc),
        extensions: ExtensionIds {
            mid: (choices & 8 == 0).then_some(9),
            audio_level: Some(2),
            abs_send_time: (choices & 16 != 0).then_some(3),
            transport_cc: is_numbered.then_some(5),
            abs_capture_time: Some(6),
            video_orientation: Some(7),
            dependency_descriptor: Some(13),
            ..ExtensionIds::default()
        },
        cname: "room".to_owned(),
    }
}
