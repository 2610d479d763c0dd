//! What the Job runs as.

use super::{Plan, metadata};
use k8s_openapi::api::core::v1::ServiceAccount;

/// Builds the ServiceAccount. Its token is mounted by the pod alone.
pub fn build_service_account(plan: &Plan, name: String) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(plan, name),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
