//! What a stream leaves out when it cannot be sent in time, because the socket is full, the kernel
//! has no memory, or the worker has too much to do.
//!
//! Subscribers have no queues, so what waits, waits in the log; there it grows old. Video goes
//! first, up to its next key frame, because nothing before that could be decoded without what is
//! left out. Key frames go later, and audio last.

use std::time::Instant;

use super::log::{Entry, Stamp};
use super::sender::Sender;
use super::track::{Track, TrackKey};
use crate::command::MediaKind;
use crate::limits::{AUDIO_LATE, KEYFRAME_LATE, KEYFRAME_LATE_PACED, VIDEO_LATE, VIDEO_LATE_PACED};

/// A stream's state between what was sent and what was left out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Thinning {
    /// Everything is left out until a picture can be decoded again.
    waits: bool,
    /// The RTP timestamp of the last key frame that was begun: all its packets have it.
    keyframe: Option<u32>,
    /// Whether the packet that was left out last was the last of its frame.
    at_frame_end: bool,
    /// Whether it was left out although it was in time.
    in_time: bool,
}

impl Thinning {
    /// Whether everything is left out until a key frame comes.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Leaves everything out until a key frame comes.
    pub(super) fn waiting() -> Thinning {
        Thinning {
            waits: true,
            ..Thinning::default()
        }
    }

    /// Whether nothing but a key frame is missing.
    pub(super) fn awaits_keyframe(&self) -> bool {
        self.waits && self.in_time
    }

    /// Whether the next packet of a video is left out. `knows_keyframes` says whether its format is one
    /// whose key frames can be told.
    fn leaves_out(&mut self, late: &Late, stamp: &Stamp, knows_keyframes: bool) -> bool {
        if stamp.keyframe && !is_before(stamp.arrived, late.keyframe) {
            self.waits = false;
            self.keyframe = Some(stamp.timestamp);
            return false;
        }
        let limit = if self.keyframe == Some(stamp.timestamp) {
            late.keyframe
        } else {
            late.video
        };
        // Where key frames cannot be told, the next frame that is in time has to do: the receiver
        // asks for a key frame if it is of no use.
        let resumes = !knows_keyframes && self.at_frame_end;
        if !is_before(stamp.arrived, limit) && (!self.waits || resumes) {
            self.waits = false;
            return false;
        }
        self.at_frame_end = stamp.marker;
        self.in_time = !is_before(stamp.arrived, limit);
        self.waits = true;
        true
    }
}

/// What came before these times is late; nothing is where there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Late {
    now: Instant,
    audio: Option<Instant>,
    video: Option<Instant>,
    keyframe: Option<Instant>,
}

impl Late {
    /// As of `now`.
    pub(super) fn new(now: Instant) -> Late {
        Late {
            now,
            audio: now.checked_sub(AUDIO_LATE),
            video: now.checked_sub(VIDEO_LATE),
            keyframe: now.checked_sub(KEYFRAME_LATE),
        }
    }

    /// As of `now`, where video waits for its pace.
    pub(super) fn paced(now: Instant) -> Late {
        Late {
            now,
            audio: now.checked_sub(AUDIO_LATE),
            video: now.checked_sub(VIDEO_LATE_PACED),
            keyframe: now.checked_sub(KEYFRAME_LATE_PACED),
        }
    }
}

fn is_before(arrived: Instant, limit: Option<Instant>) -> bool {
    limit.is_some_and(|limit| arrived < limit)
}

/// Looks for what is late while a burst is planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lateness {
    late: Late,
    keyframe_wanted: Option<TrackKey>,
}

impl Lateness {
    /// Before the first packet.
    pub(super) fn new(late: Late) -> Lateness {
        Lateness {
            late,
            keyframe_wanted: None,
        }
    }

    /// Whether the sender's next packet is left out.
    pub(super) fn leaves_out(&mut self, sender: &mut Sender, track: &Track, entry: &Entry) -> bool {
        if sender.spec.kind == MediaKind::Audio {
            return is_before(entry.stamp.arrived, self.late.audio);
        }
        let is_in_time = !is_before(entry.stamp.arrived, self.late.video);
        if is_in_time && !sender.thinning.waits && !entry.stamp.keyframe {
            return false;
        }
        let excused_until = sender.standing.excused_until;
        if excused_until.is_some_and(|until| self.late.now < until) {
            return false;
        }
        let waited_before = sender.thinning.waits;
        let knows_keyframes = track.knows_keyframes(entry.stamp.format);
        let leaves_out = sender
            .thinning
            .leaves_out(&self.late, &entry.stamp, knows_keyframes);
        if leaves_out && !waited_before {
            self.keyframe_wanted = sender.source.as_ref().map(|source| source.track);
        }
        leaves_out
    }

    /// The track of which a picture was left out, so that a key frame is needed.
    pub(super) fn keyframe_wanted(&self) -> Option<TrackKey> {
        self.keyframe_wanted
    }
}
