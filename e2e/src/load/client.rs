//! A client that keeps its connections, for requests straight to a Service's address.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client as Connections, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use uuid::Uuid;

use super::measured::Ended;
use crate::world::{SHOP, World};

/// Longer than the shop takes for anything: who waits longer has not been answered.
const PATIENCE: Duration = Duration::from_secs(15);

/// One service of the shop.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    connections: Connections<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// The service at `url`, or at the address that its Service has in the cluster.
    ///
    /// # Errors
    /// If nothing listens there, with the way to reach it from outside of the cluster.
    pub async fn of(world: &World, service: &str, url: Option<&str>) -> Result<Self> {
        let found;
        let url = if let Some(url) = url {
            url
        } else {
            let service = world.api::<Service>(SHOP).get(service).await?;
            let address = service.spec.and_then(|spec| spec.cluster_ip);
            found = format!("http://{}", address.context("the Service has no address")?);
            &found
        };
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(3)));
        connector.set_nodelay(true);
        let client = Self {
            url: url.trim_end_matches('/').to_owned(),
            connections: Connections::builder(TokioExecutor::new()).build(connector),
        };
        let health = client.ask("GET", "/health", &[], None).await.with_context(|| {
            format!(
                "{url} cannot be reached from here; forward it (kubectl --namespace shop port-forward service/{service} \
                 8080:80) and say so: --url http://127.0.0.1:8080"
            )
        })?;
        ensure!(
            health.status().is_success(),
            "{service} is not healthy: {}",
            health.status()
        );
        Ok(client)
    }

    /// One request, to the head of its answer.
    ///
    /// # Errors
    /// If there is no answer within fifteen seconds.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(text)))?;
        let answer = tokio::time::timeout(PATIENCE, self.connections.request(request));
        Ok(answer.await.context("no answer within 15 s")??)
    }

    /// One request, and its answer as status and JSON.
    ///
    /// # Errors
    /// If there is no answer within fifteen seconds, or it is no JSON.
    pub async fn read(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<(u16, Value)> {
        let (head, body) = self.ask(method, path, headers, None).await?.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await;
        let body = body.context("no end of an answer within 15 s")??.to_bytes();
        Ok((head.status.as_u16(), serde_json::from_slice(&body)?))
    }

    /// Signs in.
    pub async fn login(&self, email: &str, password: &str) -> Ended {
        let account = json!({"email": email, "password": password});
        let Ok(answer) = self.ask("POST", "/auth/login", &[], Some(&account)).await else {
            return Ended::none();
        };
        let (head, body) = answer.into_parts();
        // To its end, or the connection is not used again.
        let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, body.collect()).await else {
            return Ended::none();
        };
        Ended {
            retry_after: head.headers.contains_key(header::RETRY_AFTER),
            ..Ended::status(head.status.as_u16())
        }
    }

    /// Orders one piece, with a key of its own.
    pub async fn order(&self, item: &str, headers: &[(&str, &str)]) -> Ended {
        let key = Uuid::new_v4().to_string();
        let headers: Vec<(&str, &str)> = [("idempotency-key", key.as_str())]
            .into_iter()
            .chain(headers.iter().copied())
            .collect();
        let wanted = json!({"item_id": item, "quantity": 1});
        let Ok(answer) = self.ask("POST", "/api/orders", &headers, Some(&wanted)).await else {
            return Ended::none();
        };
        let (head, body) = answer.into_parts();
        let Ok(Ok(body)) = tokio::time::timeout(PATIENCE, body.collect()).await else {
            return Ended::none();
        };
        let order = serde_json::from_slice::<Value>(&body.to_bytes()).ok();
        let order = order.and_then(|order| Some(order["order_id"].as_str()?.to_owned()));
        Ended {
            status: Some(head.status.as_u16()),
            retry_after: head.headers.contains_key(header::RETRY_AFTER),
            order: order.filter(|_| head.status.is_success()),
        }
    }
}
