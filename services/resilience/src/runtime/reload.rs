//! Documents that come in: what is good is put in force in one step, what is bad is reported and changes nothing.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use valerix_policy::{
    Admission, Faults as FaultsDocument, Parsed, Policy, PolicyReport, PolicySource, Runtime as RuntimeDocument,
};

use super::{InForce, Inner, Read, Resilience};
use crate::documents::{self, File, Reading, Watch};
use crate::outbound::Target;

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
    ///
    /// Listeners of circuits may be called, and may ask the library anything: no lock is held meanwhile.
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
        let faults_changed = self
            .readable("faults", faults)
            .is_some_and(|bytes| self.reload_faults(&mut read, bytes.as_deref()));
        let admission = self.in_force.load().policy.chaos.admission;
        if faults_changed || policy_changed {
            self.faults.apply(&read.faults_document, admission, now);
        }
        drop(read);
        if policy_changed {
            self.configure(now);
        } else if replicas_changed {
            self.share();
        }
        if faults_changed || policy_changed {
            self.changed();
        }
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
                self.replace(parsed, PolicySource::Document, Some(now));
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
                self.faults_hash.store(hash.map(Arc::new));
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

    /// Puts a policy in force, with all that was learned about the targets.
    pub(super) fn put_in_force(&self, parsed: Parsed<Policy>, source: PolicySource, at: Option<DateTime<Utc>>) {
        self.replace(parsed, source, at);
        self.configure(self.wall_clock.now());
    }

    /// What is asked for each request is another policy from here on; what keeps a state follows by `configure`.
    fn replace(&self, parsed: Parsed<Policy>, source: PolicySource, at: Option<DateTime<Utc>>) {
        self.faults.admit(parsed.document.chaos.admission);
        let report = PolicyReport {
            versions: vec![valerix_policy::POLICY_VERSION],
            hash: Some(parsed.hash),
            source,
            loaded_at: at.or_else(|| Some(self.wall_clock.now())),
            error: None,
            ignored_fields: parsed.ignored_fields,
        };
        self.in_force.store(Arc::new(InForce::new(parsed.document, report)));
    }

    /// Gives limits and targets the settings of the policy in force, again where it was replaced meanwhile.
    fn configure(&self, now: DateTime<Utc>) {
        loop {
            let in_force = self.in_force.load_full();
            let policy = &in_force.policy;
            for target in &policy.targets {
                self.target(&target.name);
            }
            #[cfg(feature = "axum")]
            self.set_rules(policy);
            self.gate.configure(policy.inbound.concurrency.as_ref(), policy.mode);
            let replicas = self.replicas.load(Ordering::Relaxed);
            for target in self.known_targets() {
                let named = valerix_policy::Target::named(target.name());
                let settings = policy.target(target.name()).unwrap_or(&named);
                target.reconfigure(settings, policy.mode, replicas, now);
            }
            if Arc::ptr_eq(&in_force, &self.in_force.load()) {
                self.let_go_of_unused(policy);
                return;
            }
        }
    }

    /// Divides what replicas share among another number of them. Nothing else of the policy is looked at anew: what it
    /// says of moments counts from when it came.
    fn share(&self) {
        let in_force = self.in_force.load_full();
        #[cfg(feature = "axum")]
        self.set_rules(&in_force.policy);
        let replicas = self.replicas.load(Ordering::Relaxed);
        for target in self.known_targets() {
            let budget = in_force
                .policy
                .target(target.name())
                .map_or_else(Default::default, |target| target.retry.budget);
            target.budget.configure(budget.percent, budget.min_per_second, replicas);
        }
    }

    #[cfg(feature = "axum")]
    fn set_rules(&self, policy: &Policy) {
        let rules = &policy.inbound.rate_limit.rules;
        #[cfg(feature = "redis")]
        let shared = rules
            .iter()
            .any(|rule| rule.scope == valerix_policy::LimitScope::Distributed)
            .then(|| self.redis.get())
            .flatten()
            .map(|redis| -> &dyn crate::limits::SharedLimits { redis });
        #[cfg(not(feature = "redis"))]
        let shared = None;
        let owner = crate::limits::Owner {
            name: &self.identity(),
            replicas: self.replicas.load(Ordering::Relaxed),
            shared,
        };
        let former = self.rules.load();
        let rules = crate::limits::RuleSet::new(rules, policy.mode, owner, &former);
        self.rules.store(Arc::new(rules));
    }

    /// Targets that neither the policy names nor anybody holds: what was learned about them is shown no longer. One that
    /// somebody still holds goes with him.
    fn let_go_of_unused(&self, policy: &Policy) {
        for target in self.known_targets() {
            target.outlive(policy.target(target.name()).is_none());
        }
        drop(self.known_targets());
    }

    /// A list of its own: whoever goes through it may be led back here.
    pub(super) fn known_targets(&self) -> Vec<Arc<Target>> {
        let in_force = self.in_force.load();
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|name, target| {
            let is_wanted = !target.is_outlived() || in_force.policy.target(name).is_some();
            let stays = is_wanted || Arc::strong_count(target) > 1;
            if !stays {
                self.metrics.forget(name);
            }
            stays
        });
        targets.values().cloned().collect()
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
            let library = Arc::clone(&inner);
            let reload = move || library.reload(documents::read(&folder), library.wall_clock.now());
            match tokio::task::spawn_blocking(reload).await {
                Ok(next_end) => next_end,
                Err(error) if error.is_panic() => {
                    // Whatever it was: the next document and the end of a fault must still be taken.
                    tracing::error!(%error, "failed to take the documents; they are read again when they change");
                    inner.faults.expire()
                }
                Err(_) => return,
            }
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
