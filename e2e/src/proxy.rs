//! A proxy between an operator and the API server. It writes down every request, and a test can hold one of them at a
//! chosen point: before it reaches the server, or after the server has done it and before the operator hears of it.

use crate::world::{OPERATOR_NAMESPACE, World};
use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Client,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// One request of the operator.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Body as text.
    pub body: String,
}

impl Seen {
    /// Whether it changes anything.
    pub fn is_write(&self) -> bool {
        self.method != "GET"
    }
}

/// What becomes of a held request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It goes on as if nothing had been.
    Forward,
    /// It never reaches the API server; the connection breaks.
    Drop,
    /// The API server gets it, the operator never hears the answer.
    ForwardAndDrop,
}

/// A held request: it waits until it is released.
pub struct Trap {
    reached: oneshot::Receiver<Seen>,
    release: oneshot::Sender<Release>,
}

impl Trap {
    /// Waits until the operator sends a request that matches.
    ///
    /// # Errors
    /// If it sends none in time.
    pub async fn reached(&mut self, within: Duration) -> Result<Seen> {
        tokio::time::timeout(within, &mut self.reached)
            .await
            .context("the operator did not send the awaited request in time")?
            .context("the proxy has ended")
    }

    /// Lets the request go on, or not.
    pub fn release(self, how: Release) {
        // The operator may be dead, and its request with it.
        let _ = self.release.send(how);
    }
}

type Matcher = Box<dyn Fn(&Seen) -> bool + Send>;

struct Armed {
    matches: Matcher,
    reached: oneshot::Sender<Seen>,
    release: oneshot::Receiver<Release>,
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    armed: Mutex<Vec<Armed>>,
}

/// The running proxy; it ends when dropped.
pub struct Proxy {
    /// Where the operator finds it.
    pub address: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Proxy {
    /// Starts on a free port of the loopback, with the rights of the operator's own ServiceAccount.
    ///
    /// # Errors
    /// If no token can be had or no port be opened.
    pub async fn start(world: &World) -> Result<Self> {
        let upstream = client_of_the_operator(world).await?;
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("failed to open a port")?;
        let address = listener.local_addr().context("failed to read the port")?;
        let state = Arc::new(State::default());
        let server = tokio::spawn(serve(listener, upstream, Arc::clone(&state)));
        Ok(Self { address, state, server })
    }

    /// Holds the next request that matches.
    pub fn trap(&self, matches: impl Fn(&Seen) -> bool + Send + 'static) -> Trap {
        let (reached_sender, reached) = oneshot::channel();
        let (release, release_receiver) = oneshot::channel();
        lock(&self.state.armed).push(Armed {
            matches: Box::new(matches),
            reached: reached_sender,
            release: release_receiver,
        });
        Trap { reached, release }
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn client_of_the_operator(world: &World) -> Result<Client> {
    let accounts = world.api::<ServiceAccount>(OPERATOR_NAMESPACE);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(3600),
            ..Default::default()
        },
        ..Default::default()
    };
    let answer = accounts
        .create_token_request("valerix-operator", &PostParams::default(), &request)
        .await
        .context("failed to get a token of the operator's ServiceAccount")?;
    let token = answer
        .status
        .context("the token request was answered without a token")?
        .token;
    let kubeconfig = Kubeconfig::read_from(&world.environment.kubeconfig).context("failed to read the kubeconfig")?;
    let mut value = serde_json::to_value(&kubeconfig).context("failed to change the kubeconfig")?;
    if let Some(users) = value["users"].as_array_mut() {
        for user in users {
            user["user"] = json!({"token": token});
        }
    }
    let kubeconfig: Kubeconfig = serde_json::from_value(value).context("failed to change the kubeconfig")?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("failed to use the operator's kubeconfig")?;
    config.default_retry = false;
    Client::try_from(config).context("failed to build the operator's client")
}

async fn serve(listener: TcpListener, upstream: Client, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (upstream, state) = (upstream.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(request, upstream.clone(), Arc::clone(&state)));
            // A connection that breaks is what a killed operator looks like.
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Handles a request in a task of its own: a killed operator breaks its connection, and what a test released after the
/// kill must reach the API server all the same.
async fn handle(
    request: Request<Incoming>,
    upstream: Client,
    state: Arc<State>,
) -> Result<Response<ResponseBody>, BoxError> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    tokio::spawn(forward(parts, body, upstream, state)).await?
}

async fn forward(
    parts: http::request::Parts,
    body: Bytes,
    upstream: Client,
    state: Arc<State>,
) -> Result<Response<ResponseBody>, BoxError> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let seen = Seen {
        method: parts.method.to_string(),
        path: path.clone(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    lock(&state.seen).push(seen.clone());

    let armed = {
        let mut armed = lock(&state.armed);
        let index = armed.iter().position(|armed| (armed.matches)(&seen));
        index.map(|index| armed.remove(index))
    };
    let release = match armed {
        Some(armed) => {
            let _ = armed.reached.send(seen);
            armed.release.await.unwrap_or(Release::Drop)
        }
        None => Release::Forward,
    };
    if release == Release::Drop {
        return Err("dropped before the API server".into());
    }

    let mut forwarded = Request::builder().method(parts.method).uri(path);
    for (name, value) in &parts.headers {
        let own = [
            header::HOST,
            header::AUTHORIZATION,
            header::ACCEPT_ENCODING,
            header::CONTENT_LENGTH,
            header::CONNECTION,
        ];
        if !own.contains(name) {
            forwarded = forwarded.header(name, value);
        }
    }
    let response = upstream
        .send(forwarded.body(kube::client::Body::from(body.to_vec()))?)
        .await?;
    if release == Release::ForwardAndDrop {
        response.into_body().collect().await?;
        return Err("dropped after the API server".into());
    }
    let (mut parts, body) = response.into_parts();
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
        parts.headers.remove(name);
    }
    Ok(Response::from_parts(parts, body.map_err(Into::into).boxed_unsync()))
}
