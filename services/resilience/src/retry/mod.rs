//! When an attempt is repeated, after which wait, and how often in all.

mod budget;

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};

pub use self::budget::RetryBudget;

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

/// Why an answer is worth another attempt; none when it is final.
pub(crate) fn repeat_reason(status: StatusCode, headers: &HeaderMap) -> Option<&'static str> {
    if headers.get(RETRY_HEADER).is_some_and(|value| value == "no") {
        return None;
    }
    match status {
        StatusCode::BAD_GATEWAY => Some("502"),
        StatusCode::SERVICE_UNAVAILABLE => Some("503"),
        StatusCode::GATEWAY_TIMEOUT => Some("504"),
        _ => None,
    }
}

/// `Retry-After` as a time from now: seconds, or an HTTP date against the answer's own `Date`.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let at = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    // The answer's clock, not ours: two clocks need not agree.
    let date = chrono::DateTime::parse_from_rfc2822(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    (at - date).to_std().ok()
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

    #[test]
    fn reads_retry_after_in_both_forms() {
        let headers = |pairs: &[(header::HeaderName, &'static str)]| {
            pairs
                .iter()
                .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
                .collect::<HeaderMap>()
        };
        assert_eq!(
            retry_after(&headers(&[(header::RETRY_AFTER, "7")])),
            Some(Duration::from_secs(7))
        );
        let dated = headers(&[
            (header::RETRY_AFTER, "Fri, 21 Nov 2025 10:00:05 GMT"),
            (header::DATE, "Fri, 21 Nov 2025 10:00:00 GMT"),
        ]);
        assert_eq!(retry_after(&dated), Some(Duration::from_secs(5)));
        for bad in ["", "-1", "soon", "99999999999999999999"] {
            assert_eq!(retry_after(&headers(&[(header::RETRY_AFTER, bad)])), None, "{bad}");
        }
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
            if let Some(value) = headers.get(header::RETRY_AFTER).cloned() {
                headers.insert(header::DATE, value);
                proptest::prop_assert!(retry_after(&headers).is_none_or(|time| time.is_zero() || after.trim().parse::<u32>().is_ok()));
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
