//! As whom the pod runs. A ResilientService is restricted where it says nothing, a Deployment is not: what would keep a
//! container from running is loosened, or named. Pure.

use super::{Notes, Spec, document::Fields};
use serde_json::{Map, Value, json};

/// Fields of a pod's or a container's securityContext that the specification has too.
const SHARED: [&str; 4] = ["runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile"];

pub fn convert(
    pod: &mut Fields,
    own: &mut Fields,
    name: &str,
    spec: &mut Spec,
    overrides: &mut Map<String, Value>,
    notes: &mut Notes,
) {
    let mut of_pod = Fields::new(pod.take("securityContext"));
    let mut of_container = Fields::new(own.take("securityContext"));
    let mut wanted = Spec::default();
    for field in SHARED {
        let (inner, outer) = (of_container.take(field), of_pod.take(field));
        wanted.put_some(field, inner.or(outer));
    }
    for field in ["fsGroup", "supplementalGroups"] {
        wanted.put_some(field, of_pod.take(field));
    }
    for field in ["allowPrivilegeEscalation", "readOnlyRootFilesystem"] {
        wanted.put_some(field, of_container.take(field));
    }
    let mut is_given_some = false;
    let capabilities = of_container.take("capabilities");
    if let Some(capabilities) = &capabilities {
        // One that names none to drop drops none.
        let (add, drop) = (named(&capabilities["add"]), named(&capabilities["drop"]));
        is_given_some = !add.is_empty();
        wanted.put("capabilities", json!({"add": add, "drop": drop}));
    }
    let wanted = &mut wanted.0;
    if is_given_some {
        // Of a user that is not root it is the program's file that has them, and that counts only where privileges may be gained.
        wanted.entry("allowPrivilegeEscalation").or_insert_with(|| json!(true));
    }
    match wanted.get("runAsUser") {
        None => notes.warn(
            "nothing says as which user the container runs, so it runs as 65532; write the image's own user into \
             securityContext.runAsUser (0 for root, and runAsNonRoot: false)",
        ),
        Some(user) if *user == json!(0) => {
            // Root without its capabilities is refused what root images do at their start.
            wanted.insert("runAsNonRoot".to_owned(), json!(false));
            wanted.entry("capabilities").or_insert_with(|| json!({"drop": []}));
            wanted.entry("allowPrivilegeEscalation").or_insert_with(|| json!(true));
        }
        Some(_) => {}
    }
    wanted.entry("readOnlyRootFilesystem").or_insert_with(|| json!(false));
    spec.put("securityContext", Value::Object(wanted.clone()));
    let rest = of_pod.rest();
    if !rest.is_empty() {
        overrides.insert("securityContext".to_owned(), Value::Object(rest));
    }
    of_container.forget_defaults(&[("privileged", json!(false))]);
    let rest = of_container.rest();
    if !rest.is_empty() {
        if rest.contains_key("privileged") {
            let text = format!(
                "container {name} is privileged, which allows everything; a ResilientService says so in podOverrides alone"
            );
            notes.warn(&text);
            if let Some(Value::Object(wanted)) = spec.0.get_mut("securityContext") {
                // Kubernetes refuses a privileged container that may not gain privileges.
                wanted.insert("allowPrivilegeEscalation".to_owned(), json!(true));
            }
        }
        own.put("securityContext", Value::Object(rest));
    }
}

/// Capabilities as the kind takes them: container runtimes read `all` as `ALL`.
fn named(found: &Value) -> Vec<String> {
    let names = found.as_array().into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_uppercase).collect()
}
