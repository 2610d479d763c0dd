//! A small S3: one bucket, the calls that the runner makes, and every bad habit that a store can have. It counts
//! what it is asked.

mod habits;
mod objects;
mod uploads;

pub use habits::{Habit, NextPiece, Step};

use crate::steps::{self, Steps};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::any,
};
use objects::{Object, list, put, read};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use uploads::{Open, begin, complete, part};

pub const BUCKET: &str = "archives";
pub const ACCESS_KEY: &str = "shop-access";
/// What is good once the credentials of that one have expired.
pub const RENEWED_KEY: &str = "shop-access-renewed";

#[derive(Debug)]
struct Inner {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Open>,
    begun: usize,
    parts: usize,
    /// So many parts are refused before one is taken.
    refuses_parts: usize,
    /// So many parts are taken, and then none.
    takes_parts: Option<usize>,
    requests: Vec<(Method, String)>,
    /// Archives that were put without the condition not to overwrite.
    unconditional: usize,
    habit: Habit,
    next_piece: Option<NextPiece>,
    ignores_conditions: bool,
    lists_late: bool,
    /// It answers nobody.
    away: bool,
    /// It answers none of the next so many requests.
    absent: usize,
    /// It goes away once it was sent an archive.
    goes_away: bool,
    /// Whose credentials are good.
    access_key: &'static str,
    expires_with: Option<Step>,
    /// Requests of those that were good before.
    expired: usize,
    steps: Steps,
}

#[derive(Clone, Debug)]
pub struct Store(Arc<Mutex<Inner>>);

impl Default for Store {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            begun: 0,
            parts: 0,
            refuses_parts: 0,
            takes_parts: None,
            requests: Vec::new(),
            unconditional: 0,
            habit: Habit::Good,
            next_piece: None,
            ignores_conditions: false,
            lists_late: false,
            away: false,
            absent: 0,
            goes_away: false,
            access_key: ACCESS_KEY,
            expires_with: None,
            expired: 0,
            steps: Steps::default(),
        })))
    }
}

impl Store {
    fn router(&self) -> Router {
        let steps = self.0.lock().unwrap().steps.clone();
        Router::new()
            .route("/{bucket}", any(list))
            .route("/{bucket}/", any(list))
            .route("/{bucket}/{*key}", any(object))
            .layer(axum::middleware::from_fn_with_state(self.clone(), answering))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .layer(axum::middleware::from_fn_with_state(steps, steps::passing))
            .with_state(self.clone())
    }

    /// Serves on a free port; returns its URL.
    pub async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = self.router();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// The same with TLS, as `localhost`.
    pub async fn serve_tls(&self, acceptor: TlsAcceptor) -> String {
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let router = self.router();
        tokio::spawn(async move { axum::serve(Encrypted { listener, acceptor }, router).await.unwrap() });
        url
    }

    /// Counts and holds its requests with those of another server; before it serves.
    pub fn count_with(&self, steps: Steps) {
        self.0.lock().unwrap().steps = steps;
    }

    /// How often this was asked of archives. To complete one is the PUT that it takes the place of; a part is none.
    pub fn count(&self, method: &Method) -> usize {
        let inner = self.0.lock().unwrap();
        let asked = |request: &&(Method, String)| request.0 == *method && is_archive(&request.1);
        inner.requests.iter().filter(asked).count()
    }

    /// How often something was put under a key.
    pub fn puts(&self, key: &str) -> usize {
        let inner = self.0.lock().unwrap();
        let asked = |request: &&(Method, String)| request.0 == Method::PUT && request.1 == key;
        inner.requests.iter().filter(asked).count()
    }

    /// How often an archive was put that might have overwritten another.
    pub fn unconditional_puts(&self) -> usize {
        self.0.lock().unwrap().unconditional
    }

    /// How often a store was asked what it makes of conditions.
    pub fn probes(&self) -> usize {
        let inner = self.0.lock().unwrap();
        let asked = |request: &&(Method, String)| request.0 == Method::PUT && !is_archive(&request.1);
        inner.requests.iter().filter(asked).count()
    }
}

fn is_archive(key: &str) -> bool {
    key.ends_with(".tar.zst")
}

fn refusal(status: u16, code: &str) -> Response {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said the store</Message></Error>");
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

#[allow(clippy::result_large_err, reason = "the answer is sent as it is")]
fn checked(store: &Store, bucket: &str, headers: &HeaderMap) -> Result<(), Response> {
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap());
    let authorization = authorization.unwrap_or_default();
    let is_of = |key: &str| authorization.contains(&format!("Credential={key}/"));
    let mut inner = store.0.lock().unwrap();
    if inner.access_key != ACCESS_KEY && is_of(ACCESS_KEY) {
        inner.expired += 1;
        return Err(refusal(400, "ExpiredToken"));
    }
    if !authorization.starts_with("AWS4-HMAC-SHA256 ") || !is_of(inner.access_key) {
        return Err(refusal(403, "InvalidAccessKeyId"));
    }
    if bucket != BUCKET {
        return Err(refusal(404, "NoSuchBucket"));
    }
    Ok(())
}

async fn answering(State(store): State<Store>, request: Request, next: Next) -> Response {
    let away = {
        let mut inner = store.0.lock().unwrap();
        let absent = inner.absent > 0;
        inner.absent = inner.absent.saturating_sub(1);
        inner.away || absent
    };
    if away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    next.run(request).await
}

async fn object(
    State(store): State<Store>,
    Path((bucket, key)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let upload = query.get("uploadId");
    let asked = match (upload, &method) {
        (None, method) => Some(method.clone()),
        (Some(_), &Method::POST) => Some(Method::PUT),
        (Some(_), _) => None,
    };
    let asked = asked.map(|method| (method, key.clone()));
    match (upload, &method) {
        (Some(_), &Method::PUT) => store.asked_for(Step::Part),
        (Some(_), &Method::POST) | (None, &Method::PUT) if is_archive(&key) => store.asked_for(Step::Archive),
        _ => {}
    }
    let checked = checked(&store, &bucket, &headers);
    // Credentials that are over: as good as not sent.
    let is_expired = |refusal: &Response| refusal.status() == StatusCode::BAD_REQUEST;
    if !checked.as_ref().is_err_and(is_expired) {
        store.0.lock().unwrap().requests.extend(asked);
    }
    if let Err(refusal) = checked {
        // An answer to HEAD has no body.
        return if method == Method::HEAD {
            refusal.status().into_response()
        } else {
            refusal
        };
    }
    match (upload, &method) {
        (Some(id), &Method::PUT) => return part(&store, id, &query["partNumber"], &headers, body),
        (Some(id), &Method::POST) => return complete(&store, id, key, &headers, &body).await,
        (Some(id), &Method::DELETE) => {
            let aborted = store.0.lock().unwrap().uploads.remove(id);
            return aborted.map_or_else(
                || refusal(404, "NoSuchUpload"),
                |_| StatusCode::NO_CONTENT.into_response(),
            );
        }
        (None, &Method::POST) if query.contains_key("uploads") => return begin(&store, key, &headers),
        _ => {}
    }
    match method {
        Method::PUT => put(&store, key, &headers, body).await,
        Method::DELETE => {
            store.remove(&key);
            StatusCode::NO_CONTENT.into_response()
        }
        _ => match store.object(&key) {
            None if method == Method::HEAD => StatusCode::NOT_FOUND.into_response(),
            None => refusal(404, "NoSuchKey"),
            Some(object) => read(&store, &key, &method, &headers, object),
        },
    }
}

struct Encrypted {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
