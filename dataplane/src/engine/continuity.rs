//! One stream out of several: how an encoding goes on where another ended.

use super::extensions;
use super::log::Entry;
use super::numbering::{Continuation, Numbering, Shift};
use super::track::Track;
use crate::command::PayloadKind;
use crate::wire::{VideoCodec, dependency_descriptor, vp8};

/// What a packet counts its picture by; 0 where it does not.
fn counts(track: &Track, entry: &Entry) -> Shift {
    let mut counts = Shift::default();
    let payload = track
        .format(entry.stamp.format)
        .map(|format| format.payload);
    if payload == Some(PayloadKind::Video(VideoCodec::Vp8))
        && let Ok(descriptor) = vp8::Descriptor::parse(track.log.payload(entry))
    {
        counts.picture = descriptor.picture.id.map_or(0, |id| id.number);
        counts.base = descriptor.picture.tl0_pic_idx.unwrap_or(0);
    }
    let value = extensions::dependency_descriptor(track.log.extensions(entry));
    counts.frame = value
        .and_then(dependency_descriptor::frame_number)
        .unwrap_or(0);
    counts
}

/// How `after` goes on from its packet at `cursor`, where `before` was sent with these numbers.
pub(super) fn continuation(
    numbering: &Numbering,
    before: &Track,
    after: &Track,
    cursor: u64,
) -> Continuation {
    Continuation {
        timestamp: timestamp(numbering, before, after),
        shift: shift(numbering, before, after, cursor).unwrap_or_default(),
    }
}

/// What is added to the new encoding's timestamps, where both say how their clocks stand: encodings of
/// one picture are sampled together, but count from different beginnings.
fn timestamp(numbering: &Numbering, before: &Track, after: &Track) -> Option<u32> {
    let rate = after.current_clock_rate()?;
    let known = |track: &Track| {
        track
            .clock
            .filter(|clock| Some(clock.epoch) == track.epoch())
    };
    let (old, new) = (known(before)?, known(after)?);
    let same_moment = old.timestamp_at(new.ntp, rate);
    Some(
        numbering
            .timestamp(same_moment)?
            .wrapping_sub(new.timestamp),
    )
}

/// What is added to the new encoding's pictures, so that its first is the one after the last that was sent.
fn shift(numbering: &Numbering, before: &Track, after: &Track, cursor: u64) -> Option<Shift> {
    let incoming = numbering.invert(numbering.highest()?)?;
    let last = before.log.find(incoming)?;
    let sent = numbering.translate(&last.stamp)?.shift;
    let (last, first) = (
        counts(before, last),
        counts(after, after.log.entry(cursor)?),
    );
    Some(Shift {
        picture: next(last.picture.wrapping_add(sent.picture)).wrapping_sub(first.picture),
        frame: next(last.frame.wrapping_add(sent.frame)).wrapping_sub(first.frame),
        base: last
            .base
            .wrapping_add(sent.base)
            .wrapping_add(1)
            .wrapping_sub(first.base),
    })
}

fn next(number: u16) -> u16 {
    number.wrapping_add(1)
}

/// Renumbers the picture of a VP8 payload. One that is not what it claims to be stays as it came.
pub(super) fn renumber(payload: &mut [u8], shift: Shift) {
    let Ok(descriptor) = vp8::Descriptor::parse(payload) else {
        return;
    };
    let picture = descriptor.picture.id.map_or(0, |id| id.number);
    let base = descriptor.picture.tl0_pic_idx.unwrap_or(0);
    let _ = vp8::rewrite(
        payload,
        picture.wrapping_add(shift.picture),
        base.wrapping_add(shift.base),
    );
}
