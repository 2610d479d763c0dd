//! The target's server: what it holds, whether the plan can be carried out on it, and restoring into databases of their own.
//!
//! In: the mounted Secrets and the archive's dumps. Out: databases under staged names that hold what the manifest says.
//! Writes nothing but those databases.

use super::{
    contents::{self, Contents},
    failure::Failure,
    settings::Settings,
    sql::{self, Session, name, text},
};
use crate::{
    client::{self, Client},
    connection::{self, Connection},
    libpq,
    manifest::{Manifest, Member},
};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path, time::Duration};
use tokio::time::Instant;
use valerix_crds::{
    BackupDatabase, RestoreMode, SecretReference,
    restore_runner::{ADMIN_MOUNT, CONNECTION_MOUNT},
};

/// Where a role connects when its Secret names no database.
const MAINTENANCE: &str = "postgres";
/// Pause before a server that is away is asked again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long counting and making a database may take, as long as the whole run has time.
const LONG: Duration = Duration::from_secs(6 * 60 * 60);
/// Tables that are counted by one statement.
const COUNTED_AT_ONCE: usize = 100;

/// The server that gets the databases.
pub(crate) struct Target {
    clients: Vec<Client>,
    server_major: u32,
    /// The role that restores.
    pub(crate) role: Session,
    /// Who makes, renames and drops databases: the admin, or the role itself.
    pub(crate) admin: Session,
}

/// One database of the server.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) oid: i64,
    pub(crate) open: bool,
    template: bool,
}

/// What the admin may do.
#[derive(Debug, Deserialize)]
struct Rights {
    superuser: bool,
    creates: bool,
    signals: bool,
}

/// A database as it is to be restored.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) member: Member,
    /// Its name on the server in the end.
    pub(crate) target: String,
    /// Its name until then.
    pub(crate) staged: String,
    /// The name that a replaced one gets, and its OID.
    pub(crate) previous: Option<(String, i64)>,
}

/// What restoring one database came to.
pub(crate) struct Restored {
    pub(crate) oid: i64,
    pub(crate) tables: u64,
    pub(crate) note: Option<String>,
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
        let session = |connection: &Connection| Session::new(&newest, connection, &arguments.restore_uid);
        let role = session(&role);
        let admin = admin.as_ref().map_or_else(|| role.clone(), session);
        let version = awaited(&admin, deadline).await?;
        let target = Self {
            clients,
            server_major: version / 10_000,
            role,
            admin,
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

    /// Ends what an earlier pod of this Restore has left at work on the server, and sees it gone.
    pub(crate) async fn end_own_sessions(&self) -> Result<(), sql::Error> {
        let own = format!(
            "FROM pg_stat_activity WHERE application_name = {} AND pid <> pg_backend_pid()",
            text(self.admin.application())
        );
        self.until_none(&own).await
    }

    /// Ends the sessions of a database, and sees them gone.
    pub(crate) async fn end_sessions_of(&self, database: &str) -> Result<(), sql::Error> {
        self.until_none(&format!("FROM pg_stat_activity WHERE datname = {}", text(database)))
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
        })
    }

    /// Holds the plan against the server: what exists, what hinders a swap, what the roles may do.
    pub(crate) async fn check(&self, settings: &Settings, items: &mut [Item]) -> Result<(), Failure> {
        let databases = self.databases().await?;
        let replaces = settings.spec.mode == RestoreMode::ReplaceDatabase;
        for item in items.iter_mut() {
            let living = databases.get(&item.target);
            match (replaces, living) {
                (false, None) => {}
                (false, Some(_)) => {
                    return Err(Failure::Refused(format!(
                        "the server has a database {} already: name another one in databases[].as, or use mode ReplaceDatabase",
                        item.target
                    )));
                }
                (true, None) => {
                    return Err(Failure::Refused(format!(
                        "there is no database {} to be replaced: use mode NewDatabase",
                        item.target
                    )));
                }
                (true, Some(living)) => {
                    let previous = valerix_crds::restore_runner::previous_name(&item.target, slot_of(&item.staged));
                    if databases.contains_key(&previous) {
                        return Err(Failure::Refused(format!(
                            "the server has a database {previous} already, under which the old {} would be kept: rename or drop it",
                            item.target
                        )));
                    }
                    self.check_replaceable(living).await?;
                    item.previous = Some((previous, living.oid));
                }
            }
            if databases.contains_key(&item.staged) {
                return Err(Failure::Refused(format!(
                    "the server has a database {} already, which is the name to restore under: rename or drop it",
                    item.staged
                )));
            }
        }
        self.check_rights(replaces).await
    }

    async fn check_rights(&self, replaces: bool) -> Result<(), Failure> {
        let rights: Rights = self
            .admin
            .ask(
                "ask what the role may do",
                "SELECT json_build_object('superuser', rolsuper, 'creates', rolsuper OR rolcreatedb, 'signals', rolsuper OR pg_has_role(oid, 'pg_signal_backend', 'MEMBER')) FROM pg_roles WHERE rolname = current_user",
            )
            .await?;
        let secret = self.admin.secret();
        if !rights.creates {
            return Err(Failure::Refused(format!(
                "the role of secret {secret} may not create databases: grant it CREATEDB, or name a role that may in target.adminSecretRef"
            )));
        }
        if replaces && !rights.signals && !rights.superuser {
            return Err(Failure::Refused(format!(
                "the role of secret {secret} may not end the sessions of others: grant it pg_signal_backend"
            )));
        }
        Ok(())
    }

    /// What would be lost with the old database, or would not let it go.
    pub(crate) async fn check_replaceable(&self, living: &Found) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Bound {
            subscriptions: u64,
            slots: u64,
            prepared: u64,
            owned: bool,
        }
        let database = text(&living.name);
        let refused = |why: &str| Err(Failure::Refused(format!("{} is not replaced: {why}", living.name)));
        if living.template || !living.open {
            return refused("it is a template, or accepts no connections: ALTER DATABASE ... ALLOW_CONNECTIONS true");
        }
        if self.admin.database() == living.name {
            return refused(
                "the runner would work in it: write another database under key dbname of target.adminSecretRef's Secret, for example postgres",
            );
        }
        let bound: Bound = self
            .admin
            .ask(
                "ask what the database is bound to",
                &format!(
                    "SELECT json_build_object(\
                     'subscriptions', (SELECT count(*) FROM pg_subscription WHERE subdbid = {oid}), \
                     'slots', (SELECT count(*) FROM pg_replication_slots WHERE database = {database}), \
                     'prepared', (SELECT count(*) FROM pg_prepared_xacts WHERE database = {database}), \
                     'owned', (SELECT pg_has_role(datdba, 'MEMBER') FROM pg_database WHERE oid = {oid}))",
                    oid = living.oid
                ),
            )
            .await?;
        if bound.subscriptions > 0 {
            return refused("it has subscriptions, which would go on in the old one: drop them first");
        }
        if bound.slots > 0 {
            return refused("it has replication slots, whose readers would follow the old one: drop them first");
        }
        if bound.prepared > 0 {
            return refused("it has prepared transactions: COMMIT PREPARED or ROLLBACK PREPARED them first");
        }
        if !bound.owned {
            return refused("the role of target.adminSecretRef may not act for its owner: grant it that role");
        }
        Ok(())
    }

    /// Restores one dump under its staged name and compares it with the manifest.
    pub(crate) async fn restore(&self, item: &Item, dump: &Path) -> Result<Restored, Failure> {
        let major = item
            .member
            .client_version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .unwrap_or_default();
        let client =
            client::choose(&self.clients, &item.member.name, self.server_major.max(major)).map_err(Failure::Client)?;
        let contents = contents_of(client, &item.member.name, dump).await?;
        let missing = self.missing_roles(&contents).await?;
        let keeps_owners = missing.is_empty();
        let owner = contents.owner.as_deref().filter(|_| keeps_owners);
        self.create(item, &contents, owner.unwrap_or(self.role.role())).await?;

        let filler = if keeps_owners { &self.admin } else { &self.role };
        let filler = filler.with_client(client).on(&item.staged);
        self.fill(&filler, item, dump, keeps_owners).await?;
        let tables = self.compare(&filler, item).await?;
        if let Err(error) = filler
            .execute_within("analyze the restored tables", "ANALYZE", LONG)
            .await
        {
            // Slower until autovacuum has been there, and otherwise whole.
            tracing::warn!(database = item.target, %error, "the restored tables are without statistics");
        }
        let databases = self.databases().await?;
        let oid = databases.get(&item.staged).map(|found| found.oid);
        Ok(Restored {
            oid: oid.ok_or_else(|| Failure::Restore {
                name: item.member.name.clone(),
                why: format!("{} is gone: somebody dropped or renamed it", item.staged),
            })?,
            tables,
            note: (!keeps_owners).then(|| {
                let missing: Vec<_> = missing.iter().take(8).map(String::as_str).collect();
                format!(
                    "without owners and grants, everything belongs to the role of secret {}: the server lacks, or the runner may not act for, {}",
                    self.role.secret(),
                    missing.join(", ")
                )
            }),
        })
    }

    /// Roles of the dump that are not there, or that the admin may not act for.
    async fn missing_roles(&self, contents: &Contents) -> Result<Vec<String>, Failure> {
        let roles: Vec<_> = contents.roles.iter().map(|role| text(role)).collect();
        if roles.is_empty() {
            return Ok(Vec::new());
        }
        let query = format!(
            "SELECT coalesce(json_agg(wanted), '[]') FROM unnest(ARRAY[{}]::text[]) wanted \
             WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted AND pg_has_role(oid, 'MEMBER'))",
            roles.join(", ")
        );
        Ok(self.admin.ask("look for the roles of the dump", &query).await?)
    }

    async fn create(&self, item: &Item, contents: &Contents, owner: &str) -> Result<(), Failure> {
        let statement = format!(
            "CREATE DATABASE {} TEMPLATE template0 OWNER {} {}",
            name(&item.staged),
            name(owner),
            contents.options
        );
        let action = format!("create the database {}", item.staged);
        self.admin.execute_within(&action, &statement, LONG).await?;
        Ok(())
    }

    async fn fill(&self, filler: &Session, item: &Item, dump: &Path, keeps_owners: bool) -> Result<(), Failure> {
        let mut command = filler.program("pg_restore");
        // A subscription would begin to copy.
        command.args(["--exit-on-error", "--no-subscriptions"]);
        if !keeps_owners {
            command.args(["--no-owner", "--no-privileges"]);
        }
        command.arg(dump);
        let failed = |why: String| Failure::Restore {
            name: item.member.name.clone(),
            why,
        };
        let output = libpq::output(command)
            .await
            .map_err(|error| failed(format!("pg_restore could not be run: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let mut why = libpq::shortened(&filler.complaint(&output.stderr));
        if why.contains("role") && why.contains("does not exist") {
            why.push_str(": create the role on the target first");
        } else if why.contains("extension") && (why.contains("is not available") || why.contains("control file")) {
            why.push_str(": install the extension on the target first");
        } else if why.contains("permission denied") {
            why.push_str(": name a superuser in target.adminSecretRef");
        }
        Err(failed(format!("pg_restore ended with {}: {why}", output.status)))
    }

    /// Tables and their rows, as the server counts them, against those of the manifest. Returns the number of tables.
    async fn compare(&self, filler: &Session, item: &Item) -> Result<u64, Failure> {
        let different = |why: String| Failure::Different {
            name: item.member.name.clone(),
            why,
        };
        let wanted: Vec<_> = item.member.rows.iter().collect();
        for tables in wanted.chunks(COUNTED_AT_ONCE) {
            // A name of the manifest is a text that the server reads as a name, and never part of a statement.
            let list: Vec<_> = tables.iter().map(|(table, _)| text(table)).collect();
            let found: Vec<Option<String>> = filler
                .ask(
                    "look for the restored tables",
                    &format!(
                        "SELECT json_agg(to_regclass(wanted)::text ORDER BY place) FROM unnest(ARRAY[{}]::text[]) WITH ORDINALITY AS list (wanted, place)",
                        list.join(", ")
                    ),
                )
                .await?;
            let mut counts = Vec::new();
            for ((table, _), found) in tables.iter().zip(&found) {
                let found = found
                    .as_ref()
                    .ok_or_else(|| different(format!("there is no table {table}")))?;
                counts.push(format!("(SELECT count(*) FROM ONLY {found})"));
            }
            let statement = format!("SET row_security = off; SELECT json_build_array({})", counts.join(", "));
            let answer = filler
                .execute_within("count the restored rows", &statement, LONG)
                .await?;
            let rows: Vec<u64> = serde_json::from_str(&answer)
                .map_err(|error| different(format!("the rows could not be counted: {error}")))?;
            for ((table, wanted), found) in tables.iter().zip(rows) {
                if **wanted != found {
                    return Err(different(format!("{table} has {found} rows and not {wanted}")));
                }
            }
        }
        let tables = wanted.len() as u64;
        if tables != item.member.tables {
            return Err(different(format!(
                "{tables} tables were compared and its list has {}",
                item.member.tables
            )));
        }
        Ok(tables)
    }

    /// Drops a database of this run. One that is gone is as good.
    pub(crate) async fn drop(&self, database: &str) -> Result<(), sql::Error> {
        self.end_sessions_of(database).await?;
        self.admin
            .execute_within(
                &format!("drop the database {database}"),
                &format!("DROP DATABASE IF EXISTS {}", name(database)),
                LONG,
            )
            .await
            .map(|_| ())
    }
}

/// Which databases of the archive are restored, and under which names.
///
/// # Errors
/// If the archive lacks one, or two would get one name.
pub(crate) fn plan(settings: &Settings, manifest: &Manifest) -> Result<Vec<Item>, Failure> {
    let slot = manifest.slot.to_string();
    let item = |member: &Member, target: &str| Item {
        member: member.clone(),
        target: target.to_owned(),
        staged: valerix_crds::restore_runner::staged_name(target, &slot),
        previous: None,
    };
    let asked = &settings.spec.databases;
    let items: Vec<Item> = if asked.is_empty() {
        manifest
            .databases
            .iter()
            .map(|member| item(member, &member.name))
            .collect()
    } else {
        let found = asked.iter().map(|database| {
            let member = manifest.databases.iter().find(|member| member.name == database.name);
            member.map(|member| item(member, database.target())).ok_or_else(|| {
                let held: Vec<_> = manifest.databases.iter().map(|member| member.name.as_str()).collect();
                Failure::Refused(format!(
                    "databases: the archive holds no {}, but {}",
                    database.name,
                    held.join(", ")
                ))
            })
        });
        found.collect::<Result<_, _>>()?
    };
    for (index, item) in items.iter().enumerate() {
        let earlier = &items[..index];
        if earlier
            .iter()
            .any(|other| other.target == item.target || other.staged == item.staged)
        {
            return Err(Failure::Refused(format!(
                "databases: two of them would be called {}: name another one in databases[].as",
                item.target
            )));
        }
    }
    Ok(items)
}

/// The day in a staged name: its last eight characters.
fn slot_of(staged: &str) -> &str {
    staged.get(staged.len().saturating_sub(8)..).unwrap_or_default()
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

async fn contents_of(client: &Client, database: &str, dump: &Path) -> Result<Contents, Failure> {
    let mut command = libpq::command(client, "pg_restore");
    command.args(["--create", "--schema-only", "--file=-"]).arg(dump);
    let failed = |why: String| Failure::Restore {
        name: database.to_owned(),
        why,
    };
    let output = libpq::output(command)
        .await
        .map_err(|error| failed(format!("pg_restore could not be run: {error}")))?;
    if output.status.success() {
        Ok(contents::read(&String::from_utf8_lossy(&output.stdout)))
    } else {
        Err(failed(libpq::shortened(&libpq::line(&output.stderr))))
    }
}
