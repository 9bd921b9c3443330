//! Connectivity checks: our answers (RFC 8489, RFC 8445 section 7.3.1).

use std::net::{IpAddr, SocketAddr};

use super::crc32::crc32;
use super::stun::{
    ATTRIBUTE_HEADER_LEN, FINGERPRINT_XOR, HEADER_LEN, IntegrityKey, MAGIC_COOKIE, attribute,
    message_type,
};

/// Longest reason phrase of an error, in bytes (RFC 8489 section 14.8 allows 763; ours are short).
const REASON_LEN_MAX: usize = 128;

/// Writes a Binding success response and returns its length; `None` without room.
#[must_use]
pub fn write_binding_success(
    out: &mut [u8],
    transaction: [u8; 12],
    mapped: SocketAddr,
    key: &IntegrityKey,
) -> Option<usize> {
    let mut message = Message::begin(out, message_type::BINDING_SUCCESS, transaction)?;
    message.put_xor_mapped_address(mapped, transaction)?;
    message.finish(Some(key))
}

/// Writes a Binding error response and returns its length; `None` without room. Without a `key` it
/// carries no MESSAGE-INTEGRITY: who could not authenticate gets an answer that is not either
/// (RFC 8489 section 9.1.3).
#[must_use]
pub fn write_binding_error(
    out: &mut [u8],
    transaction: [u8; 12],
    code: u16,
    reason: &str,
    key: Option<&IntegrityKey>,
) -> Option<usize> {
    let mut message = Message::begin(out, message_type::BINDING_ERROR, transaction)?;
    message.put_error(code, reason)?;
    message.finish(key)
}

/// Writes the answer to a verified check with an `attribute` that we do not understand and must
/// (420, RFC 8489 section 6.3.1), and returns its length; `None` without room.
#[must_use]
pub fn write_unknown_attribute(
    out: &mut [u8],
    transaction: [u8; 12],
    attribute: u16,
    key: &IntegrityKey,
) -> Option<usize> {
    let mut message = Message::begin(out, message_type::BINDING_ERROR, transaction)?;
    message.put_error(420, "Unknown Attribute")?;
    message.put(attribute::UNKNOWN_ATTRIBUTES, &attribute.to_be_bytes())?;
    message.finish(Some(key))
}

/// A message in the making.
struct Message<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Message<'a> {
    fn begin(out: &'a mut [u8], message_type: u16, transaction: [u8; 12]) -> Option<Message<'a>> {
        let header = out.first_chunk_mut::<HEADER_LEN>()?;
        let (fixed, id) = header.split_first_chunk_mut::<8>()?;
        *fixed = ((u64::from(message_type) << 48) | u64::from(MAGIC_COOKIE)).to_be_bytes();
        id.copy_from_slice(&transaction);
        Some(Message {
            out,
            len: HEADER_LEN,
        })
    }

    /// Appends an attribute with zeros up to a whole word.
    fn put(&mut self, attribute: u16, value: &[u8]) -> Option<()> {
        let end = self.len + ATTRIBUTE_HEADER_LEN + value.len().next_multiple_of(4);
        let room = self.out.get_mut(self.len..end)?;
        let (header, room) = room.split_first_chunk_mut::<ATTRIBUTE_HEADER_LEN>()?;
        *header = ((u32::from(attribute) << 16) | u32::try_from(value.len()).ok()?).to_be_bytes();
        let (value_room, padding) = room.split_at_mut_checked(value.len())?;
        value_room.copy_from_slice(value);
        padding.fill(0);
        self.len = end;
        Some(())
    }

    /// The length field counts everything behind the header that is or will be there.
    fn set_length(&mut self, end: usize) -> Option<()> {
        let length = u16::try_from(end - HEADER_LEN).ok()?;
        self.out
            .get_mut(2..4)?
            .copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    /// XOR-MAPPED-ADDRESS (RFC 8489 section 14.2).
    fn put_xor_mapped_address(&mut self, mapped: SocketAddr, transaction: [u8; 12]) -> Option<()> {
        let port = (mapped.port() ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes();
        match mapped.ip() {
            IpAddr::V4(ip) => {
                let address = u32::from(ip) ^ MAGIC_COOKIE;
                let mut value = [0, 0x01, port[0], port[1], 0, 0, 0, 0];
                value
                    .last_chunk_mut::<4>()?
                    .copy_from_slice(&address.to_be_bytes());
                self.put(attribute::XOR_MAPPED_ADDRESS, &value)
            }
            IpAddr::V6(ip) => {
                let mut mask = [0; 16];
                mask.first_chunk_mut::<4>()?
                    .copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
                mask.last_chunk_mut::<12>()?.copy_from_slice(&transaction);
                let address = u128::from(ip) ^ u128::from_be_bytes(mask);
                let mut value = [0; 20];
                value
                    .first_chunk_mut::<4>()?
                    .copy_from_slice(&[0, 0x02, port[0], port[1]]);
                value
                    .last_chunk_mut::<16>()?
                    .copy_from_slice(&address.to_be_bytes());
                self.put(attribute::XOR_MAPPED_ADDRESS, &value)
            }
        }
    }

    /// ERROR-CODE (RFC 8489 section 14.8): hundreds and the rest apart, then the phrase.
    fn put_error(&mut self, code: u16, reason: &str) -> Option<()> {
        let mut value = [0; 4 + REASON_LEN_MAX];
        let (head, phrase) = value.split_first_chunk_mut::<4>()?;
        *head = [0, 0, (code / 100) as u8 & 0x07, (code % 100) as u8];
        phrase
            .get_mut(..reason.len())?
            .copy_from_slice(reason.as_bytes());
        let end = 4 + reason.len();
        self.put(attribute::ERROR_CODE, value.get(..end)?)
    }

    /// Adds MESSAGE-INTEGRITY and FINGERPRINT and returns the length of the whole.
    fn finish(mut self, key: Option<&IntegrityKey>) -> Option<usize> {
        if let Some(key) = key {
            let integrity = key.sign(self.out.get(..self.len)?);
            self.put(attribute::MESSAGE_INTEGRITY, integrity.as_ref())?;
        }
        self.set_length(self.len + ATTRIBUTE_HEADER_LEN + 4)?;
        let checksum = crc32(self.out.get(..self.len)?) ^ FINGERPRINT_XOR;
        self.put(attribute::FINGERPRINT, &checksum.to_be_bytes())?;
        Some(self.len)
    }
}

#[cfg(test)]
mod tests {
    use rtc_crypto::providers::AwsLcRsCrypto;
    use stun::attributes::{ATTR_MESSAGE_INTEGRITY, ATTR_XORMAPPED_ADDRESS, AttrType};
    use stun::error_code::ErrorCodeAttribute;
    use stun::fingerprint::FINGERPRINT;
    use stun::integrity::MessageIntegrity;
    use stun::message::{Getter, Message};
    use stun::uattrs::UnknownAttributes;
    use stun::xoraddr::XorMappedAddress;

    use super::*;
    use crate::wire::fuzz::PASSWORD;
    use crate::wire::stun::BindingRequest;

    /// The transaction of the messages in RFC 5769.
    const TRANSACTION: [u8; 12] = [
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ];

    /// The crate's reading of a message, its integrity (where there is one) and fingerprint checked.
    fn read(bytes: &[u8]) -> Message {
        let mut message = Message::new();
        message.unmarshal_binary(bytes).unwrap();
        assert_eq!(message.transaction_id.0, TRANSACTION);
        FINGERPRINT.check(&message).unwrap();
        if message.get(ATTR_MESSAGE_INTEGRITY).is_ok() {
            MessageIntegrity::check(&mut message, PASSWORD.as_bytes(), &AwsLcRsCrypto).unwrap();
        }
        assert!(
            BindingRequest::parse(bytes).unwrap().is_none(),
            "an answer is no request"
        );
        message
    }

    #[test]
    fn a_success_maps_the_addresses_of_rfc_5769() {
        let key = IntegrityKey::new(PASSWORD);
        // Sections 2.2 and 2.3: the address, and the value of XOR-MAPPED-ADDRESS.
        let cases: [(&str, &[u8]); 2] = [
            (
                "192.0.2.1:32853",
                &[0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43],
            ),
            (
                "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
                &[
                    0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25,
                    0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
                ],
            ),
        ];
        for (address, value) in cases {
            let address: SocketAddr = address.parse().unwrap();
            let mut out = [0xAA; 128];
            let len = write_binding_success(&mut out, TRANSACTION, address, &key).unwrap();
            assert_eq!(len, 20 + 4 + value.len() + 24 + 8);
            let message = read(&out[..len]);
            assert_eq!(message.typ.value(), 0x0101);
            assert_eq!(message.get(ATTR_XORMAPPED_ADDRESS).unwrap(), value);
            let mut mapped = XorMappedAddress::default();
            mapped.get_from(&message).unwrap();
            assert_eq!(SocketAddr::new(mapped.ip, mapped.port), address);
            for room in 0..len {
                assert!(
                    write_binding_success(&mut out[..room], TRANSACTION, address, &key).is_none()
                );
            }
        }
    }

    #[test]
    fn an_error_says_its_code_and_reason() {
        let key = IntegrityKey::new(PASSWORD);
        for (code, reason) in [
            (400, "Bad Request"),
            (401, "Unauthenticated"),
            (487, "Role Conflict"),
            (500, ""),
        ] {
            for key in [None, Some(&key)] {
                let mut out = [0xAA; 128];
                let len = write_binding_error(&mut out, TRANSACTION, code, reason, key).unwrap();
                let message = read(&out[..len]);
                assert_eq!(message.typ.value(), 0x0111);
                assert_eq!(message.get(ATTR_MESSAGE_INTEGRITY).is_ok(), key.is_some());
                let mut error = ErrorCodeAttribute::default();
                error.get_from(&message).unwrap();
                assert_eq!((error.code.0, &error.reason[..]), (code, reason.as_bytes()));
                assert!(
                    write_binding_error(&mut out[..len - 1], TRANSACTION, code, reason, key)
                        .is_none()
                );
            }
        }
        assert!(
            write_binding_error(&mut [0; 2000], TRANSACTION, 400, &"x".repeat(200), None).is_none()
        );
    }

    #[test]
    fn an_unknown_attribute_is_named() {
        let mut out = [0; 128];
        let len =
            write_unknown_attribute(&mut out, TRANSACTION, 0x7F01, &IntegrityKey::new(PASSWORD))
                .unwrap();
        let message = read(&out[..len]);
        let mut unknown = UnknownAttributes(Vec::new());
        unknown.get_from(&message).unwrap();
        assert_eq!(
            unknown.0.iter().map(AttrType::value).collect::<Vec<_>>(),
            [0x7F01]
        );
    }
}
