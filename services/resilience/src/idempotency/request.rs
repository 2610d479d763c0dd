//! Who asks for what under which key. Pure.

use http::Method;
use sha2::{Digest, Sha256};

use crate::fingerprint::comparable_body;

/// The largest body of an idempotent request.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A request as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotentRequest {
    pub(super) scope: String,
    pub(super) key: String,
    pub(super) fingerprint: [u8; 32],
    /// What versions before this one kept of the same request.
    raw: [u8; 32],
}

impl IdempotentRequest {
    /// A request of `principal` for `route` (its pattern, so that a key is bound to it) at `target`, the path with its
    /// query ([`http::uri::PathAndQuery`]), with `body`. Bodies of JSON are the same whatever the order of their members and their
    /// spacing; others when their bytes are. `1` and `1.0` are two ([`comparable_body`]).
    ///
    /// ```
    /// use http::Method;
    /// use valerix_resilience::idempotency::IdempotentRequest;
    ///
    /// let request = IdempotentRequest::new("k-1", "anonymous", &Method::POST, "/payments", "/payments", b"{}");
    /// let same = IdempotentRequest::new("k-1", "anonymous", &Method::POST, "/payments", "/payments", b"{ }");
    /// assert!(request.is_like(&same));
    /// ```
    #[must_use]
    pub fn new(key: &str, principal: &str, method: &Method, route: &str, target: &str, body: &[u8]) -> Self {
        let fingerprint = |body: &[u8]| {
            let mut hash = Sha256::new();
            // With their lengths, so that no two different requests run together into the same bytes.
            for part in [
                method.as_str().as_bytes(),
                target.as_bytes(),
                principal.as_bytes(),
                body,
            ] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            hash.finalize().into()
        };
        let scope = format!("{principal} {method} {route}");
        Self {
            scope,
            key: key.to_owned(),
            fingerprint: fingerprint(&comparable_body(body)),
            raw: fingerprint(body),
        }
    }

    /// Whether both ask for the same.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.scope == other.scope && self.key == other.key && self.fingerprint == other.fingerprint
    }

    /// Whether `stored` is the fingerprint of this request, as this version or one before it has kept it.
    pub(super) fn is_known_by(&self, stored: &[u8]) -> bool {
        stored == self.fingerprint || stored == self.raw
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_covers_each_part() {
        let base = IdempotentRequest::new("k", "p", &Method::POST, "/a", "/a", b"body");
        for other in [
            IdempotentRequest::new("k", "p", &Method::PUT, "/a", "/a", b"body"),
            IdempotentRequest::new("k", "p", &Method::POST, "/a", "/ab", b"ody"),
            IdempotentRequest::new("k", "q", &Method::POST, "/a", "/a", b"body"),
            IdempotentRequest::new("k", "p", &Method::POST, "/a", "/a?source=app", b"body"),
            IdempotentRequest::new("k", "p", &Method::POST, "/a", "/a", b"bodY"),
        ] {
            assert_ne!(base.fingerprint, other.fingerprint);
        }
    }
    #[test]
    fn the_same_json_is_the_same_request_however_it_is_written() {
        let request = |body: &str| IdempotentRequest::new("k", "p", &Method::POST, "/a", "/a", body.as_bytes());
        let base = request(r#"{"a": 1, "b": 2}"#);
        assert!(base.is_like(&request(r#"{"b":2,"a":1}"#)));
        assert!(!base.is_like(&request(r#"{"a": 1.0, "b": 2}"#)));
        // A replica of the version before has kept the bytes as they came.
        assert!(base.is_known_by(&base.raw) && base.raw != base.fingerprint);
    }
}
