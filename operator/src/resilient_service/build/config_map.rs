//! The ConfigMap `<name>-policy`. Two of its three keys are ours; `faults.json` belongs to the chaos controller, under
//! another field manager, and must never appear here.

use super::{super::validate::Plan, metadata::metadata};
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

#[cfg(test)]
mod tests {
    use super::*;
    use valerix_crds::names::FAULTS_KEY;

    #[test]
    fn the_keys_are_the_files_that_the_library_reads() {
        assert_eq!(
            [POLICY_KEY, FAULTS_KEY, RUNTIME_KEY],
            [
                valerix_policy::POLICY_FILE,
                valerix_policy::FAULTS_FILE,
                valerix_policy::RUNTIME_FILE
            ]
        );
    }
}
