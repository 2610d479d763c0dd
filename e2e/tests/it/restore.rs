//! Restore against the shop's PostgreSQL: what was stored comes back, under a name of its own or in the place of a living
//! database, and a slip of the pen changes nothing.

use crate::backup;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{batch::v1::Job, core::v1::Secret};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use serde_json::{Value, json};
use std::time::Duration;
use valerix_crds::{Backup, BackupPhase, BackupPolicy, Restore, RestorePhase, names::condition as types};
use valerix_e2e::{
    kubectl,
    world::{SHOP, World, condition, eventually, has_condition},
};

/// One statement on the shop's server, as its superuser; what it answered.
pub(crate) async fn sql(world: &World, database: &str, statement: &str) -> Result<String> {
    let arguments = [
        "exec",
        "-n",
        SHOP,
        "service/postgres",
        "--",
        "psql",
        "-U",
        "postgres",
        "-d",
        database,
        "-v",
        "ON_ERROR_STOP=1",
        "-qtAc",
        statement,
    ];
    let output = kubectl::kubectl_bytes(&world.environment, &arguments, None).await?;
    Ok(String::from_utf8(output)?.trim().to_owned())
}

/// The Secret `admin` with the superuser of the shop's server.
pub(crate) async fn admin(world: &World, namespace: &str, dbname: &str, name: &str) -> Result<()> {
    let source = world.api::<Secret>(SHOP).get("postgres").await?;
    let password = source.data.and_then(|mut data| data.remove("password"));
    let password = String::from_utf8(password.context("the Secret postgres has no password")?.0)?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..Default::default()
        },
        string_data: serde_json::from_value(json!({
            "host": format!("postgres.{SHOP}.svc"), "username": "postgres", "password": password, "dbname": dbname,
        }))?,
        ..Default::default()
    };
    world
        .api::<Secret>(namespace)
        .create(&PostParams::default(), &secret)
        .await?;
    Ok(())
}

fn restore(name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Restore", "metadata": {"name": name}, "spec": spec,
    })
    .to_string()
}

/// Makes the Restore and waits for its end.
pub(crate) async fn carried_out(world: &World, namespace: &str, name: &str, spec: &Value) -> Result<Restore> {
    world.create(namespace, &restore(name, spec)).await?.text()?;
    let ended = |restore: &Restore| {
        restore.status.as_ref().is_some_and(|status| {
            status.phase.is_terminal() && has_condition(&status.conditions, types::COMPLETED, "True")
        })
    };
    world
        .object(namespace, name, "ended", Duration::from_secs(180), ended)
        .await
}

pub(crate) fn completed(restore: &Restore) -> Result<()> {
    let status = restore.status.clone().unwrap_or_default();
    ensure!(status.phase == RestorePhase::Completed, "{status:?}");
    ensure!(has_condition(&status.conditions, types::READY, "True"), "{status:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_comes_back_into_a_new_database() -> Result<()> {
    let world = World::with_shop().await?;
    let test = world.with_namespace("restore", async |namespace| {
        backup::prepare(&world, namespace, "nightly", json!({})).await?;
        backup::run_by_hand(&world, namespace, "nightly", "first").await?;
        let record = backup::finished(&world, namespace, "nightly", Duration::from_secs(120)).await?;
        ensure!(
            record.status.as_ref().is_some_and(|status| status.phase == BackupPhase::Completed),
            "{:?}",
            record.status
        );
        admin(&world, namespace, "postgres", "admin").await?;
        let new = format!("orders_{}", namespace.replace('-', "_"));
        let spec = json!({
            "source": {"policyRef": {"name": "nightly"}},
            "target": {"connectionSecretRef": {"name": "admin"}},
            "databases": [{"name": "orders", "as": new}],
        });
        let outcome = async {
            let restored = carried_out(&world, namespace, "look", &spec).await?;
            completed(&restored)?;
            let status = restored.status.clone().unwrap_or_default();
            let source = status.source.clone().context("no source")?;
            ensure!(source.slot.as_ref() == Some(&record.spec.slot), "{source:?}");
            const TABLES: &str = "SELECT string_agg(schemaname || '.' || tablename || ' ' || tableowner, ',' ORDER BY schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
            let (old, restored) = (sql(&world, "orders", TABLES).await?, sql(&world, &new, TABLES).await?);
            ensure!(old == restored, "the tables and their owners: {old} and {restored}");
            ensure!(
                status.tables == Some(i64::try_from(old.split(',').count())?),
                "{status:?} of {old}"
            );
            // Orders are never deleted: every restored one is there still.
            const ORDERS: &str = "SELECT coalesce(string_agg(id::text, ',' ORDER BY id), '') FROM orders";
            let (living, restored) = (sql(&world, "orders", ORDERS).await?, sql(&world, &new, ORDERS).await?);
            let living: Vec<_> = living.split(',').collect();
            ensure!(
                restored.is_empty() || restored.split(',').all(|order| living.contains(&order)),
                "an order that nobody has made"
            );

            // The same once more: the name is taken, and that is said.
            let again = carried_out(&world, namespace, "again", &spec).await?;
            let status = again.status.unwrap_or_default();
            ensure!(status.phase == RestorePhase::Failed, "{status:?}");
            ensure!(status.reason.as_deref() == Some("TargetRefused"), "{status:?}");
            let ready = condition(&status.conditions, types::READY).context("no Ready")?;
            ensure!(ready.message.contains(&new), "{}", ready.message);

            let jobs = world.api::<Job>(namespace).list(&ListParams::default().labels("resilience.valerix.io/restore")).await?;
            ensure!(jobs.items.len() == 2, "one Job for each Restore");
            world.api::<Restore>(namespace).delete("look", &DeleteParams::default()).await?;
            let gone = eventually(Duration::from_secs(60), || async {
                let jobs = world.api::<Job>(namespace).get_opt("look-restore").await.ok()?;
                jobs.is_none().then_some(())
            });
            ensure!(gone.await.is_some(), "the Job goes with its Restore");
            Ok(())
        };
        let outcome = outcome.await;
        sql(&world, "postgres", &format!("DROP DATABASE IF EXISTS {new} WITH (FORCE)")).await?;
        outcome
    });
    test.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_database_is_replaced_only_by_its_own_name() -> Result<()> {
    let world = World::with_shop().await?;
    let test = world.with_namespace("replace", async |namespace| {
        let living = namespace.replace('-', "_");
        sql(&world, "postgres", &format!("CREATE DATABASE {living}")).await?;
        let outcome = replaced(&world, namespace, &living).await;
        let left = sql(
            &world,
            "postgres",
            &format!("SELECT string_agg(datname, ' ') FROM pg_database WHERE datname LIKE '{living}%'"),
        )
        .await?;
        for database in left.split_whitespace() {
            sql(&world, "postgres", &format!("DROP DATABASE {database} WITH (FORCE)")).await?;
        }
        outcome
    });
    test.await
}

async fn replaced(world: &World, namespace: &str, living: &str) -> Result<()> {
    sql(
        world,
        living,
        "CREATE TABLE notes (id int PRIMARY KEY, note text); INSERT INTO notes SELECT i, md5(i::text) FROM generate_series(1, 1000) i",
    )
    .await?;
    let settings = format!("ALTER DATABASE {living} SET work_mem = '7MB'");
    sql(world, "postgres", &settings).await?;
    const FINGERPRINT: &str =
        "SELECT md5(string_agg(n::text, ',' ORDER BY id)) || current_setting('work_mem') FROM notes n";
    let before = sql(world, living, FINGERPRINT).await?;
    admin(world, namespace, "postgres", "admin").await?;
    admin(world, namespace, living, "living").await?;
    for object in [
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "backups"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
        }),
        json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "BackupPolicy", "metadata": {"name": "notes"},
            "spec": {
                "databases": [{"name": living, "connectionSecretRef": {"name": "living"}}],
                "destination": {"volumeClaim": {"claimName": "backups"}},
            },
        }),
    ] {
        world.create(namespace, &object.to_string()).await?.text()?;
    }
    let record = backed_up(world, namespace, "notes").await?;
    ensure!(
        record
            .status
            .as_ref()
            .is_some_and(|status| status.phase == BackupPhase::Completed),
        "{:?}",
        record.status
    );
    sql(world, living, "DELETE FROM notes WHERE id > 10").await?;

    let spec = |confirm: &str| {
        json!({
            "source": {"policyRef": {"name": "notes"}},
            "target": {"connectionSecretRef": {"name": "living"}, "adminSecretRef": {"name": "admin"}},
            "databases": [{"name": living}],
            "mode": "ReplaceDatabase",
            "replace": {"confirm": confirm, "keepPrevious": "1h"},
        })
    };
    let wrong = world
        .create(namespace, &restore("wrong", &spec("another")))
        .await?
        .text();
    let refusal = wrong.err().context("a wrong confirmation is taken")?.to_string();
    ensure!(refusal.contains("replace.confirm must repeat the name"), "{refusal}");
    ensure!(
        sql(world, living, "SELECT count(*) FROM notes").await? == "10",
        "nothing changed"
    );

    let restored = carried_out(world, namespace, "back", &spec(living)).await?;
    completed(&restored)?;
    ensure!(
        sql(world, living, FINGERPRINT).await? == before,
        "rows and settings are as they were"
    );
    let status = restored.status.unwrap_or_default();
    let previous = status.databases[0].previous.clone().context("nothing was kept")?;
    let open = format!("SELECT datallowconn FROM pg_database WHERE datname = '{previous}'");
    ensure!(
        sql(world, "postgres", &open).await? == "f",
        "{previous} is kept and closed"
    );
    let edit = world
        .kubectl(&format!(
            "patch restore back -n {namespace} --type merge -p {{\"spec\":{{\"mode\":\"NewDatabase\"}}}}"
        ))
        .await?
        .text();
    ensure!(
        edit.err()
            .is_some_and(|error| error.to_string().contains("make another Restore")),
        "a Restore never changes"
    );
    Ok(())
}

/// The record of a run that was asked for as soon as the policy was Ready.
pub(crate) async fn backed_up(world: &World, namespace: &str, policy: &str) -> Result<Backup> {
    world
        .object(namespace, policy, "Ready", Duration::from_secs(30), policy_is_ready)
        .await?;
    backup::run_by_hand(world, namespace, policy, "first").await?;
    backup::finished(world, namespace, policy, Duration::from_secs(120)).await
}

pub(crate) fn policy_is_ready(policy: &BackupPolicy) -> bool {
    policy
        .status
        .as_ref()
        .is_some_and(|status| has_condition(&status.conditions, types::READY, "True"))
}
