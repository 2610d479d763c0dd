//! BackupPolicy against the shop's PostgreSQL: the archive on the claim is what the record says, once a day.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    ResourceExt,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sha2::Digest;
use std::{collections::BTreeMap, io::Read, time::Duration};
use valerix_crds::{Backup, BackupPhase, BackupPolicy, LastRunResult, UploadState, names, names::condition as types};
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
    let patch = Patch::Merge(json!({"metadata": {"annotations": {names::RUN_ANNOTATION: id}}}));
    world
        .api::<BackupPolicy>(namespace)
        .patch(policy, &PatchParams::default(), &patch)
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
    world
        .with_namespace("backup", async |namespace| {
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
            let files =
                String::from_utf8(in_reader(&world, namespace, &["find", "/claim", "-type", "f"], None).await?)?;
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
            for (kind, value, reason) in [
                (types::LAST_BACKUP_SUCCEEDED, "True", None),
                (types::STALE, "False", None),
                (types::VERIFIED, "Unknown", Some("NotRestored")),
            ] {
                let found = condition(&status.conditions, kind).with_context(|| format!("no condition {kind}"))?;
                ensure!(
                    found.status == value && reason.is_none_or(|reason| found.reason == reason),
                    "{found:?}"
                );
            }
            let row = world
                .kubectl(&format!("get bkp -n {namespace} nightly --no-headers"))
                .await?
                .text()?;
            ensure!(row.contains(&record.spec.slot) && row.contains("iB"), "{row}");
            Ok(())
        })
        .await
}

/// A run that cannot succeed: it ends as Failed in time, names the database, and stores nothing.
async fn fails(prefix: &str, changes: Value) -> Result<String> {
    let world = World::shared().await?;
    world
        .with_namespace(prefix, async |namespace| {
            prepare(&world, namespace, "nightly", changes).await?;
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
