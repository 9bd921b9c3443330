//! SRTCP: both directions of one session's control packets (RFC 3711 section 3.4, RFC 7714 section 9).
//!
//! Our own beside the crate `webrtc-srtp` (which is the oracle of its tests) for two reasons: that one
//! returns a packet whose encryption flag is clear without authenticating it in the counter mode
//! profile, and keeps state for every SSRC that an unauthenticated packet names.

use super::cipher::{Cipher, Envelope, Kind};
use super::key::KeyError;
use crate::command::SrtpKeys;
use crate::limits::RTCP_SOURCES_MAX;

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

impl RtcpKeys {
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
        self.seal.seal_in_place(&envelope, body, tag)?;
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
#[derive(Clone, Copy, Debug)]
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
