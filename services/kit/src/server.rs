//! Serves a router over HTTP/1 and HTTP/2 and ends gently.
//!
//! Not `axum::serve`: that sets no timer, and a client that never finishes its head would stay for ever.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use futures::future::BoxFuture;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use valerix_resilience::AbortConnection;

use crate::leftover_body::RequestBody;

/// Limits of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a connection may take to send a head; also how long it may idle between requests.
    pub header_read_timeout: Duration,
    /// How long a request's body may stand still.
    pub body_read_timeout: Duration,
    /// How long requests in flight may take to finish once the listener is told to stop.
    pub drain_timeout: Duration,
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
    let graceful = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let requests = Connection { router: router.clone(), peer, limits };
                    let connection = connection(stream, Arc::clone(&handshake), requests, graceful.watcher(), stop.clone());
                    connections.spawn(connection);
                }
                Err(error) => accept_failed(&error).await,
            },
            Some(_) = connections.join_next() => {}
            () = stop.cancelled() => break,
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(limits.drain_timeout, graceful.shutdown())
        .await
        .is_ok();
    while connections.try_join_next().is_some() {}
    if drained { 0 } else { connections.len() }
}

async fn connection(
    stream: TcpStream,
    handshake: Handshake,
    requests: Connection,
    watcher: Watcher,
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
        .max_concurrent_streams(256);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), requests);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// The router as hyper wants it, for the requests of one connection.
#[derive(Clone)]
struct Connection {
    router: Router,
    peer: SocketAddr,
    limits: Limits,
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
        let mut request =
            request.map(|body| Body::new(RequestBody::new(body, self.limits.body_read_timeout, asks_first)));
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let answer = self.router.clone().oneshot(request);
        Box::pin(async move {
            match answer.await {
                Ok(answer) if answer.extensions().get::<AbortConnection>().is_some() => Err(Aborted),
                Ok(answer) => Ok(answer),
                Err(never) => match never {},
            }
        })
    }
}

/// A connection that vanished before it was accepted says nothing; being out of file descriptors passes.
async fn accept_failed(error: &std::io::Error) {
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
