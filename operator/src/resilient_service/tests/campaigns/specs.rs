//! Specifications that nobody wrote: whatever the schema and the rules accept is built, and what is built can stand.

use super::*;
use valerix_draw::Draws;

/// Entries of a list that Kubernetes would take for one.
fn twice(list: &Value, keys: &[&str]) -> Option<Value> {
    let mut seen = BTreeSet::new();
    let mut entries = list.as_array().into_iter().flatten();
    entries
        .find(|entry| !seen.insert(keys.iter().map(|key| entry[key].to_string()).collect::<Vec<_>>()))
        .cloned()
}

fn stands(child: &Value) -> Result<(), String> {
    let name = child["metadata"]["name"].as_str().unwrap_or_default();
    if name.len() > 63 || child["metadata"]["namespace"] != "shop" {
        return Err(format!("is named {}", child["metadata"]));
    }
    if child["kind"] == "Service" {
        let ports = &child["spec"]["ports"];
        let repeated = twice(ports, &["name"]).or_else(|| twice(ports, &["port"]));
        return repeated.map_or(Ok(()), |port| Err(format!("offers {port} twice")));
    }
    if child["kind"] != "Deployment" {
        return Ok(());
    }
    let template = &child["spec"]["template"];
    for (key, value) in child["spec"]["selector"]["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
    {
        if template["metadata"]["labels"][key] != *value {
            return Err(format!("does not select its own pods by {key}"));
        }
    }
    let pod = &template["spec"];
    let lists = [&pod["containers"], &pod["initContainers"]];
    let containers: Vec<Value> = lists
        .into_iter()
        .filter_map(Value::as_array)
        .flatten()
        .cloned()
        .collect();
    if let Some(container) = twice(&json!(containers), &["name"]).or_else(|| twice(&pod["volumes"], &["name"])) {
        return Err(format!("has two of the name of {container}"));
    }
    let volumes = pod["volumes"].as_array().into_iter().flatten();
    let volumes: Vec<&Value> = volumes.map(|volume| &volume["name"]).collect();
    for container in &containers {
        let repeated = twice(&container["volumeMounts"], &["mountPath"])
            .or_else(|| twice(&container["env"], &["name"]))
            .or_else(|| twice(&container["ports"], &["containerPort", "protocol"]));
        if let Some(repeated) = repeated {
            return Err(format!("container {} has {repeated} twice", container["name"]));
        }
        let mut mounts = container["volumeMounts"].as_array().into_iter().flatten();
        if let Some(mount) = mounts.find(|mount| !volumes.contains(&&mount["name"])) {
            return Err(format!("{mount} mounts no volume"));
        }
    }
    Ok(())
}

#[test]
fn whatever_the_rules_accept_is_built_and_can_stand() {
    let (rounds, seed) = (number("VALERIX_ROUNDS", 60), number("VALERIX_SEED", 1));
    let mut draws = Draws::seeded(seed).unwrap();
    let mut kinds = BTreeSet::new();
    for round in 0..rounds {
        let mut drawn = draws.service("order", refused);
        drawn["metadata"]["namespace"] = json!("shop");
        drawn["metadata"]["uid"] = json!("uid");
        let service: Arc<ResilientService> = Arc::new(serde_json::from_value(drawn.clone()).unwrap());
        let built = crate::resilient_service::children(&service, "guard:1", "valerix-system");
        let built = built.unwrap_or_else(|violations| panic!("seed {seed}, round {round}: {violations} in {drawn}"));
        for child in built.objects().unwrap() {
            let kind = child["kind"].as_str().unwrap().to_owned();
            if let Err(text) = stands(&child) {
                panic!("seed {seed}, round {round}: {kind} {text}\n{child}\nof {drawn}");
            }
            kinds.insert(kind);
        }
    }
    assert_eq!(kinds.len(), 7, "{kinds:?}");
}
