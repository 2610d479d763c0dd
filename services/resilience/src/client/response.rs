//! An answer whose head has come. Its body still holds the place in the bulkhead, and a break-off still counts.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::breaker::Ticket;
use crate::deadline::Deadline;
use crate::faults::{CUT_OFF, Severed};
use crate::outbound::{CallError, Completed, Head, Held, HttpHead, Target, mark_final};

/// An answer as an attempt has it, with what cuts its body.
pub(super) struct Received {
    pub(super) response: reqwest::Response,
    pub(super) severed: Severed,
}

impl HttpHead for Received {
    fn head(&self) -> Head<'_> {
        self.response.head()
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.response.headers_mut()
    }
}

/// An answer, of whatever status.
///
/// ```no_run
/// # async fn example(export: valerix_resilience::ResilientClient) -> Result<(), valerix_resilience::CallError> {
/// let mut answer = export.get("/orders.csv").send().await?;
/// if answer.status().is_success() {
///     while let Some(chunk) = answer.chunk().await? {
///         println!("{} bytes", chunk.len());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ClientResponse {
    response: reqwest::Response,
    severed: Severed,
    target: Arc<Target>,
    ticket: Option<Ticket>,
    deadline: Deadline,
    deadline_is_own: bool,
    max_body: usize,
    held: Held,
}

impl ClientResponse {
    pub(super) fn new(target: &Arc<Target>, mut completed: Completed<Received>, max_body: usize) -> Self {
        if completed.unrepeated {
            mark_final(&mut completed.answer);
        }
        Self {
            response: completed.answer.response,
            severed: completed.answer.severed,
            target: Arc::clone(target),
            ticket: completed.ticket,
            deadline: completed.deadline,
            deadline_is_own: completed.deadline_is_own,
            max_body,
            held: completed.held,
        }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next piece of the body, or nothing at its end.
    ///
    /// # Errors
    /// When the body breaks off or the deadline passes. The first is a failure of the target, and so is the second where
    /// the target's own time passed while it was waited for.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        let end = self.deadline.instant();
        let asked_in_time = Instant::now() < end;
        let next = async {
            tokio::select! {
                biased;
                () = &mut self.severed => Err(CUT_OFF.to_owned()),
                chunk = self.response.chunk() => chunk.map_err(|error| chain(&error)),
            }
        };
        let (cause, failed) = match tokio::time::timeout_at(end, next).await {
            Ok(Ok(chunk)) => return Ok(chunk),
            Ok(Err(cause)) => (cause, true),
            Err(_) => {
                // Who reads so slowly that the time is over before he asks has used it up himself.
                let failed = self.deadline_is_own && asked_in_time;
                ("the deadline passed while reading it".to_owned(), failed)
            }
        };
        if let Some(ticket) = self.ticket.take_if(|_| failed) {
            self.held.body_failed(&self.target, ticket);
        }
        Err(CallError::Body {
            target: self.target.name().to_owned(),
            cause,
        })
    }

    /// The whole body.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk), and when it is longer than the client allows.
    pub async fn bytes(mut self) -> Result<Bytes, CallError> {
        let Some(first) = self.chunk().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.chunk().await? else {
            return self.bounded(first);
        };
        let mut whole = BytesMut::from(&first[..]);
        whole.extend_from_slice(&second);
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
            if whole.len() > self.max_body {
                break;
            }
        }
        self.bounded(whole.freeze())
    }

    fn bounded(&self, body: Bytes) -> Result<Bytes, CallError> {
        if body.len() <= self.max_body {
            return Ok(body);
        }
        let cause = format!(
            "it is longer than {} bytes; raise ClientBuilder::max_body",
            self.max_body
        );
        Err(CallError::Body {
            target: self.target.name().to_owned(),
            cause,
        })
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and when it is no JSON of that shape.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, CallError> {
        let target = Arc::clone(&self.target);
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| CallError::Body {
            target: target.name().to_owned(),
            cause: format!("it is not the JSON expected: {error}"),
        })
    }

    /// The whole body as text; what is no UTF-8 is replaced.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub async fn text(self) -> Result<String, CallError> {
        Ok(String::from_utf8_lossy(&self.bytes().await?).into_owned())
    }
}

/// An error with its sources, without the URL, which may hold what must not be logged.
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    if text.is_empty() {
        "no further detail".to_owned()
    } else {
        text
    }
}
