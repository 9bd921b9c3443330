//! The transforms: AES-GCM (RFC 7714) and AES counter mode with HMAC-SHA1 (RFC 3711 section 4).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, hmac};

use super::derivation::{Derivation, Label};
use super::key::KeyError;
use super::wide::{LANES, Messages, WideKey};
use crate::command::{MasterKey, SrtpProfile};

/// Bytes of an AES-GCM tag (RFC 7714 section 5.1).
const GCM_TAG_LEN: usize = 16;

/// Bytes of the truncated HMAC-SHA1 (RFC 5764 section 4.1.2).
const CM_TAG_LEN: usize = 10;

/// Packets of one size from which on their tags are cheaper made side by side: sixteen lanes cost the
/// same however many are used: what four single tags cost for audio and six for video, on a processor
/// with data paths of 256 bits.
const WIDE_MIN: usize = 6;

/// What a cipher protects: the two have different session keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// SRTP.
    Rtp,
    /// SRTCP.
    Rtcp,
}

/// What is known of a packet beside its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope<'a> {
    /// What is authenticated and not encrypted.
    pub(super) header: &'a [u8],
    /// The source.
    pub(super) ssrc: [u8; 4],
    /// The packet index: 48 bits for RTP, 31 for RTCP.
    pub(super) index: u64,
    /// What counter mode authenticates behind the ciphertext: the rollover counter of an RTP packet
    /// (RFC 3711 section 4.2), the index word of an RTCP packet.
    pub(super) trailer: [u8; 4],
}

/// A session's keys for one direction and kind of packet.
pub(super) enum Cipher {
    /// RFC 7714.
    Gcm { key: LessSafeKey, salt: [u8; 12] },
    /// RFC 3711. Boxed because it is the larger and the rarer one.
    Cm(Box<CounterMode>),
}

/// AES-128 in counter mode and HMAC-SHA1. The block cipher's key is expanded once; encrypting with it
/// allocates nothing and costs no new key schedule.
pub(super) struct CounterMode {
    key: EncryptingKey,
    authentication: hmac::Key,
    /// The same, where the processor can make many tags at once.
    wide: Option<WideKey>,
    salt: [u8; 14],
}

/// When a packet gets its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// At once.
    Now,
    /// In counter mode together with the other packets of its burst, by [`Cipher::sign_burst`]; with
    /// AES-GCM at once.
    WithBurst,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Cipher::Gcm { .. } => "Gcm",
            Cipher::Cm(_) => "Cm",
        })
    }
}

impl Cipher {
    /// Derives the session keys of `kind`.
    pub(super) fn new(
        kind: Kind,
        profile: SrtpProfile,
        master: &MasterKey,
    ) -> Result<Cipher, KeyError> {
        let derivation = Derivation::new(profile, master)?;
        let (encryption, authentication, salt) = match kind {
            Kind::Rtp => (
                Label::RtpEncryption,
                Label::RtpAuthentication,
                Label::RtpSalt,
            ),
            Kind::Rtcp => (
                Label::RtcpEncryption,
                Label::RtcpAuthentication,
                Label::RtcpSalt,
            ),
        };
        let aead = match profile {
            SrtpProfile::AeadAes128Gcm => {
                UnboundKey::new(&AES_128_GCM, &*derivation.derive::<16>(encryption)?)
            }
            SrtpProfile::AeadAes256Gcm => {
                UnboundKey::new(&AES_256_GCM, &*derivation.derive::<32>(encryption)?)
            }
            SrtpProfile::Aes128CmHmacSha1_80 => {
                let key = derivation.derive::<16>(encryption)?;
                let authentication = derivation.derive::<20>(authentication)?;
                return Cipher::counter_mode(&*key, &authentication, *derivation.derive(salt)?);
            }
        };
        let key = LessSafeKey::new(aead.map_err(|_| KeyError::Refused)?);
        Ok(Cipher::Gcm {
            key,
            salt: *derivation.derive(salt)?,
        })
    }

    /// Counter mode by session keys.
    pub(super) fn counter_mode(
        key: &[u8],
        authentication: &[u8; 20],
        salt: [u8; 14],
    ) -> Result<Cipher, KeyError> {
        let key = UnboundCipherKey::new(&AES_128, key)
            .and_then(EncryptingKey::ctr)
            .map_err(|_| KeyError::Refused)?;
        let wide = WideKey::new(authentication);
        let authentication = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, authentication);
        Ok(Cipher::Cm(Box::new(CounterMode {
            key,
            authentication,
            wide,
            salt,
        })))
    }

    /// Bytes that follow the ciphertext.
    pub(super) fn tag_len(&self) -> usize {
        match self {
            Cipher::Gcm { .. } => GCM_TAG_LEN,
            Cipher::Cm(_) => CM_TAG_LEN,
        }
    }

    /// Encrypts `payload` and `filler` into `out`, which is as long as both and the tag.
    pub(super) fn seal(
        &self,
        envelope: &Envelope<'_>,
        payload: &[u8],
        filler: &[u8],
        out: &mut [u8],
        when: Tag,
    ) -> Option<()> {
        let (body, rest) = out.split_at_mut_checked(payload.len())?;
        match self {
            Cipher::Gcm { key, salt } => key
                .seal_out_of_place_scatter(
                    gcm_nonce(salt, envelope),
                    Aad::from(envelope.header),
                    payload,
                    body,
                    filler,
                    rest,
                )
                .ok(),
            Cipher::Cm(_) => {
                body.copy_from_slice(payload);
                rest.get_mut(..filler.len())?.copy_from_slice(filler);
                let (body, tag) = out.split_at_mut_checked(payload.len() + filler.len())?;
                self.seal_in_place(envelope, body, tag, when)
            }
        }
    }

    /// Encrypts `body` where it is and writes the `tag`, which has [`tag_len`](Cipher::tag_len) bytes.
    pub(super) fn seal_in_place(
        &self,
        envelope: &Envelope<'_>,
        body: &mut [u8],
        tag: &mut [u8],
        when: Tag,
    ) -> Option<()> {
        match self {
            Cipher::Gcm { key, salt } => key
                .seal_in_place_scatter(
                    gcm_nonce(salt, envelope),
                    Aad::from(envelope.header),
                    body,
                    &[],
                    tag,
                )
                .ok(),
            Cipher::Cm(cm) => {
                cm.apply_key_stream(envelope, body)?;
                if when == Tag::Now {
                    let full = cm.sign(&[envelope.header, body], envelope.trailer);
                    tag.copy_from_slice(full.as_ref().get(..tag.len())?);
                }
                Some(())
            }
        }
    }

    /// Writes the tags of packets that were sealed [`Tag::WithBurst`]: laid end to end in `burst`, each
    /// `segment` bytes long with its tag but the last, which may be shorter, and with these indices.
    pub(super) fn sign_burst(
        &self,
        burst: &mut [u8],
        segment: usize,
        indices: &[u64],
    ) -> Option<()> {
        match self {
            Cipher::Gcm { .. } => Some(()),
            Cipher::Cm(cm) => cm.sign_burst(burst, segment, indices),
        }
    }

    /// Authenticates `ciphertext` by its `tag` and decrypts it into `out`, which is as long.
    pub(super) fn open(
        &self,
        envelope: &Envelope<'_>,
        ciphertext: &[u8],
        tag: &[u8],
        out: &mut [u8],
    ) -> Option<()> {
        match self {
            Cipher::Gcm { key, salt } => key
                .open_separate_gather(
                    gcm_nonce(salt, envelope),
                    Aad::from(envelope.header),
                    ciphertext,
                    tag,
                    out,
                )
                .ok(),
            Cipher::Cm(cm) => {
                let full = cm.sign(&[envelope.header, ciphertext], envelope.trailer);
                constant_time::verify_slices_are_equal(full.as_ref().get(..CM_TAG_LEN)?, tag)
                    .ok()?;
                out.copy_from_slice(ciphertext);
                cm.apply_key_stream(envelope, out)
            }
        }
    }
}

impl CounterMode {
    /// Encrypts or decrypts: counter mode is its own inverse.
    fn apply_key_stream(&self, envelope: &Envelope<'_>, body: &mut [u8]) -> Option<()> {
        // Salt, source and index above 16 bits that count blocks (RFC 3711 section 4.1.1).
        let mut counter = [0; 16];
        let (start, _) = counter.split_first_chunk_mut::<14>()?;
        *start = self.salt;
        xor(start.get_mut(4..8)?, &envelope.ssrc);
        xor(start.get_mut(8..14)?, &index_bytes(envelope.index));
        let context = EncryptionContext::Iv128(FixedLength::from(&counter));
        self.key.less_safe_encrypt(body, context).ok().map(|_| ())
    }

    /// The whole HMAC of header and ciphertext, which may be one, and trailer (RFC 3711 section 4.2.1).
    fn sign(&self, parts: &[&[u8]], trailer: [u8; 4]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.authentication);
        parts.iter().for_each(|part| context.update(part));
        context.update(&trailer);
        context.sign()
    }

    fn sign_burst(&self, burst: &mut [u8], segment: usize, indices: &[u64]) -> Option<()> {
        let len = segment.checked_sub(CM_TAG_LEN)?;
        let groups = burst.chunks_mut(segment * LANES);
        for (packets, indices) in groups.zip(indices.chunks(LANES)) {
            let equal = (packets.len() / segment).min(indices.len());
            let mut trailers = [[0; 4]; LANES];
            for (trailer, index) in trailers.iter_mut().zip(indices) {
                *trailer = rollover_bytes(*index);
            }
            let messages = Messages {
                bytes: packets,
                stride: segment,
                len,
                trailers: trailers.get(..equal)?,
            };
            let wide = self.wide.as_ref().filter(|_| equal >= WIDE_MIN);
            let tags = wide.and_then(|wide| wide.sign(messages));
            for (lane, packet) in packets.chunks_mut(segment).enumerate() {
                let signed = packet.len().checked_sub(CM_TAG_LEN)?;
                let (message, room) = packet.split_at_mut_checked(signed)?;
                let made = tags.as_ref().filter(|_| lane < equal);
                match made.and_then(|tags| tags.get(lane)) {
                    Some(full) => room.copy_from_slice(full.get(..CM_TAG_LEN)?),
                    None => {
                        let full = self.sign(&[message], *trailers.get(lane)?);
                        room.copy_from_slice(full.as_ref().get(..CM_TAG_LEN)?);
                    }
                }
            }
        }
        Some(())
    }
}

/// The rollovers in an index, as they are authenticated (RFC 3711 section 4.2).
pub(super) fn rollover_bytes(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// Two zero bytes, source and index, combined with the salt (RFC 7714 sections 8.1 and 9.1; the
/// 31-bit index of RTCP lies where the low bits of RTP's do).
fn gcm_nonce(salt: &[u8; 12], envelope: &Envelope<'_>) -> Nonce {
    let [c0, c1, c2, c3] = envelope.ssrc;
    let [i0, i1, i2, i3, i4, i5] = index_bytes(envelope.index);
    let mut nonce = [0, 0, c0, c1, c2, c3, i0, i1, i2, i3, i4, i5];
    xor(&mut nonce, salt);
    Nonce::assume_unique_for_key(nonce)
}

/// The low 48 bits.
fn index_bytes(index: u64) -> [u8; 6] {
    let [_, _, bytes @ ..] = index.to_be_bytes();
    bytes
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    bytes
        .iter_mut()
        .zip(with)
        .for_each(|(byte, with)| *byte ^= with);
}
