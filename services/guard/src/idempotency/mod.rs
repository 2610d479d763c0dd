//! Requests that may be sent twice and act once, for an application that knows nothing of keys: the first answer to a key is
//! kept and given again. In: requests of the routes that the policy names in `inbound.idempotency.requiredRoutes`, whose
//! keys were looked at already. Out: the application's answer, or the kept one, or the reason to refuse.
//!
//! What is kept is what a client was told for good: an answer below 500 that is no invitation to come again. After any other
//! the key is free, as it is after `lockTimeout` where a request never ended.

mod store;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use valerix_kit::problem::Problem;
use valerix_policy::{Idempotency, Route};
use valerix_proxy::is_grpc;
use valerix_resilience::{Resilience, comparable_body, key_from_headers, refusals};

pub use self::store::{Store, StoreError};

/// On answers that are given again: `true`.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The most bytes that a request with a key, and an answer that is kept, may have.
const MAX_REQUEST: usize = 1024 * 1024;
const MAX_ANSWER: usize = 64 * 1024;

/// The keys of one application. Clones are one.
#[derive(Clone)]
pub struct Keys {
    resilience: Resilience,
    store: Arc<Store>,
    /// Bytes that requests may still have that are read and not passed on yet.
    room: Arc<Semaphore>,
    /// Those whose answers are not kept yet.
    under_way: TaskTracker,
}

/// A request with a key.
struct Keyed {
    /// Where it is kept.
    place: String,
    settings: Idempotency,
}

/// What is kept of a request.
#[derive(Serialize, Deserialize)]
struct Record {
    /// The sha256 of what was asked.
    fingerprint: String,
    /// Says which attempt has the key.
    attempt: Uuid,
    answer: Option<Kept>,
}

/// An answer as it is given again; all else of it is fresh.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    content_type: Option<String>,
    location: Option<String>,
    /// In base64.
    body: String,
}

impl Keys {
    /// Kept in `store`; the requests of which all are under way at a time may have `most` bytes together.
    #[must_use]
    pub fn new(resilience: &Resilience, store: Store, most: usize) -> Self {
        Self {
            resilience: resilience.clone(),
            store: Arc::new(store),
            room: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            under_way: TaskTracker::new(),
        }
    }

    /// Returns once no request with a key is under way, those whose clients have left among them, and none comes any more.
    pub async fn settled(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// The answer to a request, which `pass` asks the application for where it has not been given before.
    pub async fn answer<F>(&self, request: Request, pass: impl FnOnce(Request) -> F) -> Response
    where
        F: Future<Output = Response>,
    {
        let Some(keyed) = self.keyed(&request) else {
            return pass(request).await;
        };
        match self.once(keyed, request, pass).await {
            Ok(answer) => answer,
            Err(problem) => problem.into_response(),
        }
    }

    /// The key of a request, where the policy asks for one.
    fn keyed(&self, request: &Request) -> Option<Keyed> {
        // One that is no key was refused where keys are asked for.
        let key = key_from_headers(request.headers()).ok().flatten()?;
        let settings = self.resilience.policy().inbound.idempotency;
        let is_meant = |route: &&String| {
            let route = route.parse::<Route>();
            route.is_ok_and(|route| route.matches(request.method().as_str(), request.uri().path()))
        };
        let route = settings.required_routes.iter().find(is_meant)?;
        // Who asks is not known here: whoever has another token, or none, has other keys.
        let identity = request.headers().get(header::AUTHORIZATION);
        let identity = identity.map_or(&b""[..], HeaderValue::as_bytes);
        let place = hash(&[route.as_bytes(), identity, key.as_bytes()]);
        Some(Keyed { place, settings })
    }

    async fn once<F>(
        &self,
        keyed: Keyed,
        request: Request,
        pass: impl FnOnce(Request) -> F,
    ) -> Result<Response, Problem>
    where
        F: Future<Output = Response>,
    {
        let _under_way = self.under_way.token();
        let Keyed { place, settings } = keyed;
        let (parts, body) = request.into_parts();
        // What it has of the room, until it was answered.
        let (body, _room) = self.read(body).await?;
        let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let fingerprint = |body: &[u8]| hash(&[parts.method.as_str().as_bytes(), target.as_bytes(), body]);
        // What guards before this one kept of the same request.
        let raw = fingerprint(&body);
        let mut record = Record {
            fingerprint: fingerprint(&comparable_body(&body)),
            attempt: Uuid::new_v4(),
            answer: None,
        };
        let claim = record.text();
        let held = self.store.claim(&place, &claim, settings.lock_timeout.get()).await;
        if let Some(held) = held.map_err(|error| unavailable(&error))? {
            return replay(&held, [&record.fingerprint, &raw]);
        }
        let answer = pass(Request::from_parts(parts, Body::from(body))).await;
        let (answer, kept) = keep(answer).await;
        let next = kept.map(|kept| {
            record.answer = Some(kept);
            (record.text(), settings.ttl.get())
        });
        if let Err(error) = self.store.replace(&place, &claim, next).await {
            // It was done and its client is told so; until the lock ends a repetition is told to wait.
            tracing::warn!(%error, "the answer to a key was not kept");
        }
        Ok(answer)
    }
}

impl Keys {
    /// All of a request's body, with the room that it takes. It takes that as it comes: who promises much and sends little
    /// keeps out nobody.
    async fn read(&self, mut body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Problem> {
        let (mut read, mut taken) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
        if body.size_hint().lower() > MAX_REQUEST as u64 {
            return Err(too_large());
        }
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|_| broken_off())?.into_data() else {
                continue;
            };
            if read.len() + piece.len() > MAX_REQUEST {
                return Err(too_large());
            }
            let bytes = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
            let room = room.map_err(|_| no_room())?;
            match &mut taken {
                Some(taken) => taken.merge(room),
                none => *none = Some(room),
            }
            read.extend_from_slice(&piece);
        }
        Ok((read.freeze(), taken))
    }
}

impl Record {
    fn text(&self) -> String {
        // Texts and numbers can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What was given before, or why it is not given.
fn replay(held: &str, fingerprints: [&String; 2]) -> Result<Response, Problem> {
    let held: Record = serde_json::from_str(held).map_err(|error| Problem::internal(&error))?;
    if !fingerprints.contains(&&held.fingerprint) {
        return Err(refusals::mismatch());
    }
    let kept = held.answer.ok_or_else(refusals::in_progress)?;
    let body = STANDARD.decode(kept.body).map_err(|error| Problem::internal(&error))?;
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = StatusCode::from_u16(kept.status).map_err(|error| Problem::internal(&error))?;
    let told = [
        (header::CONTENT_TYPE, kept.content_type),
        (header::LOCATION, kept.location),
    ];
    for (name, value) in told {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(answer)
}

/// The answer, and what is kept of it: nothing where it says nothing for good, is a stream, or is too long.
async fn keep(answer: Response) -> (Response, Option<Kept>) {
    let status = answer.status();
    let come_again = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    );
    let headers = answer.headers();
    let (content_type, location) = (text(headers, header::CONTENT_TYPE), text(headers, header::LOCATION));
    let streams = is_grpc(answer.headers())
        || content_type
            .as_ref()
            .is_some_and(|kind| kind.starts_with("text/event-stream"))
        || answer.body().size_hint().lower() > MAX_ANSWER as u64;
    if come_again || streams || status.is_server_error() || status.is_informational() {
        return (answer, None);
    }
    let (parts, body) = answer.into_parts();
    match whole(body).await {
        Ok(body) => {
            let kept = Kept {
                status: status.as_u16(),
                content_type,
                location,
                body: STANDARD.encode(&body),
            };
            (Response::from_parts(parts, Body::from(body)), Some(kept))
        }
        Err(body) => (Response::from_parts(parts, body), None),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// All of a body; one that is too long, or breaks off, is given back as it came.
async fn whole(body: Body) -> Result<Bytes, Body> {
    let (mut rest, mut read) = (body.into_data_stream(), BytesMut::new());
    while let Some(piece) = rest.next().await {
        let broken = piece.is_err();
        if let Ok(piece) = &piece
            && read.len() + piece.len() <= MAX_ANSWER
        {
            read.extend_from_slice(piece);
            continue;
        }
        let begun = stream::iter([Ok(read.freeze()), piece]);
        return Err(if broken {
            Body::from_stream(begun)
        } else {
            Body::from_stream(begun.chain(rest))
        });
    }
    Ok(read.freeze())
}

fn too_large() -> Problem {
    let detail = format!("a request with an Idempotency-Key may have at most {MAX_REQUEST} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail).never_retry()
}

fn broken_off() -> Problem {
    let detail = "the body broke off before its end: send the request again";
    Problem::new(StatusCode::BAD_REQUEST, "incomplete-body", detail)
}

/// 503: other requests with keys are being read. Nothing was done.
fn no_room() -> Problem {
    let detail = "too many requests with an Idempotency-Key are being read: repeat the request later with the same key";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "idempotency-unavailable", detail).retry_after(Duration::from_secs(1))
}

fn unavailable(error: &StoreError) -> Problem {
    tracing::warn!(%error, "a request with a key was refused");
    let detail = "it is not known whether this Idempotency-Key was used: repeat the request later with the same key";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "idempotency-unavailable", detail).retry_after(Duration::from_secs(1))
}

/// The sha256 of parts, none of which can be taken for the end of another.
fn hash(parts: &[&[u8]]) -> String {
    let mut text = Vec::new();
    for part in parts {
        text.extend((part.len() as u64).to_be_bytes());
        text.extend_from_slice(part);
    }
    valerix_policy::hash(&text)
}
