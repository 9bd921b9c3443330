//! Header extensions between a publisher's ids and a subscriber's (RFC 8285).
//!
//! A track's log keeps those worth forwarding as a list of `kind, length, value`, so that ids are
//! looked up once per packet on the way in and once per subscriber on the way out. What belongs to
//! one hop (MID, transport-wide numbers, send times) is not kept.

use crate::command::ExtensionIds;
use crate::limits::EXTENSIONS_BYTES_MAX;
use crate::wire::rtp::Extensions;

/// How many kinds are forwarded.
const KINDS: usize = 5;

/// The list's kind of the audio level (RFC 6464).
const AUDIO_LEVEL: u8 = 0;

/// The list's kind of the dependency descriptor.
const DEPENDENCY_DESCRIPTOR: u8 = 4;

/// One side's ids of the extensions that are forwarded, by kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForwardedIds([Option<u8>; KINDS]);

impl ForwardedIds {
    /// Picks the forwarded ones.
    pub(super) fn new(ids: &ExtensionIds) -> ForwardedIds {
        ForwardedIds([
            ids.audio_level,
            ids.abs_capture_time,
            ids.video_orientation,
            ids.playout_delay,
            ids.dependency_descriptor,
        ])
    }

    /// Lists what is worth keeping of a packet's extensions at the start of `out`, and returns
    /// the list's length. What does not fit is left out.
    pub(super) fn list(&self, extensions: Extensions<'_>, out: &mut ExtensionList) {
        out.len = 0;
        for (id, value) in extensions {
            let kind = self.0.iter().position(|mine| *mine == Some(id));
            let (Some(kind), Ok(len)) = (kind, u8::try_from(value.len())) else {
                continue;
            };
            let end = out.len + 2 + value.len();
            let Some(room) = out.bytes.get_mut(out.len..end) else {
                continue;
            };
            let (head, body) = room.split_at_mut(2);
            head.copy_from_slice(&[kind as u8, len]);
            body.copy_from_slice(value);
            out.len = end;
        }
    }

    /// Gives each listed extension that this side takes to `push`, by its id.
    pub(super) fn each<'a>(&self, list: &'a [u8], mut push: impl FnMut(u8, &'a [u8])) {
        for (kind, value) in elements(list) {
            if let Some(&Some(id)) = self.0.get(usize::from(kind)) {
                push(id, value);
            }
        }
    }
}

/// A packet's list on its way into the log.
#[derive(Debug)]
pub(super) struct ExtensionList {
    bytes: [u8; EXTENSIONS_BYTES_MAX],
    len: usize,
}

impl ExtensionList {
    /// An empty list.
    pub(super) fn new() -> ExtensionList {
        ExtensionList {
            bytes: [0; EXTENSIONS_BYTES_MAX],
            len: 0,
        }
    }

    /// The list.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The audio level in -dBov, when it is there (RFC 6464 section 3).
    pub(super) fn audio_level(&self) -> Option<u8> {
        let (_, value) = elements(self.as_bytes()).find(|(kind, _)| *kind == AUDIO_LEVEL)?;
        Some(value.first()? & 0x7f)
    }
}

/// The dependency descriptor in a list.
pub(super) fn dependency_descriptor(list: &[u8]) -> Option<&[u8]> {
    elements(list).find_map(|(kind, value)| (kind == DEPENDENCY_DESCRIPTOR).then_some(value))
}

fn elements(mut list: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[kind, len], rest) = list.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_at_checked(usize::from(len))?;
        list = rest;
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{PayloadType, Ssrc};
    use crate::wire::{ExtensionBlock, RtpHeader, RtpView};

    #[test]
    fn what_both_sides_negotiated_goes_through_under_the_receivers_ids() {
        let publisher = ExtensionIds {
            mid: Some(1),
            audio_level: Some(2),
            playout_delay: Some(3),
            dependency_descriptor: Some(20),
            ..ExtensionIds::default()
        };
        let subscriber = ExtensionIds {
            audio_level: Some(9),
            dependency_descriptor: Some(10),
            ..ExtensionIds::default()
        };
        let mut block = ExtensionBlock::new();
        for (id, value) in [
            (1, &b"0"[..]),
            (2, &[0x80 | 17]),
            (3, &[1, 2, 3]),
            (20, &[7; 100]),
        ] {
            assert!(block.push(id, value));
        }
        let header = RtpHeader {
            marker: false,
            payload_type: PayloadType(96),
            sequence: 1,
            timestamp: 2,
            ssrc: Ssrc(3),
            padding: false,
        };
        let mut packet = [0; 300];
        let len = header.write(&mut packet, &block).unwrap();
        let view = RtpView::parse(&packet[..len]).unwrap();

        let mut list = ExtensionList::new();
        ForwardedIds::new(&publisher).list(view.extensions(), &mut list);
        assert_eq!(list.audio_level(), Some(17));
        let mut seen = Vec::new();
        ForwardedIds::new(&subscriber)
            .each(list.as_bytes(), |id, value| seen.push((id, value.to_vec())));
        assert_eq!(seen, [(9, vec![0x80 | 17]), (10, vec![7; 100])]);
    }
}
