//! What the documentation tells a reader to type, typed: each command of a block that says `run`, as it stands, with the
//! reader's own names filled in. What would change something is asked as a question, so that the other tests go on.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};
use valerix_e2e::{
    kubectl::{helm, kubectl_with},
    world::World,
};
use xtask::documents::{Runnable, to_run};

/// What stands for every name that the reader chooses.
const NAME: &str = "order";

/// What a command does to the cluster.
#[derive(Debug, PartialEq)]
enum Effect {
    /// It reads.
    None,
    /// It writes; with this flag it only asks whether it could.
    Asked(&'static str),
    /// It listens until it is ended.
    Listens,
}

fn effect(words: &[&str]) -> Result<Effect> {
    let is_verb = |verbs: &[&str]| words.iter().any(|word| verbs.contains(word));
    Ok(match words.first() {
        Some(&"helm") if is_verb(&["uninstall"]) => Effect::Asked("--dry-run"),
        Some(&"helm") => Effect::Asked("--dry-run=server"),
        _ if is_verb(&["port-forward"]) => Effect::Listens,
        // A token is no object: there is nothing that stays.
        _ if is_verb(&["get", "wait", "explain", "describe", "token"]) => Effect::None,
        _ if is_verb(&["annotate", "apply", "create", "delete", "label", "patch", "scale"]) => {
            Effect::Asked("--dry-run=server")
        }
        _ => anyhow::bail!("this test does not know how to run it"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_documentation_says_to_type_is_understood() -> Result<()> {
    let world = World::shared().await?;
    let commands = to_run(&world.environment.root)?;
    ensure!(
        commands.len() >= 10,
        "the documentation has commands to run: {commands:?}"
    );
    let test = world.with_namespace("documents", async |namespace| {
        for (kind, spec) in objects() {
            let object = json!({
                "apiVersion": "resilience.valerix.io/v1alpha1", "kind": kind, "metadata": {"name": NAME}, "spec": spec,
            });
            world.create(namespace, &object.to_string()).await?.text()?;
        }
        let mut wrong = Vec::new();
        for command in &commands {
            if let Err(error) = typed(&world, namespace, command).await {
                wrong.push(format!("{}: {}: {error:#}", command.at, command.words.join(" ")));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    });
    test.await
}

/// Objects that need nothing else: no pod runs, no day comes.
fn objects() -> [(&'static str, Value); 3] {
    [
        (
            "ResilientService",
            json!({"image": "registry.example/order:1", "replicas": 0, "resilience": {"protocol": "None"}}),
        ),
        (
            "ChaosExperiment",
            json!({
                "target": {"service": "nobody"}, "latency": {"delay": "1s"}, "duration": "5s",
                "schedule": "0 0 30 2 *", "suspend": true,
            }),
        ),
        (
            "BackupPolicy",
            json!({
                "suspend": true, "databases": [{"name": "orders", "connectionSecretRef": {"name": "orders-database"}}],
                "destination": {"volumeClaim": {"claimName": "backups"}},
            }),
        ),
    ]
}

async fn typed(world: &World, namespace: &str, command: &Runnable) -> Result<()> {
    let charts = world.environment.root.join("charts").display().to_string();
    let filled: Vec<String> = command
        .words
        .iter()
        .map(|word| match word.strip_prefix("charts/") {
            Some(chart) => format!("{charts}/{chart}"),
            None => word
                .replace("NAMESPACE", namespace)
                .replace("SERVICEACCOUNT", "default")
                .replace("NAME", NAME),
        })
        .collect();
    let mut words: Vec<&str> = filled.iter().map(String::as_str).collect();
    let effect = effect(&words)?;
    if let Effect::Asked(flag) = effect {
        words.push(flag);
    }
    let (program, mut arguments) = words
        .split_first()
        .map(|(program, rest)| (*program, rest.to_vec()))
        .context("no program")?;
    if program == "helm" {
        helm(&world.environment, &arguments).await?.text()?;
        return Ok(());
    }
    if effect == Effect::Listens {
        return listens(world, &arguments).await;
    }
    if !["-n", "--namespace", "-A", "crd"]
        .iter()
        .any(|flag| arguments.contains(flag))
    {
        arguments.extend(["-n", namespace]);
    }
    let said = kubectl_with(&world.environment, &arguments, None).await?.text()?;
    ensure!(!said.trim().is_empty(), "it says nothing");
    Ok(())
}

/// That it listens, on whatever port is free: the reader's may be taken here.
async fn listens(world: &World, arguments: &[&str]) -> Result<()> {
    let arguments = arguments.iter().map(|argument| match argument.split_once(':') {
        Some((_, port)) => format!(":{port}"),
        None => (*argument).to_owned(),
    });
    let mut child = Command::new(&world.environment.kubectl)
        .args(arguments)
        .env("KUBECONFIG", &world.environment.kubeconfig)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("failed to start kubectl")?;
    let output = child.stdout.take().context("no output")?;
    let mut lines = BufReader::new(output).lines();
    let first = timeout(Duration::from_secs(30), lines.next_line()).await;
    let first = first.context("it did not begin to listen")??.unwrap_or_default();
    ensure!(first.starts_with("Forwarding from"), "it says `{first}`");
    Ok(())
}

#[test]
fn what_changes_something_is_only_asked() -> Result<()> {
    let effect = |text: &str| effect(&text.split(' ').collect::<Vec<_>>());
    assert_eq!(effect("kubectl get rsvc -n shop")?, Effect::None);
    assert_eq!(effect("kubectl -n x create token y")?, Effect::None);
    assert_eq!(effect("kubectl delete crd a")?, Effect::Asked("--dry-run=server"));
    assert_eq!(effect("helm uninstall valerix")?, Effect::Asked("--dry-run"));
    assert!(effect("kubectl drain node").is_err());
    Ok(())
}
