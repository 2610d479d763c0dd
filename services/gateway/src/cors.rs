//! What browsers are told before a page of another origin may use a route, and with each answer to one that does. In: what
//! the file of routes says, and the headers of requests. Out: headers. Pure.

use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use valerix_kit::problem::Problem;

use crate::document::{self, ANY, Route};

/// Methods of a route that names none.
const USUAL: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// What nobody else says to browsers about a route.
const SAID: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// What a route says to browsers, ready to be said.
#[derive(PartialEq)]
pub struct Cors {
    /// None where every origin may.
    origins: Option<Vec<String>>,
    methods: HeaderValue,
    headers: HeaderValue,
    exposed: HeaderValue,
    max_age: HeaderValue,
    credentials: bool,
}

impl Cors {
    /// That of a route; none where pages of other origins may not use it, or where it says what headers cannot.
    #[must_use]
    pub fn of(route: &Route) -> Option<Self> {
        let document::Cors {
            origins,
            methods,
            headers,
            exposed_headers,
            credentials,
            max_age,
        } = route.cors.as_deref()?;
        let methods = [methods, &route.matches.methods]
            .into_iter()
            .find(|methods| !methods.is_empty())
            .map_or_else(|| USUAL.join(", "), |methods| methods.join(", "));
        Some(Self {
            origins: (!origins.iter().any(|origin| origin == ANY)).then(|| origins.clone()),
            methods: HeaderValue::try_from(methods).ok()?,
            headers: HeaderValue::try_from(headers.join(", ")).ok()?,
            exposed: HeaderValue::try_from(exposed_headers.join(", ")).ok()?,
            max_age: HeaderValue::from(max_age.get().as_secs()),
            credentials: *credentials,
        })
    }

    /// What a browser asks beforehand is answered: nobody behind hears of it.
    #[must_use]
    pub fn beforehand(&self, origin: &HeaderValue, route: &str) -> Response {
        if self.allowed(origin).is_none() {
            let detail = format!("cors.origins of the route {route} does not name the origin of this page");
            return Problem::new(StatusCode::FORBIDDEN, "origin-not-allowed", detail)
                .never_retry()
                .into_response();
        }
        let mut answer = StatusCode::NO_CONTENT.into_response();
        let headers = answer.headers_mut();
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            (ACCESS_CONTROL_MAX_AGE, &self.max_age),
        ] {
            if !value.is_empty() {
                headers.insert(name, value.clone());
            }
        }
        self.allow(Some(origin), headers);
        answer
    }

    /// Says with an answer who may read it, in place of what a service behind said of that. `origin` is that of the page,
    /// where the request came from one.
    pub fn stamp(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for name in SAID {
            headers.remove(name);
        }
        self.allow(origin, headers);
    }

    fn allow(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if self.origins.is_some() {
            // Who keeps answers must not give that for one origin to another.
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        let Some(allowed) = origin.and_then(|origin| self.allowed(origin)) else {
            return;
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if !self.exposed.is_empty() {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone());
        }
    }

    /// What to name as allowed for a page of `origin`; none where it may not.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        match &self.origins {
            None => Some(HeaderValue::from_static(ANY)),
            Some(origins) => {
                let named = origins.iter().any(|named| named.as_bytes() == origin.as_bytes());
                named.then(|| origin.clone())
            }
        }
    }
}

/// A browser's question before the request itself: the origin of the page, and the method that it would use.
#[must_use]
pub fn question(method: &Method, headers: &HeaderMap) -> Option<(HeaderValue, Method)> {
    let origin = headers.get(ORIGIN).filter(|_| *method == Method::OPTIONS)?;
    let asked = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    Some((origin.clone(), Method::from_bytes(asked.as_bytes()).ok()?))
}
