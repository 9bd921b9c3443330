//! A section's SSRCs and stream names (RFC 5576, RFC 8830).

use std::collections::BTreeSet;

use rtc_sdp::MediaDescription;

use super::offer::OfferError;
use super::quote;

/// A bound on the SSRCs of one section: a client sends one stream, at most three layers of it,
/// each with its retransmissions.
const SOURCES_MAX: usize = 64;

/// What a section says about the stream that the client sends in it.
#[derive(Default)]
pub(super) struct Sources {
    /// SSRCs, first one first, each with its retransmission SSRC.
    pub(super) ssrcs: Vec<(u32, Option<u32>)>,
    /// Whether they are encodings of one picture (`a=ssrc-group:SIM`), in its order.
    pub(super) are_encodings: bool,
    /// Stream and track.
    pub(super) msid: Option<(String, String)>,
}

/// Reads `a=ssrc`, `a=ssrc-group:FID` and `a=msid` lines.
pub(super) fn read(media: &MediaDescription, mid: &str) -> Result<Sources, OfferError> {
    let mut ssrcs: Vec<u32> = Vec::new();
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    let mut encodings: Vec<u32> = Vec::new();
    let mut msid = None;
    let mut tracks: BTreeSet<&str> = BTreeSet::new();
    for attribute in &media.attributes {
        let value = attribute.value.as_deref().unwrap_or_default().trim();
        match attribute.key.as_str() {
            "ssrc" => {
                let (ssrc, rest) = value.split_once(' ').unwrap_or((value, ""));
                let ssrc = parse_ssrc(ssrc, mid)?;
                if !ssrcs.contains(&ssrc) {
                    ssrcs.push(ssrc);
                }
                if let Some(named) = rest.trim().strip_prefix("msid:") {
                    let (stream, track) = parse_msid(named);
                    tracks.insert(track);
                    msid.get_or_insert((stream, track));
                }
            }
            "ssrc-group" => match value.split_once(' ') {
                Some(("SIM", group)) => encodings = parse_group(group, mid)?,
                _ => pairs.extend(parse_fid(value, mid)?),
            },
            "msid" => {
                // The section's own line says it better than a source's does (RFC 8830 section 2).
                msid = Some(parse_msid(value));
            }
            _ => {}
        }
        if ssrcs.len() > SOURCES_MAX || pairs.len() > SOURCES_MAX {
            return Err(OfferError::TooManySources(mid.to_owned()));
        }
        if tracks.len() > 1 {
            return Err(OfferError::PlanB(mid.to_owned()));
        }
    }
    let repairs = |ssrc: u32| {
        pairs
            .iter()
            .find(|(main, _)| *main == ssrc)
            .map(|&(_, rtx)| rtx)
    };
    let is_repair = |ssrc: u32| pairs.iter().any(|&(_, rtx)| rtx == ssrc);
    let are_encodings = encodings.len() > 1;
    let listed = if are_encodings { encodings } else { ssrcs };
    let main = listed.into_iter().filter(|&ssrc| !is_repair(ssrc));
    Ok(Sources {
        ssrcs: main.map(|ssrc| (ssrc, repairs(ssrc))).collect(),
        are_encodings,
        msid: msid.map(|(stream, track)| (stream.to_owned(), track.to_owned())),
    })
}

fn parse_ssrc(text: &str, mid: &str) -> Result<u32, OfferError> {
    text.parse().map_err(|_| OfferError::BadSsrc {
        mid: mid.to_owned(),
        written: quote(text),
    })
}

/// The SSRCs of a group, each once (RFC 5576 section 4.2).
fn parse_group(group: &str, mid: &str) -> Result<Vec<u32>, OfferError> {
    let mut ssrcs = Vec::new();
    for word in group.split_ascii_whitespace().take(SOURCES_MAX) {
        let ssrc = parse_ssrc(word, mid)?;
        if !ssrcs.contains(&ssrc) {
            ssrcs.push(ssrc);
        }
    }
    Ok(ssrcs)
}

/// A stream and the first of its retransmissions, from `a=ssrc-group:FID` (RFC 5576 section 4.2).
fn parse_fid(value: &str, mid: &str) -> Result<Option<(u32, u32)>, OfferError> {
    let mut words = value.split_ascii_whitespace();
    if words.next() != Some("FID") {
        return Ok(None);
    }
    let (Some(main), Some(rtx)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let pair = (parse_ssrc(main, mid)?, parse_ssrc(rtx, mid)?);
    Ok((pair.0 != pair.1).then_some(pair))
}

/// Stream and track; `-` stands for no stream (RFC 8829 section 5.2.1), no track for the stream's.
fn parse_msid(value: &str) -> (&str, &str) {
    let mut words = value.split_ascii_whitespace();
    let stream = words.next().unwrap_or("-");
    (stream, words.next().unwrap_or(stream))
}

#[cfg(test)]
mod tests {
    use rtc_sdp::description::common::Attribute;

    use super::*;

    fn sources(lines: &[&str]) -> Result<Sources, OfferError> {
        let mut media = MediaDescription::default();
        let attribute = |line: &&str| {
            let (key, value) = line.split_once(':').unwrap();
            Attribute::new(key.to_owned(), Some(value.to_owned()))
        };
        media.attributes = lines.iter().map(attribute).collect();
        read(&media, "1")
    }

    #[test]
    fn retransmissions_belong_to_their_stream() {
        let lines = [
            "ssrc-group:FID 10 11",
            "ssrc:10 cname:a",
            "ssrc:11 cname:a",
            "ssrc:10 msid:s t",
        ];
        let sources = sources(&lines).unwrap();
        assert_eq!(sources.ssrcs, [(10, Some(11))]);
        assert_eq!(sources.msid, Some(("s".to_owned(), "t".to_owned())));
    }

    #[test]
    fn two_tracks_in_a_section_are_plan_b() {
        let lines = ["ssrc:10 msid:s t", "ssrc:20 msid:s u"];
        assert_eq!(sources(&lines).err(), Some(OfferError::PlanB("1".into())));
    }

    #[test]
    fn bad_and_too_many_sources_are_refused() {
        assert!(sources(&["ssrc:4294967296 cname:a"]).is_err());
        let many: Vec<String> = (0..=SOURCES_MAX)
            .map(|n| format!("ssrc:{n} cname:a"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            sources(&many).err(),
            Some(OfferError::TooManySources("1".into()))
        );
    }
}
