//! A client: its addresses, its credentials, its keys, and the streams that it is sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rtc_crypto::providers::AwsLcRsCrypto;
use stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};

use super::stream::Stream;
use crate::command::{DtlsRole, DtlsSpec, IceSpec, MasterKey, SessionSpec, SrtpKeys, SrtpProfile};
use crate::id::SessionId;
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::srtp::{OpenKey, RtcpKeys, SealKey};
use crate::transmit::Path;
use crate::wire::{ExtensionBlock, RtpHeader};

const PROFILES: [SrtpProfile; 3] = [
    SrtpProfile::AeadAes128Gcm,
    SrtpProfile::AeadAes256Gcm,
    SrtpProfile::Aes128CmHmacSha1_80,
];

/// Room for what sealing adds.
const OVERHEAD_MAX: usize = 32;

/// A connectivity check.
#[derive(Clone, Debug, Default)]
pub(super) struct Check {
    pub(super) bytes: Vec<u8>,
    pub(super) nominates: bool,
}

/// A client, which may have left.
pub(super) struct Client {
    pub(super) session: SessionId,
    /// Its place in the world's list.
    pub(super) number: u32,
    pub(super) worker: usize,
    pub(super) room: usize,
    pub(super) profile: SrtpProfile,
    /// Where it sends from.
    pub(super) path: Path,
    /// What its checks nominated last, if nobody else proved since that it is theirs.
    pub(super) media: Option<Path>,
    /// Every address that its checks came from.
    pub(super) proven: Vec<Path>,
    /// Whether its session is there.
    pub(super) is_here: bool,
    /// Whether the engine has its keys.
    pub(super) is_keyed: bool,
    /// Whether it sent what the model cannot follow.
    pub(super) is_loose: bool,
    pub(super) ice: IceSpec,
    pub(super) generation: u32,
    transactions: u32,
    /// The last of its checks that was taken, for who repeats it.
    pub(super) last_check: Check,
    /// The last of its packets that was taken, for who repeats or changes it.
    pub(super) last_taken: Vec<u8>,
    pub(super) seal: SealKey,
    pub(super) open: OpenKey,
    pub(super) control: RtcpKeys,
    /// By SSRC of their media.
    pub(super) streams: BTreeMap<u32, Stream>,
    /// The latest transport-wide numbers that came to it.
    pub(super) numbers: Vec<u16>,
    /// Packets that it made.
    pub(super) count: u32,
}

impl Client {
    /// A client that has said nothing.
    ///
    /// # Panics
    /// Never: its keys have the profile's lengths.
    pub(super) fn new(number: u32, worker: usize, room: usize, profile: u8) -> Client {
        let profile = PROFILES[usize::from(profile) % PROFILES.len()];
        let keys = keys_of_node(number, profile);
        let theirs = SrtpKeys {
            profile,
            receive: keys.send,
            send: keys.receive,
        };
        Client {
            session: SessionId(u64::from(number)),
            number,
            worker,
            room,
            profile,
            path: Path::udp(SocketAddr::from(([10, 0, 0, 1], 1_024 + number as u16))),
            media: None,
            proven: Vec::new(),
            is_here: true,
            is_keyed: false,
            is_loose: false,
            ice: credentials(number, 0),
            generation: 0,
            transactions: 0,
            last_check: Check::default(),
            last_taken: Vec::new(),
            seal: SealKey::new(profile, &theirs.send).expect("a key of the profile's length"),
            open: OpenKey::new(profile, &theirs.receive).expect("a key of the profile's length"),
            control: RtcpKeys::new(&theirs).expect("keys of the profile's lengths"),
            streams: BTreeMap::new(),
            numbers: Vec::new(),
            count: 0,
        }
    }

    /// What control says of it.
    pub(super) fn spec(&self) -> SessionSpec {
        SessionSpec {
            session: self.session,
            ice: self.ice.clone(),
            dtls: DtlsSpec {
                role: DtlsRole::Server,
                fingerprints: Vec::new(),
            },
            cname: format!("client-{}", self.number),
        }
    }

    /// What a handshake would have given the node.
    pub(super) fn keys_of_node(&self) -> SrtpKeys {
        keys_of_node(self.number, self.profile)
    }

    /// New credentials, which it uses from now on.
    pub(super) fn renew_credentials(&mut self) -> IceSpec {
        self.generation += 1;
        self.ice = credentials(self.number, self.generation);
        self.ice.clone()
    }

    /// A check with these credentials (RFC 8445 section 7.2.2), by the `stun` crate.
    pub(super) fn check(&mut self, nominates: bool, pwd: &str) -> Vec<u8> {
        self.transactions += 1;
        let mut transaction = [0; 12];
        let parts = self.number.to_be_bytes().into_iter();
        let parts = parts.chain(self.transactions.to_be_bytes());
        for (place, byte) in transaction.iter_mut().zip(parts) {
            *place = byte;
        }
        let username = format!("{}:{}", self.ice.local_ufrag, self.ice.remote_ufrag);
        let mut request = Message::new();
        request.set_type(BINDING_REQUEST);
        request.transaction_id = TransactionId(transaction);
        request.write_header();
        request.add(ATTR_USERNAME, username.as_bytes());
        request.add(ATTR_PRIORITY, &0x6eff_ffff_u32.to_be_bytes());
        request.add(ATTR_ICE_CONTROLLING, &7_u64.to_be_bytes());
        if nominates {
            request.add(ATTR_USE_CANDIDATE, &[]);
        }
        MessageIntegrity::new_raw_integrity_with_provider(pwd, &AwsLcRsCrypto)
            .add_to(&mut request)
            .expect("integrity comes before the fingerprint");
        FINGERPRINT
            .add_to(&mut request)
            .expect("a fingerprint fits every message");
        request.raw
    }

    /// An SRTP packet; `None` when it would be larger than a datagram.
    pub(super) fn seal_rtp(
        &mut self,
        header: &RtpHeader,
        block: &ExtensionBlock,
        payload: &[u8],
        padding: u8,
        index: u64,
    ) -> Option<Vec<u8>> {
        let mut packet = vec![0; DATAGRAM_BYTES_MAX];
        let header_len = header.write(&mut packet, block)?;
        let len = self
            .seal
            .seal_rtp(&mut packet, header_len, payload, padding, index)?;
        packet.truncate(len);
        Some(packet)
    }

    /// An SRTCP compound; `None` when it would be larger than a datagram.
    pub(super) fn seal_rtcp(&mut self, compound: &[u8]) -> Option<Vec<u8>> {
        let mut packet = vec![0; compound.len() + OVERHEAD_MAX];
        let len = self.control.seal(compound, &mut packet)?;
        packet.truncate(len);
        (len <= DATAGRAM_BYTES_MAX).then_some(packet)
    }
}

fn credentials(number: u32, generation: u32) -> IceSpec {
    IceSpec {
        local_ufrag: format!("node{number}g{generation}"),
        local_pwd: format!("a-password-of-22-characters-{number}-{generation}"),
        remote_ufrag: format!("peer{number}g{generation}"),
    }
}

fn keys_of_node(number: u32, profile: SrtpProfile) -> SrtpKeys {
    let (key_len, salt_len) = match profile {
        SrtpProfile::AeadAes128Gcm => (16, 12),
        SrtpProfile::AeadAes256Gcm => (32, 12),
        SrtpProfile::Aes128CmHmacSha1_80 => (16, 14),
    };
    let master = |direction: u8| {
        let mut key = number.to_be_bytes().to_vec();
        key.resize(key_len, direction);
        MasterKey {
            key,
            salt: vec![direction; salt_len],
        }
    };
    SrtpKeys {
        profile,
        receive: master(1),
        send: master(2),
    }
}
