//! What runs already as a ResilientService: a Deployment, and the Service, HorizontalPodAutoscaler and
//! PodDisruptionBudget around it. Pure; what the kind cannot say becomes a warning that names the field.

mod around;
mod container;
mod document;
mod pod;
mod ports;
mod probe;
mod security;
#[cfg(test)]
mod tests;

use crate::resilient_service::violations;
use document::{Document, Fields};
use serde_json::{Map, Value, json};
use std::{fmt::Write as _, sync::Arc};
use valerix_crds::{
    ResilientService,
    names::{ADOPT_ANNOTATION, MANAGED_BY_LABEL, NAME_LABEL},
};

/// Why nothing could be converted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no YAML, or a document in it is none.
    #[error(
        "failed to read document {number}: {source}; pass rendered manifests, for example the output of `helm template`"
    )]
    Read {
        /// Which document, counted from one.
        number: usize,
        /// What is wrong, and where.
        source: serde_yaml::Error,
    },
    /// There is no Deployment in it.
    #[error("failed to find a Deployment in the input: a ResilientService is made of one")]
    NoDeployment,
    /// A field has a type that it cannot have.
    #[error("failed to convert Deployment {name}: {source}")]
    Unreadable {
        /// Name of the Deployment.
        name: String,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// A bug: the result cannot be written.
    #[error("failed to write the ResilientService {name}: {source}")]
    Write {
        /// Name of the service.
        name: String,
        /// What the serializer said.
        source: serde_yaml::Error,
    },
}

/// What came of a conversion.
#[derive(Debug, Default)]
pub struct Converted {
    /// One ResilientService for each Deployment, in the order of these, as YAML documents.
    pub yaml: String,
    /// What the kind says in another way or not at all, one sentence each, with the remedy.
    pub warnings: Vec<String>,
    /// How what runs is handed over, one command for each service.
    pub commands: Vec<String>,
}

/// Converts every Deployment of `text`, YAML documents as `kubectl get -o yaml` or `helm template` print them.
///
/// # Errors
/// If the text cannot be read, or holds no Deployment.
pub fn convert(text: &str) -> Result<Converted, Error> {
    let documents = document::read(text)?;
    let mut converted = Converted::default();
    for document in documents.iter().filter(|document| document.is("apps", "Deployment")) {
        let mut notes = Notes::new(format!("Deployment {}", document.name));
        let service = of_deployment(document, &documents, &mut notes, &mut converted.commands)?;
        for violation in violations(&Arc::new(service.clone())) {
            notes.warn(&violation.to_string());
        }
        let yaml = serde_yaml::to_string(&service).map_err(|source| Error::Write {
            name: document.name.clone(),
            source,
        })?;
        let _ = write!(converted.yaml, "---\n{yaml}");
        converted.warnings.append(&mut notes.warnings);
    }
    if converted.yaml.is_empty() {
        return Err(Error::NoDeployment);
    }
    converted.warnings.extend(left_out(&documents));
    Ok(converted)
}

fn of_deployment(
    deployment: &Document,
    all: &[Document],
    notes: &mut Notes,
    commands: &mut Vec<String>,
) -> Result<ResilientService, Error> {
    let name = deployment.name.as_str();
    let mut of_deployment = Fields::of(&deployment.body["spec"]);
    let mut template = Fields::new(of_deployment.take("template"));
    let mut metadata = Fields::new(template.take("metadata"));
    let labels = metadata.take("labels").unwrap_or_default();
    let mut spec = Spec::default();
    // Services that stay choose the pods by them.
    let mut pod_labels = labels.as_object().cloned().unwrap_or_default();
    pod_labels.retain(|key, _| ![NAME_LABEL, MANAGED_BY_LABEL].contains(&key.as_str()));
    spec.put("podLabels", Value::Object(pod_labels));
    spec.put("podAnnotations", annotations(metadata.take("annotations")));
    for field in ["replicas", "minReadySeconds"] {
        spec.put_some(field, of_deployment.take(field));
    }
    // 600 is what Kubernetes writes where nothing was said.
    let deadline = of_deployment.take("progressDeadlineSeconds");
    spec.put_some(
        "progressDeadlineSeconds",
        deadline.filter(|seconds| *seconds != json!(600)),
    );
    if let Some(strategy) = of_deployment.take("strategy") {
        spec.put("strategy", update_strategy(&strategy));
    }
    if of_deployment.take("paused") == Some(json!(true)) {
        notes
            .warn("spec.paused stops rollouts, and nothing here does; paused: true would stop the operator as a whole");
    }
    of_deployment.forget(&["selector", "revisionHistoryLimit"]);
    notes.leftovers("spec", of_deployment);

    let mut pod = Fields::new(template.take("spec"));
    let mut overrides = Map::new();
    let own = pod::own_container(&mut pod, name, &mut overrides, notes);
    let mut own = Fields::new(Some(own));
    security::convert(&mut pod, &mut own, name, &mut spec, &mut overrides, notes);
    let mut ports = ports::ports(&mut own, notes);
    let around = around::find(deployment, &labels, all, notes);
    if let Some(service) = &around.service {
        around::exposure(service, &mut ports, &mut spec, notes);
    }
    container::convert(&mut own, &mut ports, &mut spec, notes);
    pod::convert(pod, &mut spec, &mut overrides, notes);
    pod::override_container(own, name, &mut overrides);
    if let Some(scaler) = &around.autoscaler {
        around::autoscaling(scaler, &mut spec, notes);
    }
    if let Some(budget) = &around.budget {
        around::disruption(budget, &mut spec);
    }
    spec.put("ports", ports.into_value());
    spec.put("podOverrides", Value::Object(overrides));
    spec.put("resilience", json!({"protocol": "None"}));
    commands.push(hand_over(deployment, &around));
    let mut metadata = json!({"name": name});
    if let Some(namespace) = &deployment.namespace {
        metadata["namespace"] = json!(namespace);
    }
    serde_json::from_value(json!({
        "apiVersion": "resilience.valerix.io/v1alpha1", "kind": "ResilientService",
        "metadata": metadata, "spec": spec.0,
    }))
    .map_err(|source| Error::Unreadable {
        name: name.to_owned(),
        source,
    })
}

/// Without what kubectl writes down for itself.
fn annotations(found: Option<Value>) -> Value {
    let mut annotations = found.and_then(|found| found.as_object().cloned()).unwrap_or_default();
    annotations
        .retain(|key, _| !key.starts_with("kubectl.kubernetes.io/") && !key.starts_with("deployment.kubernetes.io/"));
    Value::Object(annotations)
}

fn update_strategy(strategy: &Value) -> Value {
    if strategy["type"] == "Recreate" {
        return json!({"type": "Recreate"});
    }
    let rolling = strategy["rollingUpdate"].as_object().cloned().unwrap_or_default();
    // What Kubernetes writes where nothing was said: our own default misses no pod.
    let is_default = |value: &Value| *value == json!("25%");
    if !rolling.is_empty() && rolling.values().all(is_default) {
        return json!({});
    }
    Value::Object(rolling)
}

/// The command that hands over what has the name of a child.
fn hand_over(deployment: &Document, around: &around::Around) -> String {
    let name = &deployment.name;
    let mut objects = vec![format!("deployment/{name}")];
    for (found, resource) in [
        (&around.service, "service"),
        (&around.autoscaler, "horizontalpodautoscaler"),
        (&around.budget, "poddisruptionbudget"),
    ] {
        if found.as_ref().is_some_and(|found| found.name == *name) {
            objects.push(format!("{resource}/{name}"));
        }
    }
    let namespace = deployment
        .namespace
        .as_ref()
        .map(|namespace| format!(" -n {namespace}"));
    format!(
        "kubectl annotate{} {} {ADOPT_ANNOTATION}=true",
        namespace.unwrap_or_default(),
        objects.join(" ")
    )
}

/// Workloads that no ResilientService can be.
fn left_out(documents: &[Document]) -> Vec<String> {
    let others = documents.iter().filter(|document| {
        ["StatefulSet", "DaemonSet", "Job", "CronJob", "Pod", "ReplicaSet"].contains(&document.kind.as_str())
    });
    others
        .map(|document| {
            format!(
                "{} {} is left out: a ResilientService makes a Deployment; keep it as it is",
                document.kind, document.name
            )
        })
        .collect()
}

/// The specification that comes to be. What is empty is left out.
#[derive(Default)]
struct Spec(Map<String, Value>);

impl Spec {
    fn put(&mut self, field: &str, value: Value) {
        let is_empty = match &value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if !is_empty {
            self.0.insert(field.to_owned(), value);
        }
    }

    fn put_some(&mut self, field: &str, value: Option<Value>) {
        self.put(field, value.unwrap_or_default());
    }
}

/// What is to be said about one Deployment.
struct Notes {
    about: String,
    warnings: Vec<String>,
}

impl Notes {
    fn new(about: String) -> Self {
        Self {
            about,
            warnings: Vec::new(),
        }
    }

    fn warn(&mut self, text: &str) {
        self.warnings.push(format!("{}: {text}", self.about));
    }

    /// Fields that nobody took.
    fn leftovers(&mut self, path: &str, fields: Fields) {
        for (field, _) in fields.rest() {
            self.warn(&format!(
                "{path}.{field} is left out: a ResilientService has no such field"
            ));
        }
    }
}
