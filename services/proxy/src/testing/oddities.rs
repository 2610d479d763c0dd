//! Requests that two parsers could read in two ways, of rarer kinds than those of `smuggling`, and what may become of one.

/// What is to become of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Answered 4xx or 5xx, and the service behind sees no whole request.
    Refused,
    /// Passed on as the one request that it is, with this body.
    Passed(&'static str),
    /// Refused by who is at the edge; one reading to everybody else, who passes it on as it came.
    OfTheEdge,
}

use Verdict::{OfTheEdge, Passed, Refused};

/// What stands after the line `POST /api/orders/a HTTP/1.1` and a good `Host`.
pub(super) const AFTER_THE_LINE: [(&str, &str, Verdict); 36] = [
    // Lengths.
    (
        "zeros before a length",
        "Content-Length: 005\r\n\r\nhello",
        Passed("hello"),
    ),
    ("length and a comma", "Content-Length: 5,\r\n\r\nhello", Refused),
    ("two numbers", "Content-Length: 5 5\r\n\r\nhello", Refused),
    (
        "length with an exponent",
        "Content-Length: 1e1\r\n\r\n0123456789",
        Refused,
    ),
    ("length with a fraction", "Content-Length: 5.0\r\n\r\nhello", Refused),
    ("length in quotes", "Content-Length: \"5\"\r\n\r\nhello", Refused),
    ("length and a tab inside", "Content-Length: 5\t5\r\n\r\nhello", Refused),
    (
        "length in wide digits",
        "Content-Length: \u{ff15}\r\n\r\nhello",
        Refused,
    ),
    (
        "two to the 64th",
        "Content-Length: 18446744073709551616\r\n\r\nhello",
        Refused,
    ),
    ("zero byte in a name", "Content-Length\0: 5\r\n\r\nhello", Refused),
    ("folded length", "Content-Length: 5\r\n 0\r\n\r\nhello", Refused),
    (
        "line folded by a tab",
        "X-A: b\r\n\tContent-Length: 5\r\n\r\nhello",
        Refused,
    ),
    // Names that only look like those of a framing, and are passed on as what they are.
    (
        "underscore in a length",
        "Content_Length: 0\r\nContent-Length: 5\r\n\r\nhello",
        Passed("hello"),
    ),
    (
        "underscore in an encoding",
        "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        Passed("hello"),
    ),
    // Encodings.
    (
        "length, empty encoding",
        "Content-Length: 5\r\nTransfer-Encoding:\r\n\r\nhello",
        Refused,
    ),
    (
        "chunks, then none",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "none, then chunks",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "folded encoding",
        "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "name in brackets",
        "(Transfer-Encoding): chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    (
        "semicolon for a colon",
        "Transfer-Encoding; chunked\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    ("two CR", "Transfer-Encoding: chunked\r\r\n\r\n0\r\n\r\nHIDDEN", Refused),
    (
        "zero byte in an encoding",
        "Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\nHIDDEN",
        Refused,
    ),
    // Chunks.
    (
        "zeros before a size",
        "Transfer-Encoding: chunked\r\n\r\n00000005\r\nhello\r\n000\r\n\r\n",
        Passed("hello"),
    ),
    (
        "space after a size",
        "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
        Passed("hello"),
    ),
    (
        "space before a size",
        "Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "signed size",
        "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "size with an underscore",
        "Transfer-Encoding: chunked\r\n\r\n0_5\r\nhello\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "quoted line end in an extension",
        "Transfer-Encoding: chunked\r\n\r\n5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "chunk that ends by bare LF",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
        Refused,
    ),
    (
        "chunk that ends by bare CR",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r0\r\n\r\n",
        Refused,
    ),
    (
        "trailers that tell an encoding",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        Passed("hello"),
    ),
    (
        "trailers that name another host",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nHost: other\r\n\r\n",
        Passed("hello"),
    ),
    (
        "extension of a size",
        "Transfer-Encoding: chunked\r\n\r\n5;a=b;c\r\nhello\r\n0\r\n\r\n",
        Passed("hello"),
    ),
    // Hosts.
    ("space before the colon of a host", "Host : other\r\n\r\n", Refused),
    (
        "host of one hop",
        "Connection: host\r\nContent-Length: 5\r\n\r\nhello",
        Passed("hello"),
    ),
    (
        "expectation of one hop",
        "Connection: expect\r\nContent-Length: 5\r\n\r\nhello",
        Passed("hello"),
    ),
];

/// Whole requests.
pub(super) const WHOLE: [(&str, &str, Verdict); 18] = [
    (
        "empty line before",
        "\r\nPOST /api/orders/a HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello",
        Passed("hello"),
    ),
    (
        "space before",
        " POST /api/orders/a HTTP/1.1\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "space after",
        "POST /api/orders/a HTTP/1.1 \r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "version of two digits",
        "POST /api/orders/a HTTP/1.10\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "version in small letters",
        "POST /api/orders/a http/1.1\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "version 2",
        "POST /api/orders/a HTTP/2.0\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "version 0.9",
        "POST /api/orders/a HTTP/0.9\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "method with a colon",
        "POST: /api/orders/a HTTP/1.1\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "space in a target",
        "POST /api/orders/a b HTTP/1.1\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "somebody at a host",
        "POST http://a@shop/api/orders/a HTTP/1.1\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "another port",
        "POST http://shop:81/api/orders/a HTTP/1.1\r\nHost: shop\r\n\r\n",
        Refused,
    ),
    (
        "line end in a host",
        "POST /api/orders/a HTTP/1.1\r\nHost: shop\rX-A: b\r\n\r\n",
        Refused,
    ),
    (
        "list of hosts",
        "POST /api/orders/a HTTP/1.1\r\nHost: shop, other\r\n\r\n",
        Refused,
    ),
    (
        "escaped dots",
        "POST /api/orders/%2e%2e/orders/hidden HTTP/1.1\r\nHost: shop\r\n\r\n",
        OfTheEdge,
    ),
    (
        "escaped zero byte",
        "POST /api/orders/hidden%00 HTTP/1.1\r\nHost: shop\r\n\r\n",
        OfTheEdge,
    ),
    (
        "escaped line end",
        "POST /api/orders/hidden%0d%0aX:%20y HTTP/1.1\r\nHost: shop\r\n\r\n",
        OfTheEdge,
    ),
    (
        "backslash",
        "POST /api\\orders/hidden HTTP/1.1\r\nHost: shop\r\n\r\n",
        OfTheEdge,
    ),
    ("star", "POST * HTTP/1.1\r\nHost: shop\r\n\r\n", OfTheEdge),
];
