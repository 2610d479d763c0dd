//! `GET /api/dashboard`: what several services say, side by side, with what is missing named.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use futures::future::join_all;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::{BodyExt, Limited};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::Json;
use valerix_kit::identity::Access;
use valerix_kit::telemetry::outbound_headers;
use valerix_proxy::{Sending, SendingError};
use valerix_resilience::Deadline;

use super::AppState;
use crate::document::{OWN, Part};
use crate::table::Table;

/// The most bytes of one part.
const MAX_PART: usize = 256 * 1024;
/// What a part may be asked with beside its path: who asks, and from where.
const HANDED_ON: [header::HeaderName; 3] = [
    header::AUTHORIZATION,
    header::ACCEPT_LANGUAGE,
    header::HeaderName::from_static("x-forwarded-for"),
];

/// What the services say, as far as they do.
#[derive(Serialize, JsonSchema)]
struct DashboardAnswer {
    /// The answers that came in time, by the names of the parts.
    parts: BTreeMap<String, Value>,
    /// The parts that are missing.
    unavailable: Vec<Unavailable>,
}

/// A part that is missing.
#[derive(Serialize, JsonSchema)]
struct Unavailable {
    /// Its name.
    name: String,
    /// Why: `CircuitOpen`, `DeadlineExceeded`, `Connect` and the like, `Status` or `Body`.
    reason: &'static str,
    /// What the service answered instead of the part.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

/// Why a part is missing.
enum Missing {
    Call(&'static str),
    Status(u16),
}

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let operation = Operation::new("What the services say, as far as they answer in time", Access::Public)
        .answer::<DashboardAnswer>(200, "The parts that came, and the names of those that did not");
    api.get(OWN[0], show, operation)
}

async fn show(State(state): State<AppState>, request: Request) -> Json<DashboardAnswer> {
    let table = state.routes.table();
    let deadline = Deadline::after(table.dashboard.deadline.get());
    let mut headers = outbound_headers();
    for name in HANDED_ON {
        headers.extend(request.headers().get(&name).cloned().map(|value| (name, value)));
    }
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let asked = table
        .dashboard
        .parts
        .iter()
        .map(|part| ask(&table, part, headers.clone(), deadline));
    let mut answer = DashboardAnswer {
        parts: BTreeMap::new(),
        unavailable: Vec::new(),
    };
    for (part, said) in table.dashboard.parts.iter().zip(join_all(asked).await) {
        let name = part.name.clone();
        match said {
            Ok(value) => drop(answer.parts.insert(name, value)),
            Err(Missing::Call(reason)) => answer.unavailable.push(Unavailable {
                name,
                reason,
                status: None,
            }),
            Err(Missing::Status(status)) => answer.unavailable.push(Unavailable {
                name,
                reason: "Status",
                status: Some(status),
            }),
        }
    }
    Json(answer)
}

async fn ask(table: &Arc<Table>, part: &Part, headers: HeaderMap, deadline: Deadline) -> Result<Value, Missing> {
    let upstream = table.upstream(&part.target).ok_or(Missing::Call("NoTarget"))?;
    let mut request = http::Request::get(part.path.as_str())
        .extension(deadline)
        .body(Body::empty())
        .map_err(|_| Missing::Call("Path"))?;
    *request.headers_mut() = headers;
    let sending = Sending {
        max_body: 0,
        idle: deadline.remaining(),
    };
    let asking = async {
        let answer = upstream
            .send(request, sending)
            .await
            .map_err(|error| Missing::Call(reason(&error)))?;
        if !answer.status().is_success() {
            return Err(Missing::Status(answer.status().as_u16()));
        }
        let body = Limited::new(answer.into_body(), MAX_PART).collect().await;
        let body = body.map_err(|_| Missing::Call("Body"))?.to_bytes();
        serde_json::from_slice(&body).map_err(|_| Missing::Call("Body"))
    };
    // The library bounds the time to the head; the body has what is left of it.
    let in_time = tokio::time::timeout_at(deadline.instant(), asking).await;
    in_time.unwrap_or(Err(Missing::Call("DeadlineExceeded")))
}

const fn reason(error: &SendingError) -> &'static str {
    match error {
        SendingError::Call(error) => error.category(),
        SendingError::TooLarge(_) | SendingError::Body(_) | SendingError::Unasked(_) => "Body",
    }
}
