//! One run, from the record to the stored archive. Every side effect of the runner is named here.
//!
//! ```text
//! await the record -> [ read record, look at the key, decide ] until the slot is used or the run has failed
//!     Store    -> prepare (dump, archive, verify) -> copy next to the key -> pass the record's fence
//!     Write    -> link(2)
//!     Complete -> say so on the record, remove what killed pods left
//!     Settle   -> wait for the pod that holds the fence, then withdraw its unfinished file
//!     Release  -> give the fence of a pod that can store no more back
//! ```
//! Everything before the fence may happen any number of times; what comes after it happens once, because
//! [`crate::decision`] says so. Until the fence is passed SIGTERM and the deadline end the run; afterwards nothing does.

use crate::{
    archive::Digest,
    decision::{Action, Mine, Withdrawal, decide},
    failure::Failure,
    manifest::Manifest,
    prepare::{Preparation, Prepared, database_status},
    record::{Fence, Record},
    settings::Settings,
    volume::{Linked, Volume},
};
use chrono::Utc;
use std::{fs, future::Future, io, path::PathBuf, pin::Pin, sync::Arc, time::Duration};
use tokio::time::Instant;
use valerix_crds::{Backup, BackupPhase, Upload, UploadState, backup_runner::human_size};

/// Kept of the deadline for writing the record, so that the Job's own deadline does not come first.
const DEADLINE_MARGIN: Duration = Duration::from_secs(20);
/// How long calls for the record are tried again.
const RECORD_PATIENCE: Duration = Duration::from_secs(60);
/// How long the result of a finished write is tried to be put on the record.
const COMPLETION_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How long the reason of a stop is tried to be put on the record, within the pod's grace period.
const INTERRUPTED_PATIENCE: Duration = Duration::from_secs(5);
/// How often the destination is read before it counts as unreadable, and the write tried before it counts as failed.
const ATTEMPTS: u32 = 3;
/// Pause between two such attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(2);
/// Pause between two looks at a record that another pod holds.
const SETTLE_PAUSE: Duration = Duration::from_millis(500);
/// The longest message that the record takes. Unit: characters.
const MAX_MESSAGE: usize = 1024;

/// How a run ended well.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This run's or an interrupted run's archive is stored and the record says so.
    Stored,
    /// The slot was used already; nothing was changed.
    AlreadyStored,
}

/// Runs one slot. `stop` resolves when the pod is asked to end.
///
/// # Errors
/// Why nothing was stored; the record already says it.
pub async fn run(
    settings: Arc<Settings>,
    client: kube::Client,
    stop: impl Future<Output = ()>,
) -> Result<Outcome, Failure> {
    let run = Run::new(settings, client);
    let mut stop = std::pin::pin!(stop);
    let result = run.slot(stop.as_mut()).await;
    run.tidy_scratch();
    if let Err(failure) = &result {
        tracing::error!(
            reason = failure.category(),
            exit_code = failure.exit_code(),
            "{failure}"
        );
        run.report(failure).await;
    }
    result
}

struct Run {
    settings: Arc<Settings>,
    client: kube::Client,
    record: Record,
    volume: Arc<Volume>,
    scratch: PathBuf,
    deadline: Instant,
}

impl Run {
    fn new(settings: Arc<Settings>, client: kube::Client) -> Self {
        let arguments = &settings.arguments;
        let volume = Volume::new(
            &arguments.destination_folder,
            settings.destination.path.as_deref(),
            &arguments.namespace,
            &arguments.policy,
            settings.slot,
            &arguments.pod_uid,
        );
        let margin = DEADLINE_MARGIN.min(settings.deadline / 10);
        Self {
            record: Record::new(
                client.clone(),
                &arguments.namespace,
                &settings.record_name,
                RECORD_PATIENCE,
            ),
            volume: Arc::new(volume),
            scratch: arguments.scratch_folder.join("run"),
            deadline: Instant::now() + settings.deadline - margin,
            client,
            settings,
        }
    }

    /// The loop of the module's documentation.
    async fn slot(&self, mut stop: Pin<&mut impl Future<Output = ()>>) -> Result<Outcome, Failure> {
        let first = self
            .interruptible(stop.as_mut(), async {
                self.record.awaited(self.deadline).await.map_err(Failure::Record)
            })
            .await?;
        self.own(&first)?;
        let mut prepared: Option<Prepared> = None;
        let mut staged = false;
        let mut fenced = false;
        let mut withdrawn: Option<String> = None;
        let mut given_up = None;
        let (mut unreadable, mut writes) = (0, 0);
        loop {
            let record = self.record.read().await.map_err(Failure::Record)?;
            self.own(&record)?;
            let status = record.status.clone().unwrap_or_default();
            let upload = &status.upload;
            let stored = self.blocking({
                let settings = self.settings.clone();
                move |volume| volume.look(&|manifest| is_ours(&settings, manifest))
            });
            let stored = stored.await?;
            let mine = prepared.as_ref().filter(|_| fenced).map(|prepared| Mine {
                pod_uid: &self.settings.arguments.pod_uid,
                sha256: &prepared.digest.sha256,
            });
            let withdrawal = match &withdrawn {
                Some(holder) if upload.pod_uid.as_ref() == Some(holder) => Withdrawal::Done,
                _ => Withdrawal::NotTried,
            };
            let action = decide(upload, mine, &stored, withdrawal);
            tracing::info!(upload = ?upload.state, holder = upload.pod_uid, ?stored, ?action, "decided");
            match action {
                Action::Finished => {
                    self.blocking(|volume| volume.sweep(true)).await?;
                    return Ok(if writes > 0 {
                        Outcome::Stored
                    } else {
                        Outcome::AlreadyStored
                    });
                }
                Action::Release { from } => {
                    self.record.release(&from).await.map_err(Failure::Record)?;
                    if let Some(error) = given_up.take() {
                        return Err(Failure::Volume(error));
                    }
                }
                Action::Store => {
                    let ready = match prepared.take() {
                        Some(ready) => ready,
                        None => {
                            self.interruptible(stop.as_mut(), self.preparation().run(&record))
                                .await?
                        }
                    };
                    if !staged {
                        let (archive, digest) = (ready.archive.clone(), ready.digest.clone());
                        let stage = self.blocking(move |volume| volume.stage(&archive, &digest));
                        self.interruptible(stop.as_mut(), async { stage.await?.map_err(Failure::Volume) })
                            .await?;
                        staged = true;
                    }
                    let fence = self
                        .record
                        .pass_fence(record.metadata.uid.as_deref(), &self.upload(&ready.digest))
                        .await
                        .map_err(Failure::Record)?;
                    fenced = matches!(fence, Fence::Passed);
                    prepared = Some(ready);
                }
                Action::Write => {
                    writes += 1;
                    match self.blocking(Volume::link).await? {
                        Ok(Linked::Stored | Linked::Exists) => {}
                        Ok(Linked::Withdrawn) => {
                            // Another pod doubted this one; from here on this one is a pod like any other.
                            fenced = false;
                            staged = false;
                        }
                        Err(error) => {
                            tracing::warn!(%error, "the write's outcome is open; reading the key");
                            if writes >= ATTEMPTS {
                                let me = self.settings.arguments.pod_uid.clone();
                                withdrawn = Some(me.clone());
                                self.blocking(move |volume| volume.withdraw(&me))
                                    .await?
                                    .map_err(Failure::Volume)?;
                                given_up = Some(error);
                            } else {
                                tokio::time::sleep(ATTEMPT_PAUSE).await;
                            }
                        }
                    }
                }
                Action::Complete { sha256, bytes } => {
                    self.complete(&Digest { sha256, bytes }, prepared.as_ref()).await?;
                    self.blocking(|volume| volume.sweep(true)).await?;
                    return Ok(Outcome::Stored);
                }
                Action::Settle => {
                    let holder = upload.pod_uid.clone().unwrap_or_default();
                    self.interruptible(stop.as_mut(), self.settle(upload)).await?;
                    let withdraw = holder.clone();
                    self.blocking(move |volume| volume.withdraw(&withdraw))
                        .await?
                        .map_err(Failure::Volume)?;
                    staged = staged && holder != self.settings.arguments.pod_uid;
                    withdrawn = Some(holder);
                }
                Action::SlotTaken { why } => {
                    return Err(Failure::SlotTaken {
                        key: self.volume.key(),
                        why,
                    });
                }
                Action::Uncertain => return Err(Failure::Uncertain { key: self.volume.key() }),
                Action::ReadAgain { why } => {
                    unreadable += 1;
                    if unreadable >= ATTEMPTS {
                        let fenced = upload.state != UploadState::None;
                        return Err(Failure::Unreadable {
                            key: self.volume.key(),
                            why,
                            fenced,
                        });
                    }
                    tokio::time::sleep(ATTEMPT_PAUSE).await;
                }
            }
        }
    }

    /// Ends early on SIGTERM and at the deadline: for everything that comes before the fence.
    async fn interruptible<Output>(
        &self,
        stop: Pin<&mut impl Future<Output = ()>>,
        work: impl Future<Output = Result<Output, Failure>>,
    ) -> Result<Output, Failure> {
        tokio::select! {
            biased;
            () = stop => Err(Failure::Interrupted),
            () = tokio::time::sleep_until(self.deadline) => Err(Failure::Deadline { seconds: self.settings.deadline.as_secs() }),
            result = work => result,
        }
    }

    /// A record of another policy of the same name is never touched.
    fn own(&self, record: &Backup) -> Result<(), Failure> {
        let arguments = &self.settings.arguments;
        if record.spec.policy_ref.uid == arguments.policy_uid {
            return Ok(());
        }
        Err(Failure::RecordTaken {
            name: self.settings.record_name.clone(),
            owner: record.spec.policy_ref.uid.clone(),
            policy: arguments.policy_uid.clone(),
        })
    }

    /// Gives the holder of the fence time to finish; ends as soon as the record moves.
    async fn settle(&self, seen: &Upload) -> Result<(), Failure> {
        let until = Instant::now() + Duration::from_secs(self.settings.arguments.settle_seconds);
        while Instant::now() < until {
            tokio::time::sleep(SETTLE_PAUSE).await;
            let record = self.record.read().await.map_err(Failure::Record)?;
            if record.status.unwrap_or_default().upload != *seen {
                return Ok(());
            }
        }
        Ok(())
    }

    fn upload(&self, digest: &Digest) -> Upload {
        Upload {
            state: UploadState::Started,
            pod_uid: Some(self.settings.arguments.pod_uid.clone()),
            key: Some(self.volume.key()),
            sha256: Some(digest.sha256.clone()),
            bytes: i64::try_from(digest.bytes).ok(),
            started_at: Some(Utc::now()),
        }
    }

    /// The archive is under its key: the record says so, however long the API server takes.
    async fn complete(&self, digest: &Digest, prepared: Option<&Prepared>) -> Result<(), Failure> {
        let stored_by_me = prepared.filter(|prepared| prepared.digest == *digest);
        // An adopted archive tells itself what it holds.
        let databases = match stored_by_me {
            Some(prepared) => prepared.databases.clone(),
            None => {
                let slot = self.settings.slot;
                match self.blocking(move |volume| volume.manifest(slot)).await? {
                    Ok(manifest) => manifest.databases.iter().map(database_status).collect(),
                    Err(_) => Vec::new(),
                }
            }
        };
        let bytes = i64::try_from(digest.bytes).unwrap_or(i64::MAX);
        let key = self.volume.key();
        let now = Utc::now();
        self.with_patience(COMPLETION_PATIENCE)
            .update(|status| {
                if status.upload.state == UploadState::Completed {
                    return None;
                }
                let mut next = status.clone();
                next.phase = BackupPhase::Completed;
                next.reason = Some("Stored".into());
                next.message = Some(format!(
                    "{} databases, {}, stored as {key}",
                    databases.len(),
                    human_size(bytes)
                ));
                next.completed_at = Some(now);
                next.databases.clone_from(&databases);
                next.verified = Some("Local".into());
                next.size = Some(human_size(bytes));
                next.upload.state = UploadState::Completed;
                next.upload.key = Some(key.clone());
                next.upload.sha256 = Some(digest.sha256.clone());
                next.upload.bytes = Some(bytes);
                Some(next)
            })
            .await
            .map_err(Failure::Record)?;
        tracing::info!(key, sha256 = digest.sha256, bytes, "stored");
        Ok(())
    }

    /// Puts the reason on the record, unless another pod stored or is storing.
    async fn report(&self, failure: &Failure) {
        self.volume.sweep(false);
        if matches!(failure, Failure::RecordTaken { .. } | Failure::Record(_)) {
            return;
        }
        let patience = if matches!(failure, Failure::Interrupted) {
            INTERRUPTED_PATIENCE
        } else {
            RECORD_PATIENCE
        };
        let message: String = failure.to_string().chars().take(MAX_MESSAGE).collect();
        let now = Utc::now();
        let record = self.with_patience(patience);
        let written = record.update(|status| {
            let settled = matches!(
                failure,
                Failure::SlotTaken { .. } | Failure::Uncertain { .. } | Failure::Unreadable { .. }
            );
            let free = status.upload.state == UploadState::None;
            if status.upload.state == UploadState::Completed || !(free || settled) {
                return None;
            }
            let mut next = status.clone();
            next.reason = Some(failure.category().to_owned());
            next.message = Some(message.clone());
            if let Some(phase) = failure.phase() {
                next.phase = phase;
                next.completed_at = Some(now);
                if phase == BackupPhase::Unknown {
                    next.upload.state = UploadState::Unknown;
                }
            }
            Some(next)
        });
        if let Err(error) = written.await {
            tracing::error!(%error, "failed to put the reason on the record");
        }
    }

    fn with_patience(&self, patience: Duration) -> Record {
        Record::new(
            self.client.clone(),
            &self.settings.arguments.namespace,
            &self.settings.record_name,
            patience,
        )
    }

    fn tidy_scratch(&self) {
        if let Err(error) = fs::remove_dir_all(&self.scratch)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "failed to tidy the scratch folder");
        }
    }

    fn preparation(&self) -> Preparation<'_> {
        Preparation {
            settings: &self.settings,
            record: &self.record,
            volume: &self.volume,
            scratch: &self.scratch,
        }
    }

    async fn blocking<Output: Send + 'static>(
        &self,
        work: impl FnOnce(&Volume) -> Output + Send + 'static,
    ) -> Result<Output, Failure> {
        let volume = self.volume.clone();
        off_thread(move || work(&volume)).await
    }
}

pub(crate) async fn off_thread<Output: Send + 'static>(
    work: impl FnOnce() -> Output + Send + 'static,
) -> Result<Output, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::Task(error.to_string()))
}

fn is_ours(settings: &Settings, manifest: &Manifest) -> Result<(), String> {
    let arguments = &settings.arguments;
    if manifest.policy.uid != arguments.policy_uid {
        return Err(format!(
            "an archive of another policy lies there (UID {})",
            manifest.policy.uid
        ));
    }
    if manifest.slot != settings.slot {
        return Err(format!("an archive of another slot lies there ({})", manifest.slot));
    }
    Ok(())
}
