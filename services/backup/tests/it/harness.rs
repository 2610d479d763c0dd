//! One slot of one policy: fresh databases, fresh folders, a record, and pods that run the real binary.

use crate::{api::Api, room::Room};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    str::FromStr,
    time::Duration,
};
use tokio::process::{Child, Command};
pub use valerix_crds::restore_runner::quoted;

/// 2026-08-21T00:00:00Z in minutes since the epoch.
pub const MINUTES: i64 = 29_787_840;
pub const RECORD: &str = "nightly-20260821";
pub const POLICY_UID: &str = "policy-uid";
/// No test waits longer than this for one run.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Harness {
    pub api: Api,
    pub folder: tempfile::TempDir,
    pub spec: Value,
    pub policy_uid: String,
    pub minutes: i64,
    kubeconfig: PathBuf,
    pub client_folder: String,
    /// Variables beside those that the operator writes.
    pub variables: Vec<(&'static str, String)>,
    pub server: PgConnectOptions,
    /// Where its pods find less room than elsewhere.
    pub room: Option<Room>,
}

pub struct Ended {
    pub code: Option<i32>,
    pub log: String,
}

impl Harness {
    /// A policy over the given databases (name in the policy, name on the server).
    pub async fn new(databases: &[(&str, &str)]) -> Self {
        let url =
            std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL must name a PostgreSQL server for tests");
        let server = PgConnectOptions::from_str(&url).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let api = Api::default();
        let address = api.serve().await;
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: t\nclusters: [{{name: t, cluster: {{server: '{address}'}}}}]\ncontexts: [{{name: t, context: {{cluster: t, user: t, namespace: shop}}}}]\nusers: [{{name: t, user: {{}}}}]\n"
        )).unwrap();
        let spec = json!({
            "schedule": {"timeOfDay": "00:00", "timeZone": "Etc/UTC"},
            "databases": databases.iter().map(|(name, _)| json!({"name": name, "connectionSecretRef": {"name": format!("{name}-db")}})).collect::<Vec<_>>(),
            "compression": {"zstdLevel": 3},
            "destination": {"volumeClaim": {"claimName": "backups", "path": "pg"}},
        });
        let harness = Self {
            api,
            spec,
            policy_uid: POLICY_UID.into(),
            minutes: MINUTES,
            kubeconfig,
            client_folder: "/usr/lib/postgresql".into(),
            variables: Vec::new(),
            server,
            folder,
            room: None,
        };
        for (index, (_, database)) in databases.iter().enumerate() {
            harness.secret(index, "host", harness.server.get_host());
            harness.secret(index, "port", &harness.server.get_port().to_string());
            harness.secret(index, "dbname", database);
            harness.secret(index, "username", harness.server.get_username());
            harness.secret(index, "password", &password());
        }
        harness.put_record(RECORD, "2026-08-21");
        harness
    }

    pub fn put_record(&self, name: &str, slot: &str) {
        self.api.put(json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Backup",
            "metadata": {"name": name, "namespace": "shop", "uid": format!("{name}-uid")},
            "spec": {"policyRef": {"name": "nightly", "uid": self.policy_uid}, "slot": slot, "scheduledAt": format!("{slot}T00:00:00Z")},
            "status": {"phase": "Scheduled", "upload": {"state": "None"}},
        }));
    }

    pub fn secret(&self, index: usize, key: &str, value: &str) {
        let folder = self.folder.path().join("connections").join(index.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(key), value).unwrap();
    }

    /// Where a Secret of the bucket is mounted.
    pub fn s3_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join("s3").join(name)
    }

    pub fn s3_secret(&self, name: &str, key: &str, value: &str) {
        fs::create_dir_all(self.s3_folder(name)).unwrap();
        fs::write(self.s3_folder(name).join(key), value).unwrap();
    }

    /// Scratch of a pod.
    pub fn scratch(&self, uid: &str) -> PathBuf {
        self.folder.path().join("scratch").join(uid)
    }

    pub fn destination(&self) -> PathBuf {
        self.folder.path().join("destination")
    }

    pub fn archive(&self) -> PathBuf {
        self.destination().join("pg/shop/nightly/20260821.tar.zst")
    }

    /// Everything on the volume that is a file.
    pub fn stored(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.destination().join("pg/shop/nightly")) else {
            return Vec::new();
        };
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Starts a pod: the binary with the environment that the operator writes.
    pub fn pod(&self, uid: &str) -> Child {
        let scratch = self.scratch(uid);
        fs::create_dir_all(&scratch).unwrap();
        fs::create_dir_all(self.destination()).unwrap();
        let log = fs::File::create(self.log(uid)).unwrap();
        let mut command = self.program();
        self.environment(&mut command, uid, &scratch);
        command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// The binary, where this harness's pods run.
    pub fn program(&self) -> Command {
        let binary = env!("CARGO_BIN_EXE_backup");
        self.room
            .as_ref()
            .map_or_else(|| Command::new(binary), |room| room.program(binary, None))
    }

    /// The environment that the operator writes.
    pub fn environment(&self, command: &mut Command, uid: &str, scratch: &Path) {
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("KUBECONFIG", &self.kubeconfig)
            .env("VALERIX_BACKUP_POLICY", "nightly")
            .env("VALERIX_BACKUP_POLICY_UID", &self.policy_uid)
            .env("VALERIX_BACKUP_SPEC", self.spec.to_string())
            .env("VALERIX_NAMESPACE", "shop")
            .env("VALERIX_POD_UID", uid)
            .env("VALERIX_JOB_NAME", format!("nightly-{}", self.minutes))
            .env(
                "VALERIX_BACKUP_CONNECTIONS_FOLDER",
                self.folder.path().join("connections"),
            )
            .env("VALERIX_BACKUP_SCRATCH_FOLDER", scratch)
            .env("VALERIX_BACKUP_DESTINATION_FOLDER", self.destination())
            .env("VALERIX_BACKUP_CLIENT_FOLDER", &self.client_folder)
            .env("VALERIX_BACKUP_AGE_FOLDER", self.folder.path().join("age"))
            .env("VALERIX_BACKUP_SETTLE_SECONDS", "1")
            .env("VALERIX_BACKUP_S3_REQUEST_SECONDS", "2")
            .env("VALERIX_BACKUP_S3_CREDENTIALS_FOLDER", self.s3_folder("credentials"))
            .env("VALERIX_BACKUP_S3_AUTHORITY_FOLDER", self.s3_folder("authority"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    pub fn log(&self, uid: &str) -> PathBuf {
        self.folder.path().join(format!("{uid}.log"))
    }

    /// Waits for a pod to end.
    pub async fn ended(&self, mut pod: Child, uid: &str) -> Ended {
        let status = tokio::time::timeout(PATIENCE, pod.wait())
            .await
            .expect("the run ends in time")
            .unwrap();
        Ended {
            code: status.code(),
            log: fs::read_to_string(self.log(uid)).unwrap(),
        }
    }

    /// Runs a pod to its end.
    pub async fn run(&self, uid: &str) -> Ended {
        self.ended(self.pod(uid), uid).await
    }

    /// Waits for two pods, both of which end well.
    pub async fn both_end_well(&self, one: (Child, &str), other: (Child, &str)) -> (Ended, Ended) {
        let (one, other) = tokio::join!(self.ended(one.0, one.1), self.ended(other.0, other.1));
        assert_eq!((one.code, other.code), (Some(0), Some(0)), "{}\n{}", one.log, other.log);
        (one, other)
    }

    pub fn record(&self) -> Value {
        self.api.record(RECORD)
    }

    pub fn message(&self) -> String {
        self.record()["status"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Record and volume tell the same story: one archive with the record's sha256, or none and no Completed.
    pub fn assert_agreement(&self) {
        self.assert_agreement_of(&["20260821.tar.zst"]);
    }

    /// The same, with archives of earlier days.
    pub fn assert_agreement_of(&self, archives: &[&str]) {
        let record = self.record();
        let status = &record["status"];
        let completed = status["phase"] == "Completed";
        assert_eq!(completed, status["upload"]["state"] == "Completed", "{status}");
        assert_eq!(completed, self.archive().exists(), "{status}");
        if completed {
            assert_eq!(status["upload"]["sha256"], sha256(&self.archive()), "{status}");
            assert_eq!(status["upload"]["bytes"], fs::metadata(self.archive()).unwrap().len());
            assert_eq!(self.stored(), archives);
        }
    }

    /// Nothing is stored and the record says why in a message that contains all of `texts`.
    pub fn assert_failed(&self, ended: &Ended, code: i32, reason: &str, texts: &[&str]) {
        assert_eq!(ended.code, Some(code), "{}", ended.log);
        let record = self.record();
        assert_eq!(record["status"]["phase"], "Failed", "{record}");
        assert_eq!(record["status"]["reason"], reason, "{record}");
        for text in texts {
            assert!(self.message().contains(text), "`{text}` in `{}`", self.message());
        }
        assert_eq!(self.stored(), Vec::<String>::new());
        assert_eq!(record["status"]["upload"]["state"], "None", "{record}");
    }

    pub async fn connect(&self, database: &str) -> PgConnection {
        PgConnection::connect_with(&self.server.clone().database(database))
            .await
            .unwrap()
    }
}

/// The superuser's password; any will do where the server trusts everybody.
pub fn password() -> String {
    std::env::var("TEST_DATABASE_PASSWORD").unwrap_or_else(|_| "any".into())
}

pub fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).unwrap()))
}

/// A database of its own for this test.
pub struct Database {
    pub name: String,
    admin: PgConnectOptions,
}

impl Database {
    /// Creates it and runs `statements` in it.
    pub async fn new(name: &str, statements: &str) -> Self {
        Self::with(name, "", statements).await
    }

    /// The same, with options of `CREATE DATABASE`.
    pub async fn with(name: &str, options: &str, statements: &str) -> Self {
        let url =
            std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL must name a PostgreSQL server for tests");
        let admin = PgConnectOptions::from_str(&url).unwrap();
        let name = format!("{name}_{}", uuid::Uuid::new_v4().simple());
        let database = Self { name, admin };
        database
            .administer(&format!("CREATE DATABASE {} {options}", quoted(&database.name)))
            .await;
        let mut session = PgConnection::connect_with(&database.options()).await.unwrap();
        session.execute(AssertSqlSafe(statements.to_owned())).await.unwrap();
        session.close().await.unwrap();
        database
    }

    /// How to reach it.
    pub fn options(&self) -> PgConnectOptions {
        self.admin.clone().database(&self.name)
    }

    async fn administer(&self, statement: &str) {
        let mut session = PgConnection::connect_with(&self.admin).await.unwrap();
        session.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
        session.close().await.unwrap();
    }

    pub async fn drop(self) {
        self.administer(&format!("DROP DATABASE {} WITH (FORCE)", quoted(&self.name)))
            .await;
    }
}

pub const SMALL: &str = "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 500) i;";
