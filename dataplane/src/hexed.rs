//! Bytes in a snapshot: as hexadecimal digits, which take a third of what a list of numbers does.

use std::fmt::Formatter;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes bytes.
pub(crate) fn serialize<T: AsRef<[u8]>, S: Serializer>(
    bytes: &T,
    output: S,
) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(2 * bytes.as_ref().len());
    for byte in bytes.as_ref() {
        for digit in [byte >> 4, byte & 0x0f] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    output.serialize_str(&text)
}

/// Reads them: as many as the type takes.
pub(crate) fn deserialize<'de, T: TryFrom<Vec<u8>>, D: Deserializer<'de>>(
    input: D,
) -> Result<T, D::Error> {
    let bytes = input.deserialize_str(Digits)?;
    T::try_from(bytes).map_err(|_| D::Error::custom("these are too many bytes, or too few"))
}

/// Reads digits where they lie: most of a snapshot is that, and media stands still meanwhile.
struct Digits;

impl Visitor<'_> for Digits {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("pairs of hexadecimal digits")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        let mut bytes = Vec::with_capacity(text.len() / 2);
        for pair in text.as_bytes().chunks(2) {
            let digits = match pair {
                [high, low] => digit(*high).zip(digit(*low)),
                _ => None,
            };
            let (high, low) = digits.ok_or_else(|| E::custom("these are no hexadecimal digits"))?;
            bytes.push(high << 4 | low);
        }
        Ok(bytes)
    }
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Two(#[serde(with = "super")] [u8; 2]);

    #[test]
    fn bytes_come_back_and_nothing_else_is_read() {
        let written = serde_json::to_string(&Two([0x0f, 0xa9])).unwrap();
        assert_eq!(written, "\"0fa9\"");
        assert_eq!(
            serde_json::from_str::<Two>(&written).unwrap(),
            Two([0x0f, 0xa9])
        );
        for (digits, why) in [
            ("\"0fa\"", "no hexadecimal digits"),
            ("\"0fA9\"", "no hexadecimal digits"),
            ("\"0fa900\"", "too many bytes"),
        ] {
            let refused = serde_json::from_str::<Two>(digits).unwrap_err().to_string();
            assert!(refused.contains(why), "{digits}: {refused}");
        }
    }
}
