//! Documents that come in: what is good is put in force in one step, what is bad is reported and changes nothing.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use valerix_policy::{
    Admission, Faults as FaultsDocument, Policy, PolicyReport, PolicySource, Runtime as RuntimeDocument,
};

use super::{InForce, Inner, Read, Resilience};
use crate::documents::{self, File, Reading, Watch};

impl Inner {
    pub(super) fn restore_last_good(&self) {
        let Some(bytes) = self.state_folder.as_deref().and_then(documents::last_good) else {
            return;
        };
        match Policy::parse(&bytes) {
            Ok(parsed) => self.put_in_force(parsed, PolicySource::LastGood, None),
            Err(error) => tracing::warn!(%error, "the policy kept by an earlier process is not good"),
        }
    }

    /// Takes what was read of the folder; only what changed is parsed. Returns when the next fault ends by itself.
    pub(super) fn reload(&self, files: Reading, now: DateTime<Utc>) -> Option<Instant> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let Reading {
            policy,
            faults,
            runtime,
        } = files;
        let replicas_changed = self
            .readable("runtime", runtime)
            .is_some_and(|bytes| self.reload_runtime(&mut read, bytes.as_deref()));
        let policy_changed = match policy {
            Ok(bytes) => self.reload_policy(&mut read, bytes.as_deref(), now),
            Err(error) => {
                // Forgotten, so that the same bytes take the error back once they can be read again.
                read.policy = None;
                self.reject(error.to_string());
                self.readable("policy", Err(error)).is_some()
            }
        };
        if replicas_changed && !policy_changed {
            self.configure(&self.in_force.load().policy, now);
        }
        let faults_changed = self
            .readable("faults", faults)
            .is_some_and(|bytes| self.reload_faults(&mut read, bytes.as_deref()));
        let admission = self.in_force.load().policy.chaos.admission;
        if !faults_changed && !policy_changed {
            return self.faults.expire();
        }
        self.faults.apply(&read.faults_document, admission, now);
        drop(read);
        self.changed();
        self.faults.expire()
    }

    /// What a file holds; one that cannot be read changes nothing, least of all does it look like one that is not there.
    fn readable(&self, document: &str, file: File) -> Option<Option<Vec<u8>>> {
        file.inspect_err(|error| {
            self.metrics.reload(document, "rejected");
            tracing::warn!(%error, "a document cannot be read");
        })
        .ok()
    }

    fn reload_runtime(&self, read: &mut Read, bytes: Option<&[u8]>) -> bool {
        let Some(bytes) = bytes else { return false };
        let hash = valerix_policy::hash(bytes);
        if read.runtime.as_ref() == Some(&hash) {
            return false;
        }
        read.runtime = Some(hash);
        match RuntimeDocument::parse(bytes) {
            Ok(parsed) => {
                self.metrics.reload("runtime", "applied");
                let replicas = parsed.document.ready_replicas.max(1);
                self.replicas.swap(replicas, Ordering::Relaxed) != replicas
            }
            Err(error) => {
                self.metrics.reload("runtime", "rejected");
                tracing::warn!(%error, "runtime.json was not accepted");
                false
            }
        }
    }

    /// Whether a new policy came into force.
    fn reload_policy(&self, read: &mut Read, bytes: Option<&[u8]>, now: DateTime<Utc>) -> bool {
        let Some(bytes) = bytes else {
            if read.policy.take().is_some() || self.in_force.load().report.source != PolicySource::Document {
                self.reject("the folder holds no policy.v1.json: the last good policy stays in force".to_owned());
            }
            return false;
        };
        let hash = valerix_policy::hash(bytes);
        if read.policy.as_ref() == Some(&hash) {
            return false;
        }
        read.policy = Some(hash);
        match Policy::parse(bytes) {
            Ok(parsed) => {
                if let Some(folder) = &self.state_folder
                    && let Err(error) = documents::keep_last_good(folder, bytes)
                {
                    tracing::warn!(%error, folder = %folder.display(), "failed to keep the policy for a restart");
                }
                tracing::info!(hash = %parsed.hash, "policy in force");
                self.metrics.reload("policy", "applied");
                self.put_in_force(parsed, PolicySource::Document, Some(now));
                true
            }
            Err(error) => {
                tracing::warn!(category = error.category(), %error, "policy was not accepted");
                self.metrics.reload("policy", "rejected");
                self.reject(error.to_string());
                false
            }
        }
    }

    /// Whether a new faults document was taken.
    fn reload_faults(&self, read: &mut Read, bytes: Option<&[u8]>) -> bool {
        let hash = bytes.map(valerix_policy::hash);
        if read.faults == hash {
            return false;
        }
        read.faults.clone_from(&hash);
        match bytes.map_or_else(
            || Ok(FaultsDocument::default()),
            |bytes| FaultsDocument::parse(bytes).map(|parsed| parsed.document),
        ) {
            Ok(document) => {
                self.metrics.reload("faults", "applied");
                read.faults_document = document;
                read.faults_hash = hash;
                true
            }
            Err(error) => {
                // What runs goes on to its own end; the report's faultsHash shows that this one was not taken.
                self.metrics.reload("faults", "rejected");
                tracing::warn!(category = error.category(), %error, "faults.json was not accepted");
                false
            }
        }
    }

    /// Puts a policy in force in one step, with all that was learned about the targets.
    pub(super) fn put_in_force(
        &self,
        parsed: valerix_policy::Parsed<Policy>,
        source: PolicySource,
        at: Option<DateTime<Utc>>,
    ) {
        let report = PolicyReport {
            versions: vec![valerix_policy::POLICY_VERSION],
            hash: Some(parsed.hash),
            source,
            loaded_at: at.or_else(|| Some(self.wall_clock.now())),
            error: None,
            ignored_fields: parsed.ignored_fields,
        };
        let now = self.wall_clock.now();
        self.in_force.store(Arc::new(InForce::new(parsed.document, report)));
        let in_force = self.in_force.load();
        for target in &in_force.policy.targets {
            self.target(&target.name);
        }
        self.configure(&in_force.policy, now);
    }

    fn configure(&self, policy: &Policy, now: DateTime<Utc>) {
        let replicas = self.replicas.load(Ordering::Relaxed);
        #[cfg(feature = "axum")]
        {
            let inbound = &policy.inbound;
            let former = self.rules.load();
            let owner = crate::limits::Owner {
                name: &self.identity(),
                replicas,
                redis: self.redis.as_ref(),
            };
            let rules = crate::limits::RuleSet::new(&inbound.rate_limit.rules, policy.mode, owner, &former);
            self.rules.store(Arc::new(rules));
        }
        self.gate.configure(policy.inbound.concurrency.as_ref(), policy.mode);
        for (name, target) in self.targets.read().unwrap_or_else(PoisonError::into_inner).iter() {
            match policy.target(name) {
                Some(settings) => target.reconfigure(settings, policy.mode, replicas, now),
                None => target.reconfigure(
                    &valerix_policy::Target::named(name.as_str()),
                    policy.mode,
                    replicas,
                    now,
                ),
            }
        }
    }

    /// Shows why a document was not taken; what is in force stays.
    fn reject(&self, error: String) {
        let error = error.chars().take(1_024).collect::<String>();
        let in_force = self.in_force.load();
        if in_force.report.error.as_ref() == Some(&error) {
            return;
        }
        let mut rejected = InForce::clone(&in_force);
        rejected.report.error = Some(error);
        self.in_force.store(Arc::new(rejected));
        self.changed();
    }
}

/// Keeps the library true to the folder until its last clone is dropped.
pub(super) async fn follow(
    inner: Weak<Inner>,
    mut watch: Watch,
    folder: PathBuf,
    mut next_end: Option<Instant>,
    cancelled: CancellationToken,
) {
    loop {
        let end = async {
            match next_end {
                Some(moment) => tokio::time::sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        let fault_ended = tokio::select! {
            () = cancelled.cancelled() => return,
            () = end => true,
            () = watch.changed() => false,
        };
        let Some(inner) = inner.upgrade() else { return };
        next_end = if fault_ended {
            let next = inner.faults.expire();
            inner.changed();
            next
        } else {
            let folder = folder.clone();
            // Short, but it reads, and it writes to disk what must outlive the process: neither may hold up the runtime.
            let reload = move || inner.reload(documents::read(&folder), inner.wall_clock.now());
            let Ok(next_end) = tokio::task::spawn_blocking(reload).await else {
                return;
            };
            next_end
        };
    }
}

/// For tests and for who has no folder: puts documents in force directly.
impl Resilience {
    /// Puts a policy in force as if it had been read from the folder.
    ///
    /// # Errors
    /// When the bytes are not a good policy; what was in force stays.
    pub fn apply_policy(&self, bytes: &[u8]) -> Result<(), valerix_policy::PolicyError> {
        let parsed = Policy::parse(bytes)?;
        let admission = parsed.document.chaos.admission;
        self.0
            .put_in_force(parsed, PolicySource::Document, Some(self.0.wall_clock.now()));
        self.reapply_faults(admission);
        Ok(())
    }

    fn reapply_faults(&self, admission: Admission) {
        let read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        self.0
            .faults
            .apply(&read.faults_document, admission, self.0.wall_clock.now());
        drop(read);
        self.0.changed();
    }
}
