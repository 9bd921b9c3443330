//! How good a picture somebody wants, in the words of the page's protocol and of WHEP.

use serde::{Deserialize, Serialize};

/// How good a picture is to be at most: in JSON a number, `"best"` or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quality {
    /// This encoding or spatial layer, counted from the smallest, 0, and what is below.
    Layer(u8),
    /// By name.
    Named(Named),
}

/// Qualities with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Named {
    /// Whatever the network carries.
    Best,
    /// Nothing is sent.
    Off,
}

/// What somebody wants of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preference {
    /// No more than this.
    pub most: Quality,
    /// Tracks of a higher priority get their share of the network first.
    pub priority: u8,
}

impl Quality {
    /// Whatever the network carries.
    pub const BEST: Quality = Quality::Named(Named::Best);
    /// Nothing.
    pub const OFF: Quality = Quality::Named(Named::Off);

    /// What `?layer=` says: `low`, `high`, `audio` or `auto`.
    #[must_use]
    pub fn from_query(word: &str) -> Option<Quality> {
        match word {
            "" | "auto" | "high" => Some(Quality::BEST),
            "low" => Some(Quality::Layer(0)),
            "audio" => Some(Quality::OFF),
            number => number.parse().ok().map(Quality::Layer),
        }
    }
}

/// Why somebody is sent nothing of a track that they asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pause {
    /// Their network does not carry even the smallest.
    NoRoom,
    /// They want nothing of it.
    Unwanted,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualities_are_numbers_or_words() {
        let read = |text: &str| serde_json::from_str::<Quality>(text).ok();
        assert_eq!(read("1"), Some(Quality::Layer(1)));
        assert_eq!(read("\"best\""), Some(Quality::BEST));
        assert_eq!(read("\"off\""), Some(Quality::OFF));
        for nonsense in ["-1", "256", "1.5", "\"worst\"", "null", "[]"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
        assert_eq!(serde_json::to_string(&Quality::BEST).unwrap(), "\"best\"");
    }

    #[test]
    fn players_choose_by_query() {
        assert_eq!(Quality::from_query("low"), Some(Quality::Layer(0)));
        assert_eq!(Quality::from_query("2"), Some(Quality::Layer(2)));
        assert_eq!(Quality::from_query("audio"), Some(Quality::OFF));
        assert_eq!(Quality::from_query("auto"), Some(Quality::BEST));
        assert_eq!(Quality::from_query("medium"), None);
    }
}
