//! What the fuzzers call (`fuzz/`), and a seeded slice of each that runs with the ordinary tests. In: text that nobody chose.
//! Out: nothing, or a panic that names the rule that was broken.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header};
use valerix_resilience::{Deadline, PROBLEM_HEADER};

use crate::grpc::shorten;
use crate::headers::drop_hop_by_hop;
use crate::{Forwarding, check_framing, check_path, deadline_of_grpc, grpc_timeout, host, is_grpc, refusal_of_grpc};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A path that is let through is the same path to who decodes and normalises it and to who does not.
pub fn paths(text: &str) {
    if check_path(text).is_err() {
        return;
    }
    let decoded = decoded(text);
    let segments: Vec<&[u8]> = decoded.split(|byte| *byte == b'/').collect();
    assert_eq!(segments.len(), text.split('/').count(), "{text:?}");
    assert_eq!(segments.first(), Some(&&b""[..]), "{text:?}");
    for (place, segment) in segments.iter().enumerate().skip(1) {
        assert!(*segment != b"." && *segment != b"..", "{text:?}");
        assert!(!segment.is_empty() || place + 1 == segments.len(), "{text:?}");
        let odd = |byte: &u8| *byte == b'\\' || byte.is_ascii_control();
        // What stands there as it is was judged by the parser of requests.
        assert!(
            !segment.iter().any(odd) || text.bytes().any(|byte| odd(&byte)),
            "{text:?}"
        );
    }
}

fn decoded(text: &str) -> Vec<u8> {
    let (mut decoded, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped.filter(|_| *first == b'%') {
            Some(byte) => {
                decoded.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

/// Headers of a request as anybody may write them, `name: value` a line, and the address before them: the next hop hears one
/// origin, one host, one length, and nothing that was meant for this hop.
pub fn forwarded(text: &str) {
    let (address, lines) = text.split_once('\n').unwrap_or((text, ""));
    let mut headers = HeaderMap::new();
    for line in lines.lines().take(32) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value.trim())) {
            headers.append(name, value);
        }
    }
    let uri = address.parse::<Uri>().unwrap_or_default();
    if let Ok(host) = host(&uri, &headers) {
        assert!(!host.host().is_empty() && !host.as_str().contains('@'), "{host}");
        assert!(headers.get_all(header::HOST).iter().count() <= 1, "{headers:?}");
    }
    let one_length = check_framing(&headers).is_ok();
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::HOST)
        .collect();
    let mut passed = headers.clone();
    drop_hop_by_hop(&mut passed);
    assert_eq!(passed.get(header::HOST), headers.get(header::HOST), "{headers:?}");
    for name in named.iter().chain([&CONNECTION, &TRANSFER_ENCODING, &header::UPGRADE]) {
        assert!(!passed.contains_key(name), "{name} of {headers:?}");
    }
    assert!(
        !one_length || passed.get_all(CONTENT_LENGTH).iter().count() <= 1,
        "{headers:?}"
    );
    let (peer, authority) = (IpAddr::V4(Ipv4Addr::LOCALHOST), Authority::from_static("shop"));
    let trusted = ["127.0.0.0/8".parse().ok()].into_iter().flatten().collect::<Vec<_>>();
    for believed in [&trusted[..], &[]] {
        let mut told = headers.clone();
        let forwarding = Forwarding {
            peer,
            tls: false,
            host: &authority,
            trusted: believed,
        };
        forwarding.stamp(&mut told);
        let origins: Vec<_> = told.get_all(FOR).iter().collect();
        assert_eq!(origins.len(), 1, "{headers:?}");
        let Some(origin) = origins.first() else { return };
        let origin = String::from_utf8_lossy(origin.as_bytes());
        assert_eq!(origin.rsplit(", ").next(), Some("127.0.0.1"), "{headers:?}");
        assert!(!believed.is_empty() || origin == "127.0.0.1", "{headers:?}");
        let strange = ["forwarded", "x-real-ip", "x-forwarded-port"];
        assert!(
            !believed.is_empty() || strange.iter().all(|name| !told.contains_key(*name)),
            "{told:?}"
        );
    }
}

/// What a call of gRPC says of its time and what it is answered: times only become shorter, and a refusal is one to its
/// client. First line: media type and status; second: the time.
pub fn grpc(text: &str) {
    let (first, time) = text.split_once('\n').unwrap_or((text, ""));
    let (media_type, status) = first.split_once(' ').unwrap_or((first, ""));
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(media_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    if let Ok(value) = HeaderValue::from_str(time) {
        headers.insert(TIMEOUT, value);
    }
    let _ = is_grpc(&headers);
    let mut dated = headers.clone();
    deadline_of_grpc(&mut dated);
    let deadline = Deadline::from_headers(&dated);
    let given = grpc_timeout(&headers).filter(|_| is_grpc(&headers));
    // Nine digits of whole milliseconds.
    let whole = given.map(|given| given.as_millis().min(999_999_999));
    let whole = whole
        .and_then(|millis| u64::try_from(millis).ok())
        .map(Duration::from_millis);
    assert_eq!(deadline.ok().flatten(), whole, "{time:?}");
    if let Some(given) = grpc_timeout(&headers) {
        let left = given / 2;
        shorten(&mut headers, left);
        let told = grpc_timeout(&headers);
        assert!(told.is_some_and(|told| told <= left), "{time:?} became {told:?}");
    }
    let status = status
        .parse::<u16>()
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut answer = Response::new(String::from("body"));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(PROBLEM_HEADER, HeaderValue::from_static("overloaded"));
    let refusal = refusal_of_grpc(answer);
    if status.is_success() {
        assert_eq!((refusal.status(), refusal.body().as_str()), (status, "body"));
        return;
    }
    assert_eq!((refusal.status(), refusal.body().as_str()), (StatusCode::OK, ""));
    let code = refusal.headers().get("grpc-status").and_then(|code| code.to_str().ok());
    let code = code.and_then(|code| code.parse::<u8>().ok());
    assert!(code.is_some_and(|code| (1..=16).contains(&code)), "{status}: {code:?}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{RngSeed, TestRunner};

    use super::*;

    /// Gives `target` texts of these forms, the same ones each time.
    fn slice(forms: [&str; 3], target: fn(&str)) {
        let config = ProptestConfig {
            cases: 1_000,
            rng_seed: RngSeed::Fixed(0x5EED),
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        for form in forms {
            let mut runner = TestRunner::new(config.clone());
            let ran = runner.run(&form, |text| {
                target(&text);
                Ok(())
            });
            ran.unwrap_or_else(|error| panic!("{form}: {error}"));
        }
    }

    /// Who is asked.
    type Asked = fn(&str);

    /// What could be read in two ways once, by anybody, or is the last or the first of its kind: asked each time.
    const FOUND: [(Asked, &str); 21] = [
        (paths, "/a/%2e%2e/b"),
        (paths, "/a/%2E./b"),
        (paths, "/a%2f..%2fb"),
        (paths, "/a/..;/b"),
        (paths, "/a\\..\\b"),
        (paths, "/%"),
        (paths, "/%a"),
        (paths, "/%C3%A9/\u{e9}"),
        (paths, "/a%00"),
        (paths, "//host/a"),
        (paths, ""),
        (forwarded, "http://a@b/\nhost: b"),
        (forwarded, "/\nhost: a\nhost: a"),
        (
            forwarded,
            "/\nconnection: close, host, content-length\nhost: a\ncontent-length: 5",
        ),
        (forwarded, "/\nx-forwarded-for: ,, 1.2.3.4 ,\nx-forwarded-for: \u{e9}"),
        (
            forwarded,
            "/\ncontent-length: 5\ncontent-length: 5\ntransfer-encoding: chunked",
        ),
        (grpc, "application/grpc 503\n00000000n"),
        (grpc, "application/grpc 429\n99999999H"),
        (grpc, "application/grpc 599\n1u"),
        (grpc, "application/grpc 200\n+1S"),
        (grpc, "application/grpc 99\n1\u{e9}"),
    ];

    #[test]
    fn what_was_found_once_is_asked_again() {
        for (target, text) in FOUND {
            target(text);
        }
    }

    #[test]
    fn a_slice_of_the_paths() {
        let forms = [
            "/[a.]{0,3}(/|%2f|%2e|%5C|//|;|[ab.]{1,3}){0,6}",
            "(/|[%0-9a-fA-F.]){0,20}",
            ".{0,40}",
        ];
        slice(forms, paths);
    }

    #[test]
    fn a_slice_of_the_forwarded_headers() {
        let forms = [
            "(http://[ab@:.]{0,6})?/\n((x-forwarded-(for|host|proto|port)|forwarded|x-real-ip): ?[0-9a-f.,: ]{0,20}\n){0,5}",
            "/\n((host|content-length|transfer-encoding|connection): ?(5|\\+5|chunked|gzip, chunked|x-a|close, host|a@b|shop)\n){0,5}",
            ".{0,30}\n(.{0,12}: .{0,12}\n){0,4}",
        ];
        slice(forms, forwarded);
    }

    #[test]
    fn a_slice_of_grpc() {
        let forms = [
            "application/grpc(\\+proto|-web)? [1-5][0-9]{2}\n[0-9]{0,9}[HMSmunx]?",
            "[a-z/]{0,20} [0-9]{0,4}\n(-|\\+)?[0-9]{1,8}[HMSmun]",
            ".{0,30}\n.{0,12}",
        ];
        slice(forms, grpc);
    }
}
