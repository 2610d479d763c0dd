//! `/api/session`: who one is. A token comes in by a body alone, goes out to the API server alone, and is in no log.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api as KubeApi;
use kube::api::PostParams;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use valerix_kit::api::{Api, Operation};
use valerix_kit::extract::Json;
use valerix_kit::identity::Access;
use valerix_kit::problem::Problem;

use crate::people::Session;
use crate::refusal;
use crate::state::AppState;
use crate::viewer::{Commander, check_origin};

const SESSION: &str = "/api/session";
/// The longest token that is taken. Unit: bytes.
const LONGEST_TOKEN: usize = 16 * 1024;

/// Who one is, and what the console offers.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SessionAnswer {
    /// The name of whoever signed in, as the API server says.
    user: Option<String>,
    /// What a command repeats in the header `X-Valerix-CSRF`.
    csrf: Option<String>,
    /// Whether one may look without having signed in.
    anonymous_read: bool,
    /// Whether orders can be placed.
    orders: bool,
    /// The version of the console.
    version: &'static str,
}

/// A token of the API server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SignIn {
    /// The token, as `kubectl create token` prints it.
    #[schemars(length(min = 1, max = LONGEST_TOKEN))]
    token: String,
}

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    let show_it = Operation::new("Who one is", Access::Open).answer::<SessionAnswer>(200, "Who, or nobody");
    let begin_it = Operation::new("Sign in with a token of the API server", Access::Open)
        .body::<SignIn>(json!({"token": "what kubectl create token prints"}))
        .answer::<SessionAnswer>(200, "Who that is; the answer sets the cookie of the session")
        .problem(401, "The API server does not accept the token");
    let end_it = Operation::new("Sign out", Access::Open).empty(204, "Signed out");
    api.get(SESSION, show, show_it)
        .post(SESSION, begin, begin_it)
        .delete(SESSION, end, end_it)
}

async fn show(State(state): State<AppState>, headers: HeaderMap) -> Json<SessionAnswer> {
    let session = state.sessions.find(&headers);
    Json(answer(&state, session.as_ref()))
}

async fn begin(
    State(state): State<AppState>,
    headers: HeaderMap,
    Json(sign_in): Json<SignIn>,
) -> Result<Response, Problem> {
    check_origin(&headers)?;
    let token = sign_in.token.trim();
    if token.is_empty() || token.len() > LONGEST_TOKEN {
        return Err(Problem::invalid_field("/token", "must be a token as kubectl prints it"));
    }
    let client = state.clients.of(token)?;
    let reviews: KubeApi<SelfSubjectReview> = KubeApi::all(client.clone());
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await;
    let review = review.map_err(|error| refusal::problem(&error))?;
    let name = review
        .status
        .and_then(|status| status.user_info)
        .and_then(|user| user.username);
    // Without a name it is nobody: an API server that lets everyone in accepts any token.
    let name = name
        .filter(|name| name != "system:anonymous")
        .ok_or_else(refusal::signed_out)?;
    if let Some(before) = state.sessions.find(&headers) {
        state.sessions.end(&before);
    }
    let session = state.sessions.begin(name, client)?;
    tracing::info!(user = session.name(), "signed in");
    Ok(with_cookie(
        &state,
        Some(&session),
        Json(answer(&state, Some(&session))),
    ))
}

async fn end(State(state): State<AppState>, Commander(session): Commander) -> Response {
    state.sessions.end(&session);
    tracing::info!(user = session.name(), "signed out");
    with_cookie(&state, None, StatusCode::NO_CONTENT)
}

fn with_cookie(state: &AppState, session: Option<&Session>, answer: impl IntoResponse) -> Response {
    let mut answer = answer.into_response();
    if let Some(cookie) = state.sessions.cookie(session) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}

fn answer(state: &AppState, session: Option<&Session>) -> SessionAnswer {
    SessionAnswer {
        user: session.map(|session| session.name().to_owned()),
        csrf: session.map(|session| session.csrf().to_owned()),
        anonymous_read: state.anonymous_read,
        orders: state.gateway.is_some(),
        version: env!("CARGO_PKG_VERSION"),
    }
}
