//! The parts of a specification that are written as in Kubernetes, read into Kubernetes' types. Pure.
//!
//! The schema keeps whatever these parts hold, so a field that is misspelt or of the wrong type is found here.

use crate::runtime::Violation;
use k8s_openapi::api::{
    autoscaling::v2::{HorizontalPodAutoscalerBehavior, MetricSpec},
    core::v1::{Affinity, Container, PodSpec, Volume},
    networking::v1::NetworkPolicyPeer,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use valerix_crds::{ResilientServiceSpec, Verbatim};

/// The parts of one specification.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// `spec.volumes`.
    pub volumes: Vec<Volume>,
    /// `spec.initContainers`.
    pub init_containers: Vec<Container>,
    /// `spec.affinity`.
    pub affinity: Option<Affinity>,
    /// `spec.podOverrides`.
    pub pod_overrides: Option<PodSpec>,
    /// `spec.autoscaling.metrics`.
    pub metrics: Vec<MetricSpec>,
    /// `spec.autoscaling.behavior`.
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
    /// `spec.networkPolicy.ingressFrom`.
    pub ingress_from: Option<Vec<NetworkPolicyPeer>>,
    /// `spec.networkPolicy.egressTo`.
    pub egress_to: Option<Vec<NetworkPolicyPeer>>,
}

impl Parts {
    /// Reads all of them; what cannot be read is left out and told.
    pub fn read(spec: &ResilientServiceSpec, violations: &mut Vec<Violation>) -> Self {
        let mut reader = Reader(violations);
        let autoscaling = spec.autoscaling.as_ref();
        let network = spec.network_policy.as_ref();
        Self {
            volumes: reader.list("spec.volumes", &spec.volumes),
            init_containers: reader.list("spec.initContainers", &spec.init_containers),
            affinity: reader.one("spec.affinity", spec.affinity.as_ref()),
            pod_overrides: reader.one("spec.podOverrides", spec.pod_overrides.as_ref()),
            metrics: autoscaling.map_or_else(Vec::new, |scaling| {
                reader.list("spec.autoscaling.metrics", &scaling.metrics)
            }),
            behavior: autoscaling
                .and_then(|scaling| reader.one("spec.autoscaling.behavior", scaling.behavior.as_ref())),
            ingress_from: network
                .and_then(|policy| policy.ingress_from.as_ref())
                .map(|peers| reader.list("spec.networkPolicy.ingressFrom", peers)),
            egress_to: network
                .and_then(|policy| policy.egress_to.as_ref())
                .map(|peers| reader.list("spec.networkPolicy.egressTo", peers)),
        }
    }
}

/// Reads parts and notes what is wrong with them.
struct Reader<'a>(&'a mut Vec<Violation>);

impl Reader<'_> {
    fn list<T: DeserializeOwned + Serialize>(&mut self, field: &str, parts: &[Verbatim]) -> Vec<T> {
        let numbered = parts.iter().enumerate();
        numbered
            .filter_map(|(index, part)| self.one(&format!("{field}[{index}]"), Some(part)))
            .collect()
    }

    fn one<T: DeserializeOwned + Serialize>(&mut self, field: &str, part: Option<&Verbatim>) -> Option<T> {
        let written = Value::Object(part?.0.clone());
        let mut refuse = |field: String, message: String, remedy: &str| {
            self.0.push(Violation::new(field, message, remedy));
            None
        };
        let read: T = match serde_json::from_value(written.clone()) {
            Ok(read) => read,
            Err(error) => {
                let message = format!("Kubernetes could not read it: {error}");
                return refuse(
                    field.to_owned(),
                    message,
                    "write it as Kubernetes' API reference has it",
                );
            }
        };
        let known = match serde_json::to_value(&read) {
            Ok(known) => known,
            Err(error) => {
                let message = format!("Kubernetes could not read it: {error}");
                return refuse(
                    field.to_owned(),
                    message,
                    "write it as Kubernetes' API reference has it",
                );
            }
        };
        match unknown(field, &written, &known) {
            Some(path) => refuse(
                path,
                "Kubernetes knows no such field here".to_owned(),
                "correct its name, or remove it",
            ),
            None => Some(read),
        }
    }
}

/// Path of the first field that was written and is not known.
fn unknown(path: &str, written: &Value, known: &Value) -> Option<String> {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => written.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match known.get(key) {
                Some(known) => unknown(&path, value, known),
                // What is null, or an empty list, says as little as what is absent.
                None if value.is_null() || value.as_array().is_some_and(Vec::is_empty) => None,
                None => Some(path),
            }
        }),
        (Value::Array(written), Value::Array(known)) => {
            let pairs = written.iter().zip(known).enumerate();
            pairs
                .into_iter()
                .find_map(|(index, (written, known))| unknown(&format!("{path}[{index}]"), written, known))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures;
    use super::*;
    use serde_json::json;

    fn told(spec: Value) -> Vec<String> {
        let mut violations = Vec::new();
        Parts::read(&fixtures::service("order", spec).spec, &mut violations);
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_misspelt_field_is_named_wherever_it_stands() {
        let spec = json!({
            "image": "a",
            "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"nam": "x"}}],
            "initContainers": [{"name": "a", "image": "b", "env": [{"name": "X", "valu": "y"}]}],
            "affinity": {"nodeAfinity": {}},
            "podOverrides": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}], "dnsPolcy": "Default"},
            "autoscaling": {"maxReplicas": 2, "metrics": [{"type": "External", "external": {"metrik": {}}}], "behavior": {"scaleDow": {}}},
            "networkPolicy": {"ingressFrom": [{"podSelektor": {}}], "egressTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
        });
        let fields: Vec<String> = told(spec)
            .into_iter()
            .map(|text| text.split(": ").next().unwrap().to_owned())
            .collect();
        assert_eq!(
            fields,
            [
                "spec.volumes[1].configMap.nam",
                "spec.initContainers[0].env[0].valu",
                "spec.affinity.nodeAfinity",
                "spec.podOverrides.dnsPolcy",
                "spec.autoscaling.metrics[0].external.metrik",
                "spec.autoscaling.behavior.scaleDow",
                "spec.networkPolicy.ingressFrom[0].podSelektor",
            ]
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_is_told_in_words_and_an_empty_one_is_none() {
        let spec = json!({"image": "a", "volumes": [
            {"name": "a", "emptyDir": {"medium": 5}}, {"name": "b", "emptyDir": {"sizeLimit": 1024}, "secret": null}
        ]});
        let told = told(spec);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("spec.volumes[0]: Kubernetes could not read it: invalid type"),
            "{told:?}"
        );
    }
}
