//! `GET /analytics/summary`: which time is asked for, and its figures.

use axum::extract::State;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::{Json, Query};
use valerix_kit::identity::Access;
use valerix_kit::problem::{FieldError, Problem, from_sqlx};

use super::AppState;
use crate::store::{self, minute};
use crate::summary::Summary;

/// The most minutes that one answer tells of.
const MOST_MINUTES: i64 = 1440;
const DEFAULT_MINUTES: i64 = 60;

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let operation = Operation::new(
        "Orders, revenue, conversion and latency, in total and by minute",
        Access::Admin,
    )
    .query::<Span>()
    .answer::<Summary>(200, "The figures")
    .problem(400, "A time is none, or there is more than a day between the two");
    api.get("/analytics/summary", summary, operation)
}

/// Which time is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Span {
    /// RFC 3339; an hour before `to` if absent. Its minute is the first.
    #[schemars(extend("format" = "date-time"))]
    from: Option<String>,
    /// RFC 3339; now if absent. Its minute is the last.
    #[schemars(extend("format" = "date-time"))]
    to: Option<String>,
}

async fn summary(State(state): State<AppState>, Query(span): Query<Span>) -> Result<Json<Summary>, Problem> {
    let (from, to) = span
        .check(Utc::now())
        .map_err(|errors| Problem::invalid(StatusCode::BAD_REQUEST, errors))?;
    let figures = store::figures(&state.pool, from, to)
        .await
        .map_err(|error| from_sqlx(&error))?;
    Ok(Json(Summary::of(from, to, &figures)))
}

impl Span {
    /// The first minute and the one after the last, or everything that is wrong.
    fn check(self, now: DateTime<Utc>) -> Result<(DateTime<Utc>, DateTime<Utc>), Vec<FieldError>> {
        let mut errors = vec![];
        let mut read = |field: &str, text: Option<String>| {
            let time = text.map(|text| DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc()))?;
            if time.is_err() {
                errors.push(FieldError::new(field, "must be a time such as 2026-01-31T12:00:00Z"));
            }
            time.ok()
        };
        let (from, to) = (read("from", self.from), read("to", self.to));
        if !errors.is_empty() {
            return Err(errors);
        }
        let last = minute(to.unwrap_or(now));
        let from = minute(from.unwrap_or(last - TimeDelta::minutes(DEFAULT_MINUTES - 1)));
        let to = last + TimeDelta::minutes(1);
        let minutes = (to - from).num_minutes();
        if minutes < 1 {
            let last = last.to_rfc3339_opts(SecondsFormat::Secs, true);
            return Err(vec![FieldError::new("from", format!("must not be after to, {last}"))]);
        }
        if minutes > MOST_MINUTES {
            let detail = format!("asks for {minutes} minutes, at most {MOST_MINUTES} are given: move it closer to to");
            return Err(vec![FieldError::new("from", detail)]);
        }
        Ok((from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: Option<&str>, to: Option<&str>) -> Result<(String, String), Vec<String>> {
        let now = DateTime::parse_from_rfc3339("2026-05-04T12:34:56Z").unwrap().to_utc();
        let span = Span {
            from: from.map(Into::into),
            to: to.map(Into::into),
        };
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let fields = |errors: Vec<FieldError>| {
            let field = |error: &FieldError| {
                serde_json::to_value(error).unwrap()["field"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            };
            errors.iter().map(field).collect()
        };
        span.check(now).map(|(from, to)| (text(from), text(to))).map_err(fields)
    }

    #[test]
    fn a_span_is_whole_minutes_and_the_last_hour_unless_said_otherwise() {
        let span = |from: &str, to: &str| Ok((from.to_owned(), to.to_owned()));
        assert_eq!(check(None, None), span("2026-05-04T11:35:00Z", "2026-05-04T12:35:00Z"));
        assert_eq!(
            check(Some("2026-05-04T12:00:59+02:00"), Some("2026-05-04T10:01:00.5Z")),
            span("2026-05-04T10:00:00Z", "2026-05-04T10:02:00Z")
        );
        let day = check(Some("2026-05-03T10:02:00Z"), Some("2026-05-04T10:01:00Z"));
        assert_eq!(day, span("2026-05-03T10:02:00Z", "2026-05-04T10:02:00Z"));
        let moment = check(Some("2026-05-04T12:34:59Z"), None);
        assert_eq!(moment, span("2026-05-04T12:34:00Z", "2026-05-04T12:35:00Z"));
    }

    #[test]
    fn a_wrong_time_is_named() {
        let wrong = |from, to| check(from, to).unwrap_err();
        assert_eq!(wrong(Some("yesterday"), Some("")), ["from", "to"]);
        assert_eq!(wrong(None, Some("2026-05-04")), ["to"]);
        assert_eq!(wrong(Some("2026-05-04T12:35:00Z"), None), ["from"], "after the end");
        assert_eq!(
            wrong(Some("2026-05-03T10:01:59Z"), Some("2026-05-04T10:01:00Z")),
            ["from"],
            "too long"
        );
        assert_eq!(wrong(Some("0000-01-01T00:00:00Z"), None), ["from"]);
        assert!(check(None, Some("9999-12-31T23:59:59Z")).is_ok());
        assert!(check(None, Some("0000-01-01T00:00:00Z")).is_ok());
    }
}
