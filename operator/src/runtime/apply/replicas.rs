//! A Deployment whose replicas somebody else decides.
//!
//! A field that its only owner stops applying goes, and a Deployment without replicas has one: what runs five pods
//! would fall to one the moment that an autoscaler takes over. So the number that stands is applied once more under
//! a name of its own, which nobody applies again; whoever scales the Deployment takes it over from there.

use super::{Applied, Applier, Child, Error, Handover, Possession, possession};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use valerix_crds::names::APPLIED_ANNOTATION;

/// Who owns the replicas from our letting go of them to the first change by an autoscaler.
const REPLICAS_MANAGER: &str = "valerix-replicas";

impl Applier {
    /// Makes `desired` stand, which says nothing of replicas. A new one begins with `least`, and so does one that was
    /// scaled to zero before: no autoscaler touches that.
    ///
    /// # Errors
    /// As [`Applier::apply`].
    pub async fn apply_scaled(
        &self,
        desired: &Deployment,
        cached: Option<&Deployment>,
        least: i32,
        handover: &Handover<Deployment>,
    ) -> Result<Applied, Error> {
        let child = Child::new(desired)?;
        let api: Api<Deployment> = self.clients.api(&desired.namespace().unwrap_or_default());
        let found = match cached {
            Some(cached) => Some(cached.clone()),
            None => api
                .get_opt(&child.key.1)
                .await
                .map_err(|error| child.failed("read", error))?,
        };
        let Some(live) = found else {
            let mut first = desired.clone();
            if let Some(spec) = first.spec.as_mut() {
                spec.replicas = Some(least);
            }
            return self.apply_with(&first, None, handover).await;
        };
        let is_ours = matches!(
            possession(desired, &live),
            Possession::Ours | Possession::Orphan | Possession::Offered
        ) && live.meta().deletion_timestamp.is_none();
        // What was applied last may have said how many.
        let is_news = live.annotations().get(APPLIED_ANNOTATION) != Some(&child.hash);
        if is_ours && is_news && !self.stands(&child, &live)? {
            self.let_go(&api, &child, least).await?;
        }
        self.apply_with(desired, Some(&live), handover).await
    }

    /// Hands the replicas over as they are this very moment: under its version, so that nobody's scaling is undone.
    async fn let_go(&self, api: &Api<Deployment>, child: &Child, least: i32) -> Result<(), Error> {
        let name = child.key.1.as_str();
        let read = api.get_opt(name).await.map_err(|error| child.failed("read", error))?;
        let Some(live) = read else { return Ok(()) };
        let replicas = live.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let body = json!({
            "apiVersion": Deployment::api_version(&()),
            "kind": Deployment::kind(&()),
            "metadata": {"name": name, "uid": live.uid(), "resourceVersion": live.resource_version()},
            "spec": {"replicas": if replicas == 0 { least } else { replicas }},
        });
        let parameters = PatchParams::apply(REPLICAS_MANAGER).force();
        self.writes.with_label_values(&[self.controller, "apply"]).inc();
        api.patch(name, &parameters, &Patch::Apply(&body))
            .await
            .map_err(|error| child.failed("hand over the replicas of", error))?;
        Ok(())
    }
}
