//! An API server in memory: objects, watches that can break, people with rights of their own, and outages.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Body as ResponseBody;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use valerix_console::people::Clients;

/// What the console's own client carries.
const OWN: &str = "console";

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub token: String,
    pub method: Method,
    pub path: String,
    pub query: String,
    pub body: Value,
}

impl Recorded {
    /// A name is no secret: of a token like `ann.secret` it is the first part.
    fn user(&self) -> String {
        format!("user:{}", self.token.split('.').next().unwrap_or_default())
    }
}

#[derive(Clone)]
pub struct Cluster {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<Told>,
}

#[derive(Clone)]
enum Told {
    Event { collection: String, line: String },
    Broken,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Namespaces that a token may do everything in; `*` for all, and with `!` before it a collection that it may not touch.
    people: BTreeMap<String, Vec<String>>,
    down: bool,
    hangs: bool,
    requests: Vec<Recorded>,
}

impl Cluster {
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            events: broadcast::Sender::new(10_000),
        }
    }

    pub fn clients(&self) -> Clients {
        Clients {
            own: self.client(Some(OWN)),
            nobody: self.client(None),
        }
    }

    fn client(&self, token: Option<&'static str>) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |mut request: Request<Body>| {
            if let Some(token) = token {
                let value = format!("Bearer {token}").parse().unwrap();
                request.headers_mut().insert(header::AUTHORIZATION, value);
            }
            let cluster = cluster.clone();
            async move { cluster.answer(request).await }
        });
        Client::new(service, "default")
    }

    /// Lets `token` do everything in these namespaces.
    pub fn allow(&self, token: &str, namespaces: &[&str]) {
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        self.lock().people.insert(token.to_owned(), namespaces);
    }

    /// Accepts `token` no more.
    pub fn revoke(&self, token: &str) {
        self.lock().people.remove(token);
    }

    /// Puts an object of `plural` there, or in place of the one that is.
    pub fn put(&self, plural: &str, namespace: &str, name: &str, mut object: Value) {
        let mut state = self.lock();
        state.version += 1;
        object["apiVersion"] = json!(match plural {
            "pods" | "events" => "v1",
            "leases" => "coordination.k8s.io/v1",
            _ => "resilience.valerix.io/v1alpha1",
        });
        object["metadata"]["namespace"] = json!(namespace);
        object["metadata"]["name"] = json!(name);
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let key = format!("{plural}/{namespace}/{name}");
        let kind = if state.objects.insert(key, object.clone()).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        drop(state);
        self.tell(plural, kind, &object);
    }

    pub fn remove(&self, plural: &str, namespace: &str, name: &str) {
        let object = self
            .lock()
            .objects
            .remove(&format!("{plural}/{namespace}/{name}"))
            .unwrap();
        self.tell(plural, "DELETED", &object);
    }

    fn tell(&self, plural: &str, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        let _ = self.events.send(Told::Event {
            collection: plural.to_owned(),
            line,
        });
    }

    /// Answers nobody until [`come_back`](Self::come_back), and ends every watch.
    pub fn go_down(&self) {
        self.lock().down = true;
        let _ = self.events.send(Told::Broken);
    }

    pub fn come_back(&self) {
        let mut state = self.lock();
        (state.down, state.hangs) = (false, false);
    }

    /// Answers nobody any more, and lets every watch stand as it is: silence is all there is.
    pub fn hang(&self) {
        self.lock().hangs = true;
    }

    /// Requests that change objects.
    pub fn writes(&self) -> Vec<Recorded> {
        let requests = self.lock().requests.clone();
        let is_question = |path: &str| path.contains("/selfsubject");
        requests
            .into_iter()
            .filter(|request| request.method != Method::GET && !is_question(&request.path))
            .collect()
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.lock().requests.clone()
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<ResponseBody>, tower::BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let bearer = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let request = Recorded {
            token: bearer
                .and_then(|bearer| bearer.strip_prefix("Bearer "))
                .unwrap_or_default()
                .to_owned(),
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        };
        let events = self.events.subscribe();
        if self.lock().hangs {
            return std::future::pending().await;
        }
        let mut state = self.lock();
        state.requests.push(request.clone());
        if state.down {
            return Err("connection refused".into());
        }
        if request.token != OWN && !state.people.contains_key(&request.token) {
            return Ok(refuse(401, "Unauthorized", "Unauthorized"));
        }
        Ok(state.act(&request, events))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn act(&mut self, request: &Recorded, events: broadcast::Receiver<Told>) -> Response<ResponseBody> {
        let mut path = request
            .path
            .trim_matches('/')
            .split('/')
            .skip_while(|part| *part != "v1" && *part != "v1alpha1");
        path.next();
        let path: Vec<&str> = path.collect();
        if path == ["selfsubjectreviews"] {
            let user = request.user();
            return respond(
                201,
                &json!({"metadata": {}, "status": {"userInfo": {"username": user}}}),
            );
        }
        if path == ["selfsubjectaccessreviews"] {
            let asked = &request.body["spec"]["resourceAttributes"];
            let namespace = asked["namespace"].as_str().unwrap_or("*");
            let allowed = self.may(
                &request.token,
                namespace,
                asked["resource"].as_str().unwrap_or_default(),
            );
            let spec = request.body["spec"].clone();
            return respond(
                201,
                &json!({"metadata": {}, "spec": spec, "status": {"allowed": allowed}}),
            );
        }
        let (namespace, plural, name) = match path[..] {
            ["namespaces", namespace, plural] => (namespace, plural, None),
            ["namespaces", namespace, plural, name] => (namespace, plural, Some(name)),
            [plural] => ("*", plural, None),
            _ => return refuse(404, "NotFound", "the server could not find the requested resource"),
        };
        if !self.may(&request.token, namespace, plural) {
            let user = request.user();
            let words = format!("{plural} is forbidden: User \"{user}\" cannot do it in the namespace \"{namespace}\"");
            return refuse(403, "Forbidden", &words);
        }
        let key = |name: &str| format!("{plural}/{namespace}/{name}");
        match (&request.method, name) {
            (&Method::GET, Some(name)) => match self.objects.get(&key(name)) {
                Some(object) => respond(200, object),
                None => refuse(404, "NotFound", &format!("{plural} \"{name}\" not found")),
            },
            (&Method::GET, None) if request.query.contains("watch=true") => watch(plural.to_owned(), events),
            (&Method::GET, None) => {
                let prefix = if namespace == "*" {
                    format!("{plural}/")
                } else {
                    key("")
                };
                self.list(&prefix, &request.query)
            }
            (&Method::POST, None) => {
                let mut object = request.body.clone();
                if object["spec"]["count"] == json!(0) {
                    return invalid("spec.count", "count must be a number from 1 to 100");
                }
                object["metadata"]["uid"] = json!("uid");
                respond(201, &object)
            }
            (&Method::PATCH, Some(name)) => match self.objects.get(&key(name)) {
                Some(object) => respond(200, object),
                None => refuse(404, "NotFound", &format!("{plural} \"{name}\" not found")),
            },
            _ => refuse(405, "MethodNotAllowed", "not here"),
        }
    }

    /// A page of the objects below `prefix` that the query's fields choose.
    fn list(&self, prefix: &str, query: &str) -> Response<ResponseBody> {
        let query: BTreeMap<String, String> = http::Uri::try_from(format!("/?{query}"))
            .ok()
            .and_then(|uri| axum::extract::Query::try_from_uri(&uri).ok())
            .map(|axum::extract::Query(query)| query)
            .unwrap_or_default();
        let chosen = |object: &Value| {
            let wanted = query.get("fieldSelector").into_iter().flat_map(|text| text.split(','));
            wanted.filter_map(|field| field.split_once('=')).all(|(field, value)| {
                let path = format!("/{}", field.replace('.', "/"));
                object.pointer(&path).and_then(Value::as_str) == Some(value)
            })
        };
        let from = query.get("continue").cloned().unwrap_or_default();
        let limit = query
            .get("limit")
            .and_then(|limit| limit.parse().ok())
            .unwrap_or(usize::MAX);
        let of = self.objects.range(from..).filter(|(key, _)| key.starts_with(prefix));
        let mut of = of.filter(|(_, object)| chosen(object));
        let items: Vec<&Value> = of.by_ref().take(limit).map(|(_, object)| object).collect();
        let next = of.next().map(|(key, _)| key);
        let metadata = json!({"resourceVersion": self.version.to_string(), "continue": next});
        respond(
            200,
            &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}),
        )
    }

    fn may(&self, token: &str, namespace: &str, plural: &str) -> bool {
        let told = self.people.get(token).map(Vec::as_slice).unwrap_or_default();
        let any = |of: &dyn Fn(&str) -> bool| told.iter().any(|told| of(told));
        let denied = any(&|told| told.strip_prefix('!') == Some(plural));
        token == OWN || !denied && any(&|told| told == "*" || told == namespace)
    }
}

/// Every event of a collection from now on, until the watches break.
fn watch(plural: String, events: broadcast::Receiver<Told>) -> Response<ResponseBody> {
    let stream = futures::stream::unfold(events, move |mut events| {
        let plural = plural.clone();
        async move {
            loop {
                match events.recv().await.ok()? {
                    Told::Event { collection, line } if collection == plural => {
                        let frame = http_body::Frame::data(bytes::Bytes::from(line));
                        return Some((Ok::<_, Infallible>(frame), events));
                    }
                    Told::Event { .. } => {}
                    Told::Broken => return None,
                }
            }
        }
    });
    Response::new(ResponseBody::new(StreamBody::new(Box::pin(stream))))
}

fn respond(status: u16, body: &Value) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// As the API server refuses a field.
fn invalid(field: &str, message: &str) -> Response<ResponseBody> {
    let causes = json!([{"reason": "FieldValueInvalid", "field": field, "message": message}]);
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 422, "reason": "Invalid",
        "message": format!("{field}: {message}"), "details": {"causes": causes}});
    respond(422, &status)
}

fn refuse(code: u16, reason: &str, message: &str) -> Response<ResponseBody> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason, "message": message});
    respond(code, &status)
}
