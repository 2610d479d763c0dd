//! A console that runs, and a browser in front of it.

use clap::Parser;
use http::Method;
use serde_json::{Value, json};
use valerix_console::config::Config;
use valerix_console::kinds::Kind;
use valerix_console::startup::build;
use valerix_kit::testing::{Answer, TestServer, eventually, service_args};

use super::cluster::Cluster;

pub struct Console {
    pub server: TestServer,
    pub cluster: Cluster,
}

impl Console {
    pub async fn start(cluster: Cluster) -> Self {
        Self::with(cluster, |_| {}).await
    }

    pub async fn with(cluster: Cluster, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::parse_from(["test"]);
        config.service = service_args("console");
        change(&mut config);
        let server = build(config, cluster.clients()).await.unwrap();
        Self {
            server: TestServer::start(server).await,
            cluster,
        }
    }

    /// Signs in.
    pub async fn sign_in(&self, token: &str) -> Person<'_> {
        let answer = self.server.post("/api/session", &json!({"token": token})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let cookie = answer.headers["set-cookie"]
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        Person {
            console: self,
            cookie,
            csrf: answer.body()["csrf"].as_str().unwrap().to_owned(),
        }
    }

    /// The stream of whoever sends these headers.
    pub async fn follow(&self, cookie: Option<&str>) -> Stream {
        let request = self.server.call(Method::GET, "/api/events");
        let request = cookie
            .into_iter()
            .fold(request, |request, cookie| request.header("cookie", cookie));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Stream {
            answer,
            text: String::new(),
        }
    }
}

pub struct Person<'a> {
    pub console: &'a Console,
    pub cookie: String,
    pub csrf: String,
}

impl Person<'_> {
    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(
            self.console
                .server
                .call(Method::GET, path)
                .header("cookie", &self.cookie),
        )
        .await
    }

    /// A command as the page sends it.
    pub async fn command(&self, path: &str, body: &Value) -> Answer {
        let request = self.console.server.request(path).json(body);
        Answer::of(
            request
                .header("cookie", &self.cookie)
                .header("x-valerix-csrf", &self.csrf),
        )
        .await
    }

    pub async fn follow(&self) -> Stream {
        self.console.follow(Some(&self.cookie)).await
    }
}

pub struct Stream {
    answer: reqwest::Response,
    text: String,
}

impl Stream {
    /// The next message; none when the stream has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                if let Some(data) = data {
                    return Some(serde_json::from_str(data).unwrap());
                }
                continue;
            }
            let chunk = tokio::time::timeout(std::time::Duration::from_secs(30), self.answer.chunk()).await;
            let chunk = chunk.expect("a message within half a minute").ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next message for which `wanted` is true.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let find = async {
            loop {
                let message = self
                    .next()
                    .await
                    .unwrap_or_else(|| panic!("the stream ended before {what}"));
                if wanted(&message) {
                    return message;
                }
            }
        };
        let found = tokio::time::timeout(std::time::Duration::from_secs(45), find).await;
        found.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }
}

/// Waits until every kind is watched: events that come before would be in no watch.
pub async fn followed(cluster: &Cluster) {
    eventually("every kind is watched", || async {
        let watches = cluster
            .requests()
            .into_iter()
            .filter(|request| request.query.contains("watch=true"));
        (watches.count() >= Kind::ALL.len()).then_some(())
    })
    .await;
}

/// Serves on a port of its own.
pub async fn serve(router: axum::Router) -> u16 {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

/// The objects of a snapshot as `kind/namespace/name`.
pub fn names(snapshot: &Value) -> Vec<String> {
    let objects = snapshot["objects"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    objects
        .map(|object| {
            format!(
                "{}/{}/{}",
                text(&object["kind"]),
                text(&object["namespace"]),
                text(&object["name"])
            )
        })
        .collect()
}

pub fn service(message: &str) -> Value {
    json!({
        "kind": "ResilientService",
        "metadata": {"generation": 1},
        "spec": {"image": "registry/order:1"},
        "status": {"observedGeneration": 1, "summary": {"replicas": "1/1", "config": "1/1", "circuits": "closed", "image": "order:1"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "AllIsWell", "message": message, "lastTransitionTime": "2026-11-27T10:00:00Z"}]},
    })
}

pub fn experiment() -> Value {
    json!({
        "kind": "ChaosExperiment",
        "metadata": {},
        "spec": {"target": {"service": "order"}, "latency": {"delay": "2s"}, "duration": "30s"},
        "status": {"observedGeneration": 1, "phase": "Running", "run": "r-1", "injectedAt": "2026-11-27T10:00:00Z"},
    })
}
