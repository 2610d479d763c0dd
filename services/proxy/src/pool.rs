//! Connections of HTTP/1.1, kept for the next request.
//!
//! Whoever waits for an answer drives its connection meanwhile. Had each connection a task of its own, every piece of a
//! request and of its answer would wake another task, which costs as much as the piece itself.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::body::WireBody;
use crate::connector::Connector;
use crate::error::WireError;

#[cfg(test)]
mod tests;

const KEPT_PER_PEER: usize = 64;
/// The most that is read ahead of one connection: bounds the head of an answer, and what a slow reader holds back.
pub(crate) const READ_AHEAD: usize = 32 * 1024;
/// A connection that nobody needed for so long may be closed in the moment in which it is used.
const DOUBTFUL: Duration = Duration::from_millis(100);

/// How connections are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeping {
    /// One that nobody needs is kept for so long: less than who is called keeps it, so that none is used in the moment in
    /// which it is closed.
    pub(crate) idle: Duration,
    /// Whether a request that changes nothing is sent once more, by a fresh connection, where a kept one breaks before the
    /// head of its answer: for who has no policy of retries, and is called for one whose times are not known.
    pub(crate) again: bool,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// Whoever the connector finds by this name.
    Host(Authority),
    /// Who was chosen among those of that name.
    Address(SocketAddr),
}

/// Connections of HTTP/1.1 that were opened by one connector. Clones are one.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    connector: Connector,
    scheme: Scheme,
    keeping: Keeping,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The one that was needed last is at the end, with the time since when nobody needs it.
    by_peer: HashMap<Peer, Vec<(Instant, Connection)>>,
    /// Whether somebody closes those that are too old.
    swept: bool,
}

type Driving = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

struct Connection {
    sender: SendRequest<WireBody>,
    /// None where a task of its own drives it, or where it has ended.
    driving: Option<Driving>,
}

/// A connection on which one request is made.
struct Lent {
    connection: Connection,
    peer: Peer,
    pool: Arc<Inner>,
}

impl Pool {
    pub(crate) fn new(connector: Connector, scheme: Scheme, keeping: Keeping) -> Self {
        Self(Arc::new(Inner {
            connector,
            scheme,
            keeping,
            idle: Mutex::default(),
        }))
    }

    /// Sends a request to a peer. One whose body is `streamed` is sent on whether or not anybody reads the answer.
    pub(crate) async fn send(
        &self,
        peer: Peer,
        mut request: Request<WireBody>,
        streamed: bool,
    ) -> Result<Response<PooledBody>, WireError> {
        let mut fresh = false;
        loop {
            let kept = if fresh {
                None
            } else {
                poll_fn(|context| Poll::Ready(self.0.kept(&peer, context))).await
            };
            let unneeded = kept.as_ref().map(|(unneeded, _)| *unneeded);
            let again = unneeded
                .filter(|_| self.0.keeping.again)
                .and_then(|time| once_more(time, &request));
            let connection = match kept {
                Some((_, connection)) => connection,
                None => self.0.open(&peer).await?,
            };
            let mut lent = Lent {
                connection,
                peer: peer.clone(),
                pool: Arc::clone(&self.0),
            };
            if streamed {
                lent.connection.detach();
            }
            match lent.connection.exchange(request).await {
                Ok(answer) => {
                    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                        lent.connection.detach();
                        return Ok(answer.map(PooledBody::from));
                    }
                    return Ok(answer.map(|body| PooledBody::new(body, lent)));
                }
                // A kept connection that ended in this moment gives the request back: once more, by another one.
                Err(mut failed) => match failed.take_message().filter(|_| unneeded.is_some()) {
                    Some(given_back) => request = given_back,
                    None => {
                        let error = failed.into_error();
                        request = again.ok_or_else(|| WireError::Exchange(error.into()))?;
                        fresh = true;
                    }
                },
            }
        }
    }
}

/// A copy of a request that changes nothing and has no body, for a connection that nobody needed for that `time`.
fn once_more(time: Duration, request: &Request<WireBody>) -> Option<Request<WireBody>> {
    let harmless = matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
    if time < DOUBTFUL || !harmless {
        return None;
    }
    let mut copy = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to a peer that is still open, and for how long nobody needed it.
    fn kept(&self, peer: &Peer, context: &mut Context<'_>) -> Option<(Duration, Connection)> {
        loop {
            let (since, mut connection) = self.idle().by_peer.get_mut(peer)?.pop()?;
            // Whether it was closed meanwhile shows when it is looked at.
            connection.drive(context);
            let unneeded = since.elapsed();
            if unneeded < self.keeping.idle && connection.sender.is_ready() {
                return Some((unneeded, connection));
            }
        }
    }

    async fn open(&self, peer: &Peer) -> Result<Connection, WireError> {
        let place = Uri::builder().scheme(self.scheme.clone()).path_and_query("/");
        let place = match peer {
            Peer::Host(authority) => place.authority(authority.clone()),
            Peer::Address(address) => place.authority(address.to_string()),
        };
        let place = place.build().map_err(WireError::Address)?;
        let stream = self.connector.clone().oneshot(place).await;
        let handshake = http1::Builder::new()
            .max_buf_size(READ_AHEAD)
            .handshake(stream.map_err(WireError::connect)?);
        let (sender, driving) = handshake.await.map_err(|error| WireError::connect(error.into()))?;
        Ok(Connection {
            sender,
            driving: Some(Box::pin(driving.with_upgrades())),
        })
    }

    /// Keeps a connection for the next request, unless there are many already.
    fn keep(self: &Arc<Self>, peer: Peer, connection: Connection) {
        let mut idle = self.idle();
        let of_peer = idle.by_peer.entry(peer).or_default();
        if of_peer.len() >= KEPT_PER_PEER {
            return;
        }
        of_peer.push((Instant::now(), connection));
        if !std::mem::replace(&mut idle.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self), self.keeping.idle));
        }
    }
}

/// Closes connections that nobody needs for too long, as long as there are any.
async fn sweep(pool: Weak<Inner>, kept_idle: Duration) {
    loop {
        tokio::time::sleep(kept_idle).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle();
        idle.by_peer.retain(|_, connections| {
            connections.retain(|(since, _)| since.elapsed() < kept_idle);
            !connections.is_empty()
        });
        if idle.by_peer.is_empty() {
            idle.swept = false;
            return;
        }
    }
}

impl Connection {
    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(driving) = &mut self.driving
            && let Poll::Ready(ended) = driving.as_mut().poll(context)
        {
            self.driving = None;
            log_end(ended);
        }
    }

    /// Leaves it to a task of its own.
    fn detach(&mut self) {
        if let Some(driving) = self.driving.take() {
            tokio::spawn(async move { log_end(driving.await) });
        }
    }

    async fn exchange(
        &mut self,
        request: Request<WireBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<WireBody>>> {
        let answering = self.sender.try_send_request(request);
        let mut answering = pin!(answering);
        poll_fn(|context| {
            if self.driving.is_none() {
                return answering.as_mut().poll(context);
            }
            self.drive(context);
            // An answer comes while the connection is driven and not else: to be woken by it would be once too often.
            let mut nobody = Context::from_waker(Waker::noop());
            pin!(unconstrained(answering.as_mut())).poll(&mut nobody)
        })
        .await
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

impl Lent {
    /// Gives it back once its answer was read.
    fn give_back(self) {
        let Self {
            mut connection,
            peer,
            pool,
        } = self;
        if connection.driving.is_some() {
            pool.keep(peer, connection);
        } else if !connection.sender.is_closed() {
            // Its request may still be under way.
            tokio::spawn(async move {
                if connection.sender.ready().await.is_ok() {
                    pool.keep(peer, connection);
                }
            });
        }
    }
}

/// The body of an answer, with the connection by which it comes: who reads the one drives the other. Once it has ended the
/// connection serves the next request; given up before, it closes.
pub struct PooledBody {
    body: Incoming,
    lent: Option<Lent>,
}

impl PooledBody {
    fn new(body: Incoming, lent: Lent) -> Self {
        let lent = Some(lent);
        let mut this = Self { body, lent };
        if this.body.is_end_stream() {
            this.end();
        }
        this
    }

    fn end(&mut self) {
        if let Some(lent) = self.lent.take() {
            lent.give_back();
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = Pin::new(&mut self.body);
        let Some(lent) = self.lent.as_mut().filter(|lent| lent.connection.driving.is_some()) else {
            return body.poll_frame(context);
        };
        // Here too a piece comes while the connection is driven and not else.
        let mut nobody = Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = body.poll_frame(&mut nobody) {
            return Poll::Ready(frame);
        }
        lent.connection.drive(context);
        Pin::new(&mut self.body).poll_frame(&mut nobody)
    }
}

/// Of a connection that others see to.
impl From<Incoming> for PooledBody {
    fn from(body: Incoming) -> Self {
        Self { body, lent: None }
    }
}

impl Body for PooledBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = self.poll(context);
        match &polled {
            Poll::Ready(Some(Err(_))) => drop(self.lent.take()),
            Poll::Ready(None) => self.end(),
            Poll::Ready(Some(Ok(_))) if self.body.is_end_stream() => self.end(),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
