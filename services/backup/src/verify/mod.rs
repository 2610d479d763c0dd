//! The trial restore: a stored archive, read as anybody would read it, into a server of its own, and looked at. The archive is
//! read twice where it lies, to see whether it is whole and to restore it: what is on scratch is the server alone.
//!
//! In: a slot whose record is Completed. Out: `status.verification` of that record. It knows no connection of a database
//! and stores nothing: what it sees is destination, manifest and record. What could not be found out is Inconclusive, which
//! is never a pass. The rungs stand in [`Trial::climb`], from top to bottom.

mod checks;
mod server;
mod stream;
mod verdict;

use crate::{
    archive::{self, Digest},
    client,
    client::Client,
    destination::{Destination, Site, off_thread},
    failure::{Failure, chain},
    manifest::{Encryption, Globals, Manifest, Member, globals_file},
    member::SEALED,
    record::Record,
    roles::Roles,
    scratch::remedy,
    sealing::{self, Keys},
    settings::{PolicyArguments, read_spec},
};
use chrono::{NaiveDate, Utc};
use server::Server;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use stream::Stream;
use tokio::time::Instant;
use valerix_crds::{
    Backup, BackupPolicySpec, BackupStatus, DestinationChoice, TrialRestoreState, TrialRestoreStatus, UploadState,
    backup_runner,
};
use verdict::{Finding, Rung, Seen, status};

/// How long calls for the record are tried again.
const RECORD_PATIENCE: Duration = Duration::from_secs(120);
/// A script of roles larger than this is not tried.
const MAX_SCRIPT: u64 = 16 << 20;
/// What is kept of the deadline for writing the record.
const DEADLINE_MARGIN: Duration = Duration::from_secs(60);

/// The environment of the pod, as the operator writes it.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "backup verify", version, about = "Restores one stored archive on trial.")]
pub struct Arguments {
    /// Whose pod this is, and where the archives are.
    #[command(flatten)]
    pub shared: PolicyArguments,
    /// The slot, `yyyy-mm-dd`.
    #[arg(long, env = backup_runner::SLOT_ENV)]
    pub slot: NaiveDate,
    /// Folder for the server.
    #[arg(long, env = "VALERIX_BACKUP_SCRATCH_FOLDER", default_value = backup_runner::SCRATCH_FOLDER)]
    pub scratch_folder: PathBuf,
    /// Folder with the Secret that opens an encrypted archive.
    #[arg(long, env = "VALERIX_BACKUP_AGE_FOLDER", default_value = backup_runner::AGE_FOLDER)]
    pub age_folder: PathBuf,
    /// Folder with one folder per PostgreSQL major version, each with `bin/initdb`, `bin/postgres` and the clients.
    #[arg(long, env = "VALERIX_BACKUP_CLIENT_FOLDER", default_value = "/usr/lib/postgresql")]
    pub client_folder: PathBuf,
}

/// Restores on trial and says on the record what was found. `stop` resolves when the pod is asked to end.
///
/// # Errors
/// If there is nothing to say it of, or the record could not be written.
pub async fn verify(
    arguments: Arguments,
    client: kube::Client,
    stop: impl Future<Output = ()>,
) -> Result<TrialRestoreState, Failure> {
    let (spec, choice, deadline) = read_spec(&arguments.shared.spec).map_err(Failure::Settings)?;
    let name = backup_runner::record_name(&arguments.shared.policy, arguments.slot);
    let record = Record::new(client, &arguments.shared.namespace, &name, RECORD_PATIENCE);
    let backup = record.read().await.map_err(Failure::Record)?;
    let uid = &backup.spec.policy_ref.uid;
    if *uid != arguments.shared.policy_uid {
        return Err(Failure::RecordTaken {
            name,
            owner: uid.clone(),
            policy: arguments.shared.policy_uid,
        });
    }
    let trial = Trial::new(arguments, spec, choice, backup);
    put(&record, &TrialRestoreStatus::default()).await?;
    let mut seen = Seen::default();
    let end = tokio::select! {
        biased;
        () = stop => {
            trial.tidy();
            return Err(Failure::Interrupted);
        }
        () = tokio::time::sleep(deadline.saturating_sub(DEADLINE_MARGIN.min(deadline / 10))) => {
            Err(Finding::inconclusive(Rung::Time, "the deadline passed (job.deadline)".into()))
        }
        end = Box::pin(trial.climb(&mut seen)) => end,
    };
    trial.tidy();
    let found = status(&seen, end, Utc::now());
    tracing::info!(state = ?found.state, rung = found.rung, message = found.message, "verified");
    put(&record, &found).await?;
    Ok(found.state)
}

async fn put(record: &Record, found: &TrialRestoreStatus) -> Result<(), Failure> {
    let written = record.update(|status| {
        (status.upload.state == UploadState::Completed).then(|| BackupStatus {
            verified: match found.state {
                TrialRestoreState::Restored => Some("Restored".into()),
                TrialRestoreState::Failed => Some("Failed".into()),
                TrialRestoreState::Running | TrialRestoreState::Inconclusive => status.verified.clone(),
            },
            verification: Some(found.clone()),
            ..status.clone()
        })
    });
    written.await.map(|_| ()).map_err(Failure::Record)
}

struct Trial {
    spec: BackupPolicySpec,
    backup: Backup,
    slot: NaiveDate,
    destination: Destination,
    client_folder: PathBuf,
    age_folder: PathBuf,
    folder: PathBuf,
}

/// An archive that was read to its end and is the one that was stored.
struct Fetched {
    manifest: Manifest,
    digest: Digest,
    /// Members with roles, as they are in the archive.
    scripts: BTreeMap<String, Vec<u8>>,
    /// What opens it, where it is encrypted.
    keys: Option<Arc<Keys>>,
}

impl Fetched {
    /// The script of a database's roles.
    fn script(&self, globals: &Globals) -> Result<Vec<u8>, Finding> {
        let file = globals.archived().file;
        let script = self.scripts.get(file).cloned().unwrap_or_default();
        let plain = match self.keys.as_ref().filter(|_| globals.sealed.is_some()) {
            None => script,
            Some(keys) => {
                let mut plain = Vec::new();
                let mut unsealed = keys.unseal(&*script, file).map_err(not_opened)?.take(MAX_SCRIPT);
                let read = unsealed.read_to_end(&mut plain);
                read.map_err(|error| Finding::failed(Rung::Fetch, format!("{file} cannot be decrypted: {error}")))?;
                plain
            }
        };
        if hex::encode(Sha256::digest(&plain)) != globals.sha256 {
            let why = format!("{} does not have the sha256 of its manifest", globals.file);
            return Err(Finding::failed(Rung::Fetch, why));
        }
        Ok(plain)
    }
}

impl Trial {
    fn new(arguments: Arguments, spec: BackupPolicySpec, choice: DestinationChoice, backup: Backup) -> Self {
        let folder = arguments.scratch_folder.join("verify");
        Self {
            spec,
            backup,
            slot: arguments.slot,
            destination: Destination::new(Site::new(choice, &arguments.shared, arguments.slot)),
            client_folder: arguments.client_folder,
            age_folder: arguments.age_folder,
            folder,
        }
    }

    /// Every rung, lowest first.
    async fn climb(&self, seen: &mut Seen) -> Result<(), Finding> {
        let begun = Instant::now();
        let fetched = self.fetch().await?;
        let manifest = &fetched.manifest;

        let client = self.client(manifest)?;
        let server = Server::start(&client, &self.folder.join("server")).await?;
        self.roles(&server, &fetched, seen).await?;
        self.restore(&server, &fetched, seen).await?;
        let took = begun.elapsed();
        seen.restore_seconds = Some(i64::try_from(took.as_secs()).unwrap_or(i64::MAX));

        for (index, member) in manifest.databases.iter().enumerate() {
            checks::structure(&server, &database(index), member, seen).await?;
        }
        for (index, member) in manifest.databases.iter().enumerate() {
            checks::volume(&server, &database(index), member, seen).await?;
        }
        self.semantics(&server, manifest, seen).await?;
        for (index, member) in manifest.databases.iter().enumerate() {
            checks::integrity(&server, &database(index), member).await?;
        }
        self.time(took)
    }

    /// Restores every dump as it is read. What was restored, or was not, counts only where the archive is still the same.
    async fn restore(&self, server: &Server, fetched: &Fetched, seen: &mut Seen) -> Result<(), Finding> {
        let unknown = |why: String| Finding::inconclusive(Rung::Restore, why);
        let archive = self.destination.open(self.slot).await;
        let archive = archive.map_err(|failure| unknown(failure.to_string()))?;
        let mut stream = Stream::of(archive, &fetched.manifest, fetched.keys.clone());
        let mut restored = Ok(());
        while let Some(index) = stream.dump().await {
            let Some(member) = fetched.manifest.databases.get(index) else {
                continue;
            };
            let (name, has_roles) = (database(index), member.globals.is_some());
            restored = server.restore(&name, &mut stream, &member.name, has_roles).await;
            if restored.is_err() {
                break;
            }
            seen.databases += 1;
        }
        match stream.end().await {
            Ok(whole) if whole.digest == fetched.digest => match whole.fault {
                Some(why) => Err(Finding::failed(Rung::Fetch, why)),
                None => restored,
            },
            Ok(_) => Err(unknown("the archive changed while it was restored".into())),
            Err(error) => Err(unknown(chain(&error))),
        }
    }

    /// The roles of the archive, with everything that they had: the server is nobody else's.
    async fn roles(&self, server: &Server, fetched: &Fetched, seen: &mut Seen) -> Result<(), Finding> {
        let databases = &fetched.manifest.databases;
        let mut roles = Roles::default();
        seen.not_run.extend(without_roles(databases));
        for globals in databases.iter().filter_map(|member| member.globals.as_ref()) {
            let script = fetched.script(globals)?;
            let found = Roles::read(&String::from_utf8_lossy(&script))
                .map_err(|why| Finding::failed(Rung::Restore, format!("{}: {why}", globals.file)))?;
            roles.merge(found);
        }
        let refused = server.create_roles(roles).await?;
        if refused > 0 {
            seen.not_run.push(format!(
                "{refused} settings or memberships of roles: this server refuses them"
            ));
        }
        Ok(())
    }

    /// The archive as it lies there, against its own manifest and against the record.
    async fn fetch(&self) -> Result<Fetched, Finding> {
        self.fresh_scratch().map_err(|error| scratch(Rung::Fetch, &error))?;
        let failed = |why: String| Finding::failed(Rung::Fetch, why);
        let unknown = |why: String| Finding::inconclusive(Rung::Fetch, why);
        let upload = self.backup.status.clone().unwrap_or_default().upload;
        let place = self.destination.place(self.slot);
        if upload.state != UploadState::Completed {
            return Err(unknown("the record does not say that an archive is stored".into()));
        }
        if !place.is_of(&upload) {
            return Err(unknown(
                "the archive lies where spec.destination does not point to any more".into(),
            ));
        }
        let held = self.destination.holds(self.slot).await;
        if !held.map_err(|failure| unknown(failure.to_string()))? {
            return Err(failed(format!("nothing lies under {}", place.key)));
        }
        let archive = self.destination.open(self.slot).await;
        let archive = archive.map_err(|failure| unknown(failure.to_string()))?;
        let scanned = off_thread(move || {
            let mut scripts = BTreeMap::new();
            let scanned = archive::scan(archive, &mut |name, reader| {
                if is_script(name) {
                    let mut script = Vec::new();
                    let read = reader.take(MAX_SCRIPT + 1).read_to_end(&mut script);
                    read.map_err(|error| archive::Error::Damaged {
                        why: format!("{name}: {error}"),
                    })?;
                    if script.len() as u64 > MAX_SCRIPT {
                        return Err(archive::Error::Io {
                            action: format!("hold {name}"),
                            source: io::Error::other("it has more than 16 MiB"),
                        });
                    }
                    scripts.insert(name.to_owned(), script);
                }
                Ok(())
            });
            scanned.map(|(manifest, digest)| (manifest, digest, scripts))
        });
        let scanned = scanned.await.map_err(|failure| unknown(failure.to_string()))?;
        let (manifest, digest, scripts) = scanned.map_err(|error| match error {
            archive::Error::Damaged { why } => failed(format!("{} is damaged: {why}", place.key)),
            error => unknown(chain(&error)),
        })?;
        if upload.sha256.as_ref() != Some(&digest.sha256) {
            return Err(failed(format!(
                "{} is not the archive that was stored: its sha256 is {}",
                place.key, digest.sha256
            )));
        }
        let keys = manifest.encryption.as_ref().map(|encryption| self.keys(encryption));
        Ok(Fetched {
            keys: keys.transpose()?.map(Arc::new),
            manifest,
            digest,
            scripts,
        })
    }

    /// What opens the archive. Without a key nothing was found out; with one of others, the archive cannot be restored with what
    /// this policy has.
    fn keys(&self, encryption: &Encryption) -> Result<Keys, Finding> {
        let own = self.spec.encryption.as_ref();
        let reference = own.and_then(|own| own.identity_secret_ref.as_ref());
        let keys = Keys::read(&self.age_folder, "spec.encryption.identitySecretRef", reference)
            .map_err(|error| Finding::inconclusive(Rung::Fetch, format!("the archive is encrypted: {error}")))?;
        keys.check(encryption).map_err(not_opened)?;
        Ok(keys)
    }

    /// The oldest server that reads what the archive's clients have written.
    fn client(&self, manifest: &Manifest) -> Result<Client, Finding> {
        let major = |version: &str| version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        let needed = manifest
            .databases
            .iter()
            .filter_map(|member| major(&member.client_version))
            .max()
            .unwrap_or_default();
        let unknown = |why: String| Finding::inconclusive(Rung::Restore, why);
        let installed = client::installed(&self.client_folder).map_err(|error| unknown(error.to_string()))?;
        installed
            .into_iter()
            .find(|client| client.major >= needed && client.program("initdb").exists())
            .ok_or_else(|| {
                unknown(format!(
                    "the image holds no PostgreSQL {needed} server: use an image of the runner that does"
                ))
            })
    }

    async fn semantics(&self, server: &Server, manifest: &Manifest, seen: &mut Seen) -> Result<(), Finding> {
        let verification = self.spec.verification.clone().unwrap_or_default();
        if verification.queries.is_empty() {
            seen.not_run.push("Semantics: verification.queries is empty".into());
        }
        for query in &verification.queries {
            let place = manifest
                .databases
                .iter()
                .position(|member| member.name == query.database);
            let Some(index) = place else {
                return Err(Finding::failed(
                    Rung::Semantics,
                    format!(
                        "verification.queries {}: the archive holds no database {}",
                        query.name, query.database
                    ),
                ));
            };
            checks::semantics(server, &database(index), query).await?;
        }
        Ok(())
    }

    fn time(&self, took: Duration) -> Result<(), Finding> {
        let budget = self
            .spec
            .verification
            .as_ref()
            .and_then(|verification| verification.budget.as_ref());
        let Some(budget) = budget.and_then(|budget| budget.value().ok()) else {
            return Ok(());
        };
        if took <= budget {
            return Ok(());
        }
        Err(Finding::failed(
            Rung::Time,
            format!(
                "fetching and restoring took {} s, verification.budget is {} s",
                took.as_secs(),
                budget.as_secs()
            ),
        ))
    }

    fn fresh_scratch(&self) -> io::Result<()> {
        remove(&self.folder)?;
        fs::create_dir_all(&self.folder)
    }

    fn tidy(&self) {
        if let Err(error) = remove(&self.folder) {
            tracing::warn!(%error, "failed to tidy the scratch folder");
        }
    }
}

/// Of whose owners and grants nothing was found out, in one line: a record holds few, and an archive many databases.
fn without_roles(members: &[Member]) -> Option<String> {
    let mut lacking = members.iter().filter(|member| member.globals.is_none());
    let first = lacking.next()?;
    Some(match lacking.count() {
        0 => format!("owners and grants of {}: its archive holds no roles", first.name),
        more => format!(
            "owners and grants of {} and {more} more databases: their archive holds no roles",
            first.name
        ),
    })
}

fn not_opened(error: sealing::Error) -> Finding {
    match error {
        sealing::Error::Io { .. } => Finding::inconclusive(Rung::Fetch, error.to_string()),
        sealing::Error::Key(why) | sealing::Error::Damaged(why) => Finding::failed(Rung::Fetch, why),
    }
}

fn is_script(member: &str) -> bool {
    member
        .strip_suffix(SEALED)
        .unwrap_or(member)
        .ends_with(&globals_file(""))
}

/// Name of a database on the throwaway server: those of the archive may be any text.
fn database(index: usize) -> String {
    format!("database_{index}")
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn scratch(rung: Rung, error: &io::Error) -> Finding {
    let helps = remedy(error, "scratch.sizeLimit must hold what is restored");
    Finding::inconclusive(rung, format!("failed to use the scratch folder: {error}{helps}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: String) -> Member {
        Member {
            file: format!("{name}.dump"),
            name,
            sha256: String::new(),
            bytes: 0,
            tables: 0,
            rows: Default::default(),
            sealed: None,
            globals: None,
            server_version: "15.1".into(),
            client_version: "15.1".into(),
            started_at: Utc::now(),
            duration_milliseconds: 0,
        }
    }

    #[test]
    fn many_databases_without_roles_are_one_line() {
        let members: Vec<_> = (0..17).map(|index| member(format!("orders-{index}"))).collect();
        assert_eq!(
            without_roles(&members).as_deref(),
            Some("owners and grants of orders-0 and 16 more databases: their archive holds no roles")
        );
        assert_eq!(
            without_roles(&members[..1]).as_deref(),
            Some("owners and grants of orders-0: its archive holds no roles")
        );
        assert_eq!(without_roles(&[]), None);
    }
}
