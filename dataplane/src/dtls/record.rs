//! DTLS records and handshake headers as checked views (RFC 6347 sections 4.1 and 4.2.2).

/// Content type of ChangeCipherSpec.
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
/// Content type of alerts.
pub(super) const ALERT: u8 = 21;
/// Content type of handshake messages.
pub(super) const HANDSHAKE: u8 = 22;
/// Content type of application data: SCTP packets (RFC 8261).
pub(super) const APPLICATION_DATA: u8 = 23;

/// Handshake type of the ClientHello.
pub(super) const CLIENT_HELLO: u8 = 1;
/// Handshake type of the HelloVerifyRequest.
pub(super) const HELLO_VERIFY_REQUEST: u8 = 3;

/// Handshake type of the ServerHelloDone.
pub(super) const SERVER_HELLO_DONE: u8 = 14;
/// Handshake type of the CertificateVerify.
pub(super) const CERTIFICATE_VERIFY: u8 = 15;

/// DTLS 1.2 on the wire.
pub(super) const DTLS_1_2: [u8; 2] = [0xfe, 0xfd];

const RECORD_HEADER_BYTES: usize = 13;
const HANDSHAKE_HEADER_BYTES: usize = 12;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// What it carries.
    pub(super) content_type: u8,
    /// 0 is plaintext, 1 is under the negotiated keys.
    pub(super) epoch: u16,
    /// Header and body.
    pub(super) bytes: &'a [u8],
    /// The body.
    pub(super) body: &'a [u8],
}

/// The records of a datagram; ends at the first that does not fit.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (header, after) = rest.split_at_checked(RECORD_HEADER_BYTES)?;
        let &[
            content_type,
            _,
            _,
            epoch_high,
            epoch_low,
            _,
            _,
            _,
            _,
            _,
            _,
            len_high,
            len_low,
        ] = header
        else {
            return None;
        };
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        // The crate behind us takes no empty record.
        let body = after.get(..len).filter(|body| !body.is_empty())?;
        let (bytes, tail) = rest.split_at_checked(RECORD_HEADER_BYTES + len)?;
        rest = tail;
        let epoch = u16::from_be_bytes([epoch_high, epoch_low]);
        Some(Record {
            content_type,
            epoch,
            bytes,
            body,
        })
    })
}

/// A part of a handshake message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    /// The message's type.
    pub(super) kind: u8,
    /// The message's number.
    pub(super) sequence: u16,
    /// The whole message's length without header.
    pub(super) length: usize,
    /// Where this part begins.
    pub(super) offset: usize,
    /// This part; never empty unless the message is.
    pub(super) part: &'a [u8],
}

impl Fragment<'_> {
    /// Whether this part is the whole message.
    pub(super) fn is_whole(&self) -> bool {
        self.part.len() == self.length
    }
}

/// The handshake fragments of a plaintext record; ends at the first that lies about its size:
/// past the record, past its message, or empty within a message that is not (GHSA-cm8f-h6j3-p25c).
pub(super) fn fragments(body: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (header, after) = rest.split_at_checked(HANDSHAKE_HEADER_BYTES)?;
        let &[kind, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2] = header else {
            return None;
        };
        let length = u24(l0, l1, l2);
        let offset = u24(o0, o1, o2);
        let part = after.get(..u24(f0, f1, f2))?;
        if offset + part.len() > length || (part.is_empty() && length > 0) {
            return None;
        }
        rest = after.get(part.len()..)?;
        Some(Fragment {
            kind,
            sequence: u16::from_be_bytes([s0, s1]),
            length,
            offset,
            part,
        })
    })
}

fn u24(high: u8, middle: u8, low: u8) -> usize {
    usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
}

/// A whole handshake message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Its type.
    pub(super) kind: u8,
    /// Its number.
    pub(super) sequence: u16,
    /// Its body, without header.
    pub(super) body: Vec<u8>,
}

impl Message {
    /// Appends the message, unfragmented, as one plaintext record with the given number.
    pub(super) fn write_record(&self, record_sequence: u64, out: &mut Vec<u8>) {
        let length = self.body.len() as u32;
        let [_, l0, l1, l2] = length.to_be_bytes();
        let [s0, s1] = self.sequence.to_be_bytes();
        let header = [self.kind, l0, l1, l2, s0, s1, 0, 0, 0, l0, l1, l2];
        let len = header.len() + self.body.len();
        write_header(HANDSHAKE, record_sequence, len, out);
        out.extend_from_slice(&header);
        out.extend_from_slice(&self.body);
    }
}

/// Appends a plaintext record of any type.
pub(super) fn write_record(content_type: u8, sequence: u64, body: &[u8], out: &mut Vec<u8>) {
    write_header(content_type, sequence, body.len(), out);
    out.extend_from_slice(body);
}

fn write_header(content_type: u8, sequence: u64, len: usize, out: &mut Vec<u8>) {
    let [_, _, n0, n1, n2, n3, n4, n5] = sequence.to_be_bytes();
    let [len_high, len_low] = (len as u16).to_be_bytes();
    out.push(content_type);
    out.extend_from_slice(&DTLS_1_2);
    out.extend_from_slice(&[0, 0, n0, n1, n2, n3, n4, n5, len_high, len_low]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Message {
            kind: 11,
            sequence: 2,
            body: vec![5; len],
        }
        .write_record(7, &mut out);
        out
    }

    #[test]
    fn what_is_written_is_read() {
        let mut datagram = message(30);
        write_record(CHANGE_CIPHER_SPEC, 8, &[1], &mut datagram);
        let seen: Vec<_> = records(&datagram).collect();
        assert_eq!(seen.len(), 2);
        assert_eq!(
            (seen[1].content_type, seen[1].epoch, seen[1].body),
            (20, 0, &[1][..])
        );
        let parts: Vec<_> = fragments(seen[0].body).collect();
        assert_eq!(parts.len(), 1);
        assert_eq!(
            (parts[0].kind, parts[0].sequence, parts[0].part.len()),
            (11, 2, 30)
        );
        assert!(parts[0].is_whole());
    }

    #[test]
    fn every_truncation_is_taken() {
        let datagram = message(30);
        for len in 0..datagram.len() {
            assert_eq!(records(&datagram[..len]).count(), 0);
        }
        let body = records(&datagram).next().unwrap().body;
        for len in 0..body.len() {
            assert_eq!(fragments(&body[..len]).count(), 0);
        }
    }

    #[test]
    fn t_18_fragments_that_lie_are_dropped() {
        let header =
            |length: u8, offset: u8, part: u8| [1, 0, 0, length, 0, 0, 0, 0, offset, 0, 0, part];
        let fits = |header: [u8; 12]| {
            fragments(&[&header[..], &[0; 20]].concat())
                .next()
                .is_some()
        };
        assert!(fits(header(20, 0, 20)));
        assert!(
            !fits(header(20, 0, 0)),
            "empty part of a message that is not"
        );
        assert!(!fits(header(20, 10, 11)), "past its message");
        assert!(!fits(header(21, 0, 21)), "past its record");
        assert!(fits(header(0, 0, 0)), "ServerHelloDone is empty");
    }
}
