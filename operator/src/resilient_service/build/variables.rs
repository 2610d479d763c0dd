//! Variables of containers: who the process is, where the policy lies, and what the user sets. Pure.

use super::super::validate::{POLICY_DIRECTORY, Plan, STATE_DIRECTORY};
use k8s_openapi::api::core::v1::{ConfigMapKeySelector, EnvVar, EnvVarSource, ObjectFieldSelector, SecretKeySelector};

/// What the user sets.
pub fn build_own_variables(plan: &Plan) -> impl Iterator<Item = EnvVar> {
    plan.service.spec.env.iter().map(|variable| EnvVar {
        name: variable.name.clone(),
        // The API server leaves an empty one out.
        value: variable.value.clone().filter(|value| !value.is_empty()),
        value_from: variable.value_from.as_ref().map(build_env_source),
    })
}

/// Who the process is.
pub fn build_pod_variables(plan: &Plan) -> Vec<EnvVar> {
    vec![
        variable("VALERIX_SERVICE", &plan.name),
        variable("VALERIX_NAMESPACE", &plan.namespace),
        field_variable("VALERIX_POD_UID", "metadata.uid"),
    ]
}

/// Where whoever obeys the policy finds it, and reports.
pub fn build_policy_variables(plan: &Plan) -> Vec<EnvVar> {
    let report = plan.report_port;
    [
        variable("VALERIX_POLICY_DIR", POLICY_DIRECTORY),
        variable("VALERIX_STATE_DIR", STATE_DIRECTORY),
    ]
    .into_iter()
    .chain(report.map(|port| variable("VALERIX_REPORT_PORT", &port.to_string())))
    .collect()
}

pub fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    }
}

/// A variable whose value is a field of the pod.
pub fn field_variable(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(field_reference(path)),
        ..EnvVar::default()
    }
}

fn build_env_source(source: &valerix_crds::EnvVarSource) -> EnvVarSource {
    EnvVarSource {
        secret_key_ref: source.secret_key_ref.as_ref().map(|reference| SecretKeySelector {
            name: reference.name.clone(),
            key: reference.key.clone(),
            optional: reference.optional,
        }),
        config_map_key_ref: source
            .config_map_key_ref
            .as_ref()
            .map(|reference| ConfigMapKeySelector {
                name: reference.name.clone(),
                key: reference.key.clone(),
                optional: reference.optional,
            }),
        field_ref: source
            .field_ref
            .as_ref()
            .and_then(|reference| field_reference(&reference.field_path).field_ref),
        ..EnvVarSource::default()
    }
}

fn field_reference(path: &str) -> EnvVarSource {
    EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: path.to_owned(),
        }),
        ..EnvVarSource::default()
    }
}
