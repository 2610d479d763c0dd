//! The one duration notation of every document: `1h30m`, `500ms`, `2s`. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Custom resources allow 16; the shortest form of what they allow may be one longer.
const MAX_LENGTH: usize = 20;
const MAX_MILLIS: u64 = 99_999 * 3_600_000;

/// A span of time with millisecond resolution, written as in `1h30m` or `500ms`.
///
/// Accepts one to four groups of a number of at most five digits and one of the units `h`, `m`, `s`, `ms`, at most 20
/// characters in all and at most `99999h` together. Written back in its shortest form.
///
/// ```
/// let duration: valerix_policy::Duration = "1m30s".parse()?;
/// assert_eq!(duration.as_millis(), 90_000);
/// assert_eq!(duration.to_string(), "1m30s");
/// assert!("1.5s".parse::<valerix_policy::Duration>().is_err());
/// # Ok::<(), valerix_policy::InvalidDuration>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    millis: u64,
}

/// Why a text is not a [`Duration`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid duration {text:?}: write one to four numbers of at most five digits, each with a unit h, m, s or ms, such as 500ms or 1m30s"
)]
pub struct InvalidDuration {
    /// The text, cut to 32 characters.
    pub text: String,
}

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self { millis: 0 };

    /// A duration of `millis` milliseconds; more than `99999h` becomes `99999h`.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self {
            millis: if millis > MAX_MILLIS { MAX_MILLIS } else { millis },
        }
    }

    /// A duration of `seconds` seconds; more than `99999h` becomes `99999h`.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self::from_millis(seconds.saturating_mul(1_000))
    }

    /// The length in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.millis
    }

    /// The same span for `std` and tokio.
    #[must_use]
    pub const fn get(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.millis)
    }

    /// Whether the span is empty.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.millis == 0
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.get()
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| InvalidDuration {
            text: text.chars().take(32).collect(),
        })
    }
}

fn parse(text: &str) -> Option<Duration> {
    if text.is_empty() || text.len() > MAX_LENGTH {
        return None;
    }
    let mut rest = text.as_bytes();
    let mut millis = 0_u64;
    let mut groups = 0;
    while !rest.is_empty() {
        groups += 1;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || digits > 5 || groups > 4 {
            return None;
        }
        let (number, after) = rest.split_at(digits);
        let number = number.iter().fold(0_u64, |sum, byte| sum * 10 + u64::from(byte - b'0'));
        let (unit, length) = match after {
            [b'm', b's', ..] => (1, 2),
            [b'h', ..] => (3_600_000, 1),
            [b'm', ..] => (60_000, 1),
            [b's', ..] => (1_000, 1),
            _ => return None,
        };
        millis += number * unit;
        rest = &after[length..];
    }
    (millis <= MAX_MILLIS).then_some(Duration { millis })
}

impl fmt::Display for Duration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millis == 0 {
            return formatter.write_str("0s");
        }
        let parts = [
            (self.millis / 3_600_000, "h"),
            (self.millis / 60_000 % 60, "m"),
            (self.millis / 1_000 % 60, "s"),
            (self.millis % 1_000, "ms"),
        ];
        for (number, unit) in parts {
            if number > 0 {
                write!(formatter, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Duration;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a duration such as \"500ms\" or \"1m30s\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$", "maxLength": MAX_LENGTH})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("2s", 2_000),
            ("3m", 180_000),
            ("1h", 3_600_000),
            ("1h2m3s4ms", 3_723_004),
            ("1s1s", 2_000),
            ("99999h", MAX_MILLIS),
        ] {
            assert_eq!(text.parse::<Duration>().unwrap().as_millis(), millis, "{text}");
        }
    }

    #[test]
    fn refuses_what_the_pattern_refuses() {
        for text in [
            "",
            "5",
            "s",
            "1.5s",
            "-1s",
            " 1s",
            "1s ",
            "123456s",
            "1d",
            "1s1s1s1s1s",
            "1S",
            "99999h1ms",
            "1µs",
        ] {
            let error = text.parse::<Duration>().unwrap_err();
            assert!(error.to_string().contains("such as 500ms"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn text_and_value_agree(millis in 0..=MAX_MILLIS) {
            let duration = Duration::from_millis(millis);
            let text = duration.to_string();
            prop_assert_eq!(text.parse::<Duration>().unwrap(), duration);
        }

        #[test]
        fn any_text_is_answered(text in ".{0,20}") {
            let _ = text.parse::<Duration>();
        }
    }
}
