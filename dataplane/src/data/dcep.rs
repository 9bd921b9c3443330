//! The Data Channel Establishment Protocol (RFC 8832): what opens a channel, and the answer to it.

use std::time::Duration;

use super::channel::{ChannelSpec, Reliability};
use super::packet::{u16_at, u32_at};
use crate::limits::DATA_LABEL_BYTES_MAX;

/// DATA_CHANNEL_ACK (RFC 8832 section 5.2), the whole message.
pub(super) const ACK: &[u8] = &[0x02];

/// Message type of DATA_CHANNEL_OPEN (RFC 8832 section 5.1).
const OPEN: u8 = 0x03;

/// The bytes before label and protocol.
const HEADER_BYTES: usize = 12;

/// In a channel type: messages need no order.
const UNORDERED: u8 = 0x80;

/// Reads a DATA_CHANNEL_OPEN; `None` when it is none, or one that we do not serve: an unknown
/// channel type, a label or protocol that is too long or no UTF-8.
pub(super) fn parse_open(message: &[u8]) -> Option<ChannelSpec> {
    let (header, names) = message.split_at_checked(HEADER_BYTES)?;
    let &[OPEN, channel_type, ..] = header else {
        return None;
    };
    let parameter = u32_at(header, 4)?;
    let label_len = usize::from(u16_at(header, 8)?);
    let protocol_len = usize::from(u16_at(header, 10)?);
    if label_len.max(protocol_len) > DATA_LABEL_BYTES_MAX {
        return None;
    }
    let (label, protocol) = names.split_at_checked(label_len)?;
    let protocol = protocol.get(..protocol_len)?;
    let reliability = match channel_type & !UNORDERED {
        0x00 => Reliability::Reliable,
        0x01 => Reliability::Retransmits(parameter),
        0x02 => Reliability::Lifetime(Duration::from_millis(u64::from(parameter))),
        _ => return None,
    };
    Some(ChannelSpec {
        label: std::str::from_utf8(label).ok()?.to_owned(),
        protocol: std::str::from_utf8(protocol).ok()?.to_owned(),
        ordered: channel_type & UNORDERED == 0,
        reliability,
    })
}

/// Writes a DATA_CHANNEL_OPEN, as clients do; its priority is the middle one (RFC 8831 section 6.4).
#[cfg(any(test, feature = "sim"))]
pub(super) fn write_open(spec: &ChannelSpec) -> Vec<u8> {
    let (kind, parameter) = match spec.reliability {
        Reliability::Reliable => (0x00, 0),
        Reliability::Retransmits(count) => (0x01, count),
        Reliability::Lifetime(age) => (0x02, age.as_millis() as u32),
    };
    let mut message = vec![OPEN, if spec.ordered { kind } else { kind | UNORDERED }];
    message.extend_from_slice(&256_u16.to_be_bytes());
    message.extend_from_slice(&parameter.to_be_bytes());
    message.extend_from_slice(&(spec.label.len() as u16).to_be_bytes());
    message.extend_from_slice(&(spec.protocol.len() as u16).to_be_bytes());
    message.extend_from_slice(spec.label.as_bytes());
    message.extend_from_slice(spec.protocol.as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(label: &str, ordered: bool, reliability: Reliability) -> ChannelSpec {
        ChannelSpec {
            label: label.to_owned(),
            protocol: "json".to_owned(),
            ordered,
            reliability,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let lifetime = Reliability::Lifetime(Duration::from_millis(150));
        for reliability in [Reliability::Reliable, Reliability::Retransmits(3), lifetime] {
            for ordered in [true, false] {
                let spec = spec("room", ordered, reliability);
                assert_eq!(parse_open(&write_open(&spec)), Some(spec));
            }
        }
    }

    #[test]
    fn a_channel_that_is_cut_short_or_of_another_kind_is_refused() {
        let whole = write_open(&spec("room", true, Reliability::Reliable));
        for len in 0..whole.len() {
            assert_eq!(parse_open(&whole[..len]), None, "{len} bytes");
        }
        let mut other = whole.clone();
        other[0] = ACK[0];
        assert_eq!(parse_open(&other), None, "an acknowledgement");
        let mut other = whole.clone();
        other[1] = 0x03;
        assert_eq!(parse_open(&other), None, "a kind that nobody has defined");
        let mut other = whole.clone();
        other[12] = 0xff;
        assert_eq!(parse_open(&other), None, "a label that is no text");
        let long = "x".repeat(DATA_LABEL_BYTES_MAX + 1);
        let long = write_open(&spec(&long, true, Reliability::Reliable));
        assert_eq!(parse_open(&long), None, "a label that is too long");
    }
}
