//! The trial restore: a stored archive, fetched as anybody would fetch it, into a server of its own, and looked at.
//!
//! In: a slot whose record is Completed. Out: `status.verification` of that record. It knows no connection of a database
//! and stores nothing: what it sees is destination, manifest and record. What could not be found out is Inconclusive, which
//! is never a pass. The rungs stand in [`Trial::climb`], from top to bottom.

mod checks;
mod server;
mod verdict;

use crate::{
    archive, client,
    client::Client,
    destination::{Destination, Site, off_thread},
    failure::Failure,
    manifest::{Encryption, Manifest, Member},
    record::Record,
    roles::Roles,
    sealing::{self, Keys},
    settings::{PolicyArguments, read_spec},
};
use chrono::{NaiveDate, Utc};
use server::Server;
use std::{
    fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;
use valerix_crds::{
    Backup, BackupPolicySpec, BackupStatus, DestinationChoice, TrialRestoreState, TrialRestoreStatus, UploadState,
    backup_runner,
};
use verdict::{Finding, Rung, Seen, status};

/// How long calls for the record are tried again.
const RECORD_PATIENCE: Duration = Duration::from_secs(120);
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
    /// Folder for the archive, its dumps and the server.
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

impl Trial {
    fn new(arguments: Arguments, spec: BackupPolicySpec, choice: DestinationChoice, backup: Backup) -> Self {
        let folder = arguments.scratch_folder.join("verify");
        Self {
            spec,
            backup,
            slot: arguments.slot,
            destination: Destination::new(Site::new(choice, &arguments.shared, arguments.slot, &folder)),
            client_folder: arguments.client_folder,
            age_folder: arguments.age_folder,
            folder,
        }
    }

    /// Every rung, lowest first.
    async fn climb(&self, seen: &mut Seen) -> Result<(), Finding> {
        let begun = Instant::now();
        let manifest = self.fetch().await?;

        let client = self.client(&manifest)?;
        let server = Server::start(&client, &self.folder.join("server")).await?;
        self.roles(&server, &manifest, seen).await?;
        for (index, member) in manifest.databases.iter().enumerate() {
            let dump = self.folder.join(&member.file);
            server
                .restore(&database(index), &dump, &member.name, member.globals.is_some())
                .await?;
            // Its room is needed by what comes after it.
            fs::remove_file(&dump).map_err(|error| scratch(Rung::Restore, &error))?;
            seen.databases += 1;
        }
        let took = begun.elapsed();
        seen.restore_seconds = Some(i64::try_from(took.as_secs()).unwrap_or(i64::MAX));

        for (index, member) in manifest.databases.iter().enumerate() {
            checks::structure(&server, &database(index), member, seen).await?;
        }
        for (index, member) in manifest.databases.iter().enumerate() {
            checks::volume(&server, &database(index), member, seen).await?;
        }
        self.semantics(&server, &manifest, seen).await?;
        for (index, member) in manifest.databases.iter().enumerate() {
            checks::integrity(&server, &database(index), member).await?;
        }
        self.time(took)
    }

    /// The roles of the archive, with everything that they had: the server is nobody else's.
    async fn roles(&self, server: &Server, manifest: &Manifest, seen: &mut Seen) -> Result<(), Finding> {
        let mut roles = Roles::default();
        seen.not_run.extend(without_roles(&manifest.databases));
        for globals in manifest.databases.iter().filter_map(|member| member.globals.as_ref()) {
            let script = fs::read(self.folder.join(&globals.file)).map_err(|error| scratch(Rung::Restore, &error))?;
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
    async fn fetch(&self) -> Result<Manifest, Finding> {
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
        let path = self.folder.join("archive.tar.zst");
        let (manifest, digest) = match self.destination.fetch(self.slot, &path).await {
            Ok(fetched) => fetched,
            Err(Failure::Archive(archive::Error::Damaged { why })) => {
                return Err(failed(format!("{} is damaged: {why}", place.key)));
            }
            Err(failure) => return Err(unknown(failure.to_string())),
        };
        if upload.sha256.as_ref() != Some(&digest.sha256) {
            return Err(failed(format!(
                "{} is not the archive that was stored: its sha256 is {}",
                place.key, digest.sha256
            )));
        }
        let (archive, folder) = (path.clone(), self.folder.clone());
        off_thread(move || archive::unpack(&archive, &folder))
            .await
            .and_then(|unpacked| unpacked.map_err(Failure::Archive))
            .map_err(|failure| unknown(failure.to_string()))?;
        fs::remove_file(&path).map_err(|error| scratch(Rung::Fetch, &error))?;
        if let Some(encryption) = manifest.encryption.clone() {
            let keys = self.keys(&encryption)?;
            let (folder, sealed) = (self.folder.clone(), manifest.clone());
            let opened = off_thread(move || open(&folder, &keys, &sealed)).await;
            opened.map_err(|failure| unknown(failure.to_string()))??;
        }
        Ok(manifest)
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

/// Puts the plain files in the place of the encrypted ones.
fn open(folder: &Path, keys: &Keys, manifest: &Manifest) -> Result<(), Finding> {
    let globals = manifest.databases.iter().filter_map(|member| member.globals.as_ref());
    let globals = globals.map(|globals| (globals.archived(), globals.plain()));
    let dumps = manifest.databases.iter();
    let dumps = dumps.map(|member| (member.archived(), member.plain()));
    for (sealed, plain) in dumps.chain(globals).filter(|(sealed, plain)| sealed != plain) {
        let path = folder.join(sealed.file);
        keys.open(&path, &folder.join(plain.file), sealed.file, plain.sha256)
            .map_err(not_opened)?;
        fs::remove_file(&path).map_err(|error| scratch(Rung::Fetch, &error))?;
    }
    Ok(())
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
    Finding::inconclusive(rung, format!("failed to use the scratch folder: {error}"))
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
