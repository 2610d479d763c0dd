//! L4: is a dump that is whole also believable? Pure.
//!
//! In: what a dump holds, the policy's minimum, the size of the last stored one. Out: nothing, or why it is refused.

use valerix_crds::Minimum;

/// Tables that a dump must hold when the policy does not say.
pub const DEFAULT_TABLES: u32 = 1;
/// How much smaller a dump may be than the last stored one when the policy does not say. Unit: percent.
pub const DEFAULT_MAX_SHRINK_PERCENT: u32 = 50;

/// A dump that is whole and yet not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Too few tables: an empty or a wrong database.
    #[error(
        "{label}: the dump holds {tables} tables and at least {minimum} are expected: is it the right database? (databases[].minimum.tables)"
    )]
    TooFewTables {
        /// The database.
        label: String,
        /// Tables in the dump.
        tables: u64,
        /// Tables that are expected.
        minimum: u32,
    },
    /// Much smaller than the last one.
    #[error(
        "{label}: the dump has {bytes} bytes, the last stored one had {previous}: more than {max_shrink_percent} % smaller (raise databases[].minimum.maxShrinkPercent if that is right)"
    )]
    Shrunk {
        /// The database.
        label: String,
        /// Size of the dump.
        bytes: u64,
        /// Size of the last stored dump.
        previous: u64,
        /// What is allowed.
        max_shrink_percent: u32,
    },
}

/// Refuses a dump with too few tables or one that is much smaller than the last stored one.
///
/// # Errors
/// Why it is refused, with the field that says otherwise.
pub fn check(
    label: &str,
    tables: u64,
    bytes: u64,
    minimum: Option<&Minimum>,
    previous: Option<u64>,
) -> Result<(), Error> {
    let least = minimum.and_then(|minimum| minimum.tables).unwrap_or(DEFAULT_TABLES);
    if tables < u64::from(least) {
        return Err(Error::TooFewTables {
            label: label.to_owned(),
            tables,
            minimum: least,
        });
    }
    let max_shrink_percent = minimum
        .and_then(|minimum| minimum.max_shrink_percent)
        .unwrap_or(DEFAULT_MAX_SHRINK_PERCENT);
    match previous {
        Some(previous)
            if u128::from(bytes) * 100
                < u128::from(previous) * u128::from(100_u32.saturating_sub(max_shrink_percent)) =>
        {
            Err(Error::Shrunk {
                label: label.to_owned(),
                bytes,
                previous,
                max_shrink_percent,
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_shrunken_dumps_are_refused() {
        let minimum = |tables, max_shrink_percent| Minimum {
            tables,
            max_shrink_percent,
        };
        let cases = [
            (1, 100, None, None, true),
            (0, 100, None, None, false),
            (0, 100, Some(minimum(Some(0), None)), None, true),
            (4, 100, Some(minimum(Some(5), None)), None, false),
            (1, 50, None, Some(100), true),
            (1, 49, None, Some(100), false),
            (1, 10, Some(minimum(None, Some(90))), Some(100), true),
            (1, 9, Some(minimum(None, Some(90))), Some(100), false),
            (1, 0, Some(minimum(None, Some(100))), Some(u64::MAX), true),
            (1, 200, None, Some(100), true),
        ];
        for (tables, bytes, minimum, previous, accepted) in cases {
            let result = check("databases[0] x", tables, bytes, minimum.as_ref(), previous);
            assert_eq!(
                result.is_ok(),
                accepted,
                "{tables} {bytes} {minimum:?} {previous:?}: {result:?}"
            );
        }
    }
}
