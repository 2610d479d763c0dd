//! The only place where `verify` changes something: the experiment is put and asked to run, and stopped again.
//!
//! What the file says is put as it is written, whole: the API server then names a field that it does not take, and a field
//! that was taken out of the file is out of the cluster too.

use super::error::Error;
use super::request::{Request, may_run};
use crate::chaos_experiment::requested::is_handled;
use crate::runtime::failure;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use valerix_crds::names::RUN_ANNOTATION;
use valerix_crds::{ChaosExperiment, ChaosExperimentStatus, ChaosPhase};

/// Field manager of what `verify` writes.
const FIELD_MANAGER: &str = "valerix-verify";
/// How often a write is tried again that somebody else was faster than.
const TRIES: usize = 5;

/// One experiment in one namespace.
pub struct Experiment {
    client: Client,
    namespace: String,
    name: String,
}

impl Experiment {
    /// The experiment of this name; nothing is asked yet.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Its API.
    pub fn api(&self) -> Api<ChaosExperiment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Puts it as the file has it, or leaves it as it is, and asks for the run of this id. Returns its UID.
    ///
    /// # Errors
    /// What the API server refused, or why it would never run.
    pub async fn ask(&self, request: &Request, run: &str) -> Result<String, Error> {
        for _ in 0..TRIES {
            let asked = match &request.object {
                Some(object) => self.put(object, run).await?,
                None => self.run_again(run).await?,
            };
            if let Some(uid) = asked {
                return Ok(uid);
            }
        }
        Err(self.too_busy())
    }

    /// Puts what the file says; none when somebody else was faster.
    async fn put(&self, object: &Value, run: &str) -> Result<Option<String>, Error> {
        let api: Api<DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            &self.namespace,
            &ApiResource::erase::<ChaosExperiment>(&()),
        );
        let failed = |doing: &'static str| move |source: kube::Error| Error::api(doing, &self.name, &source);
        let found = api.get_opt(&self.name).await.map_err(failed("read"))?;
        let wanted = merged(found.as_ref(), &self.name, object, run);
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        let written = match &found {
            Some(found) if found.metadata.deletion_timestamp.is_some() => {
                return Err(Error::Refused {
                    name: self.name.clone(),
                    why: "it is being deleted; wait until it is gone".into(),
                });
            }
            Some(_) => api.replace(&self.name, &parameters, &wanted).await,
            None => api.create(&parameters, &wanted).await,
        };
        match written {
            Ok(stored) => Ok(Some(stored.uid().unwrap_or_default())),
            Err(error) if failure::is_status(&error, 409) => Ok(None),
            Err(error) => Err(Error::api("apply", &self.name, &error)),
        }
    }

    /// Asks for a run of what is there; none when it changed meanwhile.
    async fn run_again(&self, run: &str) -> Result<Option<String>, Error> {
        let read = |source| Error::api("read", &self.name, &source);
        let found = self.api().get(&self.name).await.map_err(read)?;
        may_run(&found)?;
        let body = json!({"metadata": {
            "uid": found.uid(),
            "resourceVersion": found.resource_version(),
            "annotations": {RUN_ANNOTATION: run},
        }});
        match self.patch(&body).await {
            Ok(_) => Ok(found.uid()),
            Err(error) if failure::is_status(&error, 409) => Ok(None),
            Err(error) => Err(Error::api("run", &self.name, &error)),
        }
    }

    /// Stops the run of this id and no other: one that has begun recovers at once, one that has not never begins.
    ///
    /// # Errors
    /// What the API server answered.
    pub async fn stop(&self, run: &str) -> Result<Stop, Error> {
        let failed = |source| Error::api("stop", &self.name, &source);
        for _ in 0..TRIES {
            let found = self.api().get(&self.name).await.map_err(failed)?;
            let (stop, change) = to_stop(&found, run);
            let Some(mut body) = change else { return Ok(stop) };
            body["metadata"]["uid"] = json!(found.uid());
            // Whoever takes the run up meanwhile rests on the same version, and one of the two writes is refused. One that is
            // under way changes all the time.
            if stop == Stop::NotBegun {
                body["metadata"]["resourceVersion"] = json!(found.resource_version());
            }
            match self.patch(&body).await {
                Ok(_) => return Ok(stop),
                Err(error) if failure::is_status(&error, 409) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(self.too_busy())
    }

    fn too_busy(&self) -> Error {
        Error::Refused {
            name: self.name.clone(),
            why: "somebody else writes it all the time; try again".into(),
        }
    }

    async fn patch(&self, body: &Value) -> Result<ChaosExperiment, kube::Error> {
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        self.api().patch(&self.name, &parameters, &Patch::Merge(body)).await
    }
}

/// What became of a run that was to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is under way and was told to stop.
    Told,
    /// It had not begun, and nobody asks for it any more.
    NotBegun,
    /// There was nothing to stop any more.
    Over,
}

/// How the run of this id is stopped, as the experiment stands, and what has to be changed for it. Another run that is
/// under way, and a schedule, go on.
fn to_stop(experiment: &ChaosExperiment, run: &str) -> (Stop, Option<Value>) {
    let empty = ChaosExperimentStatus::default();
    let status = experiment.status.as_ref().unwrap_or(&empty);
    let asked = experiment.annotations().get(RUN_ANNOTATION).map(String::as_str) == Some(run);
    let mut change = json!({"metadata": {}});
    if asked {
        change["metadata"]["annotations"] = json!({RUN_ANNOTATION: null});
    }
    let is_ours = status.run.as_deref() == Some(run);
    if is_ours && !status.phase.is_some_and(ChaosPhase::is_terminal) {
        change["spec"]["desired"] = json!("Stop");
        return (Stop::Told, Some(change));
    }
    if is_ours || is_handled(run, status) {
        return (Stop::Over, None);
    }
    // Without its annotation an experiment that never ran would begin by itself.
    if status.run.is_none() && experiment.spec.schedule.is_none() {
        change["spec"]["desired"] = json!("Stop");
        return (Stop::NotBegun, Some(change));
    }
    (Stop::NotBegun, asked.then_some(change))
}

/// The object to write: the file's spec, labels and annotations over what is there, and the run's annotation.
fn merged(found: Option<&DynamicObject>, name: &str, object: &Value, run: &str) -> DynamicObject {
    let resource = ApiResource::erase::<ChaosExperiment>(&());
    let mut wanted = found.cloned().unwrap_or_else(|| DynamicObject::new(name, &resource));
    wanted.metadata.managed_fields = None;
    let own = |field: &str| {
        let map = object.pointer(&format!("/metadata/{field}")).and_then(Value::as_object);
        map.into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect::<Vec<_>>()
    };
    wanted.labels_mut().extend(own("labels"));
    wanted.annotations_mut().extend(own("annotations"));
    wanted.annotations_mut().insert(RUN_ANNOTATION.into(), run.to_owned());
    if !wanted.data.is_object() {
        wanted.data = json!({});
    }
    wanted.data["spec"] = object["spec"].clone();
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::Resource;

    #[test]
    fn only_the_run_that_was_asked_for_is_stopped() {
        let take_back = json!({"metadata": {"annotations": {RUN_ANNOTATION: null}}});
        let mut never = take_back.clone();
        never["spec"] = json!({"desired": "Stop"});
        let schedule = json!({"schedule": "0 10 * * *"});
        let asked = Some("ours");
        for (annotation, spec, status, expected, change) in [
            (asked, json!({}), json!({}), Stop::NotBegun, Some(&never)),
            (asked, schedule.clone(), json!({}), Stop::NotBegun, Some(&take_back)),
            (
                asked,
                json!({}),
                json!({"run": "other", "phase": "Running"}),
                Stop::NotBegun,
                Some(&take_back),
            ),
            (
                Some("other"),
                json!({}),
                json!({"run": "other", "phase": "Running"}),
                Stop::NotBegun,
                None,
            ),
            (
                asked,
                schedule,
                json!({"run": "ours", "phase": "Recovering"}),
                Stop::Told,
                Some(&never),
            ),
            (
                asked,
                json!({}),
                json!({"run": "ours", "phase": "Completed"}),
                Stop::Over,
                None,
            ),
            (
                asked,
                json!({}),
                json!({"run": "other", "lastRequestedRun": "ours"}),
                Stop::Over,
                None,
            ),
        ] {
            let mut experiment: ChaosExperiment = serde_json::from_value(json!({
                "apiVersion": ChaosExperiment::api_version(&()), "kind": ChaosExperiment::kind(&()),
                "metadata": {"name": "slow"}, "spec": {"target": {"service": "inventory"}, "podKill": {}}, "status": status,
            }))
            .unwrap();
            experiment.spec.schedule = spec["schedule"].as_str().map(str::to_owned);
            experiment
                .annotations_mut()
                .extend(annotation.map(|run| (RUN_ANNOTATION.to_owned(), run.to_owned())));
            let found = to_stop(&experiment, "ours");
            assert_eq!(
                (found.0, found.1.as_ref()),
                (expected, change),
                "{annotation:?} {spec} {status}"
            );
        }
    }

    #[test]
    fn what_left_the_file_leaves_the_cluster_and_what_others_wrote_stays() {
        let found: DynamicObject = serde_json::from_value(json!({
            "apiVersion": ChaosExperiment::api_version(&()), "kind": ChaosExperiment::kind(&()),
            "metadata": {"name": "slow", "resourceVersion": "7", "finalizers": ["keep"],
                         "labels": {"of": "others"}, "annotations": {RUN_ANNOTATION: "an earlier one"}},
            "spec": {"latency": {"delay": "1s"}, "duration": "9s"}, "status": {"run": "old"},
        }))
        .unwrap();
        let file =
            json!({"metadata": {"labels": {"own": "yes"}}, "spec": {"podKill": {}}, "status": {"run": "forged"}});
        let wanted = serde_json::to_value(merged(Some(&found), "slow", &file, "new")).unwrap();
        assert_eq!(wanted["spec"], json!({"podKill": {}}));
        assert_eq!(wanted["metadata"]["labels"], json!({"of": "others", "own": "yes"}));
        assert_eq!(wanted["metadata"]["annotations"], json!({RUN_ANNOTATION: "new"}));
        assert_eq!(
            (&wanted["metadata"]["resourceVersion"], &wanted["status"]["run"]),
            (&json!("7"), &json!("old"))
        );
        let created = serde_json::to_value(merged(None, "slow", &file, "new")).unwrap();
        assert_eq!(
            (&created["kind"], created.get("status")),
            (&json!("ChaosExperiment"), None)
        );
    }
}
