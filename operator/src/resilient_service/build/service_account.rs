//! What the pods run as: an identity without rights and without a token.

use super::{super::validate::Plan, metadata::metadata};
use k8s_openapi::api::core::v1::ServiceAccount;

/// None where the user names one of their own.
pub fn build_service_account(plan: &Plan) -> Option<ServiceAccount> {
    plan.service
        .spec
        .service_account_name
        .is_none()
        .then(|| ServiceAccount {
            metadata: metadata(plan, plan.name.clone()),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        })
}
