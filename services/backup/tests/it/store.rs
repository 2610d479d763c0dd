//! A small S3: one bucket, the calls that the runner makes, and every bad habit that a store can have. It counts
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

/// What the store does with the first archive that it is sent, or that it is to complete.
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
    /// Of parts: what the store tells of their sums.
    composed: Option<String>,
}

/// An upload in parts that nobody has completed.
#[derive(Debug)]
struct Open {
    key: String,
    metadata: BTreeMap<String, String>,
    attested: bool,
    parts: BTreeMap<usize, Bytes>,
}

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
            uploads: BTreeMap::new(),
            begun: 0,
            parts: 0,
            refuses_parts: 0,
            takes_parts: None,
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
            composed: None,
        };
        self.0.lock().unwrap().objects.insert(key.to_owned(), object);
    }

    pub fn remove(&self, key: &str) -> Option<Object> {
        self.0.lock().unwrap().objects.remove(key)
    }

    pub fn put_back(&self, key: &str, object: Object) {
        self.0.lock().unwrap().objects.insert(key.to_owned(), object);
    }

    /// So many parts are answered with 503 before one is taken.
    pub fn refuse_parts(&self, count: usize) {
        self.0.lock().unwrap().refuses_parts = count;
    }

    /// So many parts are taken and the rest is answered with 503, or all are.
    pub fn take_parts(&self, count: Option<usize>) {
        self.0.lock().unwrap().takes_parts = count;
    }

    /// How many parts were taken.
    pub fn parts(&self) -> usize {
        self.0.lock().unwrap().parts
    }

    /// How many uploads that hold parts nobody has completed or aborted.
    pub fn left_uploads(&self) -> usize {
        let inner = self.0.lock().unwrap();
        inner.uploads.values().filter(|open| !open.parts.is_empty()).count()
    }

    /// Aborts whatever is begun, as a rule of the bucket's does.
    pub fn abort_all(&self) {
        self.0.lock().unwrap().uploads.clear();
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
    store.0.lock().unwrap().requests.extend(asked);
    if let Err(refusal) = checked(&bucket, &headers) {
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
        let whole = || BASE64_STANDARD.encode(Sha256::digest(&object.bytes));
        let sum = object.composed.clone().unwrap_or_else(whole);
        headers.insert("x-amz-checksum-sha256", sum.parse().unwrap());
    }
    response
}

fn metadata(headers: &HeaderMap) -> BTreeMap<String, String> {
    let said = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("x-amz-meta-")?;
        Some((name.to_owned(), value.to_str().unwrap().to_owned()))
    });
    said.collect()
}

fn begin(store: &Store, key: String, headers: &HeaderMap) -> Response {
    let mut inner = store.0.lock().unwrap();
    inner.begun += 1;
    let id = format!("upload-{}", inner.begun);
    let text = format!(
        "<?xml version=\"1.0\"?><InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
    );
    let open = Open {
        key,
        metadata: metadata(headers),
        attested: headers.contains_key("x-amz-checksum-algorithm"),
        parts: BTreeMap::new(),
    };
    inner.uploads.insert(id, open);
    ([(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

fn part(store: &Store, id: &str, number: &str, headers: &HeaderMap, body: Bytes) -> Response {
    let mut inner = store.0.lock().unwrap();
    if inner.refuses_parts > 0 || inner.takes_parts == Some(0) {
        inner.refuses_parts = inner.refuses_parts.saturating_sub(1);
        return refusal(503, "SlowDown");
    }
    let Some(open) = inner.uploads.get_mut(id) else {
        return refusal(404, "NoSuchUpload");
    };
    let sum = BASE64_STANDARD.encode(Sha256::digest(&body));
    let said = headers.get("x-amz-checksum-sha256");
    if said.map_or(open.attested, |said| said.to_str().unwrap() != sum) {
        return refusal(400, "BadDigest");
    }
    let tag = format!("\"{sum}\"");
    open.parts.insert(number.parse().unwrap(), body);
    inner.parts += 1;
    inner.takes_parts = inner.takes_parts.map(|left| left - 1);
    ([(header::ETAG, tag)], "").into_response()
}

async fn complete(store: &Store, id: &str, key: String, headers: &HeaderMap, body: &Bytes) -> Response {
    let habit = {
        let mut inner = store.0.lock().unwrap();
        if !inner.uploads.contains_key(id) {
            return refusal(404, "NoSuchUpload");
        }
        match inner.taken(&key, headers) {
            Ok(habit) => habit,
            Err(refusal) => return refusal,
        }
    };
    let Some(open) = store
        .0
        .lock()
        .unwrap()
        .uploads
        .remove(id)
        .filter(|open| open.key == key)
    else {
        return refusal(404, "NoSuchUpload");
    };
    let text = String::from_utf8(body.to_vec()).unwrap();
    let numbers: Vec<usize> = text
        .split("<PartNumber>")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap().parse().unwrap())
        .collect();
    let is_whole = numbers.iter().eq(open.parts.keys()) && numbers.iter().copied().eq(1..=numbers.len());
    if !is_whole || text.matches("<ETag>").count() != numbers.len() {
        return refusal(400, "InvalidPart");
    }
    let sums: Vec<u8> = open
        .parts
        .values()
        .flat_map(|part| Sha256::digest(part).to_vec())
        .collect();
    let composed = format!("{}-{}", BASE64_STANDARD.encode(Sha256::digest(sums)), numbers.len());
    let object = Object {
        bytes: open.parts.values().flatten().copied().collect::<Vec<u8>>().into(),
        metadata: open.metadata.clone(),
        attested: open.attested,
        composed: Some(composed),
    };
    if !habit.stores() {
        store.0.lock().unwrap().uploads.insert(id.to_owned(), open);
    }
    let done = format!(
        "<?xml version=\"1.0\"?><CompleteMultipartUploadResult><Key>{key}</Key></CompleteMultipartUploadResult>"
    );
    kept(store, key, habit, object, done).await
}

async fn put(store: &Store, key: String, headers: &HeaderMap, body: Bytes) -> Response {
    let habit = match store.0.lock().unwrap().taken(&key, headers) {
        Ok(habit) => habit,
        Err(refusal) => return refusal,
    };
    let sum = headers.get("x-amz-checksum-sha256");
    if sum.is_some_and(|sum| sum.to_str().unwrap() != BASE64_STANDARD.encode(Sha256::digest(&body))) {
        return refusal(400, "BadDigest");
    }
    let object = Object {
        bytes: body,
        metadata: metadata(headers),
        attested: sum.is_some(),
        composed: None,
    };
    kept(store, key, habit, object, String::new()).await
}

impl Inner {
    /// Whether the condition lets something be stored, and what the store makes of it.
    #[allow(clippy::result_large_err, reason = "the answer is sent as it is")]
    fn taken(&mut self, key: &str, headers: &HeaderMap) -> Result<Habit, Response> {
        let conditional = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*");
        self.unconditional += usize::from(!conditional && is_archive(key));
        if conditional && !self.ignores_conditions && self.objects.contains_key(key) {
            return Err(refusal(412, "PreconditionFailed"));
        }
        if !is_archive(key) {
            return Ok(Habit::Good);
        }
        self.away |= std::mem::take(&mut self.goes_away);
        Ok(std::mem::replace(&mut self.habit, Habit::Good))
    }
}

impl Habit {
    fn stores(self) -> bool {
        match self {
            Self::Good | Self::Truncate => true,
            Self::Cut { stores } | Self::Hang { stores } | Self::Answer { stores, .. } => stores,
        }
    }
}

/// Stores, or does not, and answers by its habit.
async fn kept(store: &Store, key: String, habit: Habit, mut object: Object, done: String) -> Response {
    if habit == Habit::Truncate {
        object.bytes = object.bytes.slice(..object.bytes.len() / 2);
    }
    if habit.stores() {
        store.put_back(&key, object);
    }
    match habit {
        Habit::Good | Habit::Truncate => ([(header::CONTENT_TYPE, "application/xml")], done).into_response(),
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
