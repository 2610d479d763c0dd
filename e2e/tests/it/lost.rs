//! The walk of docs/runbooks/cluster-lost.md: everything is lost but the archives, and they are enough.

use crate::{
    backup,
    restore::{admin, backed_up, carried_out, completed, policy_is_ready, sql},
};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use std::time::Duration;
use valerix_crds::{Backup, BackupPhase, BackupPolicy};
use valerix_e2e::{
    kubectl,
    world::{World, eventually},
};

const BUCKET: &str = "archives";
const ACCESS_KEY: &str = "valerix-tests";
const SECRET_KEY: &str = "only-in-tests";
const PORT: u16 = 7070;

/// What outlives everything else.
enum Left {
    /// The claim with the archives: policy and records are gone.
    Claim,
    /// The bucket: the whole namespace is gone.
    Bucket {
        /// URL of its store.
        endpoint: String,
    },
}

impl Left {
    fn destination(&self) -> Value {
        match self {
            Self::Claim => json!({"volumeClaim": {"claimName": "backups"}}),
            Self::Bucket { endpoint } => json!({"s3": {
                "bucket": BUCKET, "prefix": "pg", "endpoint": endpoint, "credentialsSecretRef": {"name": "store"},
            }}),
        }
    }

    /// What makes it usable in the namespace.
    fn means(&self) -> Value {
        match self {
            Self::Claim => json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "backups"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
            }),
            Self::Bucket { .. } => json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"},
                "stringData": {"accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY},
            }),
        }
    }

    /// Gives the namespace what the policy and the Restores name.
    async fn prepare(&self, world: &World, namespace: &str, database: &str) -> Result<()> {
        world.create(namespace, &self.means().to_string()).await?.text()?;
        admin(world, namespace, database, "living").await?;
        admin(world, namespace, "postgres", "postgres-admin").await
    }

    /// Loses everything else of the cluster.
    async fn lose_the_rest(&self, world: &World, namespace: &str, database: &str) -> Result<()> {
        match self {
            Self::Claim => {
                let policies = world.api::<BackupPolicy>(namespace);
                policies.delete("nightly", &DeleteParams::default()).await?;
                let records = world.api::<Backup>(namespace);
                records
                    .delete_collection(&DeleteParams::default(), &ListParams::default())
                    .await?;
                let gone = eventually(Duration::from_secs(60), || async {
                    let (policies, records) = (
                        policies.get_opt("nightly").await.ok()?,
                        records.list(&ListParams::default()).await.ok()?,
                    );
                    (policies.is_none() && records.items.is_empty()).then_some(())
                });
                gone.await.context("the policy and its records do not go")
            }
            Self::Bucket { .. } => {
                world.delete_namespace(namespace).await?;
                let namespaces: Api<Namespace> = Api::all(world.client.clone());
                let gone = eventually(Duration::from_secs(180), || async {
                    let namespace = namespaces.get_opt(namespace).await.ok()?;
                    namespace.is_none().then_some(())
                });
                gone.await.context("the namespace does not go")?;
                world.kubectl(&format!("create namespace {namespace}")).await?.text()?;
                self.prepare(world, namespace, database).await
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_a_claim_comes_back_when_all_else_is_lost() -> Result<()> {
    let world = World::with_shop().await?;
    let test = world.with_namespace("lost", async |namespace| walk(&world, namespace, &Left::Claim).await);
    Box::pin(test).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_a_bucket_comes_back_when_all_else_is_lost() -> Result<()> {
    let world = World::with_shop().await?;
    let test = world.with_namespace("store", async |elsewhere| {
        let endpoint = store(&world, elsewhere).await?;
        let left = Left::Bucket { endpoint };
        let lost = world.with_namespace("lost", async |namespace| walk(&world, namespace, &left).await);
        Box::pin(lost).await
    });
    Box::pin(test).await
}

/// An S3 server in a namespace that is not lost; its URL. No image holds it: the program of this host is copied into a pod.
async fn store(world: &World, namespace: &str) -> Result<String> {
    let program = world.environment.store_program.as_ref();
    let program = program.context("VALERIX_STORE_PROGRAM is not set; run the tests by `make e2e`, which sets it")?;
    let program = tokio::fs::read(program)
        .await
        .with_context(|| format!("failed to read {}", program.display()))?;
    // A bucket is a folder. What belongs to an object beside its bytes lies in files, as not every file system has attributes.
    let serve = format!(
        "until test -e /tmp/versitygw; do sleep 0.1; done; cd /tmp && mkdir -p objects/{BUCKET} beside && \
         exec ./versitygw --quiet --port :{PORT} posix --sidecar /tmp/beside /tmp/objects"
    );
    let labels = json!({"app.kubernetes.io/name": "store"});
    for object in [
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "store", "labels": labels},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "securityContext": {"runAsUser": 999},
                "containers": [{
                    "name": "store", "image": world.environment.images.of("postgres")?, "command": ["sh", "-c", serve],
                    "env": [
                        {"name": "ROOT_ACCESS_KEY", "value": ACCESS_KEY}, {"name": "ROOT_SECRET_KEY", "value": SECRET_KEY},
                        {"name": "HOME", "value": "/tmp"},
                    ],
                    "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                }],
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "store"},
            "spec": {"selector": labels, "ports": [{"port": PORT}]},
        }),
    ] {
        world.create(namespace, &object.to_string()).await?.text()?;
    }
    let runs = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Running")
    };
    world
        .object(namespace, "store", "Running", Duration::from_secs(60), runs)
        .await?;
    let copy = "cat > /tmp/copy && chmod +x /tmp/copy && mv /tmp/copy /tmp/versitygw";
    let arguments = ["exec", "-i", "-n", namespace, "store", "--", "sh", "-c", copy];
    kubectl::kubectl_bytes(&world.environment, &arguments, Some(&program)).await?;
    let is_ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|conditions| {
            let mut conditions = conditions.iter();
            conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
    };
    world
        .object(namespace, "store", "Ready", Duration::from_secs(60), is_ready)
        .await?;
    Ok(format!("http://store.{namespace}.svc:{PORT}"))
}

async fn walk(world: &World, namespace: &str, left: &Left) -> Result<()> {
    let lost = namespace.replace('-', "_");
    let owner = format!("owner_{lost}");
    let outcome = Box::pin(given_back(world, namespace, left, &lost, &owner)).await;
    let drop = format!("DROP DATABASE IF EXISTS {lost} WITH (FORCE)");
    let database = sql(world, "postgres", &drop).await;
    let role = sql(world, "postgres", &format!("DROP ROLE IF EXISTS {owner}")).await;
    // What was broken off leaves more behind than this; what broke it is the news.
    outcome.and(database.map(|_| ())).and(role.map(|_| ()))
}

async fn given_back(world: &World, namespace: &str, left: &Left, lost: &str, owner: &str) -> Result<()> {
    for statement in [
        format!("CREATE ROLE {owner} LOGIN PASSWORD 'forgotten' CONNECTION LIMIT 7"),
        format!("CREATE DATABASE {lost}"),
    ] {
        sql(world, "postgres", &statement).await?;
    }
    let fill = format!(
        "CREATE TABLE notes AS SELECT i AS id, md5(i::text) AS note FROM generate_series(1, 1000) i; ALTER TABLE notes OWNER TO {owner}"
    );
    sql(world, lost, &fill).await?;
    const FINGERPRINT: &str = "SELECT md5(string_agg(n::text, ',' ORDER BY id)) || (SELECT tableowner FROM pg_tables WHERE tablename = 'notes') FROM notes n";
    let before = sql(world, lost, FINGERPRINT).await?;
    left.prepare(world, namespace, lost).await?;
    let policy = json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "BackupPolicy", "metadata": {"name": "nightly"},
        "spec": {
            "databases": [{"name": lost, "connectionSecretRef": {"name": "living"}}],
            "destination": left.destination(),
        },
    });
    world.create(namespace, &policy.to_string()).await?.text()?;
    let record = backed_up(world, namespace, "nightly").await?;
    let upload = record.status.clone().unwrap_or_default().upload;
    let key = upload
        .key
        .with_context(|| format!("nothing was stored: {:?}", record.status))?;

    left.lose_the_rest(world, namespace, lost).await?;
    sql(world, "postgres", &format!("DROP DATABASE {lost} WITH (FORCE)")).await?;
    sql(world, "postgres", &format!("DROP ROLE {owner}")).await?;

    let spec = |key: &str| {
        json!({
            "source": {"archive": {"destination": left.destination(), "key": key}},
            "target": {"connectionSecretRef": {"name": "postgres-admin"}},
            // The shop's server has roles of other tests, which come and go.
            "roles": "Create",
        })
    };
    let (folder, name) = key.rsplit_once('/').context("the key has no folder")?;
    let wrong = carried_out(world, namespace, "wrong", &spec(&format!("{folder}/20010101.tar.zst"))).await?;
    let status = wrong.status.unwrap_or_default();
    let message = status.message.unwrap_or_default();
    ensure!(status.reason.as_deref() == Some("ArchiveUnavailable"), "{message}");
    ensure!(
        message.contains(name),
        "the archives that are there are named: {message}"
    );

    let restored = carried_out(world, namespace, "everything", &spec(&key)).await?;
    completed(&restored)?;
    let message = restored.status.unwrap_or_default().message.unwrap_or_default();
    ensure!(
        message.contains(owner) && message.contains("without passwords"),
        "{message}"
    );
    ensure!(
        sql(world, lost, FINGERPRINT).await? == before,
        "rows and owner are as they were"
    );
    let role = format!(
        "SELECT rolcanlogin::text || rolconnlimit || (rolpassword IS NULL) FROM pg_authid WHERE rolname = '{owner}'"
    );
    let role = sql(world, "postgres", &role).await?;
    ensure!(role == "true7true", "the role without its password: {role}");

    found_again(world, namespace, left, &policy, &record).await?;
    let looked = look(world, namespace, lost, &record.spec.slot, FINGERPRINT).await?;
    ensure!(looked == before, "rows and owner of a Restore by its record");
    Ok(())
}

/// The policy of the same name is another one: the day's slot is taken, and what lies there gets a record.
async fn found_again(world: &World, namespace: &str, left: &Left, policy: &Value, lost: &Backup) -> Result<()> {
    world.create(namespace, &policy.to_string()).await?.text()?;
    world
        .object(namespace, "nightly", "Ready", Duration::from_secs(30), policy_is_ready)
        .await?;
    backup::run_by_hand(world, namespace, "nightly", "again").await?;
    let records = world.api::<Backup>(namespace);
    let own = eventually(Duration::from_secs(120), || async {
        let found = records.list(&ListParams::default()).await.ok()?.items.into_iter();
        let mut own = found.filter(|record| record.spec.policy_ref.uid != lost.spec.policy_ref.uid);
        own.find(|record| {
            let phase = record.status.as_ref().map(|status| status.phase);
            matches!(phase, Some(BackupPhase::Completed | BackupPhase::Failed))
        })
    });
    let own = own.await.context("the run of the new policy does not end")?;
    // Around midnight the two runs are of two days.
    let status = own.status.clone().unwrap_or_default();
    let taken = status.reason.as_deref() == Some("SlotTaken");
    ensure!(taken || own.spec.slot != lost.spec.slot, "{status:?}");
    let name = format!("{}-found", lost.name_any());
    let found = eventually(Duration::from_secs(30), || async {
        let found = records.get_opt(&name).await.ok()??;
        let completed = found.status.as_ref()?.phase == BackupPhase::Completed;
        completed.then_some(found)
    });
    let found = found.await.context("the archive of the lost policy has no record")?;
    ensure!(
        found.spec.policy_ref.uid == lost.spec.policy_ref.uid,
        "{:?}",
        found.spec
    );
    let (now, then) = (
        found.status.unwrap_or_default(),
        lost.status.clone().unwrap_or_default(),
    );
    // An object is known by its labels, and not read.
    let databases = usize::from(matches!(left, Left::Claim));
    ensure!(
        (&now.upload.key, &now.upload.sha256, now.databases.len())
            == (&then.upload.key, &then.upload.sha256, databases),
        "{now:?}"
    );
    Ok(())
}

/// Restores the day by its record under another name; what `query` answers there.
async fn look(world: &World, namespace: &str, database: &str, slot: &str, query: &str) -> Result<String> {
    let looked = format!("{database}_look");
    let spec = json!({
        "source": {"policyRef": {"name": "nightly"}, "select": "Slot", "slot": slot},
        "target": {"connectionSecretRef": {"name": "postgres-admin"}},
        "databases": [{"name": database, "as": looked}],
    });
    let outcome = async {
        completed(&carried_out(world, namespace, "look", &spec).await?)?;
        sql(world, &looked, query).await
    };
    let outcome = outcome.await;
    let drop = format!("DROP DATABASE IF EXISTS {looked} WITH (FORCE)");
    let dropped = sql(world, "postgres", &drop).await;
    outcome.and_then(|seen| dropped.map(|_| seen))
}
