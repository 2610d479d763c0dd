//! What every request passes before anything is done for it: it must mean one thing to everybody, it speaks for nobody but
//! whoever sent it, it has a route, and whoever sent it may take that one.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::header::ORIGIN;
use http::uri::Authority;
use http::{Method, StatusCode};
use tower::Layer;
use valerix_kit::identity::{Caller, Identity};
use valerix_kit::problem::Problem;
use valerix_kit::server::{Answers, Secure};
use valerix_kit::{Front, RouteName};
use valerix_proxy::{
    Forwarding, check_expectation, check_framing, check_path, deadline_of_grpc, drop_internal,
    drop_named_by_connection, host, is_grpc, refusal_of_grpc,
};
use valerix_resilience::{Network, ServerLayer, ServerService};

use crate::cors;
use crate::document::is_own;
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

/// The edge in front of all that the gateway answers. What is passed on goes past its own routes: axum would look for one, and
/// each of its layers would copy all that is inside of it for each request.
pub struct EdgeFront(Arc<Inner>);

struct Inner {
    edge: Edge,
    front: Front,
    /// What answers the paths of [`OWN`] and of every service.
    own: Router,
    forward: ServerService<Forward>,
}

impl EdgeFront {
    /// In front of `own`, whose limits, as those of `forward`, are `protect`'s.
    #[must_use]
    pub fn new(edge: Edge, front: Front, own: Router, protect: &ServerLayer, forward: Forward) -> Self {
        // A call goes on in a task of its own when its client has left: what becomes of it the target's circuit has to learn,
        // however impatient the clients are.
        let forward = protect.clone().in_place_until_left(|_| true).layer(forward);
        Self(Arc::new(Inner {
            edge,
            front,
            own,
            forward,
        }))
    }
}

impl Answers for EdgeFront {
    fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        let path = request.uri().path();
        if is_own(path) {
            return self.0.own.answer(request);
        }
        let route = if path == "/" { "/" } else { "/{*rest}" };
        let this = Arc::clone(&self.0);
        Box::pin(async move { this.front.pass(route, request, |request| this.admit(request)).await })
    }
}

impl Inner {
    /// Lets a request pass that is in order, with its [`Matched`] route and its [`Caller`]. Whoever speaks gRPC is answered
    /// in its way.
    async fn admit(&self, mut request: Request) -> (Response, Option<RouteName>) {
        let grpc = is_grpc(request.headers());
        // The table is held for no longer than this: who lets go of it last has to take it apart.
        let route = self.edge.route(&self.edge.routes.table(), &mut request);
        let (answer, name) = match route {
            Err(problem) => (problem.into_response(), None),
            Ok(route) => (self.pass(&route, request).await, Some(route.name.clone())),
        };
        (if grpc { refusal_of_grpc(answer) } else { answer }, name)
    }

    /// The answer to a request that has a route.
    async fn pass(&self, route: &Arc<RouteEntry>, mut request: Request) -> Response {
        let question = cors::question(request.method(), request.headers());
        if let (Some(cors), Some((origin, _))) = (&route.cors, question) {
            return cors.beforehand(&origin, route.name.as_str());
        }
        let origin = request.headers().get(ORIGIN).filter(|_| route.cors.is_some()).cloned();
        let mut answer = match self.edge.identify(route, &mut request).await {
            Err(problem) => problem.into_response(),
            Ok(()) => {
                request.extensions_mut().insert(Matched(Arc::clone(route)));
                self.forward.clone().answer(request).await
            }
        };
        if let Some(cors) = &route.cors {
            cors.stamp(origin.as_ref(), answer.headers_mut());
        }
        answer
    }
}

/// What a request for a path of the gateway's own passes: as all others it has to be in order.
pub async fn admit_own(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let grpc = is_grpc(request.headers());
    let in_order = edge
        .check(&mut request)
        .and_then(|host| edge.stamp(&host, &mut request));
    let answer = match in_order {
        Err(problem) => problem.into_response(),
        Ok(()) => next.run(request).await,
    };
    if grpc { refusal_of_grpc(answer) } else { answer }
}

impl Edge {
    /// Refuses what is not in order, and drops what nobody outside has to say. Gives the host that is asked.
    fn check(&self, request: &mut Request) -> Result<Authority, Problem> {
        drop_internal(request.headers_mut());
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
        Ok(host)
    }

    /// Says who asks, and by which way.
    fn stamp(&self, host: &Authority, request: &mut Request) -> Result<(), Problem> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().copied();
        let peer = peer.ok_or_else(|| Problem::internal(&"the peer of a connection is not known"))?;
        let forwarding = Forwarding {
            peer: peer.0.ip(),
            tls: request.extensions().get::<Secure>().is_some(),
            host,
            trusted: &self.trusted,
        };
        forwarding.stamp(request.headers_mut());
        Ok(())
    }

    /// The route of a request that is in order.
    fn route(&self, table: &Table, request: &mut Request) -> Result<Arc<RouteEntry>, Problem> {
        let host = self.check(request)?;
        let path = request.uri().path();
        let find = |method: &Method| table.find(method, path, &host, request.headers());
        // A browser asks about a request that it is to make: the route of that one knows the answer.
        let asked = cors::question(request.method(), request.headers());
        let asked = asked.and_then(|(_, method)| find(&method).filter(|route| route.cors.is_some()));
        let Some(route) = asked.or_else(|| find(request.method())).cloned() else {
            let path = path.chars().take(200).collect::<String>();
            return Err(Problem::not_found("not-found", format!("there is nothing at {path}")));
        };
        self.stamp(&host, request)?;
        Ok(route)
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
