//! Headers that end at this hop, and those that only services may speak. Pure.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use valerix_resilience::policy::PROBE_HEADER;
use valerix_resilience::{FieldError, Problem};

/// RFC 9110, 7.6.1, and what is of one hop by older custom. `Trailer` is not among them: it names what follows the body.
const OF_ONE_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The prefix of what services tell each other.
const INTERNAL: &str = "valerix-";

/// The headers that `Connection` names. `Host` is for whoever answers, whatever a sender writes.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, &CONNECTION)
        .filter_map(|name| HeaderName::try_from(name).ok())
        .filter(|name| *name != HOST)
        .collect()
}

/// Drops what is meant for this hop alone: the headers of the standard and those that `Connection` names.
pub(crate) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    for name in OF_ONE_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Drops what the sender of a request means for this hop alone: the headers that its `Connection` names, and there the
/// names, but for `upgrade`. Whoever stamps headers does so after this, as the sender could name those too.
pub fn drop_named_by_connection(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    // What is of one hop by the standard is dropped when the request is passed on, and says until then what was asked for.
    for name in named.iter().filter(|name| !OF_ONE_HOP.contains(name)) {
        headers.remove(name);
    }
    if named.contains(&UPGRADE) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(CONNECTION);
    }
}

/// HTTP/2 may split cookies into several headers, HTTP/1.1 has one.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.nth(1).is_none() {
        return;
    }
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(one) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        headers.insert(COOKIE, one);
    }
}

/// Drops what only services may say (deadlines, priorities, who calls): outside of them nobody is believed. The mark of an
/// experiment's probe stays: whoever sends it asks for less.
pub fn drop_internal(headers: &mut HeaderMap) {
    let spoken: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(INTERNAL) && name.as_str() != PROBE_HEADER)
        .cloned()
        .collect();
    for name in &spoken {
        headers.remove(name);
    }
}

/// Whether the length of a request's body is told in the one way that every parser understands alike: by nothing, by one
/// number, or by `chunked` alone.
///
/// # Errors
/// 400 that names the header. It ends the connection: where a request ends that tells two lengths, nobody can say, and so
/// nothing that comes after it is read as another one.
pub fn check_framing(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |name: &HeaderName, detail: &str| {
        let errors = vec![FieldError::new(name.as_str(), detail)];
        let problem = Problem::invalid(StatusCode::BAD_REQUEST, errors).never_retry();
        Err(problem.with_header(CONNECTION, HeaderValue::from_static("close")))
    };
    let encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut encodings = encodings.map(HeaderValue::as_bytes);
    let encoding = encodings.next();
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"chunked")) || encodings.next().is_some() {
        return refused(&TRANSFER_ENCODING, "must be chunked and nothing else");
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() || (length.is_some() && encoding.is_some()) {
        return refused(&CONTENT_LENGTH, "must be given once, and not beside Transfer-Encoding");
    }
    // `5, 5` and `+5` are numbers to some parsers.
    if length.is_some_and(|length| !length.as_bytes().iter().all(u8::is_ascii_digit)) {
        return refused(&CONTENT_LENGTH, "must be one number of bytes");
    }
    Ok(())
}

/// Whether a request expects nothing but to be told when to send its body.
///
/// # Errors
/// 417 that names the header.
pub fn check_expectation(headers: &HeaderMap) -> Result<(), Problem> {
    let mut expected = headers.get_all(EXPECT).iter();
    if expected.all(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Ok(());
    }
    let detail = "the header Expect must be 100-continue or left out";
    Err(Problem::new(StatusCode::EXPECTATION_FAILED, "expectation-failed", detail).never_retry())
}

/// The comma-separated words of a header.
pub(crate) fn tokens<'headers>(
    headers: &'headers HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'headers str> + use<'headers> {
    let lines = headers.get_all(name).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_is_of_one_hop_ends_here() {
        let mut given = headers(&[
            ("connection", "close, x-secret"),
            ("connection", "X-Other,, host"),
            ("host", "shop"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("trailer", "x-sum"),
            ("accept", "*/*"),
        ]);
        drop_hop_by_hop(&mut given);
        assert_eq!(
            given,
            headers(&[("host", "shop"), ("trailer", "x-sum"), ("accept", "*/*")])
        );
    }

    #[test]
    fn what_connection_names_is_dropped_and_named_no_more() {
        let mut given = headers(&[
            ("connection", "close, X-Forwarded-For, te"),
            ("connection", "Upgrade, traceparent"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("x-forwarded-for", "6.6.6.6"),
            ("traceparent", "00"),
            ("accept", "*/*"),
        ]);
        drop_named_by_connection(&mut given);
        let left = [
            ("connection", "upgrade"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("accept", "*/*"),
        ];
        assert_eq!(given, headers(&left));
        let mut given = headers(&[("connection", "x-forwarded-for"), ("accept", "*/*")]);
        drop_named_by_connection(&mut given);
        assert_eq!(given, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn cookies_are_one_header() {
        let mut given = headers(&[("cookie", "a=1"), ("cookie", "b=2; c=3")]);
        join_cookies(&mut given);
        assert_eq!(given.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn what_services_say_is_not_believed_from_outside() {
        let mut given = headers(&[
            ("valerix-client", "order"),
            ("valerix-service-token", "x"),
            ("valerix-probe-of", "x"),
            ("valerix-probe", "shop/slow/1"),
            ("accept", "*/*"),
        ]);
        drop_internal(&mut given);
        assert_eq!(given, headers(&[("valerix-probe", "shop/slow/1"), ("accept", "*/*")]));
    }

    #[test]
    fn a_length_is_told_in_one_way() {
        for good in [
            headers(&[]),
            headers(&[("content-length", "5")]),
            headers(&[("transfer-encoding", "Chunked")]),
        ] {
            assert!(check_framing(&good).is_ok(), "{good:?}");
        }
        for bad in [
            headers(&[("transfer-encoding", "gzip, chunked")]),
            headers(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
            headers(&[("transfer-encoding", "chunked"), ("content-length", "5")]),
            headers(&[("content-length", "5"), ("content-length", "5")]),
            headers(&[("content-length", "5, 5")]),
            headers(&[("content-length", "+5")]),
        ] {
            assert_eq!(check_framing(&bad).expect_err("refused").status(), 400, "{bad:?}");
        }
    }
}
