//! Heads of HTTP/2 that could become another request, or two, once they are written as HTTP/1.1.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;

use super::frames::{
    CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, block, frame,
};
use super::recorder::Recorder;
use super::{Hop, PATIENCE};

/// What is to become of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The service behind sees nothing of it.
    Refused,
    /// Passed on as one request, whose head has this line or says nothing of it.
    Passed(&'static str),
    /// Refused by who is at the edge; passed on by others as the one request that it is.
    OfTheEdge,
}

use Verdict::{OfTheEdge, Passed, Refused};

/// A field of a good head: pseudo-header and value.
type Field = (&'static str, &'static str);

const GOOD: [Field; 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "shop"),
    (":path", "/api/orders/a"),
];

/// Fields that take the place of those of the same name, or come after them.
const CHANGED: [(&str, &[Field], Verdict); 36] = [
    ("nothing", &[], Passed("POST /api/orders/a HTTP/1.1")),
    (
        "cookies in parts",
        &[("cookie", "a=1"), ("cookie", "b=2")],
        Passed("cookie: a=1; b=2"),
    ),
    ("te", &[("te", "trailers")], Passed("POST /api/orders/a HTTP/1.1")),
    // Lines within.
    ("line in a value", &[("x-a", "b\r\nx-hidden: 1")], Refused),
    ("bare CR in a value", &[("x-a", "b\rc")], Refused),
    ("bare LF in a value", &[("x-a", "b\nc")], Refused),
    ("zero byte in a value", &[("x-a", "b\0")], Refused),
    ("line in a name", &[("x-a: b\r\nx-hidden", "1")], Refused),
    ("colon in a name", &[("x-a:b", "1")], Refused),
    ("space in a name", &[("x-a ", "1")], Refused),
    ("capitals in a name", &[("X-A", "1")], Refused),
    ("empty name", &[("", "1")], Refused),
    (
        "request in a path",
        &[(":path", "/api/orders/a HTTP/1.1\r\nHost: x\r\n\r\nGET /hidden")],
        Refused,
    ),
    ("space in a path", &[(":path", "/api/orders/a b")], Refused),
    (
        "line in a method",
        &[(":method", "GET /hidden HTTP/1.1\r\nx: y")],
        Refused,
    ),
    ("space in a method", &[(":method", "POST /hidden")], Refused),
    (
        "line in an authority",
        &[(":authority", "shop\r\nx-hidden: 1")],
        Refused,
    ),
    ("line in a scheme", &[(":scheme", "http\r\nx")], Refused),
    // Who is asked.
    ("authority and another host", &[("host", "other")], Refused),
    (
        "authority and two hosts",
        &[("host", "shop"), ("host", "shop")],
        Refused,
    ),
    ("authority of somebody", &[(":authority", "a@shop")], Refused),
    ("authority with a path", &[(":authority", "shop/hidden")], Refused),
    ("whole address as a path", &[(":path", "http://other/hidden")], Refused),
    ("path without a slash", &[(":path", "api/orders/a")], Refused),
    ("segment up", &[(":path", "/api/orders/../orders/hidden")], OfTheEdge),
    // Pseudo-headers.
    ("one of an answer", &[(":status", "200")], Refused),
    ("one that nobody knows", &[(":hidden", "1")], Refused),
    (
        "another protocol",
        &[(":method", "CONNECT"), (":protocol", "websocket")],
        Refused,
    ),
    ("connect", &[(":method", "CONNECT")], Refused),
    // What is of one hop.
    ("connection", &[("connection", "close")], Refused),
    ("encoding", &[("transfer-encoding", "chunked")], Refused),
    ("upgrade", &[("upgrade", "h2c")], Refused),
    ("other te", &[("te", "chunked")], Refused),
    // Lengths; the body is `hello`.
    ("length", &[("content-length", "5")], Passed("content-length: 5")),
    ("signed length", &[("content-length", "+5")], Refused),
    (
        "two lengths",
        &[("content-length", "5"), ("content-length", "6")],
        Refused,
    ),
];

/// Heads and bodies as a whole.
fn whole() -> Vec<(&'static str, Vec<u8>, Verdict)> {
    let head = |fields: &[Field], flags: u8| frame(HEADERS, flags | END_HEADERS, 1, &block(fields));
    let without = |name: &str| {
        let fields: Vec<_> = GOOD.into_iter().filter(|(field, _)| *field != name).collect();
        head(&fields, END_STREAM)
    };
    let with = |fields: &[Field]| [&GOOD, fields].concat();
    let body = |text: &str| frame(DATA, END_STREAM, 1, text.as_bytes());
    let length = with(&[("content-length", "5")]);
    let (one, rest) = (block(&GOOD), block(&[("x-a", "b")]));
    vec![
        ("no method", without(":method"), Refused),
        ("no scheme", without(":scheme"), Refused),
        ("no path", without(":path"), Refused),
        ("no host", without(":authority"), Refused),
        ("path twice", head(&with(&[(":path", "/hidden")]), END_STREAM), Refused),
        (
            "authority twice",
            head(&with(&[(":authority", "shop")]), END_STREAM),
            Refused,
        ),
        (
            "pseudo-header after another",
            head(&[("x-a", "b"), GOOD[0], GOOD[1], GOOD[2], GOOD[3]], END_STREAM),
            Refused,
        ),
        (
            "more than its length",
            [head(&length, 0), body("hello!")].concat(),
            Refused,
        ),
        (
            "less than its length",
            [head(&length, 0), body("hell")].concat(),
            Refused,
        ),
        ("a length and nothing", head(&length, END_STREAM), Refused),
        (
            "a stream of the server",
            frame(HEADERS, END_HEADERS | END_STREAM, 2, &one),
            Refused,
        ),
        ("no stream", frame(HEADERS, END_HEADERS | END_STREAM, 0, &one), Refused),
        ("a body without a head", body("hello"), Refused),
        ("a part of no head", frame(CONTINUATION, END_HEADERS, 1, &one), Refused),
        (
            "a head in parts",
            [
                frame(HEADERS, END_STREAM, 1, &one),
                frame(CONTINUATION, END_HEADERS, 1, &rest),
            ]
            .concat(),
            Passed("x-a: b"),
        ),
        (
            "something between the parts of a head",
            [
                frame(HEADERS, END_STREAM, 1, &one),
                body("hello"),
                frame(CONTINUATION, END_HEADERS, 1, &rest),
            ]
            .concat(),
            Refused,
        ),
    ]
}

/// Sends every head to the `hop` at `address`, behind which is `recorder`.
///
/// # Panics
/// When one is read in another way than it should be.
pub async fn heads_of_http2_are_read_in_one_way(hop: Hop, address: SocketAddr, recorder: &Recorder) {
    let changed = CHANGED.iter().map(|(name, fields, verdict)| {
        let kept = GOOD
            .iter()
            .filter(|(good, _)| fields.iter().all(|(name, _)| name != good));
        let pseudo = fields.iter().filter(|(name, _)| name.starts_with(':'));
        let others = fields.iter().filter(|(name, _)| !name.starts_with(':'));
        let fields: Vec<Field> = kept.chain(pseudo).chain(others).copied().collect();
        let head = frame(HEADERS, END_HEADERS, 1, &block(&fields));
        (*name, [head, frame(DATA, END_STREAM, 1, b"hello")].concat(), *verdict)
    });
    for (name, frames, verdict) in changed.chain(whole()) {
        recorder.forget();
        let heard = tokio::time::timeout(PATIENCE, ask(address, &frames)).await;
        let heard = heard.unwrap_or_else(|_| panic!("{name}: nothing came"));
        let seen = recorder.seen();
        match (verdict, hop) {
            (Refused, _) | (OfTheEdge, Hop::Edge) => {
                assert!(seen.is_empty(), "{name}: {seen:?}");
                assert_ne!(heard, Heard::Good, "{name}");
            }
            (Passed(_) | OfTheEdge, _) => {
                assert_eq!(heard, Heard::Good, "{name}");
                let [request] = seen.as_slice() else {
                    panic!("{name}: {seen:?}")
                };
                let line = if let Passed(line) = verdict {
                    line
                } else {
                    "/api/orders/../orders/hidden"
                };
                assert!(request.head.contains(line), "{name}: {}", request.head);
            }
        }
    }
}

/// What a stream came to.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// An answer of 200.
    Good,
    /// Another answer.
    Another,
    /// The end of the stream or of the connection.
    End,
}

async fn ask(address: SocketAddr, frames: &[u8]) -> Heard {
    let mut connection = Connection::open(address).await;
    // The hop may have closed already.
    let _ = connection.0.write_all(frames).await;
    loop {
        match connection.next().await {
            // 0x88 is `:status: 200` in the standard's table.
            Some(came) if came.kind == HEADERS => {
                let good = came.payload.first() == Some(&0x88);
                return if good { Heard::Good } else { Heard::Another };
            }
            Some(came) if matches!(came.kind, RST_STREAM | GOAWAY) => return Heard::End,
            Some(_) => {}
            None => return Heard::End,
        }
    }
}
