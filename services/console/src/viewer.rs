//! Who sends a request: somebody who signed in, or nobody in particular; and who may command.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use kube::Client;
use valerix_kit::problem::Problem;

use crate::people::Session;
use crate::refusal;
use crate::state::AppState;

/// The header in which a command proves that it comes from the page.
pub const CSRF_HEADER: &str = "x-valerix-csrf";

/// Whoever sends a request.
#[derive(Clone)]
pub enum Viewer {
    /// Nobody in particular, where the console is open to read.
    Anonymous,
    /// Somebody who signed in.
    Person(Session),
}

impl FromRequestParts<AppState> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        match state.sessions.find(&parts.headers) {
            Some(session) => Ok(Self::Person(session)),
            None if state.anonymous_read => Ok(Self::Anonymous),
            None => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "sign in with a token of the API server",
            )),
        }
    }
}

impl Viewer {
    /// The name of whoever signed in.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Person(session) => Some(session.name()),
        }
    }

    /// The client for what this one reads.
    pub fn client(&self, state: &AppState) -> Client {
        match self {
            Self::Anonymous => state.clients.own.clone(),
            Self::Person(session) => session.client().clone(),
        }
    }

    /// What the API server's refusal means to this one; a session whose token it does not accept is over.
    pub fn refused(&self, error: &kube::Error, state: &AppState) -> Problem {
        let problem = refusal::problem(error);
        if let (Self::Person(session), StatusCode::UNAUTHORIZED) = (self, problem.status()) {
            state.sessions.end(session);
        }
        problem
    }
}

/// Somebody who signed in and whose request comes from the page: who may command.
pub struct Commander(pub Session);

impl FromRequestParts<AppState> for Commander {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Some(session) = state.sessions.find(&parts.headers) else {
            let detail = "sign in with a token of the API server: nobody commands without a name";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail));
        };
        check_origin(&parts.headers)?;
        let proof = parts.headers.get(CSRF_HEADER).and_then(|proof| proof.to_str().ok());
        if proof != Some(session.csrf()) {
            let detail = "the header X-Valerix-CSRF must hold what GET /api/session says: load the page again";
            return Err(Problem::new(StatusCode::FORBIDDEN, "csrf", detail));
        }
        Ok(Self(session))
    }
}

impl Commander {
    /// The same person, as a viewer.
    pub fn viewer(self) -> Viewer {
        Viewer::Person(self.0)
    }
}

/// Refuses what a browser says that another site began.
///
/// # Errors
/// 403 when it did.
pub fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if matches!(site, None | Some("same-origin" | "none")) {
        return Ok(());
    }
    let detail = "the request was begun by another site";
    Err(Problem::new(StatusCode::FORBIDDEN, "cross-site", detail))
}
