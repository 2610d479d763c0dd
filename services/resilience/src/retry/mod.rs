//! When an attempt is repeated, after which wait, and how often in all.

mod budget;
mod series;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode, header};

pub use self::budget::RetryBudget;
pub(crate) use self::series::{Next, Series};

use crate::problem::RETRY_HEADER;
use crate::random::Random;

/// The wait before repetition `n` (from 1): full jitter, U[0, min(max, base * 2^(n-1))].
pub(crate) fn backoff(settings: valerix_policy::Backoff, repetition: u32, random: &Random) -> Duration {
    let ceiling = settings
        .base
        .as_millis()
        .saturating_mul(1 << repetition.saturating_sub(1).min(32))
        .min(settings.max.as_millis());
    Duration::from_micros(random.up_to(ceiling.saturating_mul(1_000)))
}

/// Whether a request may be sent twice: a safe method, or a key on a route that the target declares idempotent.
pub(crate) fn is_repeatable(method: &Method, has_key: bool, declared_route: bool) -> bool {
    method.is_safe() || (has_key && declared_route)
}

/// Whether an answer says that it is not to be repeated.
pub(crate) fn is_final(headers: &HeaderMap) -> bool {
    headers.get(RETRY_HEADER).is_some_and(|value| value == "no")
}

/// Why an answer of this status is worth another attempt; none when it is not.
pub(crate) fn reason(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::BAD_GATEWAY => Some("502"),
        StatusCode::SERVICE_UNAVAILABLE => Some("503"),
        StatusCode::GATEWAY_TIMEOUT => Some("504"),
        _ => None,
    }
}

/// Why an answer is worth another attempt; none when it is final.
pub(crate) fn repeat_reason(status: StatusCode, headers: &HeaderMap) -> Option<&'static str> {
    reason(status).filter(|_| !is_final(headers))
}

/// The time from now for which an answer asks to be left alone, by the longest `Retry-After` that it has; none where it
/// has none that says a time to come.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let asked = headers.get_all(header::RETRY_AFTER).iter();
    asked
        .filter_map(|value| wait(value.to_str().ok()?.trim(), headers))
        .max()
}

/// Seconds, of which no number is too large, or an HTTP date in any of its three forms: against the answer's own `Date`
/// where it has one, because two clocks need not agree, else against this clock.
fn wait(text: &str, headers: &HeaderMap) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok());
    at.duration_since(date.unwrap_or_else(SystemTime::now)).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn waits_stay_below_the_doubling_ceiling() {
        let random = Random::seeded(1);
        let settings = valerix_policy::Backoff::default();
        for (repetition, ceiling) in [(1, 100), (2, 200), (3, 400), (10, 2_000), (60, 2_000)] {
            let waits: Vec<_> = (0..1_000).map(|_| backoff(settings, repetition, &random)).collect();
            assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(ceiling)));
            assert!(waits.iter().any(|wait| *wait > Duration::from_millis(ceiling * 9 / 10)));
            assert!(waits.iter().any(|wait| *wait < Duration::from_millis(ceiling / 10)));
        }
    }

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn reads_retry_after_as_it_is_written() {
        use header::RETRY_AFTER;
        const DATE: (header::HeaderName, &str) = (header::DATE, "Fri, 21 Nov 2025 10:00:00 GMT");
        for (text, seconds) in [
            ("0", Some(0)),
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("4294967295", Some(4_294_967_295)),
            ("4294967296", Some(4_294_967_296)),
            ("99999999999", Some(99_999_999_999)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Fri, 21 Nov 2025 10:00:05 GMT", Some(5)),
            ("Friday, 21-Nov-25 10:00:05 GMT", Some(5)),
            ("Fri Nov 21 10:00:05 2025", Some(5)),
            ("Fri, 21 Nov 2025 09:59:59 GMT", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("120.5", None),
            ("soon", None),
        ] {
            let found = retry_after(&headers(&[(RETRY_AFTER, text), DATE]));
            assert_eq!(found, seconds.map(Duration::from_secs), "{text:?}");
        }
        let two = headers(&[(RETRY_AFTER, "1"), (RETRY_AFTER, "100"), (RETRY_AFTER, "soon")]);
        assert_eq!(retry_after(&two), Some(Duration::from_secs(100)));
    }

    #[test]
    fn a_date_without_one_beside_it_counts_from_this_clock() {
        let at = SystemTime::now() + Duration::from_secs(3_600);
        for beside in [None, Some((header::DATE, "yesterday"))] {
            let date = httpdate::fmt_http_date(at);
            let mut pairs = vec![(header::RETRY_AFTER, date.as_str())];
            pairs.extend(beside);
            let found = retry_after(&headers(&pairs)).unwrap().as_secs();
            assert!((3_500..=3_600).contains(&found), "{found}");
        }
        let past = headers(&[(header::RETRY_AFTER, "Fri, 21 Nov 2014 10:00:00 GMT")]);
        assert_eq!(retry_after(&past), None);
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(after in "[ -~]{0,40}|[A-Z][a-z]{2}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{1,6} [0-9:]{5,8} (GMT|[+-][0-9]{1,6})", date in "[ -~]{0,40}") {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::RETRY_AFTER, &after), (header::DATE, &date)] {
                if let Ok(value) = HeaderValue::from_str(value) {
                    headers.insert(name, value);
                }
            }
            let _ = retry_after(&headers);
            if httpdate::parse_http_date(after.trim()).is_ok() {
                headers.insert(header::DATE, headers[header::RETRY_AFTER].clone());
                proptest::prop_assert_eq!(retry_after(&headers), Some(Duration::ZERO));
            }
        }
    }

    #[test]
    fn only_safe_or_declared_requests_repeat() {
        assert!(is_repeatable(&Method::GET, false, false));
        assert!(is_repeatable(&Method::POST, true, true));
        assert!(!is_repeatable(&Method::POST, false, true));
        assert!(!is_repeatable(&Method::POST, true, false));
        assert!(!is_repeatable(&Method::PUT, false, true));
    }
}
