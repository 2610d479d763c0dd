//! The answer that is kept and replayed: status, body, Content-Type and Location; all else is fresh.

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::IdempotencyError;

/// On replayed answers: `true`.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The largest body that is kept.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// An answer fit to be given twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The status.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// The body, at most 64 KiB.
    pub body: Bytes,
    replayed: bool,
}

impl StoredAnswer {
    /// An answer of JSON.
    ///
    /// # Errors
    /// When `value` cannot be written as JSON.
    pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Self, serde_json::Error> {
        let body = serde_json::to_vec(value)?.into();
        let content_type = Some("application/json".to_owned());
        Ok(Self {
            status,
            content_type,
            location: None,
            body,
            replayed: false,
        })
    }

    /// The answer that a problem makes.
    #[must_use]
    pub fn problem(problem: &crate::problem::Problem) -> Self {
        let content_type = Some(crate::problem::PROBLEM_JSON.to_owned());
        Self {
            status: problem.status(),
            content_type,
            location: None,
            body: problem.body().into(),
            replayed: false,
        }
    }

    /// Adds `Location`.
    #[must_use]
    pub fn location(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    /// Whether it was given before.
    #[must_use]
    pub const fn is_replayed(&self) -> bool {
        self.replayed
    }

    /// The name of the problem that it is, if it is one of ours.
    #[cfg(feature = "axum")]
    fn problem_name(&self) -> Option<http::HeaderValue> {
        use crate::problem::{PROBLEM_JSON, PROBLEM_TYPE_BASE};

        #[derive(serde::Deserialize)]
        struct Typed<'a> {
            #[serde(borrow)]
            r#type: std::borrow::Cow<'a, str>,
        }
        if self.content_type.as_deref() != Some(PROBLEM_JSON) {
            return None;
        }
        let typed: Typed<'_> = serde_json::from_slice(&self.body).ok()?;
        http::HeaderValue::from_str(typed.r#type.strip_prefix(PROBLEM_TYPE_BASE)?).ok()
    }

    pub(super) fn check(&self) -> Result<(), IdempotencyError> {
        if self.body.len() <= MAX_ANSWER_BYTES {
            Ok(())
        } else {
            Err(IdempotencyError::AnswerTooLarge {
                size: self.body.len(),
                limit: MAX_ANSWER_BYTES,
            })
        }
    }

    pub(super) fn status_number(&self) -> i16 {
        // Three digits.
        i16::try_from(self.status.as_u16()).unwrap_or(i16::MAX)
    }

    /// The answer in a row of the table; none while the request has not ended.
    pub(super) fn from_row(row: &PgRow) -> Result<Option<Self>, sqlx::Error> {
        let Some(status) = row.try_get::<Option<i16>, _>("status")? else {
            return Ok(None);
        };
        let status = u16::try_from(status)
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.ok_or_else(|| sqlx::Error::Decode("idempotency_keys.status is no HTTP status".into()))?;
        let body: Option<Vec<u8>> = row.try_get("body")?;
        Ok(Some(Self {
            status,
            content_type: row.try_get("content_type")?,
            location: row.try_get("location")?,
            body: body.unwrap_or_default().into(),
            replayed: true,
        }))
    }
}

#[cfg(all(test, feature = "axum"))]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::problem::{PROBLEM_HEADER, Problem};

    #[test]
    fn a_problem_that_is_given_again_is_known_from_its_head() {
        let header = |answer: StoredAnswer| answer.into_response().headers().get(PROBLEM_HEADER).cloned();
        let problem = |problem: Problem| header(StoredAnswer::problem(&problem));
        let ours = Problem::new(StatusCode::CONFLICT, "payment-voided", "\"too\" late").with("payment", 7);
        assert_eq!(problem(ours).unwrap(), "payment-voided");
        let foreign = Problem::new(StatusCode::CONFLICT, "other", "").with_type("https://example.com/other");
        assert_eq!(problem(foreign), None);
        let body = serde_json::json!({"type": "https://valerix.io/problems/x"});
        assert_eq!(header(StoredAnswer::json(StatusCode::OK, &body).unwrap()), None);
    }
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for StoredAnswer {
    fn into_response(self) -> axum::response::Response {
        use http::{HeaderValue, header};

        use crate::problem::PROBLEM_HEADER;

        let problem = self.problem_name();
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        let pairs = [
            (header::CONTENT_TYPE, self.content_type),
            (header::LOCATION, self.location),
        ];
        for (name, value) in pairs {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.insert(name, value);
            }
        }
        // Kept in the body alone, as its type.
        if let Some(name) = problem {
            headers.insert(PROBLEM_HEADER, name);
        }
        if self.replayed {
            headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}
