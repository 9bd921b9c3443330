//! Offers and answers as they stand in documents: standard base64 of `{"type":"..","sdp":".."}`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::refusal::BadRequest;
use super::request::{field, text};
use super::value::Fields;
use crate::sdp::{Offer, quote};

/// Longest `offer`, bytes: base64 of the longest offer that is read, JSON's escapes included. A
/// document may have 1 MiB, so longer ones do arrive.
pub const OFFER_LEN_MAX: usize = 512 * 1024;

const _: () = assert!(
    OFFER_LEN_MAX / 4 * 3 > Offer::LEN_MAX + Offer::LEN_MAX / 4,
    "base64 takes a third more, and the CR and LF of each line are escaped"
);

/// As the contract has it, but padding may be missing: some pages' encoders leave it out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `RTCSessionDescription` as JSON; the keys' order is that of browsers.
#[derive(Serialize)]
struct Written<'a> {
    r#type: &'a str,
    sdp: &'a str,
}

/// The same, in any order and with whatever else.
#[derive(Deserialize)]
struct Read {
    r#type: String,
    sdp: String,
}

/// Reads the `offer` of a document.
///
/// # Errors
/// A sentence that says what is wrong with it and what would be right.
pub fn read_offer(fields: &Fields) -> Result<Offer, BadRequest> {
    let encoded = text(fields, field::OFFER)?.ok_or(BadRequest::Missing(field::OFFER))?;
    if encoded.len() > OFFER_LEN_MAX {
        return Err(BadRequest::OfferTooLong(encoded.len()));
    }
    let encoded = encoded.trim();
    if encoded.is_empty() {
        return Err(BadRequest::EmptyOffer);
    }
    let json = LENIENT
        .decode(encoded)
        .map_err(|error| BadRequest::NotBase64(begun_small(&error.to_string())))?;
    let read: Read = serde_json::from_slice(&json).map_err(|error| {
        let reason = quote(&error.to_string());
        match error.classify() {
            Category::Data => BadRequest::NotDescription(reason),
            Category::Syntax | Category::Eof | Category::Io => BadRequest::NotJson(reason),
        }
    })?;
    if read.r#type != "offer" {
        return Err(BadRequest::NotAnOffer(quote(&read.r#type)));
    }
    Ok(Offer::parse(&read.sdp)?)
}

/// An answer's SDP as the text of `answer`.
#[must_use]
pub fn encode_answer(sdp: &str) -> String {
    encode("answer", sdp)
}

/// An offer's SDP as pages write it into `offer`: for clients of ours, such as tests and load.
#[must_use]
pub fn encode_offer(sdp: &str) -> String {
    encode("offer", sdp)
}

fn encode(r#type: &str, sdp: &str) -> String {
    let json = serde_json::to_vec(&Written { r#type, sdp })
        .expect("two strings under string keys always encode");
    STANDARD.encode(json)
}

/// A library's sentence inside of ours.
fn begun_small(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    quote(&first.into_iter().chain(chars).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firestore::Value;

    const SDP: &str = include_str!("../../tests/offers/chromium-broadcaster.sdp");

    fn read(offer: impl Into<Value>) -> Result<Offer, BadRequest> {
        read_offer(&[(field::OFFER.to_owned(), offer.into())].into())
    }

    fn refusal(offer: impl Into<Value>) -> String {
        read(offer).expect_err("the offer is bad").to_string()
    }

    fn encoded(json: &str) -> String {
        STANDARD.encode(json)
    }

    #[test]
    fn an_answer_is_padded_base64_of_json() {
        assert_eq!(
            encode_answer("v=0\r\n"),
            STANDARD.encode(r#"{"type":"answer","sdp":"v=0\r\n"}"#)
        );
        let lengths: Vec<usize> = ["", "v", "v=", "v=0"]
            .map(|sdp| encode_answer(sdp).len())
            .into();
        assert!(lengths.iter().all(|length| length % 4 == 0), "{lengths:?}");
    }

    #[test]
    fn an_offer_is_read_in_either_order_of_keys() {
        let expected = Offer::parse(SDP).unwrap();
        let sdp = serde_json::to_string(SDP).unwrap();
        for json in [
            format!(r#"{{"type":"offer","sdp":{sdp}}}"#),
            format!(r#"{{"sdp":{sdp},"type":"offer"}}"#),
            format!(" {{ \"toJSON\": {{}}, \"sdp\" : {sdp},\n \"type\":\"offer\" }} "),
        ] {
            assert_eq!(read(encoded(&json)), Ok(expected.clone()));
            let unpadded = encoded(&json).trim_end_matches('=').to_owned();
            assert_eq!(read(unpadded + "\n"), Ok(expected.clone()));
        }
        assert_eq!(read(encode_offer(SDP)), Ok(expected));
    }

    #[test]
    fn an_offer_without_candidates_is_read() {
        let bare: String = SDP
            .lines()
            .filter(|line| !line.starts_with("a=candidate"))
            .flat_map(|line| [line, "\r\n"])
            .collect();
        assert_eq!(
            read(encode_offer(&bare)),
            Offer::parse(SDP).map_err(BadRequest::Sdp)
        );
    }

    #[test]
    fn t_12_what_is_no_base64_is_refused() {
        for bad in ["%%%%", "v=0\r\no=- 1 2 IN IP4 127.0.0.1", "eyJ0eXBl!", "a"] {
            let sentence = refusal(bad);
            assert!(
                sentence.starts_with("`offer` is not base64 ("),
                "{sentence}"
            );
            assert!(sentence.ends_with(r#"of the JSON {"type":"offer","sdp":"..."}"#));
        }
        assert!(refusal("").starts_with("`offer` is empty: write base64"));
        assert!(refusal(" \n").starts_with("`offer` is empty: write base64"));
    }

    #[test]
    fn t_12_what_is_no_json_is_refused() {
        for bad in ["v=0", "{", r#"{"type":"offer","sdp":"#, "\u{0}"] {
            let sentence = refusal(encoded(bad));
            assert!(
                sentence.starts_with("`offer` is base64, but not of JSON ("),
                "{sentence}"
            );
        }
        let deep = refusal(encoded(&"[".repeat(100_000)));
        assert!(deep.len() < 300, "{deep}");
        assert!(refusal(STANDARD.encode([0xff, 0xfe])).contains("not of JSON"));
    }

    #[test]
    fn json_that_is_no_description_is_refused() {
        for bad in [
            "7",
            r#""v=0""#,
            "{}",
            r#"{"type":"offer"}"#,
            r#"{"sdp":"v=0"}"#,
            r#"{"type":"offer","sdp":7}"#,
            r#"{"type":1,"sdp":"v=0"}"#,
            r#"{"type":"offer","sdp":null}"#,
        ] {
            let sentence = refusal(encoded(bad));
            assert!(
                sentence.starts_with("the JSON in `offer` is no description ("),
                "{sentence}"
            );
        }
        assert_eq!(
            refusal(encoded(r#"{"type":"answer","sdp":"v=0"}"#)),
            "the description in `offer` is of type `answer`: it has to be `offer`"
        );
    }

    #[test]
    fn wrong_types_and_missing_offers_are_refused() {
        assert_eq!(refusal(7), "`offer` is a number: it has to be a string");
        let map = Value::Map([("sdp".to_owned(), Value::from("v=0"))].into());
        assert_eq!(refusal(map), "`offer` is a map: it has to be a string");
        let sentence = read_offer(&Fields::new()).unwrap_err().to_string();
        assert!(sentence.starts_with("the document has no `offer`: write "));
    }

    #[test]
    fn bad_sdp_is_refused_with_the_parsers_sentence() {
        assert_eq!(
            refusal(encode_offer("")),
            Offer::parse("").unwrap_err().to_string()
        );
        assert!(refusal(encode_offer("v=0\r\nhello\r\n")).contains("line 2 of the offer, `hello`"));
    }

    #[test]
    fn t_12_a_document_of_a_mebibyte_is_refused_for_its_length() {
        assert_eq!(
            refusal("A".repeat(1 << 20)),
            "`offer` has 1048576 bytes: at most 524288 are read"
        );
        let longest = "v=0\r\n".repeat(Offer::LEN_MAX / 5 + 1);
        assert!(refusal(encode_offer(&longest)).contains("at most 262144 are read"));
    }
}
