//! What the operator's tables of rights come to in one installation, as questions. Pure.

use crate::{
    rights::{BACKUP_RUNNER, OWN_DEPLOYMENT, Place, RESTORE_RUNNER, ROLES, Right, Rules},
    runtime::Scope,
    settings::CheckSettings,
};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use std::{collections::BTreeSet, fmt};

const OURS: &str = "resilience.valerix.io";

/// Whether the operator may do one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    group: &'static str,
    /// With its subresource.
    resource: &'static str,
    verb: &'static str,
    name: Option<String>,
    /// None: in all of them, or not in any.
    namespace: Option<String>,
    why: &'static str,
}

impl Question {
    /// As the API server is asked.
    pub fn review(&self) -> SelfSubjectAccessReview {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (self.resource, None),
        };
        SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(self.group.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource,
                    verb: Some(self.verb.to_owned()),
                    name: self.name.clone(),
                    namespace: self.namespace.clone(),
                    ..Default::default()
                }),
                non_resource_attributes: None,
            },
            ..Default::default()
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(formatter, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(formatter, " {name}")?;
        }
        if let Some(namespace) = &self.namespace {
            write!(formatter, " in {namespace}")?;
        }
        write!(formatter, " ({})", self.why)
    }
}

/// The resources of our kinds that the API server serves, status included.
pub fn of_our_kinds() -> BTreeSet<&'static str> {
    let rights = ROLES.iter().flat_map(|role| role.rights);
    rights
        .filter(|right| right.group == OURS)
        .flat_map(|right| right.resources)
        // A permission and no resource.
        .filter(|resource| !resource.ends_with("/finalizers"))
        .copied()
        .collect()
}

/// Everything that the operator of these settings has to be allowed.
pub fn questions(roles: &[Rules], settings: &CheckSettings) -> Vec<Question> {
    let mut questions = Vec::new();
    for role in roles {
        for namespace in namespaces(role.place, settings) {
            for right in role.rights {
                ask(right, namespace.as_deref(), settings, &mut questions);
            }
        }
    }
    questions
}

/// Where the rules of a place hold; one entry for each.
fn namespaces(place: Place, settings: &CheckSettings) -> Vec<Option<String>> {
    let operator = &settings.operator;
    match place {
        Place::Scopes => operator
            .scopes()
            .into_iter()
            .map(|scope| match scope {
                Scope::Cluster => None,
                Scope::Namespace(namespace) => Some(namespace),
            })
            .collect(),
        Place::OwnNamespace => vec![Some(operator.pod_namespace.clone())],
        Place::ChaosNamespaces => operator.chaos_namespaces().into_iter().map(Some).collect(),
        Place::Cluster => vec![None],
        Place::WhoScrapes if operator.metrics_authentication => vec![None],
        Place::WhoScrapes | Place::Others => Vec::new(),
    }
}

fn ask(right: &Right, namespace: Option<&str>, settings: &CheckSettings, questions: &mut Vec<Question>) {
    let names: Vec<Option<String>> = if right.names.is_empty() {
        vec![None]
    } else {
        let known = right.names.iter().map(|name| known_as(name, settings));
        known.filter(|name| !name.is_empty()).map(Some).collect()
    };
    for name in names {
        for resource in right.resources {
            for verb in right.verbs {
                questions.push(Question {
                    group: right.group,
                    resource,
                    verb,
                    name: name.clone(),
                    namespace: namespace.map(str::to_owned),
                    why: right.why,
                });
            }
        }
    }
}

/// The name in this installation; empty where it has no such object.
fn known_as(name: &str, settings: &CheckSettings) -> String {
    match name {
        OWN_DEPLOYMENT => settings.operator_deployment.clone(),
        BACKUP_RUNNER => settings.operator.backup_runner_cluster_role.clone(),
        RESTORE_RUNNER => settings.operator.restore_runner_cluster_role.clone(),
        name => name.to_owned(),
    }
}
