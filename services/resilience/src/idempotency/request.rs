//! Who asks for what under which key. Pure.

use http::{HeaderMap, HeaderName, Method};
use sha2::{Digest, Sha256};

/// The header of the IETF draft.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The largest body of an idempotent request.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
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

/// A request as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotentRequest {
    pub(super) scope: String,
    pub(super) key: String,
    pub(super) fingerprint: [u8; 32],
}

impl IdempotentRequest {
    /// A request of `principal` for `route` (its pattern, so that a key is bound to it) at `path` with `body`.
    ///
    /// ```
    /// use http::Method;
    /// use valerix_resilience::idempotency::IdempotentRequest;
    ///
    /// let request = IdempotentRequest::new("k-1", "anonymous", &Method::POST, "/payments", "/payments", b"{}");
    /// let same = IdempotentRequest::new("k-1", "anonymous", &Method::POST, "/payments", "/payments", b"{}");
    /// assert_eq!(request, same);
    /// ```
    #[must_use]
    pub fn new(key: &str, principal: &str, method: &Method, route: &str, path: &str, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        // With their lengths, so that no two different requests run together into the same bytes.
        for part in [method.as_str().as_bytes(), path.as_bytes(), principal.as_bytes(), body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let scope = format!("{} {} {}", principal, method, route);
        Self {
            scope,
            key: key.to_owned(),
            fingerprint: hash.finalize().into(),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The number under which the advisory lock of this key is taken.
    pub(super) fn lock_number(&self) -> i64 {
        let mut hash = Sha256::new();
        hash.update((self.scope.len() as u64).to_be_bytes());
        hash.update(self.scope.as_bytes());
        hash.update(self.key.as_bytes());
        let digest = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        i64::from_be_bytes(first)
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
        Problem::new(
            "idempotency-key-missing",
            StatusCode::BAD_REQUEST,
            "Idempotency-Key is missing",
            detail,
        )
    }

    /// 400: the header is no key.
    #[must_use]
    pub fn invalid(error: &InvalidKey) -> Problem {
        Problem::new(
            "idempotency-key-invalid",
            StatusCode::BAD_REQUEST,
            "Idempotency-Key is invalid",
            error.to_string(),
        )
    }

    /// 409: the first request with this key has not ended.
    #[must_use]
    pub fn in_progress() -> Problem {
        let detail = "a request with this Idempotency-Key is under way: repeat it later with the same key";
        Problem::new(
            "idempotency-in-progress",
            StatusCode::CONFLICT,
            "Request in progress",
            detail,
        )
        .retry_after(Duration::from_secs(1))
    }

    /// 422: the key was used for another request.
    #[must_use]
    pub fn mismatch() -> Problem {
        let detail = "this Idempotency-Key was used with another request: use a fresh key for each new request";
        Problem::new(
            "idempotency-key-reused",
            StatusCode::UNPROCESSABLE_ENTITY,
            "Idempotency-Key was reused",
            detail,
        )
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

    #[test]
    fn the_fingerprint_covers_each_part() {
        let base = IdempotentRequest::new("k", "p", &Method::POST, "/a", "/a", b"body");
        for other in [
            IdempotentRequest::new("k", "p", &Method::PUT, "/a", "/a", b"body"),
            IdempotentRequest::new("k", "p", &Method::POST, "/a", "/ab", b"ody"),
            IdempotentRequest::new("k", "q", &Method::POST, "/a", "/a", b"body"),
            IdempotentRequest::new("k", "p", &Method::POST, "/a", "/a", b"bodY"),
        ] {
            assert_ne!(base.fingerprint, other.fingerprint);
        }
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
