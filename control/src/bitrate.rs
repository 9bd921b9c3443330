//! Bit rates as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bits per second, written as a number with or without `k`, `M` or `G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bitrate(pub u64);

/// What is no bit rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a bit rate is a number of bits per second above 0, such as 2500000, 2500k, 2.5M or 10G")]
pub struct BadBitrate;

/// Past this no network is, and arithmetic is safe.
const BPS_MAX: f64 = 1e15;

impl FromStr for Bitrate {
    type Err = BadBitrate;

    fn from_str(text: &str) -> Result<Bitrate, BadBitrate> {
        let (digits, unit) = match text.char_indices().next_back() {
            Some((end, 'k' | 'K')) => (&text[..end], 1e3),
            Some((end, 'm' | 'M')) => (&text[..end], 1e6),
            Some((end, 'g' | 'G')) => (&text[..end], 1e9),
            _ => (text, 1.0),
        };
        let plain = digits
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'.' || b == b'_');
        let number: f64 = digits.replace('_', "").parse().map_err(|_| BadBitrate)?;
        let bps = (number * unit).round();
        if plain && (1.0..=BPS_MAX).contains(&bps) {
            Ok(Bitrate(bps as u64))
        } else {
            Err(BadBitrate)
        }
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")] {
            if self.0.is_multiple_of(unit) {
                return write!(f, "{}{name}", self.0 / unit);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Serialize for Bitrate {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bitrate {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Bitrate, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a bit rate such as 2500000, \"2500k\" or \"10G\""
        )]
        enum Written {
            Number(u64),
            Text(String),
        }
        let text = match Written::deserialize(input)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_rates_read_as_people_write_them() {
        let read = |text: &str| text.parse::<Bitrate>().map(|rate| rate.0);
        assert_eq!(read("2500000"), Ok(2_500_000));
        assert_eq!(read("2500k"), Ok(2_500_000));
        assert_eq!(read("2.5M"), Ok(2_500_000));
        assert_eq!(read("10G"), Ok(10_000_000_000));
        for bad in [
            "",
            "0",
            "k",
            "-1",
            "inf",
            "NaN",
            "1e9",
            "5 M",
            "1T",
            "99999999G",
        ] {
            assert_eq!(read(bad), Err(BadBitrate), "{bad}");
        }
    }

    #[test]
    fn they_are_written_with_the_largest_whole_unit() {
        for text in ["2500k", "6M", "10G", "1234"] {
            assert_eq!(
                text.parse::<Bitrate>().map(|rate| rate.to_string()),
                Ok(text.to_owned())
            );
        }
    }
}
