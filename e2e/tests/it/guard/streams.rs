//! Answers that are under way for longer than the pods that give them are wanted: a rollout that brings a guard, changes it or
//! takes it away lets them come to their end.

use super::{Load, config, create, guards, patch, ready, service};
use anyhow::{Context, Result, ensure};
use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;
use valerix_e2e::world::World;

const PROGRAM: &str = include_str!("streams.py");
/// Paths of the program, and with what their answers end.
const LONG: [(&str, &str); 2] = [("/events", "data: the end\n\n"), ("/report", "the end\n")];
/// Of each path, so that they are spread over the pods.
const STREAMS: usize = 3;

/// An answer of which the head has come.
struct Stream {
    path: &'static str,
    end: &'static str,
    body: JoinHandle<Result<String>>,
}

impl Stream {
    async fn open(world: &World, namespace: &str, (path, end): (&'static str, &'static str)) -> Result<Self> {
        let uri = format!("/api/v1/namespaces/{namespace}/services/python:80/proxy{path}");
        let request = Request::get(uri).body(Body::empty())?;
        let answer = world.client.send(request).await.context("no answer")?;
        ensure!(answer.status() == 200, "{path}: {}", answer.status());
        let body = tokio::spawn(async move {
            let body = answer.into_body().collect().await.context("the answer broke off")?;
            Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
        });
        Ok(Self { path, end, body })
    }

    /// Waits for its end, which is to be the one that the program gives it.
    async fn ended(self) -> Result<()> {
        let Self { path, end, body } = self;
        let body = tokio::time::timeout(Duration::from_secs(90), body).await;
        let told = body.with_context(|| format!("{path} does not end"))??;
        let told = told.with_context(|| path.to_owned())?;
        let last: Vec<&str> = told.lines().rev().take(3).collect();
        ensure!(told.ends_with(end), "{path} ended with {last:?}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_answered_is_answered_to_its_end_while_guards_come_change_and_go() -> Result<()> {
    let world = Arc::new(World::shared().await?);
    world
        .with_namespace("guard", async |namespace| {
            let program = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "streams"},
                "data": {"streams.py": PROGRAM}
            });
            create(&world, namespace, &program).await?;
            // As in the test of short answers, nobody's program is ended by a kubelet that is kept waiting.
            let two = json!({
                "replicas": 2, "resilience": {"protocol": "None"},
                "command": ["python3", "/programs/streams.py"],
                "volumes": [{"name": "programs", "configMap": {"name": "streams"}}],
                "probes": {"startup": {"path": "/alive", "failureThreshold": 90}, "readiness": {"path": "/alive"}}
            });
            create(&world, namespace, &service(&world, "python", "python", two)?).await?;
            ready(&world, namespace, "python").await?;
            let load = Load::start(&world, namespace, "python");
            for (what, change) in [
                ("on", json!({"guard": {"mode": "Sidecar"}, "resilience": null})),
                ("changed", json!({"guard": {"resources": {"requests": {"cpu": "11m"}}}})),
                (
                    "off",
                    json!({"guard": {"mode": "Off"}, "resilience": {"protocol": "None"}}),
                ),
            ] {
                let mut streams = Vec::new();
                for long in LONG.repeat(STREAMS) {
                    streams.push(Stream::open(&world, namespace, long).await?);
                }
                patch(&world, namespace, "python", change).await?;
                let service = ready(&world, namespace, "python").await?;
                ensure!(config(&service) == "2/2", "{what}: CONFIG {}", config(&service));
                let guards = guards(&world, namespace).await?;
                ensure!((guards > 0) == (what != "off"), "{what}: {guards} guards");
                for stream in streams {
                    stream
                        .ended()
                        .await
                        .with_context(|| format!("while guards are {what}"))?;
                }
            }
            load.end().await?;
            Ok(())
        })
        .await
}
