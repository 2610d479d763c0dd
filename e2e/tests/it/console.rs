//! The console on a real API server: who signs in sees and does what RBAC lets that person, and nothing is done for
//! anybody else.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount},
};
use kube::{
    ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;
use valerix_crds::{ChaosExperiment, DesiredState};
use valerix_e2e::world::{OPERATOR_NAMESPACE, World, eventually};

const PORT: u16 = 8080;

struct Fetched {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Fetched {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("no JSON: {}", self.text))
    }
}

/// A browser: its cookie, and what commands repeat.
#[derive(Default)]
pub(crate) struct Browser {
    cookie: String,
    csrf: String,
}

impl Browser {
    pub(crate) async fn signed_in(world: &World, namespace: &str, account: &str) -> Result<Self> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let accounts = world.api::<ServiceAccount>(namespace);
        let token = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await?;
        let token = token.status.context("a token request without a token")?.token;
        let answer = Self::default()
            .ask(world, "POST", "/api/session", &json!({"token": token}))
            .await?;
        ensure!(answer.status == 200, "sign in: {} {}", answer.status, answer.text);
        ensure!(!answer.text.contains(&token), "the token comes back");
        let body = answer.json()?;
        ensure!(
            body["user"] == format!("system:serviceaccount:{namespace}:{account}"),
            "{body}"
        );
        let cookie = answer.headers.get(header::SET_COOKIE).context("no cookie")?.to_str()?;
        Ok(Self {
            cookie: cookie.split(';').next().unwrap_or_default().to_owned(),
            csrf: body["csrf"].as_str().context("no csrf")?.to_owned(),
        })
    }

    /// One request on a forwarded connection of its own. Of a stream that does not end, the first message is read.
    async fn ask(&self, world: &World, method: &str, path: &str, body: &Value) -> Result<Fetched> {
        let (answer, _connection) = self.begin(world, method, path, body).await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let is_stream = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == "text/event-stream");
        let mut body = answer.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            bytes.extend_from_slice(&frame?.into_data().unwrap_or_default());
            if is_stream && bytes.windows(2).any(|pair| pair == b"\n\n") {
                break;
            }
        }
        Ok(Fetched {
            status,
            headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// The stream of what happens, for as long as it is read.
    pub(crate) async fn follow(&self, world: &World) -> Result<Messages> {
        let (answer, connection) = self.begin(world, "GET", "/api/events", &Value::Null).await?;
        ensure!(answer.status() == 200, "the stream: {}", answer.status());
        Ok(Messages {
            body: answer.into_body(),
            unread: Vec::new(),
            _connection: connection,
        })
    }

    /// Sends a request, and gives the head of its answer with what ends the connection.
    async fn begin(
        &self,
        world: &World,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<(Response<Incoming>, AbortOnDropHandle<hyper::Result<()>>)> {
        let pods = world.api::<Pod>(OPERATOR_NAMESPACE);
        let selector = ListParams::default().labels("app.kubernetes.io/name=valerix-console");
        let list = pods.list(&selector).await?;
        let pod = list.items.first().context("no pod of the console")?;
        let mut forwarder = pods.portforward(&pod.name_any(), &[PORT]).await?;
        let stream = forwarder.take_stream(PORT).context("no stream")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "console")
            .header("x-valerix-csrf", &self.csrf)
            .header(header::COOKIE, &self.cookie);
        let mut text = String::new();
        if !body.is_null() {
            request = request.header(header::CONTENT_TYPE, "application/json");
            text = body.to_string();
        }
        let answer = sender.send_request(request.body(Full::new(Bytes::from(text)))?).await?;
        Ok((answer, connection))
    }
}

/// A page that stays open: what it is told, one message after another.
pub(crate) struct Messages {
    body: Incoming,
    unread: Vec<u8>,
    _connection: AbortOnDropHandle<hyper::Result<()>>,
}

impl Messages {
    /// The next message.
    pub(crate) async fn next(&mut self) -> Result<Value> {
        loop {
            while let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.unread.drain(..end + 2).collect();
                let event = String::from_utf8(event).context("a message is no text")?;
                // One without data keeps the connection open.
                if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                    return serde_json::from_str(data).with_context(|| format!("no JSON: {data}"));
                }
            }
            let frame = self.body.frame().await.context("the stream has ended")??;
            self.unread.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }
}

pub(crate) async fn account(world: &World, namespace: &str, name: &str, role: Option<&str>) -> Result<()> {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    world.create(namespace, &account.to_string()).await?.text()?;
    let Some(role) = role else { return Ok(()) };
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    });
    world.create(namespace, &binding.to_string()).await?.text()?;
    Ok(())
}

/// An experiment that waits for a day that never comes.
fn experiment(namespace: &str, name: &str) -> Value {
    let spec = json!({
        "target": {"service": "nobody"}, "latency": {"delay": "1s"}, "duration": "5s", "schedule": "0 0 30 2 *", "suspend": true,
    });
    json!({"namespace": namespace, "name": name, "spec": spec})
}

/// The objects of the stream's first message.
async fn told(browser: &Browser, world: &World) -> Result<Vec<Value>> {
    let first = browser.ask(world, "GET", "/api/events", &Value::Null).await?;
    let data = first.text.lines().find_map(|line| line.strip_prefix("data: "));
    let snapshot: Value = serde_json::from_str(data.context("no message")?)?;
    Ok(snapshot["objects"].as_array().context("no objects")?.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_does_what_rbac_lets_a_person_and_no_more() -> Result<()> {
    let world = World::shared().await?;
    let test = world.with_namespace("console", async |namespace| {
        for (name, role) in [("admin", Some("admin")), ("viewer", Some("view")), ("nobody", None)] {
            account(&world, namespace, name, role).await?;
        }
        let page = Browser::default().ask(&world, "GET", "/chaos", &Value::Null).await?;
        ensure!(
            page.status == 200 && page.text.contains("<div id=\"root\">"),
            "the page: {} {}",
            page.status,
            page.text
        );
        let anonymous = Browser::default();
        for (method, path) in [
            ("GET", "/api/events"),
            ("GET", "/api/happened"),
            ("POST", "/api/experiments"),
        ] {
            let answer = anonymous.ask(&world, method, path, &Value::Null).await?;
            ensure!(answer.status == 401, "{path}: {} {}", answer.status, answer.text);
        }
        let admin = Browser::signed_in(&world, namespace, "admin").await?;
        let viewer = Browser::signed_in(&world, namespace, "viewer").await?;
        let nobody = Browser::signed_in(&world, namespace, "nobody").await?;

        let new = experiment(namespace, "waits");
        for (who, browser, status) in [
            ("viewer", &viewer, 403),
            ("nobody", &nobody, 403),
            ("admin", &admin, 201),
        ] {
            let answer = browser.ask(&world, "POST", "/api/experiments", &new).await?;
            ensure!(answer.status == status, "{who}: {} {}", answer.status, answer.text);
            ensure!(
                status != 403 || answer.text.contains("cannot create resource"),
                "the API server's own words: {}",
                answer.text
            );
        }
        let elsewhere = admin
            .ask(&world, "POST", "/api/experiments", &experiment("default", "elsewhere"))
            .await?;
        ensure!(elsewhere.status == 403, "{} {}", elsewhere.status, elsewhere.text);
        let mut misspelt = experiment(namespace, "misspelt");
        misspelt["spec"]["latnecy"] = json!({});
        let misspelt = admin.ask(&world, "POST", "/api/experiments", &misspelt).await?;
        ensure!(
            misspelt.text.contains("latnecy") && misspelt.status != 201,
            "{}",
            misspelt.text
        );
        let mut endless = experiment(namespace, "endless");
        let spec = endless["spec"].as_object_mut().context("no spec")?;
        spec.remove("duration");
        let endless = admin.ask(&world, "POST", "/api/experiments", &endless).await?;
        ensure!(
            endless.status == 422 && endless.text.contains("a fault must have an end"),
            "{} {}",
            endless.status,
            endless.text
        );

        let path = format!("/api/experiments/{namespace}/waits/stop");
        let answer = viewer.ask(&world, "POST", &path, &json!({})).await?;
        ensure!(answer.status == 403, "viewer: {} {}", answer.status, answer.text);
        let answer = admin.ask(&world, "POST", &path, &json!({})).await?;
        ensure!(answer.status == 200, "admin: {} {}", answer.status, answer.text);
        let stopped = |experiment: &ChaosExperiment| experiment.spec.desired == DesiredState::Stop;
        world
            .object(namespace, "waits", "to be stopped", Duration::from_secs(20), stopped)
            .await?;

        // The console hears of it from a watch of its own.
        let seen = eventually(Duration::from_secs(20), || async {
            let objects = told(&viewer, &world).await.ok()?;
            objects
                .iter()
                .any(|object| object["name"] == "waits")
                .then_some(objects)
        });
        let seen = seen.await.context("the viewer is not told of the experiment")?;
        ensure!(seen.iter().all(|object| object["namespace"] == namespace), "{seen:?}");
        let nothing = told(&nobody, &world).await?;
        ensure!(nothing.is_empty(), "nobody is told of {nothing:?}");
        Ok(())
    });
    Box::pin(test).await
}

/// A Restore of a policy that there is not: it waits, and nothing is touched.
fn restore(namespace: &str, name: &str, confirm: &str) -> Value {
    let spec = json!({
        "source": {"policyRef": {"name": "nothing"}}, "databases": [{"name": "orders"}], "mode": "ReplaceDatabase",
        "target": {"connectionSecretRef": {"name": "nothing"}, "adminSecretRef": {"name": "nothing"}},
        "replace": {"confirm": confirm},
    });
    json!({"namespace": namespace, "name": name, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_asks_for_a_restore_as_the_api_server_lets_it() -> Result<()> {
    let world = World::shared().await?;
    let test = world.with_namespace("console-restore", async |namespace| {
        for (name, role) in [("admin", "admin"), ("viewer", "view")] {
            account(&world, namespace, name, Some(role)).await?;
        }
        let admin = Browser::signed_in(&world, namespace, "admin").await?;
        let viewer = Browser::signed_in(&world, namespace, "viewer").await?;
        let ask =
            async |browser: &Browser, restore: &Value| browser.ask(&world, "POST", "/api/restores", restore).await;

        let refused = ask(&viewer, &restore(namespace, "back", "orders")).await?;
        ensure!(
            refused.status == 403 && refused.text.contains("cannot create resource"),
            "viewer: {} {}",
            refused.status,
            refused.text
        );
        let wrong = ask(&admin, &restore(namespace, "back", "order")).await?;
        let problem: Value = serde_json::from_str(&wrong.text)?;
        ensure!(
            wrong.status == 422 && wrong.text.contains("replace.confirm must repeat the name"),
            "{} {}",
            wrong.status,
            wrong.text
        );
        let field = problem["errors"][0]["field"].as_str().unwrap_or_default();
        ensure!(field.starts_with("spec"), "the refused field is named: {}", wrong.text);

        let mut check = restore(namespace, "back", "orders");
        check["check"] = json!(true);
        let checked = ask(&admin, &check).await?;
        ensure!(checked.status == 200, "{} {}", checked.status, checked.text);
        // Were it written, this would be a conflict.
        let written = ask(&admin, &restore(namespace, "back", "orders")).await?;
        ensure!(written.status == 201, "{} {}", written.status, written.text);

        let seen = eventually(Duration::from_secs(20), || async {
            let objects = told(&viewer, &world).await.ok()?;
            let is_it = |object: &&Value| object["kind"] == "Restore" && object["name"] == "back";
            objects.iter().find(is_it).cloned()
        });
        let seen = seen.await.context("the viewer is not told of the restore")?;
        ensure!(
            seen["mode"] == "ReplaceDatabase" && seen["databases"][0]["target"] == "orders",
            "{seen}"
        );
        Ok(())
    });
    Box::pin(test).await
}
