//! One attempt on the network: a connection of the pool or a new one, the request, the head of its answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::Service;
use valerix_resilience::{ChosenAddress, Deadline, MayRepeat, Target, TrailersBeforeMessages};

use crate::body::{IdleBody, Replay, UploadFailure, UploadState, WireBody};
use crate::connector::Connector;
use crate::error::WireError;
use crate::grpc;
use crate::multiplexed::Multiplexed;
use crate::pool::{Keeping, Peer, Pool, PooledBody, READ_AHEAD};
use crate::tls::Tls;

/// Connections to who may negotiate HTTP/2.
const KEPT_PER_HOST: usize = 64;

/// What is spoken to who is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1, whatever the request came by.
    #[default]
    Http1,
    /// HTTP/2, whatever the request came by; known in advance where there is no TLS.
    Http2,
    /// What the request came by: who begins with HTTP/2 would have done so without anybody between.
    AsAsked,
}

/// The body of a request, and how it is sent beside what it says itself: an extension would take memory of its own, and as
/// much again for each attempt.
#[derive(Clone)]
pub(crate) struct OnWire {
    pub(crate) body: Replay,
    /// How long the answer's body may stand still.
    pub(crate) idle: Duration,
    /// Whether it came by HTTP/2.
    pub(crate) http2: bool,
    /// What becomes of the body, where it is streamed.
    pub(crate) upload: Option<Arc<UploadState>>,
}

/// Who is called, and how.
pub(crate) struct Place {
    /// Where, as connections name it; none is where each request says.
    pub(crate) authority: Option<Authority>,
    /// The host that requests are sent with; none leaves the one that they have.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) speaks: Speaks,
    pub(crate) tls: Option<Tls>,
    pub(crate) keeping: Keeping,
}

/// Sends requests to one place. Clones are one: each attempt has its own.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Inner>);

struct Inner {
    clients: Clients,
    authority: Option<Authority>,
    host: Option<HeaderValue>,
    speaks: Speaks,
    /// Says how long an answer to a streamed body may take; without one nobody does.
    target: Option<Arc<Target>>,
}

type Negotiated = Client<Connector, WireBody>;

#[allow(
    clippy::large_enum_variant,
    reason = "there is one for each target, behind a pointer"
)]
enum Clients {
    Plain(Plain),
    Secured(Secured),
}

struct Plain {
    http1: Pool,
    http2: Multiplexed,
}

/// What is spoken is negotiated, HTTP/2 only where the request came by it.
struct Secured {
    http1: Pool,
    any: Negotiated,
}

impl Wire {
    pub(crate) fn new(place: Place, connector: Connector, target: Option<Arc<Target>>) -> Self {
        let negotiated = |connector: Connector| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .timer(TokioTimer::new())
                .pool_idle_timeout(place.keeping.idle)
                .pool_max_idle_per_host(KEPT_PER_HOST)
                .http1_max_buf_size(READ_AHEAD)
                .build(connector)
        };
        let clients = match &place.tls {
            None => Clients::Plain(Plain {
                http1: Pool::new(connector.clone(), Scheme::HTTP, place.keeping),
                http2: Multiplexed::new(connector),
            }),
            Some(tls) => Clients::Secured(Secured {
                http1: Pool::new(
                    connector.clone().secured(tls.clone(), false),
                    Scheme::HTTPS,
                    place.keeping,
                ),
                any: negotiated(connector.secured(tls.clone(), true)),
            }),
        };
        Self(Arc::new(Inner {
            clients,
            authority: place.authority,
            host: place.host,
            speaks: place.speaks,
            target,
        }))
    }

    /// One attempt.
    pub(crate) async fn exchange(&self, request: Request<OnWire>) -> Result<Response<IdleBody<PooledBody>>, WireError> {
        self.0.exchange(request).await
    }
}

impl Inner {
    const fn by_http2(&self, asked: bool) -> bool {
        match self.speaks {
            Speaks::Http1 => false,
            Speaks::Http2 => true,
            Speaks::AsAsked => asked,
        }
    }

    /// The host that requests go to, for one that names none or is not asked.
    fn place(&self, named: Option<&Authority>) -> Result<Authority, WireError> {
        self.authority
            .clone()
            .or_else(|| named.cloned())
            .ok_or(WireError::NoHost)
    }

    /// Makes a request one of HTTP/1.1, and says who gets it.
    fn as_http1(&self, parts: &mut Parts, body: &WireBody) -> Result<Peer, WireError> {
        let peer = match parts.extensions.remove::<ChosenAddress>() {
            Some(ChosenAddress(address)) => Peer::Address(address),
            None => Peer::Host(match &self.authority {
                Some(authority) => authority.clone(),
                None => named(parts).ok_or(WireError::NoHost)?,
            }),
        };
        match &self.host {
            Some(host) => drop(parts.headers.insert(HOST, host.clone())),
            None if !parts.headers.contains_key(HOST) => {
                let host = named(parts).map_or_else(|| self.place(None), Ok)?;
                let host = HeaderValue::from_str(host.as_str()).map_err(|error| WireError::Address(error.into()))?;
                parts.headers.insert(HOST, host);
            }
            None => {}
        }
        let path = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        parts.version = Version::HTTP_11;
        // Otherwise a GET whose body does not tell its length would be sent without it.
        if !tells_length(body) {
            parts
                .headers
                .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Ok(peer)
    }

    /// Makes a request one of HTTP/2, or, where it is `negotiated`, one of what that comes to.
    fn as_http2(&self, parts: &mut Parts, negotiated: bool) -> Result<(), WireError> {
        let named = named(parts);
        parts.headers.remove(HOST);
        // The host is told as a part of the address.
        let authority = match named {
            Some(named) if self.host.is_none() => named,
            named => self.place(named.as_ref())?,
        };
        let path = parts.uri.path_and_query().cloned();
        parts.uri = Uri::builder()
            .scheme(if negotiated { Scheme::HTTPS } else { Scheme::HTTP })
            .authority(authority)
            .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
            .build()
            .map_err(WireError::Address)?;
        parts.version = if negotiated { Version::HTTP_11 } else { Version::HTTP_2 };
        Ok(())
    }

    async fn send(&self, request: Request<Replay>, http2: bool) -> Result<Response<PooledBody>, WireError> {
        let (mut parts, body) = request.into_parts();
        if let Ok(Some(left)) = Deadline::from_headers(&parts.headers) {
            grpc::shorten(&mut parts.headers, left);
        }
        let streamed = matches!(body, Replay::Once(_));
        let body = body.open().ok_or(WireError::Taken)?;
        let http1 = match &self.clients {
            Clients::Plain(plain) if http2 => {
                let address = parts.extensions.remove::<ChosenAddress>().map(|chosen| chosen.0);
                self.as_http2(&mut parts, false)?;
                let answer = plain.http2.send(address, Request::from_parts(parts, body)).await?;
                return Ok(answer.map(PooledBody::from));
            }
            Clients::Plain(plain) => &plain.http1,
            // What was negotiated is known too late to say how long such a body is.
            Clients::Secured(secured) if parts.method == Method::GET && !tells_length(&body) => &secured.http1,
            Clients::Secured(secured) if http2 => {
                self.as_http2(&mut parts, true)?;
                let answer = secured.any.request(Request::from_parts(parts, body)).await;
                return Ok(answer.map_err(pool_error)?.map(PooledBody::from));
            }
            Clients::Secured(secured) => &secured.http1,
        };
        let peer = self.as_http1(&mut parts, &body)?;
        http1.send(peer, Request::from_parts(parts, body), streamed).await
    }

    async fn exchange(&self, request: Request<OnWire>) -> Result<Response<IdleBody<PooledBody>>, WireError> {
        let (mut parts, on_wire) = request.into_parts();
        let OnWire {
            body,
            idle,
            http2,
            upload,
        } = on_wire;
        let http2 = self.by_http2(http2);
        let silence = async {
            match (upload, &self.target) {
                (Some(upload), Some(target)) => {
                    upload.done().await;
                    let patience = target.timeouts().attempt.get();
                    tokio::time::sleep(patience).await;
                    upload.fail(UploadFailure::Unanswered(patience));
                    patience
                }
                // The library bounds the attempt as a whole.
                _ => std::future::pending().await,
            }
        };
        let repeatable = parts.extensions.remove::<MayRepeat>().is_some();
        let request = Request::from_parts(parts, body);
        let answer = tokio::select! {
            biased;
            answer = self.send(request, http2) => answer?,
            patience = silence => return Err(WireError::NoHead(patience)),
        };
        let stands_still = is_event_stream(&answer) || grpc::is_grpc(answer.headers());
        let idle = (!stands_still).then_some(idle);
        let answer = answer.map(|body| IdleBody::new(body, idle));
        match &self.target {
            Some(target) if repeatable && grpc::is_grpc(answer.headers()) => with_beginning(answer, target).await,
            _ => Ok(answer),
        }
    }
}

/// Waits for the first message of an answer of gRPC or for its end: a server that says UNAVAILABLE in place of messages has
/// told nobody anything yet. One that takes its time for the first of many is not waited for longer than an attempt can bear.
async fn with_beginning(
    mut answer: Response<IdleBody<PooledBody>>,
    target: &Target,
) -> Result<Response<IdleBody<PooledBody>>, WireError> {
    let patience = target.timeouts().attempt.get() / 2;
    let ended = match tokio::time::timeout(patience, answer.body_mut().begin()).await {
        Ok(begun) => begun.map_err(WireError::Exchange)?.cloned(),
        Err(_) => None,
    };
    if let Some(trailers) = ended {
        answer.extensions_mut().insert(TrailersBeforeMessages(trailers));
    }
    Ok(answer)
}

fn tells_length(body: &WireBody) -> bool {
    body.size_hint().exact().is_some()
}

/// The host that a request names: by HTTP/2 in its address, else in its header.
fn named(parts: &Parts) -> Option<Authority> {
    let header = || Authority::try_from(parts.headers.get(HOST)?.as_bytes()).ok();
    parts.uri.authority().cloned().or_else(header)
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

fn pool_error(error: hyper_util::client::legacy::Error) -> WireError {
    if error.is_connect() {
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        WireError::connect(cause.into())
    } else {
        WireError::Exchange(error.into())
    }
}

impl Service<Request<OnWire>> for Wire {
    type Response = Response<IdleBody<PooledBody>>;
    type Error = WireError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, WireError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<OnWire>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.exchange(request).await })
    }
}
