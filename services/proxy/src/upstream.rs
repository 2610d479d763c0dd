//! One service that requests are passed on to. In: a request as it came. Out: the answer with its body still to come, or
//! the reason why there is none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::{Either, Empty};
use tokio_util::task::TaskTracker;
use tower::Layer;
use valerix_resilience::{
    CallError, ClusterResolver, Endpoint, Head, Problem, Resilience, Sent, SentOnce, Target, TargetBody, TargetService,
    refusals,
};

use crate::BoxError;
use crate::body::{IdleBody, UploadFailure, UploadState};
use crate::connector::{Connector, Within};
use crate::local::{broken_off, too_large};
use crate::outgoing::{NotReady, Outgoing, Sending, answered, outgoing};
use crate::pool::{Keeping, PooledBody};
use crate::tls::Tls;
use crate::wire::{Place, Speaks, Wire};

/// A connection that nobody needs is kept for so long: less than the services that are called keep theirs, so that none is
/// used in the moment in which it is closed.
const KEPT_IDLE: Duration = Duration::from_secs(30);
/// The longest that a streamed body may take, whatever else bounds it: the caller's deadline, and that the client sends on.
const STREAM_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// The body of an answer: it streams, and occupies its place in the target's bulkhead until it ends.
/// What granted an upgrade has none.
pub type Answer = Either<TargetBody<IdleBody<PooledBody>>, Empty<Bytes>>;

/// A service that requests are passed on to. Clones share its connections and all that was learned about it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use valerix_proxy::Upstream;
/// use valerix_resilience::Resilience;
///
/// let resilience = Resilience::builder().start().await.unwrap();
/// let orders = Upstream::new(&resilience, "order", &"http://order:3001".parse().unwrap()).unwrap();
/// assert_eq!(orders.name(), "order");
/// assert!(Upstream::new(&resilience, "order", &"https://order".parse().unwrap()).is_none());
/// # });
/// ```
#[derive(Clone)]
pub struct Upstream {
    target: Arc<Target>,
    service: TargetService<Wire>,
    tasks: TaskTracker,
    /// Says which clones are one.
    connections: Arc<()>,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendingError {
    /// Its body is longer than allowed.
    #[error("the body has more than {0} bytes")]
    TooLarge(u64),
    /// Its body broke off.
    #[error("failed to read the body of the request: {0}")]
    Body(String),
    /// What the target did, or what was not even tried.
    #[error(transparent)]
    Call(CallError),
    /// The target changed the protocol although nobody asked for it.
    #[error("target {0} changed the protocol unasked")]
    Unasked(String),
}

impl SendingError {
    /// The answer to give for it.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::TooLarge(most) => too_large(*most),
            Self::Body(_) => broken_off(),
            Self::Call(error) => error.problem(),
            Self::Unasked(target) => {
                let detail = "a service needed for this gave an answer that can not be passed on";
                Problem::new(StatusCode::BAD_GATEWAY, "unreachable", detail).with("target", target.as_str())
            }
        }
    }

    /// Whether the target may have acted on the request.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        match self {
            Self::Call(error) => error.sent(),
            Self::TooLarge(_) | Self::Body(_) | Self::Unasked(_) => Sent::Perhaps,
        }
    }
}

impl Upstream {
    /// The target `name` of the policy, at `url`, by HTTP/1.1. None where that is no `http://host[:port]`.
    #[must_use]
    pub fn new(resilience: &Resilience, name: &str, url: &Uri) -> Option<Self> {
        Self::speaking(resilience, name, url, Speaks::Http1, None)
    }

    /// As [`new`](Self::new), by another version of HTTP, and where there is `tls` also at `https://host[:port]`.
    #[must_use]
    pub fn speaking(resilience: &Resilience, name: &str, url: &Uri, speaks: Speaks, tls: Option<&Tls>) -> Option<Self> {
        let authority = url.authority().filter(|authority| !authority.as_str().contains('@'))?;
        if url.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return None;
        }
        let tls = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => None,
            Some(scheme) if *scheme == Scheme::HTTPS => Some(tls?.clone()),
            _ => return None,
        };
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        let target = resilience.target(name);
        let mut layer = resilience.client_layer(name).retry_on(worth_another_attempt);
        // A certificate is for a name; so only the name is called.
        if let Some(endpoint) = endpoint(authority).filter(|_| tls.is_none()) {
            layer = layer.balance(endpoint, ClusterResolver::new());
        }
        let place = Place {
            authority: Some(authority.clone()),
            host: Some(host),
            speaks,
            tls,
            // The policy says whether anything is tried again.
            keeping: Keeping {
                idle: KEPT_IDLE,
                again: false,
            },
        };
        let connector = Connector::new(Within::Policy(Arc::clone(&target)));
        let wire = Wire::new(place, connector, Some(Arc::clone(&target)));
        Some(Self {
            target,
            service: layer.layer(wire),
            tasks: resilience.tasks().clone(),
            connections: Arc::new(()),
        })
    }

    /// The target's name in the policy.
    #[must_use]
    pub fn name(&self) -> &str {
        self.target.name()
    }

    /// Whether both are one, with the same connections.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.connections, &other.connections)
    }

    /// Passes a request on. Its path and headers are sent as they are, but for those of one hop and `Host`.
    ///
    /// # Errors
    /// When there is no answer; an answer of any status is none.
    pub async fn send<B>(&self, request: Request<B>, sending: Sending) -> Result<Response<Answer>, SendingError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let failed = |upload: Option<&Arc<UploadState>>| failure(upload, self.name(), sending.max_body);
        let ready = outgoing(request, sending, true).await.map_err(|error| match error {
            NotReady::TooLarge => SendingError::TooLarge(sending.max_body),
            NotReady::Body(upload, cause) => failed(Some(&upload)).unwrap_or(SendingError::Body(cause)),
        })?;
        let Outgoing {
            mut request,
            upload,
            streamed,
            wanted,
        } = ready;
        if streamed {
            request.extensions_mut().insert(SentOnce {
                patience: STREAM_PATIENCE,
            });
        }
        let called = self.service.send(request).await;
        // A body that failed is why the call did, whatever the connection made of it.
        let answer = called.map_err(|error| failed(upload.as_ref()).unwrap_or(SendingError::Call(error)))?;
        answered(answer, wanted, &self.tasks).map_err(|_| SendingError::Unasked(self.name().to_owned()))
    }
}

/// Which answers are worth another attempt, where there may be one: those by which a service or a replica says that it is
/// not there, and that an earlier attempt is still at it. Whoever asked is to hear what became of that.
fn worth_another_attempt(head: Head<'_>) -> bool {
    match head.status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => true,
        StatusCode::CONFLICT => head.problem() == Some(refusals::in_progress().name()),
        _ => false,
    }
}

/// What a failure of the body means to whoever sent the request.
fn failure(upload: Option<&Arc<UploadState>>, target: &str, most: u64) -> Option<SendingError> {
    Outgoing::failure(upload).map(|failure| match failure {
        UploadFailure::TooLarge => SendingError::TooLarge(most),
        UploadFailure::Broken(cause) => SendingError::Body(cause.clone()),
        UploadFailure::Unanswered(timeout) => SendingError::Call(CallError::AttemptTimeout {
            target: target.to_owned(),
            timeout: *timeout,
            attempts: 1,
        }),
    })
}

/// Where the addresses of a host are looked for; none for what is an address itself.
fn endpoint(authority: &Authority) -> Option<Endpoint> {
    let host = authority.host();
    let is_address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    (!is_address).then(|| Endpoint::new("http", host, authority.port_u16().unwrap_or(80)))
}
