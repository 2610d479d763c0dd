//! What every request passes before anything is done for it: it must mean one thing to everybody, it speaks for nobody but
//! whoever sent it, it has a route, and whoever sent it may take that one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::header::ORIGIN;
use http::{Method, StatusCode};
use tower::{Layer, Service, ServiceExt};
use valerix_kit::RouteName;
use valerix_kit::identity::{Caller, Identity};
use valerix_kit::problem::Problem;
use valerix_kit::server::Secure;
use valerix_proxy::{
    Forwarding, check_expectation, check_framing, check_path, deadline_of_grpc, drop_internal,
    drop_named_by_connection, host, is_grpc, refusal_of_grpc,
};
use valerix_resilience::{Network, ServerLayer, ServerService};

use crate::cors;
use crate::document::OWN;
use crate::reload::Routes;
use crate::routes::Forward;
use crate::table::{Matched, RouteEntry, Table};

/// What the edge knows.
#[derive(Clone)]
pub struct Edge {
    /// The routes in force.
    pub routes: Routes,
    /// Who calls.
    pub identity: Identity,
    /// Whose `X-Forwarded-*` is believed.
    pub trusted: Arc<[Network]>,
}

/// Puts the edge around the gateway's own routes. What is passed on goes past these: each layer of axum would copy all
/// that is inside of it for each request.
#[derive(Clone)]
pub struct EdgeLayer {
    /// What the edge knows.
    pub edge: Edge,
    /// The limits of both.
    pub protect: ServerLayer,
    /// Passes on.
    pub forward: Forward,
}

/// What [`EdgeLayer`] makes of a service.
pub struct EdgeService<S>(Arc<Inner<S>>);

struct Inner<S> {
    edge: Edge,
    own: ServerService<S>,
    forward: ServerService<Forward>,
}

impl<S> Clone for EdgeService<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Layer<S> for EdgeLayer {
    type Service = EdgeService<S>;

    fn layer(&self, own: S) -> Self::Service {
        EdgeService(Arc::new(Inner {
            edge: self.edge.clone(),
            own: self.protect.layer(own),
            forward: self.protect.layer(self.forward.clone()),
        }))
    }
}

impl<S> Service<Request> for EdgeService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let this = Arc::clone(&self.0);
        Box::pin(async move { this.admit(request).await })
    }
}

impl<S> Inner<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    /// Lets a request pass that is in order, with its [`Matched`] route and its [`Caller`]. Whoever speaks gRPC is answered
    /// in its way.
    async fn admit(&self, mut request: Request) -> Result<Response, Infallible> {
        drop_internal(request.headers_mut());
        let grpc = is_grpc(request.headers());
        // The table is held for no longer than this: who lets go of it last has to take it apart.
        let route = self.edge.route(&self.edge.routes.table(), &mut request);
        let answer = match route {
            Err(problem) => problem.into_response(),
            Ok(None) => self.own.clone().oneshot(request).await?,
            Ok(Some(route)) => self.pass(route, request).await?,
        };
        Ok(if grpc { refusal_of_grpc(answer) } else { answer })
    }

    /// The answer to a request that has a route.
    async fn pass(&self, route: Arc<RouteEntry>, mut request: Request) -> Result<Response, Infallible> {
        let name = RouteName(Arc::clone(&route.name));
        let question = cors::question(request.method(), request.headers());
        if let (Some(cors), Some((origin, _))) = (&route.cors, question) {
            let answer = cors.beforehand(&origin, &route.name);
            return Ok((axum::Extension(name), answer).into_response());
        }
        let origin = request.headers().get(ORIGIN).cloned();
        let mut answer = match self.edge.identify(&route, &mut request).await {
            Err(problem) => problem.into_response(),
            Ok(()) => {
                request.extensions_mut().insert(Matched(Arc::clone(&route)));
                self.forward.clone().oneshot(request).await?
            }
        };
        if let Some(cors) = &route.cors {
            cors.stamp(origin.as_ref(), answer.headers_mut());
        }
        answer.extensions_mut().insert(name);
        Ok(answer)
    }
}

impl Edge {
    /// The route of a request that is in order; none for what the gateway answers itself.
    fn route(&self, table: &Table, request: &mut Request) -> Result<Option<Arc<RouteEntry>>, Problem> {
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            let detail = "the gateway relays no connections and echoes no requests";
            return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).never_retry());
        }
        check_path(request.uri().path())?;
        check_framing(request.headers())?;
        let host = host(request.uri(), request.headers())?;
        check_expectation(request.headers())?;
        // Before anything is read of the headers or written to them: what is passed on is what was judged.
        drop_named_by_connection(request.headers_mut());
        deadline_of_grpc(request.headers_mut());
        let path = request.uri().path();
        let own = OWN.contains(&path);
        let find = |method: &Method| {
            let found = table.find(method, path, &host, request.headers());
            found.filter(|_| !own)
        };
        // A browser asks about a request that it is to make: the route of that one knows the answer.
        let asked = cors::question(request.method(), request.headers());
        let asked = asked.and_then(|(_, method)| find(&method).filter(|route| route.cors.is_some()));
        let route = asked.or_else(|| find(request.method()));
        if route.is_none() && !own {
            let path = path.chars().take(200).collect::<String>();
            return Err(Problem::not_found("not-found", format!("there is nothing at {path}")));
        }
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().copied();
        let peer = peer.ok_or_else(|| Problem::internal(&"the peer of a connection is not known"))?;
        let forwarding = Forwarding {
            peer: peer.0.ip(),
            tls: request.extensions().get::<Secure>().is_some(),
            host: &host,
            trusted: &self.trusted,
        };
        forwarding.stamp(request.headers_mut());
        Ok(route.cloned())
    }

    /// Leaves the caller for limits, where the route asks who it is.
    async fn identify(&self, route: &RouteEntry, request: &mut Request) -> Result<(), Problem> {
        let Some(access) = route.access else {
            return Ok(());
        };
        let caller = self.identity.identify(request.headers()).await?;
        if !self.identity.is_open() {
            access.check(&caller)?;
        }
        request.extensions_mut().insert(caller);
        Ok(())
    }
}

/// What a limit by a claim counts a request under: only that of a verified token, else its address counts.
#[must_use]
pub fn claim(request: &Request, name: &str) -> Option<String> {
    let caller = request.extensions().get::<Caller>()?;
    let user = caller.user_id().filter(|_| name == "sub")?;
    Some(user.to_string())
}
