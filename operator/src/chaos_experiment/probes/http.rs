//! Asks one HTTP question and judges the answer. Reads the network; writes nothing but what the question itself does.
//!
//! No redirect is followed, no credential and no proxy is used, at most 64 KiB are read, and every question is a new
//! connection: one that is kept would ask the same pod again and again.

use super::address::{Resolver, Unresolved};
use super::mark::Mark;
use super::samples::ProbeResult;
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;
use valerix_crds::{HttpMethod, HttpProbe, JsonExpectation};

/// The longest time that an answer may take, and the default.
pub(super) const MOST: Duration = Duration::from_secs(5);
/// The most that is read of an answer. Unit: bytes.
pub(super) const BODY_LIMIT: usize = 64 * 1024;

/// Asks questions; cheap to clone.
#[derive(Clone)]
pub struct HttpAsker {
    client: reqwest::Client,
}

impl HttpAsker {
    /// A client without redirects, proxies, cookies or kept connections.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .pool_max_idle_per_host(0)
            .user_agent("valerix-probe")
            .build()?;
        Ok(Self { client })
    }

    /// Asks once.
    pub async fn ask(&self, resolver: &dyn Resolver, mark: &Mark, question: &HttpProbe) -> ProbeResult {
        let expected = question.expect.clone().unwrap_or_default();
        let limit = match expected
            .max_latency
            .as_ref()
            .map(valerix_crds::Duration::value)
            .transpose()
        {
            Ok(limit) => limit.unwrap_or(MOST).min(MOST),
            Err(error) => return ProbeResult::NotAsked(format!("expect.maxLatency: {error}").into()),
        };
        let Ok(port) = u16::try_from(question.port) else {
            return ProbeResult::NotAsked(format!("port {} is no TCP port", question.port).into());
        };
        let namespace = mark.namespace.as_str();
        let address = match tokio::time::timeout(MOST, resolver.resolve(namespace, &question.service, port)).await {
            Ok(Ok(address)) => address,
            Ok(Err(Unresolved::NotAsked(why))) => return ProbeResult::NotAsked(why.into()),
            Ok(Err(Unresolved::NobodyThere(why))) => return ProbeResult::Failed(why.into()),
            Err(_) => {
                return ProbeResult::NotAsked(format!("failed to find Service {} in time", question.service).into());
            }
        };
        let url = format!("http://{address}{}", question.path);
        let method = match question.method {
            HttpMethod::Get => Method::GET,
            HttpMethod::Head => Method::HEAD,
            HttpMethod::Post => Method::POST,
            HttpMethod::Put => Method::PUT,
            HttpMethod::Patch => Method::PATCH,
            HttpMethod::Delete => Method::DELETE,
            HttpMethod::Unknown => {
                return ProbeResult::NotAsked("method must be GET, HEAD, POST, PUT, PATCH or DELETE".into());
            }
        };
        let mut request = mark.put(self.client.request(method.clone(), &url));
        let has = |name: &str| {
            question
                .headers
                .iter()
                .any(|header| header.name.eq_ignore_ascii_case(name))
        };
        if !method.is_safe() {
            // Fresh each time: a repeated key would be answered from memory and prove nothing.
            request = request.header("idempotency-key", uuid::Uuid::new_v4().to_string());
        }
        if let Some(body) = &question.body {
            request = request.body(body.clone());
            if !has("content-type") {
                request = request.header("content-type", "application/json");
            }
        }
        for header in &question.headers {
            request = request.header(&header.name, &header.value);
        }
        let request = request.header("host", format!("{}.{namespace}.svc", question.service));
        match tokio::time::timeout(limit, answer(request)).await {
            Ok(Ok((status, body))) => judge(&expected, status, &body),
            Ok(Err(error)) => {
                ProbeResult::Failed(format!("no answer: {}", crate::runtime::failure::chain(&error)).into())
            }
            Err(_) => ProbeResult::Failed(format!("no whole answer within {limit:?}").into()),
        }
    }
}

/// Status and body of an answer, as much of it as is read.
pub(super) async fn answer(request: reqwest::RequestBuilder) -> Result<(u16, Vec<u8>), reqwest::Error> {
    let mut response = request.send().await.map_err(reqwest::Error::without_url)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < BODY_LIMIT
        && let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)?
    {
        body.extend_from_slice(&chunk[..chunk.len().min(BODY_LIMIT - body.len())]);
    }
    Ok((status, body))
}

fn judge(expected: &valerix_crds::Expectation, status: u16, body: &[u8]) -> ProbeResult {
    let good = match expected.status {
        Some(wanted) => u32::from(status) == wanted,
        None => (200..300).contains(&status),
    };
    if !good {
        let wanted = expected.status.map_or("2xx".to_owned(), |wanted| wanted.to_string());
        return ProbeResult::Failed(format!("status {status} instead of {wanted}").into());
    }
    match &expected.body_contains {
        Some(text) if !contains(body, text.as_bytes()) => {
            return ProbeResult::Failed(format!("the body does not contain {text:?}").into());
        }
        _ => {}
    }
    match differs(&expected.json, body) {
        Some(why) => ProbeResult::Failed(why.into()),
        None => ProbeResult::Passed,
    }
}

/// What the first value is that is not as expected.
fn differs(expected: &[JsonExpectation], body: &[u8]) -> Option<String> {
    if expected.is_empty() {
        return None;
    }
    let Ok(document) = serde_json::from_slice::<Value>(body) else {
        return Some("the body is no JSON, or longer than 64 KiB".into());
    };
    expected.iter().find_map(|wanted| {
        let found = document.pointer(&wanted.pointer).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        match found {
            Some(found) if found == wanted.value => None,
            Some(found) => Some(format!("{} is {found} instead of {}", wanted.pointer, wanted.value)),
            None => Some(format!("there is no {} in the body", wanted.pointer)),
        }
    })
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::super::address::testing::{Fixed, nobody};
    use super::super::mark::testing::mark;
    use super::*;
    use axum::{
        Router,
        body::Body,
        http::{HeaderMap, StatusCode},
        response::Redirect,
        routing::{get, post},
    };
    use serde_json::{Value, json};
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    type Keys = Arc<Mutex<Vec<HeaderMap>>>;

    async fn serve() -> (SocketAddr, Keys) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let keys = Keys::default();
        let seen = keys.clone();
        let router = Router::new()
            .route("/ok", get(|| async { "{\"status\": \"CONFIRMED\"}" }))
            .route("/bad", get(|| async { StatusCode::SERVICE_UNAVAILABLE }))
            .route("/moved", get(|| async { Redirect::temporary("/ok") }))
            .route("/hangs", get(std::future::pending::<String>))
            .route(
                "/half",
                get(|| async {
                    let chunks = futures::stream::once(async { Ok::<_, std::io::Error>("half") });
                    Body::from_stream(futures::StreamExt::chain(chunks, futures::stream::pending()))
                }),
            )
            .route("/large", get(|| async { "a".repeat(BODY_LIMIT) + "needle" }))
            .route(
                "/orders",
                post(move |headers: HeaderMap, body: String| async move {
                    seen.lock().unwrap().push(headers);
                    (StatusCode::CREATED, body)
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (address, keys)
    }

    async fn ask(address: SocketAddr, mut question: Value) -> ProbeResult {
        question["service"] = json!("order");
        let question = serde_json::from_value(question).unwrap();
        HttpAsker::new().unwrap().ask(&Fixed(address), &mark(), &question).await
    }

    #[tokio::test]
    async fn an_answer_is_judged_by_status_text_and_time() {
        let (address, _) = serve().await;
        for (question, expected) in [
            (json!({"path": "/ok"}), "passed"),
            (
                json!({"path": "/ok?a=b", "expect": {"bodyContains": "CONFIRMED", "status": 200, "maxLatency": "4s"}}),
                "passed",
            ),
            (
                json!({"path": "/ok", "expect": {"bodyContains": "QUEUED"}}),
                "the body does not contain \"QUEUED\"",
            ),
            (
                json!({"path": "/ok", "expect": {"status": 202}}),
                "status 200 instead of 202",
            ),
            (
                json!({"path": "/ok", "expect": {"json": [{"pointer": "/status", "value": "CONFIRMED"}]}}),
                "passed",
            ),
            (
                json!({"path": "/ok", "expect": {"json": [{"pointer": "/status", "value": "QUEUED"}]}}),
                "/status is CONFIRMED instead of QUEUED",
            ),
            (
                json!({"path": "/ok", "expect": {"json": [{"pointer": "/total", "value": "1"}]}}),
                "there is no /total in the body",
            ),
            (
                json!({"path": "/large", "expect": {"json": [{"pointer": "", "value": "1"}]}}),
                "the body is no JSON, or longer than 64 KiB",
            ),
            (json!({"path": "/ok", "method": "HEAD"}), "passed"),
            (json!({"path": "/ok", "method": "DELETE"}), "status 405 instead of 2xx"),
            (json!({"path": "/bad"}), "status 503 instead of 2xx"),
            (json!({"path": "/bad", "expect": {"status": 503}}), "passed"),
            (json!({"path": "/moved"}), "status 307 instead of 2xx"),
            (
                json!({"path": "/hangs", "expect": {"maxLatency": "50ms"}}),
                "no whole answer within 50ms",
            ),
            (
                json!({"path": "/half", "expect": {"maxLatency": "50ms"}}),
                "no whole answer within 50ms",
            ),
            (
                json!({"path": "/large", "expect": {"bodyContains": "needle"}}),
                "the body does not contain \"needle\"",
            ),
        ] {
            let text = match ask(address, question.clone()).await {
                ProbeResult::Passed => "passed".to_owned(),
                ProbeResult::Failed(why) => why.to_string(),
                ProbeResult::NotAsked(why) => format!("not asked: {why}"),
            };
            assert_eq!(text, expected, "{question}");
        }
    }

    #[tokio::test]
    async fn a_post_carries_a_fresh_key_and_nothing_secret() {
        let (address, seen) = serve().await;
        let question = json!({"path": "/orders", "method": "POST", "body": "{\"a\":1}", "headers": [{"name": "X-Tenant", "value": "a b"}], "expect": {"status": 201, "bodyContains": "{\"a\":1}"}});
        for _ in 0..2 {
            assert_eq!(ask(address, question.clone()).await, ProbeResult::Passed);
        }
        let seen = seen.lock().unwrap();
        assert_ne!(seen[0]["idempotency-key"], seen[1]["idempotency-key"]);
        assert_eq!(seen[0]["host"], "order.shop.svc");
        assert_eq!(seen[0]["valerix-probe"], "shop/slow/run");
        assert!(seen[0]["traceparent"].to_str().unwrap().ends_with("-00"));
        assert_eq!(seen[0]["content-type"], "application/json");
        assert_eq!(seen[0]["x-tenant"], "a b");
        assert!(seen[0].get("authorization").is_none() && seen[0].get("cookie").is_none());
    }

    #[tokio::test]
    async fn nobody_there_is_a_failure_and_a_refused_address_is_not_asked() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (address, _kept) = nobody();
        assert!(matches!(ask(address, json!({})).await, ProbeResult::Failed(why) if why.starts_with("no answer")));

        struct Refusing;
        #[async_trait::async_trait]
        impl Resolver for Refusing {
            async fn resolve(&self, _: &str, _: &str, _: u16) -> Result<SocketAddr, Unresolved> {
                Err(Unresolved::NotAsked("it is a loopback address".into()))
            }
        }
        let question = serde_json::from_value(json!({"service": "order"})).unwrap();
        let result = HttpAsker::new().unwrap().ask(&Refusing, &mark(), &question).await;
        assert_eq!(result, ProbeResult::NotAsked("it is a loopback address".into()));
    }
}
