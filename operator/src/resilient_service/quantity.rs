//! Kubernetes quantities: compared, and written as the API server writes them, so that `1000m` is no drift from `1`. Pure.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::cmp::Ordering;

/// Decimal suffixes with their exponent, the largest first.
const DECIMAL: [(&str, i32); 10] = [
    ("E", 18),
    ("P", 15),
    ("T", 12),
    ("G", 9),
    ("M", 6),
    ("k", 3),
    ("", 0),
    ("m", -3),
    ("u", -6),
    ("n", -9),
];
/// Binary suffixes with their power of 1024, the largest first.
const BINARY: [(&str, u32); 6] = [("Ei", 6), ("Pi", 5), ("Ti", 4), ("Gi", 3), ("Mi", 2), ("Ki", 1)];
/// Billionths of one: what Kubernetes counts in.
const ONE: i128 = 1_000_000_000;
const THOUSANDTH: i128 = ONE / 1000;

/// How a quantity is written, which the API server keeps as far as the number allows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// With a suffix as in `10M`.
    Decimal,
    /// With a suffix as in `10Mi`.
    Binary,
    /// With an exponent as in `10e6`.
    Exponent,
}

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
    let text = parse(&quantity.0).and_then(|(value, form)| {
        let down = value.div_euclid(THOUSANDTH) * THOUSANDTH;
        let value = if down < value { down + THOUSANDTH } else { value };
        render(value, form)
    });
    Quantity(text.unwrap_or_else(|| quantity.0.clone()))
}

/// The same quantity as the API server writes it; as it is where it cannot be read.
pub fn canonical(quantity: &Quantity) -> Quantity {
    let text = parse(&quantity.0).and_then(|(value, form)| render(value, form));
    Quantity(text.unwrap_or_else(|| quantity.0.clone()))
}

fn render(value: i128, form: Form) -> Option<String> {
    // Less than the smallest binary unit is written in decimal, and so is what is no multiple of it.
    if form == Form::Binary && value >= 1024 * ONE {
        let of_unit = |power: u32| value % (1024_i128.pow(power) * ONE) == 0;
        if let Some((suffix, power)) = BINARY.iter().find(|(_, power)| of_unit(*power)) {
            return Some(format!("{}{suffix}", value / ONE / 1024_i128.pow(*power)));
        }
    }
    if value == 0 {
        return Some("0".to_owned());
    }
    DECIMAL.iter().find_map(|(suffix, exponent)| {
        let unit = unit(*exponent)?;
        (value % unit == 0).then(|| match form {
            Form::Exponent if *exponent != 0 => format!("{}e{exponent}", value / unit),
            _ => format!("{}{suffix}", value / unit),
        })
    })
}

/// Billionths of one in ten to the power of `exponent`; none if that is less than one of them.
fn unit(exponent: i32) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent + 9).ok()?)
}

/// Billionths, rounded up, and how they are written.
fn parse(text: &str) -> Option<(i128, Form)> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.');
    let (number, suffix) = text.split_at(digits.unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if fraction.len() > 9 || whole.len() > 19 {
        return None;
    }
    let value = format!("{whole}{fraction:0<9}").parse::<i128>().ok()?;
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((value.checked_mul(1024_i128.pow(*power))?, Form::Binary));
    }
    let (exponent, form) = match DECIMAL.iter().find(|(name, _)| *name == suffix) {
        Some((_, exponent)) => (*exponent, Form::Decimal),
        None => (suffix.strip_prefix(['e', 'E'])?.parse().ok()?, Form::Exponent),
    };
    let scale = 10_i128.checked_pow(i32::unsigned_abs(exponent))?;
    let value = if exponent < 0 {
        (value + scale - 1) / scale
    } else {
        value.checked_mul(scale)?
    };
    Some((value, form))
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
            ("10E2", "1e3"),
            ("5e-1", "500e-3"),
            ("1000e0", "1e3"),
            ("7e0", "7"),
            ("1E", "1E"),
            (".5", "500m"),
            ("1.", "1"),
            ("0.0000015", "1500n"),
            ("1000m0", "1000m0"),
            (".", "."),
            ("+1000m", "1"),
            ("1000000000000000", "1P"),
            ("9223372036854775807", "9223372036854775807"),
            ("0000000000000000000001", "1"),
            ("0.5000000000Gi", "512Mi"),
            ("2.9296875Ki", "3k"),
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
        assert_eq!(compared("1e3", "1k"), Some(Ordering::Equal));
        assert_eq!(compared("many", "1"), None);
    }
}
