//! What a stream leaves out when it cannot be sent in time, because the socket is full, the kernel
//! has no memory, or the worker has too much to do.
//!
//! Subscribers have no queues, so what waits, waits in the log; there it grows old. Video goes
//! first, up to its next key frame, because nothing before that could be decoded without what is
//! left out. Key frames go later, and audio last.

use std::time::{Duration, Instant};

use super::log::{Entry, Stamp};
use super::sender::Sender;
use super::track::{Track, TrackKey};
use crate::command::MediaKind;
use crate::limits::{AUDIO_LATE, KEYFRAME_LATE, VIDEO_LATE};

/// A stream's state between what was sent and what was left out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Thinning {
    /// Everything is left out until a picture can be decoded again.
    waits: bool,
    /// The RTP timestamp of the last key frame that was begun: all its packets have it.
    keyframe: Option<u32>,
    /// Whether the packet that was left out last was the last of its frame.
    at_frame_end: bool,
}

impl Thinning {
    /// Whether the next packet of a video, which waited so long, is left out. `knows_keyframes` says
    /// whether its format is one whose key frames can be told.
    fn leaves_out(&mut self, waited: Duration, stamp: &Stamp, knows_keyframes: bool) -> bool {
        if stamp.keyframe && waited <= KEYFRAME_LATE {
            self.waits = false;
            self.keyframe = Some(stamp.timestamp);
            return false;
        }
        let late = if self.keyframe == Some(stamp.timestamp) {
            KEYFRAME_LATE
        } else {
            VIDEO_LATE
        };
        // Where key frames cannot be told, the next frame that is in time has to do: the receiver
        // asks for a key frame if it is of no use.
        let resumes = !knows_keyframes && self.at_frame_end;
        if waited <= late && (!self.waits || resumes) {
            self.waits = false;
            return false;
        }
        self.at_frame_end = stamp.marker;
        self.waits = true;
        true
    }
}

/// Looks for what is late while a burst is planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lateness {
    now: Instant,
    keyframe_wanted: Option<TrackKey>,
}

impl Lateness {
    /// Before the first packet.
    pub(super) fn new(now: Instant) -> Lateness {
        Lateness {
            now,
            keyframe_wanted: None,
        }
    }

    /// Whether the sender's next packet is left out.
    pub(super) fn leaves_out(&mut self, sender: &mut Sender, track: &Track, entry: &Entry) -> bool {
        let waited = self.now.saturating_duration_since(entry.stamp.arrived);
        if sender.spec.kind == MediaKind::Audio {
            return waited > AUDIO_LATE;
        }
        let waited_before = sender.thinning.waits;
        let knows_keyframes = track.knows_keyframes(entry.stamp.format);
        let leaves_out = sender
            .thinning
            .leaves_out(waited, &entry.stamp, knows_keyframes);
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
