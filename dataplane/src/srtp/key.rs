//! The keys of one direction's media (RFC 3711 section 3.1, RFC 7714 section 8).

use super::cipher::{Cipher, Envelope, Kind};
use crate::command::{MasterKey, SrtpProfile};

/// Why a master key was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum KeyError {
    /// The key has another length than the profile's.
    #[error("the master key's length is not the profile's")]
    KeyLength,
    /// The salt has another length than the profile's.
    #[error("the master salt's length is not the profile's")]
    SaltLength,
    /// The library of cryptography refused it.
    #[error("the cryptography library refused the key")]
    Refused,
}

/// The packet is not from the holder of the key, or was changed on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("authentication failed")]
pub struct Unauthenticated;

/// Encrypts what we send.
#[derive(Debug)]
pub struct SealKey(Cipher);

impl SealKey {
    /// The sending key of a session.
    ///
    /// # Errors
    ///
    /// When key or salt do not fit the profile.
    pub fn new(profile: SrtpProfile, master: &MasterKey) -> Result<SealKey, KeyError> {
        Cipher::new(Kind::Rtp, profile, master).map(SealKey)
    }

    /// Bytes that sealing adds to a packet.
    #[must_use]
    pub fn overhead(&self) -> usize {
        self.0.tag_len()
    }

    /// Encrypts `payload` and `padding` bytes of RTP padding (RFC 3550 section 5.1) behind the header
    /// that is already at `packet[..header_len]`, and returns the length of the whole; `None` without
    /// room. `index` is the 48-bit packet index, rollovers above the sequence number. When there is
    /// padding, the header must say so.
    #[must_use]
    pub fn seal_rtp(
        &self,
        packet: &mut [u8],
        header_len: usize,
        payload: &[u8],
        padding: u8,
        index: u64,
    ) -> Option<usize> {
        let (header, out) = packet.split_at_mut_checked(header_len)?;
        let envelope = envelope(header, index)?;
        let body_len = payload.len() + usize::from(padding);
        let out = out.get_mut(..body_len + self.overhead())?;
        // The last byte of padding counts all of it; the others mean nothing.
        let mut zeros = [0; u8::MAX as usize];
        let filler = zeros.get_mut(..usize::from(padding))?;
        if let Some(last) = filler.last_mut() {
            *last = padding;
        }
        self.0.seal(&envelope, payload, filler, out)?;
        Some(header_len + out.len())
    }

    /// Encrypts the `payload_len` bytes behind the header where they are, and returns the length of
    /// the whole; `None` without room for what sealing adds. Padding is part of the payload here.
    #[must_use]
    pub fn seal_rtp_in_place(
        &self,
        packet: &mut [u8],
        header_len: usize,
        payload_len: usize,
        index: u64,
    ) -> Option<usize> {
        let (header, out) = packet.split_at_mut_checked(header_len)?;
        let envelope = envelope(header, index)?;
        let total = payload_len + self.overhead();
        let (body, tag) = out.get_mut(..total)?.split_at_mut_checked(payload_len)?;
        self.0.seal_in_place(&envelope, body, tag)?;
        Some(header_len + total)
    }
}

/// Authenticates and decrypts what we receive.
#[derive(Debug)]
pub struct OpenKey(Cipher);

impl OpenKey {
    /// The receiving key of a session.
    ///
    /// # Errors
    ///
    /// When key or salt do not fit the profile.
    pub fn new(profile: SrtpProfile, master: &MasterKey) -> Result<OpenKey, KeyError> {
        Cipher::new(Kind::Rtp, profile, master).map(OpenKey)
    }

    /// Bytes that sealing added to a packet.
    #[must_use]
    pub fn overhead(&self) -> usize {
        self.0.tag_len()
    }

    /// Decrypts the payload of `packet` to the start of `out` and returns its length; RTP padding is
    /// part of it. `index` is the estimated 48-bit packet index.
    ///
    /// # Errors
    ///
    /// When the packet is not authentic, is shorter than header and tag, or its plaintext does not fit
    /// `out`; what `out` holds then means nothing.
    pub fn open_rtp(
        &self,
        packet: &[u8],
        header_len: usize,
        index: u64,
        out: &mut [u8],
    ) -> Result<usize, Unauthenticated> {
        let (header, sealed) = packet.split_at_checked(header_len).ok_or(Unauthenticated)?;
        let envelope = envelope(header, index).ok_or(Unauthenticated)?;
        let len = sealed
            .len()
            .checked_sub(self.overhead())
            .ok_or(Unauthenticated)?;
        let (ciphertext, tag) = sealed.split_at_checked(len).ok_or(Unauthenticated)?;
        let out = out.get_mut(..len).ok_or(Unauthenticated)?;
        self.0
            .open(&envelope, ciphertext, tag, out)
            .ok_or(Unauthenticated)?;
        Ok(len)
    }
}

/// What is known of a packet by its header and index; `None` for a header that is none.
fn envelope(header: &[u8], index: u64) -> Option<Envelope<'_>> {
    let ssrc = *header.get(8..)?.first_chunk()?;
    let rollovers = (index >> 16) as u32;
    Some(Envelope {
        header,
        ssrc,
        index,
        trailer: rollovers.to_be_bytes(),
    })
}
