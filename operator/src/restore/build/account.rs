//! What the Job runs as, and what that may do: read its Restore and patch its status, nothing else.

use super::{Plan, account, metadata};
use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{RoleBinding, RoleRef, Subject},
};

/// Builds the ServiceAccount. Its token is mounted by the pod alone.
pub fn build_service_account(plan: &Plan) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(plan, account(plan)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Binds the runner's ClusterRole in the Restore's namespace.
pub fn build_role_binding(plan: &Plan) -> RoleBinding {
    RoleBinding {
        metadata: metadata(plan, account(plan)),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "ClusterRole".into(),
            name: plan.runner.cluster_role.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: account(plan),
            namespace: Some(plan.namespace.clone()),
            ..Subject::default()
        }]),
    }
}
