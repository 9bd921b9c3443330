//! What members write beside the contract's six fields: our own extension for two-way meetings.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as Unknown;

use super::refusal::BadRequest;
use super::request::{field, text_of, wrong_type};
use super::value::{Fields, Value};
use crate::node::SourceKind;
use crate::sdp::{Offer, quote};

/// Most entries of `sources`, `wants` and `muted`: one for each section that an offer may have.
pub const MAP_ENTRIES_MAX: usize = Offer::SECTIONS_MAX;

/// Longest id of a track that is looked up, bytes: ours are shorter.
pub const TRACK_ID_LEN_MAX: usize = 256;

/// Longest text that is said to a room, characters: as over the page's WebSocket.
pub const SAY_CHARS_MAX: usize = 2_000;

/// What a member says about the sections of its offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// For sections that it sends on: the `mid`, and what is sent there.
    pub sources: Vec<(String, SourceKind)>,
    /// For sections that it receives on: the `mid`, and the id of the track it wants there.
    pub wants: Vec<(String, String)>,
}

impl Member {
    /// Reads `sources` and `wants`; a missing one is empty.
    pub(super) fn read(fields: &Fields) -> Result<Member, BadRequest> {
        let sources = entries(fields, field::SOURCES)?.map(|(mid, value)| {
            let written = text_of(value, &place(field::SOURCES, mid))?;
            Ok((mid.clone(), source(written)?))
        });
        let wants = entries(fields, field::WANTS)?.map(|(mid, value)| {
            let track = text_of(value, &place(field::WANTS, mid))?;
            if (1..=TRACK_ID_LEN_MAX).contains(&track.len()) {
                Ok((mid.clone(), track.to_owned()))
            } else {
                Err(BadRequest::BadTrackId(quote(track)))
            }
        });
        Ok(Member {
            sources: sources.collect::<Result<_, BadRequest>>()?,
            wants: wants.collect::<Result<_, BadRequest>>()?,
        })
    }
}

/// Reads `muted`: which of a member's sources are silent. What it does not name is heard.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn read_muted(fields: &Fields) -> Result<BTreeMap<SourceKind, bool>, BadRequest> {
    let entries = entries(fields, field::MUTED)?;
    let read = entries.map(|(name, value)| {
        let muted = value
            .as_bool()
            .ok_or_else(|| wrong_type(value, &place(field::MUTED, name), "a boolean"))?;
        Ok((source(name)?, muted))
    });
    read.collect()
}

/// What a member says to the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say {
    /// Grows with everything that is said: what has been said already is not said again.
    pub n: i64,
    /// What.
    pub text: String,
}

impl Say {
    /// Reads `say`; `None` when nothing was ever said.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn read(fields: &Fields) -> Result<Option<Say>, BadRequest> {
        let Some(say) = map(fields, field::SAY)? else {
            return Ok(None);
        };
        let n = say.get("n").and_then(Value::as_integer);
        let n = n.ok_or(BadRequest::BadSayNumber)?;
        let text = text_of(say.get("text").unwrap_or(&Value::Null), "say.text")?;
        let chars = text.chars().count();
        if !(1..=SAY_CHARS_MAX).contains(&chars) {
            return Err(BadRequest::BadSayLength(chars));
        }
        let text = text.to_owned();
        Ok(Some(Say { n, text }))
    }
}

/// A source by its name.
fn source(name: &str) -> Result<SourceKind, BadRequest> {
    let read: Result<SourceKind, Unknown> = SourceKind::deserialize(name.into_deserializer());
    read.map_err(|_| BadRequest::UnknownSource(quote(name)))
}

/// A field that is a map; `None` when it is not there.
fn map<'a>(fields: &'a Fields, name: &'static str) -> Result<Option<&'a Fields>, BadRequest> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let map = value.as_map();
            map.map(Some)
                .ok_or_else(|| wrong_type(value, name, "a map"))
        }
    }
}

/// The entries of a field that is a map; none when it is not there.
fn entries<'a>(
    fields: &'a Fields,
    name: &'static str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)> + use<'a>, BadRequest> {
    let map = map(fields, name)?;
    let entries = map.map_or(0, Fields::len);
    if entries > MAP_ENTRIES_MAX {
        return Err(BadRequest::TooManyEntries {
            field: name,
            entries,
        });
    }
    Ok(map.into_iter().flatten())
}

/// An entry's place, for a sentence.
fn place(field: &str, key: &str) -> String {
    format!("{field}.{}", quote(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(name: &str, value: impl Into<Value>) -> Fields {
        [(name.to_owned(), value.into())].into()
    }

    fn map<const N: usize>(entries: [(&str, Value); N]) -> Fields {
        entries.map(|(key, value)| (key.to_owned(), value)).into()
    }

    fn member_refusal(name: &str, value: impl Into<Value>) -> String {
        Member::read(&document(name, value))
            .expect_err("the field is bad")
            .to_string()
    }

    fn say_refusal(value: impl Into<Value>) -> String {
        Say::read(&document(field::SAY, value))
            .expect_err("the field is bad")
            .to_string()
    }

    #[test]
    fn sections_are_named_by_their_mids() {
        let mut fields = document(
            field::SOURCES,
            map([("0", "microphone".into()), ("1", "screen-audio".into())]),
        );
        fields.insert(field::WANTS.to_owned(), map([("2", "t9".into())]).into());
        let member = Member::read(&fields).unwrap();
        assert_eq!(
            member.sources,
            [
                ("0".to_owned(), SourceKind::Microphone),
                ("1".to_owned(), SourceKind::ScreenAudio)
            ]
        );
        assert_eq!(member.wants, [("2".to_owned(), "t9".to_owned())]);
        assert_eq!(Member::read(&Fields::new()).unwrap(), Member::default());
    }

    #[test]
    fn bad_sections_are_refused() {
        assert_eq!(
            member_refusal(field::SOURCES, "camera"),
            "`sources` is a string: it has to be a map"
        );
        assert_eq!(
            member_refusal(field::SOURCES, map([("1", 7.into())])),
            "`sources.1` is a number: it has to be a string"
        );
        assert!(
            member_refusal(field::SOURCES, map([("1", "smell".into())]))
                .starts_with("`smell` is not a source: they are `camera`,")
        );
        assert_eq!(
            member_refusal(field::WANTS, map([("1", Value::Null)])),
            "`wants.1` is null: it has to be a string"
        );
        assert!(member_refusal(field::WANTS, map([("1", "".into())])).contains("not a track's id"));
        let long = map([("1", "t".repeat(1 << 20).into())]);
        assert!(member_refusal(field::WANTS, long).len() < 200);
        let many: Fields = (0..10_000)
            .map(|mid| (mid.to_string(), Value::from("t")))
            .collect();
        assert_eq!(
            member_refusal(field::WANTS, many),
            "`wants` has 10000 entries: at most 256 are read"
        );
    }

    #[test]
    fn sources_are_muted_by_name() {
        let muted = read_muted(&document(
            field::MUTED,
            map([("camera", true.into()), ("microphone", false.into())]),
        ));
        assert_eq!(
            muted.unwrap(),
            [(SourceKind::Camera, true), (SourceKind::Microphone, false)].into()
        );
        assert!(read_muted(&Fields::new()).unwrap().is_empty());
        let bad = read_muted(&document(field::MUTED, map([("camera", 1.into())])));
        assert_eq!(
            bad.unwrap_err().to_string(),
            "`muted.camera` is a number: it has to be a boolean"
        );
        let unknown = read_muted(&document(field::MUTED, map([("mic", true.into())])));
        assert!(unknown.is_err());
    }

    #[test]
    fn what_is_said_has_a_number() {
        let said = |n: Value, text: &str| {
            Say::read(&document(
                field::SAY,
                map([("n", n), ("text", text.into())]),
            ))
        };
        let hello = Say {
            n: 3,
            text: "hello".to_owned(),
        };
        assert_eq!(said(Value::Integer(3), "hello"), Ok(Some(hello.clone())));
        assert_eq!(said(Value::Double(3.0), "hello"), Ok(Some(hello)));
        assert_eq!(Say::read(&Fields::new()), Ok(None));
        assert_eq!(said("3".into(), "hello"), Err(BadRequest::BadSayNumber));
        assert_eq!(said(1.into(), ""), Err(BadRequest::BadSayLength(0)));
        let long = "ä".repeat(SAY_CHARS_MAX + 1);
        assert_eq!(said(1.into(), &long), Err(BadRequest::BadSayLength(2_001)));
        assert_eq!(
            say_refusal("hello"),
            "`say` is a string: it has to be a map"
        );
        assert_eq!(
            say_refusal(map([("n", 1.into())])),
            "`say.text` is null: it has to be a string"
        );
    }
}
