//! Packets in a byte stream: each after its length in two bytes (RFC 4571 section 2).

use crate::limits::DATAGRAM_BYTES_MAX;

/// Bytes of the length in front of each packet.
pub(super) const LENGTH_BYTES: usize = 2;

/// A packet longer than any that the engine takes: the stream is no ICE-TCP, or lost its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet of {len} bytes in the stream, at most {DATAGRAM_BYTES_MAX} are taken")]
pub(super) struct TooLong {
    len: usize,
}

/// How many bytes at the start of `stream` are whole packets.
pub(super) fn whole_packets(stream: &[u8]) -> Result<usize, TooLong> {
    let mut whole = 0;
    while let Some(&[high, low]) = stream.get(whole..).and_then(<[u8]>::first_chunk) {
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len > DATAGRAM_BYTES_MAX {
            return Err(TooLong { len });
        }
        if stream.len() - whole < LENGTH_BYTES + len {
            break;
        }
        whole += LENGTH_BYTES + len;
    }
    Ok(whole)
}

/// Splits the first packet off; `None` at the end of the whole packets.
pub(super) fn split_packet(stream: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    let (length, rest) = stream.split_at_mut_checked(LENGTH_BYTES)?;
    let len = u16::from_be_bytes([*length.first()?, *length.get(1)?]);
    rest.split_at_mut_checked(usize::from(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_however_the_stream_is_cut() {
        let packets: [&[u8]; 4] = [b"one", b"", b"three", &[7; DATAGRAM_BYTES_MAX]];
        let mut stream = Vec::new();
        for packet in packets {
            stream.extend_from_slice(&(packet.len() as u16).to_be_bytes());
            stream.extend_from_slice(packet);
        }
        for cut in 0..=stream.len() {
            let mut found = Vec::new();
            let mut pending = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                pending.extend_from_slice(part);
                let whole = whole_packets(&pending).unwrap();
                let rest = pending.split_off(whole);
                let mut left = &mut pending[..];
                while let Some((packet, after)) = split_packet(left) {
                    found.push(packet.to_vec());
                    left = after;
                }
                pending = rest;
            }
            assert_eq!(found, packets, "cut at {cut}");
        }
    }

    #[test]
    fn a_length_past_the_largest_datagram_is_refused() {
        let len = DATAGRAM_BYTES_MAX + 1;
        assert_eq!(
            whole_packets(&(len as u16).to_be_bytes()),
            Err(TooLong { len })
        );
        assert_eq!(
            whole_packets(b"GET / HTTP/1.1\r\n"),
            Err(TooLong { len: 0x4745 })
        );
    }
}
