//! A request made ready for the next hop, and its answer for the one before: the same for a target of the policy and for
//! the application beside.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{EXPECT, TE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::{BodyExt, Either, Empty};
use tokio_util::task::TaskTracker;
use valerix_resilience::IDEMPOTENCY_KEY;

use crate::BoxError;
use crate::body::{REPLAYED_BYTES, Replay, Upload, UploadFailure, UploadState};
use crate::gathered::{Gathered, gather};
use crate::grpc;
use crate::headers::{drop_hop_by_hop, join_cookies, tokens};
use crate::upgrade::{self, Wanted};
use crate::wire::OnWire;

/// How one request is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The most bytes that its body may have.
    pub max_body: u64,
    /// How long the answer's body may stand still. A stream of events or of gRPC may stand still for as long as it likes.
    pub idle: Duration,
}

/// A request that is ready.
pub(crate) struct Outgoing {
    pub(crate) request: Request<OnWire>,
    /// What becomes of its body, where it has one.
    pub(crate) upload: Option<Arc<UploadState>>,
    /// Whether its body is a stream, which can be sent once.
    pub(crate) streamed: bool,
    pub(crate) wanted: Option<Wanted>,
}

impl Outgoing {
    /// Why its body was not sent whole.
    pub(crate) fn failure(upload: Option<&Arc<UploadState>>) -> Option<&UploadFailure> {
        upload.and_then(|upload| upload.failure())
    }
}

/// Why it is not.
pub(crate) enum NotReady {
    TooLarge,
    Body(Arc<UploadState>, String),
}

/// Makes a request ready. A small body is read as a whole when `replayed`.
pub(crate) async fn outgoing<B>(mut request: Request<B>, sending: Sending, replayed: bool) -> Result<Outgoing, NotReady>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let wanted = upgrade::wanted(&mut request);
    let (mut parts, body) = request.into_parts();
    let trailers = tokens(&parts.headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    drop_hop_by_hop(&mut parts.headers);
    join_cookies(&mut parts.headers);
    // Whoever waits to be told to send the body is told so by its being read.
    parts.headers.remove(EXPECT);
    if trailers {
        parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if wanted.is_some() {
        upgrade::stamp(&mut parts.headers);
    }
    let hint = body.size_hint();
    if hint.lower() > sending.max_body {
        return Err(NotReady::TooLarge);
    }
    // Messages of gRPC do not tell their length; a key says that the call may be worth a second try.
    let keyed = grpc::is_grpc(&parts.headers) && parts.headers.contains_key(IDEMPOTENCY_KEY);
    let small = hint.exact().map_or(keyed, |length| length <= REPLAYED_BYTES);
    // What most requests have: nothing to wait for, and nothing to watch.
    let upload = (!body.is_end_stream()).then(Arc::<UploadState>::default);
    let body = match &upload {
        None => Replay::Kept(Bytes::new(), None),
        Some(upload) if small && replayed => {
            let body = Upload::new(body, sending.max_body, Arc::clone(upload));
            let gathered = gather(body).await;
            match gathered.map_err(|error| NotReady::Body(Arc::clone(upload), error.to_string()))? {
                Gathered::Whole(bytes, trailers) => Replay::Kept(bytes, trailers),
                Gathered::Begun(body) => Replay::once(body.boxed_unsync()),
            }
        }
        Some(upload) => Replay::once(Upload::new(body, sending.max_body, Arc::clone(upload)).boxed_unsync()),
    };
    let streamed = matches!(body, Replay::Once(_));
    let on_wire = OnWire {
        body,
        idle: sending.idle,
        http2: parts.version == Version::HTTP_2,
        upload: upload.clone().filter(|_| streamed && replayed),
    };
    Ok(Outgoing {
        request: Request::from_parts(parts, on_wire),
        upload,
        streamed,
        wanted,
    })
}

/// A change of protocol that nobody asked for.
pub(crate) struct Unasked;

/// Makes an answer ready, and relays what was upgraded.
pub(crate) fn answered<B>(
    mut answer: Response<B>,
    wanted: Option<Wanted>,
    tasks: &TaskTracker,
) -> Result<Response<Either<B, Empty<Bytes>>>, Unasked>
where
    B: Send + 'static,
{
    let changes = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let granted = changes && upgrade::granted(answer.headers());
    drop_hop_by_hop(answer.headers_mut());
    match wanted {
        Some(wanted) if granted => {
            let upstream = hyper::upgrade::on(&mut answer);
            upgrade::stamp(answer.headers_mut());
            let (parts, held) = answer.into_parts();
            wanted.relay(upstream, held, tasks);
            Ok(Response::from_parts(parts, Either::Right(Empty::new())))
        }
        _ if changes => Err(Unasked),
        _ => Ok(answer.map(Either::Left)),
    }
}
