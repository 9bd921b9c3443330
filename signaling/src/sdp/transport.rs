//! What a client says about its end of the transport: ICE credentials, DTLS role, fingerprints.

use rtc_sdp::description::common::Attribute;

use serde::{Deserialize, Serialize};

use super::offer::OfferError;
use super::quote;

/// A ufrag and its password (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceCredentials {
    /// `a=ice-ufrag`
    pub ufrag: String,
    /// `a=ice-pwd`
    pub pwd: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceCredentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

impl IceCredentials {
    /// Whether both are of the length and the alphabet that RFC 8839 section 5.4 asks for.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let chars = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'='))
        };
        (4..=256).contains(&self.ufrag.len())
            && (22..=256).contains(&self.pwd.len())
            && chars(&self.ufrag)
            && chars(&self.pwd)
    }
}

/// `a=setup` (RFC 4145).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// The client leaves it to us: we answer `passive`.
    ActPass,
    /// The client starts.
    Active,
    /// The client waits: we answer `active`.
    Passive,
}

impl Setup {
    /// What we answer (RFC 5763 section 5): `passive` wherever we may choose, because then the
    /// client's first message also shows that its address is its own.
    #[must_use]
    pub fn answer(self) -> Setup {
        match self {
            Setup::ActPass | Setup::Active => Setup::Passive,
            Setup::Passive => Setup::Active,
        }
    }

    /// The attribute's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Setup::ActPass => "actpass",
            Setup::Active => "active",
            Setup::Passive => "passive",
        }
    }

    fn parse(value: &str) -> Option<Setup> {
        [Setup::ActPass, Setup::Active, Setup::Passive]
            .into_iter()
            .find(|s| s.as_str() == value)
    }
}

/// A certificate's digest, by hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fingerprint {
    /// `sha-256`
    Sha256([u8; 32]),
    /// `sha-384`
    Sha384([u8; 48]),
    /// `sha-512`
    Sha512([u8; 64]),
}

impl Fingerprint {
    /// Reads the value of `a=fingerprint` (RFC 8122 section 5); `None` for a hash that we don't take.
    fn parse(value: &str) -> Result<Option<Fingerprint>, OfferError> {
        let bad = || OfferError::BadFingerprint(quote(value));
        let (hash, digest) = value.trim().split_once(' ').ok_or_else(bad)?;
        let octet = |hex: &str| {
            let both = hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit());
            both.then(|| u8::from_str_radix(hex, 16).ok()).flatten()
        };
        let digest: Option<Vec<u8>> = digest.trim().split(':').take(65).map(octet).collect();
        let digest = digest.ok_or_else(bad)?;
        let known = match hash.to_ascii_lowercase().as_str() {
            "sha-256" => digest
                .try_into()
                .map(Fingerprint::Sha256)
                .map_err(|_| bad())?,
            "sha-384" => digest
                .try_into()
                .map(Fingerprint::Sha384)
                .map_err(|_| bad())?,
            "sha-512" => digest
                .try_into()
                .map(Fingerprint::Sha512)
                .map_err(|_| bad())?,
            _ => return Ok(None),
        };
        Ok(Some(known))
    }
}

/// The transport attributes of one level: of the session, or of a section.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Transport {
    ufrag: Option<String>,
    pwd: Option<String>,
    setup: Option<String>,
    fingerprints: Vec<String>,
}

/// More certificates than anyone offers; the rest is not read.
const FINGERPRINTS_MAX: usize = 16;

impl Transport {
    /// Reads one level's attributes.
    pub(super) fn read(attributes: &[Attribute]) -> Transport {
        let mut transport = Transport::default();
        for attribute in attributes {
            let value = || {
                attribute
                    .value
                    .as_deref()
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            };
            match attribute.key.as_str() {
                "ice-ufrag" => transport.ufrag = Some(value()),
                "ice-pwd" => transport.pwd = Some(value()),
                "setup" => transport.setup = Some(value()),
                "fingerprint" if transport.fingerprints.len() < FINGERPRINTS_MAX => {
                    transport.fingerprints.push(value());
                }
                _ => {}
            }
        }
        transport
    }

    /// A section's own attributes, with the session's for those that it lacks (RFC 8839 section
    /// 5.4, RFC 8122 section 5: media level wins).
    pub(super) fn or(mut self, session: &Transport) -> Transport {
        if self.ufrag.is_none() && self.pwd.is_none() {
            self.ufrag.clone_from(&session.ufrag);
            self.pwd.clone_from(&session.pwd);
        }
        if self.setup.is_none() {
            self.setup.clone_from(&session.setup);
        }
        if self.fingerprints.is_empty() {
            self.fingerprints.clone_from(&session.fingerprints);
        }
        self
    }

    /// Whether both describe one and the same ICE session.
    pub(super) fn same_ice(&self, other: &Transport) -> bool {
        self.ufrag == other.ufrag && self.pwd == other.pwd
    }

    /// The client's credentials, if they are there and well formed.
    pub(super) fn ice(&self, mid: &str) -> Result<IceCredentials, OfferError> {
        let missing = || OfferError::MissingIce(mid.to_owned());
        let ufrag = self.ufrag.clone().ok_or_else(missing)?;
        let pwd = self.pwd.clone().ok_or_else(missing)?;
        let ice = IceCredentials { ufrag, pwd };
        if ice.is_valid() {
            Ok(ice)
        } else {
            Err(OfferError::BadIce(mid.to_owned()))
        }
    }

    /// The client's DTLS role.
    pub(super) fn setup(&self, mid: &str) -> Result<Setup, OfferError> {
        let value = self
            .setup
            .as_deref()
            .ok_or_else(|| OfferError::MissingSetup(mid.to_owned()))?;
        Setup::parse(value).ok_or_else(|| OfferError::BadSetup(quote(value)))
    }

    /// The client's certificates, those of a hash that we take.
    pub(super) fn fingerprints(&self, mid: &str) -> Result<Vec<Fingerprint>, OfferError> {
        let Some(first) = self.fingerprints.first() else {
            return Err(OfferError::MissingFingerprint(mid.to_owned()));
        };
        let parsed: Result<Vec<_>, _> = self
            .fingerprints
            .iter()
            .map(|value| Fingerprint::parse(value))
            .collect();
        let known: Vec<Fingerprint> = parsed?.into_iter().flatten().collect();
        if known.is_empty() {
            let hash = first.split(' ').next().unwrap_or_default();
            return Err(OfferError::WeakFingerprint(quote(hash)));
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_keep_to_the_alphabet_and_lengths_of_the_rfc() {
        let ice = |ufrag: &str, pwd: &str| {
            IceCredentials {
                ufrag: ufrag.to_owned(),
                pwd: pwd.to_owned(),
            }
            .is_valid()
        };
        assert!(ice("abcd", "0123456789012345678901"));
        assert!(ice("a+/d", &"x".repeat(256)));
        assert!(!ice("abc", "0123456789012345678901"));
        assert!(!ice("abcd", "012345678901234567890"));
        assert!(!ice("ab:d", "0123456789012345678901"));
        assert!(!ice("abcd", &"x".repeat(257)));
    }

    #[test]
    fn fingerprints_are_read_in_either_case() {
        let digest = vec!["aB"; 32].join(":");
        let parsed = Fingerprint::parse(&format!("SHA-256 {digest}")).unwrap();
        assert_eq!(parsed, Some(Fingerprint::Sha256([0xab; 32])));
        assert_eq!(Fingerprint::parse("sha-1 AB:CD").unwrap(), None);
        assert!(Fingerprint::parse("sha-256 AB:CD").is_err());
        assert!(Fingerprint::parse("sha-256").is_err());
        assert!(Fingerprint::parse(&format!("sha-256 {}", vec!["+1"; 32].join(":"))).is_err());
    }

    #[test]
    fn a_section_overrides_the_session() {
        let attribute = |key: &str, value: &str| Attribute::new(key.into(), Some(value.into()));
        let session = Transport::read(&[
            attribute("ice-ufrag", "sess"),
            attribute("ice-pwd", "0123456789012345678901"),
            attribute("setup", "active"),
        ]);
        let section = Transport::read(&[attribute("setup", "actpass")]).or(&session);
        assert_eq!(section.setup("0"), Ok(Setup::ActPass));
        assert_eq!(section.ice("0").unwrap().ufrag, "sess");
    }
}
