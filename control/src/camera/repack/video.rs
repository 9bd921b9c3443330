//! H.264 and H.265 as browsers take them: units in packets of a size, parameter sets before every key frame, a marker
//! on the last packet of every picture.
//!
//! A packet is passed on when it comes. So where a camera forgets the marker, or sets it on a packet that is not passed
//! on, the packet before it has left already: filler data (H.264 section 7.3.2.7, H.265 section 7.3.2.8), which decoders
//! skip, takes the marker in a packet of its own, at once or when the next picture begins.

use dataplane::wire::nal::units;

use super::coding::{Coding, Kind, Layout};
use super::out::Writer;
use super::sets::Sets;
use crate::camera::limits::{PICTURES_BEFORE_KEY_MAX, RTP_PAYLOAD_MAX, SET_BYTES_MAX};

/// One picture stream.
#[derive(Clone, Debug)]
pub(super) struct Video {
    coding: Coding,
    sets: Sets,
    /// A set has changed, and no slice was sent since.
    sets_changed: bool,
    /// The picture that is being sent.
    picture: Option<Picture>,
    /// A set that comes in fragments, as far as it has come.
    set_parts: Option<Vec<u8>>,
    /// Nothing is passed on before a key frame.
    awaits_key: bool,
    /// Pictures left out meanwhile.
    left_out: u32,
    /// The highest timestamp of a picture since the beginning.
    highest: Option<u32>,
    goes_back: bool,
    has_b_slices: bool,
    pictures: u64,
}

/// A picture on its way.
#[derive(Clone, Copy, Debug)]
struct Picture {
    timestamp: u32,
    /// Whether one of its slices was passed on.
    is_begun: bool,
    /// Whether the parameter sets were sent with it.
    has_sets: bool,
    /// Whether its last packet had the marker.
    is_ended: bool,
}

impl Video {
    /// One of which these sets are known, from its description.
    pub(super) fn new(sets: Sets, coding: Coding) -> Video {
        Video {
            coding,
            sets,
            sets_changed: false,
            picture: None,
            set_parts: None,
            awaits_key: true,
            left_out: 0,
            highest: None,
            goes_back: false,
            has_b_slices: false,
            pictures: 0,
        }
    }

    /// What follows has nothing to do with what was: the next picture that is passed on is a key frame.
    pub(super) fn restart(&mut self) {
        self.picture = None;
        self.set_parts = None;
        self.awaits_key = true;
        self.left_out = 0;
        self.highest = None;
    }

    /// Parameter sets of another description: they may replace those that are known.
    pub(super) fn learn(&mut self, unit: &[u8]) {
        self.sets_changed |= self.sets.learn(unit);
    }

    /// Packets are missing before the next one.
    pub(super) fn handle_loss(&mut self) {
        self.set_parts = None;
        // The marker may be among them; the gap tells what there is to tell.
        if let Some(picture) = &mut self.picture {
            picture.is_ended = true;
        }
    }

    pub(super) fn sets(&self) -> &Sets {
        &self.sets
    }

    /// Pictures so far.
    pub(super) fn pictures(&self) -> u64 {
        self.pictures
    }

    /// Whether pictures do not come in the order in which they are shown.
    pub(super) fn has_b_frames(&self) -> bool {
        let reorder = self.sets.sps().and_then(|sps| sps.reorder);
        let as_described = match self.coding {
            Coding::H264 => self.has_b_slices && reorder != Some(0),
            Coding::H265 => reorder.is_some_and(|pictures| pictures > 0),
        };
        self.goes_back || as_described
    }

    /// A payload with the marker that it came with. `false` where it is malformed.
    pub(super) fn handle_payload(
        &mut self,
        payload: &[u8],
        marker: bool,
        out: &mut Writer<'_>,
    ) -> bool {
        self.turn_to(out);
        let before = out.out.len();
        let understood = match self.coding.layout(payload) {
            Some(Layout::Single(unit)) => self.on_unit(unit, out),
            Some(Layout::Aggregate(rest)) => {
                let mut all_good = true;
                for unit in units(rest) {
                    all_good &= self.on_unit(unit, out);
                }
                all_good
            }
            Some(Layout::Fragment {
                header,
                start: true,
                end: true,
                part,
            }) => {
                let mut unit = header[..self.coding.header_len()].to_vec();
                unit.extend_from_slice(part);
                self.on_unit(&unit, out)
            }
            Some(Layout::Fragment {
                header,
                start,
                end,
                part,
            }) => {
                self.on_fragment(header, (start, end), part, out);
                true
            }
            None => false,
        };
        if marker {
            self.on_marker(out.out.len() > before, out);
        }
        understood
    }

    /// Goes on to the picture of this timestamp, and ends the last one where the camera forgot to.
    fn turn_to(&mut self, out: &mut Writer<'_>) {
        let timestamp = out.timestamp;
        match self.picture {
            Some(picture) if picture.timestamp == timestamp => return,
            Some(picture) if picture.is_begun && !picture.is_ended => {
                out.timestamp = picture.timestamp;
                out.packet(&[self.coding.filler()], true);
                out.timestamp = timestamp;
            }
            Some(_) | None => {}
        }
        self.picture = Some(Picture {
            timestamp,
            is_begun: false,
            has_sets: false,
            is_ended: false,
        });
    }

    /// The camera says that the picture is complete, with a packet of which something `was_sent` or nothing.
    fn on_marker(&mut self, was_sent: bool, out: &mut Writer<'_>) {
        let Some(picture) = &mut self.picture else {
            return;
        };
        // Some cameras mark the packets of parameter sets, before any slice.
        if !picture.is_begun {
            return;
        }
        if was_sent {
            out.mark_last();
        } else if !picture.is_ended {
            out.packet(&[self.coding.filler()], true);
        }
        picture.is_ended = true;
    }

    /// A whole unit. `false` where it is empty or cut off.
    fn on_unit(&mut self, unit: &[u8], out: &mut Writer<'_>) -> bool {
        let header_len = self.coding.header_len();
        if unit.len() <= header_len {
            return false;
        }
        match self.coding.kind(unit) {
            Kind::Set => self.learn(unit),
            Kind::Slice | Kind::KeySlice if self.on_slice(unit, out) => {
                if unit.len() <= RTP_PAYLOAD_MAX {
                    out.packet(&[unit], false);
                } else {
                    let mut header = [0; 2];
                    header[..header_len].copy_from_slice(&unit[..header_len]);
                    self.fragments(header, (true, true), &unit[header_len..], out);
                }
            }
            Kind::Slice | Kind::KeySlice | Kind::Other => {}
        }
        true
    }

    /// A part of a unit.
    fn on_fragment(
        &mut self,
        header: [u8; 2],
        (start, end): (bool, bool),
        part: &[u8],
        out: &mut Writer<'_>,
    ) {
        match self.coding.kind(&header) {
            Kind::Set => self.on_set_part(header, (start, end), part),
            Kind::Slice | Kind::KeySlice => {
                let passes = if start {
                    let mut beginning = [0; 16];
                    let header_len = self.coding.header_len();
                    let len = part.len().min(beginning.len() - header_len);
                    beginning[..header_len].copy_from_slice(&header[..header_len]);
                    beginning[header_len..header_len + len].copy_from_slice(&part[..len]);
                    self.on_slice(&beginning[..header_len + len], out)
                } else {
                    !self.awaits_key
                };
                if passes && !part.is_empty() {
                    self.on_passed(out.timestamp);
                    self.fragments(header, (start, end), part, out);
                }
            }
            Kind::Other => {}
        }
    }

    /// A part of a parameter set, which is put together: it is kept whole.
    fn on_set_part(&mut self, header: [u8; 2], (start, end): (bool, bool), part: &[u8]) {
        if start {
            self.set_parts = Some(header[..self.coding.header_len()].to_vec());
        }
        let Some(mut unit) = self.set_parts.take() else {
            return;
        };
        if unit.len() + part.len() > SET_BYTES_MAX {
            return;
        }
        unit.extend_from_slice(part);
        if end {
            self.learn(&unit);
        } else {
            self.set_parts = Some(unit);
        }
    }

    /// A slice begins; `beginning` is its first bytes, header included. Whether it is passed on; the parameter sets
    /// that it needs have been sent then.
    fn on_slice(&mut self, beginning: &[u8], out: &mut Writer<'_>) -> bool {
        let is_key = self.coding.kind(beginning) == Kind::KeySlice;
        if self.awaits_key {
            if !(is_key && self.sets.sps().is_some() || self.left_out > PICTURES_BEFORE_KEY_MAX) {
                let is_first = self.coding.is_first_slice(beginning);
                self.left_out += u32::from(is_first);
                return false;
            }
            self.awaits_key = false;
        }
        if !is_key {
            self.has_b_slices |= self.coding.is_b_slice(beginning);
        }
        let has_sets = self.picture.is_some_and(|picture| picture.has_sets);
        if self.sets_changed || is_key && !has_sets {
            self.send_sets(out);
        }
        self.on_passed(out.timestamp);
        true
    }

    /// Something of the picture's slices is passed on.
    fn on_passed(&mut self, timestamp: u32) {
        let Some(picture) = &mut self.picture else {
            return;
        };
        // What comes behind a marker belongs to the picture all the same.
        picture.is_ended = false;
        if picture.is_begun {
            return;
        }
        picture.is_begun = true;
        self.pictures += 1;
        match self.highest {
            Some(highest) if (timestamp.wrapping_sub(highest) as i32) < 0 => self.goes_back = true,
            _ => self.highest = Some(timestamp),
        }
    }

    /// All parameter sets, in as few packets as they fit.
    fn send_sets(&mut self, out: &mut Writer<'_>) {
        self.sets_changed = false;
        if let Some(picture) = &mut self.picture {
            picture.has_sets = true;
        }
        let head = self.coding.aggregate_header();
        let mut waiting: Vec<&[u8]> = Vec::new();
        let mut size = head.len();
        for unit in self.sets.units() {
            if size + 2 + unit.len() > RTP_PAYLOAD_MAX {
                aggregate(head, &waiting, out);
                waiting.clear();
                size = head.len();
            }
            waiting.push(unit);
            size += 2 + unit.len();
        }
        aggregate(head, &waiting, out);
    }

    /// A unit's part in packets of even sizes, the shorter ones first: they leave as one send then.
    fn fragments(
        &self,
        header: [u8; 2],
        (start, end): (bool, bool),
        part: &[u8],
        out: &mut Writer<'_>,
    ) {
        let head_len = self.coding.fragment_len();
        let count = part.len().div_ceil(RTP_PAYLOAD_MAX - head_len).max(1);
        let (short, longer) = (part.len() / count, part.len() % count);
        let mut rest = part;
        for n in 0..count {
            let len = short + usize::from(n >= count - longer);
            let Some((piece, after)) = rest.split_at_checked(len) else {
                return;
            };
            rest = after;
            let (first, last) = (start && n == 0, end && n + 1 == count);
            let head = self.coding.fragment_header(header, first, last);
            out.packet(&[&head[..head_len], piece], false);
        }
    }
}

/// Units in one packet: by itself, or as an aggregate.
fn aggregate(head: &[u8], units: &[&[u8]], out: &mut Writer<'_>) {
    match units {
        [] => {}
        [unit] => out.packet(&[unit], false),
        units => {
            let lengths: Vec<[u8; 2]> = units
                .iter()
                .map(|unit| (unit.len() as u16).to_be_bytes())
                .collect();
            let parts = lengths.iter().zip(units);
            let parts = parts.flat_map(|(len, unit)| [&len[..], unit]);
            let parts: Vec<&[u8]> = std::iter::once(head).chain(parts).collect();
            out.packet(&parts, false);
        }
    }
}
