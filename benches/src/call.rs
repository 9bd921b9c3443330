//! A call with known keys, as control and the handshake threads would set it up: client 0
//! publishes one stream or more, clients 1 to n receive all of them.

use dataplane::command::{
    Command, DtlsRole, DtlsSpec, ExtensionIds, Feed, Fingerprint, Format, IceSpec, MasterKey,
    MediaKind, PayloadKind, SenderFormat, SenderSpec, SessionSpec, Simulcast, Source, SrtpKeys,
    SrtpProfile, TrackSpec,
};
use dataplane::id::{Mid, PayloadType, SenderId, SessionId, Ssrc, TrackId};
use dataplane::wire::ExtensionBlock;
use rtc_crypto::providers::AwsLcRsCrypto;
use stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};

/// The first stream's SSRC at its publisher; the others' follow.
pub const SSRC: Ssrc = Ssrc(0x1234_5678);

/// The stream's payload type, on all sides.
pub const PAYLOAD_TYPE: PayloadType = PayloadType(96);

/// Most streams of a call.
pub const STREAMS_MAX: usize = 16;

const REPAIR_TYPE: PayloadType = PayloadType(97);
/// Header extension id of the MID.
pub const MID_ID: u8 = 4;

const SEND_TIME_ID: u8 = 3;

const TRANSPORT_ID: u8 = 5;

/// Header extension id of the audio level.
pub const LEVEL_ID: u8 = 1;

/// Payload bytes of the smallest packet of a voice.
pub const VOICE_MIN: usize = 31;

/// Payload bytes of the largest.
pub const VOICE_MAX: usize = 130;

/// What is published, and to how many.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Audio or video.
    pub kind: MediaKind,
    /// Receivers.
    pub subscribers: usize,
    /// Streams of the publisher, whose bursts come in turn.
    pub streams: usize,
    /// Packets sent at once.
    pub burst: usize,
    /// Payload bytes of a packet: of each, or of the largest where `varied`.
    pub payload: usize,
    /// Whether sizes vary, from [`VOICE_MIN`] up.
    pub varied: bool,
    /// Bursts a second, of all streams together.
    pub bursts_per_second: u64,
    /// What every client speaks.
    pub profile: SrtpProfile,
    /// Whether packets to subscribers have transport-wide numbers, instead of the time when they leave.
    pub is_numbered: bool,
}

/// What browsers agree on with us.
pub const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

impl Load {
    /// Frames of video: bursts of `burst` packets of 1150 bytes.
    #[must_use]
    pub fn video(subscribers: usize, burst: usize, bursts_per_second: u64) -> Load {
        Load {
            kind: MediaKind::Video,
            subscribers,
            streams: 1,
            burst,
            payload: 1150,
            varied: false,
            bursts_per_second,
            profile: PROFILE,
            is_numbered: false,
        }
    }

    /// Audio: single packets of 160 bytes.
    #[must_use]
    pub fn audio(subscribers: usize, bursts_per_second: u64) -> Load {
        Load {
            kind: MediaKind::Audio,
            subscribers,
            streams: 1,
            burst: 1,
            payload: 160,
            varied: false,
            bursts_per_second,
            profile: PROFILE,
            is_numbered: false,
        }
    }

    /// Voices in a room: 50 packets a second from each, of 31 to 130 bytes, which is what Opus with
    /// its variable bit rate makes of speech.
    #[must_use]
    pub fn voices(subscribers: usize, streams: usize) -> Load {
        Load {
            streams,
            payload: VOICE_MAX,
            varied: true,
            ..Load::audio(subscribers, 50 * streams as u64)
        }
    }

    /// RTP clock rate in Hz.
    #[must_use]
    pub fn clock_rate(&self) -> u32 {
        match self.kind {
            MediaKind::Audio => 48_000,
            MediaKind::Video => 90_000,
        }
    }

    /// The header extensions of each packet, in and out: of the same size on both sides.
    #[must_use]
    pub fn extensions(&self) -> ExtensionBlock {
        let mut block = ExtensionBlock::new();
        block.push(MID_ID, mid_of(self.kind).as_bytes());
        match self.kind {
            MediaKind::Audio => block.push(LEVEL_ID, &[60]),
            MediaKind::Video => block.push(SEND_TIME_ID, &[1, 2, 3]),
        };
        block
    }

    fn extension_ids(&self) -> ExtensionIds {
        let is_audio = self.kind == MediaKind::Audio;
        ExtensionIds {
            mid: Some(MID_ID),
            audio_level: is_audio.then_some(LEVEL_ID),
            abs_send_time: (!is_audio).then_some(SEND_TIME_ID),
            ..ExtensionIds::default()
        }
    }
}

/// The key of a client, in both directions.
#[must_use]
pub fn master_key(profile: SrtpProfile, client: usize) -> MasterKey {
    let (key_len, salt_len) = match profile {
        SrtpProfile::AeadAes128Gcm => (16, 12),
        SrtpProfile::AeadAes256Gcm => (32, 12),
        SrtpProfile::Aes128CmHmacSha1_80 => (16, 14),
    };
    let mut key = (client as u64).to_le_bytes().to_vec();
    key.resize(key_len, 7);
    MasterKey {
        key,
        salt: vec![9; salt_len],
    }
}

/// What a client's checks are authenticated with.
#[must_use]
pub fn password(client: usize) -> String {
    format!("a-password-of-22-characters-{client}")
}

/// What the node expects of a client.
#[must_use]
pub fn credentials(client: usize) -> IceSpec {
    IceSpec {
        local_ufrag: format!("node{client}"),
        local_pwd: password(client),
        remote_ufrag: format!("peer{client}"),
    }
}

/// Expects a client, whose keys will be known without a handshake.
pub fn open(client: usize) -> Command {
    expect(client, Vec::new())
}

/// Expects a client with one of these certificates.
pub fn expect(client: usize, fingerprints: Vec<Fingerprint>) -> Command {
    Command::Open(Box::new(SessionSpec {
        session: SessionId(client as u64),
        ice: credentials(client),
        dtls: DtlsSpec {
            role: DtlsRole::Server,
            fingerprints,
        },
        cname: format!("peer-{client}"),
    }))
}

/// A client's connectivity check (RFC 8445 section 7.2.2), nominating.
///
/// # Panics
/// Never: every attribute fits.
#[must_use]
pub fn check(client: usize) -> Vec<u8> {
    let ice = credentials(client);
    let username = format!("{}:{}", ice.local_ufrag, ice.remote_ufrag);
    let mut message = Message::new();
    message
        .build(&[Box::new(TransactionId::new()), Box::new(BINDING_REQUEST)])
        .expect("a header always fits");
    message.add(ATTR_USERNAME, username.as_bytes());
    message.add(ATTR_PRIORITY, &0x6e00_01ff_u32.to_be_bytes());
    message.add(ATTR_ICE_CONTROLLING, &7_u64.to_be_bytes());
    message.add(ATTR_USE_CANDIDATE, &[]);
    MessageIntegrity::new_short_term_integrity_with_provider(ice.local_pwd, &AwsLcRsCrypto)
        .add_to(&mut message)
        .expect("no attribute follows it");
    FINGERPRINT
        .add_to(&mut message)
        .expect("it is the last attribute");
    message.raw
}

/// The handshake of a client is done.
pub fn connect(load: &Load, client: usize) -> Command {
    let profile = load.profile;
    Command::DtlsConnected {
        session: SessionId(client as u64),
        keys: Box::new(SrtpKeys {
            profile,
            receive: master_key(profile, client),
            send: master_key(profile, client),
        }),
    }
}

/// The streams, from client 0 to all others: with everything that a browser negotiates.
#[must_use]
pub fn streams(load: &Load) -> Vec<Command> {
    let mut commands = Vec::new();
    for stream in 0..load.streams {
        let track = TrackId(stream as u64);
        commands.push(publish(load, 0, track, source_ssrc(stream)));
        for client in 1..=load.subscribers {
            let number = (client * STREAMS_MAX + stream) as u32;
            commands.extend(receive(load, client, number, track));
        }
    }
    commands
}

/// A client publishes a stream of this kind.
pub fn publish(load: &Load, client: usize, track: TrackId, ssrc: Ssrc) -> Command {
    Command::Publish {
        session: SessionId(client as u64),
        track: Box::new(track_spec(load, track, ssrc)),
    }
}

/// A client receives a track as its stream `number`, which is its SSRC too.
pub fn receive(load: &Load, client: usize, number: u32, track: TrackId) -> [Command; 2] {
    let sender = SenderId(u64::from(number));
    [
        Command::AddSender {
            session: SessionId(client as u64),
            sender: Box::new(sender_spec(load, sender, number)),
        },
        Command::Feed {
            sender,
            source: Some(feed(load, track)),
        },
    ]
}

/// The MID of a kind's section.
#[must_use]
pub fn mid_of(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Video => "0",
        MediaKind::Audio => "1",
    }
}

fn mid(load: &Load) -> Mid {
    Mid::new(mid_of(load.kind).as_bytes()).expect("one byte is neither empty nor too long")
}

fn repair(load: &Load) -> Option<PayloadType> {
    (load.kind == MediaKind::Video).then_some(REPAIR_TYPE)
}

fn track_spec(load: &Load, track: TrackId, ssrc: Ssrc) -> TrackSpec {
    TrackSpec {
        track,
        kind: load.kind,
        mid: mid(load),
        sources: vec![Source { ssrc, rtx: None }],
        formats: vec![Format {
            payload_type: PAYLOAD_TYPE,
            clock_rate: load.clock_rate(),
            rtx: repair(load),
            payload: PayloadKind::Opaque,
        }],
        extensions: load.extension_ids(),
        nack: load.kind == MediaKind::Video,
        simulcast: Simulcast::None,
        group: None,
        keeps_group: false,
    }
}

/// The SSRC of a stream at its publisher.
#[must_use]
pub fn source_ssrc(stream: usize) -> Ssrc {
    Ssrc(SSRC.0 + stream as u32)
}

fn sender_spec(load: &Load, sender: SenderId, ssrc: u32) -> SenderSpec {
    SenderSpec {
        sender,
        kind: load.kind,
        mid: mid(load),
        ssrc: Ssrc(ssrc),
        rtx: repair(load).map(|_| Ssrc(0x8000_0000 | ssrc)),
        extensions: ExtensionIds {
            transport_cc: load.is_numbered.then_some(TRANSPORT_ID),
            ..load.extension_ids()
        },
        cname: "room".to_owned(),
    }
}

fn feed(load: &Load, track: TrackId) -> Feed {
    Feed {
        track,
        payload_types: vec![Some(SenderFormat {
            payload_type: PAYLOAD_TYPE,
            rtx: repair(load),
            red: None,
        })],
    }
}
