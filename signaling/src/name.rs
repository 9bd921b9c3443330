//! Names that people give: rooms and themselves.

use serde::{Deserialize, Serialize};

/// A room's name: 1 to 64 of `A-Z a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomName(String);

/// Why a room's name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a room's name is 1 to 64 letters, digits, `_` or `-`")]
pub struct BadRoomName;

impl RoomName {
    /// The longest name, in characters.
    pub const LEN_MAX: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RoomName {
    type Error = BadRoomName;

    fn try_from(name: String) -> Result<RoomName, BadRoomName> {
        let fits = (1..=RoomName::LEN_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if fits {
            Ok(RoomName(name))
        } else {
            Err(BadRoomName)
        }
    }
}

impl std::str::FromStr for RoomName {
    type Err = BadRoomName;

    fn from_str(name: &str) -> Result<RoomName, BadRoomName> {
        RoomName::try_from(name.to_owned())
    }
}

impl From<RoomName> for String {
    fn from(name: RoomName) -> String {
        name.0
    }
}

impl std::fmt::Display for RoomName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A person's display name, trimmed: at most 64 characters, no control characters; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PersonName(String);

impl PersonName {
    /// The longest name kept, in characters.
    pub const CHARS_MAX: usize = 64;

    /// Keeps what can be shown of `name`.
    #[must_use]
    pub fn new(name: &str) -> PersonName {
        let shown = name.chars().filter(|c| !c.is_control());
        PersonName(
            shown
                .take(PersonName::CHARS_MAX)
                .collect::<String>()
                .trim()
                .to_owned(),
        )
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
