//! The one duration type of the API: Kubernetes' Gateway API form, for example `1m30s` or `500ms`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, str::FromStr};

/// What a valid duration looks like; the API server checks the same expression.
pub const DURATION_PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// Whether a text is a duration, for a rule that reads it as one: of any other the API server would say `type conversion
/// error`, and nothing of the field or the remedy.
macro_rules! is_duration {
    ($field:literal) => {
        concat!($field, ".matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$')")
    };
}
pub(crate) use is_duration;

/// A length of time as the user wrote it, for example `30s`, `1m30s` or `500ms`.
///
/// The text is kept, so that what is read back is what was written. [`Duration::value`] gives the parsed length.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

/// The text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDuration {
    /// The text that was given.
    pub value: String,
}

impl fmt::Display for InvalidDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}` is not a duration; write whole numbers with h, m, s or ms, for example 1m30s or 500ms",
            self.value
        )
    }
}

impl std::error::Error for InvalidDuration {}

impl Duration {
    /// A duration of whole seconds.
    pub fn seconds(seconds: u64) -> Self {
        Self(format!("{seconds}s"))
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The length. Objects from the API server always parse; a hand-made one may not.
    pub fn value(&self) -> Result<std::time::Duration, InvalidDuration> {
        parse(&self.0).ok_or_else(|| InvalidDuration { value: self.0.clone() })
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
            .map(|_| Self(text.to_owned()))
            .ok_or_else(|| InvalidDuration { value: text.to_owned() })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn parse(text: &str) -> Option<std::time::Duration> {
    let mut rest = text;
    let mut total = 0_u64;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 5 || parts == 4 {
            return None;
        }
        let (number, tail) = rest.split_at(digits);
        let (unit, milliseconds) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
            .into_iter()
            .find(|(unit, _)| tail.starts_with(unit))?;
        total += number.parse::<u64>().ok()? * milliseconds;
        rest = &tail[unit.len()..];
        parts += 1;
    }
    (parts > 0).then(|| std::time::Duration::from_millis(total))
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": DURATION_PATTERN, "maxLength": 16})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_with_units_add_up() {
        for (text, milliseconds) in [
            ("1m30s", 90_000),
            ("500ms", 500),
            ("2h", 7_200_000),
            ("0s", 0),
            ("1s1ms", 1_001),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration.value().unwrap().as_millis(), milliseconds, "{text}");
            assert_eq!(duration.to_string(), text);
        }
    }

    #[test]
    fn the_rules_know_the_same_pattern() {
        assert_eq!(is_duration!("self"), format!("self.matches('{DURATION_PATTERN}')"));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for text in ["", "1", "s", "-1s", "1.5s", "123456s", "1s1s1s1s1s", "1d", "1 s"] {
            let error = text.parse::<Duration>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{text}`")), "{error}");
        }
    }
}
