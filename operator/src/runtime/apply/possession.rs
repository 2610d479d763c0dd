//! Whose an object of a child's name is. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use valerix_crds::names::{ADOPT_ANNOTATION, MANAGED_BY_LABEL};

/// The owner reference that says who manages an object.
pub fn controller_of<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .find(|reference| reference.controller == Some(true))
}

/// Whose an object of a child's name is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Possession {
    Ours,
    /// It carries our labels and nobody controls it.
    Orphan,
    /// Nobody controls it, and its annotation hands it over.
    Offered,
    /// It belongs to an earlier object of its owner's kind and name.
    Past,
    /// Kind and name of who controls it, if anybody does.
    Stranger(Option<String>),
}

/// Whose `live` is, for whoever wants it to be `desired`.
pub(super) fn possession<K: Resource<DynamicType = ()>>(desired: &K, live: &K) -> Possession {
    let Some(wanted) = controller_of(desired) else {
        return Possession::Stranger(None);
    };
    let Some(found) = controller_of(live) else {
        let labels = desired.meta().labels.as_ref();
        let is_labelled = labels.is_some_and(|labels| {
            labels.contains_key(MANAGED_BY_LABEL)
                && labels.iter().all(|(key, value)| live.labels().get(key) == Some(value))
        });
        return if is_labelled {
            Possession::Orphan
        } else if is_offered(live) {
            Possession::Offered
        } else {
            Possession::Stranger(None)
        };
    };
    if found.uid == wanted.uid {
        Possession::Ours
    } else if found.kind == wanted.kind && found.name == wanted.name {
        Possession::Past
    } else {
        Possession::Stranger(Some(format!("{} {}", found.kind, found.name)))
    }
}

/// What every namespace has and every pod may run as, and the address of the API server itself, would go with what they
/// were handed over to.
pub(super) fn may_be_handed_over(kind: &str, name: &str) -> bool {
    !matches!((kind, name), ("ServiceAccount", "default") | ("Service", "kubernetes"))
}

fn is_offered<K: Resource<DynamicType = ()>>(live: &K) -> bool {
    may_be_handed_over(&K::kind(&()), &live.name_any())
        && live
            .annotations()
            .get(ADOPT_ANNOTATION)
            .is_some_and(|value| value == "true")
}
