//! What a refusal of the API server means to whoever asked. Pure.

use http::StatusCode;
use serde_json::{Value, json};
use valerix_kit::problem::Problem;

/// The API server's own words, under its own status; 503 where it gave none.
pub fn problem(error: &kube::Error) -> Problem {
    let kube::Error::Api(refusal) = error else {
        tracing::warn!(%error, "the API server did not answer");
        return Problem::unavailable(
            "the API server does not answer at the moment; nothing is known about the request",
        );
    };
    let status = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::BAD_GATEWAY);
    if status == StatusCode::UNAUTHORIZED {
        return signed_out();
    }
    let name = match status {
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not-found",
        StatusCode::CONFLICT => "conflict",
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST => "refused",
        _ => "cluster-error",
    };
    let words = if refusal.message.is_empty() {
        &refusal.reason
    } else {
        &refusal.message
    };
    let problem = Problem::new(status, name, words.clone()).with("reason", refusal.reason.clone());
    let causes = refusal.details.as_ref().map(|details| details.causes.as_slice());
    let fields = causes
        .unwrap_or_default()
        .iter()
        .filter(|cause| !cause.field.is_empty());
    let errors: Vec<Value> = fields
        .map(|cause| json!({"field": cause.field, "detail": cause.message}))
        .collect();
    if errors.is_empty() {
        return problem;
    }
    // As the API server names them, `spec.latency.delay`: the page shows each beside its field.
    problem.with("errors", errors)
}

/// 401: the token of a session is not accepted any more.
pub fn signed_out() -> Problem {
    let detail = "the API server does not accept this token: sign in with a new one";
    Problem::new(StatusCode::UNAUTHORIZED, "signed-out", detail)
}
