//! A stream that a client publishes: its encodings, and what was sent of each.

use std::collections::{BTreeMap, HashMap};

use super::stream::Run;
use crate::command::{
    ExtensionIds, Feed, Format, MediaKind, PayloadKind, SenderFormat, Simulcast, Source, TrackSpec,
};
use crate::id::{FormatIndex, GroupId, Mid, PayloadType, Rid, Ssrc, TrackId};
use crate::wire::VideoCodec;

/// Media and retransmissions of pictures, voices, and voices with redundancy, at publishers.
pub(super) const VIDEO: PayloadType = PayloadType(96);
const VIDEO_RTX: PayloadType = PayloadType(97);
pub(super) const VOICE: PayloadType = PayloadType(111);
pub(super) const VOICE_RED: PayloadType = PayloadType(63);

/// Header extensions of publishers.
pub(super) const EXTENSIONS: ExtensionIds = ExtensionIds {
    mid: Some(4),
    rid: Some(10),
    repaired_rid: Some(11),
    audio_level: Some(1),
    abs_send_time: Some(3),
    transport_cc: Some(5),
    abs_capture_time: Some(6),
    video_orientation: Some(7),
    playout_delay: Some(8),
    dependency_descriptor: Some(12),
};

/// What is published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) kind: MediaKind,
    pub(super) payload: PayloadKind,
    /// One, or several by RID.
    pub(super) encodings: usize,
    /// Whether its SSRCs are in the SDP.
    pub(super) is_signalled: bool,
    /// Whether its voice competes with others.
    pub(super) is_grouped: bool,
}

/// A published stream, which may be over.
pub(super) struct Track {
    pub(super) id: TrackId,
    /// Who publishes it, by place in the world's list.
    pub(super) owner: usize,
    pub(super) shape: Shape,
    pub(super) is_here: bool,
    pub(super) encodings: Vec<Encoding>,
    /// Whether the other worker has it too.
    pub(super) is_exported: bool,
    /// What each packet was, by its count.
    pub(super) sent: HashMap<u32, Sent>,
    pub(super) timestamp: u32,
    /// Counts pictures, where its codec does.
    pub(super) picture: u16,
}

/// One encoding's source.
pub(super) struct Encoding {
    pub(super) ssrc: u32,
    /// The next packet's index.
    pub(super) next: u64,
    pub(super) rtx_next: u64,
    /// Indices left out that may still be repaired.
    pub(super) left_out: Vec<u64>,
}

/// A packet that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) source: u32,
    pub(super) index: u64,
    /// Of its payload.
    pub(super) digest: u64,
}

/// Indices that the engine was given, by SSRC, and how many it had been given before.
#[derive(Default)]
pub(super) struct Delivered {
    sources: HashMap<u32, BTreeMap<u64, u64>>,
    count: u64,
}

impl Delivered {
    /// The engine is given a packet.
    pub(super) fn note(&mut self, ssrc: u32, index: u64) {
        let source = self.sources.entry(ssrc).or_default();
        source.entry(index).or_insert(self.count);
        self.count += 1;
    }

    /// The highest index of a source.
    pub(super) fn highest(&self, ssrc: u32) -> Option<u64> {
        let (highest, _) = self.sources.get(&ssrc)?.last_key_value()?;
        Some(*highest)
    }

    /// How many of a run's indices the engine did not get, or not for this stream: before the run began,
    /// or, where it is over, when it had the run's highest already, too late to leave.
    pub(super) fn missing(&self, run: &Run) -> u64 {
        let all = run.highest - run.lowest + 1;
        let Some(source) = self.sources.get(&run.source) else {
            return all;
        };
        let first = source.get(&run.first).copied().unwrap_or(0);
        let last = source.get(&run.highest).filter(|_| run.is_over);
        let last = last.copied().unwrap_or(u64::MAX);
        let owed = source.range(run.lowest..=run.highest);
        let owed = owed.filter(|(_, count)| (first..=last).contains(*count));
        all - owed.count() as u64
    }
}

impl Track {
    /// Whether its subscribers get its payloads byte for byte.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.shape.payload, PayloadKind::Opaque)
            || matches!(self.shape.payload, PayloadKind::Video(codec) if codec != VideoCodec::Vp8)
    }

    /// Where its packets say they belong.
    pub(super) fn mid(&self) -> Mid {
        let name = format!("m{}", self.id.0);
        Mid::new(name.as_bytes()).expect("a short name")
    }

    /// What control says of it.
    pub(super) fn spec(&self, is_longer: bool) -> TrackSpec {
        let source = |encoding: &Encoding| Source {
            ssrc: Ssrc(encoding.ssrc),
            rtx: Some(Ssrc(rtx_of(encoding.ssrc))),
        };
        let mut formats = vec![Format {
            payload_type: VIDEO,
            clock_rate: 90_000,
            rtx: Some(VIDEO_RTX),
            payload: self.shape.payload,
        }];
        if self.shape.kind == MediaKind::Audio {
            let opaque = |payload_type, payload| Format {
                payload_type,
                clock_rate: 48_000,
                rtx: None,
                payload,
            };
            formats = vec![
                opaque(VOICE, PayloadKind::Opaque),
                opaque(VOICE_RED, PayloadKind::Red(FormatIndex(0))),
            ];
        }
        if is_longer {
            formats.push(Format {
                payload_type: PayloadType(100),
                clock_rate: 90_000,
                rtx: None,
                payload: PayloadKind::Opaque,
            });
        }
        let sources = self.encodings.iter().map(source);
        TrackSpec {
            track: self.id,
            kind: self.shape.kind,
            mid: self.mid(),
            sources: sources.filter(|_| self.shape.is_signalled).collect(),
            formats,
            extensions: EXTENSIONS,
            nack: self.shape.kind == MediaKind::Video,
            simulcast: match self.encodings.len() {
                0 | 1 => Simulcast::None,
                len => Simulcast::Rids((0..len).map(rid).collect()),
            },
            group: self.shape.is_grouped.then_some(GroupId(7)),
            keeps_group: false,
        }
    }

    /// How it is numbered for a receiver, who takes redundancy or does not.
    pub(super) fn feed(&self, has_rtx: bool, has_red: bool) -> Feed {
        let format = |payload_type, rtx, red: Option<u8>| {
            Some(SenderFormat {
                payload_type: PayloadType(payload_type),
                rtx,
                red: red.map(PayloadType),
            })
        };
        let payload_types = match self.shape.kind {
            MediaKind::Video => vec![format(120, has_rtx.then_some(PayloadType(121)), None)],
            MediaKind::Audio => vec![
                format(109, None, has_red.then_some(110)),
                has_red.then(|| format(110, None, None)).flatten(),
            ],
        };
        Feed {
            track: self.id,
            payload_types,
        }
    }
}

/// The name of an encoding.
pub(super) fn rid(encoding: usize) -> Rid {
    Rid::new(&[b'q' + encoding as u8]).expect("a name of one letter")
}

/// The SSRC of a source's retransmissions.
pub(super) fn rtx_of(ssrc: u32) -> u32 {
    ssrc | 0x8000_0000
}

/// Their payload type.
pub(super) fn rtx_type() -> PayloadType {
    VIDEO_RTX
}
