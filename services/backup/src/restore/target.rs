//! The target's server: reaching it, what it holds, ending sessions there, dropping what this Restore has made.
//!
//! In: the mounted Secrets. Out: sessions of both roles and the server's databases.

use super::{failure::Failure, settings::Settings};
use crate::{
    client::{self, Client},
    connection::{self, Connection},
    sql::{self, Session, name, text},
};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path, time::Duration};
use tokio::time::Instant;
use valerix_crds::{
    BackupDatabase, SecretReference,
    restore_runner::{ADMIN_MOUNT, CONNECTION_MOUNT, dropped_name, pod_mark},
};

/// Where a role connects when its Secret names no database.
const MAINTENANCE: &str = "postgres";
/// Pause before a server that is away is asked again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// SQLSTATE of [`unless_they_are`]'s cast.
const ANOTHER_ONE: &str = "22P02";
/// SQLSTATE of a database that is not there.
const NO_DATABASE: &str = "3D000";
/// How long counting, making and dropping may take, as long as the whole run has time.
pub(crate) const LONG: Duration = Duration::from_secs(6 * 60 * 60);

/// The server that gets the databases.
pub(crate) struct Target {
    pub(super) clients: Vec<Client>,
    pub(super) server_major: u32,
    /// The role that restores.
    pub(crate) role: Session,
    /// Who makes, renames and drops databases: the admin, or the role itself.
    pub(crate) admin: Session,
    /// UID of the Restore.
    restore_uid: String,
    /// Mark of this pod.
    pub(super) mark: String,
}

/// One database of the server.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) oid: i64,
    pub(crate) open: bool,
    pub(super) template: bool,
}

impl Target {
    /// Reads the Secrets, awaits the server and asks who we are there.
    pub(crate) async fn connect(settings: &Settings, deadline: Instant) -> Result<Self, Failure> {
        let arguments = &settings.arguments;
        let clients = client::installed(&arguments.client_folder).map_err(Failure::Client)?;
        let Some(newest) = clients.last().cloned() else {
            return Err(Failure::Client(client::Error::None {
                folder: arguments.client_folder.clone(),
            }));
        };
        let target = &settings.spec.target;
        let mounted = |index, field: &str, secret| read_secret(&arguments.connections_folder, index, field, secret);
        let role = mounted(
            CONNECTION_MOUNT,
            "target.connectionSecretRef",
            &target.connection_secret_ref,
        );
        let admin = target
            .admin_secret_ref
            .as_ref()
            .map(|secret| mounted(ADMIN_MOUNT, "target.adminSecretRef", secret))
            .transpose();
        let (role, admin) = match (role, admin) {
            (Ok(role), Ok(admin)) => (role, admin),
            (role, admin) => {
                return Err(Failure::Secrets(
                    [role.err(), admin.err()].into_iter().flatten().collect(),
                ));
            }
        };
        let mark = pod_mark(&arguments.pod_uid);
        let own = application(&arguments.restore_uid, &mark);
        let session = |connection: &Connection| Session::new(&newest, connection, &own);
        let role = session(&role);
        let admin = admin.as_ref().map_or_else(|| role.clone(), session);
        let version = awaited(&admin, deadline).await?;
        let target = Self {
            clients,
            server_major: version / 10_000,
            role,
            admin,
            restore_uid: arguments.restore_uid.clone(),
            mark,
        };
        target.is_one_server().await?;
        Ok(target)
    }

    /// Both Secrets must speak of the same server, or a database would be made on the one and filled on the other.
    async fn is_one_server(&self) -> Result<(), Failure> {
        const STARTED: &str = "SELECT to_json(pg_postmaster_start_time()::text || current_setting('port'))";
        if self.role.secret() == self.admin.secret() {
            return Ok(());
        }
        let by_admin: String = self.admin.ask("ask when the server was started", STARTED).await?;
        let by_role: String = self
            .role
            .on(self.admin.database())
            .ask("ask when the server was started", STARTED)
            .await?;
        if by_admin == by_role {
            return Ok(());
        }
        Err(Failure::Refused(format!(
            "target: secrets {} and {} speak of two servers; both must have the host and port of the one that gets the databases",
            self.role.secret(),
            self.admin.secret()
        )))
    }

    /// Every database of the server, by name.
    pub(crate) async fn databases(&self) -> Result<BTreeMap<String, Found>, sql::Error> {
        let found: Vec<Found> = self
            .admin
            .ask(
                "list the databases",
                "SELECT json_agg(json_build_object('name', datname, 'oid', oid::bigint, 'open', datallowconn, 'template', datistemplate)) FROM pg_database",
            )
            .await?;
        Ok(found.into_iter().map(|found| (found.name.clone(), found)).collect())
    }

    /// Ends what the pod with this mark has left at work on the server, and sees it gone.
    pub(crate) async fn end_sessions_of_pod(&self, mark: &str) -> Result<(), sql::Error> {
        let own = format!(
            "FROM pg_stat_activity WHERE application_name = {} AND pid <> pg_backend_pid()",
            text(&self.application(mark))
        );
        self.until_none(&own).await
    }

    /// What the sessions of the pod with this mark call themselves; without one, how those of all pods of the Restore begin.
    pub(super) fn application(&self, mark: &str) -> String {
        application(&self.restore_uid, mark)
    }

    /// Ends the sessions of the database with this OID, and sees them gone: another one may have got its name meanwhile, with
    /// sessions that are nobody's to end. Autovacuum is nobody's session: only a superuser may end it, and what renames or
    /// drops a database does so itself.
    pub(crate) async fn end_sessions_of(&self, oid: i64) -> Result<(), sql::Error> {
        // Of another role's session an ordinary one sees no backend_type, but whether it is a role's.
        self.until_none(&format!(
            "FROM pg_stat_activity WHERE datid = {oid} AND usesysid IS NOT NULL"
        ))
        .await
    }

    async fn until_none(&self, selection: &str) -> Result<(), sql::Error> {
        const ATTEMPTS: u32 = 60;
        for _ in 0..ATTEMPTS {
            let left: u64 = self
                .admin
                .ask(
                    "end sessions",
                    &format!("SELECT to_json(count(pg_terminate_backend(pid))) {selection}"),
                )
                .await?;
            if left == 0 {
                return Ok(());
            }
            tokio::time::sleep(FIRST_PAUSE / 4).await;
        }
        Err(sql::Error::Statement {
            action: "end sessions".into(),
            why: "some were still there after a while: a session of a superuser ends for a superuser only".into(),
            code: None,
        })
    }

    /// Drops the database with this OID, which had this name when it was looked at, under a name that no other one can
    /// have: a statement that is sent late would find whatever has the name by then. One that is gone is as good.
    pub(crate) async fn drop(&self, database: &str, oid: i64) -> Result<(), sql::Error> {
        let dropped = dropped_name(database, oid);
        self.end_sessions_of(oid).await?;
        let away = format!(
            "{}; {}",
            rename(database, &dropped),
            unless_they_are(&[(&dropped, oid)])
        );
        let action = format!("rename the database {database}, to drop it");
        match self.admin.execute(&action, &away).await {
            Err(error) if error.is(NO_DATABASE) || error.is(ANOTHER_ONE) => {
                tracing::info!(database, oid, "it has not that name any more");
            }
            answer => {
                answer?;
            }
        }
        self.drop_for_good(&dropped).await
    }

    /// The same of one that an earlier pod has renamed already: the name that it had may be another one's by now.
    pub(crate) async fn drop_renamed(&self, database: &str, oid: i64) -> Result<(), sql::Error> {
        self.end_sessions_of(oid).await?;
        self.drop_for_good(&dropped_name(database, oid)).await
    }

    async fn drop_for_good(&self, dropped: &str) -> Result<(), sql::Error> {
        self.admin
            .execute_within(
                &format!("drop the database {dropped}"),
                &format!("DROP DATABASE IF EXISTS {}", name(dropped)),
                LONG,
            )
            .await
            .map(|_| ())
    }
}

/// What the sessions of one pod of a Restore call themselves; the server keeps 63 bytes of it.
fn application(restore_uid: &str, mark: &str) -> String {
    format!("valerix-restore-{restore_uid}-{mark}")
}

pub(super) fn rename(from: &str, to: &str) -> String {
    format!("ALTER DATABASE {} RENAME TO {}", name(from), name(to))
}

/// Takes back its transaction unless each of these names is that of this OID by now: a statement knows a database by its
/// name alone, and somebody may have given that to another one since it was looked at.
pub(super) fn unless_they_are(names: &[(&str, i64)]) -> String {
    let pairs: Vec<_> = names
        .iter()
        .map(|(database, oid)| format!("({}, {oid})", text(database)))
        .collect();
    // A cast that fails is the one way to fail that every server has, whatever languages its databases know.
    format!(
        "SELECT CASE count(*) WHEN {} THEN 'true' ELSE 'another database has one of these names' END::boolean \
         FROM pg_database WHERE (datname::text, oid::bigint) IN ({})",
        names.len(),
        pairs.join(", ")
    )
}

/// Reads a Secret from its mount, as that of a policy's database is read.
fn read_secret(
    folder: &Path,
    index: usize,
    field: &str,
    secret: &SecretReference,
) -> Result<Connection, connection::Error> {
    let database = BackupDatabase {
        name: MAINTENANCE.to_owned(),
        connection_secret_ref: secret.clone(),
        minimum: None,
    };
    connection::read_as(folder, index, &database, field.to_owned())
}

/// Asks for the server's version until it answers, or refuses, or the deadline comes.
async fn awaited(session: &Session, deadline: Instant) -> Result<u32, Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        let asked = session.ask("ask for the version", "SELECT current_setting('server_version_num')");
        match asked.await {
            Err(error @ sql::Error::Unreachable { .. }) if Instant::now() + pause < deadline => {
                tracing::warn!(%error, seconds = pause.as_secs(), "trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            answer => return Ok(answer?),
        }
    }
}
