//! From SDP's terms to the engine's.

use dataplane::command::{
    DtlsRole, DtlsSpec, ExtensionIds, Feed, Fingerprint, Format, MediaKind, PayloadKind,
    SenderFormat, Simulcast, Source,
};
use dataplane::id::{FormatIndex, PayloadType, Rid, Ssrc, TrackId};
use dataplane::wire::VideoCodec;
use signaling::node::{SourceKind, TrackKind};
use signaling::sdp::{self, Codec, Extension, Offer, Section, SectionKind, Setup, uri};

/// The kind of media in a section, if it is media.
pub(super) fn media_kind(kind: SectionKind) -> Option<MediaKind> {
    match kind {
        SectionKind::Audio => Some(MediaKind::Audio),
        SectionKind::Video => Some(MediaKind::Video),
        SectionKind::Data | SectionKind::Other => None,
    }
}

/// The kind as people in the room are told.
pub(super) fn track_kind(kind: MediaKind) -> TrackKind {
    match kind {
        MediaKind::Audio => TrackKind::Audio,
        MediaKind::Video => TrackKind::Video,
    }
}

/// What a stream is taken for when its sender does not say.
pub(super) fn default_source(kind: MediaKind) -> SourceKind {
    match kind {
        MediaKind::Audio => SourceKind::Microphone,
        MediaKind::Video => SourceKind::Camera,
    }
}

/// Whether a source can be of this kind.
pub(super) fn fits(source: SourceKind, kind: MediaKind) -> bool {
    match source {
        SourceKind::Camera | SourceKind::Screen => kind == MediaKind::Video,
        SourceKind::Microphone | SourceKind::ScreenAudio => kind == MediaKind::Audio,
    }
}

/// How DTLS is spoken with the client of this offer (RFC 5763 section 5).
pub(super) fn dtls_spec(offer: &Offer) -> DtlsSpec {
    let role = match offer.setup {
        Setup::ActPass | Setup::Active => DtlsRole::Server,
        Setup::Passive => DtlsRole::Client,
    };
    let fingerprints = offer
        .fingerprints
        .iter()
        .map(|fingerprint| match fingerprint {
            sdp::Fingerprint::Sha256(digest) => Fingerprint::Sha256(*digest),
            sdp::Fingerprint::Sha384(digest) => Fingerprint::Sha384(*digest),
            sdp::Fingerprint::Sha512(digest) => Fingerprint::Sha512(*digest),
        });
    DtlsSpec {
        role,
        fingerprints: fingerprints.collect(),
    }
}

/// The codecs to answer a section with: those that we forward, as many as the engine takes.
pub(super) fn answered_codecs(section: &Section) -> Vec<Codec> {
    let codecs = section.answerable_codecs(&[]);
    let known: Vec<u8> = codecs.iter().map(|codec| codec.payload_type).collect();
    // RED around a format that is not answered could not be unwrapped for anybody.
    let usable = |codec: &Codec| {
        !is_red(codec) || red_inner(codec).is_some_and(|inner| known.contains(&inner))
    };
    codecs
        .into_iter()
        .filter(usable)
        .take(dataplane::limits::FORMATS_MAX)
        .collect()
}

/// The section's extensions to answer with: send times only where we send, because receivers'
/// bandwidth estimates need them, and we have no use for a publisher's.
pub(super) fn answered_extensions(
    section: &Section,
    send: bool,
    needs_descriptor: bool,
) -> Vec<Extension> {
    let mut extensions = section.known_extensions();
    extensions.retain(|extension| match extension.uri.as_str() {
        uri::ABS_SEND_TIME => send,
        uri::DEPENDENCY_DESCRIPTOR => send || needs_descriptor,
        _ => true,
    });
    extensions
}

/// Whether a client that sends such a codec is to describe its layers in the header: those of VP8 and VP9 are
/// in the payload, and a header that differs from packet to packet costs something for each receiver.
pub(super) fn needs_descriptor(codecs: &[Codec]) -> bool {
    let first = codecs.first().and_then(|codec| video_codec(&codec.name));
    matches!(
        first,
        Some(VideoCodec::Av1 | VideoCodec::H264 | VideoCodec::H265)
    )
}

/// How the encodings of what the client sends are told apart.
pub(super) fn simulcast(section: &Section) -> Simulcast {
    match &section.simulcast {
        sdp::Simulcast::None => Simulcast::None,
        sdp::Simulcast::Rids(rids) => Simulcast::Rids(
            rids.iter()
                .filter_map(|rid| Rid::new(rid.as_bytes()))
                .collect(),
        ),
        sdp::Simulcast::Sources => Simulcast::Sources,
    }
}

/// The engine's view of extensions that were answered.
pub(super) fn extension_ids(extensions: &[Extension]) -> ExtensionIds {
    let id = |uri: &str| {
        extensions
            .iter()
            .find(|known| known.uri == uri)
            .map(|known| known.id)
    };
    ExtensionIds {
        mid: id(uri::MID),
        rid: id(uri::RID),
        repaired_rid: id(uri::REPAIRED_RID),
        audio_level: id(uri::AUDIO_LEVEL),
        abs_send_time: id(uri::ABS_SEND_TIME),
        transport_cc: id(uri::TRANSPORT_CC),
        abs_capture_time: id(uri::ABS_CAPTURE_TIME),
        video_orientation: id(uri::VIDEO_ORIENTATION),
        playout_delay: id(uri::PLAYOUT_DELAY),
        dependency_descriptor: id(uri::DEPENDENCY_DESCRIPTOR),
    }
}

/// The engine's view of the codecs that a publisher may use, index for index.
pub(super) fn formats(codecs: &[Codec]) -> Vec<Format> {
    let format = |codec: &Codec| Format {
        payload_type: PayloadType(codec.payload_type),
        clock_rate: codec.clock_rate,
        rtx: codec.rtx.map(PayloadType),
        payload: payload_kind(codec, codecs),
    };
    codecs.iter().map(format).collect()
}

/// The SSRCs that a section signals.
pub(super) fn sources(section: &Section) -> Vec<Source> {
    let source = |(ssrc, rtx): &(u32, Option<u32>)| Source {
        ssrc: Ssrc(*ssrc),
        rtx: rtx.map(Ssrc),
    };
    section.sources.iter().map(source).collect()
}

/// Whether lost packets of these are asked for by generic NACK.
pub(super) fn nack(codecs: &[Codec]) -> bool {
    codecs
        .iter()
        .any(|codec| codec.feedback.iter().any(|line| line == "nack"))
}

/// A feed of `track`, whose formats are `published`, to a receiver that answered `received`.
pub(super) fn feed(track: TrackId, published: &[Codec], received: &[Codec]) -> Feed {
    let numbered = |codec: &Codec| {
        let same = received.iter().find(|own| own.same_format(codec))?;
        let red = |own: &&Codec| is_red(own) && red_inner(own) == Some(same.payload_type);
        let red = received.iter().find(red).map(|red| red.payload_type);
        Some(SenderFormat {
            payload_type: PayloadType(same.payload_type),
            rtx: same.rtx.map(PayloadType),
            red: red.map(PayloadType),
        })
    };
    Feed {
        track,
        payload_types: published.iter().map(numbered).collect(),
    }
}

fn payload_kind(codec: &Codec, all: &[Codec]) -> PayloadKind {
    let inner = if is_red(codec) {
        red_inner(codec)
    } else {
        None
    };
    let index = inner.and_then(|inner| all.iter().position(|other| other.payload_type == inner));
    match index {
        Some(index) => PayloadKind::Red(FormatIndex(index as u8)),
        None => video_codec(&codec.name).map_or(PayloadKind::Opaque, PayloadKind::Video),
    }
}

/// The codecs whose key frames the engine knows, by their names in SDP, of any case (RFC 8866 section 6.6).
fn video_codec(name: &str) -> Option<VideoCodec> {
    let codecs = [
        ("VP8", VideoCodec::Vp8),
        ("VP9", VideoCodec::Vp9),
        ("H264", VideoCodec::H264),
        ("H265", VideoCodec::H265),
        ("AV1", VideoCodec::Av1),
    ];
    let known = codecs
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map(|(_, codec)| *codec)
}

fn is_red(codec: &Codec) -> bool {
    codec.name.eq_ignore_ascii_case("red")
}

/// The payload type around which redundancy is put: `a=fmtp:63 111/111` (RFC 2198 section 5).
fn red_inner(codec: &Codec) -> Option<u8> {
    codec.fmtp.split('/').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(payload_type: u8, name: &str, fmtp: &str) -> Codec {
        Codec {
            payload_type,
            name: name.to_owned(),
            clock_rate: 48_000,
            channels: 2,
            fmtp: fmtp.to_owned(),
            rtx: None,
            feedback: vec![],
        }
    }

    #[test]
    fn red_points_to_the_index_of_its_inner_format() {
        let formats = formats(&[
            codec(9, "G722", ""),
            codec(111, "opus", "minptime=10"),
            codec(63, "red", "111/111"),
        ]);
        let kinds: Vec<PayloadKind> = formats.iter().map(|format| format.payload).collect();
        let red = PayloadKind::Red(FormatIndex(1));
        assert_eq!(kinds, [PayloadKind::Opaque, PayloadKind::Opaque, red]);
    }

    #[test]
    fn a_feed_uses_the_receivers_numbers_and_leaves_out_what_it_does_not_take() {
        let published = [codec(111, "opus", ""), codec(63, "red", "111/111")];
        let received = [Codec {
            rtx: Some(97),
            ..codec(96, "opus", "")
        }];
        let feed = feed(TrackId(7), &published, &received);
        let numbered = SenderFormat {
            payload_type: PayloadType(96),
            rtx: Some(PayloadType(97)),
            red: None,
        };
        assert_eq!(feed.payload_types, [Some(numbered), None]);
    }

    #[test]
    fn a_receiver_of_redundancy_says_so_for_a_publisher_that_knows_none() {
        let received = [codec(96, "opus", ""), codec(97, "red", "96/96")];
        let feed = feed(TrackId(7), &[codec(111, "opus", "")], &received);
        let red = feed.payload_types.first().copied().flatten();
        assert_eq!(red.and_then(|format| format.red), Some(PayloadType(97)));
    }
}
