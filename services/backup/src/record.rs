//! The slot's Backup record: read it, write its status, pass its fence.
//!
//! In: the record's name and what to write. Out: the record as the API server has it. The only module that talks to
//! the API server, with two verbs: get, and patch of the status. Every call has a timeout, and no answer is believed
//! to mean more than it says: an unclear one is settled by reading.

use crate::manifest::Member;
use json_patch::Patch as JsonPatch;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::{future::Future, time::Duration};
use tokio::time::Instant;
use valerix_crds::{Backup, BackupDatabaseStatus, BackupStatus, Upload, UploadState};

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between calls that failed for a passing reason.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause between looks for a record that is not there yet.
const MISSING_PAUSE: Duration = Duration::from_secs(2);
/// The longest message that the record takes. Unit: characters.
pub(crate) const MAX_MESSAGE: usize = 1024;

/// The record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was not created in time.
    #[error("the record {name} was not there before the deadline: is the operator running? ({why})")]
    Missing {
        /// Name of the record.
        name: String,
        /// What the API server said last.
        why: String,
    },
    /// The API server did not do as asked.
    #[error("failed to {action} the record {name}: {why}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// Name of the record.
        name: String,
        /// What the API server, or the way to it, said last.
        why: String,
    },
}

/// How the attempt to pass the fence ended.
#[derive(Debug)]
pub enum Fence {
    /// This pod may write.
    Passed,
    /// Something changed; look again.
    Lost,
}

/// One record.
#[derive(Clone)]
pub struct Record {
    api: Api<Backup>,
    name: String,
    patience: Duration,
}

impl Record {
    /// The record `name`. Calls that fail for a passing reason are tried again for `patience`.
    pub fn new(client: kube::Client, namespace: &str, name: &str, patience: Duration) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            patience,
        }
    }

    /// The same record with another patience.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self {
            patience,
            ..self.clone()
        }
    }

    /// Another record of the same namespace.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self.clone()
        }
    }

    /// The record, if it is there.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub async fn find(&self) -> Result<Option<Backup>, Error> {
        match call(self.api.get(&self.name)).await {
            Ok(record) => Ok(Some(record)),
            Err(CallError::NotFound(_)) => Ok(None),
            Err(error) => Err(self.failed("read", error)),
        }
    }

    /// The record, as soon as it is there. The operator creates it ahead; its rights may arrive a moment later.
    ///
    /// # Errors
    /// If it is not there at `deadline`.
    pub async fn awaited(&self, deadline: Instant) -> Result<Backup, Error> {
        loop {
            let error = match call(self.api.get(&self.name)).await {
                Ok(record) => return Ok(record),
                Err(error) => error,
            };
            tracing::info!(record = self.name, why = error.why(), "waiting for the record");
            if Instant::now() + MISSING_PAUSE >= deadline {
                return Err(Error::Missing {
                    name: self.name.clone(),
                    why: error.into_why(),
                });
            }
            tokio::time::sleep(MISSING_PAUSE).await;
        }
    }

    /// The record as it is now.
    ///
    /// # Errors
    /// If the API server does not answer for too long.
    pub async fn read(&self) -> Result<Backup, Error> {
        let until = Instant::now() + self.patience;
        loop {
            match call(self.api.get(&self.name)).await {
                Ok(record) => return Ok(record),
                Err(CallError::Passing(_)) if Instant::now() < until => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(self.failed("read", error)),
            }
        }
    }

    /// Changes the status as it is now; `change` sees the newest one and may decline by `None`. Nothing that somebody
    /// else wrote in between is lost.
    ///
    /// # Errors
    /// If the API server does not do it for too long.
    pub async fn update(&self, change: impl Fn(&BackupStatus) -> Option<BackupStatus>) -> Result<BackupStatus, Error> {
        let until = Instant::now() + self.patience;
        loop {
            let record = self.read().await?;
            let now = record.status.clone().unwrap_or_default();
            let Some(next) = change(&now) else { return Ok(now) };
            if next == now && record.status.is_some() {
                return Ok(now);
            }
            let patch = json!([
                {"op": "test", "path": "/metadata/resourceVersion", "value": record.metadata.resource_version},
                {"op": "add", "path": "/status", "value": next},
            ]);
            match self.patch(patch).await {
                Ok(()) => return Ok(next),
                Err(CallError::Passing(_) | CallError::Conflict(_)) if Instant::now() < until => {
                    tokio::time::sleep(PAUSE / 4).await;
                }
                Err(error) => return Err(self.failed("write the status of", error)),
            }
        }
    }

    /// The fence: turns the upload from None into Started by this pod. An unclear answer is settled by reading, since
    /// the upload names the pod and the archive.
    ///
    /// # Errors
    /// If the API server does not answer for too long: the fence may have been passed and nothing may be written.
    pub async fn pass_fence(&self, uid: Option<&str>, upload: &Upload) -> Result<Fence, Error> {
        let until = Instant::now() + self.patience;
        loop {
            let now = self.read().await?.status.unwrap_or_default().upload;
            if now == *upload {
                return Ok(Fence::Passed);
            }
            if now.state != UploadState::None {
                return Ok(Fence::Lost);
            }
            match self.patch(fence_patch(uid, upload)).await {
                Ok(()) => return Ok(Fence::Passed),
                Err(error) if Instant::now() >= until => return Err(self.failed("pass the fence of", error)),
                // Whatever the answer was, the record tells whether the patch took.
                Err(error) => {
                    tracing::warn!(
                        record = self.name,
                        why = error.why(),
                        "unclear answer at the fence; reading the record"
                    );
                    tokio::time::sleep(PAUSE / 4).await;
                }
            }
        }
    }

    /// Gives back the fence as it was held by somebody who can store no more by it and has not stored. The same pod may
    /// have passed it again since: that is another hold, and stays.
    ///
    /// # Errors
    /// If the API server does not do it for too long.
    pub async fn release(&self, hold: &Upload) -> Result<(), Error> {
        self.update(|status| {
            (status.upload == *hold).then(|| BackupStatus {
                upload: Upload::default(),
                ..status.clone()
            })
        })
        .await
        .map(|_| ())
    }

    async fn patch(&self, operations: serde_json::Value) -> Result<(), CallError> {
        let patch: JsonPatch =
            serde_json::from_value(operations).map_err(|error| CallError::Lasting(error.to_string()))?;
        let patch: Patch<()> = Patch::Json(patch);
        call(self.api.patch_status(&self.name, &PatchParams::default(), &patch))
            .await
            .map(|_| ())
    }

    fn failed(&self, action: &'static str, error: CallError) -> Error {
        Error::Call {
            action,
            name: self.name.clone(),
            why: error.into_why(),
        }
    }
}

/// What the record says of a dump.
pub(crate) fn database_status(member: &Member) -> BackupDatabaseStatus {
    BackupDatabaseStatus {
        name: member.name.clone(),
        bytes: i64::try_from(member.bytes).unwrap_or(i64::MAX),
        tables: i64::try_from(member.tables).unwrap_or(i64::MAX),
        server_version: Some(member.server_version.chars().take(64).collect()),
        client_version: Some(member.client_version.chars().take(64).collect()),
        duration_milliseconds: i64::try_from(member.duration_milliseconds).unwrap_or(i64::MAX),
    }
}

/// Tests what is there before it changes it: the API server does both in one transaction.
fn fence_patch(uid: Option<&str>, upload: &Upload) -> serde_json::Value {
    let mut operations = vec![json!({"op": "test", "path": "/status/upload/state", "value": UploadState::None})];
    if let Some(uid) = uid {
        operations.push(json!({"op": "test", "path": "/metadata/uid", "value": uid}));
    }
    operations.push(json!({"op": "replace", "path": "/status/upload", "value": upload}));
    operations.push(json!({"op": "replace", "path": "/status/phase", "value": "Uploading"}));
    serde_json::Value::Array(operations)
}

pub(crate) enum CallError {
    NotFound(String),
    Conflict(String),
    Passing(String),
    Lasting(String),
}

impl CallError {
    fn why(&self) -> &str {
        match self {
            Self::NotFound(why) | Self::Conflict(why) | Self::Passing(why) | Self::Lasting(why) => why,
        }
    }

    pub(crate) fn into_why(self) -> String {
        match self {
            Self::NotFound(why) | Self::Conflict(why) | Self::Passing(why) | Self::Lasting(why) => why,
        }
    }
}

pub(crate) async fn call<Output>(request: impl Future<Output = kube::Result<Output>>) -> Result<Output, CallError> {
    match tokio::time::timeout(CALL_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Err(_) => Err(CallError::Passing(format!(
            "no answer within {} s",
            CALL_TIMEOUT.as_secs()
        ))),
        Ok(Err(kube::Error::Api(status))) => {
            let why = format!("{} ({})", status.message, status.code);
            Err(match status.code {
                404 => CallError::NotFound(why),
                // A JSON patch whose test fails is answered with 422.
                409 | 422 => CallError::Conflict(why),
                // 403 too: the RoleBinding may be younger than the pod.
                403 | 408 | 429 | 500.. => CallError::Passing(why),
                _ => CallError::Lasting(why),
            })
        }
        Ok(Err(error)) => Err(CallError::Passing(error.to_string())),
    }
}
