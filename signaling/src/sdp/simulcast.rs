//! One picture in several encodings: by RID (RFC 8851, RFC 8853), or by SSRC, as browsers did before.

use rtc_sdp::MediaDescription;

use super::offer::OfferError;
use super::quote;

/// Encodings of one section that are taken; a client's further ones are not answered.
const ENCODINGS_MAX: usize = 4;

/// A RID has to fit a one-byte header extension (RFC 8285 section 4.2).
const RID_LEN_MAX: usize = 16;

/// How the encodings of what the client sends in a section are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Simulcast {
    /// There is one.
    #[default]
    None,
    /// By their RTP stream ids, in the offer's order. An answer accepts all of them.
    Rids(Vec<String>),
    /// By SSRC: the section's sources, in the order of `a=ssrc-group:SIM`.
    Sources,
}

/// Reads `a=simulcast` with its `a=rid` lines: the encodings that the client sends. Of alternatives for one
/// encoding the first counts, and one that begins paused is one all the same (RFC 8853 section 5.1).
pub(super) fn read_rids(media: &MediaDescription, mid: &str) -> Result<Vec<String>, OfferError> {
    let bad = |rid: &str| OfferError::BadRid {
        mid: mid.to_owned(),
        written: quote(rid),
    };
    let mut described = Vec::new();
    for attribute in media.attributes.iter().filter(|a| a.key == "rid") {
        let value = attribute.value.as_deref().unwrap_or_default();
        let mut words = value.split_ascii_whitespace();
        let rid = words.next().unwrap_or_default();
        if !is_rid(rid) || described.contains(&rid) {
            return Err(bad(rid));
        }
        if words.next() == Some("send") {
            described.push(rid);
        }
    }
    let Some(Some(simulcast)) = media.attribute("simulcast") else {
        return Ok(Vec::new());
    };
    let mut words = simulcast.split_ascii_whitespace();
    let sent = loop {
        match (words.next(), words.next()) {
            (Some("send"), Some(list)) => break list,
            (Some(_), Some(_)) => {}
            (_, None) | (None, _) => return Ok(Vec::new()),
        }
    };
    let first = |alternatives: &str| {
        let rid = alternatives.split(',').next().unwrap_or_default();
        rid.trim_start_matches('~').to_owned()
    };
    let rids = sent.split(';').map(first).take(ENCODINGS_MAX);
    let rids: Vec<String> = rids.collect();
    for (index, rid) in rids.iter().enumerate() {
        let is_new = !rids.iter().take(index).any(|other| other == rid);
        if !is_new || !described.contains(&rid.as_str()) {
            return Err(bad(rid));
        }
    }
    Ok(rids)
}

/// A `rid-id` (RFC 8851 section 10).
fn is_rid(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=RID_LEN_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use rtc_sdp::description::common::Attribute;

    use super::*;

    fn rids(lines: &[&str]) -> Result<Vec<String>, OfferError> {
        let mut media = MediaDescription::default();
        let attribute = |line: &&str| {
            let (key, value) = line.split_once(':').unwrap();
            Attribute::new(key.to_owned(), Some(value.to_owned()))
        };
        media.attributes = lines.iter().map(attribute).collect();
        read_rids(&media, "1")
    }

    #[test]
    fn what_the_client_sends_is_read_in_its_order() {
        let described = [
            "rid:q send",
            "rid:h send max-width=640",
            "rid:f send",
            "rid:x recv",
        ];
        let with = |simulcast| rids(&[described.as_slice(), &[simulcast]].concat());
        assert_eq!(with("simulcast:send q;h;f").unwrap(), ["q", "h", "f"]);
        assert_eq!(with("simulcast:recv x send f;~q,h").unwrap(), ["f", "q"]);
        assert_eq!(with("simulcast:recv x").unwrap(), [""; 0]);
        assert_eq!(rids(&described).unwrap(), [""; 0]);
    }

    #[test]
    fn rids_that_are_none_or_stand_twice_or_are_not_described_are_refused() {
        for lines in [
            &["rid:a/b send"][..],
            &["rid:seventeen-letters-- send"],
            &["rid:q send", "rid:q send"],
            &["rid:q send", "simulcast:send q;q"],
            &["rid:q send", "simulcast:send q;r"],
            &["rid:q recv", "simulcast:send q"],
        ] {
            assert!(
                matches!(rids(lines), Err(OfferError::BadRid { .. })),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn no_more_are_taken_than_browsers_send() {
        let names: Vec<String> = (0..40).map(|number| format!("r{number}")).collect();
        let mut lines: Vec<String> = names.iter().map(|rid| format!("rid:{rid} send")).collect();
        lines.push(format!("simulcast:send {}", names.join(";")));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(rids(&lines).unwrap(), ["r0", "r1", "r2", "r3"]);
    }
}
