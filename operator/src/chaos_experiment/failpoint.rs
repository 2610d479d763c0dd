//! A test seam: ends the process at a named point of a run, as `kill -9` would.
//!
//! Compiled to nothing without the feature `failpoints`, which no release has. With it, an experiment that carries the
//! annotation `resilience.valerix.io/failpoint: <before|after>-<step>` ends the process there once: the annotation is
//! removed first. The steps are those of [`super::apply::step_name`].

#[cfg(feature = "failpoints")]
mod enabled {
    use crate::runtime::Clients;
    use kube::api::{Patch, PatchParams};
    use kube::{Api, ResourceExt};
    use serde_json::json;
    use valerix_crds::ChaosExperiment;

    const ANNOTATION: &str = "resilience.valerix.io/failpoint";

    /// Ends the process if this point was asked for.
    pub async fn reached(clients: &Clients, experiment: &ChaosExperiment, when: &str, step: &str) {
        let point = format!("{when}-{step}");
        let api: Api<ChaosExperiment> = clients.api(&experiment.namespace().unwrap_or_default());
        // The newest annotation counts: the copy at hand may be older than the removal.
        let Ok(Some(current)) = api.get_opt(&experiment.name_any()).await else {
            return;
        };
        if current.annotations().get(ANNOTATION) != Some(&point) {
            return;
        }
        let removal = json!({"metadata": {"annotations": {ANNOTATION: null}}});
        let removed = api
            .patch(&experiment.name_any(), &PatchParams::default(), &Patch::Merge(&removal))
            .await;
        if removed.is_ok() {
            tracing::error!(point, "failpoint: the process ends here");
            std::process::abort();
        }
    }
}

#[cfg(feature = "failpoints")]
pub use enabled::reached;

/// Does nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
#[allow(clippy::unused_async, reason = "the same signature as with the feature")]
pub async fn reached(_: &crate::runtime::Clients, _: &valerix_crds::ChaosExperiment, _: &str, _: &str) {}
