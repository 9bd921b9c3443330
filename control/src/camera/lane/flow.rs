//! What comes from one source, on its way to the engine; it outlives connections, so that viewers see one stream.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use dataplane::id::{PayloadType, SessionId, Ssrc};
use tokio::sync::Notify;

use super::super::limits::READ_PACKETS_MAX;
use super::super::order::{Figures, Outlet, Target};
use super::super::repack::{Coding, Counts, Packets, Repack, Sound, Start};
use super::super::stream::Stream;
use super::Outflow;
use super::description::{Offering, VIDEO_RATE};
use super::gate::Sink;

/// The way to the engine, which all sources of a thread share.
pub(super) type SharedOutflow = Rc<RefCell<Box<dyn Outflow>>>;

/// For a stream that nobody takes: it is listened to for its parameter sets.
const NOWHERE: Outlet = Outlet {
    ssrc: Ssrc(0),
    payload_type: PayloadType(0),
};

/// The streams of one source.
pub(super) struct Flow {
    outflow: SharedOutflow,
    picture: Option<(Coding, Part)>,
    sound: Option<(Sound, Part)>,
    /// The worker and the session that take them.
    target: Option<(usize, SessionId)>,
    out: Packets,
    last: Option<Instant>,
    /// Rung by the first packet of a connection.
    first: Rc<Notify>,
    /// What had come when figures were made, and when that was.
    before: (u64, u64),
    reported: Option<Instant>,
}

/// One stream.
struct Part {
    /// Its place in the description; `None` while it does not come.
    media: Option<usize>,
    /// Whether somebody takes it.
    is_taken: bool,
    repack: Repack,
}

impl Flow {
    /// Nothing yet.
    pub(super) fn new(outflow: SharedOutflow) -> Flow {
        Flow {
            outflow,
            picture: None,
            sound: None,
            target: None,
            out: Packets::default(),
            last: None,
            first: Rc::new(Notify::new()),
            before: (0, 0),
            reported: None,
        }
    }

    /// A connection was made that brings these streams. `start` is drawn at random.
    pub(super) fn begin(&mut self, offering: &Offering, with_sound: bool, start: Start) {
        self.last = None;
        self.first = Rc::new(Notify::new());
        match (&offering.picture, &mut self.picture) {
            (Some(new), Some((coding, part))) if *coding == new.coding => {
                part.media = Some(new.index);
                part.repack.restart(new.payload_type, Some(&new.sets));
            }
            (Some(new), old) => {
                let sets = new.sets.clone();
                let repack = Repack::video(new.coding, sets, new.payload_type, NOWHERE, start);
                *old = Some((new.coding, Part::new(new.index, repack)));
            }
            (None, old) => *old = None,
        }
        match (
            offering.sound.as_ref().filter(|_| with_sound),
            &mut self.sound,
        ) {
            (Some(new), Some((sound, part))) if *sound == new.sound => {
                part.media = Some(new.index);
                part.repack.restart(new.payload_type, None);
            }
            (Some(new), old) => {
                let rate = new.stream.clock_rate;
                let repack = Repack::sound(new.sound, rate, new.payload_type, NOWHERE, start);
                *old = Some((new.sound, Part::new(new.index, repack)));
            }
            (None, old) => *old = None,
        }
    }

    /// Packets go there from now on: those of the source with this index, and the sound if it is its.
    pub(super) fn aim(&mut self, target: Option<&Target>, index: usize, with_sound: bool) {
        self.target = target.map(|target| (target.worker, target.session));
        if let Some((_, part)) = &mut self.picture {
            part.aim(target.and_then(|target| target.video.get(index).copied()));
        }
        if let Some((_, part)) = &mut self.sound {
            part.aim(
                target
                    .and_then(|target| target.audio)
                    .filter(|_| with_sound),
            );
        }
    }

    /// The connection ended.
    pub(super) fn end(&mut self) {
        let picture = self.picture.as_mut().map(|(_, part)| part);
        for part in picture
            .into_iter()
            .chain(self.sound.as_mut().map(|(_, part)| part))
        {
            part.media = None;
        }
    }

    /// When the last packet came by this connection.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// What the first packet of this connection rings.
    pub(super) fn first(&self) -> Rc<Notify> {
        self.first.clone()
    }

    /// What the picture's parameter sets say.
    pub(super) fn truth(&self) -> Option<Stream> {
        let (_, part) = self.picture.as_ref()?;
        let (codec, resolution) = part.repack.truth()?;
        Some(Stream {
            codec: codec.clone(),
            clock_rate: VIDEO_RATE,
            resolution: Some(resolution),
        })
    }

    /// What came since figures were made last.
    pub(super) fn figures(&mut self, now: Instant) -> Figures {
        let picture = self.picture.as_ref().map(|(_, part)| &part.repack);
        let sound = self.sound.as_ref().map(|(_, part)| &part.repack);
        let counts =
            [picture, sound].map(|repack| repack.map_or_else(Counts::default, Repack::counts));
        let bytes: u64 = counts.iter().map(|counts| counts.bytes).sum();
        let pictures = picture.map_or(0, Repack::pictures);
        let seconds = self
            .reported
            .map(|at| now.saturating_duration_since(at).as_secs_f64())
            .filter(|seconds| *seconds > 0.0);
        // A new repack counts from nothing.
        let since = |now: u64, before: u64| now.saturating_sub(before) as f64;
        let per_second = |count: f64| seconds.map_or(0.0, |seconds| count / seconds);
        let figures = Figures {
            bitrate_bps: (per_second(since(bytes, self.before.0)) * 8.0) as u64,
            frame_rate: per_second(since(pictures, self.before.1)) as f32,
            packets: counts.iter().map(|counts| counts.packets).sum(),
            lost: counts.iter().map(|counts| counts.lost).sum(),
            resolution: picture.and_then(Repack::truth).map(|(_, size)| size),
            has_b_frames: picture.is_some_and(Repack::has_b_frames),
        };
        self.before = (bytes, pictures);
        self.reported = Some(now);
        figures
    }
}

impl Part {
    fn new(media: usize, repack: Repack) -> Part {
        Part {
            media: Some(media),
            is_taken: false,
            repack,
        }
    }

    fn aim(&mut self, outlet: Option<Outlet>) {
        self.is_taken = outlet.is_some();
        self.repack.rename(outlet.unwrap_or(NOWHERE));
    }
}

impl Sink for Flow {
    fn packet(&mut self, now: Instant, media: usize, is_rtcp: bool, bytes: &[u8]) {
        let picture = self.picture.as_mut().map(|(_, part)| part);
        let mut parts = picture
            .into_iter()
            .chain(self.sound.as_mut().map(|(_, part)| part));
        let Some(part) = parts.find(|part| part.media == Some(media)) else {
            return;
        };
        self.out.clear();
        if is_rtcp {
            part.repack.handle_rtcp(bytes, &mut self.out);
        } else {
            let before = part.repack.counts().packets;
            part.repack.handle_rtp(now, bytes, &mut self.out);
            // What is no packet of the stream does not keep a camera from being silent.
            if part.repack.counts().packets > before && self.last.replace(now).is_none() {
                self.first.notify_one();
            }
        }
        if let (Some((worker, session)), true) = (self.target, part.is_taken) {
            let mut outflow = self.outflow.borrow_mut();
            for packet in self.out.iter() {
                // A full queue is counted by whoever keeps it.
                let _ = outflow.send(worker, session, now, packet);
            }
        }
    }

    fn has_room(&mut self) -> bool {
        let Some((worker, _)) = self.target else {
            return true;
        };
        self.outflow.borrow_mut().room(worker) >= READ_PACKETS_MAX
    }

    fn flush(&mut self) {
        self.outflow.borrow_mut().flush();
    }
}
