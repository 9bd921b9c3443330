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
