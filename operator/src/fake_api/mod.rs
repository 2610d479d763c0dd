//! A small stateful API server for tests: objects in memory, versions, watches that can break, server-side apply,
//! deletion with garbage collection, and faults on request.
//!
//! It is not Kubernetes: it knows no schema and no admission, and defaults and forms only where a test asks for them
//! ([`FakeApi::with_forms`]). What it does know, it does as the real one was seen to do. Use [`FakeApi::client`] with
//! `Clients::single`.

mod apply;
pub mod kills;
mod path;
mod store;
mod stored;
mod wire;

use axum::body::Body as ResponseBody;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use kube::{Client, client::Body};
use path::ResourcePath;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use store::Store;
use tokio::sync::{broadcast, watch};

/// What a fault does to a request.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The server answers with this status and does nothing.
    Refuse(u16),
    /// The server makes nothing in a namespace that is being deleted.
    GoingNamespace,
    /// The request is lost on its way.
    LoseRequest,
    /// The server does it, and the answer is lost.
    LoseAnswer,
    /// The server does it, and whoever asked waits for ever.
    Silence,
    /// Whoever asked waits for ever, and the server does it after this: what a process sent before it died.
    Late(Duration),
    /// A list tells what was there at this version, as a server does that lags behind. Anything else is as ever.
    AsOf(u64),
    /// The server takes this long before it does anything.
    Delay(Duration),
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Method.
    pub method: Method,
    /// Path without query.
    pub path: String,
    /// Query, as sent.
    pub query: String,
    /// Body, or null.
    pub body: Value,
}

impl Recorded {
    /// Whether this request changes something: anything but GET, LIST and WATCH.
    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    /// Whether this request is a watch.
    pub fn is_watch(&self) -> bool {
        self.method == Method::GET && self.query.contains("watch=true")
    }
}

/// A client of a server that keeps nothing: `answer` gives status and body, for what is asked and not stored.
pub fn answering(answer: impl Fn(&Recorded) -> (u16, Value) + Send + Sync + 'static) -> Client {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer.clone();
        async move {
            let (status, body) = answer(&recorded(request).await?.0);
            Ok::<_, tower::BoxError>(respond(StatusCode::from_u16(status)?, &body))
        }
    });
    Client::new(service, "default")
}

type Judge = Box<dyn FnMut(&Recorded) -> Option<Fault> + Send>;

/// The server; clones share everything.
#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<Arc<store::Event>>,
    /// Every watch that was opened under an earlier number is over.
    epoch: watch::Sender<u64>,
}

struct State {
    store: Store,
    requests: Vec<Recorded>,
    judge: Judge,
}

impl Default for FakeApi {
    fn default() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                store: Store::default(),
                requests: Vec::new(),
                judge: Box::new(|_| None),
            })),
            events: broadcast::Sender::new(4096),
            epoch: watch::Sender::new(0),
        }
    }
}

impl FakeApi {
    /// A server that keeps the kinds of Kubernetes in its own form, with what was left out filled in.
    pub fn with_forms() -> Self {
        let api = Self::default();
        api.lock().store.has_forms = true;
        api
    }

    /// A client whose every request ends here.
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { api.answer(request).await }
        });
        Client::new(service, "default")
    }

    /// The same for a client that gives up on whatever stays open: its watches break before they tell anything.
    pub fn impatient_client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
                if is_watch {
                    return Err("timed out".into());
                }
                api.answer(request).await
            }
        });
        Client::new(service, "default")
    }

    /// From now on asks `judge` about every request.
    pub fn inject(&self, judge: impl FnMut(&Recorded) -> Option<Fault> + Send + 'static) {
        self.lock().judge = Box::new(judge);
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.lock().requests.clone()
    }

    /// Every request so far that changes something, as `METHOD path`, without Leases and Events.
    pub fn writes(&self) -> Vec<String> {
        let boring = |request: &Recorded| request.path.contains("/leases") || request.path.contains("/events");
        self.lock()
            .requests
            .iter()
            .filter(|request| request.is_write() && !boring(request))
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.lock().requests.clear();
    }

    /// Does as somebody else would, without a record: `POST` of an object under its collection's path.
    pub fn create(&self, collection: &str, object: Value) -> Value {
        self.direct(Method::POST, collection, "application/json", object)
    }

    /// A merge patch by somebody else.
    pub fn merge(&self, path: &str, patch: Value) -> Value {
        self.direct(Method::PATCH, path, "application/merge-patch+json", patch)
    }

    /// The whole object as somebody else writes it.
    pub fn replace(&self, path: &str, object: Value) -> Value {
        self.direct(Method::PUT, path, "application/json", object)
    }

    /// A deletion by somebody else.
    pub fn delete(&self, path: &str) {
        self.direct(Method::DELETE, path, "application/json", Value::Null);
    }

    /// Ends every watch. None can go on from where it was: what happens meanwhile is told by a new list alone.
    pub fn break_watches(&self) {
        self.lock().store.forget_history();
        self.end_watches();
    }

    /// Ends every watch; each can go on from what it was told last, if that is not too old.
    pub fn end_watches(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// Tells every watch how far it is. What was told before is too old from now on.
    pub fn bookmark(&self) {
        let mut state = self.lock();
        state.store.forget_history();
        let _ = self
            .events
            .send(Arc::new(store::Event::bookmark(state.store.version())));
    }

    /// The version of the latest change.
    pub fn version(&self) -> u64 {
        self.lock().store.version()
    }

    /// The garbage collector's turn: removes what is owned by objects that are not there any more.
    pub fn collect_garbage(&self) {
        let mut state = self.lock();
        state.store.collect_garbage();
        for event in state.store.take_events() {
            let _ = self.events.send(event);
        }
    }

    /// The object at this path, if there is one.
    pub fn get(&self, path: &str) -> Option<Value> {
        let target = ResourcePath::parse(path)?;
        self.lock().store.get(&target).cloned()
    }

    /// Waits until the object at this path satisfies `wanted`, for at most half a minute.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = tokio::time::timeout(Duration::from_secs(60), async {
            let mut events = self.events.subscribe();
            loop {
                if let Some(object) = self.get(path).filter(|object| wanted(object)) {
                    return object;
                }
                let _ = tokio::time::timeout(Duration::from_millis(100), events.recv()).await;
            }
        });
        match found.await {
            Ok(object) => object,
            Err(_) => panic!(
                "{path} did not come to satisfy the condition; it is {:#?}",
                self.get(path)
            ),
        }
    }

    fn direct(&self, method: Method, path: &str, content_type: &str, body: Value) -> Value {
        let target = ResourcePath::parse(path).unwrap_or_else(|| panic!("{path} is no path"));
        let (status, answer) = self.act(&method, &target, content_type, "", &body);
        assert!(status.is_success(), "{method} {path}: {answer}");
        answer
    }

    /// What was made, changed or deleted after this version, in order; waits for the first of it.
    pub async fn changes_after(&self, version: u64) -> Vec<Arc<store::Event>> {
        let mut told = self.events.subscribe();
        loop {
            let changes = self.lock().store.events_after(version);
            if !changes.is_empty() {
                return changes;
            }
            // Whoever missed some of them has been told that there are some.
            let _ = told.recv().await;
        }
    }

    async fn answer<B>(&self, request: Request<B>) -> Result<Response<ResponseBody>, tower::BoxError>
    where
        B: http_body::Body,
        B::Error: Into<tower::BoxError>,
    {
        let (recorded, headers) = recorded(request).await?;
        let fault = {
            let mut state = self.lock();
            state.requests.push(recorded.clone());
            (state.judge)(&recorded)
        };
        match fault {
            Some(Fault::Refuse(code)) => {
                return Ok(respond(
                    StatusCode::from_u16(code)?,
                    &failure(code, "Injected", "injected"),
                ));
            }
            Some(Fault::GoingNamespace) => {
                let message = "jobs.batch is forbidden: unable to create new content in namespace shop because it is being terminated";
                return Ok(respond(StatusCode::FORBIDDEN, &failure(403, "Forbidden", message)));
            }
            Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::LoseRequest) => return Err("connection refused".into()),
            Some(Fault::LoseAnswer | Fault::Silence | Fault::Late(_) | Fault::AsOf(_)) | None => {}
        }
        let Some(target) = ResourcePath::parse(&recorded.path) else {
            return Ok(respond(
                StatusCode::NOT_FOUND,
                &failure(404, "NotFound", "no such path"),
            ));
        };
        if recorded.is_watch() {
            return Ok(self.watch(target, &recorded.query));
        }
        if let (Some(Fault::AsOf(version)), &Method::GET, None) = (fault, &recorded.method, &target.name) {
            let list = self.lock().store.list_as_of(&target, &recorded.query, version);
            return Ok(respond(StatusCode::OK, &list));
        }
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if let Some(Fault::Late(delay)) = fault {
            let (api, content_type) = (self.clone(), content_type.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                api.act(
                    &recorded.method,
                    &target,
                    &content_type,
                    &recorded.query,
                    &recorded.body,
                );
            });
            return std::future::pending().await;
        }
        let (status, answer) = self.act(&recorded.method, &target, content_type, &recorded.query, &recorded.body);
        match fault {
            Some(Fault::LoseAnswer) => return Err("connection reset".into()),
            Some(Fault::Silence) => std::future::pending().await,
            _ => {}
        }
        Ok(respond(status, &answer))
    }

    fn act(
        &self,
        method: &Method,
        target: &ResourcePath,
        content_type: &str,
        query: &str,
        body: &Value,
    ) -> (StatusCode, Value) {
        let mut state = self.lock();
        let result = state.store.act(method, target, content_type, query, body);
        for event in state.store.take_events() {
            // Nobody watches: nothing to tell.
            let _ = self.events.send(event);
        }
        match result {
            Ok(answer) => (StatusCode::OK, answer),
            Err(refusal) => {
                let status = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (status, failure(refusal.code, refusal.reason, &refusal.message))
            }
        }
    }

    /// A stream of every event after the asked version. It ends when somebody breaks it.
    fn watch(&self, target: ResourcePath, query: &str) -> Response<ResponseBody> {
        let since = path::parameter(query, "resourceVersion")
            .and_then(|version| version.parse::<u64>().ok())
            .unwrap_or(0);
        let selector = path::parameter(query, "labelSelector").unwrap_or_default();
        let wanted_name = path::named_by(query);
        let target = ResourcePath {
            name: wanted_name.or(target.name),
            ..target
        };
        if path::parameter(query, "sendInitialEvents").is_some() {
            // As a server answers that does not know of it; clients list then.
            let message = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
            return respond(StatusCode::UNPROCESSABLE_ENTITY, &failure(422, "Invalid", message));
        }
        let state = self.lock();
        if let Err(refusal) = state.store.known(&target) {
            return respond(StatusCode::NOT_FOUND, &failure(404, refusal.reason, &refusal.message));
        }
        if state.store.has_forgotten(since) {
            let status = failure(410, "Expired", "too old resource version");
            let line = format!("{}\n", json!({"type": "ERROR", "object": status}));
            return json_of(ResponseBody::from(line));
        }
        let receiver = self.events.subscribe();
        let epoch = self.epoch.subscribe();
        let missed: Vec<Arc<store::Event>> = state.store.events_after(since);
        drop(state);
        let stream = futures::stream::unfold(
            (
                missed.into_iter().collect::<std::collections::VecDeque<_>>(),
                receiver,
                epoch,
            ),
            move |(mut missed, mut receiver, mut epoch)| {
                let target = target.clone();
                let selector = selector.clone();
                async move {
                    loop {
                        let event = match missed.pop_front() {
                            Some(event) => event,
                            None => tokio::select! {
                                biased;
                                _ = epoch.changed() => return None,
                                event = receiver.recv() => event.ok()?,
                            },
                        };
                        if let Some(line) = event.line(&target, &selector, since) {
                            let frame = http_body::Frame::data(bytes::Bytes::from(line));
                            return Some((Ok::<_, Infallible>(frame), (missed, receiver, epoch)));
                        }
                    }
                }
            },
        );
        json_of(ResponseBody::new(StreamBody::new(Box::pin(stream))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the state")
    }
}

async fn recorded<B>(request: Request<B>) -> Result<(Recorded, HeaderMap), tower::BoxError>
where
    B: http_body::Body,
    B::Error: Into<tower::BoxError>,
{
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.map_err(Into::<tower::BoxError>::into)?.to_bytes();
    let recorded = Recorded {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    };
    Ok((recorded, parts.headers))
}

fn respond(status: StatusCode, body: &Value) -> Response<ResponseBody> {
    let mut response = json_of(ResponseBody::from(body.to_string()));
    *response.status_mut() = status;
    response
}

fn json_of(body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    // An object that is not there is named by its kind; a path that is not served is not.
    let details = if reason == "NotFound" {
        json!({"kind": message.split(' ').next()})
    } else {
        Value::Null
    };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message, "details": details, "metadata": {}})
}
