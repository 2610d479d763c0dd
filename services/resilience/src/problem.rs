//! Answers that say what went wrong, as `application/problem+json` (RFC 9457). Pure, but for the log line of a 500.

use std::borrow::Cow;
use std::fmt::{Display, Write};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// The media type of every problem.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// On answers that no layer may retry: `no`.
pub const RETRY_HEADER: HeaderName = HeaderName::from_static("valerix-retry");
/// The problem's name, so that a client knows it from the head alone.
pub const PROBLEM_HEADER: HeaderName = HeaderName::from_static("valerix-problem");
/// On requests: how important they are, one of `Critical`, `Default`, `Sheddable` and `BestEffort`. Believed only as far
/// as the policy says (`inbound.concurrency.priorities.header`).
pub const PRIORITY_HEADER: HeaderName = HeaderName::from_static("valerix-priority");
/// On answers that a fault made: its type.
pub const FAULT_HEADER: HeaderName = HeaderName::from_static("valerix-fault");
/// What stands before a problem's name in its `type`.
pub const PROBLEM_TYPE_BASE: &str = "https://valerix.io/problems/";

/// The members that every problem has; none that is added may take their place.
const MEMBERS: [&str; 4] = ["type", "title", "status", "detail"];

/// One field of a request that is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON pointer into the body (`/quantity`), or the name of a path, query or header parameter.
    pub field: String,
    /// Why, in words for the caller.
    pub detail: String,
}

impl FieldError {
    /// `field` is not acceptable because of `detail`.
    #[must_use]
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            detail: detail.into(),
        }
    }
}

/// A refusal with its reason. Handlers may return `Result<_, Problem>`.
///
/// ```
/// use http::StatusCode;
/// use valerix_resilience::{FieldError, PROBLEM_HEADER, PROBLEM_JSON, PROBLEM_TYPE_BASE, Problem};
///
/// let problem = Problem::new(StatusCode::CONFLICT, "charge-declined", "nothing to refund").with("key", "a");
/// assert_eq!(problem.headers()["content-type"], PROBLEM_JSON);
/// assert_eq!(problem.headers()[PROBLEM_HEADER], "charge-declined");
/// let body = serde_json::to_value(&problem)?;
/// assert_eq!(body["type"], format!("{PROBLEM_TYPE_BASE}charge-declined"));
/// assert_eq!((&body["title"], &body["status"], &body["key"]), (&"Charge declined".into(), &409.into(), &"a".into()));
///
/// let problem = Problem::invalid(StatusCode::BAD_REQUEST, vec![FieldError::new("/quantity", "is missing")]);
/// assert_eq!(problem.detail(), "/quantity: is missing");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{} {}: {}", .0.status, .0.name, .0.detail)]
pub struct Problem(Box<Parts>);

/// Boxed, so that a `Result` with a problem is as small as one without.
#[derive(Clone, Debug, PartialEq)]
struct Parts {
    status: StatusCode,
    name: Cow<'static, str>,
    /// A type from elsewhere.
    foreign_type: Option<&'static str>,
    detail: String,
    members: Map<String, Value>,
    headers: HeaderMap,
}

impl Problem {
    /// A problem of the type [`PROBLEM_TYPE_BASE`] + `name`, whose title is the name in words. `detail` is read by the
    /// caller: no host names, no SQL.
    #[must_use]
    pub fn new(status: StatusCode, name: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            name: name.into(),
            foreign_type: None,
            detail: detail.into(),
            members: Map::new(),
            headers: HeaderMap::new(),
        }))
    }

    /// 503: this service takes no more requests at the moment.
    #[must_use]
    pub fn overloaded(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail)
            .retry_after(Duration::from_secs(1))
            .never_retry()
    }

    /// 503: this service is going away; another replica may answer at once.
    #[must_use]
    pub fn draining() -> Self {
        let detail = "this replica is shutting down: send the request again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail).retry_after(Duration::from_secs(1))
    }

    /// 503: this replica does not take requests yet; another one may answer at once.
    #[must_use]
    pub fn starting(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "starting", detail).retry_after(Duration::from_secs(1))
    }

    /// 503: something this service needs does not answer, and nothing is known about the outcome.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).retry_after(Duration::from_secs(1))
    }

    /// 504: the time for this request is over.
    #[must_use]
    pub fn deadline_exceeded(phase: &str) -> Self {
        let detail = format!("the deadline passed during: {phase}");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline-exceeded", detail)
            .with("phase", phase)
            .never_retry()
    }

    /// 429: a limit is used up for `wait`.
    #[must_use]
    pub fn quota_exceeded(rule: &str, wait: Duration) -> Self {
        let detail = format!("limit {rule} is used up; come back in {} s", whole_seconds(wait));
        Self::new(StatusCode::TOO_MANY_REQUESTS, "quota-exceeded", detail)
            .with_type("https://iana.org/assignments/http-problem-types#quota-exceeded")
            .with("violated-policies", vec![rule])
            .retry_after(wait)
    }

    /// 400 that names a header.
    #[must_use]
    pub fn invalid_header(name: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-header", detail).with("header", name)
    }

    /// 422 that names the one field that is not acceptable.
    #[must_use]
    pub fn invalid_field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(StatusCode::UNPROCESSABLE_ENTITY, vec![FieldError::new(field, detail)])
    }

    /// `status` (400 or 422) that names every field that is not acceptable.
    #[must_use]
    pub fn invalid(status: StatusCode, errors: Vec<FieldError>) -> Self {
        let mut detail = String::new();
        for FieldError { field, detail: why } in &errors {
            let between = if detail.is_empty() { "" } else { "; " };
            let colon = if field.is_empty() { "" } else { ": " };
            // Writing to a text cannot fail.
            let _ = write!(detail, "{between}{field}{colon}{why}");
        }
        Self::new(status, "invalid-request", detail).with("errors", serde_json::json!(errors))
    }

    /// 404 for a thing of this service that does not exist.
    #[must_use]
    pub fn not_found(name: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, name, detail)
    }

    /// 500. The cause goes to the log, never to the caller.
    #[must_use]
    pub fn internal(cause: &dyn Display) -> Self {
        tracing::error!(%cause, "failed to answer a request");
        let detail = "the request could not be handled; the service's log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// Takes a type from elsewhere, such as the registry of IANA.
    #[must_use]
    pub const fn with_type(mut self, uri: &'static str) -> Self {
        self.0.foreign_type = Some(uri);
        self
    }

    /// Adds a member; `type`, `title`, `status` and `detail` stay what they are.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(member.to_owned(), value.into());
        self
    }

    /// Adds a header of the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// Sets `Retry-After`: whole seconds, rounded up, at least 1.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        let seconds = HeaderValue::from(whole_seconds(time));
        self.0.headers.insert(header::RETRY_AFTER, seconds);
        self
    }

    /// Marks the answer as final: one layer retries, and it was not this one's turn.
    #[must_use]
    pub fn never_retry(mut self) -> Self {
        self.0.headers.insert(RETRY_HEADER, HeaderValue::from_static("no"));
        self
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The last part of the type, such as `unknown-item`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// This occurrence in words.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The answer's headers.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = self.0.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(name) = HeaderValue::from_str(&self.0.name) {
            headers.insert(PROBLEM_HEADER, name);
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

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = &self.0;
        let mut map = serializer.serialize_map(None)?;
        match parts.foreign_type {
            Some(uri) => map.serialize_entry("type", uri)?,
            None => map.serialize_entry("type", &format_args!("{PROBLEM_TYPE_BASE}{}", parts.name))?,
        }
        map.serialize_entry("title", &title(&parts.name))?;
        map.serialize_entry("status", &parts.status.as_u16())?;
        if !parts.detail.is_empty() {
            map.serialize_entry("detail", &parts.detail)?;
        }
        let members = parts.members.iter();
        for (member, value) in members.filter(|(member, _)| !MEMBERS.contains(&member.as_str())) {
            map.serialize_entry(member, value)?;
        }
        map.end()
    }
}

/// `unknown-item` -> `Unknown item`.
fn title(name: &str) -> String {
    let words = name.replace('-', " ");
    let mut characters = words.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

/// Seconds for `Retry-After`: rounded up, at least 1.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    (u64::try_from(time.as_millis()).unwrap_or(u64::MAX).div_ceil(1_000)).max(1)
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        (self.status(), self.headers(), self.body()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_has_the_members_of_rfc_9457_and_those_that_are_added_cannot_hide_them() {
        let problem = Problem::new(StatusCode::CONFLICT, "charge-declined", "nothing to refund")
            .with("key", "a")
            .with("status", 200);
        let body: Value = serde_json::from_str(&problem.body()).unwrap();
        assert_eq!(
            body,
            json!({
                "type": "https://valerix.io/problems/charge-declined",
                "title": "Charge declined",
                "status": 409,
                "detail": "nothing to refund",
                "key": "a",
            })
        );
    }

    #[test]
    fn every_field_is_named_in_the_detail() {
        let errors = vec![FieldError::new("/a", "is missing"), FieldError::new("", "is odd")];
        let problem = Problem::invalid(StatusCode::BAD_REQUEST, errors);
        assert_eq!(problem.detail(), "/a: is missing; is odd");
        let body: Value = serde_json::from_str(&problem.body()).unwrap();
        assert_eq!(body["errors"][0]["field"], "/a");
    }

    #[test]
    fn the_head_alone_tells_what_it_is_and_when_to_come_back() {
        let headers = Problem::quota_exceeded("orders", Duration::from_millis(1_200)).headers();
        for (name, value) in [
            ("content-type", PROBLEM_JSON),
            ("cache-control", "no-store"),
            ("valerix-problem", "quota-exceeded"),
            ("retry-after", "2"),
        ] {
            assert_eq!(headers[name], value);
        }
        assert_eq!(Problem::overloaded("full").headers()[RETRY_HEADER], "no");
    }
}
