//! Everything before the fence: dump every database into the archive, check each dump on its way there, read the archive back
//! (L1-L4).
//!
//! In: what the run is about and the slot's record. Out: a verified archive on scratch, or why there is none; all or
//! nothing. Reads the databases, writes scratch and the record's progress. May happen any number of times.

use crate::{
    archive::{self, Digest, Writer},
    client::{self, Client},
    connection::{self, Connection},
    destination::{Destination, off_thread},
    discovery::Strangers,
    dump::{self, SharedWriter, Taken},
    failure::Failure,
    globals,
    manifest::{self, Globals, Manifest, Member, Owner},
    member::Form,
    plausibility,
    record::{MAX_MESSAGE, Record, database_status},
    sealing::Recipients,
    server::{self, Server},
    settings::Settings,
};
use chrono::{NaiveDate, Utc};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use valerix_crds::{
    Backup, BackupDatabaseStatus, BackupGlobals, BackupPhase, BackupStatus, ConditionalWrites, UploadState,
    backup_runner,
};

/// Level of zstd when the policy does not say.
const DEFAULT_ZSTD_LEVEL: i32 = 9;

/// Pause before what failed for a passing reason is tried again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How many archives are read, at most, to find the last one that this policy has stored.
const READ_BACK: usize = 3;

/// A verified archive on scratch.
pub(crate) struct Prepared {
    pub(crate) archive: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) databases: Vec<BackupDatabaseStatus>,
    /// What the store made of the condition not to overwrite when the last stored slot was written.
    pub(crate) conditional_writes: Option<ConditionalWrites>,
}

/// A dump and what belongs to it, in the archive and not kept yet.
struct Dumped {
    member: Member,
    taken: Taken,
    /// The script of the roles.
    script: Option<Vec<u8>>,
}

/// What the last stored slot says.
#[derive(Default)]
struct Previous {
    /// Size of each dump. Unit: bytes.
    sizes: BTreeMap<String, u64>,
    conditional_writes: Option<ConditionalWrites>,
}

/// What the steps need.
pub(crate) struct Preparation<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) record: &'a Record,
    pub(crate) destination: &'a Destination,
    pub(crate) scratch: &'a Path,
    /// Slots whose archives are not compared with.
    pub(crate) strangers: Option<&'a Strangers>,
    pub(crate) deadline: Instant,
}

impl Preparation<'_> {
    /// Everything before the fence: dump and check into the archive, read it back.
    pub(crate) async fn run(&self, record: &Backup) -> Result<Prepared, Failure> {
        let started_at = Utc::now();
        self.destination.sweep(false).await?;
        self.progress(|status| {
            *status = BackupStatus {
                phase: BackupPhase::Dumping,
                started_at: Some(started_at),
                upload: status.upload.clone(),
                found: status.found.clone(),
                open_uploads: status.open_uploads.clone(),
                ..BackupStatus::default()
            };
        })
        .await?;
        self.fresh_scratch().map_err(Failure::Scratch)?;
        let recipients = self.recipients()?;
        let connections = self.connections()?;
        let clients = client::installed(&self.settings.arguments.client_folder).map_err(Failure::Client)?;
        let servers = self.servers(&connections, &clients).await?;
        let previous = self.previous(record).await?;

        let path = self.scratch.join("archive.tar.zst");
        let modified = u64::try_from(started_at.timestamp()).unwrap_or_default();
        let writer = Writer::create(&path, modified).map_err(Failure::Archive)?;
        let archive = Arc::new(Mutex::new(writer));
        let form = Form::new(self.zstd_level(), recipients.clone());
        let mut members = Vec::new();
        for (index, (connection, server)) in connections.iter().zip(&servers).enumerate() {
            let client = client::choose(&clients, &connection.label, server.major).map_err(Failure::Client)?;
            self.progress(|status| {
                status.reason = None;
                status.message = Some(format!(
                    "dumping {} ({} of {})",
                    connection.label,
                    index + 1,
                    connections.len()
                ));
                status.databases = members.iter().map(database_status).collect();
            })
            .await?;
            let dumped = self.dump(connection, server, client, &archive, &form).await?;
            plausibility::check(
                &connection.label,
                dumped.member.tables,
                dumped.member.bytes,
                self.settings.spec.databases[index].minimum.as_ref(),
                previous.sizes.get(&connection.name).copied(),
            )
            .map_err(Failure::Implausible)?;
            let (archive, form) = (archive.clone(), form.clone());
            let kept = off_thread(move || keep(&archive, &form, dumped)).await?;
            members.push(kept.map_err(Failure::Archive)?);
        }

        let databases: Vec<_> = members.iter().map(database_status).collect();
        self.phase(BackupPhase::Archiving, &databases).await?;
        let shared = &self.settings.arguments.shared;
        let manifest = Manifest {
            format: match &recipients {
                Some(_) => manifest::ENCRYPTED_FORMAT,
                None => manifest::FORMAT,
            },
            policy: Owner {
                namespace: shared.namespace.clone(),
                name: shared.policy.clone(),
                uid: shared.policy_uid.clone(),
            },
            slot: self.settings.slot,
            run_id: shared.pod_uid.clone(),
            created_at: Utc::now(),
            runner_version: env!("CARGO_PKG_VERSION").to_owned(),
            encryption: recipients.as_ref().map(Recipients::told),
            databases: members,
        };
        let written = manifest.clone();
        let ended = off_thread(move || {
            let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
            archive.finish(&written)
        });
        ended.await?.map_err(Failure::Archive)?;

        self.phase(BackupPhase::Verifying, &databases).await?;
        let archive = path.clone();
        let (read_back, digest) = off_thread(move || archive::verify(&archive))
            .await?
            .map_err(Failure::Archive)?;
        if read_back != manifest {
            return Err(Failure::Archive(archive::Error::Damaged {
                why: "it does not read as it was written".into(),
            }));
        }
        Ok(Prepared {
            archive: path,
            digest,
            databases,
            conditional_writes: previous.conditional_writes,
        })
    }

    fn connections(&self) -> Result<Vec<Connection>, Failure> {
        let folder = &self.settings.arguments.connections_folder;
        let (connections, errors): (Vec<_>, Vec<_>) = self
            .settings
            .spec
            .databases
            .iter()
            .enumerate()
            .map(|(index, database)| connection::read(folder, index, database))
            .partition(Result::is_ok);
        let errors: Vec<_> = errors.into_iter().filter_map(Result::err).collect();
        if errors.is_empty() {
            Ok(connections.into_iter().filter_map(Result::ok).collect())
        } else {
            Err(Failure::Secrets(errors))
        }
    }

    /// Asks every server until all have answered, or one refuses, or the deadline comes.
    async fn servers(&self, connections: &[Connection], clients: &[Client]) -> Result<Vec<Server>, Failure> {
        // Any psql can ask any server; the newest knows most.
        let Some(client) = clients.last() else {
            return Err(Failure::Client(client::Error::None {
                folder: self.settings.arguments.client_folder.clone(),
            }));
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            match ask_all(connections, client).await {
                Ok(servers) => return Ok(servers),
                Err(errors) => self.wait_after(Failure::Servers(errors), attempts).await?,
            }
        }
    }

    /// One dump; what stands in its way and passes is waited for.
    async fn dump(
        &self,
        connection: &Connection,
        server: &Server,
        client: &Client,
        archive: &SharedWriter,
        form: &Form,
    ) -> Result<Dumped, Failure> {
        let file = manifest::member_file(&connection.name);
        let mut attempts = 0;
        let (started_at, begun, (taken, globals)) = loop {
            attempts += 1;
            let (started_at, begun) = (Utc::now(), Instant::now());
            let dumped = async {
                let taken = dump::dump(connection, client, archive, form, &file).await?;
                // After the dump: a role that was made meanwhile may own something in it.
                let globals = self.globals(connection, client).await?;
                Ok((taken, globals))
            };
            match dumped.await {
                Ok(dumped) => break (started_at, begun, dumped),
                Err(error) => self.wait_after(Failure::Dump(error), attempts).await?,
            }
        };
        let duration = begun.elapsed();
        let (versioned, name) = (client.clone(), connection.name.clone());
        let client_version = off_thread(move || versioned.version())
            .await?
            .map_err(Failure::Client)?;
        let (plain, contents) = (taken.written.plain.clone(), taken.contents.clone());
        tracing::info!(database = name, bytes = plain.bytes, tables = contents.tables, "dumped");
        let (script, globals) = globals.unzip();
        let member = Member {
            name,
            file,
            sha256: plain.sha256,
            bytes: plain.bytes,
            tables: contents.tables,
            rows: contents.rows,
            sealed: taken.written.sealed.clone(),
            globals,
            server_version: server.version.clone(),
            client_version,
            started_at,
            duration_milliseconds: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Dumped { member, taken, script })
    }

    /// For whom the members are encrypted, where the policy says so.
    fn recipients(&self) -> Result<Option<Recipients>, Failure> {
        let encryption = self.settings.spec.encryption.as_ref();
        let read = encryption.map(|encryption| Recipients::read(&encryption.age_recipients));
        read.transpose().map_err(Failure::Encryption)
    }

    fn zstd_level(&self) -> i32 {
        let compression = self.settings.spec.compression.as_ref();
        let level = compression.and_then(|compression| compression.zstd_level);
        level.unwrap_or(DEFAULT_ZSTD_LEVEL)
    }

    /// The roles of the server, where the policy asks for them.
    async fn globals(
        &self,
        connection: &Connection,
        client: &Client,
    ) -> Result<Option<(Vec<u8>, Globals)>, dump::Error> {
        match self.settings.spec.globals.unwrap_or_default() {
            BackupGlobals::None => Ok(None),
            BackupGlobals::WithoutPasswords => globals::dump(connection, client).await.map(Some),
        }
    }

    /// Waits before what failed for a passing reason is tried again, and says on the record what is waited for. Hands the
    /// failure back if it does not pass by itself, or if the deadline leaves no time.
    pub(crate) async fn wait_after(&self, failure: Failure, attempts: u32) -> Result<(), Failure> {
        let pause = pause(attempts);
        if !failure.is_passing() || Instant::now() + pause >= self.deadline {
            return Err(failure);
        }
        tracing::warn!(
            reason = failure.category(),
            attempts,
            seconds = pause.as_secs(),
            "{failure}; trying again"
        );
        let message = format!("tried {attempts} times, trying again until job.deadline: {failure}");
        self.progress(|status| {
            status.reason = Some(failure.category().to_owned());
            status.message = Some(message.chars().take(MAX_MESSAGE).collect());
        })
        .await?;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// What the last slot that this policy has stored says: its record, else its archive. Neither readable: no comparison.
    async fn previous(&self, record: &Backup) -> Result<Previous, Failure> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.last_stored(record).await {
                Err(failure) => self.wait_after(failure, attempts).await?,
                found => return found,
            }
        }
    }

    async fn last_stored(&self, record: &Backup) -> Result<Previous, Failure> {
        let owner = &record.spec.policy_ref.uid;
        let mut read = 0;
        for slot in self.destination.slots().await?.into_iter().rev() {
            let stranger =
                |strangers: &Strangers| strangers.foreign.contains(&slot) || strangers.silent.contains_key(&slot);
            if slot >= self.settings.slot || self.strangers.is_some_and(stranger) {
                continue;
            }
            let name = backup_runner::record_name(&self.settings.arguments.shared.policy, slot);
            match self.record.named(&name).find().await {
                Ok(Some(found)) if found.spec.policy_ref.uid == *owner => {
                    if let Some(previous) = self.said_by(slot, found.status.unwrap_or_default()) {
                        return Ok(previous);
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "failed to read the last stored slot's record"),
            }
            if read == READ_BACK {
                break;
            }
            read += 1;
            match self.destination.manifest(slot).await {
                Ok(manifest) if manifest.policy.uid == *owner => {
                    return Ok(Previous {
                        sizes: manifest
                            .databases
                            .into_iter()
                            .map(|member| (member.name, member.bytes))
                            .collect(),
                        conditional_writes: None,
                    });
                }
                // What another policy had in its databases says nothing about these.
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, %slot, "a stored archive cannot be read: sizes are not compared with it");
                }
            }
        }
        Ok(Previous::default())
    }

    /// What the record of a stored slot says.
    fn said_by(&self, slot: NaiveDate, status: BackupStatus) -> Option<Previous> {
        if status.phase != BackupPhase::Completed || status.databases.is_empty() {
            return None;
        }
        let here = self.destination.place(slot).is_of(&status.upload);
        let sizes = status.databases.into_iter();
        Some(Previous {
            sizes: sizes
                .map(|database| (database.name, u64::try_from(database.bytes).unwrap_or_default()))
                .collect(),
            conditional_writes: status.upload.conditional_writes.filter(|_| here),
        })
    }

    async fn phase(&self, phase: BackupPhase, databases: &[BackupDatabaseStatus]) -> Result<(), Failure> {
        self.progress(|status| {
            status.phase = phase;
            (status.reason, status.message) = (None, None);
            status.databases = databases.to_vec();
        })
        .await
    }

    /// Writes progress, never over a slot that somebody else stores or has stored meanwhile.
    async fn progress(&self, change: impl Fn(&mut BackupStatus)) -> Result<(), Failure> {
        self.record
            .update(|status| {
                if status.upload.state != UploadState::None {
                    return None;
                }
                let mut next = status.clone();
                change(&mut next);
                Some(next)
            })
            .await
            .map(|_| ())
            .map_err(Failure::Record)
    }

    fn fresh_scratch(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // What programs write here with their own mode is for nobody else either.
        DirBuilder::new().mode(0o700).create(self.scratch)
    }
}

/// Makes a dump that is believed a member of the archive, and its script the next one.
fn keep(archive: &SharedWriter, form: &Form, dumped: Dumped) -> Result<Member, archive::Error> {
    let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
    let mut member = dumped.member;
    archive.keep(&dumped.taken.written.appended)?;
    if let (Some(globals), Some(script)) = (&mut member.globals, dumped.script) {
        let mut body = form.begin(&mut archive, &globals.file)?;
        body.write_all(&script).map_err(|source| archive::Error::Io {
            action: format!("write {}", globals.file),
            source,
        })?;
        let written = body.finish()?;
        archive.keep(&written.appended)?;
        globals.sealed = written.sealed;
    }
    Ok(member)
}

/// Asks every server at once: several that cannot be reached cost no more time than one, and all are named.
async fn ask_all(connections: &[Connection], client: &Client) -> Result<Vec<Server>, Vec<server::Error>> {
    let answers = futures::future::join_all(connections.iter().map(|connection| server::ask(connection, client))).await;
    let (servers, errors): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    let errors: Vec<_> = errors.into_iter().filter_map(Result::err).collect();
    if errors.is_empty() {
        Ok(servers.into_iter().filter_map(Result::ok).collect())
    } else {
        Err(errors)
    }
}

/// The pause after this many failed attempts.
fn pause(attempts: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)))
        .min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute() {
        let seconds = [1, 2, 3, 5, 6, 1_000_000].map(|attempts| pause(attempts).as_secs());
        assert_eq!(seconds, [2, 4, 8, 32, 60, 60]);
    }
}
