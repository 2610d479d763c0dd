//! A service of gRPC that says back what it hears, and a client that makes calls of every kind.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::PATIENCE;

/// The path before the name of a call.
pub const ECHO: &str = "/echo.Echo";

/// A call: its name, what is said, what is to be heard.
type Call = (&'static str, &'static [&'static str], &'static [&'static str]);

const CALLS: [Call; 4] = [
    ("Unary", &["one"], &["one"]),
    ("ClientStream", &["one", "", "three"], &["onethree"]),
    ("ServerStream", &["one"], &["one", "one", "one"]),
    // By turns: the second is said once the first was heard.
    ("Bidirectional", &["one", "", "three"], &["one", "", "three"]),
];

/// A service that says back what it hears, until the test's runtime ends.
///
/// # Panics
/// When there is no port for it.
pub async fn grpc_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a port has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answers = service_fn(|request| async { Ok::<_, Infallible>(echo(request)) });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), answers));
        }
    });
    address
}

/// Makes a call of each kind to [`grpc_echo`] behind the hop at `address`.
///
/// # Panics
/// When what is heard is not what was said, or the status behind it is lost.
pub async fn calls_of_every_kind_pass(address: SocketAddr) {
    let stream = TcpStream::connect(address).await.expect("the hop listens");
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("the hop speaks HTTP/2");
    tokio::spawn(connection);
    for (name, said, expected) in CALLS {
        let (say, come) = mpsc::unbounded_channel();
        let mut left = said.iter().map(|message| framed(message.as_bytes()));
        let at_once = if name == "Bidirectional" { 1 } else { said.len() };
        for message in left.by_ref().take(at_once) {
            say.send(message).expect("the request is open");
        }
        let mut say = (at_once < said.len()).then_some(say);
        let request = Request::post(format!("http://{address}{ECHO}/{name}"))
            .header(CONTENT_TYPE, "application/grpc")
            .header("te", "trailers")
            .body(Messages { come, behind: None })
            .expect("a request");
        let calling = async {
            let answer = sender.send_request(request).await.expect("an answer");
            let (mut answer, mut heard) = (Reader::new(answer.into_body()), Vec::new());
            while let Some(message) = answer.next().await {
                heard.push(String::from_utf8_lossy(&message).into_owned());
                match (left.next(), &say) {
                    (Some(next), Some(say)) => say.send(next).expect("the request is open"),
                    _ => say = None,
                }
            }
            (heard, answer.status)
        };
        let called = tokio::time::timeout(PATIENCE, calling).await;
        let (heard, status) = called.unwrap_or_else(|_| panic!("{name} does not end"));
        assert_eq!(heard, expected, "{name}");
        assert_eq!(status.as_deref(), Some("0"), "{name}");
    }
}

fn echo(request: Request<Incoming>) -> Response<Messages> {
    let name = request
        .uri()
        .path()
        .trim_start_matches(ECHO)
        .trim_start_matches('/')
        .to_owned();
    let (say, come) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut asked = Reader::new(request.into_body());
        let mut whole = BytesMut::new();
        while let Some(message) = asked.next().await {
            let times = match name.as_str() {
                "ClientStream" => 0,
                "ServerStream" => 3,
                _ => 1,
            };
            for _ in 0..times {
                let _ = say.send(framed(&message));
            }
            whole.extend_from_slice(&message);
        }
        if name == "ClientStream" {
            let _ = say.send(framed(&whole));
        }
    });
    let behind = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let mut answer = Response::new(Messages {
        come,
        behind: Some(behind),
    });
    let media_type = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}

/// A message as it stands in a body: not compressed, its length, itself.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// A body of messages as they come, and what stands behind them.
struct Messages {
    come: mpsc::UnboundedReceiver<Bytes>,
    behind: Option<HeaderMap>,
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.come.poll_recv(context).map(|message| {
            let frame = match message {
                Some(message) => Some(Frame::data(message)),
                None => self.behind.take().map(Frame::trailers),
            };
            frame.map(Ok)
        })
    }
}

/// Reads messages out of a body, wherever its pieces end.
struct Reader {
    body: Incoming,
    read: BytesMut,
    /// `grpc-status` behind the body.
    status: Option<String>,
}

impl Reader {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            read: BytesMut::new(),
            status: None,
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(mut length) = self.read.get(1..5) {
                let whole = 5 + length.get_u32() as usize;
                if self.read.len() >= whole {
                    return Some(self.read.split_to(whole).freeze().slice(5..));
                }
            }
            let frame = self.body.frame().await?.ok()?;
            match frame.into_data() {
                Ok(data) => self.read.extend_from_slice(&data),
                Err(frame) => {
                    let status = frame.trailers_ref().and_then(|trailers| trailers.get("grpc-status"));
                    self.status = status.and_then(|status| status.to_str().ok()).map(ToOwned::to_owned);
                }
            }
        }
    }
}
