//! Bodies of tests and fuzz targets: whoever holds the keys seals whatever the bytes say, and the
//! `webrtc-srtp` crate reads the same or seals for us.
//!
//! A body panics when ours does, when one end does not get what the other sealed, or when anything is
//! taken that was changed, came before or was never sealed.

use std::collections::BTreeSet;

use rtc_crypto::providers::AwsLcRsCrypto;
use rtc_shared::marshal::{MarshalSize, Unmarshal};
use webrtc_srtp::context::Context;
use webrtc_srtp::option::srtcp_replay_protection;
use webrtc_srtp::protection_profile::ProtectionProfile;

use super::derivation::lengths;
use super::{OpenKey, RtcpKeys, RtcpRefused, SealKey, SequenceWindow};
use crate::command::{MasterKey, SrtpKeys, SrtpProfile};
use crate::limits::{DATAGRAM_BYTES_MAX, RTCP_SOURCES_MAX};
use crate::sim::script::Script;
use crate::wire::RtpView;

const PROFILES: [(SrtpProfile, ProtectionProfile); 3] = [
    (SrtpProfile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
    (SrtpProfile::AeadAes256Gcm, ProtectionProfile::AeadAes256Gcm),
    (
        SrtpProfile::Aes128CmHmacSha1_80,
        ProtectionProfile::Aes128CmHmacSha1_80,
    ),
];

/// Packets of one run, and of one burst.
const PACKETS_MAX: usize = 64;
const BURST_MAX: usize = 40;

/// Room for what sealing adds.
const OVERHEAD_MAX: usize = 32;

/// The highest index that is the first: the number before the rollover, with room for what is left out,
/// for nobody can know of a rollover before the first packet.
const FIRST_MAX: u64 = 65_000;

/// The source of all media packets.
const SSRC: [u8; 4] = [0, 0, 0, 7];

/// Media of one source.
pub fn media(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let Some((profile, theirs)) = script.choose(&PROFILES) else {
        return;
    };
    let mut media = Media {
        seal: SealKey::new(profile, &master(profile, 1)).expect("a key of the profile's length"),
        open: OpenKey::new(profile, &master(profile, 1)).expect("a key of the profile's length"),
        reader: context(profile, theirs, 1),
        window: SequenceWindow::new(),
        index: FIRST_MAX - u64::from(script.short()) % FIRST_MAX,
        last: Vec::new(),
    };
    media.catch_up();
    for _ in 0..PACKETS_MAX {
        if script.is_over() {
            return;
        }
        match script.byte() % 6 {
            0..=2 => media.send(&mut script),
            3 => media.send_changed(&mut script),
            4 => media.refuse(script.datagram()),
            _ => media.send_burst(&mut script),
        }
    }
}

struct Media {
    seal: SealKey,
    open: OpenKey,
    reader: Context,
    window: SequenceWindow,
    /// Of the next packet.
    index: u64,
    /// What was sealed last.
    last: Vec<u8>,
}

impl Media {
    /// Any plaintext under the next index, or one a little further on.
    fn send(&mut self, script: &mut Script<'_>) {
        self.index += u64::from(script.byte());
        let mut plain = script.datagram().to_vec();
        plain.truncate(DATAGRAM_BYTES_MAX - OVERHEAD_MAX);
        if plain.len() < 12 {
            return;
        }
        let [high, low] = (self.index as u16).to_be_bytes();
        plain[0] = plain[0] & 0x3f | 0x80;
        plain[2..4].copy_from_slice(&[high, low]);
        plain[8..12].copy_from_slice(&SSRC);
        let Ok(view) = RtpView::parse(&plain) else {
            return;
        };
        let (header_len, sequence) = (view.header_len(), view.sequence());
        let payload = plain.get(header_len..).expect("a header within its packet");
        let mut packet = vec![0; plain.len() + self.seal.overhead()];
        packet[..header_len].copy_from_slice(&plain[..header_len]);
        let sealed = self
            .seal
            .seal_rtp(&mut packet, header_len, payload, 0, self.index);
        assert_eq!(sealed, Some(packet.len()));
        let mut in_place = plain.clone();
        in_place.resize(packet.len(), 0);
        let len = payload.len();
        let sealed = self
            .seal
            .seal_rtp_in_place(&mut in_place, header_len, len, self.index);
        assert_eq!(sealed, Some(packet.len()));
        assert_eq!(in_place, packet, "two ways to seal");

        let estimate = self.window.estimate(sequence);
        assert_eq!(
            estimate, self.index,
            "a receiver who heard of it can follow"
        );
        let mut out = [0; DATAGRAM_BYTES_MAX];
        let opened = self.open.open_rtp(&packet, header_len, estimate, &mut out);
        assert_eq!(opened, Ok(payload.len()));
        assert_eq!(out.get(..payload.len()), Some(payload));
        self.window.accept(estimate);

        // The crate refuses elements of extensions that we do not look at, and counts others otherwise.
        let header = ::rtp::Header::unmarshal(&mut &plain[..]);
        if header.is_ok_and(|header| header.marshal_size() == header_len) {
            let read = self.reader.decrypt_rtp(&packet);
            assert_eq!(read.expect("the crate reads what we seal")[..], plain);
        }
        self.last = packet;
        self.index += 1;
    }

    /// The last packet with a byte changed, or cut short, is nobody's.
    fn send_changed(&mut self, script: &mut Script<'_>) {
        let (at, mask) = (script.short(), script.byte());
        let mut packet = self.last.clone();
        let at = usize::from(at) % packet.len().max(1);
        match packet.get_mut(at) {
            Some(byte) if mask != 0 => *byte ^= mask,
            _ => packet.truncate(at),
        }
        self.refuse(&packet);
    }

    fn refuse(&self, packet: &[u8]) {
        let Ok(view) = RtpView::parse(packet) else {
            return;
        };
        let index = self.window.estimate(view.sequence());
        let mut out = [0; DATAGRAM_BYTES_MAX];
        let opened = self
            .open
            .open_rtp(packet, view.header_len(), index, &mut out);
        assert!(opened.is_err(), "nobody sealed it");
    }

    /// Packets of a burst are those sealed one by one.
    fn send_burst(&mut self, script: &mut Script<'_>) {
        let (count, size) = (1 + script.below(BURST_MAX), 1 + script.short() % 1_100);
        let (fill, last) = (script.byte(), script.short());
        let size = usize::from(size);
        let mut header = vec![0x80, 96, 0, 0, 0, 0, 0, 0];
        header.extend_from_slice(&SSRC);
        let (mut singly, mut burst, mut indices) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..count {
            let len = match number + 1 == count {
                true => 1 + usize::from(last) % size,
                false => size,
            };
            let payload = vec![fill.wrapping_add(number as u8); len];
            let mut packet = vec![0; header.len() + len + self.seal.overhead()];
            packet[..header.len()].copy_from_slice(&header);
            let mut alone = packet.clone();
            let (header_len, index) = (header.len(), self.index);
            let sealed = self
                .seal
                .seal_rtp(&mut alone, header_len, &payload, 0, index);
            assert_eq!(sealed, Some(alone.len()));
            let sealed = self
                .seal
                .seal_rtp_of_burst(&mut packet, header_len, &payload, 0, index);
            assert_eq!(sealed, Some(packet.len()));
            singly.extend_from_slice(&alone);
            burst.extend_from_slice(&packet);
            indices.push(index);
            self.index += 1;
        }
        let segment = header.len() + size + self.seal.overhead();
        let segment = segment.min(burst.len());
        let signed = self.seal.sign_burst(&mut burst, segment, &indices);
        assert_eq!(signed, Some(()));
        assert!(burst == singly, "{count} of {size}");
        // The receiver gets none of them: it must not fall behind.
        if let Some(index) = indices.last() {
            self.window.accept(*index);
            self.last.clear();
            self.catch_up();
        }
    }

    /// The crate's estimate follows by packets only, and not by those that it refuses: it gets one.
    fn catch_up(&mut self) {
        let mut packet = vec![0x80, 96];
        packet.extend_from_slice(&(self.index as u16).to_be_bytes());
        packet.extend_from_slice(&[0; 4]);
        packet.extend_from_slice(&SSRC);
        let header_len = packet.len();
        packet.resize(header_len + self.seal.overhead(), 0);
        let sealed = self
            .seal
            .seal_rtp_in_place(&mut packet, header_len, 0, self.index);
        assert_eq!(sealed, Some(packet.len()));
        assert!(self.reader.decrypt_rtp(&packet).is_ok());
        self.window.accept(self.index);
        self.last = packet;
        self.index += 1;
    }
}

/// Control packets of many sources, both ways.
pub fn control(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let Some((profile, theirs)) = script.choose(&PROFILES) else {
        return;
    };
    let keys = |send, receive| SrtpKeys {
        profile,
        receive: master(profile, receive),
        send: master(profile, send),
    };
    let mut control = Control {
        ours: RtcpKeys::new(&keys(1, 2)).expect("keys of the profile's lengths"),
        peer: RtcpKeys::new(&keys(2, 1)).expect("keys of the profile's lengths"),
        reader: context(profile, theirs, 1),
        writer: context(profile, theirs, 2),
        heard: BTreeSet::new(),
        heard_by_peer: BTreeSet::new(),
        last: Vec::new(),
    };
    for _ in 0..PACKETS_MAX {
        if script.is_over() {
            return;
        }
        match script.byte() % 5 {
            0 | 1 => control.send(script.datagram()),
            2 => control.receive(script.datagram()),
            3 => control.send_changed(&mut script),
            _ => control.refuse(script.datagram()),
        }
    }
}

struct Control {
    ours: RtcpKeys,
    peer: RtcpKeys,
    reader: Context,
    writer: Context,
    /// Sources of which something was taken, here and at the peer.
    heard: BTreeSet<[u8; 4]>,
    heard_by_peer: BTreeSet<[u8; 4]>,
    /// What was sealed for us last.
    last: Vec<u8>,
}

impl Control {
    /// We seal any plaintext: the crate and our own reader open it, once.
    fn send(&mut self, compound: &[u8]) {
        let compound = compound.get(..1_200).unwrap_or(compound);
        let mut packet = vec![0; compound.len() + OVERHEAD_MAX];
        let Some(len) = self.ours.seal(compound, &mut packet) else {
            assert!(compound.len() < 8, "all but less than a header is sealed");
            return;
        };
        packet.truncate(len);
        let read = self.reader.decrypt_rtcp(&packet);
        if ::rtcp::header::Header::unmarshal(&mut &compound[..]).is_ok() {
            assert_eq!(read.expect("the crate reads what we seal")[..], *compound);
        }
        open(&mut self.peer, &mut self.heard_by_peer, &packet, compound);
    }

    /// The crate seals for us.
    fn receive(&mut self, compound: &[u8]) {
        let compound = compound.get(..1_200).unwrap_or(compound);
        let Ok(packet) = self.writer.encrypt_rtcp(compound) else {
            return;
        };
        open(&mut self.ours, &mut self.heard, &packet, compound);
        self.last = packet.to_vec();
    }

    /// The last packet with a byte changed, or cut short.
    fn send_changed(&mut self, script: &mut Script<'_>) {
        let (at, mask) = (script.short(), script.byte());
        let mut packet = std::mem::take(&mut self.last);
        let at = usize::from(at) % packet.len().max(1);
        match packet.get_mut(at) {
            Some(byte) if mask != 0 => *byte ^= mask,
            _ => packet.truncate(at),
        }
        self.refuse(&packet);
    }

    fn refuse(&mut self, packet: &[u8]) {
        let mut out = [0; 2 * DATAGRAM_BYTES_MAX];
        let opened = self.ours.open(packet, &mut out);
        assert!(opened.is_err(), "nobody sealed it");
    }
}

/// Opens what is authentic, and once more. A source too many is refused.
fn open(keys: &mut RtcpKeys, heard: &mut BTreeSet<[u8; 4]>, packet: &[u8], compound: &[u8]) {
    let ssrc = compound.get(4..).and_then(<[u8]>::first_chunk);
    let ssrc = *ssrc.expect("what was sealed has a header");
    let is_one_too_many = heard.len() >= RTCP_SOURCES_MAX && !heard.contains(&ssrc);
    let mut out = [0; 2 * DATAGRAM_BYTES_MAX];
    let opened = keys.open(packet, &mut out);
    if is_one_too_many {
        assert_eq!(opened, Err(RtcpRefused::SourcesExceeded));
        return;
    }
    heard.insert(ssrc);
    assert_eq!(opened, Ok(compound.len()));
    assert_eq!(out.get(..compound.len()), Some(compound));
    assert_eq!(keys.open(packet, &mut out), Err(RtcpRefused::Replayed));
}

fn master(profile: SrtpProfile, number: u8) -> MasterKey {
    let (key_len, salt_len) = lengths(profile);
    MasterKey {
        key: vec![number; key_len],
        salt: vec![!number; salt_len],
    }
}

fn context(profile: SrtpProfile, theirs: ProtectionProfile, number: u8) -> Context {
    let master = master(profile, number);
    Context::new(
        &master.key,
        &master.salt,
        theirs,
        None,
        Some(srtcp_replay_protection(64)),
        &AwsLcRsCrypto,
    )
    .expect("a key of the profile's length")
}
