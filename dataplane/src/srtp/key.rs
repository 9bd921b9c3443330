//! The keys of one direction's media (RFC 3711 section 3.1, RFC 7714 section 8).

use super::cipher::{Cipher, Envelope, Kind, Tag, rollover_bytes};
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
        self.seal(packet, header_len, payload, padding, index, Tag::Now)
    }

    /// The same for a packet of a burst, which is complete after [`SealKey::sign_burst`].
    #[must_use]
    pub fn seal_rtp_of_burst(
        &self,
        packet: &mut [u8],
        header_len: usize,
        payload: &[u8],
        padding: u8,
        index: u64,
    ) -> Option<usize> {
        self.seal(packet, header_len, payload, padding, index, Tag::WithBurst)
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
        self.seal_in_place(packet, header_len, payload_len, index, Tag::Now)
    }

    /// The same for a packet of a burst, which is complete after [`SealKey::sign_burst`].
    #[must_use]
    pub fn seal_rtp_in_place_of_burst(
        &self,
        packet: &mut [u8],
        header_len: usize,
        payload_len: usize,
        index: u64,
    ) -> Option<usize> {
        self.seal_in_place(packet, header_len, payload_len, index, Tag::WithBurst)
    }

    /// Makes what is still missing in a burst's packets, side by side where the processor can: they
    /// are laid end to end, each `segment` bytes long but the last, which may be shorter, and have
    /// these indices. `None` when that is not so.
    #[must_use]
    pub fn sign_burst(&self, burst: &mut [u8], segment: usize, indices: &[u64]) -> Option<()> {
        self.0.sign_burst(burst, segment, indices)
    }

    fn seal(
        &self,
        packet: &mut [u8],
        header_len: usize,
        payload: &[u8],
        padding: u8,
        index: u64,
        when: Tag,
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
        self.0.seal(&envelope, payload, filler, out, when)?;
        Some(header_len + out.len())
    }

    fn seal_in_place(
        &self,
        packet: &mut [u8],
        header_len: usize,
        payload_len: usize,
        index: u64,
        when: Tag,
    ) -> Option<usize> {
        let (header, out) = packet.split_at_mut_checked(header_len)?;
        let envelope = envelope(header, index)?;
        let total = payload_len + self.overhead();
        let (body, tag) = out.get_mut(..total)?.split_at_mut_checked(payload_len)?;
        self.0.seal_in_place(&envelope, body, tag, when)?;
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
    Some(Envelope {
        header,
        ssrc,
        index,
        trailer: rollover_bytes(index),
    })
}

#[cfg(test)]
mod tests {
    use rtc_crypto::providers::AwsLcRsCrypto;
    use webrtc_srtp::context::Context;
    use webrtc_srtp::protection_profile::ProtectionProfile;

    use super::*;
    use crate::id::{PayloadType, Ssrc};
    use crate::srtp::derivation::lengths;
    use crate::wire::generator::Generator;
    use crate::wire::{ExtensionBlock, RtpHeader, RtpView, padding_len};

    const SEED: u64 = 0x5352_5450;

    const PROFILES: [(SrtpProfile, ProtectionProfile, usize); 3] = [
        (
            SrtpProfile::AeadAes128Gcm,
            ProtectionProfile::AeadAes128Gcm,
            16,
        ),
        (
            SrtpProfile::AeadAes256Gcm,
            ProtectionProfile::AeadAes256Gcm,
            16,
        ),
        (
            SrtpProfile::Aes128CmHmacSha1_80,
            ProtectionProfile::Aes128CmHmacSha1_80,
            10,
        ),
    ];

    fn master(generator: &mut Generator, profile: SrtpProfile) -> MasterKey {
        let (key_len, salt_len) = lengths(profile);
        MasterKey {
            key: generator.bytes(key_len),
            salt: generator.bytes(salt_len),
        }
    }

    fn context(master: &MasterKey, profile: ProtectionProfile) -> Context {
        Context::new(
            &master.key,
            &master.salt,
            profile,
            None,
            None,
            &AwsLcRsCrypto,
        )
        .unwrap()
    }

    /// A header with or without an extension, at the start of a packet of 1500 bytes.
    fn header(generator: &mut Generator, sequence: u16, padding: bool) -> (Vec<u8>, usize) {
        let mut block = ExtensionBlock::new();
        if generator.bool() {
            assert!(block.push(3, b"mid"));
        }
        let header = RtpHeader {
            marker: generator.bool(),
            payload_type: PayloadType(96),
            sequence,
            timestamp: generator.u32(),
            ssrc: Ssrc(0xDEAD_BEEF),
            padding,
        };
        let mut packet = vec![0; 1500];
        let len = header.write(&mut packet, &block).unwrap();
        (packet, len)
    }

    #[test]
    fn t_21_the_crate_opens_what_we_seal_across_a_rollover() {
        let mut generator = Generator::new(SEED);
        for (profile, theirs, overhead) in PROFILES {
            let master = master(&mut generator, profile);
            let key = SealKey::new(profile, &master).unwrap();
            assert_eq!(key.overhead(), overhead);
            let mut context = context(&master, theirs);
            for index in 65_400u64..65_800 {
                let payload_len = generator.below(1_100);
                let payload = generator.bytes(payload_len);
                let padding = if generator.bool() { generator.u8() } else { 0 };
                let (mut packet, header_len) = header(&mut generator, index as u16, padding > 0);
                let len = key
                    .seal_rtp(&mut packet, header_len, &payload, padding, index)
                    .unwrap();
                assert_eq!(
                    len,
                    header_len + payload_len + usize::from(padding) + overhead
                );

                let opened = context.decrypt_rtp(&packet[..len]).unwrap();
                assert_eq!(opened[..header_len], packet[..header_len]);
                let (content, filler) = opened[header_len..].split_at(payload_len);
                assert_eq!(content, payload);
                assert_eq!(filler.len(), usize::from(padding));
                if padding > 0 {
                    assert_eq!(
                        padding_len(&opened[header_len..]),
                        Some(usize::from(padding))
                    );
                }

                // In place, with the padding already there, the same bytes come out.
                let mut in_place = packet[..header_len].to_vec();
                in_place.extend(&opened[header_len..]);
                in_place.resize(1500, 0);
                let body_len = payload_len + usize::from(padding);
                let in_place_len =
                    key.seal_rtp_in_place(&mut in_place, header_len, body_len, index);
                assert_eq!(in_place_len, Some(len));
                assert_eq!(in_place[..len], packet[..len]);
            }
        }
    }

    #[test]
    fn t_21_we_open_what_the_crate_seals_across_a_rollover() {
        let mut generator = Generator::new(SEED);
        for (profile, theirs, overhead) in PROFILES {
            let master = master(&mut generator, profile);
            let key = OpenKey::new(profile, &master).unwrap();
            let mut context = context(&master, theirs);
            for index in 65_400u64..65_800 {
                let (mut packet, header_len) = header(&mut generator, index as u16, false);
                let payload_len = generator.below(1_100);
                let payload = generator.bytes(payload_len);
                packet.truncate(header_len);
                packet.extend(&payload);
                let sealed = context.encrypt_rtp(&packet).unwrap();
                assert_eq!(sealed.len(), packet.len() + overhead);
                let view = RtpView::parse(&sealed).unwrap();
                let mut out = vec![0; 1500];
                let len = key
                    .open_rtp(&sealed, view.header_len(), index, &mut out)
                    .unwrap();
                assert_eq!(out[..len], payload);
                assert_eq!(
                    key.open_rtp(&sealed, header_len, index + 65_536, &mut out),
                    Err(Unauthenticated)
                );
            }
        }
    }

    #[test]
    fn t_08_every_changed_byte_and_every_length_is_refused() {
        let mut generator = Generator::new(SEED);
        for (profile, _, overhead) in PROFILES {
            let master = master(&mut generator, profile);
            let seal = SealKey::new(profile, &master).unwrap();
            let open = OpenKey::new(profile, &master).unwrap();
            let (mut packet, header_len) = header(&mut generator, 9, false);
            let len = seal
                .seal_rtp(&mut packet, header_len, b"a payload", 0, 9)
                .unwrap();
            let mut out = [0; 64];
            for at in 0..len {
                let mut changed = packet[..len].to_vec();
                changed[at] ^= 1 << generator.below(8);
                assert_eq!(
                    open.open_rtp(&changed, header_len, 9, &mut out),
                    Err(Unauthenticated)
                );
            }
            for cut in 0..len {
                assert_eq!(
                    open.open_rtp(&packet[..cut], header_len, 9, &mut out),
                    Err(Unauthenticated)
                );
            }
            for header_len in [0, 11, len, len + 1, usize::MAX] {
                assert_eq!(
                    open.open_rtp(&packet[..len], header_len, 9, &mut out),
                    Err(Unauthenticated)
                );
            }
            assert_eq!(
                open.open_rtp(&packet[..len], header_len, 9, &mut out[..8]),
                Err(Unauthenticated)
            );
            assert_eq!(
                open.open_rtp(&packet[..len], header_len, 9, &mut out[..9]),
                Ok(9)
            );

            let room = header_len + 9 + overhead;
            assert!(
                seal.seal_rtp(&mut packet[..room - 1], header_len, b"a payload", 0, 9)
                    .is_none()
            );
            assert!(
                seal.seal_rtp_in_place(&mut packet[..room - 1], header_len, 9, 9)
                    .is_none()
            );
            assert!(
                seal.seal_rtp(&mut packet, 11, b"a payload", 0, 9).is_none(),
                "no header"
            );
        }
    }

    #[test]
    fn the_packets_of_a_burst_are_those_sealed_one_by_one() {
        let mut generator = Generator::new(SEED);
        for (profile, ..) in PROFILES {
            let key = SealKey::new(profile, &master(&mut generator, profile)).unwrap();
            for round in 0..300 {
                let (count, size) = (1 + generator.below(40), 1 + generator.below(1_100));
                let first = (generator.u64() >> 16) - 40;
                let (mut singly, mut burst) = (Vec::<u8>::new(), Vec::<u8>::new());
                let (template, header_len) = header(&mut generator, round, false);
                let mut segment = 0;
                for n in 0..count {
                    let last = n + 1 == count;
                    let len = if last {
                        1 + generator.below(size)
                    } else {
                        size
                    };
                    let payload = generator.bytes(len);
                    let index = first + n as u64;
                    let mut packet = template.clone();
                    let total = key.seal_rtp(&mut packet, header_len, &payload, 0, index);
                    singly.extend(&packet[..total.unwrap()]);
                    let mut packet = template.clone();
                    let total = if generator.bool() {
                        key.seal_rtp_of_burst(&mut packet, header_len, &payload, 0, index)
                    } else {
                        packet[header_len..][..len].copy_from_slice(&payload);
                        key.seal_rtp_in_place_of_burst(&mut packet, header_len, len, index)
                    };
                    burst.extend(&packet[..total.unwrap()]);
                    segment = segment.max(total.unwrap());
                }
                let indices: Vec<u64> = (0..count as u64).map(|n| first + n).collect();
                key.sign_burst(&mut burst, segment, &indices).unwrap();
                assert!(burst == singly, "{profile:?} {count} of {size}");
            }
        }
    }

    #[test]
    fn a_key_of_another_profile_is_refused() {
        for (profile, ..) in PROFILES {
            let (key_len, salt_len) = lengths(profile);
            let short_key = MasterKey {
                key: vec![0; key_len - 1],
                salt: vec![0; salt_len],
            };
            assert_eq!(
                SealKey::new(profile, &short_key).unwrap_err(),
                KeyError::KeyLength
            );
            let long_salt = MasterKey {
                key: vec![0; key_len],
                salt: vec![0; salt_len + 1],
            };
            assert_eq!(
                OpenKey::new(profile, &long_salt).unwrap_err(),
                KeyError::SaltLength
            );
        }
    }
}
