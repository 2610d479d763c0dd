//! A small S3: one bucket, the five calls that the runner makes, and every bad habit that a store can have. It counts
//! what it is asked.

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
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub const BUCKET: &str = "archives";
pub const ACCESS_KEY: &str = "shop-access";

/// What the store does with the first archive that it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// It does as it is asked.
    Good,
    /// It stores, or does not, and the connection breaks before the answer.
    Cut { stores: bool },
    /// It stores, or does not, and never answers.
    Hang { stores: bool },
    /// It stores, or does not, and answers this.
    Answer {
        stores: bool,
        status: u16,
        code: &'static str,
    },
    /// It stores half of it and says that all is well.
    Truncate,
}

#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Bytes,
    metadata: BTreeMap<String, String>,
    attested: bool,
}

#[derive(Debug)]
struct Inner {
    objects: BTreeMap<String, Object>,
    requests: Vec<(Method, String)>,
    /// Archives that were put without the condition not to overwrite.
    unconditional: usize,
    habit: Habit,
    ignores_conditions: bool,
    lists_late: bool,
    /// It answers nobody.
    away: bool,
    /// It goes away once it was sent an archive.
    goes_away: bool,
    steps: Steps,
}

#[derive(Clone, Debug)]
pub struct Store(Arc<Mutex<Inner>>);

impl Default for Store {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            objects: BTreeMap::new(),
            requests: Vec::new(),
            unconditional: 0,
            habit: Habit::Good,
            ignores_conditions: false,
            lists_late: false,
            away: false,
            goes_away: false,
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

    pub fn take_habit(&self, habit: Habit) {
        self.0.lock().unwrap().habit = habit;
    }

    pub fn ignore_conditions(&self) {
        self.0.lock().unwrap().ignores_conditions = true;
    }

    /// As behind a proxy whose store starts again.
    pub fn be_away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    /// The same, from the moment on at which it is sent an archive.
    pub fn go_away_with_an_archive(&self) {
        self.0.lock().unwrap().goes_away = true;
    }

    /// A listing knows nothing of what was stored since the server began.
    pub fn list_late(&self) {
        self.0.lock().unwrap().lists_late = true;
    }

    /// Counts and holds its requests with those of another server; before it serves.
    pub fn count_with(&self, steps: Steps) {
        self.0.lock().unwrap().steps = steps;
    }

    /// Keys of archives.
    pub fn archives(&self) -> Vec<String> {
        let inner = self.0.lock().unwrap();
        inner.objects.keys().filter(|key| is_archive(key)).cloned().collect()
    }

    pub fn object(&self, key: &str) -> Option<Object> {
        self.0.lock().unwrap().objects.get(key).cloned()
    }

    pub fn put(&self, key: &str, bytes: &[u8], metadata: &[(&str, &str)]) {
        let metadata = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let object = Object {
            bytes: bytes.to_vec().into(),
            metadata: metadata.collect(),
            attested: false,
        };
        self.0.lock().unwrap().objects.insert(key.to_owned(), object);
    }

    pub fn remove(&self, key: &str) -> Option<Object> {
        self.0.lock().unwrap().objects.remove(key)
    }

    pub fn put_back(&self, key: &str, object: Object) {
        self.0.lock().unwrap().objects.insert(key.to_owned(), object);
    }

    /// How often this was asked of archives.
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

/// Ends the connection without an answer, and without a word on the test's output.
fn cut() -> Response {
    std::panic::resume_unwind(Box::new(()))
}

#[allow(clippy::result_large_err, reason = "the answer is sent as it is")]
fn checked(bucket: &str, headers: &HeaderMap) -> Result<(), Response> {
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap());
    let authorization = authorization.unwrap_or_default();
    if !authorization.starts_with("AWS4-HMAC-SHA256 ") || !authorization.contains(&format!("Credential={ACCESS_KEY}/"))
    {
        return Err(refusal(403, "InvalidAccessKeyId"));
    }
    if bucket != BUCKET {
        return Err(refusal(404, "NoSuchBucket"));
    }
    Ok(())
}

async fn answering(State(store): State<Store>, request: Request, next: Next) -> Response {
    if store.0.lock().unwrap().away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    next.run(request).await
}

async fn list(
    State(store): State<Store>,
    Path(bucket): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = checked(&bucket, &headers) {
        return refusal;
    }
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let inner = store.0.lock().unwrap();
    // A page holds one key, so that who reads only the first page sees little.
    let after = query.get("continuation-token").cloned().unwrap_or_default();
    let mut keys = inner
        .objects
        .keys()
        .filter(|key| key.starts_with(&prefix) && **key > after && !inner.lists_late);
    let contents = keys
        .next()
        .map(|key| (key, format!("<Contents><Key>{key}</Key></Contents>")));
    let next = match (&contents, keys.next()) {
        (Some((key, _)), Some(_)) => {
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{key}</NextContinuationToken>")
        }
        _ => "<IsTruncated>false</IsTruncated>".to_owned(),
    };
    let contents = contents.map(|(_, text)| text).unwrap_or_default();
    let text = format!("<?xml version=\"1.0\"?><ListBucketResult>{next}{contents}</ListBucketResult>");
    ([(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

async fn object(
    State(store): State<Store>,
    Path((bucket, key)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    store.0.lock().unwrap().requests.push((method.clone(), key.clone()));
    if let Err(refusal) = checked(&bucket, &headers) {
        // An answer to HEAD has no body.
        return if method == Method::HEAD {
            refusal.status().into_response()
        } else {
            refusal
        };
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
            Some(object) => found(&method, &headers, &object),
        },
    }
}

fn found(method: &Method, asked: &HeaderMap, object: &Object) -> Response {
    let mut response = if *method == Method::HEAD {
        let mut response = StatusCode::OK.into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, object.bytes.len().into());
        let stored_at = header::HeaderValue::from_static("Fri, 21 Aug 2026 02:16:00 GMT");
        response.headers_mut().insert(header::LAST_MODIFIED, stored_at);
        response
    } else {
        object.bytes.clone().into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in &object.metadata {
        let name: header::HeaderName = format!("x-amz-meta-{name}").parse().unwrap();
        headers.insert(name, value.parse().unwrap());
    }
    if object.attested && asked.contains_key("x-amz-checksum-mode") {
        let sum = BASE64_STANDARD.encode(Sha256::digest(&object.bytes));
        headers.insert("x-amz-checksum-sha256", sum.parse().unwrap());
    }
    response
}

async fn put(store: &Store, key: String, headers: &HeaderMap, body: Bytes) -> Response {
    let habit = {
        let mut inner = store.0.lock().unwrap();
        let conditional = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*");
        inner.unconditional += usize::from(!conditional && is_archive(&key));
        if conditional && !inner.ignores_conditions && inner.objects.contains_key(&key) {
            return refusal(412, "PreconditionFailed");
        }
        if is_archive(&key) {
            inner.away |= std::mem::take(&mut inner.goes_away);
            std::mem::replace(&mut inner.habit, Habit::Good)
        } else {
            Habit::Good
        }
    };
    let sum = headers.get("x-amz-checksum-sha256");
    if sum.is_some_and(|sum| sum.to_str().unwrap() != BASE64_STANDARD.encode(Sha256::digest(&body))) {
        return refusal(400, "BadDigest");
    }
    let metadata = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("x-amz-meta-")?;
        Some((name.to_owned(), value.to_str().unwrap().to_owned()))
    });
    let bytes = if habit == Habit::Truncate {
        body.slice(..body.len() / 2)
    } else {
        body
    };
    let stores = match habit {
        Habit::Good | Habit::Truncate => true,
        Habit::Cut { stores } | Habit::Hang { stores } | Habit::Answer { stores, .. } => stores,
    };
    if stores {
        let object = Object {
            bytes,
            metadata: metadata.collect(),
            attested: sum.is_some(),
        };
        store.put_back(&key, object);
    }
    match habit {
        Habit::Good | Habit::Truncate => StatusCode::OK.into_response(),
        Habit::Cut { .. } => cut(),
        Habit::Hang { .. } => std::future::pending().await,
        Habit::Answer { status, code, .. } => refusal(status, code),
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
