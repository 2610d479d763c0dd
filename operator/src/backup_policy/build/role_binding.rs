//! What the Job may do: read Backups and patch their status in its namespace, nothing else.

use super::{Plan, metadata};
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};

/// Binds the runner's ClusterRole in the policy's namespace to a ServiceAccount.
pub fn build_role_binding(plan: &Plan, name: String, account: String) -> RoleBinding {
    RoleBinding {
        metadata: metadata(plan, name),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "ClusterRole".into(),
            name: plan.runner.cluster_role.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: account,
            namespace: Some(plan.namespace.clone()),
            ..Subject::default()
        }]),
    }
}
