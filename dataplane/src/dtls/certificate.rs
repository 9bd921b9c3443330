//! Our certificate, and the check of the peer's (RFC 8122).

use std::sync::Arc;

use aws_lc_rs::{constant_time, digest};
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use webrtc_dtls::crypto::Certificate as DtlsCertificate;

use crate::command::Fingerprint;

/// A self-signed certificate of the node: ECDSA over P-256. Cloning shares the key.
#[derive(Clone)]
pub struct Certificate {
    inner: Arc<Inner>,
}

struct Inner {
    certificate: DtlsCertificate,
    fingerprint: [u8; 32],
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The key or the certificate could not be made.
    #[error("no DTLS certificate could be made: {0}")]
    Generate(String),
    /// It could not be handed from one process to another.
    #[error("the DTLS certificate cannot be carried over: {0}")]
    Carry(String),
}

impl Certificate {
    /// Makes a key and a certificate for it.
    ///
    /// # Errors
    ///
    /// Fails when the system gives no randomness.
    pub fn generate() -> Result<Certificate, CertificateError> {
        let provider = AwsLcRsProvider::new();
        let certificate = DtlsCertificate::generate_self_signed_with_alg(
            vec!["millrace".to_owned()],
            &rcgen::PKCS_ECDSA_P256_SHA256,
            provider.crypto(),
        )
        .map_err(|error| CertificateError::Generate(error.to_string()))?;
        Certificate::of(certificate)
    }

    fn of(certificate: DtlsCertificate) -> Result<Certificate, CertificateError> {
        let Some(der) = certificate.certificate.first() else {
            return Err(CertificateError::Generate("the chain is empty".to_owned()));
        };
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, der.as_ref()).as_ref());
        let inner = Arc::new(Inner {
            certificate,
            fingerprint,
        });
        Ok(Certificate { inner })
    }

    /// It with its key, for the process that takes over and nobody else.
    ///
    /// # Errors
    /// When the library of cryptography does not give the key away.
    pub fn to_secret(&self) -> Result<String, CertificateError> {
        let written = self.inner.certificate.serialize_pem();
        written.map_err(|error| CertificateError::Carry(error.to_string()))
    }

    /// Reads what [`Certificate::to_secret`] wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_secret(secret: &str) -> Result<Certificate, CertificateError> {
        let provider = AwsLcRsProvider::new();
        let read = DtlsCertificate::from_pem(secret, provider.crypto());
        Certificate::of(read.map_err(|error| CertificateError::Carry(error.to_string()))?)
    }

    /// Its SHA-256, for `a=fingerprint`.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.inner.fingerprint
    }

    /// What the handshake signs with.
    pub(super) fn to_dtls(&self) -> DtlsCertificate {
        self.inner.certificate.clone()
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// The provider of everything cryptographic in a handshake.
pub(super) fn crypto_provider() -> Arc<dyn RTCCryptoProvider> {
    Arc::new(AwsLcRsProvider::new())
}

/// Whether a certificate is the one that was announced: of the fingerprints, those of the
/// strongest hash count, and one of them must match (RFC 8122 section 5).
pub(super) fn matches_fingerprints(der: &[u8], announced: &[Fingerprint]) -> bool {
    let Some(strongest) = announced.iter().map(strength).max() else {
        return false;
    };
    announced
        .iter()
        .filter(|fingerprint| strength(fingerprint) == strongest)
        .any(|fingerprint| {
            let (algorithm, expected): (_, &[u8]) = match fingerprint {
                Fingerprint::Sha256(hash) => (&digest::SHA256, hash),
                Fingerprint::Sha384(hash) => (&digest::SHA384, hash),
                Fingerprint::Sha512(hash) => (&digest::SHA512, hash),
            };
            // Both are public; in constant time all the same, so that nobody need ask.
            let digest = digest::digest(algorithm, der);
            constant_time::verify_slices_are_equal(digest.as_ref(), expected).is_ok()
        })
}

fn strength(fingerprint: &Fingerprint) -> u16 {
    match fingerprint {
        Fingerprint::Sha256(_) => 256,
        Fingerprint::Sha384(_) => 384,
        Fingerprint::Sha512(_) => 512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha<const N: usize>(algorithm: &'static digest::Algorithm, der: &[u8]) -> [u8; N] {
        digest::digest(algorithm, der).as_ref().try_into().unwrap()
    }

    #[test]
    fn only_the_strongest_hash_counts() {
        let der = b"any certificate";
        let sha256 = Fingerprint::Sha256(sha(&digest::SHA256, der));
        let sha512 = Fingerprint::Sha512(sha(&digest::SHA512, der));
        let wrong256 = Fingerprint::Sha256([7; 32]);
        let wrong512 = Fingerprint::Sha512([7; 64]);

        assert!(matches_fingerprints(
            der,
            &[wrong256.clone(), sha256.clone()]
        ));
        assert!(matches_fingerprints(der, &[wrong256.clone(), sha512]));
        assert!(
            !matches_fingerprints(der, &[sha256, wrong512]),
            "a weaker match saves nothing"
        );
        assert!(!matches_fingerprints(der, &[wrong256]));
        assert!(
            !matches_fingerprints(der, &[]),
            "nothing announced is nothing trusted"
        );
    }

    #[test]
    fn each_certificate_is_its_own() {
        let first = Certificate::generate().unwrap();
        let second = Certificate::generate().unwrap();
        assert_ne!(first.fingerprint(), second.fingerprint());
    }
}
