//! The pod around the container. What has no field of its own goes into `podOverrides`. Pure.

use super::{Notes, Spec, document::Fields};
use serde_json::{Map, Value, json};

/// Names of the operator's volumes.
const OWN_VOLUMES: [&str; 2] = ["policy", "state"];

/// Takes the service's own container out of the pod; the others go beside it.
pub fn own_container(pod: &mut Fields, name: &str, overrides: &mut Map<String, Value>, notes: &mut Notes) -> Value {
    let containers = pod.take("containers");
    let mut containers = containers.and_then(|list| list.as_array().cloned()).unwrap_or_default();
    if containers.is_empty() {
        return Value::Null;
    }
    let of_name = containers.iter().position(|container| container["name"] == name);
    let own = containers.remove(of_name.unwrap_or(0));
    if of_name.is_none() && !containers.is_empty() {
        notes.warn(&format!(
            "the first container, {}, is taken for the service's own and is called {name} from now on; the others stand beside it",
            own["name"]
        ));
    }
    if !containers.is_empty() {
        overrides.insert("containers".to_owned(), Value::Array(containers));
    }
    own
}

/// Everything but containers and security.
pub fn convert(mut pod: Fields, spec: &mut Spec, overrides: &mut Map<String, Value>, notes: &mut Notes) {
    for field in [
        "initContainers",
        "imagePullSecrets",
        "nodeSelector",
        "affinity",
        "priorityClassName",
        "terminationGracePeriodSeconds",
    ] {
        spec.put_some(field, pod.take(field));
    }
    let tolerations = pod.take("tolerations").unwrap_or_default();
    spec.put("tolerations", tolerations);
    let volumes = pod.take("volumes").unwrap_or_default();
    for volume in volumes.as_array().into_iter().flatten() {
        if volume["name"].as_str().is_some_and(|name| OWN_VOLUMES.contains(&name)) {
            notes.warn(&format!(
                "the volume {} has the name of one of the operator's; give it another, where it is mounted too",
                volume["name"]
            ));
        }
    }
    spec.put("volumes", volumes);
    let account = pod.take("serviceAccountName").or_else(|| pod.take("serviceAccount"));
    let account = account.filter(|account| *account != json!("default"));
    let mounts_token = pod.take("automountServiceAccountToken");
    // Rights are of use to nobody without the token, which Kubernetes mounts unless told otherwise.
    if mounts_token == Some(json!(true)) || account.is_some() && mounts_token.is_none() {
        overrides.insert("automountServiceAccountToken".to_owned(), json!(true));
    }
    spec.put_some("serviceAccountName", account);
    if let Some(constraints) = pod.take("topologySpreadConstraints") {
        overrides.insert("topologySpreadConstraints".to_owned(), constraints);
        spec.put("topologySpread", json!({"mode": "None"}));
    }
    for field in ["nodeName", "activeDeadlineSeconds", "ephemeralContainers"] {
        if pod.take(field).is_some() {
            notes.warn(&format!("{field} is left out: the pods of a Deployment cannot have it"));
        }
    }
    pod.forget(&["serviceAccount"]);
    pod.forget_defaults(&[
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(false)),
        ("hostNetwork", json!(false)),
    ]);
    overrides.extend(pod.rest());
}

/// What is left of the service's own container, under the name that it has from now on.
pub fn override_container(own: Fields, name: &str, overrides: &mut Map<String, Value>) {
    let mut rest = own.rest();
    if rest.is_empty() {
        return;
    }
    rest.insert("name".to_owned(), json!(name));
    let containers = overrides.entry("containers").or_insert_with(|| json!([]));
    if let Some(containers) = containers.as_array_mut() {
        containers.insert(0, Value::Object(rest));
    }
}
