//! The ConfigMap `<name>-policy`. Two of its three keys are ours; `faults.json` belongs to the chaos controller, under
//! another field manager, and must never appear here.

use super::{super::validate::Plan, metadata};
use k8s_openapi::api::core::v1::ConfigMap;
use valerix_crds::names::{POLICY_KEY, RUNTIME_KEY, policy_config_map};
use valerix_policy::Runtime;

pub fn build_config_map(plan: &Plan) -> ConfigMap {
    let data = [
        (POLICY_KEY.to_owned(), plan.policy.clone()),
        (RUNTIME_KEY.to_owned(), Runtime::new(plan.ready_replicas).render()),
    ];
    ConfigMap {
        metadata: metadata(plan, policy_config_map(&plan.name)),
        data: Some(data.into()),
        ..ConfigMap::default()
    }
}
