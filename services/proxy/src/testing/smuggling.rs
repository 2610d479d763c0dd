//! Requests that two parsers could read in two ways.
//!
//! After each row comes, on the same connection, one good request that closes it. Whatever a hop makes of a row, the
//! service behind must never see the request that is hidden in it.

use std::net::SocketAddr;

use super::oddities::Verdict::{self, OfTheEdge, Passed, Refused};
use super::recorder::Recorder;
use super::{Hop, exchange, oddities};

const HIDDEN: &str = "GET /api/orders/hidden HTTP/1.1\r\nHost: shop\r\n\r\n";

/// What stands after the line `POST /api/orders/a HTTP/1.1` and a good `Host`.
const AFTER_THE_LINE: [(&str, &str, Verdict); 48] = [
    // One length.
    ("length", "Content-Length: 5\r\n\r\nhello", Passed("hello")),
    (
        "length in spaces",
        "Content-Length:   5  \r\n\r\nhello",
        Passed("hello"),
    ),
    (
        "two lengths",
        "Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello",
        Refused,
    ),
    (
        "one length twice",
        "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        Passed("hello"),
    ),
    ("list of lengths", "Content-Length: 5, 5\r\n\r\nhello", Refused),
    ("signed length", "Content-Length: +5\r\n\r\nhello", Refused),
    ("negative length", "Content-Length: -5\r\n\r\nhello", Refused),
    ("hexadecimal length", "Content-Length: 0x5\r\n\r\nhello", Refused),
    ("length and more", "Content-Length: 5x\r\n\r\nhello", Refused),
    ("no number", "Content-Length: \r\n\r\n", Refused),
    (
        "too large a number",
        "Content-Length: 99999999999999999999\r\n\r\nhello",
        Refused,
    ),
    // Length and chunks: the chunks count, the length is not passed on, the connection ends.
    (
        "length, chunks",
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Passed(""),
    ),
    (
        "chunks, length",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nHIDDEN",
        Passed(""),
    ),
    // Encodings.
    (
        "chunks",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Passed("hello"),
    ),
    (
        "chunks in capitals",
        "transfer-ENCODING: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Passed("hello"),
    ),
    (
        "unknown encoding",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "chunks not last",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "chunks last",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "chunks twice",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "vertical tab",
        "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "space before colon",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "space before name",
        " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    // Lines.
    ("folded line", "X-A: b\r\n Content-Length: 5\r\n\r\nhello", Refused),
    ("bare CR", "X-A: b\rContent-Length: 5\r\n\r\n", Refused),
    ("zero byte", "X-A: b\0\r\n\r\n", Refused),
    ("no colon", "X-A\r\n\r\n", Refused),
    ("no name", ": b\r\n\r\n", Refused),
    // Chunks.
    (
        "prefixed size",
        "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "negative size",
        "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "too large a size",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "no size",
        "Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "size with bare LF",
        "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "extension with bare LF",
        "Transfer-Encoding: chunked\r\n\r\n5;a\nhello\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "chunk longer than its size",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        Refused,
    ),
    // What Connection names is dropped, and the body is framed anew.
    (
        "length of one hop",
        "Connection: content-length\r\nContent-Length: 5\r\n\r\nhello",
        Passed("hello"),
    ),
    (
        "chunks of one hop",
        "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Passed("hello"),
    ),
    // Another protocol.
    (
        "h2c",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\nContent-Length: 0\r\n\r\n",
        Passed(""),
    ),
    // What comes after what was refused is not read as a request.
    (
        "length of a read",
        "Content-Length: 6\r\nContent-Length: 5\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "tab before colon",
        "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "encoding in quotes",
        "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "encoding and a comma",
        "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "encoding with a parameter",
        "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "no encoding at all",
        "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        Refused,
    ),
    (
        "empty encoding",
        "Transfer-Encoding: \r\nContent-Length: 5\r\n\r\nhello",
        Refused,
    ),
    (
        "high byte in an encoding",
        "Transfer-Encoding: chunk\u{e9}d\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "trailers that tell a length",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
        Passed("hello"),
    ),
    // Hosts and expectations.
    ("another host", "Host: other\r\n\r\n", Refused),
    (
        "unknown expectation",
        "Expect: 200-ok\r\nContent-Length: 0\r\n\r\n",
        Refused,
    ),
];

/// Whole requests.
const WHOLE: [(&str, &str, Verdict); 20] = [
    ("no host", "POST /api/orders/a HTTP/1.1\r\n\r\n", Refused),
    (
        "host with a path",
        "POST /api/orders/a HTTP/1.1\r\nHost: a/b\r\n\r\n",
        Refused,
    ),
    (
        "host of somebody",
        "POST /api/orders/a HTTP/1.1\r\nHost: a@b\r\n\r\n",
        Refused,
    ),
    (
        "two hosts",
        "POST http://other/api/orders/a HTTP/1.1\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "chunks of 1.0",
        "POST /api/orders/a HTTP/1.0\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    ("version", "POST /api/orders/a HTTP/1.2\r\nHost: shop\r\n\r\n", Refused),
    (
        "two spaces",
        "POST  /api/orders/a HTTP/1.1\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    ("tab", "POST\t/api/orders/a HTTP/1.1\r\nHost: shop\r\n\r\n", Refused),
    (
        "bare LF in the head",
        "POST /api/orders/a HTTP/1.1\nHost: shop\nContent-Length: 5\n\nhello",
        Passed("hello"),
    ),
    (
        "whole address",
        "POST http://shop/api/orders/a HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello",
        Passed("hello"),
    ),
    ("empty host", "POST /api/orders/a HTTP/1.1\r\nHost:\r\n\r\n", Refused),
    (
        "host of 1.0 twice",
        "POST /api/orders/a HTTP/1.0\r\nHost: shop\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "fields in the line",
        "POST /api/orders/a\rX: HTTP/1.1\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    ("no version", "POST /api/orders/a\r\nHost: shop\r\n\r\n", Refused),
    (
        "segment up",
        "POST /api/orders/../orders/hidden HTTP/1.1\r\nHost: shop\r\n\r\n",
        OfTheEdge,
    ),
    (
        "escaped slash",
        "POST /api/orders%2fhidden HTTP/1.1\r\nHost: shop\r\n\r\n",
        OfTheEdge,
    ),
    (
        "two slashes",
        "POST //api/orders/a HTTP/1.1\r\nHost: shop\r\n\r\n",
        OfTheEdge,
    ),
    ("trace", "TRACE /api/orders/a HTTP/1.1\r\nHost: shop\r\n\r\n", OfTheEdge),
    ("connect", "CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n", Refused),
    (
        "read with a body",
        "GET /api/orders/a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Passed("hello"),
    ),
];

/// Sends every row to the `hop` at `address`, behind which is `recorder`.
///
/// # Panics
/// When a row is read in another way than it should be.
pub async fn no_request_hides_in_another(hop: Hop, address: SocketAddr, recorder: &Recorder) {
    let rows = AFTER_THE_LINE.into_iter().chain(oddities::AFTER_THE_LINE);
    let rows = rows.map(|(name, rest, verdict)| {
        let head = "POST /api/orders/a HTTP/1.1\r\nHost: shop\r\n";
        (name, format!("{head}{rest}"), verdict)
    });
    let whole = WHOLE.into_iter().chain(oddities::WHOLE);
    let whole = whole.map(|(name, text, verdict)| (name, text.to_owned(), verdict));
    let long = format!(
        "GET /api/orders/a HTTP/1.1\r\nHost: shop\r\nX-A: {}\r\n\r\n",
        "a".repeat(70_000)
    );
    let many = format!(
        "GET /api/orders/a HTTP/1.1\r\nHost: shop\r\n{}\r\n",
        "X-A: a\r\n".repeat(101)
    );
    let large = [("long head", long, Refused), ("many headers", many, Refused)];
    let last = "GET /api/orders/last HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";
    for (name, row, verdict) in rows.chain(whole).chain(large) {
        recorder.forget();
        let text = format!("{}{last}", row.replace("HIDDEN", HIDDEN));
        let answer = exchange(address, text.as_bytes()).await;
        let seen = recorder.seen();
        let first: Vec<_> = seen.iter().filter(|seen| !seen.line.contains("/last ")).collect();
        let status = answer.get(9..12).unwrap_or_default();
        match (verdict, hop) {
            (Refused, _) | (OfTheEdge, Hop::Edge) => {
                assert!(status.starts_with('4') || status.starts_with('5'), "{name}: {answer}");
                assert!(first.is_empty(), "{name}: {first:?}");
            }
            (Passed(body), _) => {
                assert_eq!(status, "200", "{name}: {answer}");
                let [seen] = first.as_slice() else {
                    panic!("{name}: {first:?}")
                };
                assert!(seen.line.contains(" /api/orders/a "), "{name}: {}", seen.line);
                assert_eq!(seen.body, body, "{name}");
            }
            (OfTheEdge, Hop::Guard) => {
                assert_eq!(status, "200", "{name}: {answer}");
                let [seen] = first.as_slice() else {
                    panic!("{name}: {first:?}")
                };
                assert!(row.starts_with(&seen.line), "{name}: {}", seen.line);
            }
        }
    }
}
