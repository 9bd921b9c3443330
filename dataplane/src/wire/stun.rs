//! Connectivity checks: a view of what arrives (RFC 8489, RFC 8445 section 7.3).

use aws_lc_rs::{constant_time, hmac};

use super::crc32::crc32;
use super::{Malformed, u16_at, u32_at};

/// Bytes of a message before its attributes (RFC 8489 section 5).
pub(super) const HEADER_LEN: usize = 20;

/// What makes it STUN (RFC 8489 section 5).
pub(super) const MAGIC_COOKIE: u32 = 0x2112_A442;

/// What a FINGERPRINT's checksum is combined with (RFC 8489 section 14.7).
pub(super) const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// Bytes of a MESSAGE-INTEGRITY value: HMAC-SHA1.
pub(super) const INTEGRITY_LEN: usize = 20;

/// Bytes before an attribute's value: type and length.
pub(super) const ATTRIBUTE_HEADER_LEN: usize = 4;

/// Message types that we read or write (RFC 8489 section 5).
pub(super) mod message_type {
    pub(in super::super) const BINDING_REQUEST: u16 = 0x0001;
    pub(in super::super) const BINDING_SUCCESS: u16 = 0x0101;
    pub(in super::super) const BINDING_ERROR: u16 = 0x0111;
}

/// Attribute types (RFC 8489 section 18.3, RFC 8445 section 16.1).
pub(super) mod attribute {
    pub(in super::super) const USERNAME: u16 = 0x0006;
    pub(in super::super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(in super::super) const ERROR_CODE: u16 = 0x0009;
    pub(in super::super) const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub(in super::super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(in super::super) const PRIORITY: u16 = 0x0024;
    pub(in super::super) const USE_CANDIDATE: u16 = 0x0025;
    pub(in super::super) const FINGERPRINT: u16 = 0x8028;
    pub(in super::super) const ICE_CONTROLLED: u16 = 0x8029;
    pub(in super::super) const ICE_CONTROLLING: u16 = 0x802A;
    /// Types from here on may be ignored by who does not know them (RFC 8489 section 14).
    pub(in super::super) const OPTIONAL: u16 = 0x8000;
}

/// A password's key for MESSAGE-INTEGRITY, made once: keying costs as much as a check.
#[derive(Clone, Debug)]
pub struct IntegrityKey(hmac::Key);

impl IntegrityKey {
    /// The key of a short-term credential (RFC 8489 section 9.1.1). An ICE password is ASCII, which
    /// OpaqueString preparation leaves as it is.
    #[must_use]
    pub fn new(pwd: &str) -> IntegrityKey {
        IntegrityKey(hmac::Key::new(
            hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            pwd.as_bytes(),
        ))
    }

    /// The integrity of a message up to its MESSAGE-INTEGRITY attribute, its length field read as if
    /// that attribute were the last (RFC 8489 section 14.5).
    pub(super) fn sign(&self, before: &[u8]) -> hmac::Tag {
        let length =
            (before.len() + ATTRIBUTE_HEADER_LEN + INTEGRITY_LEN).saturating_sub(HEADER_LEN);
        let mut context = hmac::Context::with_key(&self.0);
        context.update(before.get(..2).unwrap_or_default());
        context.update(&(length as u16).to_be_bytes());
        context.update(before.get(4..).unwrap_or_default());
        context.sign()
    }
}

/// A connectivity check: a Binding request with USERNAME, PRIORITY and MESSAGE-INTEGRITY. What it
/// says is to be believed only after [`verify`](BindingRequest::verify).
#[derive(Clone, Copy, Debug)]
pub struct BindingRequest<'a> {
    transaction: &'a [u8; 12],
    username: (&'a [u8], &'a [u8]),
    priority: u32,
    use_candidate: bool,
    controlled: Option<u64>,
    controlling: Option<u64>,
    unknown: Option<u16>,
    /// The message up to MESSAGE-INTEGRITY.
    signed: &'a [u8],
    integrity: &'a [u8; INTEGRITY_LEN],
}

/// Attributes seen so far.
#[derive(Default)]
struct Attributes<'a> {
    username: Option<&'a [u8]>,
    priority: Option<u32>,
    use_candidate: bool,
    controlled: Option<u64>,
    controlling: Option<u64>,
    unknown: Option<u16>,
    integrity: Option<(usize, &'a [u8; INTEGRITY_LEN])>,
}

impl<'a> BindingRequest<'a> {
    /// Reads a check; `Ok(None)` for sound STUN that is no Binding request (an indication, a response,
    /// another method), which deserves silence.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the message, or that what ICE requires of a check is missing.
    pub fn parse(datagram: &'a [u8]) -> Result<Option<BindingRequest<'a>>, Malformed> {
        let (header, body) = datagram
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Malformed::Truncated)?;
        let &[t0, t1, l0, l1, c0, c1, c2, c3, ref transaction @ ..] = header;
        let message_type = u16::from_be_bytes([t0, t1]);
        if u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE || message_type & 0xC000 != 0 {
            return Err(Malformed::Version);
        }
        if usize::from(u16::from_be_bytes([l0, l1])) != body.len() || !body.len().is_multiple_of(4)
        {
            return Err(Malformed::Length);
        }
        if message_type != message_type::BINDING_REQUEST {
            return Ok(None);
        }
        let attributes = Attributes::parse(datagram)?;
        let username = attributes.username.ok_or(Malformed::Field)?;
        let colon = username
            .iter()
            .position(|&byte| byte == b':')
            .ok_or(Malformed::Field)?;
        let (local, remote) = username.split_at_checked(colon).ok_or(Malformed::Field)?;
        let (signed_len, integrity) = attributes.integrity.ok_or(Malformed::Field)?;
        Ok(Some(BindingRequest {
            transaction,
            username: (local, remote.get(1..).unwrap_or_default()),
            priority: attributes.priority.ok_or(Malformed::Field)?,
            use_candidate: attributes.use_candidate,
            controlled: attributes.controlled,
            controlling: attributes.controlling,
            unknown: attributes.unknown,
            signed: datagram.get(..signed_len).ok_or(Malformed::Length)?,
            integrity,
        }))
    }

    /// The transaction id, to be repeated in the answer.
    #[must_use]
    pub fn transaction(&self) -> [u8; 12] {
        *self.transaction
    }

    /// The ufrag of the receiver (ours) and the ufrag of the sender (RFC 8445 section 7.2.2).
    #[must_use]
    pub fn username(&self) -> (&'a [u8], &'a [u8]) {
        self.username
    }

    /// The priority that a candidate learned from this check has (RFC 8445 section 7.1.1).
    #[must_use]
    pub fn priority(&self) -> u32 {
        self.priority
    }

    /// Whether the sender nominates the pair (RFC 8445 section 7.1.2).
    #[must_use]
    pub fn use_candidate(&self) -> bool {
        self.use_candidate
    }

    /// The tie-breaker of a sender in the controlled role (RFC 8445 section 7.1.3).
    #[must_use]
    pub fn ice_controlled(&self) -> Option<u64> {
        self.controlled
    }

    /// The tie-breaker of a sender in the controlling role (RFC 8445 section 7.1.3).
    #[must_use]
    pub fn ice_controlling(&self) -> Option<u64> {
        self.controlling
    }

    /// The first attribute that must be understood and is not: to be answered with
    /// [`write_unknown_attribute`](super::write_unknown_attribute) once the check is verified (RFC 8489
    /// section 6.3.1).
    #[must_use]
    pub fn unknown_attribute(&self) -> Option<u16> {
        self.unknown
    }

    /// Whether the sender knows the password; compared in constant time.
    #[must_use]
    pub fn verify(&self, key: &IntegrityKey) -> bool {
        constant_time::verify_slices_are_equal(key.sign(self.signed).as_ref(), self.integrity)
            .is_ok()
    }
}

impl<'a> Attributes<'a> {
    /// Walks the attributes of a message whose header is checked. Of several of one type, the first
    /// counts (RFC 8489 section 14).
    fn parse(message: &'a [u8]) -> Result<Attributes<'a>, Malformed> {
        let mut found = Attributes::default();
        let mut offset = HEADER_LEN;
        while offset < message.len() {
            let attribute = u16_at(message, offset).ok_or(Malformed::Length)?;
            let len = usize::from(u16_at(message, offset + 2).ok_or(Malformed::Length)?);
            let start = offset + ATTRIBUTE_HEADER_LEN;
            let value = message.get(start..start + len).ok_or(Malformed::Length)?;
            if attribute == attribute::FINGERPRINT {
                check_fingerprint(message, offset, value)?;
            } else if found.integrity.is_none() {
                // What follows MESSAGE-INTEGRITY is not protected by it and is ignored (RFC 8489
                // section 14.5).
                found.take(attribute, offset, value)?;
            }
            offset = start + len.next_multiple_of(4);
        }
        Ok(found)
    }

    fn take(&mut self, attribute: u16, offset: usize, value: &'a [u8]) -> Result<(), Malformed> {
        match attribute {
            attribute::USERNAME => {
                self.username.get_or_insert(value);
            }
            attribute::PRIORITY => {
                self.priority
                    .get_or_insert(u32::from_be_bytes(fixed(value)?));
            }
            attribute::USE_CANDIDATE => self.use_candidate = true,
            attribute::ICE_CONTROLLED => {
                self.controlled
                    .get_or_insert(u64::from_be_bytes(fixed(value)?));
            }
            attribute::ICE_CONTROLLING => {
                self.controlling
                    .get_or_insert(u64::from_be_bytes(fixed(value)?));
            }
            attribute::MESSAGE_INTEGRITY => {
                let value = value.try_into().map_err(|_| Malformed::Field)?;
                self.integrity = Some((offset, value));
            }
            optional if optional >= attribute::OPTIONAL => {}
            unknown => {
                self.unknown.get_or_insert(unknown);
            }
        }
        Ok(())
    }
}

/// A value of exactly `N` bytes.
fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed::Field)
}

/// FINGERPRINT must be the last attribute and match what is before it (RFC 8489 section 14.7).
fn check_fingerprint(message: &[u8], offset: usize, value: &[u8]) -> Result<(), Malformed> {
    let before = message.get(..offset).ok_or(Malformed::Length)?;
    let last = offset + ATTRIBUTE_HEADER_LEN + 4 == message.len();
    if last && u32_at(value, 0) == Some(crc32(before) ^ FINGERPRINT_XOR) {
        Ok(())
    } else {
        Err(Malformed::Fingerprint)
    }
}
