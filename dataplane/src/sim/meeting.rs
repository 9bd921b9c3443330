//! What people do in a world: join, publish, subscribe, leave; what control does, without control.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use super::network::{Link, LinkSpec, Rng};
use super::peer::{Peer, PeerConfig, PeerIce, PublicationSpec};
use super::reception::ReceptionSpec;
use super::source::{MediaSource, Shape, Synthetic};
use super::world::{Seat, SeatId, TrackInfo, World};
use crate::command::{
    Command, DtlsRole, DtlsSpec, ExtensionIds, Feed, Fingerprint, Format, IceSpec, MediaKind,
    PayloadKind, SenderFormat, SenderSpec, SessionSpec, Simulcast, Source, TrackSpec,
};
use crate::id::{GroupId, Mid, PayloadType, SenderId, SessionId, Ssrc, TrackId};

/// What publishers number their extensions with; receivers have other numbers.
const PUBLISHED: ExtensionIds = extensions(1, 2);
const RECEIVED: ExtensionIds = ExtensionIds {
    transport_cc: Some(TRANSPORT_ID),
    ..extensions(4, 6)
};

/// Where receivers find transport-wide numbers.
const TRANSPORT_ID: u8 = 7;

/// All who speak in a world compete.
const EVERYBODY: GroupId = GroupId(1);

const fn extensions(mid: u8, audio_level: u8) -> ExtensionIds {
    ExtensionIds {
        mid: Some(mid),
        rid: None,
        repaired_rid: None,
        audio_level: Some(audio_level),
        abs_send_time: None,
        transport_cc: None,
        abs_capture_time: None,
        video_orientation: None,
        playout_delay: None,
        dependency_descriptor: None,
    }
}

/// How a published stream starts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishOptions {
    /// Audio or video.
    pub kind: MediaKind,
    /// Frames.
    pub shape: Shape,
    /// Whether its SSRCs are in the SDP; otherwise the engine finds it by MID.
    pub signalled: bool,
    /// Its first sequence number.
    pub first_sequence: u16,
}

impl PublishOptions {
    /// A microphone.
    pub const AUDIO: PublishOptions = PublishOptions {
        kind: MediaKind::Audio,
        shape: Shape::AUDIO,
        signalled: false,
        first_sequence: 1_000,
    };

    /// A camera.
    pub const VIDEO: PublishOptions = PublishOptions {
        kind: MediaKind::Video,
        shape: Shape::VIDEO,
        signalled: false,
        first_sequence: 30_000,
    };
}

impl World {
    /// Puts a client behind a network with the same faults both ways.
    pub fn join(&mut self, network: LinkSpec) -> SeatId {
        self.join_as(network, self.certificate.fingerprint())
    }

    /// The same for somebody whose SDP announced a certificate of this fingerprint, whatever they have.
    pub fn join_as(&mut self, network: LinkSpec, announced: [u8; 32]) -> SeatId {
        let number = self.next_number();
        let seat = SeatId(number as usize);
        let session = SessionId(number);
        let address = self.next_address();
        let ice = self.next_ice();
        let mut peer = Peer::new(
            self.now,
            PeerConfig {
                ice: ice.clone(),
                dtls: DtlsSpec {
                    role: DtlsRole::Client,
                    fingerprints: vec![Fingerprint::Sha256(self.node.fingerprint())],
                },
                certificate: self.certificate.clone(),
                epoch: self.epoch,
                seed: self.rng.next_u64(),
                cname: format!("peer-{number}"),
                report_interval: self.config.report_interval,
            },
        );
        let spec = SessionSpec {
            session,
            ice: as_server(&ice),
            dtls: DtlsSpec {
                role: DtlsRole::Server,
                fingerprints: vec![Fingerprint::Sha256(announced)],
            },
            cname: format!("peer-{number}"),
        };
        self.command(Command::Open(Box::new(spec)));
        let (up, down) = (self.rng.next_u64(), self.rng.next_u64());
        self.addresses.insert(address, seat);
        peer.answer_feedback(TRANSPORT_ID);
        let seat_state = Seat {
            due: peer.poll_timeout(),
            peer,
            session,
            address,
            up: Link::new(network, up),
            down: Link::new(network, down),
            vanished: false,
            publications: BTreeMap::new(),
            receptions: BTreeMap::new(),
        };
        self.seats.insert(seat, seat_state);
        seat
    }

    /// Changes a client's network.
    pub fn set_network(&mut self, seat: SeatId, network: LinkSpec) {
        let seat = self.seat_mut(seat);
        seat.up.set_spec(network);
        seat.down.set_spec(network);
    }

    /// A client leaves properly: control closes its session and everybody's streams from it.
    pub fn leave(&mut self, seat: SeatId) {
        let Some(state) = self.seats.remove(&seat) else {
            return;
        };
        for sender in state.receptions.keys() {
            self.feeds.remove(sender);
        }
        for track in state.publications.keys() {
            self.drop_track(*track);
        }
        self.addresses.remove(&state.address);
        self.command(Command::Close {
            session: state.session,
        });
        self.drive_engine();
    }

    /// A client's machine loses power.
    pub fn vanish(&mut self, seat: SeatId) {
        let seat = self.seat_mut(seat);
        seat.vanished = true;
        seat.due = None;
    }

    /// A client closes its tab: it says goodbye and vanishes.
    pub fn hang_up(&mut self, seat: SeatId) {
        let now = self.now;
        self.seat_mut(seat).peer.handle_close(now);
        self.drain_peer(seat);
        self.seat_mut(seat).due = None;
    }

    /// A client restarts ICE, from a new address or the old one (RFC 8445 section 9).
    pub fn restart_ice(&mut self, seat: SeatId, new_address: bool) {
        let session = self.seat(seat).session;
        let ice = self.next_ice();
        self.command(Command::RestartIce {
            session,
            ice: as_server(&ice),
        });
        if new_address {
            self.move_address(seat);
        }
        let now = self.now;
        let state = self.seat_mut(seat);
        state.peer.restart_ice(now, ice);
        self.drain_peer(seat);
    }

    /// A client's address changes under it (a NAT rebinds); it notices nothing.
    pub fn move_address(&mut self, seat: SeatId) {
        let address = self.next_address();
        let old = std::mem::replace(&mut self.seat_mut(seat).address, address);
        self.addresses.remove(&old);
        self.addresses.insert(address, seat);
    }

    /// A client begins to send a synthetic stream.
    pub fn publish(&mut self, seat: SeatId, options: PublishOptions) -> TrackId {
        let number = self.next_number();
        let source = Box::new(Synthetic::new(number as u32, options.shape));
        self.publish_source(seat, options, source)
    }

    /// A client begins to send frames of any kind.
    pub fn publish_source(
        &mut self,
        seat: SeatId,
        options: PublishOptions,
        source: Box<dyn MediaSource>,
    ) -> TrackId {
        let number = self.next_number();
        let track = TrackId(number);
        let ssrc = 0x1000_0000 + number as u32 * 2;
        let mid = mid(number);
        let numbers = Numbers::of(options.kind, 96);
        let rtx = numbers.rtx.map(|payload_type| (ssrc + 1, payload_type));
        let signalled = Source {
            ssrc: Ssrc(ssrc),
            rtx: rtx.map(|(rtx, _)| Ssrc(rtx)),
        };
        let spec = TrackSpec {
            track,
            kind: options.kind,
            mid,
            sources: if options.signalled {
                vec![signalled]
            } else {
                Vec::new()
            },
            formats: vec![Format {
                payload_type: PayloadType(numbers.media),
                clock_rate: numbers.clock_rate,
                rtx: numbers.rtx.map(PayloadType),
                payload: PayloadKind::Opaque,
            }],
            extensions: PUBLISHED,
            nack: options.kind == MediaKind::Video,
            simulcast: Simulcast::None,
            group: Some(EVERYBODY),
            keeps_group: false,
        };
        let session = self.seat(seat).session;
        self.command(Command::Publish {
            session,
            track: Box::new(spec),
        });
        self.tracks.insert(track, TrackInfo { kind: options.kind });
        let publication = PublicationSpec {
            ssrc,
            rtx,
            payload_type: numbers.media,
            clock_rate: numbers.clock_rate,
            mid: PUBLISHED.mid.map(|id| (id, mid)),
            rid: None,
            audio_level: PUBLISHED
                .audio_level
                .filter(|_| options.kind == MediaKind::Audio),
            first_sequence: options.first_sequence,
            first_timestamp: self.rng.next_u32(),
        };
        let now = self.now;
        let state = self.seat_mut(seat);
        state.publications.insert(track, ssrc);
        state.peer.publish(now, publication, source);
        self.drain_peer(seat);
        track
    }

    /// A client stops sending a stream.
    pub fn unpublish(&mut self, seat: SeatId, track: TrackId) {
        let state = self.seat_mut(seat);
        if let Some(ssrc) = state.publications.remove(&track) {
            state.peer.unpublish(ssrc);
        }
        self.command(Command::Unpublish { track });
        self.drop_track(track);
    }

    /// A client receives a stream.
    pub fn subscribe(&mut self, seat: SeatId, track: TrackId) -> SenderId {
        let number = self.next_number();
        let sender = SenderId(number);
        let kind = self
            .tracks
            .get(&track)
            .map_or(MediaKind::Video, |info| info.kind);
        let ssrc = 0x2000_0000 + number as u32 * 2;
        let mid = mid(number);
        let numbers = Numbers::of(kind, 120);
        let rtx = numbers.rtx.map(|payload_type| (ssrc + 1, payload_type));
        let state = self.seat_mut(seat);
        state.receptions.insert(sender, ssrc);
        state.peer.receive(ReceptionSpec {
            ssrc,
            payload_type: numbers.media,
            rtx,
            clock_rate: numbers.clock_rate,
            mid: RECEIVED.mid.map(|id| (id, mid)),
            nack: kind == MediaKind::Video,
            pli: kind == MediaKind::Video,
        });
        let session = state.session;
        let spec = SenderSpec {
            sender,
            kind,
            mid,
            ssrc: Ssrc(ssrc),
            rtx: rtx.map(|(rtx, _)| Ssrc(rtx)),
            extensions: RECEIVED,
            cname: format!("track-{}", track.0),
        };
        self.command(Command::AddSender {
            session,
            sender: Box::new(spec),
        });
        self.feed(sender, seat, track);
        sender
    }

    /// Feeds a client's stream from another track of the same kind.
    pub fn switch(&mut self, sender: SenderId, track: TrackId) {
        if let Some((seat, _)) = self.feeds.get(&sender).copied() {
            self.feed(sender, seat, track);
        }
    }

    /// A client receives a stream no more.
    pub fn unsubscribe(&mut self, sender: SenderId) {
        let Some((seat, _)) = self.feeds.remove(&sender) else {
            return;
        };
        let state = self.seat_mut(seat);
        if let Some(ssrc) = state.receptions.remove(&sender) {
            state.peer.forget(ssrc);
        }
        self.command(Command::RemoveSender { sender });
    }

    fn feed(&mut self, sender: SenderId, seat: SeatId, track: TrackId) {
        let kind = self
            .tracks
            .get(&track)
            .map_or(MediaKind::Video, |info| info.kind);
        let numbers = Numbers::of(kind, 120);
        let format = SenderFormat {
            payload_type: PayloadType(numbers.media),
            rtx: numbers.rtx.map(PayloadType),
            red: None,
        };
        let source = Some(Feed {
            track,
            payload_types: vec![Some(format)],
        });
        self.feeds.insert(sender, (seat, track));
        self.command(Command::Feed { sender, source });
    }

    /// Everybody who receives a track does so no more.
    fn drop_track(&mut self, track: TrackId) {
        self.tracks.remove(&track);
        let fed = self.feeds.iter().filter(|(_, (_, from))| *from == track);
        let senders: Vec<SenderId> = fed.map(|(sender, _)| *sender).collect();
        for sender in senders {
            self.unsubscribe(sender);
        }
    }

    fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command);
        self.drive_engine();
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn next_address(&mut self) -> SocketAddr {
        let number = self.next_number() as u32;
        SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + number), 40_000))
    }

    fn next_ice(&mut self) -> PeerIce {
        let number = self.next_number();
        let password = |rng: &mut Rng| format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64());
        PeerIce {
            local_ufrag: format!("peer{number}"),
            local_pwd: password(&mut self.rng),
            remote_ufrag: format!("node{number}"),
            remote_pwd: password(&mut self.rng),
        }
    }
}

/// Payload types of one side.
struct Numbers {
    media: u8,
    rtx: Option<u8>,
    clock_rate: u32,
}

impl Numbers {
    fn of(kind: MediaKind, base: u8) -> Numbers {
        match kind {
            MediaKind::Audio => Numbers {
                media: base + 4,
                rtx: None,
                clock_rate: 48_000,
            },
            MediaKind::Video => Numbers {
                media: base,
                rtx: Some(base + 1),
                clock_rate: 90_000,
            },
        }
    }
}

fn mid(number: u64) -> Mid {
    Mid::new(format!("m{number}").as_bytes()).expect("a short tag")
}

fn as_server(ice: &PeerIce) -> IceSpec {
    IceSpec {
        local_ufrag: ice.remote_ufrag.clone(),
        local_pwd: ice.remote_pwd.clone(),
        remote_ufrag: ice.local_ufrag.clone(),
    }
}
