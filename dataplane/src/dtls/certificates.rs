//! The certificates of a process: sessions that are made after a renewal have the new one, those that were
//! there keep theirs.

use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::certificate::{Certificate, CertificateError};
use crate::id::SessionId;

/// Which certificate a session has. Cloning shares it.
///
/// Ids of sessions grow, so a certificate is named by the first session that has it. A session begins
/// its handshake soon after it was made, or never, and its association keeps the certificate: the
/// latest and the one before it are enough.
#[derive(Clone, Debug)]
pub struct Certificates {
    current: Arc<RwLock<Current>>,
}

#[derive(Debug)]
struct Current {
    certificate: Certificate,
    /// The first session that has it.
    from: SessionId,
    /// What those before it have.
    before: Certificate,
}

/// The certificates with their keys, for the process that takes over and nobody else.
#[derive(Serialize, Deserialize)]
pub struct CertificatesSecret {
    certificate: String,
    from: SessionId,
    before: String,
}

impl std::fmt::Debug for CertificatesSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificatesSecret").finish_non_exhaustive()
    }
}

impl Certificates {
    /// What another process goes on with.
    ///
    /// # Errors
    /// When the library of cryptography does not give the keys away.
    pub fn to_secret(&self) -> Result<CertificatesSecret, CertificateError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Ok(CertificatesSecret {
            certificate: current.certificate.to_secret()?,
            from: current.from,
            before: current.before.to_secret()?,
        })
    }

    /// Goes on where another process ended.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_secret(secret: &CertificatesSecret) -> Result<Certificates, CertificateError> {
        let current = Current {
            certificate: Certificate::from_secret(&secret.certificate)?,
            from: secret.from,
            before: Certificate::from_secret(&secret.before)?,
        };
        Ok(Certificates {
            current: Arc::new(RwLock::new(current)),
        })
    }

    /// One for all sessions.
    #[must_use]
    pub fn new(certificate: Certificate) -> Certificates {
        let current = Current {
            before: certificate.clone(),
            certificate,
            from: SessionId(0),
        };
        Certificates {
            current: Arc::new(RwLock::new(current)),
        }
    }

    /// That of a session.
    #[must_use]
    pub fn of(&self, session: SessionId) -> Certificate {
        // A panic elsewhere cannot leave it half written: it is replaced as a whole.
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if session.0 >= current.from.0 {
            current.certificate.clone()
        } else {
            current.before.clone()
        }
    }

    /// Sessions from this one on have another certificate.
    pub fn renew(&self, from: SessionId, certificate: Certificate) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = current.certificate.clone();
        *current = Current {
            certificate,
            from,
            before,
        };
    }
}

impl From<Certificate> for Certificates {
    fn from(certificate: Certificate) -> Certificates {
        Certificates::new(certificate)
    }
}

impl From<&Certificate> for Certificates {
    fn from(certificate: &Certificate) -> Certificates {
        Certificates::new(certificate.clone())
    }
}

impl From<&Certificates> for Certificates {
    fn from(certificates: &Certificates) -> Certificates {
        certificates.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_from_before_a_renewal_keep_what_they_had() {
        let made = [(); 3].map(|()| Certificate::generate().unwrap());
        let certificates = Certificates::new(made[0].clone());
        let has = |session, expected: usize| {
            let its = certificates.of(SessionId(session)).fingerprint();
            assert_eq!(its, made[expected].fingerprint(), "session {session}");
        };
        has(7, 0);
        certificates.renew(SessionId(8), made[1].clone());
        has(7, 0);
        has(8, 1);
        certificates.clone().renew(SessionId(20), made[2].clone());
        has(19, 1);
        has(20, 2);
        // And another process that takes over hands out the same.
        let secret = certificates.to_secret().unwrap();
        let carried = Certificates::from_secret(&secret).unwrap();
        for session in [19, 20] {
            let of =
                |certificates: &Certificates| certificates.of(SessionId(session)).fingerprint();
            assert_eq!(of(&carried), of(&certificates), "session {session}");
        }
    }
}
