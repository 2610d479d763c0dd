//! Kubernetes quantities: compared, and written as the API server writes them, so that `1000m` is no drift from `1`. Pure.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::cmp::Ordering;

/// Decimal suffixes with their exponent, the largest first.
const DECIMAL: [(&str, u32); 9] = [
    ("E", 18),
    ("P", 15),
    ("T", 12),
    ("G", 9),
    ("M", 6),
    ("k", 3),
    ("", 0),
    // Below one, counted in billionths.
    ("m", 6),
    ("u", 3),
];
/// Binary suffixes with their power of 1024, the largest first.
const BINARY: [(&str, u32); 6] = [("Ei", 6), ("Pi", 5), ("Ti", 4), ("Gi", 3), ("Mi", 2), ("Ki", 1)];
/// Billionths of one: what Kubernetes counts in.
const ONE: i128 = 1_000_000_000;
const THOUSANDTH: i128 = ONE / 1000;

/// Which of two is more; none if one of them cannot be read.
pub fn compare(one: &Quantity, other: &Quantity) -> Option<Ordering> {
    Some(parse(&one.0)?.0.cmp(&parse(&other.0)?.0))
}

/// How much it is, as a whole number, rounded down; none if it cannot be read.
pub fn whole(quantity: &Quantity) -> Option<i128> {
    Some(parse(&quantity.0)?.0 / ONE)
}

/// Whether the API server can count so much: what is more it cuts to the largest number that it has.
pub fn is_countable(quantity: &Quantity) -> bool {
    parse(&quantity.0).is_some_and(|(value, _)| value <= i128::from(i64::MAX) * ONE)
}

/// Whether it is a whole number, and a multiple of `unit`; not if one of them cannot be read, or `unit` is nothing.
pub fn is_multiple(quantity: &Quantity, unit: Option<&Quantity>) -> bool {
    let unit = unit.map_or(Some(ONE), |unit| parse(&unit.0).map(|(value, _)| value));
    match (parse(&quantity.0), unit) {
        (Some((value, _)), Some(unit)) if unit > 0 => value % ONE == 0 && value % unit == 0,
        _ => false,
    }
}

/// What a container is given, as the API server writes it: in thousandths at the finest, rounded up.
pub fn canonical_resource(quantity: &Quantity) -> Quantity {
    let rounded =
        parse(&quantity.0).map(|(value, is_binary)| (value.div_euclid(THOUSANDTH) * THOUSANDTH, value, is_binary));
    let text = rounded.and_then(|(down, value, is_binary)| {
        let value = if down < value { down + THOUSANDTH } else { value };
        render(value, is_binary)
    });
    Quantity(text.unwrap_or_else(|| quantity.0.clone()))
}

/// The same quantity as the API server writes it; as it is where it cannot be read.
pub fn canonical(quantity: &Quantity) -> Quantity {
    let text = parse(&quantity.0).and_then(|(value, is_binary)| render(value, is_binary));
    Quantity(text.unwrap_or_else(|| quantity.0.clone()))
}

fn render(value: i128, is_binary: bool) -> Option<String> {
    // Less than the smallest binary unit is written in decimal, and so are fractions.
    if is_binary && value >= 1024 * ONE && value % ONE == 0 {
        let whole = value / ONE;
        let suffix = BINARY.iter().find(|(_, power)| whole % 1024_i128.pow(*power) == 0);
        return Some(match suffix {
            Some((suffix, power)) => format!("{}{suffix}", whole / 1024_i128.pow(*power)),
            None => whole.to_string(),
        });
    }
    if value == 0 {
        return Some("0".to_owned());
    }
    DECIMAL.iter().find_map(|(suffix, exponent)| {
        let unit = match *suffix {
            "m" | "u" => 10_i128.pow(*exponent),
            _ => ONE * 10_i128.pow(*exponent),
        };
        (value % unit == 0).then(|| format!("{}{suffix}", value / unit))
    })
}

/// Billionths, and whether the suffix is a binary one.
fn parse(text: &str) -> Option<(i128, bool)> {
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.');
    let (number, suffix) = text.split_at(digits.unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 || whole.len() > 15 {
        return None;
    }
    let fraction = format!("{fraction:0<9}");
    let value = whole.parse::<i128>().ok()?.checked_mul(ONE)? + fraction.parse::<i128>().ok()?;
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((value.checked_mul(1024_i128.pow(*power))?, true));
    }
    let (_, exponent) = DECIMAL.iter().find(|(name, _)| *name == suffix)?;
    Some(match suffix {
        "m" => (value / 1000, false),
        "u" => (value / 1_000_000, false),
        _ => (value.checked_mul(10_i128.pow(*exponent))?, false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_as_the_api_server_writes_them() {
        for (given, expected) in [
            ("1000m", "1"),
            ("100m", "100m"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1500m", "1500m"),
            ("1", "1"),
            ("0", "0"),
            ("2000", "2k"),
            ("64Mi", "64Mi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000Mi", "1000Mi"),
            ("1000M", "1G"),
            ("512", "512"),
            ("1e3", "1e3"),
        ] {
            assert_eq!(canonical(&Quantity(given.into())).0, expected, "{given}");
        }
    }

    #[test]
    fn a_quantity_is_a_whole_number_of_what_it_counts() {
        for (given, expected) in [
            ("64Mi", Some(67_108_864)),
            ("1500m", Some(1)),
            ("1k", Some(1000)),
            ("x", None),
        ] {
            assert_eq!(whole(&Quantity(given.into())), expected, "{given}");
        }
    }

    #[test]
    fn what_a_container_is_given_is_rounded_up_to_thousandths() {
        for (given, expected) in [
            ("0.0001", "1m"),
            ("0.0011", "2m"),
            ("1.5", "1500m"),
            ("0.0001Gi", "107374183m"),
            ("0", "0"),
            ("1.5Gi", "1536Mi"),
        ] {
            assert_eq!(canonical_resource(&Quantity(given.into())).0, expected, "{given}");
        }
    }

    #[test]
    fn quantities_of_two_kinds_are_compared_by_what_they_mean() {
        let compared = |one: &str, other: &str| compare(&Quantity(one.into()), &Quantity(other.into()));
        assert_eq!(compared("1Gi", "1024Mi"), Some(Ordering::Equal));
        assert_eq!(compared("1G", "1Gi"), Some(Ordering::Less));
        assert_eq!(compared("1500m", "1"), Some(Ordering::Greater));
        assert_eq!(compared("many", "1"), None);
    }
}
