//! What a handshake may agree on, and the SRTP keys that come of it.

use std::sync::Arc;
use std::time::Duration;

use rtc_crypto::RTCCryptoProvider;
use rtc_shared::error::Error;
use webrtc_dtls::cipher_suite::CipherSuiteId;
use webrtc_dtls::config::{
    ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig,
};
use webrtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;

use crate::command::{DtlsRole, MasterKey, SrtpKeys, SrtpProfile};
use crate::dtls::certificate::Certificate;
use crate::dtls::client_hello::profile_number;
use crate::limits::HANDSHAKE_TIMEOUT;

/// What the crate may negotiate: as server exactly the choice made, because it would take the
/// client's order; as client what is offered.
pub(super) fn configuration(
    certificate: &Certificate,
    provider: Arc<dyn RTCCryptoProvider>,
    suites: &[CipherSuiteId],
    profiles: &[SrtpProfile],
    role: DtlsRole,
) -> Result<Arc<HandshakeConfig>, Error> {
    let profiles = profiles
        .iter()
        .map(|profile| profile_number(*profile).into())
        .collect();
    let configuration = ConfigBuilder::default()
        .with_crypto_provider(provider)
        .with_certificates(vec![certificate.to_dtls()])
        .with_cipher_suites(suites.to_vec())
        .with_srtp_protection_profiles(profiles)
        // The certificate is required, its CertificateVerify checked, and its issuer ignored: the
        // fingerprint from the SDP is the proof (RFC 8827 section 6.5).
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        .with_insecure_skip_verify(true)
        // That crate's server does not compare the client's Finished; with the extended master
        // secret the keys themselves depend on the whole transcript (RFC 7627).
        .with_extended_master_secret(ExtendedMasterSecretType::Require)
        .with_server_name("webrtc".to_owned())
        .with_flight_interval(flight_interval(role))
        .build(role == DtlsRole::Client, None)?;
    Ok(Arc::new(configuration))
}

/// How long until a flight is sent again by itself. The crate gives a handshake up after the eighth;
/// as a server we spread them over all the time that a handshake may take, so that a storm or a bad
/// network only delays it: a peer that misses our flight repeats its own, and is answered at once.
fn flight_interval(role: DtlsRole) -> Duration {
    match role {
        DtlsRole::Server => HANDSHAKE_TIMEOUT / 8,
        DtlsRole::Client => Duration::from_secs(1),
    }
}

/// The SRTP master keys of both directions (RFC 5764 section 4.2).
pub(super) fn export_keys(state: &webrtc_dtls::state::State) -> Option<SrtpKeys> {
    let (profile, key_len, salt_len) = match state.srtp_protection_profile() {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => (SrtpProfile::AeadAes128Gcm, 16, 12),
        SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => (SrtpProfile::AeadAes256Gcm, 32, 12),
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => {
            (SrtpProfile::Aes128CmHmacSha1_80, 16, 14)
        }
        _ => return None,
    };
    let length = 2 * (key_len + salt_len);
    let material = state
        .export_keying_material("EXTRACTOR-dtls_srtp", &[], length)
        .ok()?;
    let (keys, salts) = material.as_ref().split_at_checked(2 * key_len)?;
    let (client_key, server_key) = keys.split_at_checked(key_len)?;
    let (client_salt, server_salt) = salts.split_at_checked(salt_len)?;
    let client = MasterKey {
        key: client_key.to_vec(),
        salt: client_salt.to_vec(),
    };
    let server = MasterKey {
        key: server_key.to_vec(),
        salt: server_salt.to_vec(),
    };
    Some(if state.is_client() {
        SrtpKeys {
            profile,
            receive: server,
            send: client,
        }
    } else {
        SrtpKeys {
            profile,
            receive: client,
            send: server,
        }
    })
}
