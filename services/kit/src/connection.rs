//! One connection: which version of HTTP it speaks, its requests, how long it may stand still, and how it ends.
//!
//! A connection of HTTP/1.1 on which nothing has been for a while is parked: what it was served with is let go of, buffers
//! and all, until the next byte comes. That cannot lose one: it is parked only where nothing is half read, half answered or
//! half sent, by the one task that reads and writes it, and what was read all the same is given back.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use valerix_resilience::AbortConnection;

use crate::activity::{Activity, UnderWay, Watched};
use crate::impatient::Impatient;
use crate::leftover_body::RequestBody;

/// Limits of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a connection may idle before it begins a head, and at the most take to end one.
    pub header_read_timeout: Duration,
    /// How long it may take from the first byte of a head to its end.
    pub head_timeout: Duration,
    /// How long a request's body may stand still, that of gRPC excepted; and how long a client may take nothing of what it
    /// is sent.
    pub body_read_timeout: Duration,
    /// How long requests in flight may take to finish once the listener is told to stop.
    pub drain_timeout: Duration,
    /// Connections at a time, those that were upgraded among them; one more waits until another ends.
    pub connections: usize,
    /// Connections of HTTP/2 at a time that may send [`CONNECTION_WINDOW`] bytes of uploads before anybody has read of them.
    /// Those that come while there are so many may send less.
    pub wide: usize,
}

/// What answers requests: a router, or what stands before one.
pub trait Answers: Send + Sync + 'static {
    /// The answer to a request. Dropped where whoever asks leaves.
    fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response>;
}

impl Answers for Router {
    fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response> {
        let answer = self.clone().oneshot(request);
        Box::pin(async move {
            match answer.await {
                Ok(answer) => answer,
                Err(never) => match never {},
            }
        })
    }
}

impl<A: Answers + ?Sized> Answers for Arc<A> {
    fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response> {
        (**self).answer(request)
    }
}

/// A stream of bytes, secured or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Makes a secured stream of a connection; it has as long for that as for the head of a request.
pub type Handshake = Arc<dyn Fn(TcpStream) -> BoxFuture<'static, std::io::Result<Box<dyn Stream>>> + Send + Sync>;

/// Extension of requests that came by a connection that a [`Handshake`] secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secure;

/// The most that is read ahead of a connection, and that the head of a request may have, in bytes.
const READ_AHEAD: usize = 64 * 1024;
const HEAD: u32 = 64 * 1024;
/// What one client may make a connection of HTTP/2 hold: requests at a time, bytes of one request's body and of all that
/// nobody has read yet, and bytes of each answer that it has not taken.
const STREAMS: u32 = 256;
const STREAM_WINDOW: u32 = 64 * 1024;
/// Bytes of uploads that a connection of HTTP/2 may send before anybody has read of them.
pub const CONNECTION_WINDOW: u32 = 256 * 1024;
/// The same of one upload, and of all of a connection, where there are as many wide ones as may be. No connection can be
/// given less than the standard gives to each.
pub const NARROW_STREAM_WINDOW: u32 = 16 * 1024;
const NARROW_CONNECTION_WINDOW: u32 = 65_535;
const SEND_BUFFER: usize = 64 * 1024;
/// Requests that a client has reset and that were not looked at yet, and resets that its mistakes caused: with more the
/// connection ends.
const PENDING_RESETS: usize = 20;
const CAUSED_RESETS: usize = 128;

/// A connection of HTTP/1.1 on which nothing has been for so long is parked.
const PARKED_AFTER: Duration = Duration::from_millis(250);

/// Who has begun a head when the service ends may end it within this.
const LAST_HEAD: Duration = Duration::from_secs(1);

/// A connection's stream.
type Connected = Impatient<Box<dyn Stream>>;

/// Serves one connection until it ends.
pub(crate) async fn connection(
    stream: TcpStream,
    place: Option<OwnedSemaphorePermit>,
    handshake: Handshake,
    mut requests: Requests,
    stop: CancellationToken,
) {
    // Small answers must not wait for an acknowledgement; without it they only come later.
    let _ = stream.set_nodelay(true);
    let (limits, activity) = (requests.limits, requests.activity.clone());
    let stream = tokio::select! {
        secured = tokio::time::timeout(limits.header_read_timeout, handshake(stream)) => match secured {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(peer = %requests.peer, %error, "a handshake failed");
                return;
            }
            Err(_) => return,
        },
        () = stop.cancelled() => return,
    };
    let mut stream = Impatient::new(stream, limits.body_read_timeout, place, activity.clone());
    let http2 = tokio::select! {
        begun = tokio::time::timeout(limits.header_read_timeout, stream.begins_http2(limits.head_timeout)) => match begun {
            Ok(Ok(http2)) => http2,
            _ => return,
        },
        () = stop.cancelled() => return,
    };
    // The first head has its time from here on.
    activity.begins();
    // What it is served with is in a place of its own, and not in that of the connection, which stays.
    if http2 {
        return Box::pin(serve_http2(stream, requests, &stop)).await;
    }
    while let Some(parked) = Box::pin(serve_http1(stream, requests, &stop)).await {
        (stream, requests) = parked;
        let end = activity.quiet().unwrap_or_else(Instant::now) + limits.header_read_timeout;
        tokio::select! {
            biased;
            more = tokio::time::timeout_at(end, stream.more()) => match more {
                Ok(Ok(true)) => continue,
                Ok(Err(_)) => return,
                Ok(Ok(false)) | Err(_) => {}
            },
            () = stop.cancelled() => {}
        }
        // In the way that its protocol has, where there is one.
        let _ = stream.shutdown().await;
        return;
    }
}

/// Serves a connection of HTTP/1.1 until it ends, which gives nothing, or until it is to be parked.
async fn serve_http1(stream: Connected, requests: Requests, stop: &CancellationToken) -> Option<(Connected, Requests)> {
    let (peer, limits, activity) = (requests.peer, requests.limits, requests.activity.clone());
    let mut builder = http1::Builder::new();
    // How long a head may take is bounded here: hyper would set up and take down a timer for each.
    builder.max_buf_size(READ_AHEAD).max_header_size(HEAD as usize);
    let mut connection = builder.serve_connection(TokioIo::new(stream), requests).with_upgrades();
    let watching = async {
        tokio::select! {
            () = stop.cancelled() => Turn::Close,
            turn = rest(&activity, limits) => turn,
        }
    };
    // Looked at when something of it has happened, and not with every piece that comes by the connection.
    let mut watching = FuturesUnordered::from_iter([watching]);
    let turn = tokio::select! {
        biased;
        ended = &mut connection => {
            told(peer, ended);
            return None;
        }
        turn = watching.next() => turn,
    };
    match turn {
        Some(Turn::Park) => {
            let parts = connection.into_parts()?;
            let mut stream = parts.io.into_inner();
            stream.give_back(parts.read_buf);
            Some((stream, parts.service))
        }
        Some(Turn::Close) => {
            Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                biased;
                ended = &mut connection => told(peer, ended),
                () = activity.nothing_left(LAST_HEAD) => {}
            }
            None
        }
        Some(Turn::Cut) | None => None,
    }
}

/// What becomes of a connection of HTTP/1.1 on which nothing is under way: who has begun a head has to end it in time, and
/// all others may be parked, once they have taken all of their answer.
async fn rest(activity: &Activity, limits: Limits) -> Turn {
    let patience = limits.head_timeout.min(limits.header_read_timeout);
    let look = PARKED_AFTER.min(patience);
    // The head that was seen first since nothing is under way, and when.
    let mut begun: Option<(Instant, Instant)> = None;
    loop {
        let quiet = activity.quiet_for(look).await;
        if activity.is_at_rest() {
            return Turn::Park;
        }
        let seen = match begun.filter(|(since, _)| *since == quiet) {
            Some((_, seen)) => seen,
            None => begun.insert((quiet, Instant::now())).1,
        };
        if seen + patience <= Instant::now() && !activity.is_unsent() {
            return Turn::Cut;
        }
        tokio::time::sleep(look).await;
    }
}

async fn serve_http2(stream: Connected, requests: Requests, stop: &CancellationToken) {
    let (peer, limits, activity) = (requests.peer, requests.limits, requests.activity.clone());
    let wide = Arc::clone(&requests.wide).try_acquire_owned();
    let (of_stream, of_all) = match wide {
        Ok(_) => (STREAM_WINDOW, CONNECTION_WINDOW),
        Err(_) => (NARROW_STREAM_WINDOW, NARROW_CONNECTION_WINDOW),
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(of_stream)
        .initial_connection_window_size(of_all)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEAD)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(CAUSED_RESETS);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), requests));
    let watching = async {
        tokio::select! {
            () = stop.cancelled() => Turn::Close,
            _ = activity.quiet_for(limits.header_read_timeout) => Turn::Close,
            () = activity.untaken_for(limits.body_read_timeout) => Turn::Cut,
        }
    };
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
                () = activity.untaken_for(limits.body_read_timeout) => return,
            }
        }
    };
    told(peer, ended);
}

fn told(peer: SocketAddr, ended: hyper::Result<()>) {
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
    /// It waits for its next request without what it was served with.
    Park,
}

/// What answers as hyper wants it, for the requests of one connection.
pub(crate) struct Requests {
    pub(crate) answers: Arc<dyn Answers>,
    pub(crate) peer: SocketAddr,
    pub(crate) secure: bool,
    pub(crate) limits: Limits,
    /// Places of connections with wide windows.
    pub(crate) wide: Arc<Semaphore>,
    pub(crate) activity: Activity,
}

/// A fault closes the connection: for hyper an error of the service, for the caller a lost peer.
#[derive(Debug, thiserror::Error)]
#[error("aborted by a fault")]
pub(crate) struct Aborted;

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Watched<Body>>;
    type Error = Aborted;
    type Future = Exchange;

    fn call(&self, request: Request<Incoming>) -> Exchange {
        let asks_first = request.headers().contains_key(header::EXPECT);
        let patience = patience(request.headers(), self.limits);
        let http2 = request.version() == Version::HTTP_2;
        let mut request = request.map(|body| {
            // What most requests have: nothing to wait for, and nothing to drain.
            if body.is_end_stream() {
                Body::empty()
            } else if http2 {
                Body::new(RequestBody::new(body, patience, asks_first))
            } else {
                // Its connection is not at rest before it has come.
                let body = self.activity.begin().hold(body);
                Body::new(RequestBody::new(body, patience, asks_first))
            }
        });
        let (under_way, head) = (self.activity.begin(), request.method() == Method::HEAD);
        request.extensions_mut().insert(ConnectInfo(self.peer));
        if self.secure {
            request.extensions_mut().insert(Secure);
        }
        Exchange {
            answer: self.answers.answer(request),
            under_way: Some(under_way),
            head,
            http2,
        }
    }
}

/// A request that is being answered.
pub(crate) struct Exchange {
    answer: BoxFuture<'static, Response>,
    /// None once it has been.
    under_way: Option<UnderWay>,
    head: bool,
    http2: bool,
}

impl Future for Exchange {
    type Output = Result<Response<Watched<Body>>, Aborted>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(self.answer.as_mut().poll(context));
        if answer.extensions().get::<AbortConnection>().is_some() {
            return Poll::Ready(Err(Aborted));
        }
        let (head, http2) = (self.head, self.http2);
        let under_way = self.under_way.take().ok_or(Aborted)?;
        Poll::Ready(Ok(answer.map(|body| {
            // There is none, whatever somebody behind or a refusal has to say.
            let body = if head { Body::empty() } else { body };
            if http2 {
                under_way.watch(body)
            } else {
                under_way.hold(body)
            }
        })))
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
