//! The forward proxy, for an application that can be told no other address: what it asks for is matched to a target by host
//! and port. `CONNECT` is relayed, as what is inside of it is not for us to read.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper_util::rt::TokioIo;
use valerix_kit::problem::Problem;
use valerix_kit::server::Answers;
use valerix_policy::Timeouts;
use valerix_policy::guard::UnknownHosts;
use valerix_proxy::{Local, LocalError, Sending};
use valerix_resilience::Resilience;

use crate::admission::check;
use crate::targets::Targets;
use crate::tcp::{Cut, open_target};

/// What the proxy needs.
#[derive(Clone)]
pub struct ForwardProxy(Arc<Inner>);

struct Inner {
    resilience: Resilience,
    targets: Targets,
    unknown: UnknownHosts,
    elsewhere: Local,
    cut: Cut,
}

impl ForwardProxy {
    /// In front of the targets, and of all others as `unknown` says.
    #[must_use]
    pub fn new(resilience: &Resilience, targets: Targets, unknown: UnknownHosts, cut: Cut) -> Self {
        let elsewhere = Local::anywhere(resilience, Timeouts::default().connect.get());
        Self(Arc::new(Inner {
            resilience: resilience.clone(),
            targets,
            unknown,
            elsewhere,
            cut,
        }))
    }

    async fn request(&self, mut request: Request) -> Result<Response, Problem> {
        let authority = request.uri().authority().cloned().ok_or_else(no_authority)?;
        if request.uri().scheme() != Some(&Scheme::HTTP) {
            let detail =
                "the proxy takes http:// and CONNECT: for https set https_proxy too, so that the client relays";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid-request", detail));
        }
        // RFC 9112, 3.2.2: who is asked stands in the address, whatever else is named.
        name_host(&authority, request.headers_mut())?;
        check(&request, "")?;
        if let Some(slot) = self.0.targets.at(&authority, 80) {
            return Ok(self.0.targets.call(&slot, request).await);
        }
        self.known(&authority)?;
        let sending = Sending {
            max_body: u64::MAX,
            idle: std::time::Duration::from_secs(30),
        };
        match self.0.elsewhere.send(request, sending).await {
            Ok(answer) => Ok(answer.map(Body::new)),
            Err(LocalError::TooLarge(_) | LocalError::Body(_)) => {
                let detail = "the body broke off before its end: send the request again";
                Err(Problem::new(StatusCode::BAD_REQUEST, "incomplete-body", detail))
            }
            Err(error) => {
                tracing::info!(%authority, %error, "a request to an unknown host was not passed on");
                Err(unreachable(&authority))
            }
        }
    }

    async fn connect(&self, request: Request) -> Result<Response, Problem> {
        let authority = request.uri().authority().cloned().ok_or_else(no_authority)?;
        let slot = self.0.targets.at(&authority, 443);
        let port = authority.port_u16().ok_or_else(no_authority)?;
        let address = (authority.host().trim_matches(['[', ']']).to_owned(), port);
        let opened = match &slot {
            Some(slot) => {
                let opened = open_target(&self.0.resilience, slot, &address).await;
                let (stream, place) = opened.map_err(|error| {
                    tracing::info!(target_name = slot.name(), %error, "a connection was not relayed");
                    error.problem(slot)
                })?;
                (stream, Some(place))
            }
            None => {
                self.known(&authority)?;
                let within = Timeouts::default().connect.get();
                let opening = tokio::net::TcpStream::connect(address);
                match tokio::time::timeout(within, opening).await {
                    Ok(Ok(stream)) => (stream, None),
                    Ok(Err(_)) | Err(_) => return Err(unreachable(&authority)),
                }
            }
        };
        let (mut upstream, place) = opened;
        let (cut, slot) = (self.0.cut.clone(), slot.map(|slot| slot.name().to_owned()));
        let client = hyper::upgrade::on(request);
        self.0.resilience.tasks().spawn(async move {
            let _place = place;
            match client.await {
                Ok(client) => {
                    let mut client = TokioIo::new(client);
                    cut.relay(&mut client, &mut upstream, slot.as_deref()).await;
                }
                Err(error) => tracing::debug!(%error, "a tunnel did not come about"),
            }
        });
        Ok(StatusCode::OK.into_response())
    }

    /// Whether hosts that are no target may be called.
    fn known(&self, authority: &Authority) -> Result<(), Problem> {
        match self.0.unknown {
            UnknownHosts::Forward => Ok(()),
            UnknownHosts::Refuse => {
                let detail = format!(
                    "{authority} is no target of the policy: add it to targets, or set spec.guard.outbound.unknownHosts to Forward"
                );
                Err(Problem::new(StatusCode::BAD_GATEWAY, "unknown-host", detail).never_retry())
            }
        }
    }
}

impl Answers for ForwardProxy {
    fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        let proxy = self.clone();
        Box::pin(async move {
            let answer = if request.method() == Method::CONNECT {
                proxy.connect(request).await
            } else {
                proxy.request(request).await
            };
            answer.unwrap_or_else(IntoResponse::into_response)
        })
    }
}

/// Sets `Host` to the one that the address names.
fn name_host(authority: &Authority, headers: &mut HeaderMap) -> Result<(), Problem> {
    let refused = |_| Problem::invalid_header("Host", "must be given once, and as the address has it");
    if headers.get_all(HOST).iter().count() > 1 {
        return Err(refused(()));
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| refused(()))?;
    headers.insert(HOST, host);
    Ok(())
}

fn no_authority() -> Problem {
    let detail = "this port is a forward proxy: send the whole URL, or CONNECT with host and port";
    Problem::new(StatusCode::BAD_REQUEST, "invalid-request", detail)
}

fn unreachable(authority: &Authority) -> Problem {
    let detail = format!("{authority} could not be reached");
    Problem::new(StatusCode::BAD_GATEWAY, "unreachable", detail)
}
