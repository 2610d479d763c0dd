//! Removes fault entries that nobody would end: their experiment is gone, or does not run them any more.
//!
//! Reads ConfigMaps and experiments; writes fault documents. Looks when this process begins to lead, whenever an
//! experiment is deleted, whenever its watch begins anew, and every few minutes while a cached document has an entry. The
//! pods end every fault on their own clock all the same; what is swept up is the lock, without which the target could not be
//! hurt again.

use super::apply::write_faults;
use super::entry::released;
use super::identity::EntryName;
use super::observed::Document;
use super::step::{entry_name, is_active};
use crate::runtime::{Clients, Scope, failure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use valerix_crds::ChaosExperiment;
use valerix_crds::names::{FAULTS_KEY, MANAGED_BY, MANAGED_BY_LABEL, SERVICE_LABEL};
use valerix_policy::Faults;

/// How long an entry that a lost answer left behind keeps its target at the longest.
const PERIOD: Duration = Duration::from_secs(300);
/// How long to wait after a sweep that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Asks for sweeps; cheap to clone.
#[derive(Clone)]
pub struct Sweeps(UnboundedSender<()>);

impl Sweeps {
    /// Asks for a sweep of everything.
    pub fn ask(&self) {
        // The receiver only ends with the process.
        let _ = self.0.send(());
    }
}

/// A way to ask for sweeps, and what it asked for.
pub fn sweeps() -> (Sweeps, UnboundedReceiver<()>) {
    let (sender, receiver) = unbounded_channel();
    (Sweeps(sender), receiver)
}

/// Sweeps when asked, every few minutes while something `is_held`, and again after a failure. At rest nothing is held, and
/// nothing is asked of the API server.
pub async fn run(
    clients: Clients,
    scopes: Vec<Scope>,
    mut requests: UnboundedReceiver<()>,
    is_held: impl Fn() -> bool,
) {
    loop {
        match tokio::time::timeout(PERIOD, requests.recv()).await {
            Ok(None) => return,
            Err(_) if !is_held() => continue,
            _ => {}
        }
        // Many deletions at once are one sweep.
        while requests.try_recv().is_ok() {}
        while let Err(error) = sweep(&clients, &scopes).await {
            tracing::warn!(
                error = failure::chain(&error),
                "failed to look for faults without an experiment; trying again"
            );
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Whether a ConfigMap has an entry, as far as it can be read.
pub fn has_entry(map: &ConfigMap) -> bool {
    let text = map.data.as_ref().and_then(|data| data.get(FAULTS_KEY));
    text.is_some_and(|text| held(text).is_some())
}

/// Looks at every fault document once; says how many were cleared.
///
/// # Errors
/// When something could not be read or written.
pub async fn sweep(clients: &Clients, scopes: &[Scope]) -> Result<usize, kube::Error> {
    let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY},{SERVICE_LABEL}"));
    let mut cleared = 0;
    for scope in scopes {
        let maps: Api<ConfigMap> = scope.api(clients.write.clone());
        for map in maps.list(&ours).await?.items {
            let Some(text) = map.data.as_ref().and_then(|data| data.get(FAULTS_KEY)) else {
                continue;
            };
            let Some(entry) = held(text) else { continue };
            let namespace = map.namespace().unwrap_or_default();
            if !is_orphan(clients, &namespace, &entry).await? {
                continue;
            }
            let document = Document {
                uid: map.uid().unwrap_or_default(),
                resource_version: map.resource_version().unwrap_or_default(),
                faults: Some(text.clone()),
            };
            tracing::info!(
                namespace,
                config_map = map.name_any(),
                entry,
                "removing a fault whose experiment does not run it"
            );
            match write_faults(clients, &namespace, &map.name_any(), &document, &released(&entry)).await {
                Ok(()) => cleared += 1,
                // Changed since it was read: it is somebody's business again, or another sweep's.
                Err(error) if failure::is_status(&error, 409) || failure::is_status(&error, 404) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(cleared)
}

/// Who holds the document: an entry's name, or a word for a text that nobody can read.
fn held(text: &str) -> Option<String> {
    match Faults::parse(text.as_bytes()) {
        Ok(parsed) => parsed.document.faults.first().map(|entry| entry.run.clone()),
        Err(_) => Some("unreadable".into()),
    }
}

async fn is_orphan(clients: &Clients, namespace: &str, entry: &str) -> Result<bool, kube::Error> {
    let Some(name) = EntryName::parse(entry) else {
        return Ok(true);
    };
    let experiments: Api<ChaosExperiment> = clients.api(namespace);
    let found = experiments.get_opt(&name.experiment).await?;
    // An intent is persisted before its entry is written, so a run that is about to begin is active already.
    Ok(found.is_none_or(|experiment| !is_active(&experiment) || entry_name(&experiment) != name))
}
