//! Stands in front of each handler of an [`Api`](crate::api::Api) and lets those pass whom its [`Access`] names.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Access, Caller, Identity};
use crate::problem::Problem;

/// Answers for the handler where `access` is not given, else leaves the caller for it.
pub(crate) async fn guard(access: Access, mut request: Request, next: Next) -> Response {
    // Put there by `Service::bind`. A route that is served any other way must not be open by mistake.
    let Some(identity) = request.extensions().get::<Identity>().cloned() else {
        return Problem::internal(&"the routes of an Api are served without an identity").into_response();
    };
    let caller = match access {
        Access::Open => Ok(Caller::Anonymous),
        _ => identity.identify(request.headers()).await,
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    if !identity.is_open()
        && let Err(problem) = access.check(&caller)
    {
        return problem.into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}
