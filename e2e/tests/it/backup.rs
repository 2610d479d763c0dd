//! BackupPolicy against the shop's PostgreSQL: the archive on the claim is what the record says, once a day.

mod trial;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{
    batch::v1::CronJob,
    core::v1::{Pod, Secret},
};
use kube::{
    ResourceExt,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sha2::Digest;
use std::{collections::BTreeMap, io::Read, time::Duration};
use valerix_crds::{
    Backup, BackupPhase, BackupPolicy, LastRunResult, TrialRestoreState, UploadState, names, names::condition as types,
};
use valerix_e2e::{
    kubectl,
    world::{SHOP, World, condition, has_condition},
};

const SERVICES: [(&str, &str); 2] = [("order", "orders"), ("inventory", "inventory")];

/// Gives a namespace the Secrets, a claim and a policy over two databases of the shop. `changes` override Secret keys of
/// the second database.
pub(crate) async fn prepare(world: &World, namespace: &str, policy: &str, changes: Value) -> Result<()> {
    for (service, database) in SERVICES {
        let source = world.api::<Secret>(SHOP).get(&format!("{service}-database")).await?;
        let mut copy = Secret {
            metadata: ObjectMeta {
                name: Some(format!("{database}-database")),
                ..Default::default()
            },
            data: source.data,
            ..Default::default()
        };
        if database == "inventory" {
            copy.string_data = serde_json::from_value(changes.clone())?;
        }
        world
            .api::<Secret>(namespace)
            .create(&PostParams::default(), &copy)
            .await?;
    }
    let databases: Vec<Value> = SERVICES
        .iter()
        .map(|(_, database)| json!({"name": database, "connectionSecretRef": {"name": format!("{database}-database")}}))
        .collect();
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "backups"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    });
    let object = json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "BackupPolicy", "metadata": {"name": policy},
        "spec": {
            "databases": databases,
            "destination": {"volumeClaim": {"claimName": "backups"}},
            "verification": {"restore": "EveryRun", "queries": [
                {"name": "orders", "database": "orders", "query": "SELECT count(*) FROM orders", "atLeast": 0},
            ]},
        },
    });
    for object in [claim, object] {
        world.create(namespace, &object.to_string()).await?.text()?;
    }
    let ready = |policy: &BackupPolicy| {
        policy
            .status
            .as_ref()
            .is_some_and(|status| has_condition(&status.conditions, types::READY, "True"))
    };
    world
        .object(namespace, policy, "Ready", Duration::from_secs(30), ready)
        .await?;
    Ok(())
}

/// Asks for a run by hand.
pub(crate) async fn run_by_hand(world: &World, namespace: &str, policy: &str, id: &str) -> Result<()> {
    let annotation = json!({"metadata": {"annotations": {names::RUN_ANNOTATION: id}}});
    change(world, namespace, policy, annotation).await
}

async fn change(world: &World, namespace: &str, policy: &str, patch: Value) -> Result<()> {
    world
        .api::<BackupPolicy>(namespace)
        .patch(policy, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(())
}

/// Waits for the end of the newest run of a policy.
pub(crate) async fn finished(world: &World, namespace: &str, policy: &str, within: Duration) -> Result<Backup> {
    let records = world.api::<Backup>(namespace);
    let found = valerix_e2e::world::eventually(within, || async {
        let records = records.list(&ListParams::default()).await.ok()?;
        records.items.into_iter().find(|record| {
            record.spec.policy_ref.name == policy
                && record.status.as_ref().is_some_and(|status| {
                    matches!(
                        status.phase,
                        BackupPhase::Completed | BackupPhase::Failed | BackupPhase::Unknown
                    )
                })
        })
    })
    .await;
    match found {
        Some(record) => Ok(record),
        None => bail!(
            "no run of {policy} ended within {within:?}\n{}",
            world.dump(namespace).await
        ),
    }
}

/// A pod that mounts the claim and holds PostgreSQL's tools.
async fn reader(world: &World, namespace: &str) -> Result<()> {
    let image = world.environment.images.of("postgres")?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsUser": 999, "fsGroup": 65532},
            "containers": [{"name": "reader", "image": image, "command": ["sleep", "600"],
                            "volumeMounts": [{"name": "claim", "mountPath": "/claim"}]}],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": "backups"}}],
        },
    });
    world.create(namespace, &pod.to_string()).await?.text()?;
    let running = |pod: &Pod| {
        pod.status
            .as_ref()
            .is_some_and(|status| status.phase.as_deref() == Some("Running"))
    };
    world
        .object(namespace, "reader", "Running", Duration::from_secs(60), running)
        .await?;
    Ok(())
}

async fn in_reader(world: &World, namespace: &str, command: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>> {
    let mut arguments = vec!["exec", "-i", "-n", namespace, "reader", "--"];
    arguments.extend(command);
    kubectl::kubectl_bytes(&world.environment, &arguments, input).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_archive_a_day_that_holds_what_the_record_says() -> Result<()> {
    let world = World::shared().await?;
    let test = world.with_namespace("backup", async |namespace| {
        prepare(&world, namespace, "nightly", json!({})).await?;
        run_by_hand(&world, namespace, "nightly", "first").await?;
        let record = finished(&world, namespace, "nightly", Duration::from_secs(120)).await?;
        let status = record.status.clone().unwrap_or_default();
        ensure!(status.phase == BackupPhase::Completed, "{status:?}");
        ensure!(status.upload.state == UploadState::Completed, "{:?}", status.upload);
        ensure!(
            record.name_any() == format!("nightly-{}", record.spec.slot.replace('-', "")),
            "the record is named by its slot"
        );
        let key = status.upload.key.clone().context("no key")?;
        let wanted = format!("{namespace}/nightly/{}.tar.zst", record.spec.slot.replace('-', ""));
        ensure!(key.ends_with(&wanted), "{key} instead of {wanted}");

        reader(&world, namespace).await?;
        let files = String::from_utf8(in_reader(&world, namespace, &["find", "/claim", "-type", "f"], None).await?)?;
        ensure!(
            files.lines().collect::<Vec<_>>() == [format!("/claim/{wanted}")],
            "one archive and nothing else: {files}"
        );
        let archive = in_reader(&world, namespace, &["cat", &format!("/claim/{wanted}")], None).await?;
        let sha256 = hex::encode(sha2::Sha256::digest(&archive));
        ensure!(
            Some(&sha256) == status.upload.sha256.as_ref(),
            "the record's sha256 is the archive's"
        );
        ensure!(
            Some(i64::try_from(archive.len())?) == status.upload.bytes,
            "the record's size is the archive's"
        );

        let mut members: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut last = String::new();
        for entry in tar::Archive::new(zstd::Decoder::new(&archive[..])?).entries()? {
            let mut entry = entry?;
            last = entry.path()?.to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            members.insert(last.clone(), content);
        }
        ensure!(last == "manifest.json", "the manifest is the last member: {last}");
        let manifest: Value = serde_json::from_slice(&members["manifest.json"])?;
        for (database, table) in [("orders", "orders"), ("inventory", "reservations")] {
            let dump = members
                .get(&format!("{database}.dump"))
                .with_context(|| format!("no dump of {database}"))?;
            let list = in_reader(&world, namespace, &["pg_restore", "--list"], Some(dump)).await?;
            let list = String::from_utf8(list)?;
            ensure!(
                list.contains(&format!("TABLE DATA public {table} ")),
                "the dump of {database} holds {table}: {list}"
            );
            ensure!(
                manifest.to_string().contains(&hex::encode(sha2::Sha256::digest(dump))),
                "the manifest has the sha256 of {database}"
            );
        }

        // The same day again changes nothing and says so.
        run_by_hand(&world, namespace, "nightly", "second").await?;
        let used = |policy: &BackupPolicy| {
            policy
                .status
                .as_ref()
                .and_then(|status| status.last_run.as_ref())
                .is_some_and(|run| {
                    run.id == "second" && run.result == LastRunResult::SlotUsed && !run.message.is_empty()
                })
        };
        let policy = world
            .object(namespace, "nightly", "SlotUsed", Duration::from_secs(30), used)
            .await?;
        let again = in_reader(&world, namespace, &["sha256sum", &format!("/claim/{wanted}")], None).await?;
        ensure!(
            String::from_utf8(again)?.starts_with(&sha256),
            "the archive is untouched"
        );
        let status = policy.status.unwrap_or_default();
        ensure!(
            status
                .last_success
                .as_ref()
                .is_some_and(|success| success.slot == record.spec.slot && success.sha256 == sha256),
            "{:?}",
            status.last_success
        );
        for (kind, value) in [(types::LAST_BACKUP_SUCCEEDED, "True"), (types::STALE, "False")] {
            let found = condition(&status.conditions, kind).with_context(|| format!("no condition {kind}"))?;
            ensure!(found.status == value, "{found:?}");
        }
        let row = world
            .kubectl(&format!("get bkp -n {namespace} nightly --no-headers"))
            .await?
            .text()?;
        ensure!(row.contains(&record.spec.slot) && row.contains("iB"), "{row}");
        restored_on_trial(&world, namespace, &record.name_any()).await?;
        trial::held_back(&world, namespace).await
    });
    Box::pin(test).await
}

/// The stored archive is restored in a pod of its own, and record and policy say what came of it.
pub(crate) async fn restored_on_trial(world: &World, namespace: &str, record: &str) -> Result<()> {
    let answered = |record: &Backup| {
        let trial = record.status.as_ref().and_then(|status| status.verification.as_ref());
        trial.is_some_and(|trial| trial.state != TrialRestoreState::Running)
    };
    let record: Backup = world
        .object(
            namespace,
            record,
            "restored on trial",
            Duration::from_secs(180),
            answered,
        )
        .await?;
    let status = record.status.unwrap_or_default();
    let trial = status.verification.unwrap_or_default();
    ensure!(trial.state == TrialRestoreState::Restored, "{trial:?}");
    ensure!(status.verified.as_deref() == Some("Restored"), "{:?}", status.verified);
    ensure!(trial.not_run.is_empty(), "{:?}", trial.not_run);
    let shown = |policy: &BackupPolicy| {
        let conditions = policy.status.as_ref().map(|status| &status.conditions);
        conditions.is_some_and(|conditions| has_condition(conditions, types::VERIFIED, "True"))
    };
    world
        .object::<BackupPolicy>(namespace, "nightly", "Verified", Duration::from_secs(30), shown)
        .await?;
    let row = world
        .kubectl(&format!("get bkp -n {namespace} nightly --no-headers"))
        .await?
        .text()?;
    ensure!(row.contains("Restored"), "{row}");
    // Whoever restores may not do what whoever stores may: it has no Secret of a database, and no say over another kind.
    let account = format!("system:serviceaccount:{namespace}:nightly-verify");
    let may = world
        .kubectl(&format!("auth can-i get secrets -n {namespace} --as {account}"))
        .await?;
    ensure!(may.stdout.trim() == "no", "{}", may.stdout);
    Ok(())
}

/// A run that cannot succeed: it ends as Failed in time, names the database, and stores nothing.
async fn fails(prefix: &str, changes: Value) -> Result<String> {
    let world = World::shared().await?;
    world
        .with_namespace(prefix, async |namespace| {
            prepare(&world, namespace, "nightly", changes).await?;
            // What may pass is tried until the deadline.
            change(
                &world,
                namespace,
                "nightly",
                json!({"spec": {"job": {"deadline": "60s"}}}),
            )
            .await?;
            run_by_hand(&world, namespace, "nightly", "first").await?;
            let record = finished(&world, namespace, "nightly", Duration::from_secs(180)).await?;
            let status = record.status.unwrap_or_default();
            ensure!(status.phase == BackupPhase::Failed, "{status:?}");
            ensure!(status.upload.state == UploadState::None, "{:?}", status.upload);
            let message = status.message.unwrap_or_default();
            ensure!(
                message.contains("inventory"),
                "the message names the database: {message}"
            );
            let shown = |policy: &BackupPolicy| {
                policy
                    .status
                    .as_ref()
                    .and_then(|status| condition(&status.conditions, types::LAST_BACKUP_SUCCEEDED))
                    .is_some_and(|condition| condition.status == "False" && condition.message.contains("inventory"))
            };
            world
                .object::<BackupPolicy>(
                    namespace,
                    "nightly",
                    "LastBackupSucceeded=False",
                    Duration::from_secs(30),
                    shown,
                )
                .await?;
            reader(&world, namespace).await?;
            let files = in_reader(&world, namespace, &["find", "/claim", "-type", "f"], None).await?;
            ensure!(
                files.is_empty(),
                "something was stored: {}",
                String::from_utf8_lossy(&files)
            );
            Ok(message)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_fails_the_run_and_names_the_database() -> Result<()> {
    let message = fails("password", json!({"password": "not-the-password"})).await?;
    ensure!(message.contains("password"), "{message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_database_fails_the_run_in_time() -> Result<()> {
    fails("unreachable", json!({"host": "192.0.2.1"})).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_a_quota_refuses_is_told_and_the_slot_still_finishes() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("refused", async |namespace| {
            // The runner's pod asks for no more than the strictest standard of Kubernetes allows.
            let enforce = "pod-security.kubernetes.io/enforce=restricted";
            world
                .kubectl(&format!("label namespace {namespace} {enforce}"))
                .await?
                .text()?;
            prepare(&world, namespace, "nightly", json!({})).await?;
            let quota = json!({
                "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "must-limit"},
                "spec": {"hard": {"limits.cpu": "4", "limits.memory": "4Gi"}},
            });
            world.create(namespace, &quota.to_string()).await?.text()?;
            run_by_hand(&world, namespace, "nightly", "first").await?;
            let told = |record: &Backup| {
                let message = record.status.as_ref().and_then(|status| status.message.as_deref());
                message.is_some_and(|message| message.contains("must-limit") && message.contains("spec.job.resources"))
            };
            let started = |policy: &BackupPolicy| {
                let run = policy.status.as_ref().and_then(|status| status.last_run.as_ref());
                run.is_some_and(|run| run.id == "first")
            };
            let policy = world
                .object(
                    namespace,
                    "nightly",
                    "the run by hand",
                    Duration::from_secs(30),
                    started,
                )
                .await?;
            let slot = policy.status.and_then(|status| status.last_run).context("no run")?.slot;
            let record = format!("nightly-{}", slot.replace('-', ""));
            world
                .object(namespace, &record, "why there is no pod", Duration::from_secs(60), told)
                .await?;
            let row = world
                .kubectl(&format!("get backups -n {namespace} {record} --no-headers"))
                .await?
                .text()?;
            ensure!(row.contains("PodRefused"), "{row}");
            world
                .kubectl(&format!("delete resourcequota must-limit -n {namespace}"))
                .await?
                .text()?;
            // The Job controller tries again after pauses that have grown meanwhile.
            let record = finished(&world, namespace, "nightly", Duration::from_secs(240)).await?;
            let status = record.status.unwrap_or_default();
            ensure!(status.phase == BackupPhase::Completed, "{status:?}");
            Ok(())
        })
        .await
}

/// The one test in which the cluster's own CronJob controller starts the run, minutes from now.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_by_hand_does_not_swallow_the_scheduled_one() -> Result<()> {
    let world = World::shared().await?;
    world
        .with_namespace("swallowed", async |namespace| {
            prepare(&world, namespace, "nightly", json!({"password": "not-the-password"})).await?;
            let now = chrono::Utc::now();
            // Where it is far from midnight now, so that both runs are of one day.
            let hours_ahead = if (2..22).contains(&chrono::Timelike::hour(&now)) {
                0
            } else {
                12
            };
            let zone = if hours_ahead == 0 { "Etc/UTC" } else { "Etc/GMT-12" };
            let due = now + chrono::TimeDelta::minutes(3);
            let time_of_day = (due + chrono::TimeDelta::hours(hours_ahead))
                .format("%H:%M")
                .to_string();
            change(
                &world,
                namespace,
                "nightly",
                json!({"spec": {"schedule": {"timeOfDay": time_of_day, "timeZone": zone}}}),
            )
            .await?;
            let planned = |policy: &BackupPolicy| {
                let next = policy.status.as_ref().and_then(|status| status.next_run_at);
                next.is_some_and(|next| next <= due)
            };
            world
                .object(namespace, "nightly", "the new time", Duration::from_secs(30), planned)
                .await?;
            run_by_hand(&world, namespace, "nightly", "first").await?;
            let failed = finished(&world, namespace, "nightly", Duration::from_secs(120)).await?;
            ensure!(
                failed
                    .status
                    .as_ref()
                    .is_some_and(|status| status.phase == BackupPhase::Failed),
                "{:?}",
                failed.status
            );
            let source = world.api::<Secret>(SHOP).get("inventory-database").await?;
            let mended = json!({"data": {"password": source.data.context("no data")?["password"]}});
            world
                .api::<Secret>(namespace)
                .patch("inventory-database", &PatchParams::default(), &Patch::Merge(mended))
                .await?;
            let stored = |record: &Backup| {
                record
                    .status
                    .as_ref()
                    .is_some_and(|status| status.phase == BackupPhase::Completed)
            };
            let record = world
                .object(
                    namespace,
                    &failed.name_any(),
                    "Completed",
                    Duration::from_secs(8 * 60),
                    stored,
                )
                .await?;
            ensure!(record.spec.slot == failed.spec.slot, "both runs are of one day");
            let cron_job = world.api::<CronJob>(namespace).get("nightly").await?;
            ensure!(
                cron_job
                    .status
                    .is_some_and(|status| status.last_schedule_time.is_some()),
                "the CronJob controller started it"
            );
            Ok(())
        })
        .await
}
