//! What the pods run as: an identity without rights and without a token.

use super::{super::validate::Plan, metadata::metadata};
use k8s_openapi::api::core::v1::ServiceAccount;

pub fn build_service_account(plan: &Plan) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(plan, plan.name.clone()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
