//! An engine, the time it is told, and clients whose cryptography is another library's.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::time::{Duration, Instant, UNIX_EPOCH};

use dataplane::command::{
    Command, DtlsRole, DtlsSpec, ExtensionIds, Feed, Format, IceSpec, MasterKey, MediaKind,
    PayloadKind, SenderFormat, SenderSpec, SessionSpec, Simulcast, SrtpKeys, SrtpProfile,
    TrackSpec,
};
use dataplane::counters::Counters;
use dataplane::engine::{Engine, EngineConfig};
use dataplane::event::{DtlsInput, Event};
use dataplane::id::{FormatIndex, Mid, PayloadType, SenderId, SessionId, Ssrc, TrackId};
use dataplane::limits::{BURST_BYTES_MAX, EGRESS_HOLD_MAX};
use dataplane::transmit::Path;
use dataplane::wire::{ExtensionBlock, Protocol, RtpHeader, classify};
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_shared::marshal::Unmarshal;
use stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_USE_CANDIDATE, AttrType};
use stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, TransactionId};
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

pub(crate) const PUBLISHER_PT: u8 = 96;
pub(crate) const PUBLISHER_RTX: u8 = 97;
pub(crate) const SUBSCRIBER_PT: u8 = 120;
pub(crate) const SUBSCRIBER_RTX: u8 = 121;
pub(crate) const PUBLISHER_MID_ID: u8 = 4;
pub(crate) const SUBSCRIBER_MID_ID: u8 = 9;

/// The engine and everything that came out of it and was not looked at yet.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    pub(crate) sent: Vec<(Path, Vec<u8>)>,
    /// Datagrams in each burst of RTP, in order.
    pub(crate) bursts: Vec<usize>,
    pub(crate) events: Vec<Event>,
    pub(crate) dtls: Vec<DtlsInput>,
    pub(crate) counters: Counters,
    slot: Vec<u8>,
}

impl World {
    pub(crate) fn new() -> World {
        World::with_sessions_max(100)
    }

    pub(crate) fn with_sessions_max(sessions_max: usize) -> World {
        World::with(sessions_max, 0)
    }

    /// An engine that forwards so many voices of each group.
    pub(crate) fn with_speakers(audio_speakers: usize) -> World {
        World::with(100, audio_speakers)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a beginning for the simulated time"
    )]
    fn with(sessions_max: usize, audio_speakers: usize) -> World {
        let now = Instant::now();
        let config = EngineConfig {
            epoch: (now, UNIX_EPOCH + Duration::from_secs(1_000_000)),
            seed: 42,
            sessions_max,
            publisher_bitrate_bps_max: 2_500_000,
            hold_max: EGRESS_HOLD_MAX,
            audio_speakers,
        };
        World {
            engine: Engine::new(config),
            now,
            sent: Vec::new(),
            bursts: Vec::new(),
            events: Vec::new(),
            dtls: Vec::new(),
            counters: Counters::default(),
            slot: vec![0; BURST_BYTES_MAX],
        }
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command);
        self.drain();
    }

    /// One datagram arrives.
    pub(crate) fn arrive(&mut self, path: Path, datagram: &[u8]) {
        let mut bytes = datagram.to_vec();
        let segment = bytes.len();
        self.engine
            .handle_datagrams(self.now, path, &mut bytes, segment);
    }

    pub(crate) fn drain(&mut self) {
        self.drain_sends(usize::MAX);
    }

    /// Takes only so many sends, as a driver does whose socket is full.
    pub(crate) fn drain_sends(&mut self, most: usize) {
        for _ in 0..most {
            let Some(transmit) = self.engine.poll_transmit(self.now, &mut self.slot) else {
                break;
            };
            let bytes = self.slot[..transmit.len].to_vec();
            if classify(&bytes) == Some(Protocol::Rtp) {
                self.bursts.push(transmit.segments());
            }
            let datagrams = bytes.chunks(transmit.segment);
            self.sent
                .extend(datagrams.map(|datagram| (transmit.path, datagram.to_vec())));
        }
        self.dtls
            .extend(std::iter::from_fn(|| self.engine.poll_dtls()));
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Report(report) => self.counters = report.counters,
                other => self.events.push(other),
            }
        }
    }

    /// Time passes, and every timer fires when it is due.
    pub(crate) fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.drain();
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub(crate) fn ms(&mut self, ms: u64) {
        self.advance(Duration::from_millis(ms));
    }

    /// The counters, as of now: at most a second is spent on waiting for a report.
    pub(crate) fn counters(&mut self) -> Counters {
        self.ms(1_000);
        self.counters.clone()
    }

    /// What was sent to this path since the last look.
    pub(crate) fn sent_to(&mut self, path: Path) -> Vec<Vec<u8>> {
        let (mine, others) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|s| s.0 == path);
        self.sent = others;
        let mine: Vec<(Path, Vec<u8>)> = mine;
        mine.into_iter().map(|(_, bytes)| bytes).collect()
    }
}

/// A client.
pub(crate) struct Peer {
    pub(crate) session: SessionId,
    pub(crate) path: Path,
    pub(crate) ice: IceSpec,
    pub(crate) seal: Context,
    pub(crate) open: Context,
    profile: SrtpProfile,
    transactions: u8,
}

impl Peer {
    /// A client whose session is open, and who has not said anything yet.
    pub(crate) fn open(world: &mut World, number: u64) -> Peer {
        Peer::open_with(world, number, SrtpProfile::AeadAes128Gcm)
    }

    fn open_with(world: &mut World, number: u64, profile: SrtpProfile) -> Peer {
        let ice = credentials(number, "a");
        let spec = SessionSpec {
            session: SessionId(number),
            ice: ice.clone(),
            dtls: DtlsSpec {
                role: DtlsRole::Server,
                fingerprints: Vec::new(),
            },
            cname: format!("peer-{number}"),
        };
        world.command(Command::Open(Box::new(spec)));
        let [.., high, low] = number.to_be_bytes();
        let address = SocketAddr::from(([192, 0, high.wrapping_add(2), low], 5_000));
        let seeds = [number as u8, (number as u8).wrapping_add(100)];
        let [receive, send] = seeds.map(|seed| context_with(seed, profile));
        Peer {
            session: SessionId(number),
            path: Path::udp(address),
            ice,
            seal: receive,
            open: send,
            profile,
            transactions: 0,
        }
    }

    /// A client whose connection is up.
    pub(crate) fn connect(world: &mut World, number: u64) -> Peer {
        Peer::connect_with(world, number, SrtpProfile::AeadAes128Gcm)
    }

    /// The same with another SRTP profile.
    pub(crate) fn connect_with(world: &mut World, number: u64, profile: SrtpProfile) -> Peer {
        let mut peer = Peer::open_with(world, number, profile);
        peer.check(world, true);
        peer.handshake(world);
        world.sent_to(peer.path);
        peer
    }

    /// The handshake threads say that it is done.
    pub(crate) fn handshake(&self, world: &mut World) {
        let number = self.session.0 as u8;
        let [receive, send] =
            [number, number.wrapping_add(100)].map(|seed| master(seed, self.profile));
        let keys = Box::new(SrtpKeys {
            profile: self.profile,
            receive,
            send,
        });
        world.command(Command::DtlsConnected {
            session: self.session,
            keys,
        });
    }

    /// Sends a connectivity check from the client's path.
    pub(crate) fn check(&mut self, world: &mut World, nominate: bool) {
        self.transactions = self.transactions.wrapping_add(1);
        let check = check(&self.ice, self.transactions, nominate);
        world.arrive(self.path, &check);
        world.drain();
    }

    /// Encrypts and sends an RTP packet; the engine is not drained.
    pub(crate) fn send(&mut self, world: &mut World, packet: &[u8]) {
        let sealed = self.seal.encrypt_rtp(packet).unwrap();
        world.arrive(self.path, &sealed);
    }

    /// Encrypts and sends an RTCP compound.
    pub(crate) fn send_rtcp(&mut self, world: &mut World, packets: &[Box<dyn rtcp::Packet>]) {
        let plain = rtcp::packet::marshal(packets).unwrap();
        let sealed = self.seal.encrypt_rtcp(&plain).unwrap();
        world.arrive(self.path, &sealed);
        world.drain();
    }

    /// Everything that arrived since the last look, decrypted: media, and control.
    pub(crate) fn receive(
        &mut self,
        world: &mut World,
    ) -> (Vec<rtp::Packet>, Vec<Box<dyn rtcp::Packet>>) {
        world.drain();
        self.read(world)
    }

    /// The same of what the engine was already given room to send.
    pub(crate) fn read(
        &mut self,
        world: &mut World,
    ) -> (Vec<rtp::Packet>, Vec<Box<dyn rtcp::Packet>>) {
        let (mut media, mut control) = (Vec::new(), Vec::new());
        for datagram in world.sent_to(self.path) {
            match classify(&datagram) {
                Some(Protocol::Rtp) => {
                    let plain = self.open.decrypt_rtp(&datagram).unwrap();
                    media.push(rtp::Packet::unmarshal(&mut plain.freeze()).unwrap());
                }
                Some(Protocol::Rtcp) => {
                    let plain = self.open.decrypt_rtcp(&datagram).unwrap();
                    control.extend(rtcp::packet::unmarshal(&mut plain.freeze()).unwrap());
                }
                other => assert!(other.is_some(), "nothing else is ever sent"),
            }
        }
        (media, control)
    }

    pub(crate) fn media(&mut self, world: &mut World) -> Vec<rtp::Packet> {
        self.receive(world).0
    }

    /// The control packets of one kind that arrived since the last look.
    pub(crate) fn control<T: Clone + 'static>(&mut self, world: &mut World) -> Vec<T> {
        of_kind(&self.receive(world).1)
    }
}

pub(crate) fn of_kind<T: Clone + 'static>(packets: &[Box<dyn rtcp::Packet>]) -> Vec<T> {
    packets
        .iter()
        .filter_map(|p| p.as_any().downcast_ref::<T>().cloned())
        .collect()
}

pub(crate) fn context(seed: u8) -> Context {
    context_with(seed, SrtpProfile::AeadAes128Gcm)
}

pub(crate) fn master(seed: u8, profile: SrtpProfile) -> MasterKey {
    let (key_len, salt_len) = match profile {
        SrtpProfile::AeadAes128Gcm => (16, 12),
        SrtpProfile::AeadAes256Gcm => (32, 12),
        SrtpProfile::Aes128CmHmacSha1_80 => (16, 14),
    };
    MasterKey {
        key: vec![seed; key_len],
        salt: vec![seed ^ 0xff; salt_len],
    }
}

fn context_with(seed: u8, profile: SrtpProfile) -> Context {
    let keys = master(seed, profile);
    let profile = match profile {
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    Context::new(
        &keys.key,
        &keys.salt,
        profile,
        None,
        None,
        AwsLcRsProvider::new().crypto(),
    )
    .unwrap()
}

pub(crate) fn credentials(number: u64, generation: &str) -> IceSpec {
    IceSpec {
        local_ufrag: format!("local{number}{generation}"),
        local_pwd: format!("password-of-22-characters-{number}{generation}"),
        remote_ufrag: format!("remote{number}{generation}"),
    }
}

/// A check by the library `stun`.
pub(crate) fn check(ice: &IceSpec, transaction: u8, nominate: bool) -> Vec<u8> {
    check_with_password(ice, &ice.local_pwd, transaction, nominate)
}

pub(crate) fn check_with_password(
    ice: &IceSpec,
    pwd: &str,
    transaction: u8,
    nominate: bool,
) -> Vec<u8> {
    let nomination = [
        (ATTR_ICE_CONTROLLING, &[7; 8][..]),
        (ATTR_USE_CANDIDATE, &[]),
    ];
    let attributes = &nomination[..1 + usize::from(nominate)];
    check_with_attributes(ice, pwd, transaction, attributes)
}

/// A check that says this beside what every check says.
pub(crate) fn check_with_attributes(
    ice: &IceSpec,
    pwd: &str,
    transaction: u8,
    attributes: &[(AttrType, &[u8])],
) -> Vec<u8> {
    let mut message = Message::new();
    let username = format!("{}:{}", ice.local_ufrag, ice.remote_ufrag);
    let mut transaction_id = TransactionId::new();
    transaction_id.0 = [transaction; 12];
    message
        .build(&[
            Box::new(transaction_id),
            Box::new(BINDING_REQUEST),
            Box::new(stun::textattrs::TextAttribute::new(
                stun::attributes::ATTR_USERNAME,
                username,
            )),
        ])
        .unwrap();
    message.add(stun::attributes::ATTR_PRIORITY, &[0x6e, 0, 1, 0xff]);
    for (kind, value) in attributes {
        message.add(*kind, value);
    }
    let provider = AwsLcRsProvider::new();
    let integrity = stun::integrity::MessageIntegrity::new_short_term_integrity_with_provider(
        pwd.to_owned(),
        provider.crypto(),
    );
    message
        .build_more(&integrity)
        .build_more(&stun::fingerprint::FINGERPRINT);
    message.raw
}

trait BuildMore {
    fn build_more(&mut self, setter: &dyn stun::message::Setter) -> &mut Self;
}

impl BuildMore for Message {
    fn build_more(&mut self, setter: &dyn stun::message::Setter) -> &mut Message {
        setter.add_to(self).unwrap();
        self
    }
}

/// Whether the datagram is a success answer to a check, by the library `stun`.
pub(crate) fn is_success(datagram: &[u8]) -> bool {
    let mut message = Message::new();
    message.unmarshal_binary(datagram).is_ok() && message.typ == BINDING_SUCCESS
}

/// A packet of a publisher.
#[derive(Clone, Copy)]
pub(crate) struct Media<'a> {
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) extensions: &'a [(u8, &'a [u8])],
    pub(crate) payload: &'a [u8],
}

impl Media<'_> {
    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut block = ExtensionBlock::new();
        for (id, value) in self.extensions {
            assert!(block.push(*id, value));
        }
        let header = RtpHeader {
            marker: self.marker,
            payload_type: PayloadType(self.payload_type),
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: Ssrc(self.ssrc),
            padding: false,
        };
        let mut packet = vec![0; 2_000];
        let len = header.write(&mut packet, &block).unwrap();
        packet.truncate(len);
        packet.extend_from_slice(self.payload);
        packet
    }
}

/// A video packet with its MID.
pub(crate) fn video<'a>(ssrc: u32, sequence: u16, payload: &'a [u8]) -> Media<'a> {
    Media {
        ssrc,
        payload_type: PUBLISHER_PT,
        sequence,
        timestamp: u32::from(sequence) * 3_000,
        marker: false,
        extensions: &[(PUBLISHER_MID_ID, b"v")],
        payload,
    }
}

pub(crate) fn video_format() -> Format {
    Format {
        payload_type: PayloadType(PUBLISHER_PT),
        clock_rate: 90_000,
        rtx: Some(PayloadType(PUBLISHER_RTX)),
        payload: PayloadKind::Opaque,
    }
}

pub(crate) fn video_track(id: u64) -> TrackSpec {
    TrackSpec {
        track: TrackId(id),
        kind: MediaKind::Video,
        mid: Mid::new(b"v").unwrap(),
        sources: Vec::new(),
        formats: vec![video_format()],
        extensions: ExtensionIds {
            mid: Some(PUBLISHER_MID_ID),
            ..ExtensionIds::default()
        },
        nack: true,
        simulcast: Simulcast::None,
        group: None,
        keeps_group: false,
    }
}

/// Opus, and RED around it.
pub(crate) fn audio_track(id: u64) -> TrackSpec {
    let format = |payload_type, payload| Format {
        payload_type: PayloadType(payload_type),
        clock_rate: 48_000,
        rtx: None,
        payload,
    };
    TrackSpec {
        track: TrackId(id),
        kind: MediaKind::Audio,
        mid: Mid::new(b"a").unwrap(),
        sources: Vec::new(),
        formats: vec![
            format(111, PayloadKind::Opaque),
            format(63, PayloadKind::Red(FormatIndex(0))),
        ],
        extensions: ExtensionIds {
            mid: Some(PUBLISHER_MID_ID),
            audio_level: Some(1),
            ..ExtensionIds::default()
        },
        nack: false,
        simulcast: Simulcast::None,
        group: None,
        keeps_group: false,
    }
}

pub(crate) fn sender(id: u64, kind: MediaKind, rtx: bool) -> SenderSpec {
    SenderSpec {
        sender: SenderId(id),
        kind,
        mid: Mid::new(b"7").unwrap(),
        ssrc: Ssrc(0x5000 + id as u32),
        rtx: rtx.then_some(Ssrc(0x9000 + id as u32)),
        extensions: ExtensionIds {
            mid: Some(SUBSCRIBER_MID_ID),
            audio_level: Some(2),
            ..ExtensionIds::default()
        },
        cname: format!("room-{id}"),
    }
}

pub(crate) fn video_feed(track: u64) -> Feed {
    let format = SenderFormat {
        payload_type: PayloadType(SUBSCRIBER_PT),
        rtx: Some(PayloadType(SUBSCRIBER_RTX)),
        red: None,
    };
    Feed {
        track: TrackId(track),
        payload_types: vec![Some(format)],
    }
}

/// A publisher of video track 1, and a subscriber with sender 1 that is fed by it.
pub(crate) fn video_pair(world: &mut World, rtx: bool) -> (Peer, Peer) {
    watched(world, video_track(1), sender(1, MediaKind::Video, rtx))
}

/// A publisher of this track 1, and a subscriber with this sender 1 that is fed by it.
pub(crate) fn watched(world: &mut World, track: TrackSpec, sender: SenderSpec) -> (Peer, Peer) {
    let publisher = Peer::connect(world, 1);
    let subscriber = Peer::connect(world, 2);
    let (session, track) = (publisher.session, Box::new(track));
    world.command(Command::Publish { session, track });
    let (session, sender) = (subscriber.session, Box::new(sender));
    world.command(Command::AddSender { session, sender });
    world.command(Command::Feed {
        sender: SenderId(1),
        source: Some(video_feed(1)),
    });
    (publisher, subscriber)
}

/// A sender of pictures only, with retransmissions.
pub(crate) fn picture_sender() -> SenderSpec {
    let mut outgoing = sender(1, MediaKind::Video, true);
    outgoing.extensions.audio_level = None;
    outgoing
}
