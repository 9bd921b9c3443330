//! SCTP packets as checked views, and packets in the making (RFC 9260 section 3).

use bytes::Bytes;

/// Chunk types (RFC 9260 section 3.2, RFC 3758 section 3.2, RFC 6525 section 3.1).
pub(super) mod kind {
    pub(in crate::data) const DATA: u8 = 0;
    pub(in crate::data) const INIT: u8 = 1;
    pub(in crate::data) const INIT_ACK: u8 = 2;
    pub(in crate::data) const SACK: u8 = 3;
    pub(in crate::data) const HEARTBEAT: u8 = 4;
    pub(in crate::data) const ABORT: u8 = 6;
    pub(in crate::data) const SHUTDOWN: u8 = 7;
    pub(in crate::data) const SHUTDOWN_ACK: u8 = 8;
    pub(in crate::data) const COOKIE_ECHO: u8 = 10;
    pub(in crate::data) const COOKIE_ACK: u8 = 11;
    pub(in crate::data) const SHUTDOWN_COMPLETE: u8 = 14;
    pub(in crate::data) const RECONFIG: u8 = 130;
    pub(in crate::data) const FORWARD_TSN: u8 = 192;
}

/// Ports, tag and checksum.
const HEADER_BYTES: usize = 12;

/// Type, flags or length, and length again: of a chunk and of a parameter.
const CHUNK_HEADER_BYTES: usize = 4;

/// A packet whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The peer's port.
    pub(super) source: u16,
    /// Ours.
    pub(super) destination: u16,
    /// The verification tag.
    pub(super) tag: u32,
    chunks: &'a [u8],
}

/// A chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    /// Its type, one of [`kind`] or another.
    pub(super) kind: u8,
    /// Its flags.
    pub(super) flags: u8,
    /// What follows its header, without padding.
    pub(super) value: &'a [u8],
}

/// A parameter (RFC 9260 section 3.2.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter<'a> {
    /// Its type.
    pub(super) kind: u16,
    /// What follows its header, without padding.
    pub(super) value: &'a [u8],
}

/// The packet is not SCTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Packet<'a> {
    /// Reads the header and checks the CRC32c (RFC 9260 appendix A).
    ///
    /// # Errors
    /// A packet that is too short, has a port 0 or another checksum.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Packet<'a>, Malformed> {
        let (header, chunks) = bytes.split_at_checked(HEADER_BYTES).ok_or(Malformed)?;
        let (addressed, checksum) = header.split_at_checked(8).ok_or(Malformed)?;
        let packet = Packet {
            source: u16_at(header, 0).ok_or(Malformed)?,
            destination: u16_at(header, 2).ok_or(Malformed)?,
            tag: u32_at(header, 4).ok_or(Malformed)?,
            chunks,
        };
        let has_ports = packet.source != 0 && packet.destination != 0;
        if !has_ports || checksum != self::checksum(addressed, chunks) {
            return Err(Malformed);
        }
        Ok(packet)
    }

    /// Its chunks; ends after the first that does not fit.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Result<Chunk<'a>, Malformed>> + use<'a> {
        let mut rest = self.chunks;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let Some((header, value, tail)) = split_item(rest) else {
                rest = &[];
                return Some(Err(Malformed));
            };
            rest = tail;
            let &[kind, flags, ..] = header else {
                return Some(Err(Malformed));
            };
            Some(Ok(Chunk { kind, flags, value }))
        })
    }
}

/// The parameters of a chunk's value; ends after the first that does not fit.
pub(super) fn parameters(value: &[u8]) -> impl Iterator<Item = Result<Parameter<'_>, Malformed>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((header, value, tail)) = split_item(rest) else {
            rest = &[];
            return Some(Err(Malformed));
        };
        rest = tail;
        let kind = u16_at(header, 0)?;
        Some(Ok(Parameter { kind, value }))
    })
}

/// Header, value and what follows of a chunk or a parameter; both carry their length, header
/// included and padding not, in their third and fourth byte.
fn split_item(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let len = usize::from(u16_at(bytes, 2)?);
    let (item, tail) = bytes.split_at_checked(len)?;
    let (header, value) = item.split_at_checked(CHUNK_HEADER_BYTES)?;
    // The last one's padding may be missing.
    let padding = (len.next_multiple_of(4) - len).min(tail.len());
    Some((header, value, tail.get(padding..)?))
}

/// A packet in the making.
#[derive(Debug)]
pub(super) struct Draft {
    bytes: Vec<u8>,
}

impl Draft {
    /// One without chunks, with the ports and the tag of `packet`.
    pub(super) fn like(packet: &Packet<'_>) -> Draft {
        Draft::new(packet.source, packet.destination, packet.tag)
    }

    /// One without chunks.
    pub(super) fn new(source: u16, destination: u16, tag: u32) -> Draft {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&source.to_be_bytes());
        bytes.extend_from_slice(&destination.to_be_bytes());
        bytes.extend_from_slice(&tag.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        Draft { bytes }
    }

    /// Adds a chunk; its value is no longer than a datagram.
    pub(super) fn push(&mut self, kind: u8, flags: u8, value: &[u8]) {
        self.bytes.extend_from_slice(&[kind, flags]);
        self.push_len(value);
    }

    /// Adds length, value and padding.
    fn push_len(&mut self, value: &[u8]) {
        let len = CHUNK_HEADER_BYTES + value.len();
        self.bytes.extend_from_slice(&(len as u16).to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The packet with its checksum; `None` without a chunk.
    pub(super) fn finish(mut self) -> Option<Bytes> {
        let (header, chunks) = self.bytes.split_at_checked(HEADER_BYTES)?;
        if chunks.is_empty() {
            return None;
        }
        let sum = checksum(header.get(..8)?, chunks);
        self.bytes.get_mut(8..HEADER_BYTES)?.copy_from_slice(&sum);
        Some(Bytes::from(self.bytes))
    }
}

/// A parameter as a chunk carries it, padded.
pub(super) fn write_parameter(kind: u16, value: &[u8], out: &mut Vec<u8>) {
    let mut draft = Draft {
        bytes: std::mem::take(out),
    };
    draft.bytes.extend_from_slice(&kind.to_be_bytes());
    draft.push_len(value);
    *out = draft.bytes;
}

/// The checksum as it stands in the packet: over everything, with itself as zeros.
fn checksum(addressed: &[u8], chunks: &[u8]) -> [u8; 4] {
    let sum = crc32c::crc32c_append(crc32c::crc32c(addressed), &[0; 4]);
    crc32c::crc32c_append(sum, chunks).to_le_bytes()
}

/// A big-endian number at `at`.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*field))
}

/// A big-endian number at `at`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*field))
}
