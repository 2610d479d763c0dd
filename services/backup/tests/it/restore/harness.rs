//! A stored archive, a server with databases to replace, a Restore, and pods that carry it out with the real binary.

use crate::harness::{Database, Ended, Harness, RECORD, SMALL, password, quoted};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::{collections::BTreeMap, fs, path::PathBuf, process::Stdio};
use tokio::process::Child;

pub const RESTORE: &str = "back";

/// An archive of some databases, and one Restore of it.
pub struct Restoring {
    pub harness: Harness,
    pub spec: Value,
    pub source: Value,
    /// Ends the names of this test's databases.
    pub mark: String,
}

impl Restoring {
    /// A living database of 500 rows, backed up as `orders`, and a Restore that replaces it.
    pub async fn of_living() -> (Database, Self) {
        let living = Database::new("living", SMALL).await;
        let mut restoring = Self::of(&[("orders", &living)]).await;
        restoring.replacing("orders", &living.name);
        (living, restoring)
    }

    /// Backs the databases up. The Restore is of all of them; see [`Restoring::make_new`] and [`Restoring::replacing`].
    pub async fn of(databases: &[(&str, &Database)]) -> Self {
        let named: Vec<_> = databases
            .iter()
            .map(|(name, database)| (*name, database.name.as_str()))
            .collect();
        Self::from(Harness::new(&named).await).await
    }

    /// The same with a policy that stores where it likes to.
    pub async fn from(harness: Harness) -> Self {
        let ended = harness.run("backup-pod").await;
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        Self::stored(harness)
    }

    /// The same of what is stored already.
    pub fn stored(harness: Harness) -> Self {
        let upload = harness.api.record(RECORD)["status"]["upload"].clone();
        let source = json!({
            "destination": harness.spec["destination"],
            "key": upload["key"], "sha256": upload["sha256"], "slot": "2026-08-21", "policyUid": "policy-uid",
        });
        let restoring = Self {
            spec: json!({}),
            source,
            mark: uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
            harness,
        };
        for index in 0..2 {
            let server = &restoring.harness.server;
            restoring.secret(index, "host", server.get_host());
            restoring.secret(index, "port", &server.get_port().to_string());
            restoring.secret(index, "username", server.get_username());
            restoring.secret(index, "password", &password());
        }
        restoring
    }

    pub fn secret(&self, index: usize, key: &str, value: &str) {
        let folder = self.connections().join(index.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(key), value).unwrap();
    }

    fn connections(&self) -> PathBuf {
        self.harness.folder.path().join("restore-connections")
    }

    /// Under these names, given as (name in the archive, name on the server).
    pub fn make_new(&mut self, databases: &[(&str, &str)]) {
        self.spec = json!({
            "source": {"policyRef": {"name": "nightly"}},
            "target": {"connectionSecretRef": {"name": "target"}},
            "databases": databases.iter().map(|(name, target)| json!({"name": name, "as": target})).collect::<Vec<_>>(),
        });
        self.put();
    }

    /// In the place of `living`.
    pub fn replacing(&mut self, name: &str, living: &str) {
        self.spec = json!({
            "source": {"policyRef": {"name": "nightly"}},
            "target": {"connectionSecretRef": {"name": "target"}, "adminSecretRef": {"name": "admin"}},
            "databases": [{"name": name, "as": living}],
            "mode": "ReplaceDatabase",
            "replace": {"confirm": living},
        });
        self.put();
    }

    /// A Restore that nobody has begun.
    pub fn put(&self) {
        self.harness.api.put(json!({
            "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "Restore",
            "metadata": {"name": RESTORE, "namespace": "shop", "uid": self.uid()},
            "spec": self.spec,
            "status": {"observedGeneration": 1, "phase": "Pending", "source": {"key": self.source["key"]}},
        }));
    }

    pub fn pod(&self, uid: &str, arguments: &[&str]) -> Child {
        let scratch = self.harness.scratch(uid);
        fs::create_dir_all(&scratch).unwrap();
        let log = fs::File::create(self.harness.log(uid)).unwrap();
        let mut command = self.harness.program();
        self.harness.environment(&mut command, uid, &scratch);
        command
            .arg("restore")
            .args(arguments)
            .env("VALERIX_BACKUP_CONNECTIONS_FOLDER", self.connections())
            .env("VALERIX_RESTORE", RESTORE)
            .env("VALERIX_RESTORE_UID", self.uid())
            .env("VALERIX_RESTORE_SPEC", self.spec.to_string())
            .env("VALERIX_RESTORE_SOURCE", self.source.to_string())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    pub async fn run(&self, uid: &str) -> Ended {
        self.harness.ended(self.pod(uid, &[]), uid).await
    }

    pub fn status(&self) -> Value {
        self.harness.api.record(RESTORE)["status"].clone()
    }

    /// The name under which the first database is restored.
    pub fn staged(&self) -> String {
        self.status()["databases"][0]["staged"].as_str().unwrap().to_owned()
    }

    pub fn message(&self) -> String {
        self.status()["message"].as_str().unwrap_or_default().to_owned()
    }

    pub fn assert_completed(&self, ended: &Ended) {
        assert_eq!(ended.code, Some(0), "{}\n{}", self.status(), ended.log);
        assert_eq!(self.status()["phase"], "Completed", "{}", self.status());
    }

    /// It failed for this reason, with a message that contains all of `texts`.
    pub fn assert_failed(&self, ended: &Ended, reason: &str, texts: &[&str]) {
        let status = self.status();
        assert_eq!(status["phase"], "Failed", "{status}\n{}", ended.log);
        assert_eq!(status["reason"], reason, "{status}");
        assert!(ended.code.is_some_and(|code| code >= 20), "{:?}", ended.code);
        for text in texts {
            assert!(self.message().contains(text), "`{text}` in `{}`", self.message());
        }
    }

    /// UID of the Restore: by it a pod knows the sessions of its predecessor, so that no two tests may share one.
    pub fn uid(&self) -> String {
        format!("restore-{}", self.mark)
    }

    /// A name of this test alone.
    pub fn named(&self, name: &str) -> String {
        format!("{name}_{}", self.mark)
    }

    pub async fn admin(&self) -> PgConnection {
        PgConnection::connect_with(&self.harness.server).await.unwrap()
    }

    pub async fn execute(&self, database: &str, statement: &str) {
        let mut session = self.harness.connect(database).await;
        session.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
        session.close().await.unwrap();
    }

    /// One text of one query.
    pub async fn text(&self, database: &str, query: &str) -> String {
        let mut session = self.harness.connect(database).await;
        let text: Option<String> = sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut session)
            .await
            .unwrap();
        session.close().await.unwrap();
        text.unwrap_or_default()
    }

    /// Databases whose name holds `part`, and whether they accept connections.
    pub async fn databases(&self, part: &str) -> BTreeMap<String, bool> {
        let mut session = self.admin().await;
        let rows: Vec<(String, bool)> =
            sqlx::query_as("SELECT datname::text, datallowconn FROM pg_database WHERE strpos(datname, $1) > 0")
                .bind(part)
                .fetch_all(&mut session)
                .await
                .unwrap();
        rows.into_iter().collect()
    }

    /// Removes every database whose name holds `part`.
    pub async fn drop_databases(&self, part: &str) {
        for name in self.databases(part).await.into_keys() {
            let mut session = self.admin().await;
            session
                .execute(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", quoted(&name))))
                .await
                .unwrap();
        }
    }
}
