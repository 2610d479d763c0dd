//! The header `Idempotency-Key`, and the refusals that go with it. Pure.

use http::{HeaderMap, HeaderName};

#[cfg(feature = "axum")]
use crate::problem::Problem;

/// The header of the IETF draft.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY: usize = 255;

/// The header is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "header idempotency-key {problem}: send one quoted string of 1 to 255 visible ASCII characters, such as a UUID"
)]
pub struct InvalidKey {
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The key of a request: a quoted string as the draft has it, or a bare token as others send it.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use valerix_resilience::{IDEMPOTENCY_KEY, InvalidKey, key_from_headers};
///
/// let mut headers = HeaderMap::new();
/// headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("\"8e03978e\""));
/// assert_eq!(key_from_headers(&headers)?.as_deref(), Some("8e03978e"));
/// # Ok::<(), InvalidKey>(())
/// ```
///
/// # Errors
/// When there are several, or it is empty, too long or of other characters.
pub fn key_from_headers(headers: &HeaderMap) -> Result<Option<String>, InvalidKey> {
    let invalid = |problem| Err(InvalidKey { problem });
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return invalid("was sent twice");
    }
    let Ok(text) = value.to_str() else {
        return invalid("has other than ASCII characters");
    };
    let text = text.trim();
    let key = match text.strip_prefix('"') {
        Some(rest) => match rest.strip_suffix('"') {
            Some(inner) => match unescape(inner) {
                Some(inner) => inner,
                None => return invalid("has a stray quote or backslash"),
            },
            None => return invalid("has no closing quote"),
        },
        None if text.bytes().any(|byte| matches!(byte, b'"' | b',' | b';' | b' ')) => {
            return invalid("is neither a quoted string nor a token");
        }
        None => text.to_owned(),
    };
    match key.len() {
        0 => invalid("is empty"),
        length if length > MAX_KEY => invalid("is longer than 255 characters"),
        _ if !key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') => invalid("has control characters"),
        _ => Ok(Some(key)),
    }
}

/// The inside of a structured field string: `\"` and `\\` are the only escapes, a bare quote is none.
fn unescape(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => match characters.next() {
                Some(escaped @ ('"' | '\\')) => text.push(escaped),
                _ => return None,
            },
            other => text.push(other),
        }
    }
    Some(text)
}

/// Checks that a request has a good key.
#[cfg(feature = "axum")]
pub(crate) fn required(headers: &HeaderMap) -> Result<(), Problem> {
    match key_from_headers(headers) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(refusals::missing()),
        Err(error) => Err(refusals::invalid(&error)),
    }
}

/// The refusals of the draft, as problems.
pub mod refusals {
    use std::time::Duration;

    use http::StatusCode;

    use super::InvalidKey;
    use crate::problem::Problem;

    /// 400: the route asks for a key and there is none.
    #[must_use]
    pub fn missing() -> Problem {
        let detail = "this route needs the header Idempotency-Key: send a fresh UUID, and the same one when you repeat the request";
        Problem::new(StatusCode::BAD_REQUEST, "idempotency-key-missing", detail)
    }

    /// 400: the header is no key.
    #[must_use]
    pub fn invalid(error: &InvalidKey) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "idempotency-key-invalid", error.to_string())
    }

    /// 409: the first request with this key has not ended.
    #[must_use]
    pub fn in_progress() -> Problem {
        let detail = "a request with this Idempotency-Key is under way: repeat it later with the same key";
        Problem::new(StatusCode::CONFLICT, "idempotency-in-progress", detail).retry_after(Duration::from_secs(1))
    }

    /// 422: the key was used for another request.
    #[must_use]
    pub fn mismatch() -> Problem {
        let detail = "this Idempotency-Key was used with another request: repeat a request with the very same method, \
                      path, query and body (JSON may be in another order), and use a fresh key for each new one";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", detail)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn key_of(value: &str) -> Result<Option<String>, InvalidKey> {
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(value).unwrap());
        key_from_headers(&headers)
    }

    #[test]
    fn reads_a_quoted_string_or_a_token() {
        assert_eq!(key_from_headers(&HeaderMap::new()), Ok(None));
        assert_eq!(key_of("\"8e03978e-40d5\"").unwrap().unwrap(), "8e03978e-40d5");
        assert_eq!(key_of("8e03978e-40d5").unwrap().unwrap(), "8e03978e-40d5");
        assert_eq!(key_of(r#""a\"b\\c""#).unwrap().unwrap(), r#"a"b\c"#);
    }

    #[test]
    fn refuses_all_else() {
        let long = "x".repeat(256);
        for value in [
            "",
            "\"\"",
            "\"a",
            "a\"",
            "a b",
            "\"a\", \"b\"",
            "\"a\"b\"",
            r#""a\b""#,
            long.as_str(),
        ] {
            assert!(key_of(value).is_err(), "{value}");
        }
        let mut twice = HeaderMap::new();
        twice.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        twice.append(IDEMPOTENCY_KEY, HeaderValue::from_static("b"));
        assert!(key_from_headers(&twice).is_err());
    }

    proptest! {
        #[test]
        fn any_header_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert(IDEMPOTENCY_KEY, value);
                if let Ok(Some(key)) = key_from_headers(&headers) {
                    prop_assert!((1..=255).contains(&key.len()));
                }
            }
        }
    }
}
