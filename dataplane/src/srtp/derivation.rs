//! Session keys from master keys (RFC 3711 section 4.3, RFC 6188 section 3, RFC 7714 section 11).

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

use super::key::KeyError;
use crate::command::{MasterKey, SrtpProfile};

/// Which key is derived (RFC 3711 section 4.3.1).
#[derive(Clone, Copy, Debug)]
pub(super) enum Label {
    RtpEncryption = 0x00,
    RtpAuthentication = 0x01,
    RtpSalt = 0x02,
    RtcpEncryption = 0x03,
    RtcpAuthentication = 0x04,
    RtcpSalt = 0x05,
}

/// Bytes of key and salt that a profile takes, for master and session alike.
pub(super) fn lengths(profile: SrtpProfile) -> (usize, usize) {
    match profile {
        SrtpProfile::AeadAes128Gcm => (16, 12),
        SrtpProfile::AeadAes256Gcm => (32, 12),
        SrtpProfile::Aes128CmHmacSha1_80 => (16, 14),
    }
}

/// Derives keys from one master key. The key derivation rate is 0 (RFC 5764 section 4.1.2): a session
/// has one set of keys.
pub(super) struct Derivation {
    prf: EncryptingKey,
    salt: [u8; 16],
}

impl Derivation {
    pub(super) fn new(profile: SrtpProfile, master: &MasterKey) -> Result<Derivation, KeyError> {
        let (key_len, salt_len) = lengths(profile);
        if master.key.len() != key_len {
            return Err(KeyError::KeyLength);
        }
        if master.salt.len() != salt_len {
            return Err(KeyError::SaltLength);
        }
        let algorithm = if key_len == 32 { &AES_256 } else { &AES_128 };
        let key = UnboundCipherKey::new(algorithm, &master.key).map_err(|_| KeyError::Refused)?;
        let prf = EncryptingKey::ctr(key).map_err(|_| KeyError::Refused)?;
        let mut salt = [0; 16];
        salt.iter_mut()
            .zip(&master.salt)
            .for_each(|(byte, &from)| *byte = from);
        Ok(Derivation { prf, salt })
    }

    /// The first `N` bytes of key stream for a label: AES in counter mode over zeros, its counter the
    /// master salt with the label in it. They are cleared when they are dropped.
    pub(super) fn derive<const N: usize>(
        &self,
        label: Label,
    ) -> Result<Zeroizing<[u8; N]>, KeyError> {
        let mut counter = self.salt;
        counter[7] ^= label as u8;
        let mut key = Zeroizing::new([0; N]);
        self.prf
            .less_safe_encrypt(
                &mut *key,
                EncryptionContext::Iv128(FixedLength::from(&counter)),
            )
            .map_err(|_| KeyError::Refused)?;
        Ok(key)
    }

    /// The same with the two bytes of salt that counter mode has beyond AES-GCM.
    #[cfg(test)]
    pub(super) fn with_salt_tail(mut self, tail: [u8; 2]) -> Derivation {
        self.salt[12..14].copy_from_slice(&tail);
        self
    }
}
