//! Wrong input: refused by the API server, or shown as a condition, each with a text that names the field and the remedy.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::batch::v1::CronJob;
use kube::Resource;
use serde_json::{Value, json};
use std::time::Duration;
use valerix_crds::{
    BackupPolicy, ChaosExperiment, ChaosPhase, ResilientService, Restore,
    names::condition as types,
    rules::{Refused, accepted, merged, object, policy, refused},
};
use valerix_e2e::{
    shop,
    visitor::service_token,
    world::{SHOP, World, condition, shop_services},
};

/// What the API server has against an object, as strict as kubectl asks it to be; nothing is kept.
async fn refusal(world: &World, namespace: &str, object: &Value) -> Result<Option<String>> {
    let path = match object["kind"].as_str() {
        Some("ResilientService") => ResilientService::url_path(&(), Some(namespace)),
        Some("ChaosExperiment") => ChaosExperiment::url_path(&(), Some(namespace)),
        Some("BackupPolicy") => BackupPolicy::url_path(&(), Some(namespace)),
        Some("Restore") => Restore::url_path(&(), Some(namespace)),
        other => bail!("nobody knows where objects of {other:?} are created"),
    };
    let request = http::Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"))
        .header("Content-Type", "application/json")
        .body(object.to_string().into_bytes())
        .context("failed to build a request")?;
    match world.client.request::<Value>(request).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        Err(error) => Err(error).context("failed to ask the API server to create an object"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_by_name_and_takes_what_is_right() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("refusals", async |namespace| {
            let mut wrong = Vec::new();
            for Refused { object, text, .. } in refused() {
                match refusal(&world, namespace, &object).await? {
                    Some(message) if message.contains(text) => {}
                    Some(message) => wrong.push(format!("wanted `{text}` for {object}, got: {message}")),
                    None => wrong.push(format!("accepted: {object}")),
                }
            }
            for object in accepted() {
                if let Some(message) = refusal(&world, namespace, &object).await? {
                    wrong.push(format!("refused: {object}: {message}"));
                }
            }
            ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_did_not_opt_in_is_left_alone() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("optin", async |namespace| {
            let quiet = object(
                "ResilientService",
                "quiet",
                json!({"image": "docker.io/library/redis:7.0-bookworm", "replicas": 0, "resilience": {"protocol": "None"}}),
            );
            world.create(namespace, &quiet.to_string()).await?.text()?;
            let skipped = |reason: &'static str| {
                move |experiment: &ChaosExperiment| {
                    experiment.status.as_ref().is_some_and(|status| {
                        status.phase == Some(ChaosPhase::Skipped) && status.reason.as_deref() == Some(reason)
                    })
                }
            };
            for (name, target, reason, text) in [
                ("denied", "quiet", "NotAdmitted", "spec.chaos.admission"),
                ("missing", "nobody", "TargetNotFound", "nobody"),
            ] {
                let experiment = object(
                    "ChaosExperiment",
                    name,
                    json!({"target": {"service": target}, "errors": {}, "duration": "5s"}),
                );
                world.create(namespace, &experiment.to_string()).await?.text()?;
                let what = format!("Skipped/{reason}");
                let seen = world
                    .object(namespace, name, &what, Duration::from_secs(20), skipped(reason))
                    .await?;
                let message = seen.status.and_then(|status| status.message).unwrap_or_default();
                ensure!(message.contains(text), "the message names the remedy: {message}");
                ensure!(
                    seen.metadata.finalizers.unwrap_or_default().is_empty(),
                    "nothing was begun, so nothing is held"
                );
            }
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_cannot_hold_is_shown_with_a_suggestion() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("schedules", async |namespace| {
            for (name, schedule, texts) in [
                (
                    "skipped",
                    json!({"timeOfDay": "02:30", "timeZone": "Europe/Berlin"}),
                    ["02:30 does not exist", "in Europe/Berlin", "write 03:00"],
                ),
                (
                    "half-an-hour",
                    json!({"timeOfDay": "12:15", "timeZone": "Australia/Lord_Howe"}),
                    ["12:15", "Australia/Lord_Howe", "write "],
                ),
                (
                    "zone",
                    json!({"timeOfDay": "02:30", "timeZone": "Europe/Atlantis"}),
                    ["schedule.timeZone", "Europe/Atlantis", "Europe/Berlin"],
                ),
            ] {
                let object = object(
                    "BackupPolicy",
                    name,
                    merged(policy(json!({}))["spec"].clone(), json!({"schedule": schedule})),
                );
                world.create(namespace, &object.to_string()).await?.text()?;
                let refused = |policy: &BackupPolicy| {
                    policy
                        .status
                        .as_ref()
                        .and_then(|status| condition(&status.conditions, types::READY))
                        .is_some_and(|ready| {
                            ready.status == "False" && texts.iter().all(|text| ready.message.contains(text))
                        })
                };
                world
                    .object::<BackupPolicy>(
                        namespace,
                        name,
                        "Ready=False with a reason",
                        Duration::from_secs(20),
                        refused,
                    )
                    .await?;
                ensure!(
                    world.api::<CronJob>(namespace).get_opt(name).await?.is_none(),
                    "{name}: no CronJob for a wrong schedule"
                );
            }
            let experiment = object(
                "ChaosExperiment",
                "cron",
                json!({"target": {"service": "inventory"}, "podKill": {}, "schedule": "61 * * * *"}),
            );
            world.create(namespace, &experiment.to_string()).await?.text()?;
            let refused = |experiment: &ChaosExperiment| {
                experiment
                    .status
                    .as_ref()
                    .and_then(|status| status.message.clone())
                    .is_some_and(|message| message.contains("schedule"))
            };
            world
                .object::<ChaosExperiment>(
                    namespace,
                    "cron",
                    "a message on its schedule",
                    Duration::from_secs(20),
                    refused,
                )
                .await?;
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("secrets", async |namespace| {
            let object = object(
                "ResilientService",
                "needy",
                json!({
                    "image": "docker.io/library/redis:7.0-bookworm",
                    "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "not-there", "key": "password"}}}],
                    "resilience": {"protocol": "None"},
                }),
            );
            world.create(namespace, &object.to_string()).await?.text()?;
            let named = |service: &ResilientService| {
                service
                    .status
                    .as_ref()
                    .and_then(|status| condition(&status.conditions, types::AVAILABLE))
                    .is_some_and(|available| available.status == "False" && available.message.contains("not-there"))
            };
            world
                .object::<ResilientService>(
                    namespace,
                    "needy",
                    "Available=False naming the Secret",
                    Duration::from_secs(60),
                    named,
                )
                .await?;
            Ok(())
        })
        .await
}

/// Service, path, headers, body, and the statuses that it may be answered with.
type Malformed<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, String, &'a [u16]);

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_get_a_problem_and_never_a_500() -> Result<()> {
    let world = World::with_shop().await?;
    let json_type = ("Content-Type", "application/json");
    let key = ("Idempotency-Key", "malformed-request");
    let long = format!("{{\"item_id\":\"{}\",\"quantity\":1}}", "x".repeat(2_000_000));
    let services = shop_services()?;
    let cases: Vec<Malformed<'_>> = vec![
        ("order", "/api/orders", vec![json_type, key], "{".into(), &[400]),
        ("order", "/api/orders", vec![json_type, key], "[]".into(), &[400, 422]),
        ("order", "/api/orders", vec![json_type, key], "{}".into(), &[422]),
        (
            "order",
            "/api/orders",
            vec![json_type, key],
            r#"{"item_id":"ps5","quantity":"one"}"#.into(),
            &[422],
        ),
        (
            "order",
            "/api/orders",
            vec![json_type, key],
            r#"{"item_id":"ps5","quantity":0}"#.into(),
            &[422],
        ),
        (
            "order",
            "/api/orders",
            vec![json_type, key],
            r#"{"item_id":"ps5","quantity":99999999999999999999}"#.into(),
            &[422],
        ),
        (
            "order",
            "/api/orders",
            vec![json_type, ("Idempotency-Key", "unknown-item")],
            r#"{"item_id":"nothing","quantity":1}"#.into(),
            &[422],
        ),
        (
            "order",
            "/api/orders",
            vec![json_type],
            r#"{"item_id":"ps5","quantity":1}"#.into(),
            &[400],
        ),
        (
            "order",
            "/api/orders",
            vec![key, ("Content-Type", "text/plain")],
            "ps5".into(),
            &[415],
        ),
        ("order", "/api/orders", vec![json_type, key], long, &[413]),
        (
            "inventory",
            "/api/inventory/deduct",
            vec![json_type],
            r#"{"order_id":"x","item_id":"ps5","quantity":1}"#.into(),
            &[422],
        ),
        (
            "inventory",
            "/api/inventory/deduct",
            vec![json_type],
            "\u{0}".into(),
            &[400],
        ),
        (
            "payment",
            "/payments",
            vec![json_type, key],
            r#"{"order_id":1}"#.into(),
            &[422],
        ),
        ("auth", "/auth/register", vec![json_type], "{}".into(), &[422]),
        (
            "auth",
            "/auth/register",
            vec![json_type],
            r#"{"email":"nobody","password":"long enough to be one"}"#.into(),
            &[422],
        ),
        (
            "processor",
            "/charges",
            vec![json_type],
            r#"{"key":"k","amount_minor":-1,"currency":"EUR"}"#.into(),
            &[422],
        ),
    ];
    for (service, path, headers, body, statuses) in cases {
        let short: String = body.chars().take(80).collect();
        let callers: Vec<_> = services
            .iter()
            .filter(|(_, row)| row.calls.iter().any(|callee| callee == service))
            .collect();
        let proof = match callers.first() {
            Some((caller, _)) => Some(service_token(&world, caller, service).await?),
            None => None,
        };
        let mut headers = headers;
        headers.extend(proof.iter().map(|proof| ("Valerix-Service-Token", proof.as_str())));
        let answer = shop::ask(&world, SHOP, "POST", service, path, &headers, body).await?;
        ensure!(
            statuses.contains(&answer.status),
            "{service} {path} {short}: {} {}",
            answer.status,
            answer.body
        );
        ensure!(
            answer.content_type.starts_with("application/problem+json"),
            "{service} {short}: {}",
            answer.content_type
        );
        ensure!(
            answer.json()?["status"] == answer.status,
            "the problem carries its status: {}",
            answer.body
        );
    }
    Ok(())
}
