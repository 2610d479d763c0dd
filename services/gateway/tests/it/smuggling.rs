//! Requests that two parsers could read in two ways, judged by a service that takes nothing but what is exactly right.
//!
//! After each row comes, on the same connection, one good request that closes it. Whatever the gateway makes of a row, the
//! service behind must never see the request that is hidden in it.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Setup, raw};

/// What the service behind saw: request line and body of each whole request.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// What is to become of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Answered 4xx or 5xx, and the service behind sees no whole request.
    Refused,
    /// Passed on as the one request that it is, with this body.
    Passed(&'static str),
}

use Verdict::{Passed, Refused};

const HIDDEN: &str = "GET /api/orders/hidden HTTP/1.1\r\nHost: shop\r\n\r\n";

/// What stands after the line `POST /api/orders/a HTTP/1.1` and a good `Host`.
const AFTER_THE_LINE: [(&str, &str, Verdict); 40] = [
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
    ("more than the route allows", "Content-Length: 1048577\r\n\r\n", Refused),
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
    // Hosts and expectations.
    ("another host", "Host: other\r\n\r\n", Refused),
    (
        "unknown expectation",
        "Expect: 200-ok\r\nContent-Length: 0\r\n\r\n",
        Refused,
    ),
];

/// Whole requests.
const WHOLE: [(&str, &str, Verdict); 14] = [
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
        "segment up",
        "POST /api/orders/../orders/hidden HTTP/1.1\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "escaped slash",
        "POST /api/orders%2fhidden HTTP/1.1\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "two slashes",
        "POST //api/orders/a HTTP/1.1\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    ("trace", "TRACE /api/orders/a HTTP/1.1\r\nHost: shop\r\n\r\n", Refused),
    ("connect", "CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n", Refused),
    (
        "read with a body",
        "GET /api/orders/a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Passed("hello"),
    ),
];

#[tokio::test]
async fn no_request_hides_in_another() {
    let seen = Seen::default();
    let recorder = Arc::clone(&seen);
    let address = raw(move |stream| record(stream, Arc::clone(&recorder))).await;
    let gateway = Setup::new().target("order", address).start().await;
    let rows = AFTER_THE_LINE.map(|(name, rest, verdict)| {
        let head = "POST /api/orders/a HTTP/1.1\r\nHost: shop\r\n";
        (name, format!("{head}{rest}"), verdict)
    });
    let whole = WHOLE.map(|(name, text, verdict)| (name, text.to_owned(), verdict));
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
    for (name, row, verdict) in rows.into_iter().chain(whole).chain(large) {
        seen.lock().unwrap().clear();
        let text = format!("{}{last}", row.replace("HIDDEN", HIDDEN));
        let answer = gateway.exchange(text.as_bytes()).await;
        let seen: Vec<_> = std::mem::take(&mut *seen.lock().unwrap());
        let first: Vec<_> = seen.iter().filter(|(line, _)| !line.contains("/last ")).collect();
        let status = answer.get(9..12).unwrap_or_default();
        match verdict {
            Refused => {
                assert!(status.starts_with('4') || status.starts_with('5'), "{name}: {answer}");
                assert!(first.is_empty(), "{name}: {first:?}");
            }
            Passed(body) => {
                assert_eq!(status, "200", "{name}: {answer}");
                let [(line, found)] = first.as_slice() else {
                    panic!("{name}: {first:?}")
                };
                assert!(line.contains(" /api/orders/a "), "{name}: {line}");
                assert_eq!(found, body, "{name}");
            }
        }
    }
}

/// Answers 200 to each request that is exactly right; what is not ends the connection.
async fn record(mut stream: TcpStream, seen: Seen) {
    let mut buffer = Vec::new();
    while let Some((line, body)) = request(&mut stream, &mut buffer).await {
        seen.lock().unwrap().push((line, body));
        if stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, String)> {
    let head = take_until(stream, buffer, b"\r\n\r\n").await?;
    let (line, fields) = head.split_once("\r\n")?;
    let fields: Vec<(String, &str)> = fields
        .trim_end()
        .split("\r\n")
        .map(|field| {
            let (name, value) = field.split_once(": ").expect("a field has a name");
            (name.to_lowercase(), value)
        })
        .collect();
    let values = |wanted: &str| -> Vec<&str> {
        let fields = fields.iter().filter(|(name, _)| name == wanted);
        fields.map(|(_, value)| *value).collect()
    };
    assert!(
        values("upgrade").is_empty() && values("http2-settings").is_empty(),
        "{head}"
    );
    assert_eq!(values("host").len(), 1, "{head}");
    let body = match (
        values("content-length").as_slice(),
        values("transfer-encoding").as_slice(),
    ) {
        ([], []) => Vec::new(),
        ([length], []) => take(stream, buffer, length.parse().expect("a length is a number")).await?,
        ([], ["chunked"]) => chunks(stream, buffer).await?,
        other => panic!("a request has one length: {other:?} in {head}"),
    };
    Some((line.to_owned(), String::from_utf8_lossy(&body).into_owned()))
}

async fn chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = take_until(stream, buffer, b"\r\n").await?;
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a size is hexadecimal");
        body.extend(take(stream, buffer, size).await?);
        assert_eq!(take(stream, buffer, 2).await?, b"\r\n");
        if size == 0 {
            return Some(body);
        }
    }
}

async fn take_until(stream: &mut TcpStream, buffer: &mut Vec<u8>, end: &[u8]) -> Option<String> {
    loop {
        if let Some(at) = buffer.windows(end.len()).position(|window| window == end) {
            let text = buffer.drain(..at + end.len()).collect();
            return Some(String::from_utf8(text).expect("a head is text"));
        }
        (stream.read_buf(buffer).await.ok()? > 0).then_some(())?;
    }
}

async fn take(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while buffer.len() < length {
        (stream.read_buf(buffer).await.ok()? > 0).then_some(())?;
    }
    Some(buffer.drain(..length).collect())
}
