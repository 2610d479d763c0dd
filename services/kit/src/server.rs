//! Serves a router over HTTP/1 and HTTP/2 and ends gently.
//!
//! Not `axum::serve`: that sets no timer, and a client that never finishes its head would stay for ever.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use valerix_resilience::AbortConnection;

use crate::impatient::{Deliveries, Impatient};
use crate::leftover_body::RequestBody;

/// Limits of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a connection may take to send a head; also how long it may idle between requests.
    pub header_read_timeout: Duration,
    /// How long a request's body may stand still, that of gRPC excepted; and how long a client may take nothing of what it
    /// is sent.
    pub body_read_timeout: Duration,
    /// How long requests in flight may take to finish once the listener is told to stop.
    pub drain_timeout: Duration,
    /// Connections at a time, those that were upgraded among them; one more waits until another ends.
    pub connections: usize,
}

/// A stream of bytes, secured or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Makes a secured stream of a connection; it has as long for that as for the head of a request.
pub type Handshake = Arc<dyn Fn(TcpStream) -> BoxFuture<'static, std::io::Result<Box<dyn Stream>>> + Send + Sync>;

/// Extension of requests that came by a connection that a [`Handshake`] secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secure;

/// The most that is read ahead of a connection, in bytes: what the head of a request may have.
const READ_AHEAD: usize = 64 * 1024;
const HEAD: u32 = 64 * 1024;
/// What one client may make a connection of HTTP/2 hold: requests at a time, bytes of one request's body and of all that
/// nobody has read yet, and bytes of each answer that it has not taken.
const STREAMS: u32 = 256;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
/// Requests that a client has reset and that were not looked at yet, and resets that its mistakes caused: with more the
/// connection ends.
const PENDING_RESETS: usize = 20;
const CAUSED_RESETS: usize = 128;

/// Serves `router` until `stop`; then takes no new connection, tells the clients of the others (`Connection: close`,
/// GOAWAY), and returns when all are done or after `drain_timeout`. Returns how many connections were cut.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) -> usize {
    let plain: Handshake = Arc::new(|stream| Box::pin(async { Ok(Box::new(stream) as Box<dyn Stream>) }));
    serve_secured(listener, plain, router, limits, stop).await
}

/// As [`serve`], on the streams that `handshake` makes of the connections.
pub async fn serve_secured(
    listener: TcpListener,
    handshake: Handshake,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> usize {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stop.cancelled() => break,
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let requests = Connection { router: router.clone(), peer, limits, answers: Deliveries::default() };
                    let connection = connection(stream, place, Arc::clone(&handshake), requests, stop.clone());
                    connections.spawn(connection);
                }
                Err(error) => accept_failed(&error).await,
            },
            Some(_) = connections.join_next() => {}
            () = stop.cancelled() => break,
        }
    }
    drop(listener);
    let ending = async { while connections.join_next().await.is_some() {} };
    let drained = tokio::time::timeout(limits.drain_timeout, ending).await.is_ok();
    if drained { 0 } else { connections.len() }
}

async fn connection(
    stream: TcpStream,
    place: Result<OwnedSemaphorePermit, AcquireError>,
    handshake: Handshake,
    requests: Connection,
    stop: CancellationToken,
) {
    // Small answers must not wait for an acknowledgement; without it they only come later.
    let _ = stream.set_nodelay(true);
    // hyper's timer starts with the first byte; a connection that sends none is our business.
    let mut byte = [0];
    let Connection { peer, limits, .. } = requests;
    tokio::select! {
        first = tokio::time::timeout(limits.header_read_timeout, stream.peek(&mut byte)) => {
            if !matches!(first, Ok(Ok(1..))) { return; }
        }
        () = stop.cancelled() => return,
    }
    let stream = tokio::select! {
        secured = tokio::time::timeout(limits.header_read_timeout, handshake(stream)) => match secured {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "a handshake failed");
                return;
            }
            Err(_) => return,
        },
        () = stop.cancelled() => return,
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(READ_AHEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEAD)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(CAUSED_RESETS);
    let stream = Impatient::new(stream, limits.body_read_timeout, place.ok());
    let answers = requests.answers.clone();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), requests);
    let mut connection = pin!(connection);
    let watching = async {
        tokio::select! {
            () = stop.cancelled() => Turn::Close,
            () = answers.idle_for(limits.header_read_timeout) => Turn::Close,
            () = answers.untaken_for(limits.body_read_timeout) => Turn::Cut,
        }
    };
    // Looked at when something of it has happened, and not with every piece that comes by the connection.
    let mut watching = FuturesUnordered::from_iter([watching]);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        Some(turn) = watching.next() => {
            if turn == Turn::Cut {
                return;
            }
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = answers.untaken_for(limits.body_read_timeout) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// What becomes of a connection that has not ended by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It is told to end.
    Close,
    /// It is closed at once.
    Cut,
}

/// The router as hyper wants it, for the requests of one connection.
#[derive(Clone)]
struct Connection {
    router: Router,
    peer: SocketAddr,
    limits: Limits,
    answers: Deliveries,
}

/// A fault closes the connection: for hyper an error of the service, for the caller a lost peer.
#[derive(Debug, thiserror::Error)]
#[error("aborted by a fault")]
struct Aborted;

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Response;
    type Error = Aborted;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Aborted>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let asks_first = request.headers().contains_key(http::header::EXPECT);
        let patience = patience(request.headers(), self.limits);
        let mut request = request.map(|body| {
            // What most requests have: nothing to wait for, and nothing to drain.
            if body.is_end_stream() {
                Body::empty()
            } else {
                Body::new(RequestBody::new(body, patience, asks_first))
            }
        });
        let answering = self.answers.begin(request.version());
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let answer = self.router.clone().oneshot(request);
        Box::pin(async move {
            match answer.await {
                Ok(answer) if answer.extensions().get::<AbortConnection>().is_some() => Err(Aborted),
                Ok(answer) => Ok(match answering {
                    Some(answering) => answer.map(|body| Body::new(answering.watch(body))),
                    None => answer,
                }),
                Err(never) => match never {},
            }
        })
    }
}

/// How long a body may stand still: messages of gRPC come when there is something to say.
fn patience(headers: &HeaderMap, limits: Limits) -> Duration {
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if media_type.is_some_and(|media_type| media_type.starts_with(b"application/grpc")) {
        return Duration::from_secs(24 * 60 * 60);
    }
    limits.body_read_timeout
}

/// A connection that vanished before it was accepted says nothing; being out of file descriptors passes.
pub async fn accept_failed(error: &std::io::Error) {
    use std::io::ErrorKind;
    if matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    ) {
        return;
    }
    tracing::error!(%error, "failed to accept a connection");
    tokio::time::sleep(Duration::from_millis(500)).await;
}
