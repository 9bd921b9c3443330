//! Short times as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use dataplane::limits::EGRESS_HOLD_MAX;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How long a packet may wait for others to share its send, written with `us` or `ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hold(pub Duration);

/// What is no such time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hold is a time of at most {} ms, such as 0, 250us or 1ms", EGRESS_HOLD_MAX.as_millis())]
pub struct BadHold;

impl FromStr for Hold {
    type Err = BadHold;

    fn from_str(text: &str) -> Result<Hold, BadHold> {
        let (digits, us) = match text.strip_suffix("us") {
            Some(digits) => (digits, 1),
            None => match text.strip_suffix("ms") {
                Some(digits) => (digits, 1_000),
                // Without a unit only nothing is unmistakable.
                None => (text, 0),
            },
        };
        let number: u32 = digits.trim_end().parse().map_err(|_| BadHold)?;
        let hold = Duration::from_micros(u64::from(number) * us);
        if (us == 0 && number > 0) || hold > EGRESS_HOLD_MAX {
            return Err(BadHold);
        }
        Ok(Hold(hold))
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_micros() {
            us if us.is_multiple_of(1_000) => write!(f, "{}ms", us / 1_000),
            us => write!(f, "{us}us"),
        }
    }
}

impl Serialize for Hold {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hold {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Hold, D::Error> {
        let text = String::deserialize(input)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for (text, us) in [("1ms", 1_000), ("10ms", 10_000), ("250us", 250), ("0ms", 0)] {
            let hold: Hold = text.parse().unwrap();
            assert_eq!((hold.0.as_micros(), hold.to_string().as_str()), (us, text));
        }
        assert_eq!("0".parse(), Ok(Hold(Duration::ZERO)));
        assert_eq!("2000us".parse::<Hold>().unwrap().to_string(), "2ms");
    }

    #[test]
    fn what_is_too_long_or_no_time_is_refused_with_a_sentence() {
        for text in [
            "11ms",
            "1",
            "1s",
            "ms",
            "-1ms",
            "1.5ms",
            "",
            "99999999999ms",
        ] {
            assert_eq!(text.parse::<Hold>(), Err(BadHold), "{text}");
        }
        assert_eq!(
            BadHold.to_string(),
            "a hold is a time of at most 10 ms, such as 0, 250us or 1ms"
        );
    }
}
