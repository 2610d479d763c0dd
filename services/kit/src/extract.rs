//! Extractors that refuse a malformed request with a problem naming the field, never with a 500 or plain text.
//! In: the request. Out: the typed value, or a [`Problem`] with 400, 404, 413, 415 or 422.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body as _;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use valerix_resilience::{Deadline, InvalidKey, key_from_headers, refusals};

use crate::body_room::{BodyRoom, Unread};
use crate::leftover_body::{MAX_BODY, Stalled};
use crate::problem::{FieldError, Problem};

/// Of a request's time, what is left for saying that its body did not come within it.
const MARGIN: Duration = Duration::from_millis(100);

/// A JSON body, in and out, instead of `axum::Json`. What comes in is a JSON object.
///
/// 415 without a JSON content type, 413 above the body limit, 408 when it does not come within the request's time, 400
/// when it is not JSON, 422 when it is JSON of another shape; the last names the field as a JSON pointer.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = JsonBytes::from_request(request, state).await?;
        body.parse().map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => (
                [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
                body,
            )
                .into_response(),
            Err(error) => Problem::internal(&error).into_response(),
        }
    }
}

/// A struct inside a body, which is a JSON object there and nothing else: serde would take an array of its members as well.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// The bytes of a JSON body, for handlers that need them raw (fingerprints) before [`JsonBytes::parse`].
#[derive(Clone, Debug)]
pub struct JsonBytes(pub Bytes);

impl JsonBytes {
    /// The body as `T`, or the problem that names the field.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        parse_json(&self.0)
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "the request needs Content-Type: application/json",
            ));
        }
        let too_large = || {
            let detail = "the body is larger than 1 MiB";
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
        };
        // Known from the head alone: nothing is read, and a client that asks first is not told to send it.
        if request.body().size_hint().lower() > MAX_BODY as u64 {
            return Err(too_large());
        }
        let room = request.extensions().get::<BodyRoom>().cloned().unwrap_or_default();
        let body = room.read(request.into_body());
        // Nothing has begun yet: a body that trickles must not outlive the request's time.
        let read = match Deadline::current() {
            Some(deadline) => {
                let time = deadline.remaining();
                tokio::time::timeout(time.saturating_sub(MARGIN.min(time / 2)), body).await
            }
            None => Ok(body.await),
        };
        match read {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(Unread::TooLarge)) => Err(too_large()),
            Ok(Err(Unread::NoRoom)) => {
                let detail = "the bodies of other requests take all the room; ask again";
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-bodies", detail);
                Err(problem.retry_after(Duration::from_secs(1)))
            }
            Ok(Err(broken)) if !broken.is::<Stalled>() => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid-request",
                "the body could not be read",
            )),
            Ok(Err(_)) | Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "body-too-slow",
                "the body did not come within the time that the request has",
            )),
        }
    }
}

/// Path parameters; 400 that names the parameter.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match <axum::extract::Path<T> as FromRequestParts<S>>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(rejection)) => Err(Problem::invalid(
                StatusCode::BAD_REQUEST,
                vec![FieldError::new(
                    quoted_parameter(&rejection.body_text()),
                    in_words(&rejection.body_text()),
                )],
            )),
            Err(rejection) => Err(Problem::internal(&rejection)),
        }
    }
}

/// Query parameters; 400 that names the parameter.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(QueryRejection::FailedToDeserializeQueryString(rejection)) => {
                let text = rejection.body_text();
                let reason = text
                    .strip_prefix("Failed to deserialize query string: ")
                    .unwrap_or(&text);
                // serde_path_to_error writes "name: reason", and no name where serde names the field itself.
                let (field, detail) = reason.split_once(": ").unwrap_or(("", reason));
                let (field, detail) = named_by_serde(detail).unwrap_or((field, detail));
                Err(Problem::invalid(
                    StatusCode::BAD_REQUEST,
                    vec![FieldError::new(field, detail)],
                ))
            }
            Err(rejection) => Err(Problem::internal(&rejection)),
        }
    }
}

/// The header `Idempotency-Key`, as `valerix-resilience` reads it. As `IdempotencyKey` it is required (400); as
/// `Option<IdempotencyKey>` it may be absent but not malformed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(pub String);

impl IdempotencyKey {
    fn parse(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let refuse = |error: &InvalidKey| refused_key(refusals::invalid(error), error.problem);
        let key = key_from_headers(headers).map_err(|error| refuse(&error))?;
        Ok(key.map(Self))
    }
}

/// The library's refusal, with the header named among the errors.
fn refused_key(refusal: Problem, detail: &str) -> Problem {
    refusal.with(
        "errors",
        serde_json::json!([FieldError::new("Idempotency-Key", detail)]),
    )
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::parse(&parts.headers)?.ok_or_else(|| refused_key(refusals::missing(), "is missing"))
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        Self::parse(&parts.headers)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Parses `bytes`, a JSON object, and refuses what stands behind it. serde would take an array for a struct.
fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
            Ok(_) => Problem::invalid_field("", "must be a JSON object"),
            Err(error) => json_problem("", &error),
        });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        json_problem(&pointer, error.inner())
    })?;
    deserializer.end().map_err(|error| json_problem("", &error))?;
    Ok(value)
}

fn json_problem(pointer: &str, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    if error.classify() != serde_json::error::Category::Data {
        return Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid-json",
            format!("the body is not JSON: {text}"),
        );
    }
    let reason = text.split(" at line ").next().unwrap_or(&text);
    // serde reports a missing or unknown member at its parent; the caller wants the member.
    if let Some((member, detail)) = named_by_serde(reason) {
        let suffix = format!("/{}", escape(member));
        let field = if pointer.ends_with(&suffix) {
            pointer.to_owned()
        } else {
            format!("{pointer}{suffix}")
        };
        return Problem::invalid_field(field, detail);
    }
    Problem::invalid_field(pointer, in_words(reason))
}

/// The member that serde names in its words, and what is wrong with it.
fn named_by_serde(reason: &str) -> Option<(&str, &'static str)> {
    let kinds = [
        ("missing field `", "is missing"),
        ("unknown field `", "is not known"),
        ("duplicate field `", "is given twice"),
    ];
    kinds.into_iter().find_map(|(prefix, detail)| {
        let member = reason.strip_prefix(prefix)?.split('`').next()?;
        Some((member, detail))
    })
}

/// serde and axum name the Rust type that was expected; a caller knows JSON.
fn in_words(reason: &str) -> String {
    let Some((before, expected)) = reason.rsplit_once("expected ") else {
        return match reason.rsplit_once(" to a `") {
            Some((before, _)) => format!("{before} to a value of the kind expected here"),
            None => reason.to_owned(),
        };
    };
    let kind = expected.strip_prefix("a ").unwrap_or(expected);
    let words = match kind.split(' ').next().unwrap_or_default() {
        "struct" | "map" => "an object",
        "sequence" | "tuple" => "an array",
        "u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64" | "usize" => "an integer that fits",
        "f32" | "f64" => "a number",
        _ => expected,
    };
    format!("{before}expected {words}")
}

/// RFC 6901.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |mut pointer, segment| {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escape(key))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
        pointer
    })
}

fn escape(member: &str) -> String {
    member.replace('~', "~0").replace('/', "~1")
}

/// axum quotes the parameter's name in its text: the first thing between backquotes.
fn quoted_parameter(text: &str) -> &str {
    text.split('`').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Body {
        name: String,
        lines: Vec<Object<Line>>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Line {
        quantity: u32,
    }

    fn written(problem: &Problem) -> serde_json::Value {
        serde_json::to_value(problem).unwrap()
    }

    fn refuse(text: &str) -> (u16, String) {
        let problem = parse_json::<Body>(text.as_bytes()).unwrap_err();
        let field = written(&problem)["errors"][0]["field"]
            .as_str()
            .unwrap_or("-")
            .to_owned();
        (problem.status().as_u16(), field)
    }

    #[test]
    fn the_field_is_named_as_a_json_pointer() {
        assert_eq!(refuse(r#"{"name": 1, "lines": []}"#), (422, "/name".into()));
        assert_eq!(refuse(r#"{"name": "a"}"#), (422, "/lines".into()));
        assert_eq!(
            refuse(r#"{"name": "a", "lines": [{"quantity": 1}, {}]}"#),
            (422, "/lines/1/quantity".into())
        );
        assert_eq!(
            refuse(r#"{"name": "a", "lines": [{"quantity": -1}]}"#),
            (422, "/lines/0/quantity".into())
        );
        assert_eq!(
            refuse(r#"{"name": "a", "lines": [{"quantity": 1e99}]}"#),
            (422, "/lines/0/quantity".into())
        );
        assert_eq!(refuse(r#"{"name": "a", "lines": [], "x/y": 1}"#), (422, "/x~1y".into()));
        assert_eq!(
            refuse(r#"{"name": "a", "name": "b", "lines": []}"#),
            (422, "/name".into())
        );
    }

    #[test]
    fn only_an_object_is_taken_for_an_object() {
        for body in ["[]", r#"["a", []]"#, "null", "1", " \n[1]", "\"x\""] {
            let problem = parse_json::<Body>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.status(), 422, "{body}");
            assert_eq!(written(&problem)["detail"], "must be a JSON object", "{body}");
        }
        assert_eq!(
            refuse(r#"{"name": "a", "lines": [{"quantity": 1}, [1]]}"#),
            (422, "/lines/1".into())
        );
    }

    #[test]
    fn a_caller_reads_no_names_of_rust_types() {
        for (body, detail) in [
            (
                r#"{"name": "a", "lines": [7]}"#,
                "/lines/0: invalid type: integer `7`, expected an object",
            ),
            (
                r#"{"name": "a", "lines": {}}"#,
                "/lines: invalid type: map, expected an array",
            ),
            (
                r#"{"name": "a", "lines": [{"quantity": -1}]}"#,
                "/lines/0/quantity: invalid value: integer `-1`, expected an integer that fits",
            ),
            (
                r#"{"name": "a", "lines": [{"quantity": 1.5}]}"#,
                "/lines/0/quantity: invalid type: floating point `1.5`, expected an integer that fits",
            ),
            (
                r#"{"name": 1, "lines": []}"#,
                "/name: invalid type: integer `1`, expected a string",
            ),
        ] {
            let problem = parse_json::<Body>(body.as_bytes()).unwrap_err();
            assert_eq!(written(&problem)["detail"], detail, "{body}");
        }
        assert_eq!(
            in_words("Cannot parse `number` with value `300` to a `u8`"),
            "Cannot parse `number` with value `300` to a value of the kind expected here"
        );
    }

    #[test]
    fn what_is_not_json_is_a_400() {
        for body in ["", "{", "nonsense", r#"{"name": "a", "lines": []} tail"#, "\u{0}"] {
            assert_eq!(refuse(body).0, 400, "{body:?}");
        }
        assert_eq!(refuse(&"[".repeat(100_000)).0 / 100, 4);
        let problem = parse_json::<serde_json::Value>(b"{\"name\": \"\xff\"}").unwrap_err();
        assert_eq!(problem.status(), 400);
    }

    #[test]
    fn a_key_that_is_refused_is_named_as_a_header() {
        let parse = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", HeaderValue::from_bytes(value).unwrap());
            IdempotencyKey::parse(&headers)
        };
        assert_eq!(parse(b"\"abc\"").unwrap(), Some(IdempotencyKey("abc".into())));
        assert_eq!(IdempotencyKey::parse(&HeaderMap::new()).unwrap(), None);
        for bad in [&b""[..], b"\"\"", b"\"abc", b"\xffa", "x".repeat(256).as_bytes()] {
            let problem = parse(bad).unwrap_err();
            assert_eq!(
                (problem.status().as_u16(), problem.name()),
                (400, "idempotency-key-invalid")
            );
            assert_eq!(written(&problem)["errors"][0]["field"], "Idempotency-Key", "{bad:?}");
        }
    }
}
