//! What a status of gRPC says, as a status of HTTP: there it stands in a header of an answer that is always 200, or in the
//! trailers behind its body. Pure.

use http::{HeaderMap, HeaderName, StatusCode, header};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Extension of an answer of gRPC that ended before its first message: what stood behind its body. Who sends requests and
/// has waited for that says it so, and the status in it is judged as one in the head is.
///
/// ```
/// use http::{HeaderMap, HeaderValue, Response};
/// use valerix_resilience::TrailersBeforeMessages;
/// use valerix_resilience::layers::HttpHead;
///
/// let mut trailers = HeaderMap::new();
/// trailers.insert("grpc-status", HeaderValue::from_static("14"));
/// let mut answer = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
/// answer.extensions_mut().insert(TrailersBeforeMessages(trailers));
/// assert_eq!(answer.head().status, 503);
/// ```
#[derive(Clone, Debug)]
pub struct TrailersBeforeMessages(pub HeaderMap);

/// The status that an answer has in effect: of gRPC's own, where its head has one or all else is `behind` it, the kin in
/// HTTP.
pub(super) fn effective(
    status: StatusCode,
    headers: &HeaderMap,
    behind: Option<&TrailersBeforeMessages>,
) -> StatusCode {
    let telling = behind.map_or(headers, |TrailersBeforeMessages(trailers)| trailers);
    if status != StatusCode::OK || !telling.contains_key(GRPC_STATUS) || !is_grpc(headers) {
        return status;
    }
    kin(telling).unwrap_or(status)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    media_type.is_some_and(|media_type| media_type.starts_with(b"application/grpc"))
}

/// The status of HTTP that says the same as `grpc-status`; none where there is none, or where it is no failure of who
/// answers: those are the caller's business, as 4xx are.
pub(crate) fn kin(headers: &HeaderMap) -> Option<StatusCode> {
    match headers.get(GRPC_STATUS)?.as_bytes() {
        // UNKNOWN is what a handler that failed is answered with, as 500 is.
        b"2" | b"13" | b"15" => Some(StatusCode::INTERNAL_SERVER_ERROR),
        b"4" => Some(StatusCode::GATEWAY_TIMEOUT),
        b"8" => Some(StatusCode::TOO_MANY_REQUESTS),
        b"14" => Some(StatusCode::SERVICE_UNAVAILABLE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_status_of_grpc_counts_as_its_kin_in_http() {
        let seen = |media_type: &'static str, status: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
            headers.insert(GRPC_STATUS, HeaderValue::from_static(status));
            effective(StatusCode::OK, &headers, None).as_u16()
        };
        for (status, kin) in [
            ("0", 200),
            ("5", 200),
            ("12", 200),
            ("2", 500),
            ("4", 504),
            ("8", 429),
            ("13", 500),
            ("14", 503),
            ("15", 500),
            ("many", 200),
        ] {
            assert_eq!(seen("application/grpc+proto", status), kin, "{status}");
        }
        assert_eq!(seen("application/json", "14"), 200, "no answer of gRPC");
        assert_eq!(
            effective(StatusCode::BAD_GATEWAY, &HeaderMap::new(), None).as_u16(),
            502
        );
    }
}
