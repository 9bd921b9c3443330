//! RTP packets of a camera in, packets that browsers take out.
//!
//! ```text
//!  handle_rtp ─► number: late ones dropped, gaps kept ─► clock: jumps continued ─► video: units, sets, marker ─► Packets
//!  handle_rtcp ─► sender reports, on the same clock                                 audio: as it comes
//! ```
//!
//! No IO and no clock: time is an argument. Nothing is held back, nothing is decoded, and nothing is allocated for a
//! packet once buffers have grown to what a camera sends.

mod audio;
mod bits;
mod clock;
mod coding;
mod out;
mod sets;
mod sps;
mod video;

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
#[cfg(test)]
mod tests;

use std::time::Instant;

use dataplane::id::{PayloadType, Ssrc};
use dataplane::wire::{RtcpPacket, RtpView, padding_len, rtcp};

pub(crate) use audio::Sound;
pub(crate) use coding::Coding;
pub use out::Packets;
pub(crate) use sets::Sets;

use super::limits::{GAP_MAX, LATE_MAX};
use super::order::Outlet;
use super::stream::CameraCodec;
use clock::Clock;
use out::{Numbers, Writer};
use video::Video;

/// One stream of a camera on its way to the engine.
///
/// It outlives connections: after [`Repack::restart`] numbers and timestamps go on where they were.
#[derive(Clone, Debug)]
pub(crate) struct Repack {
    content: Content,
    /// The camera's payload type.
    payload_type: PayloadType,
    clock: Clock,
    numbers: Numbers,
    /// The camera's source and last number.
    last: Option<(Ssrc, u16)>,
    counts: Counts,
}

#[derive(Clone, Debug)]
enum Content {
    Video(Video),
    Sound(Sound),
}

/// What came so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Packets that were taken.
    pub(crate) packets: u64,
    /// Packets that did not come.
    pub(crate) lost: u64,
    /// Packets that came late or twice, or were malformed.
    pub(crate) dropped: u64,
    /// Bytes of RTP payload.
    pub(crate) bytes: u64,
}

/// What a stream begins with: chosen by whoever made it, so that tests repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The first number.
    pub(crate) sequence: u16,
    /// The first timestamp.
    pub(crate) timestamp: u32,
}

impl Repack {
    /// A picture with what its description says of its parameter sets. `payload_type` is the camera's.
    pub(crate) fn video(
        coding: Coding,
        sets: Sets,
        payload_type: u8,
        outlet: Outlet,
        start: Start,
    ) -> Repack {
        let content = Content::Video(Video::new(sets, coding));
        Repack::new(content, 90_000, payload_type, outlet, start)
    }

    /// A sound.
    pub(crate) fn sound(
        sound: Sound,
        rate: u32,
        payload_type: u8,
        outlet: Outlet,
        start: Start,
    ) -> Repack {
        Repack::new(Content::Sound(sound), rate, payload_type, outlet, start)
    }

    fn new(content: Content, rate: u32, payload_type: u8, outlet: Outlet, start: Start) -> Repack {
        Repack {
            content,
            payload_type: PayloadType(payload_type),
            clock: Clock::new(rate, start.timestamp),
            numbers: Numbers::new(outlet, start.sequence),
            last: None,
            counts: Counts::default(),
        }
    }

    /// What follows comes by another connection, with this payload type and these sets.
    pub(crate) fn restart(&mut self, payload_type: u8, sets: Option<&Sets>) {
        self.payload_type = PayloadType(payload_type);
        if let (Content::Video(video), Some(sets)) = (&mut self.content, sets) {
            for unit in sets.units() {
                video.learn(unit);
            }
        }
        self.on_restart();
    }

    /// Goes on under another name.
    pub(crate) fn rename(&mut self, outlet: Outlet) {
        self.numbers.outlet = outlet;
    }

    /// What came so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Pictures so far; 0 of a sound.
    pub(crate) fn pictures(&self) -> u64 {
        match &self.content {
            Content::Video(video) => video.pictures(),
            Content::Sound(_) => 0,
        }
    }

    /// Whether pictures do not come in the order in which they are shown.
    pub(crate) fn has_b_frames(&self) -> bool {
        matches!(&self.content, Content::Video(video) if video.has_b_frames())
    }

    /// Codec and resolution, as the parameter sets that came last say.
    pub(crate) fn truth(&self) -> Option<(&CameraCodec, (u32, u32))> {
        match &self.content {
            Content::Video(video) => video.sets().sps().map(|sps| (&sps.codec, sps.resolution)),
            Content::Sound(_) => None,
        }
    }

    /// A packet that came `now`. What is to be sent is put behind what `out` holds.
    pub(crate) fn handle_rtp(&mut self, now: Instant, packet: &[u8], out: &mut Packets) {
        let Some((view, payload)) = self.read(packet) else {
            self.counts.dropped += 1;
            return;
        };
        let Some(lost) = self.on_number(view.ssrc(), view.sequence()) else {
            self.counts.dropped += 1;
            return;
        };
        self.counts.packets += 1;
        self.counts.bytes += payload.len() as u64;
        self.counts.lost += u64::from(lost);
        if lost > 0
            && let Content::Video(video) = &mut self.content
        {
            video.handle_loss();
        }
        self.numbers.skip(lost);
        let mut writer = Writer {
            timestamp: self.clock.map(now, view.timestamp()),
            numbers: &mut self.numbers,
            out,
        };
        let understood = match &mut self.content {
            Content::Video(video) => video.handle_payload(payload, view.marker(), &mut writer),
            Content::Sound(sound) => sound.handle_payload(payload, view.marker(), &mut writer),
        };
        self.counts.dropped += u64::from(!understood);
    }

    /// A compound of RTCP. Sender reports are put behind what `out` holds; the rest is not needed.
    pub(crate) fn handle_rtcp(&mut self, compound: &[u8], out: &mut Packets) {
        let Some((source, _)) = self.last else {
            return;
        };
        for packet in rtcp::packets(compound).flatten() {
            if let RtcpPacket::SenderReport { ssrc, ntp, rtp, .. } = packet
                && ssrc == source
                && ntp != 0
                && let Some(timestamp) = self.clock.map_report(rtp)
            {
                let mut writer = Writer {
                    timestamp,
                    numbers: &mut self.numbers,
                    out,
                };
                writer.report(ntp);
                return;
            }
        }
    }

    /// A packet of this stream, and its payload without padding.
    fn read<'a>(&self, packet: &'a [u8]) -> Option<(RtpView<'a>, &'a [u8])> {
        let view = RtpView::parse(packet).ok()?;
        if view.payload_type() != self.payload_type {
            return None;
        }
        let mut payload = view.payload();
        if view.has_padding() {
            payload = payload.get(..payload.len() - padding_len(payload)?)?;
        }
        (!payload.is_empty()).then_some((view, payload))
    }

    /// How many packets are missing before this one; `None` where it is late or came already.
    fn on_number(&mut self, source: Ssrc, number: u16) -> Option<u16> {
        let last = self.last;
        let step = last.map_or(1, |(_, last)| number.wrapping_sub(last));
        if last.is_some_and(|(known, _)| known == source) {
            if step == 0 || step.wrapping_neg() <= LATE_MAX {
                return None;
            }
            if step <= GAP_MAX + 1 {
                self.last = Some((source, number));
                return Some(step - 1);
            }
        }
        // Another source, or far from the last one: a camera that began anew, without saying so.
        if last.is_some() {
            self.on_restart();
        }
        self.last = Some((source, number));
        Some(0)
    }

    fn on_restart(&mut self) {
        // Receivers are to know that the picture before is not the one that the next refers to.
        if self.last.take().is_some() {
            self.numbers.skip(1);
        }
        self.clock.restart();
        if let Content::Video(video) = &mut self.content {
            video.restart();
        }
    }
}
