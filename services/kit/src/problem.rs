//! Errors of the HTTP API as problem+json (RFC 9457). Pure: builds answers, does no IO but one log line for a 500.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value, json};
use valerix_resilience::idempotency::{IdempotencyError, refusals};

/// What stands before the name of a problem in `type`; a client keys on the whole.
pub const TYPE_BASE: &str = "https://valerix.io/problems/";

/// The problem's name again, so that a client knows it from the head alone.
pub const PROBLEM_HEADER: HeaderName = HeaderName::from_static("valerix-problem");

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
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            detail: detail.into(),
        }
    }
}

/// An error answer. Return it from handlers as `Result<_, Problem>`.
///
/// ```
/// use http::StatusCode;
/// use valerix_kit::problem::Problem;
///
/// let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-item", "there is no item \"ps6\"")
///     .with("item_id", "ps6");
/// assert_eq!(problem.status(), StatusCode::UNPROCESSABLE_ENTITY);
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} {}: {}", .0.status, .0.name, .0.detail)]
pub struct Problem(Box<Parts>);

/// Boxed, so that a `Result` with a problem is as small as one without.
#[derive(Clone, Debug)]
struct Parts {
    status: StatusCode,
    name: Cow<'static, str>,
    detail: String,
    extensions: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of type `TYPE_BASE + name`. `detail` is read by the caller: no host names, no SQL.
    pub fn new(status: StatusCode, name: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            name: name.into(),
            detail: detail.into(),
            extensions: Map::new(),
            headers: Vec::new(),
        }))
    }

    /// 422 that names the one field that is not acceptable.
    pub fn invalid_field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(StatusCode::UNPROCESSABLE_ENTITY, vec![FieldError::new(field, detail)])
    }

    /// `status` (400 or 422) that names every field that is not acceptable.
    pub fn invalid(status: StatusCode, errors: Vec<FieldError>) -> Self {
        let detail = errors
            .iter()
            .map(|error| {
                if error.field.is_empty() {
                    error.detail.clone()
                } else {
                    format!("{}: {}", error.field, error.detail)
                }
            })
            .collect::<Vec<_>>()
            .join("; ");
        Self::new(status, "invalid-request", detail).with("errors", json!(errors))
    }

    /// 503 with `Retry-After`: something this service needs does not answer, nothing is known about the outcome.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).retry_after(1)
    }

    /// 404 for a thing of this API that does not exist.
    pub fn not_found(name: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, name, detail)
    }

    /// 500. The cause goes to the log, never to the caller.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "failed to answer a request");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the request could not be answered",
        )
    }

    /// What a failed statement means to the caller: 503 when Postgres is away, busy or being restarted, 422 for text
    /// that Postgres cannot hold (a NUL character), else 500.
    pub fn from_sqlx(error: &sqlx::Error) -> Self {
        match crate::postgres::classify(error) {
            crate::postgres::Failure::Unavailable => {
                tracing::warn!(%error, "the database did not answer");
                Self::unavailable("the database does not answer at the moment; nothing is known about the request")
            }
            crate::postgres::Failure::BadText => {
                Self::invalid_field("", "a text holds a character that can not be stored")
            }
            crate::postgres::Failure::Other => Self::internal(error),
        }
    }

    /// What a failure to look an idempotency key up, or to keep its answer, means to the caller. What the request began
    /// goes on.
    pub fn from_idempotency(error: &IdempotencyError) -> Self {
        match error {
            IdempotencyError::Database { source, .. } => Self::from_sqlx(source),
            IdempotencyError::Superseded { .. } => {
                let refusal = refusals::in_progress();
                Self::new(refusal.status(), refusal.name().to_owned(), refusal.detail()).retry_after(1)
            }
            other => Self::internal(other),
        }
    }

    /// Adds an extension member.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.extensions.insert(member.to_owned(), value.into());
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Adds `Retry-After` in seconds (at least 1).
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The last part of `type`, e.g. `unknown-item`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The members of the body.
    pub fn body(&self) -> Value {
        let mut body = Map::new();
        body.insert("type".into(), json!(format!("{TYPE_BASE}{}", self.0.name)));
        body.insert("title".into(), json!(title(&self.0.name)));
        body.insert("status".into(), json!(self.0.status.as_u16()));
        body.insert("detail".into(), json!(self.0.detail));
        for (member, value) in &self.0.extensions {
            body.entry(member.clone()).or_insert_with(|| value.clone());
        }
        Value::Object(body)
    }
}

/// `unknown-item` -> `Unknown item`.
fn title(name: &str) -> String {
    let words = name.replace('-', " ");
    let mut characters = words.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.0.status, self.body().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Ok(name) = HeaderValue::try_from(self.0.name.as_ref()) {
            headers.insert(PROBLEM_HEADER, name);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in self.0.headers {
            headers.insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_the_members_of_rfc_9457_and_extensions_can_not_hide_them() {
        let problem = Problem::new(StatusCode::CONFLICT, "charge-declined", "nothing to refund")
            .with("key", "a")
            .with("status", 200);
        assert_eq!(
            problem.body(),
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
        let problem = Problem::invalid(
            StatusCode::BAD_REQUEST,
            vec![FieldError::new("/a", "is missing"), FieldError::new("", "is odd")],
        );
        assert_eq!(problem.body()["detail"], "/a: is missing; is odd");
        assert_eq!(problem.body()["errors"][0]["field"], "/a");
    }
}
