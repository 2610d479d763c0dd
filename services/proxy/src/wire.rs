//! One attempt on the network: a connection of the pool or a new one, the request, the head of its answer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower::Service;
use valerix_resilience::{ChosenAddress, Target};

use crate::BoxError;
use crate::body::{IdleBody, Replay, UploadFailure, UploadState, WireBody};

/// A connection that nobody needs is kept for so long: less than the services that are called keep theirs, so that none is
/// used in the moment in which it is closed.
const KEPT_IDLE: Duration = Duration::from_secs(30);
const KEPT_PER_HOST: usize = 64;
/// The most that is read ahead of one connection: bounds the head of an answer, and what a slow reader holds back.
const READ_AHEAD: usize = 64 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How one request is sent, beside what it says itself.
#[derive(Clone)]
pub(crate) struct OnWire {
    /// How long the answer's body may stand still.
    pub(crate) idle: Duration,
    /// The body, where it is streamed.
    pub(crate) upload: Option<Arc<UploadState>>,
}

/// Sends requests to one target.
#[derive(Clone)]
pub(crate) struct Wire {
    client: Client<Connector, WireBody>,
    authority: Authority,
    host: HeaderValue,
    target: Arc<Target>,
}

/// Why there is no head of an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// No connection came about. Its kind tells the library that nothing was sent.
    #[error("failed to connect: {0}")]
    Connect(#[source] io::Error),
    #[error("failed to exchange the request: {0}")]
    Exchange(#[source] hyper_util::client::legacy::Error),
    /// The body was sent whole, and then nothing came.
    #[error("failed to get an answer within {} ms of the end of the body", .0.as_millis())]
    NoHead(Duration),
    #[error("failed to send the body: an earlier attempt has it")]
    Taken,
    #[error("failed to build the address: {0}")]
    Address(#[source] http::Error),
}

impl Wire {
    pub(crate) fn new(target: Arc<Target>, authority: Authority, host: HeaderValue) -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        // A peer that vanished without a word is noticed although a stream of events may be silent for long.
        http.set_keepalive(Some(KEEP_ALIVE));
        let connector = Connector {
            http,
            target: Arc::clone(&target),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(KEPT_IDLE)
            .pool_max_idle_per_host(KEPT_PER_HOST)
            .http1_max_buf_size(READ_AHEAD)
            .build(connector);
        Self {
            client,
            authority,
            host,
            target,
        }
    }

    fn request(&self, request: Request<Replay>) -> Result<(Request<WireBody>, Option<OnWire>), WireError> {
        let (mut parts, body) = request.into_parts();
        let on_wire = parts.extensions.remove::<OnWire>();
        let authority = match parts.extensions.remove::<ChosenAddress>() {
            Some(ChosenAddress(address)) => {
                Authority::try_from(address.to_string()).map_err(|error| WireError::Address(error.into()))?
            }
            None => self.authority.clone(),
        };
        let path = parts.uri.path_and_query().cloned();
        parts.uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(authority)
            .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
            .build()
            .map_err(WireError::Address)?;
        parts.version = Version::HTTP_11;
        parts.headers.insert(HOST, self.host.clone());
        let body = body.open().ok_or(WireError::Taken)?;
        // Otherwise a GET whose body does not tell its length would be sent without it.
        if body.size_hint().exact().is_none() {
            parts
                .headers
                .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Ok((Request::from_parts(parts, body), on_wire))
    }

    async fn exchange(self, request: Request<Replay>) -> Result<Response<IdleBody<Incoming>>, WireError> {
        let (request, on_wire) = self.request(request)?;
        let upload = on_wire.as_ref().and_then(|on_wire| on_wire.upload.clone());
        let patience = self.target.timeouts().attempt.get();
        let silence = async {
            match upload {
                Some(upload) => {
                    upload.done().await;
                    tokio::time::sleep(patience).await;
                    upload.fail(UploadFailure::Unanswered(patience));
                }
                // The library bounds the attempt as a whole.
                None => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            biased;
            answer = self.client.request(request) => answer.map_err(wire_error)?,
            () = silence => return Err(WireError::NoHead(patience)),
        };
        let idle = on_wire
            .map(|on_wire| on_wire.idle)
            .filter(|_| !is_event_stream(&answer));
        Ok(answer.map(|body| IdleBody::new(body, idle)))
    }
}

/// Events come when something happens; until then the stream stands still and is well.
fn is_event_stream<B>(answer: &Response<B>) -> bool {
    let media_type = answer.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    media_type.is_some_and(|media_type| {
        media_type
            .get(..17)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"text/event-stream"))
    })
}

fn wire_error(error: hyper_util::client::legacy::Error) -> WireError {
    if error.is_connect() {
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        WireError::Connect(io::Error::new(io::ErrorKind::HostUnreachable, cause))
    } else {
        WireError::Exchange(error)
    }
}

impl Service<Request<Replay>> for Wire {
    type Response = Response<IdleBody<Incoming>>;
    type Error = WireError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, WireError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Replay>) -> Self::Future {
        Box::pin(self.clone().exchange(request))
    }
}

/// Opens connections within the time that the policy in force gives.
#[derive(Clone)]
struct Connector {
    http: HttpConnector,
    target: Arc<Target>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.http.call(uri);
        let within = self.target.timeouts().connect.get();
        Box::pin(async move {
            match tokio::time::timeout(within, connecting).await {
                Ok(connected) => Ok(connected?),
                Err(_) => Err(format!("no connection within {} ms", within.as_millis()).into()),
            }
        })
    }
}
