//! What the application calls by HTTP: past the breaker, retries and bulkhead of the target that it names, and on to where
//! the policy document says that this is.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::uri::{Authority, PathAndQuery};
use http::{StatusCode, Uri};
use valerix_kit::problem::Problem;
use valerix_kit::server::Answers;
use valerix_proxy::{Sending, Speaks, Tls, Upstream, grpc_timeout, is_grpc, refusal_of_grpc};
use valerix_resilience::{Deadline, Resilience, Target};

use crate::admission::check;

const NO_TUNNELS: &str = "this port is one target's: relay connections by the forward proxy";

/// What the application sends is its own business, and what it gets may be of any length.
const SENDING: Sending = Sending {
    max_body: u64::MAX,
    idle: Duration::from_secs(30),
};

/// All targets that are called by HTTP or relayed. Clones are one.
#[derive(Clone)]
pub struct Targets(Arc<Inner>);

struct Inner {
    resilience: Resilience,
    /// For targets that name no authorities of their own. None where the system has no certificates: then those of `https`
    /// cannot be called.
    tls: Option<Tls>,
    known: RwLock<BTreeMap<String, Arc<Slot>>>,
}

/// One target, and where it is at the moment.
pub struct Slot {
    name: String,
    /// Where it is when the document does not say.
    given: Option<String>,
    speaks: Speaks,
    tls: Option<Tls>,
    target: Arc<Target>,
    current: ArcSwapOption<Place>,
}

/// A URL and what calls it.
struct Place {
    url: String,
    /// None where the URL is none that can be called.
    upstream: Option<Upstream>,
    /// What stands before every path, without a slash at its end.
    prefix: String,
}

impl Targets {
    /// No targets yet.
    #[must_use]
    pub fn new(resilience: &Resilience, tls: Option<Tls>) -> Self {
        Self(Arc::new(Inner {
            resilience: resilience.clone(),
            tls,
            known: RwLock::default(),
        }))
    }

    /// The target `name`; made with these on the first time. Without `tls` of its own it is called with that of all.
    #[must_use]
    pub fn slot(&self, name: &str, given: Option<String>, speaks: Speaks, tls: Option<Tls>) -> Arc<Slot> {
        let known = self
            .0
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned();
        if let Some(slot) = known {
            return slot;
        }
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let made = || {
            Arc::new(Slot {
                name: name.to_owned(),
                given,
                speaks,
                tls: tls.or_else(|| self.0.tls.clone()),
                target: self.0.resilience.target(name),
                current: ArcSwapOption::empty(),
            })
        };
        Arc::clone(known.entry(name.to_owned()).or_insert_with(made))
    }

    /// The target at `authority`, whose port is `port` where it names none.
    #[must_use]
    pub fn at(&self, authority: &Authority, port: u16) -> Option<Arc<Slot>> {
        let (wanted, port) = (bare(authority.host()), authority.port_u16().unwrap_or(port));
        let is_there = |url: &str| {
            place_of(url).is_some_and(|(host, of_url)| bare(&host).eq_ignore_ascii_case(wanted) && of_url == port)
        };
        let found = {
            let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
            let mut slots = known.values();
            slots.find(|slot| slot.url().is_some_and(|url| is_there(&url))).cloned()
        };
        found.or_else(|| {
            let name = self.0.resilience.target_at(is_there)?;
            Some(self.slot(&name, None, Speaks::AsAsked, None))
        })
    }

    /// What answers at one target's listener.
    #[must_use]
    pub fn of(&self, slot: Arc<Slot>) -> OneTarget {
        let targets = self.clone();
        OneTarget { targets, slot }
    }

    /// Passes a request on to a target.
    pub async fn call(&self, slot: &Slot, mut request: Request) -> Response {
        let grpc = is_grpc(request.headers());
        let answer = match self.answer(slot, &mut request).await {
            Ok(answer) => answer,
            Err(problem) => problem.into_response(),
        };
        if grpc { refusal_of_grpc(answer) } else { answer }
    }

    async fn answer(&self, slot: &Slot, request: &mut Request) -> Result<Response, Problem> {
        check(request, NO_TUNNELS)?;
        let own = Deadline::from_headers(request.headers())
            .map_err(|error| Problem::invalid_header("Valerix-Timeout-Ms", error.to_string()))?;
        let of_grpc = grpc_timeout(request.headers()).filter(|_| is_grpc(request.headers()));
        if let Some(time) = own.into_iter().chain(of_grpc).min() {
            request.extensions_mut().insert(Deadline::after(time));
        }
        let place = slot.place(&self.0)?;
        let unusable = || {
            let detail = "the target's url cannot be called by HTTP: use http://host[:port][/path] or https://";
            Problem::new(StatusCode::BAD_GATEWAY, "no-target-url", detail).with("target", slot.name.as_str())
        };
        let upstream = place.upstream.as_ref().ok_or_else(unusable)?;
        if !place.prefix.is_empty() {
            *request.uri_mut() = place.prefixed(request.uri()).ok_or_else(unusable)?;
        }
        match upstream.send(std::mem::take(request), SENDING).await {
            Ok(answer) => Ok(answer.map(Body::new)),
            Err(error) => {
                tracing::info!(target_name = slot.name, %error, "a request was not passed on");
                Err(error.problem())
            }
        }
    }
}

/// Passes everything on to one target.
pub struct OneTarget {
    targets: Targets,
    slot: Arc<Slot>,
}

impl Answers for OneTarget {
    fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        let (targets, slot) = (self.targets.clone(), Arc::clone(&self.slot));
        Box::pin(async move { targets.call(&slot, request).await })
    }
}

impl Slot {
    /// Its name in the policy.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was learned about it.
    #[must_use]
    pub const fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Where it is: where the document says, else where the wiring says.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.target.url().or_else(|| self.given.clone())
    }

    /// Host and port, for who relays.
    ///
    /// # Errors
    /// When it has no URL, or one that names no port.
    pub fn address(&self) -> Result<(String, u16), Problem> {
        let url = self.url().ok_or_else(|| self.no_url())?;
        place_of(&url).ok_or_else(|| self.no_url())
    }

    fn place(&self, targets: &Inner) -> Result<Arc<Place>, Problem> {
        let url = self.url().ok_or_else(|| self.no_url())?;
        if let Some(place) = self.current.load_full().filter(|place| place.url == url) {
            return Ok(place);
        }
        let place = Arc::new(Place::new(url, self, targets));
        self.current.store(Some(Arc::clone(&place)));
        Ok(place)
    }

    fn no_url(&self) -> Problem {
        let detail = "it is not known where the target is: set targets[].url in the ResilientService";
        Problem::new(StatusCode::BAD_GATEWAY, "no-target-url", detail).with("target", self.name.as_str())
    }
}

impl Place {
    fn new(url: String, slot: &Slot, targets: &Inner) -> Self {
        let parsed = url.parse::<Uri>().ok();
        let path = parsed.as_ref().map_or("", Uri::path);
        let prefix = path.trim_end_matches('/').to_owned();
        let bare = parsed.as_ref().and_then(|uri| {
            let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
            format!("{scheme}://{authority}").parse().ok()
        });
        let call =
            |bare: &Uri| Upstream::speaking(&targets.resilience, &slot.name, bare, slot.speaks, slot.tls.as_ref());
        let upstream = bare.as_ref().and_then(call);
        if upstream.is_none() {
            tracing::error!(target_name = slot.name, url, "the target cannot be called by HTTP");
        }
        Self { url, upstream, prefix }
    }

    fn prefixed(&self, uri: &Uri) -> Option<Uri> {
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(format!("{}{path}", self.prefix).parse().ok()?);
        // An address without a host has a path alone.
        Uri::from_parts(parts).ok()
    }
}

/// Host and port that a URL leads to.
fn place_of(url: &str) -> Option<(String, u16)> {
    let uri = url.parse::<Uri>().ok()?;
    let port = match uri.scheme_str()? {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    Some((uri.host()?.to_owned(), uri.port_u16().or(port)?))
}

/// A host without the dot that says that it is whole.
fn bare(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_a_host_and_a_port() {
        let place = |url| place_of(url).map(|(host, port)| format!("{host}:{port}"));
        assert_eq!(place("http://order").as_deref(), Some("order:80"));
        assert_eq!(place("https://bank.example/api").as_deref(), Some("bank.example:443"));
        assert_eq!(place("tcp://redis:6379").as_deref(), Some("redis:6379"));
        assert_eq!(place("tcp://redis"), None);
        assert_eq!(place("order"), None);
    }
}
