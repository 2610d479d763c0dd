//! Gives databases of one archive back. Every side effect of a restoring runner is named here.
//!
//! ```text
//! take the Restore over -> connect to the target -> settle what an earlier pod left
//!   -> read the archive to its end, which holds it against its manifest and puts the first dump on scratch
//!   -> hold it against what is known of it, and the target against the plan
//!   -> each database: say so, create it under its staged name, pg_restore, compare tables and rows
//!   -> say so -> owner, grants, settings of what is replaced -> close it, end its sessions, rename all in one transaction
//!   -> say so
//! ```
//! Until the renames nothing that is there has changed; whatever ends the run before them (a failure, SIGTERM, the
//! deadline, a kill) ends with the old databases open and the restored ones dropped, by this pod or by the next one. Each
//! "say so" comes before what it speaks of, and names the pod: one that was taken for dead cannot go on beside its heir.

mod check;
mod contents;
pub mod failure;
mod fill;
mod identity;
mod plan;
pub mod report;
mod roles;
pub mod settings;
mod source;
mod swap;
mod target;

use chrono::Utc;
use failure::Failure;
use plan::{Item, plan};
use report::Report;
use settings::Settings;
use source::Scratch;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use swap::Outcome;
use target::Target;
use tokio::time::Instant;
use valerix_crds::{
    RestoreDatabasePhase, RestoreDatabaseStatus, RestorePhase, RestoreRoles, RestoreStatus, backup_runner::human_size,
    restore_runner::dropped_name,
};

/// The most that is kept of the deadline for putting back and for writing the status.
const DEADLINE_MARGIN: Duration = Duration::from_secs(5 * 60);
/// How long it is tried to put back; within the pod's grace period when it was asked to end.
const UNDO_PATIENCE: Duration = Duration::from_secs(60);
/// How long the reason of a stop is tried to be written.
const INTERRUPTED_PATIENCE: Duration = Duration::from_secs(10);

/// How a run ended well.
#[derive(Debug, PartialEq, Eq)]
pub enum Success {
    /// The databases are in their places, and the status says so.
    Restored,
    /// The Restore has ended already; nothing was changed.
    AlreadyEnded,
    /// What was replaced is dropped, or was not there to be dropped.
    PreviousDropped,
}

/// Carries out one Restore. `stop` resolves when the pod is asked to end.
///
/// # Errors
/// Why the databases are not in their places; the status already says it.
pub async fn run(
    settings: Arc<Settings>,
    client: kube::Client,
    stop: impl Future<Output = ()>,
) -> Result<Success, Failure> {
    let arguments = &settings.arguments;
    let margin = DEADLINE_MARGIN.min(settings.deadline / 10);
    let run = Run {
        report: Report::new(
            client,
            &arguments.namespace,
            &arguments.restore,
            &arguments.restore_uid,
            &arguments.pod_uid,
        ),
        scratch: Scratch::new(&arguments.scratch_folder, &arguments.age_folder),
        deadline: Instant::now() + settings.deadline - margin,
        stopped: AtomicBool::new(false),
        begun: Mutex::default(),
        settings: settings.clone(),
    };
    let mut stop = std::pin::pin!(stop);
    if arguments.drop_previous {
        return Box::pin(run.drop_previous(stop)).await;
    }
    let result = Box::pin(run.restore(stop.as_mut())).await;
    run.scratch.tidy();
    if let Err(failure) = &result {
        run.tell(failure).await;
    }
    result
}

struct Run {
    settings: Arc<Settings>,
    report: Report,
    scratch: Scratch,
    deadline: Instant,
    stopped: AtomicBool,
    /// What this pod has said of each database: also when the Restore is gone, that is put back.
    begun: Mutex<Vec<RestoreDatabaseStatus>>,
}

impl Run {
    async fn restore(&self, mut stop: Pin<&mut impl Future<Output = ()>>) -> Result<Success, Failure> {
        let status = self.report.claim().await?;
        if status.phase.is_terminal() {
            return Ok(Success::AlreadyEnded);
        }
        let connecting = Target::connect(&self.settings, self.deadline);
        let target = self
            .interruptible(stop.as_mut(), connecting)
            .await
            .map_err(|failure| swap::not_reached(&status.databases, failure))?;
        if self.settle(&target, &status.databases).await? == Outcome::Swapped {
            return self.complete(&target, &status.databases).await;
        }
        match Box::pin(self.carry_out(&target, stop)).await {
            Ok(success) => Ok(success),
            Err(failure) => self.put_back(&target, failure).await,
        }
    }

    /// The steps of the module's documentation, from the archive to the names.
    async fn carry_out(
        &self,
        target: &Target,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Success, Failure> {
        self.step(RestorePhase::Fetching, |status| status.databases.clear())
            .await?;
        self.scratch.fresh()?;
        let source = &self.settings.source;
        let fetching = self.scratch.fetch(&self.settings);
        let (manifest, digest) = Box::pin(self.interruptible(stop.as_mut(), fetching)).await?;

        self.step(RestorePhase::Checking, |_| {}).await?;
        self.scratch.check(source, &manifest, digest)?;
        let mut items = plan(&self.settings, &manifest)?;
        self.scratch.release(&self.settings, &items)?;
        self.interruptible(stop.as_mut(), target.check(&self.settings, &mut items))
            .await?;
        let roles = self
            .interruptible(stop.as_mut(), self.plan_roles(target, &items))
            .await?;
        // With the mark of this pod: by it whoever comes next finds what it has made, and nothing else.
        let planned: Vec<_> = items.iter().map(planned).collect();
        self.step(RestorePhase::Restoring, |status| {
            status.databases.clone_from(&planned);
            if let Some(source) = &mut status.source {
                source.slot = Some(manifest.slot.to_string());
            }
        })
        .await?;
        if let Some(roles) = &roles {
            let note = self.interruptible(stop.as_mut(), target.create_roles(roles)).await?;
            self.say(|status| {
                if let Some(first) = status.databases.first_mut() {
                    first.note = noted(first.note.take(), note.as_deref());
                }
            })
            .await?;
        }
        let count = items.len();
        for (index, item) in items.iter_mut().enumerate() {
            let restored = self
                .interruptible(stop.as_mut(), self.database(target, index, item, count))
                .await?;
            item.oid = Some(restored);
        }
        self.interruptible(stop.as_mut(), swap::prepare(target, &items)).await?;
        let status = self
            .step(RestorePhase::Swapping, |status| {
                for (database, item) in status.databases.iter_mut().zip(&items) {
                    database.phase = RestoreDatabasePhase::Swapping;
                    if let Some((previous, oid)) = &item.previous {
                        database.previous = Some(previous.clone());
                        database.previous_oid = Some(*oid);
                    }
                }
            })
            .await?;
        // The answer may be old by now: a pod that was taken for dead meanwhile closes nothing.
        self.say(|_| {}).await?;
        // From here on a stop is heard between the steps, since a rename that was sent cannot be taken back.
        let stopped = || self.stopped.load(Ordering::Relaxed);
        let mut swapping = std::pin::pin!(swap::swap(target, &items, &stopped));
        tokio::select! {
            biased;
            result = swapping.as_mut() => result?,
            () = stop => {
                self.stopped.store(true, Ordering::Relaxed);
                swapping.await?;
            }
        }
        self.complete(target, &status.databases).await
    }

    /// The roles that are to be made, where they were asked for.
    async fn plan_roles(&self, target: &Target, items: &[Item]) -> Result<Option<roles::Plan>, Failure> {
        if self.settings.spec.roles.unwrap_or_default() == RestoreRoles::Skip {
            return Ok(None);
        }
        match self.scratch.roles(&self.settings.source.key, items).await? {
            Some(roles) => target.plan_roles(roles).await.map(Some),
            None => Err(Failure::Refused(
                "roles: the archive holds none (spec.globals of its policy was None, or it is older): make them by hand, and write roles: Skip"
                    .into(),
            )),
        }
    }

    /// One database under its staged name. Returns its OID.
    async fn database(&self, target: &Target, index: usize, item: &Item, count: usize) -> Result<i64, Failure> {
        let begun = Instant::now();
        self.say(|status| {
            status.message = Some(format!("restoring {} ({} of {count})", item.member.name, index + 1));
            if let Some(database) = status.databases.get_mut(index) {
                database.phase = RestoreDatabasePhase::Restoring;
            }
        })
        .await?;
        let dump = self
            .scratch
            .extract(&self.settings.source.key, item.member.archived(), item.member.plain())
            .await?;
        // That may have taken long: a pod that was taken for dead meanwhile makes nothing more.
        self.say(|_| {}).await?;
        let restored = target.restore(item, &dump).await?;
        tracing::info!(
            database = item.member.name,
            tables = restored.tables,
            "restored and compared"
        );
        self.say(|status| {
            if let Some(database) = status.databases.get_mut(index) {
                database.phase = RestoreDatabasePhase::Restored;
                database.oid = Some(restored.oid);
                database.tables = i64::try_from(restored.tables).ok();
                database.seconds = i64::try_from(begun.elapsed().as_secs()).ok();
                database.note = noted(database.note.take(), restored.note.as_deref());
            }
            status.tables = Some(status.databases.iter().filter_map(|database| database.tables).sum());
        })
        .await?;
        Ok(restored.oid)
    }

    /// Everything has its name: that is said, and until when the old databases are kept.
    async fn complete(&self, target: &Target, databases: &[RestoreDatabaseStatus]) -> Result<Success, Failure> {
        let made = target.finish_roles().await.unwrap_or_else(|error| {
            // They are there and right; only their comments are not their own.
            tracing::warn!(%error, "the roles that were made keep the comment of this Restore");
            Vec::new()
        });
        let now = Utc::now();
        let until = now + self.settings.keep_previous;
        self.step(RestorePhase::Completed, |status| {
            status.reason = Some("Restored".into());
            status.message = Some(summary(databases, until, &made));
            status.completed_at = Some(now);
            for database in &mut status.databases {
                database.phase = RestoreDatabasePhase::Completed;
                database.staged = None;
                database.previous_until = database.previous.is_some().then_some(until);
            }
        })
        .await?;
        Ok(Success::Restored)
    }

    /// Undoes what this pod has begun, unless it turns out to be done.
    async fn put_back(&self, target: &Target, failure: Failure) -> Result<Success, Failure> {
        let databases = self.begun.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let superseded = match failure {
            Failure::Report(report::Error::Superseded { .. }) => true,
            _ => {
                let seen = self.report.with_patience(INTERRUPTED_PATIENCE).read().await;
                seen.is_ok_and(|status| status.pod_uid.as_ref() != Some(&self.settings.arguments.pod_uid))
            }
        };
        if superseded {
            // A pod that was taken for dead leaves everything to its heir, but for what it did after that one had looked.
            if let Err(error) = swap::withdraw(target, &databases).await {
                tracing::warn!(%error, "something of this pod may be left");
            }
            return Err(failure);
        }
        match swap::settle(target, &databases, Instant::now() + UNDO_PATIENCE).await {
            Ok(Outcome::Swapped) => self.complete(target, &databases).await,
            Ok(Outcome::Undone) => Err(failure),
            Err(why) => Err(Failure::NotUndone {
                failure: Box::new(failure),
                why,
            }),
        }
    }

    async fn settle(&self, target: &Target, databases: &[RestoreDatabaseStatus]) -> Result<Outcome, Failure> {
        if databases.is_empty() {
            return Ok(Outcome::Undone);
        }
        swap::settle(target, databases, self.deadline)
            .await
            .map_err(|why| Failure::NotUndone {
                failure: Box::new(Failure::Task("an earlier pod did not come to its end".into())),
                why,
            })
    }

    /// Drops what was replaced, if it still is what was replaced.
    async fn drop_previous(&self, stop: Pin<&mut impl Future<Output = ()>>) -> Result<Success, Failure> {
        let status = self.report.read().await?;
        let due = |database: &&RestoreDatabaseStatus| !database.previous_dropped && database.previous.is_some();
        if status.phase != RestorePhase::Completed || status.databases.iter().filter(due).count() == 0 {
            return Ok(Success::PreviousDropped);
        }
        let work = async {
            let target = Target::connect(&self.settings, self.deadline).await?;
            let found = target.databases().await?;
            for database in status.databases.iter().filter(due) {
                let Some(previous) = &database.previous else { continue };
                // An earlier pod may have been killed when it was about to drop it.
                let begun = database.previous_oid.filter(|oid| {
                    let renamed = found.get(&dropped_name(previous, *oid));
                    renamed.is_some_and(|renamed| renamed.oid == *oid)
                });
                if let Some(oid) = begun {
                    target.drop_renamed(previous, oid).await?;
                }
                let (oid, kept) = match found.get(previous) {
                    _ if begun.is_some() => (None, None),
                    None => (None, Some("it was gone already")),
                    Some(found) if Some(found.oid) != database.previous_oid => (None, Some("another one has its name")),
                    Some(found) if found.open => (None, Some("somebody has opened it again, and it is theirs now")),
                    Some(found) => (Some(found.oid), None),
                };
                if let Some(oid) = oid {
                    target.drop(previous, oid).await?;
                }
                self.report
                    .write(|status| {
                        let own = status.databases.iter_mut().find(|own| own.name == database.name);
                        if let Some(own) = own {
                            own.previous_dropped = true;
                            if let Some(kept) = kept {
                                own.note = Some(format!("{previous} was not dropped: {kept}"));
                            }
                        }
                        Ok(())
                    })
                    .await?;
            }
            Ok(Success::PreviousDropped)
        };
        Box::pin(self.interruptible(stop, work)).await
    }

    /// Says which step begins.
    async fn step(&self, phase: RestorePhase, change: impl Fn(&mut RestoreStatus)) -> Result<RestoreStatus, Failure> {
        self.say(|status| {
            status.phase = phase;
            (status.reason, status.message) = (None, None);
            change(status);
        })
        .await
    }

    /// Writes the status, and remembers what was said of each database.
    async fn say(&self, change: impl Fn(&mut RestoreStatus)) -> Result<RestoreStatus, Failure> {
        let status = self.report.update(change).await?;
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.clone_from(&status.databases);
        drop(begun);
        Ok(status)
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

    /// Puts the reason on the status.
    async fn tell(&self, failure: &Failure) {
        tracing::error!(
            reason = failure.category(),
            exit_code = failure.exit_code(),
            "{failure}"
        );
        if matches!(failure, Failure::Report(_)) {
            return;
        }
        let undone = !matches!(failure, Failure::NotUndone { .. });
        let report = self.report.with_patience(INTERRUPTED_PATIENCE);
        let written = report.update(|status| {
            status.reason = Some(failure.category().to_owned());
            status.message = Some(failure.to_string());
            if undone {
                // Put back: whoever comes next has nothing to look after.
                status.phase = RestorePhase::Pending;
                for database in &mut status.databases {
                    (database.phase, database.staged, database.oid) = (RestoreDatabasePhase::Pending, None, None);
                    (database.previous, database.previous_oid) = (None, None);
                }
            }
            if failure.is_final() {
                status.phase = RestorePhase::Failed;
                status.completed_at = Some(Utc::now());
            }
        });
        if let Err(error) = written.await {
            tracing::error!(%error, "failed to put the reason on the status");
        }
    }
}

fn planned(item: &Item) -> RestoreDatabaseStatus {
    RestoreDatabaseStatus {
        name: item.member.name.clone(),
        target: item.target.clone(),
        staged: Some(item.staged.clone()),
        bytes: i64::try_from(item.member.bytes).ok(),
        ..RestoreDatabaseStatus::default()
    }
}

/// Both notes in one, as long as the status takes.
fn noted(before: Option<String>, more: Option<&str>) -> Option<String> {
    const LONGEST: usize = 512;
    let notes: Vec<_> = before.as_deref().into_iter().chain(more).collect();
    (!notes.is_empty()).then(|| notes.join("; ").chars().take(LONGEST).collect())
}

fn summary(databases: &[RestoreDatabaseStatus], until: chrono::DateTime<Utc>, made: &[String]) -> String {
    let tables: i64 = databases.iter().filter_map(|database| database.tables).sum();
    let bytes: i64 = databases.iter().filter_map(|database| database.bytes).sum();
    let names: Vec<_> = databases.iter().map(|database| database.target.as_str()).collect();
    let mut text = format!(
        "{} restored and compared: {tables} tables, {}",
        names.join(", "),
        human_size(bytes)
    );
    for database in databases {
        if let Some(previous) = &database.previous {
            text.push_str(&format!(
                "; the old {} is kept, closed, as {previous} until {}",
                database.target,
                until.format("%FT%TZ")
            ));
        }
        if let Some(note) = &database.note {
            text.push_str(&format!("; {}: {note}", database.target));
        }
    }
    if !made.is_empty() {
        text.push_str(&format!(
            "; {} roles made without passwords: give one to those that log in (ALTER ROLE ... PASSWORD): {}",
            made.len(),
            made.join(", ")
        ));
    }
    text
}
