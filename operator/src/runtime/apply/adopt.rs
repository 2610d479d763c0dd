//! Objects that somebody hands over: what runs goes on running as the same object.
//!
//! Whoever wrote it owns its fields. What we do not want would stay: a container of another name beside ours, a port
//! that nobody listens on. So its fields become ours first, and our apply then removes what it leaves out. Labels and
//! annotations stay theirs: others may choose it by them.

use super::{Applied, Applier, Child, Error, FIELD_MANAGER, Written};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};

/// How an object that is handed over is taken.
pub struct Handover<K> {
    /// Makes what is desired fit what stands, where that can never change.
    pub fit: fn(&mut K, &K),
    /// Whether it is to be taken now; else it is left as it is.
    pub is_due: bool,
}

impl<K> Default for Handover<K> {
    fn default() -> Self {
        Self {
            fit: |_, _| {},
            is_due: true,
        }
    }
}

impl Applier {
    /// Takes over what `seen` shows: its fields, then itself. Ended between the two, it is handed over still.
    pub(super) async fn adopt<K: Written>(
        &self,
        api: &Api<K>,
        desired: &K,
        seen: &K,
        handover: &Handover<K>,
    ) -> Result<Applied, Error> {
        let mut fitted = desired.clone();
        (handover.fit)(&mut fitted, seen);
        let child = Child::new(&fitted)?;
        let name = child.key.1.as_str();
        // The caches leave out who owns which field.
        let read = api.get(name).await.map_err(|error| child.failed("read", error))?;
        let live = serde_json::to_value(&read).map_err(|error| child.unserializable(error))?;
        let metadata = &live["metadata"];
        let body = json!({"metadata": {
            "uid": seen.meta().uid, "resourceVersion": metadata["resourceVersion"],
            "managedFields": taken_over(&metadata["managedFields"], &K::api_version(&())),
        }});
        self.writes.with_label_values(&[self.controller, "patch"]).inc();
        api.patch(name, &PatchParams::default(), &Patch::Merge(&body))
            .await
            .map_err(|error| child.failed("take over", error))?;
        self.send(api, &child, seen.meta().uid.clone()).await?;
        Ok(Applied::Adopted)
    }
}

/// The record of who owns which field, with everything but metadata and subresources in our hands.
fn taken_over(managed_fields: &Value, api_version: &str) -> Value {
    let mut ours = Value::Object(Map::new());
    let mut others = Vec::new();
    for entry in managed_fields.as_array().into_iter().flatten() {
        let is_of_subresource = entry["subresource"].as_str().is_some_and(|name| !name.is_empty());
        if is_of_subresource || entry["apiVersion"] != json!(api_version) {
            others.push(entry.clone());
            continue;
        }
        let mut fields = entry["fieldsV1"].clone();
        let is_our_own = entry["manager"] == json!(FIELD_MANAGER) && entry["operation"] == json!("Apply");
        let metadata = fields.as_object_mut().and_then(|fields| fields.remove("f:metadata"));
        if let Some(metadata) = metadata {
            if is_our_own {
                unite(&mut ours, &json!({"f:metadata": metadata}));
            } else {
                let mut rest = entry.clone();
                rest["fieldsV1"] = json!({"f:metadata": metadata});
                others.push(rest);
            }
        }
        unite(&mut ours, &fields);
    }
    others.push(json!({
        "manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": api_version,
        "fieldsType": "FieldsV1", "fieldsV1": ours,
    }));
    Value::Array(others)
}

/// Adds every path of `more` to `fields`.
fn unite(fields: &mut Value, more: &Value) {
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        for (key, below) in more {
            match fields.get_mut(key) {
                Some(known) => unite(known, below),
                None => {
                    fields.insert(key.clone(), below.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_ours_but_for_its_metadata_and_what_other_controllers_write() {
        let entry = |manager: &str, operation: &str, version: &str, fields: Value| {
            json!({
                "manager": manager, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": fields
            })
        };
        let mut of_status = entry("kube-controller-manager", "Update", "apps/v1", json!({"f:status": {}}));
        of_status["subresource"] = json!("status");
        let before = json!([
            entry(
                "helm",
                "Apply",
                "apps/v1",
                json!({"f:metadata": {"f:labels": {}}, "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {}}}})
            ),
            entry(
                "kubectl-edit",
                "Update",
                "apps/v1",
                json!({"f:spec": {"f:template": {"f:metadata": {}}}})
            ),
            entry(
                "ancient",
                "Update",
                "extensions/v1beta1",
                json!({"f:spec": {"f:gone": {}}})
            ),
            of_status,
        ]);
        let after = taken_over(&before, "apps/v1");
        let expected = json!([
            entry("helm", "Apply", "apps/v1", json!({"f:metadata": {"f:labels": {}}})),
            before[2],
            before[3],
            entry(
                "valerix",
                "Apply",
                "apps/v1",
                json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {}, "f:metadata": {}}}})
            ),
        ]);
        assert_eq!(after, expected);
        // Interrupted and done again, with our own apply of before among them.
        let again = taken_over(&after, "apps/v1");
        assert_eq!(again, json!([expected[0], expected[1], expected[2], expected[3]]));
    }

    #[test]
    fn an_object_of_which_nobody_owns_a_field_can_be_taken_too() {
        let expected = json!([{"manager": "valerix", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]);
        assert_eq!(taken_over(&Value::Null, "v1"), expected);
    }
}
