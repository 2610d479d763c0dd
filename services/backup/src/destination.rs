//! The destination as the run uses it: the volume's calls off the runtime's threads, for any slot of the policy.

use crate::{
    decision::{Place, Stored},
    failure::Failure,
    manifest::Manifest,
    settings::Settings,
    volume::Volume,
};
use chrono::NaiveDate;
use std::{sync::Arc, time::Duration};

/// How often the destination is read before it counts as unreadable, and a write tried before it counts as failed.
pub(crate) const ATTEMPTS: u32 = 3;
/// Pause between two such attempts.
pub(crate) const ATTEMPT_PAUSE: Duration = Duration::from_secs(2);

/// Where the archives of one policy belong.
pub(crate) struct Destination {
    volume: Arc<Volume>,
    claim: String,
    policy_uid: String,
}

impl Destination {
    pub(crate) fn new(settings: &Settings) -> Self {
        let arguments = &settings.arguments;
        Self {
            volume: Arc::new(Volume::new(
                &arguments.destination_folder,
                settings.destination.path.as_deref(),
                &arguments.namespace,
                &arguments.policy,
                settings.slot,
                &arguments.pod_uid,
            )),
            claim: settings.destination.claim_name.clone(),
            policy_uid: arguments.policy_uid.clone(),
        }
    }

    pub(crate) fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    pub(crate) fn place(&self, slot: NaiveDate) -> Place {
        Place {
            claim: self.claim.clone(),
            key: self.volume.of(slot).key(),
        }
    }

    /// What lies under a slot's key, and what it says of itself if it is ours.
    pub(crate) async fn look(&self, slot: NaiveDate) -> Result<(Stored, Option<Manifest>), Failure> {
        let policy_uid = self.policy_uid.clone();
        self.blocking(move |volume| volume.of(slot).look(&|manifest| is_ours(&policy_uid, slot, manifest)))
            .await
    }

    /// Makes the name of a slot's archive durable. As long as the volume refuses, it is not certain that it is stored.
    pub(crate) async fn make_durable(&self, slot: NaiveDate) -> Result<(), Failure> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let Err(error) = self.blocking(move |volume| volume.of(slot).make_durable()).await? else {
                return Ok(());
            };
            tracing::warn!(%error, attempts, "the archive's name may not be durable");
            if attempts >= ATTEMPTS {
                return Err(Failure::Uncertain {
                    key: self.place(slot).key,
                    why: error.to_string(),
                });
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
    }

    pub(crate) async fn blocking<Output: Send + 'static>(
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

fn is_ours(policy_uid: &str, slot: NaiveDate, manifest: &Manifest) -> Result<(), String> {
    if manifest.policy.uid != policy_uid {
        return Err(format!(
            "an archive of another policy lies there (UID {})",
            manifest.policy.uid
        ));
    }
    if manifest.slot != slot {
        return Err(format!("an archive of another slot lies there ({})", manifest.slot));
    }
    Ok(())
}
