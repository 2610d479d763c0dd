//! Answers of the library itself, as `application/problem+json` (RFC 9457).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

/// The media type of every problem.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// On answers that no layer may retry: `no`.
pub const RETRY_HEADER: HeaderName = HeaderName::from_static("valerix-retry");
/// The last part of a problem's type, so that a client knows it from the head alone.
pub const PROBLEM_HEADER: HeaderName = HeaderName::from_static("valerix-problem");
/// On requests: how important they are, one of `Critical`, `Default`, `Sheddable` and `BestEffort`. Believed only as far
/// as the policy says (`inbound.concurrency.priorities.header`).
pub const PRIORITY_HEADER: HeaderName = HeaderName::from_static("valerix-priority");
/// On answers that a fault made: its type.
pub const FAULT_HEADER: HeaderName = HeaderName::from_static("valerix-fault");
const BASE: &str = "https://valerix.io/problems/";

/// A refusal with its reason.
///
/// ```
/// use valerix_resilience::{PROBLEM_HEADER, PROBLEM_JSON, Problem};
///
/// let problem = Problem::overloaded("try again").extension("target", "inventory");
/// assert_eq!(problem.headers()["content-type"], PROBLEM_JSON);
/// assert_eq!(problem.headers()[PROBLEM_HEADER], "overloaded");
/// assert!(problem.body().contains(r#""status":503"#));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// What clients key on.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The type in words.
    pub title: String,
    /// The HTTP status.
    #[serde(serialize_with = "status_number")]
    pub status: StatusCode,
    /// This occurrence in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Members of this type, such as `target`.
    #[serde(flatten)]
    pub extensions: Map<String, Value>,
    #[serde(skip)]
    retry_after: Option<Duration>,
    #[serde(skip)]
    is_final: bool,
    #[serde(skip)]
    kind: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn status_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem of the type `https://valerix.io/problems/<kind>`.
    #[must_use]
    pub fn new(kind: &'static str, status: StatusCode, title: &str, detail: impl Into<String>) -> Self {
        Self {
            problem_type: format!("{BASE}{kind}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            extensions: Map::new(),
            retry_after: None,
            is_final: false,
            kind,
        }
    }

    /// 503: this service takes no more requests at the moment.
    #[must_use]
    pub fn overloaded(detail: impl Into<String>) -> Self {
        Self::new("overloaded", StatusCode::SERVICE_UNAVAILABLE, "Overloaded", detail)
            .retry_after(Duration::from_secs(1))
            .never_retry()
    }

    /// 503: this service is going away; another replica may answer at once.
    #[must_use]
    pub fn draining() -> Self {
        let detail = "this replica is shutting down: send the request again";
        Self::new("draining", StatusCode::SERVICE_UNAVAILABLE, "Draining", detail).retry_after(Duration::from_secs(1))
    }

    /// 504: the time for this request is over.
    #[must_use]
    pub fn deadline_exceeded(phase: &str) -> Self {
        let detail = format!("the deadline passed during: {phase}");
        Self::new(
            "deadline-exceeded",
            StatusCode::GATEWAY_TIMEOUT,
            "Deadline exceeded",
            detail,
        )
        .extension("phase", phase)
        .never_retry()
    }

    /// 400 that names a header.
    #[must_use]
    pub fn invalid_header(name: &str, detail: impl Into<String>) -> Self {
        Self::new("invalid-header", StatusCode::BAD_REQUEST, "Invalid header", detail).extension("header", name)
    }

    /// Takes a type from elsewhere, such as the registry of IANA.
    #[must_use]
    pub fn with_type(mut self, uri: &str) -> Self {
        uri.clone_into(&mut self.problem_type);
        self
    }

    /// Adds a member.
    #[must_use]
    pub fn extension(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extensions.insert(name.to_owned(), value.into());
        self
    }

    /// Sets `Retry-After`: whole seconds, rounded up, at least 1.
    #[must_use]
    pub const fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    /// Marks the answer as final: one layer retries, and it was not this one's turn.
    #[must_use]
    pub const fn never_retry(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// The last part of the type.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// The answer's headers.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(PROBLEM_HEADER, HeaderValue::from_static(self.kind));
        if let Some(time) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(time)));
        }
        if self.is_final {
            headers.insert(RETRY_HEADER, HeaderValue::from_static("no"));
        }
        headers
    }

    /// The answer's body.
    #[must_use]
    pub fn body(&self) -> String {
        // Strings, numbers and a map with string keys: writing them cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Seconds for `Retry-After`: rounded up, at least 1.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    (u64::try_from(time.as_millis()).unwrap_or(u64::MAX).div_ceil(1_000)).max(1)
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        (self.status, self.headers(), self.body()).into_response()
    }
}
