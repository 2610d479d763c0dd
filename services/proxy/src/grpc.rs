//! gRPC on its way through: how long the caller waits, and what a refusal is to one who reads no status of HTTP.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use valerix_resilience::{Deadline, PROBLEM_HEADER, TIMEOUT_HEADER};

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a message is one of gRPC.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    media_type.is_some_and(|media_type| media_type.starts_with(b"application/grpc"))
}

/// How long the caller of gRPC still waits; none where it does not say, or says what is no time.
///
/// ```
/// use std::time::Duration;
/// use http::{HeaderMap, HeaderValue};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("grpc-timeout", HeaderValue::from_static("250m"));
/// assert_eq!(valerix_proxy::grpc_timeout(&headers), Some(Duration::from_millis(250)));
/// headers.insert("grpc-timeout", HeaderValue::from_static("soon"));
/// assert_eq!(valerix_proxy::grpc_timeout(&headers), None);
/// ```
#[must_use]
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let unit = text.chars().next_back().filter(char::is_ascii_alphabetic)?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(number * 3_600)),
        'M' => Some(Duration::from_secs(number * 60)),
        'S' => Some(Duration::from_secs(number)),
        'm' => Some(Duration::from_millis(number)),
        'u' => Some(Duration::from_micros(number)),
        'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Makes the time that the caller of gRPC gives the deadline of the request, for everybody who reads that; where there is
/// one already, the shorter of the two counts.
pub fn deadline_of_grpc(headers: &mut HeaderMap) {
    let Some(given) = grpc_timeout(headers).filter(|_| is_grpc(headers)) else {
        return;
    };
    // What is no number is refused where it is read.
    if let Ok(own) = Deadline::from_headers(headers) {
        let time = own.map_or(given, |own| own.min(given));
        headers.insert(TIMEOUT_HEADER, Deadline::header(time));
    }
}

/// Says how long the caller still waits, where it said so itself.
pub(crate) fn shorten(headers: &mut HeaderMap, left: Duration) {
    if !headers.contains_key(TIMEOUT) {
        return;
    }
    // Eight digits are the most that there may be.
    let millis = left.as_millis();
    let text = if millis < 100_000_000 {
        format!("{millis}m")
    } else {
        format!("{}S", left.as_secs().min(99_999_999))
    };
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(TIMEOUT, value);
    }
}

/// What a refusal is to a client of gRPC: an answer of 200 without a body, whose head carries the status. Any other answer
/// stays as it is; so do the headers that say which problem it is and when to come back.
#[must_use]
pub fn refusal_of_grpc<B: Default>(answer: Response<B>) -> Response<B> {
    let problem = answer.headers().get(PROBLEM_HEADER).cloned();
    let Some(problem) = problem.filter(|_| !answer.status().is_success()) else {
        return answer;
    };
    let status = match answer.status() {
        StatusCode::TOO_MANY_REQUESTS => "8",
        StatusCode::GATEWAY_TIMEOUT => "4",
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "14",
        StatusCode::PAYLOAD_TOO_LARGE => "11",
        StatusCode::UNAUTHORIZED => "16",
        StatusCode::FORBIDDEN => "7",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "12",
        status if status.is_client_error() => "3",
        _ => "13",
    };
    let (mut parts, _) = answer.into_parts();
    parts.status = StatusCode::OK;
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, TE] {
        parts.headers.remove(name);
    }
    parts
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.headers.insert(STATUS, HeaderValue::from_static(status));
    parts.headers.insert(MESSAGE, problem);
    Response::from_parts(parts, B::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, HeaderValue::from_str(text).unwrap());
            grpc_timeout(&headers)
        };
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("4m"), Some(Duration::from_millis(4)));
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read("6n"), Some(Duration::from_nanos(6)));
        for bad in ["", "S", "5", "-5S", "5 S", "123456789S", "5s", "5\u{e9}"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_time_that_was_given_is_shortened_and_none_is_made_up() {
        let mut headers = HeaderMap::new();
        shorten(&mut headers, Duration::from_secs(1));
        assert!(headers.is_empty());
        headers.insert(TIMEOUT, HeaderValue::from_static("2S"));
        shorten(&mut headers, Duration::from_millis(1_500));
        assert_eq!(headers[TIMEOUT], "1500m");
        shorten(&mut headers, Duration::from_secs(200_000));
        assert_eq!(headers[TIMEOUT], "200000S");
    }
}
