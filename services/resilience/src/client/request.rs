//! One request: what is sent, and with which deadline.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Serialize;
use tokio::time::Instant;
use tracing::Instrument;
use valerix_policy::Priority;

use super::partition::unless_cut;
use super::resilient::{Inner, ResilientClient};
use super::response::{ClientResponse, Received, chain};
use super::trace;
use crate::CLIENT_HEADER;
use crate::deadline::{Deadline, TIMEOUT_HEADER};
use crate::key::IDEMPOTENCY_KEY;
use crate::outbound::{Attempt, AttemptError, Call, CallError, HttpJudge, Sent, execute};
use crate::priority::{self, CurrentPriority};
use crate::problem::PRIORITY_HEADER;
use crate::retry;

/// A request that is being put together.
///
/// ```no_run
/// # async fn example(payment: valerix_resilience::ResilientClient) -> Result<(), valerix_resilience::CallError> {
/// use std::time::Duration;
/// use valerix_resilience::Deadline;
///
/// // One budget for both calls.
/// let budget = Deadline::after(Duration::from_secs(2));
/// let charge = payment.post("/payments").idempotency_key("order:42:charge").json(&42).deadline(budget);
/// let answer = charge.send().await?;
/// let receipt = payment.get("/receipts/42").bearer("token").deadline(budget).send().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a request is not sent until `send` is awaited"]
pub struct RequestBuilder {
    client: ResilientClient,
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Body,
    deadline: Option<Deadline>,
    patience: Option<Duration>,
    beside_circuits: bool,
    mistake: Option<String>,
}

enum Body {
    Empty,
    Bytes(Bytes),
    /// Sent once, never again.
    Stream(Box<std::sync::Mutex<Option<reqwest::Body>>>),
}

/// How requests begin.
impl ResilientClient {
    /// Begins a request to `path`, which is appended to the target's URL.
    pub fn request(&self, method: Method, path: impl Into<String>) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, path.into())
    }

    /// Begins a GET.
    pub fn get(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// Begins a POST.
    pub fn post(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// Begins a PUT.
    pub fn put(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::PUT, path)
    }

    /// Begins a DELETE.
    pub fn delete(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }
}

impl RequestBuilder {
    fn new(client: ResilientClient, method: Method, path: String) -> Self {
        Self {
            client,
            method,
            path,
            query: String::new(),
            headers: HeaderMap::new(),
            body: Body::Empty,
            deadline: None,
            patience: None,
            beside_circuits: false,
            mistake: None,
        }
    }

    /// Sets a header.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) => {
                self.headers.insert(name, value);
            }
            _ => self.mistake = Some("a header name or value has characters that HTTP does not allow".to_owned()),
        }
        self
    }

    /// Sets `Idempotency-Key`, quoted as the draft asks.
    pub fn idempotency_key(self, key: &str) -> Self {
        if key.is_empty()
            || key.len() > 255
            || !key
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
        {
            return Self {
                mistake: Some(format!(
                    "idempotency key {key:?}: use 1 to 255 visible ASCII characters without quotes"
                )),
                ..self
            };
        }
        self.header(IDEMPOTENCY_KEY, format!("\"{key}\""))
    }

    /// Sets `Authorization: Bearer`.
    pub fn bearer(self, token: &str) -> Self {
        self.header(header::AUTHORIZATION, format!("Bearer {token}"))
    }

    /// How important the call is. Without one the priority of the request being served counts
    /// ([`CurrentPriority::get`]).
    pub fn priority(self, priority: Priority) -> Self {
        self.header(PRIORITY_HEADER, priority.as_str())
    }

    /// Adds query parameters.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let pair: String = [name, value].map(encode).join("=");
        if !self.query.is_empty() {
            self.query.push('&');
        }
        self.query.push_str(&pair);
        self
    }

    /// Sends `value` as JSON.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.body = Body::Bytes(bytes.into()),
            Err(error) => self.mistake = Some(format!("the body is no JSON: {error}")),
        }
        self.header(header::CONTENT_TYPE, "application/json")
    }

    /// Sends bytes.
    pub fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = Body::Bytes(bytes.into());
        self
    }

    /// Sends a stream, once: a request with a stream is never repeated.
    pub fn stream(mut self, body: reqwest::Body) -> Self {
        self.body = Body::Stream(Box::new(std::sync::Mutex::new(Some(body))));
        self
    }

    /// The moment after which the answer is of no use. Shared by several calls, it is their common budget. Without one
    /// the deadline of the request being served counts ([`Deadline::current`]), and the target's own always does.
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        self
    }

    /// Waits at least this long for an answer, even where the target's own times are shorter: for a repetition of a call
    /// that they cut short before. The deadlines still count.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Sends it once whatever the target's circuit says, and does not tell the circuit how that ended: for a poll that
    /// comes back by itself at a pace of its own. Its failures while the target starts must not shut out those who come
    /// when it has started.
    pub fn beside_circuits(mut self) -> Self {
        self.beside_circuits = true;
        self
    }

    /// Sends it, repeats it where that is allowed, and returns the answer's head, of whatever status.
    ///
    /// # Errors
    /// When no answer came or the call was refused; see [`CallError`].
    pub async fn send(self) -> Result<ClientResponse, CallError> {
        let inner = self.client.inner();
        let target = inner.target.as_ref();
        let mistake = |cause: String| CallError::Request {
            target: target.name().to_owned(),
            sent: Sent::Nothing,
            cause,
        };
        if let Some(cause) = self.mistake {
            return Err(mistake(cause));
        }
        let mut policy = std::sync::Arc::clone(&target.policy());
        if let Some(patience) = self.patience {
            policy = std::sync::Arc::new(policy.patient(patience));
        }
        let base = policy.url.as_deref().or(inner.url.as_deref()).unwrap_or_default();
        let url = join(base, &self.path, &self.query).map_err(mistake)?;
        let balancer = self.client.balancer(base, &policy);
        let has_key = self.headers.contains_key(IDEMPOTENCY_KEY);
        let declared = has_key && policy.declares_idempotent(self.method.as_str(), url_path(&self.path));
        let once = matches!(self.body, Body::Stream(_));
        let call = Call {
            target,
            policy: &policy,
            balancer: balancer.as_ref(),
            deadline: Deadline::earliest(self.deadline, Deadline::current()),
            repeatable: !once && !self.beside_circuits && retry::is_repeatable(&self.method, has_key, declared),
            once,
            read: matches!(self.method, Method::GET | Method::HEAD),
            judged: !self.beside_circuits,
        };
        let judge = HttpJudge {
            classify: inner.classify.as_ref(),
            retry_on: inner.retry_on.as_deref(),
        };
        let (connections, balancer) = (&inner.connections, balancer.as_deref());
        let completed = execute(call, judge, |attempt| {
            let span = trace::attempt(&self.method, target.name());
            let request = span.in_scope(|| prepare(inner, &self.method, &url, &self.headers, &self.body, attempt));
            let sent = async move {
                let mut request = request?;
                let client = match attempt.address {
                    None => connections.shared(attempt.connect_timeout),
                    Some(address) => {
                        let in_use = |address| balancer.is_some_and(|balancer| balancer.contains(address));
                        connections
                            .to_address(&mut request, address, attempt.connect_timeout, in_use)
                            .await
                    }
                };
                let client = client.map_err(|error| AttemptError::unsent(chain(&error)))?;
                client.execute(request).await.map_err(|error| attempt_error(&error))
            };
            async move {
                let answer = unless_cut(&inner.faults, &inner.target, sent);
                let answer = answer.instrument(span.clone()).await;
                trace::ended(&span, answer.as_ref().map(|(answer, _)| answer.status()));
                answer.map(|(response, severed)| Received { response, severed })
            }
        })
        .await?;
        Ok(ClientResponse::new(&inner.target, completed, inner.max_body))
    }
}

impl std::fmt::Debug for RequestBuilder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RequestBuilder")
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn prepare(
    client: &Inner,
    method: &Method,
    url: &reqwest::Url,
    headers: &HeaderMap,
    body: &Body,
    attempt: Attempt,
) -> Result<reqwest::Request, AttemptError> {
    let left = attempt.end.saturating_duration_since(Instant::now());
    let mut request = reqwest::Request::new(method.clone(), url.clone());
    *request.headers_mut() = headers.clone();
    if let Some(decorate) = &client.decorate {
        decorate(request.headers_mut());
    }
    if !headers.contains_key(PRIORITY_HEADER) {
        priority::stamp(request.headers_mut(), CurrentPriority::get());
    }
    request.headers_mut().insert(TIMEOUT_HEADER, Deadline::header(left));
    if let Some(identity) = &client.identity {
        request.headers_mut().insert(CLIENT_HEADER, identity.clone());
    }
    match body {
        Body::Empty => {}
        Body::Bytes(bytes) => *request.body_mut() = Some(bytes.clone().into()),
        Body::Stream(stream) => {
            let taken = stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            let taken = taken.ok_or_else(|| AttemptError::unsent("the stream was already sent".to_owned()))?;
            *request.body_mut() = Some(taken);
        }
    }
    Ok(request)
}

fn attempt_error(error: &reqwest::Error) -> AttemptError {
    let cause = chain(error);
    if error.is_builder() {
        AttemptError::unsent(cause)
    } else if error.is_connect() {
        AttemptError::Connect(cause)
    } else {
        AttemptError::Reset(cause)
    }
}

/// A path without its query, as routes are compared.
fn url_path(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

fn join(base: &str, path: &str, query: &str) -> Result<reqwest::Url, String> {
    if !path.starts_with('/') {
        return Err(format!("path {path:?} does not start with a slash"));
    }
    let separator = if query.is_empty() {
        ""
    } else if path.contains('?') {
        "&"
    } else {
        "?"
    };
    let text = format!("{}{path}{separator}{query}", base.trim_end_matches('/'));
    reqwest::Url::parse(&text).map_err(|error| format!("{text:?} is no URL: {error}"))
}

/// Percent-encodes all but the unreserved characters.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            encoded.push('%');
            encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
            encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    encoded
}
