//! What the children have in common. Pure.

use crate::resilient_service::validate::Plan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use valerix_crds::names::{MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, SERVICE_LABEL};

/// The labels that choose the pods of a service; they can never change.
pub fn selector(name: &str) -> BTreeMap<String, String> {
    [(SERVICE_LABEL.to_owned(), name.to_owned())].into()
}

pub fn labels(plan: &Plan) -> BTreeMap<String, String> {
    let mut labels = selector(&plan.name);
    labels.insert(NAME_LABEL.to_owned(), plan.name.clone());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels
}

pub fn metadata(plan: &Plan, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(plan.namespace.clone()),
        labels: Some(labels(plan)),
        owner_references: Some(vec![plan.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// `None` for an empty list: an empty list in an apply would claim the field.
pub fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}
