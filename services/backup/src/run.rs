//! One run, from the record to the stored archive. Every side effect of the runner is named here.
//!
//! ```text
//! await the record -> settle what earlier days left open -> tell of archives without a record
//!   -> [ read record, look at the key, decide ] until the slot is used or the run has failed
//!     Store    -> prepare (dump, archive, verify) -> make the write ready -> pass the record's fence
//!     Write    -> link(2), PutObject, or the completion of what was sent in parts
//!     Complete -> make the name durable, say so on the record, remove what killed pods left
//!     Settle   -> wait for the pod that holds the fence, then make its hold worthless where that can be done
//!     Release  -> give the hold of a pod that can store no more back
//! ```
//! Once it is stored, [`crate::retention`] says which old archives go.
//!
//! Everything before the fence may happen any number of times; what comes after it happens once, because
//! [`crate::decision`] says so. SIGTERM and the deadline end the run wherever this pod does not hold the fence and is not
//! about to pass it; where it does, nothing ends it but a destination that does not tell what lies there: whoever comes
//! next asks it as well.
//!
//! A destination that is away is waited for until the deadline, like a database; one that refuses is not.

mod ending;

use crate::{
    archive::Digest,
    completion::{elsewhere, settle_earlier_slots},
    decision::{Action, Known, Stored, decide},
    destination::{ATTEMPT_PAUSE, ATTEMPTS, Destination, Site, Written},
    discovery::{Strangers, discover},
    failure::Failure,
    leftovers::with_begun,
    manifest::Manifest,
    prepare::{Preparation, Prepared},
    record::{Fence, Record},
    removal::remove_old,
    s3,
    settings::Settings,
    volume::Staged,
};
use chrono::Utc;
use std::{
    fs,
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::Instant;
use valerix_crds::{Backup, ConditionalWrites, Upload, UploadState};

/// The most that is kept of the deadline for what came before this pod (the Job's deadline counts from the Job's start)
/// and for writing the record.
const DEADLINE_MARGIN: Duration = Duration::from_secs(5 * 60);
/// How long calls for the record are tried again.
const RECORD_PATIENCE: Duration = Duration::from_secs(60);
/// How long the result of a finished write is tried to be put on the record.
const COMPLETION_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How long the reason of a stop is tried to be put on the record, within the pod's grace period.
const INTERRUPTED_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two looks at a record that another pod holds.
const SETTLE_PAUSE: Duration = Duration::from_millis(500);

/// How a run ended well.
#[derive(Debug, PartialEq, Eq)]
pub enum Success {
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
) -> Result<Success, Failure> {
    let run = Run::new(settings, client);
    let mut stop = std::pin::pin!(stop);
    let result = Box::pin(run.slot(stop.as_mut())).await;
    run.tidy_scratch();
    if let Ok(Success::Stored) = &result {
        run.remove_old().await;
    }
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
    record: Record,
    destination: Destination,
    scratch: PathBuf,
    deadline: Instant,
    /// Slots that retention leaves alone.
    strangers: OnceLock<Strangers>,
}

/// What this pod has in hand while the slot is decided about.
#[derive(Default)]
struct Hand {
    /// A verified archive on scratch.
    prepared: Option<Prepared>,
    /// Whether everything is ready for the write.
    staged: bool,
    /// The fence, as this pod passed it.
    hold: Option<Upload>,
    /// The hold by which a write was sent that is never sent again.
    sent: Option<Upload>,
    /// The hold by which nothing can be stored any more.
    withdrawn: Option<Upload>,
    /// The hold whose holder was given its time in vain.
    awaited: Option<Upload>,
    /// Why this pod stops trying to write, once its own hold is given back.
    given_up: Option<Failure>,
    /// What the last write's answer was, where it did not say how it ended.
    open: Option<Failure>,
    conditional_writes: Option<ConditionalWrites>,
    /// How often it was looked in vain, for a reason that does not pass by itself.
    unreadable: u32,
    /// How often the destination was waited for.
    waits: u32,
    writes: u32,
}

impl Hand {
    fn known(&self) -> Known<'_> {
        Known {
            hold: self.hold.as_ref(),
            sent: self.sent.as_ref(),
            withdrawn: self.withdrawn.as_ref(),
            awaited: self.awaited.as_ref(),
        }
    }
}

/// What is to be decided about.
struct Observed {
    record: Backup,
    upload: Upload,
    stored: Stored,
    /// What a stored archive of ours says of itself.
    manifest: Option<Manifest>,
}

impl Run {
    fn new(settings: Arc<Settings>, client: kube::Client) -> Self {
        let arguments = &settings.arguments;
        let margin = DEADLINE_MARGIN.min(settings.deadline / 10);
        Self {
            record: Record::new(
                client,
                &arguments.shared.namespace,
                &settings.record_name,
                RECORD_PATIENCE,
            ),
            destination: Destination::new(Site::new(
                settings.destination.clone(),
                &arguments.shared,
                settings.slot,
            )),
            scratch: arguments.scratch_folder.join("run"),
            deadline: Instant::now() + settings.deadline - margin,
            strangers: OnceLock::new(),
            settings,
        }
    }

    /// The loop of the module's documentation.
    async fn slot(&self, mut stop: Pin<&mut impl Future<Output = ()>>) -> Result<Success, Failure> {
        if !self.settings.off_time.is_zero() {
            tracing::warn!(
                minutes = self.settings.off_time.num_minutes(),
                "the Job's time is not the policy's: the time zone data of the cluster's CronJob controller and of this image differ"
            );
        }
        // Boxed: what it holds between its requests is large.
        let arrival = Box::pin(async {
            let record = self.record.awaited(self.deadline).await.map_err(Failure::Record)?;
            self.check_owner(&record)?;
            settle_earlier_slots(&self.settings, &self.record, &self.destination).await;
            Ok(discover(&self.settings, &self.record, &self.destination).await)
        });
        if let Ok(strangers) = self.interruptible(stop.as_mut(), arrival).await? {
            // Asked once a run.
            let _ = self.strangers.set(strangers);
        }
        let mut hand = Hand::default();
        loop {
            let observed = self.observe(&hand);
            let observed = if hand.hold.is_some() {
                observed.await?
            } else {
                Box::pin(self.interruptible(stop.as_mut(), observed)).await?
            };
            let action = decide(
                &observed.upload,
                &self.destination.place(self.settings.slot),
                &observed.stored,
                hand.known(),
            );
            tracing::info!(upload = ?observed.upload.state, holder = observed.upload.pod_uid, stored = ?observed.stored, ?action, "decided");
            let key = || self.destination.place(self.settings.slot).key;
            match action {
                Action::Finished => {
                    self.destination.sweep(true).await?;
                    self.abort_left(&observed).await;
                    return Ok(if hand.writes > 0 {
                        Success::Stored
                    } else {
                        Success::AlreadyStored
                    });
                }
                Action::Complete(digest) => {
                    self.complete(&digest, &observed, &hand).await?;
                    return Ok(Success::Stored);
                }
                Action::Store => Box::pin(self.store(&mut hand, &observed.record, stop.as_mut())).await?,
                Action::Write => self.write(&mut hand).await?,
                Action::Settle => {
                    self.interruptible(stop.as_mut(), self.settle(&observed.upload)).await?;
                    if let Err(failure) = self.withdraw(&mut hand, &observed.upload).await {
                        self.wait(&mut hand, failure, stop.as_mut()).await?;
                    }
                }
                Action::Release => {
                    self.record.release(&observed.upload).await.map_err(Failure::Record)?;
                    if let Some(failure) = hand.given_up.take() {
                        self.wait(&mut hand, failure, stop.as_mut()).await?;
                    }
                }
                Action::SlotTaken { why } => return Err(Failure::SlotTaken { key: key(), why }),
                Action::Damaged { why } => return Err(Failure::StoredDamaged { key: key(), why }),
                Action::Elsewhere => return Err(elsewhere(&observed.upload)),
                Action::Uncertain => return Err(self.never_answered(&observed.upload, hand.open.as_ref())),
                Action::ReadAgain { why, passing } => {
                    let failure = Failure::Unreadable {
                        key: key(),
                        why,
                        fenced: observed.upload.state != UploadState::None,
                        passing,
                    };
                    hand.unreadable += u32::from(!passing);
                    if passing || hand.unreadable >= ATTEMPTS {
                        self.wait(&mut hand, failure, stop.as_mut()).await?;
                    } else {
                        tokio::time::sleep(ATTEMPT_PAUSE).await;
                    }
                }
            }
        }
    }

    /// Reads the record, then what lies under the key; a slot that is used asks for no look.
    async fn observe(&self, hand: &Hand) -> Result<Observed, Failure> {
        let record = self.record.read().await.map_err(Failure::Record)?;
        self.check_owner(&record)?;
        let upload = record.status.clone().unwrap_or_default().upload;
        let (stored, manifest) = if upload.state == UploadState::Completed {
            (Stored::Absent, None)
        } else {
            let mine = hand.prepared.as_ref().map(|prepared| &prepared.digest);
            match self.destination.look(self.settings.slot, mine).await {
                // Where somebody may have stored, a refusal to answer only leaves that open.
                Err(Failure::Bucket(error)) if upload.state != UploadState::None => {
                    let (why, passing) = (error.to_string(), false);
                    (Stored::Unreadable { why, passing }, None)
                }
                found => found?,
            }
        };
        Ok(Observed {
            record,
            upload,
            stored,
            manifest,
        })
    }

    /// Makes an archive unless there is one in hand, makes its write ready, and tries to pass the fence.
    async fn store(
        &self,
        hand: &mut Hand,
        record: &Backup,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Failure> {
        let Some(ready) = hand.prepared.take() else {
            let ready = Box::pin(self.interruptible(stop.as_mut(), self.preparation().run(record))).await?;
            hand.prepared = Some(ready);
            // That may have taken hours. Whether the destination is there now is asked before the fence, where waiting for
            // it costs nothing.
            return Ok(());
        };
        if !hand.staged {
            let staged = Box::pin(self.interruptible(stop.as_mut(), self.stage(&ready))).await;
            hand.staged = matches!(staged, Ok(Staged::Whole));
            if !hand.staged {
                // What is stored by now is decided about anew.
                hand.prepared = Some(ready);
                return match staged {
                    Ok(_) => Ok(()),
                    Err(failure) => self.wait(hand, failure, stop).await,
                };
            }
        }
        let seen = hand.conditional_writes.or(ready.conditional_writes);
        hand.conditional_writes = self.destination.conditional_writes(&ready.digest, seen).await?;
        let upload = self.upload(&ready.digest);
        hand.prepared = Some(ready);
        let fence = self.record.pass_fence(record.metadata.uid.as_deref(), &upload).await;
        hand.hold = match fence.map_err(Failure::Record)? {
            Fence::Passed => Some(upload),
            Fence::Lost => None,
        };
        Ok(())
    }

    /// Makes the write ready. Parts at a store cost somebody room until they are an archive or are aborted, so the record knows
    /// of an upload before it has any.
    async fn stage(&self, ready: &Prepared) -> Result<Staged, Failure> {
        if let Some(begun) = self.destination.begin(&ready.digest).await? {
            let told = self.record.update(|status| Some(with_begun(status, &begun))).await;
            told.map_err(Failure::Record)?;
        }
        self.destination.stage(&ready.archive, &ready.digest).await
    }

    /// The one write. What it does not say is found out by looking.
    async fn write(&self, hand: &mut Hand) -> Result<(), Failure> {
        let Some(ready) = &hand.prepared else {
            // Only a pod that has an archive passes the fence.
            hand.withdrawn = hand.hold.take();
            return Ok(());
        };
        hand.writes += 1;
        if self.destination.writes_once() {
            hand.sent.clone_from(&hand.hold);
        }
        match self.destination.write(&ready.archive, &ready.digest).await? {
            Written::Answered(seen) => hand.conditional_writes = seen.or(hand.conditional_writes),
            Written::Withdrawn => {
                // Another pod doubted this one; from here on this one is a pod like any other.
                hand.hold = None;
                hand.staged = false;
            }
            // The store has done nothing, and will say the same to whoever looks. New credentials are waited for without the fence.
            Written::Refused(failure @ Failure::Bucket(s3::Error::Expired { .. }), _) if hand.writes < ATTEMPTS => {
                tracing::warn!(%failure, "the write was refused; giving the fence back");
                if let Some(mine) = hand.hold.take() {
                    self.record.release(&mine).await.map_err(Failure::Record)?;
                }
            }
            Written::Refused(failure, seen) => {
                tracing::warn!(%failure, "the write was refused");
                hand.conditional_writes = seen.or(hand.conditional_writes);
                hand.withdrawn = hand.hold.take();
                hand.given_up = Some(failure);
            }
            Written::Open(failure) => {
                tracing::warn!(%failure, "the write's outcome is open; reading the key");
                if hand.sent.is_some() {
                    hand.open = Some(failure);
                } else if hand.writes < ATTEMPTS {
                    tokio::time::sleep(ATTEMPT_PAUSE).await;
                } else if let Some(mine) = hand.hold.clone() {
                    self.withdraw(hand, &mine).await?;
                    hand.given_up = Some(failure);
                }
            }
        }
        Ok(())
    }

    /// Makes a hold worthless, where that can be done; where not, it is known to have had its time.
    async fn withdraw(&self, hand: &mut Hand, upload: &Upload) -> Result<(), Failure> {
        let holder = upload.pod_uid.clone().unwrap_or_default();
        if !self.destination.withdraw(self.settings.slot, &holder).await? {
            hand.awaited = Some(upload.clone());
            return Ok(());
        }
        if holder == self.settings.arguments.shared.pod_uid {
            hand.hold = None;
            hand.staged = false;
        }
        hand.withdrawn = Some(upload.clone());
        Ok(())
    }

    /// Waits before the destination is asked again. Hands the failure back if it does not pass by itself, or if the deadline
    /// leaves no time.
    async fn wait(
        &self,
        hand: &mut Hand,
        failure: Failure,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Failure> {
        // Whoever was asked to end is not asked twice.
        if !failure.is_passing() {
            return Err(failure);
        }
        hand.waits += 1;
        self.interruptible(stop, self.preparation().wait_after(failure, hand.waits))
            .await
    }

    /// Ends early on SIGTERM and at the deadline.
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
    fn check_owner(&self, record: &Backup) -> Result<(), Failure> {
        let arguments = &self.settings.arguments.shared;
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
        let bytes = seen
            .bytes
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or_default();
        let patience = Duration::from_secs(self.settings.arguments.settle_seconds);
        let until = Instant::now() + patience + self.destination.time_to_write(bytes);
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
        let mut upload = Upload {
            state: UploadState::Started,
            pod_uid: Some(self.settings.arguments.shared.pod_uid.clone()),
            sha256: Some(digest.sha256.clone()),
            bytes: i64::try_from(digest.bytes).ok(),
            started_at: Some(Utc::now()),
            ..Upload::default()
        };
        self.destination.place(self.settings.slot).put(&mut upload);
        upload
    }

    async fn remove_old(&self) {
        let strangers = match self.strangers.get() {
            Some(strangers) => Ok(strangers.clone()),
            // The destination did not tell when it was asked first.
            None => discover(&self.settings, &self.record, &self.destination).await,
        };
        remove_old(&self.settings, &self.record, &self.destination, strangers).await;
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
            destination: &self.destination,
            scratch: &self.scratch,
            strangers: self.strangers.get(),
            deadline: self.deadline,
        }
    }
}

#[cfg(test)]
mod tests;
