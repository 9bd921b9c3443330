//! SRTCP: both directions of one session's control packets (RFC 3711 section 3.4, RFC 7714 section 9).
//!
//! Our own beside the crate `webrtc-srtp` (which is the oracle of its tests) for two reasons: that one
//! returns a packet whose encryption flag is clear without authenticating it in the counter mode
//! profile, and keeps state for every SSRC that an unauthenticated packet names.

use serde::{Deserialize, Serialize};

use super::cipher::{Cipher, Envelope, Kind, Tag};
use super::key::KeyError;
use crate::command::SrtpKeys;
use crate::limits::{RTCP_SOURCES_MAX, TAKE_OVER_RTCP_JUMP};

/// Bytes of an RTCP packet that stay readable: its header and the sender's SSRC.
const CLEAR_LEN: usize = 8;

/// Bytes of encryption flag and index.
const INDEX_LEN: usize = 4;

/// Says that the packet is encrypted (RFC 3711 section 3.4).
const ENCRYPTED: u32 = 0x8000_0000;

/// Why a control packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RtcpRefused {
    /// It is not from the holder of the key, was changed on its way, or is not encrypted.
    #[error("authentication failed")]
    Unauthenticated,
    /// It came before, or is too old to tell.
    #[error("replayed or older than the replay window")]
    Replayed,
    /// It comes from one source too many.
    #[error("more than {RTCP_SOURCES_MAX} sources of control packets")]
    SourcesExceeded,
}

/// The keys of a session's control packets, the index of what we send and the replay state of what we
/// receive.
#[derive(Debug)]
pub struct RtcpKeys {
    seal: Cipher,
    /// Index of the next packet that we send, whatever its source: a receiver sees it only grow.
    next_index: u32,
    open: Cipher,
    /// Replay state of each source that sent an authentic packet. Few: a linear search finds it.
    sources: Vec<ReplayWindow>,
}

/// How far a session's control packets are, for a process that goes on with its keys.
#[derive(Debug, Serialize, Deserialize)]
pub struct RtcpProgress {
    next_index: u32,
    sources: Vec<ReplayWindow>,
}

impl RtcpKeys {
    /// What another process goes on with.
    #[must_use]
    pub fn progress(&self) -> RtcpProgress {
        RtcpProgress {
            next_index: self.next_index,
            sources: self.sources.clone(),
        }
    }

    /// Goes on where another process ended, a little further on.
    pub fn resume(&mut self, progress: RtcpProgress) {
        self.next_index = progress.next_index.saturating_add(TAKE_OVER_RTCP_JUMP);
        self.sources = progress.sources;
        self.sources.truncate(RTCP_SOURCES_MAX);
    }

    /// The keys of a session.
    ///
    /// # Errors
    ///
    /// When a key or salt does not fit the profile.
    pub fn new(keys: &SrtpKeys) -> Result<RtcpKeys, KeyError> {
        Ok(RtcpKeys {
            seal: Cipher::new(Kind::Rtcp, keys.profile, &keys.send)?,
            next_index: 0,
            open: Cipher::new(Kind::Rtcp, keys.profile, &keys.receive)?,
            sources: Vec::new(),
        })
    }

    /// Bytes that sealing adds to a compound.
    #[must_use]
    pub fn overhead(&self) -> usize {
        INDEX_LEN + self.seal.tag_len()
    }

    /// Authenticates and decrypts a compound to the start of `out` and returns its length.
    ///
    /// # Errors
    ///
    /// When it is to be dropped, and why; what `out` holds then means nothing. An `out` that is shorter
    /// than the plaintext counts as unauthenticated.
    pub fn open(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, RtcpRefused> {
        let parts = Sealed::parse(packet, &self.open).ok_or(RtcpRefused::Unauthenticated)?;
        let full = self.sources.len() >= RTCP_SOURCES_MAX;
        let known = self
            .sources
            .iter_mut()
            .find(|source| source.ssrc == parts.ssrc);
        if known
            .as_ref()
            .is_some_and(|source| !source.is_fresh(parts.index))
        {
            return Err(RtcpRefused::Replayed);
        }
        let len = decrypt(&self.open, &parts, out).ok_or(RtcpRefused::Unauthenticated)?;
        match known {
            Some(source) => source.accept(parts.index),
            None if !full => {
                self.sources.push(ReplayWindow {
                    ssrc: parts.ssrc,
                    highest: parts.index,
                    seen: 1,
                });
            }
            None => return Err(RtcpRefused::SourcesExceeded),
        }
        Ok(len)
    }

    /// Encrypts a compound into `out` and returns the length of the whole; `None` without room, for
    /// less than an RTCP header, and when the 2^31 indices of a key are used up (RFC 3711 section 9.2).
    #[must_use]
    pub fn seal(&mut self, compound: &[u8], out: &mut [u8]) -> Option<usize> {
        if u64::from(self.next_index) >= u64::from(ENCRYPTED) {
            return None;
        }
        let (clear, plaintext) = compound.split_first_chunk::<CLEAR_LEN>()?;
        let word = (ENCRYPTED | self.next_index).to_be_bytes();
        let total = compound.len() + self.overhead();
        let (clear_room, room) = out.get_mut(..total)?.split_first_chunk_mut::<CLEAR_LEN>()?;
        *clear_room = *clear;
        let (body, trailer) = room.split_at_mut_checked(plaintext.len())?;
        body.copy_from_slice(plaintext);
        let tag_len = self.seal.tag_len();
        let (tag, word_room) = match &self.seal {
            Cipher::Gcm { .. } => trailer.split_at_mut_checked(tag_len)?,
            Cipher::Cm(_) => {
                let (word_room, tag) = trailer.split_at_mut_checked(INDEX_LEN)?;
                (tag, word_room)
            }
        };
        word_room.copy_from_slice(&word);
        let header = Header::new(clear, word);
        let envelope = header.envelope(&self.seal, u64::from(self.next_index));
        self.seal.seal_in_place(&envelope, body, tag, Tag::Now)?;
        self.next_index += 1;
        Some(total)
    }
}

/// The clear part of a packet and its index word, end to end as AES-GCM authenticates them (RFC 7714
/// section 9.2).
struct Header {
    clear_and_word: [u8; CLEAR_LEN + INDEX_LEN],
}

impl Header {
    fn new(clear: &[u8; CLEAR_LEN], word: [u8; INDEX_LEN]) -> Header {
        let [h0, h1, h2, h3, c0, c1, c2, c3] = *clear;
        let [w0, w1, w2, w3] = word;
        Header {
            clear_and_word: [h0, h1, h2, h3, c0, c1, c2, c3, w0, w1, w2, w3],
        }
    }

    fn envelope(&self, cipher: &Cipher, index: u64) -> Envelope<'_> {
        let &[ref clear @ .., w0, w1, w2, w3] = &self.clear_and_word;
        let &[_, _, _, _, ref ssrc @ ..] = clear;
        // Counter mode authenticates the word behind the ciphertext instead (RFC 3711 section 3.4).
        let header = match cipher {
            Cipher::Gcm { .. } => &self.clear_and_word[..],
            Cipher::Cm(_) => &clear[..],
        };
        Envelope {
            header,
            ssrc: *ssrc,
            index,
            trailer: [w0, w1, w2, w3],
        }
    }
}

/// An arrived packet, taken apart.
struct Sealed<'a> {
    clear: &'a [u8; CLEAR_LEN],
    ssrc: [u8; 4],
    ciphertext: &'a [u8],
    tag: &'a [u8],
    word: [u8; INDEX_LEN],
    index: u32,
}

impl<'a> Sealed<'a> {
    /// `None` for what is too short or not encrypted. RTCP over DTLS-SRTP always is (RFC 5764 section
    /// 4.1.2 gives no profile without), so that the flag is no way around anything.
    fn parse(packet: &'a [u8], cipher: &Cipher) -> Option<Sealed<'a>> {
        let (clear, rest) = packet.split_first_chunk::<CLEAR_LEN>()?;
        let (ciphertext, tag, word) = match cipher {
            Cipher::Gcm { .. } => {
                let (rest, word) = rest.split_last_chunk::<INDEX_LEN>()?;
                let (ciphertext, tag) =
                    rest.split_at_checked(rest.len().checked_sub(cipher.tag_len())?)?;
                (ciphertext, tag, word)
            }
            Cipher::Cm(_) => {
                let (rest, tag) =
                    rest.split_at_checked(rest.len().checked_sub(cipher.tag_len())?)?;
                let (ciphertext, word) = rest.split_last_chunk::<INDEX_LEN>()?;
                (ciphertext, tag, word)
            }
        };
        let flagged = u32::from_be_bytes(*word);
        if flagged & ENCRYPTED == 0 {
            return None;
        }
        let &[_, _, _, _, ref ssrc @ ..] = clear;
        Some(Sealed {
            clear,
            ssrc: *ssrc,
            ciphertext,
            tag,
            word: *word,
            index: flagged & !ENCRYPTED,
        })
    }
}

fn decrypt(cipher: &Cipher, sealed: &Sealed<'_>, out: &mut [u8]) -> Option<usize> {
    let len = CLEAR_LEN + sealed.ciphertext.len();
    let (clear, plaintext) = out.get_mut(..len)?.split_first_chunk_mut::<CLEAR_LEN>()?;
    let header = Header::new(sealed.clear, sealed.word);
    let envelope = header.envelope(cipher, u64::from(sealed.index));
    cipher.open(&envelope, sealed.ciphertext, sealed.tag, plaintext)?;
    *clear = *sealed.clear;
    Some(len)
}

/// Which of the last 64 indices of a source were accepted (RFC 3711 section 3.3.2).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct ReplayWindow {
    ssrc: [u8; 4],
    highest: u32,
    /// Bit n: `highest - n` was accepted.
    seen: u64,
}

impl ReplayWindow {
    fn is_fresh(&self, index: u32) -> bool {
        match self.highest.checked_sub(index) {
            None => true,
            Some(age) => age < u64::BITS && self.seen & (1 << age) == 0,
        }
    }

    fn accept(&mut self, index: u32) {
        match self.highest.checked_sub(index) {
            None => {
                self.seen = self.seen.checked_shl(index - self.highest).unwrap_or(0) | 1;
                self.highest = index;
            }
            Some(age) => self.seen |= 1u64.checked_shl(age).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use rtc_crypto::providers::AwsLcRsCrypto;
    use webrtc_srtp::context::Context;
    use webrtc_srtp::option::srtcp_replay_protection;
    use webrtc_srtp::protection_profile::ProtectionProfile;

    use super::*;
    use crate::command::{MasterKey, SrtpProfile};
    use crate::id::Ssrc;
    use crate::srtp::derivation::lengths;
    use crate::wire::RtcpWriter;
    use crate::wire::generator::Generator;

    const SEED: u64 = 0x5352_5443;

    const PROFILES: [(SrtpProfile, ProtectionProfile); 3] = [
        (SrtpProfile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
        (SrtpProfile::AeadAes256Gcm, ProtectionProfile::AeadAes256Gcm),
        (
            SrtpProfile::Aes128CmHmacSha1_80,
            ProtectionProfile::Aes128CmHmacSha1_80,
        ),
    ];

    /// Keys of both ends.
    fn pair(generator: &mut Generator, profile: SrtpProfile) -> (SrtpKeys, SrtpKeys) {
        let (key_len, salt_len) = lengths(profile);
        let mut master = || MasterKey {
            key: generator.bytes(key_len),
            salt: generator.bytes(salt_len),
        };
        let (send, receive) = (master(), master());
        let theirs = SrtpKeys {
            profile,
            receive: send.clone(),
            send: receive.clone(),
        };
        (
            SrtpKeys {
                profile,
                receive,
                send,
            },
            theirs,
        )
    }

    fn context(master: &MasterKey, profile: ProtectionProfile) -> Context {
        let replay = Some(srtcp_replay_protection(64));
        Context::new(
            &master.key,
            &master.salt,
            profile,
            None,
            replay,
            &AwsLcRsCrypto,
        )
        .unwrap()
    }

    fn compound(ssrc: u32, packets: usize) -> Vec<u8> {
        let mut out = [0; 1200];
        let mut writer = RtcpWriter::new(&mut out);
        assert!(writer.receiver_report(Ssrc(ssrc), &[]));
        for media in 0..packets as u32 {
            assert!(writer.pli(Ssrc(ssrc), Ssrc(media)));
        }
        let len = writer.len();
        out[..len].to_vec()
    }

    fn sealed(keys: &mut RtcpKeys, compound: &[u8]) -> Vec<u8> {
        let mut out = [0; 1300];
        let len = keys.seal(compound, &mut out).unwrap();
        assert_eq!(len, compound.len() + keys.overhead());
        out[..len].to_vec()
    }

    #[test]
    fn the_crate_and_we_understand_each_other() {
        let mut generator = Generator::new(SEED);
        for (profile, theirs) in PROFILES {
            let (keys, _) = pair(&mut generator, profile);
            let mut ours = RtcpKeys::new(&keys).unwrap();
            let mut reader = context(&keys.send, theirs);
            let mut writer = context(&keys.receive, theirs);
            for round in 0..200 {
                // Several sources share our indices; the crate counts for each.
                let plaintext = compound(1 + round % 3, round as usize % 20);
                let packet = sealed(&mut ours, &plaintext);
                assert_eq!(reader.decrypt_rtcp(&packet).unwrap()[..], plaintext);
                assert!(reader.decrypt_rtcp(&packet).is_err(), "a replay");

                let packet = writer.encrypt_rtcp(&plaintext).unwrap();
                let mut out = [0; 1300];
                let len = ours.open(&packet, &mut out).unwrap();
                assert_eq!(out[..len], plaintext);
                assert_eq!(ours.open(&packet, &mut out), Err(RtcpRefused::Replayed));
            }
        }
    }

    #[test]
    fn t_21_late_control_packets_are_taken_once_and_old_ones_never() {
        let mut generator = Generator::new(SEED);
        for (profile, _) in PROFILES {
            let (ours, theirs) = pair(&mut generator, profile);
            let mut seal = RtcpKeys::new(&ours).unwrap();
            let mut open = RtcpKeys::new(&theirs).unwrap();
            let packets: Vec<_> = (0..200)
                .map(|_| sealed(&mut seal, &compound(7, 1)))
                .collect();
            let mut out = [0; 1300];
            for at in [100, 37, 99, 101] {
                assert!(open.open(&packets[at], &mut out).is_ok(), "{at}");
                assert_eq!(
                    open.open(&packets[at], &mut out),
                    Err(RtcpRefused::Replayed)
                );
            }
            assert_eq!(
                open.open(&packets[36], &mut out),
                Err(RtcpRefused::Replayed)
            );
            assert!(open.open(&packets[199], &mut out).is_ok());
            assert_eq!(
                open.open(&packets[102], &mut out),
                Err(RtcpRefused::Replayed),
                "fell out of the window"
            );
        }
    }

    #[test]
    fn what_is_changed_short_or_not_encrypted_is_refused_and_leaves_no_trace() {
        let mut generator = Generator::new(SEED);
        for (profile, _) in PROFILES {
            let (ours, theirs) = pair(&mut generator, profile);
            let mut seal = RtcpKeys::new(&ours).unwrap();
            let mut open = RtcpKeys::new(&theirs).unwrap();
            let plaintext = compound(7, 2);
            let packet = sealed(&mut seal, &plaintext);
            let mut out = [0; 1300];
            // Among the changed bytes are the encryption flag and the source.
            for at in 0..packet.len() {
                for bit in 0..8 {
                    let mut changed = packet.clone();
                    changed[at] ^= 1 << bit;
                    assert_eq!(
                        open.open(&changed, &mut out),
                        Err(RtcpRefused::Unauthenticated),
                        "{at}"
                    );
                }
            }
            for len in 0..packet.len() {
                assert_eq!(
                    open.open(&packet[..len], &mut out),
                    Err(RtcpRefused::Unauthenticated),
                    "{len}"
                );
            }
            assert!(open.sources.is_empty());
            let too_short = &mut out[..plaintext.len() - 1];
            assert_eq!(
                open.open(&packet, too_short),
                Err(RtcpRefused::Unauthenticated)
            );
            assert_eq!(open.open(&packet, &mut out), Ok(plaintext.len()));
            assert!(
                seal.seal(
                    &plaintext,
                    &mut out[..plaintext.len() + seal.overhead() - 1]
                )
                .is_none()
            );
            assert!(seal.seal(&plaintext[..7], &mut out).is_none());
        }
    }

    #[test]
    fn one_source_too_many_is_refused() {
        let (ours, theirs) = pair(&mut Generator::new(SEED), SrtpProfile::AeadAes128Gcm);
        let mut seal = RtcpKeys::new(&ours).unwrap();
        let mut open = RtcpKeys::new(&theirs).unwrap();
        let mut out = [0; 1300];
        for ssrc in 0..RTCP_SOURCES_MAX as u32 {
            assert!(
                open.open(&sealed(&mut seal, &compound(ssrc, 0)), &mut out)
                    .is_ok()
            );
        }
        let packet = sealed(&mut seal, &compound(u32::MAX, 0));
        assert_eq!(
            open.open(&packet, &mut out),
            Err(RtcpRefused::SourcesExceeded)
        );
        assert!(
            open.open(&sealed(&mut seal, &compound(0, 0)), &mut out)
                .is_ok(),
            "the known ones go on"
        );
    }

    #[test]
    fn t_21_no_srtcp_index_is_used_twice_at_the_end_of_a_key() {
        let (ours, theirs) = pair(&mut Generator::new(SEED), SrtpProfile::AeadAes128Gcm);
        let mut seal = RtcpKeys::new(&ours).unwrap();
        let mut open = RtcpKeys::new(&theirs).unwrap();
        seal.next_index = ENCRYPTED - 1;
        let packet = sealed(&mut seal, &compound(1, 0));
        let mut out = [0; 1300];
        assert!(open.open(&packet, &mut out).is_ok());
        assert!(seal.seal(&compound(1, 0), &mut out).is_none());
    }
}
