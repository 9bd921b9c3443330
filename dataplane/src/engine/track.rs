//! A published stream: its log, who reads it, and what is known of its source.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::clock::{RemoteClock, RtpClock};
use super::extensions::ForwardedIds;
use super::keyframe::KeyframeGate;
use super::log::{Log, LogSnapshot};
use super::meter::{Meter, MeterSnapshot};
use super::numbering::NUMBERS_SKIPPED_MAX;
use super::pause::Pause;
use super::relay::Export;
use super::sender::SenderKey;
use super::session::SessionKey;
use super::slab::Key;
use super::snapshot::Age;
use super::spatial::SpatialTop;
use super::speaking::SpeechDetector;
use super::voice::Voice;
use crate::command::{Format, MediaKind, PayloadKind, Simulcast, TrackSpec};
use crate::id::{FormatIndex, PayloadType, Rid, Ssrc};
use crate::limits::ENCODINGS_MAX;
use crate::wire::VideoCodec;
use crate::wire::dependency_descriptor::Structure;

/// Names a track within the engine.
pub(super) type TrackKey = Key<Track>;

/// The encodings of one published stream, the smallest first. Each is a track of its own, with its
/// own log; most streams have one.
pub(super) type Encodings = Box<[TrackKey]>;

/// A source that was replaced may take over again only after its successor was silent for this
/// long: until then its packets are stragglers.
const SOURCE_TAKEOVER: Duration = Duration::from_millis(300);

/// Numbers between two epochs in the log, so that stragglers of one never look like the other's.
const EPOCH_GAP: u64 = 1 << 16;

/// A published stream, or one of its encodings.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) home: Home,
    /// Whether a feed publishes it, here or elsewhere: nobody can be asked for anything.
    pub(super) is_fed: bool,
    /// The stream, as far as it is about this encoding.
    pub(super) spec: TrackSpec,
    /// Which encoding it is, counted from the smallest.
    pub(super) encoding: u8,
    /// How its packets name it, where they do.
    pub(super) rid: Option<Rid>,
    pub(super) ids: ForwardedIds,
    pub(super) log: Log,
    /// Who reads the log.
    pub(super) subscribers: Vec<(SenderKey, SessionKey)>,
    /// Who is to read it instead of another encoding from its next key frame on.
    pub(super) joining: Vec<SenderKey>,
    /// What its layers weigh.
    pub(super) meter: Meter,
    /// Other workers that read it too.
    pub(super) exports: Vec<Export>,
    /// Whether the subscribers must be told of new packets.
    pub(super) is_dirty: bool,
    pub(super) keyframe: KeyframeGate,
    pub(super) speech: SpeechDetector,
    pub(super) voice: Voice,
    /// What nobody is sent of it.
    pub(super) pause: Pause,
    /// RTP time by the publisher's last sender report.
    pub(super) clock: Option<RtpClock>,
    /// Bits since the last report to control.
    pub(super) bits: u64,
    /// What its packets' dependency descriptors refer to, if they have any.
    pub(super) structure: Option<Box<Structure>>,
    /// Up to which spatial layer its pictures go.
    pub(super) top: SpatialTop,
    current: Option<CurrentSource>,
    payload_types: Box<[Option<Use>; 128]>,
}

/// Where a track's packets come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Home {
    /// A session of this engine publishes it.
    Session(SessionKey),
    /// It is published on this other worker, whose clock for its publisher is copied here.
    Worker(usize, RemoteClock),
}

/// The source that the track's packets come from now.
#[derive(Clone, Copy, Debug)]
struct CurrentSource {
    ssrc: Ssrc,
    epoch: u32,
    /// Added to the source's packet indices, modulo 2^64, to make numbers of the log.
    base: u64,
    format: FormatIndex,
    arrived: Instant,
}

/// What goes on in another process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EncodingSnapshot {
    source: Option<SourceSnapshot>,
    log: LogSnapshot,
    clock: Option<RtpClock>,
    meter: MeterSnapshot,
    top: SpatialTop,
    /// Whether nobody is sent what comes.
    is_paused: bool,
    /// Whether its packets' descriptors refer to what only a key frame brings.
    pub(super) has_structure: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct SourceSnapshot {
    ssrc: Ssrc,
    epoch: u32,
    base: u64,
    format: FormatIndex,
    arrived: Age,
}

/// What a payload type of the publisher is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Media of this format.
    Media(FormatIndex),
    /// Retransmissions of this format (RFC 4588).
    Repair(FormatIndex),
}

/// A packet's place among all of its track.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its number in the log.
    pub(super) sequence: u64,
    /// Which source's numbers it continues.
    pub(super) epoch: u32,
    base: u64,
}

impl Track {
    /// A track without packets: this encoding of a stream.
    pub(super) fn new(home: Home, stream: &TrackSpec, encoding: usize) -> Track {
        let (spec, rid) = encoding_of(stream, encoding);
        Track {
            home,
            is_fed: false,
            encoding: encoding as u8,
            rid,
            joining: Vec::new(),
            meter: Meter::default(),
            ids: ForwardedIds::new(&spec.extensions),
            log: log_of(&spec),
            subscribers: Vec::new(),
            exports: Vec::new(),
            is_dirty: false,
            keyframe: KeyframeGate::default(),
            speech: SpeechDetector::default(),
            voice: Voice::default(),
            pause: Pause::default(),
            clock: None,
            bits: 0,
            structure: None,
            top: SpatialTop::default(),
            current: None,
            payload_types: payload_types(&spec.formats),
            spec,
        }
    }

    /// What another process goes on with.
    pub(super) fn snapshot(&self, now: Instant) -> EncodingSnapshot {
        let source = self.current.map(|current| SourceSnapshot {
            ssrc: current.ssrc,
            epoch: current.epoch,
            base: current.base,
            format: current.format,
            arrived: Age::of(now, current.arrived),
        });
        EncodingSnapshot {
            source,
            log: self.log.snapshot(),
            clock: self.clock,
            meter: self.meter.snapshot(now),
            top: self.top,
            is_paused: self.pause.lasts(),
            has_structure: self.structure.is_some(),
        }
    }

    /// Goes on where another process ended. The log is empty, and whoever reads it stands at its end.
    pub(super) fn restore(&mut self, now: Instant, snapshot: &EncodingSnapshot) {
        self.current = snapshot.source.as_ref().map(|source| CurrentSource {
            ssrc: source.ssrc,
            epoch: source.epoch,
            base: source.base,
            format: source.format,
            arrived: source.arrived.before(now),
        });
        self.log = log_of(&self.spec).restored(&snapshot.log);
        self.clock = snapshot.clock;
        self.meter = Meter::restore(now, &snapshot.meter);
        self.top = snapshot.top;
        if snapshot.is_paused {
            self.pause.begin(self.log.head());
        }
    }

    /// The session that publishes it, if that is here.
    pub(super) fn session(&self) -> Option<SessionKey> {
        match self.home {
            Home::Session(session) => Some(session),
            Home::Worker(..) => None,
        }
    }

    /// Renegotiation: what was received under other formats is forgotten, the rest stays.
    pub(super) fn replace_spec(&mut self, stream: &TrackSpec) {
        let (spec, rid) = encoding_of(stream, usize::from(self.encoding));
        self.rid = rid;
        if spec.formats != self.spec.formats {
            self.log.forget();
        }
        self.ids = ForwardedIds::new(&spec.extensions);
        self.payload_types = payload_types(&spec.formats);
        self.spec = spec;
    }

    /// What a payload type is for, if it was negotiated.
    pub(super) fn usage(&self, payload_type: PayloadType) -> Option<Use> {
        *self.payload_types.get(usize::from(payload_type.0))?
    }

    /// A format of the track.
    pub(super) fn format(&self, format: FormatIndex) -> Option<&Format> {
        self.spec.formats.get(usize::from(format.0))
    }

    /// Clock rate of a format; 90 kHz where there is none, which cannot come about.
    pub(super) fn clock_rate(&self, format: FormatIndex) -> u32 {
        self.format(format)
            .map_or(90_000, |format| format.clock_rate)
    }

    /// Whether the key frames of a format can be told from the rest.
    pub(super) fn knows_keyframes(&self, format: FormatIndex) -> bool {
        let payload = self.format(format).map(|format| format.payload);
        matches!(payload, Some(PayloadKind::Video(_))) || self.structure.is_some()
    }

    /// Whether nobody can put its spatial layers together without the dependency descriptor: AV1's payload
    /// does not say which frames make a picture.
    pub(super) fn needs_descriptor(&self) -> bool {
        let format = self.latest_format().and_then(|format| self.format(format));
        format.is_some_and(|format| format.payload == PayloadKind::Video(VideoCodec::Av1))
    }

    /// The source that feeds the track now.
    pub(super) fn ssrc(&self) -> Option<Ssrc> {
        Some(self.current?.ssrc)
    }

    /// Clock rate of the format that arrived last.
    pub(super) fn current_clock_rate(&self) -> Option<u32> {
        Some(self.clock_rate(self.current?.format))
    }

    /// The format that arrived last.
    pub(super) fn latest_format(&self) -> Option<FormatIndex> {
        Some(self.current?.format)
    }

    /// Counts the sources that fed the track; `None` before the first.
    pub(super) fn epoch(&self) -> Option<u32> {
        Some(self.current?.epoch)
    }

    /// Where a media packet of `ssrc` with this index belongs; `None` for a straggler of a source
    /// that was replaced. A source whose numbers jump far ahead goes on like another one.
    pub(super) fn place(
        &self,
        now: Instant,
        ssrc: Ssrc,
        was_heard: bool,
        index: u64,
    ) -> Option<Place> {
        let Some(current) = self.current else {
            return Some(Place {
                sequence: index,
                epoch: 0,
                base: 0,
            });
        };
        if current.ssrc == ssrc {
            let sequence = index.wrapping_add(current.base);
            return Some(Place {
                sequence,
                epoch: current.epoch + u32::from(self.is_far_ahead(sequence)),
                base: current.base,
            });
        }
        if was_heard && now.saturating_duration_since(current.arrived) < SOURCE_TAKEOVER {
            return None;
        }
        let sequence = self.log.newest() + EPOCH_GAP;
        Some(Place {
            sequence,
            epoch: current.epoch + 1,
            base: sequence.wrapping_sub(index),
        })
    }

    /// Whether more is missing before this number than subscribers' numbers may skip.
    pub(super) fn is_far_ahead(&self, sequence: u64) -> bool {
        sequence.saturating_sub(self.log.newest()) > NUMBERS_SKIPPED_MAX
    }

    /// Where a retransmission belongs of the packet with this index of the current source; `None` where nobody can have
    /// missed that yet: it may be another source's, whose media comes next.
    pub(super) fn repaired_place(&self, ssrc: Ssrc, index: u64) -> Option<Place> {
        let current = self.current.filter(|current| current.ssrc == ssrc)?;
        let sequence = index.wrapping_add(current.base);
        (sequence <= self.log.newest()).then_some(Place {
            sequence,
            epoch: current.epoch,
            base: current.base,
        })
    }

    /// A packet came from the worker that the track lives on, which placed it.
    pub(super) fn handle_relayed(
        &mut self,
        ssrc: Ssrc,
        epoch: u32,
        format: FormatIndex,
        arrived: Instant,
    ) {
        self.current = Some(CurrentSource {
            ssrc,
            epoch,
            base: 0,
            format,
            arrived,
        });
    }

    /// An authentic media packet came from `ssrc`. Whether another source did before, or none, or one far behind.
    pub(super) fn handle_source(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        place: Place,
        format: FormatIndex,
    ) -> bool {
        let Place { epoch, base, .. } = place;
        let is_new = self.epoch() != Some(epoch);
        self.current = Some(CurrentSource {
            ssrc,
            epoch,
            base,
            format,
            arrived: now,
        });
        is_new
    }
}

/// How many encodings a stream comes in.
pub(super) fn encodings_len(stream: &TrackSpec) -> usize {
    let len = match &stream.simulcast {
        Simulcast::None => 1,
        Simulcast::Rids(rids) => rids.len(),
        Simulcast::Sources => stream.sources.len(),
    };
    len.clamp(1, ENCODINGS_MAX)
}

/// What is said of one encoding: its SSRC, where there is one for each, and its name.
fn encoding_of(stream: &TrackSpec, encoding: usize) -> (TrackSpec, Option<Rid>) {
    let mut spec = stream.clone();
    let rid = match &stream.simulcast {
        Simulcast::None => return (spec, None),
        Simulcast::Rids(rids) if rids.len() == stream.sources.len() => rids.get(encoding),
        Simulcast::Rids(rids) => {
            spec.sources.clear();
            rids.get(encoding)
        }
        Simulcast::Sources => None,
    };
    spec.sources = spec.sources.get(encoding).copied().into_iter().collect();
    (spec, rid.copied())
}

fn payload_types(formats: &[Format]) -> Box<[Option<Use>; 128]> {
    let mut uses = Box::new([None; 128]);
    for (index, format) in formats.iter().enumerate() {
        let index = FormatIndex(index as u8);
        let types = [
            (Some(format.payload_type), Use::Media(index)),
            (format.rtx, Use::Repair(index)),
        ];
        for (payload_type, usage) in types {
            if let Some(PayloadType(number)) = payload_type
                && let Some(place) = uses.get_mut(usize::from(number))
            {
                place.get_or_insert(usage);
            }
        }
    }
    uses
}

fn log_of(spec: &TrackSpec) -> Log {
    if spec.keeps_group && spec.kind == MediaKind::Video {
        Log::keeping_group()
    } else {
        Log::new(spec.kind)
    }
}

/// Whether a track's loss can be repaired by a key frame.
pub(super) fn has_keyframes(kind: MediaKind) -> bool {
    kind == MediaKind::Video
}
