//! The Restore's status, as the runner writes it: read, change, test, write.
//!
//! In: what changes. Out: the status as the API server has it. Two verbs: get, and patch of the status. A write names the
//! version that it was decided on and the pod that is at work, so that of two pods the one that came last goes on alone.

use crate::record::{CallError, call};
use chrono::Utc;
use json_patch::Patch as JsonPatch;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;
use valerix_crds::{Restore, RestorePhase, RestoreStatus};

/// How long calls that fail for a passing reason are tried again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between such calls.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest message that the status takes. Unit: characters.
const MAX_MESSAGE: usize = 1024;

/// The status could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Restore is gone, or another one has its name.
    #[error("the Restore {name} is gone: nothing is restored for it any more")]
    Gone {
        /// Its name.
        name: String,
    },
    /// Another pod is at work.
    #[error("another pod ({pod}) has taken the Restore over")]
    Superseded {
        /// UID of the pod.
        pod: String,
    },
    /// The API server did not do as asked.
    #[error("failed to {action} the Restore {name}: {why}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// Its name.
        name: String,
        /// What the API server, or the way to it, said last.
        why: String,
    },
}

/// One Restore.
pub(crate) struct Report {
    api: Api<Restore>,
    name: String,
    uid: String,
    pod_uid: String,
    patience: Duration,
}

impl Report {
    pub(crate) fn new(client: kube::Client, namespace: &str, name: &str, uid: &str, pod_uid: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            uid: uid.to_owned(),
            pod_uid: pod_uid.to_owned(),
            patience: PATIENCE,
        }
    }

    /// The same Restore with another patience.
    pub(crate) fn with_patience(&self, patience: Duration) -> Self {
        Self {
            api: self.api.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            pod_uid: self.pod_uid.clone(),
            patience,
        }
    }

    /// The status as it is.
    pub(crate) async fn read(&self) -> Result<RestoreStatus, Error> {
        Ok(self.get().await?.status.unwrap_or_default())
    }

    /// Takes the Restore over and says so; what an earlier pod had begun stands in what is returned. An ended one stays as
    /// it is.
    pub(crate) async fn claim(&self) -> Result<RestoreStatus, Error> {
        self.write(|status| {
            if status.phase.is_terminal() {
                return Ok(());
            }
            status.pod_uid = Some(self.pod_uid.clone());
            status.started_at = status.started_at.or_else(|| Some(Utc::now()));
            (status.reason, status.message) = (None, None);
            // What was about to be swapped is still to be looked after.
            if status.phase != RestorePhase::Swapping {
                status.phase = RestorePhase::Fetching;
            }
            Ok(())
        })
        .await
    }

    /// Changes the status, as long as no other pod has taken over.
    pub(crate) async fn update(&self, change: impl Fn(&mut RestoreStatus)) -> Result<RestoreStatus, Error> {
        self.write(|status| {
            if status.pod_uid.as_ref() != Some(&self.pod_uid) {
                return Err(Error::Superseded {
                    pod: status.pod_uid.clone().unwrap_or_default(),
                });
            }
            change(status);
            Ok(())
        })
        .await
    }

    /// Changes the status whoever is at work.
    pub(crate) async fn write(
        &self,
        change: impl Fn(&mut RestoreStatus) -> Result<(), Error>,
    ) -> Result<RestoreStatus, Error> {
        let until = Instant::now() + self.patience;
        loop {
            let restore = self.get().await?;
            let now = restore.status.clone().unwrap_or_default();
            let mut next = now.clone();
            change(&mut next)?;
            if let Some(message) = &mut next.message
                && message.chars().count() > MAX_MESSAGE
            {
                *message = message.chars().take(MAX_MESSAGE).collect();
            }
            if next == now && restore.status.is_some() {
                return Ok(now);
            }
            let operations = json!([
                {"op": "test", "path": "/metadata/resourceVersion", "value": restore.metadata.resource_version},
                {"op": "add", "path": "/status", "value": next},
            ]);
            let patch: JsonPatch = serde_json::from_value(operations).map_err(|error| Error::Call {
                action: "write the status of",
                name: self.name.clone(),
                why: error.to_string(),
            })?;
            let patch: Patch<()> = Patch::Json(patch);
            match call(self.api.patch_status(&self.name, &PatchParams::default(), &patch)).await {
                Ok(_) => return Ok(next),
                Err(CallError::Passing(_) | CallError::Conflict(_)) if Instant::now() < until => {
                    tokio::time::sleep(PAUSE / 4).await;
                }
                Err(error) => return Err(self.failed("write the status of", error)),
            }
        }
    }

    async fn get(&self) -> Result<Restore, Error> {
        let until = Instant::now() + self.patience;
        loop {
            match call(self.api.get(&self.name)).await {
                Ok(restore) if restore.metadata.uid.as_ref() == Some(&self.uid) => return Ok(restore),
                Ok(_) => {
                    return Err(Error::Gone {
                        name: self.name.clone(),
                    });
                }
                Err(CallError::Passing(_)) if Instant::now() < until => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(self.failed("read", error)),
            }
        }
    }

    fn failed(&self, action: &'static str, error: CallError) -> Error {
        let name = self.name.clone();
        match error {
            CallError::NotFound(_) => Error::Gone { name },
            error => Error::Call {
                action,
                name,
                why: error.into_why(),
            },
        }
    }
}
