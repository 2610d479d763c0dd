//! What every request must be before it is passed on, wherever it comes from: one reading to everybody. Pure.

use axum::extract::Request;
use http::header::HOST;
use http::{Method, StatusCode, Version};
use valerix_kit::problem::Problem;
use valerix_proxy::{check_expectation, check_framing, host};

/// Refuses what means different things to different readers, and, with `no_tunnels` as the reason, to relay a connection.
///
/// # Errors
/// 400, 405 or 417, which say what is wrong.
pub fn check(request: &Request, no_tunnels: &str) -> Result<(), Problem> {
    if request.method() == Method::CONNECT {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", no_tunnels).never_retry());
    }
    check_framing(request.headers())?;
    check_expectation(request.headers())?;
    // HTTP/1.0 knows no host; one that is named is one all the same.
    if request.version() != Version::HTTP_10 || request.headers().contains_key(HOST) {
        host(request.uri(), request.headers())?;
    }
    Ok(())
}
