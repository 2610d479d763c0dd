//! The application beside: requests are passed on to it as they came, and nothing of a target's policy stands between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Either, Empty};
use tokio_util::task::TaskTracker;
use valerix_resilience::{Deadline, Problem, Resilience, TIMEOUT_HEADER};

use crate::BoxError;
use crate::body::{IdleBody, UploadFailure};
use crate::connector::{Connector, Within};
use crate::error::WireError;
use crate::outgoing::{NotReady, Outgoing, Sending, answered, outgoing};
use crate::pool::{Keeping, PooledBody};
use crate::wire::{Place, Speaks, Wire};

/// How long a connection on the same host may take.
const CONNECT: Duration = Duration::from_secs(2);
/// Less than gunicorn, which is the first to close idle connections, keeps them: 2 s.
const KEPT_IDLE: Duration = Duration::from_millis(1_500);

/// The body of an answer: it streams. What granted an upgrade has none.
pub type LocalAnswer = Either<IdleBody<PooledBody>, Empty<Bytes>>;

/// The application beside, by one of its ports. Clones share its connections.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use valerix_proxy::{Local, Sending, Speaks};
/// use valerix_resilience::Resilience;
///
/// let resilience = Resilience::builder().start().await.unwrap();
/// let nobody = Local::new(&resilience, &["127.0.0.1:1".parse().unwrap()], Speaks::AsAsked);
/// let request = http::Request::get("/orders").header("host", "orders").body(String::new()).unwrap();
/// let sending = Sending { max_body: u64::MAX, idle: std::time::Duration::from_secs(30) };
/// let error = nobody.send(request, sending).await.err().unwrap();
/// assert_eq!(error.problem().name(), "starting");
/// # });
/// ```
#[derive(Clone)]
pub struct Local {
    wire: Wire,
    tasks: TaskTracker,
}

/// Why the application has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// It does not listen, or not yet.
    #[error("failed to reach the application: {0}")]
    Away(String),
    /// The body of the request has more bytes than allowed.
    #[error("the body has more than {0} bytes")]
    TooLarge(u64),
    /// The body of the request broke off.
    #[error("failed to read the body of the request: {0}")]
    Body(String),
    /// It closed the connection, or said what is no HTTP.
    #[error("failed to get an answer of the application: {0}")]
    Broken(String),
}

impl LocalError {
    /// What to answer instead.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Away(_) => Problem::starting("the application does not listen yet: send the request again"),
            Self::TooLarge(most) => too_large(*most),
            Self::Body(_) => broken_off(),
            Self::Broken(_) => {
                let detail = "the application gave no answer that can be passed on";
                Problem::new(StatusCode::BAD_GATEWAY, "no-answer", detail)
            }
        }
    }
}

/// 413: a body is longer than allowed.
pub(crate) fn too_large(most: u64) -> Problem {
    let detail = format!("a body of this route may have at most {most} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail).never_retry()
}

/// 400: a body came in parts only.
pub(crate) fn broken_off() -> Problem {
    let detail = "the body broke off before its end: send the request again";
    Problem::new(StatusCode::BAD_REQUEST, "incomplete-body", detail)
}

impl Local {
    /// The application at the first of `addresses` at which it listens; they differ in nothing else.
    #[must_use]
    pub fn new(resilience: &Resilience, addresses: &[SocketAddr], speaks: Speaks) -> Self {
        let connector = Connector::new(Within::Fixed(CONNECT)).instead(Arc::from(addresses));
        let one = Authority::from_static("localhost");
        Self::by(resilience, Some(one), connector, speaks)
    }

    /// Whoever each request names, by HTTP/1.1 without TLS.
    #[must_use]
    pub fn anywhere(resilience: &Resilience, connect_timeout: Duration) -> Self {
        let connector = Connector::new(Within::Fixed(connect_timeout));
        Self::by(resilience, None, connector, Speaks::Http1)
    }

    fn by(resilience: &Resilience, authority: Option<Authority>, connector: Connector, speaks: Speaks) -> Self {
        let place = Place {
            authority,
            host: None,
            speaks,
            tls: None,
            keeping: Keeping {
                idle: KEPT_IDLE,
                again: true,
            },
        };
        Self {
            wire: Wire::new(place, connector, None),
            tasks: resilience.tasks().clone(),
        }
    }

    /// Passes a request on, `Host` and all but the headers of one hop, with the time that its [`Deadline`] leaves.
    ///
    /// # Errors
    /// When there is no answer; an answer of any status is none.
    pub async fn send<B>(&self, mut request: Request<B>, sending: Sending) -> Result<Response<LocalAnswer>, LocalError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        if let Some(deadline) = request.extensions().get::<Deadline>().copied() {
            let left = Deadline::header(deadline.remaining());
            request.headers_mut().insert(TIMEOUT_HEADER, left);
        }
        let ready = outgoing(request, sending, false).await.map_err(|error| match error {
            NotReady::TooLarge => LocalError::TooLarge(sending.max_body),
            NotReady::Body(_, cause) => LocalError::Body(cause),
        })?;
        let Outgoing {
            request,
            upload,
            wanted,
            ..
        } = ready;
        let answer = self.wire.exchange(request).await;
        let answer = answer.map_err(|error| match (Outgoing::failure(upload.as_ref()), error) {
            // A body that failed is why the exchange did, whatever the connection made of it.
            (Some(UploadFailure::TooLarge), _) => LocalError::TooLarge(sending.max_body),
            (Some(UploadFailure::Broken(cause)), _) => LocalError::Body(cause.clone()),
            (_, WireError::Connect(cause)) => LocalError::Away(cause.to_string()),
            (_, error) => LocalError::Broken(error.to_string()),
        })?;
        answered(answer, wanted, &self.tasks)
            .map_err(|_| LocalError::Broken("it changed the protocol unasked".to_owned()))
    }
}
