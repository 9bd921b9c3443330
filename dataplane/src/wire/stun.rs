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

#[cfg(test)]
mod tests {
    use stun::attributes::{
        ATTR_MESSAGE_INTEGRITY, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
    };
    use stun::fingerprint::FINGERPRINT;
    use stun::integrity::MessageIntegrity;
    use stun::message::{Message, MessageType, Setter};

    use super::*;
    use crate::wire::fuzz::{self, PASSWORD};
    use crate::wire::generator::{Generator, short_datagrams};

    const SEED: u64 = 0x5354_554E;

    /// RFC 5769 section 2.1: a request with ICE attributes, integrity and fingerprint.
    const REQUEST: [u8; 108] = [
        0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74,
        0x65, 0x73, 0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e,
        0x00, 0x01, 0xff, 0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36,
        0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20,
        0x20, 0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e,
        0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5,
        0x7a, 0x3b, 0xcf,
    ];

    /// RFC 5769 section 2.2: the response.
    const RESPONSE: [u8; 80] = [
        0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76,
        0x65, 0x63, 0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1,
        0x12, 0xa6, 0x43, 0x00, 0x08, 0x00, 0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3,
        0x8c, 0x74, 0x89, 0xf9, 0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00,
        0x04, 0xc0, 0x7d, 0x4c, 0x96,
    ];

    const UNKNOWN_REQUIRED: AttrType = AttrType(0x7F01);

    /// A message of the crate: attributes as listed, then what `signed` and `fingerprinted` ask for.
    fn message(
        attributes: &[(AttrType, &[u8])],
        after: &[(AttrType, &[u8])],
        fingerprinted: bool,
    ) -> Vec<u8> {
        let mut message = Message::new();
        message.typ = MessageType::default();
        message.write_header();
        message.set_type(MessageType {
            method: stun::message::METHOD_BINDING,
            class: stun::message::CLASS_REQUEST,
        });
        message.new_transaction_id().unwrap();
        for (kind, value) in attributes {
            message.add(*kind, value);
        }
        MessageIntegrity::new_short_term_integrity_with_provider(PASSWORD.into(), &AWS_LC)
            .add_to(&mut message)
            .unwrap();
        for (kind, value) in after {
            message.add(*kind, value);
        }
        if fingerprinted {
            FINGERPRINT.add_to(&mut message).unwrap();
        }
        fuzz::stun(&message.raw);
        message.raw
    }

    static AWS_LC: rtc_crypto::providers::AwsLcRsCrypto = rtc_crypto::providers::AwsLcRsCrypto;

    const CHECK: [(AttrType, &[u8]); 2] = [
        (ATTR_USERNAME, b"us:them"),
        (ATTR_PRIORITY, &[0x6e, 0, 0x1e, 0xff]),
    ];

    fn parse(bytes: &[u8]) -> BindingRequest<'_> {
        BindingRequest::parse(bytes).unwrap().expect("a request")
    }

    #[test]
    fn the_request_of_rfc_5769_is_read_and_authentic() {
        let request = parse(&REQUEST);
        assert_eq!(request.transaction(), REQUEST[8..20]);
        assert_eq!(request.username(), (&b"evtj"[..], &b"h6vY"[..]));
        assert_eq!(request.priority(), 0x6e00_01ff);
        assert_eq!(request.ice_controlled(), Some(0x932f_f9b1_5126_3b36));
        assert_eq!(request.ice_controlling(), None);
        assert!(!request.use_candidate());
        assert_eq!(request.unknown_attribute(), None);
        assert!(request.verify(&IntegrityKey::new(PASSWORD)));
        assert!(!request.verify(&IntegrityKey::new("VOkJxbRl1RmTxUk/WvJxBT")));
        fuzz::stun(&REQUEST);
    }

    #[test]
    fn sound_stun_that_is_no_request_is_no_error() {
        assert!(BindingRequest::parse(&RESPONSE).unwrap().is_none());
        // A Binding indication keeps a path open (RFC 8445 section 11).
        let indication = [
            0x00, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
        ];
        assert!(BindingRequest::parse(&indication).unwrap().is_none());
    }

    #[test]
    fn t_15_no_changed_byte_of_a_request_stays_unnoticed() {
        let key = IntegrityKey::new(PASSWORD);
        // Bytes 100 and 101 are the fingerprint's type: without it, the rest is as authentic as before.
        for at in (0..100).chain(102..REQUEST.len()) {
            let mut changed = REQUEST;
            changed[at] ^= 0x40;
            let authentic = matches!(BindingRequest::parse(&changed), Ok(Some(request)) if request.verify(&key));
            assert!(!authentic, "byte {at}");
            // The same without fingerprint, so that it is integrity alone that notices.
            let mut bare = changed[..100].to_vec();
            if at < 100 && at != 2 && at != 3 {
                bare[3] -= 8;
                let authentic = matches!(BindingRequest::parse(&bare), Ok(Some(request)) if request.verify(&key));
                assert!(!authentic, "byte {at} without fingerprint");
            }
        }
        let mut bare = REQUEST[..100].to_vec();
        bare[3] -= 8;
        assert!(parse(&bare).verify(&key), "the fingerprint may be missing");
    }

    #[test]
    fn damage_is_survived_and_the_crate_agrees() {
        let mut generator = Generator::new(SEED);
        generator.torment(&REQUEST, 8_000, fuzz::stun);
        generator.torment(&RESPONSE, 2_000, fuzz::stun);
        let mut bare = REQUEST[..100].to_vec();
        bare[3] -= 8;
        generator.torment(&bare, 8_000, fuzz::stun);
        short_datagrams(&mut generator, fuzz::stun);
    }

    #[test]
    fn t_15_what_follows_integrity_is_ignored() {
        let key = IntegrityKey::new(PASSWORD);
        let late: [(AttrType, &[u8]); 3] = [
            (ATTR_USE_CANDIDATE, &[]),
            (UNKNOWN_REQUIRED, &[1]),
            (ATTR_USERNAME, b"no:body"),
        ];
        for fingerprinted in [false, true] {
            let bytes = message(&CHECK, &late, fingerprinted);
            let request = parse(&bytes);
            assert!(request.verify(&key));
            assert!(!request.use_candidate());
            assert_eq!(request.unknown_attribute(), None);
            assert_eq!(request.username(), (&b"us"[..], &b"them"[..]));
        }
        // A second MESSAGE-INTEGRITY counts as little.
        let bytes = message(&CHECK, &[(ATTR_MESSAGE_INTEGRITY, &[7; 20])], true);
        assert!(parse(&bytes).verify(&key));
    }

    #[test]
    fn the_first_of_several_attributes_counts() {
        let attributes = [
            CHECK[0],
            CHECK[1],
            (ATTR_USERNAME, &b"no:body"[..]),
            (ATTR_PRIORITY, &[0; 4]),
        ];
        let bytes = message(&attributes, &[], true);
        let request = parse(&bytes);
        assert_eq!(request.username(), (&b"us"[..], &b"them"[..]));
        assert_eq!(request.priority(), 0x6e00_1eff);
    }

    #[test]
    fn nomination_and_what_is_unknown_are_told() {
        let attributes = [
            CHECK[0],
            CHECK[1],
            (ATTR_USE_CANDIDATE, &[][..]),
            (AttrType(0x802A), &[1, 2, 3, 4, 5, 6, 7, 8]),
            (AttrType(0xC057), &[0, 0, 0, 0]),
            (UNKNOWN_REQUIRED, &[1, 2, 3]),
        ];
        let bytes = message(&attributes, &[], true);
        let request = parse(&bytes);
        assert!(request.use_candidate());
        assert_eq!(request.ice_controlling(), Some(0x0102_0304_0506_0708));
        assert_eq!(request.unknown_attribute(), Some(0x7F01));
    }

    #[test]
    fn t_15_a_check_without_what_ice_requires_is_refused() {
        let refused = |attributes: &[(AttrType, &[u8])]| {
            BindingRequest::parse(&message(attributes, &[], true)).unwrap_err()
        };
        assert_eq!(refused(&CHECK[..1]), Malformed::Field, "no PRIORITY");
        assert_eq!(refused(&CHECK[1..]), Malformed::Field, "no USERNAME");
        assert_eq!(
            refused(&[(ATTR_USERNAME, b"usthem"), CHECK[1]]),
            Malformed::Field,
            "no colon"
        );
        assert_eq!(
            refused(&[CHECK[0], (ATTR_PRIORITY, &[0; 3])]),
            Malformed::Field,
            "a short PRIORITY"
        );
        // Integrity is required: cut it off and mend the length.
        let mut bytes = message(&CHECK, &[], false);
        bytes.truncate(bytes.len() - 24);
        bytes[3] -= 24;
        assert_eq!(BindingRequest::parse(&bytes).unwrap_err(), Malformed::Field);
    }

    #[test]
    fn t_15_integrity_that_comes_first_and_lengths_past_the_end_are_refused() {
        // What comes behind it is not there.
        let bytes = message(&[], &CHECK, true);
        assert_eq!(BindingRequest::parse(&bytes).unwrap_err(), Malformed::Field);
        // From byte 100 on it is the fingerprint, which may be missing.
        for at in 20..99 {
            for len in [0x7f, 0xff] {
                let mut bytes = REQUEST;
                // Whatever stands there, some of them are lengths.
                (bytes[at], bytes[at + 1]) = (len, len);
                let key = IntegrityKey::new(PASSWORD);
                let parsed = BindingRequest::parse(&bytes);
                assert!(
                    !matches!(parsed, Ok(Some(request)) if request.verify(&key)),
                    "{at}"
                );
                fuzz::stun(&bytes);
            }
        }
    }

    #[test]
    fn t_14_a_fingerprint_must_match_and_be_last() {
        let mut wrong = REQUEST;
        wrong[107] ^= 1;
        assert_eq!(
            BindingRequest::parse(&wrong).unwrap_err(),
            Malformed::Fingerprint
        );
        let mut followed = REQUEST.to_vec();
        followed.extend([0x80, 0x22, 0, 0]);
        followed[3] += 4;
        assert_eq!(
            BindingRequest::parse(&followed).unwrap_err(),
            Malformed::Fingerprint
        );
    }
}
