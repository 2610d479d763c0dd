//! A service that takes nothing but what is exactly right, and remembers what it took.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as the service read it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its first line.
    pub line: String,
    /// All of its head.
    pub head: String,
    /// Its body, without chunks.
    pub body: String,
}

/// The service, until the test's runtime ends.
pub struct Recorder {
    /// Where it is.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Recorder {
    /// Listens for HTTP/1.1 on a port of its own.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        Self::taking(record).await
    }

    /// As [`start`](Self::start), for HTTP/2; heads are remembered as if they had come by HTTP/1.1.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn http2() -> Self {
        Self::taking(record_http2).await
    }

    async fn taking<F>(record: impl Fn(TcpStream, Arc<Mutex<Vec<Seen>>>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a port has an address");
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let recorded = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(record(stream, Arc::clone(&recorded)));
            }
        });
        Self { address, seen }
    }

    /// What it saw since it last forgot.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// Forgets what it saw.
    pub fn forget(&self) {
        lock(&self.seen).clear();
    }
}

fn lock(seen: &Mutex<Vec<Seen>>) -> MutexGuard<'_, Vec<Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers 200 to each request that is exactly right; what is not ends the connection.
async fn record(mut stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut buffer = Vec::new();
    while let Some(request) = request(&mut stream, &mut buffer).await {
        lock(&seen).push(request);
        if stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn record_http2(stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let line = format!("{} {} HTTP/1.1", parts.method, parts.uri.path());
            let mut head = format!("{line}\r\n");
            for (name, value) in &parts.headers {
                let _ = write!(head, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
            }
            // One that breaks off is none.
            if let Ok(body) = body.collect().await {
                let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                lock(&seen).push(Seen { line, head, body });
            }
            Ok::<_, Infallible>(Response::new(String::from("ok")))
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // Floods break connections.
    let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
}

async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
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
    Some(Seen {
        line: line.to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
        head,
    })
}

async fn chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = take_until(stream, buffer, b"\r\n").await?;
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a size is hexadecimal");
        if size == 0 {
            // Trailers, until a line of nothing.
            while take_until(stream, buffer, b"\r\n").await? != "\r\n" {}
            return Some(body);
        }
        body.extend(take(stream, buffer, size).await?);
        assert_eq!(take(stream, buffer, 2).await?, b"\r\n");
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
