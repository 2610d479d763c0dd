//! The shop as a visitor sees it: through the gateway, over a port that the API server forwards. The API server's proxy
//! keeps the header Authorization for itself, so that nobody can sign in through it. And the proof with which one service
//! asks another, for tests that ask in its place.

use crate::{
    shop::Reply,
    world::{SHOP, World, shop_services},
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use std::time::Instant;

/// Somebody who looks at the shop, signed in or not.
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    token: Option<String>,
}

impl Visitor {
    /// Makes an account and signs in.
    ///
    /// # Errors
    /// With what the shop answered.
    pub async fn registered(world: &World, email: &str, password: &str) -> Result<Self> {
        let account = json!({"email": email, "password": password});
        let made = Self::default()
            .ask(world, "POST", "/auth/register", &[], &account)
            .await?;
        ensure!(made.status == 201, "register: {} {}", made.status, made.body);
        Self::signed_in(world, email, password).await
    }

    /// Signs in.
    ///
    /// # Errors
    /// With what the shop answered.
    pub async fn signed_in(world: &World, email: &str, password: &str) -> Result<Self> {
        let account = json!({"email": email, "password": password});
        let answer = Self::default().ask(world, "POST", "/auth/login", &[], &account).await?;
        ensure!(answer.status == 200, "login: {} {}", answer.status, answer.body);
        let token = answer.json()?["access_token"].as_str().map(ToOwned::to_owned);
        Ok(Self {
            token: Some(token.context("login gives no access_token")?),
        })
    }

    /// The account that the chart makes.
    ///
    /// # Errors
    /// If its Secret cannot be read, or with what the shop answered.
    pub async fn admin(world: &World) -> Result<Self> {
        let password = secret(world, "auth-admin", "password").await?;
        Self::signed_in(world, "admin@shop.example", &password).await
    }

    /// The value of the header `Authorization`; empty for a guest.
    #[must_use]
    pub fn authorization(&self) -> String {
        self.token
            .as_ref()
            .map(|token| format!("Bearer {token}"))
            .unwrap_or_default()
    }

    /// Asks the gateway. `body` is sent as JSON unless it is null.
    ///
    /// # Errors
    /// If the gateway cannot be reached.
    pub async fn ask(
        &self,
        world: &World,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Reply> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "shop");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if self.token.is_some() {
            request = request.header(header::AUTHORIZATION, self.authorization());
        }
        let text = if body.is_null() {
            String::new()
        } else {
            request = request.header(header::CONTENT_TYPE, "application/json");
            body.to_string()
        };
        let request = request
            .body(Full::new(Bytes::from(text)))
            .context("failed to build a request")?;
        ask_gateway(world, request)
            .await
            .with_context(|| format!("failed to ask the gateway for {method} {path}"))
    }
}

/// One request on a forwarded connection of its own.
async fn ask_gateway(world: &World, request: Request<Full<Bytes>>) -> Result<Reply> {
    let pods = world.api::<Pod>(SHOP);
    let selector = ListParams::default().labels("app.kubernetes.io/name=gateway");
    let list = pods
        .list(&selector)
        .await
        .context("failed to list the gateway's pods")?;
    let ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
    };
    let pod = list
        .items
        .iter()
        .find(|pod| ready(pod))
        .context("no pod of the gateway is ready")?;
    let port = shop_services()?["gateway"].port;
    let mut forwarder = pods
        .portforward(&pod.name_any(), &[port])
        .await
        .context("failed to forward a port")?;
    let stream = forwarder
        .take_stream(port)
        .context("the forwarded port has no stream")?;
    let started = Instant::now();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .context("failed to begin a connection")?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.context("no answer")?;
    let status = answer.status().as_u16();
    let content_type = answer.headers().get(header::CONTENT_TYPE);
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = answer
        .into_body()
        .collect()
        .await
        .context("failed to read an answer")?
        .to_bytes();
    connection.abort();
    Ok(Reply {
        status,
        content_type,
        body: String::from_utf8_lossy(&body).into_owned(),
        took: started.elapsed(),
    })
}

/// The proof of `caller` for a request to `callee`, by the key that the chart gave both: the value of the header
/// `Valerix-Service-Token`, good for a minute.
///
/// # Errors
/// If there is no such key.
pub async fn service_token(world: &World, caller: &str, callee: &str) -> Result<String> {
    let key = secret(world, &format!("call-{caller}-{callee}"), "key").await?;
    let expires = chrono::Utc::now().timestamp() + 60;
    let claims = json!({"iss": caller, "aud": callee, "exp": expires});
    let key = jsonwebtoken::EncodingKey::from_secret(key.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).context("failed to make a token")
}

/// What stands in a Secret of the shop.
///
/// # Errors
/// If there is no such Secret or key.
pub async fn secret(world: &World, name: &str, key: &str) -> Result<String> {
    let secret = world
        .api::<Secret>(SHOP)
        .get(name)
        .await
        .with_context(|| format!("failed to read Secret {name}"))?;
    let value = secret.data.unwrap_or_default().remove(key);
    let value = value.with_context(|| format!("Secret {name} has no key {key}"))?;
    String::from_utf8(value.0).with_context(|| format!("Secret {name}, key {key} is no text"))
}
