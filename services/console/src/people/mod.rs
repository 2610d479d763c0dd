//! Who looks, and in whose name. A person is a token of the API server, which the console keeps in memory and passes on
//! with everything that this person reads or commands: RBAC alone decides.

mod rights;
mod sessions;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kube::Client;
use kube::client::Body;
use valerix_kit::problem::Problem;

pub use rights::{RightsError, Scopes};
pub use sessions::{COOKIE, Session, Sessions};

use crate::refusal;
use crate::routes::AppState;

/// The header in which a command proves that it comes from the page.
pub const CSRF_HEADER: &str = "x-valerix-csrf";

/// The clients of the API server.
#[derive(Clone)]
pub struct Clients {
    /// With the console's own rights, which are to read.
    pub own: Client,
    /// With nobody's rights, for [`Clients::of`].
    pub nobody: Client,
}

impl Clients {
    /// A client whose every request carries `token`.
    ///
    /// # Errors
    /// When the token can not be sent in a header.
    pub fn of(&self, token: &str) -> Result<Client, Problem> {
        let bearer = HeaderValue::try_from(format!("Bearer {token}"));
        let mut bearer =
            bearer.map_err(|_| Problem::invalid_field("/token", "must be a token as kubectl prints it"))?;
        bearer.set_sensitive(true);
        let nobody = self.nobody.clone();
        let service = tower::service_fn(move |mut request: http::Request<Body>| {
            request.headers_mut().insert(header::AUTHORIZATION, bearer.clone());
            let nobody = nobody.clone();
            async move { nobody.send(request).await }
        });
        Ok(Client::new(service, "default"))
    }
}

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
