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

/// The list's kind of the absolute capture time.
const ABS_CAPTURE_TIME: u8 = 1;

/// The list's kind of the dependency descriptor.
pub(super) const DEPENDENCY_DESCRIPTOR: u8 = 4;

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

    /// Completes an absolute capture time for receivers whose clock is ours: that of the machine that
    /// captured is ahead of ours by `ahead`, in NTP units (the extension's "estimated capture clock
    /// offset"). A publisher that says how far another machine is ahead of itself has that added.
    pub(super) fn complete_capture_time(&mut self, ahead: i64) {
        let mut at = 0;
        let mut found = None;
        for (kind, value) in elements(self.as_bytes()) {
            if kind == ABS_CAPTURE_TIME {
                let said = value.get(8..16).and_then(|said| said.try_into().ok());
                found = Some((value.len(), said.map_or(0, i64::from_be_bytes)));
                break;
            }
            at += 2 + value.len();
        }
        if let Some((len @ (8 | 16), said)) = found {
            self.put_capture_offset(at, len == 8, said.wrapping_add(ahead));
        }
    }

    /// Puts the offset behind the time of the element at `at`, making room for it where there is none.
    fn put_capture_offset(&mut self, at: usize, is_short: bool, offset: i64) {
        let (len_at, offset_at) = (at + 1, at + 2 + 8);
        if is_short {
            let end = self.len + 8;
            if self.bytes.get(..end).is_none() {
                return;
            }
            self.bytes.copy_within(offset_at..self.len, offset_at + 8);
            self.len = end;
            if let Some(len) = self.bytes.get_mut(len_at) {
                *len = 16;
            }
        }
        if let Some(room) = self.bytes.get_mut(offset_at..offset_at + 8) {
            room.copy_from_slice(&offset.to_be_bytes());
        }
    }

    /// The audio level, when it is there.
    pub(super) fn audio_level(&self) -> Option<u8> {
        audio_level(self.as_bytes())
    }
}

/// The audio level in a list, in -dBov (RFC 6464 section 3).
pub(super) fn audio_level(list: &[u8]) -> Option<u8> {
    let (_, value) = elements(list).find(|(kind, _)| *kind == AUDIO_LEVEL)?;
    Some(value.first()? & 0x7f)
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

    /// A list of these elements.
    fn list(elements: &[(u8, &[u8])]) -> ExtensionList {
        let mut list = ExtensionList::new();
        for (kind, value) in elements {
            let end = list.len + 2 + value.len();
            list.bytes[list.len..list.len + 2].copy_from_slice(&[*kind, value.len() as u8]);
            list.bytes[list.len + 2..end].copy_from_slice(value);
            list.len = end;
        }
        list
    }

    #[test]
    fn a_capture_time_says_how_far_its_clock_is_ahead_of_ours() {
        let (time, orientation) = ([1, 2, 3, 4, 5, 6, 7, 8], [9]);
        let with_offset = |offset: i64| [time.as_slice(), &offset.to_be_bytes()].concat();
        let read = |list: &ExtensionList| -> Vec<(u8, Vec<u8>)> {
            elements(list.as_bytes())
                .map(|(kind, value)| (kind, value.to_vec()))
                .collect()
        };
        let mut short = list(&[(ABS_CAPTURE_TIME, &time), (2, &orientation)]);
        short.complete_capture_time(-7);
        let completed = [
            (ABS_CAPTURE_TIME, with_offset(-7)),
            (2, orientation.to_vec()),
        ];
        assert_eq!(read(&short), completed);
        // What it says of another machine's clock is kept.
        let mut long = list(&[(2, &orientation), (ABS_CAPTURE_TIME, &with_offset(100))]);
        long.complete_capture_time(-7);
        assert_eq!(read(&long)[1], (ABS_CAPTURE_TIME, with_offset(93)));
        let mut odd = list(&[(ABS_CAPTURE_TIME, &time[..5])]);
        odd.complete_capture_time(-7);
        assert_eq!(read(&odd), [(ABS_CAPTURE_TIME, time[..5].to_vec())]);
        let mut full = list(&[(2, &[0; 200]), (3, &[0; 70]), (ABS_CAPTURE_TIME, &time)]);
        full.complete_capture_time(-7);
        assert_eq!(read(&full).len(), 3, "there is no room for more");
    }
}
