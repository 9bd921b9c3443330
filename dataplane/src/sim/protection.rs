//! SRTP by the `webrtc-srtp` crate: the oracle of everything the engine seals.

use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

use crate::command::{MasterKey, SrtpKeys, SrtpProfile};

/// Both directions of a session.
pub(super) struct Protection {
    receive: Context,
    send: Context,
}

impl Protection {
    /// `None` when the keys do not fit the profile.
    pub(super) fn new(keys: &SrtpKeys) -> Option<Protection> {
        let profile = match keys.profile {
            SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
            SrtpProfile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let provider = AwsLcRsProvider::new();
        // No replay protection: a number that comes twice is for the reception to notice.
        let context = |master: &MasterKey| {
            Context::new(
                &master.key,
                &master.salt,
                profile,
                None,
                None,
                provider.crypto(),
            )
            .ok()
        };
        Some(Protection {
            receive: context(&keys.receive)?,
            send: context(&keys.send)?,
        })
    }

    pub(super) fn open_rtp(&mut self, sealed: &[u8]) -> Option<BytesMut> {
        self.receive.decrypt_rtp(sealed).ok()
    }

    pub(super) fn open_rtcp(&mut self, sealed: &[u8]) -> Option<BytesMut> {
        self.receive.decrypt_rtcp(sealed).ok()
    }

    pub(super) fn seal_rtp(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        self.send
            .encrypt_rtp(plain)
            .ok()
            .map(|sealed| sealed.to_vec())
    }

    pub(super) fn seal_rtcp(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        self.send
            .encrypt_rtcp(plain)
            .ok()
            .map(|sealed| sealed.to_vec())
    }
}
