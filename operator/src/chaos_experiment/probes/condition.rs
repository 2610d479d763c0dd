//! Reads a condition of an object of the experiment's namespace. Reads the API server; writes nothing.

use super::samples::ProbeResult;
use crate::runtime::{Clients, failure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use valerix_crds::{ConditionKind, ConditionProbe, ResilientService};

/// Asks once.
pub(super) async fn ask(clients: &Clients, namespace: &str, question: &ConditionProbe) -> ProbeResult {
    let name = &question.name;
    let found = match question.kind {
        ConditionKind::ResilientService => {
            let api: Api<ResilientService> = clients.api(namespace);
            api.get_opt(name).await.map(|found| {
                found.map(|found| {
                    let conditions = found.status.map(|status| status.conditions).unwrap_or_default();
                    conditions
                        .into_iter()
                        .map(|condition| (condition.type_, condition.status, condition.reason))
                        .collect()
                })
            })
        }
        ConditionKind::Deployment => {
            let api: Api<Deployment> = clients.api(namespace);
            api.get_opt(name).await.map(|found| {
                found.map(|found| {
                    let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
                    let parts = |condition: k8s_openapi::api::apps::v1::DeploymentCondition| {
                        (condition.type_, condition.status, condition.reason.unwrap_or_default())
                    };
                    conditions.into_iter().map(parts).collect()
                })
            })
        }
        ConditionKind::Unknown => {
            return ProbeResult::NotAsked("condition.kind must be ResilientService or Deployment".into());
        }
    };
    match found {
        Ok(found) => judge(question, found),
        Err(error) => ProbeResult::NotAsked(
            format!("failed to read {:?} {name}: {}", question.kind, failure::chain(&error)).into(),
        ),
    }
}

/// The judgement: only True is True.
fn judge(question: &ConditionProbe, found: Option<Vec<(String, String, String)>>) -> ProbeResult {
    let (kind, name, wanted) = (question.kind, &question.name, &question.condition_type);
    let Some(conditions) = found else {
        return ProbeResult::Failed(format!("there is no {kind:?} {name}").into());
    };
    match conditions.into_iter().find(|(type_, ..)| type_ == wanted) {
        Some((_, status, _)) if status == "True" => ProbeResult::Passed,
        Some((_, status, reason)) => {
            ProbeResult::Failed(format!("{kind:?} {name}: {wanted} is {status} ({reason})").into())
        }
        None => ProbeResult::Failed(format!("{kind:?} {name} has no condition {wanted}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_true_is_true() {
        let question = ConditionProbe {
            kind: ConditionKind::ResilientService,
            name: "order".into(),
            condition_type: "Ready".into(),
        };
        let found = |status: &str| Some(vec![("Ready".to_owned(), status.to_owned(), "Why".to_owned())]);
        assert_eq!(judge(&question, found("True")), ProbeResult::Passed);
        for (found, text) in [
            (found("Unknown"), "ResilientService order: Ready is Unknown (Why)"),
            (Some(vec![]), "ResilientService order has no condition Ready"),
            (None, "there is no ResilientService order"),
        ] {
            assert_eq!(judge(&question, found), ProbeResult::Failed(text.into()));
        }
    }
}
