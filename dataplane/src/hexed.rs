//! Bytes in a snapshot: as hexadecimal digits, which take a third of what a list of numbers does.

use serde::de::{Deserialize, Deserializer, Error};
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
    let text = String::deserialize(input)?;
    let digit = |byte: &u8| DIGITS.iter().position(|its| its == byte);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    let bytes = bytes.ok_or_else(|| D::Error::custom("these are no hexadecimal digits"))?;
    T::try_from(bytes).map_err(|_| D::Error::custom("these are too many bytes, or too few"))
}
