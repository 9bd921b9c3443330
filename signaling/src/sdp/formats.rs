//! From a section's payload types, `a=rtpmap`, `a=fmtp` and `a=rtcp-fb` lines to its codecs.

use std::collections::BTreeMap;

use rtc_sdp::MediaDescription;

use super::codec::{AUDIO_CODECS, Codec, FEEDBACK, VIDEO_PREFERENCE, clock_and_channels};
use super::offer::OfferError;
use super::quote;
use super::section::SectionKind;

/// What the attributes of a section say about one payload type.
#[derive(Default)]
struct Format<'a> {
    rtpmap: Option<&'a str>,
    fmtp: Option<&'a str>,
    feedback: [bool; FEEDBACK.len()],
}

/// The formats of one section, by payload type.
struct Formats<'a> {
    mid: &'a str,
    /// In the order of the `m=` line.
    order: Vec<u8>,
    by_type: BTreeMap<u8, Format<'a>>,
    /// `a=rtcp-fb:*`
    feedback: [bool; FEEDBACK.len()],
}

/// Reads the codecs of an audio or video section: the ones that we can forward, in its order.
pub(super) fn read(
    media: &MediaDescription,
    kind: SectionKind,
    mid: &str,
) -> Result<Vec<Codec>, OfferError> {
    let mut formats = Formats::of_line(media, mid)?;
    formats.read_attributes(media)?;
    let repairs = formats.repairs()?;
    let known: &[&'static str] = match kind {
        SectionKind::Audio => &AUDIO_CODECS,
        SectionKind::Video => &VIDEO_PREFERENCE,
        SectionKind::Data | SectionKind::Other => &[],
    };
    let codecs = formats.order.iter().filter_map(|&payload_type| {
        let rtx = repairs.get(&payload_type).copied();
        formats.codec(payload_type, known, rtx)
    });
    Ok(with_paired_red(codecs.collect()))
}

impl<'a> Formats<'a> {
    /// The payload types of the `m=` line, each at most once and at most 127 (RFC 3551 section 6).
    fn of_line(media: &MediaDescription, mid: &'a str) -> Result<Formats<'a>, OfferError> {
        let names = &media.media_name.formats;
        let mut formats = Formats {
            mid,
            order: Vec::new(),
            by_type: BTreeMap::new(),
            feedback: [false; FEEDBACK.len()],
        };
        for name in names {
            let payload_type = payload_type(name).ok_or_else(|| formats.bad_type(name))?;
            if formats
                .by_type
                .insert(payload_type, Format::default())
                .is_some()
            {
                return Err(OfferError::PayloadTypeTwice {
                    mid: mid.to_owned(),
                    payload_type,
                });
            }
            formats.order.push(payload_type);
        }
        Ok(formats)
    }

    fn bad_type(&self, written: &str) -> OfferError {
        OfferError::PayloadType {
            mid: self.mid.to_owned(),
            written: quote(written),
        }
    }

    /// Sorts the attributes to their payload types. What belongs to none of the line's is left out.
    fn read_attributes(&mut self, media: &'a MediaDescription) -> Result<(), OfferError> {
        for attribute in &media.attributes {
            let Some(value) = attribute.value.as_deref() else {
                continue;
            };
            let (target, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
            match attribute.key.as_str() {
                "rtpmap" | "fmtp" => self.read_format(&attribute.key, target, rest.trim())?,
                "rtcp-fb" => self.read_feedback(target, rest.trim())?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_format(&mut self, key: &str, target: &str, rest: &'a str) -> Result<(), OfferError> {
        let payload_type = payload_type(target).ok_or_else(|| self.bad_type(target))?;
        let Some(format) = self.by_type.get_mut(&payload_type) else {
            return Ok(());
        };
        let slot = if key == "rtpmap" {
            &mut format.rtpmap
        } else {
            &mut format.fmtp
        };
        match slot {
            None => *slot = Some(rest),
            Some(first) if *first != rest && key == "rtpmap" => {
                return Err(OfferError::RtpmapTwice {
                    mid: self.mid.to_owned(),
                    payload_type,
                });
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn read_feedback(&mut self, target: &str, rest: &str) -> Result<(), OfferError> {
        let flags = if target == "*" {
            &mut self.feedback
        } else {
            let payload_type = payload_type(target).ok_or_else(|| self.bad_type(target))?;
            let Some(format) = self.by_type.get_mut(&payload_type) else {
                return Ok(());
            };
            &mut format.feedback
        };
        for (flag, name) in flags.iter_mut().zip(FEEDBACK) {
            *flag |= rest.split_ascii_whitespace().eq(name.split(' '));
        }
        Ok(())
    }

    /// Which payload type retransmits which (RFC 4588 section 8.1). A retransmission of something
    /// that the line does not have is left out: editing an offer leaves such lines behind.
    fn repairs(&self) -> Result<BTreeMap<u8, u8>, OfferError> {
        let mut repairs = BTreeMap::new();
        for (&rtx, format) in &self.by_type {
            let is_rtx = format
                .rtpmap
                .is_some_and(|map| encoding_name(map).eq_ignore_ascii_case("rtx"));
            if !is_rtx {
                continue;
            }
            let conflict = || OfferError::ConflictingApt {
                mid: self.mid.to_owned(),
                payload_type: rtx,
            };
            let fmtp = format.fmtp.unwrap_or_default();
            let mut apts = fmtp
                .split(';')
                .filter_map(|pair| pair.trim().strip_prefix("apt="));
            let Some(apt) = apts.next() else { continue };
            let repaired = payload_type(apt).ok_or_else(|| self.bad_type(apt))?;
            let other = self.by_type.get(&repaired).and_then(|format| format.rtpmap);
            let of_rtx = other.is_some_and(|map| encoding_name(map).eq_ignore_ascii_case("rtx"));
            if apts.next().is_some() || of_rtx || repairs.contains_key(&repaired) {
                return Err(conflict());
            }
            if !is_ambiguous(rtx) {
                repairs.insert(repaired, rtx);
            }
        }
        Ok(repairs)
    }

    /// The codec behind a payload type, if it is one that we forward.
    fn codec(&self, payload_type: u8, known: &[&'static str], rtx: Option<u8>) -> Option<Codec> {
        if is_ambiguous(payload_type) {
            return None;
        }
        let format = self.by_type.get(&payload_type)?;
        let map = format.rtpmap.or_else(|| static_rtpmap(payload_type))?;
        let mut parts = map.split('/');
        let written = parts.next()?.trim();
        let name = *known
            .iter()
            .find(|name| name.eq_ignore_ascii_case(written))?;
        let clock_rate: u32 = parts.next()?.trim().parse().ok()?;
        let channels: u8 = parts
            .next()
            .map_or(Some(1), |channels| channels.trim().parse().ok())?;
        if (clock_rate, channels) != clock_and_channels(name) {
            return None;
        }
        let feedback = FEEDBACK.iter().enumerate().filter(|(index, _)| {
            let set = |flags: &[bool]| flags.get(*index).copied().unwrap_or_default();
            set(&format.feedback) || set(&self.feedback)
        });
        Some(Codec {
            payload_type,
            name: name.to_owned(),
            clock_rate,
            channels,
            fmtp: format.fmtp.unwrap_or_default().to_owned(),
            rtx,
            feedback: feedback.map(|(_, name)| (*name).to_owned()).collect(),
        })
    }
}

/// A payload type: digits, at most 127.
fn payload_type(text: &str) -> Option<u8> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|&payload_type| digits && payload_type <= 127)
}

/// Payload types that look like RTCP when both share a port (RFC 5761 section 4).
fn is_ambiguous(payload_type: u8) -> bool {
    (64..=95).contains(&payload_type)
}

fn encoding_name(rtpmap: &str) -> &str {
    rtpmap.split('/').next().unwrap_or_default().trim()
}

/// The static payload types that we forward, which need no `a=rtpmap` (RFC 3551 table 4).
fn static_rtpmap(payload_type: u8) -> Option<&'static str> {
    match payload_type {
        0 => Some("PCMU/8000"),
        8 => Some("PCMA/8000"),
        9 => Some("G722/8000"),
        _ => None,
    }
}

/// Leaves out RED (RFC 2198) that does not carry an Opus of the same section.
fn with_paired_red(codecs: Vec<Codec>) -> Vec<Codec> {
    let opus: Vec<u8> = codecs
        .iter()
        .filter(|c| c.name == "opus")
        .map(|c| c.payload_type)
        .collect();
    let paired = |codec: &Codec| {
        let mut carried = codec.fmtp.split('/').map(|text| payload_type(text.trim()));
        carried.all(|carried| carried.is_some_and(|carried| opus.contains(&carried)))
    };
    codecs
        .into_iter()
        .filter(|codec| codec.name != "red" || paired(codec))
        .collect()
}

#[cfg(test)]
mod tests {
    use rtc_sdp::description::common::Attribute;

    use super::*;

    fn section(formats: &str, attributes: &[&str]) -> MediaDescription {
        let mut media = MediaDescription::default();
        media.media_name.formats = formats.split(' ').map(str::to_owned).collect();
        media.attributes = attributes
            .iter()
            .map(|line| {
                let (key, value) = line.split_once(':').unwrap();
                Attribute::new(key.to_owned(), Some(value.to_owned()))
            })
            .collect();
        media
    }

    fn audio(formats: &str, attributes: &[&str]) -> Result<Vec<Codec>, OfferError> {
        read(&section(formats, attributes), SectionKind::Audio, "0")
    }

    fn video(formats: &str, attributes: &[&str]) -> Result<Vec<Codec>, OfferError> {
        read(&section(formats, attributes), SectionKind::Video, "1")
    }

    fn names(codecs: &[Codec]) -> Vec<&str> {
        codecs.iter().map(|codec| codec.name.as_str()).collect()
    }

    #[test]
    fn static_payload_types_need_no_rtpmap() {
        assert_eq!(
            names(&audio("8 0 9 3", &[]).unwrap()),
            ["PCMA", "PCMU", "G722"]
        );
    }

    #[test]
    fn what_we_do_not_forward_is_dropped() {
        let attributes = [
            "rtpmap:96 VP8/90000",
            "rtpmap:98 flexfec-03/90000",
            "rtpmap:99 red/90000",
        ];
        assert_eq!(names(&video("96 98 99", &attributes).unwrap()), ["VP8"]);
        // RTP and RTCP share the port: these payload types would be taken for RTCP.
        assert_eq!(video("72", &["rtpmap:72 VP8/90000"]).unwrap(), []);
    }

    #[test]
    fn red_stays_with_its_opus_only() {
        let opus = "rtpmap:111 opus/48000/2";
        let red = "rtpmap:63 red/48000/2";
        let paired = audio("63 111", &[opus, red, "fmtp:63 111/111"]).unwrap();
        assert_eq!(names(&paired), ["red", "opus"]);
        assert_eq!(names(&audio("111 63", &[opus, red]).unwrap()), ["opus"]);
        assert_eq!(audio("63", &[red, "fmtp:63 111/111"]).unwrap(), []);
    }

    #[test]
    fn retransmissions_are_paired_with_what_they_repair() {
        let codecs = video(
            "96 97 98 99",
            &[
                "rtpmap:96 VP8/90000",
                "rtpmap:97 rtx/90000",
                "fmtp:97 apt=96",
                "rtpmap:98 VP9/90000",
                "rtpmap:99 rtx/90000",
                "fmtp:99 apt=33",
            ],
        );
        let rtx: Vec<Option<u8>> = codecs.unwrap().iter().map(|codec| codec.rtx).collect();
        assert_eq!(rtx, [Some(97), None]);
    }

    #[test]
    fn conflicting_retransmissions_are_refused() {
        let two = [
            "rtpmap:96 VP8/90000",
            "rtpmap:97 rtx/90000",
            "fmtp:97 apt=96",
            "rtpmap:98 rtx/90000",
            "fmtp:98 apt=96",
        ];
        let conflict = OfferError::ConflictingApt {
            mid: "1".into(),
            payload_type: 98,
        };
        assert_eq!(video("96 97 98", &two), Err(conflict));
        let itself = ["rtpmap:97 rtx/90000", "fmtp:97 apt=97"];
        assert!(matches!(
            video("97", &itself),
            Err(OfferError::ConflictingApt { .. })
        ));
    }

    #[test]
    fn payload_types_are_digits_up_to_127() {
        for bad in ["128", "-1", "+1", "x", "1e1"] {
            assert!(
                matches!(video(bad, &[]), Err(OfferError::PayloadType { .. })),
                "{bad}"
            );
        }
        assert!(matches!(
            video("96 96", &[]),
            Err(OfferError::PayloadTypeTwice { .. })
        ));
        let twice = ["rtpmap:96 VP8/90000", "rtpmap:96 VP9/90000"];
        assert!(matches!(
            video("96", &twice),
            Err(OfferError::RtpmapTwice { .. })
        ));
    }

    #[test]
    fn feedback_for_all_counts_for_each() {
        let codecs = video(
            "96 97",
            &[
                "rtcp-fb:* nack  pli",
                "rtcp-fb:96 goog-remb",
                "rtcp-fb:96 transport-cc",
                "rtpmap:96 VP8/90000",
                "rtpmap:97 vp9/90000",
            ],
        )
        .unwrap();
        assert_eq!(
            codecs[0].feedback,
            ["nack pli", "goog-remb", "transport-cc"]
        );
        assert_eq!(codecs[1].feedback, ["nack pli"]);
        assert_eq!(codecs[1].name, "VP9");
    }
}
